"""Another machine's clock: by SMB2 NEGOTIATE, by NTP, or by the Date of an HTTP answer. Nobody logs in anywhere.

Each reading comes with an error bar: the true difference lies inside it, whatever the network did to the packets. Of a
question and its answer it is only known that the other clock was read between the two; the middle is the best guess,
half the time between them the error, and what the clock itself rounds away is added.
"""

import asyncio
import datetime
import email.utils
import errno
import math
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from kmsdiag.model.answer import ClockAnswer
from kmsdiag.model.outcome import ClockOutcome, TcpOutcome
from kmsdiag.model.request import ClockQuery, ClockSource
from kmsdiag.probes.settings import ProbeSettings
from kmsdiag.probes.tcp import ConnectError, connect, open_socket, outcome_of, read_icmp
from kmsdiag.wire import ntp, smb2

MOST: Final = 1.0
"""Seconds that one question may take, whatever --timeout allows: a clock is nothing that a run waits for."""

TICK: Final = 1 / 64
"""Seconds between two steps of Windows' system time, as SMB2 tells it (15.625 ms)."""

HEAD: Final = 16_384
"""Bytes of an HTTP head at most."""

DATAGRAMS: Final = 8
"""Datagrams read at most while waiting for the answer of an NTP server."""

# What this machine's own clock rounds away (16 ms on Windows up to Python 3.12).
_OWN_STEP: Final = time.get_clock_info("time").resolution

_CONNECT: Final = {
    TcpOutcome.TIMEOUT: ClockOutcome.SILENT,
    TcpOutcome.REFUSED: ClockOutcome.REFUSED,
    TcpOutcome.RESET: ClockOutcome.NOT_SPOKEN,
}


class _NoTime(Exception):
    """A question that ended without a time."""

    def __init__(self, outcome: ClockOutcome, detail: str = "") -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.detail = detail


class _Reading(NamedTuple):
    """The other clock minus this one, and how far off that may be, in seconds."""

    offset: float
    error: float
    stratum: int = 0


class _Heard(NamedTuple):
    """What came back: the bytes, this machine's time when the question went, and the seconds to the first byte."""

    data: bytes
    asked: float
    took: float

    def compare(self, theirs: float, error: float) -> _Reading:
        """Their clock was read somewhere between question and answer."""
        return _Reading(theirs - (self.asked + self.took / 2), self.took / 2 + error)


async def ask(request: ClockQuery, settings: ProbeSettings) -> ClockAnswer:
    """Ask for the time once, within a second."""
    at = datetime.datetime.now(datetime.UTC)
    started = time.perf_counter()
    limit = started + min(MOST, settings.timeout)
    reading, outcome, detail = _Reading(0.0, 0.0), ClockOutcome.ANSWERED, ""
    try:
        reading = await _SOURCES[request.source](request, settings, limit)
    except ConnectError as error:
        outcome = _CONNECT.get(error.outcome, ClockOutcome.UNREACHABLE)
        detail = f"{error.icmp.name}, said by {error.icmp.sender}" if error.icmp else error.errno_name
    except _NoTime as failure:
        outcome, detail = failure.outcome, failure.detail
    elapsed = time.perf_counter() - started
    if outcome is ClockOutcome.ANSWERED:
        # Rounded up: an error bar is a promise.
        error_s = math.ceil((reading.error + _OWN_STEP) * 1e6) / 1e6
        reading = _Reading(round(reading.offset, 6), error_s, reading.stratum)
    return ClockAnswer(
        at=at,
        elapsed_ms=round(elapsed * 1000, 3),
        outcome=outcome,
        offset_s=reading.offset,
        error_s=reading.error,
        stratum=reading.stratum,
        detail=detail,
    )


async def _smb2(request: ClockQuery, settings: ProbeSettings, limit: float) -> _Reading:
    question = smb2.encode_negotiate(random.randbytes(16), random.randbytes(smb2.SALT))
    heard = await _converse(request, settings, limit, question, smb2.missing)
    try:
        negotiated = smb2.decode_negotiate(heard.data)
    except smb2.Smb2FormatError as error:
        raise _NoTime(ClockOutcome.NOT_SPOKEN, str(error)) from None
    return heard.compare(negotiated.time, TICK)


async def _http(request: ClockQuery, settings: ProbeSettings, limit: float) -> _Reading:
    address = request.address.partition("%")[0]
    address = f"[{address}]" if ":" in address else address
    question = f"HEAD / HTTP/1.1\r\nHost: {address}\r\nUser-Agent: kmsdiag\r\nConnection: close\r\n\r\n"
    heard = await _converse(request, settings, limit, question.encode("ascii"), _missing_head)
    try:
        date = read_date(heard.data)
    except ValueError as error:
        raise _NoTime(ClockOutcome.NOT_SPOKEN, str(error)) from None
    # A whole second was cut off, on average half of one; servers that keep the text for a second may be late as well.
    return heard.compare(date + 0.5, 1.0)


def _missing_head(received: bytes) -> int:
    if received[:5] != b"HTTP/"[: len(received)] or b"\r\n\r\n" in received:
        return 0
    return max(0, HEAD - len(received))


