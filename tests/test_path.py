"""Paths, the verdict, its causes and figures: from evidence alone, outcome by outcome."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag import diagnosis, observed
from kmsdiag.bundle import Bundle
from kmsdiag.knowledge.causes import CAUSES
from kmsdiag.knowledge.codes import REFUSALS
from kmsdiag.knowledge.reported_causes import REPORTED
from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.outcome import ConversationOutcome, DnsOutcome, RpcOutcome, Stage, State, TcpOutcome
from kmsdiag.model.path import Cause, Impact, PathState, Route, VerdictState
from kmsdiag.model.report import Report
from kmsdiag.model.request import AddressQuery, ClockSource, RpcBind, SrvQuery, TcpConnect
from kmsdiag.model.target import Expected, ExpectedHost, Family, HostSpec
from kmsdiag.path import NOWHERE
from kmsdiag.registry import Registry, discover
from kmsdiag.report.words import fields
from tests.conftest import World, commands, icmp, record
from tests.traffic import Traffic

K1, K2, K3 = "10.1.0.8", "10.1.0.9", "10.1.0.10"
K1_V6 = "fd00:1::8"
CONTOSO, FABRIKAM = "contoso.example", "fabrikam.example"
PROHIBITED = icmp(13, "10.1.0.1", "communication administratively prohibited")
NO_CHECKS = Registry(())


def report_of(world: World) -> Report:
    """The report without findings: paths and verdict do not need checks."""
    return world.report(NO_CHECKS)


def causes(world: World) -> list[str]:
    return [cause.code for cause in report_of(world).verdict.causes]


def state(world: World) -> VerdictState:
    return report_of(world).verdict.state


def one(name: str = "kms1", *, port: int = 1688) -> World:
    """contoso.example with one published host; nothing is known of the host yet."""
    return World(CONTOSO).srv(record(name, port=port))


def reached(outcome: TcpOutcome = TcpOutcome.OPEN, *, port: int = 1688, **more: object) -> World:
    """One published host with one address, and how connecting to it ended."""
    return one(port=port).name("kms1", K1).tcp(K1, outcome, port=port, **more)  # type: ignore[arg-type]


def bound(outcome: RpcOutcome, detail: str = "") -> World:
    return reached().rpc(K1, outcome, detail=detail)


def two_hosts(first: TcpOutcome, second: TcpOutcome) -> World:
    """Two hosts of equal rank; one that is open is a KMS host."""
    world = World(CONTOSO).srv(record("kms1"), record("kms2")).name("kms1", K1).name("kms2", K2)
    for address, outcome in ((K1, first), (K2, second)):
        world.tcp(address, outcome)
        if outcome is TcpOutcome.OPEN:
            world.rpc(address)
    return world


# --------------------------------------------------------------------------------------------- the verdict's state


def test_healthy() -> None:
    report = report_of(bound(RpcOutcome.ACCEPTED))
    assert report.verdict.state is VerdictState.HEALTHY
    assert report.verdict.causes == ()
    assert report.verdict.headline.startswith("contoso.example: 1 KMS host")
    (path,) = report.paths
    assert (path.key, path.state, path.fails_at) == ((CONTOSO, "kms1.contoso.example", 1688), PathState.OK, None)
    assert [(stage.stage, stage.state) for stage in path.stages] == [(Stage.SRV, State.OK), (Stage.NAME, State.OK)]
    assert [(stage.stage, stage.state) for stage in path.routes[0].stages] == [
        (Stage.TCP, State.OK),
        (Stage.RPC, State.OK),
    ]
    assert path.routes[0].stages[0].elapsed_ms == 0.9, "the kernel's own measure, where there is one"


def test_degraded() -> None:
    report = report_of(two_hosts(TcpOutcome.OPEN, TcpOutcome.REFUSED))
    assert report.verdict.state is VerdictState.DEGRADED
    assert "1 of 2" in report.verdict.headline
    assert "1 fault" in report.verdict.headline
    assert [path.state for path in report.paths] == [PathState.OK, PathState.FAIL]
    assert report.paths[1].fails_at is Stage.TCP


def test_broken() -> None:
    report = report_of(two_hosts(TcpOutcome.REFUSED, TcpOutcome.TIMEOUT))
    assert report.verdict.state is VerdictState.BROKEN
    assert report.verdict.headline.startswith("contoso.example: no ")
    assert {cause.code for cause in report.verdict.causes} == {"tcp.refused", "tcp.timeout"}


def unknown_worlds() -> Iterator[tuple[str, World]]:
    yield "nothing asked", World()
    yield "SRV not asked", World(CONTOSO)
    yield "SRV unanswered", World(CONTOSO).gap(SrvQuery(name="_vlmcs._tcp.contoso.example"))
    yield "address unanswered", one().gap(AddressQuery(name="kms1.contoso.example", family=Family.IPV4))
    yield "one family unanswered", one().name("kms1", families=(Family.IPV6,))
    yield "connection not made", one().name("kms1", K1).gap(TcpConnect(address=K1, port=1688))
    yield "bind not made", reached().gap(RpcBind(address=K1, port=1688))
    yield "no route from here", reached(TcpOutcome.NO_ROUTE, errno="ENETUNREACH")
    yield "no local port", reached(TcpOutcome.LOCAL_ERROR, errno="EADDRNOTAVAIL")
    yield "literal of the other family", World(CONTOSO, families=(Family.IPV4,)).srv(record("fd00::8"))
    yield "answered without records", World(CONTOSO).srv(outcome=DnsOutcome.ANSWERED)


@pytest.mark.parametrize(
    ("what", "world"), list(unknown_worlds()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_was_not_tested_is_unknown_and_has_no_cause(what: str, world: World) -> None:
    report = report_of(world)
    assert report.verdict.state is VerdictState.UNKNOWN, what
    assert report.verdict.causes == ()
    assert report.verdict.impact == ()
    assert all(path.state is PathState.UNKNOWN for path in report.paths)
    assert len(report.verdict.unknown) == len(report.paths)


def test_what_works_beside_what_is_unknown_is_healthy_and_says_so() -> None:
    world = World(CONTOSO).srv(record("kms1"), record("kms2")).host("kms1", K1).name("kms2", K2)
    report = report_of(world.gap(TcpConnect(address=K2, port=1688)))
    assert report.verdict.state is VerdictState.HEALTHY
    assert "could not be tested" in report.verdict.headline
    assert report.verdict.unknown == ("contoso.example → kms2.contoso.example:1688",)
    assert report.verdict.impact == (), "no figure over records of which one is not known"


def test_what_fails_beside_what_is_unknown_is_broken() -> None:
    world = World(CONTOSO).srv(record("kms1"), record("kms2")).name("kms1", K1).tcp(K1, TcpOutcome.REFUSED)
    world.name("kms2", K2).tcp(K2, TcpOutcome.NO_ROUTE, errno="ENETUNREACH")
    assert state(world) is VerdictState.BROKEN


# ------------------------------------------------------------------------------------------------- single paths


def test_some_addresses_work_and_some_do_not() -> None:
    world = one().name("kms1", K1, K1_V6).tcp(K1).rpc(K1).tcp(K1_V6, TcpOutcome.TIMEOUT)
    report = report_of(world)
    (path,) = report.paths
    assert path.state is PathState.PARTIAL
    assert path.fails_at is None
    assert [(route.address, route.state) for route in path.routes] == [(K1, State.OK), (K1_V6, State.FAIL)]
    assert report.verdict.state is VerdictState.DEGRADED
    assert [cause.code for cause in report.verdict.causes] == ["tcp.timeout"]
    assert report.verdict.impact == (Impact(domain=CONTOSO, hosts=1, first_pick_dead=0, delayed=0, fails=0),)


def test_an_address_that_this_machine_cannot_test_does_not_spoil_a_path() -> None:
    world = one().name("kms1", K1, K1_V6).tcp(K1).rpc(K1).tcp(K1_V6, TcpOutcome.NO_ROUTE, errno="ENETUNREACH")
    assert report_of(world).paths[0].state is PathState.OK
    assert state(world) is VerdictState.HEALTHY


def test_one_address_fails_and_the_other_cannot_be_tested() -> None:
    world = one().name("kms1", K1, K1_V6).tcp(K1, TcpOutcome.REFUSED).tcp(K1_V6, TcpOutcome.NO_ROUTE)
    path = report_of(world).paths[0]
    assert (path.state, path.fails_at) == (PathState.FAIL, Stage.TCP)


def test_the_later_try_that_opens_counts() -> None:
    world = World(CONTOSO, tries=2).srv(record("kms1")).name("kms1", K1)
    world.tcp(K1, TcpOutcome.TIMEOUT).tcp(K1, attempt=2).rpc(K1)
    assert state(world) is VerdictState.HEALTHY


def test_all_tries_are_told_in_the_cause() -> None:
    world = World(CONTOSO, tries=3).srv(record("kms1")).name("kms1", K1)
    for attempt in (1, 2, 3):
        world.tcp(K1, TcpOutcome.TIMEOUT, attempt=attempt)
    (cause,) = report_of(world).verdict.causes
    assert cause.text.startswith("No answer to 3 attempts in 9.0 s")


def test_one_family_that_does_not_resolve_is_no_failure() -> None:
    world = (
        one()
        .name("kms1", K1, families=(Family.IPV4,))
        .name("kms1", absent=DnsOutcome.SERVFAIL, families=(Family.IPV6,))
    )
    world.tcp(K1).rpc(K1)
    assert state(world) is VerdictState.HEALTHY


def test_could_not_look_up_is_not_the_same_as_no_address() -> None:
    absent = one().name("kms1")
    world = one().name("kms1", families=(Family.IPV4,)).name("kms1", absent=DnsOutcome.TIMEOUT, families=(Family.IPV6,))
    assert causes(absent) == ["name.no_address"]
    assert causes(world) == ["name.lookup_failed"]


def test_a_literal_target_needs_no_look_up() -> None:
    world = World(CONTOSO).srv(record(K1)).tcp(K1).rpc(K1)
    (path,) = report_of(world).paths
    assert (path.target, path.state, path.stages[1].outcome) == (K1, PathState.OK, "literal")


def test_the_root_as_target_is_a_failure_of_its_own() -> None:
    world = World(CONTOSO, FABRIKAM).srv(record(".", port=0)).srv(record(".", port=0), domain=FABRIKAM)
    report = report_of(world)
    assert report.verdict.state is VerdictState.BROKEN
    assert [cause.code for cause in report.verdict.causes] == ["name.root", "name.root"], "one decision a domain"
    assert [path.fails_at for path in report.paths] == [Stage.NAME, Stage.NAME]


def test_an_explicit_host_has_no_domain() -> None:
    world = World(hosts=(HostSpec("kms9.contoso.example"), HostSpec(K1, 1689)))
    world.name("kms9", K2).tcp(K2, TcpOutcome.REFUSED).tcp(K1, port=1689).rpc(K1, port=1689)
    report = report_of(world)
    assert [path.key for path in report.paths] == [(NOWHERE, K1, 1689), (NOWHERE, "kms9.contoso.example", 1688)]
    assert report.verdict.impact == (), "nobody chooses among given hosts"
    (cause,) = report.verdict.causes
    assert cause.paths == ("kms9.contoso.example:1688",)
    assert "Remove-DnsServerResourceRecord" not in " ".join(fix.command for fix in cause.fixes), "there is no record"
    assert "slmgr /ckms" in [fix.command for fix in cause.fixes]


def test_the_same_target_and_port_from_several_records_is_one_path() -> None:
    world = World(CONTOSO).srv(record("kms1", 0, 5), record("kms1", 10, 0), record("kms1", port=1689))
    world.name("kms1", K1).tcp(K1).rpc(K1).tcp(K1, port=1689).rpc(K1, port=1689)
    report = report_of(world)
    assert [(path.port, path.ranks) for path in report.paths] == [(1688, ((0, 5), (10, 0))), (1689, ((0, 0),))]


# ---------------------------------------------------------------------------------------- servers and domains


def test_one_of_two_servers_fails() -> None:
    world = World(CONTOSO, servers=("10.1.0.2", "10.1.0.3")).srv(record("kms1"), server="10.1.0.2")
    world.srv(outcome=DnsOutcome.TIMEOUT, server="10.1.0.3", elapsed_ms=5000.0).name("kms1", K1, server="10.1.0.2")
    report = report_of(world.tcp(K1).rpc(K1))
    assert report.verdict.state is VerdictState.DEGRADED
    failing, working = report.paths
    assert (failing.key, failing.servers, failing.state) == ((CONTOSO, NOWHERE, 0), ("10.1.0.3",), PathState.FAIL)
    assert (working.servers, working.state) == (("10.1.0.2",), PathState.OK)
    (cause,) = report.verdict.causes
    assert cause.code == "srv.timeout"
    assert "10.1.0.3" in cause.headline
    assert "5.0 s" in cause.text
    assert any(fix.command.startswith("dig @10.1.0.3 ") for fix in cause.fixes)


def test_each_server_that_fails_is_a_cause_but_absence_is_one() -> None:
    servers = ("10.1.0.2", "10.1.0.3:5353")
    refusing = World(CONTOSO, servers=servers)
    absent = World(CONTOSO, servers=servers)
    for server in servers:
        refusing.srv(outcome=DnsOutcome.REFUSED, server=server)
        absent.srv(outcome=DnsOutcome.NXDOMAIN, server=server)
    assert causes(refusing) == ["srv.refused", "srv.refused"]
    assert causes(absent) == ["srv.nxdomain"]
    found = [command for _where, command in commands(report_of(refusing)) if command.startswith("dig")]
    assert found == [
        "dig @10.1.0.2 _vlmcs._tcp.contoso.example SRV",
        "dig @10.1.0.3 -p 5353 _vlmcs._tcp.contoso.example SRV",
    ]


def test_addresses_are_asked_of_the_server_that_named_the_host() -> None:
    world = World(CONTOSO, servers=("10.1.0.2", "10.1.0.3")).srv(record("kms1"), server="10.1.0.2")
    world.srv(record("kms2"), server="10.1.0.3").name("kms1", K1, server="10.1.0.2").name("kms2", server="10.1.0.3")
    report = report_of(world.tcp(K1).rpc(K1))
    assert [(path.target.split(".")[0], path.state) for path in report.paths] == [
        ("kms1", PathState.OK),
        ("kms2", PathState.FAIL),
    ]


def test_a_server_that_fails_for_two_domains_is_one_cause() -> None:
    world = World(CONTOSO, FABRIKAM).srv(outcome=DnsOutcome.SERVFAIL).srv(domain=FABRIKAM, outcome=DnsOutcome.SERVFAIL)
    (cause,) = report_of(world).verdict.causes
    assert cause.headline == "DNS server 10.1.0.2 fails (SERVFAIL) on contoso.example, fabrikam.example"
    assert cause.paths == (CONTOSO, FABRIKAM)


def test_a_host_that_two_domains_share_is_one_cause() -> None:
    world = World(CONTOSO, FABRIKAM).srv(record("kms1")).srv(record("kms1"), domain=FABRIKAM)
    report = report_of(world.name("kms1", K1).tcp(K1, TcpOutcome.REFUSED))
    (cause,) = report.verdict.causes
    assert cause.paths == (
        "contoso.example → kms1.contoso.example:1688",
        "fabrikam.example → kms1.contoso.example:1688",
    )


def test_one_healthy_and_one_broken_domain() -> None:
    world = World(FABRIKAM, CONTOSO).srv(record("kms1")).host("kms1", K1).srv(domain=FABRIKAM)
    report = report_of(world)
    assert report.verdict.state is VerdictState.DEGRADED
    assert [path.domain for path in report.paths] == [CONTOSO, FABRIKAM], "sorted, whatever was typed first"
    assert [impact.domain for impact in report.verdict.impact] == [CONTOSO, FABRIKAM]
    assert [impact.fails for impact in report.verdict.impact] == [0, 1]


def test_causes_are_sorted_by_stage_and_then_by_how_many_paths_they_break() -> None:
    world = World(CONTOSO, FABRIKAM, "tailspin.example").srv(record("kms1"), record("kms2"))
    world.srv(record("kms2"), domain=FABRIKAM).srv(domain="tailspin.example")
    world.name("kms1", K1).name("kms2", K2).tcp(K1, TcpOutcome.REFUSED).tcp(K2, TcpOutcome.RESET)
    assert causes(world) == ["srv.nxdomain", "tcp.reset", "tcp.refused"]


# ---------------------------------------------------------------------------------------------- silence everywhere


def test_silence_everywhere_is_one_cause() -> None:
    report = report_of(two_hosts(TcpOutcome.TIMEOUT, TcpOutcome.TIMEOUT))
    (cause,) = report.verdict.causes
    assert cause.code == "tcp.timeout_everywhere"
    assert "All 2 KMS addresses" in cause.headline
    assert "10.1.0.8, 10.1.0.9" in cause.text
    assert len(cause.paths) == 2


@pytest.mark.parametrize("outcome", [TcpOutcome.OPEN, TcpOutcome.REFUSED, TcpOutcome.UNREACHABLE, TcpOutcome.RESET])
def test_anything_that_answers_speaks_against_one_firewall(outcome: TcpOutcome) -> None:
    world = two_hosts(TcpOutcome.TIMEOUT, TcpOutcome.TIMEOUT)
    world.srv(record("kms1"), record("kms2"), record("kms3")).name("kms3", K3).tcp(K3, outcome)
    assert causes(world).count("tcp.timeout") == 2
    assert "tcp.timeout_everywhere" not in causes(world)


@pytest.mark.parametrize("outcome", [TcpOutcome.NO_ROUTE, TcpOutcome.LOCAL_ERROR])
def test_what_never_left_this_machine_is_no_answer(outcome: TcpOutcome) -> None:
    world = two_hosts(TcpOutcome.TIMEOUT, TcpOutcome.TIMEOUT).name("kms1", K1, K1_V6).tcp(K1_V6, outcome)
    assert causes(world) == ["tcp.timeout_everywhere"]


def test_a_bind_that_was_answered_speaks_against_one_firewall() -> None:
    world = two_hosts(TcpOutcome.TIMEOUT, TcpOutcome.TIMEOUT)
    world.srv(record("kms1"), record("kms2"), record("kms3", port=1689)).name("kms3", K3)
    world.tcp(K3, TcpOutcome.TIMEOUT, port=1689).rpc(K3)
    assert sorted(causes(world)) == ["tcp.timeout", "tcp.timeout", "tcp.wrong_port"]


def test_one_silent_host_is_no_firewall() -> None:
    assert causes(reached(TcpOutcome.TIMEOUT)) == ["tcp.timeout"]
    dual = one().name("kms1", K1, K1_V6).tcp(K1, TcpOutcome.TIMEOUT).tcp(K1_V6, TcpOutcome.TIMEOUT)
    assert causes(dual) == ["tcp.timeout", "tcp.timeout"], "two addresses of one host are one dead host"


# ---------------------------------------------------------------------------------------------------- wrong port


@pytest.mark.parametrize("outcome", [TcpOutcome.REFUSED, TcpOutcome.TIMEOUT, TcpOutcome.RESET])
def test_kms_on_1688_makes_another_port_the_wrong_one(outcome: TcpOutcome) -> None:
    report = report_of(reached(outcome, port=1689).rpc(K1))
    (cause,) = report.verdict.causes
    assert cause.code == "tcp.wrong_port"
    assert cause.headline.endswith("is published with port 1689, but KMS answers on 1688")
    assert report.verdict.state is VerdictState.BROKEN


@pytest.mark.parametrize("outcome", [one for one in RpcOutcome if one is not RpcOutcome.ACCEPTED])
def test_anything_else_on_1688_does_not(outcome: RpcOutcome) -> None:
    assert causes(reached(TcpOutcome.REFUSED, port=1689).rpc(K1, outcome)) == ["tcp.refused"]


# -------------------------------------------------------------------------------------------------- who is hit


def impact(*records: SrvRecord, dead: set[str]) -> Impact:
    """Who is hit in a domain with these records, where some hosts refuse."""
    world = World(CONTOSO).srv(*records)
    for number, target in enumerate(sorted({one.target for one in records})):
        address = f"10.1.0.{20 + number}"
        if target.split(".")[0] in dead:
            world.name(target, address).tcp(address, TcpOutcome.REFUSED)
        else:
            world.host(target, address)
    (found,) = report_of(world).verdict.impact
    return found


@pytest.mark.parametrize(
    ("records", "dead", "expected"),
    [
        ([record("kms1")], set(), (1, 0, 0, 0, None)),
        ([record("kms1")], {"kms1"}, (1, 1, 0, 1, None)),
        ([record("kms1"), record("kms2")], {"kms2"}, (2, 0.5, 0.5, 0, None)),
        ([record("kms1"), record("kms2")], {"kms1", "kms2"}, (2, 1, 0, 1, None)),
        ([record("kms1", 0, 75), record("kms2", 0, 25)], {"kms1"}, (2, 0.75, 0.75, 0, 0.5)),
        ([record("kms1", 0), record("kms2", 10)], {"kms1"}, (2, 1, 1, 0, 0.5)),
        ([record("kms1", 0), record("kms2", 10)], {"kms2"}, (2, 0, 0, 0, 0.5)),
        ([record("kms1", 0, 0), record("kms2", 0, 99)], {"kms1"}, (2, 0.01, 0.01, 0, 0.5)),
        ([record("kms1"), record("kms2"), record("kms3")], {"kms3"}, (3, 0.3333, 0.3333, 0, None)),
    ],
)
def test_who_is_hit(
    records: list[SrvRecord], dead: set[str], expected: tuple[int, float, float, float, float | None]
) -> None:
    found = impact(*records, dead=dead)
    figures = (found.hosts, found.first_pick_dead, found.delayed, found.fails, found.first_pick_dead_random)
    assert figures == expected


def test_a_domain_without_records_fails_whole() -> None:
    for outcome in (DnsOutcome.NXDOMAIN, DnsOutcome.TIMEOUT):
        report = report_of(World(CONTOSO).srv(outcome=outcome))
        assert report.verdict.impact == (Impact(domain=CONTOSO, hosts=0, first_pick_dead=1, delayed=0, fails=1),)


# ----------------------------------------------------------------------------- every failing outcome has its text


def failing_worlds() -> Iterator[tuple[str, World]]:
    """A cause, and a world that has it alone."""
    for dns in DnsOutcome:
        if dns.state is not State.OK:
            yield f"srv.{dns}", World(CONTOSO).srv(outcome=dns, detail="ECONNREFUSED", rcode="NOTIMP")
    yield "name.root", World(CONTOSO).srv(record(".", port=0))
    for dns in DnsOutcome:
        if dns.is_absence:
            yield "name.no_address", one().name("kms1", absent=dns)
        elif dns.state is not State.OK:
            yield "name.lookup_failed", one().name("kms1", absent=dns)
    for tcp in TcpOutcome:
        if tcp.state is State.FAIL:
            error = PROHIBITED if tcp is TcpOutcome.UNREACHABLE else None
            yield f"tcp.{tcp}", reached(tcp, errno="EHOSTUNREACH", icmp=error)
    yield "tcp.unreachable", reached(TcpOutcome.UNREACHABLE, errno="EHOSTUNREACH")
    yield "tcp.wrong_port", reached(TcpOutcome.REFUSED, port=1689).rpc(K1)
    yield "tcp.timeout_everywhere", two_hosts(TcpOutcome.TIMEOUT, TcpOutcome.TIMEOUT)
    for rpc in RpcOutcome:
        if rpc.state is not State.OK:
            yield f"rpc.{rpc}", bound(rpc, "what came back")
    ahead = bound(RpcOutcome.ACCEPTED)
    for source in ClockSource:
        ahead.clock(K1, 5 * 3600.0, source).clock("10.1.0.2", 0.0, source)
    yield "clock.beyond", ahead


def captured_worlds() -> Iterator[tuple[str, World]]:
    """A cause, and captures that show it alone."""
    for dns in DnsOutcome:
        if dns.state is not State.OK and dns is not DnsOutcome.NO_SERVER:
            yield f"srv.{dns}", World().captures(Traffic().srv(CONTOSO, clients=[CLIENT], outcome=dns).answer())
    published = record("kms1")
    lost = Traffic().srv(CONTOSO, published, clients=[CLIENT])
    yield "name.no_address", World().captures(lost.name("kms1.contoso.example").answer())
    lost = Traffic().srv(CONTOSO, published, clients=[CLIENT])
    lost.name("kms1.contoso.example", outcome=DnsOutcome.SERVFAIL)
    yield "name.lookup_failed", World().captures(lost.answer())
    yield "name.root", World().captures(Traffic().srv(CONTOSO, record(".", port=0), clients=[CLIENT]).answer())
    for outcome, code in observed.CODES.items():
        error = PROHIBITED if outcome is ConversationOutcome.UNREACHABLE else None
        yield code, met(outcome, icmp=error, hresult="0xC004F0FF", detail="what came back", count=3, required=25)
    yield "tcp.unreachable", met(ConversationOutcome.UNREACHABLE)
    for one_code, known in REFUSALS.items():
        yield f"answer.{known.name}", met(ConversationOutcome.HOST_REFUSED, hresult=one_code)
    yield "answer.refused_unread", met(ConversationOutcome.HOST_REFUSED, hresult="")
    silent = Traffic().srv(CONTOSO, published, record("kms2"), clients=[CLIENT])
    silent.name("kms1.contoso.example", K1).name("kms2.contoso.example", K2)
    silent.talk(CLIENT, K1, "unanswered").talk(CLIENT, K2, "unanswered")
    yield "tcp.timeout_everywhere", World().captures(silent.answer())


CLIENT = "10.2.0.17"


def met(outcome: ConversationOutcome, **more: object) -> World:
    """Captures of one client and the host it was told of, and how that ended."""
    traffic = Traffic().srv(CONTOSO, record("kms1"), clients=[CLIENT]).name("kms1.contoso.example", K1)
    return World().captures(traffic.talk(CLIENT, K1, outcome, **more).answer())  # type: ignore[arg-type]


WORLDS = [*failing_worlds(), *captured_worlds()]


@pytest.mark.parametrize(("code", "world"), WORLDS, ids=[f"{code}-{n}" for n, (code, _world) in enumerate(WORLDS)])
def test_each_failing_outcome_has_a_cause_whose_text_can_be_filled(code: str, world: World) -> None:
    ((first, _group),) = world.diagnosis().faults
    text = CAUSES[code]
    said = text.captured or text.text if first.captured else text.text
    assert fields(text.headline + said) <= first.args.keys() | {"domains"} | (
        {"clients", "attempts"} if first.captured else set()
    )
    report = report_of(world)
    (cause,) = report.verdict.causes
    assert (cause.code, cause.stage) == (code, first.stage)
    assert_readable(cause)
    assert len(cause.fixes) == len(text.fixes), "behind a record every fix of the table applies"
    assert report.verdict.state is VerdictState.BROKEN
    assert all(path.fails_at is cause.stage for path in report.paths)


def test_there_is_no_text_for_what_cannot_happen() -> None:
    assert {code for code, _world in WORLDS} == set(CAUSES) - set(REPORTED)


def test_each_end_of_a_conversation_that_is_a_failure_has_a_cause_and_a_note() -> None:
    failing = {outcome for outcome in ConversationOutcome if outcome.state is State.FAIL}
    assert set(observed.CODES) == failing
    assert set(observed._NOTES) == failing
    for outcome, code in observed.CODES.items():
        assert code.startswith(f"{outcome.stage}.")


def test_what_is_no_failure_has_no_text() -> None:
    for tcp in TcpOutcome:
        assert (f"tcp.{tcp}" in CAUSES) is (tcp.state is State.FAIL)
    for rpc in RpcOutcome:
        assert (f"rpc.{rpc}" in CAUSES) is (rpc.state is State.FAIL)


@pytest.mark.parametrize("tcp", [one for one in TcpOutcome if one.state is State.FAIL])
def test_an_explicit_host_has_texts_too(tcp: TcpOutcome) -> None:
    world = World(hosts=(HostSpec("kms9.contoso.example", 1689),)).name("kms9", K1)
    (cause,) = report_of(world.tcp(K1, tcp, port=1689, errno="EHOSTUNREACH")).verdict.causes
    assert_readable(cause)
    assert cause.fixes


@pytest.mark.parametrize("dns", [one for one in DnsOutcome if one.state is State.FAIL])
def test_an_explicit_host_that_does_not_resolve_has_texts_too(dns: DnsOutcome) -> None:
    (cause,) = report_of(World(hosts=(HostSpec("kms9.contoso.example"),)).name("kms9", absent=dns)).verdict.causes
    assert_readable(cause)
    assert cause.fixes


@pytest.mark.parametrize("rpc", [one for one in RpcOutcome if one.state is State.FAIL])
def test_an_explicit_host_that_is_no_kms_has_texts_too(rpc: RpcOutcome) -> None:
    (cause,) = report_of(World(hosts=(HostSpec(K1),)).tcp(K1).rpc(K1, rpc, detail="what came back")).verdict.causes
    assert_readable(cause)
    assert cause.fixes


def assert_readable(cause: Cause) -> None:
    for text in (cause.headline, cause.text, *(fix.text + fix.command for fix in cause.fixes)):
        plain = re.sub(r"@\{ .*? \}", "", text)  # a hash table of PowerShell
        assert not re.search(r"[{}]|\bNone\b(?! of )|<…>", plain), text
        assert text.strip()


# ------------------------------------------------------------------------------------------------ invariants

tcp_outcomes = st.sampled_from(TcpOutcome)
rpc_outcomes = st.sampled_from(RpcOutcome)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Some domains, hosts and outcomes; some answers are missing."""
    world = World(CONTOSO, FABRIKAM, tries=draw(st.integers(1, 2)))
    ranks = st.tuples(st.sampled_from(["kms1", "kms2", "."]), st.integers(0, 1), st.integers(0, 2))
    for domain in (CONTOSO, FABRIKAM):
        records = [record(*rank) for rank in draw(st.lists(ranks, max_size=3))]
        failing = draw(st.sampled_from([one for one in DnsOutcome if one is not DnsOutcome.ANSWERED]))
        if draw(st.booleans()) or records:
            world.srv(*records, domain=domain, outcome=None if records else failing)
    for name, address in (("kms1", K1), ("kms2", K2)):
        if draw(st.booleans()):
            world.name(name, *draw(st.sampled_from([(), (address,), (address, K1_V6)])))
    for address in (K1, K2, K1_V6):
        for attempt in range(1, draw(st.integers(1, 3))):
            world.tcp(address, draw(tcp_outcomes), attempt=attempt)
        if draw(st.booleans()):
            world.rpc(address, draw(rpc_outcomes))
    return world


