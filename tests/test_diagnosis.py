import contextlib
import random
import socket
from collections.abc import Iterator

import msgspec
import pytest

from kmsdiag import bundle as bundles
from kmsdiag import diagnosis
from kmsdiag.bundle import Bundle
from kmsdiag.headline import shorten
from kmsdiag.model.finding import Severity, Status
from kmsdiag.model.outcome import DnsOutcome, RpcOutcome, TcpOutcome
from kmsdiag.model.path import VerdictState
from kmsdiag.model.report import Report
from kmsdiag.model.request import RpcBind, SrvQuery, TcpConnect
from kmsdiag.model.target import HostSpec
from kmsdiag.policy import Policy
from kmsdiag.registry import BrokenCheck, Registry, discover
from kmsdiag.report import json as rendered
from tests.conftest import World, record
from tests.labruns import NAMES, runs

STATES = {
    "mixed": VerdictState.DEGRADED,
    "stale_host": VerdictState.DEGRADED,
    "healthy": VerdictState.HEALTHY,
    "two_hosts": VerdictState.HEALTHY,
    "unexpected_host": VerdictState.HEALTHY,
    "cname_target": VerdictState.HEALTHY,
    "servers_disagree": VerdictState.HEALTHY,
    "wildcard_dns": VerdictState.HEALTHY,
    "same_address": VerdictState.HEALTHY,
    "lossy": VerdictState.HEALTHY,
}


