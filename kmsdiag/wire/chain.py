"""Positions of the records of a capture: each says how long it is, and so where the next one starts.

Followed one by one, a million records take half a second in Python. So a large stretch is cut into lanes: a record is
guessed in each, and all lanes are followed at once with numpy. What a lane finds counts only when the lane before it
ends exactly where it starts; otherwise that stretch is followed one by one. So the result is the same by construction,
whatever was guessed.
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

LANE: Final = 1 << 16
"""Bytes of a lane. 128 lanes of 64 KiB are as many as numpy needs to hide its own cost."""

MOST: Final = 1 << 17
"""Records that are given at once. Ordinary captures have fewer in a chunk; the memory for tiny ones is bounded so."""

FEWEST: Final = 16
"""Lanes that are worth following at once."""

_LAST: Final = 4
"""With fewer lanes than that unfinished, the rest is quicker one by one."""

REACH: Final = 12
"""Bytes from a record's start up to which its length may stand: a buffer needs that much, and 4, behind the records."""


class Rule(NamedTuple):
    """How a record says where the next one starts.

    The 32-bit number ``at`` bytes into it (``little``-endian or not), plus ``extra``, is its whole length; below
    ``least`` the chain ends. ``find(buffer, start, end)`` guesses a record in a stretch, -1 where there is none.
    """

    at: int
    extra: int
    little: bool
    least: int
    find: Callable[[bytearray, int, int], int]


def follow(buffer: bytearray, start: int, stop: int, rule: Rule) -> tuple[Positions, int]:
    """Where the records are that start in ``start…stop``, and where the one after them would.

    ``buffer`` must go on for at least ``REACH + 4`` bytes behind ``stop``. The chain also ends behind a record whose
    length is below ``rule.least``, and after ``MOST`` records. No length is checked otherwise, and the last record may
    lead far away.
    """
    starts = _guess(buffer, start, stop, rule) if (stop - start) // LANE >= FEWEST else []
    if len(starts) >= FEWEST:
        found, after = _in_lanes(buffer, starts, stop, rule)
    else:
        one_by_one, after = _one_by_one(buffer, start, stop, rule)
        found = np.array(one_by_one, np.int64)
    return (found, after) if len(found) <= MOST else (found[:MOST], int(found[MOST]))


def _one_by_one(buffer: bytearray, position: int, stop: int, rule: Rule) -> tuple[list[int], int]:
    found: list[int] = []
    add = found.append
    read = struct.Struct("<I" if rule.little else ">I").unpack_from
    at, extra, least = rule.at, rule.extra, rule.least
    while position < stop:
        add(position)
        step = read(buffer, position + at)[0] + extra
        if step < least:
            break
        position += step
    return found, position


def _guess(buffer: bytearray, start: int, stop: int, rule: Rule) -> list[int]:
    """``start``, and a record near the start of each further lane, where one is found."""
    starts = [start]
    for lane in range(start + LANE, stop - LANE // 2, LANE):
        position = rule.find(buffer, lane, min(lane + LANE, stop))
        if position >= 0:
            starts.append(position)
    return starts


def _in_lanes(buffer: bytearray, starts: list[int], stop: int, rule: Rule) -> tuple[Positions, int]:
    first = np.array(starts, np.int64)
    ends = np.append(first[1:], stop)
    table = _lock_step(buffer, first, ends, rule)
    inside = table < ends[:, np.newaxis]
    counts = np.count_nonzero(inside, axis=1)
    # A lane that has no column behind its end was left before it; its last position is then as far as it is known.
    width = table.shape[1]
    reached = table[np.arange(len(starts)), np.minimum(counts, width - 1)]
    if (counts < width).all() and np.array_equal(reached[:-1], first[1:]):
        return table[inside], int(reached[-1])
    return _proved(buffer, table, counts, starts, stop, rule)


def _lock_step(buffer: bytearray, first: Positions, ends: Positions, rule: Rule) -> Positions:
    """All lanes at once: a row a lane, a column a step. A row goes on rising behind its lane's end."""
    dtype = np.dtype("<u4" if rule.little else ">u4")
    last = int(ends[-1])
    # A number at every byte, aligned or not.
    numbers = np.ndarray((last + 1,), dtype, buffer, rule.at, (1,))
    columns = [first]
    longest = int((ends - first).max())
    for step in range(longest // max(rule.least, 1) + 1):
        here = np.minimum(columns[-1], last)
        following = here + numbers[here]
        if rule.extra:
            following += rule.extra
        columns.append(following)
        if step % 16 == 15 and np.count_nonzero(following < ends) < _LAST:
            break
    return np.stack(columns, axis=1)


def _proved(
    buffer: bytearray, table: Positions, counts: Positions, starts: list[int], stop: int, rule: Rule
) -> tuple[Positions, int]:
    """Join lanes where one ends on the start of the next, and follow the rest one by one."""
    width = table.shape[1]
    pieces: list[Positions] = []
    position = starts[0]
    for lane, start in enumerate(starts):
        if position < start:
            found, position = _one_by_one(buffer, position, start, rule)
            pieces.append(np.array(found, np.int64))
            if position < start:
                return np.concatenate(pieces), position
        if position == start:
            count = min(int(counts[lane]), width - 1)
            pieces.append(table[lane, :count])
            position = int(table[lane, count])
    found, position = _one_by_one(buffer, position, stop, rule)
    pieces.append(np.array(found, np.int64))
    return np.concatenate(pieces), position