@given(worlds())
def test_causes_and_paths_always_agree(world: World) -> None:
    found = world.diagnosis()
    report = report_of(world)
    failing = {path.key for path in found.paths if path.state is PathState.FAIL}
    partial = {path.key for path in found.paths if path.state is PathState.PARTIAL}
    blamed = {fault.path for _first, group in found.faults for fault in group}
    assert failing <= blamed <= failing | partial, "a failing path has a cause, and a cause a path"
    working = any(path.state in (PathState.OK, PathState.PARTIAL) for path in found.paths)
    expected = (
        (VerdictState.DEGRADED if blamed else VerdictState.HEALTHY)
        if working
        else (VerdictState.BROKEN if failing else VerdictState.UNKNOWN)
    )
    assert report.verdict.state is expected
    for hit in report.verdict.impact:
        assert 0 <= hit.delayed <= hit.first_pick_dead <= 1
        assert (hit.fails == 1) is (hit.first_pick_dead == 1 and hit.delayed == 0)
    assert all(path.fails_at is not None for path in found.paths if path.state is PathState.FAIL)


@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_the_facts_does_not_matter(world: World, random: Random) -> None:
    bundle = world.bundle()
    facts = list(bundle.facts)
    random.shuffle(facts)
    assert judge(msgspec.structs.replace(bundle, facts=tuple(facts))) == judge(bundle)


