"""From a domain or an explicit host to the addresses to knock at: which questions lead there, and what is known.

Checks and activation paths share this one description of what a client does, so they can't disagree about it.
"""

import functools
import uuid
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from kmsdiag.model.answer import AddressAnswer, SrvAnswer, SrvRecord
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.request import AddressQuery, MachineSettings, Request, SrvQuery, TcpConnect
from kmsdiag.model.target import KMS_PORT, SYSTEM, Family, Subject, SubjectKind, as_address, split_server

ROOT = "."
"""SRV target that says: the service is decidedly not offered here (RFC 2782)."""


DNS_PORT = 53


class Service(NamedTuple):
    """One target and port that a subject's clients may be sent to, with the SRV records that name it.

    ``servers`` are the DNS servers that said so (empty for an explicit host).
    """

    target: str
    port: int
    records: tuple[SrvRecord, ...]
    servers: tuple[str, ...]


class Endpoint(NamedTuple):
    """One address and port of a service."""

    service: Service
    address: str

    @property
    def family(self) -> Family:
        """Family of the address."""
        return family_of(self.address)


literal: Final = functools.lru_cache(maxsize=8192)(as_address)
"""The address that a target is, or None for a name; kept, because every stage of every path asks again."""


def family_of(address: str) -> Family:
    """Family of a textual address."""
    return Family.IPV6 if ":" in address else Family.IPV4


def srv_queries(subject: Subject, seen: Evidence) -> Iterator[SrvQuery]:
    """The SRV question of a domain, for each DNS server; none for a host."""
    if subject.kind is SubjectKind.DOMAIN:
        for server in seen.target.servers:
            yield SrvQuery(name=f"_vlmcs._tcp.{subject.name}", server=server)


def srv_answers(subject: Subject, seen: Evidence) -> Iterator[tuple[SrvQuery, SrvAnswer]]:
    """SRV answers known so far."""
    for query in srv_queries(subject, seen):
        answer = seen.get(query)
        if answer is not None:
            yield query, answer


def services(subject: Subject, seen: Evidence) -> list[Service]:
    """Targets known so far, sorted; the same target and port from several records or servers is one service."""
    if subject.kind is SubjectKind.HOST:
        return [Service(subject.name, subject.port, (), ())]
    found: dict[tuple[str, int], tuple[list[SrvRecord], list[str]]] = {}
    for query, answer in srv_answers(subject, seen):
        for record in answer.records:
            records, servers = found.setdefault((record.target, record.port), ([], []))
            if query.server not in servers:
                servers.append(query.server)
            if len(seen.target.servers) == 1 or record not in records:
                records.append(record)
    return [
        Service(target, port, tuple(sorted(records)), tuple(servers))
        for (target, port), (records, servers) in sorted(found.items())
    ]


def address_queries(service: Service, seen: Evidence) -> Iterator[AddressQuery]:
    """The address questions of a target; none for a literal or the root."""
    if service.target == ROOT or literal(service.target) is not None:
        return
    for server in service.servers or seen.target.servers:
        for family in seen.target.families:
            yield AddressQuery(name=service.target, family=family, server=server)


def address_answers(service: Service, seen: Evidence) -> Iterator[tuple[AddressQuery, AddressAnswer]]:
    """Address answers known so far."""
    for query in address_queries(service, seen):
        answer = seen.get(query)
        if answer is not None:
            yield query, answer


def addresses(service: Service, seen: Evidence) -> list[str]:
    """Addresses of a service known so far: IPv4 first, each once."""
    address = literal(service.target)
    if address is not None:
        return [address] if family_of(address) in seen.target.families else []
    found = {address for _query, answer in address_answers(service, seen) for address in answer.addresses}
    return sorted(found, key=lambda address: (":" in address, address))


def endpoints(subject: Subject, seen: Evidence) -> list[Endpoint]:
    """All addresses and ports of a subject known so far."""
    return [Endpoint(service, address) for service in services(subject, seen) for address in addresses(service, seen)]


def reasons(endpoint_or_service: Endpoint | Service, subject: Subject, seen: Evidence) -> tuple[Request[Any], ...]:
    """The questions that led to an endpoint or service."""
    service = endpoint_or_service.service if isinstance(endpoint_or_service, Endpoint) else endpoint_or_service
    srv = tuple(query for query in srv_queries(subject, seen) if query.server in service.servers)
    if isinstance(endpoint_or_service, Service):
        return srv
    named = tuple(
        query for query, answer in address_answers(service, seen) if endpoint_or_service.address in answer.addresses
    )
    return srv + named


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """All questions of discovery for one subject, as far as they are known to be needed."""
    yield from srv_queries(subject, seen)
    for service in services(subject, seen):
        yield from address_queries(service, seen)


def connects(address: str, port: int, seen: Evidence) -> list[TcpConnect]:
    """The connection attempts that one address and port gets in this run."""
    return [TcpConnect(address=address, port=port, attempt=number + 1) for number in range(seen.target.tries)]


def overridden(seen: Evidence) -> list[Subject]:
    """Hosts that are set by hand on this machine: where one is, DNS is not asked at all."""
    answer = seen.get(MachineSettings()) if seen.target.machine else None
    if answer is None or answer.kms is None:
        return []
    subjects = (
        override_host(one.host, one.port, answer.primary_suffix)
        for one in answer.kms.overrides
        if one.host and one.view == "64"
    )
    return list(dict.fromkeys(subjects))


def override_host(host: str, port: int, primary_suffix: str) -> Subject:
    """The host as it is probed; to a bare name Windows appends the primary suffix."""
    name = host.removeprefix("[").removesuffix("]")
    address = literal(name)
    if address is None:
        name = name.removesuffix(".")
        if "." not in name and primary_suffix:
            name = f"{name}.{primary_suffix}"
    return Subject(SubjectKind.HOST, address or name, port or KMS_PORT)


def random_label(seen: Evidence) -> str:
    """A label that nobody made: derived from the run's nonce, so that a replay asks for the same one."""
    return f"x{uuid.uuid5(uuid.NAMESPACE_OID, f'label {seen.target.nonce}').hex[:16]}"


def random_srvs(subject: Subject, seen: Evidence) -> tuple[SrvQuery, SrvQuery]:
    """The SRV questions for names that nobody made: beside the KMS record, and in the domain itself.

    A wildcard in the domain does not reach below _tcp where that exists (RFC 4592 section 2.2.2).
    """
    label, server = f"_{random_label(seen)}", seen.target.servers[0]
    return (
        SrvQuery(name=f"{label}._tcp.{subject.name}", server=server),
        SrvQuery(name=f"{label}.{subject.name}", server=server),
    )


def at(server: str) -> str:
    """A DNS server as dig takes it; "" for the machine's own."""
    if server == SYSTEM:
        return ""
    address, port = split_server(server)
    return f"@{address}" + (f" -p {port}" if port != DNS_PORT else "")