@contextlib.contextmanager
def network_shut(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever opens a socket in here fails."""

    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("judging opened a socket")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


def shuffled(bundle: Bundle, seed: int) -> Bundle:
    facts, gaps = list(bundle.facts), list(bundle.unanswered)
    random.Random(seed).shuffle(facts)
    random.Random(seed).shuffle(gaps)
    return msgspec.structs.replace(bundle, facts=tuple(facts), unanswered=tuple(gaps))


def status(report: Report, check: str) -> Status:
    (found,) = {result.status for result in report.results if result.check == check}
    return found


class TestReplay:
    @pytest.mark.parametrize("name", NAMES)
    def test_same_bytes_as_live_with_the_network_shut(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        run = runs()[name]
        live = rendered.render(run.report)
        with network_shut(monkeypatch):
            again = bundles.decode(bundles.encode(run.bundle))
            assert rendered.render(diagnosis.judge(again, discover())) == live
            for seed in range(3):
                assert rendered.render(diagnosis.judge(shuffled(again, seed), discover())) == live

    def test_the_guard_works(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with network_shut(monkeypatch), pytest.raises(AssertionError, match="opened a socket"):
            socket.create_connection(("127.0.0.1", 1))

    @pytest.mark.parametrize("name", NAMES)
    def test_everything_asked_was_answered(self, name: str) -> None:
        bundle = runs()[name].bundle
        assert bundle.unanswered == ()
        assert not bundle.interrupted
        assert bundle.started <= bundle.ended
        assert all(bundle.started <= fact.answer.at <= bundle.ended for fact in bundle.facts)

    @pytest.mark.parametrize("name", NAMES)
    def test_the_verdict(self, name: str) -> None:
        assert runs()[name].report.verdict.state is STATES.get(name, VerdictState.BROKEN)

    def test_a_question_that_was_not_recorded_is_a_gap(self) -> None:
        bundle = runs()["healthy"].bundle
        bind = next(fact.request for fact in bundle.facts if isinstance(fact.request, RpcBind))
        less = msgspec.structs.replace(
            bundle, facts=tuple(fact for fact in bundle.facts if not isinstance(fact.request, RpcBind))
        )
        report = diagnosis.judge(less, discover())
        assert report.verdict.state is VerdictState.UNKNOWN
        result = next(result for result in report.results if result.check == "rpc_service")
        assert result.status is Status.NOT_ASSESSED
        assert result.reason.startswith(f"{bind}: not in the bundle")

    def test_one_check_alone_still_shows_all_paths(self) -> None:
        run = runs()["mixed"]
        report = diagnosis.judge(run.bundle, discover().select(["dns_srv_hosts"]))
        assert report.paths == run.report.paths
        # Remarks are what checks say.
        assert report.verdict == msgspec.structs.replace(run.report.verdict, remarks=report.verdict.remarks)
        assert {result.check for result in report.results} == {"dns_srv_hosts"}


class TestPolicy:
    def test_severity(self) -> None:
        bundle = runs()["two_hosts"].bundle
        report = diagnosis.judge(bundle, discover(), Policy({"hosts_several.equal": Severity.ERROR}))
        assert status(report, "hosts_several") is Status.ERROR
        assert status(runs()["two_hosts"].report, "hosts_several") is Status.INFO

    def test_ignore(self) -> None:
        bundle = runs()["two_hosts"].bundle
        report = diagnosis.judge(bundle, discover(), Policy(ignore=frozenset({"hosts_several.equal"})))
        assert "hosts_several.equal" not in {finding.code for one in report.results for finding in one.findings}
        # Nothing else was said, so the whole result is left out; of the verdict the remarks alone are checks' business.
        assert "hosts_several" not in {result.check for result in report.results}
        before = runs()["two_hosts"].report.verdict
        assert report.verdict == msgspec.structs.replace(before, remarks=report.verdict.remarks)
        assert {remark.code for remark in before.remarks} - {remark.code for remark in report.verdict.remarks} == {
            "hosts_several.equal"
        }


class TestViews:
    def test_what_follows_from_a_failure_is_marked(self) -> None:
        report = runs()["no_record"].report
        behind = {
            finding.code: finding.behind
            for result in report.results
            for finding in result.findings
            if finding.severity is Severity.NOT_ASSESSED and finding.because
        }
        assert behind
        assert set(behind.values()) == {"srv of contoso.example"}

    def test_reasons_name_questions_that_were_put(self) -> None:
        for name in NAMES:
            run = runs()[name]
            put = {str(fact.request) for fact in run.bundle.facts}
            for result in run.report.results:
                for finding in result.findings:
                    assert set(finding.because) <= put

    def test_gaps_do_not_hide_findings(self) -> None:
        world = World("contoso.example", servers=("10.1.0.2", "10.1.0.3")).srv(record("kms1"), server="10.1.0.2")
        world.name("kms1", "10.1.0.8", server="10.1.0.2").tcp("10.1.0.8").rpc("10.1.0.8")
        world.gap(SrvQuery(name="_vlmcs._tcp.contoso.example", server="10.1.0.3"))
        report = world.report()
        result = next(result for result in report.results if result.check == "dns_srv_hosts")
        assert [finding.code for finding in result.findings] == ["dns_srv_hosts.one"]
        assert result.status is Status.NOT_ASSESSED
        assert "the deadline of 60 s was reached" in result.reason
        assert any("the deadline" in gap.why for gap in report.not_checked)

    def test_a_check_that_could_not_be_loaded_is_not_a_crash(self) -> None:
        registry = Registry(discover().checks, (BrokenCheck("tcp_mine", "/x/tcp_mine.py", "SyntaxError: \x1b[2J"),))
        report = diagnosis.judge(runs()["healthy"].bundle, registry)
        result = next(result for result in report.results if result.check == "tcp_mine")
        assert result.status is Status.NOT_ASSESSED
        assert result.reason == "SyntaxError: \\x1b[2J"
        (gap,) = (gap for gap in report.not_checked if gap.what == "tcp_mine")
        assert gap.why == "could not be loaded from /x/tcp_mine.py: SyntaxError: \\x1b[2J"

    def test_counts(self) -> None:
        run = runs()["mixed"]
        counts = run.report.counts
        kinds = [type(fact.request).__name__ for fact in run.bundle.facts]
        assert counts.questions == len(kinds)
        assert counts.unanswered == 0
        assert counts.rpc_binds == sum(len(one) // 160 for one in run.heard)
        assert counts.tcp_connections == kinds.count("TcpConnect") + kinds.count("RpcBind")
        dns = sum(kinds.count(kind) for kind in ("SrvQuery", "AddressQuery", "SoaQuery", "NsQuery"))
        # A question is sent again where this machine is slow to answer itself.
        assert dns <= counts.dns_messages <= 3 * dns


class TestHeadline:
    def test_nothing_tested(self) -> None:
        report = World("contoso.example").report()
        assert report.verdict.state is VerdictState.UNKNOWN
        assert report.verdict.headline == "contoso.example: no way to a KMS host was tested to its end."

    def test_no_target_at_all(self) -> None:
        assert World().report().verdict.headline == "Nothing was tested."

    def test_an_explicit_host(self) -> None:
        world = World(hosts=(HostSpec("kms1.contoso.example"),)).host("kms1.contoso.example", "10.1.0.8")
        assert world.report().verdict.headline.startswith("kms1.contoso.example:1688: 1 KMS host, found, reached")

    def test_one_cause_for_many_paths(self) -> None:
        world = World("a.example", "b.example")
        for domain in ("a.example", "b.example"):
            world.srv(outcome=DnsOutcome.NXDOMAIN, domain=domain)
        (cause,) = world.report().verdict.causes
        assert cause.headline.startswith("a.example, b.example: ")

    def test_failures_of_each_stage_have_a_cause(self) -> None:
        for stage, world in (
            ("srv", World("contoso.example").srv(outcome=DnsOutcome.REFUSED)),
            ("name", World("contoso.example").srv(record("gone")).name("gone")),
            ("tcp", World("contoso.example").srv(record("k")).name("k", "10.1.0.8").tcp("10.1.0.8", TcpOutcome.RESET)),
            (
                "rpc",
                World("contoso.example")
                .srv(record("k"))
                .name("k", "10.1.0.8")
                .tcp("10.1.0.8")
                .rpc("10.1.0.8", RpcOutcome.CLOSED),
            ),
        ):
            (cause,) = world.report().verdict.causes
            assert cause.stage == stage
            assert cause.fixes

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            ((), ""),
            (("a",), "a"),
            (("a", "b", "c"), "a, b, c"),
            (("a", "b", "c", "d", "e"), "a, b, c and 2 more"),
        ],
    )
    def test_long_lists_are_cut(self, names: tuple[str, ...], words: str) -> None:
        assert shorten(names) == words


def test_interrupted_is_passed_on() -> None:
    bundle = msgspec.structs.replace(runs()["healthy"].bundle, interrupted=True)
    assert diagnosis.judge(bundle, discover()).interrupted


def test_times_come_from_the_evidence() -> None:
    run = runs()["healthy"]
    assert (run.report.started, run.report.ended) == (run.bundle.started, run.bundle.ended)
    assert run.report.counts.seconds == pytest.approx(
        (run.bundle.ended - run.bundle.started).total_seconds(), abs=0.001
    )


def test_connections_are_counted_by_attempt() -> None:
    world = World("contoso.example", tries=2).srv(record("k")).name("k", "10.1.0.8")
    for attempt in (1, 2):
        world.tcp("10.1.0.8", TcpOutcome.TIMEOUT, attempt=attempt)
    assert TcpConnect(address="10.1.0.8", port=1688, attempt=2) in world.facts
    assert world.report().counts.tcp_connections == 2


def test_paths_and_results_are_sorted_whatever_the_order_of_the_target() -> None:
    world = World("b.example", "a.example", hosts=(HostSpec("z.example"), HostSpec("c.example")))
    for domain in world.target.domains:
        world.srv(outcome=DnsOutcome.NXDOMAIN, domain=domain)
    report = world.report()
    assert [path.domain for path in report.paths] == ["a.example", "b.example", "–", "–"]
    assert [path.target for path in report.paths][2:] == ["c.example", "z.example"]
    subjects = [result.subject.order for result in report.results]
    assert subjects == sorted(subjects)
