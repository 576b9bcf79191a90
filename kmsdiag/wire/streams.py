"""The segments of one TCP connection, in file order, as two streams of bytes and what happened to them (RFC 9293).

All segments of a connection are walked at once, so that what fills a hole may come at any later time: the order of the
file decides what came first, times are only read. Positions in a stream count from its first byte, which is the one
after the SYN or, where the capture begins later, the first that is known of.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from operator import itemgetter
from typing import Final, NamedTuple

from kmsdiag.wire.layers import Segment

MOST_BYTES: Final = 1 << 20
"""Bytes of one direction that are kept; of what follows only the extent is."""

KMS_PORTS: Final = frozenset({1688})

_PIECES: Final = 1 << 16
"""Segments of one direction whose bytes are kept."""

_WINDOW: Final = 1 << 30
"""Bytes; the widest window that RFC 7323 allows. What is farther ahead is no part of this stream."""

_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_HALF, _MASK = 1 << 31, (1 << 32) - 1

_COPIED: Final = 1_000_000_000
"""Within how many ns one IP identification means one packet, seen twice."""

_COPIED_UNNAMED: Final = 3_000_000
"""The same without an identification. A lost segment is sent again after 10 ms at the least (RFC 8985 section 7.2)."""

_RETRIED: Final = 3_000_000_000
"""Windows tries a refused connect again after 0.5 s; within these ns it is one attempt, whatever its ISN is."""

_NEAR: Final = 1 << 20
"""How far a connection may have come, in bytes, when its SYN turns up late in an unordered capture."""

_SYN_DATA: Final = 1 << 16
"""More bytes than a SYN can carry."""

Endpoint = tuple[bytes, int]
"""Address and port."""


class What(StrEnum):
    """Marks of a connection's life. ``ACK`` is a side's first plain acknowledgement, which ends the handshake."""

    SYN = "syn"
    SYN_ACK = "syn_ack"
    ACK = "ack"
    FIN = "fin"
    RST = "rst"


class Event(NamedTuple):
    """A mark, the frame that set it, and where its sender's stream was. ``again``: the same one had come before."""

    what: What
    client: bool
    ref: int
    at: int
    offset: int
    again: bool


class Mark(NamedTuple):
    """All bytes before ``end`` (a position in the stream) are there once the frame ``ref`` is."""

    end: int
    ref: int
    at: int


class Run(NamedTuple):
    """Bytes without a gap. Its ``marks`` rise in position and in the order of frames, up to the run's end."""

    offset: int
    data: bytes
    marks: tuple[Mark, ...]

    @property
    def end(self) -> int:
        """The position after the last byte."""
        return self.offset + len(self.data)

    def completed(self, end: int) -> Mark:
        """The frame with which all bytes before the position ``end`` (in the run, not its beginning) were there."""
        return self.marks[bisect_left(self.marks, end, key=lambda mark: mark.end)]


class Gap(NamedTuple):
    """Bytes that are not there: ``cut`` by the snap length, or not captured.

    ``acknowledged``: the receiver said that it has them, so that only the capture lacks them. Otherwise they may have
    been lost on the way, and what comes after them was not read by the receiver.
    """

    offset: int
    length: int
    cut: bool
    acknowledged: bool


class Repeat(NamedTuple):
    """Bytes sent a second time: a retransmission, not a new message."""

    ref: int
    at: int
    offset: int
    length: int


class Direction(NamedTuple):
    """What one side sent.

    ``segments`` counts frames, copies of a mirror port aside. ``extent`` is the position up to which anything is known
    to have been sent, ``acknowledged`` up to which the other side said it has it (0 where it said nothing).
    ``conflicts`` are frames whose bytes differ from those that came before for the same place; the first ones count.
    ``unordered`` counts segments that filled an earlier hole. ``limited``: bytes were left out beyond a limit.
    """

    runs: tuple[Run, ...] = ()
    gaps: tuple[Gap, ...] = ()
    segments: int = 0
    extent: int = 0
    acknowledged: int = 0
    begun: bool = False
    repeats: tuple[Repeat, ...] = ()
    keepalives: int = 0
    unordered: int = 0
    conflicts: tuple[int, ...] = ()
    limited: bool = False

    @property
    def cut(self) -> bool:
        """Whether the snap length cut some of it."""
        return any(gap.cut for gap in self.gaps)


