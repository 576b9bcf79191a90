"""Streams of TCP. The points by which tests are named:

1 padding and TSO (frames: test_wire_layers), 2 port reuse and SYN-ACK before SYN, 3 sequence numbers modulo 2**32,
4 order and limits, 5 overlap, keep-alives, retransmissions, 6 gaps, 7 captures that begin late or see one direction,
8 data in SYN, after FIN, with RST, half-close, 9 snap length, 10 copies of a mirror port, 11 times that run backwards,
12 PDUs (test_wire_pdus), 13 fragments and tunnels, 14 ICMP errors (both test_wire_layers).
"""

import itertools
import random
import re
import struct
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.packet import Raw

from kmsdiag.wire.layers import Segment
from kmsdiag.wire.streams import (
    MOST_BYTES,
    Direction,
    Endpoint,
    Gap,
    Mark,
    Repeat,
    Stream,
    What,
    split_connections,
    walk,
)
from tests.netlab import require_tools
from tests.samples import SAMPLES, need_samples, packets

CLIENT: Endpoint = (bytes([192, 0, 2, 10]), 50000)
HOST: Endpoint = (bytes([192, 0, 2, 20]), 1688)
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MS = 1_000_000


class Talk:
    """Writes segments of one connection. Positions count from each side's first byte."""

    def __init__(self, client_isn: int = 1000, host_isn: int = 5000, port: int = CLIENT[1]) -> None:
        self.isns = {True: client_isn, False: host_isn}
        self.client = (CLIENT[0], port)
        self.refs = itertools.count(1)
        self.idents = itertools.count(1)
        self.now = 0

    def send(
        self,
        *,
        client: bool = True,
        at: int = 0,
        data: bytes = b"",
        flags: int = ACK,
        acks: int | None = 0,
        length: int | None = None,
        ident: int | None = None,
        ms: float = 1.0,
    ) -> Segment:
        self.now += int(ms * MS)
        src, dst = (self.client, HOST) if client else (HOST, self.client)
        seq = self.isns[client] + at + (not flags & SYN)
        ack = 0 if acks is None else self.isns[not client] + acks + 1
        return Segment(
            next(self.refs),
            self.now,
            *src,
            *dst,
            seq & 0xFFFFFFFF,
            ack & 0xFFFFFFFF,
            flags & ~(ACK if acks is None else 0),
            data,
            len(data) if length is None else length,
            next(self.idents) if ident is None else ident,
        )

    def handshake(self) -> list[Segment]:
        return [self.send(flags=SYN, acks=None), self.send(client=False, flags=SYN | ACK), self.send()]


def texts(direction: Direction) -> list[tuple[int, bytes]]:
    return [(run.offset, run.data) for run in direction.runs]


def marks(direction: Direction) -> list[tuple[int, int]]:
    return [mark[:2] for run in direction.runs for mark in run.marks]


def events(stream: Stream) -> list[tuple[What, bool, int, bool]]:
    return [(event.what, event.client, event.ref, event.again) for event in stream.events]


