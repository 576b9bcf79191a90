"""TCP connections: open, refused, silent, unreachable and by whom; and the bytes of a bind.

Facts behind the details (measured on Linux): only IP_RECVERR / IPV6_RECVERR gives the ICMP type, code and sender, and
without it an IPv6 reject shows a second late; admin-prohibited reads EHOSTUNREACH on IPv4 and EACCES on IPv6.
"""

import asyncio
import datetime
import errno
import socket
import struct
import sys
import time
from typing import Final

from kmsdiag.model.answer import Icmp, TcpAnswer
from kmsdiag.model.outcome import TcpOutcome
from kmsdiag.model.request import TcpConnect
from kmsdiag.probes.settings import ProbeSettings
from kmsdiag.wire.icmp import error_name

_LINUX: Final = sys.platform == "linux"
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_ORIGIN_ICMP6: Final = 3
_ORIGINS_ICMP: Final = (2, _ORIGIN_ICMP6)
# struct sock_extended_err of linux/errqueue.h
_EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")

TRY_SPACING: Final = 0.2
"""Seconds between repeated connections to one address, so that one burst of loss does not hit them all."""

_OUTCOMES: Final = {
    errno.ECONNREFUSED: TcpOutcome.REFUSED,
    errno.ETIMEDOUT: TcpOutcome.TIMEOUT,
    errno.EHOSTUNREACH: TcpOutcome.UNREACHABLE,
    errno.ENETUNREACH: TcpOutcome.UNREACHABLE,
    errno.EACCES: TcpOutcome.UNREACHABLE,
    errno.ENOPROTOOPT: TcpOutcome.UNREACHABLE,
    errno.EHOSTDOWN: TcpOutcome.UNREACHABLE,
    errno.ECONNRESET: TcpOutcome.RESET,
    errno.ECONNABORTED: TcpOutcome.RESET,
    errno.EPIPE: TcpOutcome.RESET,
    # Winsock's own numbers, where Python does not map them
    10061: TcpOutcome.REFUSED,
    10060: TcpOutcome.TIMEOUT,
    10065: TcpOutcome.UNREACHABLE,
    10051: TcpOutcome.UNREACHABLE,
    10054: TcpOutcome.RESET,
    1225: TcpOutcome.REFUSED,
    121: TcpOutcome.TIMEOUT,
    1231: TcpOutcome.UNREACHABLE,
    1232: TcpOutcome.UNREACHABLE,
}

_PORT_UNREACHABLE: Final = ((3, 3), (1, 4))


class ConnectError(Exception):
    """A connection that did not come about, already turned into an outcome."""

    def __init__(self, outcome: TcpOutcome, errno_name: str = "", icmp: Icmp | None = None) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.errno_name = errno_name
        self.icmp = icmp


def outcome_of(error: OSError, icmp: Icmp | None) -> TcpOutcome:
    """Map an errno to an outcome: the one place where that is done."""
    number = getattr(error, "winerror", None) or error.errno or 0
    outcome = _OUTCOMES.get(number, TcpOutcome.LOCAL_ERROR)
    if outcome is TcpOutcome.REFUSED and icmp is not None and (icmp.type, icmp.code) in _PORT_UNREACHABLE:
        # A TCP that has no such port resets; it is firewalls that say this by ICMP (the default of iptables' REJECT).
        return TcpOutcome.UNREACHABLE
    if outcome is TcpOutcome.UNREACHABLE and icmp is None and _LINUX:
        # No ICMP was received, so this machine itself had no way to go: that says nothing about the host.
        return TcpOutcome.NO_ROUTE
    return outcome


def icmp_of(record: bytes) -> Icmp | None:
    """Decode one IP_RECVERR control message; None where the error did not come as ICMP."""
    if len(record) < _EXTENDED_ERROR.size:
        return None
    _number, origin, kind, code, _pad, _info, _data = _EXTENDED_ERROR.unpack_from(record)
    if origin not in _ORIGINS_ICMP:
        return None
    address = record[_EXTENDED_ERROR.size :]
    sender = ""
    if len(address) >= 8:
        (family,) = struct.unpack_from("=H", address)
        if family == socket.AF_INET:
            sender = socket.inet_ntop(socket.AF_INET, address[4:8])
        elif family == socket.AF_INET6 and len(address) >= 24:
            sender = socket.inet_ntop(socket.AF_INET6, address[8:24])
    return Icmp(kind, code, sender, error_name(kind, code, ipv6=origin == _ORIGIN_ICMP6))


