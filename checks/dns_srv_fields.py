"""What the other fields of the SRV records say: ports, priorities, weights, TTL, duplicates.

What it looks at: every field of every SRV record of a domain.
Why it matters: clients use the port of the record, whatever the host listens on; priority and weight decide who gets
the clients; a TTL decides how long a mistake lives.
What to do: correct the record by hand, or let the KMS host publish its own.
"""

from collections.abc import Iterator, Sequence

from kmsdiag import choice, discovery
from kmsdiag.check import CheckMeta, Code, Severity, domains, say
from kmsdiag.knowledge.limits import LONG_TTL
from kmsdiag.model.answer import SrvAnswer, SrvRecord
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request, SrvQuery
from kmsdiag.model.target import KMS_PORT, Subject, join_host_port

META = CheckMeta(
    title="Fields of the SRV records",
    codes={
        "default_port": Code(Severity.OK, "{name}: every record has port 1688."),
        "other_port": Code(
            Severity.INFO,
            "{name}: {hosts} is published with another port than 1688.",
            "Firewalls have to let that port through, and the host has to listen on it (slmgr /sprt).",
        ),
        "ports_differ": Code(
            Severity.WARNING,
            "{name}: {target} is published with several ports: {ports}.",
            "A host listens on one port; clients that pick another fail on it.",
        ),
        "ranked": Code(
            Severity.INFO,
            "{name}: priorities and weights differ; tried first: {shares}.",
            "Windows 7 and later honour them, Vista and Server 2008 do not; a client that already has a working host"
            " keeps it.",
        ),
        "duplicate": Code(
            Severity.WARNING,
            "{name}: {host} stands in {count} records.",
            "It gets that many shares of the first picks; one of the records is a left-over.",
        ),
        "ttl_zero": Code(
            Severity.WARNING,
            "{name} has a TTL of 0.",
            "No resolver keeps the answer: every attempt of every client asks the server again.",
        ),
        "ttl_long": Code(
            Severity.INFO,
            "{name} has a TTL of {ttl} s ({days} days).",
            "A change of the record takes that long to reach all clients.",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "No SRV record of {domain} is known that names a host."),
    },
    tags=frozenset({"dns"}),
    since="0.1",
    references=("RFC 2782", "Microsoft: KMS activation timing and discovery"),
)

subjects = domains


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[SrvAnswer]]:
    """The SRV question, at each server."""
    yield from discovery.srv_queries(subject, seen)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """The port always, the rest where it is noteworthy; each distinct record set once."""
    judged: set[tuple[object, ...]] = set()
    for query in discovery.srv_queries(subject, seen):
        answer = seen[query]
        # The root as a target says that there is no service; its other fields mean nothing.
        records = tuple(record for record in answer.records if record.target != discovery.ROOT)
        shape = tuple((record.priority, record.weight, record.port, record.target) for record in records)
        if records and shape not in judged:
            judged.add(shape)
            yield from _judge_records(query, records)
    if not judged:
        because = tuple(discovery.srv_queries(subject, seen))
        yield say("nothing", because, domain=subject.name)


def _judge_records(query: SrvQuery, records: Sequence[SrvRecord]) -> Iterator[Finding]:
    name, because = query.name, (query,)
    named = sorted({(record.target, record.port) for record in records})
    other = tuple(join_host_port(target, port) for target, port in named if port != KMS_PORT)
    if other:
        yield say("other_port", because, name=name, hosts=other)
    else:
        yield say("default_port", because, name=name)
    for target in sorted({target for target, _port in named}):
        ports = tuple(str(port) for name_, port in named if name_ == target)
        if len(ports) > 1:
            yield say("ports_differ", because, name=name, target=target, ports=ports)
    if len({(record.priority, record.weight) for record in records}) > 1:
        chances = zip(records, choice.first_pick_ranked(records), strict=True)
        shares = tuple(f"{record.target} {chance:.0%}" for record, chance in chances if chance)
        yield say("ranked", because, name=name, shares=shares)
    for target, port in named:
        count = sum(1 for record in records if (record.target, record.port) == (target, port))
        if count > 1:
            yield say("duplicate", because, name=name, host=join_host_port(target, port), count=count)
    ttl = min(record.ttl for record in records)
    if ttl == 0:
        yield say("ttl_zero", because, name=name)
    elif ttl > LONG_TTL:
        yield say("ttl_long", because, name=name, ttl=ttl, days=f"{ttl / 86400:.1f}")
