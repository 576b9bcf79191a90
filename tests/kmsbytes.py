"""Bytes as they are captured: DCE/RPC PDUs, KMS stubs, and the TCP segments that carry them. Nothing here is sent.

Bodies of versions 5 and 6 are noise, and so is the authenticator of version 4: what is in them is never looked at.
"""

import struct
import uuid
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from kmsdiag.model.capture import Frame
from kmsdiag.model.request import KMS_INTERFACE
from kmsdiag.wire import rpc
from kmsdiag.wire.layers import IcmpError, Segment

CLIENT: Final = bytes([10, 1, 0, 5])
HOST: Final = bytes([10, 1, 0, 8])
ROUTER: Final = bytes([10, 1, 0, 1])
PORT: Final = 49_200
START: Final = 1_767_600_000_000_000_000
"""2026-01-05 08:00 UTC in ns."""

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
NS: Final = 1_000_000_000
FILETIME_1970: Final = 116_444_736_000_000_000

OTHER_INTERFACE: Final = "4b324fc8-1670-01d3-1278-5a47bf6ee188"
MACHINE: Final = uuid.UUID("11112222-3333-4444-5555-666677778888")
NOISE: Final = bytes((index * 73 + 41) & 255 for index in range(512))


# ------------------------------------------------------------------------------------------------ DCE/RPC


def pdu(
    kind: int,
    body: bytes,
    *,
    call: int = 2,
    flags: int = 3,
    order: str = "<",
    length: int | None = None,
    auth: bytes = b"",
    pad: int = 0,
) -> bytes:
    """One PDU; with ``auth``, a trailer with this token, and ``pad`` bytes before it."""
    trailer = bytes(pad) + struct.pack("BBBBI", 10, 5, pad, 0, 0) + auth if auth else b""
    size = 16 + len(body) + len(trailer) if length is None else length
    drep = b"\x10\0\0\0" if order == "<" else b"\0\0\0\0"
    return (
        struct.pack("BBBB", 5, 0, kind, flags)
        + drep
        + struct.pack(order + "HHI", size, len(auth), call)
        + body
        + trailer
    )


def bind(
    *contexts: tuple[int, str, str],
    kind: int = rpc.BIND,
    call: int = 2,
    order: str = "<",
    interface: str = KMS_INTERFACE,
) -> bytes:
    """A bind or alter_context. A context is (id, interface, syntax); none means what Windows offers."""
    chosen = contexts or (
        (0, interface, rpc.NDR32[0]),
        (1, interface, rpc.NDR64[0]),
        (2, interface, rpc.FEATURES[0]),
    )
    body = struct.pack(order + "HHIBxxx", 5840, 5840, 0, len(chosen))
    for number, abstract, syntax in chosen:
        version = 2 if syntax == rpc.NDR32[0] else 1
        body += struct.pack(order + "HBx", number, 1) + _uuid(abstract, order) + struct.pack(order + "HH", 1, 0)
        body += _uuid(syntax, order) + struct.pack(order + "I", version)
    return pdu(kind, body, flags=0x13, call=call, order=order)


def alter(*, call: int = 2, order: str = "<") -> bytes:
    """The alter_context with which Windows asks for NDR32 after all."""
    return bind((0, KMS_INTERFACE, rpc.NDR32[0]), kind=rpc.ALTER_CONTEXT, call=call, order=order)


def ack(
    *results: tuple[int, int, str], kind: int = rpc.BIND_ACK, call: int = 2, order: str = "<", address: str = "1688"
) -> bytes:
    """A bind_ack; a result is (result, reason, syntax). None means a host of today: NDR64, and feature negotiation."""
    chosen = results or ((2, 2, ""), (0, 0, rpc.NDR64[0]), (3, 3, ""))
    text = address.encode() + b"\0" if address else b""
    body = struct.pack(order + "HHIH", 5840, 5840, 0x1F2E3D, len(text)) + text
    body += b"\x31" * (-(16 + len(body)) % 4) + struct.pack("Bxxx", len(chosen))
    for result, reason, syntax in chosen:
        raw = _uuid(syntax, order) if syntax else bytes(16)
        body += struct.pack(order + "HH", result, reason) + raw + struct.pack(order + "I", 2 if syntax else 0)
    return pdu(kind, body, flags=0x13, call=call, order=order)


def alter_ack(*, call: int = 2, order: str = "<") -> bytes:
    """The answer that accepts NDR32."""
    return ack((0, 0, rpc.NDR32[0]), kind=rpc.ALTER_CONTEXT_RESP, call=call, order=order, address="")


def nak(reason: int, *, call: int = 2) -> bytes:
    """A bind_nak."""
    return pdu(rpc.BIND_NAK, struct.pack("<HH", reason, 0), call=call)


