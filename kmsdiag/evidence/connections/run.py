"""From logs of Zeek or Suricata to the answer that packet captures give, as far as such logs go.

All files are one run. Each is read line by line, and those with DNS once more, for the addresses of the hosts that
turned up. What grows is what is known of KMS: about 0.7 kB a connection until all files are read, and then what
captures take.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from kmsdiag.capture.digest import EPOCH, EXCHANGE, ROW, Digest, frame_of, microseconds, moment
from kmsdiag.capture.join import is_chosen
from kmsdiag.capture.lookups import summarise
from kmsdiag.capture.packets import address_text
from kmsdiag.capture.rows import pick
from kmsdiag.capture.scan import Analysis, Progress, Want
from kmsdiag.capture.selection import Chooser
from kmsdiag.capture.tables import CLIENTS_LIMIT, tabulate
from kmsdiag.evidence.connections.findings import Gathered, LoggedDiscovery, Pass, ports_used
from kmsdiag.evidence.connections.judged import Connection, Verdict, conversation_of, judge, rows_of
from kmsdiag.evidence.connections.lines import lines
from kmsdiag.evidence.connections.suricata import EveLog
from kmsdiag.evidence.connections.zeek import SRV_NOTE, ZeekLog, without_truncated
from kmsdiag.model.capture import CaptureAnswer, Conversation, FileFacts, Quality
from kmsdiag.model.target import Selection
from kmsdiag.sources.files import Reading, Source, describe
from kmsdiag.sources.recognise import Kind
from kmsdiag.wire.frames import ref_of

PROGRAMS: Final = {Kind.ZEEK: "Zeek", Kind.SURICATA: "Suricata"}
"""Whose logs are read here."""

_LISTED: Final = ("dce_rpc", "conn", "dns")


class _File:
    """One log, and what came of reading it: times in ns since 1970, None where it holds none that counts."""

    def __init__(self, source: Source, log: ZeekLog | EveLog) -> None:
        self.source = source
        self.log = log
        self.first: int | None = None
        self.last: int | None = None
        self.notes: tuple[str, ...] = ()
        self.problem = ""


class _Run:
    """Reads the files of one run."""

    def __init__(self, sources: Sequence[Source], progress: Progress | None) -> None:
        self.kind = sources[0].format.kind
        self.gathered = Gathered()
        self.interrupted = False
        self.files: list[_File] = []
        self.unusable: list[tuple[str, str]] = []
        self._progress = progress
        self._whole = sum(source.size * (2 if source.again else 1) for source in sources)
        self._done = 0
        for source in _arranged(sources):
            self._first_pass(source)

    def _first_pass(self, source: Source) -> None:
        if self.interrupted:
            return
        which = Pass.FIRST if source.again else Pass.ALL
        reader = EveLog if self.kind is Kind.SURICATA else ZeekLog
        file = _File(source, reader(self.gathered, len(self.files), which))
        before = self.gathered.begins, self.gathered.ends
        self.gathered.begins = self.gathered.ends = None
        self._read(file)
        file.first, file.last = self.gathered.begins, self.gathered.ends
        for at in before:
            if at is not None:
                self.gathered.saw(at)
        if file.problem:
            self.unusable.append((source.label, file.problem))
        else:
            self.files.append(file)

    def addresses(self, names: Iterable[str]) -> None:
        """Read once more what was asked for addresses of KMS hosts, and of these names."""
        wanted = self.gathered.wanted(names)
        for file in self.files:
            if file.log.which is Pass.FIRST and file.log.names & _DNS and not self.interrupted:
                file.log.which, file.log.wanted = Pass.ADDRESSES, wanted
                self._read(file)

    def _read(self, file: _File) -> None:
        reading = Reading(file.source)
        try:
            for first, piece in lines(reading):
                file.log.feed(first, piece)
                if self._progress is not None:
                    self._progress(self._done + reading.done, self._whole)
        except KeyboardInterrupt:
            self.interrupted = True
        except OSError as error:
            file.problem = f"it can't be read: {error.strerror or error}"
        self._done += file.source.size
        file.notes = tuple(dict.fromkeys((*file.notes, *reading.notes)))


_DNS: Final = frozenset({"dns"})


def analyse_logs(
    sources: Sequence[Source],
    selection: Selection | None = None,
    *,
    want: Want = Want.ANSWER,
    show: bool = False,
    progress: Progress | None = None,
) -> Analysis:
    """Read logs of one program (at least one file) and say what they show; their order doesn't matter.

    ``show`` keeps all conversations, as ``Want.CONVERSATIONS`` does. What can't be read is in ``Analysis.unusable``.
    """
    chooser = Chooser(selection)
    run = _Run(sources, progress)
    run.addresses(chooser.names)
    everything = bool(want & Want.CONVERSATIONS) or show
    answer, conversations = _answer(run, chooser, everything=everything)
    return Analysis(
        answer=answer,
        captures=tuple(describe(file.source) for file in run.files),
        conversations=conversations,
        unusable=tuple(run.unusable),
        interrupted=run.interrupted,
    )


def _arranged(sources: Iterable[Source]) -> list[Source]:
    """DCE/RPC first: it says which connections on other ports are about KMS. Numbers in names count as numbers."""
    return sorted(sources, key=lambda source: ("dce_rpc" not in source.format.name, _natural(source.path)))


def _natural(path: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"([0-9]+)", path)]


def _notes(file: _File, *, last_of_all: bool) -> tuple[str, ...]:
    """What is to say about a file; ``last_of_all``: reading ended there, and before its time."""
    notes = [file.log.troubles.note, *file.notes]
    if isinstance(file.log, ZeekLog) and file.log.srv:
        notes.append(SRV_NOTE)
    if last_of_all:
        notes.append("reading was interrupted: what comes after is missing")
    return tuple(note for note in notes if note)


def _answer(run: _Run, chooser: Chooser, *, everything: bool) -> tuple[CaptureAnswer, tuple[Conversation, ...]]:
    gathered, program = run.gathered, PROGRAMS[run.kind]
    begins, ends = gathered.begins or 0, gathered.ends or 0
    digest = _digest(gathered, chooser, ends, program, everything=everything)
    transactions = ports_used(list(without_truncated(list(gathered.lookups.transactions(ends)))), _ports(digest))
    if chooser.names:
        every = LoggedDiscovery(transactions, 0, has_dns=True, chosen=(), flows=False)
        chooser = chooser.resolved(every.addresses)
        digest.drop(~chooser.mask(digest.rows()), numbered=True)
    chosen = tuple(one for one in transactions if is_chosen(one, chooser))
    has_dns = gathered.lookups.messages > 0
    discovery = LoggedDiscovery(transactions, begins // 1000, has_dns=has_dns, chosen=chosen, flows=gathered.flows)
    tables = tabulate(digest, discovery, ends // 1000)
    hosts = {host.address for host in tables.hosts}
    numbers = _Numbers(digest, discovery)
    examples = [one for own in digest.examples.values() for one in own.values()]
    limits = () if tables.all_listed else (CLIENTS_LIMIT,)
    answer = CaptureAnswer(
        at=EPOCH if gathered.begins is None else moment(begins // 1000),
        elapsed_ms=max(0.0, round((ends - begins) / 1e6, 3)),
        files=tuple(_facts(file, program, interrupted=run.interrupted and file is run.files[-1]) for file in run.files),
        conversations=len(digest.rows()),
        exchanges=sum(host.exchanges for host in tables.hosts),
        outcomes=tables.outcomes,
        hosts=tables.hosts,
        clients=tables.clients,
        lookups=summarise(chosen, hosts, frame_of),
        examples=numbers.given(examples),
        quality=Quality(dns_packets=gathered.lookups.messages, conversations_lacking=tables.lacking, limits_hit=limits),
        source=run.kind.value,
    )
    return answer, numbers.given(digest.kept.values()) if everything else ()


def _digest(gathered: Gathered, chooser: Chooser, ends: int, program: str, *, everything: bool) -> Digest:
    digest = Digest(chooser.before_names(), everything=everything)
    links = sorted((link for link in gathered.connections.values() if link.kms), key=lambda link: link.first)
    gathered.connections.clear()
    for start in range(0, len(links), _BATCH):
        _add(digest, [(link, judge(link, ends, program)) for link in links[start : start + _BATCH]])
    return digest


_BATCH: Final = 20_000


def _add(digest: Digest, judged: Sequence[tuple[Connection, Verdict]]) -> None:
    """Add connections as rows, and those as a whole that are wanted so."""
    rows, exchanges = [], []
    for link, verdict in judged:
        row, own = rows_of(link, verdict)
        rows.append(row)
        exchanges += own
    table = np.array(rows, ROW)
    accepted = np.flatnonzero(digest.add_rows(table, np.array(exchanges, EXCHANGE)))
    for index in digest.wanted(pick(table, accepted)):
        link, verdict = judged[accepted[index]]
        digest.keep(conversation_of(link, verdict))


def _ports(digest: Digest) -> dict[str, set[int]]:
    """The ports on which hosts, by address, were contacted."""
    rows = digest.rows()
    used: dict[str, set[int]] = {}
    ends = np.unique(rows[["host_hi", "host_lo", "host_port"]])
    for high, low, port in ends.tolist():
        used.setdefault(address_text(high, low), set()).add(port)
    return used


class _Numbers:
    """Gives conversations their numbers, and how their hosts were found."""

    def __init__(self, digest: Digest, discovery: LoggedDiscovery) -> None:
        self._first_frames = digest.first_frames()
        self._discovery = discovery

    def given(self, conversations: Iterable[Conversation]) -> tuple[Conversation, ...]:
        """The same, complete and sorted by number."""
        complete = [
            msgspec.structs.replace(
                one,
                number=int(np.searchsorted(self._first_frames, ref_of(one.first.file, one.first.number))) + 1,
                found_by=self._discovery.found_by(one.client, one.host, one.host_port, microseconds(one.started)),
            )
            for one in conversations
        ]
        return tuple(sorted(complete, key=lambda one: one.number))


def _facts(file: _File, program: str, *, interrupted: bool) -> FileFacts:
    log = file.log
    names = [name for name in _LISTED if name in log.names]
    kind = "EVE" if isinstance(log, EveLog) else " and ".join(f"{name}.log" for name in names) or "log"
    return FileFacts(
        label=file.source.label,
        format=f"{program} {kind}",
        size=file.source.size,
        packets=log.total,
        kept=log.used,
        first=None if file.first is None else moment(file.first // 1000),
        last=None if file.last is None else moment(file.last // 1000),
        notes=_notes(file, last_of_all=interrupted),
        damaged=log.troubles.count > 0 or bool(file.notes) or bool(file.problem),
    )
