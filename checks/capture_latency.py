"""How fast hosts answered captured clients, and what was lost on the way.

What it looks at: the time from SYN to handshake and from request to response at each host, segments that were sent
again, and requests that vanish although smaller packets pass.
Why it matters: a client waits for each host in turn, and gives up on a slow one. Lost segments are a network fault
that looks like a host fault; when only larger packets are lost, the path's MTU or a firewall that inspects RPC is to
blame.
What to do: compare captures of both ends; test the path's MTU; look at the host's load.
"""

from collections.abc import Iterator

from kmsdiag import captured
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, captures, say
from kmsdiag.knowledge.limits import MOST_LOSS, SLOW_ANSWER, SLOW_CONNECT
from kmsdiag.model.capture import CaptureAnswer, CapturedHost, Conversation, Spread
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import ConversationOutcome
from kmsdiag.model.request import Captures
from kmsdiag.model.target import Subject

_O = ConversationOutcome
_REPEATED = 2
"""Times a segment is sent again in vain before size is suspected."""

META = CheckMeta(
    title="Times and losses in the captures",
    codes={
        "fast": Code(Severity.OK, "{host}: {times}; next to nothing was sent again."),
        "slow_connect": Code(
            Severity.WARNING,
            "{host} takes long to take connections: {times}.",
            "A far or crowded way.",
            (Fix(Where.CLIENT, "measure from a client", "Test-NetConnection {address} -TraceRoute"),),
        ),
        "slow_answer": Code(
            Severity.WARNING,
            "{host} takes long to answer requests: {times}.",
            "The host is under load, or waits for something (its disk, its own DNS).",
            (
                Fix(
                    Where.KMS_HOST,
                    "see what uses the processor",
                    "Get-Process | Sort-Object -Property CPU -Descending",
                ),
            ),
        ),
        "loss": Code(
            Severity.WARNING,
            "{host}: {retransmissions} were sent again in {conversations}.",
            "Packets are lost on the way between client and host.",
            (Fix(Where.CLIENT, "look for the lossy hop", "Test-NetConnection {address} -TraceRoute"),),
        ),
        "black_hole": Code(
            Severity.WARNING,
            "{host}: handshakes pass, and a {what} was sent {times} times without an acknowledgement ({numbers}).",
            "Small packets pass and larger ones vanish: the path's MTU, or a firewall that inspects RPC.",
            (
                Fix(
                    Where.CLIENT,
                    "see the largest packet that passes unfragmented",
                    "Test-Connection -TargetName {address} -MtuSize",
                ),
            ),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The captures hold no connection whose times could be measured."),
    },
    tags=frozenset({"capture", "network"}),
    since="0.1",
    references=("RFC 2923 section 2.1", "RFC 6298"),
)

subjects = captures
ask = captured.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Each host by its times, then by what was lost."""
    request = captured.request(seen.target)
    answer = seen[request]
    people = captured.people_of(answer)
    hosts = [host for host in captured.tried(answer.hosts, people) if host.connect_ms or host.answer_ms]
    if not hosts:
        yield say("nothing", (request,))
    for host in hosts:
        yield from _judge_host(host, answer, (request,))


def _judge_host(host: CapturedHost, answer: CaptureAnswer, because: tuple[Captures]) -> Iterator[Finding]:
    name, connect, reply = captured.called(host), host.connect_ms, host.answer_ms
    content = True
    if connect is not None and connect.p95 > SLOW_CONNECT:
        content = False
        yield say("slow_connect", because, host=name, address=host.address, times=_times("connect", connect))
    if reply is not None and reply.p95 > SLOW_ANSWER:
        content = False
        yield say("slow_answer", because, host=name, times=_times("answer", reply))
    if host.retransmissions > max(2, MOST_LOSS * host.conversations):
        content = False
        yield say(
            "loss",
            because,
            host=name,
            address=host.address,
            retransmissions=captured.count(host.retransmissions, "segment"),
            conversations=captured.count(host.conversations, "conversation"),
        )
    lost = [one for one in answer.examples if _vanishes(one) and (one.host, one.host_port) == (host.address, host.port)]
    if lost:
        content = False
        yield say(
            "black_hole",
            because,
            host=name,
            address=host.address,
            what="bind" if lost[0].outcome is _O.BIND_UNANSWERED else "request",
            times=lost[0].retransmissions + 1,
            numbers=", ".join(f"#{one.number}" for one in lost),
        )
    if content:
        times = [
            _times(what, spread) for what, spread in (("connect", connect), ("answer", reply)) if spread is not None
        ]
        yield say("fast", because, host=name, times="; ".join(times))


def _times(what: str, spread: Spread) -> str:
    return f"{what} {spread.median:.1f} ms, 95 % within {spread.p95:.1f} ms"


def _vanishes(one: Conversation) -> bool:
    """A bind or request that was sent again and again; a capture that lacks a side says nothing of the kind."""
    unanswered = one.outcome in (_O.BIND_UNANSWERED, _O.REQUEST_UNANSWERED)
    return unanswered and one.retransmissions >= _REPEATED and not one.lacks
