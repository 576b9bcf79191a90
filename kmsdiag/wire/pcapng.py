"""pcapng files: sections of either byte order, many interfaces, three kinds of packets (draft-ietf-opsawg-pcapng)."""

import struct
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from kmsdiag.wire.batch import (
    MAX_FRAME,
    Int64s,
    Interface,
    Records,
    State,
    Stretch,
    rows,
)
from kmsdiag.wire.chain import Rule, follow
from kmsdiag.wire.chunks import HEADROOM
from kmsdiag.wire.magic import PCAPNG, PCAPNG_ORDER
from kmsdiag.wire.rpc import printable

SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, STATISTICS, PACKET = 0x0A0D0D0A, 1, 2, 3, 5, 6
"""Block types that mean something here; all others are skipped."""

Ticks = npt.NDArray[np.uint64]
Kinds = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]

_NUMBERED: Final = (9, 0xBAD, 0x40000BAD, 0x204, 0x216, 0x221)
"""Blocks that Wireshark numbers as frames though they are none: journal entries, custom blocks, system calls."""

_PACKETS: Final = (PACKET, SIMPLE_PACKET, OLD_PACKET, *_NUMBERED)
_NEEDED: Final = (SECTION, INTERFACE, STATISTICS, *_PACKETS)

_LEAST: Final = 12
"""Bytes of an empty block: type, length, length again."""

_FIRST_WINDOW: Final = 1 << 12
"""Bytes that are looked at behind a section header; four times as many each time, so that many small sections cost
no more than they hold."""

MAX_INTERFACES: Final = 1 << 14
"""Interfaces, and sections, of a file; what is more than this is no capture that anybody made."""

# Options of interface description and statistics blocks.
_NAME, _DESCRIPTION, _RESOLUTION, _OFFSET, _DROPPED, _DROPPED_BY_SYSTEM = 2, 3, 9, 14, 5, 7

_MOST: Final = 2**63 - 1
_SECOND: Final = 1_000_000_000
_MOST_SECONDS: Final = _MOST // _SECOND - 1


