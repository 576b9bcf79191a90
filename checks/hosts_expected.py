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
from kmsdiag.model.request import Request
from kmsdiag.model.target import HostSpec, Subject, SubjectKind, join_host_port

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


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Compare by name, or by address where an address was expected."""
    expected = seen.target.expected.hosts
    domains = _domains(seen)
    if not expected or not domains:
        yield say("nothing", ())
        return
    asked = tuple(query for domain in domains for query in discovery.srv_queries(domain, seen))
    met: set[HostSpec] = set()
    content = True
    published: dict[tuple[str, int], tuple[Service, list[Subject]]] = {}
    for domain in domains:
        for service in discovery.services(domain, seen):
            if service.target != discovery.ROOT:
                published.setdefault((service.target, service.port), (service, []))[1].append(domain)
    for service, where in published.values():
        names = {service.target, *discovery.addresses(service, seen)}
        same_host = [spec for spec in expected if spec.host in names]
        met.update(same_host)
        because = tuple(reason for domain in where for reason in discovery.reasons(service, domain, seen))
        if not same_host:
            content = False
            yield say(
                "unexpected",
                because,
                host=join_host_port(service.target, service.port),
                domains=tuple(domain.name for domain in where),
                zone=where[0].name,
                dotted=f"{service.target}.",
            )
        elif service.port not in {spec.port for spec in same_host}:
            content = False
            yield say("drift", because, host=service.target, found=service.port, expected=same_host[0].port)
    # A domain that could not be asked may well publish the missing host: that is not known, not missing.
    for query in asked:
        answer = seen[query]
        if not answer.records and not answer.outcome.is_absence:
            yield say("nothing", (query,))
            return
    for spec in expected:
        if spec not in met:
            content = False
            yield say("missing", asked, host=str(spec), domains=tuple(domain.name for domain in domains))
    if content:
        yield say("as_expected", asked, hosts=tuple(str(spec) for spec in expected))
