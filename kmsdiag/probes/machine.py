"""What this machine is set to: resolvers, suffixes, hosts file, and the operating system's own name lookup.

Everything is read, nothing is changed. On Windows the KMS client's settings come from :mod:`kmsdiag.probes.windows`.
"""

import asyncio
import datetime
import platform
import re
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.names import LIST_LIMIT, addresses, parse_hosts, suffix, suffixes
from kmsdiag.model.answer import HostsEntry, LookupAnswer, MachineAnswer
from kmsdiag.model.outcome import LookupOutcome
from kmsdiag.model.request import SystemLookup
from kmsdiag.probes.settings import ProbeSettings, machine

HOSTS: Final = Path("/etc/hosts")
RESOLV_CONF: Final = Path("/etc/resolv.conf")
STUB_UPLINKS: Final = Path("/run/systemd/resolve/resolv.conf")
STUBS: Final = ("127.0.0.53", "127.0.0.54")
"""Addresses on which systemd-resolved listens and stands for the servers in ``STUB_UPLINKS``."""

FILE_LIMIT: Final = 1 << 20
"""Bytes read of a file; what is behind them is named as a problem."""

_NOT_FOUND: Final = frozenset(
    number
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")
    if (number := getattr(socket, name, None)) is not None
) | {11_001, 11_004}
"""getaddrinfo's ways to say that there is no such name or no address; the numbers are Winsock's."""

_EAI_NAMES: Final = {
    int(getattr(socket, name)): name for name in dir(socket) if re.fullmatch(r"EAI_[A-Z]+", name) and name != "EAI_MAX"
}


class ResolvConf(NamedTuple):
    """A resolv.conf: servers in order, the ``domain`` line, the search list as the C library uses it."""

    servers: tuple[str, ...]
    domain: str
    search: tuple[str, ...]
    problems: tuple[str, ...]


def parse_resolv_conf(text: str) -> ResolvConf:
    """Servers and suffixes; of ``domain`` and ``search`` the last line counts, as in the C library."""
    servers: list[str] = []
    domain = ""
    search: tuple[str, ...] = ()
    problems: list[str] = []
    for line in text.removeprefix("\ufeff").splitlines():
        words = line.split()
        if not words or line[0] in "#;":
            continue
        match words[0]:
            case "nameserver" if len(words) > 1:
                found = addresses(words[1:2])
                servers.extend(found)
                if not found:
                    problems.append(f"resolv.conf: nameserver {ascii_text(words[1], 64)} is no address")
            case "domain" if len(words) > 1:
                domain = suffix(words[1])
                search = (domain,) if domain else ()
            case "search":
                search = suffixes(words[1:])
                domain = ""
    return ResolvConf(tuple(dict.fromkeys(servers))[:LIST_LIMIT], domain, search, tuple(problems[:LIST_LIMIT]))


def read_text(file: Path) -> tuple[str, tuple[str, ...]]:
    """The start of a file, and what is wrong with it. A file that is not there is empty."""
    try:
        with file.open("rb") as stream:
            data = stream.read(FILE_LIMIT + 1)
    except FileNotFoundError:
        return "", ()
    except OSError as error:
        return "", (f"{file.name} can't be read ({type(error).__name__})",)
    cut = (f"{file.name}: only the first {FILE_LIMIT} bytes were read",) if len(data) > FILE_LIMIT else ()
    return data[:FILE_LIMIT].decode("utf-8", "backslashreplace"), cut


def read_local(
    name: str, hosts: Path = HOSTS, resolv_conf: Path = RESOLV_CONF, uplinks: Path = STUB_UPLINKS
) -> MachineAnswer:
    """The settings of a machine that keeps them in files, as Linux and macOS do. ``at`` and ``system`` are not set."""
    hosts_text, problems = read_text(hosts)
    entries, hosts_problems = parse_hosts(hosts_text)
    dns_text, dns_problems = read_text(resolv_conf)
    dns = parse_resolv_conf(dns_text)
    found = [*problems, *hosts_problems, *dns_problems, *dns.problems]
    if any(server in STUBS for server in dns.servers):
        behind = parse_resolv_conf(read_text(uplinks)[0]).servers
        servers = f"; it asks {', '.join(behind)}" if behind else ""
        found.append(f"resolv.conf names the stub of systemd-resolved on this machine{servers}")
    primary, source = _primary_suffix(name, entries, dns)
    if source:
        found.append(f"primary suffix: {source}")
    return MachineAnswer(
        at=datetime.datetime.fromtimestamp(0, datetime.UTC),
        system="",
        name=ascii_text(name),
        primary_suffix=primary,
        search=dns.search,
        resolvers=dns.servers,
        hosts_file=entries,
        problems=tuple(found),
    )


