"""Event logs of clients and hosts as one digest: Windows event logs, exports as XML, CSV and JSON, and pasted text.

Logs of clients are read first: the requests that they made are kept one by one in what the hosts logged (12290), all
others are counted by client machine ID. So what is kept grows with machines, not with rows. Where an ID turns up only
later, the file is read once more: neither the order of the files nor how many are read at once changes the answer.
"""

import io
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final, NamedTuple

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.events.attempts import ClientLog
from kmsdiag.evidence.events.choice import EVER, Choice
from kmsdiag.evidence.events.csv_export import read_csv
from kmsdiag.evidence.events.digest import EventDigest
from kmsdiag.evidence.events.hosts import HostLog
from kmsdiag.evidence.events.json_export import read_json
from kmsdiag.evidence.events.log_file import read_evtx
from kmsdiag.evidence.events.log_repair import damages
from kmsdiag.evidence.events.pasted_text import read_text
from kmsdiag.evidence.events.streams import Bytes, opened, text_of
from kmsdiag.evidence.events.times import SECOND, Times, moment
from kmsdiag.evidence.events.unread import Unread
from kmsdiag.evidence.events.xml_export import read_xml
from kmsdiag.evidence.powershell.collection import Event
from kmsdiag.model.events import EventFile, EventsAnswer, Requester
from kmsdiag.model.target import GivenFile, Selection, StatusFile
from kmsdiag.sources.files import Reading, Source, describe
from kmsdiag.sources.recognise_events import is_event_csv, is_event_json, is_event_xml, is_evtx
from kmsdiag.sources.unpack import UnpackError

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all (0 where not known)."""

TEXT_LIMIT: Final = 64 << 20
"""Bytes of a text file that are read."""
LOG_LIMIT: Final = 1 << 30
"""Bytes of a packed or damaged .evtx file, which is held as a whole."""
_PATCHES: Final = 100_000

_SNIFF: Final = 1 << 17
_HOSTS: Final = tuple(
    text.encode(one) for text in ("Key Management Service", "12290") for one in ("ascii", "utf-16-le")
)


class EventAnalysis(NamedTuple):
    """The answer, the files that it is from, and those that could not be used: name and reason."""

    answer: EventsAnswer
    files: tuple[GivenFile, ...]
    unusable: tuple[tuple[str, str], ...] = ()
    interrupted: bool = False


class _Task(NamedTuple):
    """One file to read. ``details`` are client machine IDs whose requests are kept one by one."""

    source: Source
    number: int
    machine: str
    choice: Choice
    details: frozenset[str]


class _Read(NamedTuple):
    """What came of it. ``problem``: why nothing could be read."""

    digest: EventDigest
    format: str
    problem: str = ""
    interrupted: bool = False


def analyse_events(
    sources: Sequence[Source],
    selection: Selection | None = None,
    *,
    details: Collection[str] = (),
    texts: Sequence[tuple[GivenFile, str]] = (),
    collections: Sequence[tuple[GivenFile, Sequence[Event]]] = (),
    jobs: int = 1,
    progress: Progress | None = None,
) -> EventAnalysis:
    """Read event logs and say what they show together; the order of the arguments doesn't matter.

    ``details`` are client machine IDs in lower case whose requests are kept one by one, besides those in clients' logs.
    ``texts`` are files that may hold events among other things; they count where they do. ``collections`` are files of
    the collector with their events. Whose a log is ``Source.machine`` says, where its records don't. What can't be read
    is in ``EventAnalysis.unusable``.
    """
    choice = Choice(selection)
    run = _Run(choice, jobs, progress, sources)
    run.read_texts(texts)
    run.read_collections(collections)
    run.read_sources(frozenset(one.lower() for one in details))
    return run.finish()


class _Run:
    """Reads the files of one run, in an order of their own: by kind, then name, size and content."""

    def __init__(
        self,
        choice: Choice,
        jobs: int,
        progress: Progress | None,
        sources: Sequence[Source],
    ) -> None:
        self.choice = choice
        self.jobs = jobs
        self.interrupted = False
        self.unusable: list[tuple[str, str]] = []
        self._progress = progress
        self._whole = sum(source.size for source in sources)
        self._done = 0
        self._files: list[tuple[GivenFile, str, EventDigest]] = []
        described = [(describe(source), source) for source in sources]
        self._sources = sorted(described, key=lambda pair: (_order(pair[0]), pair[1].machine))

    def read_texts(self, texts: Sequence[tuple[GivenFile, str]]) -> None:
        """Texts that are decoded already."""
        for number, (file, text) in enumerate(sorted(texts, key=lambda pair: (_order(pair[0]), pair[1]))):
            given = file.machine if isinstance(file, StatusFile) else ""
            digest = EventDigest(number, ascii_text(given or _stem(file.label)), self.choice)
            _take_text(text, digest)
            digest.finish()
            if digest.records:
                plain = GivenFile(label=file.label, size=file.size, hash=file.hash)
                self._files.append((plain, "text", digest))

    def read_collections(self, collections: Sequence[tuple[GivenFile, Sequence[Event]]]) -> None:
        """Events that the collector wrote as values."""
        for file, events in sorted(collections, key=lambda pair: _order(pair[0])):
            digest = EventDigest(len(self._files), ascii_text(_stem(file.label)), self.choice)
            times = Times()
            for event in events:
                at = times.read(event.at.isoformat())
                digest.take(event.id, at, event.computer, "", "\n".join(event.strings))
            digest.finish()
            if digest.records:
                self._files.append((file, "events of the collector", digest))

    def read_sources(self, details: frozenset[str]) -> None:
        """Clients' logs, then hosts' logs; and again those in which IDs count that turned up later."""
        first = len(self._files)
        tasks = [
            _Task(
                source,
                first + number,
                ascii_text(source.machine or _stem(source.label)),
                self.choice,
                details,
            )
            for number, (_file, source) in enumerate(self._sources)
        ]
        late = {task.number for task in tasks if not task.source.again or _is_of_a_host(task.source)}
        done: dict[int, _Read] = {}
        for phase in (
            [task for task in tasks if task.number not in late],
            [task for task in tasks if task.number in late],
        ):
            known = details | self._known(done.values())
            done.update(self._read([task._replace(details=known) for task in phase]))
            tasks = [task._replace(details=known) if task in phase else task for task in tasks]
        known = details | self._known(done.values())
        again = [task._replace(details=known) for task in tasks if self._lacks(task, done, known)]
        done.update(self._read(again))
        for task, (file, _source) in zip(tasks, self._sources, strict=True):
            read = done[task.number]
            if read.problem:
                self.unusable.append((file.label, read.problem))
            else:
                self._files.append((file, read.format, read.digest))

    def _known(self, done: Collection[_Read]) -> frozenset[str]:
        """IDs in the logs of clients."""
        digests = [digest for _file, _format, digest in self._files] + [read.digest for read in done]
        return frozenset(one for digest in digests for one in digest.client_machine_ids)

    def _lacks(self, task: _Task, done: Mapping[int, _Read], known: frozenset[str]) -> bool:
        """Whether requests were only counted that are to be kept one by one."""
        if not task.source.again or self.interrupted:
            return False
        missing = known - task.details
        return any(missing & log.asked.keys() for log in done[task.number].digest.hosts.values())

    def _read(self, tasks: Sequence[_Task]) -> dict[int, _Read]:
        """The results by number of the file."""
        here = [task for task in tasks if not task.source.again or self.jobs < 2 or len(tasks) < 2]
        there = [task for task in tasks if task not in here]
        found: dict[int, _Read] = {}
        if there:
            with ProcessPoolExecutor(min(self.jobs, len(there))) as pool:
                futures = [(task, pool.submit(_read_file, task)) for task in there]
                for task, future in futures:
                    try:
                        found[task.number] = future.result() if not self.interrupted else _nothing(task)
                    except KeyboardInterrupt:
                        self.interrupted = True
                        pool.shutdown(wait=False, cancel_futures=True)
                        found[task.number] = _nothing(task)
                    self.interrupted = self.interrupted or found[task.number].interrupted
                    self._tell(task.source.size)
        for task in here:
            found[task.number] = _nothing(task) if self.interrupted else _read_file(task, self._told)
            self.interrupted = self.interrupted or found[task.number].interrupted
            self._tell(task.source.size)
        return found

    def _told(self, done: int) -> None:
        if self._progress is not None:
            self._progress(min(self._done + done, self._whole), self._whole)

    def _tell(self, size: int) -> None:
        self._done = min(self._done + size, self._whole)
        self._told(0)

    def finish(self) -> EventAnalysis:
        """The answer."""
        joined = _Joined(self.choice)
        for file, _format, digest in self._files:
            joined.add(ascii_text(file.label), digest)
        facts = [_facts(file, format_, digest) for file, format_, digest in self._files]
        return EventAnalysis(
            answer=joined.answer(facts),
            files=tuple(file for file, _format, _digest in self._files),
            unusable=tuple(self.unusable),
            interrupted=self.interrupted,
        )


def _order(file: GivenFile) -> tuple[str, int, str]:
    return (file.label, file.size, file.hash)


def _stem(label: str) -> str:
    """What stands for the machine where neither records nor anybody say: the file's name without its endings."""
    name = label
    for _ in range(2):
        stem, dot, ending = name.rpartition(".")
        if stem and dot and len(ending) <= 5:
            name = stem
    return name


