"""One pass over one part of the input: a file, or a stretch of a large one.

``scan_part`` is what every executor runs: its argument and its result are values that can be sent to another process.
What touches the edges of the part, and so may belong to connections of its neighbours, is in the result as packets.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmsdiag.capture.digest import Digest
from kmsdiag.capture.flows import Flows, Loose, keys_of
from kmsdiag.capture.lookups import Lookups
from kmsdiag.capture.packets import PACKET, Packets, address_words, compact, from_segments, joined
from kmsdiag.capture.pieces import Pieces
from kmsdiag.capture.selection import Chooser
from kmsdiag.capture.walk import Walker
from kmsdiag.sources.captures import CapturePart
from kmsdiag.sources.files import Source
from kmsdiag.wire.batch import WHOLE, Batch, CaptureError, Facts, Part
from kmsdiag.wire.columns import DNS_PORT, INTERFACE, UDP, Columns, Filter, select
from kmsdiag.wire.frames import RawFrame, ref_of
from kmsdiag.wire.layers import Datagram, IcmpError, Segment
from kmsdiag.wire.streams import KMS_PORTS

Service = tuple[int, int, int]
"""Address (as words) and port of a host that KMS is spoken to on another port than 1688."""

Progress = Callable[[int], None]
"""Called with the bytes (on disk) read since the last time."""

MOST_COLLECTED: Final = 1_000_000
"""Packets that are collected of one part."""

_TCP: Final = 6

MOST_SERVICES: Final = 64
"""Services on other ports that are followed."""


class Task(NamedTuple):
    """What to do: a part of a source, and its ``place`` among all parts.

    ``head`` and ``tail``: other parts may come before, or after it. ``aside`` are keys of connections to leave loose.
    With ``services``, only connections of these are looked at (a second pass); DNS and the KMS port were before. With
    ``collected``, nothing is judged: the packets of connections with these keys, on the KMS port and of the services in
    ``also``, are all in ``Scanned.loose``.
    """

    source: Source
    place: int
    part: Part = WHOLE
    head: bool = True
    tail: bool = True
    chooser: Chooser = Chooser()
    services: frozenset[Service] = frozenset()
    aside: tuple[int, ...] = ()
    collected: tuple[int, ...] = ()
    also: frozenset[Service] = frozenset()
    sought: frozenset[int] = frozenset()
    everything: bool = False
    framed: bool = False
    fast: bool = True

    @property
    def size(self) -> int:
        """Bytes on disk that the part has, about."""
        stop = self.source.size if self.part.stop is None else self.part.stop
        return max(0, stop - self.part.start)


class Scanned(NamedTuple):
    """What came of it. ``facts`` is None where nothing could be read, and ``problem`` says why then.

    ``services`` are those met that KMS was spoken to on another port; ``late`` counts their connections that were
    followed from their bind on alone. ``companions`` are the frame that made a fragmented packet whole, and those of
    all its fragments; ``unfinished`` are the frames of packets that are not whole. ``unread`` counts frames that gave
    nothing, by reason; ``backwards`` records whose time is before that of the one before.
    """

    facts: Facts | None
    problem: str
    digest: Digest
    lookups: Lookups
    loose: Loose
    services: frozenset[Service]
    frames: NDArray[np.int64]
    companions: tuple[tuple[int, tuple[int, ...]], ...] = ()
    unfinished: tuple[tuple[RawFrame, ...], ...] = ()
    interrupted: bool = False
    kept: int = 0
    dns: int = 0
    cut: int = 0
    late: int = 0
    backwards: int = 0
    fragments_missing: int = 0
    copies: int = 0
    limits: bool = False
    unread: tuple[tuple[str, int], ...] = ()


def scan_part(task: Task, progress: Progress | None = None) -> Scanned:
    """Read a part to its end, to damage, or to Ctrl-C."""
    reading = CapturePart(task.source, task.part, ahead=True)
    scan = _Scan(task)
    problem = ""
    interrupted = False
    done = 0
    try:
        for batch in reading:
            scan.take(batch, reading.reader.links)
            if progress is not None:
                progress(reading.done - done)
                done = reading.done
    except KeyboardInterrupt:
        interrupted = True
    except CaptureError as error:
        problem = str(error)
    except OSError as error:
        problem = f"reading failed: {error.strerror or error}"
    try:
        facts: Facts | None = reading.facts
    except CaptureError:
        facts = None
    return scan.finish(facts, problem)._replace(interrupted=interrupted)


class _Scan:
    """The state of a pass."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.flows = Flows(head=task.head, tail=task.tail, aside=task.aside)
        self.digest = Digest(task.chooser, sought=task.sought, everything=task.everything)
        self.lookups = Lookups()
        self.services = set(task.services)
        self.ports = {*KMS_PORTS, *(port for _high, _low, port in (*task.services, *task.also))}
        self.walker = Walker(
            self.flows, self.digest, self.lookups, ports=self.ports, fast=task.fast, framed=task.framed
        )
        self.pieces = Pieces()
        self.unread: Counter[str] = Counter()
        self.frames: list[NDArray[np.int64]] = []
        self.kept = self.dns = self.cut = self.late = self.backwards = 0
        self.filter = self._filter()
        self.before = 0
        self.collected = np.array(task.collected, np.uint64)
        self.hoard: list[Packets] = []
        self.full = False

    def _filter(self) -> Filter:
        if self.task.services:
            return Filter({port for _high, _low, port in self.services})
        return Filter(self.ports)

    def take(self, batch: Batch, links: Sequence[int]) -> None:
        """Take the records of one batch."""
        if not len(batch.at):
            return
        self._tell_time(batch.at)
        chosen = select(batch, links, self.filter)
        exact = self._dissect(batch, chosen.odd, links)
        met = self._met(chosen.plain, exact)
        if met - self.services:
            self._follow(met)
            if not self.task.source.again:
                # It can't be read again: what follows the bind, in this batch too, is all that there will be.
                chosen = select(batch, links, self.filter)
        self.unread.update(chosen.unread)
        self._sort(batch, chosen.plain, exact)

    def _tell_time(self, at: NDArray[np.int64]) -> None:
        self.flows.begin(int(at[0]))
        self.backwards += int(np.count_nonzero(np.diff(at, prepend=max(self.before, int(at[0]))) < 0))
        self.before = int(at[-1])

    def _dissect(
        self, batch: Batch, odd: NDArray[np.int64], links: Sequence[int]
    ) -> list[Segment | Datagram | IcmpError]:
        """What the exact path makes of odd frames, as far as it can matter."""
        found: list[Segment | Datagram | IcmpError] = []
        for frame in batch.frames(odd.tolist(), self.task.place, links):
            packet = self.pieces.take(frame, self.unread)
            if packet is not None:
                found.append(packet)
        return found

    def _met(self, plain: Columns, exact: Iterable[Segment | Datagram | IcmpError]) -> set[Service]:
        """Hosts on other ports whose KMS interface somebody asks for."""
        met = set()
        which = plain.binds
        for high, low, port in zip(
            plain.dst_hi[which].tolist(), plain.dst_lo[which].tolist(), plain.dport[which].tolist(), strict=True
        ):
            met.add((high, low, port))
        for packet in exact:
            if isinstance(packet, Segment) and not {packet.sport, packet.dport} & self.ports and opens_kms(packet):
                met.add((*address_words(packet.dst), packet.dport))
        return met

    def _follow(self, met: set[Service]) -> None:
        """Remember services; with a source that can't be read again, follow them from now on."""
        new = sorted(met - self.services)[: max(0, MOST_SERVICES - len(self.services))]
        self.services.update(new)
        if not self.task.source.again:
            self.late += len(new)
            self.ports.update(port for _high, _low, port in new)
            self.filter = Filter(self.ports)

    def _sort(self, batch: Batch, plain: Columns, exact: list[Segment | Datagram | IcmpError]) -> None:
        """Hand packets to those who want them."""
        udp = plain.protocol == UDP
        tcp = self._segments(batch, plain, ~udp & ~plain.binds)
        datagrams = [] if self.task.services else self._datagrams(batch, plain, udp)
        segments = []
        errors = []
        for packet in exact:
            if isinstance(packet, IcmpError):
                errors.append(packet)
            elif isinstance(packet, Datagram):
                datagrams.append(packet)
            elif self._matters(packet):
                segments.append(packet)
        if segments:
            both = joined([tcp, from_segments(segments)])
            tcp = both.take(np.argsort(both.table["ref"], kind="stable"))
        self._hear(datagrams, errors)
        table = tcp.table
        self.kept += len(table) + len(datagrams) + len(errors)
        self.dns += int(np.count_nonzero((table["sport"] == DNS_PORT) | (table["dport"] == DNS_PORT)))
        self.cut += int(np.count_nonzero(table["captured"] < table["length"]))
        # The whole chunk is not copied for the sake of a few packets.
        if self.task.collected:
            self._collect(tcp)
            return
        few = len(table) * 4 < len(batch.at)
        self.flows.tick(int(batch.at.max()))
        self.walker.take(self.flows.feed(compact(tcp) if few else tcp, borrowed=not few))

    def _collect(self, packets: Packets) -> None:
        wanted = packets.take(np.isin(keys_of(packets.table), self.collected))
        room = MOST_COLLECTED - sum(one.size for one in self.hoard)
        self.full = self.full or wanted.size > room
        self.hoard.append(compact(wanted.take(np.arange(min(wanted.size, room)))))

    def _hear(self, datagrams: list[Datagram], errors: list[IcmpError]) -> None:
        if not self.task.services:
            for one in datagrams:
                self.lookups.feed(one)
            for error in errors:
                self.lookups.feed_icmp(error)
            self.dns += sum(DNS_PORT in (one.sport, one.dport) for one in datagrams)
        self.flows.feed_icmp(one for one in errors if one.protocol == _TCP and one.dport in self.ports)

    def _matters(self, segment: Segment) -> bool:
        ports = {segment.sport, segment.dport}
        if self.task.services:
            ends = ((*address_words(segment.src), segment.sport), (*address_words(segment.dst), segment.dport))
            return any(end in self.services for end in ends)
        return bool(ports & self.ports) or DNS_PORT in ports

    def _segments(self, batch: Batch, plain: Columns, which: NDArray[np.bool_]) -> Packets:
        if self.task.services:
            which &= _any_end(plain, self.services)
        rows = np.flatnonzero(which)
        table = np.empty(len(rows), PACKET)
        index = plain.index[rows]
        table["ref"] = index + ref_of(self.task.place, batch.first)
        table["at"] = batch.at[index]
        for name in ("src_hi", "src_lo", "dst_hi", "dst_lo", "sport", "dport", "seq", "ack", "flags", "ip_id"):
            table[name] = getattr(plain, name)[rows]
        for name in ("start", "length", "captured"):
            table[name] = getattr(plain, name)[rows]
        return Packets(table, batch.data)

    def _datagrams(self, batch: Batch, plain: Columns, udp: NDArray[np.bool_]) -> list[Datagram]:
        packets = self._segments(batch, plain, udp)
        return [
            Datagram(one.ref, one.at, one.src, one.sport, one.dst, one.dport, one.payload, one.length)
            for one in packets.segments(np.arange(packets.size))
        ]

    def finish(self, facts: Facts | None, problem: str) -> Scanned:
        """At the end of the part."""
        ended, loose = self.flows.finish()
        self.walker.take(ended)
        if self.hoard:
            loose = loose._replace(packets=joined(self.hoard))
        return Scanned(
            facts=facts,
            problem=problem,
            digest=self.digest,
            lookups=self.lookups,
            loose=loose,
            services=frozenset(self.services),
            frames=np.concatenate(self.walker.frames) if self.walker.frames else np.empty(0, np.int64),
            companions=tuple(self.pieces.companions),
            unfinished=self.pieces.left() if self.task.head or self.task.tail else (),
            kept=self.kept,
            dns=self.dns,
            cut=self.cut,
            late=self.late,
            backwards=self.backwards,
            fragments_missing=self.pieces.missing,
            unread=tuple(sorted(self.unread.items())),
            copies=self.walker.copies,
            limits=self.flows.limits_hit or self.full,
        )


def opens_kms(segment: Segment) -> bool:
    """Whether a segment begins with a bind, or alter_context, of the KMS interface."""
    head = segment.payload
    return (
        head[:1] == b"\x05"
        and head[1:2] in (b"\0", b"\1")
        and head[2:3] in (b"\x0b", b"\x0e")
        and (any(uuid in head for uuid in INTERFACE))
    )


def _any_end(plain: Columns, services: Iterable[Service]) -> NDArray[np.bool_]:
    """Packets from or to a service."""
    found = np.zeros(len(plain.index), np.bool_)
    for high, low, port in services:
        found |= (plain.sport == port) & (plain.src_hi == high) & (plain.src_lo == low)
        found |= (plain.dport == port) & (plain.dst_hi == high) & (plain.dst_lo == low)
    return found
