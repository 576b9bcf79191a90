"""Made-up KMS traffic as bytes: DCE/RPC PDUs, IP packets, whole connections. Only ever written to files, never sent.

Written from the standards and apart from kmsdiag's own codecs, so that those can be tested with it. Bodies of versions
5 and 6 are random bytes behind their version words; version 4 is in clear, with random bytes for its authenticator.
Addresses are those of RFC 5737 and RFC 3849. The same calls give the same bytes.
"""

import ipaddress
import itertools
import random
import struct
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Self

START: Final = 1_780_000_000_000_000
"""Unix time of the first packet in µs: 28 May 2026."""

CLIENT, HOST, RESOLVER = "192.0.2.10", "198.51.100.20", "192.0.2.53"
CLIENT6, HOST6, RESOLVER6 = "2001:db8::10", "2001:db8:1::20", "2001:db8::53"
PORT: Final = 1688

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

KMS: Final = uuid.UUID("51c82175-844e-4750-b0d8-ec255555bc06")
OTHER: Final = uuid.UUID("12345678-1234-abcd-ef00-01234567cffb")
"""An interface that is not KMS (netlogon)."""

Syntax = tuple[uuid.UUID, int]
NDR32: Final[Syntax] = (uuid.UUID("8a885d04-1ceb-11c9-9fe8-08002b104860"), 2)
NDR64: Final[Syntax] = (uuid.UUID("71710533-beba-4937-8319-b5dbef9ccc36"), 1)
FEATURES: Final[Syntax] = (uuid.UUID("6cb71c2c-9812-4540-0300-000000000000"), 1)
WINDOWS: Final = (NDR32, NDR64, FEATURES)

MODERN: Final = ((2, 2, None), (0, 0, NDR64), (3, 3, None))
"""What Server 2012 and later answer to the three contexts: NDR64, whatever came first."""

OLD: Final = ((0, 0, NDR32), (2, 2, None), (3, 3, None))
"""What hosts without NDR64 answer."""

NEITHER: Final = ((0, 0, NDR32), (2, 2, None), (2, 2, None))
"""What a host without NDR64 and without feature negotiation answers."""

Result = tuple[int, int, Syntax | None]

WINDOWS_APP: Final = uuid.UUID("55c92734-d682-4d71-983e-d6ec3f16059f")
CMID: Final = uuid.UUID("11111111-2222-4333-8444-555555555555")
PID: Final = "00000-00000-000-000000-00-0000-00000.0000-0000000"
"""49 characters, as real ones have."""


def noise(size: int, seed: object = 0) -> bytes:
    """Random bytes that are the same each time."""
    return random.Random(f"kmsdiag {seed} {size}").randbytes(size)


# DCE/RPC (C706 chapter 12)


def _pack(little: bool, form: str, *values: Any) -> bytes:
    return struct.pack(("<" if little else ">") + form, *values)


def _uuid(value: uuid.UUID, little: bool) -> bytes:
    return value.bytes_le if little else value.bytes


def pdu(
    kind: int, body: bytes, *, call: int = 2, flags: int = 3, little: bool = True, auth: bytes = b"", minor: int = 0
) -> bytes:
    """A PDU. ``auth`` is an authentication value: behind padding and a trailer of eight bytes."""
    if auth:
        pad = -len(body) % 16
        body += bytes(pad) + _pack(little, "BBBBI", 10, 2, pad, 0, 0) + auth
    drep = b"\x10\0\0\0" if little else b"\0\0\0\0"
    head = struct.pack("BBBB", 5, minor, kind, flags) + drep + _pack(little, "HHI", 16 + len(body), len(auth), call)
    return head + body


