"""Whether TCP connections to the KMS hosts come about, on every address.

What it looks at: connections to each address of each host, both families, as often as --tries says; where a published
port other than 1688 fails, whether KMS answers on 1688 of the same address.
Why it matters: silence, refusal and an ICMP error look the same to a client (0xC004F074) and have different causes:
a firewall or a dead machine, a stopped service, a routing or filter rule that says who sent it.
What to do: follow the outcome: open the firewall, start the service, correct the route, or delete the record.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains_and_hosts, say
from kmsdiag.discovery import Endpoint
from kmsdiag.knowledge import icmp
from kmsdiag.model.answer import TcpAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import RpcOutcome, State, TcpOutcome
from kmsdiag.model.request import Request, RpcBind, TcpConnect
from kmsdiag.model.target import KMS_PORT, Subject

_TEST = Fix(Where.CLIENT, "test the path from a client", "Test-NetConnection {address} -Port {port}")

META = CheckMeta(
    title="TCP connections to the hosts",
    codes={
        "open": Code(Severity.OK, "{target} ({address}) accepts TCP {port} ({latency} ms)."),
        "refused": Code(
            Severity.ERROR,
            "{target} ({address}) refuses TCP {port}.",
            "The machine is up; no KMS service listens there.",
            (Fix(Where.KMS_HOST, "start the service, see its port", "Start-Service sppsvc; slmgr /dlv"),),
        ),
        "timed_out": Code(
            Severity.ERROR,
            "{target} ({address}) does not answer on TCP {port} ({attempts}, {waited} s).",
            "A firewall drops the packets, or the machine is gone.",
            (
                Fix(
                    Where.KMS_HOST,
                    "let KMS through the host's own firewall",
                    "Enable-NetFirewallRule -DisplayGroup 'Key Management Service'",
                ),
                _TEST,
            ),
        ),
        "unreachable": Code(
            Severity.ERROR,
            "{target} ({address}) can't be reached on TCP {port}: {icmp}, said by {sender}.",
            "That means: {meaning}.",
            (_TEST,),
        ),
        "reset": Code(
            Severity.ERROR,
            "{target} ({address}) resets connections to TCP {port}.",
            "Something on the way or on the host cuts the connection.",
            (_TEST,),
        ),
        "wrong_port": Code(
            Severity.ERROR,
            "{target} ({address}): port {port} of the record fails ({outcome}); KMS answers on 1688.",
            "The record is wrong, or the host's port was changed back without publishing it.",
            (Fix(Where.KMS_HOST, "see the port it listens on", "slmgr /dlv"),),
        ),
        "lossy": Code(
            Severity.WARNING,
            "{target} ({address}) lost {lost} of {sent} connection attempts on TCP {port} ({rate}).",
            "Activation works, slowly or at the second try; the network drops packets.",
            (_TEST,),
        ),
        "unsteady": Code(
            Severity.WARNING,
            "{target} ({address}) accepted {opened} of {sent} connections on TCP {port}; the others: {outcomes}.",
            "Clients fail now and then: several machines answer under this address, or the service is restarting.",
            (_TEST,),
        ),
        "families_differ": Code(
            Severity.WARNING,
            "{target} works over {works} and not over {fails}.",
            "Clients that try the other family first are delayed, or fail where they have nothing else.",
        ),
        "not_from_here": Code(
            Severity.NOT_ASSESSED,
            "{target} ({address}) can't be tested from this machine: {outcome} ({errno}).",
            "This says nothing about the host.",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "No address of {subject} is known to connect to."),
    },
    tags=frozenset({"tcp", "network"}),
    since="0.1",
    references=("Microsoft: Error 0xC004F074 when you activate Windows (KB 974998)",),
)

subjects = domains_and_hosts


def _connects(endpoint: Endpoint, seen: Evidence) -> list[TcpConnect]:
    return discovery.connects(endpoint.address, endpoint.service.port, seen)


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """Discovery, then connections; a bind on 1688 where another port was published and fails."""
    yield from discovery.ask(subject, seen)
    for endpoint in discovery.endpoints(subject, seen):
        requests = _connects(endpoint, seen)
        yield from requests
        if endpoint.service.port != KMS_PORT:
            answers = [seen.get(request) for request in requests]
            if all(answer is not None and answer.outcome.state is State.FAIL for answer in answers):
                # A bind, not a connection: only KMS on 1688 makes the record's port the wrong one.
                yield RpcBind(address=endpoint.address, port=KMS_PORT)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding an address, and one a host whose families differ."""
    endpoints = discovery.endpoints(subject, seen)
    if not endpoints:
        discovered = tuple(dict.fromkeys(discovery.ask(subject, seen)))
        for request in discovered:
            seen[request]
        yield say("nothing", discovered, subject=str(subject))
        return
    by_service: dict[tuple[str, int], list[tuple[Endpoint, State]]] = {}
    for endpoint in endpoints:
        requests = _connects(endpoint, seen)
        answers = [answer for request in requests if (answer := seen.get(request)) is not None]
        if len(answers) < len(requests):
            # The engine notes the gap; the other addresses can be judged.
            continue
        yield from _judge_endpoint(endpoint, requests, answers, seen)
        state = next((a.outcome.state for a in answers if a.outcome.state is State.OK), answers[0].outcome.state)
        key = (endpoint.service.target, endpoint.service.port)
        by_service.setdefault(key, []).append((endpoint, state))
    for same in by_service.values():
        yield from _judge_families(same)


