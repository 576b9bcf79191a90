"""Writes capture files for tests: pcap in any variant, pcapng block by block."""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kmsdiag.wire.batch import WHOLE, Part
from kmsdiag.wire.chunks import HEADROOM, SLACK, Chunk
from kmsdiag.wire.records import CaptureReader


class Written(NamedTuple):
    """A record of a test: time in ns, frame, size on the wire."""

    at: int
    data: bytes
    length: int


class Variant(NamedTuple):
    """A variant of pcap, by its magic number; ``header`` is the size of a record's header, ``step`` ns of a tick."""

    magic: int
    header: int = 16
    step: int = 1000
    file: int = 24
    version: tuple[int, int] = (2, 4)


VARIANTS = {
    "micro": Variant(0xA1B2C3D4),
    "nano": Variant(0xA1B23C4D, step=1),
    "modified": Variant(0xA1B2CD34, header=24),
    "ixia-hardware": Variant(0x1C0001AC, file=28),
    "ixia-software": Variant(0x1C0001AB, file=28),
    "old": Variant(0xA1B2C3D4, version=(2, 2)),
}


def pcap(
    records: Iterable[Written], variant: str = "micro", *, little: bool = True, link: int = 1, snap: int = 262_144
) -> bytes:
    kind, order = VARIANTS[variant], "<" if little else ">"
    body = []
    for one in records:
        seconds, rest = divmod(one.at, 1_000_000_000)
        sizes = (len(one.data), one.length)
        if kind.version < (2, 3):
            sizes = sizes[::-1]
        head = struct.pack(order + "IIII", seconds, rest // kind.step, *sizes)
        body.append(head + b"\xee" * (kind.header - 16) + one.data)
    total = sum(map(len, body))
    head = struct.pack(order + "IHHiIII", kind.magic, *kind.version, 0, 0, snap, link)
    return head + struct.pack(order + "I", total)[: kind.file - 24] + b"".join(body)


class Pcapng:
    """Blocks of pcapng in one byte order; :attr:`data` is what was written so far."""

    def __init__(self, *, little: bool = True) -> None:
        self.order = "<" if little else ">"
        self.data = b""

    def pack(self, form: str, *values: int) -> bytes:
        return struct.pack(self.order + form, *values)

    def block(self, kind: int, body: bytes) -> "Pcapng":
        body += bytes(-len(body) % 4)
        length = self.pack("I", len(body) + 12)
        self.data += self.pack("I", kind) + length + body + length
        return self

    def option(self, code: int, value: bytes) -> bytes:
        return self.pack("HH", code, len(value)) + value + bytes(-len(value) % 4)

    def section(self) -> "Pcapng":
        return self.block(0x0A0D0D0A, self.pack("IHHq", 0x1A2B3C4D, 1, 0, -1) + self.option(4, b"a test"))

    def interface(self, link: int = 1, snap: int = 0, options: bytes = b"") -> "Pcapng":
        return self.block(1, self.pack("HHI", link, 0, snap) + options)

    def packet(self, data: bytes, ticks: int = 0, number: int = 0, length: int | None = None) -> "Pcapng":
        size = len(data) if length is None else length
        head = self.pack("IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), size)
        return self.block(6, head + data)

    def simple(self, data: bytes, length: int | None = None) -> "Pcapng":
        return self.block(3, self.pack("I", len(data) if length is None else length) + data)

    def old(self, data: bytes, ticks: int = 0, number: int = 0) -> "Pcapng":
        head = self.pack("HHIIII", number, 7, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
        return self.block(2, head + data)

    def statistics(self, number: int, dropped: int) -> "Pcapng":
        return self.block(5, self.pack("III", number, 0, 0) + self.option(5, self.pack("Q", dropped)))


def pieces(data: bytes, size: int = 1 << 23) -> Iterator[Chunk]:
    """The bytes in chunks, in one buffer that is used again, with rubbish around them."""
    size = min(size, len(data))
    buffer = bytearray(b"\x06") * (HEADROOM + size + SLACK)
    for start in range(0, len(data), size or 1):
        piece = data[start : start + size]
        buffer[HEADROOM:] = piece + b"\x06" * (size - len(piece) + SLACK)
        yield Chunk(buffer, HEADROOM, HEADROOM + len(piece))


class Found(NamedTuple):
    """A record as it was read."""

    number: int
    link: int
    at: int
    data: bytes
    length: int
    position: int


def read(data: bytes, size: int = 1 << 23, part: Part = WHOLE) -> tuple[list[Found], CaptureReader]:
    """All records of a part of a capture, and the reader, exhausted."""
    reader = CaptureReader(pieces(data[part.start :], size), part)
    found: list[Found] = []
    for batch in reader:
        frames = batch.frames(range(len(batch.at)), 0, reader.links or (-1,))
        places = (batch.position + batch.base).tolist()
        found += (
            Found(one.ref, one.link, one.at, one.data, one.length, place)
            for one, place in zip(frames, places, strict=True)
        )
    return found, reader