def judge(bundle: Bundle) -> Report:
    return diagnosis.judge(bundle, NO_CHECKS)


# ---------------------------------------------------------------------------------------- what a name can't do

PLAIN = "kms9.contoso.example"
ALL_CHECKS = discover()


def hostile_worlds(target: str) -> Iterator[World]:
    """Worlds in which a target stands in every command that has a place for one."""
    plain = SrvRecord(0, 0, 1688, target, 3600)
    odd = SrvRecord(0, 0, 1689, target, 3600)
    expected = Expected(hosts=(ExpectedHost("kms1.contoso.example"),))
    for absent in (DnsOutcome.NXDOMAIN, DnsOutcome.SERVFAIL):
        yield _named(World(CONTOSO, expected=expected).srv(plain), target, absent=absent)
    for tcp in TcpOutcome:
        yield _named(World(CONTOSO).srv(plain), target, K1).tcp(K1, tcp, errno="EHOSTUNREACH", icmp=PROHIBITED)
    yield _named(World(CONTOSO).srv(odd), target, K1).tcp(K1, TcpOutcome.REFUSED, port=1689).rpc(K1)
    for rpc in RpcOutcome:
        yield _named(World(CONTOSO).srv(plain), target, K1).tcp(K1).rpc(K1, rpc, detail="d", reason=1)
    yield _named(World(hosts=(HostSpec(target),)), target, K1).tcp(K1, TcpOutcome.TIMEOUT)
    yield _named(World(hosts=(HostSpec(target),)), target)


