"""Damage in Windows event logs: where it is, and what lets the parser pass over it.

A parser gives up a chunk (64 KiB) at the first record whose header is broken. The records behind it are found by their
mark, and by their size, which stands at both ends; a header is put before the damage that makes it one bad record.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

FILE_HEAD: Final = 4096
CHUNK: Final = 1 << 16
_CHUNK_HEAD: Final = 512
_SMALLEST: Final = 28
_MARK: Final = b"**\0\0"


class Readable(Protocol):
    """Bytes in their order."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes; fewer at the end alone."""


class Patch(NamedTuple):
    """Bytes that stand in for what is at an offset of the file, and what is wrong there ("": it was said before)."""

    offset: int
    content: bytes
    what: str


def damages(stream: Readable) -> Iterator[Patch]:
    """What is to be put where so that a log can be read; nothing for one that is whole."""
    stream.read(FILE_HEAD)
    offset, number = FILE_HEAD, 0
    while chunk := stream.read(CHUNK):
        if len(chunk) < CHUNK:
            what = f"it is cut at offset {offset + len(chunk):,}, within chunk {number:,}"
            yield Patch(offset + len(chunk), bytes(CHUNK - len(chunk)), what)
            chunk = chunk.ljust(CHUNK, b"\0")
        if not _is_whole(chunk) and chunk.startswith(b"ElfChnk\0"):
            for patch in _damages(chunk):
                at = offset + patch.offset
                what = f"chunk {number:,} is damaged at offset {at:,}{patch.what}" if patch.what else ""
                yield Patch(at, patch.content, what)
        elif not chunk.startswith(b"ElfChnk\0") and chunk.strip(b"\0"):
            yield Patch(offset, b"", f"chunk {number:,} at offset {offset:,} has no header: its records are lost")
        offset, number = offset + len(chunk), number + 1


def _is_whole(chunk: bytes) -> bool:
    """Whether the checksum of a chunk's records is right. A log that was open has old ones, and may be whole too."""
    end, checksum = struct.unpack_from("<II", chunk, 48)
    return bool(_CHUNK_HEAD <= end <= CHUNK and zlib.crc32(chunk[_CHUNK_HEAD:end]) == checksum)


def _damages(chunk: bytes) -> Iterator[Patch]:
    """Stretches of a chunk that are no records, by their offset in it."""
    (end,) = struct.unpack_from("<I", chunk, 48)
    if not _CHUNK_HEAD <= end <= CHUNK:
        end = CHUNK
    place, record = _CHUNK_HEAD, 0
    while place < end - _SMALLEST and chunk[place:end].strip(b"\0"):
        size = _size_at(chunk, place)
        if size:
            record += 1
            place += size
            continue
        following = _next(chunk, place)
        if following - place < _SMALLEST:
            return
        header = struct.pack("<4sIQQ", _MARK, following - place, 0, 0)
        what = f", after its record {record:,}; {following - place:,} bytes are passed over"
        yield Patch(place, header, what)
        yield Patch(following - 4, struct.pack("<I", following - place), "")
        place = following


def _size_at(chunk: bytes, place: int) -> int:
    """The size of the record at a place, 0 where there is none."""
    if chunk[place : place + 4] != _MARK or place + _SMALLEST > CHUNK:
        return 0
    (size,) = struct.unpack_from("<I", chunk, place + 4)
    if size < _SMALLEST or place + size > CHUNK:
        return 0
    return int(size) if struct.unpack_from("<I", chunk, place + size - 4)[0] == size else 0


def _next(chunk: bytes, place: int) -> int:
    """Where the next record begins behind a damage; the chunk's end where there is none."""
    following = chunk.find(_MARK, place + 1)
    while following >= 0 and not (_size_at(chunk, following) and following - place >= _SMALLEST):
        following = chunk.find(_MARK, following + 1)
    return following if following >= 0 else CHUNK
