"""A TCP connection to a KMS host as the logs of another program tell it, judged.

Such a log has no bytes. What it can't say is *not known*: neither a failure nor a success. All times are ns since 1970,
``ref`` names a line of a log by file and number.
"""

import datetime
import functools
import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

from kmsdiag.capture.digest import CODE, LACKS, frame_of, moment
from kmsdiag.capture.packets import text_words
from kmsdiag.model.capture import Conversation, Exchange, Lack, Rung
from kmsdiag.model.outcome import ConversationOutcome as Outcome
from kmsdiag.wire.streams import KMS_PORTS

PATIENCE: Final = 2_000_000_000
"""Time (ns) without an answer that makes silence a failure, as in captures."""

GREETING: Final = 5_000_000_000
"""Time (ns) that a host waits for first words at the least; one that hangs up later did so for the client's silence."""

RPC: Final = "dce_rpc"
"""The name of DCE/RPC in :class:`Life`, whatever the log calls it."""

_REFUSALS: Final = (12, 20)
"""Stub bytes of a response without a body, NDR32 and NDR64: a refusal, which is nothing but its HRESULT."""

_OPENING: Final = 108 + 56
_REFUSAL: Final = 44
"""Bytes that a host sends until it is bound, and for a refusal, at the most."""

_WORST: Final = (Outcome.REQUEST_RESET, Outcome.REQUEST_FAULT, Outcome.HOST_REFUSED, Outcome.NOT_KNOWN)


class Reply(StrEnum):
    """What answered a bind or a request, as far as the log has it."""

    GIVEN = "answered"
    REJECTED = "rejected"
    NAK = "bind_nak"
    FAULT = "fault"
    NOT_LOGGED = "no answer in the log"


class Call(NamedTuple):
    """A bind or a request, and its answer. ``size`` are stub bytes of the response, -1 where the log has none."""

    ref: int
    at: int
    bind: bool
    reply: Reply
    elapsed: int | None = None
    size: int = -1


class Closer(StrEnum):
    """Who ended a connection first."""

    NOBODY = ""
    CLIENT = "client"
    HOST = "host"
    UNTOLD = "untold"
    """Both hung up, and the log doesn't say in which order."""


class Life(NamedTuple):
    """How a connection went. ``answered`` is the SYN-ACK, ``opened`` what the client sent after it.

    ``asked`` and ``replied`` say whether client and host sent data, ``received`` how many bytes the host sent where
    that is known. ``refused``: a RST answered the SYN. ``client`` and ``host`` are the protocols that the log
    recognised on each side, "" for none. ``words`` is the log's own account.
    """

    ref: int
    started: int
    ended: int
    syn: bool
    answered: bool
    opened: bool
    refused: bool
    asked: bool
    replied: bool
    closer: Closer
    reset: bool = False
    syns: int = 1
    gap: bool = False
    received: int | None = None
    client: str = ""
    host: str = ""
    words: str = ""


class End(NamedTuple):
    """An outcome, a line about it, and what the log lacks to tell more."""

    outcome: Outcome
    detail: str = ""
    lack: Lack | None = None


class Connection:
    """Lines of the logs about one connection, in any order. ``kms`` is whether it has to do with KMS."""

    __slots__ = ("calls", "client", "client_port", "first", "host", "host_port", "kms", "last", "life")

    def __init__(self, client: tuple[str, int], host: tuple[str, int]) -> None:
        self.client, self.client_port = client
        self.host, self.host_port = host
        self.first = self.last = -1
        self.kms = self.host_port in KMS_PORTS
        self.calls: tuple[Call, ...] = ()
        self.life: Life | None = None

    def add(self, what: Call | Life) -> None:
        """Take what a line says."""
        if isinstance(what, Life):
            self.life = what
        else:
            self.calls += (what,)
        self.first = what.ref if self.first < 0 else min(self.first, what.ref)
        self.last = max(self.last, what.ref)


class Verdict(NamedTuple):
    """What became of a connection, and of each of its requests."""

    how: End
    requests: tuple[tuple[Call, End], ...]
    lacks: frozenset[Lack]


def judge(link: Connection, end: int, program: str) -> Verdict:
    """What became of a connection. ``end`` is the logs' last time, ``program`` whose logs they are."""
    life = link.life
    calls = [call for call in link.calls if not call.bind]
    requests = tuple((call, _request(call, life, len(calls), program)) for call in calls)
    if requests:
        how = min((one for _call, one in requests), key=lambda one: _WORST.index(one.outcome))
    else:
        how = _ending(link, end, program)
    lacks = {Lack.SUMMARY, *_lacks(life)}
    if how.lack is not None:
        lacks.add(how.lack)
    return Verdict(how, requests, frozenset(lacks))


