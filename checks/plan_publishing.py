"""Whether the planned hosts can publish themselves where they should.

What it looks at: the hosts that are to be in each domain's record set, and whether they are.
Why it matters: the hosts of a domain share one record set, _vlmcs._tcp. With secure dynamic updates the host that made
it owns it, and every other one needs permission to add itself; until then it logs event 12293 (0x80072338) and is not
found. And a host publishes itself in its own domain only, unless DnsDomainPublishList names others.
What to do: give the hosts permission on the record set (a group of all KMS hosts), and set the list; or add the records
by hand and switch publishing off (slmgr /cdns).
"""

from collections.abc import Iterator
from typing import Any

from kmsdiag import discovery, plan
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains, say
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request
from kmsdiag.model.target import ExpectedHost, Subject, Target, as_address

_EVENTS = Fix(
    Where.KMS_HOST,
    "see whether publishing fails there (12293) or works (12294)",
    "Get-WinEvent -FilterHashtable @{{LogName='Application'; Id=12293,12294}} -MaxEvents 5 | Format-List",
)

META = CheckMeta(
    title="Publishing by the planned hosts",
    codes={
        "published": Code(Severity.OK, "{domain}: every planned host is in the record set: {hosts}."),
        "permission": Code(
            Severity.WARNING,
            "{domain}: {hosts} are to share one record set, and {lacking} is not in it.",
            "By default only the host that made the set may change it; the others need permission on it"
            " (event 12293 with 0x80072338 until they have it).",
            (_EVENTS,),
        ),
        "alone": Code(
            Severity.INFO,
            "{domain}: {lacking} is to publish itself there and is not in the record set yet.",
            "It does so when its licensing service starts, and once a day.",
            (_EVENTS,),
        ),
        "foreign": Code(
            Severity.WARNING,
            "{domain}: {lacking} is to be published there, which is not its own domain, and is not in the record set.",
            "A host publishes itself in its own domain only, until DnsDomainPublishList names others.",
            (
                Fix(
                    Where.KMS_HOST,
                    "name all the domains that it should publish itself in",
                    "Set-ItemProperty -Path"
                    " 'HKLM:\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\SoftwareProtectionPlatform'"
                    " -Name DnsDomainPublishList -Type MultiString -Value {own},{domain};"
                    " Restart-Service sppsvc",
                ),
                _EVENTS,
            ),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The plan names no host for {domain}."),
        "unknown": Code(
            Severity.NOT_ASSESSED, "Which hosts are in the record set of {domain} is not known: {outcome}."
        ),
    },
    tags=frozenset({"plan", "dns"}),
    since="0.1",
    references=("Microsoft: Deploy KMS Activation", "Microsoft: Event 12293 with error 0x80072338 (KB 2553863)"),
)


def subjects(target: Target) -> Iterator[Subject]:
    """Each domain, where there is a plan."""
    if target.expected.planned:
        yield from domains(target)


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """Discovery: an expected host may be known by its address."""
    if _planned(subject, seen):
        yield from discovery.ask(subject, seen)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Hosts that are in the record set have got there somehow; only the others are asked about."""
    planned = _planned(subject, seen)
    if not planned:
        yield say("nothing", (), domain=subject.name)
        return
    because = tuple(discovery.srv_queries(subject, seen))
    answers = [seen[query] for query in because]
    failed = [answer for answer in answers if not answer.records and not answer.outcome.is_absence]
    if failed and not any(answer.records for answer in answers):
        yield say("unknown", because, domain=subject.name, outcome=failed[0].outcome.words)
        return
    there: set[str] = set()
    for service in discovery.services(subject, seen):
        for query in discovery.address_queries(service, seen):
            seen[query]
        there |= {host.host for host in plan.same_host(service, seen)}
    names = tuple(dict.fromkeys(host.host for host in planned))
    content = True
    for host in dict.fromkeys(name for name in names if name not in there):
        content = False
        own = _own_domain(host)
        if own not in ("", subject.name):
            yield say("foreign", because, domain=subject.name, lacking=host, own=own)
        elif len(names) > 1:
            yield say("permission", because, domain=subject.name, hosts=names, lacking=host)
        else:
            yield say("alone", because, domain=subject.name, lacking=host)
    if content:
        yield say("published", because, domain=subject.name, hosts=names)


def _planned(subject: Subject, seen: Evidence) -> list[ExpectedHost]:
    return [host for host in seen.target.expected.hosts if subject.name in host.domains]


def _own_domain(host: str) -> str:
    """The domain that a host's name lies in; "" of an address."""
    return "" if as_address(host) is not None else host.partition(".")[2]
