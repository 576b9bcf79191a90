"""Whether all DNS servers say the same about a domain's KMS hosts.

What it looks at: the SRV records of the domain from every configured server and from every authoritative server of its
zone (without recursion), over UDP and TCP, with the zone's serial number.
Why it matters: a client believes the one server it asks. A secondary that stopped copying the zone sends its clients to
hosts that are gone, and everybody else sees a healthy domain.
What to do: mend the copying of the zone (transfer, notify, replication), or take the server out of the delegation.
"""

from collections.abc import Iterator
from typing import Any

from kmsdiag import agreement
from kmsdiag.agreement import Key, Role, ServerView
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains, say
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import DnsOutcome, State
from kmsdiag.model.request import NsQuery, Request, SoaQuery
from kmsdiag.model.target import Subject

_COPY = Fix(
    Where.DNS_SERVER,
    "on the stale server: copy the zone again, and see why it stopped",
    "Start-DnsServerZoneTransfer -Name {zone} -FullTransfer; Get-WinEvent -LogName 'DNS Server' -MaxEvents 20",
)
_DIG = Fix(Where.HERE, "see its answer yourself", "dig +norecurse {at:words} {name} SRV")

META = CheckMeta(
    title="Agreement of the DNS servers",
    codes={
        "agree": Code(Severity.OK, "All {count} servers of {domain} give the same records: {servers}."),
        "single": Code(Severity.OK, "{domain} is answered by one server only ({servers}): nothing to compare."),
        "differ": Code(
            Severity.ERROR,
            "{server} gives other records for {domain} than the newest copy: {difference}.",
            "Its clients are sent to other KMS hosts than everybody else, or to none.",
            (_DIG, _COPY),
        ),
        "stale_serial": Code(
            Severity.WARNING,
            "{server} has serial {serial} of zone {zone}; the newest is {newest}.",
            "It does not take part in changes; for now its KMS records are the same.",
            (_COPY,),
        ),
        "lame": Code(
            Severity.ERROR,
            "{server} is named as a server of zone {zone} and does not serve it ({outcome}).",
            "Resolvers that pick it get nothing; look-ups fail now and then, or take long.",
            (
                _DIG,
                Fix(
                    Where.DNS_SERVER,
                    "take it out of the zone's name servers, or load the zone there",
                    "Get-DnsServerResourceRecord -ZoneName {zone} -RRType NS",
                ),
            ),
        ),
        "could_not_ask": Code(
            Severity.WARNING,
            "{server} could not be asked about {domain}: {outcome}.",
            "What it says is not known; clients that use it have the same trouble.",
            (_DIG,),
        ),
        "tcp_blocked": Code(
            Severity.WARNING,
            "{server} answers about {domain} over UDP but not over TCP 53 ({outcome}).",
            "Answers that do not fit into a datagram are lost: many KMS hosts, or long names.",
            (Fix(Where.HERE, "see it yourself", "dig +tcp +norecurse {at:words} {name} SRV"),),
        ),
        "no_zone": Code(
            Severity.NOT_ASSESSED,
            "The authoritative servers of {domain} could not be found out ({outcome}); configured ones were asked.",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "No server could be asked about {domain}, so none could be compared."),
    },
    tags=frozenset({"dns", "consistency"}),
    since="0.1",
    references=("RFC 1912 section 2.8 (lame delegation)", "RFC 1982", "RFC 7766"),
)

subjects = domains


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """SRV of every server; the zone, its servers and their addresses to know which."""
    yield from agreement.ask(subject, seen)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a server that is not like the others, or one for all."""
    views = agreement.views(subject, seen)
    content = True
    yield from _judge_zone(subject, seen)
    best = agreement.reference(views)
    newest = agreement.newest_serial(views)
    for view in views:
        for finding in _judge_view(subject, seen, view, best, newest):
            content = False
            yield finding
    knowing = [view for view in views if view.knows]
    because = tuple(view.query for view in views)
    servers = tuple(view.label for view in knowing)
    if not knowing:
        yield say("nothing", because, domain=subject.name)
    elif len(knowing) == 1:
        yield say("single", because, domain=subject.name, servers=servers)
    elif content:
        yield say("agree", because, domain=subject.name, count=len(knowing), servers=servers)


def _judge_zone(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    soa_query = SoaQuery(name=subject.name, server=agreement.first_server(seen))
    soa = seen[soa_query]
    if not soa.zone:
        yield say("no_zone", (soa_query,), domain=subject.name, outcome=soa.outcome.words)
        return
    ns_query = NsQuery(name=soa.zone, server=agreement.first_server(seen))
    names = seen[ns_query]
    if not names.names:
        yield say("no_zone", (soa_query, ns_query), domain=subject.name, outcome=names.outcome.words)


def _judge_view(
    subject: Subject, seen: Evidence, view: ServerView, best: frozenset[Key] | None, newest: int | None
) -> Iterator[Finding]:
    answer = seen[view.query]
    because = (view.query,)
    place = {"server": view.label, "at": f"@{view.server}", "name": view.query.name}
    zone = agreement.zone_of(subject, seen)
    if not view.knows:
        # An authoritative server that answers something is lame; one that does not answer is merely not known.
        answers = answer.outcome in _ANSWERS_SOMETHING
        if view.role is Role.AUTHORITATIVE and answers:
            words = "its answer is not authoritative" if answer.outcome.state is State.OK else answer.outcome.words
            yield say("lame", because, zone=zone, outcome=words, **place)
        else:
            yield say("could_not_ask", because, domain=subject.name, outcome=answer.outcome.words, **place)
        return
    if best is not None and view.records != best:
        difference = _difference(view.records, best)
        yield say("differ", because, domain=subject.name, difference=difference, zone=zone or subject.name, **place)
    elif view.serial is not None and newest is not None and view.serial != newest:
        yield say("stale_serial", because, server=view.label, serial=view.serial, zone=zone, newest=newest)
    if view.tcp is not None and view.tcp.outcome in _NO_TCP:
        yield say("tcp_blocked", because, domain=subject.name, outcome=view.tcp.outcome.words, **place)


_ANSWERS_SOMETHING = (
    DnsOutcome.ANSWERED,
    DnsOutcome.NODATA,
    DnsOutcome.NXDOMAIN,
    DnsOutcome.SERVFAIL,
    DnsOutcome.REFUSED,
    DnsOutcome.REFERRAL,
    DnsOutcome.ERROR_RCODE,
)
_NO_TCP = (DnsOutcome.TIMEOUT, DnsOutcome.NOT_LISTENING, DnsOutcome.UNREACHABLE)


def _difference(records: frozenset[Key], best: frozenset[Key]) -> tuple[str, ...]:
    """Records missing here, extra here, and the same host with other fields."""
    hosts = {(target, port) for _p, _w, port, target in records}
    wanted = {(target, port) for _p, _w, port, target in best}
    words = []
    for priority, weight, port, target in sorted(best - records):
        if (target, port) not in hosts:
            words.append(f"{target}:{port} is missing")
        else:
            words.append(f"{target}:{port} should have rank {priority}/{weight}")
    words += [
        f"{target}:{port} is extra" for _p, _w, port, target in sorted(records - best) if (target, port) not in wanted
    ]
    return tuple(dict.fromkeys(words))
