"""The bytes of one direction of a TCP connection, cut into DCE/RPC PDUs, and their fragments joined to messages.

Bytes come in *runs* (:mod:`kmsdiag.wire.streams`): what was captured without a gap. Nothing is ever joined across a
gap, but a PDU whose header was captured says how long it is, so that the next one is found behind what is missing (snap
length, lost frames); where that is not known, reading goes on at the next plausible header. Layout: C706 chapter 12,
MS-RPCE 2.2.2.
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from kmsdiag.wire import rpc
from kmsdiag.wire.streams import Run

JOINED_MAX: Final = 65_536
"""Bytes of stub that are joined for one call; KMS needs 260, and what is longer is none."""

PDUS_MAX: Final = 20_000
"""PDUs that are read from one direction; a client asks some dozens of times on one connection, seldom hundreds."""

_FOREIGN_MAX: Final = 64
_OBJECT_UUID: Final = 0x80
_HEADERS: Final = {True: struct.Struct("<HHI"), False: struct.Struct(">HHI")}
_BODIES: Final = {True: struct.Struct("<IHH"), False: struct.Struct(">IHH")}
# Stubs begin behind alloc_hint, context id and opnum (or cancel count); C706 12.6.4.9 and .10.
_STUB: Final = 24


class Pdu(NamedTuple):
    """One PDU. ``data`` are its captured bytes, header first: fewer than ``length`` where the rest is missing.

    ``start`` is its place in the stream. ``ref`` and ``at`` are those of the frame that completed it, or brought the
    last captured byte of it. ``after_gap``: PDUs may be missing between it and the one before.
    """

    type: int
    flags: int
    call_id: int
    little: bool
    length: int
    auth_length: int
    data: bytes
    start: int
    ref: int
    at: int
    after_gap: bool = False

    @property
    def end(self) -> int:
        """The place in the stream behind it."""
        return self.start + self.length

    @property
    def whole(self) -> bool:
        """Whether all of it was captured."""
        return len(self.data) >= self.length

    @property
    def name(self) -> str:
        """Its type as the standard calls it."""
        return rpc.TYPES[self.type]


class Foreign(NamedTuple):
    """Bytes that belong to no PDU: the first ones (at most 64), how many there are, and the frame that brought them."""

    data: bytes
    size: int
    ref: int
    at: int


class Reading(NamedTuple):
    """What one direction says. ``pdus`` are in stream order. ``foreign`` are bytes before the first PDU, or instead.

    ``stray`` counts bytes between PDUs that belong to none, ``unfinished`` those of a header that never was completed.
    ``full`` is true where reading stopped at :data:`PDUS_MAX`.
    """

    pdus: tuple[Pdu, ...] = ()
    foreign: Foreign | None = None
    stray: int = 0
    unfinished: int = 0
    full: bool = False


def read(runs: Iterable[Run]) -> Reading:
    """All PDUs of one direction. Never raises, whatever the bytes are."""
    reader = _Reader()
    for run in runs:
        reader.take(run)
    return Reading(tuple(reader.pdus), reader.foreign, reader.stray, reader.unfinished, reader.full)


class _Reader:
    """Goes through runs; ``next`` is the place in the stream where the next PDU begins, None where a gap hides it."""

    def __init__(self) -> None:
        self.pdus: list[Pdu] = []
        self.foreign: Foreign | None = None
        self.stray = 0
        self.unfinished = 0
        self.full = False
        self.next: int | None = 0
        self.gap = False

    def take(self, run: Run) -> None:
        if self.full:
            return
        at = 0
        if self.next is not None and self.next >= run.end:
            return  # all of it lies within a PDU whose beginning was captured and whose middle was not
        if self.next is not None and self.next >= run.offset:
            at = self.next - run.offset
        self.gap = self.next is None or self.next < run.offset
        self.unfinished = 0
        self._walk(run, at)

    def _walk(self, run: Run, at: int) -> None:
        """Read PDUs from ``at`` on to the end of the run."""
        data, size = run.data, len(run.data)
        while at < size:
            header = _header(data, at)
            if header is None:
                if size - at < rpc.HEADER and rpc.could_be_rpc(data[at : at + 3]):
                    self.unfinished = size - at
                    self.next = None
                    return
                found = _find(data, at + 1)
                self._skip(run, at, found)
                at = found
                continue
            end = at + header.length
            mark = run.completed(run.offset + min(end, size))
            self.pdus.append(Pdu(*header, data[at:end], run.offset + at, mark.ref, mark.at, self.gap))
            self.gap = False
            if len(self.pdus) >= PDUS_MAX:
                self.full = True
                return
            at = end
        self.next = run.offset + at

    def _skip(self, run: Run, start: int, end: int) -> None:
        """Bytes that belong to no PDU."""
        if self.pdus:
            self.stray += end - start
        elif self.foreign is None:
            mark = run.completed(run.offset + start + 1)
            self.foreign = Foreign(run.data[start : min(end, start + _FOREIGN_MAX)], end - start, mark.ref, mark.at)
        else:
            self.foreign = self.foreign._replace(size=self.foreign.size + end - start)


class _Head(NamedTuple):
    """The fields of :class:`Pdu` that come from its header."""

    type: int
    flags: int
    call_id: int
    little: bool
    length: int
    auth_length: int


def _header(data: bytes, at: int) -> _Head | None:
    """The header at ``at``; None where there can't be one."""
    if len(data) - at < rpc.HEADER or data[at] != 5 or data[at + 1] > 1:
        return None
    kind = data[at + 2]
    if kind not in rpc.TYPES:
        return None
    # C706 14.1: high nibble of the first format byte, 1 = little-endian, 0 = big-endian.
    order = data[at + 4] >> 4
    if order > 1:
        return None
    little = order == 1
    length, auth_length, call_id = _HEADERS[little].unpack_from(data, at + 8)
    if not rpc.HEADER <= length <= rpc.MAX_FRAGMENT or auth_length > length - rpc.HEADER:
        return None
    return _Head(kind, data[at + 3], call_id, little, length, auth_length)


