"""What each DNS server says about a domain: configured ones and the zone's authoritative ones, side by side.

The check and the matrix of the report read the same views, so *absent* and *could not ask* are told apart once, here.
"""

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

from kmsdiag.model.answer import SrvAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.report import Cell, DnsMatrix, ServerRow
from kmsdiag.model.request import AddressQuery, NsQuery, Request, SoaQuery, SrvQuery, Transport
from kmsdiag.model.target import SYSTEM, Subject, join_host_port, split_server

Key = tuple[int, int, int, str]
"""Priority, weight, port and target of a record: all but its TTL, which a resolver counts down."""

MAX_NAME_SERVERS: Final = 20
"""Name servers of a zone that are asked, the first by name.

In a large Active Directory each domain controller is one, and each costs four questions or more. A resolver does not
look at all of them either: BIND takes 20 of a delegation (NS_PROCESSING_LIMIT, since CVE-2022-2795).
"""


class Role(StrEnum):
    """Why a server is asked."""

    CONFIGURED = "configured"
    AUTHORITATIVE = "authoritative"


class ServerView(NamedTuple):
    """One server's word on one domain. ``answer`` is None where it was not asked, or the run gave up on it.

    ``serial`` and ``primary`` are those of the server's own copy of the zone; None and "" where it told none.
    """

    server: str
    name: str
    role: Role
    query: SrvQuery
    answer: SrvAnswer | None
    tcp: SrvAnswer | None
    serial: int | None
    primary: str = ""

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


class Zone(NamedTuple):
    """The zone that holds the KMS record, as far as it is known: its apex, and the server that knew it.

    ``name`` is "" while, or where, no server tells it. ``asked`` are the questions that decide it, in order; while one
    of them is open, another zone may still turn out to be the one.
    """

    name: str
    server: str
    asked: tuple[SoaQuery, ...]


class NameServer(NamedTuple):
    """A name of the zone's NS records, the questions for its address, and the address; "" while none is known."""

    name: str
    queries: tuple[AddressQuery, ...]
    address: str


def configured(seen: Evidence) -> list[str]:
    """The servers that clients are configured with: those given, and the machine's own where ``system`` is asked."""
    servers: list[str] = []
    for server in seen.target.servers:
        servers.extend(seen.target.resolvers or (SYSTEM,) if server == SYSTEM else (server,))
    return list(dict.fromkeys(servers))


def is_configured(server: str, seen: Evidence) -> bool:
    """Whether clients ask this server, whatever else it is."""
    return split_server(server) in {split_server(one) for one in configured(seen)}


def zone_of(subject: Subject, seen: Evidence) -> Zone:
    """The zone that the first server tells, in the order in which they are configured.

    The record's own name comes first, because _tcp of a domain may be a zone of its own. A server that has said nothing
    yet keeps nobody waiting: meanwhile the next one's word is taken, so that its silence and that of a name server pass
    at the same time. One that said something is heard out: what is asked in the end must not depend on who was faster.
    """
    record = f"_vlmcs._tcp.{subject.name}"
    asked: list[SoaQuery] = []
    for server in configured(seen):
        for name in (record, subject.name):
            asked.append(SoaQuery(name=name, server=server))
            answer = seen.get(asked[-1])
            if answer is None and name == record:
                break
            # Behind an alias the zone is that of another name, whose servers know nothing of this one.
            if answer is None or answer.chain:
                return Zone("", "", tuple(asked))
            if _holds(answer.zone, record) and ("." in answer.zone or answer.zone == subject.name):
                return Zone(answer.zone, server, tuple(asked))
            if answer.outcome is not DnsOutcome.ANSWERED and not answer.outcome.is_absence:
                break
    return Zone("", "", tuple(asked))


def _holds(zone: str, name: str) -> bool:
    """Whether a name is in a zone or below; the root and top-level zones are nobody's to compare."""
    return bool(zone) and f".{name}".endswith(f".{zone}")


