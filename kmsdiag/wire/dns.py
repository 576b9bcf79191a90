"""DNS messages, as far as KMS discovery needs them, on dnspython's primitives for names and rdata.

``dns.message`` builds a whole object tree for each message (measured: 91 µs to make a question, 135 µs to read an
answer); a thousand domains need only the few fields below, at an eighth of that. Most of that time goes into names, so
each one is read once: a pointer to a name that was read before, and the question that comes back, are looked up.
"""

import functools
import ipaddress
import struct
from typing import Final, NamedTuple

import dns.exception
import dns.name
import dns.wire

A, NS, CNAME, SOA, AAAA, SRV, OPT = 1, 2, 5, 6, 28, 33, 41
IN: Final = 1

PAYLOAD: Final = 1232
"""UDP payload size offered by EDNS(0): what fits everywhere without fragments (DNS flag day 2020)."""

_HEADER: Final = struct.Struct("!HHHHHH")
_RECORD: Final = struct.Struct("!HHIH")
_SRV: Final = struct.Struct("!HHH")
_SOA: Final = struct.Struct("!IIIII")
_QUESTION: Final = struct.Struct("!HH")
_OPT: Final = b"\0" + _RECORD.pack(OPT, PAYLOAD, 0, 0)

RCODES: Final = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    9: "NOTAUTH",
    16: "BADVERS",
}


class DnsFormatError(ValueError):
    """Bytes that are no valid DNS message; the text says what is wrong."""


class SrvData(NamedTuple):
    """Rdata of an SRV record (RFC 2782), the target in presentation form without its final dot."""

    priority: int
    weight: int
    port: int
    target: str


class SoaData(NamedTuple):
    """Rdata of a SOA record, as far as it is read: the primary server's name and the serial number."""

    primary: str
    serial: int


class Record(NamedTuple):
    """One record: ``data`` is an address, a name, an SrvData, a SoaData, or None for types not read here."""

    name: str
    type: int
    ttl: int
    data: str | SrvData | SoaData | None


class Message(NamedTuple):
    """What is read of a message.

    ``referral`` is true for NS records without SOA in the authority section; ``soa`` is the SOA record found there.
    ``additional`` holds the addresses that came along, unless the message was truncated.
    """

    id: int
    response: bool
    authoritative: bool
    truncated: bool
    recursion: bool
    rcode: int
    question: tuple[str, int]
    answers: tuple[Record, ...]
    referral: bool
    edns: bool
    soa: Record | None = None
    additional: tuple[Record, ...] = ()

    @property
    def rcode_name(self) -> str:
        """Mnemonic of the rcode."""
        return RCODES.get(self.rcode, f"RCODE{self.rcode}")


def encode_question(name: str, kind: int, number: int, *, edns: bool, recursion: bool = True) -> bytes:
    """One question.

    Raises:
        DnsFormatError: not a name that DNS can carry.
    """
    header = _HEADER.pack(number, 0x0100 if recursion else 0, 1, 0, 0, 1 if edns else 0)
    return header + _encode_name(name) + _QUESTION.pack(kind, IN) + (_OPT if edns else b"")


@functools.lru_cache(maxsize=1024)
def _encode_name(name: str) -> bytes:
    """A name on the wire; kept, because A and AAAA of a name are asked together, and some questions twice."""
    try:
        wire = dns.name.from_text(name).to_wire()
    except dns.exception.DNSException as error:
        raise DnsFormatError(f"{name!r} is no DNS name: {error}") from None
    if wire is None:
        raise DnsFormatError(f"{name!r} is no DNS name")
    return wire


def canonical(name: dns.name.Name) -> str:
    """Lower-case presentation form without the final dot ("." for the root); odd bytes are escaped by dnspython."""
    return name.to_text(omit_final_dot=True).lower()


class _Names:
    """The names of one message, by the offset where each begins."""

    __slots__ = ("known", "parser")

    def __init__(self, parser: dns.wire.Parser) -> None:
        self.parser = parser
        self.known: dict[int, str] = {}

    def read(self) -> str:
        """The name at the parser's place; dnspython reads and judges every name that is not known yet."""
        parser = self.parser
        start = parser.current
        if parser.remaining() > 0:
            first = parser.wire[start]
            if first == 0:
                parser.get_bytes(1)
                return "."
            if first >= 0xC0:
                known = self.known.get(parser.get_uint16() & 0x3FFF)
                if known is not None:
                    return known
                parser.seek(start)
        name = self.known[start] = canonical(dns.name.from_wire_parser(parser))
        return name

    def read_question(self, asked: str) -> str:
        """The name at the parser's place, which is that of the question unless the server sends another."""
        parser = self.parser
        start = parser.current
        if asked and parser.wire.startswith(expected := _encode_name(asked), start):
            parser.get_bytes(len(expected))
            self.known[start] = asked
            return asked
        return self.read()