def _judge_endpoint(
    endpoint: Endpoint, requests: Sequence[TcpConnect], answers: Sequence[TcpAnswer], seen: Evidence
) -> Iterator[Finding]:
    port = endpoint.service.port
    place = {"target": endpoint.service.target, "address": endpoint.address}
    because: tuple[Request[Any], ...] = tuple(requests)
    opened = [answer for answer in answers if answer.outcome is TcpOutcome.OPEN]
    if opened:
        # A SYN that had to be sent again was lost, though the connection came about.
        lost = sum(answer.outcome is TcpOutcome.TIMEOUT for answer in answers)
        lost += sum(answer.retransmits for answer in opened)
        sent = len(answers) + sum(answer.retransmits for answer in opened)
        if lost:
            yield say("lossy", because, **place, port=port, lost=lost, sent=sent, rate=f"{lost / sent:.0%}")
        others = sorted({a.outcome.value for a in answers if a.outcome not in (TcpOutcome.OPEN, TcpOutcome.TIMEOUT)})
        if others:
            yield say(
                "unsteady",
                because,
                **place,
                port=port,
                opened=len(opened),
                sent=len(answers),
                outcomes=tuple(others),
            )
        times = [answer.elapsed_ms if answer.rtt_ms is None else answer.rtt_ms for answer in opened]
        ends = dict.fromkeys((f"{min(times):.1f}", f"{max(times):.1f}"))
        yield say("open", because, **place, port=port, latency=" to ".join(ends))
        return
    # Where tries end in different ways, a word from the host or a router says more than silence.
    first = next((answer for answer in answers if answer.outcome is not TcpOutcome.TIMEOUT), answers[0])
    if port != KMS_PORT and all(answer.outcome.state is State.FAIL for answer in answers):
        bind = RpcBind(address=endpoint.address, port=KMS_PORT)
        other = seen.get(bind)
        if other is not None and other.outcome is RpcOutcome.ACCEPTED:
            yield say("wrong_port", (*because, bind), **place, port=port, outcome=first.outcome.value)
            return
    match first.outcome:
        case TcpOutcome.REFUSED | TcpOutcome.RESET:
            yield say(first.outcome.value, because, **place, port=port)
        case TcpOutcome.UNREACHABLE:
            error = first.icmp
            yield say(
                "unreachable",
                because,
                **place,
                port=port,
                icmp=first.errno if error is None else error.name,
                sender="this machine" if error is None else error.sender,
                meaning="the kind of error is not known here"
                if error is None
                else icmp.meaning(error, place["address"]),
            )
        case TcpOutcome.NO_ROUTE | TcpOutcome.LOCAL_ERROR:
            words = "it has no route there" if first.outcome is TcpOutcome.NO_ROUTE else "the connection can't be made"
            yield say("not_from_here", because, **place, outcome=words, errno=first.errno)
        case _:
            waited = sum(answer.elapsed_ms for answer in answers) / 1000
            attempts = "1 attempt" if len(answers) == 1 else f"{len(answers)} attempts"
            yield say("timed_out", because, **place, port=port, attempts=attempts, waited=f"{waited:.1f}")


def _judge_families(same: list[tuple[Endpoint, State]]) -> Iterator[Finding]:
    states: dict[str, set[State]] = {}
    for endpoint, state in same:
        states.setdefault("IPv6" if ":" in endpoint.address else "IPv4", set()).add(state)
    works = [family for family, found in states.items() if State.OK in found]
    fails = [family for family, found in states.items() if found == {State.FAIL}]
    if works and fails:
        service = same[0][0].service
        because = tuple(TcpConnect(address=endpoint.address, port=service.port) for endpoint, _state in same)
        yield say("families_differ", because, target=service.target, works=works[0], fails=fails[0])