def rows_of(link: Connection, verdict: Verdict) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
    """The same as rows of a digest: what :func:`conversation_of` would come to there, in a tenth of the time."""
    answered = any(_is_answered(call, how) for call, how in verdict.requests)
    row = (
        link.first,
        _times(link)[0] // 1000,
        *text_words(link.client),
        *text_words(link.host),
        -1,
        -1,
        -1,
        link.client_port,
        link.host_port,
        min(len(verdict.requests), 0xFFFF),
        0,
        CODE[verdict.how.outcome],
        _bits(verdict.lacks),
        answered,
    )
    exchanges = [
        (link.first, -1 if call.elapsed is None else call.elapsed // 1000, math.nan, -1, -1, -1, -1)
        for call, _how in verdict.requests
    ]
    return row, exchanges


def _is_answered(call: Call, how: End) -> bool:
    return call.reply is Reply.GIVEN and how.outcome in (Outcome.NOT_KNOWN, Outcome.HOST_REFUSED)


@functools.lru_cache(maxsize=64)
def _bits(lacks: frozenset[Lack]) -> int:
    return sum(1 << LACKS.index(lack) for lack in lacks)


def conversation_of(link: Connection, verdict: Verdict) -> Conversation:
    """A connection and its verdict as a conversation, with a ladder of what the logs say."""
    life = link.life
    started, ended = _times(link)
    return Conversation(
        number=0,
        tap=0,
        client=link.client,
        client_port=link.client_port,
        host=link.host,
        host_port=link.host_port,
        started=_moment(started),
        ended=_moment(ended),
        first=frame_of(link.first),
        last=frame_of(link.last),
        outcome=verdict.how.outcome,
        frames=len(link.calls) + (life is not None),
        syns=0 if life is None else life.syns,
        exchanges=tuple(_exchange(call, how) for call, how in verdict.requests),
        detail=verdict.how.detail,
        closed_by=life.closer.value if life is not None and life.closer in (Closer.CLIENT, Closer.HOST) else "",
        reset=life is not None and life.reset,
        lacks=tuple(lack for lack in Lack if lack in verdict.lacks),
        ladder=_ladder(link, started),
    )


def _exchange(call: Call, how: End) -> Exchange:
    return Exchange(
        outcome=how.outcome,
        request=frame_of(call.ref),
        response=frame_of(call.ref) if call.reply in (Reply.GIVEN, Reply.FAULT) else None,
        at=_moment(call.at),
        elapsed_ms=None if call.elapsed is None else round(call.elapsed / 1e6, 3),
        detail=how.detail,
    )


def _times(link: Connection) -> tuple[int, int]:
    """Begin and end; where the log gives an account of the whole connection, that one's."""
    if link.life is not None:
        return link.life.started, link.life.ended
    return min(call.at for call in link.calls), max(call.at + (call.elapsed or 0) for call in link.calls)


def _moment(at: int) -> datetime.datetime:
    return moment(at // 1000)


def _lacks(life: Life | None) -> Iterator[Lack]:
    if life is None:
        return
    if not life.syn:
        yield Lack.START
    if life.gap:
        yield Lack.BYTES


# ---------------------------------------------------------------------------------------------------- requests


def _request(call: Call, life: Life | None, requests: int, program: str) -> End:
    if call.reply is Reply.FAULT:
        return End(Outcome.REQUEST_FAULT, f"{program} does not log its status")
    if call.reply is not Reply.GIVEN:
        if life is not None and life.reset and life.closer is Closer.HOST and not life.gap:
            return End(Outcome.REQUEST_RESET)
        return End(Outcome.NOT_KNOWN, f"{program} logged no response: silence, a hang-up, or an RPC fault")
    if call.size in _REFUSALS:
        return End(Outcome.HOST_REFUSED, f"a response of {call.size} bytes has no body; {program} logs no HRESULT")
    if call.size >= 0:
        return End(Outcome.NOT_KNOWN, f"a response with a body, {call.size} bytes; {program} logs no HRESULT")
    size = ""
    if life is not None and life.received is not None and not life.gap:
        more = "more" if life.received > _OPENING + _REFUSAL * requests else "no more"
        size = f" ({life.received} bytes from the host in all, {more} than a bind and a refusal take)"
    return End(Outcome.NOT_KNOWN, f"a response came; {program} logs no HRESULT{size}")


# ---------------------------------------------------------------------------------------------- without requests


def _ending(link: Connection, end: int, program: str) -> End:
    life, binds = link.life, link.calls
    replies = {call.reply for call in binds}
    if life is not None and life.client == RPC and life.host not in ("", RPC):
        return End(Outcome.OTHER_PROTOCOL, life.host)
    if Reply.GIVEN in replies:
        # A request that is in pieces, or of which a packet is missing, is not logged.
        return End(Outcome.NOT_KNOWN, "bound, and no request is in the log")
    if Reply.REJECTED in replies:
        return End(Outcome.BIND_REJECTED, f"no context was accepted; {program} logs no reason")
    if Reply.NAK in replies:
        return End(Outcome.BIND_NAK, f"{program} does not log its reason")
    if Reply.FAULT in replies:
        return End(Outcome.BIND_FAULT, f"{program} does not log its status")
    if life is None:
        return End(Outcome.NOT_KNOWN, f"{program} logged no answer to the bind: silence, a hang-up, or a refusal")
    if not life.syn:
        return End(Outcome.NOT_KNOWN, "the connection began before the log")
    if not life.answered:
        return _unanswered(life, end)
    if not life.opened:
        return _half_open(life, end)
    return _opened(life, bool(binds), end, program)


def _unanswered(life: Life, end: int) -> End:
    if life.refused:
        return End(Outcome.REFUSED)
    if life.opened or life.asked:
        return End(Outcome.NOT_KNOWN, "only the client's side was seen", Lack.HOST)
    if life.closer is not Closer.NOBODY:
        return End(Outcome.NOT_KNOWN, "given up before an answer came")
    if life.syns > 1 or end - life.started >= PATIENCE:
        again = f"{life.syns} SYNs, " if life.syns > 1 else ""
        return End(Outcome.UNANSWERED, f"{again}ICMP errors are not in the log")
    return End(Outcome.NOT_KNOWN, "the log ends too early", Lack.END)


def _half_open(life: Life, end: int) -> End:
    lived = life.ended - life.started
    if life.closer is Closer.CLIENT:
        if lived >= PATIENCE:
            return End(Outcome.HANDSHAKE_FAILED, f"the client reset it after {lived / 1e9:.1f} s: the SYN-ACK was late")
        return End(Outcome.CONNECT_ONLY, "the client reset the half-open connection, as port scanners do")
    if end - life.started >= PATIENCE:
        return End(Outcome.HANDSHAKE_FAILED, "the client never acknowledged the SYN-ACK")
    return End(Outcome.NOT_KNOWN, "the log ends too early", Lack.END)


def _opened(life: Life, bound_for: bool, end: int, program: str) -> End:  # noqa: FBT001 (one caller)
    """A connection came about, and no answer to a bind is in the log."""
    if life.gap:
        return End(Outcome.NOT_KNOWN, "bytes are missing")
    if not life.asked:
        if life.replied:
            known = Outcome.OTHER_PROTOCOL if life.host else Outcome.NOT_KNOWN
            return End(known, life.host or "the host sent data, and what the client sent is not in the log")
        return _silent_client(life, end)
    if life.client not in ("", RPC):
        return End(Outcome.NOT_KMS, f"the client spoke {life.client}")
    if life.replied:
        return End(Outcome.NOT_KNOWN, f"the host answered; {program} logs neither bind_nak nor fault")
    if life.client != RPC and not bound_for:
        return End(Outcome.NOT_KNOWN, "the client asked for something that the log does not name, and got no answer")
    return _silent_host(life, end)


def _silent_client(life: Life, end: int) -> End:
    """Nobody said anything."""
    lived = life.ended - life.started
    if life.closer is Closer.UNTOLD:
        return End(Outcome.NOT_KNOWN, "nobody said anything, and who hung up first is not in the log")
    if life.closer is Closer.HOST and lived < GREETING:
        return End(Outcome.CLOSED_EARLY, "by a reset" if life.reset else "")
    if life.closer is Closer.NOBODY and end - life.ended < PATIENCE:
        return End(Outcome.NOT_KNOWN, "the log ends too early", Lack.END)
    return End(Outcome.CONNECT_ONLY)


def _silent_host(life: Life, end: int) -> End:
    """A bind, and not a byte from the host."""
    if life.closer is Closer.HOST:
        return End(Outcome.BIND_RESET if life.reset else Outcome.BIND_CLOSED)
    waited = (end if life.closer is Closer.NOBODY else life.ended) - life.started
    if waited >= PATIENCE:
        return End(Outcome.BIND_UNANSWERED, f"nothing for {waited / 1e9:.1f} s")
    if life.closer is Closer.CLIENT:
        return End(Outcome.REQUEST_ABORTED, f"the client hung up after {waited / 1e6:.1f} ms")
    return End(Outcome.NOT_KNOWN, "the log ends too early, or does not say who hung up", Lack.END)


# ------------------------------------------------------------------------------------------------------ ladder


def _ladder(link: Connection, started: int) -> tuple[Rung, ...]:
    """One rung a line of the logs: RUNGS of requests first, the account of the whole connection last."""
    rungs = [_rung(call, started) for call in link.calls[:_RUNGS]]
    life = link.life
    if life is not None:
        after = round((life.ended - started) / 1e6, 3)
        rungs.append(
            Rung(frame=frame_of(life.ref), after_ms=after, sender="client", what="connection", detail=life.words)
        )
    return tuple(rungs)


_RUNGS: Final = 200


def _rung(call: Call, started: int) -> Rung:
    took = "" if call.elapsed is None else f" after {call.elapsed / 1e6:.1f} ms"
    size = "" if call.size < 0 else f", {call.size} stub bytes"
    return Rung(
        frame=frame_of(call.ref),
        after_ms=round((call.at - started) / 1e6, 3),
        sender="client",
        what="bind" if call.bind else "request",
        detail=f"{call.reply.value}{took}{size}",
    )
