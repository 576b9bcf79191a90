import itertools
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.evidence.connections.lines import LONGEST, Troubles, lines
from kmsdiag.wire.chunks import HEADROOM, Chunk


def chunks(*pieces: bytes) -> Iterator[Chunk]:
    """Pieces as a reader gives them, in one buffer that is overwritten."""
    buffer = bytearray(HEADROOM + max(map(len, pieces), default=0))
    for piece in pieces:
        buffer[HEADROOM : HEADROOM + len(piece)] = piece
        yield Chunk(buffer, HEADROOM, HEADROOM + len(piece))


def numbered(*pieces: bytes) -> list[tuple[int, bytes]]:
    return [(number, line) for first, some in lines(chunks(*pieces)) for number, line in enumerate(some, first)]


class TestLines:
    @given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6))
    def test_pieces_do_not_matter(self, data: bytes, cuts: list[int]) -> None:
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
        *whole, rest = data.split(b"\n")
        assert numbered(*pieces) == list(enumerate([*whole, rest] if rest else whole, 1))

    def test_a_line_without_end_is_cut_and_the_next_one_is_whole(self) -> None:
        half = b"x" * (LONGEST // 2 + 9)
        found = numbered(half, half, half + b"\nnext\n", b"last")
        assert [(number, len(line)) for number, line in found] == [(1, LONGEST), (2, 4), (3, 4)]


class TestTroubles:
    def test_words(self) -> None:
        troubles = Troubles()
        assert troubles.note == ""
        troubles.add(1_234, "it is cut")
        assert troubles.note == "line 1,234: it is cut; the line was left out"
        troubles.add(1_235, "it is odd")
        assert troubles.note == "2 lines could not be read and were left out, the first of them line 1,234: it is cut"
