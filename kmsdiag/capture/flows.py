"""Segments grouped by connection, held until nothing more can come that matters, and handed on as a batch.

Grouping works on columns: what is pending and what is new are sorted by connection together, and each connection's
state is computed for all of them at once. A connection ends here

- when it is closed by FIN both ways, all of it acknowledged, and nothing is missing or doubled: at once;
- when a FIN each way or a RST was seen, after ``QUIET`` of capture time (``REFUSED`` where it never was open);
- when nothing was seen of it for ``IDLE``;
- when the limits are hit: those silent for longest first.

These rules speak of packets and their times alone, so that where a file was cut into parts makes no difference: what
touches the edge of a part is *loose*, and whoever joins the parts feeds it to a :class:`Flows` of its own. A connection
that was open and closed soon after a part's beginning is not set aside; only if a SYN of it turns up in an earlier part
(the first one of it was lost) has the part to be read once more, which ``Loose.early`` is there to find out.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmsdiag.capture.packets import ACK, FIN, PACKET, RST, SYN, Indices, Mask, Packets, address_words, compact, joined
from kmsdiag.capture.rows import pick
from kmsdiag.wire.layers import IcmpError

SECOND: Final = 1_000_000_000

QUIET: Final = SECOND
"""Capture time after which a connection that was open and closed is done."""

REFUSED: Final = 4 * SECOND
"""The same for one that was refused: its SYN is repeated after half a second, and within three it is one attempt
(:func:`kmsdiag.wire.streams.split_connections`)."""

IDLE: Final = 300 * SECOND
"""Capture time after which a silent connection is given up. KMS hosts hang up after 30 s."""

EDGE: Final = 20 * SECOND
"""What begins this soon after a part's start may be the rest of something: SYNs are repeated after 1, 2, 4, 8, 16 s."""

AFTERLIFE: Final = 60 * SECOND
"""Capture time for which segments of a connection that is done are known as its stragglers."""

SETTLE: Final = 40_000
"""Packets that are gathered before connections are looked at."""

APART: Final = SECOND * 2 // 5
"""What comes again after this is no copy."""

COPIED: Final = SECOND * 3 // 1000
"""What comes again within this is a copy (:mod:`kmsdiag.wire.streams`)."""

MOST_PACKETS: Final = 400_000
MOST_BYTES: Final = 64 << 20
"""What may be pending: beyond it, the connections that were silent for longest are ended."""

LONGEST: Final = 20_000
"""Packets of one connection that are kept; activations take ten, three hundred requests on one connection 611."""

Keys = NDArray[np.uint64]


