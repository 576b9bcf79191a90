"""What captured clients asked DNS to find a KMS host, and what came back.

What it looks at: questions for _vlmcs._tcp records and for the addresses of their targets, at each DNS server:
answers, errors, silence, and whether anything was asked at all.
Why it matters: a client that is told no host never comes as far as TCP. Its code depends on the answer: 0x8007232B
for NXDOMAIN, 0x8007251D for a name without a record, 0x8007007B where it has no DNS suffix and so asks nothing.
What to do: publish the record in the domain the clients ask for, or mend the server that does not answer; for a
client that asked nothing, look at its suffixes and at what slmgr /skms has set.
"""

from collections.abc import Iterator

from kmsdiag import captured, discovery
from kmsdiag.captured import People
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, captures, say
from kmsdiag.knowledge import icmp
from kmsdiag.model.capture import CapturedLookup, Channel
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.request import Captures
from kmsdiag.model.target import Subject

_ASK = Fix(Where.HERE, "see the answer yourself", "dig {at:words} {name} SRV")
_ASK_CLIENT = Fix(Where.CLIENT, "see what a client gets", "Resolve-DnsName -Type SRV -DnsOnly {name}")
_SUFFIXES = Fix(Where.CLIENT, "see its suffixes, and what is set by hand", "Get-DnsClientGlobalSetting; slmgr /dlv")
_PUBLISH = Fix(
    Where.KMS_HOST,
    "have the KMS host publish itself (event 12294 says it did, 12293 why not)",
    "slmgr /sdns; Restart-Service sppsvc",
)

META = CheckMeta(
    title="Discovery in the captures",
    codes={
        "found": Code(Severity.OK, "{server} gave {clients} the hosts of {name}: {hosts}."),
        "none": Code(
            Severity.ERROR,
            "{server} knows no KMS host under {name} for {clients}: {outcome}.",
            "They show 0x8007232B where the name does not exist, 0x8007251D where it has no record.",
            (_PUBLISH, _ASK, _ASK_CLIENT),
        ),
        "other_name": Code(
            Severity.INFO,
            "{server} has no KMS record under {name} ({outcome}); all who asked for it found a host in another way.",
            "Clients try their suffixes one after the other, so such questions are normal.",
        ),
        "failed": Code(
            Severity.ERROR,
            "{server} left {clients} without an answer to {name}: {outcome}{icmp}.",
            "They could not ask, which is something else than being told that there is no host.",
            (_ASK, _ASK_CLIENT),
        ),
        "failed_over": Code(
            Severity.WARNING,
            "{server} does not resolve {name} ({outcome}{icmp}); those who asked it found a host in another way.",
            "Each attempt waits for this server before it goes on to the next.",
            (_ASK,),
        ),
        "partly": Code(
            Severity.WARNING,
            "{server} answered {answered} of {questions} questions for {name}; the others: {outcomes}.",
            "A server that answers now and then makes activation fail now and then.",
            (_ASK,),
        ),
        "unresolved": Code(
            Severity.ERROR,
            "{target}, named by {name}, has no address at {server}: {outcome}.",
            "Whoever picks this record gets no further, and shows 0xC004F074 where it is the only one.",
            (Fix(Where.HERE, "see the answer yourself", "dig {at:words} {target} A"),),
        ),
        "no_question": Code(
            Severity.INFO,
            "The captures hold DNS, and nobody asked for a KMS record: all {count} clients have their host cached or"
            " set by hand.",
            "A change of the record reaches such clients only when the cached host fails, and never where slmgr /skms"
            " is set.",
            (Fix(Where.CLIENT, "see which of the two it is (registered, or from DNS)", "slmgr /dlv"),),
        ),
        "silent": Code(
            Severity.WARNING,
            "The captures hold DNS, but no unicast question for a KMS record and no connection to a KMS host.",
            "A client without a DNS suffix asks nothing and shows 0x8007007B; or none tried while this was recorded.",
            (_SUFFIXES,),
        ),
        "other_channel": Code(
            Severity.WARNING,
            "{name} was asked by {channel} ({clients}).",
            "Windows looks for KMS by unicast DNS alone: this is another program, or a client without DNS servers.",
            (_SUFFIXES,),
        ),
        "no_dns": Code(
            Severity.NOT_ASSESSED,
            "The captures hold no DNS: what clients were told, and how they found their hosts, is not visible.",
        ),
    },
    tags=frozenset({"capture", "dns", "path"}),
    since="0.1",
    references=("RFC 2782", "Microsoft: Common troubleshooting procedures for KMS and DNS issues"),
)

subjects = captures
ask = captured.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a name and server, and one where nothing was asked."""
    request = captured.request(seen.target)
    answer = seen[request]
    because = (request,)
    lookups = captured.srv_lookups(answer)
    if not captured.saw_dns(answer):
        yield say("no_dns", because)
    elif not lookups and answer.conversations:
        yield say("no_question", because, count=f"{len(answer.clients):,}")
    elif not lookups:
        yield say("silent", because)
    people = captured.people_of(answer)
    for lookup in lookups:
        yield from _judge_lookup(lookup, people, because)
    naming: dict[str, str] = {}
    for lookup in lookups:
        for record in lookup.records:
            naming.setdefault(record.target, lookup.name)
    for target, lookup in people.unresolved.items():
        yield say(
            "unresolved",
            because,
            target=target,
            name=naming[target],
            server=lookup.server,
            at=discovery.at(lookup.server),
            outcome=captured.worst_of(lookup).words,
        )
    for channel in (Channel.MDNS, Channel.LLMNR):
        for lookup in captured.srv_lookups(answer, channel):
            yield say(
                "other_channel",
                because,
                name=lookup.name,
                channel=channel.value,
                clients=captured.count(lookup.clients, "client"),
            )


def _judge_lookup(lookup: CapturedLookup, people: People, because: tuple[Captures]) -> Iterator[Finding]:
    outcome = captured.worst_of(lookup)
    unserved = people.unserved(captured.domain_of(lookup))
    args = {"name": lookup.name, "server": lookup.server}
    if outcome is not DnsOutcome.ANSWERED:
        if outcome.is_absence and not unserved:
            yield say("other_name", because, **args, outcome=outcome.words)
            return
        error = f"; {lookup.icmp.sender} says: {icmp.meaning(lookup.icmp, lookup.server)}" if lookup.icmp else ""
        rest = {**args, "at": discovery.at(lookup.server), "outcome": outcome.words}
        if not unserved:
            yield say("failed_over", because, **rest, icmp=error)
        elif outcome.is_absence:
            yield say("none", because, **rest, clients=captured.who(unserved))
        else:
            yield say("failed", because, **rest, icmp=error, clients=captured.who(unserved))
        return
    hosts = tuple(sorted({f"{record.target}:{record.port}" for record in lookup.records}))
    yield say("found", because, **args, clients=captured.count(lookup.clients, "client"), hosts=hosts)
    failed = {name: number for name, number in lookup.outcomes.items() if name != DnsOutcome.ANSWERED}
    if failed:
        yield say(
            "partly",
            because,
            **args,
            at=discovery.at(lookup.server),
            answered=lookup.outcomes[DnsOutcome.ANSWERED],
            questions=sum(lookup.outcomes.values()),
            outcomes=tuple(f"{number} x {DnsOutcome(name).words}" for name, number in sorted(failed.items())),
        )