def _find(data: bytes, at: int) -> int:
    """Where the next plausible header begins; the end of ``data`` where there is none.

    More is asked of it than of a header in its place: all four bytes of the data representation (ASCII, IEEE), and that
    another header, or the end of what was captured, follows.
    """
    size = len(data)
    while (at := data.find(b"\x05", at)) >= 0:
        header = _header(data, at)
        if header is not None and data[at + 4 : at + 8] in (b"\x10\0\0\0", b"\0\0\0\0"):
            end = at + header.length
            if end >= size or (rpc.could_be_rpc(data[end : end + 3]) and size - end < rpc.HEADER) or _header(data, end):
                return at
        at += 1
    return size


class Message(NamedTuple):
    """A request or response with its fragments joined.

    ``stub`` are the captured bytes of its stub, without authentication trailer, and ``stub_length`` its length on the
    wire as far as it is known. ``begun`` is false where the first fragment is missing; ``ended`` is true where the last
    one was captured to its end, so that the stub's last bytes are the message's. ``cut``: bytes of it are missing.
    ``size`` is in bytes of all fragments on the wire. ``operation`` is a request's opnum. It lies between ``start`` and
    ``end`` in the stream. ``ref`` and ``at`` are those of the frame that completed it.
    """

    type: int
    call_id: int
    little: bool
    context: int | None
    operation: int | None
    stub: bytes
    stub_length: int
    begun: bool
    ended: bool
    cut: bool
    size: int
    fragments: int
    start: int
    end: int
    ref: int
    at: int


def messages(pdus: Iterable[Pdu]) -> list[Message]:
    """The requests and responses among ``pdus``, fragments joined per call, in the order in which they were begun.

    A fragment without its first one is a message that was not begun, as is the end of a response behind a gap; a call
    that begins anew before its last fragment leaves one that was not ended.
    """
    done: list[Message] = []
    open_: dict[tuple[int, int], int] = {}
    for pdu in pdus:
        if pdu.type not in (rpc.REQUEST, rpc.RESPONSE):
            continue
        part = _part(pdu)
        if pdu.after_gap:
            open_ = _across_gap(done, open_)
        key = (pdu.type, pdu.call_id)
        index = None if part.begun else open_.get(key)
        if index is None:
            index = len(done)
            done.append(part)
        else:
            done[index] = _joined(done[index], part)
        if done[index].ended or pdu.flags & rpc.LAST_FRAGMENT:
            open_.pop(key, None)
        else:
            open_[key] = index
    return done


def _across_gap(done: list[Message], open_: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """What is still open behind a gap: requests, which are cut. The end of a response tells the HRESULT by itself."""
    still = {key: index for key, index in open_.items() if key[0] == rpc.REQUEST}
    for index in still.values():
        done[index] = done[index]._replace(cut=True)
    return still


def _part(pdu: Pdu) -> Message:
    """One fragment as a message."""
    data, start = pdu.data, _STUB
    context = operation = None
    if len(data) >= _STUB:
        _hint, context, operation = _BODIES[pdu.little].unpack_from(data, rpc.HEADER)
    if pdu.type == rpc.REQUEST:
        start += 16 if pdu.flags & _OBJECT_UUID else 0
    else:
        operation = None
    end = pdu.length
    if pdu.auth_length:
        # sec_trailer (MS-RPCE 2.2.2.11): type, level, pad length, reserved, context id; then the token.
        trailer = end - pdu.auth_length - 8
        pad = data[trailer + 2] if 0 <= trailer < len(data) - 2 else 0
        end = max(start, trailer - pad)
    return Message(
        pdu.type,
        pdu.call_id,
        pdu.little,
        context,
        operation,
        data[start:end],
        max(0, end - start),
        bool(pdu.flags & rpc.FIRST_FRAGMENT),
        bool(pdu.flags & rpc.LAST_FRAGMENT) and len(data) >= end,
        len(data) < end,
        pdu.length,
        1,
        pdu.start,
        pdu.end,
        pdu.ref,
        pdu.at,
    )


def _joined(head: Message, part: Message) -> Message:
    """Two fragments of one call. Behind a cut nothing is joined: only the lengths grow."""
    joins = not head.cut and len(head.stub) < JOINED_MAX
    return head._replace(
        stub=head.stub + part.stub if joins else head.stub,
        stub_length=head.stub_length + part.stub_length,
        ended=part.ended and joins,
        cut=head.cut or part.cut or not joins,
        size=head.size + part.size,
        fragments=head.fragments + 1,
        end=part.end,
        ref=part.ref,
        at=part.at,
    )