def _named(world: World, name: str, *addresses: str, absent: DnsOutcome = DnsOutcome.NODATA) -> World:
    """Like World.name, with a name that is left as it is."""
    scratch = World(CONTOSO).name("x.example", *addresses, absent=absent)
    for question, answer in scratch.facts.items():
        if isinstance(question, AddressQuery):
            world.facts[AddressQuery(name=name, family=question.family)] = answer
    return world


PLACE = "«target»"
QUOTES_OF_POWERSHELL = "'‘’‚‛"


def skeleton(where: str, command: str, target: str) -> str:
    """The command with every quoted string that is the target replaced by PLACE, as its shell reads it.

    A target that a person could have typed as it is may stand without quotes. One with a leading hyphen may not stand
    there at all: it would be an option.
    """
    if "PowerShell" not in where:
        words = [PLACE if word == target and word[0] != "-" else word for word in _sh_words(command)]
        return " ".join(words).replace("<…>", PLACE)
    bare, rest = "", command
    while rest:
        character, rest = rest[0], rest[1:]
        if character not in QUOTES_OF_POWERSHELL:
            bare += character
            continue
        value, rest = _powershell_string(rest)
        bare += PLACE if value in (target, f"{target}.") and value[0] != "-" else f"'{value}'"
    if re.fullmatch(r"[a-z0-9][a-z0-9.-]*", target):
        bare = bare.replace(target, PLACE)
    return bare.replace("<…>", PLACE)


