r"""Zeek's conn.log, dns.log and dce_rpc.log, as tab-separated text with ``#`` headers or as JSON lines.

A connection is the same in all three by its uid. What they say (Zeek's scripts base/protocols/{conn,dns,dce-rpc}):

* dce_rpc.log has a line for each *response* of a known interface ("KMS"): requests that were answered by a fault, or
  not at all, and binds that were refused, leave none. It has neither sizes nor the HRESULT.
* conn.log has the state, the history (S SYN, h SYN-ACK, A ACK, D data, F FIN, R RST, G gap; upper case from the
  originator) and the bytes each way of each TCP connection.
* dns.log has a question and its answer in one line; of SRV records the targets alone. ``rtt`` is missing where the
  answer holds no record, and so is a sign that an answer was truncated.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, Final

import msgspec

from kmsdiag.capture.lookups import SERVICE, WINDOW, Said, Transaction
from kmsdiag.evidence.connections.findings import (
    EVERYTHING,
    KINDS,
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
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.target import Unsigned16
from kmsdiag.wire import dns
from kmsdiag.wire.columns import DNS_PORT
from kmsdiag.wire.frames import ref_of
from kmsdiag.wire.streams import KMS_PORTS

SRV_NOTE: Final = (
    "Zeek logs the targets of SRV records alone: ports are those that clients used (else 1688), ranks are not known"
)
"""What has to be said where dns.log holds SRV answers."""

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class _Line(msgspec.Struct, kw_only=True, gc=False):
    """What all three logs have in common."""

    ts: float | str
    uid: str
    orig_h: str = msgspec.field(name="id.orig_h")
    orig_p: Unsigned16 = msgspec.field(name="id.orig_p")
    resp_h: str = msgspec.field(name="id.resp_h")
    resp_p: Unsigned16 = msgspec.field(name="id.resp_p")


class _Conn(_Line, kw_only=True, gc=False):
    """Conn::Info."""

    proto: str
    service: str | None = None
    duration: Seconds | None = None
    resp_bytes: Count | None = None
    orig_bytes: Count | None = None
    conn_state: str = ""
    missed_bytes: Count | None = None
    history: str | None = None
    orig_pkts: Count | None = None


class _Rpc(_Line, kw_only=True, gc=False):
    """DCE_RPC::Info."""

    rtt: Seconds | None = None
    endpoint: str | None = None
    operation: str | None = None


class _Dns(_Line, kw_only=True):
    """DNS::Info."""

    proto: str
    trans_id: Unsigned16 | None = None
    rtt: Seconds | None = None
    query: str | None = None
    qtype_name: str | None = None
    rcode_name: str | None = None
    answers: list[str] | None = None
    TTLs: list[float] | None = None


_SHAPES: Final[dict[str, type[_Line]]] = {"dce_rpc": _Rpc, "conn": _Conn, "dns": _Dns}

TELLING: Final[dict[str, tuple[str, ...]]] = {
    "dce_rpc": ("endpoint", "operation"),
    "conn": ("conn_state",),
    "dns": ("qtype_name",),
}
"""Fields by which each log is known, whatever its file is called."""

_JSON_KINDS: Final = tuple(f'"{kind}"'.encode() for kind in sorted(KINDS))
_SERVICE: Final = SERVICE.encode()
_VECTORS: Final = frozenset({"answers", "TTLs"})
_KMS_PORT_TEXTS: Final = tuple(str(port).encode() for port in sorted(KMS_PORTS))


class ZeekLog:
    """Reads the lines of one file. ``names`` are the logs that it turned out to hold; ``used`` counts lines that count.

    A file of JSON lines may hold several logs.
    """

    def __init__(self, gathered: Gathered, file: int, which: Pass = Pass.ALL) -> None:
        self.gathered = gathered
        self.which = which
        self.wanted = EVERYTHING
        self.names: set[str] = set()
        self.troubles = Troubles()
        self.used = 0
        self.total = 0
        self.srv = False
        self._file = file
        self._table: _Table | None = None
        self._separator = b"\t"
        self._marks = {"set_separator": ",", "empty_field": "(empty)", "unset_field": "-"}

    def feed(self, first: int, lines: list[bytes]) -> None:
        """Take lines; ``first`` is the number of the first of them. Never raises."""
        timed = again = self.which is Pass.ADDRESSES
        for number, line in enumerate(lines, first):
            if not line or line == b"\r":
                continue
            if line.startswith(b"#"):
                self._header(line.rstrip(b"\r"))
                continue
            # Times of all lines would cost more than they tell: the first and last ones of each piece bound the log.
            edge = not timed or (number == first + len(lines) - 1 and not again)
            timed = True
            self.total += not again
            try:
                self._line(ref_of(self._file, number), line, edge=edge)
            except LineError as error:
                self.troubles.add(number, str(error))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                self.troubles.add(number, f"it is cut or damaged ({plain(str(error))[:120]})")

    def _line(self, ref: int, line: bytes, *, edge: bool) -> None:
        if line.startswith(b"{"):
            name = _name_of_json(line)
            if name is None or not (self._may_count(name, line, _JSON_KINDS) or edge):
                return
            row = _DECODERS[name].decode(line)
        else:
            table = self._table
            if table is None:
                if self.which is Pass.ADDRESSES:
                    return
                raise LineError("it stands before any #fields header")
            name = table.name
            if name is None or not (self._may_count(name, line, table.kinds) or edge):
                return
            row = table.row(line)
        at = moment_of(row.ts)
        if edge:
            self.gathered.saw(at)
        self.names.add(name)
        self.used += _TAKERS[name](self, row, ref, at)

    def _may_count(self, name: str, line: bytes, kinds: Collection[bytes]) -> bool:
        """A quick test that leaves out most of what has nothing to do with KMS; ``kinds`` are types of questions."""
        if name == "dns":
            return self._may_be_asked(line, kinds)
        if self.which is Pass.ADDRESSES:
            return False
        if name == "conn":
            return bool(self.gathered.elsewhere) or any(port in line for port in _KMS_PORT_TEXTS)
        return b"KMS" in line

    def _may_be_asked(self, line: bytes, kinds: Collection[bytes]) -> bool:
        if self.which is Pass.FIRST:
            self.gathered.lookups.messages += 1
            return _SERVICE in line.lower()
        return self.wanted.may_be(line) and any(kind in line for kind in kinds)

    def _header(self, line: bytes) -> None:
        """A line of meta information; those of no use are passed over."""
        if line.startswith(b"#separator "):
            self._separator = _unescaped(line.removeprefix(b"#separator ")) or b"\t"
            return
        name, *values = line.decode("utf-8", "replace").split(self._separator.decode("utf-8", "replace"))
        name = name.removeprefix("#")
        if name == "fields":
            self._table = _Table(values, self._separator, self._marks)
        elif name in self._marks and len(values) == 1:
            self._marks[name] = values[0]

    # what lines say

    def take_conn(self, row: _Conn, ref: int, at: int) -> bool:
        """An account of a connection."""
        self.gathered.flows = True
        ours = row.resp_p in KMS_PORTS or row.orig_p in KMS_PORTS or row.uid in self.gathered.elsewhere
        if row.proto != "tcp" or not ours:
            return False
        turned = row.orig_p in KMS_PORTS and row.resp_p not in KMS_PORTS
        self.gathered.saw(at + _ns(row.duration))
        self._add(row, _life(row, ref, at, turned=turned), turned=turned)
        return True

    def take_rpc(self, row: _Rpc, ref: int, at: int) -> bool:
        """A response."""
        if row.endpoint != "KMS":
            return False
        elapsed = None if row.rtt is None else _ns(row.rtt)
        self.gathered.saw(at + (elapsed or 0))
        self._add(row, Call(ref, at, bind=False, reply=Reply.GIVEN, elapsed=elapsed), kms=True)
        return True

    def _add(self, row: _Line, what: Call | Life, *, turned: bool = False, kms: bool = False) -> None:
        originator, responder = (address(row.orig_h), row.orig_p), (address(row.resp_h), row.resp_p)
        client, host = (responder, originator) if turned else (originator, responder)
        self.gathered.add(row.uid, client, host, what, kms=kms)

    def take_dns(self, row: _Dns, ref: int, at: int) -> bool:
        """A question and its answer."""
        kind = row.qtype_name or ""
        if self.which is Pass.ALL:
            self.gathered.lookups.messages += row.resp_p == DNS_PORT
        elif (kind == "SRV") is not (self.which is Pass.FIRST):
            return False
        if kind not in KINDS or row.query is None:
            return False
        client, server = address(row.orig_h), address(row.resp_h)
        key = question_of(client, server, row.resp_p, row.query, kind)
        if key is None:
            return False
        tag = tag_of(row.orig_p, row.trans_id or 0, tcp=row.proto == "tcp")
        lookups = self.gathered.lookups
        lookups.note(key, ref, at, tag)
        if row.rcode_name is not None:
            said, ttls = _answer(row, key.name)
            self.srv = self.srv or bool(said.records)
            lookups.note(key, ref, at + _ns(row.rtt), tag, said, ttls)
            self.gathered.saw(at + _ns(row.rtt))
        return True


class _Table:
    """The columns of a table, in whatever order. ``name`` is the log that they are known by, None for another."""

    def __init__(self, fields: list[str], separator: bytes, marks: Mapping[str, str]) -> None:
        self.name = next((name for name, telling in TELLING.items() if set(telling) <= set(fields)), None)
        self.kinds = tuple(separator + kind.encode() + separator for kind in sorted(KINDS))
        """What questions that count have in their lines."""
        self._separator = separator.decode("utf-8", "replace")
        self._between = marks["set_separator"]
        self._unset, self._empty = marks["unset_field"], marks["empty_field"]
        self._count = len(fields)
        shape = _SHAPES[self.name] if self.name is not None else _Line
        wanted = {one.encode_name for one in msgspec.structs.fields(shape)}
        self._columns = [(place, field) for place, field in enumerate(fields) if field in wanted]
        self._shape = shape

    def row(self, line: bytes) -> Any:
        """A line as what it is about.

        Raises:
            LineError: it has another number of fields.
            msgspec.ValidationError: a field is missing or of a wrong type.
        """
        cells = line.decode("utf-8", "backslashreplace").rstrip("\r").split(self._separator)
        if len(cells) != self._count:
            raise LineError(f"it has {len(cells)} fields, not {self._count}")
        values: dict[str, str | list[str]] = {}
        for place, field in self._columns:
            cell = cells[place]
            if cell == self._unset:
                continue
            if field in _VECTORS:
                values[field] = [] if cell == self._empty else cell.split(self._between)
            else:
                values[field] = "" if cell == self._empty else cell
        return msgspec.convert(values, self._shape, strict=False)


_DECODERS: Final = {name: msgspec.json.Decoder(shape) for name, shape in _SHAPES.items()}

_TAKERS: Final[dict[str, Callable[[ZeekLog, Any, int, int], bool]]] = {
    "dce_rpc": ZeekLog.take_rpc,
    "conn": ZeekLog.take_conn,
    "dns": ZeekLog.take_dns,
}


def _name_of_json(line: bytes) -> str | None:
    """Which log a JSON line is of. Quotes in values are escaped, so that no value looks like a field."""
    if b'"id.orig_h"' not in line and not line.rstrip().endswith(b"}"):
        raise LineError("it is cut or damaged (no whole JSON object)")
    if b'"conn_state":' in line:
        return "conn"
    if b'"qtype_name":' in line or b'"trans_id":' in line:
        return "dns"
    if b'"endpoint":' in line and b'"operation":' in line:
        return "dce_rpc"
    return None


def _unescaped(text: bytes) -> bytes:
    r"""A separator as the header spells it (``\x09``)."""
    return re.sub(rb"\\x([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), text)


def _ns(seconds: float | None) -> int:
    return 0 if seconds is None else round(seconds * 1_000_000) * 1000


# ------------------------------------------------------------------------------------------------ connections


def _life(row: _Conn, ref: int, at: int, *, turned: bool) -> Life:
    """``turned``: who Zeek took for the originator is the host."""
    history = row.history or _HISTORIES.get(row.conn_state, "")
    sent, received = row.orig_bytes, row.resp_bytes
    if turned:
        history, sent, received = history.swapcase(), received, sent
    closer, reset = _closer(history)
    services = [one for one in (row.service or "").replace("-", "").split(",") if one]
    spoken = RPC if RPC in services else plain(services[0])[:40] if services else ""
    answered = "h" in history
    asked, replied = "D" in history, "d" in history
    if not row.history:
        asked, replied = bool(sent), bool(received)
    return Life(
        ref=ref,
        started=at,
        ended=at + _ns(row.duration),
        syn="S" in history,
        answered=answered,
        opened=asked or "A" in history,
        refused=not answered and "r" in history,
        asked=asked,
        replied=replied,
        closer=closer,
        reset=reset and answered,
        syns=_syns(row, history),
        # Neither a history nor bytes: nothing is known of what was said.
        gap=bool(row.missed_bytes) or "g" in history.lower() or (not row.history and sent is None),
        received=received if replied else 0,
        client=spoken if asked else "",
        host=spoken if replied and spoken != RPC else "",
        words=_words(row),
    )


_HISTORIES: Final = {
    "S0": "S",
    "REJ": "Sr",
    "RSTOS0": "SR",
    "SH": "SF",
    "S1": "ShA",
    "SF": "ShA?",
    "S2": "ShAF",
    "S3": "ShAf",
    "RSTO": "ShAR",
    "RSTR": "ShAr",
    "SHR": "hf",
    "RSTRH": "hr",
}
"""What a state says at the least, where no history is logged; "?" for both sides' FINs in unknown order."""


