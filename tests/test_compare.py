"""What changed between two reports: every kind of change, whether it is better, and nothing where nothing changed."""

import datetime

import msgspec
import pytest

from kmsdiag.compare import Change, changes
from kmsdiag.model.outcome import DnsOutcome, RpcOutcome, TcpOutcome
from kmsdiag.model.report import Report
from kmsdiag.model.request import RpcBind, SrvQuery, TcpConnect
from kmsdiag.registry import Registry, discover
from tests.conftest import DOMAIN, World, record
from tests.labruns import NAMES, runs

K1, K2 = "10.1.0.8", "10.1.0.9"
WAY = f"{DOMAIN} → kms1.{DOMAIN}:1688"
REGISTRY = discover()
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
    assert first == Change("verdict: broken → healthy", None)
    first, *_rest = changes(report(one()), report(half()))
    assert first == Change("verdict: healthy → degraded", None)


# --------------------------------------------------------------------------------------------------------- paths


def test_a_new_way() -> None:
    assert paths(World(DOMAIN).srv(), one()) == [
        Change(f"new way: {WAY}, ok", better=True),
        Change(f"no longer there: {DOMAIN}", None),
    ]


def test_a_new_way_that_does_not_work_is_worse() -> None:
    after = one().srv(record("kms1"), record("kms2")).name("kms2", K2).tcp(K2, TcpOutcome.REFUSED)
    assert paths(one(), after) == [
        Change(f"new way: {DOMAIN} → kms2.{DOMAIN}:1688, fails at tcp (refused)", better=False)
    ]


def test_a_way_that_is_gone() -> None:
    before = one().srv(record("kms1"), record("kms2")).host("kms2", K2)
    assert paths(before, one()) == [Change(f"no longer there: {DOMAIN} → kms2.{DOMAIN}:1688", None)]


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
    assert change.better is (rank.index(after) > rank.index(before))
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
