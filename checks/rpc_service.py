"""Whether what answers on the port is the KMS service.

What it looks at: a DCE/RPC bind to the KMS interface, as a Windows client sends it, and what comes back; then a bind
to an interface that nobody has, to see whether the server simply says yes to everything. No request is ever sent.
Why it matters: an open port proves little. Proxies accept and stay silent, other services own the port, RPC servers
without the KMS interface reject it, and each of these is the same 0xC004F074 to a client.
What to do: find the program that owns the port; restart the Software Protection service; delete a wrong record.
"""

import uuid
from collections.abc import Iterator
from typing import Any

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains_and_hosts, say
from kmsdiag.discovery import Endpoint
from kmsdiag.model.answer import RpcAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import RpcOutcome, TcpOutcome
from kmsdiag.model.request import Request, RpcBind, TcpConnect
from kmsdiag.model.target import Subject

_WHO = Fix(
    Where.KMS_HOST,
    "see which program owns the port",
    "Get-Process -Id (Get-NetTCPConnection -State Listen -LocalPort {port}).OwningProcess",
)
_RESTART = Fix(Where.KMS_HOST, "restart the service", "Restart-Service sppsvc")

_ABSTRACT_SYNTAX = 1

META = CheckMeta(
    title="The KMS service behind the port",
    codes={
        "kms": Code(
            Severity.OK, "{target} ({address}, port {port}) accepts the KMS interface ({detail}, {latency} ms)."
        ),
        "not_kms": Code(
            Severity.ERROR,
            "{target} ({address}, port {port}) is an RPC server without the KMS interface ({detail}).",
            "The port belongs to another RPC service.",
            (_WHO,),
        ),
        "refused_bind": Code(
            Severity.ERROR,
            "{target} ({address}, port {port}) knows the bind and rejects it ({detail}).",
            "Clients are rejected in the same way.",
            (_RESTART, _WHO),
        ),
        "nak": Code(
            Severity.ERROR,
            "{target} ({address}, port {port}) answers with bind_nak: {detail}.",
            "The server is overloaded, or an RPC-aware firewall interferes.",
            (_RESTART, _WHO),
        ),
        "fault": Code(
            Severity.ERROR,
            "{target} ({address}, port {port}) answers the bind with a fault: {detail}.",
            "That is no answer to a bind: not a KMS host.",
            (_WHO,),
        ),
        "silent": Code(
            Severity.ERROR,
            "{target} ({address}, port {port}) accepts TCP and does not answer the bind ({waited} s).",
            "A proxy or firewall accepts in its place, or the service hangs.",
            (_RESTART, _WHO),
        ),
        "closed": Code(
            Severity.ERROR,
            "{target} ({address}, port {port}) accepts TCP and hangs up on the bind.",
            "Another service, or a firewall that inspects RPC.",
            (_WHO,),
        ),
        "reset": Code(
            Severity.ERROR,
            "{target} ({address}, port {port}) accepts TCP and resets the connection on the bind.",
            "A firewall that inspects RPC, or a crashing service.",
            (_RESTART, _WHO),
        ),
        "incomplete": Code(
            Severity.ERROR,
            "{target} ({address}, port {port}) sent {detail}.",
            "The path drops large packets (MTU), or this is no RPC server.",
            (_WHO,),
        ),
        "other_protocol": Code(
            Severity.ERROR,
            "{target} ({address}, port {port}) speaks {detail}: {excerpt}",
            "Another service owns the port.",
            (_WHO,),
        ),
        "malformed": Code(
            Severity.ERROR,
            "{target} ({address}, port {port}) answers with bytes that are no RPC ({detail}): {excerpt}",
            "What listens there is no KMS host.",
            (_WHO,),
        ),
        "no_connection": Code(
            Severity.WARNING,
            "{target} ({address}, port {port}) took one connection and not the next ({detail}).",
            "An overloaded host, or a limit on connections.",
            (Fix(Where.CLIENT, "test again from a client", "Test-NetConnection {address} -Port {port}"),),
        ),
        "answers_anything": Code(
            Severity.WARNING,
            "{target} ({address}, port {port}) accepts an interface that nobody has, too.",
            "Windows would reject it: this is no genuine RPC runtime, so its yes to KMS proves little.",
            (_WHO,),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "No open port of {subject} is known to bind to."),
    },
    tags=frozenset({"rpc", "network"}),
    since="0.1",
    references=("C706 (DCE 1.1: RPC) chapter 12", "MS-RPCE 2.2.2"),
)

