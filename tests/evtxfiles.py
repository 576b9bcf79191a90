"""Windows event logs (.evtx) made for tests and benchmarks.

Chunks of 64 KiB with records in binary XML; each chunk has one template for events with as many values, which its
records fill in. The format is that of Microsoft's [MS-EVEN6] and the notes of libevtx.
"""

import datetime
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

CHUNK: Final = 1 << 16
FILE_HEAD: Final = 4096
CHUNK_HEAD: Final = 512
_RECORD_HEAD: Final = 24
_FRAGMENT: Final = b"\x0f\x01\x01\0"
_EPOCH: Final = datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC)
_STRING, _U16, _U64, _TIME = 0x01, 0x06, 0x0A, 0x11


class Logged(Protocol):
    """What a record holds."""

    @property
    def at(self) -> datetime.datetime:
        """Its time."""

    @property
    def number(self) -> int:
        """The event's number."""

    @property
    def provider(self) -> str:
        """Who logged it."""

    @property
    def channel(self) -> str:
        """The log's name."""

    @property
    def machine(self) -> str:
        """The computer."""

    @property
    def values(self) -> tuple[str, ...]:
        """Insertion strings."""


def pieces(events: Iterable[Logged]) -> Iterator[bytes]:
    """The chunks of a log, and at the end its header, which stands before them."""
    chunks, number = 0, 0
    chunk = _Chunk(1)
    for number, event in enumerate(events, 1):
        if not chunk.add(number, event):
            yield chunk.closed(number - 1)
            chunks, chunk = chunks + 1, _Chunk(number)
            chunk.add(number, event)
    yield chunk.closed(number)
    yield _file_head(chunks, number)


def evtx(events: Iterable[Logged]) -> bytes:
    """A whole log."""
    *chunks, head = pieces(events)
    return b"".join([head, *chunks])


def _file_head(chunks: int, records: int) -> bytes:
    head = bytearray(FILE_HEAD)
    struct.pack_into("<8sQQQIHHHH", head, 0, b"ElfFile\0", 0, chunks, records + 1, 128, 1, 3, FILE_HEAD, 0)
    struct.pack_into("<H", head, 42, min(chunks + 1, 0xFFFF))
    struct.pack_into("<I", head, 124, zlib.crc32(head[:120]))
    return bytes(head)