def bind(
    syntaxes: Sequence[Syntax] = WINDOWS,
    *,
    interface: uuid.UUID = KMS,
    kind: int = 11,
    first: int = 0,
    group: int = 0,
    little: bool = True,
    **more: Any,
) -> bytes:
    """A bind, one context a syntax; the ids of the contexts count from ``first``."""
    body = _pack(little, "HHIBBH", 5840, 5840, group, len(syntaxes), 0, 0)
    for number, (syntax, version) in enumerate(syntaxes, first):
        body += _pack(little, "HBB", number, 1, 0) + _uuid(interface, little) + _pack(little, "HH", 1, 0)
        body += _uuid(syntax, little) + _pack(little, "I", version)
    return pdu(kind, body, **{"flags": 0x13, "little": little, **more})


def alter(syntaxes: Sequence[Syntax] = (NDR32,), **more: Any) -> bytes:
    """An alter_context; Windows repeats the association group of the bind_ack."""
    return bind(syntaxes, **{"kind": 14, "group": 0x1063, **more})


def bind_ack(
    results: Sequence[Result] = MODERN,
    *,
    secondary: str = "1688",
    kind: int = 12,
    little: bool = True,
    **more: Any,
) -> bytes:
    """A bind_ack with a result for each context; its padding is garbage, as hosts leave it."""
    text = secondary.encode() + b"\0" if secondary else b""
    body = _pack(little, "HHIH", 5840, 5840, 0x1063, len(text)) + text
    body += b"\x31\x36\x38"[: -(16 + len(body)) % 4] + _pack(little, "BBH", len(results), 0, 0)
    for result, reason, accepted in results:
        syntax, version = accepted or (uuid.UUID(int=0), 0)
        body += _pack(little, "HH", result, reason) + _uuid(syntax, little) + _pack(little, "I", version)
    return pdu(kind, body, **{"flags": 0x13, "little": little, **more})


def alter_response(results: Sequence[Result] = ((0, 0, NDR32),), **more: Any) -> bytes:
    """An alter_context_resp, which has no secondary address."""
    return bind_ack(results, **{"secondary": "", "kind": 15, "flags": 3, **more})


def bind_nak(reason: int, *, little: bool = True, versions: bool = False) -> bytes:
    """A bind_nak, with or without the list of versions that the host speaks."""
    body = _pack(little, "H", reason) + (b"\x01\x05\0\0\0\0" if versions else bytes(2))
    return pdu(13, body, little=little)


def fault(status: int, *, little: bool = True, **more: Any) -> bytes:
    """A fault that says that the call did not execute."""
    return pdu(3, _pack(little, "IHBBII", 0, 0, 0, 0, status, 0), **{"flags": 0x23, "little": little, **more})


def called(stub: bytes, *, context: int = 0, little: bool = True, hint: int | None = None, **more: Any) -> bytes:
    """A request PDU around a stub, operation 0."""
    return pdu(0, _pack(little, "IHH", hint or len(stub), context, 0) + stub, little=little, **more)


def answered(stub: bytes, *, context: int = 0, little: bool = True, **more: Any) -> bytes:
    """A response PDU around a stub."""
    return pdu(2, _pack(little, "IHBB", len(stub), context, 0, 0) + stub, little=little, **more)


# KMS


def opaque(version: int, size: int = 260, seed: object = 0) -> bytes:
    """A body of version 5 or 6: its version, then random bytes."""
    return struct.pack("<HH", 0, version) + noise(size - 4, seed)


def filetime(at: float) -> int:
    """A Windows time from a Unix time in µs."""
    return round(at * 10) + 116_444_736_000_000_000


def request_v4(
    *,
    at: float = START,
    required: int = 25,
    machine: str = "client01.corp.example",
    cmid: uuid.UUID = CMID,
    status: int = 2,
    left: int = 43_200,
    virtual: bool = True,
    seed: object = 0,
) -> bytes:
    """The 252 bytes of a version 4 request; ``at`` is the client's own time as Unix time in µs."""
    ids = WINDOWS_APP.bytes_le + uuid.UUID(int=0x2222).bytes_le + uuid.UUID(int=0x3333).bytes_le + cmid.bytes_le
    body = struct.pack("<HHIII", 0, 4, virtual, status, left) + ids
    body += struct.pack("<IQ", required, filetime(at)) + bytes(16)
    return body + machine.encode("utf-16-le").ljust(128, b"\0") + noise(16, seed)