def _closer(history: str) -> tuple[Closer, bool]:
    """Who hung up first, and whether by a RST, from the SYN-ACK on where there is one."""
    if "?" in history:
        return Closer.UNTOLD, False
    first = next((one for one in history[max(history.find("h"), 0) :] if one in "FRfr"), "")
    if not first:
        return Closer.NOBODY, False
    return Closer.CLIENT if first.isupper() else Closer.HOST, first in "Rr"


def _syns(row: _Conn, history: str) -> int:
    """SYNs of the client: repeated ones are letters only where their numbers differ, but all are packets."""
    only = set(history) <= set("Sr^c")
    return max(history.count("S"), row.orig_pkts or 0 if only else 0)


def _words(row: _Conn) -> str:
    sizes = "" if row.orig_bytes is None else f", {row.orig_bytes} and {row.resp_bytes or 0} bytes"
    history = f" {plain(row.history)[:60]}" if row.history else ""
    return f"{plain(row.conn_state)[:20]}{history}{sizes}"


# ------------------------------------------------------------------------------------------------------- DNS


def _answer(row: _Dns, name: str) -> tuple[Said, dict[dns.SrvData, int]]:
    """What an answer says, and the TTLs of its SRV records. A port of 0 is one that is not known."""
    records: list[dns.SrvData] = []
    addresses: list[tuple[str, str]] = []
    ttls: dict[dns.SrvData, int] = {}
    for place, text in enumerate(row.answers or ()):
        if row.qtype_name == "SRV":
            record = dns.SrvData(0, 0, 0, name_of(text.replace("<Root>", ".")))
            records.append(record)
            if row.TTLs is not None and place < len(row.TTLs) and 0 <= row.TTLs[place] < 1 << 32:
                ttls[record] = int(row.TTLs[place])
        else:
            try:
                addresses.append((name, address(text)))
            except LineError:
                continue  # an alias on the way
    return said_of(row.rcode_name or "", row.qtype_name or "", records, addresses), ttls


def without_truncated(transactions: list[Transaction]) -> Iterator[Transaction]:
    """Join answers without data that were asked for again over TCP with those: they were truncated.

    ``transactions`` are in their order, those of one question one behind the other.
    """
    held: Transaction | None = None
    for one in transactions:
        if held is not None and _goes_on(held, one):
            held = one._replace(
                asked=held.asked, questions=held.questions + one.questions, retried=held.retried + one.retried + 1
            )
            continue
        if held is not None:
            yield held
        held = one
    if held is not None:
        yield held


def _goes_on(one: Transaction, after: Transaction) -> bool:
    return (
        one.key == after.key
        and one.outcome is DnsOutcome.NODATA
        and not one.over_tcp
        and after.over_tcp
        and one.asked is not None
        and after.asked is not None
        and 0 <= after.asked[1] - one.asked[1] <= WINDOW
    )