class _Chunk:
    """A chunk that is being filled."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._body = bytearray()
        self._templates: dict[int, int] = {}

    def add(self, number: int, event: Logged) -> bool:
        """Add a record; False where there is no room for it."""
        ticks = (event.at - _EPOCH) // datetime.timedelta(microseconds=1) * 10
        count = len(event.values)
        start = CHUNK_HEAD + len(self._body)
        definition = self._templates.get(count)
        body = _FRAGMENT
        if definition is None:
            definition = start + _RECORD_HEAD + len(_FRAGMENT) + 10
            template = _template(count, definition + 24)
            body += struct.pack("<BBII", 0x0C, 1, count, definition)
            body += struct.pack("<I16sI", 0, b"kmsdiag-template", len(template)) + template
        else:
            body += struct.pack("<BBII", 0x0C, 1, count, definition)
        values = [(_U16, struct.pack("<H", event.number)), (_TIME, struct.pack("<Q", ticks))]
        values.append((_U64, struct.pack("<Q", number)))
        texts = (event.provider, event.channel, event.machine, *event.values)
        values += [(_STRING, text.encode("utf-16-le")) for text in texts]
        body += struct.pack("<I", len(values))
        body += b"".join(struct.pack("<HBB", len(value), kind, 0) for kind, value in values)
        body += b"".join(value for _kind, value in values)
        size = -(-(_RECORD_HEAD + len(body) + 4) // 8) * 8
        if start + size > CHUNK:
            return False
        self._templates[count] = definition
        self._body += struct.pack("<4sIQQ", b"**\0\0", size, number, ticks)
        self._body += body.ljust(size - _RECORD_HEAD - 4, b"\0") + struct.pack("<I", size)
        return True

    def closed(self, last: int) -> bytes:
        """The chunk with its checksums."""
        head = bytearray(CHUNK_HEAD)
        end = CHUNK_HEAD + len(self._body)
        struct.pack_into("<8sQQQQIII", head, 0, b"ElfChnk\0", self._first, last, self._first, last, 128, end, end)
        struct.pack_into("<I", head, 52, zlib.crc32(self._body))
        struct.pack_into("<I", head, 124, zlib.crc32(head[:120] + head[128:]))
        return bytes(head + self._body + bytes(CHUNK - end))


# ----------------------------------------------------------------------------------------------------- templates


class _Part(NamedTuple):
    """An element: what it holds is a text, a value by its number and type, or elements."""

    name: str
    attributes: tuple[tuple[str, str | tuple[int, int]], ...] = ()
    holds: "str | tuple[int, int] | tuple[_Part, ...] | None" = None


def _template(count: int, place: int) -> bytes:
    """An event with some values as binary XML, at a place in its chunk: names are known by where they stand."""
    system = (
        _Part("Provider", (("Name", (3, _STRING)), ("Guid", "{E23B33B0-C8C9-472C-A5F9-F2BDFEA0F156}"))),
        _Part("EventID", (("Qualifiers", "16384"),), (0, _U16)),
        _Part("Version", (), "0"),
        _Part("Level", (), "4"),
        _Part("Task", (), "0"),
        _Part("Opcode", (), "0"),
        _Part("Keywords", (), "0x80000000000000"),
        _Part("TimeCreated", (("SystemTime", (1, _TIME)),)),
        _Part("EventRecordID", (), (2, _U64)),
        _Part("Channel", (), (4, _STRING)),
        _Part("Computer", (), (5, _STRING)),
        _Part("Security"),
    )
    data = tuple(_Part("Data", (), (6 + number, _STRING)) for number in range(count))
    namespace = (("xmlns", "http://schemas.microsoft.com/win/2004/08/events/event"),)
    event = _Part("Event", namespace, (_Part("System", (), system), _Part("EventData", (), data)))
    out = bytearray(_FRAGMENT)
    _put(event, out, place)
    return bytes(out) + b"\0"


def _put(part: _Part, out: bytearray, place: int) -> None:
    out += struct.pack("<BH", 0x41 if part.attributes else 0x01, 0xFFFF)
    start = len(out)
    out += bytes(4)
    _put_name(part.name, out, place)
    if part.attributes:
        sized = len(out)
        out += bytes(4)
        for number, (name, value) in enumerate(part.attributes, 1):
            out += b"\x06" if number == len(part.attributes) else b"\x46"
            _put_name(name, out, place)
            _put_value(value, out)
        struct.pack_into("<I", out, sized, len(out) - sized - 4)
    if part.holds is None:
        out += b"\x03"
    else:
        out += b"\x02"
        if isinstance(part.holds, str) or (part.holds and isinstance(part.holds[0], int)):
            _put_value(part.holds, out)
        else:
            for inner in part.holds:
                _put(inner, out, place)
        out += b"\x04"
    struct.pack_into("<I", out, start, len(out) - start - 4)


def _put_name(name: str, out: bytearray, place: int) -> None:
    hashed = 0
    for character in name:
        hashed = (hashed * 65599 + ord(character)) & 0xFFFF_FFFF
    out += struct.pack("<IIHH", place + len(out) + 4, 0, hashed & 0xFFFF, len(name))
    out += name.encode("utf-16-le") + b"\0\0"


def _put_value(value: str | tuple[int, int], out: bytearray) -> None:
    if isinstance(value, str):
        out += struct.pack("<BBH", 0x05, 0x01, len(value)) + value.encode("utf-16-le")
    else:
        out += struct.pack("<BHB", 0x0D, *value)
