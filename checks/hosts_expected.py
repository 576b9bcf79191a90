"""Whether the published KMS hosts are the ones that should be there.

What it looks at: targets, ports, ranks and addresses of all domains' SRV records, against the hosts given as expected.
Why it matters: an unexpected host is often a workstation on which somebody installed the KMS host key: it publishes
itself, draws clients, and uses up the key. A missing one is capacity that was planned and is not there. One that
drifted is there, but not as firewalls and shares were planned for.
What to do: remove the host key from the unexpected machine and delete its record; have the missing one publish itself;
set back what drifted, or change the expected state.
"""

from collections.abc import Container, Iterable, Iterator
from typing import Any, NamedTuple

from kmsdiag import discovery, plan
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say, whole_run
from kmsdiag.discovery import Service
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import AddressQuery, Request, SrvQuery
from kmsdiag.model.target import ExpectedHost, Subject, SubjectKind, as_address, join_host_port

_REMOVE = (
    "Get-DnsServerResourceRecord -ZoneName {zone} -Name _vlmcs._tcp -RRType Srv |"
    " Where-Object {{ $_.RecordData.DomainName -eq {dotted:quoted} }} |"
    " Remove-DnsServerResourceRecord -ZoneName {zone}"
)

META = CheckMeta(
    title="Published hosts against the expected ones",
    codes={
        "as_expected": Code(Severity.OK, "Exactly the expected hosts are published: {hosts}."),
        "unexpected": Code(
            Severity.ERROR,
            "{host} is published for {domains} and is not expected.",
            "Clients may activate there or fail there; often it is a workstation with a KMS host key.",
            (
                Fix(Where.KMS_HOST, "on that machine: see whether it is a KMS host", "slmgr /dlv"),
                Fix(Where.DNS_SERVER, "once it is cleaned up, delete its record", _REMOVE),
            ),
        ),
        "misplaced": Code(
            Severity.WARNING,
            "{host} is published for {domains}, where it is not expected.",
            "Clients of that domain go there too; the host's count and its firewall may not be made for them.",
            (
                Fix(Where.KMS_HOST, "see where it publishes itself (DnsDomainPublishList)", "slmgr /dlv"),
                Fix(Where.DNS_SERVER, "delete its record there", _REMOVE),
            ),
        ),
        "missing": Code(
            Severity.WARNING,
            "The expected host {host} is not published in {domains}.",
            "No client finds it there through DNS.",
            (Fix(Where.KMS_HOST, "have it publish itself", "slmgr /sdns; Restart-Service sppsvc"),),
        ),
        "drift": Code(
            Severity.WARNING,
            "{host} is published with port {found}; {expected} is expected.",
            "Clients use the published port, firewalls were opened for the expected one.",
            (Fix(Where.KMS_HOST, "see the port it listens on", "slmgr /dlv"),),
        ),
        "rank_drift": Code(
            Severity.WARNING,
            "{host} is published in {domain} with {found}; {expected} is expected.",
            "Clients spread over the hosts in another way than planned.",
            (
                Fix(
                    Where.KMS_HOST,
                    "see what it publishes: a line is domain, priority, weight",
                    "Get-ItemPropertyValue"
                    " 'HKLM:\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\SoftwareProtectionPlatform'"
                    " DnsDomainPublishList",
                ),
            ),
        ),
        "address_drift": Code(
            Severity.WARNING,
            "{host} has the addresses {found}; {expected} are expected.",
            "Firewalls and routes were made for the expected ones; an old address may be another machine by now.",
            (Fix(Where.KMS_HOST, "see the addresses it has", "Get-NetIPAddress | Format-Table IPAddress"),),
        ),
        "unknown": Code(
            Severity.NOT_ASSESSED,
            "DNS did not answer all questions about {domains}: whether the hosts are the expected ones is not known.",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "No expected hosts were given, or no domain to compare them with."),
    },
    tags=frozenset({"hosts", "policy"}),
    since="0.1",
    references=("Microsoft: How to discover KMS hosts through DNS and remove unauthorized instances",),
)

subjects = whole_run


