"""What clients asked DNS for on their way to a KMS host, and what came back.

Messages are kept as a few numbers each, by (channel, client, server, name, type), and matched when all are there: so it
does not matter in how many pieces, or in which order, they were fed. Questions for SRV of ``_vlmcs._tcp`` are kept, and
those for addresses, of which only names of KMS hosts count in the end.

A *transaction* is a question with its repetitions and its answer. A question that is put again before an answer came,
or over TCP after a truncated one, is part of it; one that is put again later is another. An answer counts where its id
and port are those of a question; with no question at all, it answers one that was not captured.
"""

import functools
import ipaddress
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from kmsdiag.model.answer import Icmp, SrvRecord
from kmsdiag.model.capture import CapturedLookup, Channel, Frame, Spread
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.wire import dns
from kmsdiag.wire.addresses import address_text
from kmsdiag.wire.icmp import error_name
from kmsdiag.wire.layers import Datagram, IcmpError, Segment
from kmsdiag.wire.streams import Direction, walk

SERVICE: Final = "_vlmcs._tcp"

PORTS: Final = {53: Channel.DNS, 5353: Channel.MDNS, 5355: Channel.LLMNR}

KEYS_MAX: Final = 100_000
MESSAGES_MAX: Final = 1_000_000
"""Questions for addresses (by client, server and name), and messages about them, that are kept; a key takes about 350
bytes and a message 32. What is about KMS records is always kept."""

PATIENCE: Final = 5_000_000_000
"""Time (ns) after which a question will get no answer: servers that ask others give up sooner (RFC 9520 3.2)."""

WINDOW: Final = 15_000_000_000
"""Within how many ns a question is a repetition of one without an answer: longer than any client's retry."""

OVER_TCP: Final = 1 << 32
"""In the tag of a message: it came over TCP."""

_KINDS: Final = {dns.SRV: "SRV", dns.A: "A", dns.AAAA: "AAAA"}
_OUTCOMES: Final = {2: DnsOutcome.SERVFAIL, 3: DnsOutcome.NXDOMAIN, 5: DnsOutcome.REFUSED}
_FRAMES: Final = 8
_ANSWERS: Final = 100
"""Multicast answers of one name that are looked at; one host gives one."""

_GROUP: Final = {Channel.MDNS: "multicast", Channel.LLMNR: "multicast"}
_CLOSED: Final = ((3, 3), (1, 4))


class Key(NamedTuple):
    """Who asked whom for what. Addresses as text; ``server`` is "multicast" for mDNS and LLMNR."""

    channel: Channel
    client: str
    server: str
    name: str
    kind: str


class Said(NamedTuple):
    """What an answer says, without TTLs: SRV records, and (name, address) for the name asked for and all others."""

    outcome: DnsOutcome
    rcode: str
    records: tuple[dns.SrvData, ...] = ()
    addresses: tuple[tuple[str, str], ...] = ()


class Transaction(NamedTuple):
    """One question, its repetitions and its answer; times in ns since 1970, refs of frames.

    ``asked`` is None where only the answer was captured, ``answered`` where none came. ``outcome`` is None where the
    capture ends too early to say. ``retried`` questions were put again only because an answer was truncated.
    ``records`` and ``addresses`` (name, address) are what the answer holds.
    """

    key: Key
    asked: tuple[int, int] | None
    answered: tuple[int, int] | None
    questions: int
    retried: int
    over_tcp: bool
    outcome: DnsOutcome | None
    rcode: str = ""
    records: tuple[SrvRecord, ...] = ()
    addresses: tuple[tuple[str, str], ...] = ()
    icmp: Icmp | None = None
    icmp_ref: int | None = None

    @property
    def elapsed(self) -> int | None:
        """From the first question to the answer in ns, never negative; None where one or the other has no time.

        Logs of other programs time some answers by their question: no answer takes no time.
        """
        if self.asked is None or self.answered is None or self.asked[1] == self.answered[1]:
            return None
        return max(0, self.answered[1] - self.asked[1])


