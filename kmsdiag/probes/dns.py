"""DNS questions: UDP, TCP where the answer was cut, EDNS with a way back, CNAME chains; every end told apart.

One *connected* UDP socket a server is shared by all questions: only a connected socket learns that no DNS service
listens (ICMP port unreachable), and a socket for each question costs more than the question.
"""

import asyncio
import contextlib
import datetime
import errno
import random
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from kmsdiag.model.answer import AddressAnswer, NsAnswer, ServerTry, SoaAnswer, SrvAnswer, SrvRecord
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.request import AddressQuery, NsQuery, SoaQuery, SrvQuery, Transport
from kmsdiag.model.target import SYSTEM, Family, split_server
from kmsdiag.probes.settings import ProbeSettings, system_dns
from kmsdiag.probes.tcp import open_socket, read_icmp
from kmsdiag.wire import dns as wire

MAX_CHAIN: Final = 8
"""CNAME links followed at most."""

SENDS: Final = 3
"""Datagrams a question may cost at one server, spread evenly over its time limit; the last goes without EDNS."""

BURST: Final = 64
"""Young questions in flight at one server: more only overflows its receive buffer (measured with BIND)."""

YOUNG: Final = 0.25
"""Seconds after which an open question no longer counts against BURST, so that a silent server delays nobody."""

# A Windows loop has a receive of its own under way on the socket; elsewhere the socket may be read until it is empty.
_DRAINS: Final = sys.platform != "win32"
_LARGEST: Final = 65_535

_REMEMBERED: Final = 32_768
"""Message ids that are remembered, so that a late answer is known for what it is: half of all there are."""

_NXDOMAIN: Final = 3
_RCODE_OUTCOMES: Final = {2: DnsOutcome.SERVFAIL, _NXDOMAIN: DnsOutcome.NXDOMAIN, 5: DnsOutcome.REFUSED}
_NO_EDNS_RCODES: Final = (1, 4, 16)
# A stub resolver goes on to the next server after these.
_TRY_NEXT: Final = frozenset(DnsOutcome) - {DnsOutcome.ANSWERED, DnsOutcome.NODATA, DnsOutcome.NXDOMAIN}
# After these the server is asked last for the rest of the run.
_DEAD: Final = frozenset({DnsOutcome.TIMEOUT, DnsOutcome.NOT_LISTENING, DnsOutcome.UNREACHABLE})


class _Failure(Exception):
    """A question that ended without a usable message."""

    def __init__(self, outcome: DnsOutcome, detail: str = "", raw: bytes = b"") -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.detail = detail
        self.raw = raw


class _Wanted(NamedTuple):
    """What is asked for, and how facts are read from the records found, or from a message that has none."""

    name: str
    kind: int
    found: Callable[[tuple[wire.Record, ...]], dict[str, Any]]
    absent: Callable[[wire.Message], dict[str, Any]] = lambda _message: {}
    recursion: bool = True
    transport: Transport = Transport.UDP


