"""Lines of a text file that comes in chunks, and what is wrong with some of them."""

from collections.abc import Iterable, Iterator
from typing import Final

from kmsdiag.wire.chunks import Chunk

LONGEST: Final = 1 << 20
"""Bytes of a line that are kept: the rest of a longer one is passed over, so that it reads as cut."""


def lines(chunks: Iterable[Chunk]) -> Iterator[tuple[int, list[bytes]]]:
    """The number (from 1) of the first line, and the lines of a piece, without their ends; the last one may be cut."""
    number, begun, long = 1, b"", False
    for chunk in chunks:
        *whole, rest = bytes(memoryview(chunk.buffer)[chunk.start : chunk.end]).split(b"\n")
        if whole:
            # What follows the first MiB of a line is left out up to its end.
            whole[0] = begun if long else begun + whole[0]
            yield number, whole
            number += len(whole)
            begun, long = b"", False
        begun = begun if long else begun + rest
        if len(begun) > LONGEST:
            begun, long = begun[:LONGEST], True
    if begun:
        yield number, [begun]


class Troubles:
    """Lines that could not be used: how many, and the first one with what is wrong with it."""

    def __init__(self) -> None:
        self.count = 0
        self._first = ""

    def add(self, number: int, why: str) -> None:
        """Take down a line by its number."""
        self.count += 1
        self._first = self._first or f"line {number:,}: {why}"

    @property
    def note(self) -> str:
        """One line about all of them, "" where there are none."""
        if self.count < 2:
            return f"{self._first}; the line was left out" if self.count else ""
        return f"{self.count:,} lines could not be read and were left out, the first of them {self._first}"