class Stream(NamedTuple):
    """A connection, both ways. ``roles_known``: a SYN or SYN-ACK shows who is the client; else the ports suggest it.

    ``events`` are in file order. ``copies`` counts frames that a mirror port delivered twice, ``backwards`` those whose
    time is before that of the frame before them.
    """

    client: Endpoint
    host: Endpoint
    roles_known: bool
    from_client: Direction
    from_host: Direction
    events: tuple[Event, ...]
    copies: int
    backwards: int


def walk(segments: Sequence[Segment], client: Endpoint | None = None, ports: Collection[int] = KMS_PORTS) -> Stream:
    """What the segments of one connection (see :func:`split_connections`; at least one) say, in file order.

    ``client`` settles who is the client, for one who knows it from the bytes; ``ports`` are those of hosts.
    """
    first = segments[0]
    ends = (first.src, first.sport), (first.dst, first.dport)
    handshake = _handshake(segments)
    if client is None:
        client = handshake.client if handshake else _by_port(first, ports)
    host = ends[1] if client == ends[0] else ends[0]
    walker = _Walker(_side(segments, client, handshake), _side(segments, host, handshake), client)
    for order, segment in enumerate(segments):
        walker.take(order, segment)
    fins = walker.fins
    return Stream(
        client=client,
        host=host,
        roles_known=handshake is not None,
        from_client=walker.client.direction(fins.get(True)),
        from_host=walker.host.direction(fins.get(False)),
        events=tuple(walker.events),
        copies=walker.copies,
        backwards=walker.backwards,
    )


class _Handshake(NamedTuple):
    """Who is the client, and the sequence numbers of the sides' first bytes, as far as SYNs say them."""

    client: Endpoint
    starts: dict[Endpoint, int]
    begun: set[Endpoint]


def _handshake(segments: Iterable[Segment]) -> _Handshake | None:
    """The first SYN-ACK knows both sides' numbers; without it, the last SYN counts."""
    client = None
    starts: dict[Endpoint, int] = {}
    begun = set()
    answered = False
    for segment in segments:
        if segment.flags & (_SYN | _RST) != _SYN:
            continue
        src, dst = (segment.src, segment.sport), (segment.dst, segment.dport)
        begun.add(src)
        if answered:
            continue
        starts[src] = (segment.seq + 1) & _MASK
        client = src
        if segment.flags & _ACK:
            if not _opens(segment.ack, starts.get(dst)):
                starts[dst] = segment.ack
            client = dst
            answered = True
    return _Handshake(client, starts, begun) if client else None


def _opens(ack: int, start: int | None) -> bool:
    """Whether a SYN-ACK's acknowledgement is for the SYN before a first byte: it may cover data in it (RFC 7413)."""
    return start is not None and 0 <= _beyond(ack, start) < _SYN_DATA


def _by_port(first: Segment, ports: Collection[int]) -> Endpoint:
    """The client where no handshake was captured: a host's port tells, else the higher of both is the client's."""
    src, dst = (first.src, first.sport), (first.dst, first.dport)
    if (first.dport in ports) != (first.sport in ports):
        return src if first.dport in ports else dst
    return src if first.sport >= first.dport else dst


def _first_known(segments: Iterable[Segment], side: Endpoint) -> int:
    """The first sequence number of a side whose SYN is not there: its lowest, or the first that the other asks for."""
    sent: list[int] = []
    short: list[int] = []
    asked: list[int] = []
    for segment in segments:
        if (segment.src, segment.sport) == side:
            # a keep-alive would be taken for the byte before the first one
            (sent if segment.length > 1 else short).append(segment.seq)
        elif not asked and segment.flags & (_ACK | _RST) == _ACK:
            asked.append(segment.ack)
    known = sent + asked or short
    return min(known, key=lambda number: _beyond(number, known[0])) if known else 0


def _beyond(number: int, other: int) -> int:
    """How far a sequence number is beyond another, negative if before it, modulo 2**32."""
    return ((number - other + _HALF) & _MASK) - _HALF


class _Piece(NamedTuple):
    start: int
    end: int
    data: bytes
    order: int
    ref: int
    at: int

    def part(self, start: int, end: int) -> "_Piece":
        return self._replace(start=start, end=end, data=self.data[start - self.start : end - self.start])


