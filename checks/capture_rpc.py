"""What became of captured connections once they were open: the bind, and the request up to its answer.

What it looks at: binds and what answered them, requests that got no response, what spoke another protocol, and
connections that only tested the port.
Why it matters: an open port proves little. A proxy that stays silent, another service on the port, an RPC server
without the KMS interface and a firewall that inspects RPC all look like a working host to a port test.
What to do: find the program that owns the port; restart the Software Protection service; compare captures of both
ends.
"""

from collections.abc import Iterator

from kmsdiag import captured
from kmsdiag.captured import People
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, captures, say
from kmsdiag.model.capture import CaptureAnswer, CapturedHost, Conversation
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import ConversationOutcome
from kmsdiag.model.request import Captures
from kmsdiag.model.target import Subject

_O = ConversationOutcome
_WHO = Fix(
    Where.KMS_HOST,
    "see which program owns the port",
    "Get-Process -Id (Get-NetTCPConnection -State Listen -LocalPort {port}).OwningProcess",
)
_RESTART = Fix(Where.KMS_HOST, "restart the service", "Restart-Service sppsvc")
_LOG = Fix(
    Where.KMS_HOST,
    "see whether the requests arrived (event 12290)",
    "Get-WinEvent -MaxEvents 20 -FilterHashtable @{{ LogName = 'Key Management Service'; Id = 12290 }}",
)

_ANSWERED = (_O.ACTIVATED, _O.HOST_REFUSED, _O.BELOW_THRESHOLD)
"""A refusal and a low count are answers, too: RPC did its part."""

_SAYS = {
    _O.CLOSED_EARLY: "closed_early",
    _O.BIND_UNANSWERED: "silent",
    _O.BIND_CLOSED: "closed",
    _O.BIND_RESET: "reset",
    _O.BIND_NAK: "nak",
    _O.BIND_REJECTED: "rejected",
    _O.BIND_FAULT: "fault",
    _O.OTHER_PROTOCOL: "other_protocol",
    _O.REQUEST_UNANSWERED: "request_unanswered",
    _O.REQUEST_CLOSED: "request_cut",
    _O.REQUEST_RESET: "request_cut",
    _O.REQUEST_FAULT: "request_fault",
    _O.REQUEST_ABORTED: "aborted",
    _O.MALFORMED: "malformed",
}

META = CheckMeta(
    title="RPC in the captures",
    codes={
        "kms": Code(Severity.OK, "{host} took the bind and answered the requests of {clients}."),
        "bound": Code(Severity.OK, "{host} took the bind of {clients}, and nothing was asked."),
        "rejected": Code(
            Severity.ERROR,
            "{host} is an RPC server without the KMS interface ({detail}): {clients}.",
            "The Software Protection service does not listen there.",
            (_WHO,),
        ),
        "nak": Code(
            Severity.ERROR,
            "{host} refuses the bind of {clients} with bind_nak ({detail}).",
            "The server is overloaded, or an RPC-aware firewall interferes.",
            (_RESTART, _WHO),
        ),
        "fault": Code(
            Severity.ERROR,
            "{host} answers the bind of {clients} with a fault ({detail}).",
            "That is no answer to a bind: not a KMS host.",
            (_WHO,),
        ),
        "silent": Code(
            Severity.ERROR,
            "{host} accepts TCP and does not answer the bind of {clients}{detail}.",
            "A proxy or firewall accepts in its place, the service hangs, or the answer was lost on the way.",
            (_RESTART, _WHO),
        ),
        "closed": Code(
            Severity.ERROR,
            "{host} hangs up on the bind of {clients}.",
            "Another service, or a firewall that inspects RPC.",
            (_WHO,),
        ),
        "reset": Code(
            Severity.ERROR,
            "{host} answers the bind of {clients} with a reset.",
            "A firewall that inspects RPC, or a crashing service.",
            (_RESTART, _WHO),
        ),
        "closed_early": Code(
            Severity.ERROR,
            "{host} hung up on {clients} before they asked for anything.",
            "A proxy without its server, a list of allowed clients, or another service.",
            (_WHO,),
        ),
        "other_protocol": Code(
            Severity.ERROR,
            "{host} does not speak RPC to {clients} ({detail}).",
            "Another service owns the port.",
            (_WHO,),
        ),
        "request_unanswered": Code(
            Severity.ERROR,
            "{host} took the bind of {clients} and did not answer the request{detail}.",
            "The service hangs, or the way loses packets that are larger than a bind.",
            (_LOG, _RESTART),
        ),
        "request_cut": Code(
            Severity.ERROR,
            "{host} ended the connection on the request of {clients} ({detail}).",
            "The service stops or crashes, or a firewall that inspects RPC cuts it.",
            (_LOG, _RESTART),
        ),
        "request_fault": Code(
            Severity.ERROR,
            "{host} answers the request of {clients} with an RPC fault ({detail}).",
            "The licensing service never saw the request.",
            (_WHO, _RESTART),
        ),
        "aborted": Code(
            Severity.ERROR,
            "{clients} broke off the request to {host}.",
            "The host is too slow, or what scans the client's traffic ended it.",
            (_LOG,),
        ),
        "malformed": Code(
            Severity.ERROR,
            "{host} answers {clients} with something that is no KMS response ({detail}).",
            "Another program behind the interface, or a damaged answer.",
            (_WHO,),
        ),
        "port_test": Code(
            Severity.INFO,
            "{clients} connected to {host} and hung up without a word: a port test, or monitoring.",
        ),
        "not_kms": Code(
            Severity.INFO,
            "{clients} spoke something else than KMS to {host}: a scanner, or a program with a wrong port.",
        ),
        "scan": Code(
            Severity.INFO,
            "{client} knocked at {count} addresses and never spoke KMS: a port scan, which is left out of everything"
            " else.",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "No bind or request in the captures is seen to its end."),
    },
    tags=frozenset({"capture", "rpc", "path"}),
    since="0.1",
    references=("C706 (DCE 1.1: RPC) chapter 12", "MS-RPCE 2.2.2"),
)

