"""Whether the hosts of a domain are machines of their own, or several names of one address.

What it looks at: the addresses of all published hosts of a domain, and of all domains together.
Why it matters: two names for one address look like a reserve and are none: when the machine is down, all of them are.
The shares of clients are those of the machines, not of the names.
What to do: keep one record a machine, as a rule that of its own name, and delete the others.
"""

from collections.abc import Iterator
from typing import Any

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains, say
from kmsdiag.discovery import Service
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request
from kmsdiag.model.target import RUN, Subject, SubjectKind, Target

_RECORDS = Fix(
    Where.DNS_SERVER,
    "see the records, and delete those of the other names",
    "Get-DnsServerResourceRecord -ZoneName {domain} -Name _vlmcs._tcp -RRType Srv",
)

META = CheckMeta(
    title="Names and machines",
    codes={
        "distinct": Code(Severity.OK, "{domain}: no two of the {count} hosts share an address."),
        "separate": Code(Severity.OK, "No address is known under different names in different domains."),
        "one": Code(Severity.OK, "{subject}: there is one host with a known address, {host}."),
        "same_address": Code(
            Severity.WARNING,
            "{domain}: all hosts with a known address are one machine, {hosts} ({addresses}).",
            "There is no reserve: when that machine is down, each of these names leads to it.",
            (_RECORDS,),
        ),
        "shares_some": Code(
            Severity.INFO,
            "{domain}: {hosts} share an address ({addresses}).",
            "It may have fewer machines than its {count} names say, and one of them more of the clients.",
            (_RECORDS,),
        ),
        "shared_with": Code(
            Severity.INFO,
            "{domains} have a machine in common under several names: {hosts} ({addresses}).",
            "It counts the clients of all these domains, and they fail together.",
        ),
        "unknown": Code(
            Severity.NOT_ASSESSED,
            "DNS did not answer all questions about {names}: whether hosts share an address is not known.",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "No address of a published host of {subject} is known."),
    },
    tags=frozenset({"dns", "hosts"}),
    since="0.1",
    references=("Microsoft: KMS activation planning",),
)


def subjects(target: Target) -> Iterator[Subject]:
    """Each domain, and where there are several, all of them together."""
    yield from domains(target)
    if len(target.domains) > 1:
        yield RUN


def _domains(subject: Subject, seen: Evidence) -> list[Subject]:
    return [subject] if subject.kind is SubjectKind.DOMAIN else list(domains(seen.target))


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """Discovery."""
    for domain in _domains(subject, seen):
        yield from discovery.ask(domain, seen)


class _Host:
    """One published name: where it is published, its addresses, and the questions that said so."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.domains: dict[str, None] = {}
        self.addresses: dict[str, None] = {}
        self.because: dict[Request[Any], None] = {}
        self.unsettled: dict[Request[Any], None] = {}

    def add(self, service: Service, domain: Subject, seen: Evidence) -> None:
        """Take what one service of a domain says about it."""
        self.domains[domain.name] = None
        self.because.update(dict.fromkeys(discovery.reasons(service, domain, seen)))
        self.addresses.update(dict.fromkeys(discovery.addresses(service, seen)))
        for query, answer in discovery.address_answers(service, seen):
            if answer.addresses:
                self.because[query] = None
            elif not answer.outcome.is_absence:
                self.unsettled[query] = None


def _hosts(subject: Subject, seen: Evidence) -> list[_Host]:
    """The published names, sorted."""
    found: dict[str, _Host] = {}
    for domain in _domains(subject, seen):
        for service in discovery.services(domain, seen):
            if service.target != discovery.ROOT:
                found.setdefault(service.target, _Host(service.target)).add(service, domain, seen)
    return [found[name] for name in sorted(found)]


def _machines(hosts: list[_Host]) -> list[list[_Host]]:
    """Names that share an address, directly or through another name, in one group each."""
    leader: dict[str, str] = {}

    def lead(address: str) -> str:
        while leader[address] != address:
            address = leader[address]
        return address

    for host in hosts:
        for address in host.addresses:
            leader.setdefault(address, address)
        first, *rest = host.addresses
        for address in rest:
            leader[lead(address)] = lead(first)
    groups: dict[str, list[_Host]] = {}
    for host in hosts:
        groups.setdefault(lead(next(iter(host.addresses))), []).append(host)
    return list(groups.values())


def _shared(group: list[_Host]) -> tuple[str, ...]:
    """The addresses that more than one of these names has."""
    every = [address for host in group for address in host.addresses]
    return tuple(sorted({address for address in every if every.count(address) > 1}))


def _reasons(hosts: list[_Host]) -> tuple[Request[Any], ...]:
    return tuple(dict.fromkeys(request for host in hosts for request in host.because))


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """What is shared for certain first; that nothing is shared only where every question was answered."""
    known = _hosts(subject, seen)
    hosts = [host for host in known if host.addresses]
    machines = _machines(hosts)
    several = [group for group in machines if len(group) > 1]
    together = subject.kind is SubjectKind.RUN
    words = "all domains" if together else subject.name
    found = [finding for group in several for finding in _judge_group(subject, group, len(hosts))]
    yield from found
    asked = tuple(dict.fromkeys(ask(subject, seen)))
    for request in asked:
        seen[request]
    doubts, names = _doubts(subject, known, seen)
    if doubts and (together or len(known) > 1):
        yield say("unknown", doubts, names=names)
    elif not hosts:
        yield say("nothing", asked, subject=words)
    elif len(hosts) == 1:
        yield say("one", _reasons(hosts), subject=words, host=hosts[0].name)
    elif together and not found:
        yield say("separate", _reasons(hosts))
    elif not found:
        yield say("distinct", _reasons(hosts), domain=subject.name, count=len(hosts))


def _doubts(subject: Subject, known: list[_Host], seen: Evidence) -> tuple[tuple[Request[Any], ...], tuple[str, ...]]:
    """The questions that DNS left open, and whom they are about."""
    doubts: dict[Request[Any], None] = {}
    names: dict[str, None] = {}
    for domain in _domains(subject, seen):
        answers = list(discovery.srv_answers(domain, seen))
        if not any(answer.records or answer.outcome.is_absence for _query, answer in answers):
            doubts.update((query, None) for query, _answer in answers)
            names[domain.name] = None
    for host in known:
        if host.unsettled:
            doubts.update(host.unsettled)
            names[host.name] = None
    return tuple(doubts), tuple(names)


def _one_machine(group: list[_Host]) -> bool:
    """Whether these names lead to one machine for certain: a name of several machines has them in one family."""
    families = [[":" in address for address in host.addresses] for host in group]
    return all(len(set(found)) == len(found) for found in families)


def _judge_group(subject: Subject, group: list[_Host], count: int) -> Iterator[Finding]:
    because = _reasons(group)
    hosts, addresses = tuple(host.name for host in group), _shared(group)
    if subject.kind is SubjectKind.DOMAIN:
        if len(group) == count and _one_machine(group):
            yield say("same_address", because, domain=subject.name, hosts=hosts, addresses=addresses)
        else:
            yield say("shares_some", because, domain=subject.name, hosts=hosts, addresses=addresses, count=count)
    elif not set.intersection(*(set(host.domains) for host in group)):
        # Where one domain publishes all these names, the word about that domain says it.
        named = tuple(sorted({domain for host in group for domain in host.domains}))
        yield say("shared_with", because, hosts=hosts, addresses=addresses, domains=named)