def _sh_words(command: str) -> list[str]:
    """Words as sh splits them; an operator outside quotes is a word of its own, and so is seen."""
    command = command.replace("<…>", PLACE)
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words = list(lexer)
    # shlex knows nothing of what sh expands outside single quotes; nothing of that kind may stand there.
    unquoted = re.sub(r"'[^']*'|\"'\"", "", command)
    assert not re.search(r"[$`\\*?\[\]{}~!\"]", unquoted), command
    return words


def _powershell_string(rest: str) -> tuple[str, str]:
    """The value of a single-quoted string whose first quote is gone, and what follows it."""
    value = ""
    while rest:
        if rest[0] in QUOTES_OF_POWERSHELL:
            if rest[1:2] and rest[1] in QUOTES_OF_POWERSHELL:
                value, rest = value + rest[0], rest[2:]
                continue
            return value, rest[1:]
        value, rest = value + rest[0], rest[1:]
    raise AssertionError("a quote is never closed")


def skeletons(target: str) -> list[list[str]]:
    found = []
    for world in hostile_worlds(target):
        report = world.report(ALL_CHECKS)
        found.append([skeleton(where, command, target) for where, command in commands(report)])
    return found


HARMLESS = skeletons(PLAIN)


def test_the_harmless_name_stands_in_many_commands() -> None:
    """Else the tests below would show nothing."""
    places = [command for world in HARMLESS for command in world if PLACE in command]
    assert len(places) > 20
    assert len({command.split()[0] for command in places}) >= 4


