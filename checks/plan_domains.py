"""Whether every planned domain publishes a KMS host.

What it looks at: the SRV records of each domain of the plan, at each DNS server of its sites.
Why it matters: where there is no record, clients ask nobody and show 0x8007232B; where one server lacks it, the clients
of that server do.
What to do: have the hosts publish themselves in the domain, or add the record by hand.
"""

from collections.abc import Iterator

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains, say
from kmsdiag.model.answer import SrvAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request
from kmsdiag.model.target import Subject, Target, join_host_port

_ADD = Fix(
    Where.DNS_SERVER,
    "add the record, with a KMS host's real name",
    "Add-DnsServerResourceRecord -Srv -ZoneName {zone} -Name _vlmcs._tcp"
    " -DomainName <kms-host> -Priority 0 -Weight 0 -Port 1688",
)

META = CheckMeta(
    title="Planned domains and their records",
    codes={
        "covered": Code(Severity.OK, "{domain} publishes {hosts}."),
        "not_published": Code(
            Severity.ERROR,
            "{domain} is planned and publishes no KMS host.",
            "Its clients find none and show 0x8007232B.",
            (
                Fix(Where.KMS_HOST, "have a host publish itself there", "slmgr /sdns; Restart-Service sppsvc"),
                _ADD,
            ),
        ),
        "not_everywhere": Code(
            Severity.ERROR,
            "{domain} publishes a KMS host, but not at {servers}.",
            "Clients that ask there find none.",
            (Fix(Where.DNS_SERVER, "see whether the zone is copied there", "Get-DnsServerZone -Name {zone}"), _ADD),
        ),
        "unknown": Code(Severity.NOT_ASSESSED, "Whether {domain} publishes a KMS host is not known: {outcome}."),
    },
    tags=frozenset({"plan", "dns"}),
    since="0.1",
    references=("Microsoft: Common troubleshooting procedures for KMS and DNS issues",),
)


def subjects(target: Target) -> Iterator[Subject]:
    """Each domain, where there is a plan."""
    if target.expected.planned:
        yield from domains(target)


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[SrvAnswer]]:
    """The SRV question, at each server."""
    yield from discovery.srv_queries(subject, seen)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a domain; a server that did not answer neither has the record nor lacks it."""
    answers = [(query, seen[query]) for query in discovery.srv_queries(subject, seen)]
    because = tuple(query for query, _answer in answers)
    hosts = {
        (record.target, record.port)
        for _query, answer in answers
        for record in answer.records
        if record.target != discovery.ROOT
    }
    lacking = tuple(query.server for query, answer in answers if answer.outcome.is_absence)
    failed = [answer for _query, answer in answers if not answer.records and not answer.outcome.is_absence]
    if hosts and lacking:
        yield say("not_everywhere", because, domain=subject.name, servers=lacking, zone=subject.name)
    elif hosts:
        listed = tuple(join_host_port(target, port) for target, port in sorted(hosts))
        yield say("covered", because, domain=subject.name, hosts=listed)
    elif failed:
        yield say("unknown", because, domain=subject.name, outcome=failed[0].outcome.words)
    else:
        yield say("not_published", because, domain=subject.name, zone=subject.name)
