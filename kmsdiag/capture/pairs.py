"""Two captures of one path, taken at both ends: what left one and never came, came from nowhere, or was changed.

Connections are the same where both taps show the same endpoints and initial sequence number; behind address
translation, where they show the same initial numbers of both sides. Segments of a connection are the same where
direction, sequence and acknowledgement numbers, length, flags and IP identification are.

The clocks' offset is estimated as NTP does (RFC 5905 section 8): the quickest segment each way is taken to have been
equally quick. So the sum of the delays both ways is exact; how it is split is not.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np

from kmsdiag.capture.flows import key_of
from kmsdiag.capture.packets import Packets
from kmsdiag.model.capture import PairedPath, Spread
from kmsdiag.wire.addresses import address_text
from kmsdiag.wire.layers import Segment

EXAMPLES: Final = 5
MARGIN: Final = 1_000_000_000
"""ns at both ends of a capture in which a segment that is not in it counts as not captured rather than lost."""

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_MARKS: Final = 0x17

Endpoint = tuple[bytes, int]


class Connection(NamedTuple):
    """One connection at one tap: its ends, initial numbers (None: not captured) and segments in file order."""

    client: Endpoint
    host: Endpoint
    isn_client: int | None
    isn_host: int | None
    segments: list[Segment]


class _Matched(NamedTuple):
    """One connection at both taps."""

    a: Connection
    b: Connection


class _Pass(NamedTuple):
    """A segment at both taps; ``outward`` is from client to host."""

    outward: bool
    a: Segment
    b: Segment


def pair_paths(
    taps: tuple[int, int],
    at_a: Packets,
    at_b: Packets,
    is_host: Collection[Endpoint],
    numbers: Mapping[int, int],
) -> list[PairedPath]:
    """What two taps show of the hosts that both saw, sorted by host; none where they share no connection.

    ``is_host`` knows the endpoints that are hosts (at either tap), ``numbers`` the conversations by each one's first
    frame. Hosts are named as tap ``a`` sees them.
    """
    a, b = connections(at_a, is_host), connections(at_b, is_host)
    matched = match(a, b)
    by_host: dict[Endpoint, list[_Matched]] = defaultdict(list)
    for one in matched:
        by_host[one.a.host].append(one)
    window_a, window_b = _window(at_a), _window(at_b)
    return [
        _Path(taps, host, by_host[host], window_a, window_b, numbers).judge()
        for host in sorted(by_host, key=lambda host: (len(host[0]), host))
    ]


def connections(packets: Packets, is_host: Collection[Endpoint]) -> list[Connection]:
    """The connections among segments in file order."""
    found: list[Connection] = []
    current: dict[int, int] = {}
    for segment in packets.segments(np.arange(packets.size)):
        key = key_of(segment.src, segment.sport, segment.dst, segment.dport)
        index = current.get(key)
        bare = segment.flags & (_SYN | _ACK | _RST) == _SYN
        if index is None or (bare and found[index].isn_client not in (None, segment.seq)):
            source, target = (segment.src, segment.sport), (segment.dst, segment.dport)
            client, host = (target, source) if source in is_host and not bare else (source, target)
            current[key] = index = len(found)
            found.append(Connection(client, host, segment.seq if bare else None, None, []))
        one = found[index]
        one.segments.append(segment)
        if segment.flags & (_SYN | _ACK) == _SYN | _ACK and one.isn_host is None:
            found[index] = one._replace(isn_host=segment.seq)
    return found


def match(a: Iterable[Connection], b: Iterable[Connection]) -> list[_Matched]:
    """Connections that both taps saw: by endpoints and the client's number, else by both sides' numbers."""
    left = list(b)
    by_ends = {(one.client, one.host, one.isn_client): one for one in left}
    by_numbers = {(one.isn_client, one.isn_host): one for one in left if None not in (one.isn_client, one.isn_host)}
    matched = []
    for one in a:
        other = by_ends.get((one.client, one.host, one.isn_client)) or by_numbers.get((one.isn_client, one.isn_host))
        if other is not None:
            matched.append(_Matched(one, other))
    return matched


def _window(packets: Packets) -> tuple[int, int]:
    at = packets.table["at"]
    return (int(at.min()), int(at.max())) if len(at) else (0, 0)


class _Path:
    """The connections of one host at two taps."""

    def __init__(
        self,
        taps: tuple[int, int],
        host: Endpoint,
        matched: list[_Matched],
        window_a: tuple[int, int],
        window_b: tuple[int, int],
        numbers: Mapping[int, int],
    ) -> None:
        self.taps = taps
        self.host = host
        self.matched = matched
        self.windows = window_a, window_b
        self.numbers = numbers
        self.passes: list[_Pass] = []
        self.single: list[tuple[bool, bool, Segment, _Matched]] = []
        self.altered: list[tuple[_Pass, _Matched]] = []
        self.examples: list[tuple[int, str]] = []
        self.hit: set[int] = set()

    def judge(self) -> PairedPath:
        for one in self.matched:
            self._compare(one)
        offset, a_first = self._offset()
        counts: Counter[str] = Counter()
        for at_a, outward, segment, one in self.single:
            self._count_single(counts, one, segment, offset, at_a=at_a, leaves=at_a == (outward == a_first))
        for passed, one in self.altered:
            self._note(one, f"altered: {_described(passed.a, outward=passed.outward)}")
        delays = sorted(self._delay(passed, offset, a_first=a_first) for passed in self.passes)
        return PairedPath(
            a=self.taps[0],
            b=self.taps[1],
            host=address_text(self.host[0]),
            port=self.host[1],
            conversations=len(self.matched),
            matched=len(self.passes),
            lost_ab=counts["lost_ab"],
            lost_ba=counts["lost_ba"],
            only_a=counts["only_a"],
            only_b=counts["only_b"],
            altered=len(self.altered),
            offset_ms=round(offset / 1e6, 3),
            delay_ms=_spread(delays),
            examples=tuple(text for _ref, text in sorted(self.examples)[:EXAMPLES]),
            numbers=tuple(sorted(self.hit)),
        )

    def _compare(self, one: _Matched) -> None:
        """Pair the segments of a connection; same ones are paired from the last on, since the first may be lost."""
        named = _ids_are_kept(one)
        waiting: dict[_Identity, list[Segment]] = defaultdict(list)
        for segment in one.b.segments:
            waiting[_identity(segment, outward=_is_outward(segment, one.b), named=named)].append(segment)
        for segment in reversed(one.a.segments):
            outward = _is_outward(segment, one.a)
            same = waiting.get(_identity(segment, outward=outward, named=named))
            if not same:
                self.single.append((True, outward, segment, one))
                continue
            passed = _Pass(outward, segment, same.pop())
            self.passes.append(passed)
            common = min(len(passed.a.payload), len(passed.b.payload))
            if passed.a.payload[:common] != passed.b.payload[:common]:
                self.altered.append((passed, one))
        for identity, left in waiting.items():
            self.single += [(False, identity[0], segment, one) for segment in left]

    def _offset(self) -> tuple[int, bool]:
        """Clock of b minus clock of a in ns, and whether a is the one nearer to the clients."""
        there = [passed.b.at - passed.a.at for passed in self.passes if passed.outward]
        back = [passed.b.at - passed.a.at for passed in self.passes if not passed.outward]
        if not there or not back:
            known = there or back
            return (min(known, key=abs) if known else 0), True
        # What goes from a to b comes later at b by offset and delay; what comes back, by offset less delay.
        a_first = sum(there) * len(back) >= sum(back) * len(there)
        quickest = (min(there), max(back)) if a_first else (max(there), min(back))
        return sum(quickest) // 2, a_first

    def _delay(self, passed: _Pass, offset: int, *, a_first: bool) -> int:
        delay = passed.b.at - passed.a.at - offset
        return max(0, delay if passed.outward == a_first else -delay)

    def _count_single(
        self, counts: Counter[str], one: _Matched, segment: Segment, offset: int, *, at_a: bool, leaves: bool
    ) -> None:
        """A segment that one tap alone saw; ``leaves`` it towards the other one."""
        begin, end = self.windows[1] if at_a else self.windows[0]
        there = segment.at + offset if at_a else segment.at - offset
        if not begin + MARGIN <= there <= end - MARGIN and not _within(one.b if at_a else one.a, there):
            return
        if leaves:
            kind = "lost_ab" if at_a else "lost_ba"
            way = "a to b" if at_a else "b to a"
            text = f"lost from {way}"
        else:
            kind = "only_a" if at_a else "only_b"
            text = f"at {'a' if at_a else 'b'} alone"
        counts[kind] += 1
        outward = _is_outward(segment, one.a if at_a else one.b)
        self._note(one, f"{text}: {_described(segment, outward=outward)}")

    def _note(self, one: _Matched, text: str) -> None:
        first = one.a.segments[0].ref
        self.examples.append((first, text))
        for ref in (first, one.b.segments[0].ref):
            if ref in self.numbers:
                self.hit.add(self.numbers[ref])


def _within(connection: Connection, at: int) -> bool:
    """Whether a time lies between the first and last segment that a tap has of a connection."""
    times = [segment.at for segment in connection.segments]
    return min(times) <= at <= max(times)


def _is_outward(segment: Segment, connection: Connection) -> bool:
    return (segment.src, segment.sport) == connection.client


_Identity = tuple[bool, int, int, int, int, int]


def _identity(segment: Segment, *, outward: bool, named: bool) -> _Identity:
    """What a segment keeps on its way; ``named``: its IP identification too."""
    return (
        outward,
        segment.seq,
        segment.ack if segment.flags & _ACK else 0,
        segment.length,
        segment.flags & _MARKS,
        segment.ip_id if named else 0,
    )


def _ids_are_kept(one: _Matched) -> bool:
    """Whether IP identifications are the same at both taps; some firewalls give new ones."""
    a, b = ({(segment.seq, segment.length, segment.ip_id) for segment in side.segments} for side in (one.a, one.b))
    return not a.isdisjoint(b)


def _described(segment: Segment, *, outward: bool) -> str:
    marks = (("SYN", _SYN), ("FIN", _FIN), ("RST", _RST), ("ACK", _ACK))
    flags = ",".join(name for name, bit in marks if segment.flags & bit)
    size = f", {segment.length} bytes" if segment.length else ""
    ends = f"{address_text(segment.src)}:{segment.sport} to {address_text(segment.dst)}:{segment.dport}"
    return f"{ends} ({'client' if outward else 'host'}), {flags or 'no flags'}{size}"


def _spread(delays: list[int]) -> Spread | None:
    """Sorted delays in ns as ms with three decimals."""
    if not delays:
        return None
    count = len(delays)
    values = (delays[0], delays[(count + 1) // 2 - 1], delays[-(-95 * count // 100) - 1], delays[-1])
    least, median, p95, greatest = (value // 1000 / 1000 for value in values)
    return Spread(values=count, least=least, median=median, p95=p95, greatest=greatest)
