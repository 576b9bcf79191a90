"""Hostile networks from end to end: real sockets, the whole run, the whole report."""

import asyncio
import shlex
import time
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest

from kmsdiag import api, diagnosis
from kmsdiag import bundle as bundles
from kmsdiag.bundle import Bundle
from kmsdiag.engine import Budget
from kmsdiag.lab.dns import DnsServer
from kmsdiag.lab.rpc import Behaviour
from kmsdiag.lab.world import LabHost, LabServer, Scenario, running
from kmsdiag.model.answer import DnsAnswer, SrvAnswer
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.path import VerdictState
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.request import AddressQuery, SrvQuery, TcpConnect
from kmsdiag.model.target import Target
from kmsdiag.probes.settings import ProbeSettings
from kmsdiag.registry import discover
from kmsdiag.report import json as json_report
from kmsdiag.report import lines, markdown, text
from tests.conftest import commands
from tests.labruns import NASTY, run_scenario, udp_server

NOWHERE = ("127.0.0.1", 1)
NAME = "_vlmcs._tcp.contoso.example"


class Outcome(NamedTuple):
    bundle: Bundle
    report: Report
    seconds: float

    @property
    def srv(self) -> SrvAnswer:
        """What the server says to a client's own question."""
        answer = self.bundle.answers()[SrvQuery(name=NAME, server="10.1.0.2")]
        assert isinstance(answer, SrvAnswer)
        return answer


async def record(port: int, budget: Budget, limit: float = 0.5) -> Outcome:
    """A whole run about contoso.example against the DNS server on this port; nothing leaves loopback."""
    registry = discover()
    settings = ProbeSettings(timeout=limit, via={("10.1.0.2", 53): ("127.0.0.1", port)}, elsewhere=NOWHERE)
    target = Target(domains=("contoso.example",), servers=("10.1.0.2",), nonce="hostile")
    started = time.perf_counter()
    bundle = await api.record(
        target, registry=registry, settings=settings, budget=budget, vantage=Vantage(label="test")
    )
    seconds = time.perf_counter() - started
    return Outcome(bundle, diagnosis.judge(bundle, registry), seconds)


def against(reply: Callable[[bytes], list[bytes]], budget: Budget | None = None) -> Outcome:
    async def put() -> Outcome:
        async with udp_server(reply) as port:
            return await record(port, budget or Budget(seconds=5))

    return asyncio.run(put())


def against_zone(zone: str, budget: Budget) -> Outcome:
    async def put() -> Outcome:
        async with DnsServer({"contoso.example": zone}) as server:
            return await record(server.port, budget, limit=5)

    return asyncio.run(put())


def rendered(report: Report) -> list[str]:
    return [
        lines.plain(text.render(report, verbosity=2)),
        lines.plain(text.render(report, verbosity=2, unicode=False)),
        markdown.render(report),
        json_report.render(report),
    ]


def assert_sound(outcome: Outcome) -> None:
    """No crash, nothing that acts, and the recording reads back."""
    assert not [result for result in outcome.report.results if result.status == "crashed"]
    for shown in rendered(outcome.report):
        for character in shown.replace("\n", ""):
            assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"), repr(character)
    again = bundles.decode(bundles.encode(outcome.bundle))
    assert json_report.render(diagnosis.judge(again, discover())) == json_report.render(outcome.report)


