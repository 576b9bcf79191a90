"""What the tests share: the option ``--bless``, and a world from which evidence is built in a few words."""

import datetime
import os
from collections.abc import Iterator
from typing import Any, Self

import msgspec
import pytest
from hypothesis import settings

from kmsdiag import diagnosis
from kmsdiag.bundle import BUNDLE_FORMAT, Bundle, make_facts, make_gaps
from kmsdiag.check import domains_and_hosts
from kmsdiag.model.answer import (
    AddressAnswer,
    Answer,
    ClockAnswer,
    Hop,
    Icmp,
    MachineAnswer,
    NsAnswer,
    RpcAnswer,
    SoaAnswer,
    SrvAnswer,
    SrvRecord,
    TcpAnswer,
    TraceAnswer,
)
from kmsdiag.model.capture import CaptureAnswer
from kmsdiag.model.collected import MachineState, StatusAnswer
from kmsdiag.model.events import EventsAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.outcome import ClockOutcome, DnsOutcome, RpcOutcome, TcpOutcome, TraceOutcome
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.request import (
    KMS_INTERFACE,
    AddressQuery,
    Captures,
    ClockQuery,
    ClockSource,
    EventLogs,
    MachineSettings,
    NsQuery,
    Request,
    RpcBind,
    SoaQuery,
    SrvQuery,
    Status,
    TcpConnect,
    TcpTrace,
    Transport,
)
from kmsdiag.model.target import KMS_PORT, SYSTEM, Expected, Family, GivenFile, HostSpec, Selection, StatusFile, Target
from kmsdiag.path import Diagnosis
from kmsdiag.path import diagnose as build_paths
from kmsdiag.registry import Registry, discover

# How long an example takes says something about the machine's other work, not about kmsdiag.
# CI repeats the same examples, so that it fails by the change it tests and not by luck; other runs explore.
settings.register_profile("kmsdiag", deadline=None, print_blob=True, derandomize=os.environ.get("CI") == "true")
settings.load_profile("kmsdiag")

AT = datetime.datetime(2026, 1, 5, 8, tzinfo=datetime.UTC)
"""When every question of a built world was put."""

DOMAIN = "contoso.example"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bless",
        action="store_true",
        help="write what checks say now into the fixtures' expected.json, instead of comparing",
    )


@pytest.fixture
def bless(request: pytest.FixtureRequest) -> bool:
    """Whether expected.json is to be rewritten."""
    return bool(request.config.getoption("--bless"))


@pytest.fixture(scope="session")
def registry() -> Registry:
    """All built-in checks."""
    return discover()


def record(target: str, priority: int = 0, weight: int = 0, port: int = KMS_PORT, ttl: int = 3600) -> SrvRecord:
    """An SRV record; a bare name is one of contoso.example."""
    return SrvRecord(priority, weight, port, _qualified(target), ttl)


def icmp(code: int, sender: str, name: str) -> Icmp:
    """An ICMPv4 "destination unreachable"."""
    return Icmp(3, code, sender, name)


def _qualified(name: str) -> str:
    return name if "." in name or ":" in name else f"{name}.{DOMAIN}"


_DEFAULT = Target(nonce="fixture")


