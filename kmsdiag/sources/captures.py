"""Capture files: reading one or a part of it, and planning the parts of a large one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kmsdiag.sources.files import Reading, Source
from kmsdiag.wire.batch import WHOLE, Batch, Facts, Part, State
from kmsdiag.wire.parts import WINDOW, guess, state_after
from kmsdiag.wire.records import CaptureReader

LEAST: Final = 32 << 20
"""Bytes of a part that are worth another process."""


class CapturePart:
    """Iterates once over the batches of a capture, or of a part of it.

    ``reader`` knows the interfaces so far; ``done`` is how far reading has come, in bytes on disk.

    Raises:
        CaptureError: on the first step, where there is nothing of a capture.
        OSError: likewise, where the file can't be opened any more.
    """

    def __init__(self, source: Source, part: Part = WHOLE, *, ahead: bool = False) -> None:
        self._reading = Reading(source, part.start, part.stop, ahead=ahead)
        self.reader = CaptureReader(self._reading, part, "byte" if source.packing is None else "unpacked byte")

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.reader)

    @property
    def done(self) -> int:
        """Bytes on disk that were read."""
        return self._reading.done

    @property
    def facts(self) -> Facts:
        """What came of it, once it is exhausted."""
        facts = self.reader.facts
        troubles = self._reading.notes
        return facts._replace(damaged=facts.damaged or bool(troubles), notes=troubles + facts.notes)


def plan(source: Source, count: int) -> list[Part]:
    """At most ``count`` parts of much the same size, one where it can't be cut or is too small to be worth it.

    The parts from the second on rest on a guess: see :mod:`kmsdiag.wire.parts`.
    """
    count = min(count, source.size // LEAST) if source.seekable else 1
    starts = _starts(source, count) if count > 1 else {}
    parts = []
    begin, state = 0, None
    for start, known in starts.items():
        parts.append(Part(begin, start, state))
        begin, state = start, known
    return [*parts, Part(begin, None, state)]


def _starts(source: Source, count: int) -> dict[int, State]:
    """Guessed starts of records, ascending, with what is known there."""
    found: dict[int, State] = {}
    try:
        with Path(source.path).open("rb", buffering=0) as file:
            head = file.read(WINDOW)
            state = state_after(head)
            if state is None:
                return {}
            for index in range(1, count):
                offset = source.size * index // count & ~3
                file.seek(offset)
                start = guess(head, state, file.read(WINDOW))
                if start >= 0:
                    found[offset + start] = state
    except OSError:
        return {}
    return found
