"""Conversations that differ in nothing but addresses, ports, numbers, times and opaque bytes are walked once.

In a large fleet most conversations are alike. Each regular one (:class:`Ended`) gets a *shape*: a hash of everything
that its verdict can depend on, that is, of each segment's direction, flags, length and relative numbers, and of its
payload but for the bytes that nobody looks at (bodies of versions 5 and 6, association group ids). The first of a shape
takes the exact path; what comes out is kept, and given to the others with their own addresses and times.

Nothing is judged here. What the first of a shape gets by this way is compared with what the exact path gave it, and a
shape where they differ always takes the exact path. Requests and responses of version 4, whose fields count, and
whatever is no sequence of whole PDUs, are never regular here.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmsdiag.capture.digest import EXCHANGE, ROW, Digest, exchanges_of, row_of
from kmsdiag.capture.endings import GREETING
from kmsdiag.capture.evidence import PATIENCE
from kmsdiag.capture.flows import QUIET, REFUSED, SECOND, Ended
from kmsdiag.capture.packets import FIN, RST, Indices, Mask, Packets
from kmsdiag.capture.rows import pick
from kmsdiag.model.capture import Conversation
from kmsdiag.wire.frames import ref_of

SHAPES: Final = 4096
"""Shapes that are kept; real fleets have some dozens, mostly by where acknowledgements fall."""

LONGEST: Final = 200
"""Rows of a conversation that has a shape."""

LONG_AFTER: Final = 10 * SECOND
"""Silence that no verdict wants more of."""

LIMITS: Final = (PATIENCE, GREETING)
"""Times that verdicts depend on."""

Hashes = NDArray[np.uint64]


class Walked(NamedTuple):
    """What the exact path says of one connection: nothing where it is not KMS, else also the initial numbers."""

    conversation: Conversation | None
    isns: tuple[int, int]


Walk = Callable[[int], Sequence[Walked]]
"""Takes the exact path with the connection of that index; several where a port was used again."""


class _Exchange(NamedTuple):
    """An exchange of a shape: the rows of request and response (-1: none), and the rest of its :data:`EXCHANGE`."""

    request: int
    response: int
    row: tuple[Any, ...]


class _Shape(NamedTuple):
    """What conversations of one shape have in common. ``connect`` are the rows that the time is between, or None."""

    row: NDArray[Any]
    connect: tuple[int, int] | None
    exchanges: tuple[_Exchange, ...]


class Shapes:
    """The shapes known to one worker, and what became of them."""

    def __init__(self) -> None:
        self._known: dict[int, _Shape | None] = {}
        self._met: set[int] = set()

    def count(self, ended: Ended, walk: Walk, digest: Digest) -> Mask:
        """Count what can be counted by shape; says which connections that were (the others are to be walked)."""
        counted = np.zeros(ended.size, np.bool_)
        fit, hashes = _hashes(ended)
        which = np.flatnonzero(fit)
        if not len(which):
            return counted
        values, inverse, sizes = np.unique(hashes[which], return_inverse=True, return_counts=True)
        own = np.split(which[np.argsort(inverse, kind="stable")], np.cumsum(sizes)[:-1])
        for value, groups in zip(values.tolist(), own, strict=True):
            if value not in self._known:
                if len(self._known) >= SHAPES or (len(groups) == 1 and not self._was_met(value)):
                    continue
                self._known[value] = self._learn(ended, int(groups[0]), walk)
            shape = self._known[value]
            if shape is not None:
                rows, exchanges = _apply(shape, ended, groups)
                counted[groups] = True
                self._add(digest, rows, exchanges, groups, walk)
        return counted

    def _was_met(self, value: int) -> bool:
        """Whether a shape was met before: one that is met once is not worth being learnt."""
        if value in self._met or len(self._met) >= 4 * SHAPES:
            return True
        self._met.add(value)
        return False

    @staticmethod
    def _add(digest: Digest, rows: NDArray[Any], exchanges: NDArray[Any], groups: Indices, walk: Walk) -> None:
        accepted = np.flatnonzero(digest.add_rows(rows, exchanges))
        for index in digest.wanted(pick(rows, accepted)):
            (walked,) = walk(int(groups[accepted[index]]))
            assert walked.conversation is not None  # noqa: S101 (a shape has a conversation)
            digest.keep(walked.conversation)

    @staticmethod
    def _learn(ended: Ended, group: int, walk: Walk) -> _Shape | None:
        """Walk the first of a shape, and see whether the fast way says the same."""
        walked = walk(group)
        conversation, isns = walked[0]
        if len(walked) != 1 or conversation is None:
            return None
        exact = np.array([row_of(conversation, isns)], ROW)
        start = int(ended.starts[group])
        refs = ended.packets.table["ref"][start : start + int(ended.counts[group])].tolist()
        place = {ref: index for index, ref in enumerate(refs)}
        exact_exchanges = np.array(exchanges_of(conversation, refs[0]), EXCHANGE)
        exchanges = []
        for one, row in zip(conversation.exchanges, exact_exchanges.tolist(), strict=True):
            frames = [-1 if one is None else place[ref_of(one.file, one.number)] for one in (one.request, one.response)]
            exchanges.append(_Exchange(frames[0], frames[1], row))
        connect = (0, 1) if conversation.connect_ms is not None else None
        shape = _Shape(exact, connect, tuple(exchanges))
        rows, own = _apply(shape, ended, np.array([group]))
        # As text, since NaN is unequal to itself, and tables have bytes between their fields.
        same = all(
            str(ours.tolist()) == str(theirs.tolist()) for ours, theirs in ((rows, exact), (own, exact_exchanges))
        )
        return shape if same else None


def _apply(shape: _Shape, ended: Ended, groups: Indices) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows and exchanges of connections of one shape."""
    table, starts = ended.packets.table, ended.starts[groups]
    first = pick(table, starts)
    rows = np.repeat(shape.row, len(groups))
    rows["ref"], rows["started"] = first["ref"], first["at"] // 1000
    for own, theirs in (
        ("client_hi", "src_hi"),
        ("client_lo", "src_lo"),
        ("client_port", "sport"),
        ("host_hi", "dst_hi"),
        ("host_lo", "dst_lo"),
        ("isn_client", "seq"),
    ):
        rows[own] = first[theirs]
    if shape.row["isn_host"][0] >= 0:
        rows["isn_host"] = table["seq"][starts + 1]
    at = table["at"]
    if shape.connect is not None:
        begin, end = shape.connect
        rows["connect"] = microseconds_between(at[starts + begin], at[starts + end])
    exchanges = np.empty((len(groups), len(shape.exchanges)), EXCHANGE)
    for index, exchange in enumerate(shape.exchanges):
        exchanges[:, index] = exchange.row
        exchanges["ref"][:, index] = first["ref"]
        if exchange.request >= 0 and exchange.response >= 0:
            elapsed = microseconds_between(at[starts + exchange.request], at[starts + exchange.response])
            exchanges["elapsed"][:, index] = elapsed
    return rows, exchanges.reshape(-1)


