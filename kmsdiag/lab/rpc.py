"""RPC responders on loopback: one that behaves like a KMS host as far as a bind goes, and many that do not.

Every request PDU is answered with a fault (access denied). There is no code here, or anywhere, that answers one.
"""

import asyncio
import contextlib
import socket
import struct
import uuid
from enum import StrEnum
from typing import Final

from kmsdiag.model.request import KMS_INTERFACE
from kmsdiag.wire import rpc

REQUEST: Final = 0
ACCESS_DENIED: Final = 5
UNKNOWN_INTERFACE: Final = 0x1C010003

_PATIENCE: Final = 30
"""Seconds for which a silent host holds a connection."""


class Behaviour(StrEnum):
    """What a lab host does on its port."""

    KMS = "kms"
    REFUSED = "refused"
    SILENT_TCP = "silent_tcp"
    SILENT = "silent"
    CLOSE = "close"
    RESET = "reset"
    HALF = "half"
    DRIP = "drip"
    HTTP = "http"
    TLS = "tls"
    SSH = "ssh"
    GARBAGE = "garbage"
    LYING = "lying"
    ENDLESS = "endless"
    FRAGMENTS = "fragments"
    OTHER_INTERFACE = "other_interface"
    USER_REJECTION = "user_rejection"
    NAK = "nak"
    FAULT = "fault"
    ANYTHING = "anything"
    ONE_CONNECTION = "one_connection"
    LOSSY = "lossy"


def _pdu(kind: int, body: bytes, call_id: int, flags: int = 0x03) -> bytes:
    return struct.pack("<BBBB4sHHI", 5, 0, kind, flags, b"\x10\0\0\0", 16 + len(body), 0, call_id) + body


def _fault(call_id: int, status: int) -> bytes:
    # 0x23: first, last, did not execute.
    return _pdu(rpc.FAULT, struct.pack("<IHBBII", 0, 0, 0, 0, status, 0), call_id, 0x23)


def bind_ack(bind: bytes, port: int, interfaces: frozenset[str] | None, *, result: int = 2, reason: int = 1) -> bytes:
    """The bind_ack of a host with these interfaces (None: any); NDR64 where that is offered, as Windows picks."""
    header = rpc.decode_header(bind)
    offers = rpc.decode_bind(bind)
    best = rpc.NDR64 if any(rpc.NDR64[0] in offer.syntaxes for offer in offers) else rpc.NDR32
    address = f"{port}\0".encode()
    body = struct.pack("<HHIH", rpc.MAX_FRAGMENT, rpc.MAX_FRAGMENT, 0x1234, len(address)) + address
    body += b"\0" * (-(16 + len(body)) % 4) + struct.pack("<BBH", len(offers), 0, 0)
    for offer in offers:
        if offer.syntaxes and offer.syntaxes[0].startswith("6cb71c2c-9812-4540"):
            body += struct.pack("<HH16sI", 3, 3, b"\0" * 16, 0)
        elif interfaces is not None and offer.interface not in interfaces:
            body += struct.pack("<HH16sI", result, reason, b"\0" * 16, 0)
        elif best[0] in offer.syntaxes:
            body += struct.pack("<HH16sI", 0, 0, uuid.UUID(best[0]).bytes_le, best[1])
        else:
            body += struct.pack("<HH16sI", 2, 2, b"\0" * 16, 0)
    return _pdu(rpc.BIND_ACK, body, header.call_id, 0x13)


_KMS_ONLY: Final = frozenset({KMS_INTERFACE})
_ANOTHER: Final = frozenset({"e1af8308-5d1f-11c9-91a4-08002b14a0fa"})

_BANNERS: Final = {
    Behaviour.HTTP: b"HTTP/1.1 400 Bad Request\r\nServer: lab\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    Behaviour.TLS: b"\x15\x03\x03\x00\x02\x02\x46",
    Behaviour.SSH: b"SSH-2.0-lab\r\n",
    Behaviour.GARBAGE: b"\x1b]0;owned\x07\x1b[2J<script>\r\n" + bytes(range(256)),
    # A bind_ack header that promises more than may ever come.
    Behaviour.LYING: struct.pack("<BBBB4sHHI", 5, 0, 12, 3, b"\x10\0\0\0", 65_535, 0, 2),
    # First of many fragments: a bind_ack has no more than one.
    Behaviour.FRAGMENTS: _pdu(rpc.BIND_ACK, b"\0" * 100, 2, flags=0x01),
}


_ENDLESS_FRAGMENT: Final = _pdu(rpc.BIND_ACK, b"A" * (rpc.MAX_FRAGMENT - rpc.HEADER), 2, flags=0x01)
_HANG_UP: Final = (Behaviour.HTTP, Behaviour.TLS, Behaviour.GARBAGE)