HOSTILE = [
    "kms'; Restart-Computer; '.example",
    "kms’; Restart-Computer; ’.example",
    'kms"; reboot; ".example',
    "$(reboot).example",
    "`reboot`.example",
    "kms;reboot.example",
    r"kms\;reboot.example",
    r"kms\';reboot.example",
    r"kms\"reboot.example",
    r"kms\$\(reboot\).example",
    "-oProxyCommand=reboot.example",
    "kms|reboot.example",
    "kms&&reboot.example",
    "kms>file.example",
    "kms #.example",
    "kms reboot.example",
    "kms\nreboot.example",
    "kms\x1b]0;owned\x07.example",
    "kms\u202egpj.example",
    "kms.example\u2028reboot",
    "{address}.example",
    "%PATH%.example",
    "$env:PATH.example",
    "@{a=1}.example",
    "@(reboot).example",
    "*.example",
    "~root",
    "!!.example",
    "'",
    "''",
    "a'b''c'",
    "\\",
]


@pytest.mark.parametrize("target", HOSTILE)
def test_a_hostile_target_is_quoted_in_every_command(target: str) -> None:
    assert skeletons(target) == HARMLESS


def test_sh_itself_reads_a_hostile_target_as_one_word(tmp_path: Path) -> None:
    """The commands for sh, with printf instead of dig, run by sh: every word arrives as it was meant."""
    lines, expected = [], []
    for target in HOSTILE:
        for world in hostile_worlds(target):
            for where, command in commands(world.report(NO_CHECKS)):
                if "PowerShell" not in where and "<…>" not in command:
                    lines.append(command.replace("dig ", "printf '%s\\n' ", 1))
                    expected += [
                        target if word == PLACE else word for word in skeleton(where, command, target).split()[1:]
                    ]
    run = subprocess.run(
        ["/bin/sh"], input="\n".join(lines), cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True
    )
    assert run.stderr == ""
    assert run.stdout.splitlines() == expected
    assert expected.count(HOSTILE[0]) > 1
    assert list(tmp_path.iterdir()) == []


