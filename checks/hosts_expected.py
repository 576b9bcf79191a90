"""Whether the published KMS hosts are the ones that should be there.

What it looks at: targets, ports and addresses of all domains' SRV records, against the hosts given as expected.
Why it matters: an unexpected host is often a workstation on which somebody installed the KMS host key: it publishes
itself, draws clients, and uses up the key. A missing one is capacity that was planned and is not there.
What to do: remove the host key from the unexpected machine and delete its record; have the missing one publish itself.
"""

from collections.abc import Iterator
from typing import Any

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say, whole_run
from kmsdiag.discovery import Service
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import AddressQuery, Request
from kmsdiag.model.target import HostSpec, Subject, SubjectKind, as_address, join_host_port

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
                Fix(
                    Where.DNS_SERVER,
                    "once it is cleaned up, delete its record",
                    "Get-DnsServerResourceRecord -ZoneName {zone} -Name _vlmcs._tcp -RRType Srv |"
                    " Where-Object {{ $_.RecordData.DomainName -eq {dotted:quoted} }} |"
                    " Remove-DnsServerResourceRecord -ZoneName {zone}",
                ),
            ),
        ),
        "missing": Code(
            Severity.WARNING,
            "The expected host {host} is published in none of {domains}.",
            "No client finds it through DNS.",
            (Fix(Where.KMS_HOST, "have it publish itself", "slmgr /sdns; Restart-Service sppsvc"),),
        ),
        "drift": Code(
            Severity.WARNING,
            "{host} is published with port {found}; {expected} is expected.",
            "Clients use the published port, firewalls were opened for the expected one.",
            (Fix(Where.KMS_HOST, "see the port it listens on", "slmgr /dlv"),),
        ),
        "unknown": Code(
            Severity.NOT_ASSESSED,
            "DNS did not answer all questions about {domains}: whether the hosts are the expected ones is not known.",
        ),
        "nothing": Code(
            Severity.NOT_ASSESSED, "No expected hosts were given (--expect-host), or no domain to compare them with."
        ),
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


def _published(domains: list[Subject], seen: Evidence) -> Iterator[tuple[Service, list[Subject]]]:
    """Each target and port with the domains that name it."""
    found: dict[tuple[str, int], tuple[Service, list[Subject]]] = {}
    for domain in domains:
        for service in discovery.services(domain, seen):
            if service.target != discovery.ROOT:
                found.setdefault((service.target, service.port), (service, []))[1].append(domain)
    yield from found.values()


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Compare by name, or by address where an address was expected."""
    expected = seen.target.expected.hosts
    domains = _domains(seen)
    if not expected or not domains:
        yield say("nothing", ())
        return
    asked = tuple(query for domain in domains for query in discovery.srv_queries(domain, seen))
    names = tuple(domain.name for domain in domains)
    met: set[HostSpec] = set()
    doubts: list[Request[Any]] = []
    content = True
    for service, where in _published(domains, seen):
        own = {service.target, *discovery.addresses(service, seen)}
        same_host = [spec for spec in expected if spec.host in own]
        same_port = [spec for spec in same_host if spec.port == service.port]
        met.update(same_port or same_host)
        if not same_host and any(as_address(spec.host) for spec in expected) and (open_ := _unsettled(service, seen)):
            # It may have the expected address.
            doubts += open_
            continue
        for finding in _judge_host(service, where, same_host, seen):
            content = False
            yield finding
    # A domain that could not be asked may well publish the missing host: that is not known, not missing.
    doubts += [query for query in asked if not (answer := seen[query]).records and not answer.outcome.is_absence]
    for request in doubts:
        seen[request]
    if doubts:
        yield say("unknown", tuple(dict.fromkeys(doubts)), domains=names)
        return
    for spec in expected:
        if spec not in met:
            content = False
            yield say("missing", asked, host=str(spec), domains=names)
    if content:
        yield say("as_expected", asked, hosts=tuple(str(spec) for spec in expected))


def _judge_host(service: Service, where: list[Subject], same_host: list[HostSpec], seen: Evidence) -> Iterator[Finding]:
    because = tuple(reason for domain in where for reason in discovery.reasons(service, domain, seen))
    if not same_host:
        yield say(
            "unexpected",
            because,
            host=join_host_port(service.target, service.port),
            domains=tuple(domain.name for domain in where),
            zone=where[0].name,
            dotted=f"{service.target}.",
        )
    elif service.port not in {spec.port for spec in same_host}:
        yield say("drift", because, host=service.target, found=service.port, expected=same_host[0].port)
