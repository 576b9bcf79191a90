"""Whether the operating system of this machine gives the same addresses for the KMS hosts as DNS does.

What it looks at: the operating system's own lookup of each host's name (hosts file, cache, DNS, whatever it is
configured to use), against the A and AAAA records, and the hosts file's entries for the name.
Why it matters: the KMS client looks hosts up as any program does. A line in the hosts file that was forgotten sends it
to a machine that is gone, while every DNS tool says that all is well.
What to do: delete the line, flush the cache, or correct the DNS servers of this machine.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains_and_hosts, say
from kmsdiag.discovery import Service
from kmsdiag.model.answer import AddressAnswer, LookupAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import LookupOutcome
from kmsdiag.model.request import AddressQuery, MachineSettings, Request, SystemLookup
from kmsdiag.model.target import Family, Subject, Target

_WINDOWS = Fix(Where.CLIENT, "see what programs on a client get", "Resolve-DnsName {target}")
_FLUSH = Fix(Where.CLIENT, "forget what the client keeps", "Clear-DnsClientCache")
_UNIX = Fix(Where.HERE, "see what programs on this machine get", "getent ahosts {target}")

META = CheckMeta(
    title="The operating system's lookup against DNS",
    codes={
        "agrees": Code(Severity.OK, "{target}: the operating system gives {addresses}, as DNS does."),
        "hosts_file": Code(
            Severity.WARNING,
            "{target} stands in the hosts file of this machine with {addresses}; DNS has {dns}.",
            "Programs on this machine never ask DNS for it: when the host moves, they do not.",
            (
                Fix(
                    Where.CLIENT,
                    "find the line, and delete it unless it is meant",
                    "Select-String -SimpleMatch {target:quoted} $env:SystemRoot\\System32\\drivers\\etc\\hosts",
                ),
                Fix(Where.HERE, "on Linux and macOS", "grep -F {target:quoted} /etc/hosts"),
            ),
        ),
        "differs": Code(
            Severity.WARNING,
            "{target}: the operating system gives {addresses}; DNS has {dns}.",
            "Programs on this machine connect to another address than the published one: a cache, another DNS server"
            " or another name service is in use.",
            (_WINDOWS, _FLUSH, _UNIX),
        ),
        "only_dns": Code(
            Severity.WARNING,
            "{target}: DNS has {dns}; the operating system gives no address ({reason}).",
            "Programs on this machine can't find the host.",
            (_WINDOWS, _FLUSH, _UNIX),
        ),
        "slow": Code(
            Severity.WARNING,
            "{target}: DNS has {dns}; the operating system has no answer yet after {waited} s.",
            "Programs on this machine wait for it longer than that. Most often the first of its DNS servers is silent:"
            " the C library of Linux gives each one 5 s for each look-up.",
            (_WINDOWS, _UNIX),
        ),
        "only_system": Code(
            Severity.WARNING,
            "{target}: the operating system gives {addresses}; DNS gave none ({outcome}).",
            "Another name service knows it on this machine; clients elsewhere may not.",
            (_WINDOWS, _UNIX),
        ),
        "neither": Code(
            Severity.NOT_ASSESSED,
            "{target}: neither DNS ({outcome}) nor the operating system ({reason}) gives an address to compare.",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "No host name of {subject} is known that could be looked up."),
    },
    tags=frozenset({"dns", "machine"}),
    since="0.1",
    references=("Microsoft: TCP/IP host name resolution order", "RFC 3493 section 6.1"),
)


def subjects(target: Target) -> Iterator[Subject]:
    """All domains and hosts where the run is about this machine; otherwise its resolver says nothing about them."""
    if target.machine:
        yield from domains_and_hosts(target)


class _Dns(NamedTuple):
    """What DNS says about one name. ``settled`` are the families that it has said all about."""

    queries: tuple[AddressQuery, ...]
    addresses: tuple[str, ...]
    settled: frozenset[Family]
    outcome: str


def _named(subject: Subject, seen: Evidence) -> list[Service]:
    """Services with a name of their own, each name once."""
    found: dict[str, Service] = {}
    for service in discovery.services(subject, seen):
        if service.target != discovery.ROOT and discovery.literal(service.target) is None:
            found.setdefault(service.target, service)
    return list(found.values())


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """The settings, discovery, and the operating system's lookup of each name."""
    yield MachineSettings()
    yield from discovery.ask(subject, seen)
    for service in _named(subject, seen):
        yield SystemLookup(name=service.target)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a name."""
    services = _named(subject, seen)
    for service in services:
        yield _judge_name(service, seen)
    if not services:
        because = tuple(discovery.srv_queries(subject, seen))
        for query in because:
            seen[query]
        yield say("nothing", because, subject=str(subject))


def _dns(service: Service, seen: Evidence) -> _Dns:
    answers: list[tuple[AddressQuery, AddressAnswer]] = [
        (query, seen[query]) for query in discovery.address_queries(service, seen)
    ]
    by_family: dict[Family, bool] = {}
    for query, answer in answers:
        settled = bool(answer.addresses) or answer.outcome.is_absence
        by_family[query.family] = by_family.get(query.family, True) and settled
    failed = [answer for _query, answer in answers if not answer.addresses and not answer.outcome.is_absence]
    return _Dns(
        tuple(query for query, _answer in answers),
        tuple(discovery.addresses(service, seen)),
        frozenset(family for family, settled in by_family.items() if settled),
        (failed or [answer for _query, answer in answers])[0].outcome.words,
    )


def _reason(answer: LookupAnswer) -> str:
    if answer.outcome is LookupOutcome.TIMEOUT:
        return answer.detail
    words = "no such name or address" if answer.outcome is LookupOutcome.NOT_FOUND else "the lookup failed"
    return f"{words}, {answer.detail}" if answer.detail else words


def _judge_name(service: Service, seen: Evidence) -> Finding:
    target, lookup = service.target, SystemLookup(name=service.target)
    dns, answer = _dns(service, seen), seen[lookup]
    families = seen.target.families
    own = tuple(address for address in answer.addresses if discovery.family_of(address) in families)
    listed = {
        entry.address
        for entry in seen[MachineSettings()].hosts_file
        if target in entry.names and discovery.family_of(entry.address) in families
    }
    because: tuple[Request[Any], ...] = (lookup, *dns.queries)
    published = dns.addresses or ("no address",)
    if listed & set(own):
        addresses = tuple(address for address in own if address in listed)
        return say("hosts_file", (MachineSettings(), *because), target=target, addresses=addresses, dns=published)
    if not own:
        reason = _reason(answer)
        if dns.addresses and answer.outcome is LookupOutcome.TIMEOUT:
            waited = f"{answer.elapsed_ms / 1000:.1f}"
            return say("slow", because, target=target, dns=published, waited=waited)
        if dns.addresses:
            return say("only_dns", because, target=target, dns=published, reason=reason)
        return say("neither", because, target=target, outcome=dns.outcome, reason=reason)
    if not dns.addresses:
        return say("only_system", because, target=target, addresses=own, outcome=dns.outcome)
    # Of a family that DNS could not be asked about nothing can be said.
    other = [a for a in own if a not in dns.addresses and discovery.family_of(a) in dns.settled]
    return say(
        "differs" if other else "agrees", because, target=target, addresses=own, **({"dns": published} if other else {})
    )
