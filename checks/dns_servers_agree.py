"""Whether all DNS servers say the same about a domain's KMS hosts.

What it looks at: the SRV records of the domain from every configured server and from the authoritative servers of its
zone (without recursion, the first 20 by name), over UDP and TCP (a configured one for the first domain only), with the
zone's serial number.
Why it matters: a client believes the one server it asks. A secondary that stopped copying the zone sends its clients to
hosts that are gone, and everybody else sees a healthy domain.
What to do: mend the copying of the zone (transfer, notify, replication), or take the server out of the delegation.
"""

from collections.abc import Iterator
from typing import Any

from kmsdiag import agreement, discovery
from kmsdiag.agreement import Key, NameServer, Role, ServerView, Zone
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains, say
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import DnsOutcome, State
from kmsdiag.model.request import NsQuery, Request, SoaQuery
from kmsdiag.model.target import Family, Subject, join_host_port

_COPY = Fix(
    Where.DNS_SERVER,
    "on the stale server: copy the zone again, and see why it stopped",
    "Start-DnsServerZoneTransfer -Name {zone} -FullTransfer; Get-WinEvent -LogName 'DNS Server' -MaxEvents 20",
)
_DIG = Fix(Where.HERE, "see its answer yourself", "dig {at:words} {name} SRV")