subjects = domains_and_hosts


def _nonsense(seen: Evidence) -> str:
    """An interface that nobody registered; derived from the run's nonce, so that a replay asks for the same one."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"kmsdiag {seen.target.nonce}"))


def _binds(endpoint: Endpoint, seen: Evidence) -> tuple[RpcBind, RpcBind]:
    address, port = endpoint.address, endpoint.service.port
    return RpcBind(address=address, port=port), RpcBind(address=address, port=port, interface=_nonsense(seen))


def _connects(endpoint: Endpoint, seen: Evidence) -> list[TcpConnect]:
    return discovery.connects(endpoint.address, endpoint.service.port, seen)


def _opened(endpoint: Endpoint, seen: Evidence) -> bool:
    """Whether any connection to an endpoint came about."""
    answers = (seen.get(request) for request in _connects(endpoint, seen))
    return any(answer is not None and answer.outcome is TcpOutcome.OPEN for answer in answers)


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """Discovery, connections, a bind where one opened, and a second bind where the first was accepted."""
    yield from discovery.ask(subject, seen)
    for endpoint in discovery.endpoints(subject, seen):
        yield from _connects(endpoint, seen)
        if _opened(endpoint, seen):
            kms, nonsense = _binds(endpoint, seen)
            yield kms
            answer = seen.get(kms)
            if answer is not None and answer.outcome is RpcOutcome.ACCEPTED:
                yield nonsense


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding an open address, two where it says yes to everything."""
    bound = False
    for endpoint in discovery.endpoints(subject, seen):
        if not _opened(endpoint, seen):
            continue
        bound = True
        kms, nonsense = _binds(endpoint, seen)
        answer = seen.get(kms)
        if answer is None:
            # The engine notes the gap; the other addresses can be judged.
            continue
        yield _judge_bind(endpoint, kms, answer)
        other = seen.get(nonsense) if answer.outcome is RpcOutcome.ACCEPTED else None
        if other is not None and other.outcome is RpcOutcome.ACCEPTED:
            yield say("answers_anything", (kms, nonsense), **_place(endpoint))
    if not bound:
        asked = tuple(dict.fromkeys(ask(subject, seen)))
        for request in asked:
            seen[request]
        yield say("nothing", asked, subject=str(subject))


def _place(endpoint: Endpoint) -> dict[str, str | int]:
    return {"target": endpoint.service.target, "address": endpoint.address, "port": endpoint.service.port}


def _judge_bind(endpoint: Endpoint, request: RpcBind, answer: RpcAnswer) -> Finding:
    place, because = _place(endpoint), (request,)
    match answer.outcome:
        case RpcOutcome.ACCEPTED:
            return say("kms", because, **place, detail=answer.detail, latency=f"{answer.elapsed_ms:.1f}")
        case RpcOutcome.REJECTED:
            code = "not_kms" if answer.reason == _ABSTRACT_SYNTAX else "refused_bind"
            return say(code, because, **place, detail=answer.detail)
        case RpcOutcome.SILENT:
            return say("silent", because, **place, waited=f"{answer.elapsed_ms / 1000:.1f}")
        case RpcOutcome.CLOSED | RpcOutcome.RESET:
            return say(answer.outcome.value, because, **place)
        case RpcOutcome.OTHER_PROTOCOL | RpcOutcome.MALFORMED:
            return say(answer.outcome.value, because, **place, detail=answer.detail, excerpt=answer.excerpt)
        case RpcOutcome.NAK:
            return say("nak", because, **place, detail=answer.detail)
        case _:
            return say(answer.outcome.value, because, **place, detail=answer.detail)