_START = itemgetter(0)


class _Side:
    """What one side sent, while it is walked. Positions are sequence numbers that go on counting where those wrap."""

    def __init__(self, start: int, *, begun: bool) -> None:
        self.start = self.top = self.acked = start
        self.begun = begun
        self.segments = 0
        self.seen: list[tuple[int, int]] = []
        self.pieces: list[_Piece] = []
        self.repeats: list[Repeat] = []
        self.conflicts: list[int] = []
        self.keepalives = self.unordered = 0
        self.limited = False
        self.copies: dict[tuple[int, int, int, int, int], int] = {}
        self.last_id = -1
        self.named = True

    def position(self, number: int) -> int:
        return self.top + _beyond(number, self.top)

    def is_copy(self, segment: Segment) -> bool:
        """Whether a mirror port delivered it before. Where all packets have one identification, it names none."""
        ident, named = segment.ip_id, self.named and segment.ip_id != 0
        if not named and not segment.length and not segment.flags & (_SYN | _FIN | _RST):
            return False
        key = segment.seq, segment.ack, segment.flags, segment.length, ident
        before = self.copies.get(key)
        if before is not None and abs(segment.at - before) <= (_COPIED if named else _COPIED_UNNAMED):
            return True
        self.copies[key] = segment.at
        if before is None:
            self.named = self.named and (not ident or ident != self.last_id)
            self.last_id = ident
        return False

    def is_keepalive(self, segment: Segment) -> bool:
        """Nothing, or the last byte once more, at a place that the other side has acknowledged (RFC 9293 3.8.4)."""
        if segment.length > 1 or (segment.flags != _ACK and segment.flags != _ACK | _PSH):
            return False
        return not (segment.seq + 1 - self.top) & _MASK and self.acked >= self.top

    def acknowledge(self, number: int) -> None:
        self.acked = max(self.acked, self.position(number))

    def take(self, order: int, segment: Segment) -> None:
        """The bytes of a segment; they begin behind a SYN."""
        start = self.position(segment.seq + (segment.flags >> 1 & 1))
        end = start + segment.length
        if start < self.start:
            return
        if start - self.top > _WINDOW:
            self.limited = True
            return
        if start >= self.top:
            self._see_first(start, end)
        else:
            self._see_again(start, end, segment)
        self.top = max(self.top, end)
        self._keep(start, segment, order)

    def _see_first(self, start: int, end: int) -> None:
        if self.seen and self.seen[-1][1] == start:
            start = self.seen.pop()[0]
        self.seen.append((start, end))

    def _see_again(self, start: int, end: int, segment: Segment) -> None:
        index = max(bisect_left(self.seen, (start,)) - 1, 0)
        if self.seen[index][1] < start:
            index += 1
        first, last, after, known = start, end, index, 0
        while after < len(self.seen) and self.seen[after][0] <= end:
            low, high = self.seen[after]
            known += max(min(high, end) - max(low, start), 0)
            first, last, after = min(first, low), max(last, high), after + 1
        self.seen[index:after] = [(first, last)]
        if known:
            self.repeats.append(Repeat(segment.ref, segment.at, start - self.start, known))
        if known < min(end, self.top) - start:
            self.unordered += 1

    def _keep(self, start: int, segment: Segment, order: int) -> None:
        room = MOST_BYTES - (start - self.start) if len(self.pieces) < _PIECES else 0
        data = segment.payload
        if len(data) > room:
            self.limited = True
            data = data[: max(room, 0)]
        if not data:
            return
        piece = _Piece(start, start + len(data), data, order, segment.ref, segment.at)
        if not self.pieces or start >= self.pieces[-1].end:
            self.pieces.append(piece)
        else:
            self._insert(piece)

    def _insert(self, piece: _Piece) -> None:
        """Where bytes are there already, those stay."""
        index = bisect_right(self.pieces, piece.start, key=_START)
        if index and self.pieces[index - 1].end > piece.start:
            index -= 1
        place, after, parts, differs = piece.start, index, [], False
        while after < len(self.pieces) and self.pieces[after].start < piece.end:
            old = self.pieces[after]
            if place < old.start:
                parts.append(piece.part(place, old.start))
            low, high = max(old.start, piece.start), min(old.end, piece.end)
            differs = differs or old.part(low, high).data != piece.part(low, high).data
            parts.append(old)
            place, after = max(place, old.end), after + 1
        if place < piece.end:
            parts.append(piece.part(place, piece.end))
        self.pieces[index:after] = parts
        if differs:
            self.conflicts.append(piece.ref)

    def direction(self, fin: int | None) -> Direction:
        """All that was found. ``fin`` is where the side's FIN is, which takes a number of its own."""
        acked = self.acked
        if acked == (self.top if fin is None else fin) + 1:
            # without the FIN too: a single byte that nobody captured is far less likely than it
            acked -= 1
        runs = tuple(_runs(self.pieces, self.start))
        extent = max(self.top, acked) - self.start
        return Direction(
            runs=runs,
            gaps=tuple(self._gaps(runs, min(extent, MOST_BYTES), acked - self.start)),
            segments=self.segments,
            extent=extent,
            acknowledged=acked - self.start,
            begun=self.begun,
            repeats=tuple(self.repeats),
            keepalives=self.keepalives,
            unordered=self.unordered,
            conflicts=tuple(self.conflicts),
            limited=self.limited,
        )

    def _gaps(self, runs: Sequence[Run], extent: int, acked: int) -> Iterator[Gap]:
        begin = 0
        for start, end in [*((run.offset, run.end) for run in runs), (extent, extent)]:
            if begin < start:
                yield from self._gap(begin, start, acked)
            begin = end

    def _gap(self, begin: int, end: int, acked: int) -> Iterator[Gap]:
        """A gap, parted into what was seen to be sent, and so was cut, and what was not."""
        index = max(bisect_right(self.seen, begin + self.start, key=_START) - 1, 0)
        while index < len(self.seen) and self.seen[index][0] - self.start < end:
            low, high = max(self.seen[index][0] - self.start, begin), min(self.seen[index][1] - self.start, end)
            index += 1
            if low < high:
                if begin < low:
                    yield Gap(begin, low - begin, cut=False, acknowledged=low <= acked)
                yield Gap(low, high - low, cut=True, acknowledged=high <= acked)
                begin = high
        if begin < end:
            yield Gap(begin, end - begin, cut=False, acknowledged=end <= acked)