def test_a_target_is_no_splatted_variable() -> None:
    """PowerShell passes the contents of $args where @args stands unquoted; dig takes @server."""
    assert skeletons("@args") == HARMLESS


def test_a_quoted_target_is_left_as_it_is() -> None:
    assert skeletons("kms  reboot.example") == HARMLESS


@given(st.text(st.characters(codec="utf-8", exclude_characters="«»…"), min_size=1, max_size=20))
def test_no_target_gets_out_of_its_quotes(target: str) -> None:
    if target == "." or "  " in target or re.fullmatch(r"@?[\w.:%-]+", target, re.ASCII) or ":" in target:
        return  # the root, and what is a word of its own; see the tests around this one
    assert skeletons(f"{target}'") == HARMLESS


def test_a_banner_cannot_act_in_a_text() -> None:
    world = reached().rpc(K1, RpcOutcome.OTHER_PROTOCOL, detail="HT\x1b[2JTP", excerpt="\x1b]0;owned\x07\u202e")
    report = world.report(ALL_CHECKS)
    texts = [cause.headline + cause.text for cause in report.verdict.causes]
    texts += [finding.text + finding.consequence for result in report.results for finding in result.findings]
    assert any("owned" in text for text in texts)
    assert all(text.isprintable() for text in texts)


def test_a_route_without_stages_is_unknown() -> None:
    assert Route(address=K1).state is State.UNKNOWN
