"""Suricata's EVE JSON: events of DCE/RPC, DNS and flows, one a line.

What they say (Suricata's rust/src/{dcerpc,dns}/log.rs and src/output-json-flow.c, and version 7.0.10 run on captures):

* dcerpc has a request with its response, on one line. The interface is named by a BIND, and by some requests. A
  bind_nak and a fault are no response to Suricata: both are UNREPLIED, as silence is. Sizes of stubs are there, the
  HRESULT is not. Events that a flow's end brought forth carry no time of their own.
* dns has questions and answers on lines of their own (versions 1 and 2: query and answer; version 3: request and
  response), SRV records whole.
* flow has packets each way, all TCP flags that each side ever set, and the protocol that each side spoke.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec

from kmsdiag.capture.lookups import PORTS, SERVICE
from kmsdiag.evidence.connections.findings import (
    EVERYTHING,
    Gathered,
    LineError,
    Pass,
    address,
    moment_of,
    name_of,
    plain,
    question_of,
    said_of,
    tag_of,
)
from kmsdiag.evidence.connections.judged import RPC, Call, Closer, Life, Reply
from kmsdiag.evidence.connections.lines import Troubles
from kmsdiag.model.request import KMS_INTERFACE
from kmsdiag.model.target import Unsigned16
from kmsdiag.wire import dns
from kmsdiag.wire.frames import ref_of
from kmsdiag.wire.streams import KMS_PORTS

_NOTHING: Final = msgspec.Raw(b"")
_SERVICE: Final = SERVICE.encode()
_KMS_PORT_TEXTS: Final = tuple(str(port).encode() for port in sorted(KMS_PORTS))
_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_BINDS: Final = ("BIND", "ALTER_CONTEXT")
_REPLIES: Final = {
    "RESPONSE": Reply.GIVEN,
    "BINDACK": Reply.GIVEN,
    "ALTER_CONTEXT_RESP": Reply.GIVEN,
    "FAULT": Reply.FAULT,
    "BINDNAK": Reply.NAK,
}

Count = Annotated[int, msgspec.Meta(ge=0)]


class _Event(msgspec.Struct, kw_only=True, gc=False):
    """What all events have in common, and the parts that count here, undecoded."""

    event_type: str
    timestamp: str = ""
    flow_id: int | None = None
    src_ip: str = ""
    src_port: Unsigned16 = 0
    dest_ip: str = ""
    dest_port: Unsigned16 = 0
    proto: str = ""
    app_proto: str = ""
    app_proto_ts: str = ""
    app_proto_tc: str = ""
    dcerpc: msgspec.Raw = _NOTHING
    dns: msgspec.Raw = _NOTHING
    flow: msgspec.Raw = _NOTHING
    tcp: msgspec.Raw = _NOTHING


class _Interface(msgspec.Struct):
    uuid: str = ""
    ack_result: int | None = None


class _Stub(msgspec.Struct):
    stub_data_size: Count = 0


class _Rpc(msgspec.Struct):
    request: str = ""
    response: str = ""
    interfaces: list[_Interface] = []
    res: _Stub | None = None


class _Flow(msgspec.Struct):
    start: str
    end: str
    pkts_toserver: Count = 0
    pkts_toclient: Count = 0
    state: str = ""
    reason: str = ""


class _Tcp(msgspec.Struct):
    tcp_flags_ts: str = "00"
    tcp_flags_tc: str = "00"
    state: str = ""
    ts_gap: bool = False
    tc_gap: bool = False


class _Srv(msgspec.Struct):
    priority: Unsigned16
    weight: Unsigned16
    port: Unsigned16
    name: str


class _Record(msgspec.Struct):
    rrname: str = ""
    rrtype: str = ""
    ttl: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    rdata: Any = None
    srv: _Srv | None = None


class _Grouped(msgspec.Struct):
    A: list[str] = []
    AAAA: list[str] = []
    SRV: list[_Srv] = []


class _Question(msgspec.Struct):
    rrname: str = ""
    rrtype: str = ""


class _Dns(msgspec.Struct):
    type: str = ""
    id: Unsigned16 = 0
    rrname: str = ""
    rrtype: str = ""
    rcode: str = ""
    tc: bool = False
    rdata: Any = None
    ttl: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    queries: list[_Question] = []
    answers: list[_Record] = []
    additionals: list[_Record] = []
    grouped: _Grouped | None = None


_EVENTS: Final = msgspec.json.Decoder(_Event)
_RPCS: Final = msgspec.json.Decoder(_Rpc)
_FLOWS: Final = msgspec.json.Decoder(_Flow)
_TCPS: Final = msgspec.json.Decoder(_Tcp)
_DNS: Final = msgspec.json.Decoder(_Dns)


class EveLog:
    """Reads the lines of one file. ``names`` are the types of events that counted; ``used`` counts those."""

    def __init__(self, gathered: Gathered, file: int, which: Pass = Pass.ALL) -> None:
        self.gathered = gathered
        self.which = which
        self.wanted = EVERYTHING
        self.names: set[str] = set()
        self.troubles = Troubles()
        self.used = 0
        self.total = 0
        self._file = file

    def feed(self, first: int, lines: list[bytes]) -> None:
        """Take lines; ``first`` is the number of the first of them. Never raises."""
        again = self.which is Pass.ADDRESSES
        for number, line in enumerate(lines, first):
            if len(line) < 2:
                continue
            self.total += not again
            edge = not again and number in (first, first + len(lines) - 1)
            try:
                if self._may_count(line) or edge:
                    self._line(ref_of(self._file, number), line, edge=edge)
            except LineError as error:
                self.troubles.add(number, str(error))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                self.troubles.add(number, f"it is cut or damaged ({plain(str(error))[:120]})")

    def _may_count(self, line: bytes) -> bool:
        """A quick test that leaves out most of what has nothing to do with KMS."""
        if b'"dns"' in line:
            if self.which is Pass.FIRST:
                self.gathered.lookups.messages += 1
                return _SERVICE in line.lower()
            return self.wanted.may_be(line)
        if self.which is Pass.ADDRESSES:
            return False
        if b'"flow"' in line:
            return bool(self.gathered.elsewhere) or any(port in line for port in _KMS_PORT_TEXTS)
        if b'"dcerpc"' in line:
            return True
        if not line.rstrip().endswith(b"}"):
            raise LineError("it is cut or damaged (no whole JSON object)")
        return False

    def _line(self, ref: int, line: bytes, *, edge: bool) -> None:
        event = _EVENTS.decode(line)
        if edge:
            self.gathered.saw(moment_of(event.timestamp))
        take = {"dcerpc": self._take_rpc, "dns": self._take_dns, "flow": self._take_flow}.get(event.event_type)
        if take is None:
            return
        if take(event, ref):
            self.names.add(event.event_type)
            self.used += 1

    def _take_rpc(self, event: _Event, ref: int) -> bool:
        rpc = _RPCS.decode(event.dcerpc)
        if event.proto != "TCP" or event.flow_id is None:
            return False
        ours = [one for one in rpc.interfaces if one.uuid.lower() == KMS_INTERFACE]
        known = event.flow_id in self.gathered.connections
        if rpc.interfaces and not ours:
            return False
        if not (ours or known or {event.src_port, event.dest_port} & KMS_PORTS):
            return False
        if rpc.request not in (*_BINDS, "REQUEST"):
            return False
        at = moment_of(event.timestamp)
        self.gathered.saw(at)
        bind = rpc.request in _BINDS
        reply = _REPLIES.get(rpc.response, Reply.NOT_LOGGED)
        if bind and reply is Reply.GIVEN and ours and all(one.ack_result not in (0, None) for one in ours):
            reply = Reply.REJECTED
        size = rpc.res.stub_data_size if rpc.res is not None and reply is Reply.GIVEN else -1
        self._add(event, Call(ref, at, bind=bind, reply=reply, size=size), kms=bool(ours))
        return True

    def _take_flow(self, event: _Event, ref: int) -> bool:
        if event.proto != "TCP":
            return False
        self.gathered.flows = True
        known = event.flow_id in self.gathered.connections
        if event.flow_id is None or not (known or {event.src_port, event.dest_port} & KMS_PORTS):
            return False
        flow = _FLOWS.decode(event.flow)
        tcp = _TCPS.decode(event.tcp) if event.tcp else _Tcp()
        life = _life(event, flow, tcp, ref, turned=_turned(event))
        self.gathered.saw(life.started)
        self.gathered.saw(life.ended)
        self._add(event, life)
        return True

    def _add(self, event: _Event, what: Call | Life, *, kms: bool = False) -> None:
        ends = (address(event.src_ip), event.src_port), (address(event.dest_ip), event.dest_port)
        client, host = reversed(ends) if _turned(event) else ends
        assert event.flow_id is not None  # noqa: S101  # both callers saw to it
        self.gathered.add(event.flow_id, client, host, what, kms=kms)

    def _take_dns(self, event: _Event, ref: int) -> bool:
        message = _DNS.decode(event.dns)
        self.gathered.lookups.messages += self.which is Pass.ALL
        at = moment_of(event.timestamp)
        ends = (address(event.src_ip), event.src_port), (address(event.dest_ip), event.dest_port)
        # Older versions log an answer in the direction of its packet.
        turned = event.src_port in PORTS and event.dest_port not in PORTS
        (client, port), (server, server_port) = reversed(ends) if turned else ends
        tag = tag_of(port, message.id, tcp=event.proto == "TCP")
        counts = False
        for question in message.queries or [_Question(message.rrname, message.rrtype)]:
            key = question_of(client, server, server_port, question.rrname, question.rrtype)
            if key is None or (self.which is not Pass.ALL and (key.kind == "SRV") is not (self.which is Pass.FIRST)):
                continue
            if message.type in ("query", "request"):
                self.gathered.lookups.note(key, ref, at, tag)
                counts = True
            elif message.type in ("answer", "response"):
                records, addresses, ttls = _contents(message, key.name)
                said = said_of(message.rcode or "NOERROR", key.kind, records, addresses, truncated=message.tc)
                self.gathered.lookups.note(key, ref, at, tag, said, ttls)
                counts = True
        return counts


def _turned(event: _Event) -> bool:
    """Whether the host is given as the source."""
    return event.src_port in KMS_PORTS and event.dest_port not in KMS_PORTS


# ------------------------------------------------------------------------------------------------ connections


def _life(event: _Event, flow: _Flow, tcp: _Tcp, ref: int, *, turned: bool) -> Life:
    theirs, ours = (_flags(text) for text in (tcp.tcp_flags_ts, tcp.tcp_flags_tc))
    packets = flow.pkts_toserver
    if turned:
        theirs, ours, packets = ours, theirs, flow.pkts_toclient
    client, host = _spoken(event)
    if turned:
        client, host = host, client
    answered = ours & (_SYN | _ACK) == _SYN | _ACK and theirs & _SYN != 0
    only_syns = theirs == _SYN
    return Life(
        ref=ref,
        started=moment_of(flow.start),
        ended=moment_of(flow.end),
        syn=bool(theirs & _SYN),
        answered=answered,
        opened=bool(theirs & (_ACK | _PSH)),
        refused=not answered and bool(ours & _RST),
        asked=bool(theirs & _PSH) or client != "",
        replied=bool(ours & _PSH) or host != "",
        closer=_closer(theirs, ours if answered else 0),
        reset=answered and bool((theirs | ours) & _RST),
        syns=max(packets, 1) if only_syns else 1,
        gap=tcp.ts_gap or tcp.tc_gap,
        client=client,
        host=host,
        words=f"{plain(flow.state)[:20]}, TCP flags {theirs:02x} and {ours:02x}, {flow.pkts_toserver} and"
        f" {flow.pkts_toclient} packets, ended by {plain(flow.reason)[:20]}",
    )


def _flags(text: str) -> int:
    try:
        return int(text, 16) & 0xFF
    except ValueError:
        raise LineError(f"'{plain(text)[:20]}' are no TCP flags") from None


def _spoken(event: _Event) -> tuple[str, str]:
    """The protocols of both sides, as far as they were recognised."""
    both = _protocol(event.app_proto)
    client, host = _protocol(event.app_proto_ts) or both, _protocol(event.app_proto_tc)
    if not host and client != both:
        host = both
    return client, host


def _protocol(name: str) -> str:
    return "" if name in ("", "failed", "unknown") else RPC if name == "dcerpc" else plain(name)[:40]


def _closer(client: int, host: int) -> Closer:
    """Who hung up, by FIN or RST. Flags are without order."""
    sides = bool(client & (_FIN | _RST)), bool(host & (_FIN | _RST))
    return {
        (False, False): Closer.NOBODY,
        (True, False): Closer.CLIENT,
        (False, True): Closer.HOST,
        (True, True): Closer.UNTOLD,
    }[sides]


# ------------------------------------------------------------------------------------------------------- DNS


def _contents(message: _Dns, name: str) -> tuple[list[dns.SrvData], list[tuple[str, str]], dict[dns.SrvData, int]]:
    """SRV records, addresses by name, and TTLs of the records."""
    records: list[dns.SrvData] = []
    addresses: list[tuple[str, str]] = []
    ttls: dict[dns.SrvData, int] = {}
    for one in (*message.answers, *message.additionals, *_old(message)):
        if one.srv is not None:
            record = _srv(one.srv)
            records.append(record)
            ttls[record] = max(one.ttl, ttls.get(record, 0))
        elif one.rrtype in ("A", "AAAA") and isinstance(one.rdata, str):
            # The name that was asked for may be an alias of the record's.
            addresses += [(called, address(one.rdata)) for called in _names(one, message, name)]
    if message.grouped is not None:
        records += [_srv(one) for one in message.grouped.SRV]
        addresses += [(name, address(one)) for one in (*message.grouped.A, *message.grouped.AAAA)]
    return records, addresses, ttls


def _names(record: _Record, message: _Dns, asked: str) -> set[str]:
    own = name_of(record.rrname)
    return {own, asked} if record.rrtype in (message.rrtype, *(one.rrtype for one in message.queries)) else {own}


def _old(message: _Dns) -> Iterator[_Record]:
    """Version 1 has a line a record."""
    if message.rdata is not None:
        yield _Record(message.rrname, message.rrtype, message.ttl, message.rdata)


def _srv(one: _Srv) -> dns.SrvData:
    return dns.SrvData(one.priority, one.weight, one.port, name_of(one.name))