def microseconds_between(begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """Durations as the exact path gives them, ms with three decimals, in µs."""
    elapsed = np.maximum(end - begin, 0)
    rounded = (elapsed + 500) // 1000
    # Between two µs, the float decides, as it does there.
    for index in np.flatnonzero(elapsed % 1000 == 500).tolist():
        rounded[index] = round(round(int(elapsed[index]) / 1e6, 3) * 1000)
    return np.asarray(rounded)


# ------------------------------------------------------------------------------------------------- shapes

_PRIMES: Final = tuple(np.uint64(prime) for prime in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93))
_LOW32: Final = np.uint64(0xFFFFFFFF)
_HEAD_WORDS: Final = 7
_WHOLE: Final = np.uint64(0xFFFFFFFFFFFFFFFF)

_REQUEST, _RESPONSE = 0, 2
_WITH_GROUP_ID: Final = (11, 12, 14, 15)


def _mix(state: Hashes, value: NDArray[Any]) -> Hashes:
    state = (state ^ value.astype(np.uint64, copy=False)) * _PRIMES[0]
    return state ^ state >> np.uint64(29)


def _hashes(ended: Ended) -> tuple[Mask, Hashes]:
    """Which connections have a shape, and which one."""
    table, starts, counts = ended.packets.table, ended.starts, ended.counts
    gid = np.repeat(np.arange(len(starts)), counts)
    last = table["at"][starts + counts - 1]
    silence = ended.until - last
    settled = (silence == 0) | (silence == QUIET) | (silence == REFUSED) | (silence >= LONG_AFTER)
    fit = ended.regular & settled & (counts <= LONGEST)
    row = fit[gid]
    payload = np.zeros(len(table), np.uint64)
    data = np.flatnonzero(row & (table["length"] > 0))
    whole, payload[data] = _payloads(ended.packets, data)
    fit[gid[data[~whole]]] = False

    state = _mix(np.full(len(table), _PRIMES[1]), table["flags"].astype(np.uint64) << np.uint64(1) | ended.from_client)
    state = _mix(state, table["length"])
    state = _mix(state, ended.seq.astype(np.uint64) << np.uint64(32) | ended.ack)
    state = _mix(state, payload)
    state = _mix(state, (np.arange(len(table)) - starts[gid]) << 8 | _waits(ended, gid))
    group = np.add.reduceat(state, starts)
    group = _mix(group, table["dport"][starts])
    group = _mix(group, np.where(silence >= LONG_AFTER, LONG_AFTER, silence))
    return fit, group