def response_v4(
    *, at: float = START, count: int = 50, cmid: uuid.UUID = CMID, pid: str = PID, seed: object = 0
) -> bytes:
    """The body of a version 4 response: 160 bytes with a PID of 49 characters."""
    text = (pid + "\0").encode("utf-16-le")
    body = struct.pack("<HHI", 0, 4, len(text)) + text + cmid.bytes_le
    return body + struct.pack("<QIII", filetime(at), count, 120, 10_080) + noise(16, seed)


def request_stub(body: bytes, *, wide: bool = False, little: bool = True) -> bytes:
    """A request's stub in NDR32, or in NDR64 where ``wide``."""
    if wide:
        return _pack(little, "I4xQ", len(body), len(body)) + body
    return _pack(little, "II", len(body), len(body)) + body


def response_stub(
    body: bytes, hresult: int = 0, *, wide: bool = False, little: bool = True, late_pad: bool = False
) -> bytes:
    """A response's stub; without a body it is a refusal.

    ``late_pad``: the HRESULT stands right behind the body and padding behind it, as an open-source host writes it.
    """
    referent = 0x20000 if body else 0
    if wide:
        stub = _pack(little, "I4xQ", len(body), referent) + (_pack(little, "Q", len(body)) if body else b"")
    else:
        stub = _pack(little, "II", len(body), referent) + (_pack(little, "I", len(body)) if body else b"")
    pad = bytes(-len(body) % 4)
    code = _pack(little, "I", hresult)
    return stub + body + (code + pad if late_pad else pad + code)


def request(
    version: int = 6, *, wide: bool = False, little: bool = True, body: bytes | None = None, **more: Any
) -> bytes:
    """A request PDU of 292 bytes (version 4: 284), 300 (292) in NDR64, where the context is 1."""
    if body is None:
        seed = more.get("call", 0)
        body = request_v4(seed=seed) if version == 4 else opaque(version, seed=seed)
    stub = request_stub(body, wide=wide, little=little)
    return called(stub, **{"context": int(wide), "little": little, **more})


RESPONSE_SIZES: Final = {5: 228, 6: 260}


def response(
    version: int = 6,
    hresult: int = 0,
    *,
    wide: bool = False,
    little: bool = True,
    body: bytes | None = None,
    late_pad: bool = False,
    **more: Any,
) -> bytes:
    """A response PDU: of 300 bytes in version 6, 268 in 5, 200 in 4, and 36 where there is an HRESULT."""
    if body is None:
        seed = "answer", more.get("call", 0)
        body = response_v4(seed=seed) if version == 4 else opaque(version, RESPONSE_SIZES[version], seed)
    stub = response_stub(b"" if hresult else body, hresult, wide=wide, little=little, late_pad=late_pad)
    return answered(stub, **{"context": int(wide), "little": little, **more})


def fragmented(whole: bytes, *cuts: int) -> list[bytes]:
    """A little-endian request or response PDU as several, its stub cut at these places."""
    kind, call, stub = whole[2], struct.unpack_from("<I", whole, 12)[0], whole[24:]
    parts = [stub[low:high] for low, high in itertools.pairwise((0, *cuts, len(stub)))]
    last = len(parts) - 1
    return [
        pdu(kind, struct.pack("<I", len(stub)) + whole[20:24] + part, call=call, flags=(not at) | (at == last) << 1)
        for at, part in enumerate(parts)
    ]


# IP


def packed(address: str) -> bytes:
    """An address as bytes."""
    return ipaddress.ip_address(address).packed


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


class Piece(NamedTuple):
    """Which part of a packet a fragment is: its offset in bytes, and whether more follow."""

    offset: int
    more: bool