def _side(segments: Iterable[Segment], name: Endpoint, handshake: _Handshake | None) -> _Side:
    start = handshake.starts.get(name) if handshake else None
    if start is None:
        start = _first_known(segments, name)
    return _Side(start, begun=handshake is not None and name in handshake.begun)


def _runs(pieces: Iterable[_Piece], base: int) -> Iterator[Run]:
    """Pieces side by side, joined. A mark is the latest frame of all up to its end."""
    parts: list[bytes] = []
    marks: list[Mark] = []
    offset = end = latest = -1
    for piece in pieces:
        if piece.start != end and parts:
            yield Run(offset, b"".join(parts), tuple(marks))
            parts, marks = [], []
        if not parts:
            offset, latest = piece.start - base, -1
        end = piece.end
        if piece.order > latest:
            latest = piece.order
            marks.append(Mark(end - base, piece.ref, piece.at))
        else:
            marks[-1] = marks[-1]._replace(end=end - base)
        parts.append(piece.data)
    if parts:
        yield Run(offset, b"".join(parts), tuple(marks))


class _Walker:
    """Both sides and the marks, segment by segment."""

    def __init__(self, client: _Side, host: _Side, name: Endpoint) -> None:
        self.client = client
        self.host = host
        self.name = name
        self.events: list[Event] = []
        self.marked: set[tuple[What, bool, int]] = set()
        self.fins: dict[bool, int] = {}
        self.answered = False
        self.copies = self.backwards = 0
        self.last = 0

    def take(self, order: int, segment: Segment) -> None:
        self.backwards += segment.at < self.last
        self.last = segment.at
        client = segment.sport == self.name[1] and segment.src == self.name[0]
        side, other = (self.client, self.host) if client else (self.host, self.client)
        if side.is_copy(segment):
            self.copies += 1
            return
        side.segments += 1
        flags = segment.flags
        if flags & (_SYN | _FIN | _RST):
            self._mark(segment, side, client=client)
        elif client and not self.answered and (side.begun or other.begun):
            self.answered = True
            self._event(What.ACK, segment, side, client=client)
        if flags & _RST:
            # What it carries is a text about the reset (RFC 9293 3.5.3). Its number counts where it can be true:
            # a refusal of something foreign acknowledges whatever it refuses.
            if flags & _ACK and other.begun and abs(other.position(segment.ack) - other.top) < _NEAR:
                other.acknowledge(segment.ack)
            return
        if flags & _ACK:
            other.acknowledge(segment.ack)
        if side.is_keepalive(segment):
            side.keepalives += 1
        elif segment.length:
            side.take(order, segment)

    def _mark(self, segment: Segment, side: _Side, *, client: bool) -> None:
        flags = segment.flags
        if flags & _RST:
            self._event(What.RST, segment, side, client=client)
        elif flags & _SYN:
            self._event(What.SYN_ACK if flags & _ACK else What.SYN, segment, side, client=client)
        else:
            self._event(What.FIN, segment, side, client=client)
            self.fins.setdefault(client, side.position(segment.seq + segment.length))

    def _event(self, what: What, segment: Segment, side: _Side, *, client: bool) -> None:
        key = what, client, segment.seq
        offset = 0 if segment.flags & _SYN else max(side.position(segment.seq + segment.length) - side.start, 0)
        self.events.append(Event(what, client, segment.ref, segment.at, offset, key in self.marked))
        self.marked.add(key)