class PcapngDecoder:
    """Finds the packets of a pcapng file in pieces of it. ``interfaces`` and their ``links`` grow on the way."""

    def __init__(self, state: State | None = None) -> None:
        known = state or State("pcapng", little=True, interfaces=())
        self.format = known.format
        self.interfaces = list(known.interfaces)
        self.links = [one.link for one in self.interfaces]
        self._little = known.little
        self._section = known.section
        self._now = known.clock
        self._sections = 0
        self._window = _FIRST_WINDOW

    @property
    def state(self) -> State:
        """What a reader must know to go on from here."""
        return State(self.format, self._little, tuple(self.interfaces), self._section, clock=self._now)

    def stretch(self, buffer: bytearray, start: int, end: int, stop: int) -> Stretch:
        """The packets of the whole blocks in ``buffer[start:end]`` that start before ``stop``, within one section."""
        if end - start < _LEAST or start >= stop:
            return Stretch(None, start)
        if buffer.startswith(PCAPNG, start):
            return self._begin_section(buffer, start, end)
        limit = min(end - _LEAST + 1, stop, start + self._window)
        self._window = min(self._window * 4, 1 << 30)
        position, after = follow(buffer, start, limit, Rule(4, 0, self._little, _LEAST, self._find(start, end)))
        return self._blocks(buffer, position, after, end)

    def _blocks(self, buffer: bytearray, position: Int64s, after: int, end: int) -> Stretch:
        heads = rows(buffer, 8, position).view(self._u4)
        kinds, lengths = heads[:, 0], heads[:, 1].astype(np.int64)
        count, problem = len(position), ""

        def cut(where: Int64s, what: Callable[[int], str]) -> None:
            nonlocal count, after, problem
            if len(where) and where[0] < count:
                count = int(where[0])
                after, problem = int(position[count]), what(count)

        cut(np.flatnonzero(kinds == SECTION), lambda _: "")
        cut(
            np.flatnonzero((lengths < _LEAST) | (lengths % 4 != 0)),
            lambda bad: f"a block has the impossible length {lengths[bad]}",
        )
        if count and not problem and position[count - 1] + lengths[count - 1] > end:
            count -= 1
            needed = int(kinds[count]) in _NEEDED
            if needed or lengths[count] <= HEADROOM // 2:
                after = int(position[count])
            if needed and lengths[count] > HEADROOM // 2:
                problem = f"a block of type {kinds[count]} claims {lengths[count]} bytes"
        trailers = rows(buffer, 4, position[:count] + lengths[:count] - 4).view(self._u4)[:, 0]
        cut(
            np.flatnonzero(trailers != lengths[:count]),
            lambda bad: f"a block gives its length as {lengths[bad]} and then as {trailers[bad]}",
        )
        notes: list[tuple[str, int]] = []
        kinds, lengths, position = kinds[:count], lengths[:count], position[:count]
        known = self._learn(buffer, position, kinds, lengths, notes)
        packets = np.arange(count) if (kinds == PACKET).all() else np.flatnonzero(np.isin(kinds, _PACKETS))
        if not len(packets):
            return Stretch(None, after, problem, tuple(notes))
        records, bad, what = self._packets(buffer, position[packets], kinds[packets], lengths[packets])
        if bad is not None:
            after, problem = int(position[packets[bad]]), what
        numbered = np.isin(kinds[packets[: len(records.at)]], _NUMBERED)
        records = self._attributed(records, np.where(numbered, 1, known[packets[: len(records.at)]]), notes)
        return Stretch(records, after, problem, tuple(notes))

    @property
    def _u4(self) -> str:
        return "<u4" if self._little else ">u4"

    @property
    def _order(self) -> str:
        return "<" if self._little else ">"

    def _find(self, start: int, end: int) -> Callable[[bytearray, int, int], int]:
        return finder(little=self._little, alignment=start % 4, end_of_data=end)

    def _begin_section(self, buffer: bytearray, start: int, end: int) -> Stretch:
        """Begin a section, whose header is at ``start``."""
        magic = bytes(buffer[start + 8 : start + 12])
        little = magic == PCAPNG_ORDER.to_bytes(4, "little")
        if not little and magic != PCAPNG_ORDER.to_bytes(4, "big"):
            return Stretch(None, start, "a section header without a byte order")
        length = int.from_bytes(buffer[start + 4 : start + 8], "little" if little else "big")
        if length < 28 or length % 4 or length > HEADROOM // 2:
            return Stretch(None, start, f"a section header has the impossible length {length}")
        if start + length > end:
            return Stretch(None, start)
        order = "<" if little else ">"
        (major,) = struct.unpack_from(order + "H", buffer, start + 12)
        (again,) = struct.unpack_from(order + "I", buffer, start + length - 4)
        self._sections += 1
        if again != length:
            return Stretch(None, start, f"a section header gives its length as {length} and then as {again}")
        if major != 1:
            return Stretch(None, start, f"a section of pcapng version {major}, and only version 1 is known")
        if self._sections > MAX_INTERFACES:
            return Stretch(None, start, f"more than {MAX_INTERFACES} sections")
        self._little, self._section = little, len(self.interfaces)
        self._window = _FIRST_WINDOW
        return Stretch(None, start + length)

    def _learn(
        self, buffer: bytearray, position: Int64s, kinds: Kinds, lengths: Int64s, notes: list[tuple[str, int]]
    ) -> Int64s:
        """Read descriptions and statistics of interfaces. How many interfaces the section has at each block."""
        described = kinds == INTERFACE
        known = len(self.interfaces) - self._section + np.cumsum(described)
        for index in np.flatnonzero(described).tolist():
            if len(self.interfaces) >= MAX_INTERFACES:
                notes.append((f"more than {MAX_INTERFACES} interfaces: the others are left out", int(position[index])))
                break
            one = _interface(_bytes(buffer, position, lengths, index), self._order)
            self.interfaces.append(one)
            self.links.append(one.link)
        self._count_drops(buffer, position, lengths, np.flatnonzero((kinds == STATISTICS) & (lengths >= 24)))
        return np.asarray(np.minimum(known, len(self.interfaces) - self._section))

    def _count_drops(self, buffer: bytearray, position: Int64s, lengths: Int64s, statistics: Int64s) -> None:
        """Take the last statistics of each interface: counts are those since the beginning."""
        if not len(statistics):
            return
        numbers = rows(buffer, 4, position[statistics] + 8).view(self._u4)[:, 0].astype(np.int64)
        for number, last in dict(zip(numbers.tolist(), statistics.tolist(), strict=True)).items():
            index = self._section + number
            options = dict(_options(_bytes(buffer, position, lengths, last), 20, self._order))
            counts = [options[code] for code in (_DROPPED, _DROPPED_BY_SYSTEM) if len(options.get(code, b"")) == 8]
            if counts and index < len(self.interfaces):
                dropped = sum(int.from_bytes(count, "little" if self._little else "big") for count in counts)
                self.interfaces[index] = self.interfaces[index]._replace(dropped=dropped)

    def _packets(
        self, buffer: bytearray, position: Int64s, kinds: Kinds, lengths: Int64s
    ) -> tuple[Records, int | None, str]:
        """The packet blocks as records, up to the first whose lengths contradict each other: its index, and why."""
        fields = rows(buffer, 28, position).view(self._u4)
        interface = fields[:, 2].astype(np.int64)
        caplen, length = fields[:, 5].astype(np.int64), fields[:, 6].astype(np.int64)
        ticks = fields[:, 3].astype(np.uint64) << np.uint64(32) | fields[:, 4]
        body = np.full(len(position), 28, np.int64)
        if not (kinds == PACKET).all():
            old, simple, numbered = kinds == OLD_PACKET, kinds == SIMPLE_PACKET, np.isin(kinds, _NUMBERED)
            # The interface takes half of the word, a drop count the other.
            interface[old] = interface[old] & 0xFFFF if self._little else interface[old] >> 16
            interface[simple | numbered] = 0
            body[simple | numbered] = 8
            body[simple] = 12
            length[simple] = fields[simple, 2]
            caplen[simple] = np.minimum(length[simple], self._snap() or MAX_FRAME)
            length[numbered] = caplen[numbered] = 0
        bad = np.flatnonzero((caplen > MAX_FRAME) | (caplen > lengths - body - 4))
        whole, what = len(position), ""
        if len(bad):
            whole = int(bad[0])
            what = f"a block of {lengths[whole]} bytes claims a packet of {caplen[whole]}"
        kept = slice(0, whole)
        timed = (kinds[kept] == PACKET) | (kinds[kept] == OLD_PACKET)
        at = self._dated(self._times(ticks[kept], interface[kept]), timed)
        records = Records(position[kept], position[kept] + body[kept], caplen[kept], length[kept], at, interface[kept])
        return records, whole if len(bad) else None, what

    def _dated(self, at: Int64s, timed: Mask) -> Int64s:
        """Blocks without a time get that of the block before: 0 if there is none."""
        if not timed.all():
            last = np.maximum.accumulate(np.where(timed, np.arange(len(at)), -1))
            at = np.where(last >= 0, at[last], self._now)
        if len(at):
            self._now = int(at[-1])
        return at

    def _snap(self) -> int:
        interfaces = self.interfaces[self._section :]
        return interfaces[0].snap if interfaces else 0

    def _times(self, ticks: Ticks, interface: Int64s) -> Int64s:
        """Nanoseconds since 1970, by the resolution of each interface."""
        clocks = {(one.power, one.binary, one.shift) for one in self.interfaces[self._section :]}
        if len(clocks) == 1:
            return _nanoseconds(ticks, *clocks.pop())
        at = np.zeros(len(ticks), np.int64)
        for number, one in enumerate(self.interfaces[self._section :]):
            chosen = interface == number
            if chosen.any():
                at[chosen] = _nanoseconds(ticks[chosen], one.power, one.binary, one.shift)
        return at

    def _attributed(self, records: Records, known: Int64s, notes: list[tuple[str, int]]) -> Records:
        """The records with the file's numbers of interfaces instead of the section's; without those that have none."""
        lost = records.interface >= known
        if lost.any():
            what = "a packet of interface {}, which is not described, is left out"
            notes += (
                (what.format(number), where)
                for number, where in zip(records.interface[lost].tolist(), records.position[lost].tolist(), strict=True)
            )
            records = Records(*(column[~lost] for column in records))
        return records._replace(interface=records.interface + self._section)