class TestMany:
    ZONE = "".join(f"_vlmcs._tcp 60 IN SRV 0 0 1688 h{number}\n" for number in range(1500))

    def test_more_records_than_questions_allowed(self) -> None:
        """Over TCP, as they do not fit into a datagram; what the budget cut is said."""
        outcome = against_zone(self.ZONE, Budget(requests=200, seconds=20))
        assert outcome.srv.transport == "tcp"
        assert len(outcome.srv.records) == 1500
        assert len(outcome.bundle.facts) <= 200
        assert "the limit of 200 questions was reached" in set(outcome.bundle.gaps().values())
        assert any("the limit of 200 questions" in gap.why for gap in outcome.report.not_checked)
        screen = lines.plain(text.render(outcome.report)).splitlines()
        assert len(screen) < 100
        assert outcome.report.verdict.state in (VerdictState.BROKEN, VerdictState.UNKNOWN)
        assert not [result for result in outcome.report.results if result.status == "crashed"]

    def test_the_deadline_holds(self) -> None:
        outcome = against_zone(self.ZONE, Budget(seconds=1.0))
        assert outcome.seconds < 4
        assert not [result for result in outcome.report.results if result.status == "crashed"]

    def test_thousands_of_duplicates(self) -> None:
        """Two thousand times the same record: one host, one question each."""
        owner = dns.name.from_text(NAME).to_wire()
        assert owner is not None
        target = dns.name.from_text("kms1.contoso.example").to_wire()
        assert target is not None
        rdata = b"\0\0\0\0\x06\x98" + target
        one = b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c" + len(rdata).to_bytes(2, "big") + rdata

        def reply(data: bytes) -> list[bytes]:
            question = dns.message.from_wire(data).question[0]
            if question.rdtype == dns.rdatatype.SRV:
                # Far beyond the payload that was offered, and UDP all the same.
                return [data[:2] + b"\x84\0\0\x01\x04\0\0\0\0\0" + owner + b"\0\x21\0\x01" + one * 1024]
            return [dns.message.make_response(dns.message.from_wire(data)).to_wire()]

        outcome = against(reply)
        assert len(outcome.srv.records) == 1024
        asked = [fact.request for fact in outcome.bundle.facts if isinstance(fact.request, AddressQuery)]
        assert len([request for request in asked if request.name == "kms1.contoso.example"]) == 2
        assert not [fact for fact in outcome.bundle.facts if isinstance(fact.request, TcpConnect)]
        assert_sound(outcome)
        assert "duplicate" in json_report.render(outcome.report)


def srv_with(target: dns.name.Name) -> Callable[[bytes], list[bytes]]:
    """A server that names this target for everything, and an address for the target."""

    def reply(data: bytes) -> list[bytes]:
        query = dns.message.from_wire(data)
        question = query.question[0]
        response = dns.message.make_response(query)
        if question.rdtype == dns.rdatatype.SRV:
            rdata = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.SRV, f"0 0 1688 {target}")
            response.answer.append(dns.rrset.from_rdata(question.name, 60, rdata))
        elif question.rdtype == dns.rdatatype.A:
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "10.1.0.8"))
        return [response.to_wire()]

    return reply


class TestNames:
    @pytest.mark.parametrize("nasty", [*NASTY, "-rf", "--help", "$(reboot)", "x.y", "\0", "\xff\xfe", "é"])
    def test_a_label_of_anything(self, nasty: str) -> None:
        """A target whose first label holds what acts elsewhere: it is asked for, shown escaped, and quoted."""
        label = nasty.encode()[:63]
        outcome = against(srv_with(dns.name.Name([label, b"contoso", b"example", b""])))
        (record,) = outcome.srv.records
        assert record.target.isascii()
        assert record.target.isprintable()
        # It was asked for as it was named, and found.
        assert "10.1.0.8" in json_report.render(outcome.report)
        assert_sound(outcome)
        for where, command in commands(outcome.report):
            assert "\n" not in command
            if where == "from here":
                assert shlex.split(command)[0] in ("dig", "kmsdiag", "nc")
            for wild in ("$(reboot)", "`reboot`", "; reboot"):
                if wild in command:
                    before = command[: command.index(wild)]
                    assert before.count("'") % 2 == 1 or "<…>" in command

    def test_the_longest_name(self) -> None:
        name = dns.name.Name([b"\x1b" * 63, b"\n" * 63, b"'" * 63, b"`" * 61, b""])
        outcome = against(srv_with(name))
        assert len(outcome.srv.records) == 1
        assert_sound(outcome)

    def test_the_root(self) -> None:
        outcome = against(srv_with(dns.name.root))
        assert outcome.srv.records[0].target == "."
        assert [cause.code for cause in outcome.report.verdict.causes] == ["name.root"]
        # Nobody asks for the root's address; the address that is asked for is that of a name that nobody made.
        (address,) = (fact.request for fact in outcome.bundle.facts if isinstance(fact.request, AddressQuery))
        assert address.name.endswith(".contoso.example")
        assert {str(fact.request) for fact in outcome.bundle.facts if fact.request.connects} == {
            "SRV _vlmcs._tcp.contoso.example @10.1.0.2 over TCP"
        }
        assert_sound(outcome)

    @pytest.mark.parametrize("literal", ["127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1"])
    def test_addresses_that_are_no_host(self, literal: str) -> None:
        outcome = against(srv_with(dns.name.from_text(literal)))
        assert outcome.report.verdict.state is VerdictState.BROKEN
        assert_sound(outcome)


