"""What the parts of all files found, put together to one answer."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kmsdiag.capture.digest import CODE, EPOCH, Digest, microseconds, moment
from kmsdiag.capture.files import File
from kmsdiag.capture.flows import Flows
from kmsdiag.capture.found import Discovery
from kmsdiag.capture.lookups import Lookups, Transaction, summarise
from kmsdiag.capture.packets import Mask, Packets, address_text, from_segments
from kmsdiag.capture.packets import joined as joined_packets
from kmsdiag.capture.parts import Scanned, Service
from kmsdiag.capture.pieces import Pieces
from kmsdiag.capture.rows import pick
from kmsdiag.capture.selection import Chooser
from kmsdiag.capture.tables import CLIENTS, Tables, tabulate
from kmsdiag.capture.walk import Walker
from kmsdiag.model.capture import (
    CaptureAnswer,
    CapturedClient,
    Channel,
    Conversation,
    FileFacts,
    FoundBy,
    Frame,
    Interface,
    PairedPath,
    Quality,
)
from kmsdiag.model.outcome import ConversationOutcome
from kmsdiag.wire.columns import DNS_PORT
from kmsdiag.wire.frames import PART_SHIFT, number_of, part_of, ref_of
from kmsdiag.wire.layers import Datagram, Segment
from kmsdiag.wire.streams import KMS_PORTS

_UNSPOKEN: Final = np.array(
    [
        CODE[outcome]
        for outcome in (
            ConversationOutcome.UNANSWERED,
            ConversationOutcome.REFUSED,
            ConversationOutcome.UNREACHABLE,
            ConversationOutcome.HANDSHAKE_FAILED,
            ConversationOutcome.CONNECT_ONLY,
            ConversationOutcome.CLOSED_EARLY,
        )
    ]
)
_LINK: Final = "link type "


class Joined(NamedTuple):
    """Everything that was found, with frames named by file and number.

    ``transactions`` are of DNS, each once though several taps may have seen it. ``doubled`` are rows of the digest that
    another tap shows as well. ``begins`` and ``ends`` are the times of the first and last packet, in ns since 1970.
    """

    digest: Digest
    transactions: tuple[Transaction, ...]
    discovery: Discovery
    frames: NDArray[np.int64]
    doubled: Mask
    begins: int
    ends: int
    copies: int
    fragments_missing: int
    limits: bool


def join(
    files: Sequence[File],
    further: Sequence[File],
    chooser: Chooser,
    *,
    services: Collection[Service] = (),
    fast: bool = True,
    framed: bool = False,
    everything: bool = False,
    sought: frozenset[int] = frozenset(),
) -> Joined:
    """Put the pieces together. ``further`` are the same files, in the same order, as a second pass saw them."""
    begins = min((file.facts.first for file in files if file.facts.first is not None), default=0)
    ends = max((file.facts.last for file in files if file.facts.last is not None), default=0)
    digest = Digest(chooser.before_names(), sought=sought, everything=everything)
    ports = {*KMS_PORTS, *(port for _high, _low, port in services)}
    taps = {file.tap: _Tap(digest, ports, fast=fast, framed=framed) for file in files}
    for place, (file, other) in enumerate(zip(files, further or files, strict=True)):
        taps[file.tap].add(file, other if further else None, place)
    every: dict[tuple[Channel, str, str, str], list[Transaction]] = {}
    for tap in taps.values():
        # What several taps saw counts once.
        every = tap.close() | every
    transactions = [one for group in every.values() for one in group]
    if chooser.names:
        chooser = chooser.resolved(Discovery(transactions, 0, has_dns=True).addresses)
        digest.drop(~chooser.mask(digest.rows()), numbered=True)
    chosen = tuple(one for one in transactions if _is_chosen(one, chooser))
    has_dns = any(tap.lookups.messages for tap in taps.values())
    discovery = Discovery(transactions, begins // 1000, has_dns=has_dns, chosen=chosen)
    _drop_unconfirmed(digest, discovery)
    return Joined(
        digest=digest,
        transactions=chosen,
        discovery=discovery,
        frames=_frames(taps.values(), chosen) if framed else np.empty(0, np.int64),
        doubled=doubles(digest.rows(), [file.tap for file in files]),
        begins=begins,
        ends=ends,
        copies=sum(tap.walker.copies for tap in taps.values()),
        fragments_missing=sum(tap.fragments_missing for tap in taps.values()),
        limits=any(tap.walker.flows.limits_hit for tap in taps.values()),
    )


class _Tap:
    """What the files of one tap hold, added file by file in their order.

    ``frames`` are those of conversations; ``companions`` the other frames of fragmented packets, by the last one's.
    """

    def __init__(self, digest: Digest, ports: Collection[int], *, fast: bool, framed: bool) -> None:
        self.lookups = Lookups()
        self.walker = Walker(Flows(), digest, self.lookups, ports=ports, fast=fast, framed=framed)
        self.frames: list[NDArray[np.int64]] = []
        self.companions: dict[int, tuple[int, ...]] = {}
        self.fragments_missing = 0
        self._pieces = Pieces()
        self._last = 0

    def add(self, file: File, other: File | None, place: int) -> None:
        """Add a file, and the same one as a second pass saw it."""
        self._last = max(self._last, file.facts.last or 0)
        further = [None] * len(file.pieces) if other is None else other.pieces
        for first, second in zip(file.pieces, further, strict=True):
            shift = file.shift(first, place)
            finished = self._finish_packets(first.scanned, shift)
            self._add(first.scanned, shift, finished)
            if second is not None:
                self._add(second.scanned, shift)
                self.walker.flows.forget(second.scanned.loose)
            self.walker.flows.forget(first.scanned.loose)

    def _add(self, scanned: Scanned, shift: int, finished: Sequence[Segment] = ()) -> None:
        """Add what is finished as it is, and what is loose to what was loose before."""
        self.walker.digest.merge(scanned.digest.moved(shift))
        self.lookups.merge(scanned.lookups.moved(shift.__add__))
        self.frames.append(scanned.frames + shift)
        self.companions |= {ref + shift: tuple(one + shift for one in refs) for ref, refs in scanned.companions}
        loose = scanned.loose
        self.walker.flows.feed_icmp(error._replace(ref=error.ref + shift) for error in loose.icmp)
        table = loose.packets.table.copy()
        table["ref"] += shift
        packets = Packets(table, loose.packets.blob)
        if finished:
            packets = joined_packets([packets, from_segments(finished)])
            packets = packets.take(np.argsort(packets.table["ref"], kind="stable"))
        self.walker.take(self.walker.flows.feed(packets, borrowed=False))

    def _finish_packets(self, scanned: Scanned, shift: int) -> list[Segment]:
        """TCP that a part's fragments make whole, with those of the parts before; other packets are handed on."""
        self.fragments_missing += scanned.fragments_missing - len(scanned.unfinished)
        segments = []
        for frame in sorted(frame for packet in scanned.unfinished for frame in packet):
            packet = self._pieces.take(frame._replace(ref=frame.ref + shift), Counter())
            if isinstance(packet, Segment):
                if packet.dport in self._ports() or packet.sport in self._ports():
                    segments.append(packet)
            elif isinstance(packet, Datagram):
                self.lookups.feed(packet)
            elif packet is not None:
                self.lookups.feed_icmp(packet)
                self.walker.flows.feed_icmp([packet])
        return segments

    def _ports(self) -> Collection[int]:
        return {*self.walker.ports, DNS_PORT}

    def close(self) -> dict[tuple[Channel, str, str, str], list[Transaction]]:
        """Judge what is left; the lookups by channel, client, name and type."""
        self.walker.flows.tick(self._last)
        ended, _loose = self.walker.flows.finish()
        self.walker.take(ended)
        self.frames += self.walker.frames
        self.companions |= dict(self._pieces.companions)
        self.fragments_missing += self._pieces.missing
        found: dict[tuple[Channel, str, str, str], list[Transaction]] = {}
        for one in self.lookups.transactions(self._last):
            found.setdefault((one.key.channel, one.key.client, one.key.name, one.key.kind), []).append(one)
        return found