class TestConnections:
    def test_point_2_another_syn_is_another_connection(self) -> None:
        one, two = Talk(), Talk(client_isn=3_000_000_000, host_isn=77)
        first = [*one.handshake(), one.send(data=b"one"), one.send(flags=FIN | ACK, at=3)]
        second = [*two.handshake(), two.send(data=b"two")]
        assert split_connections([*first, *second]) == [first, second]
        # Not merely after a FIN or an RST, and whatever was going on.
        assert split_connections([*first[:4], *second]) == [first[:4], second]

    def test_point_2_stragglers_stay_with_their_connection(self) -> None:
        one, two = Talk(), Talk(client_isn=3_000_000_000, host_isn=2_000_000_000)
        first = [*one.handshake(), one.send(data=b"one")]
        late = [one.send(client=False, flags=FIN | ACK, acks=3), one.send(at=3, acks=1)]
        second = [*two.handshake(), two.send(data=b"two")]
        assert split_connections([*first, *second[:2], *late, *second[2:]]) == [[*first, *late], second]

    def test_point_2_a_syn_that_is_repeated_is_the_same_connection(self) -> None:
        talk = Talk()
        segments = [talk.send(flags=SYN, acks=None, ms=1000 * wait) for wait in (0, 1, 2, 4)]
        assert split_connections(segments) == [segments]
        stream = walk(segments)
        assert events(stream) == [(What.SYN, True, number, number > 1) for number in (1, 2, 3, 4)]
        assert (stream.client, stream.host, stream.roles_known, stream.from_host.segments) == (CLIENT, HOST, True, 0)

    @pytest.mark.parametrize("step", [0, 123_456_789])
    def test_point_2_refused_attempts_belong_together(self, step: int) -> None:
        """Windows asks a host that refuses five times, 0.5 s apart, before it goes to the next."""
        talk = Talk()
        segments = []
        for _ in range(5):
            segments += [talk.send(flags=SYN, acks=None, ms=500), talk.send(client=False, flags=RST | ACK)]
            talk.isns[True] += step
        assert split_connections(segments) == [segments]
        stream = walk(segments)
        assert [event.what for event in stream.events] == [What.SYN, What.RST] * 5
        assert [event.again for event in stream.events[2:]] == [step == 0, True] * 4
        assert stream.from_client.gaps == stream.from_host.gaps == ()

    def test_point_2_refused_once_and_tried_again_much_later(self) -> None:
        one, two = Talk(), Talk(client_isn=3_000_000_000)
        two.now = 3600 * 1000 * MS
        first = [one.send(flags=SYN, acks=None), one.send(client=False, flags=RST | ACK)]
        second = [two.send(flags=SYN, acks=None), two.send(client=False, flags=RST | ACK)]
        assert split_connections([*first, *second]) == [first, second]

    def test_point_2_syn_ack_before_syn(self) -> None:
        talk = Talk()
        syn, syn_ack, ack = talk.handshake()
        segments = [syn_ack, syn, ack, talk.send(data=b"bind")]
        assert split_connections(segments) == [segments]
        stream = walk(segments)
        assert (stream.client, stream.roles_known) == (CLIENT, True)
        assert events(stream)[:3] == [
            (What.SYN_ACK, False, 2, False),
            (What.SYN, True, 1, False),
            (What.ACK, True, 3, False),
        ]
        assert texts(stream.from_client) == [(0, b"bind")]

    def test_point_2_data_before_its_own_syn(self) -> None:
        talk = Talk()
        syn, syn_ack, ack = talk.handshake()
        data = talk.send(data=b"bind")
        assert split_connections([data, ack, syn, syn_ack]) == [[data, ack, syn, syn_ack]]
        assert texts(walk([data, ack, syn, syn_ack]).from_client) == [(0, b"bind")]

    def test_point_2_a_port_used_again_in_a_capture_that_begins_late(self) -> None:
        one, two = Talk(), Talk(client_isn=3_000_000_000)
        first = [one.send(data=b"one"), one.send(client=False, acks=3)]
        second = two.handshake()
        assert split_connections([*first, *second]) == [first, second]
        # and with the SYN-ACK alone to tell
        assert split_connections([*first, *second[1:]]) == [first, second[1:]]

    @given(st.lists(st.integers(0, 3), max_size=12), st.randoms(use_true_random=False))
    def test_nothing_is_lost_by_parting(self, isns: list[int], chance: random.Random) -> None:
        talks = [Talk(client_isn=isn << 30, host_isn=isn << 29) for isn in isns]
        segments = [segment for talk in talks for segment in [*talk.handshake(), talk.send(data=b"x")]]
        chance.shuffle(segments)
        parts = split_connections(segments)
        assert all(parts)
        assert sorted(itertools.chain(*parts)) == sorted(segments)