def read_date(head: bytes) -> float:
    """The Date of an HTTP answer, in seconds since 1970.

    Raises:
        ValueError: no HTTP, an unfinished head, no date or one that is not the server's own.
    """
    lines, end, _body = head.partition(b"\r\n\r\n")
    if head[:5] != b"HTTP/":
        raise ValueError("the answer is no HTTP")
    if not end:
        raise ValueError(f"{len(head)} bytes of an HTTP head without an end")
    fields: dict[bytes, bytes] = {}
    for line in lines.split(b"\r\n")[1:]:
        name, _colon, value = line.partition(b":")
        fields.setdefault(name.strip().lower(), value.strip())
    if b"date" not in fields:
        raise ValueError("the answer has no Date")
    if fields.get(b"age", b"0").strip(b"0"):
        raise ValueError("the answer comes from a cache (Age)")
    try:
        date = email.utils.parsedate_to_datetime(fields[b"date"][:40].decode("ascii"))
        # "-0000" says UTC without saying so.
        return (date if date.tzinfo else date.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        raise ValueError("the Date of the answer is no date") from None


async def _converse(
    request: ClockQuery, settings: ProbeSettings, limit: float, question: bytes, missing: Callable[[bytes], int]
) -> _Heard:
    """Connect, ask, and read while something is missing; hang up."""
    sock = await connect(request.address, request.source.port, settings, _left(limit))
    loop = asyncio.get_running_loop()
    received = bytearray()
    took = 0.0
    ended = "nothing more"
    with sock:
        asked, started = time.time(), time.perf_counter()
        try:
            async with asyncio.timeout(_left(limit)):
                await loop.sock_sendall(sock, question)
                while size := missing(bytes(received)):
                    chunk = await loop.sock_recv(sock, size)
                    took = took or time.perf_counter() - started
                    if not chunk:
                        ended = "the connection was closed"
                        break
                    received += chunk
        except TimeoutError:
            if not received:
                raise _NoTime(ClockOutcome.SILENT, "the connection opened, then nothing came") from None
        except OSError:
            ended = "the connection was reset"
    if missing(bytes(received)):
        heard = f"{len(received)} bytes, then " if received else ""
        raise _NoTime(ClockOutcome.NOT_SPOKEN, heard + ended)
    return _Heard(bytes(received), asked, took)


async def _ntp(request: ClockQuery, settings: ProbeSettings, limit: float) -> _Reading:
    cookie = random.getrandbits(64)
    heard, reply = await _exchange(request, settings, limit, cookie)
    if reply.unsynchronised:
        raise _NoTime(ClockOutcome.UNSYNCHRONISED, reply.unsynchronised)
    received, sent = (ntp.to_unix(stamp, heard.asked) for stamp in (reply.received, reply.sent))
    spent = sent - received
    if not -reply.step <= spent <= heard.took + 2 * reply.step:
        raise _NoTime(ClockOutcome.NOT_SPOKEN, f"its times contradict each other: {spent:.3f} s between them")
    # Its dispersion says how far its clock may be from true time; asked is what its clock says, right or wrong.
    delay = max(0.0, heard.took - spent)
    offset = (received + sent) / 2 - (heard.asked + heard.took / 2)
    return _Reading(offset, delay / 2 + reply.step, reply.stratum)


async def _exchange(
    request: ClockQuery, settings: ProbeSettings, limit: float, cookie: int
) -> tuple[_Heard, ntp.Reply]:
    """One datagram there, and the first one back that answers it."""
    loop = asyncio.get_running_loop()
    problem = ""
    sock = _udp(request, settings)
    with sock:
        asked, started = time.time(), time.perf_counter()
        try:
            async with asyncio.timeout(_left(limit)):
                await loop.sock_sendall(sock, ntp.encode_request(cookie))
                for _ in range(DATAGRAMS):
                    data = await loop.sock_recv(sock, 1024)
                    took = time.perf_counter() - started
                    try:
                        return _Heard(data, asked, took), ntp.decode_reply(data, cookie)
                    except ntp.NtpFormatError as error:
                        problem = str(error)
        except TimeoutError:
            pass
        except OSError as error:
            raise _connect_error(error, sock) from None
    raise _NoTime(ClockOutcome.NOT_SPOKEN if problem else ClockOutcome.SILENT, problem)


def _udp(request: ClockQuery, settings: ProbeSettings) -> socket.socket:
    """A connected UDP socket: only such a one learns that nobody listens."""
    where = (request.address, request.source.port)
    address, port = settings.place(*where)
    sock = None
    try:
        sock = open_socket(address, socket.SOCK_DGRAM, settings.source)
        info = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        sock.connect(info[0][4])
    except OSError as error:
        if sock is not None:
            sock.close()
        raise _connect_error(error, None) from None
    return sock


def _connect_error(error: OSError, sock: socket.socket | None) -> ConnectError:
    icmp = read_icmp(sock) if sock is not None else None
    # Over UDP port unreachable is how a machine refuses; only where another one says it, it is a firewall's doing.
    said_by = "" if icmp is None or sock is None else icmp.sender
    if isinstance(error, ConnectionRefusedError) and sock is not None and said_by in ("", _peer(sock)):
        return ConnectError(TcpOutcome.REFUSED, "ECONNREFUSED", icmp)
    return ConnectError(outcome_of(error, icmp), errno.errorcode.get(error.errno or 0, ""), icmp)


def _peer(sock: socket.socket) -> str:
    return str(sock.getpeername()[0]).partition("%")[0]


def _left(limit: float) -> float:
    return max(0.001, limit - time.perf_counter())


_Source = Callable[[ClockQuery, ProbeSettings, float], Awaitable[_Reading]]
_SOURCES: Final[dict[ClockSource, _Source]] = {
    ClockSource.SMB2: _smb2,
    ClockSource.NTP: _ntp,
    ClockSource.HTTP: _http,
}