META = CheckMeta(
    title="Agreement of the DNS servers",
    codes={
        "agree": Code(Severity.OK, "All {count} servers asked about {domain} give the same records: {servers}."),
        "single": Code(Severity.OK, "{domain} is answered by one server only ({servers}): nothing to compare."),
        "differ": Code(
            Severity.ERROR,
            "{server} gives other records for {domain} than {than}: {difference}.",
            "Its clients are sent to other KMS hosts than everybody else, or to none.",
            (_DIG, _COPY),
        ),
        "disagree": Code(
            Severity.ERROR,
            "The servers of {domain} give different records, and none is known to have the newest copy: {copies}.",
            "To which KMS hosts a client is sent depends on the server it asks.",
            (
                Fix(
                    Where.DNS_SERVER,
                    "see whether the servers replicate the zone",
                    "Get-DnsServerZone -Name {zone}; dcdiag /test:DNS",
                ),
            ),
        ),
        "stale_serial": Code(
            Severity.WARNING,
            "{server} has serial {serial} of zone {zone}; the newest is {newest}.",
            "It lags behind: a change of the KMS records does not reach it, or comes late.",
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
            "What it says is not known; who asks it has the same trouble.",
            (_DIG,),
        ),
        "not_reached": Code(
            Severity.INFO,
            "{server}, a name server of zone {zone}, could not be asked from here: {outcome}.",
            "What it says is not known. Clients ask a resolver, not this server, and whether that one reaches it is not"
            " seen from here.",
            (_DIG,),
        ),
        "no_address": Code(
            Severity.WARNING,
            "{server} is named as a server of zone {zone} and has no address: {outcome}.",
            "No resolver can ask it. Often it is a domain controller that is gone; otherwise its address record is"
            " missing, and the other servers carry the zone alone.",
            (
                Fix(
                    Where.DNS_SERVER,
                    "give it its address record, or take it out of the zone's name servers",
                    "Get-DnsServerResourceRecord -ZoneName {zone} -RRType NS",
                ),
            ),
        ),
        "address_not_known": Code(
            Severity.INFO,
            "{server} is named as a server of zone {zone} and was not asked; no address of it is known: {outcomes}.",
            "What it says is not known.",
            (Fix(Where.HERE, "see its addresses yourself", "dig {at:words} {server} A {server} AAAA"),),
        ),
        "left_out": Code(
            Severity.INFO,
            "Zone {zone} has {count} name servers; the first {most} by name were asked, {left} were not.",
            "A stale copy on one of those is not seen here.",
            (
                Fix(
                    Where.DNS_SERVER,
                    "if they are domain controllers: see whether all of them replicate",
                    "dcdiag /e /test:Replications",
                ),
            ),
        ),
        "tcp_blocked": Code(
            Severity.WARNING,
            "{server} answers about {domain} over UDP but not over TCP 53 ({outcome}).",
            "Answers that do not fit into a datagram are lost: many KMS hosts, or long names.",
            (Fix(Where.HERE, "see it yourself", "dig +tcp {at:words} {name} SRV"),),
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
    yield from _judge_zone(subject, seen)
    content = True
    for view in views:
        for finding in _judge_alone(subject, seen, view):
            content = False
            yield finding
    # With one of these unanswered, the newest copy may be the one that was not read: nobody is blamed.
    for request in agreement.basis(subject, seen):
        _answer = seen[request]
    for finding in _compare(subject, seen, views):
        content = False
        yield finding
    for view in views:
        _answer = seen[view.query]
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
    """What is said of the zone and its name servers; the gap where a question that decides the zone is open."""
    zone = agreement.zone_of(subject, seen)
    answers = [seen[query] for query in zone.asked]
    if not zone.name:
        words = "the record's name is an alias" if answers[-1].chain else answers[-1].outcome.words
        yield say("no_zone", zone.asked, domain=subject.name, outcome=words)
        return
    query = NsQuery(name=zone.name, server=zone.server)
    names = seen[query].names
    if not names:
        yield say("no_zone", (*zone.asked, query), domain=subject.name, outcome=seen[query].outcome.words)
    left = agreement.left_out(subject, seen)
    if left:
        yield say("left_out", (query,), zone=zone.name, count=len(names), most=len(names) - left, left=left)
    for server in agreement.name_servers(subject, seen):
        if not server.address:
            yield from _judge_address(zone, server, seen)


def _judge_address(zone: Zone, server: NameServer, seen: Evidence) -> Iterator[Finding]:
    """What is said of a name server without an address; nothing while one may come yet."""
    outcomes = {query: answer.outcome for query in server.queries if (answer := seen.get(query)) is not None}
    if len(outcomes) < len(server.queries):
        return
    because = (NsQuery(name=zone.name, server=zone.server), *server.queries)
    gone = DnsOutcome.NXDOMAIN in outcomes.values()
    # A name without an address of the one family that was asked for may have one of the other.
    if all(outcome.is_absence for outcome in outcomes.values()) and (gone or len(outcomes) == len(Family)):
        words = (DnsOutcome.NXDOMAIN if gone else DnsOutcome.NODATA).words
        yield say("no_address", because, server=server.name, zone=zone.name, outcome=words)
    else:
        told = tuple(f"{_RECORDS[query.family]}: {outcome.words}" for query, outcome in outcomes.items())
        at = discovery.at(zone.server)
        yield say("address_not_known", because, server=server.name, zone=zone.name, outcomes=told, at=at)


def _place(view: ServerView) -> dict[str, str]:
    """What the templates need to know of a server. One that is a resolver has no data of its own to ask for."""
    at = discovery.at(view.server)
    return {
        "server": view.label,
        "at": f"+norecurse {at}" if view.role is Role.AUTHORITATIVE else at,
        "name": view.query.name,
    }


def _judge_alone(subject: Subject, seen: Evidence, view: ServerView) -> Iterator[Finding]:
    """What is said of one server, whatever the others say; nothing where it was not asked."""
    answer = view.answer
    if answer is None:
        return
    because = (view.query,)
    if not view.knows:
        # An authoritative server that answers something is lame; one that does not answer is merely not known. What it
        # says at the end of an alias is about another name.
        zone = agreement.zone_of(subject, seen).name
        if view.role is Role.AUTHORITATIVE and answer.outcome in _ANSWERS_SOMETHING and not answer.chain:
            words = "its answer is not authoritative" if _is_usable(answer.outcome) else answer.outcome.words
            yield say("lame", because, zone=zone, outcome=words, **_place(view))
        elif view.role is Role.AUTHORITATIVE and not agreement.is_configured(view.server, seen):
            yield say("not_reached", because, zone=zone, outcome=answer.outcome.words, **_place(view))
        else:
            yield say("could_not_ask", because, domain=subject.name, outcome=answer.outcome.words, **_place(view))
    elif view.tcp is not None and view.tcp.outcome in _NO_TCP:
        over_tcp = agreement.over_tcp(subject, view.server, seen)
        yield say("tcp_blocked", (over_tcp,), domain=subject.name, outcome=view.tcp.outcome.words, **_place(view))


def _is_usable(outcome: DnsOutcome) -> bool:
    return outcome.state is State.OK or outcome.is_absence


def _compare(subject: Subject, seen: Evidence, views: list[ServerView]) -> Iterator[Finding]:
    """What is said of servers that do not say what the newest copy says."""
    zone = agreement.zone_of(subject, seen).name or subject.name
    best = agreement.reference(views)
    newest = agreement.newest_serial(views)
    knowing = [view for view in views if view.knows]
    own = any(view.role is Role.AUTHORITATIVE for view in knowing)
    than = "the newest copy" if newest is not None else "most of the zone's servers" if own else "most servers"
    if best is None and len({view.records for view in knowing}) > 1:
        because = tuple(view.query for view in knowing)
        yield say("disagree", because, domain=subject.name, zone=zone, copies=_copies(knowing))
    for view in knowing:
        if best is not None and view.records != best:
            difference = _difference(view.records, best)
            yield say(
                "differ",
                (view.query,),
                domain=subject.name,
                than=than,
                difference=difference,
                zone=zone,
                **_place(view),
            )
        elif view.serial is not None and newest is not None and view.serial != newest:
            soa = SoaQuery(name=zone, server=view.server, recursion=False)
            yield say("stale_serial", (soa,), server=view.label, serial=view.serial, zone=zone, newest=newest)


_ANSWERS_SOMETHING = (
    DnsOutcome.ANSWERED,
    DnsOutcome.NODATA,
    DnsOutcome.NXDOMAIN,
    DnsOutcome.SERVFAIL,
    DnsOutcome.REFUSED,
    DnsOutcome.REFERRAL,
    DnsOutcome.ERROR_RCODE,
)
_RECORDS = {Family.IPV4: "A", Family.IPV6: "AAAA"}
_NO_TCP = (DnsOutcome.TIMEOUT, DnsOutcome.NOT_LISTENING, DnsOutcome.UNREACHABLE)


def _copies(views: list[ServerView]) -> tuple[str, ...]:
    """Each record set, with the servers that give it."""
    found: dict[frozenset[Key], list[str]] = {}
    for view in views:
        found.setdefault(view.records, []).append(view.label)
    return tuple(
        f"{' and '.join(servers)}: "
        + (" ".join(f"{join_host_port(key[3], key[2])} ({key[0]}/{key[1]})" for key in sorted(records)) or "no record")
        for records, servers in found.items()
    )


def _difference(records: frozenset[Key], best: frozenset[Key]) -> tuple[str, ...]:
    """Records missing here, extra here, and the same host with other fields."""
    missing, extra = best - records, records - best
    lacking, spare = ({(target, port) for _p, _w, port, target in keys} for keys in (missing, extra))
    here, wanted = ({(target, port) for _p, _w, port, target in keys} for keys in (records, best))
    words = []
    for priority, weight, port, target in sorted(missing):
        host = join_host_port(target, port)
        if (target, port) in spare:
            words.append(f"{host} should have rank {priority}/{weight}")
        else:
            words.append(f"{host} is missing" + (f" with rank {priority}/{weight}" if (target, port) in here else ""))
    for priority, weight, port, target in sorted(extra):
        if (target, port) not in lacking:
            host = join_host_port(target, port)
            words.append(f"{host} is extra" + (f" with rank {priority}/{weight}" if (target, port) in wanted else ""))
    return tuple(dict.fromkeys(words))
