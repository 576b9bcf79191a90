"""From logs of Zeek or Suricata to the answer that packet captures give, as far as such logs go.

All files are one run. Each is read once, line by line; what grows is what is known of KMS: about half a kilobyte a
connection until all files are read, and then what captures take.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from kmsdiag.capture.digest import EPOCH, Digest, microseconds, moment
from kmsdiag.capture.join import is_chosen
from kmsdiag.capture.lookups import summarise
from kmsdiag.capture.packets import address_text
from kmsdiag.capture.scan import Analysis, Progress, Want
from kmsdiag.capture.selection import Chooser
from kmsdiag.capture.tables import CLIENTS_LIMIT, tabulate
from kmsdiag.evidence.connections import in_order, judge
from kmsdiag.evidence.findings import Gathered, LoggedDiscovery, ports_used
from kmsdiag.evidence.lines import lines
from kmsdiag.evidence.suricata import EveLog
from kmsdiag.evidence.zeek import SRV_NOTE, ZeekLog, without_truncated
from kmsdiag.model.capture import CaptureAnswer, Conversation, FileFacts, Frame, Quality
from kmsdiag.model.target import Selection
from kmsdiag.sources.files import Reading, Source, describe
from kmsdiag.sources.recognise import Kind
from kmsdiag.wire.frames import number_of, part_of, ref_of

PROGRAMS: Final = {Kind.ZEEK: "Zeek", Kind.SURICATA: "Suricata"}
"""Whose logs are read here."""

_LISTED: Final = ("dce_rpc", "conn", "dns", "dcerpc", "flow")


class _File(NamedTuple):
    """One log as it was read; times in ns since 1970, None where it holds none that counts."""

    source: Source
    log: ZeekLog | EveLog
    first: int | None
    last: int | None
    notes: tuple[str, ...]


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
    kind = sources[0].format.kind
    gathered = Gathered()
    files: list[_File] = []
    unusable: list[tuple[str, str]] = []
    interrupted = False
    whole, done = sum(source.size for source in sources), 0
    for source in _arranged(sources):
        log = EveLog(gathered, len(files)) if kind is Kind.SURICATA else ZeekLog(gathered, len(files))
        before = gathered.begins, gathered.ends
        gathered.begins = gathered.ends = None
        reading = Reading(source)
        try:
            for first, piece in lines(reading):
                log.feed(first, piece)
                if progress is not None:
                    progress(done + reading.done, whole)
        except KeyboardInterrupt:
            interrupted = True
        except OSError as error:
            unusable.append((source.label, f"it can't be read: {error.strerror or error}"))
            gathered.begins, gathered.ends = before
            continue
        done += source.size
        files.append(_File(source, log, gathered.begins, gathered.ends, _notes(log, reading, interrupted=interrupted)))
        for at in before:
            if at is not None:
                gathered.saw(at)
        if interrupted:
            break
    every = bool(want & Want.CONVERSATIONS) or show
    answer, conversations = _answer(kind, files, gathered, Chooser(selection), everything=every)
    return Analysis(
        answer=answer,
        captures=tuple(describe(file.source) for file in files),
        conversations=conversations,
        unusable=tuple(unusable),
        interrupted=interrupted,
    )


def _arranged(sources: Iterable[Source]) -> list[Source]:
    """DCE/RPC first: it says which connections on other ports are about KMS. Numbers in names count as numbers."""
    return sorted(sources, key=lambda source: ("dce_rpc" not in source.format.name, _natural(source.path)))


def _natural(path: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"([0-9]+)", path)]


def _notes(log: ZeekLog | EveLog, reading: Reading, *, interrupted: bool) -> tuple[str, ...]:
    notes = [log.troubles.note, *reading.notes]
    if isinstance(log, ZeekLog) and log.srv:
        notes.append(SRV_NOTE)
    if interrupted:
        notes.append("reading was interrupted: what comes after is missing")
    return tuple(note for note in notes if note)


def _answer(
    kind: Kind, files: Sequence[_File], gathered: Gathered, chooser: Chooser, *, everything: bool
) -> tuple[CaptureAnswer, tuple[Conversation, ...]]:
    program = PROGRAMS[kind]
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
        files=tuple(_facts(file, program) for file in files),
        conversations=len(digest.rows()),
        exchanges=sum(host.exchanges for host in tables.hosts),
        outcomes=tables.outcomes,
        hosts=tables.hosts,
        clients=tables.clients,
        lookups=summarise(chosen, hosts, _frame),
        examples=numbers.given(examples),
        quality=Quality(dns_packets=gathered.lookups.messages, conversations_lacking=tables.lacking, limits_hit=limits),
        source=kind.value,
    )
    return answer, numbers.given(digest.kept.values()) if everything else ()


def _digest(gathered: Gathered, chooser: Chooser, ends: int, program: str, *, everything: bool) -> Digest:
    digest = Digest(chooser.before_names(), everything=everything)
    links = in_order(list(gathered.connections.values()))
    gathered.connections.clear()
    for link in links:
        conversation = judge(link, ends, program)
        if conversation is not None and digest.add(conversation) and digest.wants(conversation):
            digest.keep(conversation)
    return digest


def _ports(digest: Digest) -> dict[str, set[int]]:
    """The ports on which hosts, by address, were contacted."""
    rows = digest.rows()
    used: dict[str, set[int]] = {}
    ends = np.unique(rows[["host_hi", "host_lo", "host_port"]])
    for high, low, port in ends.tolist():
        used.setdefault(address_text(high, low), set()).add(port)
    return used


def _frame(ref: int) -> Frame:
    return Frame(part_of(ref), number_of(ref))


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


def _facts(file: _File, program: str) -> FileFacts:
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
        notes=file.notes,
        damaged=log.troubles.count > 0 or bool(file.notes and file.notes[0].startswith("the ")),
    )