class RpcHost:
    """One lab host on an ephemeral loopback port. An async context manager; ``port`` is valid inside.

    ``received`` collects every byte that clients sent, connection by connection.
    """

    def __init__(self, behaviour: Behaviour, published_port: int = 1688, family: socket.AddressFamily = socket.AF_INET):
        self.behaviour = behaviour
        self.received: list[bytearray] = []
        self.port = 0
        self._published = published_port
        self._family = family
        self._loopback = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self._held: list[socket.socket] = []
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "RpcHost":
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        sock.bind((self._loopback, 0))
        self.port = sock.getsockname()[1]
        if self.behaviour is Behaviour.REFUSED:
            # Bound and not listening: nobody else can take the port, and it refuses.
            self._held.append(sock)
        elif self.behaviour in (Behaviour.SILENT_TCP, Behaviour.LOSSY):
            # A full backlog drops SYNs: the silence of a firewall, without one.
            sock.listen(0)
            for _ in range(4):
                filler = socket.socket(self._family, socket.SOCK_STREAM)
                filler.setblocking(False)
                filler.connect_ex((self._loopback, self.port))
                self._held.append(filler)
            await asyncio.sleep(0.05)
            self._held.append(sock)
            if self.behaviour is Behaviour.LOSSY:
                self._busy.add(asyncio.ensure_future(self._open_late(sock)))
        else:
            self._server = await asyncio.start_server(self._accept, sock=sock)
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._busy):
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        for sock in self._held:
            sock.close()

    async def _open_late(self, sock: socket.socket) -> None:
        """Begin to accept when the first SYN is lost and before the kernel sends the second, a second later."""
        # The first one comes within this time of the start even where the machine is slow.
        await asyncio.sleep(0.95)
        self._server = await asyncio.start_server(self._accept, sock=sock)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)
        # Cancelled only when the lab closes; asyncio's stream server would print a traceback for a cancelled task.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError, rpc.RpcFormatError):
            await self._serve(reader, writer)
        with contextlib.suppress(OSError):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = bytearray()
        self.received.append(heard)
        if self.behaviour is Behaviour.ONE_CONNECTION and self._server is not None:
            self._server.close()
        if self.behaviour is Behaviour.SSH:
            writer.write(_BANNERS[self.behaviour])
        while True:
            head = await reader.readexactly(rpc.HEADER)
            heard += head
            rest = await reader.readexactly(rpc.decode_header(head).length - rpc.HEADER)
            heard += rest
            if not await self._reply(head + rest, writer):
                return

    async def _reply(self, pdu: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one PDU; False ends the connection."""
        header = rpc.decode_header(pdu)
        if header.type == REQUEST:
            writer.write(_fault(header.call_id, ACCESS_DENIED))
            return True
        answer = self._answer(pdu, header.call_id)
        if answer:
            writer.write(answer)
            await writer.drain()
            return self.behaviour not in _HANG_UP
        return await self._misbehave(pdu, writer)

    def _answer(self, bind: bytes, call_id: int) -> bytes:
        """What answers a bind in one piece; nothing where the behaviour is not that simple."""
        match self.behaviour:
            case Behaviour.KMS | Behaviour.ONE_CONNECTION | Behaviour.LOSSY:
                return bind_ack(bind, self._published, _KMS_ONLY)
            case Behaviour.ANYTHING:
                return bind_ack(bind, self._published, None)
            case Behaviour.OTHER_INTERFACE:
                return bind_ack(bind, self._published, _ANOTHER)
            case Behaviour.USER_REJECTION:
                return bind_ack(bind, self._published, _ANOTHER, result=1, reason=0)
            case Behaviour.NAK:
                return _pdu(rpc.BIND_NAK, struct.pack("<HBBB3x", 2, 1, 5, 0), call_id)
            case Behaviour.FAULT:
                return _fault(call_id, UNKNOWN_INTERFACE)
        return _BANNERS.get(self.behaviour, b"")

    async def _misbehave(self, bind: bytes, writer: asyncio.StreamWriter) -> bool:
        """Hang up, reset, stop half-way, drip, or never end; False ends the connection."""
        whole = bind_ack(bind, self._published, _KMS_ONLY)
        match self.behaviour:
            case Behaviour.CLOSE:
                return False
            case Behaviour.RESET:
                # Linger 0: closing sends RST.
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            case Behaviour.HALF:
                writer.write(whole[:30])
            case Behaviour.DRIP:
                for byte in whole:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(1)
            case Behaviour.ENDLESS:
                while True:
                    writer.write(_ENDLESS_FRAGMENT)
                    await writer.drain()
        await asyncio.sleep(_PATIENCE)
        return True
