"""DNS questions: UDP, TCP where the answer was cut, EDNS with a way back, CNAME chains; every end told apart.

All questions to one server share one socket (:mod:`kmsdiag.probes.dns_channel`).
"""

import asyncio
import contextlib
import datetime
import errno
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from kmsdiag.model.answer import AddressAnswer, NsAnswer, ServerTry, SoaAnswer, SrvAnswer, SrvRecord
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.request import AddressQuery, NsQuery, SoaQuery, SrvQuery, Transport
from kmsdiag.model.target import SYSTEM, Family, split_server
from kmsdiag.probes.dns_channel import Channel, Failure, Patience, Question, open_channel
from kmsdiag.probes.settings import ProbeSettings, system_dns
from kmsdiag.wire import dns as wire

MAX_CHAIN: Final = 8
"""CNAME links followed at most."""

_NXDOMAIN: Final = 3
_RCODE_OUTCOMES: Final = {2: DnsOutcome.SERVFAIL, _NXDOMAIN: DnsOutcome.NXDOMAIN, 5: DnsOutcome.REFUSED}
_NO_EDNS_RCODES: Final = (1, 4, 16)
# A stub resolver goes on to the next server after these.
_TRY_NEXT: Final = frozenset(DnsOutcome) - {DnsOutcome.ANSWERED, DnsOutcome.NODATA, DnsOutcome.NXDOMAIN}
# After these the server is asked last for the rest of the run.
_DEAD: Final = frozenset({DnsOutcome.TIMEOUT, DnsOutcome.NOT_LISTENING, DnsOutcome.UNREACHABLE})


_HEAD_START: Final = 1 / 8
"""Share of the time limit that a server is silent before the next one is asked as well (Windows waits a second)."""


class _Spent(NamedTuple):
    """What a question cost: messages sent, and seconds that they waited for their turn here."""

    queries: int = 0
    queued: float = 0.0

    def and_(self, queries: int, queued: float) -> "_Spent":
        """The same with more."""
        return _Spent(self.queries + queries, self.queued + queued)


class _Wanted(NamedTuple):
    """What is asked for, and how facts are read from the records found, or from a message that has none."""

    name: str
    kind: int
    found: Callable[[tuple[wire.Record, ...]], dict[str, Any]]
    absent: Callable[[wire.Message], dict[str, Any]] = lambda _message: {}
    recursion: bool = True
    transport: Transport = Transport.UDP


