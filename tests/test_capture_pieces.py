"""Fragments across the edges of parts: which frames are kept, and which made a packet together."""

from collections import Counter

import pytest

from kmsdiag.capture import pieces as pieces_module
from kmsdiag.capture.pieces import Pieces
from kmsdiag.wire.frames import RawFrame
from kmsdiag.wire.layers import Segment
from tests.pcapfiles import fragments
from tests.pcapgen import Packet, Talk, ipv4, packed, request


def frames(packet: Packet, first: int = 1) -> list[RawFrame]:
    """The fragments of a packet, each in a frame of raw IP."""
    return [RawFrame(first + at, 0, 101, data, len(data)) for at, data in enumerate(fragments(packet.data))]


@pytest.fixture
def packet() -> Packet:
    return Talk().open().client(request(6)).packets()[-1]


def test_a_packet_and_its_companions(packet: Packet) -> None:
    pieces = Pieces()
    found = [pieces.take(frame, Counter()) for frame in frames(packet)]
    assert [isinstance(one, Segment) for one in found] == [False] * (len(found) - 1) + [True]
    assert pieces.companions == [(len(found), tuple(range(1, len(found) + 1)))]
    assert (pieces.left(), pieces.missing) == ((), 0)


def test_what_is_left_makes_the_packet_with_what_follows(packet: Packet) -> None:
    whole = frames(packet)
    before, after, both = Pieces(), Pieces(), Pieces()
    for frame in whole[:2]:
        assert before.take(frame, Counter()) is None
    for frame in whole[2:]:
        assert after.take(frame, Counter()) is None
    assert (before.missing, after.missing) == (1, 1)
    found = [both.take(frame, Counter()) for part in (before, after) for left in part.left() for frame in left]
    assert isinstance(found[-1], Segment)
    assert both.missing == 0


def test_second_copies_are_not_left(packet: Packet) -> None:
    pieces = Pieces()
    for frame in [one for each in frames(packet) for one in (each, each)]:
        pieces.take(frame, Counter())
    assert pieces.left() == ()


def test_the_first_and_the_last_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces_module, "MOST", 3)
    pieces = Pieces()
    for number in range(1, 21):
        data = ipv4(packed("192.0.2.1"), packed("192.0.2.2"), 6, bytes(400), ident=number)
        pieces.take(frames(Packet(0, data), number)[0], Counter())
    assert [left[0].ref for left in pieces.left()] == [1, 2, 3, 18, 19, 20]


def test_whole_frames_leave_nothing() -> None:
    pieces = Pieces()
    for number, one in enumerate(Talk().activation().packets(), 1):
        assert isinstance(pieces.take(RawFrame(number, 0, 101, one.data, len(one.data)), Counter()), Segment)
    assert (pieces.left(), pieces.companions) == ((), [])