def _domains(seen: Evidence) -> list[Subject]:
    return [Subject(SubjectKind.DOMAIN, name) for name in seen.target.domains]


def ask(_subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """Discovery of every domain; nothing where nothing is expected."""
    if seen.target.expected.hosts:
        for domain in _domains(seen):
            yield from discovery.ask(domain, seen)


def _unsettled(service: Service, seen: Evidence) -> list[AddressQuery]:
    """Address questions of a service that are open, or ended without saying whether there is an address."""
    answers = ((query, seen.get(query)) for query in discovery.address_queries(service, seen))
    return [query for query, answer in answers if answer is None or not (answer.addresses or answer.outcome.is_absence)]


class _Published(NamedTuple):
    """One target and port, in every domain that names it, and the expected hosts that it is."""

    target: str
    port: int
    services: dict[Subject, Service]
    same: list[ExpectedHost]

    def __str__(self) -> str:
        return join_host_port(self.target, self.port)

    @property
    def matches(self) -> list[ExpectedHost]:
        """Those with its port; where none has it, all of that machine."""
        return [spec for spec in self.same if spec.port == self.port] or self.same

    def because(self, domains: Iterable[Subject], seen: Evidence) -> tuple[Request[Any], ...]:
        """The questions that led to it in these domains."""
        return tuple(reason for domain in domains for reason in discovery.reasons(self.services[domain], domain, seen))


def _published(domains: list[Subject], seen: Evidence) -> list[_Published]:
    found: dict[tuple[str, int], dict[Subject, Service]] = {}
    for domain in domains:
        for service in discovery.services(domain, seen):
            if service.target != discovery.ROOT:
                found.setdefault((service.target, service.port), {})[domain] = service
    made = []
    for (target, port), services in found.items():
        specs = (spec for service in services.values() for spec in plan.same_host(service, seen))
        made.append(_Published(target, port, services, list(dict.fromkeys(specs))))
    return made


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Compare by name, or by address where an address was expected."""
    expected = seen.target.expected.hosts
    domains = _domains(seen)
    if not expected or not domains:
        yield say("nothing", ())
        return
    met: dict[ExpectedHost, set[str]] = {spec: set() for spec in expected}
    by_address = any(as_address(spec.host) is not None for spec in expected)
    doubts = _Doubts(domains, seen)
    content = True
    for host in _published(domains, seen):
        for spec in host.matches:
            met[spec] |= {domain.name for domain in host.services}
        open_ = [query for service in host.services.values() for query in _unsettled(service, seen)]
        if not host.same and by_address and open_:
            # It may have the expected address.
            doubts.add(host.services, open_)
            continue
        if any(spec.addresses for spec in host.same):
            doubts.add(host.services, open_)
        for finding in _judge_host(host, seen, settled=not open_):
            content = False
            yield finding
    for spec, where in met.items():
        lacking = doubts.surely_not(spec, where)
        if lacking:
            content = False
            yield say("missing", _asked(domains, lacking, seen), host=str(spec), domains=lacking)
    for request in doubts.questions:
        seen[request]
    if doubts.questions:
        yield say("unknown", doubts.questions, domains=doubts.domains)
    elif content:
        names = tuple(domain.name for domain in domains)
        yield say("as_expected", _asked(domains, names, seen), hosts=tuple(str(spec) for spec in expected))


def _asked(domains: Iterable[Subject], names: Container[str], seen: Evidence) -> tuple[SrvQuery, ...]:
    """The SRV questions of those domains that have these names."""
    return tuple(query for one in domains if one.name in names for query in discovery.srv_queries(one, seen))


class _Doubts:
    """Questions without an answer that says yes or no, by domain. What a domain that can't be asked lacks is not known.

    One domain's trouble leaves what others told as it is.
    """

    def __init__(self, domains: list[Subject], seen: Evidence) -> None:
        self._names = tuple(domain.name for domain in domains)
        self._records: dict[str, list[Request[Any]]] = {}
        self._addresses: dict[str, list[Request[Any]]] = {}
        for domain in domains:
            for query in discovery.srv_queries(domain, seen):
                answer = seen.get(query)
                if answer is None or not (answer.records or answer.outcome.is_absence):
                    self._records.setdefault(domain.name, []).append(query)

    def add(self, domains: Iterable[Subject], queries: Iterable[Request[Any]]) -> None:
        """Addresses of a host that these domains name are not known."""
        for domain in domains:
            self._addresses.setdefault(domain.name, []).extend(queries)

    @property
    def domains(self) -> tuple[str, ...]:
        """Those with an open question, in their order."""
        return tuple(name for name in self._names if name in self._records or self._addresses.get(name))

    @property
    def questions(self) -> tuple[Request[Any], ...]:
        """All of them, each once."""
        every = (*self._addresses.values(), *self._records.values())
        return tuple(dict.fromkeys(query for queries in every for query in queries))

    def surely_not(self, spec: ExpectedHost, where: set[str]) -> tuple[str, ...]:
        """Domains that should name a host and do not, where nothing is open that could change that."""
        open_ = set(self._records)
        if as_address(spec.host) is not None:
            open_ |= {name for name, queries in self._addresses.items() if queries}
        if not spec.domains:
            # Any domain will do, so each has to be known.
            return () if where or open_ else self._names
        return tuple(name for name in spec.domains if name not in where and name not in open_)


def _judge_host(host: _Published, seen: Evidence, *, settled: bool) -> Iterator[Finding]:
    where = list(host.services)
    if not host.same:
        yield _surplus("unexpected", host, where, seen)
        return
    if host.port not in {spec.port for spec in host.same}:
        because = host.because(where, seen)
        yield say("drift", because, host=host.target, found=host.port, expected=host.same[0].port)
    allowed = {name for spec in host.matches for name in spec.domains}
    misplaced = [domain for domain in where if allowed and domain.name not in allowed]
    if misplaced:
        yield _surplus("misplaced", host, misplaced, seen)
    for domain in where:
        if domain not in misplaced:
            yield from _judge_rank(host, domain, seen)
    wanted = {address for spec in host.matches for address in spec.addresses}
    found = {address for service in host.services.values() for address in discovery.addresses(service, seen)}
    if wanted and settled and found != _asked_for(wanted, seen):
        because = tuple(dict.fromkeys((*host.because(where, seen), *_address_queries(host, seen))))
        listed = tuple(sorted(found)) or ("none",)
        yield say("address_drift", because, host=host.target, found=listed, expected=tuple(sorted(wanted)))


def _surplus(code: str, host: _Published, where: list[Subject], seen: Evidence) -> Finding:
    return say(
        code,
        host.because(where, seen),
        host=str(host),
        domains=tuple(domain.name for domain in where),
        zone=where[0].name,
        dotted=f"{host.target}.",
    )


def _judge_rank(host: _Published, domain: Subject, seen: Evidence) -> Iterator[Finding]:
    """Compare what is laid down of priority and weight; a record that fits no expected host is one finding."""
    specs = host.matches
    for record in dict.fromkeys((one.priority, one.weight) for one in host.services[domain].records):
        if not any(_fits(record, spec) for spec in specs):
            yield say(
                "rank_drift",
                host.because([domain], seen),
                host=str(host),
                domain=domain.name,
                found=_rank(*record),
                expected=_rank(specs[0].priority, specs[0].weight),
            )


def _fits(record: tuple[int, int], spec: ExpectedHost) -> bool:
    return all(
        wanted is None or wanted == found for wanted, found in zip((spec.priority, spec.weight), record, strict=True)
    )


def _rank(priority: int | None, weight: int | None) -> str:
    parts = (f"{word} {number}" for word, number in (("priority", priority), ("weight", weight)) if number is not None)
    return ", ".join(parts)


def _asked_for(addresses: set[str], seen: Evidence) -> set[str]:
    """Addresses of the families that this run looks at."""
    return {address for address in addresses if discovery.family_of(address) in seen.target.families}


def _address_queries(host: _Published, seen: Evidence) -> Iterator[AddressQuery]:
    for service in host.services.values():
        yield from discovery.address_queries(service, seen)
