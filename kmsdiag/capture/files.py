"""The parts of all files read, in one pass or in another, and put in the order of the files.

A large file is cut by a guess (:mod:`kmsdiag.wire.parts`). Where it proves wrong, or where the clock goes back, so that
times do not tell what may lie across the cut, the file is read again in one part.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmsdiag.capture.flows import EDGE, Keys, keys_of
from kmsdiag.capture.parts import Scanned, Task
from kmsdiag.capture.runner import Runner
from kmsdiag.capture.taps import Span, in_order, taps
from kmsdiag.sources.captures import plan
from kmsdiag.sources.files import Source
from kmsdiag.wire.batch import WHOLE, Facts
from kmsdiag.wire.frames import PART_SHIFT
from kmsdiag.wire.parts import follows, joined

SPLIT: Final = 2
"""Parts that one large file is read in: more of them gain little, and each costs another process."""


class Piece(NamedTuple):
    """A part that was read: what it was asked, what came of it, and how many frames of its file come before it."""

    task: Task
    scanned: Scanned
    before: int


class File(NamedTuple):
    """A file that was read, with its pieces in order, and the tap it belongs to."""

    source: Source
    facts: Facts
    pieces: tuple[Piece, ...]
    tap: int = 0

    def shift(self, piece: Piece, place: int) -> int:
        """What to add to a ref of a piece to get file and number, for the file at ``place``."""
        return (place - piece.task.place << PART_SHIFT) + piece.before


def plan_tasks(sources: Sequence[Source], runner: Runner, model: Task) -> list[list[Task]]:
    """What to read, source by source; ``model`` has what all tasks have in common."""
    several = len(sources) > 1
    count = SPLIT if runner.parallel and len(sources) < max(runner.jobs, SPLIT) else 1
    tasks: list[list[Task]] = []
    place = 0
    for source in sources:
        parts = plan(source, count)
        own = []
        for index, part in enumerate(parts):
            own.append(
                model._replace(
                    source=source,
                    place=place,
                    part=part,
                    head=several or index > 0,
                    tail=several or index < len(parts) - 1,
                )
            )
            place += 1
        tasks.append(own)
    return tasks


def read_files(tasks: Sequence[Sequence[Task]], runner: Runner) -> tuple[list[File], list[tuple[str, str]]]:
    """Read all; the files in order, and those (by label) that could not be read, with the reason."""
    scans = iter(runner.run([task for own in tasks for task in own]))
    files: list[File] = []
    unusable: list[tuple[str, str]] = []
    for own in tasks:
        pairs = [(task, next(scans)) for task in own]
        pieces = _proved(pairs, runner)
        facts = [piece.scanned.facts for piece in pieces if piece.scanned.facts is not None]
        if facts:
            files.append(File(own[0].source, joined(facts), pieces))
        else:
            unusable.append((own[0].source.label, pieces[0].scanned.problem or "nothing could be read"))
    return _arranged(files), unusable


def _proved(pairs: Sequence[tuple[Task, Scanned]], runner: Runner) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    before = 0
    for index, (task, scanned) in enumerate(pairs):
        if index:
            done = pieces[-1].scanned.facts
            if done is None or done.damaged or pieces[-1].scanned.interrupted:
                break
            if not follows(done, task.part) or _torn(pieces[-1].scanned, scanned):
                whole = pairs[0][0]._replace(part=WHOLE, tail=pairs[-1][0].tail)
                return (Piece(whole, runner.run([whole])[0], 0),)
        pieces.append(Piece(task, scanned, before))
        before += scanned.facts.packets if scanned.facts is not None else 0
    return tuple(pieces)


def _torn(one: Scanned, other: Scanned) -> bool:
    """Whether what belongs together may lie across the border of two parts, and not be recognised by its times."""
    return bool(one.backwards or other.backwards)


def _arranged(files: Sequence[File]) -> list[File]:
    """Files in the order of their first packets, with their taps."""
    spans = [Span(file.source.label, file.facts.first, file.facts.last) for file in files]
    order = in_order(spans)
    numbers = taps([spans[index] for index in order])
    return [files[index]._replace(tap=tap) for index, tap in zip(order, numbers, strict=True)]


def with_edges(files: Sequence[File], runner: Runner) -> list[File]:
    """Read those parts once more that ended connections of which an earlier part of the tap holds the beginning."""
    settled: list[File] = []
    loose: dict[int, list[tuple[Keys, NDArray[np.int64]]]] = {}
    for file in files:
        known = loose.setdefault(file.tap, [])
        pieces = []
        for read in file.pieces:
            piece = read
            clash = _clash(piece, known)
            if len(clash) and piece.task.source.again and not runner.interrupted:
                task = piece.task._replace(aside=tuple(clash.tolist()))
                piece = Piece(task, runner.run([task])[0], piece.before)
            table = piece.scanned.loose.packets.table
            known.append((keys_of(table), table["at"]))
            pieces.append(piece)
        settled.append(file._replace(pieces=tuple(pieces)))
    return settled


def _clash(piece: Piece, known: Sequence[tuple[Keys, NDArray[np.int64]]]) -> Keys:
    """Keys of connections that the piece ended early, and that something loose of an earlier part belongs to."""
    early, facts = piece.scanned.loose.early, piece.scanned.facts
    if not len(early) or facts is None or facts.first is None:
        return early[:0]
    near = [keys[at >= facts.first - EDGE] for keys, at in known]
    return np.unique(early[np.isin(early, np.concatenate(near))]) if near else early[:0]