def _waits(ended: Ended, gid: Indices) -> Indices:
    """For each row, which of the limits that verdicts know its distance to the connection's marks exceeds: a number."""
    table, starts = ended.packets.table, ended.starts
    at = table["at"]
    closing = np.where(table["flags"] & (FIN | RST), at, ended.until[gid])
    marks = (at[starts], np.minimum.reduceat(closing, starts), at[starts + ended.counts - 1], ended.until)
    waits = np.zeros(len(table), np.int64)
    for mark in marks:
        distance = np.abs(mark[gid] - at)
        for limit in LIMITS:
            waits = waits << 1 | (distance >= limit)
    return waits


def _payloads(packets: Packets, data: Indices) -> tuple[Mask, Hashes]:
    """For rows with payload: whether it is one whole PDU whose shape is all that matters, and a hash of that."""
    start, length = packets.table["start"][data], packets.table["length"][data].astype(np.int64)
    words = _words(packets.blob)
    head = [words[start + 8 * index] & _mask(length - 8 * index) for index in range(_HEAD_WORDS)]
    kind = head[0] >> np.uint64(16) & np.uint64(0xFF)
    flags = head[0] >> np.uint64(24) & np.uint64(0xFF)
    # Version 5.0, little-endian, all of it in one fragment and in this segment, no authentication.
    whole = (head[0] & np.uint64(0xFFFF) == 5) & (head[0] >> np.uint64(32) == 0x10) & (flags & np.uint64(3) == 3)
    whole &= (head[1] & np.uint64(0xFFFF) == length.astype(np.uint64)) & (
        head[1] >> np.uint64(16) & np.uint64(0xFFFF) == 0
    )

    is_request, is_response = kind == _REQUEST, kind == _RESPONSE
    body = is_request | (is_response & (length > 44))
    # The second length field is zero in NDR64, where it is the first one's upper half or padding.
    wide = head[3] >> np.uint64(32) == 0
    version = np.where(
        is_request,
        np.where(wide, head[5], head[4]) & _LOW32,
        np.where(wide, head[6] & _LOW32, head[4] >> np.uint64(32)),
    )
    major = version >> np.uint64(16)
    whole &= ~body | (((major == 5) | (major == 6)) & (length >= 8 * _HEAD_WORDS + 8))
    whole &= ~is_request | wide | (head[3] & _LOW32 == head[3] >> np.uint64(32))

    state = np.full(len(data), _PRIMES[2])
    for index, word in enumerate(head):
        state = _mix(state, _seen(index, word, kind, body, is_request, wide))
    end = words[np.maximum(start + length - 8, 0)] >> np.uint64(32)
    state = _mix(state, np.where(is_response, end, np.uint64(0)))
    long = ~body & (length > 8 * _HEAD_WORDS) & whole
    for size in np.unique(length[long]).tolist():
        rows = np.flatnonzero(long & (length == size))
        state[rows] = _rest(words, start[rows], size, state[rows])
    return whole, state


def _seen(index: int, word: Hashes, kind: Hashes, body: Mask, is_request: Mask, wide: Mask) -> Hashes:
    """One of the first words of a PDU, without the bytes that no verdict depends on."""
    if index == 2:
        return np.where(np.isin(kind, _WITH_GROUP_ID), word & _LOW32, word)
    if index < 4:
        return word
    # Words from byte 32 on: lengths and version of a request or response, and then the opaque body.
    limit = np.where(is_request, np.where(wide, 44, 36), np.where(wide, 52, 40))
    return np.where(body, word & _mask(limit - 8 * index), word)


def _rest(words: Hashes, start: Indices, size: int, state: Hashes) -> Hashes:
    """What follows the first words of PDUs of one size."""
    for at in range(8 * _HEAD_WORDS, size, 8):
        state = _mix(state, words[start + at] & _mask(np.array([size - at])))
    return state


def _words(blob: NDArray[np.uint8]) -> Hashes:
    """Eight bytes from every place on, as little-endian numbers; the last ones are padded with zeros."""
    padded = np.concatenate([blob, np.zeros(8 * _HEAD_WORDS + 8, np.uint8)])
    return np.ndarray((len(padded) - 7,), "<u8", padded.data, 0, (1,))


def _mask(count: NDArray[np.int64]) -> Hashes:
    """Ones over the first ``count`` bytes of a word."""
    shift = (64 - 8 * np.clip(count, 0, 8)).astype(np.uint64)
    return np.where(count <= 0, np.uint64(0), _WHOLE >> np.minimum(shift, np.uint64(63)))