class TestOrder:
    def test_point_3_numbers_wrap(self) -> None:
        talk = Talk(client_isn=0xFFFFFFFA, host_isn=0xFFFFFFFE)
        pieces = [talk.send(at=at, data=b"%04d" % at) for at in (0, 8, 4, 12)]
        stream = walk([*talk.handshake(), *pieces, talk.send(client=False, acks=16, data=b"answer")])
        assert texts(stream.from_client) == [(0, b"0000000400080012")]
        assert stream.from_client.acknowledged == 16
        assert texts(stream.from_host) == [(0, b"answer")]

    def test_point_4_any_order(self) -> None:
        talk = Talk()
        segments = [talk.send(at=at, data=b"abcdefgh"[at : at + 2]) for at in (6, 2, 0, 4)]
        direction = walk(segments).from_client
        assert texts(direction) == [(0, b"abcdefgh")]
        # What comes before a hole is there at once, what is behind it when it is filled.
        assert marks(direction) == [(4, 3), (8, 4)]
        assert direction.unordered == 3
        assert direction.runs[0].completed(3) == Mark(4, 3, 3 * MS)
        assert [direction.runs[0].completed(end).ref for end in range(1, 9)] == [3] * 4 + [4] * 4

    def test_point_4_bytes_are_bounded(self) -> None:
        talk = Talk()
        block = bytes(60_000)
        segments = [*talk.handshake(), *(talk.send(at=60_000 * number, data=block) for number in range(20))]
        direction = walk(segments).from_client
        assert [(run.offset, len(run.data)) for run in direction.runs] == [(0, MOST_BYTES)]
        assert (direction.limited, direction.extent, direction.gaps) == (True, 1_200_000, ())

    def test_point_4_segments_are_bounded(self) -> None:
        talk = Talk()
        segments = [talk.send(at=2 * number, data=b"x") for number in range(70_000)]
        direction = walk(segments).from_client
        assert (len(direction.runs), direction.limited) == (65_536, True)

    def test_point_4_what_no_window_reaches_is_of_no_stream(self) -> None:
        talk = Talk()
        segments = [*talk.handshake(), talk.send(at=0x5000_0000, data=b"stray"), talk.send(data=b"bind")]
        direction = walk(segments).from_client
        assert (texts(direction), direction.extent, direction.limited) == ([(0, b"bind")], 4, True)

    def test_point_11_times_are_only_read(self) -> None:
        talk = Talk()
        segments = [*talk.handshake(), talk.send(data=b"bi"), talk.send(at=2, data=b"nd", ms=-3), talk.send(at=4, ms=9)]
        stream = walk(segments)
        assert (texts(stream.from_client), stream.backwards) == ([(0, b"bind")], 1)
        assert marks(stream.from_client) == [(2, 4), (4, 5)]


class TestRepeats:
    def test_point_5_the_first_copy_counts(self) -> None:
        talk = Talk()
        segments = [talk.send(at=2, data=b"CD"), talk.send(at=0, data=b"abcdef"), talk.send(at=0, data=b"ab")]
        direction = walk(segments).from_client
        assert texts(direction) == [(0, b"abCDef")]
        assert direction.conflicts == (2,)
        assert direction.repeats == (Repeat(2, 2 * MS, 0, 2), Repeat(3, 3 * MS, 0, 2))

    def test_point_5_a_retransmission_is_no_new_message(self) -> None:
        talk = Talk()
        segments = [*talk.handshake(), *(talk.send(data=b"request", ms=300 << wait) for wait in range(5))]
        direction = walk(segments).from_client
        assert texts(direction) == [(0, b"request")]
        assert [repeat.ref for repeat in direction.repeats] == [5, 6, 7, 8]
        assert (direction.acknowledged, marks(direction)) == (0, [(7, 4)])

    @pytest.mark.parametrize("probe", [b"", b"\0", b"x"])
    def test_point_5_a_keep_alive_is_no_data(self, probe: bytes) -> None:
        talk = Talk()
        segments = [
            *talk.handshake(),
            talk.send(data=b"bind"),
            talk.send(client=False, acks=4),
            talk.send(at=3, data=probe, ms=5000),
            talk.send(client=False, acks=4),
            talk.send(at=4, data=b"request"),
        ]
        direction = walk(segments).from_client
        assert texts(direction) == [(0, b"bindrequest")]
        assert (direction.keepalives, direction.repeats, direction.conflicts) == (1, (), ())

    def test_point_5_a_single_byte_that_was_not_acknowledged_is_repeated(self) -> None:
        talk = Talk()
        segments = [*talk.handshake(), talk.send(data=b"b"), talk.send(data=b"b", ms=300)]
        direction = walk(segments).from_client
        assert (texts(direction), direction.keepalives, len(direction.repeats)) == ([(0, b"b")], 0, 1)

    def test_point_5_a_keep_alive_at_the_begin_of_a_late_capture(self) -> None:
        talk = Talk()
        segments = [talk.send(at=3, data=b"\0"), talk.send(client=False, acks=4), talk.send(at=4, data=b"request")]
        assert texts(walk(segments).from_client) == [(0, b"request")]

    @pytest.mark.parametrize("ident", [None, 0])
    def test_point_10_copies_of_a_mirror_port(self, ident: int | None) -> None:
        talk = Talk()
        segments = [
            *talk.handshake(),
            talk.send(data=b"bind", ident=ident),
            talk.send(client=False, data=b"ack", acks=4, ident=ident),
        ]
        twice = [copy for segment in segments for copy in (segment, segment._replace(at=segment.at + 200_000))]
        stream = walk(twice)
        assert (texts(stream.from_client), texts(stream.from_host)) == ([(0, b"bind")], [(0, b"ack")])
        assert (stream.copies, stream.from_client.repeats, stream.from_client.segments) == (5, (), 3)
        assert not any(event.again for event in stream.events)

    def test_point_10_the_same_identification_within_a_second_is_a_copy_and_later_none(self) -> None:
        talk = Talk()
        opened = talk.handshake()
        segments = [*opened, talk.send(data=b"bind", ident=9), talk.send(data=b"bind", ident=9, ms=200)]
        assert walk(segments).copies == 1
        segments = [*opened, talk.send(data=b"bind", ident=9), talk.send(data=b"bind", ident=9, ms=2000)]
        stream = walk(segments)
        assert (stream.copies, len(stream.from_client.repeats)) == (0, 1)

    @pytest.mark.parametrize("ident", [0, 1])
    def test_point_10_an_identification_that_never_changes_names_no_packet(self, ident: int) -> None:
        talk = Talk()
        segments = [segment._replace(ip_id=ident) for segment in talk.handshake()]
        segments += [talk.send(data=b"bind", ident=ident), talk.send(data=b"bind", ident=ident, ms=300)]
        stream = walk(segments)
        assert (stream.copies, len(stream.from_client.repeats)) == (0, 1)


