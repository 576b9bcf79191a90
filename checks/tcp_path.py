"""Where the way to a silent KMS host ends.

What it looks at: for each address whose host answers no connection, the routers that answer on the way to it (TCP
packets whose time to live runs out at one router after the other; nothing but SYNs is sent).
Why it matters: a client shows 0xC004F074 wherever the packets are dropped. The last router that answers says whose
firewall or network it is.
What to do: ask whoever runs the last router that answers, and the next one; where the last one is the host's own
neighbour, look at the firewall of the host.
"""

from collections.abc import Iterator
from typing import Any, Final

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains_and_hosts, say
from kmsdiag.model.answer import Hop, TcpAnswer, TraceAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import TcpOutcome, TraceOutcome
from kmsdiag.model.request import Request, TcpConnect, TcpTrace
from kmsdiag.model.target import Subject, join_host_port

MOST: Final = 8
"""Silent addresses of one subject whose way is followed; more of them seldom end in more places."""

_LOOP: Final = 3
"""Answers of one router on one way from which on the packets run in a circle; two may come from two paths."""

_FOLLOW = (
    Fix(Where.HERE, "follow the way with other means", "sudo traceroute -T -p {port} {address}"),
    Fix(Where.CLIENT, "follow the way from a client", "Test-NetConnection {address} -TraceRoute"),
)

META = CheckMeta(
    title="The way to silent hosts",
    codes={
        "not_needed": Code(Severity.OK, "No address of {subject} leaves connections unanswered."),
        "last_hop": Code(
            Severity.INFO,
            "The way to {hosts}: the last router that answers is {hop} ({hops}).",
            "The packets are dropped there or behind it, at the latest by the host itself.",
            _FOLLOW,
        ),
        "no_hop": Code(
            Severity.INFO,
            "The way to {hosts}: not even a first router answers.",
            "There is none, because the host is in this network and silent itself; or packets are dropped near here.",
            _FOLLOW,
        ),
        "loop": Code(
            Severity.WARNING,
            "The way to {hosts} runs in a circle: {routers}.",
            "Each of these routers takes another one for the way to the host; no packet arrives.",
            _FOLLOW,
        ),
        "turned_back": Code(
            Severity.INFO,
            "The way to {hosts} ends after {hops}: {detail}.",
            "Connections wait in silence all the same where this comes late, or not for each packet.",
            _FOLLOW,
        ),
        "reached": Code(
            Severity.INFO,
            "The way to {hosts} leads there after all ({hops}): {detail}.",
            "The connection before was not answered: packets get lost, or not each source port is let through.",
            (Fix(Where.CLIENT, "test it several times", "Test-NetConnection {address} -Port {port}"),),
        ),
        "more": Code(Severity.NOT_ASSESSED, "The way to {count} more silent addresses of {subject} was not followed."),
        "not_permitted": Code(
            Severity.NOT_ASSESSED,
            "The way to {hosts} may not be followed: {detail}.",
            "",
            _FOLLOW,
        ),
        "not_possible": Code(
            Severity.NOT_ASSESSED,
            "The way to {hosts} can't be followed from here: {detail}.",
            "",
            _FOLLOW,
        ),
        "off": Code(Severity.NOT_ASSESSED, "The way to silent hosts is not followed: it was switched off."),
        "nothing": Code(Severity.NOT_ASSESSED, "No address of {subject} is known to which there could be a way."),
    },
    tags=frozenset({"tcp", "trace", "network"}),
    since="0.1",
    references=("RFC 792", "RFC 4443", "Microsoft: Error 0xC004F074 when you activate Windows (KB 974998)"),
)

subjects = domains_and_hosts


def _connects(subject: Subject, seen: Evidence) -> tuple[TcpConnect, ...]:
    """The first connection to each address and port."""
    found = (
        TcpConnect(address=endpoint.address, port=endpoint.service.port)
        for endpoint in discovery.endpoints(subject, seen)
    )
    return tuple(dict.fromkeys(found))