def _is_of_a_host(source: Source) -> bool:
    """Whether the first records of a file are of a host's log."""
    try:
        for chunk in Reading(source):
            head = bytes(memoryview(chunk.buffer)[chunk.start : min(chunk.end, chunk.start + _SNIFF)])
            return any(one in head for one in _HOSTS)
    except OSError:
        return False
    return False


# ----------------------------------------------------------------------------------------------------- one file


def _nothing(task: _Task) -> _Read:
    digest = EventDigest(task.number, task.machine, task.choice)
    return _Read(digest, "", "not read: interrupted", interrupted=True)


def _read_file(task: _Task, told: Callable[[int], None] | None = None) -> _Read:
    """Read a file to its end, to damage, or to Ctrl-C."""
    digest = EventDigest(task.number, task.machine, task.choice, task.details)
    reading = Reading(task.source)
    format_, problem, interrupted = "", "", False
    try:
        head, stream = opened(reading, told)
        if is_evtx(head):
            format_ = "evtx"
            _evtx(task.source, stream, digest, told)
        else:
            format_ = _text_format(head)
            with text_of(head, stream, digest) as text:
                _READERS[format_](text, digest)
    except KeyboardInterrupt:
        interrupted = True
        digest.note("reading was interrupted: what comes after is missing")
    except OSError as error:
        problem = f"it can't be read: {error.strerror or error}"
    except (ValueError, UnpackError) as error:
        problem = str(error)
    for note in reading.notes:
        digest.note(note)
    digest.finish()
    if not problem and not digest.records and not interrupted:
        problem = "; ".join(["no event was found in it", *digest.notes[:2]])
    return _Read(digest, format_, problem, interrupted)


