"""The way to an address: TCP connections whose packets may pass only so many routers, and who sends them back.

No raw sockets and no privileges: a connection with a small TTL fails by the ICMP error "time exceeded", and the error
queue (IP_RECVERR) names the router that sent it. Measured on Linux in namespaces, both families, as root and as nobody:
the same hops as scapy's raw sockets find as root, half a millisecond a hop. The kernel matches the quoted ports
and sequence number, so a forged error reaches no socket, and it sends a lost SYN again after a second.
"""

import asyncio
import datetime
import errno
import ipaddress
import socket
import struct
import sys
import time
import weakref
from collections.abc import Mapping
from typing import Final, NamedTuple

from kmsdiag.model.answer import Hop, Icmp, TraceAnswer
from kmsdiag.model.outcome import TraceOutcome
from kmsdiag.model.request import TcpTrace
from kmsdiag.probes.settings import ProbeSettings
from kmsdiag.probes.tcp import open_socket, read_icmp

FARTHEST: Final = 20
"""Routers that a packet may pass at most."""

LONGEST: Final = 1.5
"""Seconds for one trace, also where --timeout gives more: a router answers at once or not at all."""

SPACING: Final = 0.01
"""Seconds between two SYNs: a host that answers is spared those with a larger TTL."""

TRACES: Final = 3
"""Traces at once. Each has up to FARTHEST sockets, and the engine counts it as one connection."""

_TELLS_HOPS: Final = sys.platform == "linux"
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_rooms: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = weakref.WeakKeyDictionary()


class Echo(NamedTuple):
    """What one SYN came to. ``words`` is "" where a router let its time run out, and how the way ends otherwise."""

    sender: str
    rtt_ms: float
    words: str = ""
    arrived: bool = False


async def ask(request: TcpTrace, settings: ProbeSettings) -> TraceAnswer:
    """Follow the way to an address. Nothing but SYNs is sent; a connection that comes about is reset."""
    async with _room():
        at = datetime.datetime.now(datetime.UTC)
        started = time.perf_counter()
        outcome, hops, detail = await _trace(request, settings)
        elapsed = round((time.perf_counter() - started) * 1000, 3)
    return TraceAnswer(at=at, elapsed_ms=elapsed, outcome=outcome, hops=hops, detail=detail)


async def _trace(request: TcpTrace, settings: ProbeSettings) -> tuple[TraceOutcome, tuple[Hop, ...], str]:
    if obstacle := _obstacle(request.address, settings):
        return TraceOutcome.NOT_POSSIBLE, (), obstacle
    try:
        echoes = await _follow(request, settings)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        outcome = TraceOutcome.NOT_PERMITTED if isinstance(error, PermissionError) else TraceOutcome.NOT_POSSIBLE
        return outcome, (), f"this machine can't send the packets ({name})"
    return read(echoes, request.address)


def _obstacle(address: str, settings: ProbeSettings) -> str:
    """Why there is no way to follow, or ""."""
    if settings.via:
        return "the lab has no routers"
    parsed = ipaddress.ip_address(address)
    if parsed.is_loopback:
        return "a loopback address has no routers on its way"
    if parsed.is_link_local:
        return "a link-local address has no routers on its way"
    if not _TELLS_HOPS:
        return "only Linux tells a program which router sent its packets back"
    return ""


def read(echoes: Mapping[int, Echo], address: str) -> tuple[TraceOutcome, tuple[Hop, ...], str]:
    """What the echoes, by TTL, say together. Whatever lies behind the end of the way says nothing."""
    end = min((ttl for ttl, echo in echoes.items() if echo.words), default=0)
    last = end or max(echoes, default=0)
    hops = tuple(
        Hop(ttl, echo.sender or address, echo.rtt_ms) if (echo := echoes.get(ttl)) else Hop(ttl, "", -1.0)
        for ttl in range(1, last + 1)
    )
    if not end:
        return TraceOutcome.STOPPED, hops, ""
    outcome = TraceOutcome.REACHED if echoes[end].arrived else TraceOutcome.STOPPED
    return outcome, hops, echoes[end].words


async def _follow(request: TcpTrace, settings: ProbeSettings) -> dict[int, Echo]:
    """Send the SYNs, and wait until the way is known to its end, or for as long as a trace may take.

    Raises:
        OSError: this machine can't send; it says nothing about the way.
    """
    limit = time.monotonic() + min(settings.timeout, LONGEST)
    flying: dict[asyncio.Task[Echo | None], int] = {}
    echoes: dict[int, Echo] = {}
    end = FARTHEST + 1

    def land(landed: set[asyncio.Task[Echo | None]]) -> None:
        nonlocal end
        for task in landed:
            ttl, echo = flying.pop(task), task.result()
            if echo is not None:
                echoes[ttl] = echo
                end = min(end, ttl) if echo.words else end

    try:
        for ttl in range(1, FARTHEST + 1):
            flying[asyncio.create_task(_send(request, settings, ttl))] = ttl
            landed, _ = await asyncio.wait(flying, timeout=SPACING)
            land(landed)
            if ttl >= end:
                break
        while waiting := [task for task, ttl in flying.items() if ttl < end]:
            landed, _ = await asyncio.wait(
                waiting, timeout=max(0.0, limit - time.monotonic()), return_when=asyncio.FIRST_COMPLETED
            )
            if not landed:
                break
            land(landed)
    finally:
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)
    return echoes


async def _send(request: TcpTrace, settings: ProbeSettings, ttl: int) -> Echo | None:
    """One connection that may pass ``ttl`` routers; None where nothing came of it.

    Raises:
        OSError: the error came from this machine.
    """
    with open_socket(request.address, socket.SOCK_STREAM, settings.source) as sock:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        started = time.perf_counter()
        words = "it accepts the connection"
        icmp = None
        try:
            await asyncio.get_running_loop().sock_connect(sock, (request.address, request.port))
        except OSError as error:
            icmp = read_icmp(sock)
            if icmp is None and error.errno == errno.ETIMEDOUT:
                return None
            if icmp is None and error.errno not in (errno.ECONNREFUSED, errno.ECONNRESET):
                raise
            words = "it refuses the connection"
        rtt = round((time.perf_counter() - started) * 1000, 3)
    return echo_of(icmp, request.address, rtt) if icmp is not None else Echo(request.address, rtt, words, arrived=True)


def echo_of(icmp: Icmp, address: str, rtt_ms: float) -> Echo:
    """What an ICMP error says about the way to an address."""
    if icmp.type == (3 if ":" in address else 11):
        return Echo(icmp.sender, rtt_ms)
    if icmp.sender == address:
        return Echo(address, rtt_ms, f"it answers by ICMP: {icmp.name}", arrived=True)
    return Echo(icmp.sender, rtt_ms, f"{icmp.name}, said by {icmp.sender}")


def _room() -> asyncio.Semaphore:
    """The loop's own limit on traces: a semaphore belongs to one loop."""
    return _rooms.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(TRACES))
