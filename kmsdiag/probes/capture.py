"""Live capture: what passes some interfaces of this machine, recorded to pcapng files. Nothing is ever sent.

scapy opens the sockets and compiles the filter (libpcap); the bytes go to the file as they are, undissected. Opening
one needs privilege: on Linux CAP_NET_RAW. macOS and Windows (Npcap) go through the same calls and were not run.
"""

import contextlib
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple

from kmsdiag.wire import pcapng_blocks as blocks

BUFFER: Final = 64 * 1024 * 1024
"""Bytes that the kernel may queue for each interface while the disk is busy."""

FLUSH_SECONDS: Final = 0.5
"""A packet is in the file at most this long after it was seen, so that even a kill loses next to nothing."""

DRAIN_SECONDS: Final = 2.0
"""What the kernel has queued when a recording ends is kept, as far as this much time allows."""

_PACKET: Final = 1 << 18

# Linux: <linux/if_packet.h>, <asm-generic/socket.h>.
_SOL_PACKET, _STATISTICS, _IGNORE_OUTGOING, _RCVBUFFORCE = 263, 6, 23, 33

_ETHERNET, _RAW = 1, 101
_LINKS: Final = {
    1: _ETHERNET,
    772: _ETHERNET,
    512: _RAW,
    519: _RAW,
    768: _RAW,
    769: _RAW,
    776: _RAW,
    778: _RAW,
    65534: _RAW,
}
"""ARPHRD_ types whose packet sockets give Ethernet frames or bare IP packets."""


class CaptureProblem(Exception):
    """Why nothing can be recorded; one line."""


class NotPermitted(CaptureProblem):
    """Lack of privilege: this user may not record."""


class Ring(NamedTuple):
    """Files of at most ``size`` bytes each, of which the newest ``files`` are kept."""

    files: int
    size: int


class Nic(NamedTuple):
    """An interface of this machine: addresses, whether it is up, and what it gives, "" where it can't be recorded."""

    name: str
    addresses: tuple[str, ...]
    up: bool
    loopback: bool
    description: str = ""


class Recorded(NamedTuple):
    """What a recording came to. ``dropped`` counts packets that the system lost, None where it doesn't say."""

    files: tuple[Path, ...]
    packets: int
    dropped: int | None


class Seen(NamedTuple):
    """One packet as it is recorded: LINKTYPE_ number, ns since 1970, bytes."""

    link: int
    at: int
    data: bytes


def _scapy() -> Any:
    """Configuration of scapy, with this system's sockets and the link types that it knows."""
    import scapy.layers.l2  # noqa: F401  # registers link types
    from scapy.config import conf

    return conf


def interfaces() -> list[Nic]:
    """The interfaces of this machine, by name."""
    found = []
    for one in _scapy().ifaces.values():
        addresses = tuple(str(address) for kind in (4, 6) for address in one.ips.get(kind, ()) if address)
        flags = one.flags
        found.append(Nic(one.name, addresses, bool(flags.UP), bool(flags.LOOPBACK), one.description or ""))
    return sorted(found)


def usual(nics: Sequence[Nic]) -> list[str]:
    """The interfaces to record where none is named: all that are up and have an address; loopback only if alone."""
    up = [nic for nic in nics if nic.up and nic.addresses]
    return [nic.name for nic in up if not nic.loopback] or [nic.name for nic in up]


class _Tap:
    """One open interface."""

    def __init__(self, name: str, expression: str) -> None:
        from scapy.error import Scapy_Exception

        conf = _scapy()
        conf.bufsize = BUFFER
        try:
            self.socket = conf.L2listen(iface=name, filter=expression)
        except PermissionError as error:
            raise NotPermitted(f"this user may not record on {name} ({error.strerror})") from None
        except OSError as error:
            raise CaptureProblem(f"{name} can't be recorded: {error.strerror or error}") from None
        except Scapy_Exception as error:
            raise CaptureProblem(f"{name} can't be recorded: {' '.join(str(error).split())}") from None
        self.name = name
        self.packets = 0
        self.dropped: int | None = 0 if sys.platform == "linux" else None
        try:
            self.link = self._prepare()
        except CaptureProblem:
            self.close()
            raise

    def _prepare(self) -> int:
        if sys.platform != "linux":
            return int(self.socket.pcap_fd.datalink())
        kernel = self.socket.ins
        with contextlib.suppress(OSError):
            # Beyond net.core.rmem_max, where this user may.
            kernel.setsockopt(1, _RCVBUFFORCE, BUFFER)
        kind = kernel.getsockname()[3]
        if kind == 772:
            # Loopback shows each packet twice, on its way out and on its way in.
            kernel.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        if kind not in _LINKS:
            raise CaptureProblem(f"{self.name} is an interface of type {kind}, which is not recorded here: use tcpdump")
        return _LINKS[kind]

    def receive(self) -> Seen | None:
        """The next packet; None where there was none after all."""
        try:
            _kind, data, at = self.socket.recv_raw(_PACKET)
        except OSError as error:
            raise CaptureProblem(f"{self.name} went away: {error.strerror or error}") from None
        if not data:
            return None
        return Seen(self.link, time.time_ns() if at is None else round(at * 1e9), data)

    def count_drops(self) -> None:
        """Ask the kernel what it lost since it was asked last."""
        if self.dropped is not None:
            with contextlib.suppress(OSError):
                _packets, drops = struct.unpack("II", self.socket.ins.getsockopt(_SOL_PACKET, _STATISTICS, 8))
                self.dropped += drops

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class _Files:
    """The file or ring of files that is written."""

    def __init__(self, path: Path, ring: Ring | None, head: bytes) -> None:
        self.paths: list[Path] = []
        self._path, self._ring, self._head = path, ring, head
        self._number = 0
        self._refuse_older()
        self._file: BinaryIO = self._open()

    def _refuse_older(self) -> None:
        """An older ring of this name would be written over sooner or later, and read as part of this one."""
        path = self._path
        for older in path.parent.iterdir() if self._ring is not None and path.parent.is_dir() else ():
            number = older.name.removeprefix(f"{path.stem}_").removesuffix(path.suffix)
            if number.isdecimal() and older.name == f"{path.stem}_{number}{path.suffix}":
                raise CaptureProblem(f"{older} is there already, of another ring: give another name to -w")

    def _open(self) -> BinaryIO:
        self._number += 1
        path = self._path
        if self._ring is not None:
            path = path.with_name(f"{path.stem}_{self._number:05}{path.suffix}")
        try:
            file = path.open("xb", buffering=1 << 20)
        except FileExistsError:
            raise CaptureProblem(f"{path} is there already: give another name to -w") from None
        except OSError as error:
            raise CaptureProblem(f"{path} can't be written: {error.strerror or error}") from None
        self._size = 0
        self.paths.append(path)
        if self._ring is not None and len(self.paths) > self._ring.files:
            with contextlib.suppress(OSError):
                self.paths.pop(0).unlink()
        self._file = file
        self.write(self._head)
        return file

    def write(self, data: bytes) -> None:
        """Append whole blocks, in the next file of the ring where this one is full."""
        if self._ring is not None and self._size + len(data) > self._ring.size and self._size > len(self._head):
            self._file.close()
            self._open()
        self._file.write(data)
        self._size += len(data)

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