def _text_format(head: bytes) -> str:
    if is_event_xml(head):
        return "XML"
    if is_event_json(head):
        return "JSON"
    return "CSV" if is_event_csv(head) else "text"


def _evtx(
    source: Source, stream: "io.BufferedReader[Bytes]", digest: EventDigest, told: Callable[[int], None] | None
) -> None:
    """A log is read by its name, or from memory where it is packed or damaged.

    Raises:
        ValueError: it is no event log, or packed or damaged and too large.
    """
    if source.seekable:
        # The look for damage is short, and no part of the progress.
        patches = list(itertools.islice(damages(opened(Reading(source))[1]), _PATCHES))
        if not patches:
            for done in read_evtx(source.path, digest):
                if told is not None:
                    told(min(done * 300, source.size))
            return
        stream = opened(Reading(source))[1]
    whole = bytearray(stream.read(LOG_LIMIT + 1))
    if len(whole) > LOG_LIMIT:
        raise ValueError(f"it is packed or damaged, and has more than {LOG_LIMIT >> 30} GiB, which is not read at once")
    for patch in itertools.islice(damages(io.BytesIO(whole)), _PATCHES):
        whole[patch.offset : patch.offset + len(patch.content)] = patch.content
        if patch.what:
            digest.note(patch.what)
    for _done in read_evtx(io.BytesIO(whole), digest):
        pass


def _whole_text(stream: io.TextIOBase, digest: EventDigest) -> None:
    text = stream.read(TEXT_LIMIT)
    if stream.read(1):
        digest.note(f"only its first {TEXT_LIMIT >> 20} MiB were read")
    _take_text(text, digest)


