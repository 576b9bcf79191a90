"""Machines on loopback that tell the time, right or wrong by a given offset: SMB2, NTP and HTTP in their real forms."""

import asyncio
import contextlib
import datetime
import email.utils
import socket
import struct
from enum import StrEnum
from typing import Any

from kmsdiag.model.request import ClockSource
from kmsdiag.wire import ntp, smb2


class TimeBehaviour(StrEnum):
    """What a lab time server does when it is asked. Unsynchronised: it answers, and has no time to tell."""

    TELL = "tell"
    UNSYNCHRONISED = "unsynchronised"
    GARBAGE = "garbage"
    SILENT = "silent"
    REFUSED = "refused"


class TimeServer:
    """One protocol of one machine on an ephemeral loopback port. An async context manager; ``port`` is valid inside.

    Args:
        source: the protocol; NTP listens on UDP, the others on TCP.
        offset: seconds by which its clock is ahead of this machine's.
        behaviour: what it does when it is asked.
        family: of the loopback address.
    """

    def __init__(
        self,
        source: ClockSource,
        offset: float = 0.0,
        behaviour: TimeBehaviour = TimeBehaviour.TELL,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> None:
        self.source = source
        self.offset = offset
        self.behaviour = behaviour
        self.port = 0
        self.address = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self._family = family
        self._held: socket.socket | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "TimeServer":
        udp = self.source is ClockSource.NTP
        sock = socket.socket(self._family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        sock.bind((self.address, 0))
        self.port = sock.getsockname()[1]
        if self.behaviour is TimeBehaviour.REFUSED:
            if udp:
                # A bound UDP socket would be silent; nobody's port refuses.
                sock.close()
            else:
                self._held = sock
        elif udp:
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), sock=sock)
        else:
            self._server = await asyncio.start_server(self._accept, sock=sock)
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._server is not None:
            self._server.close()
        for task in list(self._busy):
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        if self._held is not None:
            self._held.close()

    def now(self) -> float:
        """What the machine takes for the time, in seconds since 1970."""
        return datetime.datetime.now(datetime.UTC).timestamp() + self.offset

    def reply(self, question: bytes) -> bytes:
        """The answer to one question; b"" for silence."""
        if self.behaviour is TimeBehaviour.SILENT:
            return b""
        if self.behaviour is TimeBehaviour.GARBAGE:
            return b"\x1b]0;owned\x07\x1b[2J<script>\r\n" + bytes(range(256))
        tells = self.behaviour is TimeBehaviour.TELL
        match self.source:
            case ClockSource.NTP:
                return ntp_reply(question, self.now(), synchronised=tells)
            case ClockSource.SMB2:
                return smb2_reply(smb2.filetime(self.now()) if tells else 0)
            case ClockSource.HTTP:
                date = f"Date: {email.utils.formatdate(self.now() // 1, usegmt=True)}\r\n" if tells else ""
                return f"HTTP/1.1 404 Not Found\r\n{date}Server: lab\r\nContent-Length: 0\r\n\r\n".encode("ascii")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)
        # Cancelled only when the lab closes; asyncio's stream server would print a traceback for a cancelled task.
        with contextlib.suppress(
            OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError
        ):
            if self.source is ClockSource.HTTP:
                question = await reader.readuntil(b"\r\n\r\n")
            else:
                frame = await reader.readexactly(smb2.FRAME)
                question = frame + await reader.readexactly(int.from_bytes(frame[1:], "big"))
            answer = self.reply(question)
            if answer:
                writer.write(answer)
                await writer.drain()
            # Until the client hangs up.
            await reader.read()
        with contextlib.suppress(OSError):
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: TimeServer) -> None:
        self._server = server
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        answer = self._server.reply(data)
        if answer:
            self._transport.sendto(answer, address)


def ntp_reply(question: bytes, now: float, *, synchronised: bool = True) -> bytes:
    """What an NTP server of stratum 3 answers at ``now``; unsynchronised as chrony says it: leap 3, stratum 0."""
    leap, stratum, refid = (0, 3, b"\x7f\x7f\x01\x01") if synchronised else (3, 0, b"\0\0\0\0")
    stamp = ntp.from_unix(now)
    head = struct.pack(">BBbbII4s", leap << 6 | 4 << 3 | 4, stratum, 6, -23, 0, 0x10, refid)
    return head + struct.pack(">QQQQ", stamp, int.from_bytes(question[40:48], "big"), stamp, stamp)


def smb2_reply(ticks: int, *, dialect: int = 0x0302) -> bytes:
    """What a server answers to NEGOTIATE, with ``ticks`` for its SystemTime and an empty security buffer."""
    header = struct.pack("<4sHHIHHIIQIIQ16s", b"\xfeSMB", 64, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, b"")
    body = struct.pack(
        "<HHHH16sIIIIQQHHI", 65, 1, dialect, 0, b"kmsdiag lab host", 1, *(0x100000,) * 3, ticks, 0, 128, 0, 0
    )
    message = header + body
    return struct.pack(">I", len(message)) + message
