"""How many KMS hosts DNS publishes for a domain.

What it looks at: the SRV records of _vlmcs._tcp.<domain>, from every DNS server named.
Why it matters: a client without a cached or configured host finds one only through this record. No record, or a DNS
server that can't be asked, and activation fails before a single packet reaches the KMS host.
What to do: where there is none, have the host publish itself or create the record; where a server can't be asked,
mend DNS first.
"""

from collections.abc import Iterator

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains, say
from kmsdiag.model.answer import SrvAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request, SrvQuery
from kmsdiag.model.target import Subject, join_host_port

META = CheckMeta(
    title="KMS hosts published in DNS",
    codes={
        "one": Code(Severity.OK, "{name} names one KMS host: {hosts} (asked {server})."),
        "several": Code(
            Severity.INFO,
            "{name} names {count} KMS hosts: {hosts} (asked {server}).",
            "A client may pick any of them, so each one has to work and to be wanted.",
        ),
        "none": Code(
            Severity.ERROR,
            "{name} names no KMS host: {outcome} (asked {server}).",
            "Clients that look for a host through this domain can't find one.",
            (
                Fix(Where.KMS_HOST, "have the host publish itself", "slmgr /sdns; Restart-Service sppsvc"),
                Fix(Where.CLIENT, "see what a client gets", "nslookup -type=srv {name}"),
            ),
        ),
        "unreachable": Code(
            Severity.ERROR,
            "{name} could not be asked of {server}: {outcome}{detail}.",
            "Whether a record exists is not known; clients of this server fail either way.",
            (Fix(Where.CLIENT, "see what a client gets", "nslookup -type=srv {name}"),),
        ),
    },
    tags=frozenset({"dns", "hosts"}),
    since="0.1",
    references=("RFC 2782", "Microsoft: Guidelines for troubleshooting KMS"),
)

subjects = domains


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[SrvAnswer]]:
    """The SRV question, at each server."""
    yield from discovery.srv_queries(subject, seen)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a server."""
    for query in discovery.srv_queries(subject, seen):
        yield _judge_answer(query, seen[query])


def _judge_answer(query: SrvQuery, answer: SrvAnswer) -> Finding:
    server = answer.server or query.server
    because = (query,)
    if answer.outcome.is_absence:
        return say("none", because, name=query.name, server=server, outcome=answer.outcome.words)
    if not answer.records:
        detail = f" ({answer.detail})" if answer.detail else ""
        return say("unreachable", because, name=query.name, server=server, outcome=answer.outcome.words, detail=detail)
    named = sorted({(record.target, record.port) for record in answer.records if record.target != discovery.ROOT})
    if not named:
        return say(
            "none", because, name=query.name, server=server, outcome='its only target is ".", which means not offered'
        )
    hosts = tuple(join_host_port(target, port) for target, port in named)
    if len(hosts) == 1:
        return say("one", because, name=query.name, server=server, hosts=hosts)
    return say("several", because, name=query.name, server=server, hosts=hosts, count=len(hosts))