def read_icmp(sock: socket.socket) -> Icmp | None:
    """The ICMP error waiting in the socket's error queue, if any."""
    if not _LINUX:
        return None
    try:
        _data, control, _flags, _address = sock.recvmsg(1, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except OSError:
        return None
    for _level, _type, record in control:
        found = icmp_of(record)
        if found is not None:
            return found
    return None


def want_icmp(sock: socket.socket) -> None:
    """Have the kernel queue ICMP errors for this socket (Linux; elsewhere the kind stays unknown)."""
    if _LINUX:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def open_socket(address: str, kind: socket.SocketKind, source: str) -> socket.socket:
    """A non-blocking socket of the address's family, bound to ``source`` where that is of the same family."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        want_icmp(sock)
        if source and (":" in source) == (":" in address):
            sock.bind((source, 0))
    except OSError:
        sock.close()
        raise
    return sock


def _sockaddr(address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    host, _, scope = address.partition("%")
    if not scope:
        return (host, port)
    try:
        return (host, port, 0, int(scope) if scope.isdigit() else socket.if_nametoindex(scope))
    except OSError as error:
        raise ConnectError(TcpOutcome.NO_ROUTE, errno.errorcode.get(error.errno or 0, "ENODEV")) from None


async def connect(address: str, port: int, settings: ProbeSettings, within: float | None = None) -> socket.socket:
    """Open one TCP connection within so many seconds, by default those of the settings.

    Raises:
        ConnectError: with the outcome, whatever went wrong.
    """
    address, port = settings.place(address, port)
    try:
        sock = open_socket(address, socket.SOCK_STREAM, settings.source)
    except OSError as error:
        raise ConnectError(TcpOutcome.LOCAL_ERROR, errno.errorcode.get(error.errno or 0, "")) from None
    try:
        async with asyncio.timeout(settings.timeout if within is None else within):
            await asyncio.get_running_loop().sock_connect(sock, _sockaddr(address, port))
    except TimeoutError:
        sock.close()
        raise ConnectError(TcpOutcome.TIMEOUT) from None
    except OSError as error:
        icmp = read_icmp(sock)
        sock.close()
        raise ConnectError(outcome_of(error, icmp), errno.errorcode.get(error.errno or 0, ""), icmp) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _handshake(sock: socket.socket) -> tuple[float | None, int]:
    """Round-trip time in ms and the number of SYNs sent again, from TCP_INFO (Linux)."""
    if not _LINUX:
        return None, 0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except OSError:
        return None, 0
    # struct tcp_info of linux/tcp.h: tcpi_rtt is the 16th u32 behind 8 single bytes, tcpi_total_retrans the 24th.
    rtt_us, total_retrans = struct.unpack_from("=I", info, 8 + 15 * 4)[0], struct.unpack_from("=I", info, 8 + 23 * 4)[0]
    return rtt_us / 1000, int(total_retrans)


async def ask(request: TcpConnect, settings: ProbeSettings) -> TcpAnswer:
    """Connect, note what happened, hang up."""
    if request.attempt > 1:
        await asyncio.sleep((request.attempt - 1) * TRY_SPACING)
    at = datetime.datetime.now(datetime.UTC)
    started = time.perf_counter()
    try:
        sock = await connect(request.address, request.port, settings)
    except ConnectError as error:
        return TcpAnswer(
            at=at,
            elapsed_ms=_ms_since(started),
            outcome=error.outcome,
            errno=error.errno_name,
            icmp=error.icmp,
            waited_s=settings.timeout,
        )
    elapsed = _ms_since(started)
    with sock:
        rtt, retransmits = _handshake(sock)
    return TcpAnswer(
        at=at,
        elapsed_ms=elapsed,
        outcome=TcpOutcome.OPEN,
        rtt_ms=rtt,
        retransmits=retransmits,
        waited_s=settings.timeout,
    )


def _ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
