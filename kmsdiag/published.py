"""What DNS says about KMS hosts, from all that tells: live answers, captures, and lookups in collected files."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kmsdiag import captured, discovery
from kmsdiag.collected import Machine
from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.request import Request
from kmsdiag.model.target import Subject, SubjectKind, as_address, join_host_port

_PREFIX = "_vlmcs._tcp."


class Zone:
    """What is known about one domain's KMS records.

    ``records`` are the ones that anybody was given; ``absent`` is true where somebody was told that there is none.
    ``because`` are the questions that tell so.
    """

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self.records: dict[tuple[str, int], SrvRecord] = {}
        self.absent = False
        self.because: dict[Request[Any], None] = {}

    def hosts(self) -> tuple[str, ...]:
        """Published hosts with their ports, sorted."""
        return tuple(join_host_port(target, port) for target, port in sorted(self.records))

    def ports(self, targets: Iterable[str]) -> list[int]:
        """Ports at which one of these targets is published."""
        names = set(targets)
        return sorted({port for target, port in self.records if target in names})


class Published:
    """All domains of a run with their records, and addresses of names."""

    def __init__(self) -> None:
        self.zones: dict[str, Zone] = {}
        self.addresses: dict[str, set[str]] = {}

    def zone(self, domain: str) -> Zone:
        """What is known about a domain, made where nothing was."""
        return self.zones.setdefault(domain, Zone(domain))

    @property
    def because(self) -> tuple[Request[Any], ...]:
        """All questions that told something."""
        return tuple(dict.fromkeys(request for _domain, zone in sorted(self.zones.items()) for request in zone.because))

    def with_records(self) -> list[Zone]:
        """Domains in which a host is published, sorted."""
        return [zone for _domain, zone in sorted(self.zones.items()) if zone.records]

    def names(self, host: str) -> set[str]:
        """All that a host is called, as far as it is known: its name or address, names with its addresses, and those.

        A bare name is that of each published host that begins with it.
        """
        name = host.strip("[]").lower().removesuffix(".")
        name = as_address(name) or name
        own = {name, *self.addresses.get(name, ())}
        if "." not in name and ":" not in name:
            own |= {target for target in self._targets() if target.partition(".")[0] == name}
        addresses = own | {address for one in own for address in self.addresses.get(one, ())}
        return addresses | {other for other, known in self.addresses.items() if known & addresses}

    def publishes(self, host: str) -> bool:
        """Whether any record names this host, by any of its names."""
        return not self._targets().isdisjoint(self.names(host))

    def _targets(self) -> set[str]:
        return {target for zone in self.zones.values() for target, _port in zone.records}

    def resolved(self) -> bool:
        """Whether the addresses of all published hosts are known."""
        return all(as_address(target) or self.addresses.get(target) for target in self._targets())


def ask(seen: Evidence) -> Iterator[Request[Any]]:
    """What DNS is asked about the run's domains, and its captures."""
    for domain in _domains(seen):
        yield from discovery.ask(domain, seen)
    if seen.target.captures:
        yield captured.request(seen.target)


def known(seen: Evidence, machines: Sequence[Machine]) -> Published:
    """All that is known so far; a question without an answer adds nothing."""
    found = Published()
    for domain in _domains(seen):
        _from_live(found, domain, seen)
    if seen.target.captures:
        _from_captures(found, seen)
    for machine in machines:
        _from_lookups(found, machine)
    return found


def _domains(seen: Evidence) -> list[Subject]:
    return [Subject(SubjectKind.DOMAIN, name) for name in seen.target.domains]


def _add(zone: Zone, records: Iterable[SrvRecord], outcome: DnsOutcome, because: Iterable[Request[Any]]) -> None:
    listed = [record for record in records if record.target != discovery.ROOT]
    for record in listed:
        zone.records.setdefault((record.target, record.port), record)
    zone.absent |= outcome.is_absence
    if listed or outcome.is_absence:
        zone.because.update(dict.fromkeys(because))


def _from_live(found: Published, domain: Subject, seen: Evidence) -> None:
    for query, answer in discovery.srv_answers(domain, seen):
        _add(found.zone(domain.name), answer.records, answer.outcome, (query,))
    for service in discovery.services(domain, seen):
        for address in discovery.addresses(service, seen):
            found.addresses.setdefault(service.target, set()).add(address)


def _from_captures(found: Published, seen: Evidence) -> None:
    request = captured.request(seen.target)
    answer = seen.get(request)
    if answer is None:
        return
    for lookup in captured.srv_lookups(answer):
        zone = found.zone(captured.domain_of(lookup))
        _add(zone, lookup.records, captured.worst_of(lookup), (request,))
    people = captured.people_of(answer)
    for zone in found.zones.values():
        for target, _port in zone.records:
            found.addresses.setdefault(target, set()).update(people.addresses_of(target))


def _from_lookups(found: Published, machine: Machine) -> None:
    for part in machine.parts:
        network = part.state.network
        for lookup in network.lookups if network is not None else ():
            name = lookup.name.lower().removesuffix(".")
            if lookup.kind == "SRV" and name.startswith(_PREFIX):
                _add(found.zone(name.removeprefix(_PREFIX)), lookup.records, lookup.outcome, (part.question,))
            elif lookup.addresses:
                found.addresses.setdefault(name, set()).update(lookup.addresses)