class TestEndless:
    def test_a_chain_of_aliases(self) -> None:
        count = 0

        def reply(data: bytes) -> list[bytes]:
            nonlocal count
            count += 1
            query = dns.message.from_wire(data)
            response = dns.message.make_response(query)
            response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "CNAME", f"n{count}.example."))
            return [response.to_wire()]

        outcome = against(reply)
        assert outcome.srv.outcome is DnsOutcome.CHAIN
        for fact in outcome.bundle.facts:
            assert isinstance(fact.answer, DnsAnswer)
            assert fact.answer.queries <= 9
        assert count == sum(fact.answer.queries for fact in outcome.bundle.facts if isinstance(fact.answer, DnsAnswer))
        assert_sound(outcome)

    def test_a_flood_of_datagrams(self) -> None:
        """A thousand datagrams for each question, none of which is an answer."""
        outcome = against(lambda data: [bytes([data[0] ^ 1]) + data[1:]] * 1000)
        assert outcome.seconds < 4
        assert outcome.srv.outcome in (DnsOutcome.MALFORMED, DnsOutcome.TIMEOUT)
        assert_sound(outcome)

    @pytest.mark.parametrize(
        "behaviour",
        [
            Behaviour.ENDLESS,
            Behaviour.DRIP,
            Behaviour.LYING,
            Behaviour.HALF,
            Behaviour.GARBAGE,
            Behaviour.FRAGMENTS,
            Behaviour.SILENT,
        ],
    )
    def test_hosts_that_never_come_to_an_end(self, behaviour: Behaviour) -> None:
        scenario = Scenario(
            name="endless",
            title="",
            says="",
            servers=(
                LabServer("10.1.0.2", {"contoso.example": "_vlmcs._tcp 60 IN SRV 0 0 1688 k\nk 60 IN A 10.1.0.8\n"}),
            ),
            hosts=(LabHost("10.1.0.8", behaviour),),
            timeout=0.5,
        )
        started = time.perf_counter()
        run = asyncio.run(run_scenario(scenario))
        assert time.perf_counter() - started < 5
        assert run.report.verdict.state is VerdictState.BROKEN
        assert run.report.verdict.causes[0].stage == "rpc"
        assert_sound(Outcome(run.bundle, run.report, 0))

    def test_a_hundred_silent_hosts_are_waited_for_at_once(self) -> None:
        zone = "".join(f"_vlmcs._tcp 60 IN SRV 0 0 1688 k{n}\nk{n} 60 IN A 10.1.0.{n}\n" for n in range(1, 101))
        scenario = Scenario(
            name="silent",
            title="",
            says="",
            servers=(LabServer("10.1.0.2", {"contoso.example": zone}),),
            hosts=tuple(LabHost(f"10.1.0.{n}", Behaviour.SILENT) for n in range(1, 101)),
            timeout=1.0,
        )

        async def put() -> float:
            async with running(scenario) as lab:
                started = time.perf_counter()
                await api.record(scenario.target(), settings=lab.settings, vantage=Vantage(label="test"))
                return time.perf_counter() - started

        assert asyncio.run(put()) < 15
