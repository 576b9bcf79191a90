"""What changed between two reports: every kind of change, whether it is better, and nothing where nothing changed."""

import datetime

import msgspec
import pytest

from kmsdiag import compare
from kmsdiag.compare import Change
from kmsdiag.model.audit import Audit, Requirement, RequirementState
from kmsdiag.model.difference import ChangeKind, Difference, DifferenceState
from kmsdiag.model.outcome import DnsOutcome, RpcOutcome, TcpOutcome
from kmsdiag.model.path import VerdictState
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.request import RpcBind, SrvQuery, TcpConnect
from kmsdiag.registry import Registry, discover
from tests.conftest import AT, DOMAIN, World, record
from tests.labruns import NAMES, runs
from tests.places import CLIENTS, captured
from tests.traffic import Traffic

K1, K2 = "10.1.0.8", "10.1.0.9"
WAY = f"{DOMAIN} → kms1.{DOMAIN}:1688"
REGISTRY = discover()


def changes(before: Report, after: Report) -> list[Change]:
    """Changes by what they say and whether it is better; what they are about is tested by itself."""
    return [Change(change.what, change.better) for change in compare.changes(before, after)]


SILENT = DnsOutcome.TIMEOUT


def report(world: World, *checks: str) -> Report:
    """What these checks say; none unless told, so that a change is of the paths alone."""
    return world.report(REGISTRY.select(checks) if checks else Registry(()))


def one() -> World:
    return World(DOMAIN).srv(record("kms1")).host("kms1", K1)


def reached(outcome: TcpOutcome) -> World:
    return World(DOMAIN).srv(record("kms1")).name("kms1", K1).tcp(K1, outcome)


def bound(outcome: RpcOutcome, detail: str = "") -> World:
    return one().rpc(K1, outcome, detail=detail)


def untested() -> World:
    world = one().gap(TcpConnect(address=K1, port=1688))
    del world.facts[TcpConnect(address=K1, port=1688)], world.facts[RpcBind(address=K1, port=1688)]
    return world


def half() -> World:
    return World(DOMAIN).srv(record("kms1")).name("kms1", K1, K2).tcp(K1).rpc(K1).tcp(K2, TcpOutcome.REFUSED)


def paths(before: World, after: World) -> list[Change]:
    """Changes but for that of the verdict."""
    found = changes(report(before), report(after))
    return [change for change in found if not change.what.startswith("verdict: ")]


# ------------------------------------------------------------------------------------------------------- nothing


@pytest.mark.parametrize("name", NAMES)
def test_no_change(name: str) -> None:
    same = runs()[name].report
    assert changes(same, same) == []


def test_latency_and_the_hour_are_no_change() -> None:
    def slower(world: World) -> World:
        late = {
            question: msgspec.structs.replace(
                answer, elapsed_ms=answer.elapsed_ms * 7 + 3, at=answer.at + datetime.timedelta(minutes=5)
            )
            for question, answer in world.facts.items()
        }
        world.facts = late
        return world

    for made in (
        one,
        half,
        lambda: reached(TcpOutcome.TIMEOUT),
        lambda: bound(RpcOutcome.SILENT),
        lambda: World(DOMAIN).srv(outcome=SILENT),
    ):
        before, after = made().report(REGISTRY), slower(made()).report(REGISTRY)
        assert before != after
        assert changes(before, after) == []


def test_a_ttl_that_is_counted_down_is_no_change() -> None:
    before, after = one(), one()
    before.srv(record("kms1", ttl=3600))
    after.srv(record("kms1", ttl=17))
    assert changes(before.report(REGISTRY), after.report(REGISTRY)) == []


# ------------------------------------------------------------------------------------------------------- verdict


def test_the_verdict_comes_first() -> None:
    first, *_rest = changes(report(World(DOMAIN).srv()), report(one()))
    assert first == Change("verdict: broken → healthy", better=True)
    first, *_rest = changes(report(one()), report(half()))
    assert first == Change("verdict: healthy → degraded", better=False)


# --------------------------------------------------------------------------------------------------------- paths


def test_a_new_way() -> None:
    assert paths(World(DOMAIN).srv(), one()) == [
        Change(f"new way: {WAY}, ok", better=True),
        Change(f"no longer there: {DOMAIN} (before: fails at srv (NXDOMAIN))", None),
    ]


def test_a_new_way_that_does_not_work_is_worse() -> None:
    after = one().srv(record("kms1"), record("kms2")).name("kms2", K2).tcp(K2, TcpOutcome.REFUSED)
    assert paths(one(), after) == [
        Change(f"new way: {DOMAIN} → kms2.{DOMAIN}:1688, fails at tcp (refused)", better=False)
    ]