def _take_text(text: str, digest: EventDigest) -> None:
    times = Times()
    for event in read_text(text):
        digest.take(event.number, times.read(event.time), event.machine, event.provider, event.text)
    digest.zone_assumed = digest.zone_assumed or times.assumed


_READERS: Final[Mapping[str, Callable[[io.TextIOBase, EventDigest], None]]] = {
    "XML": read_xml,
    "JSON": read_json,
    "CSV": read_csv,
    "text": _whole_text,
}


# -------------------------------------------------------------------------------------------------- all together


def _facts(file: GivenFile, format_: str, digest: EventDigest) -> EventFile:
    return EventFile(
        label=ascii_text(file.label),
        format=format_,
        size=file.size,
        records=digest.records,
        used=digest.used,
        first=moment(digest.first) if digest.first <= digest.last else None,
        last=moment(digest.last) if digest.first <= digest.last else None,
        notes=tuple(digest.notes),
        damaged=digest.damaged,
    )


class _Joined:
    """All files, machine by machine."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.clients: dict[str, ClientLog] = {}
        self.hosts: dict[str, HostLog] = {}
        self.unread = Unread()
        self._digests: list[EventDigest] = []
        self._labels: dict[str, list[tuple[str, dict[str, tuple[int, int, int]]]]] = {}

    def add(self, label: str, digest: EventDigest) -> None:
        """Add a file."""
        self._digests.append(digest)
        self.unread.join(digest.unread)
        for key, client in digest.clients.items():
            self.clients.setdefault(key, ClientLog(client.machine)).join(client)
        for key, host in digest.hosts.items():
            counted = self._without_repeated(label, key, host, digest)
            if key in self.hosts:
                self.hosts[key].join(counted)
            else:
                self.hosts[key] = counted

    def _without_repeated(self, label: str, key: str, host: HostLog, digest: EventDigest) -> HostLog:
        """A host's log, without its requests where another file has the same ones: a log that was exported twice."""
        before = self._labels.setdefault(key, [])
        if len(before) == 1 and not before[0][1]:
            # Only where a second file comes is there something to compare.
            before[0] = (before[0][0], self.hosts[key].times())
        times = host.times() if before else {}
        for other, known in before:
            if known and known == times:
                digest.note(f"the requests to {host.host} are those of {other} too: they count once", damaged=False)
                return host.without_requests()
            if known and times and _overlap(known, times):
                what = f"the requests to {host.host} overlap with those of {other}: in both, they count twice"
                digest.note(what, damaged=False)
        before.append((label, times))
        return host

    def answer(self, files: Sequence[EventFile]) -> EventsAnswer:
        """The digest of all."""
        unread = self.unread
        clients = [found for _key, log in sorted(self.clients.items()) if (found := log.finish(self.choice, unread))]
        hosts = [log for _key, log in sorted(self.hosts.items())]
        requesters: list[Requester] = [one for log in hosts for one in log.requesters()]
        begins = min((digest.first for digest in self._digests), default=EVER)
        ends = max((digest.last for digest in self._digests), default=-EVER)
        return EventsAnswer(
            at=moment(begins if begins <= ends else 0),
            elapsed_ms=round(max(ends - begins, 0) * 1000 / SECOND, 3) if begins <= ends else 0.0,
            files=tuple(files),
            clients=tuple(clients),
            hosts=tuple(log.finish() for log in hosts),
            requesters=tuple(requesters),
            noise=_summed([digest.noise for digest in self._digests]),
            others=_summed([digest.others for digest in self._digests]),
            unread=unread.count,
            unread_examples=tuple(unread.examples),
            zone_assumed=any(digest.zone_assumed for digest in self._digests),
        )


def _overlap(one: Mapping[str, tuple[int, int, int]], other: Mapping[str, tuple[int, int, int]]) -> bool:
    """Whether the requests of two logs, by ID with number, first and last time, lie in the same stretch of time."""
    (first, last), (begin, end) = (
        (min(times[1] for times in log.values()), max(times[2] for times in log.values())) for log in (one, other)
    )
    return first <= end and begin <= last


def _summed(counters: Sequence[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for counter in counters:
        for key, count in counter.items():
            found[key] = found.get(key, 0) + count
    return dict(sorted(found.items(), key=lambda pair: (not pair[0].isdecimal(), len(pair[0]), pair[0])))