class World:
    """What each question is answered in one world. Methods return the world, so that it reads as one sentence."""

    def __init__(
        self,
        *domains: str,
        hosts: tuple[HostSpec, ...] = (),
        servers: tuple[str, ...] = (SYSTEM,),
        families: tuple[Family, ...] = (Family.IPV4, Family.IPV6),
        tries: int = 1,
        expected: Expected | None = None,
        resolvers: tuple[str, ...] = (),
        suffixes: tuple[str, ...] = (),
        machine: bool = False,
    ) -> None:
        # Only what differs is passed, so that a recording shows only what differs.
        given: dict[str, object] = {
            "domains": domains,
            "hosts": hosts,
            "servers": servers,
            "families": families,
            "tries": tries,
            "resolvers": resolvers,
            "suffixes": suffixes,
            "machine": machine,
        }
        special = {key: value for key, value in given.items() if value != getattr(_DEFAULT, key)}
        if expected is not None:
            special["expected"] = expected
        self.target = msgspec.structs.replace(_DEFAULT, **special)
        self.facts: dict[Request[Any], Answer] = {}
        self.unanswered: dict[Request[Any], str] = {}

    def srv(
        self,
        *records: SrvRecord,
        domain: str = DOMAIN,
        outcome: DnsOutcome | None = None,
        server: str = SYSTEM,
        elapsed_ms: float = 1.5,
        detail: str = "",
        rcode: str = "",
        name: str = "",
        transport: Transport = Transport.UDP,
        recursion: bool = True,
        authoritative: bool | None = None,
        chain: tuple[str, ...] = (),
    ) -> Self:
        """SRV records, or an outcome, of one domain (or another name); without recursion the answer has authority."""
        query = SrvQuery(name=name or f"_vlmcs._tcp.{domain}", server=server, transport=transport, recursion=recursion)
        self.facts[query] = SrvAnswer(
            at=AT,
            elapsed_ms=elapsed_ms,
            outcome=outcome or (DnsOutcome.ANSWERED if records else DnsOutcome.NXDOMAIN),
            server="10.1.0.2" if server == SYSTEM else server,
            detail=detail,
            rcode=rcode,
            records=tuple(sorted(records)),
            authoritative=not recursion if authoritative is None else authoritative,
            chain=chain,
        )
        return self

    def soa(
        self,
        name: str,
        zone: str = DOMAIN,
        serial: int = 1,
        *,
        outcome: DnsOutcome = DnsOutcome.ANSWERED,
        server: str = SYSTEM,
        recursion: bool = True,
        primary: str = "ns1",
        authoritative: bool | None = None,
        chain: tuple[str, ...] = (),
    ) -> Self:
        """The zone of a name; an outcome that is no answer and no absence has none."""
        told = outcome is DnsOutcome.ANSWERED or outcome.is_absence
        self.facts[SoaQuery(name=name, server=server, recursion=recursion)] = SoaAnswer(
            at=AT,
            elapsed_ms=1.5,
            outcome=outcome,
            server="10.1.0.2" if server == SYSTEM else server,
            zone=zone if told else "",
            primary=_qualified(primary) if told and zone else "",
            serial=serial if told and zone else 0,
            authoritative=not recursion if authoritative is None else authoritative,
            chain=chain,
        )
        return self

    def ns(self, zone: str, *names: str, outcome: DnsOutcome | None = None, server: str = SYSTEM) -> Self:
        """The authoritative servers of a zone."""
        self.facts[NsQuery(name=zone, server=server)] = NsAnswer(
            at=AT,
            elapsed_ms=1.5,
            outcome=outcome or (DnsOutcome.ANSWERED if names else DnsOutcome.NODATA),
            server="10.1.0.2" if server == SYSTEM else server,
            names=tuple(sorted(_qualified(name) for name in names)),
        )
        return self

    def clock(
        self,
        address: str,
        offset: float | None,
        source: ClockSource = ClockSource.NTP,
        *,
        error: float = 0.1,
        outcome: ClockOutcome = ClockOutcome.SILENT,
    ) -> Self:
        """What one machine's clock says by one source; without an offset it says nothing, as ``outcome``."""
        told = ClockAnswer(at=AT, outcome=ClockOutcome.ANSWERED, offset_s=offset or 0.0, error_s=error)
        silent = ClockAnswer(at=AT, outcome=outcome)
        self.facts[ClockQuery(address=address, source=source)] = silent if offset is None else told
        return self

    def trace(
        self,
        address: str,
        *hops: str,
        port: int = KMS_PORT,
        outcome: TraceOutcome = TraceOutcome.STOPPED,
    ) -> Self:
        """The way to an address, hop by hop ("" for a silent one)."""
        steps = (Hop(ttl, hop, 0.5 if hop else -1.0) for ttl, hop in enumerate(hops, 1))
        self.facts[TcpTrace(address=address, port=port)] = TraceAnswer(at=AT, outcome=outcome, hops=tuple(steps))
        return self

    def settings(self, **fields: Any) -> Self:
        """What the machine itself is set to."""
        self.facts[MachineSettings()] = MachineAnswer(**{"at": AT, "system": "Linux", **fields})
        return self

    def name(
        self,
        name: str,
        *addresses: str,
        absent: DnsOutcome = DnsOutcome.NODATA,
        server: str = SYSTEM,
        chain: tuple[str, ...] = (),
        families: tuple[Family, ...] | None = None,
    ) -> Self:
        """Addresses of a name; a family without one ends as ``absent``."""
        for family in families or self.target.families:
            own = tuple(sorted(one for one in addresses if (":" in one) == (family is Family.IPV6)))
            self.facts[AddressQuery(name=_qualified(name), family=family, server=server)] = AddressAnswer(
                at=AT,
                elapsed_ms=1.5,
                outcome=DnsOutcome.ANSWERED if own else absent,
                server="10.1.0.2" if server == SYSTEM else server,
                chain=chain,
                addresses=own,
            )
        return self

    def tcp(
        self,
        address: str,
        outcome: TcpOutcome = TcpOutcome.OPEN,
        *,
        port: int = KMS_PORT,
        attempt: int = 1,
        errno: str = "",
        icmp: Icmp | None = None,
        retransmits: int = 0,
    ) -> Self:
        """How one connection to an address ended."""
        self.facts[TcpConnect(address=address, port=port, attempt=attempt)] = TcpAnswer(
            at=AT,
            elapsed_ms=3000.0 if outcome is TcpOutcome.TIMEOUT else 2.5,
            outcome=outcome,
            rtt_ms=0.9 if outcome is TcpOutcome.OPEN else None,
            retransmits=retransmits,
            errno=errno,
            icmp=icmp,
            waited_s=3.0,
        )
        return self

    def rpc(
        self,
        address: str,
        outcome: RpcOutcome = RpcOutcome.ACCEPTED,
        *,
        port: int = KMS_PORT,
        interface: str = KMS_INTERFACE,
        detail: str = "",
        excerpt: str = "",
        reason: int | None = None,
    ) -> Self:
        """How one bind ended."""
        waits = outcome in (RpcOutcome.SILENT, RpcOutcome.INCOMPLETE)
        self.facts[RpcBind(address=address, port=port, interface=interface)] = RpcAnswer(
            at=AT,
            elapsed_ms=3000.0 if waits else 1.2,
            outcome=outcome,
            detail=detail or ("NDR64" if outcome is RpcOutcome.ACCEPTED else ""),
            excerpt=excerpt,
            reason=reason,
        )
        return self

    def captures(self, answer: CaptureAnswer | str, *, selection: Selection | None = None) -> Self:
        """What all captures show together; a text is the reason why that is not known."""
        files = () if isinstance(answer, str) else answer.files
        named = tuple(GivenFile(label=file.label, size=file.size) for file in files) or (GivenFile(label="a.pcap"),)
        self.target = msgspec.structs.replace(self.target, captures=named, selection=selection or Selection())
        question = Captures(files=named, selection=self.target.selection)
        if isinstance(answer, str):
            self.unanswered[question] = answer
        else:
            self.facts[question] = answer
        return self

    def status(
        self, label: str, *machines: MachineState, machine: str = "", folder: str = "", reason: str = ""
    ) -> Self:
        """What one file says about machines; a reason is why that is not known."""
        file = StatusFile(label=label, size=1000, machine=machine, folder=folder)
        files = (*self.target.status, file)
        self.target = msgspec.structs.replace(self.target, status=tuple(sorted(files, key=lambda one: one.label)))
        if reason:
            self.unanswered[Status(file=file)] = reason
        else:
            at = next((one.collected_at for one in machines if one.collected_at is not None), AT)
            self.facts[Status(file=file)] = StatusAnswer(at=at, format="slmgr output", machines=machines)
        return self

    def events(self, answer: EventsAnswer | str, *, selection: Selection | None = None) -> Self:
        """What all event logs show together; a text is the reason why that is not known."""
        files = () if isinstance(answer, str) else answer.files
        named = tuple(GivenFile(label=file.label, size=file.size) for file in files) or (GivenFile(label="a.evtx"),)
        self.target = msgspec.structs.replace(self.target, events=named, selection=selection or self.target.selection)
        question = EventLogs(files=named, selection=self.target.selection)
        if isinstance(answer, str):
            self.unanswered[question] = answer
        else:
            self.facts[question] = answer
        return self

    def gap(self, question: Request[Any], reason: str = "the deadline of 60 s was reached") -> Self:
        """A question that was put and has no answer."""
        self.unanswered[question] = reason
        return self

    def host(self, name: str, address: str, *, port: int = KMS_PORT) -> Self:
        """A name with one address, behind which a KMS host works."""
        return self.name(name, address).tcp(address, port=port).rpc(address, port=port)

    def evidence(self) -> Evidence:
        """What a check or a path sees."""
        return Evidence(self.target, self.facts, self.unanswered)

    def diagnosis(self) -> Diagnosis:
        """Paths, state, faults and impact."""
        return build_paths(self.evidence(), sorted(domains_and_hosts(self.target), key=lambda one: one.order))

    def bundle(self, *checks: str) -> Bundle:
        """The world as a recording."""
        return Bundle(
            kmsdiag_bundle=BUNDLE_FORMAT,
            tool="0.1",
            vantage=Vantage(label="fixture"),
            target=self.target,
            checks=checks,
            started=AT,
            ended=AT + datetime.timedelta(seconds=3),
            facts=make_facts(self.facts),
            unanswered=make_gaps(self.unanswered),
        )

    def report(self, registry: Registry | None = None) -> Report:
        """The whole report, by all built-in checks unless told otherwise."""
        return diagnosis.judge(self.bundle(), registry or discover())


def commands(report: Report) -> Iterator[tuple[str, str]]:
    """Every command of a report, with the machine it is meant for."""
    fixes = [fix for cause in report.verdict.causes for fix in cause.fixes]
    fixes += [fix for result in report.results for finding in result.findings for fix in finding.fixes]
    for fix in fixes:
        if fix.command:
            yield fix.where, fix.command
