import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.wire.fragments import LONGEST, Fragments, Key, Piece

KEY: Key = (b"\xc0\0\2\x0a", b"\xc0\0\2\x14", 6, 7)
OTHER: Key = (b"\xc0\0\2\x0a", b"\xc0\0\2\x14", 6, 8)
SECOND = 1_000_000_000

payloads = st.integers(1, 40).map(lambda units: random.Random(units).randbytes(8 * units + units % 8))


def pieces_of(payload: bytes, cuts: list[int]) -> list[Piece]:
    """The payload in pieces, that begin at multiples of 8."""
    places = [0, *sorted({cut * 8 for cut in cuts if 0 < cut * 8 < len(payload)}), len(payload)]
    return [Piece(low, high < len(payload), payload[low:high]) for low, high in itertools.pairwise(places)]


def fed(fragments: Fragments, pieces: list[Piece], key: Key = KEY, at: int = 0) -> list[bytes]:
    """What comes out while the pieces go in."""
    return [whole for piece in pieces if (whole := fragments.add(key, at, piece)) is not None]


@given(payloads, st.lists(st.integers(1, 40)), st.randoms(use_true_random=False), st.integers(0, 3))
def test_any_order_and_any_overlap_give_the_packet_once(
    payload: bytes, cuts: list[int], chance: random.Random, copies: int
) -> None:
    """Fragments may come in any order, twice, and cut in two ways at once (a router on one of two paths)."""
    pieces = pieces_of(payload, cuts) + pieces_of(payload, cuts[::2]) * copies
    chance.shuffle(pieces)
    fragments = Fragments()
    assert fed(fragments, pieces) == [payload]
    assert (fragments.missing, fragments.conflicts) == (0, 0)


@given(payloads, st.lists(st.integers(1, 40), min_size=1), st.randoms(use_true_random=False))
def test_without_one_fragment_there_is_no_packet(payload: bytes, cuts: list[int], chance: random.Random) -> None:
    pieces = pieces_of(payload, cuts)
    lost = chance.randrange(len(pieces))
    del pieces[lost]
    chance.shuffle(pieces)
    fragments = Fragments()
    assert fed(fragments, pieces) == []
    assert fragments.missing == bool(pieces)


def test_the_first_copy_of_a_byte_counts() -> None:
    fragments = Fragments()
    pieces = [Piece(0, True, b"A" * 16), Piece(8, True, b"B" * 16), Piece(24, False, b"C" * 4)]
    assert fed(fragments, pieces) == [b"A" * 16 + b"B" * 8 + b"C" * 4]
    assert fragments.conflicts == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_two_ends_are_a_conflict_and_the_first_one_counts(order: tuple[int, ...]) -> None:
    pieces = [Piece(16, False, b"end1"), Piece(24, False, b"end2"), Piece(0, True, b"A" * 16)]
    fragments = Fragments()
    wholes = fed(fragments, [pieces[index] for index in order])
    first = order.index(0) < order.index(1)
    assert wholes == ([b"A" * 16 + b"end1"] if first else [])
    assert fragments.conflicts == 1


def test_bytes_beyond_the_end_are_none_of_the_packet() -> None:
    fragments = Fragments()
    assert fed(fragments, [Piece(0, True, b"A" * 24), Piece(8, False, b"A" * 8)]) == [b"A" * 16]
    assert fragments.conflicts == 1


def test_packets_are_told_apart_by_their_identification() -> None:
    fragments = Fragments()
    assert fragments.add(KEY, 0, Piece(0, True, b"A" * 8)) is None
    assert fragments.add(OTHER, 0, Piece(8, False, b"B")) is None
    assert fragments.missing == 2
    assert fragments.add(KEY, 0, Piece(8, False, b"C")) == b"A" * 8 + b"C"
    assert fragments.missing == 1


def test_an_identification_is_used_again() -> None:
    fragments = Fragments()
    assert fed(fragments, [Piece(0, True, b"A" * 8), Piece(8, False, b"A")]) == [b"A" * 9]
    assert fed(fragments, [Piece(0, True, b"B" * 8), Piece(8, False, b"B")]) == [b"B" * 9]
    assert fragments.missing == 0


def test_second_copies_of_a_whole_packet_begin_no_new_one() -> None:
    pieces = [Piece(0, True, b"A" * 8), Piece(8, False, b"A")]
    fragments = Fragments()
    assert fed(fragments, [*pieces, *pieces]) == [b"A" * 9]
    assert fragments.missing == 0


def test_what_waits_too_long_is_given_up() -> None:
    fragments = Fragments(seconds=60)
    assert fragments.add(KEY, 0, Piece(0, True, b"A" * 8)) is None
    assert fragments.add(OTHER, 61 * SECOND, Piece(0, True, b"A" * 8)) is None
    assert fragments.add(KEY, 61 * SECOND, Piece(8, False, b"A")) is None
    assert fragments.missing == 3
    # Time that runs backwards makes nothing old.
    assert fragments.add(KEY, 5, Piece(0, True, b"A" * 8)) == b"A" * 9


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    fragments = Fragments(most_bytes=1 << 20)
    far = Piece(LONGEST - 8 & ~7, True, b"A")
    for ident in range(100):
        fragments.add((*KEY[:3], ident), 0, far)
        assert fragments._held == sum(4096 + len(packet.data) for packet in fragments._packets.values()) <= 1 << 20
    assert 10 < len(fragments._packets) < 17
    assert (fragments.missing, (*KEY[:3], 99) in fragments._packets) == (100, True)


def test_a_fragment_beyond_the_longest_packet_is_left_out() -> None:
    fragments = Fragments()
    assert fragments.add(KEY, 0, Piece(65_528, False, b"A" * 8)) is None
    assert fragments.missing == 0


def test_a_packet_in_too_many_pieces_is_never_whole() -> None:
    """A hostile capture can't make joining slow: fragments of 8 bytes, in an order that leaves most holes."""
    fragments = Fragments()
    offsets = [*range(0, 65_000, 16), *range(8, 65_000, 16)]
    assert fed(fragments, [Piece(offset, True, b"A" * 8) for offset in offsets]) == []
    assert len(fragments._packets[KEY].holes) <= 2049


@given(
    st.lists(
        st.tuples(
            st.sampled_from([KEY, OTHER]),
            st.integers(-SECOND, 100 * SECOND),
            st.builds(Piece, st.integers(0, 8191).map(lambda unit: unit * 8), st.booleans(), st.binary(max_size=64)),
        ),
        max_size=30,
    )
)
def test_anything_may_come(pieces: list[tuple[Key, int, Piece]]) -> None:
    fragments = Fragments()
    for key, at, piece in pieces:
        whole = fragments.add(key, at, piece)
        assert whole is None or whole[piece.offset : piece.offset + len(piece.data)] or not piece.data
        assert whole is None or len(whole) <= LONGEST