def finder(
    *, little: bool, alignment: int, end_of_data: int, chain: int = 2, tries: int = 64
) -> Callable[[bytearray, int, int], int]:
    """A guess where a packet block starts: its length stands at both ends, and ``chain`` blocks follow each other."""
    pattern = PACKET.to_bytes(4, "little" if little else "big")
    word = struct.Struct("<I" if little else ">I").unpack_from

    def holds(buffer: bytearray, position: int) -> bool:
        for seen in range(chain):
            if position + _LEAST > end_of_data:
                return seen > 0
            (length,) = word(buffer, position + 4)
            if length < _LEAST or length % 4 or length > MAX_FRAME + 4096:
                return False
            if position + length <= end_of_data and word(buffer, position + length - 4)[0] != length:
                return False
            position += length
        return True

    def find(buffer: bytearray, start: int, end: int) -> int:
        for _ in range(tries):
            hit = buffer.find(pattern, start, end)
            if hit < 0:
                break
            if hit % 4 == alignment and holds(buffer, hit):
                return hit
            start = hit + 1
        return -1

    return find


def _bytes(buffer: bytearray, position: Int64s, lengths: Int64s, index: int) -> bytes:
    """One whole block."""
    start = int(position[index])
    return bytes(buffer[start : start + int(lengths[index])])


