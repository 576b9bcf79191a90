"""The commands that would bring reality to the expected state, and those that take them back. They are only printed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from kmsdiag import agreement, discovery, plan
from kmsdiag.audit import View, is_from
from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.audit import Change, Step
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Scalar
from kmsdiag.model.fix import Where
from kmsdiag.model.outcome import Stage, TcpOutcome
from kmsdiag.model.path import Path
from kmsdiag.model.target import Expected, ExpectedHost, Network, Subject, SubjectKind, as_address
from kmsdiag.report.words import fill_command

T = TypeVar("T")

TTL: Final = 3600
"""TTL in seconds of a record that is added; one that is replaced keeps its own."""

_ZONE_FILE: Final = "in the zone file"
_FIREWALL: Final = "on a Linux firewall between them (sh)"
_BLOCKED: Final = (TcpOutcome.TIMEOUT, TcpOutcome.UNREACHABLE, TcpOutcome.RESET)

_ADD_SRV = (
    "Add-DnsServerResourceRecord -Srv -ZoneName {zone} -Name {owner} -DomainName {target} -Priority {priority}"
    " -Weight {weight} -Port {port} -TimeToLive {span:quoted}"
)
_REMOVE_SRV = (
    "Remove-DnsServerResourceRecord -ZoneName {zone} -Name {owner} -RRType Srv"
    " -RecordData {priority},{weight},{port},{target:quoted}"
)
_ADD_A = (
    "Add-DnsServerResourceRecordA -ZoneName {zone} -Name {owner} -IPv4Address {address:quoted}"
    " -TimeToLive {span:quoted}"
)
_ADD_AAAA = (
    "Add-DnsServerResourceRecordAAAA -ZoneName {zone} -Name {owner} -IPv6Address {address:quoted}"
    " -TimeToLive {span:quoted}"
)
_REMOVE_ADDRESS = (
    "Remove-DnsServerResourceRecord -ZoneName {zone} -Name {owner} -RRType {type} -RecordData {address:quoted}"
)
_ALLOW = (
    "New-NetFirewallRule -DisplayName {rule} -Direction Inbound -Protocol TCP -LocalPort {port}"
    " -RemoteAddress {networks} -Action Allow"
)
_FORBID = "Remove-NetFirewallRule -DisplayName {rule}"
_ALLOW_ALL = "Enable-NetFirewallRule -DisplayGroup 'Key Management Service'"
_FORBID_ALL = "Disable-NetFirewallRule -DisplayGroup 'Key Management Service'"
_FORWARD = "{tool} -I FORWARD -p tcp -s {network} -d {address} --dport {port} -j ACCEPT"
_FORWARD_BACK = "{tool} -D FORWARD -p tcp -s {network} -d {address} --dport {port} -j ACCEPT"


def compile_changes(seen: Evidence, views: Sequence[View]) -> tuple[Change, ...]:
    """Changes of records by domain, then of firewalls; empty where nothing is known to differ.

    A domain or host about which DNS could not be asked is left as it is. ``views`` are this run and others.
    """
    found: list[Change] = []
    for name in seen.target.domains:
        found += _records(Subject(SubjectKind.DOMAIN, name), seen)
    found += _addresses(seen)
    found += _firewalls(seen.target.expected, views)
    return tuple(found)


# ------------------------------------------------------------------------------------------------ records


def _records(subject: Subject, seen: Evidence) -> Iterator[Change]:
    hosts = [host for host in seen.target.expected.hosts if subject.name in host.domains]
    answers = [answer for _query, answer in discovery.srv_answers(subject, seen)]
    settled = answers and all(answer.records or answer.outcome.is_absence for answer in answers)
    if not hosts or not settled:
        return
    zone = agreement.zone_of(subject, seen).name or subject.name
    there: set[str] = set()
    for service in discovery.services(subject, seen):
        same = [host for host in plan.same_host(service, seen) if host in hosts]
        there |= {host.host for host in same}
        for record in sorted(set(service.records)):
            wanted = _wanted(record, same)
            if wanted is None:
                yield _change(f"{service.target} is not to be published in {subject.name}", subject, zone, record, None)
            elif wanted != record:
                yield _change(
                    f"{service.target} is to have another record in {subject.name}", subject, zone, record, wanted
                )
    for host in hosts:
        if host.host not in there and as_address(host.host) is None:
            wanted = SrvRecord(host.priority or 0, host.weight or 0, host.port, host.host, TTL)
            yield _change(f"{host.host} is to be published in {subject.name}", subject, zone, None, wanted)


def _wanted(record: SrvRecord, same: Sequence[ExpectedHost]) -> SrvRecord | None:
    """The record as it should be: the same where it fits; None where none is expected."""
    if not same:
        return None
    host = next((one for one in same if one.port == record.port), same[0])
    return SrvRecord(
        record.priority if host.priority is None else host.priority,
        record.weight if host.weight is None else host.weight,
        host.port,
        record.target,
        record.ttl,
    )


def _change(what: str, subject: Subject, zone: str, old: SrvRecord | None, new: SrvRecord | None) -> Change:
    name = f"_vlmcs._tcp.{subject.name}"

    def line(sign: str) -> Callable[[SrvRecord], str]:
        return lambda one: f"{sign} {name}. {one.ttl} IN SRV {one.priority} {one.weight} {one.port} {one.target}."

    def command(template: str) -> Callable[[SrvRecord], str]:
        return lambda one: _powershell(template, name, zone, span=_span(one.ttl), **msgspec.structs.asdict(one))

    return Change(
        what=what,
        steps=(
            _step(_ZONE_FILE, old, new, line("+"), line("-")),
            _step(Where.DNS_SERVER.words, old, new, command(_ADD_SRV), command(_REMOVE_SRV)),
        ),
    )


def _step(where: str, old: T | None, new: T | None, add: Callable[[T], str], remove: Callable[[T], str]) -> Step:
    """The way from one record to another and back: what is new is there before what is old goes."""
    return Step(
        where=where,
        do=(*([add(new)] if new is not None else []), *([remove(old)] if old is not None else [])),
        undo=(*([add(old)] if old is not None else []), *([remove(new)] if new is not None else [])),
    )


def _powershell(template: str, name: str, zone: str, **values: Scalar) -> str:
    owner = "@" if name == zone else name.removesuffix(f".{zone}")
    return fill_command(template, {"zone": zone, "owner": owner, **values}, "powershell")


def _span(seconds: int) -> str:
    """Seconds as PowerShell reads a span of time: [days.]hours:minutes:seconds."""
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}.{clock}" if days else clock


# ---------------------------------------------------------------------------------------------- addresses


def _addresses(seen: Evidence) -> Iterator[Change]:
    """Addresses of published hosts that are laid down in the plan and others in DNS."""
    done: set[str] = set()
    for name in seen.target.domains:
        for service in discovery.services(Subject(SubjectKind.DOMAIN, name), seen):
            wanted = {
                address
                for host in seen.target.expected.hosts
                if host.host == service.target
                for address in host.addresses
                if discovery.family_of(address) in seen.target.families
            }
            answers = [seen.get(query) for query in discovery.address_queries(service, seen)]
            settled = all(one is not None and (one.addresses or one.outcome.is_absence) for one in answers)
            if wanted and settled and service.target not in done:
                done.add(service.target)
                found = set(discovery.addresses(service, seen))
                for address in sorted(wanted - found):
                    yield _address_change(service.target, None, address)
                for address in sorted(found - wanted):
                    yield _address_change(service.target, address, None)


def _address_change(name: str, old: str | None, new: str | None) -> Change:
    owner, _, zone = name.partition(".")

    def line(sign: str) -> Callable[[str], str]:
        return lambda address: f"{sign} {owner}.{zone}. {TTL} IN {_type(address)} {address}"

    def add(address: str) -> str:
        template = _ADD_AAAA if ":" in address else _ADD_A
        return _powershell(template, name, zone, address=address, span=_span(TTL))

    def remove(address: str) -> str:
        return _powershell(_REMOVE_ADDRESS, name, zone, address=address, type=_type(address))

    return Change(
        what=f"{name} is to have the address {new}" if new is not None else f"{name} is not to have the address {old}",
        steps=(
            _step(_ZONE_FILE, old, new, line("+"), line("-")),
            _step(Where.DNS_SERVER.words, old, new, add, remove),
        ),
    )


def _type(address: str) -> str:
    return "AAAA" if ":" in address else "A"


# ---------------------------------------------------------------------------------------------- firewalls


class _Door(NamedTuple):
    """A port of an expected host that no TCP connection gets through to."""

    host: str
    address: str
    port: int


def _firewalls(expected: Expected, views: Sequence[View]) -> Iterator[Change]:
    shut: dict[_Door, dict[Network, None]] = {}
    for view in views:
        networks = [network for network in expected.networks if is_from(network, view.vantage)]
        for path, door in _shut_doors(view, expected):
            domains = {site.name: site.domain for site in expected.sites}
            found = [network for network in networks if domains[network.site] == path.domain]
            shut.setdefault(door, {}).update(dict.fromkeys(found))
    for door, needed in sorted(shut.items()):
        yield _opening(door, sorted({network.address for network in needed}))


def _shut_doors(view: View, expected: Expected) -> Iterator[tuple[Path, _Door]]:
    """Silence, an ICMP error or a reset may be a firewall's; a refusal is the host's own."""
    for path in view.paths:
        for route in path.routes:
            known = any(host.host in (path.target, route.address) for host in expected.hosts)
            if known and any(stage.stage is Stage.TCP and stage.outcome in _BLOCKED for stage in route.stages):
                yield path, _Door(path.target, route.address, path.port)


def _opening(door: _Door, networks: Sequence[str]) -> Change:
    fitting = [network for network in networks if (":" in network) == (":" in door.address)]
    rule: dict[str, Scalar] = {"rule": f"KMS {door.port} (kmsdiag)", "port": door.port}
    if fitting:
        names = {f"network{number}": network for number, network in enumerate(fitting)}
        allow = _ALLOW.replace("{networks}", ",".join(f"{{{name}}}" for name in names))
        steps = [_typed(Where.KMS_HOST.words, "powershell", allow, _FORBID, {**rule, **names})]
    else:
        steps = [_typed(Where.KMS_HOST.words, "powershell", _ALLOW_ALL, _FORBID_ALL, {})]
    tool = "ip6tables" if ":" in door.address else "iptables"
    for network in fitting:
        values: dict[str, Scalar] = {"tool": tool, "network": network, "address": door.address, "port": door.port}
        steps.append(_typed(_FIREWALL, "sh", _FORWARD, _FORWARD_BACK, values))
    whom = f"from {', '.join(fitting)}" if fitting else "from here"
    return Change(what=f"TCP {door.port} of {door.host} ({door.address}) is to be open {whom}", steps=tuple(steps))


def _typed(where: str, shell: str, do: str, undo: str, values: Mapping[str, Scalar]) -> Step:
    return Step(where=where, do=(fill_command(do, values, shell),), undo=(fill_command(undo, values, shell),))
