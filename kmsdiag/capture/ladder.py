"""The ladder of a conversation: each mark of its life, PDU, retransmission and ICMP error, with frame and time."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from kmsdiag.capture.exchanges import Bind, Call, Dialogue
from kmsdiag.capture.words import fault_words, nak_words
from kmsdiag.model.capture import Exchange, Frame, Rung
from kmsdiag.model.request import KMS_INTERFACE
from kmsdiag.wire import rpc
from kmsdiag.wire.addresses import address_text
from kmsdiag.wire.icmp import error_name
from kmsdiag.wire.layers import IcmpError
from kmsdiag.wire.pdus import Pdu, Reading
from kmsdiag.wire.streams import Direction, Stream, What

RUNGS_MAX: Final = 200
"""Rungs of one ladder. Where there are more, the last 50 are kept, for they show how it ended."""

_LAST: Final = 50
_EXCERPT: Final = 32

_MARKS: Final = {
    What.SYN: "SYN",
    What.SYN_ACK: "SYN-ACK",
    What.ACK: "ACK",
    What.FIN: "FIN",
    What.RST: "RST",
}

_PLACE: Final = itemgetter(0, 1)

Detail = Callable[[], str]


class _Step(NamedTuple):
    """A rung before its frame is looked up. ``detail`` is made only where the rung is kept."""

    ref: int
    order: int
    at: int
    sender: str
    what: str
    size: int = 0
    detail: Detail = str


def ladder(
    stream: Stream,
    readings: tuple[Reading, Reading],
    said: Dialogue,
    exchanges: Sequence[Exchange],
    icmp: Iterable[IcmpError],
    resolve: Callable[[int], Frame],
    start: int,
) -> tuple[Rung, ...]:
    """At most :data:`RUNGS_MAX` rungs in file order.

    ``readings`` are the client's and the host's; ``exchanges`` belong to ``said.calls`` one by one; ``start`` is the
    time of the first frame in ns since 1970.
    """
    details = _details(said, exchanges)
    steps = [*_marks(stream), *_errors(icmp)]
    for side, reading, direction in zip(
        ("client", "host"), readings, (stream.from_client, stream.from_host), strict=True
    ):
        steps += _pdus(side, reading, details)
        steps += _repeats(side, direction)
    steps.sort(key=_PLACE)
    left_out = len(steps) - RUNGS_MAX
    if left_out <= 0:
        return tuple(_rung(step, resolve, start) for step in steps)
    head, tail = steps[: RUNGS_MAX - _LAST - 1], steps[-_LAST:]
    gap = tail[0]._replace(sender="", what="...", size=0, detail=lambda: f"{left_out + 1} lines are left out here")
    return tuple(_rung(step, resolve, start) for step in (*head, gap, *tail))


def _rung(step: _Step, resolve: Callable[[int], Frame], start: int) -> Rung:
    return Rung(
        frame=resolve(step.ref),
        after_ms=round((step.at - start) / 1e6, 3),
        sender=step.sender,
        what=step.what,
        detail=step.detail(),
        size=step.size,
    )


def _marks(stream: Stream) -> Iterator[_Step]:
    for event in stream.events:
        what = _MARKS[event.what]
        # A mark stands before the data of its frame, a close behind it.
        order = 3 if event.what in (What.FIN, What.RST) else 0
        sender = "client" if event.client else "host"
        yield _Step(event.ref, order, event.at, sender, f"{what} again" if event.again else what)


def _pdus(side: str, reading: Reading, details: dict[tuple[str, int], Detail]) -> Iterator[_Step]:
    foreign = reading.foreign
    if foreign is not None:
        excerpt = functools.partial(rpc.printable, foreign.data[:_EXCERPT], _EXCERPT)
        yield _Step(foreign.ref, 1, foreign.at, side, "no DCE/RPC", foreign.size, excerpt)
    for pdu in reading.pdus:
        what = pdu.name if pdu.whole else f"{pdu.name} (cut)"
        yield _Step(pdu.ref, 1, pdu.at, side, what, pdu.length, details.get((side, pdu.end), str))


def _repeats(side: str, direction: Direction) -> Iterator[_Step]:
    for repeat in direction.repeats:
        yield _Step(repeat.ref, 2, repeat.at, side, "retransmission", repeat.length)


def _errors(icmp: Iterable[IcmpError]) -> Iterator[_Step]:
    for error in icmp:
        name = functools.partial(error_name, error.type, error.code, ipv6=error.v6)
        yield _Step(error.ref, 4, error.at, address_text(error.sender), "ICMP error", 0, name)


def _details(said: Dialogue, exchanges: Sequence[Exchange]) -> dict[tuple[str, int], Detail]:
    """What is to say about PDUs, by sender and where they end in its stream."""
    details: dict[tuple[str, int], Detail] = {}
    for bind in said.binds:
        details["client", bind.question.end] = functools.partial(_offers, bind)
        if bind.answer is not None:
            details["host", bind.answer.end] = functools.partial(_results, bind)
    for call, exchange in zip(said.calls, exchanges, strict=True):
        if call.request is not None:
            details["client", call.request.end] = functools.partial(_request, exchange)
        if call.answer is not None:
            details["host", call.answer.end] = functools.partial(_answer, call, exchange)
    return details


def _offers(bind: Bind) -> str:
    """What is offered: the syntaxes of KMS, or the first other interface."""
    if bind.offers is None:
        return ""
    asked = sorted({offer.interface for offer in bind.offers}, key=lambda interface: interface != KMS_INTERFACE)
    names = [rpc.syntax_name(syntax) for offer in bind.offers[:8] for syntax in offer.syntaxes[:8]]
    interface = "KMS" if asked[:1] == [KMS_INTERFACE] else "".join(asked[:1])
    return f"{interface}: {', '.join(names)}"


def _results(bind: Bind) -> str:
    """What was accepted of it, or why not."""
    answer = bind.answer
    if answer is None or not answer.whole:
        return ""
    if answer.type == rpc.BIND_NAK:
        return nak_words(answer)
    if answer.type == rpc.FAULT:
        return fault_words(answer)
    words = []
    for offer, result, reason, _syntax in bind.results():
        name = rpc.syntax_name(offer.syntaxes[0]) if offer.syntaxes else "?"
        why = "accepted" if result in (0, 3) else rpc.REJECT_REASONS.get(reason, f"reason {reason}")
        words.append(f"{name}: {why}")
    return ", ".join(words[:8])


def _request(exchange: Exchange) -> str:
    words = [f"KMS {exchange.version}"] if exchange.version else []
    if exchange.required is not None:
        words.append(f"needs a count of {exchange.required}")
    if exchange.machine:
        words.append(exchange.machine)
    return ", ".join(words)


def _answer(call: Call, exchange: Exchange) -> str:
    if isinstance(call.answer, Pdu):
        return fault_words(call.answer)
    words = [f"HRESULT {exchange.hresult}"] if exchange.hresult else []
    if exchange.count is not None:
        words.append(f"count {exchange.count}")
    return ", ".join(words)
