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
import time
from collections.abc import Callable
from typing import Any, Final

from kmsdiag.model.answer import AddressAnswer, ServerTry, SrvAnswer, SrvRecord
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.request import AddressQuery, SrvQuery
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

_RCODE_OUTCOMES: Final = {2: DnsOutcome.SERVFAIL, 3: DnsOutcome.NXDOMAIN, 5: DnsOutcome.REFUSED}
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


class _Channel(asyncio.DatagramProtocol):
    """One connected UDP socket and the questions in flight on it, by message id."""

    def __init__(self) -> None:
        self.pending: dict[int, tuple[tuple[str, int], asyncio.Future[tuple[wire.Message, bytes]]]] = {}
        self.burst = asyncio.Semaphore(BURST)
        self.sock: socket.socket | None = None
        self.transport: asyncio.DatagramTransport | None = None
        self.garbage: tuple[float, bytes] = (0.0, b"")

    def datagram_received(self, data: bytes, _address: Any) -> None:
        waiting = self.pending.get(int.from_bytes(data[:2], "big")) if len(data) >= 12 else None
        if waiting is None:
            # Late answers look like this too; it only counts where nothing better comes.
            self.garbage = (time.monotonic(), data)
            return
        question, future = waiting
        if future.done():
            return
        try:
            message = wire.decode(data)
        except wire.DnsFormatError as error:
            future.set_exception(_Failure(DnsOutcome.MALFORMED, str(error), data))
            return
        # Some servers leave the question out of an error; any other question is not ours.
        if message.response and message.question in (question, ("", 0)):
            future.set_result((message, data))
        else:
            future.set_exception(_Failure(DnsOutcome.MALFORMED, "the answer is to another question", data))

    def error_received(self, error: Exception) -> None:
        icmp = None
        if self.sock is not None:
            # An error left in the queue would wake the event loop for ever.
            while (found := read_icmp(self.sock)) is not None:
                icmp = found
        number = getattr(error, "errno", None) or 0
        outcome = DnsOutcome.NOT_LISTENING if number == errno.ECONNREFUSED else DnsOutcome.UNREACHABLE
        detail = errno.errorcode.get(number, type(error).__name__)
        if icmp is not None and outcome is DnsOutcome.UNREACHABLE:
            detail = f"{icmp.name}, said by {icmp.sender}"
        self.fail_all(outcome, detail)

    def fail_all(self, outcome: DnsOutcome, detail: str) -> None:
        """End all open questions: an ICMP error is about the server, whichever datagram caused it."""
        for _question, future in self.pending.values():
            if not future.done():
                future.set_exception(_Failure(outcome, detail))


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

        return SrvAnswer(**await self._ask(request.name, wire.SRV, request.server, read))

    async def addresses(self, request: AddressQuery) -> AddressAnswer:
        """Addresses of a name, of one family."""
        kind = wire.A if request.family is Family.IPV4 else wire.AAAA

        def read(records: tuple[wire.Record, ...]) -> dict[str, Any]:
            return {"addresses": tuple(sorted({str(record.data) for record in records}))}

        return AddressAnswer(**await self._ask(request.name, kind, request.server, read))

    async def _ask(
        self, name: str, kind: int, server: str, read: Callable[[tuple[wire.Record, ...]], dict[str, Any]]
    ) -> dict[str, Any]:
        at = datetime.datetime.now(datetime.UTC)
        started = time.perf_counter()
        tried: list[ServerTry] = []
        fields: dict[str, Any] = {"outcome": DnsOutcome.NO_SERVER}
        queries = 0
        for candidate in self._servers(server):
            fields = await self._ask_one(candidate, name, kind, read)
            queries += fields.pop("queries")
            if fields["outcome"] in _DEAD:
                self._dead.add(candidate)
            if fields["outcome"] not in _TRY_NEXT:
                break
            tried.append(ServerTry(candidate, fields["outcome"]))
        if tried and fields["outcome"] in _TRY_NEXT:
            tried.pop()
        elapsed = round((time.perf_counter() - started) * 1000, 3)
        return {**fields, "at": at, "elapsed_ms": elapsed, "tried": tuple(tried), "queries": queries}

    def _servers(self, server: str) -> list[str]:
        if server != SYSTEM:
            return [server]
        if self._system is None:
            self._system = system_dns().servers
        return sorted(self._system, key=self._dead.__contains__)

    async def _ask_one(
        self, server: str, name: str, kind: int, read: Callable[[tuple[wire.Record, ...]], dict[str, Any]]
    ) -> dict[str, Any]:
        """Follow the chain at one server to its end."""
        facts: dict[str, Any] = {"server": server, "queries": 0}
        raw: list[bytes] = []
        chain: list[str] = []
        limit = time.monotonic() + self._settings.timeout
        try:
            while True:
                message, data = await self._exchange(server, chain[-1] if chain else name, kind, limit, facts)
                raw.append(data)
                facts.update(rcode=message.rcode_name, authoritative=message.authoritative)
                if message.rcode:
                    chain.extend(_follow(message, chain[-1] if chain else name)[0])
                    outcome = _RCODE_OUTCOMES.get(message.rcode, DnsOutcome.ERROR_RCODE)
                    detail = message.rcode_name if outcome is DnsOutcome.ERROR_RCODE else ""
                    raise _Failure(outcome, detail)
                links, end = _follow(message, chain[-1] if chain else name)
                chain.extend(links)
                found = tuple(record for record in message.answers if record.type == kind and record.name == end)
                if found:
                    facts.update(outcome=DnsOutcome.ANSWERED, **read(found))
                    break
                if len(chain) > MAX_CHAIN or len(set(chain)) < len(chain) or (end == name and chain):
                    raise _Failure(DnsOutcome.CHAIN)
                if not links:
                    raise _Failure(DnsOutcome.REFERRAL if message.referral else DnsOutcome.NODATA)
        except _Failure as failure:
            facts.update(outcome=failure.outcome, detail=failure.detail)
            if failure.raw:
                raw.append(failure.raw)
        return {**facts, "chain": tuple(chain[: MAX_CHAIN + 1]), "wire": tuple(raw)}

    async def _exchange(
        self, server: str, name: str, kind: int, limit: float, facts: dict[str, Any]
    ) -> tuple[wire.Message, bytes]:
        """One question, over UDP and then TCP where the answer was cut."""
        facts["transport"] = "udp"
        message, data = await self._udp(server, name, kind, limit, facts, edns=True)
        if message.rcode in _NO_EDNS_RCODES:
            facts["edns"] = False
            message, data = await self._udp(server, name, kind, limit, facts, edns=False)
        if message.truncated:
            facts["transport"] = "tcp"
            facts["queries"] += 1
            message, data = await self._tcp(server, name, kind)
        return message, data

    async def _udp(
        self, server: str, name: str, kind: int, limit: float, facts: dict[str, Any], *, edns: bool
    ) -> tuple[wire.Message, bytes]:
        channel = await asyncio.shield(self._channel(server))
        loop = asyncio.get_running_loop()
        await channel.burst.acquire()
        slot = loop.call_later(YOUNG, channel.burst.release)
        number = random.getrandbits(16)
        while number in channel.pending:
            number = random.getrandbits(16)
        try:
            question = wire.encode_question(name, kind, number, edns=edns)
        except wire.DnsFormatError as error:
            slot.cancel()
            channel.burst.release()
            # A target that the network sent and that no one can ask for: the name is at fault, not the server.
            raise _Failure(DnsOutcome.MALFORMED, str(error)) from None
        future: asyncio.Future[tuple[wire.Message, bytes]] = loop.create_future()
        channel.pending[number] = ((name.lower().removesuffix(".") or ".", kind), future)
        sent_at = time.monotonic()
        timers: list[asyncio.TimerHandle] = []
        left = max(0.05, limit - sent_at)

        def send(data: bytes) -> None:
            facts["queries"] += 1
            if channel.transport is not None:
                channel.transport.sendto(data)

        def give_up() -> None:
            if not future.done():
                at, data = channel.garbage
                failure = _Failure(DnsOutcome.TIMEOUT)
                if at > sent_at:
                    failure = _Failure(DnsOutcome.MALFORMED, "datagrams that are no answer to the question", data)
                future.set_exception(failure)

        def send_last() -> None:
            facts["edns"] = False
            send(wire.encode_question(name, kind, number, edns=False))

        try:
            timers.append(loop.call_later(left, give_up))
            timers.append(loop.call_later(left / SENDS, send, question))
            timers.append(loop.call_later(left * 2 / SENDS, send_last))
            send(question)
            return await future
        finally:
            for timer in timers:
                timer.cancel()
            del channel.pending[number]
            if loop.time() < slot.when():
                slot.cancel()
                channel.burst.release()

    def _channel(self, server: str) -> asyncio.Task[_Channel]:
        """The server's socket; a task, so that questions that come at once share the opening too."""
        task = self._channels.get(server)
        if task is None:
            task = self._channels[server] = asyncio.ensure_future(self._open(server))
        return task

    async def _open(self, server: str) -> _Channel:
        address, port = split_server(server)
        where = self._settings.via.get((address, port), (address, port))
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

    async def _tcp(self, server: str, name: str, kind: int) -> tuple[wire.Message, bytes]:
        """The same question over TCP, by dnspython, whose own time limit bounds a server that drips."""
        import dns.asyncquery
        import dns.exception
        import dns.message
        import dns.rdatatype

        address, port = split_server(server)
        where, where_port = self._settings.via.get((address, port), (address, port))
        source = self._settings.source if (":" in self._settings.source) == (":" in where) else ""
        try:
            answer = await dns.asyncquery.tcp(
                dns.message.make_query(name, dns.rdatatype.RdataType(kind), use_edns=0, payload=wire.PAYLOAD),
                where,
                timeout=self._settings.timeout,
                port=where_port,
                source=source or None,
                ignore_trailing=True,
            )
            data = answer.wire or answer.to_wire()
            return wire.decode(data), data
        except (dns.exception.DNSException, wire.DnsFormatError, OSError, EOFError) as error:
            number = getattr(error, "errno", None)
            reason = errno.errorcode.get(number, "") if number else type(error).__name__
            raise _Failure(DnsOutcome.TRUNCATED, f"TCP: {reason}") from None


def _follow(message: wire.Message, name: str) -> tuple[list[str], str]:
    """Follow CNAMEs inside one message; the links followed, and the name they end at."""
    aliases = {record.name: record.data for record in message.answers if record.type == wire.CNAME}
    links: list[str] = []
    end = name.lower()
    while isinstance(target := aliases.get(end), str) and len(links) <= MAX_CHAIN:
        links.append(target)
        end = target
    return links, end
