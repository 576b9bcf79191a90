"""A captured frame as the exact path gets it, and how frames of many pieces of input are told apart."""

from typing import Final, NamedTuple

PART_SHIFT: Final = 40
"""A piece of input holds fewer than 2**40 frames."""

NUMBER_MASK: Final = (1 << PART_SHIFT) - 1


class RawFrame(NamedTuple):
    """One frame, with its bytes copied out of the chunk.

    ``ref`` is ``part << 40 | number``, with ``number`` counting from 1 in its part (see :func:`ref_of`); sorted, refs
    are in the order of the input. ``at`` is in ns since 1970 (UTC). ``link`` is the LINKTYPE_ number that
    www.tcpdump.org/linktypes.html lists; a link type that the file gave with FCS bits is without them. ``data`` is what
    was captured and ``length`` the frame's bytes on the wire.
    """

    ref: int
    at: int
    link: int
    data: bytes
    length: int


def ref_of(part: int, number: int) -> int:
    """The name of a frame in a run: index of its part, and its number in there, from 1."""
    return part << PART_SHIFT | number


def part_of(ref: int) -> int:
    """Index of the part that a frame is in."""
    return ref >> PART_SHIFT


def number_of(ref: int) -> int:
    """The frame's number in its part, from 1."""
    return ref & NUMBER_MASK