class _Patience:
    """How long a question waits for one server: from its first datagram on, not while it waits for its turn."""

    __slots__ = ("_limit", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._limit: float | None = None

    def left(self) -> float:
        """Seconds from now to the end."""
        now = time.monotonic()
        if self._limit is None:
            self._limit = now + self._seconds
        return max(0.05, self._limit - now)


class _Question:
    """One question: what it waits for, and one clock for all that is due while it waits."""

    __slots__ = (
        "answer", "asked", "channel", "due", "edns", "facts", "kind", "name", "number", "patience", "put_at",
        "recursion", "sent_at", "timer", "young",
    )  # fmt: skip

    def __init__(
        self, channel: "_Channel", name: str, wanted: _Wanted, facts: dict[str, Any], patience: _Patience, *, edns: bool
    ) -> None:
        self.channel = channel
        self.asked = name
        self.name = name.lower().removesuffix(".") or "."
        self.kind = wanted.kind
        self.recursion = wanted.recursion
        self.facts = facts
        self.patience = patience
        self.edns = edns
        self.answer: asyncio.Future[tuple[wire.Message, bytes]] = channel.loop.create_future()
        self.number = -1
        self.young = False
        self.put_at = self.sent_at = time.monotonic()
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Its turn has come: send, and send again until its time is over; the last one goes without EDNS."""
        channel = self.channel
        self.young = True
        self.sent_at = time.monotonic()
        self.facts["queued"] += self.sent_at - self.put_at
        self.number = channel.free_number()
        channel.pending[self.number] = self
        now, left = channel.loop.time(), self.patience.left()
        self.due = [
            (now + left, self._give_up),
            (now + left * 2 / SENDS, self._send_last),
            (now + left / SENDS, self._send),
            (now + YOUNG, self.release),
        ]
        self.due.sort(key=lambda one: -one[0])
        try:
            self._send()
        except wire.DnsFormatError as error:
            # A target that the network sent and that no one can ask for: the name is at fault, not the server.
            self.fail(_Failure(DnsOutcome.MALFORMED, str(error)))
        else:
            self._wind()

    def stop(self) -> None:
        """Wait no longer."""
        if self.timer is not None:
            self.timer.cancel()
        if self.number >= 0:
            self.channel.pending.pop(self.number, None)
        self.release()

    def release(self) -> None:
        """Count against the burst no longer."""
        if self.young:
            self.young = False
            self.channel.release()

    def fail(self, failure: _Failure) -> None:
        """End without an answer."""
        if not self.answer.done():
            self.answer.set_exception(failure)

    def _wind(self) -> None:
        self.timer = self.channel.loop.call_at(self.due[-1][0], self._ring)

    def _ring(self) -> None:
        _when, action = self.due.pop()
        action()
        if self.due:
            self._wind()

    def _send(self) -> None:
        data = wire.encode_question(self.asked, self.kind, self.number, edns=self.edns, recursion=self.recursion)
        self.facts["queries"] += 1
        if self.channel.transport is not None:
            self.channel.transport.sendto(data)

    def _send_last(self) -> None:
        self.facts["edns"] = self.edns = False
        self._send()

    def _give_up(self) -> None:
        at, data = self.channel.garbage
        if at > self.sent_at:
            self.fail(_Failure(DnsOutcome.MALFORMED, "datagrams that are no answer to the question", data))
        else:
            self.fail(_Failure(DnsOutcome.TIMEOUT))


class _Channel(asyncio.DatagramProtocol):
    """One connected UDP socket, the questions in flight on it by message id, and those that wait for their turn."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.pending: dict[int, _Question] = {}
        self.sock: socket.socket | None = None
        self.transport: asyncio.DatagramTransport | None = None
        self.garbage: tuple[float, bytes] = (0.0, b"")
        self._used: set[int] = set()
        self._young = 0
        self._queue: deque[_Question] = deque()

    def put(self, question: _Question) -> None:
        """Begin a question now, or as soon as there is room for it."""
        self._queue.append(question)
        self._fill()

    def release(self) -> None:
        """One question in flight is not young any more."""
        self._young -= 1
        self._fill()

    def _fill(self) -> None:
        while self._queue and self._young < BURST:
            question = self._queue.popleft()
            # A question that was cancelled while it waited is not sent.
            if not question.answer.done():
                self._young += 1
                question.begin()

    def free_number(self) -> int:
        """A message id that no question had lately: a late answer must not be taken for that of another question."""
        if len(self._used) > _REMEMBERED:
            self._used = set(self.pending)
        number = random.getrandbits(16)
        while number in self._used:
            number = random.getrandbits(16)
        self._used.add(number)
        return number

    def datagram_received(self, data: bytes, _address: Any) -> None:
        """Take this datagram and those behind it: asyncio would go through its whole loop for each."""
        self._take(data)
        if not _DRAINS or self.sock is None:
            return
        for _ in range(BURST):
            try:
                data = self.sock.recv(_LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.error_received(error)
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        asked = self.pending.get(int.from_bytes(data[:2], "big")) if len(data) >= 12 else None
        if asked is None:
            # An answer that comes late, or twice, is none of it. It only counts where nothing better comes.
            if int.from_bytes(data[:2], "big") not in self._used:
                self.garbage = (time.monotonic(), data)
            return
        if asked.answer.done():
            return
        try:
            message = wire.decode(data, asked.name)
        except wire.DnsFormatError as error:
            asked.fail(_Failure(DnsOutcome.MALFORMED, str(error), data))
            return
        # Some servers leave the question out of an error; any other question is not ours.
        if message.response and message.question in ((asked.name, asked.kind), ("", 0)):
            asked.answer.set_result((message, data))
        else:
            asked.fail(_Failure(DnsOutcome.MALFORMED, "the answer is to another question", data))

    def error_received(self, error: Exception) -> None:
        icmp = None
        server = ""
        if self.sock is not None:
            # An error left in the queue would wake the event loop for ever.
            while (found := read_icmp(self.sock)) is not None:
                icmp = found
            with contextlib.suppress(OSError):
                server = self.sock.getpeername()[0].partition("%")[0]
        number = getattr(error, "errno", None) or 0
        # Port unreachable said by anyone but the server is a firewall's doing.
        refused = number == errno.ECONNREFUSED and (icmp is None or icmp.sender == server)
        outcome = DnsOutcome.NOT_LISTENING if refused else DnsOutcome.UNREACHABLE
        detail = errno.errorcode.get(number, type(error).__name__)
        if icmp is not None and outcome is DnsOutcome.UNREACHABLE:
            detail = f"{icmp.name}, said by {icmp.sender}"
        self.fail_all(outcome, detail)

    def fail_all(self, outcome: DnsOutcome, detail: str) -> None:
        """End all open questions: an ICMP error is about the server, whichever datagram caused it."""
        for asked in self.pending.values():
            asked.fail(_Failure(outcome, detail))


class DnsClient:
    """All DNS questions of one run. Sockets are opened when first needed; ``close`` ends them."""

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings
        self._channels: dict[str, asyncio.Task[_Channel]] = {}
        self._dead: set[str] = set()
        self._system: tuple[str, ...] | None = settings.resolvers

    async def close(self) -> None:
        """Close every socket."""
        for task in self._channels.values():
            with contextlib.suppress(_Failure, asyncio.CancelledError):
                channel = await task
                if channel.transport is not None:
                    channel.transport.abort()

    async def srv(self, request: SrvQuery) -> SrvAnswer:
        """SRV records of a name."""

        def read(records: tuple[wire.Record, ...]) -> dict[str, Any]:
            found = (
                SrvRecord(record.data.priority, record.data.weight, record.data.port, record.data.target, record.ttl)
                for record in records
                if isinstance(record.data, wire.SrvData)
            )
            return {"records": tuple(sorted(found))}

        wanted = _Wanted(request.name, wire.SRV, read, recursion=request.recursion, transport=request.transport)
        return SrvAnswer(**await self._ask(wanted, request.server))

    async def addresses(self, request: AddressQuery) -> AddressAnswer:
        """Addresses of a name, of one family."""
        kind = wire.A if request.family is Family.IPV4 else wire.AAAA

        def read(records: tuple[wire.Record, ...]) -> dict[str, Any]:
            return {"addresses": tuple(sorted({str(record.data) for record in records}))}

        return AddressAnswer(**await self._ask(_Wanted(request.name, kind, read), request.server))

    async def soa(self, request: SoaQuery) -> SoaAnswer:
        """The zone of a name: its own SOA record, or the one that comes with "there is none here"."""

        def read(records: tuple[wire.Record, ...]) -> dict[str, Any]:
            return _zone(records[0])

        def above(message: wire.Message) -> dict[str, Any]:
            return {} if message.soa is None else _zone(message.soa)

        wanted = _Wanted(request.name, wire.SOA, read, above, recursion=request.recursion)
        return SoaAnswer(**await self._ask(wanted, request.server))

    async def ns(self, request: NsQuery) -> NsAnswer:
        """Names of a zone's authoritative servers."""

        def read(records: tuple[wire.Record, ...]) -> dict[str, Any]:
            return {"names": tuple(sorted({str(record.data) for record in records}))}

        return NsAnswer(**await self._ask(_Wanted(request.name, wire.NS, read), request.server))

    async def _ask(self, wanted: _Wanted, server: str) -> dict[str, Any]:
        at = datetime.datetime.now(datetime.UTC)
        started = time.perf_counter()
        tried: list[ServerTry] = []
        fields: dict[str, Any] = {"outcome": DnsOutcome.NO_SERVER}
        queries, queued = 0, 0.0
        for candidate in self._servers(server):
            fields = await self._ask_one(candidate, wanted)
            queries += fields.pop("queries")
            queued += fields.pop("queued")
            if fields["outcome"] in _DEAD:
                self._dead.add(candidate)
            if fields["outcome"] not in _TRY_NEXT:
                break
            tried.append(ServerTry(candidate, fields["outcome"]))
        if tried and fields["outcome"] in _TRY_NEXT:
            tried.pop()
        # A question is put when it is sent: what it waited for its turn behind other questions is not the server's.
        at += datetime.timedelta(seconds=queued)
        elapsed = round((time.perf_counter() - started - queued) * 1000, 3)
        return {**fields, "at": at, "elapsed_ms": elapsed, "tried": tuple(tried), "queries": queries}

    def _servers(self, server: str) -> list[str]:
        if server != SYSTEM:
            return [server]
        if self._system is None:
            self._system = system_dns().servers
        return sorted(self._system, key=self._dead.__contains__)

    async def _ask_one(self, server: str, wanted: _Wanted) -> dict[str, Any]:
        """Follow the chain at one server to its end."""
        name = wanted.name.lower()
        facts: dict[str, Any] = {"server": server, "queries": 0, "queued": 0.0}
        raw: list[bytes] = []
        chain: list[str] = []
        patience = _Patience(self._settings.timeout)
        try:
            while True:
                message, data = await self._exchange(server, wanted, chain[-1] if chain else name, patience, facts)
                raw.append(data)
                facts.update(rcode=message.rcode_name, authoritative=message.authoritative)
                links, end = _follow(message, chain[-1] if chain else name)
                chain.extend(links)
                found = tuple(
                    record
                    for record in message.answers
                    if record.type == wanted.kind and record.name == end and record.data is not None
                )
                if found and not message.rcode:
                    facts.update(outcome=DnsOutcome.ANSWERED, **wanted.found(found))
                    break
                # Before the rcode: BIND answers a loop with SERVFAIL, and the loop itself.
                if len(chain) > MAX_CHAIN or len(set(chain)) < len(chain) or (end == name and chain):
                    raise _Failure(DnsOutcome.CHAIN)
                if message.rcode in (0, _NXDOMAIN) and not links:
                    facts.update(wanted.absent(message))
                if message.rcode:
                    outcome = _RCODE_OUTCOMES.get(message.rcode, DnsOutcome.ERROR_RCODE)
                    detail = message.rcode_name if outcome is DnsOutcome.ERROR_RCODE else ""
                    raise _Failure(outcome, detail)
                if not links:
                    raise _Failure(DnsOutcome.REFERRAL if message.referral else DnsOutcome.NODATA)
        except _Failure as failure:
            facts.update(outcome=failure.outcome, detail=failure.detail)
            if failure.raw:
                raw.append(failure.raw)
        return {**facts, "chain": tuple(chain[: MAX_CHAIN + 1]), "wire": tuple(raw)}

    async def _exchange(
        self, server: str, wanted: _Wanted, name: str, patience: _Patience, facts: dict[str, Any]
    ) -> tuple[wire.Message, bytes]:
        """One question, over UDP and then TCP where the answer was cut, or over TCP from the start."""
        if wanted.transport is Transport.TCP:
            facts["transport"] = "tcp"
            facts["queries"] += 1
            return await self._tcp(server, wanted, name, patience)
        facts["transport"] = "udp"
        message, data = await self._udp(server, wanted, name, patience, facts, edns=True)
        if message.rcode in _NO_EDNS_RCODES:
            facts["edns"] = False
            message, data = await self._udp(server, wanted, name, patience, facts, edns=False)
        if message.truncated:
            facts["transport"] = "tcp"
            facts["queries"] += 1
            try:
                message, data = await self._tcp(server, wanted, name, patience)
            except _Failure as failure:
                detail = f"TCP: {failure.detail or failure.outcome}"
                raise _Failure(DnsOutcome.TRUNCATED, detail, failure.raw) from None
        return message, data

    async def _udp(
        self, server: str, wanted: _Wanted, name: str, patience: _Patience, facts: dict[str, Any], *, edns: bool
    ) -> tuple[wire.Message, bytes]:
        opening = self._channel(server)
        channel = opening.result() if opening.done() else await asyncio.shield(opening)
        question = _Question(channel, name, wanted, facts, patience, edns=edns)
        channel.put(question)
        try:
            return await question.answer
        finally:
            question.stop()

    def _channel(self, server: str) -> asyncio.Task[_Channel]:
        """The server's socket; a task, so that questions that come at once share the opening too."""
        task = self._channels.get(server)
        if task is None:
            task = self._channels[server] = asyncio.ensure_future(self._open(server))
        return task

    async def _open(self, server: str) -> _Channel:
        address, port = split_server(server)
        where = self._settings.place(address, port)
        channel = _Channel()
        sock = None
        try:
            sock = channel.sock = open_socket(where[0], socket.SOCK_DGRAM, self._settings.source)
            info = socket.getaddrinfo(where[0], where[1], type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
            sock.connect(info[0][4])
            transport, _protocol = await asyncio.get_running_loop().create_datagram_endpoint(lambda: channel, sock=sock)
        except OSError as error:
            if sock is not None:
                sock.close()
            raise _Failure(DnsOutcome.UNREACHABLE, errno.errorcode.get(error.errno or 0, "")) from None
        channel.transport = transport
        return channel

    async def _tcp(self, server: str, wanted: _Wanted, name: str, patience: _Patience) -> tuple[wire.Message, bytes]:
        """The same question over TCP, by dnspython, whose own time limit bounds a server that drips."""
        import dns.asyncquery
        import dns.exception
        import dns.flags
        import dns.message
        import dns.rdatatype

        address, port = split_server(server)
        where, where_port = self._settings.place(address, port)
        source = self._settings.source if (":" in self._settings.source) == (":" in where) else ""
        query = dns.message.make_query(name, dns.rdatatype.RdataType(wanted.kind), use_edns=0, payload=wire.PAYLOAD)
        if not wanted.recursion:
            query.flags &= ~dns.flags.RD
        try:
            answer = await dns.asyncquery.tcp(
                query,
                where,
                timeout=patience.left(),
                port=where_port,
                source=source or None,
                ignore_trailing=True,
            )
            data = answer.wire or answer.to_wire()
            return wire.decode(data), data
        except dns.exception.Timeout:
            raise _Failure(DnsOutcome.TIMEOUT) from None
        except ConnectionRefusedError:
            raise _Failure(DnsOutcome.NOT_LISTENING, "ECONNREFUSED") from None
        except (dns.exception.DNSException, wire.DnsFormatError, EOFError, ConnectionError) as error:
            raise _Failure(DnsOutcome.MALFORMED, type(error).__name__) from None
        except OSError as error:
            raise _Failure(DnsOutcome.UNREACHABLE, errno.errorcode.get(error.errno or 0, "")) from None


def _zone(record: wire.Record) -> dict[str, Any]:
    if not isinstance(record.data, wire.SoaData):
        return {}
    return {"zone": record.name, "primary": record.data.primary, "serial": record.data.serial}


def _follow(message: wire.Message, name: str) -> tuple[list[str], str]:
    """Follow CNAMEs inside one message; the links followed, and the name they end at."""
    aliases = {record.name: record.data for record in message.answers if record.type == wire.CNAME}
    links: list[str] = []
    end = name.lower()
    while isinstance(target := aliases.get(end), str) and len(links) <= MAX_CHAIN:
        links.append(target)
        end = target
    return links, end
