"""Which files belong to one capture point, and in which order."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

OVERLAP: Final = 1_000_000_000
"""ns by which the files of a ring may overlap: a packet that waited is written a little late."""


class Span(NamedTuple):
    """A file's name and the times of its earliest and latest packet in ns since 1970, None where it has none."""

    label: str
    first: int | None
    last: int | None


def in_order(spans: Sequence[Span]) -> list[int]:
    """Indices of the files by their first packets; those without any come last. The order given doesn't matter."""
    return sorted(
        range(len(spans)),
        key=lambda index: (spans[index].first is None, spans[index].first or 0, _natural(spans[index].label), index),
    )


def taps(spans: Sequence[Span]) -> list[int]:
    """The tap of each file, numbered from 0, for files in order.

    Files that follow each other in time and whose names differ in digits alone are a ring, and so of one tap.
    """
    found: list[int] = []
    ends: list[tuple[str, int]] = []
    for span in spans:
        pattern = re.sub(r"[0-9]+", "0", span.label)
        fits = (
            tap
            for tap, (known, end) in enumerate(ends)
            if known == pattern and (span.first is None or span.first >= end - OVERLAP)
        )
        tap = next(fits, len(ends))
        if tap == len(ends):
            ends.append((pattern, 0))
        found.append(tap)
        ends[tap] = pattern, max(ends[tap][1], span.last or 0)
    return found


def _natural(label: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"([0-9]+)", label)]
