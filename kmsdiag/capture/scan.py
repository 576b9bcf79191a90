"""From captures to one answer: passes over the files, alone or in parallel, and the joining of what they found.

``analyse`` is what everyone calls: files, standard input and live recordings alike. A pass over one part of the input
(:mod:`kmsdiag.capture.parts`) is a function of values that can be sent, so any ``concurrent.futures`` executor runs it.
The answer is the same, byte for byte, for any number of jobs.

1. Each file is read once, a large one in two parts at the same time.
2. Where KMS turned out to be spoken on other ports, a second pass collects the connections of these services.
3. What touches the edges of parts is put together, capture point by capture point (:mod:`kmsdiag.capture.join`).
4. Conversations that are to be shown whole, and were not known to be, are walked in a pass of their own.
5. Where two taps show the same connections, a last pass collects these, and they are compared.
"""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from enum import Flag, auto
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmsdiag.capture.files import File, Piece, plan_tasks, read_files, with_edges
from kmsdiag.capture.flows import Keys, keys_of
from kmsdiag.capture.join import Joined, answer_of, found_by, join, numbered, published_services
from kmsdiag.capture.packets import PACKET, Packets, address_bytes, text_words
from kmsdiag.capture.packets import joined as joined_packets
from kmsdiag.capture.pairs import pair_paths
from kmsdiag.capture.parts import MOST_SERVICES, Service, Task
from kmsdiag.capture.runner import Progress, Runner
from kmsdiag.capture.selection import Chooser
from kmsdiag.model.capture import CaptureAnswer, Conversation, PairedPath
from kmsdiag.model.target import GivenFile, Selection
from kmsdiag.sources.files import Source, describe, gather
from kmsdiag.sources.recognise import Kind
from kmsdiag.wire.frames import NUMBER_MASK, PART_SHIFT
from kmsdiag.wire.streams import KMS_PORTS

__all__ = ["Analysis", "FrameOrigin", "Progress", "Want", "analyse", "analyse_sources"]


class Want(Flag):
    """What is wanted besides the answer. Each costs memory for every conversation."""

    ANSWER = 0
    CONVERSATIONS = auto()
    """All selected conversations, with their ladders."""
    FRAMES = auto()
    """The numbers of all frames that matter, for an extract."""


class FrameOrigin(NamedTuple):
    """Frames of one file that matter: ``file`` indexes :attr:`CaptureAnswer.files`; numbers from 1, ascending."""

    file: int
    path: str
    numbers: Sequence[int]


class Analysis(NamedTuple):
    """What came out. ``captures`` name the inputs in the order of ``answer.files``, for the target of the run.

    ``conversations`` are sorted by number. ``interrupted`` is true where Ctrl-C ended the reading: the rest is what was
    known then. ``unusable`` are inputs that were no captures or could not be opened: (label, one line that says why).
    """

    answer: CaptureAnswer
    captures: tuple[GivenFile, ...]
    conversations: tuple[Conversation, ...] = ()
    frames: tuple[FrameOrigin, ...] = ()
    unusable: tuple[tuple[str, str], ...] = ()
    interrupted: bool = False


def analyse(
    paths: Sequence[str],
    selection: Selection | None = None,
    *,
    jobs: int = 1,
    executor: Executor | None = None,
    want: Want = Want.ANSWER,
    show: Collection[int] = (),
    progress: Progress | None = None,
) -> Analysis:
    """Read all captures and say what they show.

    ``paths`` are files, folders or ``-`` for standard input; their order doesn't matter. ``executor`` runs the passes
    where given (Dask's ``Client.get_executor()``), else ``jobs`` processes do (1: this one). ``show`` are numbers of
    conversations that ``Analysis.conversations`` is to hold. What can't be read is in ``Analysis.unusable``, never an
    exception. Where no packet could be read at all, ``answer.at`` is the epoch.
    """
    gathered = gather(paths)
    sources = [source for source in gathered.sources if source.format.kind is Kind.CAPTURE]
    others = [source for source in gathered.sources if source.format.kind is not Kind.CAPTURE and not source.found]
    analysis = analyse_sources(
        sources, selection, jobs=jobs, executor=executor, want=want, show=show, progress=progress
    )
    unusable = [(one.label, one.reason) for one in gathered.refused]
    unusable += [(one.label, f"it is {one.format.name}, no capture") for one in others]
    return analysis._replace(unusable=tuple(sorted((*unusable, *analysis.unusable))))