class TestGaps:
    def test_point_6_never_joined_across_a_gap(self) -> None:
        talk = Talk()
        segments = [
            *talk.handshake(),
            talk.send(data=b"ab"),
            talk.send(at=5, data=b"fg"),
            talk.send(client=False, acks=7),
        ]
        direction = walk(segments).from_client
        assert texts(direction) == [(0, b"ab"), (5, b"fg")]
        assert direction.gaps == (Gap(2, 3, cut=False, acknowledged=True),)
        assert marks(direction) == [(2, 4), (7, 5)]

    def test_point_6_what_nobody_acknowledged_may_have_been_lost_on_the_way(self) -> None:
        talk = Talk()
        segments = [*talk.handshake(), talk.send(at=5, data=b"fg"), talk.send(client=False, acks=0)]
        direction = walk(segments).from_client
        assert (texts(direction), direction.gaps) == ([(5, b"fg")], (Gap(0, 5, cut=False, acknowledged=False),))

    def test_point_6_a_gap_at_the_end(self) -> None:
        talk = Talk()
        segments = [*talk.handshake(), talk.send(data=b"bind"), talk.send(client=False, acks=160)]
        direction = walk(segments).from_client
        assert direction.gaps == (Gap(4, 156, cut=False, acknowledged=True),)
        assert (direction.extent, direction.acknowledged) == (160, 160)

    @pytest.mark.parametrize("captured", [True, False])
    def test_point_6_a_fin_is_no_gap(self, captured: bool) -> None:
        talk = Talk()
        fin = [talk.send(at=4, flags=FIN | ACK)] * captured
        segments = [*talk.handshake(), talk.send(data=b"bind"), *fin, talk.send(client=False, acks=5)]
        direction = walk(segments).from_client
        assert (direction.gaps, direction.extent, direction.acknowledged) == ((), 4, 4)

    def test_point_9_bytes_that_the_snap_length_cut(self) -> None:
        talk = Talk()
        segments = [
            *talk.handshake(),
            talk.send(data=b"abcd", length=160),
            talk.send(at=160, data=b"efgh", length=72),
            talk.send(client=False, acks=232),
        ]
        direction = walk(segments).from_client
        assert texts(direction) == [(0, b"abcd"), (160, b"efgh")]
        assert direction.gaps == (Gap(4, 156, cut=True, acknowledged=True), Gap(164, 68, cut=True, acknowledged=True))
        assert (direction.cut, direction.extent) == (True, 232)

    def test_point_9_a_cut_and_a_gap_side_by_side(self) -> None:
        talk = Talk()
        segments = [*talk.handshake(), talk.send(data=b"ab", length=4), talk.send(at=6, data=b"gh", length=4)]
        segments += [talk.send(at=20, length=5), talk.send(client=False, acks=10)]
        assert walk(segments).from_client.gaps == (
            Gap(2, 2, cut=True, acknowledged=True),
            Gap(4, 2, cut=False, acknowledged=True),
            Gap(8, 2, cut=True, acknowledged=True),
            Gap(10, 10, cut=False, acknowledged=False),
            Gap(20, 5, cut=True, acknowledged=False),
        )

    def test_point_9_a_whole_copy_of_a_cut_segment_fills_it(self) -> None:
        talk = Talk()
        segments = [*talk.handshake(), talk.send(data=b"ab", length=6), talk.send(data=b"abcdef", ms=300)]
        direction = walk(segments).from_client
        assert (texts(direction), direction.gaps, len(direction.repeats)) == ([(0, b"abcdef")], (), 1)
        assert marks(direction) == [(2, 4), (6, 5)]