class Head(NamedTuple):
    """What opens a message: header and first question. ``answers`` is the number of records that are said to follow."""

    id: int
    response: bool
    truncated: bool
    rcode: int
    question: tuple[str, int]
    answers: int


def decode_head(wire: bytes) -> Head:
    """Decode the header and the first question of a message, whose rest may be missing.

    Raises:
        DnsFormatError: not even these are whole.
    """
    if len(wire) < _HEADER.size:
        raise DnsFormatError(f"a DNS header has 12 bytes, here are {len(wire)}")
    number, flags, questions, answers, _authority, _additional = _HEADER.unpack_from(wire)
    parser = dns.wire.Parser(wire, _HEADER.size)
    question = ("", 0)
    try:
        if questions:
            end = _plain_end(wire, _HEADER.size)
            name = _Names(parser).read() if end is None else _plain_name(wire[_HEADER.size : end])
            parser.seek(end or parser.current)
            question = (name, parser.get_uint16())
    except dns.exception.DNSException as error:
        raise DnsFormatError(f"ill-formed at byte {parser.current}: {type(error).__name__}") from None
    return Head(number, bool(flags & 0x8000), bool(flags & 0x0200), flags & 15, question, answers)


def _plain_end(wire: bytes, at: int) -> int | None:
    """Where a name without pointers ends; None where it is cut or has one."""
    while at < len(wire):
        length = wire[at]
        if length == 0:
            return at + 1
        if length > 63:
            return None
        at += length + 1
    return None


@functools.lru_cache(maxsize=16_384)
def _plain_name(wire: bytes) -> str:
    """A name without pointers; kept, because captures hold the same questions many times."""
    return canonical(dns.name.from_wire(wire, 0)[0])


def decode(wire: bytes, asked: str = "", *, multicast: bool = False) -> Message:
    """Decode a message; sections behind the first ill-formed record are an error, not a guess.

    ``asked`` is the name that was asked for, in the form of :func:`canonical`: it need not be read again. In
    ``multicast`` DNS the top bit of a record's class is not part of it (RFC 6762 10.2).

    Raises:
        DnsFormatError: cut short, a compression loop, or rdata that does not fill its length.
    """
    if len(wire) < _HEADER.size:
        raise DnsFormatError(f"a DNS header has 12 bytes, here are {len(wire)}")
    number, flags, questions, answers, authority, additional = _HEADER.unpack_from(wire)
    parser = dns.wire.Parser(wire, _HEADER.size)
    names = _Names(parser)
    try:
        question = ("", 0)
        for _ in range(questions):
            name = names.read_question(asked)
            question = (name, parser.get_uint16())
            parser.get_uint16()
        classes = 0x7FFF if multicast else 0xFFFF
        records = tuple(_record(names, classes) for _ in range(answers))
        soa, referring = None, False
        for _ in range(authority):
            record = _record(names, classes)
            referring = referring or record.type == NS
            soa = record if record.type == SOA else soa
        rcode, edns = flags & 15, False
        along = []
        if not flags & 0x0200:
            for _ in range(additional):
                extra = _record(names, classes)
                if extra.type == OPT:
                    edns, rcode = True, rcode | extra.ttl >> 24 << 4
                elif extra.type in (A, AAAA):
                    along.append(extra)
    except dns.exception.DNSException as error:
        raise DnsFormatError(f"ill-formed at byte {parser.current}: {type(error).__name__}") from None
    return Message(
        number,
        bool(flags & 0x8000),
        bool(flags & 0x0400),
        bool(flags & 0x0200),
        bool(flags & 0x0080),
        rcode,
        question,
        records,
        referring and soa is None,
        edns,
        soa,
        tuple(along),
    )


def _record(names: _Names, classes: int = 0xFFFF) -> Record:
    parser = names.parser
    owner = names.read()
    kind, family, ttl, length = _RECORD.unpack(parser.get_bytes(_RECORD.size))
    data: str | SrvData | SoaData | None = None
    if family & classes != IN:
        # Another class (for OPT the field is a size): whatever it is, it is no answer about the Internet.
        parser.get_bytes(length)
    elif kind in (SRV, CNAME, NS, SOA):
        with parser.restrict_to(length):
            if kind == SRV:
                priority, weight, port = _SRV.unpack(parser.get_bytes(_SRV.size))
                data = SrvData(priority, weight, port, names.read())
            elif kind == SOA:
                primary = names.read()
                names.read()
                (serial, *_timers) = _SOA.unpack(parser.get_bytes(_SOA.size))
                data = SoaData(primary, serial)
            else:
                data = names.read()
    else:
        rdata = parser.get_bytes(length)
        if kind == A and length == 4:
            data = str(ipaddress.IPv4Address(rdata))
        elif kind == AAAA and length == 16:
            data = str(ipaddress.IPv6Address(rdata))
        elif kind in (A, AAAA):
            raise dns.exception.FormError
    return Record(owner, kind, ttl, data)