class Lookups:
    """All messages about KMS, and about addresses. ``left_out`` counts those beyond the limits.

    ``messages`` counts all messages of unicast DNS, whatever they are about.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self.messages = 0
        # by key: ref, time, tag (port and id, OVER_TCP), and 0 for a question or the number of what was said
        self._events: dict[Key, array[int]] = {}
        self._said: dict[Said, int] = {}
        self._ttls: dict[dns.SrvData, int] = {}
        self._errors: list[tuple[int, int, str, str, int, Icmp]] = []
        self._minor_keys = self._minor_messages = 0

    # feeding

    def feed(self, datagram: Datagram) -> None:
        """Take a datagram; those of other ports, or of no use here, are passed over. Never raises."""
        ports = datagram.dport, datagram.sport
        # Whoever asks a name server may do so from any port, that of mDNS too.
        channel = Channel.DNS if 53 in ports else PORTS.get(ports[0]) or PORTS.get(ports[1])
        if channel is not None:
            whole = len(datagram.payload) >= datagram.length
            self._message(datagram, datagram.payload, datagram.ref, datagram.at, channel, whole=whole)

    def note(
        self,
        key: Key,
        ref: int,
        at: int,
        tag: int,
        said: Said | None = None,
        ttls: Mapping[dns.SrvData, int] | None = None,
    ) -> None:
        """Take a message that another program decoded: a question, or what an answer ``said``, with TTLs in s.

        ``tag`` tells questions apart and is the same for their answers: port << 16 | id, with :data:`OVER_TCP` added.
        """
        events = self._kept(key)
        if events is None:
            return
        number = 0 if said is None else self._said.setdefault(said, len(self._said) + 1)
        events.extend((ref, at, tag, number))
        for record, ttl in (ttls or {}).items():
            self._ttls[record] = max(ttl, self._ttls.get(record, 0))

    def feed_stream(self, segments: Sequence[Segment]) -> None:
        """Take the segments of one TCP connection to port 53 (RFC 1035 4.2.2: each message behind its length)."""
        stream = walk(segments, ports=(53,))
        for direction, (src, sport), (dst, dport) in (
            (stream.from_client, stream.client, stream.host),
            (stream.from_host, stream.host, stream.client),
        ):
            ends = Datagram(0, 0, src, sport, dst, dport, b"", 0)
            for data, ref, at in _messages(direction):
                self._message(ends, data, ref, at, Channel.DNS, whole=True, tcp=OVER_TCP)

    def feed_icmp(self, error: IcmpError) -> None:
        """Take an ICMP error; one that quotes a DNS question says why it has no answer."""
        if error.protocol == 17 and error.dport in PORTS and error.type in ((1, 2, 3, 4) if error.v6 else (3, 11, 12)):
            name = error_name(error.type, error.code, ipv6=error.v6)
            icmp = Icmp(error.type, error.code, address_text(error.sender), name)
            self._errors.append(
                (error.ref, error.at, address_text(error.src), address_text(error.dst), error.sport, icmp)
            )

    def _message(
        self, ends: Datagram, data: bytes, ref: int, at: int, channel: Channel, *, whole: bool, tcp: int = 0
    ) -> None:
        self.messages += channel is Channel.DNS
        try:
            head = dns.decode_head(data)
        except dns.DnsFormatError:
            return
        name, kind = head.question
        message = None
        if head.response and (kind in _KINDS or not name):
            message = _decoded(data[2:], name, channel)
            if channel is Channel.MDNS and message is not None and not name:
                # RFC 6762 section 6: answers repeat no question
                name, kind = next(((one.name, one.type) for one in message.answers if one.type in _KINDS), ("", 0))
        if kind not in _KINDS or (kind == dns.SRV and not _is_service(name)):
            return
        if head.response:
            client, port, server = ends.dst, ends.dport, ends.src
        else:
            client, port, server = ends.src, ends.sport, ends.dst
        asker = "" if channel is Channel.MDNS and head.response else address_text(client)
        events = self._kept(Key(channel, asker, _GROUP.get(channel) or address_text(server), name, _KINDS[kind]))
        if events is not None:
            told = self._tell(_said(head, message, kind, whole=whole), message) if head.response else 0
            events.extend((ref, at, tcp | port << 16 | head.id, told))

    def _kept(self, key: Key, count: int = 1) -> "array[int] | None":
        """The events of a key, for ``count`` more; None beyond the limits for what may be of no use."""
        events = self._events.get(key)
        if key.kind != "SRV":
            crowded = events is None and self._minor_keys >= KEYS_MAX
            if crowded or self._minor_messages + count > MESSAGES_MAX:
                self.left_out += count
                return None
            self._minor_keys += events is None
            self._minor_messages += count
        if events is None:
            events = self._events[key] = array("q")
        return events

    def _tell(self, said: Said, message: dns.Message | None) -> int:
        """The number of what was said, from 1; TTLs are kept aside, the longest counts (caches count them down)."""
        if said.records and message is not None:
            for record in message.answers:
                if isinstance(record.data, dns.SrvData):
                    self._ttls[record.data] = max(record.ttl, self._ttls.get(record.data, 0))
        return self._said.setdefault(said, len(self._said) + 1)

    # joining

    def merge(self, other: "Lookups") -> None:
        """Add what another one was fed."""
        said, events, ttls, errors = other._said, other._events, other._ttls, other._errors  # noqa: SLF001 (same class)
        numbers = {number: self._said.setdefault(one, len(self._said) + 1) for one, number in said.items()}
        for key, theirs in events.items():
            mine = self._kept(key, len(theirs) // 4)
            if mine is not None:
                renamed = array("q", theirs)
                renamed[3::4] = array("q", [numbers.get(told, 0) for told in theirs[3::4]])
                mine.extend(renamed)
        for record, ttl in ttls.items():
            self._ttls[record] = max(ttl, self._ttls.get(record, 0))
        self._errors += errors
        self.left_out += other.left_out
        self.messages += other.messages

    def moved(self, move: Callable[[int], int]) -> "Lookups":
        """The same with all frames renamed."""
        new = Lookups()
        new.merge(self)
        for events in new._events.values():
            events[::4] = array("q", [move(ref) for ref in events[::4]])
        new._errors = [(move(error[0]), *error[1:]) for error in new._errors]
        return new

    # asking

    def targets(self) -> set[str]:
        """Names that SRV records point to."""
        return {record.target for said in self._said for record in said.records}

    def frames(self, keys: Collection[Key]) -> list[int]:
        """Refs of the frames with questions and answers of these keys."""
        return [ref for key in keys for ref in self._events.get(key, ())[::4]]

    def transactions(self, end: int) -> Iterator[Transaction]:
        """All transactions, by key; ``end`` is the time of the captures' last packet in ns since 1970."""
        told = list(self._said)
        errors: dict[tuple[str, str, int], list[tuple[int, int, Icmp]]] = {}
        for ref, at, client, server, port, icmp in sorted(self._errors, key=lambda error: error[0]):
            errors.setdefault((client, server, port), []).append((ref, at, icmp))
        for key in sorted(self._events):
            if key.client:
                events = self._of(key)
                for one in _transactions(key, events, told):
                    yield self._finished(one, told, errors, end)

    def _of(self, key: Key) -> list[tuple[int, int, int, int]]:
        """Events in the order of their frames; to questions by mDNS with the answers to everybody."""
        flat = list(self._events[key])
        if key.channel is Channel.MDNS:
            flat += self._events.get(key._replace(client=""), array("q"))[: 4 * _ANSWERS]
        return sorted(zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True))

    def _finished(
        self,
        one: "_Open",
        told: Sequence[Said],
        errors: dict[tuple[str, str, int], list[tuple[int, int, Icmp]]],
        end: int,
    ) -> Transaction:
        key, said = one.key, told[one.told - 1] if one.told else None
        found = None if said else _error(one, errors)
        outcome: DnsOutcome | None
        if said is not None:
            outcome = said.outcome
        elif found is not None:
            closed = (found[2].type, found[2].code) in _CLOSED
            outcome = DnsOutcome.NOT_LISTENING if closed else DnsOutcome.UNREACHABLE
        else:
            outcome = DnsOutcome.TIMEOUT if one.questions > 1 or end - one.last >= PATIENCE else None
        return Transaction(
            key,
            one.asked,
            one.answered,
            one.questions,
            one.retried,
            one.tcp,
            outcome,
            said.rcode if said else "",
            tuple(SrvRecord(*record, self._ttls.get(record, 0)) for record in said.records) if said else (),
            said.addresses if said else (),
            found[2] if found else None,
            found[0] if found else None,
        )


