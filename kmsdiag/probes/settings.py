"""How probes behave, and what this machine is: its resolvers, suffixes and own addresses. Read-only."""

import ipaddress
import platform
import socket
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from kmsdiag.model.answer import MachineAnswer

Via = Mapping[tuple[str, int], tuple[str, int]]
"""Where a probe really connects instead of (address, port): for the lab and the tests, and nobody else."""


_SPARE_DESCRIPTORS = 64
"""Descriptors kept for DNS sockets, files and the event loop."""


class ProbeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and choices that hold for every question of a run.

    ``timeout`` is seconds for one question (Linux learns after 3.1 s that a local address has no machine); ``source``
    the local address to ask from ("" for any). ``via`` leads into the lab, and ``elsewhere`` is where everything goes
    that ``via`` does not know: a lab address never leaves loopback. ``resolvers`` and ``machine`` are the settings of a
    machine in the lab; None reads those of this one. ``foresee_traces`` begins to follow the way to an address that
    stays silent before anybody asks for it, and ``foresee_binds`` a bind on 1688 where another port does, so that a
    silent host costs one time limit and not two.
    """

    timeout: float = 3.5
    source: str = ""
    via: Via = {}
    elsewhere: tuple[str, int] | None = None
    resolvers: tuple[str, ...] | None = None
    machine: MachineAnswer | None = None
    foresee_traces: bool = False
    foresee_binds: bool = False

    def place(self, address: str, port: int) -> tuple[str, int]:
        """Where to connect for this address and port."""
        return self.via.get((address, port), self.elsewhere or (address, port))


class SystemDns(NamedTuple):
    """DNS configuration of this machine: servers in order of use, and suffixes in order of search."""

    servers: tuple[str, ...]
    suffixes: tuple[str, ...]


def system_dns() -> SystemDns:
    """The machine's DNS servers and suffixes, as dnspython reads them (resolv.conf, or the registry on Windows)."""
    import dns.exception
    import dns.resolver

    from kmsdiag.model.target import as_address, join_host_port

    try:
        resolver = dns.resolver.Resolver(configure=True)
    except (dns.exception.DNSException, OSError):
        return SystemDns((), ())
    servers = []
    for server in resolver.nameservers:
        address = as_address(str(server))
        if address is not None:
            port = resolver.nameserver_ports.get(str(server), resolver.port)
            servers.append(address if port == 53 else join_host_port(address, port))
    names = [name.to_text(omit_final_dot=True).lower() for name in (resolver.domain, *resolver.search)]
    return SystemDns(tuple(servers), tuple(dict.fromkeys(name for name in names if name not in ("", "."))))


_ELSEWHERE = ("192.0.2.1", "2001:db8::1")
"""Documentation addresses: what leads there is the way to everywhere else."""


def own_addresses(toward: Iterable[str] = (), source: str = "") -> tuple[str, ...]:
    """The addresses this machine would send from, to elsewhere and to these addresses; nothing is sent to find out.

    A machine without a default route knows its address only on the way to those that it asks. ``source`` stands for
    all of its family. Loopback is no place and left out.
    """
    found = [source] if source else []
    for address in (*_ELSEWHERE, *toward):
        if source and (":" in source) == (":" in address):
            continue
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            # Connecting a UDP socket sends no packet; it only makes the kernel choose a source.
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((address, 9))
                found.append(str(sock.getsockname()[0]))
        except OSError:
            continue
    return tuple(dict.fromkeys(address for address in found if not ipaddress.ip_address(address).is_loopback))


def can_send_from(address: str) -> str:
    """Why nothing can be sent from this address, or "" where it is one of this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def machine() -> tuple[str, str]:
    """Host name and operating system of this machine."""
    return socket.gethostname(), f"{platform.system()} {platform.release()}"


def connection_limit(wanted: int) -> int:
    """How many connections may be open at once: as wanted, if the system lets this process have the descriptors."""
    try:
        import resource
    except ImportError:
        # Windows: asyncio's select limit does not apply to its proactor loop.
        return wanted
    needed = wanted + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (ValueError, OSError):
        allowed = soft
    return max(1, allowed - _SPARE_DESCRIPTORS)
