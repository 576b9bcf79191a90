"""What each DNS server says about a domain: configured ones and the zone's authoritative ones, side by side.

The check and the matrix of the report read the same views, so *absent* and *could not ask* are told apart once, here.
"""

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from kmsdiag.model.answer import SrvAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.report import Cell, DnsMatrix, ServerRow
from kmsdiag.model.request import AddressQuery, NsQuery, Request, SoaQuery, SrvQuery, Transport
from kmsdiag.model.target import SYSTEM, Subject, join_host_port, split_server

Key = tuple[int, int, int, str]
"""Priority, weight, port and target of a record: all but its TTL, which a resolver counts down."""


class Role(StrEnum):
    """Why a server is asked."""

    CONFIGURED = "configured"
    AUTHORITATIVE = "authoritative"


class ServerView(NamedTuple):
    """One server's word on one domain. ``answer`` is None while it was not asked or gave up on by the run."""

    server: str
    name: str
    role: Role
    query: SrvQuery
    answer: SrvAnswer | None
    tcp: SrvAnswer | None
    serial: int | None

    @property
    def label(self) -> str:
        """The server as a reader would call it."""
        return f"{self.name} ({self.server})" if self.name else self.server

    @property
    def knows(self) -> bool:
        """Whether it gave a usable answer, records or their absence; an authoritative server with authority."""
        if self.answer is None:
            return False
        usable = self.answer.outcome is DnsOutcome.ANSWERED or self.answer.outcome.is_absence
        return usable and (self.role is Role.CONFIGURED or self.answer.authoritative)

    @property
    def records(self) -> frozenset[Key]:
        """The record set; empty where the server says that there is none."""
        if self.answer is None:
            return frozenset()
        return frozenset((one.priority, one.weight, one.port, one.target) for one in self.answer.records)


def first_server(seen: Evidence) -> str:
    """The server that is asked about the zone itself."""
    return seen.target.servers[0]


def configured(seen: Evidence) -> list[str]:
    """The servers that clients are configured with: those given, and the machine's own where ``system`` is asked."""
    servers: list[str] = []
    for server in seen.target.servers:
        servers.extend(seen.target.resolvers if server == SYSTEM else (server,))
    return list(dict.fromkeys(servers))


def zone_of(subject: Subject, seen: Evidence) -> str:
    """Apex of the zone that the domain lies in, or "" while it is not known."""
    answer = seen.get(SoaQuery(name=subject.name, server=first_server(seen)))
    return "" if answer is None else answer.zone


def authoritative(subject: Subject, seen: Evidence) -> Iterator[tuple[str, str]]:
    """Name and address of each authoritative server known so far, one address a family and name."""
    zone = zone_of(subject, seen)
    if not zone:
        return
    names = seen.get(NsQuery(name=zone, server=first_server(seen)))
    for name in () if names is None else names.names:
        for family in seen.target.families:
            answer = seen.get(AddressQuery(name=name, family=family, server=first_server(seen)))
            if answer is not None and answer.addresses:
                yield name, answer.addresses[0]
                break


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """All questions, as far as they are known to be needed."""
    name = f"_vlmcs._tcp.{subject.name}"
    for server in configured(seen):
        yield SrvQuery(name=name, server=server)
    yield SoaQuery(name=subject.name, server=first_server(seen))
    zone = zone_of(subject, seen)
    if not zone:
        return
    yield NsQuery(name=zone, server=first_server(seen))
    names = seen.get(NsQuery(name=zone, server=first_server(seen)))
    for server_name in () if names is None else names.names:
        for family in seen.target.families:
            yield AddressQuery(name=server_name, family=family, server=first_server(seen))
    for _name, address in authoritative(subject, seen):
        yield SrvQuery(name=name, server=address, recursion=False)
        yield SrvQuery(name=name, server=address, recursion=False, transport=Transport.TCP)
        yield SoaQuery(name=zone, server=address, recursion=False)


def views(subject: Subject, seen: Evidence) -> list[ServerView]:
    """Every server's view, authoritative ones first. A server that is both is asked as the former."""
    name = f"_vlmcs._tcp.{subject.name}"
    zone = zone_of(subject, seen)
    found: list[ServerView] = []
    addresses = set()
    for server_name, address in authoritative(subject, seen):
        query = SrvQuery(name=name, server=address, recursion=False)
        over_tcp = SrvQuery(name=name, server=address, recursion=False, transport=Transport.TCP)
        soa = seen.get(SoaQuery(name=zone, server=address, recursion=False))
        serial = soa.serial if soa is not None and soa.outcome is DnsOutcome.ANSWERED and soa.authoritative else None
        found.append(
            ServerView(address, server_name, Role.AUTHORITATIVE, query, seen.get(query), seen.get(over_tcp), serial)
        )
        addresses.add(address)
    for server in configured(seen):
        if split_server(server) not in {(address, 53) for address in addresses}:
            query = SrvQuery(name=name, server=server)
            found.append(ServerView(server, "", Role.CONFIGURED, query, seen.get(query), None, None))
    return found


def newest_serial(all_views: list[ServerView]) -> int | None:
    """The newest serial among the authoritative servers (RFC 1982 arithmetic), or None."""
    newest: int | None = None
    for view in all_views:
        if view.serial is not None and (newest is None or is_newer(view.serial, newest)):
            newest = view.serial
    return newest


def is_newer(one: int, other: int) -> bool:
    """Whether a zone's serial number is newer than another (RFC 1982: they wrap around)."""
    return one != other and (one - other) % 2**32 < 2**31


def matrix(subject: Subject, seen: Evidence) -> DnsMatrix | None:
    """All servers against all records that any of them names; None where those asked all say the same."""
    every = views(subject, seen)
    if len(every) < 2 or len({(view.knows, view.records) for view in every}) == 1:
        return None
    hosts = sorted({(target, port) for view in every for _p, _w, port, target in view.records})
    best = reference(every) or frozenset()
    wanted = {(target, port): (priority, weight) for priority, weight, port, target in best}
    rows = []
    for view in every:
        own = {(target, port): (priority, weight) for priority, weight, port, target in view.records}
        cells = []
        for host in hosts:
            if not view.knows:
                cells.append(Cell.NOT_KNOWN)
            elif host not in own:
                cells.append(Cell.ABSENT)
            else:
                other = host in wanted and own[host] != wanted[host]
                cells.append(Cell.OTHER_RANK if other else Cell.PRESENT)
        note = "" if view.knows else "not asked" if view.answer is None else view.answer.outcome.words
        rows.append(
            ServerRow(server=view.label, role=view.role.value, cells=tuple(cells), serial=view.serial, note=note)
        )
    return DnsMatrix(
        domain=subject.name, records=tuple(join_host_port(target, port) for target, port in hosts), rows=tuple(rows)
    )


def reference(all_views: list[ServerView]) -> frozenset[Key] | None:
    """The record set that the others are held against.

    That of the newest authoritative copy; without one, the set that most servers give. None where no server knows.
    """
    newest = newest_serial(all_views)
    for view in all_views:
        if view.knows and view.serial is not None and view.serial == newest:
            return view.records
    known = [view.records for view in all_views if view.knows]
    if not known:
        return None
    return max(Counter(known).items(), key=lambda item: (item[1], sorted(item[0])))[0]