class Ended(NamedTuple):
    """Connections that are done. The rows of ``packets`` are sorted by connection, then as they came.

    ``starts`` and ``counts`` say which rows each connection has. ``opened``: its first row is a bare SYN. ``regular``:
    it is opened, every byte was captured once and in order, and times never go back, so that ``from_client``,
    ``seq`` and ``ack`` (relative to the initial numbers, for each row) describe it fully. ``mixed``: rows of several
    connections, whose hashes are equal. ``copies`` are rows that a mirror port delivered a second time. ``until``: up
    to when, in ns, nothing more of it was seen.
    """

    packets: Packets
    starts: Indices
    counts: Indices
    keys: Keys
    opened: Mask
    regular: Mask
    mixed: Mask
    from_client: Mask
    seq: NDArray[np.uint32]
    ack: NDArray[np.uint32]
    copies: Mask
    until: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Number of connections."""
        return len(self.starts)


class Loose(NamedTuple):
    """What a part leaves to whoever joins the parts: open connections, those at its edges, and what is done since.

    ``early`` are the keys of connections that were ended though they began soon after the part did.
    """

    packets: Packets
    icmp: tuple[IcmpError, ...]
    early: Keys
    done: Keys
    done_at: NDArray[np.int64]


class Flows:
    """Connections of one part, or of a whole capture point.

    ``head`` and ``tail`` say whether something may have come before, or will come after, what is fed; ``aside`` are
    keys of connections that are left loose whatever becomes of them. ``icmp`` holds the ICMP errors by the key of the
    connection that they quote; whoever walks a connection takes its own out.
    """

    def __init__(self, *, head: bool = False, tail: bool = False, aside: Sequence[int] = ()) -> None:
        self.head = head
        self.tail = tail
        self.aside: Keys = np.array(aside, np.uint64)
        self.icmp: dict[int, list[IcmpError]] = {}
        self.limits_hit = False
        self.now = 0
        self._begins: int | None = None
        self._held: list[Packets] = []
        self._new = 0
        self._aside: list[Packets] = []
        self._early: list[Keys] = []
        self._done: Keys = np.empty(0, np.uint64)
        self._done_at: NDArray[np.int64] = np.empty(0, np.int64)

    def begin(self, at: int) -> None:
        """Say when the part begins, in ns."""
        if self._begins is None:
            self._begins = self.now = at

    def tick(self, now: int) -> None:
        """Say how far the capture has come, in ns."""
        self.now = max(self.now, now)

    def feed(self, packets: Packets, *, borrowed: bool = True) -> Ended | None:
        """Take segments in file order; give the connections that are done, when it is worth looking.

        ``borrowed`` bytes are copied before this returns.
        """
        if not packets.size:
            return None
        self.tick(int(packets.table["at"].max()))
        self._new += packets.size
        if self._new < SETTLE:
            self._held.append(compact(packets) if borrowed else packets)
            return None
        self._held.append(packets)
        return self._settle()

    def feed_icmp(self, errors: Iterable[IcmpError]) -> None:
        """Take ICMP errors that quote TCP."""
        for error in errors:
            self.icmp.setdefault(key_of(error.src, error.sport, error.dst, error.dport), []).append(error)

    def forget(self, loose: Loose) -> None:
        """Take over what an earlier part knows to be done, so that its stragglers are recognised."""
        self._done = np.concatenate([self._done, loose.done])
        self._done_at = np.concatenate([self._done_at, loose.done_at])

    def finish(self) -> tuple[Ended | None, Loose]:
        """At the end of the part: what is done, and what is loose (nothing where no part follows or came before)."""
        ended = self._settle(last=not self.tail)
        left = joined([*self._aside, *self._held]) if self._aside or self._held else joined([_NONE])
        left = left.take(np.argsort(left.table["ref"], kind="stable"))
        icmp = tuple(error for errors in self.icmp.values() for error in errors) if self.tail or self.head else ()
        early = np.concatenate(self._early) if self._early else np.empty(0, np.uint64)
        recent = self._done_at >= self.now - AFTERLIFE
        return ended, Loose(left, icmp, early, self._done[recent], self._done_at[recent])

    def _settle(self, *, last: bool = False) -> Ended | None:
        """Look at all connections; end those that are done, keep the others."""
        self._new = 0
        if not self._held:
            return None
        packets = joined(self._held) if len(self._held) > 1 else self._held[0]
        self._held = []
        survey = _survey(*self._without_stragglers(packets), self.now)
        if not survey.ended.size:
            return None
        ends = survey.done | last
        if not last:
            ends |= self._over_limits(survey, ends)
        aside = self._at_the_edge(survey, ends)
        self._remember(survey, ends)
        ended = survey.ended
        gid = np.repeat(np.arange(ended.size), ended.counts)
        stays = (~ends & ~aside)[gid]
        if stays.any():
            self._held = [compact(ended.packets.take(stays))]
        if aside.any():
            self._aside.append(compact(ended.packets.take(aside[gid])))
        return _only(ended, ends & ~aside, gid)

    def _without_stragglers(self, packets: Packets) -> tuple[Packets, Keys]:
        """Sort by connection; drop what still comes of connections that are done (no SYN before it). With its keys."""
        keys = keys_of(packets.table)
        order = _by_connection(keys)
        table, keys = pick(packets.table, order), keys[order]
        first = np.flatnonzero(np.diff(keys, prepend=keys[:1] + np.uint64(1)))
        bare = (table["flags"] & SYN) != 0
        suspects = first[~bare[first]]
        suspects = suspects[self._recent(keys[suspects], table["at"][suspects])]
        if len(suspects):
            counts = np.diff(first, append=len(keys))
            seen = np.cumsum(bare)
            opened = (seen - np.repeat(seen[first] - bare[first], counts)) > 0
            stays = opened | ~np.isin(keys, keys[suspects])
            table, keys = pick(table, stays), keys[stays]
        return Packets(table, packets.blob), keys

    def _recent(self, keys: Keys, at: NDArray[np.int64]) -> Mask:
        """Whether connections with these keys were done not long before these times."""
        recent = np.zeros(len(keys), np.bool_)
        known = np.isin(self._done, keys)
        if known.any():
            done, done_at = self._done[known], self._done_at[known]
            for index, (key, time) in enumerate(zip(keys.tolist(), at.tolist(), strict=True)):
                recent[index] = bool(np.any((done == key) & (done_at >= time - AFTERLIFE)))
        return recent

    def _over_limits(self, survey: "_Survey", ends: Mask) -> Mask:
        """Connections that must end because too much is pending."""
        counts, ended = survey.ended.counts, survey.ended
        over = (counts > LONGEST) & ~ends
        size = (
            np.add.reduceat(ended.packets.table["captured"].astype(np.int64), ended.starts) + counts * PACKET.itemsize
        )
        stays = ~ends & ~over
        if counts[stays].sum() > MOST_PACKETS or size[stays].sum() > MOST_BYTES:
            oldest = np.flatnonzero(stays)[np.argsort(survey.last[stays], kind="stable")]
            keep = (np.cumsum(counts[oldest][::-1]) <= MOST_PACKETS // 2) & (
                np.cumsum(size[oldest][::-1]) <= MOST_BYTES // 2
            )
            over[oldest[::-1][~keep]] = True
        self.limits_hit = self.limits_hit or bool(over.any())
        return over

    def _at_the_edge(self, survey: "_Survey", ends: Mask) -> Mask:
        """Connections that may have begun before this part: to be joined with what came before."""
        ended = survey.ended
        aside = ends & np.isin(ended.keys, self.aside) if len(self.aside) else np.zeros(len(ends), np.bool_)
        if self.head:
            first = ended.packets.table["at"][ended.starts]
            early = ends & (first < (self._begins or 0) + np.where(ended.opened, EDGE, IDLE))
            aside |= early & ~survey.whole
            self._early.append(ended.keys[early & ~aside])
        return aside

    def _remember(self, survey: "_Survey", ends: Mask) -> None:
        recent = self._done_at >= survey.ended.packets.table["at"].min() - AFTERLIFE
        self._done = np.concatenate([self._done[recent], survey.ended.keys[ends]])
        self._done_at = np.concatenate([self._done_at[recent], survey.last[ends]])


_NONE = Packets(np.empty(0, PACKET), np.empty(0, np.uint8))


class _Survey(NamedTuple):
    """The state of all connections: ``done`` by what was seen of them, ``last`` their last packet's time.

    ``answered`` connections have a SYN-ACK, those that are ``hung_up`` a FIN each way, and ``clean`` ones are complete.
    ``fine`` are rows in order.
    """

    ended: Ended
    done: Mask
    last: NDArray[np.int64]
    answered: Mask
    closed: Mask
    hung_up: Mask
    clean: Mask
    fine: Mask

    @property
    def whole(self) -> Mask:
        """Connections that are regular, answered and closed."""
        return self.ended.regular & self.answered & self.closed


def _survey(packets: Packets, keys: Keys, now: int) -> _Survey:
    """Part rows sorted by connection (``keys``) where a port was used again, and see to each.

    Ports that are used again at once are parted only where both connections are regular: stragglers of the one among
    segments of the other are a matter for :func:`~kmsdiag.wire.streams.split_connections`, and so are refused attempts.
    """
    begins, at_once = _begins(packets.table, keys)
    over, straggling = _overs(packets.table, begins | at_once)
    begins |= over
    if straggling.any():
        kept = ~straggling
        packets, keys, begins, at_once = packets.take(kept), keys[kept], begins[kept], at_once[kept]
    survey = _state(packets, keys, begins | at_once, now)
    if at_once.any():
        starts = survey.ended.starts
        parted = np.flatnonzero(at_once[starts] & ~begins[starts])
        fine = survey.ended.regular & survey.answered
        bad = parted[~(survey.ended.regular[parted] & fine[parted - 1])]
        if len(bad):
            at_once &= ~np.isin(keys, survey.ended.keys[bad])
            survey = _state(packets, keys, begins | at_once, now)
    straggling = _after_completion(survey)
    if straggling.any():
        kept = ~straggling
        survey = _state(packets.take(kept), keys[kept], (begins | at_once)[kept], now)
    return survey


def _overs(table: NDArray[Any], begins: Mask) -> tuple[Mask, Mask]:
    """Rows before which their connection was over, so that another begins with them; and stragglers of it.

    What is over at once, and what only when somebody looks later, must come to the same.
    """
    starts = np.flatnonzero(begins)
    gid = np.cumsum(begins) - 1
    first, flags, at = pick(table, starts), table["flags"], table["at"]
    fin = (flags & FIN) != 0
    from_first = _same(table, ("src_hi", "src_lo", "sport"), first, ("src_hi", "src_lo", "sport"), gid)
    closed = _before((flags & RST) != 0, starts, gid) > 0
    closed |= (_before(fin & from_first, starts, gid) > 0) & (_before(fin & ~from_first, starts, gid) > 0)
    answered = _any(flags & (SYN | ACK) == SYN | ACK, starts)[gid]
    gap = np.diff(at, prepend=at[:1])
    gap[starts] = 0
    over = (closed & (gap >= np.where(answered, QUIET, REFUSED))) | (gap >= IDLE)
    if not over.any():
        return over, over
    bare = (flags & (SYN | ACK | RST | FIN)) == SYN
    straggling = over & closed & ~bare
    # They go on to the next row with which something begins.
    places = np.arange(len(table))
    event = np.maximum.accumulate(np.where(begins | over | bare, places, 0))
    return over & ~straggling, straggling[event]


def _after_completion(survey: _Survey) -> Mask:
    """Rows that follow the last acknowledgement of a connection of which nothing is missing: they say nothing new."""
    ended = survey.ended
    straggling = np.zeros(ended.packets.size, np.bool_)
    candidates = np.flatnonzero(ended.opened & survey.answered & survey.hung_up & ~survey.clean)
    table = ended.packets.table
    for group in candidates.tolist():
        start, stop = int(ended.starts[group]), int(ended.starts[group] + ended.counts[group])
        flags = table["flags"][start:stop].tolist()
        rows = zip(
            ended.from_client[start:stop].tolist(),
            flags,
            table["length"][start:stop].tolist(),
            ended.ack[start:stop].tolist(),
            survey.fine[start:stop].tolist(),
            strict=True,
        )
        end = _completion(rows)
        if end is not None:
            again = next((at for at in range(end, len(flags)) if flags[at] & (SYN | ACK) == SYN), len(flags))
            straggling[start + end : start + again] = True
    return straggling


def _completion(rows: Iterable[tuple[bool, int, int, int, bool]]) -> int | None:
    """After how many rows (from client, flags, length, acknowledgement, regular) a connection is complete, if it is."""
    sent, acked, hung_up = {True: 0, False: 0}, {True: 0, False: 0}, {True: False, False: False}
    for count, (client, flags, length, ack, fine) in enumerate(rows, 1):
        if not fine or flags & RST:
            return None
        if flags & SYN:
            continue
        sent[client] += length + (flags & FIN)
        hung_up[client] = hung_up[client] or bool(flags & FIN)
        acked[not client] = max(acked[not client], ack)
        if all(hung_up.values()) and acked == sent:
            return count
    return None


def _state(packets: Packets, keys: Keys, begins: Mask, now: int) -> _Survey:
    """The state of connections that begin at these rows."""
    table = packets.table
    flags, at = table["flags"], table["at"]
    starts = np.flatnonzero(begins)
    counts = np.diff(starts, append=len(keys))
    gid = np.repeat(np.arange(len(starts)), counts)
    first = pick(table, starts)

    length, captured = table["length"].astype(np.int64), table["captured"]
    syn, fin, rst = (flags & SYN) != 0, (flags & FIN) != 0, (flags & RST) != 0

    opened = (first["flags"] & (SYN | ACK | RST | FIN)) == SYN
    from_client = _same(table, ("src_hi", "src_lo", "sport"), first, ("src_hi", "src_lo", "sport"), gid)
    from_client &= _same(table, ("dst_hi", "dst_lo", "dport"), first, ("dst_hi", "dst_lo", "dport"), gid)
    from_host = _same(table, ("src_hi", "src_lo", "sport"), first, ("dst_hi", "dst_lo", "dport"), gid)
    from_host &= _same(table, ("dst_hi", "dst_lo", "dport"), first, ("src_hi", "src_lo", "sport"), gid)
    mixed = ~_all(from_client | from_host, starts)

    # Relative numbers: 0 is the first byte after the SYN of the one who sends it; of a host that sent none, what it
    # sent first.
    index = np.arange(len(keys))
    answer = np.minimum.reduceat(np.where(from_host & syn, index, len(keys)), starts)
    answered = answer < len(keys)
    reaction = np.where(answered, answer, np.minimum.reduceat(np.where(from_host, index, len(keys)), starts))
    base_client = (first["seq"] + np.uint32(1))[gid]
    base_host = (table["seq"][np.minimum(reaction, len(keys) - 1)] + answered.astype(np.uint32))[gid]
    seq = table["seq"] - np.where(from_client, base_client, base_host)
    ack = np.where(flags & ACK, table["ack"] - np.where(from_client, base_host, base_client), np.uint32(0))

    # What each side has sent before each row: a FIN counts as one byte.
    moved = length + fin
    sent_client = _before(np.where(from_client, moved, 0), starts, gid)
    sent_host = _before(np.where(from_client, 0, moved), starts, gid)
    sent = np.where(from_client, sent_client, sent_host)
    others = np.where(from_client, sent_host, sent_client)
    in_order = rst | (seq == sent) | (syn & (seq == 0xFFFFFFFF) & (length == 0))
    in_order &= syn | (ack <= others)
    repeats, copies = _repeats(table, gid, from_client, seq, ack)
    back = np.diff(at, prepend=at[:1]) < 0
    back[starts] = False
    syns = _count(syn & from_client, starts)
    one_syn = ((syns == 1) | ~answered) & (_count(syn & ~from_client, starts) == answered)
    fine = in_order & ~repeats & ~back & (length == captured)
    regular = opened & one_syn & _all(fine, starts) & ~mixed

    fins = (_count(fin & from_client, starts), _count(fin & ~from_client, starts))
    all_client = np.add.reduceat(np.where(from_client, moved, 0), starts)
    all_host = np.add.reduceat(np.where(from_client, 0, moved), starts)
    plain = ~rst & ~syn
    acked_client = np.maximum.reduceat(np.where(~from_client & plain, ack, 0), starts)
    acked_host = np.maximum.reduceat(np.where(from_client & plain, ack, 0), starts)
    clean = regular & answered & (fins[0] == 1) & (fins[1] == 1) & ~_any(rst, starts)
    clean &= (acked_client == all_client) & (acked_host == all_host)

    last = np.maximum.reduceat(at, starts)
    # What came before the last SYN says nothing about the attempt that began with it.
    bare = (flags & (SYN | ACK | RST | FIN)) == SYN
    later = index > np.maximum.reduceat(np.where(bare, index, -1), starts)[gid]
    closed = _any(rst & later, starts)
    closed |= _any(fin & later & from_client, starts) & _any(fin & later & ~from_client, starts)
    # Never more than the rule needs, so that it doesn't matter when the rule was applied.
    patience = np.where(clean, 0, np.where(closed, np.where(answered, QUIET, REFUSED), IDLE))
    until = np.minimum(last + patience, now)
    done = now - last >= patience
    ended = Ended(packets, starts, counts, keys[starts], opened, regular, mixed, from_client, seq, ack, copies, until)
    return _Survey(ended, done, last, answered, closed, (fins[0] > 0) & (fins[1] > 0), clean, fine)


def _repeats(
    table: NDArray[Any], gid: Indices, from_client: Mask, seq: NDArray[np.uint32], ack: NDArray[np.uint32]
) -> tuple[Mask, Mask]:
    """Rows that are like one of the three before them, and which of these are a mirror port's copies.

    A bare SYN, and the reset that refuses it, may well come again, if they are no copies: such are not among them.
    """
    at, flags, length, ident = table["at"], table["flags"], table["length"], table["ip_id"]
    repeats, copies = np.zeros(len(table), np.bool_), np.zeros(len(table), np.bool_)
    for step in (1, 2, 3):
        like = gid[step:] == gid[:-step]
        for column in (from_client, seq, ack, flags, length):
            like &= column[step:] == column[:-step]
        where = np.flatnonzero(like)
        later = where + step
        apart = np.abs(at[later] - at[where])
        named = (ident[later] != 0) & (ident[later] == ident[where])
        again = ((flags[later] == SYN) | (flags[later] & RST != 0)) & (apart > APART) & ~named
        repeats[later[~again]] = True
        copies[later] |= (apart <= COPIED) | (named & (apart <= SECOND))
    return repeats, copies


def _begins(table: NDArray[Any], keys: Keys) -> tuple[Mask, Mask]:
    """Where a connection begins: with another key, or with another SYN long after what came before, or at once."""
    new = np.diff(keys, prepend=keys[:1] + np.uint64(1)) != 0
    at_once = np.zeros(len(keys), np.bool_)
    bare = (table["flags"] & (SYN | ACK | RST | FIN)) == SYN
    syns = np.flatnonzero(bare & ~new)
    if len(syns):
        # The SYN before, if there is one under this key, else what came first under it.
        before = np.maximum.accumulate(np.where(bare | new, np.arange(len(keys)), 0))[syns - 1]
        syns = syns[table["seq"][syns] != table["seq"][before]]
        late = table["at"][syns] - table["at"][syns - 1] >= REFUSED
        new[syns[late]] = True
        at_once[syns[~late]] = True
    return new, at_once


def _only(ended: Ended, which: Mask, gid: Indices) -> Ended | None:
    """Some of the connections."""
    if not which.any():
        return None
    if which.all():
        return ended
    rows = which[gid]
    counts = ended.counts[which]
    return Ended(
        ended.packets.take(rows),
        np.cumsum(counts) - counts,
        counts,
        ended.keys[which],
        ended.opened[which],
        ended.regular[which],
        ended.mixed[which],
        ended.from_client[rows],
        ended.seq[rows],
        ended.ack[rows],
        ended.copies[rows],
        ended.until[which],
    )


def _same(
    table: NDArray[Any], names: tuple[str, ...], first: NDArray[Any], others: tuple[str, ...], gid: Indices
) -> Mask:
    """For each row, whether its fields are those of the first row of its connection."""
    same = np.ones(len(table), np.bool_)
    for name, other in zip(names, others, strict=True):
        same &= table[name] == first[other][gid]
    return same


def _before(values: NDArray[np.int64] | Mask, starts: Indices, gid: Indices) -> NDArray[np.int64]:
    """Running sums within each connection, without the row itself."""
    sums: NDArray[np.int64] = np.cumsum(values, dtype=np.int64) - values
    return sums - sums[starts][gid]


def _count(mask: Mask, starts: Indices) -> Indices:
    return np.add.reduceat(mask, starts, dtype=np.int64)


def _all(mask: Mask, starts: Indices) -> Mask:
    return np.logical_and.reduceat(mask, starts)


def _any(mask: Mask, starts: Indices) -> Mask:
    return np.logical_or.reduceat(mask, starts)


_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0xD6E8FEB86659FD93))


_ROW_BITS: Final = np.uint64(24)
"""Rows that are sorted at once are fewer than two to the power of this; keys leave that many bits free."""


def _by_connection(keys: Keys) -> Indices:
    """The order of rows by connection, and of those by place, as argsort gives it; numpy sorts values far faster."""
    places = np.arange(len(keys), dtype=np.uint64)
    mixed = np.sort(keys | places)
    return (mixed & ((np.uint64(1) << _ROW_BITS) - np.uint64(1))).astype(np.int64)


def _endpoint(high: NDArray[np.uint64], low: NDArray[np.uint64], port: NDArray[np.uint64]) -> Keys:
    mixed = (high + port) * _MIX[0] ^ low * _MIX[1]
    mixed ^= mixed >> np.uint64(29)
    mixed *= _MIX[2]
    return np.asarray(mixed ^ mixed >> np.uint64(32))


def keys_of(table: NDArray[Any]) -> Keys:
    """For each row of a :data:`PACKET` table a number of its connection, the same for both directions."""
    keys = _endpoint(table["src_hi"], table["src_lo"], table["sport"].astype(np.uint64))
    keys += _endpoint(table["dst_hi"], table["dst_lo"], table["dport"].astype(np.uint64))
    return np.asarray(keys >> _ROW_BITS << _ROW_BITS)


def key_of(src: bytes, sport: int, dst: bytes, dport: int) -> int:
    """The key of one connection, as in :attr:`Ended.keys`."""
    table = np.zeros(1, PACKET)
    table["src_hi"], table["src_lo"] = address_words(src)
    table["dst_hi"], table["dst_lo"] = address_words(dst)
    table["sport"], table["dport"] = sport, dport
    return int(keys_of(table)[0])