class _Open:
    """A transaction while it is put together."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.asked: tuple[int, int] | None = None
        self.answered: tuple[int, int] | None = None
        self.last = 0
        self.tags: set[int] = set()
        self.questions = self.retried = 0
        self.tcp = False
        self.told = 0

    def ask(self, ref: int, at: int, tag: int) -> None:
        self.asked = self.asked or (ref, at)
        self.questions += 1
        self.retried += bool(self.told) and tag not in self.tags
        self.tags.add(tag)
        self.last = at
        self.tcp = self.tcp or tag >= OVER_TCP

    def answer(self, ref: int, at: int, told: int) -> None:
        self.answered, self.told, self.last = (ref, at), told, at


def _transactions(key: Key, events: Iterable[tuple[int, int, int, int]], told: Sequence[Said]) -> Iterator[_Open]:
    """Events of one key, in order, as transactions."""
    current: _Open | None = None
    for ref, at, tag, number in events:
        truncated = current is not None and current.told and told[current.told - 1].outcome is DnsOutcome.TRUNCATED
        waiting = current is not None and (not current.told or bool(truncated))
        if number == 0:
            again = current is not None and tag in current.tags
            if current is None or not (at - current.last <= WINDOW and (waiting or again)):
                if current is not None:
                    yield current
                current = _Open(key)
            current.ask(ref, at, tag)
        elif current is not None and (tag in current.tags or key.channel is Channel.MDNS):
            if waiting:
                current.answer(ref, at, number)
        elif not waiting and key.channel is not Channel.MDNS:
            # its question was not captured
            if current is not None:
                yield current
            current = _Open(key)
            current.answer(ref, at, number)
            current.tags.add(tag)
    if current is not None:
        yield current


def _error(one: _Open, errors: dict[tuple[str, str, int], list[tuple[int, int, Icmp]]]) -> tuple[int, int, Icmp] | None:
    """The first ICMP error that quotes one of the questions."""
    asked = one.asked[0] if one.asked else 0
    for tag in sorted(one.tags):
        known = errors.get((one.key.client, one.key.server, tag >> 16 & 0xFFFF), [])
        for found in known[bisect_right(known, asked, key=itemgetter(0)) :][:1]:
            if found[1] - one.last <= WINDOW:
                return found
    return None


def _messages(direction: Direction) -> Iterator[tuple[bytes, int, int]]:
    """(message, ref, time) of each message that was captured in full, up to the first gap."""
    for run in direction.runs[:1]:
        at = 0
        while at + 2 <= len(run.data):
            end = at + 2 + int.from_bytes(run.data[at : at + 2], "big")
            if end > len(run.data) or run.offset:
                return
            mark = run.completed(end)
            yield run.data[at + 2 : end], mark.ref, mark.at
            at = end


def _is_service(name: str) -> bool:
    return name == SERVICE or name.startswith(f"{SERVICE}.")


@functools.lru_cache(maxsize=2048)
def _decoded(tail: bytes, asked: str, channel: Channel) -> dns.Message | None:
    """A message without its id; kept, because a server tells many clients the same."""
    try:
        return dns.decode(b"\0\0" + tail, asked, multicast=channel is not Channel.DNS)
    except dns.DnsFormatError:
        return None


def _said(head: dns.Head, message: dns.Message | None, kind: int, *, whole: bool) -> Said:
    """What a response says; one that the snap length cut says at least whether it holds records."""
    rcode = dns.RCODES.get(head.rcode, f"RCODE{head.rcode}") if message is None else message.rcode_name
    if message is None:
        if whole:
            return Said(DnsOutcome.MALFORMED, rcode)
        return Said(_outcome(head.rcode, head, found=head.answers > 0, referral=False), rcode)
    records: set[dns.SrvData] = set()
    addresses: set[tuple[str, str]] = set()
    for one in message.answers:
        if isinstance(one.data, dns.SrvData) and kind == dns.SRV:
            records.add(one.data)
        elif one.type == kind and isinstance(one.data, str):
            # The name that was asked for may be an alias of the record's.
            addresses.add((head.question[0] or one.name, one.data))
    for one in (*message.answers, *message.additional):
        if one.type in (dns.A, dns.AAAA) and isinstance(one.data, str):
            addresses.add((one.name, one.data))
    found = any(one.type == kind for one in message.answers)
    outcome = _outcome(message.rcode, head, found=found, referral=message.referral)
    return Said(outcome, rcode, tuple(sorted(records)), tuple(sorted(addresses)))


def _outcome(rcode: int, head: dns.Head, *, found: bool, referral: bool) -> DnsOutcome:
    if rcode:
        return _OUTCOMES.get(rcode, DnsOutcome.ERROR_RCODE)
    if head.truncated:
        return DnsOutcome.TRUNCATED
    if found:
        return DnsOutcome.ANSWERED
    return DnsOutcome.REFERRAL if referral else DnsOutcome.NODATA


def summarise(
    transactions: Sequence[Transaction], hosts: Collection[str], resolve: Callable[[int], Frame]
) -> tuple[CapturedLookup, ...]:
    """Transactions by name, type, server and channel, sorted.

    Of questions for addresses those count whose name is a target of an SRV record, or that of one of ``hosts``
    (addresses that clients connected to for KMS). ``resolve`` gives the frame of a ref.
    """
    wanted = {record.target for one in transactions for record in one.records}
    wanted |= {name for one in transactions for name, address in one.addresses if address in hosts}
    groups: dict[tuple[str, str, str, Channel], list[Transaction]] = {}
    for one in transactions:
        key = one.key
        if key.kind == "SRV" or key.name in wanted:
            groups.setdefault((key.name, key.kind, key.server, key.channel), []).append(one)
    return tuple(_lookup(groups[key], resolve) for key in sorted(groups))


def _lookup(transactions: Sequence[Transaction], resolve: Callable[[int], Frame]) -> CapturedLookup:
    """Transactions of one name, type, server and channel; at least one."""
    key = transactions[0].key
    kind = {"A": False, "AAAA": True}.get(key.kind)
    elapsed = sorted(one.elapsed for one in transactions if one.elapsed is not None)
    addresses = {
        address
        for one in transactions
        for name, address in one.addresses
        if name == key.name and (":" in address) == kind
    }
    frames: dict[int, None] = {}
    for outcome in dict.fromkeys(one.outcome for one in transactions):
        first = next(one for one in transactions if one.outcome is outcome)
        places = (first.asked, first.answered)
        frames.update((place[0], None) for place in places if place is not None)
        if first.icmp_ref is not None:
            frames[first.icmp_ref] = None
    outcomes = Counter(one.outcome.value for one in transactions if one.outcome is not None)
    rcodes = Counter(one.rcode for one in transactions if one.rcode)
    return CapturedLookup(
        name=key.name,
        kind=key.kind,
        server=key.server,
        channel=key.channel,
        clients=len({one.key.client for one in transactions}),
        questions=sum(one.questions for one in transactions),
        repeated=sum(max(0, one.questions - 1 - one.retried) for one in transactions),
        outcomes=dict(sorted(outcomes.items())),
        over_tcp=sum(one.over_tcp for one in transactions),
        records=tuple(sorted({record for one in transactions for record in one.records})),
        addresses=tuple(sorted(addresses, key=lambda address: ipaddress.ip_address(address).packed)),
        elapsed_ms=_spread(elapsed),
        icmp=next((one.icmp for one in transactions if one.icmp is not None), None),
        rcodes=dict(sorted(rcodes.items())),
        frames=tuple(resolve(ref) for ref in sorted(frames)[:_FRAMES]),
    )


def _spread(elapsed: Sequence[int]) -> Spread | None:
    """Sorted durations in ns as ms; quantiles are values that occur (nearest rank)."""
    if not elapsed:
        return None
    count = len(elapsed)
    chosen = (elapsed[0], elapsed[(count + 1) // 2 - 1], elapsed[-(-95 * count // 100) - 1], elapsed[-1])
    least, median, p95, greatest = (round(value / 1e6, 3) for value in chosen)
    return Spread(values=count, least=least, median=median, p95=p95, greatest=greatest)