def test_a_way_that_is_gone() -> None:
    before = one().srv(record("kms1"), record("kms2")).host("kms2", K2)
    assert paths(before, one()) == [Change(f"no longer there: {DOMAIN} → kms2.{DOMAIN}:1688 (before: ok)", None)]


ORDER = {
    "fails at tcp (timeout)": reached(TcpOutcome.TIMEOUT),
    "unknown": untested(),
    "partial": half(),
    "ok": one(),
}


@pytest.mark.parametrize("before", ORDER)
@pytest.mark.parametrize("after", ORDER)
def test_better_and_worse(before: str, after: str) -> None:
    found = paths(ORDER[before], ORDER[after])
    if before == after:
        assert found == []
        return
    (change,) = found
    rank = list(ORDER)
    told = "unknown" not in (before, after)
    assert change.better is (rank.index(after) > rank.index(before) if told else None)
    assert change.what.startswith(f"{WAY}: ")
    assert change.what.count(" → ") == 2


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (reached(TcpOutcome.TIMEOUT), reached(TcpOutcome.REFUSED), "fails at tcp (silent) → fails at tcp (refused)"),
        (reached(TcpOutcome.REFUSED), bound(RpcOutcome.SILENT), "fails at tcp (refused) → fails at rpc (silent)"),
        (
            World(DOMAIN).srv(record("kms1")).name("kms1"),
            reached(TcpOutcome.TIMEOUT),
            "fails at name (no record) → fails at tcp (silent)",
        ),
    ],
)
def test_another_failure_is_neither(before: World, after: World, words: str) -> None:
    assert paths(before, after) == [Change(f"{WAY}: {words}", None)]


def test_another_failure_of_dns() -> None:
    before, after = World(DOMAIN).srv(outcome=SILENT), World(DOMAIN).srv()
    (change,) = paths(before, after)
    assert change.what.startswith(f"{DOMAIN}: fails at srv (")
    assert change.better is None


def test_two_servers_of_one_domain_are_told_apart() -> None:
    """Both fail, and one of them in another way than before."""
    servers = ("10.1.0.2", "10.1.0.3")

    def world(first: DnsOutcome, second: DnsOutcome) -> World:
        made = World(DOMAIN, servers=servers)
        for server, outcome in zip(servers, (first, second), strict=True):
            made.srv(outcome=outcome, server=server)
        return made

    assert paths(world(SILENT, SILENT), world(DnsOutcome.NXDOMAIN, SILENT)) != []
    assert paths(world(SILENT, SILENT), world(SILENT, DnsOutcome.NXDOMAIN)) != []
    assert paths(world(SILENT, SILENT), world(SILENT, SILENT)) == []


# ------------------------------------------------------------------------------------------------------ findings


def test_findings_come_and_go() -> None:
    before = report(reached(TcpOutcome.REFUSED), "tcp_reachable")
    after = report(one(), "tcp_reachable")
    gone = [change for change in changes(before, after) if change.what.startswith(("gone: ", "new: "))]
    assert gone == [Change(f"gone: tcp_reachable.refused ({DOMAIN})", better=True)]
    new = [change for change in changes(after, before) if change.what.startswith(("gone: ", "new: "))]
    assert new == [Change(f"new: tcp_reachable.refused ({DOMAIN})", better=False)]


def test_of_two_hosts_one_is_mended() -> None:
    """The same code twice; what names the host tells them apart."""

    def world(second: TcpOutcome) -> World:
        made = World(DOMAIN).srv(record("kms1"), record("kms2")).name("kms1", K1).tcp(K1, TcpOutcome.REFUSED)
        made.name("kms2", K2).tcp(K2, second)
        return made.rpc(K2) if second is TcpOutcome.OPEN else made

    before, after = (report(world(second), "tcp_reachable") for second in (TcpOutcome.REFUSED, TcpOutcome.OPEN))
    whats = [change.what for change in changes(before, after)]
    assert whats.count(f"gone: tcp_reachable.refused ({DOMAIN})") == 1
    assert not [what for what in whats if what.startswith("new: ")]


def test_what_is_not_grave_is_left_out() -> None:
    """Two hosts of equal rank are an information."""
    two = one().srv(record("kms1"), record("kms2")).host("kms2", K2)
    found = changes(report(one(), "hosts_several"), report(two, "hosts_several"))
    assert [change for change in found if "hosts_several" in change.what] == []


def test_a_question_that_was_not_put_makes_no_finding_worse() -> None:
    before = one()
    after = World(DOMAIN).gap(SrvQuery(name=f"_vlmcs._tcp.{DOMAIN}"), "interrupted")
    found = changes(before.report(REGISTRY), after.report(REGISTRY))
    assert not [change for change in found if change.what.startswith("new: ")]


