"""Fragments of IP packets, joined (RFC 791 section 3.2, RFC 8200 section 4.5), by the holes of RFC 815."""

from bisect import bisect_right
from operator import itemgetter
from typing import Final, NamedTuple

LONGEST: Final = 65_535
"""Bytes that the payload of a fragmented packet can have."""

MOST_BYTES: Final = 8 << 20
"""Bytes of unfinished packets that are held, a page at least for each; beyond it the oldest packet is given up."""

SECONDS: Final = 60
"""How long the first fragment waits for the others, by the capture's clock (RFC 8200: 60 s; systems use 30 to 60)."""

_PIECES: Final = 2048
"""Fragments a packet; with the least MTU that IPv4 allows it would have 1,366."""

_LAST = itemgetter(1)

_SHARE: Final = 4096
_NS: Final = 1_000_000_000

Key = tuple[bytes, bytes, int, int]
"""Source, destination, protocol and identification: what the fragments of one packet have in common."""


class Piece(NamedTuple):
    """A fragment: where its payload belongs (in bytes), whether others follow it, and the payload as captured."""

    offset: int
    more: bool
    data: bytes


class _Packet:
    """One packet while it is joined. Only bytes that fall into a hole are taken, so the first copy wins."""

    __slots__ = ("arrived", "complete", "conflict", "data", "holes", "pieces", "total")

    def __init__(self, at: int) -> None:
        self.arrived = at
        self.data = bytearray()
        self.holes = [(0, LONGEST)]
        self.total = LONGEST
        self.pieces = 0
        self.conflict = False
        self.complete = False

    def add(self, piece: Piece) -> None:
        if self.pieces >= _PIECES:
            return
        self.pieces += 1
        start, end = piece.offset, min(piece.offset + len(piece.data), self.total)
        if not piece.more:
            self._end(end)
        if end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))
        index = after = bisect_right(self.holes, start, key=_LAST)
        left = []
        while after < len(self.holes) and self.holes[after][0] < end:
            first, last = self.holes[after]
            low, high = max(first, start), min(last, end)
            self.data[low:high] = piece.data[low - start : high - start]
            left += [hole for hole in ((first, low), (high, last)) if hole[0] < hole[1]]
            after += 1
        self.holes[index:after] = left
        self.conflict |= not self.has(piece)
        self.complete = not self.holes

    def _end(self, end: int) -> None:
        """The first end that a fragment says is the packet's."""
        if self.total == LONGEST:
            self.conflict = self.conflict or len(self.data) > end
            self.total = end
            del self.data[end:]
            self.holes = [(first, min(last, end)) for first, last in self.holes if first < end]
        elif end != self.total:
            self.conflict = True

    def has(self, piece: Piece) -> bool:
        """Whether these very bytes are in the packet."""
        return self.data[piece.offset : piece.offset + len(piece.data)] == piece.data


class Fragments:
    """Packets that wait for the rest of their fragments, within limits of time and memory.

    A whole packet is remembered as long as an unfinished one, so that a mirror port's second copies of its fragments
    begin no new packet. ``conflicts`` counts packets whose fragments contradict each other, in bytes or about the end.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, seconds: float = SECONDS) -> None:
        self._most = most_bytes
        self._wait = int(seconds * _NS)
        self._packets: dict[Key, _Packet] = {}
        self._held = 0
        self._given_up = 0
        self.conflicts = 0

    @property
    def missing(self) -> int:
        """Packets that are not whole: those given up, and those that still wait."""
        return self._given_up + sum(not packet.complete for packet in self._packets.values())

    def add(self, key: Key, at: int, piece: Piece) -> bytes | None:
        """Take one fragment; the packet's payload if it is whole now. ``at`` is in ns.

        A fragment that ends beyond :data:`LONGEST` is none of a packet, and is left out.
        """
        if piece.offset + len(piece.data) > LONGEST:
            return None
        self._expire(at)
        packet = self._packets.get(key)
        if packet is not None and packet.complete:
            if packet.has(piece):
                return None
            self._drop(key)
            packet = None
        if packet is None:
            packet = self._packets[key] = _Packet(at)
            self._held += _SHARE
        before = len(packet.data), packet.conflict
        packet.add(piece)
        self._held += len(packet.data) - before[0]
        self.conflicts += packet.conflict and not before[1]
        self._shrink(key)
        return bytes(packet.data) if packet.complete else None

    def _expire(self, at: int) -> None:
        # Packets are in the order of their first fragments. Where time runs backwards, none is too old.
        while self._packets:
            key, packet = next(iter(self._packets.items()))
            if at - packet.arrived <= self._wait:
                return
            self._drop(key)

    def _shrink(self, but: Key) -> None:
        while self._held > self._most:
            key = next(iter(self._packets))
            if key == but:
                return
            self._drop(key)

    def _drop(self, key: Key) -> None:
        packet = self._packets.pop(key)
        self._held -= _SHARE + len(packet.data)
        self._given_up += not packet.complete
