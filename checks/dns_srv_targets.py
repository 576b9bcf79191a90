"""Whether the names that SRV records point to lead to addresses.

What it looks at: A and AAAA records of each SRV target, asked of the server that named it, with the CNAME chain.
Why it matters: a client that was given a name it can't resolve shows 0xC004F074, just as for a dead host. RFC 2782
forbids aliases as targets, and some resolvers follow them only sometimes.
What to do: give the target its own address record, or let the record name the host's real name.
"""

from collections.abc import Iterator
from typing import Any

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains, say
from kmsdiag.discovery import Service
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request
from kmsdiag.model.target import Family, Subject, as_address

META = CheckMeta(
    title="Addresses of the published hosts",
    codes={
        "resolves": Code(Severity.OK, "{target} has {addresses}."),
        "no_address": Code(
            Severity.ERROR,
            "{target} has no address ({outcome}).",
            "Clients that pick this record fail on it.",
            (Fix(Where.CLIENT, "see what a client gets", "Resolve-DnsName {target}"),),
        ),
        "lookup_failed": Code(
            Severity.ERROR,
            "The {family} address of {target} could not be asked of {server}: {outcome}.",
            "Whether the name has such an address is not known; clients of this server have the same trouble.",
            (Fix(Where.CLIENT, "see what a client gets", "Resolve-DnsName {target}"),),
        ),
        "cname": Code(
            Severity.WARNING,
            "{target} is an alias (CNAME) of {canonical}; an SRV record must name the host itself (RFC 2782).",
            "Most clients follow the alias; those that keep to the standard do not.",
            (
                Fix(
                    Where.KMS_HOST,
                    "let the host publish its own name instead of a hand-made record",
                    "slmgr /sdns; Restart-Service sppsvc",
                ),
            ),
        ),
        "root_target": Code(
            Severity.ERROR,
            '{name} has the target ".": the service is decidedly not offered (RFC 2782).',
            "Clients that honour it never look further.",
        ),
        "address_literal": Code(
            Severity.WARNING,
            "{name} has the address {target} where a host name belongs (RFC 2782).",
            "Whether a client can use it depends on its resolver.",
        ),
        "only_ipv6": Code(
            Severity.INFO,
            "{target} has only IPv6 addresses: {addresses}.",
            "Clients in networks with IPv4 alone can't reach it.",
        ),
        "nothing": Code(
            Severity.NOT_ASSESSED, "No published host of {domain} is known whose address could be looked up."
        ),
    },
    tags=frozenset({"dns", "hosts"}),
    since="0.1",
    references=("RFC 2782", "RFC 2181 section 10.3"),
)

subjects = domains


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """SRV, then A and AAAA of each target."""
    yield from discovery.ask(subject, seen)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """At least one finding a target."""
    found = discovery.services(subject, seen)
    judged: set[str] = set()
    for service in found:
        # Two ports of one target are one name.
        if service.target not in judged:
            judged.add(service.target)
            yield from _judge_target(subject, service, seen)
    if not found:
        because = tuple(discovery.srv_queries(subject, seen))
        for query in because:
            seen[query]
        yield say("nothing", because, domain=subject.name)


def _judge_target(subject: Subject, service: Service, seen: Evidence) -> Iterator[Finding]:
    target = service.target
    srv = discovery.reasons(service, subject, seen)
    if target == discovery.ROOT:
        yield say("root_target", srv, name=f"_vlmcs._tcp.{subject.name}")
        return
    if as_address(target) is not None:
        yield say("address_literal", srv, name=f"_vlmcs._tcp.{subject.name}", target=target)
        return
    queries = tuple(discovery.address_queries(service, seen))
    answers = [(query, answer) for query in queries if (answer := seen.get(query)) is not None]
    if len(answers) < len(queries):
        # The engine notes the gap; the other targets can be judged.
        return
    because = tuple(query for query, _answer in answers)
    chain = next((answer.chain for _query, answer in answers if answer.chain), ())
    if chain:
        yield say("cname", because, target=target, canonical=chain[-1])
    for query, answer in answers:
        if not answer.addresses and not answer.outcome.is_absence:
            yield say(
                "lookup_failed",
                (query,),
                target=target,
                family="IPv4" if query.family is Family.IPV4 else "IPv6",
                server=answer.server or query.server,
                outcome=answer.outcome.words,
            )
    addresses = tuple(discovery.addresses(service, seen))
    if addresses:
        ipv4 = [answer for query, answer in answers if query.family is Family.IPV4]
        only_ipv6 = bool(ipv4) and all(answer.outcome.is_absence for answer in ipv4)
        code = "only_ipv6" if only_ipv6 else "resolves"
        yield say(code, because, target=target, addresses=addresses)
    elif all(answer.outcome.is_absence for _query, answer in answers):
        outcome = answers[0][1].outcome.words
        yield say("no_address", because, target=target, outcome=outcome)
