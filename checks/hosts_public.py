"""Whether KMS hosts have addresses inside the company.

What it looks at: the addresses of every published or given host, and host names of the clouds' own KMS.
Why it matters: KMS is meant for the inside. A public address means that activation leaves the company's network, or
that DNS was tampered with; a loopback address means that a filter or a mistake sends each client to itself.
What to do: find out who published the record; in a cloud, make sure that traffic leaves by the cloud's own network.
"""

import ipaddress
from collections.abc import Iterator
from typing import Any

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Severity, domains_and_hosts, say
from kmsdiag.knowledge.clouds import CLOUD_HOSTS
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request
from kmsdiag.model.target import Subject

META = CheckMeta(
    title="Private, public and cloud hosts",
    codes={
        "private": Code(Severity.OK, "{target} has private addresses: {addresses}."),
        "public": Code(
            Severity.WARNING,
            "{target} has a public address: {addresses}.",
            "Activation leaves the company's network, or somebody else published the record.",
        ),
        "cloud": Code(
            Severity.INFO,
            "{target} is the KMS host of {provider}.",
            "It answers only machines inside that cloud; through a VPN or forced tunnel it does not.",
        ),
        "unusable": Code(
            Severity.WARNING,
            "{target} has an address that other machines can't use: {addresses}.",
            "Each client is sent to itself or nowhere; DNS filters answer like this.",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "No address of {subject} is known to look at."),
    },
    tags=frozenset({"hosts", "policy"}),
    since="0.1",
    references=("RFC 1918", "RFC 6890", "Microsoft: Custom routes to enable KMS activation (Azure)"),
)

subjects = domains_and_hosts


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """Discovery down to addresses."""
    yield from discovery.ask(subject, seen)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a target and kind of address."""
    judged: set[str] = set()
    for service in discovery.services(subject, seen):
        if service.target in judged:
            continue
        judged.add(service.target)
        srv = discovery.reasons(service, subject, seen)
        because = srv + tuple(query for query, _answer in discovery.address_answers(service, seen))
        if service.target in CLOUD_HOSTS:
            yield say("cloud", because, target=service.target, provider=CLOUD_HOSTS[service.target])
            continue
        kinds: dict[str, list[str]] = {}
        for address in discovery.addresses(service, seen):
            kinds.setdefault(_kind(address), []).append(address)
        for kind, addresses in sorted(kinds.items()):
            if kind != "private" or len(kinds) == 1:
                yield say(kind, because, target=service.target, addresses=tuple(addresses))
        if not kinds:
            judged.discard(service.target)
    if not judged:
        because = tuple(dict.fromkeys(discovery.ask(subject, seen)))
        for request in because:
            seen[request]
        yield say("nothing", because, subject=str(subject))


def _kind(text: str) -> str:
    address = ipaddress.ip_address(text.partition("%")[0])
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        return "unusable"
    return "public" if address.is_global else "private"