class TestOneSided:
    """Point 7: captures that begin late, or see one direction."""

    def test_point_7_roles_follow_the_port(self) -> None:
        talk = Talk()
        for first in (talk.send(data=b"request"), talk.send(client=False, data=b"response")):
            stream = walk([first])
            assert (stream.client, stream.host, stream.roles_known) == (CLIENT, HOST, False)

    def test_point_7_without_a_known_port_the_higher_one_is_the_clients(self) -> None:
        talk = Talk(port=80)
        assert walk([talk.send(data=b"x")]).client == talk.client
        assert walk([talk.send(data=b"x")], ports=()).client == HOST
        assert walk([Talk().send(client=False)], ports=()).client == CLIENT

    def test_point_7_who_knows_better_says_so(self) -> None:
        talk = Talk()
        stream = walk([talk.send(data=b"x")], client=HOST)
        assert (stream.client, stream.host, texts(stream.from_host)) == (HOST, CLIENT, [(0, b"x")])

    def test_point_7_the_first_byte_is_the_first_that_is_known_of(self) -> None:
        talk = Talk()
        segments = [
            talk.send(client=False, at=108, data=b"resp", acks=160),
            talk.send(at=160, data=b"alter", acks=112),
            talk.send(client=False, at=112, acks=165),
        ]
        stream = walk(segments)
        assert texts(stream.from_client) == [(0, b"alter")]
        assert texts(stream.from_host) == [(0, b"resp")]
        assert (stream.from_client.gaps, stream.from_host.gaps) == ((), ())
        assert (stream.events, stream.from_client.begun) == ((), False)

    def test_point_7_the_client_alone(self) -> None:
        talk = Talk()
        segments = [
            talk.send(flags=SYN, acks=None),
            talk.send(),
            talk.send(data=b"bind"),
            talk.send(at=4, acks=108, data=b"request"),
            talk.send(at=11, acks=408),
        ]
        stream = walk(segments)
        assert texts(stream.from_client) == [(0, b"bindrequest")]
        assert stream.from_host.gaps == (Gap(0, 408, cut=False, acknowledged=True),)
        assert (stream.from_host.segments, stream.from_host.begun, stream.from_client.begun) == (0, False, True)

    def test_point_7_the_host_alone(self) -> None:
        talk = Talk()
        segments = [
            talk.send(client=False, flags=SYN | ACK),
            talk.send(client=False, acks=160, data=b"bind_ack"),
            talk.send(client=False, at=8, acks=452, data=b"response"),
        ]
        stream = walk(segments)
        assert (stream.client, stream.roles_known) == (CLIENT, True)
        assert texts(stream.from_host) == [(0, b"bind_ackresponse")]
        assert stream.from_client.gaps == (Gap(0, 452, cut=False, acknowledged=True),)