def ipv4(
    src: bytes,
    dst: bytes,
    protocol: int,
    payload: bytes,
    *,
    ident: int = 0,
    options: bytes = b"",
    piece: Piece | None = None,
    total: int | None = None,
) -> bytes:
    """An IPv4 packet. ``total`` overrides its total length (0: as the sender sees what the card will cut)."""
    size = 20 + len(options)
    place = 0x4000 if piece is None else piece.more << 13 | piece.offset // 8
    length = size + len(payload) if total is None else total
    head = struct.pack(">BBHHHBBH4s4s", 0x40 | size // 4, 0, length, ident, place, 64, protocol, 0, src, dst) + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def ipv6(src: bytes, dst: bytes, protocol: int, payload: bytes) -> bytes:
    """An IPv6 packet; ``protocol`` is that of the first header in the payload."""
    return struct.pack(">IHBB16s16s", 0x60000000, len(payload), protocol, 64, src, dst) + payload


def transport(src: bytes, dst: bytes, protocol: int, payload: bytes, place: int, *, wrong: bool = False) -> bytes:
    """A TCP segment or UDP datagram with its checksum put at ``place``."""
    pseudo = src + dst + struct.pack(">II", len(payload), protocol)
    total = checksum(pseudo + payload) ^ (0x5555 if wrong else 0)
    return payload[:place] + struct.pack(">H", total or 0xFFFF) + payload[place + 2 :]


def ip(src: str, dst: str, protocol: int, payload: bytes, ident: int = 0, **more: Any) -> bytes:
    """A packet of whichever version the addresses have."""
    if ":" in src:
        return ipv6(packed(src), packed(dst), protocol, payload)
    return ipv4(packed(src), packed(dst), protocol, payload, ident=ident & 0xFFFF, **more)


class Packet(NamedTuple):
    """An IP packet and its time in µs since START."""

    at: int
    data: bytes


class Ends(NamedTuple):
    """Both ends of a connection."""

    client: str = CLIENT
    sport: int = 49_200
    host: str = HOST
    port: int = PORT


ENDS6: Final = Ends(CLIENT6, 49_200, HOST6)


class Segment(NamedTuple):
    """A TCP segment of a connection, before it becomes a packet. ``at`` in µs since START."""

    at: int
    client: bool
    seq: int
    ack: int
    flags: int
    data: bytes = b""
    ident: int = 0

    def packet(self, ends: Ends, *, wrong: bool = False, options: bytes = b"", **more: Any) -> Packet:
        """The segment as an IP packet; ``more`` goes to :func:`ipv4`."""
        src, sport, dst, dport = ends if self.client else (ends.host, ends.port, ends.client, ends.sport)
        size = 20 + len(options)
        numbers = self.seq & 0xFFFFFFFF, self.ack & 0xFFFFFFFF
        tcp = struct.pack(">HHIIBBHHH", sport, dport, *numbers, size << 2, self.flags, 64_000, 0, 0) + options
        tcp = transport(packed(src), packed(dst), 6, tcp + self.data, 16, wrong=wrong)
        return Packet(self.at, ip(src, dst, 6, tcp, self.ident, **more))


class Talk:
    """A TCP connection, told step by step. Each step returns the talk, and takes a tenth of a millisecond."""

    def __init__(
        self, ends: Ends | None = None, *, at: float = 0, numbers: tuple[int, int] = (1_000_000, 5_000_000)
    ) -> None:
        self.ends = ends = ends or Ends()
        self.now = round(at * 1e6)
        self.next = {True: numbers[0], False: numbers[1]}
        self.idents = {True: 0x1000 + ends.sport, False: 0x2000 + ends.sport}
        self.segments: list[Segment] = []

    def add(
        self, client: bool, flags: int, data: bytes = b"", *, seq: int | None = None, ack: int | None = None
    ) -> Self:
        """Any segment; ``seq`` and ``ack`` are what comes next, if not given."""
        self.now += 100
        self.idents[client] = (self.idents[client] + 1) & 0xFFFF
        number = self.next[client] if seq is None else seq
        known = (self.next[not client] if flags & ACK else 0) if ack is None else ack
        self.segments.append(Segment(self.now, client, number, known, flags, data, self.idents[client]))
        if seq is None:
            self.next[client] += len(data) + bool(flags & (SYN | FIN))
        return self

    def wait(self, seconds: float) -> Self:
        """Let time pass."""
        self.now += round(seconds * 1e6)
        return self

    def syn(self) -> Self:
        """The client's SYN; once more, if it is not the first."""
        return self.add(True, SYN, seq=None if not self.segments else self.segments[0].seq)

    def syn_ack(self) -> Self:
        """The host's answer to it."""
        return self.add(False, SYN | ACK)

    def open(self) -> Self:
        """The handshake."""
        return self.syn().syn_ack().ack()

    def ack(self, client: bool = True) -> Self:
        """A bare acknowledgement."""
        return self.add(client, ACK)

    def client(self, *data: bytes) -> Self:
        """Data from the client, a segment each."""
        for one in data:
            self.add(True, PSH | ACK, one)
        return self

    def host(self, *data: bytes, after: float = 0.0004) -> Self:
        """Data from the host, ``after`` seconds, a segment each."""
        self.wait(after)
        for one in data:
            self.add(False, PSH | ACK, one)
        return self

    def fin(self, client: bool = True) -> Self:
        """This side hangs up."""
        return self.add(client, FIN | ACK)

    def rst(self, client: bool = True) -> Self:
        """This side resets."""
        return self.add(client, RST | ACK)

    def close(self, client: bool = True) -> Self:
        """Both hang up, ``client`` (or else the host) first."""
        return self.fin(client).fin(not client).ack(client)

    def bound(self, *, modern: bool = True) -> Self:
        """Handshake, bind, and on a modern host alter_context."""
        self.open().client(bind()).host(bind_ack(MODERN if modern else OLD))
        return self.client(alter()).host(alter_response()) if modern else self

    def exchange(
        self, version: int = 6, hresult: int = 0, *, call: int = 2, wide: bool = False, skew: float = 0, **more: Any
    ) -> Self:
        """A request and its answer; of version 4 with the client's time, wrong by ``skew`` seconds."""
        when = START + self.now + skew * 1e6
        asked = request_v4(at=when, required=more.get("required", 25), seed=call) if version == 4 else None
        told = response_v4(at=when, count=more.get("count", 50), seed=call) if version == 4 else None
        self.client(request(version, call=call, wide=wide, body=asked))
        return self.host(response(version, hresult, call=call, wide=wide, body=told), after=0.008)

    def activation(self, version: int = 6, hresult: int = 0, *, modern: bool = True, **more: Any) -> Self:
        """All of a usual activation; Windows ends it by a reset."""
        return self.bound(modern=modern).exchange(version, hresult, **more).rst()

    def packets(self) -> list[Packet]:
        """All segments as packets."""
        return [segment.packet(self.ends) for segment in self.segments]


def merged(*parts: Iterable[Packet]) -> list[Packet]:
    """Packets of several sources in the order of their times."""
    return sorted(itertools.chain(*parts), key=lambda packet: packet.at)


# UDP, ICMP


def datagram(at: float, src: str, sport: int, dst: str, dport: int, data: bytes, ident: int = 0) -> Packet:
    """A UDP datagram, ``at`` in seconds."""
    udp = struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data
    udp = transport(packed(src), packed(dst), 17, udp, 6)
    return Packet(round(at * 1e6), ip(src, dst, 17, udp, ident or sport & 0xFFF))


def icmp(at: float, sender: str, quoted: Packet, kind: int = 3, code: int = 3, size: int = 28) -> Packet:
    """An ICMP error to whoever sent ``quoted``, with its first ``size`` bytes."""
    data = quoted.data
    src = str(ipaddress.ip_address(data[8:24] if data[0] >> 4 == 6 else data[12:16]))
    body = struct.pack(">BBHI", kind, code, 0, 0) + data[:size]
    if ":" in src:
        body = transport(packed(sender), packed(src), 58, body, 2)
        return Packet(round(at * 1e6), ip(sender, src, 58, body))
    body = body[:2] + struct.pack(">H", checksum(body)) + body[4:]
    return Packet(round(at * 1e6), ip(sender, src, 1, body, 0x77))