class Recorder:
    """Records in a thread of its own from ``__enter__`` on until :meth:`stop` or the end of the block.

    ``path`` must not exist yet; with ``ring`` its name gets a number. ``on_packet`` sees every packet, in the thread.

    Raises:
        CaptureProblem: on entering, when an interface or the file can't be opened; NotPermitted for lack of privilege.
    """

    def __init__(
        self,
        names: Sequence[str],
        path: Path,
        *,
        expression: str,
        ring: Ring | None = None,
        on_packet: Callable[[Seen], None] | None = None,
    ) -> None:
        self.packets = 0
        self.problem = ""
        self._names, self._path, self._expression, self._ring = names, path, expression, ring
        self._on_packet = on_packet
        self._taps: list[_Tap] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def __enter__(self) -> "Recorder":
        try:
            for name in self._names:
                self._taps.append(_Tap(name, self._expression))
            head = blocks.section() + b"".join(
                blocks.interface(tap.link, tap.name, self._expression) for tap in self._taps
            )
            self._files = _Files(self._path, self._ring, head)
        except CaptureProblem:
            for tap in self._taps:
                tap.close()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether packets are still recorded."""
        return self._thread.is_alive()

    def stop(self) -> Recorded:
        """End the recording, once; what was seen is in the files."""
        self._ends.set()
        self._thread.join()
        drops = [tap.dropped for tap in self._taps]
        known = [number for number in drops if number is not None]
        return Recorded(tuple(self._files.paths), self.packets, sum(known) if known else None)

    def dropped(self) -> int:
        """Packets that the system lost so far."""
        return sum(tap.dropped or 0 for tap in self._taps)

    def _run(self) -> None:
        try:
            self._record()
        except CaptureProblem as problem:
            self.problem = str(problem)
        except OSError as error:
            self.problem = f"{self._path} can't be written: {error.strerror or error}"
        finally:
            self._finish()

    def _record(self) -> None:
        conf = _scapy()
        numbers: dict[Any, tuple[int, _Tap]] = {tap.socket: (number, tap) for number, tap in enumerate(self._taps)}
        flushed = time.monotonic()
        last = None
        while True:
            if last is None and self._ends.is_set():
                last = flushed + DRAIN_SECONDS
            ready = conf.L2listen.select(list(numbers), 0 if last else FLUSH_SECONDS / 5)
            for number, tap in (numbers[one] for one in ready):
                self._keep(number, tap.receive())
            now = time.monotonic()
            if last is not None and (not ready or now > last):
                return
            if now - flushed > FLUSH_SECONDS:
                flushed = now
                self._files.flush()
                for tap in self._taps:
                    tap.count_drops()

    def _keep(self, number: int, seen: Seen | None) -> None:
        if seen is None:
            return
        self._files.write(blocks.packet(number, seen.at, seen.data, len(seen.data)))
        self.packets += 1
        self._taps[number].packets += 1
        if self._on_packet is not None:
            self._on_packet(seen)

    def _finish(self) -> None:
        """Write the counts and close everything; the packets are safe already where this fails."""
        with contextlib.suppress(OSError, ValueError):
            for number, tap in enumerate(self._taps):
                tap.count_drops()
                if tap.dropped is not None:
                    self._files.write(blocks.statistics(number, time.time_ns(), tap.packets, tap.dropped))
            self._files.close()
        for tap in self._taps:
            tap.close()