class TestEnds:
    def test_point_8_data_in_the_syn(self) -> None:
        talk = Talk()
        segments = [
            talk.send(flags=SYN, acks=None, data=b"bind"),
            talk.send(client=False, flags=SYN | ACK, acks=4, data=b"early"),
            talk.send(at=4, acks=5, data=b"request"),
        ]
        assert split_connections(segments) == [segments]
        stream = walk(segments)
        assert texts(stream.from_client) == [(0, b"bindrequest")]
        assert texts(stream.from_host) == [(0, b"early")]

    def test_point_8_data_in_the_syn_that_was_not_taken_is_sent_again(self) -> None:
        talk = Talk()
        segments = [
            talk.send(flags=SYN, acks=None, data=b"bind"),
            talk.send(client=False, flags=SYN | ACK),
            talk.send(data=b"bind"),
        ]
        direction = walk(segments).from_client
        assert (texts(direction), len(direction.repeats)) == ([(0, b"bind")], 1)

    def test_point_8_data_after_a_fin_out_of_order(self) -> None:
        talk = Talk()
        segments = [
            *talk.handshake(),
            talk.send(at=4, data=b"request", flags=FIN | PSH | ACK),
            talk.send(data=b"bind"),
            talk.send(client=False, acks=12, data=b"answer"),
        ]
        stream = walk(segments)
        assert texts(stream.from_client) == [(0, b"bindrequest")]
        assert stream.from_client.gaps == ()
        assert stream.events[-1] == (What.FIN, True, 4, 4 * MS, 11, False)
        # The host may go on: its side is still open.
        assert texts(stream.from_host) == [(0, b"answer")]

    def test_point_8_what_a_reset_carries_is_no_data(self) -> None:
        talk = Talk()
        segments = [
            *talk.handshake(),
            talk.send(data=b"bind"),
            talk.send(client=False, flags=RST | ACK, acks=4, data=b"No listener"),
        ]
        stream = walk(segments)
        assert (texts(stream.from_host), stream.from_host.gaps) == ([], ())
        assert stream.events[-1][:3] == (What.RST, False, 5)

    def test_point_8_both_sides_close(self) -> None:
        talk = Talk()
        segments = [
            *talk.handshake(),
            talk.send(flags=FIN | ACK),
            talk.send(flags=FIN | ACK, ms=300),
            talk.send(client=False, flags=FIN | ACK, acks=1),
            talk.send(at=1, acks=1),
        ]
        assert events(walk(segments))[3:] == [
            (What.FIN, True, 4, False),
            (What.FIN, True, 5, True),
            (What.FIN, False, 6, False),
        ]


class Naive:
    """What came first, byte by byte."""

    def __init__(self, segments: list[Segment], isn: int) -> None:
        self.bytes: dict[int, int] = {}
        self.frame: dict[int, int] = {}
        self.sent: set[int] = set()
        for order, segment in enumerate(segments):
            start = (segment.seq - isn - 1) % 2**32
            self.sent.update(range(start, start + segment.length))
            for place, byte in enumerate(segment.payload, start):
                self.bytes.setdefault(place, byte)
                self.frame.setdefault(place, order)

    def completed(self, start: int, end: int) -> int:
        return max(self.frame[place] for place in range(start, end))


@st.composite
def transmissions(draw: st.DrawFn) -> tuple[int, list[Segment]]:
    """Pieces of a stream: any cut, any order, some twice, some cut by a snap length, some with other bytes."""
    isn = draw(st.sampled_from([0, 1000, 0xFFFFFFF0, 0xFFFFFFFF, 0x7FFFFFF8]))
    talk = Talk(client_isn=isn)
    text = bytes(range(64))
    pieces = draw(
        st.lists(st.tuples(st.integers(0, 63), st.integers(1, 20), st.integers(0, 8), st.integers(0, 9)), max_size=16)
    )
    segments = talk.handshake()
    for start, length, lost, odd in pieces:
        data = text[start : start + length]
        if not odd:
            data = bytes(byte ^ 0x80 for byte in data)
        segments.append(talk.send(at=start, data=data[: max(len(data) - lost, 0)], length=len(data)))
    return isn, segments