def analyse_sources(
    sources: Sequence[Source],
    selection: Selection | None = None,
    *,
    jobs: int = 1,
    executor: Executor | None = None,
    want: Want = Want.ANSWER,
    show: Collection[int] = (),
    progress: Progress | None = None,
    fast: bool = True,
) -> Analysis:
    """The same for captures that were found already. ``fast`` False walks each conversation for itself."""
    runner = Runner(jobs, executor, progress)
    runner.whole = sum(source.size for source in sources)
    return _Run(sources, Chooser(selection), runner, want, frozenset(show), fast=fast).analyse()


class _Passes(NamedTuple):
    """The files as the first pass read them, and as the second one did (none where it wasn't needed)."""

    files: list[File]
    further: list[File]
    services: frozenset[Service]


class _Run:
    """One analysis: which passes are needed, and what to ask in each."""

    def __init__(
        self,
        sources: Sequence[Source],
        chooser: Chooser,
        runner: Runner,
        want: Want,
        show: frozenset[int],
        *,
        fast: bool,
    ) -> None:
        self.sources = sources
        self.chooser = chooser
        self.runner = runner
        self.want = want
        self.show = show
        self.fast = fast
        self.framed = bool(want & Want.FRAMES)
        once = any(not source.again for source in sources)
        self.again = not once
        self.everything = bool(want & Want.CONVERSATIONS) or (once and bool(show))
        self.unusable: list[tuple[str, str]] = []

    def analyse(self) -> Analysis:
        passes = self._read()
        joined = self._join(passes)
        sought = self._sought(joined)
        if sought:
            self._walk_sought(passes, joined, sought)
        pairs = self._pairs(passes, joined)
        answer = answer_of(passes.files, passes.further, joined, pairs)
        return Analysis(
            answer=answer,
            captures=tuple(describe(file.source) for file in passes.files),
            conversations=self._conversations(answer, passes, joined),
            frames=self._frames(passes, joined) if self.framed else (),
            unusable=tuple(self.unusable),
            interrupted=self.runner.interrupted,
        )

    def _model(self) -> Task:
        """What all tasks have in common."""
        return Task(
            source=self.sources[0],
            place=0,
            chooser=self.chooser.before_names(),
            everything=self.everything,
            framed=self.framed,
            fast=self.fast,
        )

    def _read(self) -> _Passes:
        if not self.sources:
            return _Passes([], [], frozenset())
        files, self.unusable = read_files(plan_tasks(self.sources, self.runner, self._model()), self.runner)
        files = with_edges(files, self.runner)
        services = self._services(files)
        if not services or not self.again or self.runner.interrupted:
            return _Passes(files, [], services)
        further = self._tasks_again(files, lambda piece: piece.task._replace(services=services, aside=()))
        return _Passes(files, with_edges(further, self.runner), services)

    def _services(self, files: Sequence[File]) -> frozenset[Service]:
        """Hosts that KMS is spoken to on other ports, by binds and by SRV records."""
        found = {one for file in files for piece in file.pieces for one in piece.scanned.services}
        for address, port in published_services(files):
            found.add((*text_words(address), port))
        return frozenset(sorted(one for one in found if one[2] not in KMS_PORTS)[:MOST_SERVICES])

    def _tasks_again(self, files: Sequence[File], change: Callable[[Piece], Task]) -> list[File]:
        """The same parts once more, asked something else."""
        pieces = [piece._replace(task=change(piece)) for file in files for piece in file.pieces]
        scans = self.runner.run([piece.task for piece in pieces])
        again = iter([piece._replace(scanned=scan) for piece, scan in zip(pieces, scans, strict=True)])
        return [file._replace(pieces=tuple(next(again) for _ in file.pieces)) for file in files]

    def _join(self, passes: _Passes, sought: frozenset[int] = frozenset()) -> Joined:
        return join(
            passes.files,
            passes.further,
            self.chooser,
            services=passes.services,
            fast=self.fast,
            framed=self.framed,
            everything=self.everything,
            sought=sought,
        )

    # conversations to be shown whole

    def _sought(self, joined: Joined) -> frozenset[int]:
        """First frames of conversations that are still to be walked for their ladders."""
        if not self.again or self.runner.interrupted:
            return frozenset()
        numbers = joined.digest.first_frames()
        shown = {int(numbers[number - 1]) for number in self.show if 0 < number <= len(numbers)}
        return (joined.digest.missing_examples() | shown) - frozenset(joined.digest.kept)

    def _walk_sought(self, passes: _Passes, joined: Joined, sought: frozenset[int]) -> None:
        def again(files: list[File]) -> list[File]:
            places = {piece.task.place: place for place, file in enumerate(files) for piece in file.pieces}

            def change(piece: Piece) -> Task:
                place = places[piece.task.place]
                shift = files[place].shift(piece, place)
                return piece.task._replace(sought=frozenset(ref - shift for ref in sought))

            return self._tasks_again(files, change)

        found = self._join(passes._replace(files=again(passes.files), further=again(passes.further)), sought)
        for ref, conversation in found.digest.kept.items():
            joined.digest.kept[ref] = conversation
            joined.digest.keep(conversation)

    def _conversations(self, answer: CaptureAnswer, passes: _Passes, joined: Joined) -> tuple[Conversation, ...]:
        if not self.show and not self.want & Want.CONVERSATIONS:
            return ()
        kept = joined.digest.kept.values()
        every = numbered(kept, passes.files, joined, found_by(answer.clients, kept))
        if self.want & Want.CONVERSATIONS:
            return every
        return tuple(one for one in every if one.number in self.show)

    # frames for an extract

    def _frames(self, passes: _Passes, joined: Joined) -> tuple[FrameOrigin, ...]:
        refs = np.unique(joined.frames)
        files = refs >> PART_SHIFT
        return tuple(
            FrameOrigin(place, file.source.path, (refs[files == place] & NUMBER_MASK).tolist())
            for place, file in enumerate(passes.files)
        )

    # two taps of one path

    def _pairs(self, passes: _Passes, joined: Joined) -> tuple[PairedPath, ...]:
        if not joined.doubled.any() or not self.again or self.runner.interrupted:
            return ()
        rows = joined.digest.rows()
        shared = rows[np.isin(rows["isn_client"], rows["isn_client"][joined.doubled])]
        keys = tuple(np.unique(_keys_of_rows(shared)).tolist())
        services = passes.services
        model = self._tasks_again(
            passes.files, lambda piece: piece.task._replace(collected=keys, also=services, sought=frozenset())
        )
        seen = {tap: _packets(model, tap) for tap in sorted({file.tap for file in passes.files})}
        ends = zip(*(shared[name].tolist() for name in ("host_hi", "host_lo", "host_port")), strict=True)
        hosts = {(address_bytes(high, low), port) for high, low, port in ends}
        first_frames = joined.digest.first_frames()
        numbers = dict(
            zip(rows["ref"].tolist(), (np.searchsorted(first_frames, rows["ref"]) + 1).tolist(), strict=True)
        )
        found: list[PairedPath] = []
        for taps in combinations(seen, 2):
            found += pair_paths(taps, seen[taps[0]], seen[taps[1]], hosts, numbers)
        return tuple(found)


def _keys_of_rows(rows: NDArray[Any]) -> Keys:
    """Keys of the connections of conversations."""
    table = np.zeros(len(rows), PACKET)
    for ours, theirs in (
        ("src_hi", "client_hi"),
        ("src_lo", "client_lo"),
        ("sport", "client_port"),
        ("dst_hi", "host_hi"),
        ("dst_lo", "host_lo"),
        ("dport", "host_port"),
    ):
        table[ours] = rows[theirs]
    return keys_of(table)


def _packets(files: Sequence[File], tap: int) -> Packets:
    """The packets that were collected at one tap, named by file and number."""
    parts = []
    for place, file in enumerate(files):
        if file.tap == tap:
            for piece in file.pieces:
                packets = piece.scanned.loose.packets
                table = packets.table.copy()
                table["ref"] += file.shift(piece, place)
                parts.append(Packets(table, packets.blob))
    return joined_packets(parts)