def _primary_suffix(name: str, entries: Iterable[HostsEntry], dns: ResolvConf) -> tuple[str, str]:
    """The domain of this machine, and where it is from if not from the machine's own name. Nothing is looked up."""
    host, _, domain = suffix(name).partition(".")
    if domain:
        return domain, ""
    for entry in entries:
        if host in entry.names:
            for other in entry.names:
                first, _, domain = other.partition(".")
                if first == host and domain:
                    return domain, ""
    if dns.domain:
        return dns.domain, "from the domain line of resolv.conf; the machine's own name has none"
    if dns.search:
        return dns.search[0], "the first search entry of resolv.conf; the machine's own name has no domain"
    return "", ""


async def settings(probe: ProbeSettings) -> MachineAnswer:
    """The settings of this machine, or those that the lab gives it."""
    given: MachineAnswer | None = probe.machine
    if given is not None:
        return msgspec.structs.replace(given, at=datetime.datetime.now(datetime.UTC))
    at = datetime.datetime.now(datetime.UTC)
    started = time.perf_counter()
    name, system = machine()
    if platform.system() == "Windows":
        # Only there is it needed, and only there can it run.
        from kmsdiag.probes import windows

        answer = await windows.settings(name)
    else:
        answer = read_local(name)
    return msgspec.structs.replace(
        answer, at=at, elapsed_ms=_milliseconds(started), name=ascii_text(name), system=ascii_text(system)
    )


async def lookup(request: SystemLookup, probe: ProbeSettings) -> LookupAnswer:
    """Ask the operating system for the addresses of a name, as any program on this machine would."""
    at = datetime.datetime.now(datetime.UTC)
    started = time.perf_counter()
    found: tuple[str, ...] = ()
    outcome, detail = LookupOutcome.FAILED, ""
    try:
        found = await _resolved(request.name, probe.timeout)
        outcome = LookupOutcome.FOUND if found else LookupOutcome.NOT_FOUND
    except TimeoutError:
        outcome = LookupOutcome.TIMEOUT
        detail = f"no answer within {probe.timeout:g} s"
    except socket.gaierror as error:
        outcome = LookupOutcome.NOT_FOUND if error.errno in _NOT_FOUND else LookupOutcome.FAILED
        detail = _EAI_NAMES.get(error.errno or 0, f"error {error.errno}")
    except (ValueError, OSError) as error:
        # A name that DNS can carry and getaddrinfo can't (a label too long, a zero byte).
        detail = f"{type(error).__name__}: the operating system can't be asked for this name"
    return LookupAnswer(at=at, elapsed_ms=_milliseconds(started), outcome=outcome, addresses=found, detail=detail)


async def _resolved(name: str, seconds: float) -> tuple[str, ...]:
    """Addresses by getaddrinfo, IPv4 first.

    It runs in a thread of its own that nobody waits for: getaddrinfo can't be stopped, and may take longer than the
    whole run has.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def settle(found: tuple[str, ...], error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(found)

    def run() -> None:
        found: tuple[str, ...] = ()
        failure: Exception | None = None
        try:
            infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            unique = {ascii_text(str(info[4][0])) for info in infos}
            found = tuple(sorted(unique, key=lambda address: (":" in address, address)))
        except Exception as error:  # noqa: BLE001  # it is raised again where it is awaited
            failure = error
        try:
            loop.call_soon_threadsafe(settle, found, failure)
        except RuntimeError:
            # The loop was closed meanwhile: nobody wants to know any more.
            return

    threading.Thread(target=run, name="kmsdiag lookup", daemon=True).start()
    async with asyncio.timeout(seconds):
        return await future


def _milliseconds(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