def _address_queries(name: str, zone: Zone, seen: Evidence) -> Iterator[AddressQuery]:
    """The address questions for one name server that matter: up to the first family that has one.

    Silence ends them too: it is the resolver that waits for the name's own servers, and would for the other family.
    """
    for family in seen.target.families:
        query = AddressQuery(name=name, family=family, server=zone.server)
        yield query
        answer = seen.get(query)
        if answer is None or answer.addresses or answer.outcome is DnsOutcome.TIMEOUT:
            return


def _published(zone: Zone, seen: Evidence) -> tuple[str, ...]:
    """All names of the zone's NS records, sorted; none while they are not known."""
    names = seen.get(NsQuery(name=zone.name, server=zone.server)) if zone.name else None
    return () if names is None else names.names


def left_out(subject: Subject, seen: Evidence) -> int:
    """How many of the zone's name servers are beyond the limit, and not asked."""
    return max(0, len(_published(zone_of(subject, seen), seen)) - MAX_NAME_SERVERS)


def name_servers(subject: Subject, seen: Evidence) -> Iterator[NameServer]:
    """The zone's name servers that are asked, known so far."""
    zone = zone_of(subject, seen)
    for name in _published(zone, seen)[:MAX_NAME_SERVERS]:
        queries = tuple(_address_queries(name, zone, seen))
        answers = [answer for query in queries if (answer := seen.get(query)) is not None]
        yield NameServer(name, queries, next((answer.addresses[0] for answer in answers if answer.addresses), ""))


def authoritative(subject: Subject, seen: Evidence) -> Iterator[tuple[str, str]]:
    """Name and address of each authoritative server known so far: one address a name, and each address once."""
    addresses: set[str] = set()
    for server in name_servers(subject, seen):
        if server.address and server.address not in addresses:
            addresses.add(server.address)
            yield server.name, server.address