# ---------------------------------------------------------------------------------------------------- a difference


def difference_of(before: Report, after: Report) -> Difference:
    return compare.difference(before, after, ("old.json", "new.json"))


def test_worse() -> None:
    found = difference_of(report(one()), report(reached(TcpOutcome.REFUSED)))
    assert (found.state, found.headline) == (DifferenceState.WORSE, "2 got worse.")
    assert [(change.kind, change.domain, change.host, change.what) for change in found.worse] == [
        (ChangeKind.VERDICT, "", "", "verdict: healthy → broken"),
        (ChangeKind.WAY, DOMAIN, f"kms1.{DOMAIN}:1688", f"{WAY}: ok → fails at tcp (refused)"),
    ]
    assert (found.old.source, found.new.source) == ("old.json", "new.json")


def test_better_is_no_worse() -> None:
    found = difference_of(report(reached(TcpOutcome.REFUSED)), report(one()))
    assert (found.state, found.worse, len(found.better)) == (DifferenceState.NO_WORSE, (), 2)


def test_nothing_changed() -> None:
    found = difference_of(report(one()), report(one()))
    assert (found.state, found.headline) == (DifferenceState.NO_WORSE, "nothing changed.")


def test_findings_have_their_code() -> None:
    found = difference_of(report(one(), "tcp_reachable"), report(reached(TcpOutcome.REFUSED), "tcp_reachable"))
    assert [(change.domain, change.code) for change in found.worse if change.kind is ChangeKind.FINDING] == [
        (DOMAIN, "tcp_reachable.refused")
    ]


def test_two_questions_that_have_nothing_in_common() -> None:
    other = World("fabrikam.example").srv(record("kms1"), domain="fabrikam.example").host("kms1", K1)
    found = difference_of(report(one()), report(other))
    assert (found.state, found.reasons) == (DifferenceState.NOT_COMPARABLE, ("no domain and no host is in both",))
    assert (found.worse, found.better, found.changed) == ((), (), ())


def test_only_what_both_were_asked_is_compared() -> None:
    both = World(DOMAIN, "fabrikam.example").srv(record("kms1")).host("kms1", K1).srv(domain="fabrikam.example")
    found = difference_of(report(one()), report(both, "dns_srv_hosts"))
    # The verdict of the later run is about more, and says so by itself.
    assert [change.what for change in found.worse] == ["verdict: healthy → degraded"]
    assert found.notes == ("only in the new report, and not compared: fabrikam.example",)


def test_a_run_that_tested_nothing_is_not_comparable() -> None:
    found = difference_of(report(one()), report(untested()))
    assert found.state is DifferenceState.NOT_COMPARABLE
    assert found.reasons[0].startswith("new.json tested nothing to its end")


def test_a_way_that_worked_and_is_not_tested_any_more_may_be_worse() -> None:
    """The other way is still fine, so the runs can be compared; whether nothing got worse is not known."""
    before = one().srv(record("kms1"), record("kms2")).host("kms2", K2)
    after = one().srv(record("kms1"), record("kms2")).name("kms2", K2).gap(TcpConnect(address=K2, port=1688))
    found = difference_of(report(before), report(after))
    assert (found.state, found.reasons) == (DifferenceState.NOT_COMPARABLE, ())
    assert [change.what for change in found.not_known] == [f"{DOMAIN} → kms2.{DOMAIN}:1688: ok → unknown"]
    assert difference_of(report(after), report(before)).state is DifferenceState.NO_WORSE


def test_a_check_that_was_not_run_before_says_nothing_about_before() -> None:
    refused = reached(TcpOutcome.REFUSED)
    found = difference_of(report(refused), report(refused, "tcp_reachable"))
    assert found.state is DifferenceState.NOT_COMPARABLE
    assert [change.what for change in found.not_known] == [f"not looked at before: tcp_reachable.refused ({DOMAIN})"]
    found = difference_of(report(refused, "tcp_reachable"), report(refused))
    assert [change.what for change in found.changed] == [f"not looked at any more: tcp_reachable.refused ({DOMAIN})"]
    assert found.state is DifferenceState.NO_WORSE


def test_a_failure_that_hid_another_one() -> None:
    """With the port closed there was nothing to bind to; that the host is none of KMS is neither worse nor better."""
    before = report(reached(TcpOutcome.REFUSED), "rpc_service")
    after = report(bound(RpcOutcome.REJECTED), "rpc_service")
    found = difference_of(before, after)
    assert found.state is DifferenceState.NO_WORSE
    assert any(change.what.startswith("seen now: rpc_service.") for change in found.changed)


