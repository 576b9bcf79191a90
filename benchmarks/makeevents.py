"""Large event logs of a KMS host for the benchmarks: CSV as PowerShell exports it, and .evtx of many chunks.

The log of one host with 20,000 clients, each of which asks again and again; every value but the times is made up from
the client's number.
"""

import datetime
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

HOST: Final = "kms01.bench.test"
PROVIDER: Final = "Microsoft-Windows-Security-SPP"
CHANNEL: Final = "Key Management Service"
BEGIN: Final = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

_FILE_HEAD: Final = 4096
_RECORD_HEAD: Final = 24
_FRAGMENT: Final = b"\x0f\x01\x01\0"
_CHUNK: Final = 1 << 16
_CHUNK_HEAD: Final = 512
_EPOCH: Final = datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC)


class Row(NamedTuple):
    """One request: its time, and the list of values of event 12290."""

    at: datetime.datetime
    info: str


def rows(count: int, machines: int) -> Iterator[Row]:
    """Requests in the order of time, every 15 seconds one; one in 50 has a clock that is wrong."""
    for number in range(count):
        client = number * 7919 % machines
        at = BEGIN + datetime.timedelta(seconds=15 * number, milliseconds=number % 1000)
        hresult = "0xC004F06C" if client % 50 == 0 else "0x0"
        need, product = ("5", "f1") if client % 4 == 0 else ("25", "f2")
        yield Row(
            at,
            f"{hresult}, {need}, pc{client:05}.bench.test, {client:08x}-0000-4000-8000-{client:012x},"
            f" {at:%Y/%m/%d %H:%M}, {client % 2}, 1, {259_200 - number % 10_080},"
            f" {product * 4}-{product * 2}-{product * 2}-{product * 2}-{product * 6}",
        )


def write_csv(path: Path, count: int, machines: int) -> None:
    """``Get-WinEvent | Export-Csv`` of PowerShell 5.1, without the columns that say nothing."""
    rest = f'"12290","0","4","{PROVIDER}","{CHANNEL}","{HOST}"'
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("#TYPE System.Diagnostics.Eventing.Reader.EventLogRecord\r\n")
        file.write('"Message","Id","Version","Level","ProviderName","LogName","MachineName","TimeCreated"\r\n')
        for row in rows(count, machines):
            time = f"{row.at.month}/{row.at.day}/{row.at:%Y %I:%M:%S %p}"
            file.write(f'"An activation request has been processed.\nInfo:\n{row.info}",{rest},"{time}"\r\n')


def write_evtx(path: Path, count: int, machines: int) -> None:
    """The host's own log: chunks of 64 KiB, each with one template that its records fill in, as Windows writes them."""
    chunks = 0
    with path.open("wb") as file:
        file.write(bytes(_FILE_HEAD))
        body, first = bytearray(), 1
        for number, row in enumerate(rows(count, machines), 1):
            record = _record(number, row, len(body))
            if _CHUNK_HEAD + len(body) + len(record) > _CHUNK:
                file.write(_chunk(body, first, number - 1))
                chunks, body, first = chunks + 1, bytearray(), number
                record = _record(number, row, 0)
            body += record
        file.write(_chunk(body, first, count))
        head = bytearray(_FILE_HEAD)
        struct.pack_into("<8sQQQIHHHH", head, 0, b"ElfFile\0", 0, chunks, count + 1, 128, 1, 3, _FILE_HEAD, 0)
        struct.pack_into("<H", head, 42, min(chunks + 1, 0xFFFF))
        struct.pack_into("<I", head, 124, zlib.crc32(head[:120]))
        file.seek(0)
        file.write(head)


def _chunk(body: bytearray, first: int, last: int) -> bytes:
    head = bytearray(_CHUNK_HEAD)
    end = _CHUNK_HEAD + len(body)
    struct.pack_into("<8sQQQQIII", head, 0, b"ElfChnk\0", first, last, first, last, 128, end, end)
    struct.pack_into("<I", head, 52, zlib.crc32(body))
    struct.pack_into("<I", head, 124, zlib.crc32(head[:120] + head[128:]))
    return bytes(head + body + bytes(_CHUNK - end))


def _record(number: int, row: Row, used: int) -> bytes:
    """One record behind ``used`` bytes of its chunk; the first one of a chunk holds the template."""
    ticks = (row.at - _EPOCH) // datetime.timedelta(microseconds=1) * 10
    definition = _CHUNK_HEAD + _RECORD_HEAD + 4 + 10
    body = _FRAGMENT + struct.pack("<BBII", 0x0C, 1, 1, definition)
    if not used:
        template = _template(definition + 24)
        body += struct.pack("<I16sI", 0, b"kmsdiag-template", len(template)) + template
    values = (
        (0x06, struct.pack("<H", 12290)),
        (0x11, struct.pack("<Q", ticks)),
        (0x0A, struct.pack("<Q", number)),
        (0x01, row.info.encode("utf-16-le")),
    )
    body += struct.pack("<I", len(values))
    body += b"".join(struct.pack("<HBB", len(value), kind, 0) for kind, value in values)
    body += b"".join(value for _kind, value in values)
    size = -(-(_RECORD_HEAD + len(body) + 4) // 8) * 8
    head = struct.pack("<4sIQQ", b"**\0\0", size, number, ticks)
    return head + body.ljust(size - _RECORD_HEAD - 4, b"\0") + struct.pack("<I", size)


class _Part(NamedTuple):
    """An element of the template: what it holds is a text, a value by its number and type, or elements."""

    name: str
    attributes: tuple[tuple[str, str | tuple[int, int]], ...] = ()
    holds: "str | tuple[int, int] | list[_Part] | None" = None


_EVENT: Final = _Part(
    "Event",
    (("xmlns", "http://schemas.microsoft.com/win/2004/08/events/event"),),
    [
        _Part(
            "System",
            (),
            [
                _Part("Provider", (("Name", PROVIDER), ("Guid", "{E23B33B0-C8C9-472C-A5F9-F2BDFEA0F156}"))),
                _Part("EventID", (("Qualifiers", "16384"),), (0, 0x06)),
                _Part("Version", (), "0"),
                _Part("Level", (), "4"),
                _Part("Task", (), "0"),
                _Part("Opcode", (), "0"),
                _Part("Keywords", (), "0x80000000000000"),
                _Part("TimeCreated", (("SystemTime", (1, 0x11)),)),
                _Part("EventRecordID", (), (2, 0x0A)),
                _Part("Channel", (), CHANNEL),
                _Part("Computer", (), HOST),
                _Part("Security"),
            ],
        ),
        _Part("EventData", (), [_Part("Data", (), (3, 0x01))]),
    ],
)


def _template(place: int) -> bytes:
    """The event as binary XML, at a place in its chunk: names are told apart by where they stand."""
    out = bytearray(_FRAGMENT)
    _put(_EVENT, out, place)
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
        if isinstance(part.holds, list):
            for inner in part.holds:
                _put(inner, out, place)
        else:
            _put_value(part.holds, out)
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