def basis(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """The questions that decide which copy the others are held against; with one open, none can be blamed."""
    zone = zone_of(subject, seen)
    yield from zone.asked
    if zone.name:
        yield NsQuery(name=zone.name, server=zone.server)
        for server in name_servers(subject, seen):
            yield from server.queries
        for _name, address in authoritative(subject, seen):
            yield SrvQuery(name=f"_vlmcs._tcp.{subject.name}", server=address, recursion=False)
            yield SoaQuery(name=zone.name, server=address, recursion=False)
    if not any(view.knows and view.role is Role.AUTHORITATIVE for view in views(subject, seen)):
        yield from (view.query for view in views(subject, seen) if view.role is Role.CONFIGURED)


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """All questions, as far as they are known to be needed. Each server is asked for the zone: one may be silent."""
    name = f"_vlmcs._tcp.{subject.name}"
    for server in configured(seen):
        yield SrvQuery(name=name, server=server)
    for server in configured(seen):
        yield SoaQuery(name=name, server=server)
    yield from _configured_over_tcp(subject, seen)
    yield from basis(subject, seen)
    for _name, address in authoritative(subject, seen):
        yield over_tcp(subject, address, seen)


def _configured_over_tcp(subject: Subject, seen: Evidence) -> Iterator[SrvQuery]:
    """The same of each configured server that told it over UDP; for one domain, because it is about the server."""
    if subject.name != seen.target.domains[0]:
        return
    name = f"_vlmcs._tcp.{subject.name}"
    for server in configured(seen):
        answer = seen.get(SrvQuery(name=name, server=server))
        told = answer is not None and (answer.outcome is DnsOutcome.ANSWERED or answer.outcome.is_absence)
        if told and server != SYSTEM:
            yield SrvQuery(name=name, server=server, transport=Transport.TCP)


def over_tcp(subject: Subject, server: str, seen: Evidence) -> SrvQuery:
    """The question over TCP of one server; one that is configured and authoritative is asked as the former."""
    name = f"_vlmcs._tcp.{subject.name}"
    for own in configured(seen):
        if own != SYSTEM and split_server(own) == split_server(server):
            return SrvQuery(name=name, server=own, transport=Transport.TCP)
    return SrvQuery(name=name, server=server, recursion=False, transport=Transport.TCP)


def views(subject: Subject, seen: Evidence) -> list[ServerView]:
    """Every server's view, authoritative ones first. One that is both has one view, as the former."""
    name = f"_vlmcs._tcp.{subject.name}"
    zone = zone_of(subject, seen)
    found: list[ServerView] = []
    addresses = set()
    for server_name, address in authoritative(subject, seen):
        query = SrvQuery(name=name, server=address, recursion=False)
        soa = seen.get(SoaQuery(name=zone.name, server=address, recursion=False))
        own = soa if soa is not None and soa.outcome is DnsOutcome.ANSWERED and soa.authoritative else None
        found.append(
            ServerView(
                address,
                server_name,
                Role.AUTHORITATIVE,
                query,
                seen.get(query),
                seen.get(over_tcp(subject, address, seen)),
                None if own is None else own.serial,
                "" if own is None else own.primary,
            )
        )
        addresses.add(address)
    asked_over_tcp = set(_configured_over_tcp(subject, seen))
    for server in configured(seen):
        if split_server(server) not in {(address, 53) for address in addresses}:
            query = SrvQuery(name=name, server=server)
            again = over_tcp(subject, server, seen)
            tcp = seen.get(again) if again in asked_over_tcp else None
            found.append(ServerView(server, "", Role.CONFIGURED, query, seen.get(query), tcp, None))
    return found


def newest_serial(all_views: list[ServerView]) -> int | None:
    """The newest serial among the authoritative servers (RFC 1982 arithmetic), or None where they can't be compared.

    They can't where one that knows the domain tells none, and where each server names itself as the primary: domain
    controllers that replicate the zone through Active Directory count their own serials.
    """
    own = [view for view in all_views if view.role is Role.AUTHORITATIVE]
    if any(view.knows and view.serial is None for view in own):
        return None
    if len({view.primary for view in own if view.serial is not None}) > 1:
        return None
    newest: int | None = None
    for view in own:
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
    best = reference(every)
    # Without a copy to hold the others against, a rank that is not the same everywhere is another one everywhere.
    wanted = _ranks(best) if best is not None else {host: _same_ranks(host, every) for host in hosts}
    rows = []
    for view in every:
        own = _ranks(view.records)
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


def _ranks(records: frozenset[Key]) -> dict[tuple[str, int], frozenset[tuple[int, int]]]:
    """Priorities and weights by target and port."""
    found: dict[tuple[str, int], frozenset[tuple[int, int]]] = {}
    for priority, weight, port, target in records:
        found[target, port] = found.get((target, port), frozenset()) | {(priority, weight)}
    return found


def _same_ranks(host: tuple[str, int], all_views: list[ServerView]) -> frozenset[tuple[int, int]]:
    """The ranks of a host that all servers which have it agree on; empty where they do not."""
    given = {ranks for view in all_views if (ranks := _ranks(view.records).get(host)) is not None}
    return next(iter(given)) if len(given) == 1 else frozenset()


def reference(all_views: list[ServerView]) -> frozenset[Key] | None:
    """The record set that the others are held against.

    That of the newest authoritative copy. Where serials can't be compared, the set that most authoritative servers
    give; where none of those knows, most servers. None where there is no such set: no server knows, two sets are level,
    or the newest copy could not be read.
    """
    known = [view for view in all_views if view.knows]
    own = [view for view in known if view.role is Role.AUTHORITATIVE]
    newest = newest_serial(all_views)
    if newest is not None:
        known = [view for view in own if view.serial == newest]
    elif own:
        known = own
    ranked = Counter(view.records for view in known).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]