def test_two_places_and_a_turned_order_are_noted() -> None:
    late = msgspec.structs.replace(report(one()), started=AT + datetime.timedelta(days=1), vantage=Vantage(label="hq"))
    notes = difference_of(late, report(one())).notes
    assert any("hq and fixture" in note for note in notes)
    assert "the new report was made before the old one" in notes


@pytest.mark.parametrize(
    ("old", "new", "state"),
    [
        ("pass", "fail", DifferenceState.WORSE),
        ("fail", "pass", DifferenceState.NO_WORSE),
        ("pass", "not known", DifferenceState.NOT_COMPARABLE),
        ("fail", "not known", DifferenceState.NO_WORSE),
        ("not known", "pass", DifferenceState.NO_WORSE),
        ("not known", "fail", DifferenceState.NOT_COMPARABLE),
    ],
)
def test_requirements(old: str, new: str, state: DifferenceState) -> None:
    before, after = (
        msgspec.structs.replace(
            report(one()),
            audit=Audit(requirements=(Requirement(code="a.b", what="it is so", state=RequirementState(word)),)),
        )
        for word in (old, new)
    )
    found = difference_of(before, after)
    assert found.state is state
    (change,) = (*found.worse, *found.better, *found.changed, *found.not_known)
    assert (change.kind, change.code, change.what) == (ChangeKind.REQUIREMENT, "a.b", f"it is so: {old} → {new}")


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_is_no_worse_than_itself(name: str) -> None:
    same = runs()[name].report
    assert difference_of(same, same).state is (
        DifferenceState.NOT_COMPARABLE if same.verdict.state is VerdictState.UNKNOWN else DifferenceState.NO_WORSE
    )


# -------------------------------------------------------------------------------------------------------- captures


def shown(*ends: str, host: str = K1, domain: str = "") -> World:
    """Captures of clients of one host, each with its end; with a domain, they were told of it as kms1."""
    traffic = Traffic()
    if domain:
        traffic.srv(domain, record("kms1"), clients=CLIENTS[: len(ends)]).name(f"kms1.{DOMAIN}", host)
    for client, end in zip(CLIENTS, ends, strict=False):
        traffic.talk(client, host, end, count=3, required=25)
    return captured(traffic)


def test_captures_of_the_same_are_no_change() -> None:
    same = report(shown("activated", "host_refused"), "capture_refusals")
    assert difference_of(same, same).state is DifferenceState.NO_WORSE
    assert changes(same, same) == []


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (("below_threshold",), "fails at answer (count too low)"),
        (("request_reset",), "fails at request (reset)"),
        (("unanswered",), "fails at tcp (silent)"),
        (("activated", "host_refused"), "partial"),
    ],
)
def test_captured_clients_fare_worse_and_better(ends: tuple[str, ...], words: str) -> None:
    good, bad = shown("activated"), shown(*ends)
    assert paths(good, bad) == [Change(f"{K1}:1688: ok → {words}", better=False)]
    assert paths(bad, good) == [Change(f"{K1}:1688: {words} → ok", better=True)]


def test_findings_about_captures_come_and_go() -> None:
    good, bad = (report(shown(end), "capture_refusals") for end in ("activated", "host_refused"))
    (found,) = (change for change in difference_of(good, bad).worse if change.kind is ChangeKind.FINDING)
    assert (found.what, found.code) == (
        "new: capture_refusals.other_product (captures)",
        "capture_refusals.other_product",
    )


def test_a_host_that_only_one_of_two_captures_shows_is_no_change() -> None:
    both = captured(Traffic().talk(CLIENTS[0], K1).talk(CLIENTS[1], K2))
    found = difference_of(report(shown("activated")), report(both))
    assert found.state is DifferenceState.NO_WORSE
    assert (found.worse, found.better, found.changed) == ((), (), ())
    assert found.notes == (f"only in the new report, and not compared: {K2}:1688",)


def test_captures_that_show_nothing_in_common() -> None:
    found = difference_of(report(shown("activated")), report(shown("activated", host=K2)))
    assert found.state is DifferenceState.NOT_COMPARABLE
    assert found.reasons == ("no domain and no host is in both",)


def test_a_capture_beside_a_run_about_the_domain_it_shows() -> None:
    found = difference_of(report(one()), report(shown("below_threshold", domain=DOMAIN)))
    assert [change.what for change in found.worse] == [
        "verdict: healthy → broken",
        f"{WAY}: ok → fails at answer (count too low)",
    ]
    assert [(change.domain, change.host) for change in found.worse][1] == (DOMAIN, f"kms1.{DOMAIN}:1688")