def fault(status: int, *, call: int = 2) -> bytes:
    """A fault that says that nothing was executed."""
    return pdu(rpc.FAULT, struct.pack("<IHBBII", 32, 0, 0, 0, status, 0), call=call, flags=0x23)


def _uuid(text: str, order: str) -> bytes:
    value = uuid.UUID(text)
    return value.bytes_le if order == "<" else value.bytes


# ---------------------------------------------------------------------------------------------------- KMS


def body_v4(
    *,
    required: int = 25,
    name: str = "PC-17.contoso.example",
    at: int = START,
    machine: uuid.UUID = MACHINE,
    virtual: bool = False,
    status: int = 2,
    remaining: int = 43_200,
) -> bytes:
    """A request body of version 4, 252 bytes; ``at`` is the client's time in ns since 1970."""
    ids = b"".join(uuid.UUID(int=value << 96 | value).bytes_le for value in (1, 2, 3))
    body = struct.pack("<HHIII", 0, 4, virtual, status, remaining) + ids + machine.bytes_le
    body += struct.pack("<IQ", required, at // 100 + FILETIME_1970) + uuid.UUID(int=9).bytes_le
    return body + name.encode("utf-16-le").ljust(128, b"\0") + NOISE[:16]


def body_opaque(major: int = 6, size: int = 260) -> bytes:
    """A body of version 5 or 6: version words, and noise."""
    return struct.pack("<HH", 0, major) + NOISE[: size - 4]


def answer_v4(
    *, count: int = 50, at: int = START, machine: uuid.UUID = MACHINE, pid: str = "03612-00206-558-893799-03-1033-17763"
) -> bytes:
    """A response body of version 4."""
    text = pid.encode("utf-16-le") + b"\0\0"
    body = struct.pack("<HHI", 0, 4, len(text)) + text + machine.bytes_le
    return body + struct.pack("<QIII", at // 100 + FILETIME_1970, count, 120, 10_080) + NOISE[:16]


def request_stub(body: bytes, *, syntax: str = "NDR32", order: str = "<") -> bytes:
    """A request's stub around a body."""
    size = len(body)
    if syntax == "NDR32":
        return struct.pack(order + "II", size, size) + body
    return struct.pack(order + "I4xQ", size, size) + body


def response_stub(body: bytes, hresult: int = 0, *, syntax: str = "NDR32", order: str = "<") -> bytes:
    """A response's stub around a body; b"" is a refusal."""
    size = len(body)
    end = bytes(-size % 4) + struct.pack(order + "I", hresult)
    if syntax == "NDR32":
        return (struct.pack(order + "III", size, 0x20000, size) if body else bytes(8)) + body + end
    return (struct.pack(order + "I4xQQ", size, 0x20000, size) if body else bytes(16)) + body + end


def request(
    stub: bytes, *, call: int = 2, context: int = 0, flags: int = 3, order: str = "<", auth: bytes = b"", pad: int = 0
) -> bytes:
    """A request PDU around a stub."""
    head = struct.pack(order + "IHH", len(stub), context, 0)
    return pdu(rpc.REQUEST, head + stub, call=call, flags=flags, order=order, auth=auth, pad=pad)


def response(
    stub: bytes, *, call: int = 2, context: int = 0, flags: int = 3, order: str = "<", auth: bytes = b"", pad: int = 0
) -> bytes:
    """A response PDU around a stub."""
    head = struct.pack(order + "IHBx", len(stub), context, 0)
    return pdu(rpc.RESPONSE, head + stub, call=call, flags=flags, order=order, auth=auth, pad=pad)


def v4_request(*, call: int = 2, **fields: object) -> bytes:
    """A request PDU of version 4."""
    return request(request_stub(body_v4(**fields)), call=call)  # type: ignore[arg-type]


def v6_request(*, call: int = 2) -> bytes:
    """A request PDU of version 6."""
    return request(request_stub(body_opaque()), call=call)


def v6_response(hresult: int = 0, *, call: int = 2) -> bytes:
    """A response PDU of version 6; with an HRESULT, a refusal."""
    return response(response_stub(b"" if hresult else body_opaque(), hresult), call=call)


# ---------------------------------------------------------------------------------------------------- TCP


class End(NamedTuple):
    """One side's address and port, and its first sequence number."""

    address: bytes
    port: int
    isn: int


class Talk:
    """A TCP connection, segment by segment. Methods return the talk, so that it reads as one sentence.

    ``spacing`` is the time between segments in s; each segment is one frame. With ``quiet``, data is not acknowledged.
    """

    def __init__(
        self,
        client: bytes = CLIENT,
        host: bytes = HOST,
        *,
        port: int = PORT,
        host_port: int = 1688,
        isn: tuple[int, int] = (1000, 900_000),
        spacing: float = 0.001,
        number: int = 1,
        start: int = START,
    ) -> None:
        self.ends = {True: End(client, port, isn[0]), False: End(host, host_port, isn[1])}
        self.next = {True: isn[0] + 1, False: isn[1] + 1}
        self.spacing = int(spacing * NS)
        self.number = number
        self.at = start
        self.ip_id = 0
        self.segments: list[Segment] = []
        self.icmp: list[IcmpError] = []
        self.last: dict[bool, tuple[int, bytes]] = {}
        self.answered = False

    def _frame(self) -> tuple[int, int]:
        number, at = self.number, self.at
        self.number += 1
        self.at += self.spacing
        return number, at

    def put(
        self, *, client: bool, flags: int, data: bytes = b"", seq: int | None = None, captured: int | None = None
    ) -> Self:
        """One segment; its numbers follow from what was said before."""
        here, there = self.ends[client], self.ends[not client]
        number, at = self._frame()
        self.ip_id += 1
        seq = self.next[client] if seq is None else seq
        acknowledged = self.next[not client] if flags & ACK else 0
        self.segments.append(
            Segment(
                number,
                at,
                here.address,
                here.port,
                there.address,
                there.port,
                seq & 0xFFFFFFFF,
                acknowledged & 0xFFFFFFFF,
                flags,
                data if captured is None else data[:captured],
                len(data),
                self.ip_id,
            )
        )
        return self

    def syn(self, times: int = 1) -> Self:
        """The client's SYN, perhaps repeatedly."""
        for _ in range(times):
            self.put(client=True, flags=SYN, seq=self.ends[True].isn)
        return self

    def refuse(self) -> Self:
        """A RST to the SYN."""
        return self.put(client=False, flags=RST | ACK, seq=0)

    def syn_ack(self) -> Self:
        """The host's answer to a SYN."""
        return self.put(client=False, flags=SYN | ACK, seq=self.ends[False].isn)

    def open(self) -> Self:
        """A handshake."""
        return self.syn().syn_ack().put(client=True, flags=ACK)

    def say(self, data: bytes, *, client: bool, captured: int | None = None) -> Self:
        """Data in one segment."""
        self.last[client] = (self.next[client], data)
        self.put(client=client, flags=PSH | ACK, data=data, captured=captured)
        self.next[client] += len(data)
        return self

    def ask(self, *messages: bytes) -> Self:
        """What the client says, a segment each."""
        for data in messages:
            self.say(data, client=True)
        return self

    def answer(self, *messages: bytes) -> Self:
        """What the host says, a segment each."""
        for data in messages:
            self.say(data, client=False)
        return self

    def again(self, times: int = 1, *, client: bool = True) -> Self:
        """The same side's last data again; the other side did not acknowledge it."""
        seq, data = self.last[client]
        for _ in range(times):
            self.put(client=client, flags=PSH | ACK, data=data, seq=seq)
        return self

    def missed(self, data: bytes, *, client: bool) -> Self:
        """Data that was sent and acknowledged, and not captured."""
        self.next[client] += len(data)
        return self

    def wait(self, seconds: float) -> Self:
        """Time goes by."""
        self.at += int(seconds * NS)
        return self

    def fin(self, *, client: bool) -> Self:
        """One side closes."""
        self.put(client=client, flags=FIN | ACK)
        self.next[client] += 1
        return self

    def rst(self, *, client: bool) -> Self:
        """One side resets."""
        return self.put(client=client, flags=RST | ACK)

    def close(self) -> Self:
        """The client closes, and the host too."""
        return self.fin(client=True).fin(client=False)

    def error(self, kind: int = 3, code: int = 13, *, sender: bytes = ROUTER, v6: bool = False) -> Self:
        """An ICMP error that quotes the client's last segment."""
        number, at = self._frame()
        client, host = self.ends[True], self.ends[False]
        self.icmp.append(
            IcmpError(
                number, at, sender, kind, code, v6, 6, client.address, client.port, host.address, host.port, client.isn
            )
        )
        return self

    def bound(self) -> Self:
        """Handshake, bind and alter_context, as Windows and a host of today do it."""
        return self.open().ask(bind()).answer(ack()).ask(alter()).answer(alter_ack())


def frame(ref: int) -> Frame:
    """The frame of a ref, for captures of one part."""
    return Frame(0, ref)


def as_stream(data: bytes, sizes: Sequence[int] = ()) -> list[Segment]:
    """Bytes of one client in segments of these sizes (the rest in one), as a connection without an answer."""
    talk = Talk().open()
    at = 0
    for size in sizes:
        if data[at : at + size]:
            talk.say(data[at : at + size], client=True)
        at += size
    if data[at:]:
        talk.say(data[at:], client=True)
    return talk.segments
