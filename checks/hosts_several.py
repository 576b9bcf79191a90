"""How clients spread over several KMS hosts.

What it looks at: the distinct hosts of a domain's SRV records, their ranks, and the share of first picks each gets.
Why it matters: every host counts its own clients. A host activates only after 25 Windows clients (5 servers) have
asked it, so the same machines over more hosts may activate nowhere. One host key covers at most six hosts.
What to do: keep the hosts that are wanted, rank them by priority, and delete the records of the others.
"""

from collections.abc import Iterator

from kmsdiag import choice, discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains, say
from kmsdiag.knowledge.limits import CLIENT_THRESHOLD, HOSTS_PER_KEY
from kmsdiag.model.answer import SrvAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request
from kmsdiag.model.target import Subject, join_host_port

META = CheckMeta(
    title="Several KMS hosts and their shares",
    codes={
        "one": Code(Severity.OK, "{domain} has one KMS host: {hosts}."),
        "equal": Code(
            Severity.INFO,
            "{domain} has {count} KMS hosts of equal rank; first picks: {shares}.",
            "Each host needs 25 Windows clients (5 servers) of its own before it activates any.",
            (Fix(Where.CLIENT, "see which host a client uses", "slmgr /dlv"),),
        ),
        "ranked": Code(
            Severity.INFO,
            "{domain} has {count} KMS hosts, ranked; first picks: {shares}.",
            "A host that is only a reserve meets too few clients to activate any when it is needed.",
            (Fix(Where.CLIENT, "see which host a client uses", "slmgr /dlv"),),
        ),
        "too_many": Code(
            Severity.WARNING,
            "{domain} has {count} KMS hosts; one host key covers 6.",
            "Several keys are in use, or some of these are no hosts of yours (often a host key on a workstation).",
            (Fix(Where.KMS_HOST, "see whether a machine is a KMS host, and with which key", "slmgr /dlv"),),
        ),
        "spread": Code(
            Severity.WARNING,
            "{machines} machines over {count} KMS hosts: {starved} will meet fewer than 25 Windows clients"
            " (about {expected}).",
            "Clients of such a host get 0xC004F038: its count is too low.",
            (Fix(Where.KMS_HOST, "see a host's current count", "slmgr /dlv"),),
        ),
        "never": Code(
            Severity.WARNING,
            "{machines} machines over {count} KMS hosts: on none of them will 25 Windows clients meet"
            " (about {expected}).",
            "Clients get 0xC004F038 from every host; servers do too where fewer than 5 machines meet.",
            (Fix(Where.KMS_HOST, "see a host's current count", "slmgr /dlv"),),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "No published KMS host of {domain} is known."),
    },
    tags=frozenset({"dns", "hosts"}),
    since="0.1",
    references=("Microsoft: KMS activation planning", "RFC 2782"),
)

subjects = domains


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[SrvAnswer]]:
    """The SRV question, at each server."""
    yield from discovery.srv_queries(subject, seen)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """The first server that gave records speaks for the domain; differences between servers are another check's."""
    queries = tuple(discovery.srv_queries(subject, seen))
    for query in queries:
        records = tuple(record for record in seen[query].records if record.target != discovery.ROOT)
        if records:
            break
    else:
        yield say("nothing", queries, domain=subject.name)
        return
    # A host is a machine, whatever ports it is published with: machines are what keys and counts are about.
    shares: dict[str, float] = {}
    ports: dict[str, set[int]] = {}
    for record, chance in zip(records, choice.first_pick_ranked(records), strict=True):
        shares[record.target] = shares.get(record.target, 0.0) + chance
        ports.setdefault(record.target, set()).add(record.port)
    names = {
        target: join_host_port(target, min(own)) if len(own) == 1 else target for target, own in sorted(ports.items())
    }
    because = (query,)
    count = len(shares)
    if count == 1:
        yield say("one", because, domain=subject.name, hosts=tuple(names.values()))
        return
    ranked = len({(record.priority, record.weight) for record in records}) > 1
    listed = sorted(shares.items(), key=lambda item: (-item[1], item))
    yield say(
        "ranked" if ranked else "equal",
        because,
        domain=subject.name,
        count=count,
        shares=tuple(f"{names[target]} {share:.0%}" for target, share in listed),
    )
    if count > HOSTS_PER_KEY:
        yield say("too_many", because, domain=subject.name, count=count)
    machines = seen.target.expected.machines
    if machines is None:
        return
    starved = {
        names[target]: share * machines for target, share in shares.items() if share * machines < CLIENT_THRESHOLD
    }
    expected = tuple(f"{number:.0f}" for _host, number in sorted(starved.items()))
    if len(starved) == count:
        yield say("never", because, machines=machines, count=count, expected=expected)
    elif starved:
        hosts = tuple(sorted(starved))
        yield say("spread", because, machines=machines, count=count, starved=hosts, expected=expected)