def split_connections(segments: Iterable[Segment]) -> list[list[Segment]]:
    """The connections among the segments of one pair of endpoints, both ways, in file order: a port may be used again.

    Another SYN begins another connection, whatever became of the one before. Only where connects are refused, SYNs
    that follow soon belong together, as the attempts of one connect.
    """
    connections: list[_Connection] = []
    for segment in segments:
        current = connections[-1] if connections else None
        if current is None or (segment.flags & (_SYN | _RST) == _SYN and not current.may_begin_with(segment)):
            current = _Connection()
            connections.append(current)
        elif len(connections) > 1 and not current.fits(segment) and connections[-2].fits(segment):
            # a straggler of the connection before
            current = connections[-2]
        current.add(segment)
    return [connection.segments for connection in connections]


class _Connection:
    """Segments that belong together, while they are parted."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.begun: dict[Endpoint, int] = {}
        self.reached: dict[Endpoint, int] = {}
        self.only_refused = False

    def add(self, segment: Segment) -> None:
        src, dst = (segment.src, segment.sport), (segment.dst, segment.dport)
        flags = segment.flags
        if flags & _RST:
            self.only_refused = self.only_refused or len(self.reached) == len(self.begun) == 1
        else:
            self.reached[src] = segment.seq
            if flags & _ACK:
                self.only_refused = False
                self.reached.setdefault(dst, segment.ack)
            if flags & _SYN:
                self.begun[src] = segment.seq
                if flags & _ACK:
                    self.begun.setdefault(dst, (segment.ack - 1) & _MASK)
        self.segments.append(segment)

    def may_begin_with(self, segment: Segment) -> bool:
        """Whether a SYN or SYN-ACK is of this connection."""
        side, number = (segment.src, segment.sport), segment.seq
        if segment.flags & _ACK:
            side, number = (segment.dst, segment.dport), (segment.ack - 1) & _MASK
        if side in self.begun:
            if segment.flags & _ACK:
                return _opens(number, self.begun[side])
            soon = self.only_refused and 0 <= segment.at - self.segments[-1].at <= _RETRIED
            return soon or number == self.begun[side]
        # its beginning may have been captured late
        return side not in self.reached or 0 <= _beyond(self.reached[side], number) < _NEAR

    def fits(self, segment: Segment) -> bool:
        """Whether the segment's numbers are near those that the connection has come to."""
        src, dst = (segment.src, segment.sport), (segment.dst, segment.dport)
        places = []
        if src in self.reached and not (segment.flags & _RST and segment.seq == 0):
            places.append(_beyond(segment.seq, self.reached[src]))
        if dst in self.reached and segment.flags & _ACK:
            places.append(_beyond(segment.ack, self.reached[dst]))
        return all(abs(place) < _NEAR for place in places)