def _silent(connects: tuple[TcpConnect, ...], seen: Evidence) -> list[TcpConnect]:
    """Those that no host answered; none before all of them ended, so that it is always the same ones."""
    answers = [(connect, seen.get(connect)) for connect in connects]
    if any(answer is None for _connect, answer in answers):
        return []
    return [connect for connect, answer in answers if answer is not None and _lost(connect, answer)]


def _lost(connect: TcpConnect, answer: TcpAnswer) -> bool:
    """Nothing came back, or only that the time to live ran out on the way: that is how a circle of routers shows."""
    circle = answer.icmp is not None and answer.icmp.type == (3 if ":" in connect.address else 11)
    return answer.outcome is TcpOutcome.TIMEOUT or circle


def _trace(connect: TcpConnect) -> TcpTrace:
    return TcpTrace(address=connect.address, port=connect.port)


def _connect(trace: TcpTrace) -> TcpConnect:
    return TcpConnect(address=trace.address, port=trace.port)


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """Discovery and a connection to each address; once all that is known, the way to those that are silent."""
    if not seen.target.trace:
        return
    discovered = tuple(discovery.ask(subject, seen))
    yield from discovered
    connects = _connects(subject, seen)
    yield from connects
    if all(seen.get(request) is not None for request in discovered):
        for connect in _silent(connects, seen)[:MOST]:
            yield _trace(connect)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding for all silent addresses whose way ends in the same place."""
    if not seen.target.trace:
        yield say("off", ())
        return
    discovered = tuple(dict.fromkeys(discovery.ask(subject, seen)))
    connects = _connects(subject, seen)
    for request in (*discovered, *connects):
        seen[request]
    if not connects:
        yield say("nothing", discovered, subject=str(subject))
        return
    silent = _silent(connects, seen)
    if not silent:
        yield say("not_needed", connects, subject=str(subject))
        return
    followed: dict[tuple[str, tuple[tuple[str, Any], ...]], list[TcpTrace]] = {}
    for connect in silent[:MOST]:
        trace = _trace(connect)
        if (answer := seen.get(trace)) is not None:
            code, values = _judge_trace(answer)
            followed.setdefault((code, tuple(values.items())), []).append(trace)
    for (code, same), traces in followed.items():
        because = tuple(request for trace in traces for request in (_connect(trace), trace))
        hosts = tuple(join_host_port(trace.address, trace.port) for trace in traces)
        first = traces[0]
        yield say(code, because, hosts=hosts, address=first.address, port=first.port, **dict(same))
    if len(silent) > MOST:
        yield say("more", tuple(silent[MOST:]), subject=str(subject), count=len(silent) - MOST)
    # What was not followed is a gap, and hides nothing of what was.
    for connect in silent[:MOST]:
        seen[_trace(connect)]


def _judge_trace(answer: TraceAnswer) -> tuple[str, dict[str, Any]]:
    """The code for one trace, and the values that it has in common with others that ended in the same way."""
    if answer.outcome in (TraceOutcome.NOT_PERMITTED, TraceOutcome.NOT_POSSIBLE):
        return answer.outcome.value, {"detail": answer.detail}
    count = len(answer.hops)
    hops = "1 hop" if count == 1 else f"{count} hops"
    if answer.outcome is TraceOutcome.REACHED:
        return "reached", {"hops": hops, "detail": answer.detail}
    if answer.detail:
        return "turned_back", {"hops": hops, "detail": answer.detail}
    answered = [hop for hop in answer.hops if hop.address]
    if not answered:
        return "no_hop", {}
    if circle := _circle(answered):
        return "loop", {"routers": circle}
    return "last_hop", {"hop": answered[-1].address, "hops": hops}


def _circle(answered: list[Hop]) -> tuple[str, ...]:
    """The routers that answered again and again, in their order on the way; none where each answered as it should."""
    times: dict[str, int] = {}
    for hop in answered:
        times[hop.address] = times.get(hop.address, 0) + 1
    return tuple(address for address, count in times.items() if count >= _LOOP)
