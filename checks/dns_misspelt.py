"""Whether KMS records stand under a name that no client asks for.

What it looks at: SRV records at names near _vlmcs._tcp.<domain>: swapped letters, the wrong protocol, a missing
underscore, the bare domain.
Why it matters: a record made by hand under a wrong name looks fine in the DNS console, and no client ever finds it.
What to do: make the record again under the right name, and delete the wrong one.
"""

from collections.abc import Iterator

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains, say
from kmsdiag.model.answer import SrvAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request, SrvQuery
from kmsdiag.model.target import Subject, join_host_port

_PREFIXES = ("_vmlcs._tcp.", "_vlcms._tcp.", "_vlmcs._udp.", "vlmcs._tcp.", "_vlmcs.tcp.", "vlmcs.tcp.", "_vlmcs.", "")
"""Slips seen in issues about Microsoft's own documentation (_vmlcs), and the usual ones; "" is the domain itself."""

META = CheckMeta(
    title="Misspelt KMS records",
    codes={
        "none": Code(Severity.OK, "{domain} has no KMS record under a near-miss name ({count} names tried)."),
        "found": Code(
            Severity.WARNING,
            "{wrong} holds an SRV record ({hosts}); clients ask for {name} only.",
            "No client finds these hosts through that record.",
            (
                Fix(
                    Where.DNS_SERVER,
                    "see the record, make it again under the right name, delete this one",
                    "Get-DnsServerResourceRecord -ZoneName {domain} -RRType Srv",
                ),
            ),
        ),
        "wildcard": Code(
            Severity.NOT_ASSESSED,
            "Every name in {domain} has an SRV record (a wildcard), so a misspelt one can't be told.",
        ),
        "could_not_ask": Code(Severity.NOT_ASSESSED, "Near-miss names of {domain} could not be asked for: {outcome}."),
    },
    tags=frozenset({"dns"}),
    since="0.1",
    references=("RFC 2782", "Microsoft windowsserverdocs issues 4170 and 4214 (the spelling _vmlcs)"),
)

subjects = domains


def _queries(subject: Subject, seen: Evidence) -> tuple[SrvQuery, ...]:
    server = seen.target.servers[0]
    return tuple(SrvQuery(name=f"{prefix}{subject.name}", server=server) for prefix in _PREFIXES)


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[SrvAnswer]]:
    """The near-miss names, and ones that nobody made."""
    yield from discovery.random_srvs(subject, seen)
    yield from _queries(subject, seen)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a wrong name that holds records."""
    random = discovery.random_srvs(subject, seen)
    failed = []
    for query in random:
        answer = seen[query]
        if answer.records:
            yield say("wildcard", (query,), domain=subject.name)
            return
        failed += [] if answer.outcome.is_absence else [query]
    # Where it is not known whether there is a wildcard, a name with a record is not known to be misspelt either.
    if failed:
        yield say("could_not_ask", tuple(failed), domain=subject.name, outcome=seen[failed[0]].outcome.words)
        return
    queries = _queries(subject, seen)
    content = True
    for query in queries:
        near = seen.get(query)
        if near is not None and near.records:
            content = False
            hosts = tuple(join_host_port(record.target, record.port) for record in near.records)
            name = f"_vlmcs._tcp.{subject.name}"
            yield say("found", (query,), wrong=query.name, hosts=hosts, name=name, domain=subject.name)
        elif near is not None and not near.outcome.is_absence:
            failed.append(query)
    if failed:
        yield say("could_not_ask", tuple(failed), domain=subject.name, outcome=seen[failed[0]].outcome.words)
    elif content:
        for query in queries:
            _answer = seen[query]
        yield say("none", queries, domain=subject.name, count=len(queries))