@given(transmissions())
@settings(max_examples=300)
def test_any_transmission_is_read_as_byte_by_byte(made: tuple[int, list[Segment]]) -> None:
    isn, segments = made
    naive = Naive(segments[3:], isn)
    direction = walk(segments).from_client
    assert {run.offset + index: byte for run in direction.runs for index, byte in enumerate(run.data)} == naive.bytes
    for run, following in itertools.pairwise(direction.runs):
        assert run.end < following.offset
    for run in direction.runs:
        for end in range(run.offset + 1, run.end + 1):
            assert run.completed(end).ref == naive.completed(run.offset, end) + 4
    holes = {place: gap.cut for gap in direction.gaps for place in range(gap.offset, gap.offset + gap.length)}
    extent = max(naive.sent, default=-1) + 1
    assert holes == {place: place in naive.sent for place in range(extent) if place not in naive.bytes}
    assert direction.extent == extent


@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(1, 199)), st.randoms(use_true_random=False))
def test_any_segmentation_gives_the_stream(text: bytes, cuts: list[int], chance: random.Random) -> None:
    places = [0, *sorted({cut for cut in cuts if cut < len(text)}), len(text)]
    talk = Talk(client_isn=chance.getrandbits(32))
    opened = talk.handshake()
    pieces = [talk.send(at=low, data=text[low:high]) for low, high in itertools.pairwise(places)]
    pieces += chance.sample(pieces, chance.randrange(len(pieces) + 1))
    chance.shuffle(pieces)
    direction = walk([*opened, *pieces]).from_client
    assert (texts(direction), direction.gaps, direction.conflicts) == ([(0, text)], (), ())


@st.composite
def segments_of_any_kind(draw: st.DrawFn) -> Segment:
    ends = (CLIENT, HOST) if draw(st.booleans()) else (HOST, CLIENT)
    numbers = st.integers(0, 30) | st.integers(0, 2**32 - 1)
    seq, ack, at = draw(numbers), draw(numbers), draw(st.integers(0, 10_000))
    data, more = draw(st.binary(max_size=8)), draw(st.sampled_from([0, 0, 0, 5, 60_000]))
    flags = draw(st.integers(0, 31) | st.just(ACK))
    (src, sport), (dst, dport) = ends
    return Segment(at, at * MS, src, sport, dst, dport, seq, ack, flags, data, len(data) + more, seq & 0xFFFF)


@given(st.lists(segments_of_any_kind(), min_size=1, max_size=20))
@settings(max_examples=300)
def test_any_segments(segments: list[Segment]) -> None:
    assert sum(map(len, split_connections(segments))) == len(segments)
    stream = walk(segments)
    assert stream == walk(segments)
    assert stream.copies + stream.from_client.segments + stream.from_host.segments == len(segments)
    for direction in (stream.from_client, stream.from_host):
        stretches = sorted(
            [(run.offset, run.end) for run in direction.runs]
            + [(gap.offset, gap.offset + gap.length) for gap in direction.gaps]
        )
        assert all(low < high for low, high in stretches)
        assert all(before[1] == after[0] for before, after in itertools.pairwise(stretches))
        assert not stretches or stretches[0][0] == 0
        for run in direction.runs:
            assert [mark.end for mark in run.marks] == sorted({mark.end for mark in run.marks})
            assert run.marks[-1].end == run.end