class DnsClient:
    """All DNS questions of one run. Sockets are opened when first needed; ``close`` ends them."""

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings
        self._channels: dict[str, asyncio.Task[Channel]] = {}
        self._last: set[str] = set()
        self._system: tuple[str, ...] | None = settings.resolvers

    async def close(self) -> None:
        """Close every socket."""
        for task in self._channels.values():
            with contextlib.suppress(Failure, asyncio.CancelledError):
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
        fields, tried, spent = await self._first_to_tell(self._servers(server), wanted)
        # A question is put when it is sent: what it waited for its turn behind other questions is not the server's.
        at += datetime.timedelta(seconds=spent.queued)
        elapsed = round((time.perf_counter() - started - spent.queued) * 1000, 3)
        return {**fields, "at": at, "elapsed_ms": elapsed, "tried": tuple(tried), "queries": spent.queries}

    async def _first_to_tell(
        self, servers: Sequence[str], wanted: _Wanted
    ) -> tuple[dict[str, Any], list[ServerTry], "_Spent"]:
        """Ask servers in turn, as a stub resolver does, until one tells; a silent one does not hold up the next.

        What the last one said counts where none tells. A server that another one overtook is asked last from then on.
        """
        waiting, asked = list(servers), dict[asyncio.Task[dict[str, Any]], str]()
        fields: dict[str, Any] = {"outcome": DnsOutcome.NO_SERVER}
        tried: list[ServerTry] = []
        spent = _Spent()
        try:
            while waiting or asked:
                if waiting:
                    server = waiting.pop(0)
                    asked[asyncio.ensure_future(self._ask_one(server, wanted))] = server
                head_start = self._settings.timeout * _HEAD_START if waiting else None
                done, _open = await asyncio.wait(asked, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=list(asked).index):
                    server, fields = asked.pop(task), task.result()
                    spent = spent.and_(fields.pop("queries"), fields.pop("queued"))
                    if fields["outcome"] in _DEAD:
                        self._last.add(server)
                    if fields["outcome"] not in _TRY_NEXT:
                        self._last.update(asked.values())
                        return fields, tried, spent.and_(len(asked), 0.0)
                    tried.append(ServerTry(server, fields["outcome"]))
        finally:
            for task in asked:
                task.cancel()
        return fields, tried[:-1], spent

    def _servers(self, server: str) -> list[str]:
        if server != SYSTEM:
            return [server]
        if self._system is None:
            self._system = system_dns().servers
        return sorted(self._system, key=self._last.__contains__)

    async def _ask_one(self, server: str, wanted: _Wanted) -> dict[str, Any]:
        """Follow the chain at one server to its end."""
        name = wanted.name.lower()
        facts: dict[str, Any] = {"server": server, "queries": 0, "queued": 0.0}
        raw: list[bytes] = []
        chain: list[str] = []
        patience = Patience(self._settings.timeout)
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
                    raise Failure(DnsOutcome.CHAIN)
                if message.rcode in (0, _NXDOMAIN) and not links:
                    facts.update(wanted.absent(message))
                if message.rcode:
                    outcome = _RCODE_OUTCOMES.get(message.rcode, DnsOutcome.ERROR_RCODE)
                    detail = message.rcode_name if outcome is DnsOutcome.ERROR_RCODE else ""
                    raise Failure(outcome, detail)
                if not links:
                    raise Failure(DnsOutcome.REFERRAL if message.referral else DnsOutcome.NODATA)
        except Failure as failure:
            facts.update(outcome=failure.outcome, detail=failure.detail)
            if failure.raw:
                raw.append(failure.raw)
        return {**facts, "chain": tuple(chain[: MAX_CHAIN + 1]), "wire": tuple(raw)}

    async def _exchange(
        self, server: str, wanted: _Wanted, name: str, patience: Patience, facts: dict[str, Any]
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
            except Failure as failure:
                detail = f"TCP: {failure.detail or failure.outcome}"
                raise Failure(DnsOutcome.TRUNCATED, detail, failure.raw) from None
        return message, data

    async def _udp(
        self, server: str, wanted: _Wanted, name: str, patience: Patience, facts: dict[str, Any], *, edns: bool
    ) -> tuple[wire.Message, bytes]:
        opening = self._channel(server)
        channel = opening.result() if opening.done() else await asyncio.shield(opening)
        question = Question(channel, name, wanted.kind, facts, patience, edns=edns, recursion=wanted.recursion)
        channel.put(question)
        try:
            return await question.answer
        finally:
            question.stop()

    def _channel(self, server: str) -> asyncio.Task[Channel]:
        """The server's socket; a task, so that questions that come at once share the opening too."""
        task = self._channels.get(server)
        if task is None:
            task = self._channels[server] = asyncio.ensure_future(open_channel(server, self._settings))
        return task

    async def _tcp(self, server: str, wanted: _Wanted, name: str, patience: Patience) -> tuple[wire.Message, bytes]:
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
            raise Failure(DnsOutcome.TIMEOUT) from None
        except ConnectionRefusedError:
            raise Failure(DnsOutcome.NOT_LISTENING, "ECONNREFUSED") from None
        except (dns.exception.DNSException, wire.DnsFormatError, EOFError, ConnectionError) as error:
            raise Failure(DnsOutcome.MALFORMED, type(error).__name__) from None
        except OSError as error:
            raise Failure(DnsOutcome.UNREACHABLE, errno.errorcode.get(error.errno or 0, "")) from None


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