def _is_chosen(one: Transaction, chooser: Chooser) -> bool:
    """Whether a lookup counts: by who asked, and when."""
    at = one.asked or one.answered
    return chooser.accepts_client(one.key.client) and (at is None or chooser.since <= at[1] // 1000 <= chooser.until)


def _frames(taps: Collection[_Tap], transactions: Sequence[Transaction]) -> NDArray[np.int64]:
    """Frames of conversations, and of lookups about KMS: its SRV records, and addresses of their targets."""
    targets = {record.target for one in transactions for record in one.records}
    chosen = [one for one in transactions if one.key.kind == "SRV" or one.key.name in targets]
    refs = {one.icmp_ref for one in chosen if one.icmp_ref is not None}
    for tap in taps:
        refs.update(*(part.tolist() for part in tap.frames), tap.lookups.frames({one.key for one in chosen}))
        refs.update(*(tap.companions[ref] for ref in refs & tap.companions.keys()))
    return np.array(sorted(refs), np.int64)


def published_services(files: Sequence[File]) -> tuple[tuple[str, int], ...]:
    """Addresses and ports that SRV answers in the files name."""
    lookups = Lookups()
    for file in files:
        for piece in file.pieces:
            lookups.merge(piece.scanned.lookups)
    return Discovery(lookups.transactions(0), 0, has_dns=True).services()


def _drop_unconfirmed(digest: Digest, discovery: Discovery) -> None:
    """On other ports, connections without a word count only where the host was seen to speak KMS, or is published."""
    rows = digest.rows()
    doubtful = np.isin(rows["outcome"], _UNSPOKEN) & ~np.isin(rows["host_port"], list(KMS_PORTS))
    if not doubtful.any():
        return
    spoken = pick(rows, rows["speaks"])
    confirmed = set(zip(*(spoken[name].tolist() for name in ("host_hi", "host_lo", "host_port")), strict=True))
    drop = np.zeros(len(rows), np.bool_)
    for index in np.flatnonzero(doubtful).tolist():
        high, low, port = (int(rows[name][index]) for name in ("host_hi", "host_lo", "host_port"))
        published = discovery.published(address_text(high, low), port)
        drop[index] = (high, low, port) not in confirmed and not published
    digest.drop(drop, numbered=False)


# ------------------------------------------------------------------------------------------------- several taps


def doubles(rows: NDArray[np.void], tap_of_file: Sequence[int]) -> Mask:
    """Conversations that another tap shows as well: of each, all but one.

    The one that counts is that of the first tap which knows how it ended. Conversations are the same where endpoints
    and the client's initial number are, or (behind address translation) the initial numbers of both sides.
    """
    doubled = np.zeros(len(rows), np.bool_)
    if len(set(tap_of_file)) < 2 or not len(rows):
        return doubled
    tap = np.array(tap_of_file)[rows["ref"] >> PART_SHIFT]
    unknown = rows["outcome"] == CODE[ConversationOutcome.NOT_KNOWN]
    ends = ("client_hi", "client_lo", "client_port", "host_hi", "host_lo", "host_port", "isn_client")
    for names, known in (
        (ends, rows["isn_client"] >= 0),
        (("isn_client", "isn_host"), (rows["isn_client"] >= 0) & (rows["isn_host"] >= 0)),
    ):
        which = np.flatnonzero(known & ~doubled)
        # The last key of lexsort is the first one that counts.
        order = which[np.lexsort((tap[which], unknown[which], *(rows[name][which] for name in names)))]
        if len(order) < 2:
            continue
        new = np.ones(len(order), np.bool_)
        new[1:] = np.any([rows[name][order][1:] != rows[name][order][:-1] for name in names], axis=0)
        first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
        doubled[order[tap[order] != tap[order][first]]] = True
    return doubled


# ------------------------------------------------------------------------------------------------- the answer


def answer_of(
    files: Sequence[File], further: Sequence[File], joined: Joined, pairs: tuple[PairedPath, ...] = ()
) -> CaptureAnswer:
    """The answer to a run's question about its captures."""
    digest, discovery = joined.digest, joined.discovery
    tables = tabulate(digest, discovery, joined.ends // 1000, joined.doubled)
    hosts = {host.address for host in tables.hosts}
    examples = [one for known in digest.examples.values() for one in known.values()]
    doubled = set(digest.rows()["ref"][joined.doubled].tolist())
    return CaptureAnswer(
        at=moment(joined.begins // 1000) if joined.begins else EPOCH,
        elapsed_ms=round((joined.ends - joined.begins) / 1e6, 3),
        files=tuple(_facts(file, other) for file, other in zip(files, further or files, strict=True)),
        conversations=int(np.count_nonzero(~joined.doubled)),
        exchanges=sum(host.exchanges for host in tables.hosts),
        outcomes=tables.outcomes,
        hosts=tables.hosts,
        clients=tables.clients,
        lookups=summarise(joined.transactions, hosts, frame),
        examples=numbered(examples, files, joined, found_by(tables.clients, examples), doubled),
        quality=_quality(files, further, joined, tables),
        pairs=pairs,
    )


def frame(ref: int) -> Frame:
    """A frame by its ref."""
    return Frame(part_of(ref), number_of(ref))


def found_by(
    clients: Sequence[CapturedClient], conversations: Iterable[Conversation]
) -> dict[tuple[str, str, int], FoundBy]:
    """How the clients (by address) of these conversations found their hosts (by address and port)."""
    wanted = {one.client for one in conversations}
    return {
        (client.address, use.address, use.port): use.found_by
        for client in clients
        if client.address in wanted
        for use in client.uses
    }


def numbered(
    conversations: Collection[Conversation],
    files: Sequence[File],
    joined: Joined,
    found: Mapping[tuple[str, str, int], FoundBy],
    without: Collection[int] = (),
) -> tuple[Conversation, ...]:
    """Conversations with their numbers, taps and how their hosts were found; ``without`` those of these refs."""
    first_frames = joined.digest.first_frames()
    complete = []
    for one in conversations:
        ref = ref_of(one.first.file, one.first.number)
        if ref in without:
            continue
        how = found.get((one.client, one.host, one.host_port))
        if how is None:  # seen at a tap whose conversations count elsewhere
            how = joined.discovery.found_by(one.client, one.host, one.host_port, microseconds(one.started))
        number = int(np.searchsorted(first_frames, ref)) + 1
        complete.append(msgspec.structs.replace(one, number=number, tap=files[one.first.file].tap, found_by=how))
    return tuple(sorted(complete, key=lambda one: one.number))


def _facts(file: File, other: File) -> FileFacts:
    facts = file.facts
    scans = [piece.scanned for piece in file.pieces]
    more = [piece.scanned for piece in other.pieces] if other is not file else []
    problems = tuple(scan.problem for scan in scans if scan.problem)
    interrupted = ("reading was interrupted: what comes after is missing",) if scans[-1].interrupted else ()
    return FileFacts(
        label=file.source.label,
        format=facts.state.format,
        size=file.source.size,
        packets=facts.packets,
        kept=sum(scan.kept for scan in (*scans, *more)),
        tap=file.tap,
        first=None if facts.first is None else moment(facts.first // 1000),
        last=None if facts.last is None else moment(facts.last // 1000),
        interfaces=tuple(
            Interface(link=one.link, snap=one.snap, name=one.name, dropped=one.dropped)
            for one in facts.state.interfaces
        ),
        notes=(*facts.notes, *problems, *interrupted),
        damaged=facts.damaged or bool(problems),
    )


def _quality(files: Sequence[File], further: Sequence[File], joined: Joined, tables: Tables) -> Quality:
    scans = [piece.scanned for file in files for piece in file.pieces]
    both = [*scans, *(piece.scanned for file in further for piece in file.pieces)]
    unread: Counter[str] = Counter()
    for scan in scans:
        for why, count in scan.unread:
            unread[why] += count
    limits = []
    if joined.limits or any(scan.limits for scan in both):
        limits.append(
            "more open connections than are kept: those that were silent for longest were judged as they were"
        )
    if not tables.all_listed:
        limits.append(f"more than {CLIENTS:,} clients: the others count in the tables of hosts alone")
    return Quality(
        dns_packets=sum(scan.dns for scan in scans),
        cut_packets=sum(scan.cut for scan in both),
        duplicate_packets=joined.copies + sum(scan.copies for scan in both),
        fragments_missing=joined.fragments_missing,
        links_not_read={
            why.removeprefix(_LINK): count for why, count in sorted(unread.items()) if why.startswith(_LINK)
        },
        conversations_lacking=tables.lacking,
        clock_backwards=sum(scan.backwards for scan in scans),
        late_flows=sum(scan.late for scan in scans),
        limits_hit=tuple(limits),
    )
