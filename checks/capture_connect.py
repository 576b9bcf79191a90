"""Whether captured clients could connect to the hosts they turned to.

What it looks at: the SYNs to each host and what answered them: a handshake, nothing, a RST, an ICMP error.
Why it matters: each is the same 0xC004F074 to a client and another fault: a firewall that drops, a service that does
not run, a router without a way. Windows sends a refused SYN five times, half a second apart, then takes the next
host.
What to do: open TCP 1688 on the way, start the service, or delete the record of a host that is gone.
"""

from collections.abc import Iterator

from kmsdiag import captured
from kmsdiag.captured import People
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, captures, say
from kmsdiag.knowledge import icmp
from kmsdiag.model.capture import CaptureAnswer, CapturedHost
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import ConversationOutcome, Stage, State
from kmsdiag.model.request import Captures
from kmsdiag.model.target import Subject

_O = ConversationOutcome
_FAILED = tuple(one for one in _O if one.stage is Stage.TCP and one.state is State.FAIL)
_TEST = Fix(Where.CLIENT, "test the way from a client", "Test-NetConnection {address} -Port {port}")
_FIREWALL = Fix(
    Where.KMS_HOST,
    "if the host is alive, let KMS through its own firewall",
    "Enable-NetFirewallRule -DisplayGroup 'Key Management Service'",
)
_START = Fix(
    Where.KMS_HOST,
    "start the service and see whether this is a KMS host at all (and on which port)",
    "Start-Service sppsvc; slmgr /dlv",
)
_OVERRIDE = Fix(
    Where.CLIENT,
    'where slmgr /dlv shows this host as "Registered KMS machine name", return to DNS discovery',
    "slmgr /ckms",
)

META = CheckMeta(
    title="Connections in the captures",
    codes={
        "connected": Code(Severity.OK, "{host} took all connections of {clients}{latency}."),
        "unanswered": Code(
            Severity.ERROR,
            "{host} answers no SYN: {clients}, {attempts}{syns}.",
            "A firewall between the capture point and the host drops it, or the machine is gone.",
            (_FIREWALL, _OVERRIDE, _TEST),
        ),
        "refused": Code(
            Severity.ERROR,
            "{host} refuses connections (RST): {clients}, {attempts}{syns}.",
            "The machine is up and nothing listens there. Windows repeats a refused SYN, then takes the next host.",
            (_START, _OVERRIDE),
        ),
        "unreachable": Code(
            Severity.ERROR,
            "{host} can't be reached: {clients}, {attempts}; {icmp}.",
            "Somebody on the way turns the packets back.",
            (_TEST,),
        ),
        "handshake_failed": Code(
            Severity.ERROR,
            "{host} does not complete the handshake: {clients}, {attempts}{syns}.",
            "A firewall or load balancer on the way, or a host without room for more connections.",
            (_TEST,),
        ),
        "sometimes": Code(
            Severity.WARNING,
            "{host} took some connections and not others: {failed} of {conversations} failed ({outcomes}).",
            "A host under load, or a firewall that lets some networks through: compare who failed with who did not"
            " ({clients}).",
            (_TEST,),
        ),
        "nothing": Code(
            Severity.NOT_ASSESSED, "The captures hold no connection to a KMS host that is seen to its end."
        ),
    },
    tags=frozenset({"capture", "network", "path"}),
    since="0.1",
    references=("RFC 9293", "Microsoft: Error 0xC004F074 when you activate Windows (KB 974998)"),
)

subjects = captures
ask = captured.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a host, two where it failed in two ways."""
    request = captured.request(seen.target)
    answer = seen[request]
    people = captured.people_of(answer)
    said = False
    for host in captured.tried(answer.hosts, people):
        for finding in _judge_host(host, answer, people, (request,)):
            said = True
            yield finding
    if not said:
        yield say("nothing", (request,))


def _judge_host(
    host: CapturedHost, answer: CaptureAnswer, people: People, because: tuple[Captures]
) -> Iterator[Finding]:
    name = captured.called(host)
    met = [one for one in _FAILED if one.value in host.outcomes]
    reached = [name for name in host.outcomes if _O(name) not in (*_FAILED, _O.NOT_KNOWN)]
    if not met and reached:
        clients = captured.who([contact.client.address for contact in people.at(host)])
        ms = host.connect_ms
        latency = "" if ms is None else f" (median {ms.median:.1f} ms, 95 % within {ms.p95:.1f} ms)"
        yield say("connected", because, host=name, clients=clients, latency=latency)
    elif met and reached:
        yield say(
            "sometimes",
            because,
            host=name,
            address=host.address,
            port=host.port,
            failed=captured.number_of(host, *met),
            conversations=host.conversations,
            outcomes=captured.outcomes_in_words({one.value: host.outcomes[one.value] for one in met}),
            clients=captured.who(people.of(host, *met)),
        )
    else:
        for outcome in met:
            yield _never(outcome, host, answer, people, because)


def _never(
    outcome: ConversationOutcome, host: CapturedHost, answer: CaptureAnswer, people: People, because: tuple[Captures]
) -> Finding:
    """A host to which no connection came about."""
    seen = captured.example(answer, host, outcome)
    args: dict[str, str | int] = {
        "host": captured.called(host),
        "clients": captured.who(people.of(host, outcome)),
        "attempts": captured.count(captured.number_of(host, outcome), "attempt"),
    }
    if outcome is not _O.REFUSED:
        args.update(address=host.address, port=host.port)
    if outcome is _O.UNREACHABLE:
        error = None if seen is None else seen.icmp
        words = "the ICMP error was not kept"
        if error is not None:
            words = f"{error.sender} says: {error.name}, {icmp.meaning(error, host.address)}"
        return say("unreachable", because, **args, icmp=words)
    syns = f", {seen.syns} SYNs in the first" if seen is not None and seen.syns > 1 else ""
    return say(outcome.value, because, **args, syns=syns)