def _options(block: bytes, start: int, order: str) -> Iterator[tuple[int, bytes]]:
    """Code and value of each option between ``start`` and the block's last four bytes."""
    end = len(block) - 4
    while start + 4 <= end:
        code, size = struct.unpack_from(order + "HH", block, start)
        start += 4
        if code == 0 or start + size > end:
            return
        yield code, block[start : start + size]
        start += size + -size % 4


def _interface(block: bytes, order: str) -> Interface:
    if len(block) < 20:
        return Interface(0xFFFF)
    link, snap = struct.unpack_from(order + "HxxI", block, 8)
    options = dict(_options(block, 16, order))
    power, binary, shift = 6, False, 0
    if len(options.get(_RESOLUTION, b"")) >= 1:
        power, binary = options[_RESOLUTION][0] & 0x7F, bool(options[_RESOLUTION][0] & 0x80)
    if len(options.get(_OFFSET, b"")) == 8:
        (shift,) = struct.unpack(order + "q", options[_OFFSET])
    name = (options.get(_NAME) or options.get(_DESCRIPTION) or b"").rstrip(b"\0")
    return Interface(link, snap, printable(name), None, power, binary, shift)


def _nanoseconds(ticks: Ticks, power: int, binary: bool, shift: int) -> Int64s:  # noqa: FBT001
    """Ticks of ``10**-power`` s, or ``2**-power``, as ns; what no 64 bits can hold is the farthest that they can."""
    if binary:
        seconds = ticks >> np.uint64(power) if power < 64 else ticks * np.uint64(0)
        rest = ticks & np.uint64((1 << min(power, 64)) - 1)
        if power > 32:
            rest >>= np.uint64(min(power - 32, 63))
        at = np.minimum(seconds, np.uint64(_MOST_SECONDS)) * np.uint64(_SECOND)
        at += rest * np.uint64(_SECOND) >> np.uint64(min(power, 32))
    elif power <= 9:
        factor = 10 ** (9 - power)
        at = np.minimum(ticks, np.uint64(_MOST // factor)) * np.uint64(factor)
    elif power <= 28:
        at = np.minimum(ticks // np.uint64(10 ** (power - 9)), np.uint64(_MOST))
    else:  # no 64 bits of such ticks last a nanosecond
        at = np.zeros_like(ticks)
    found = at.astype(np.int64)
    if shift > 0:
        room = min(shift, _MOST_SECONDS) * _SECOND
        return np.asarray(np.minimum(found, _MOST - room) + room)
    return np.asarray(found + max(shift, -_MOST_SECONDS) * _SECOND)