def followed(file: Path, streams: int) -> list[tuple[bytes, bytes]]:
    """Both directions of each stream, as tshark follows them."""
    command = ["tshark", "-r", str(file), "-q"]
    command += [word for index in range(streams) for word in ("-z", f"follow,tcp,raw,{index}")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    blocks = [block for block in re.split(r"={50,}\n", out) if block.startswith("Follow")]
    found = {}
    for block in blocks:
        sides: dict[bool, str] = defaultdict(str)
        for line in block.splitlines():
            if re.fullmatch(r"\t?[0-9a-f]+", line):
                sides[line.startswith("\t")] += line.strip()
        number = re.search(r"tcp.stream eq (\d+)", block)
        assert number
        found[int(number[1])] = bytes.fromhex(sides[False]), bytes.fromhex(sides[True])
    return [found[index] for index in range(streams)]


def test_tshark_follows_the_same_streams(tmp_path: Path) -> None:
    """Segments out of order, overlapping and repeated, nothing missing: both give every byte, in order."""
    require_tools("tshark")
    chance = random.Random(1688)
    records, expected = [], []
    for number in range(16):
        talk = Talk(chance.getrandbits(32), chance.getrandbits(32), port=50_000 + number)
        segments, sent = talk.handshake(), {}
        pieces = []
        for client in (True, False):
            sent[client] = chance.randbytes(chance.randrange(1, 400))
            size = chance.choice([1, 7, 40, 160])
            for at in range(0, len(sent[client]), size):
                low = max(at - chance.choice([0, 0, 3]), 0)
                pieces.append(talk.send(client=client, at=low, data=sent[client][low : at + size]))
        again = chance.sample(pieces, len(pieces) // 5)
        pieces += [piece._replace(ip_id=next(talk.idents)) for piece in again]
        if number % 3:
            chance.shuffle(pieces)
        pieces.sort(key=lambda piece: piece.src)
        segments += pieces
        stream = walk(segments)
        assert (texts(stream.from_client), texts(stream.from_host)) == ([(0, sent[True])], [(0, sent[False])])
        expected.append((sent[True], sent[False]))
        for segment in segments:
            fields = {"seq": segment.seq, "ack": segment.ack, "flags": segment.flags}
            tcp = TCP(sport=segment.sport, dport=segment.dport, **fields) / Raw(segment.payload)
            ip = IP(src=".".join(map(str, segment.src)), dst=".".join(map(str, segment.dst)), id=segment.ip_id)
            records.append(bytes(ip / tcp))
    file = tmp_path / "streams.pcap"
    file.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 101))
    with file.open("ab") as out:
        out.writelines(struct.pack("<IIII", 0, 0, len(data), len(data)) + data for data in records)
    assert followed(file, len(expected)) == expected


def walked(file: Path) -> list[Stream]:
    return [walk(segments) for segments, _ in packets(file).connections()]


def pdus(stream: Stream) -> list[tuple[bool, int, int]]:
    """Sender, type and size of the PDUs, by the frame that completes them."""
    found = []
    for client, direction in ((True, stream.from_client), (False, stream.from_host)):
        for run in direction.runs:
            at = 0
            while len(run.data) >= at + 16 and run.data[at] == 5:
                (size,) = struct.unpack_from("<H", run.data, at + 8)
                if size < 16 or at + size > len(run.data):
                    break
                found.append((run.completed(run.offset + at + size).ref, client, run.data[at + 2], size))
                at += size
    return [pdu[1:] for pdu in sorted(found)]


class TestSamples:
    """Recordings of KMS traffic and what is made of them, where they are at hand, against their description."""

    def test_the_pdus_that_are_described(self) -> None:
        need_samples()
        described = re.findall(r"- \*\*(derived-\S+)\*\* \(\d+ fr\): PDUs ([\d ]+|none)", self.text())
        # The reader of the test can't open one of them.
        files = [(SAMPLES / name, kinds) for name, kinds in described if "kuznetzov" not in name]
        assert len(files) > 40
        for file, kinds in files:
            expected = [] if kinds == "none" else [int(kind) for kind in kinds.split()]
            assert [kind for stream in walked(file) for _, kind, _ in pdus(stream)] == expected, file.name

    def test_the_sizes_that_are_described(self) -> None:
        need_samples()
        kinds = {"request": 0, "response": 2, "fault": 3, "bind": 11, "bind_ack": 12, "bind_nak": 13}
        kinds |= {"alter_context": 14, "alter_context_resp": 15}
        entries = re.findall(r"- \*\*(live-\S+)\*\* \(\d+ frames\)\n((?:  - .*\n)*)", self.text())
        compared = 0
        for name, lines in entries:
            expected = []
            for line in lines.splitlines():
                several = re.search(r"(\d+)× TCP", line)
                told = re.findall(r"([CS]):(\w+) (\d+)", line)
                once = [(side == "C", kinds[kind], int(size)) for side, kind, size in told if kind in kinds]
                expected += once * (int(several[1]) if several else 1)
            found = [pdu for stream in walked(SAMPLES / name) for pdu in pdus(stream)]
            # Long ones are described up to an ellipsis.
            assert (found[: len(expected)] if lines.endswith("…\n") else found) == expected, name
            compared += len(expected)
        assert compared > 200

    @staticmethod
    def text() -> str:
        return (SAMPLES / "SOURCES.md").read_text(encoding="utf-8")