subjects = captures
ask = captured.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a host and end; port scans once a scanner."""
    request = captured.request(seen.target)
    answer = seen[request]
    people = captured.people_of(answer)
    because = (request,)
    came_far = False
    for host in captured.tried(answer.hosts, people):
        for finding in _judge_host(host, answer, people, because):
            came_far = came_far or finding.code not in ("port_test", "not_kms")
            yield finding
    for client, count in people.scanners.items():
        yield say("scan", because, client=client, count=f"{count:,}")
    if not came_far:
        yield say("nothing", because)


def _judge_host(
    host: CapturedHost, answer: CaptureAnswer, people: People, because: tuple[Captures]
) -> Iterator[Finding]:
    name = captured.called(host)
    ends = [_O(one) for one in host.outcomes]
    answered = [end for end in ends if end in _ANSWERED]
    if answered:
        yield say("kms", because, host=name, clients=captured.who(people.of(host, *answered)))
    if _O.BOUND in ends:
        yield say("bound", because, host=name, clients=captured.who(people.of(host, _O.BOUND)))
    for outcome, code in _SAYS.items():
        if outcome in ends:
            yield _bad(outcome, code, host, answer, people, because)
    for outcome, code in ((_O.CONNECT_ONLY, "port_test"), (_O.NOT_KMS, "not_kms")):
        if outcome in ends:
            yield say(code, because, host=name, clients=captured.who(people.of(host, outcome)))


def _bad(
    outcome: ConversationOutcome,
    code: str,
    host: CapturedHost,
    answer: CaptureAnswer,
    people: People,
    because: tuple[Captures],
) -> Finding:
    args: dict[str, str | int] = {"host": captured.called(host), "clients": captured.who(people.of(host, outcome))}
    seen = captured.example(answer, host, outcome)
    if code not in ("closed", "reset", "closed_early", "aborted"):
        args["detail"] = _detail(outcome, seen)
    if code not in ("request_unanswered", "request_cut", "aborted"):
        args["port"] = host.port
    return say(code, because, **args)


def _detail(outcome: ConversationOutcome, seen: Conversation | None) -> str:
    """What one conversation tells about all that ended like it."""
    if outcome in (_O.BIND_UNANSWERED, _O.REQUEST_UNANSWERED):
        again = 0 if seen is None else seen.retransmissions
        return f" (sent again {again} times)" if again else ""
    if outcome in (_O.REQUEST_CLOSED, _O.REQUEST_RESET):
        return "closed" if outcome is _O.REQUEST_CLOSED else "reset"
    if seen is None:
        return "no example was kept"
    fault = next((exchange.fault for exchange in seen.exchanges if exchange.fault), "")
    reason = "" if seen.reason is None else f"reason {seen.reason}"
    return fault or seen.detail or reason or outcome.words
