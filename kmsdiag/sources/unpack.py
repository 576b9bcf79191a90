"""Unpacks gzip and zstd as a stream: never more in memory than was asked for, and never without end.

Both formats may hold several members one after the other. A file that was cut gives all that is before the cut.
"""

import zlib
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import zstandard

MOST_BEFORE: Final = 256 << 20
"""Unpacked bytes up to which any ratio is believed."""

MOST_RATIO: Final = 400
"""Unpacked bytes for a packed one: captures of much the same packets reach 50, what was made to fill a disk 1000."""

_GZIP_PIECE: Final = 1 << 18

# A block of zstd is at least four bytes and at most 128 KiB: a piece gives no more than 32 MiB.
_ZSTD_PIECE: Final = 1 << 10
_ZSTD_WINDOW: Final = 1 << 27
"""Bytes that a zstd file may want to be kept for reference: what the zstd program allows unless told otherwise."""

_WITH_GZIP_HEADER: Final = 31


class UnpackError(ValueError):
    """Packed bytes that can't be unpacked any further; the text says why."""


class Fills(Protocol):
    """What bytes come from: the one method of an unbuffered binary file that is needed."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill a buffer from its start, with at least one byte; the number of bytes, 0 at the end."""


class Gzip:
    """The unpacked bytes of a gzip file (RFC 1952)."""

    def __init__(self, packed: Fills) -> None:
        self._packed = _Packed(packed, _GZIP_PIECE)
        self._member = zlib.decompressobj(_WITH_GZIP_HEADER)
        self._input = b""

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer from its start; the number of bytes, 0 at the end.

        Raises:
            UnpackError: damaged, cut, or unpacking to no end.
        """
        while not self._member.eof or self._next_member():
            self._input = self._input or self._packed.more()
            before = self._member.copy()
            try:
                data = self._member.decompress(self._input, len(buffer))
            except zlib.error as error:
                data = self._before_damage(before, len(buffer))
                if not data:
                    raise UnpackError(f"the gzip file is damaged ({error})") from None
            else:
                if not self._input and not data and not self._member.eof:
                    raise UnpackError("the gzip file is cut")
                self._input = self._member.unconsumed_tail
            if data:
                buffer[: len(data)] = data
                self._packed.check(len(data))
                return len(data)
        return 0

    def _before_damage(self, before: "zlib._Decompress", most: int) -> bytes:
        """What the input gives up to its damage, that zlib withholds; the damage is what comes next."""
        fine, damaged, data = 0, len(self._input), b""
        self._member = before
        while damaged - fine > 1:
            middle = (fine + damaged) // 2
            member = before.copy()
            try:
                data = member.decompress(self._input[:middle], most)
            except zlib.error:
                damaged = middle
            else:
                fine, self._member = middle, member
        self._input = self._member.unconsumed_tail + self._input[fine:]
        return data

    def _next_member(self) -> bool:
        """Begin the member that follows, if any does. Zeros in between are padding."""
        rest = self._member.unused_data.lstrip(b"\0")
        while not rest and (more := self._packed.more()):
            rest = more.lstrip(b"\0")
        if rest and not rest.startswith(b"\x1f"):
            raise UnpackError("something that is not gzip follows the packed data")
        if rest:
            self._member, self._input = zlib.decompressobj(_WITH_GZIP_HEADER), rest
        return bool(rest)


class Zstd:
    """The unpacked bytes of a zstd file (RFC 8878)."""

    def __init__(self, packed: Fills) -> None:
        self._packed = _Packed(packed, _ZSTD_PIECE)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._input = b""
        self._output = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer from its start; the number of bytes, 0 at the end.

        Raises:
            UnpackError: damaged, cut, or unpacking to no end.
        """
        while not self._output:
            if not self._input:
                self._input = self._packed.more()
            if not self._input:
                if self._frame is not None:
                    raise UnpackError("the zstd file is cut")
                return 0
            self._output = memoryview(self._unpack())
            self._packed.check(len(self._output))
        count = min(len(buffer), len(self._output))
        buffer[:count] = self._output[:count]
        self._output = self._output[count:]
        return count

    def _unpack(self) -> bytes:
        import zstandard

        if self._frame is None:
            self._frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        try:
            data = self._frame.decompress(self._input)
        except zstandard.ZstdError as error:
            raise UnpackError(f"the zstd file is damaged ({error})") from None
        self._input = b""
        if self._frame.eof:
            self._input = self._frame.unused_data
            self._frame = None
        return data


class _Packed:
    """The packed bytes in pieces, and a check that they don't unpack to no end."""

    def __init__(self, source: Fills, piece: int) -> None:
        self._source = source
        self._buffer = memoryview(bytearray(piece))
        self._taken = 0
        self._given = 0

    def more(self) -> bytes:
        """The next piece; nothing at the end."""
        count = self._source.readinto(self._buffer) or 0
        self._taken += count
        return bytes(self._buffer[:count])

    def check(self, unpacked: int) -> None:
        """Count unpacked bytes.

        Raises:
            UnpackError: there are too many for what went in.
        """
        self._given += unpacked
        if self._given > MOST_BEFORE and self._given > self._taken * MOST_RATIO:
            raise UnpackError(
                f"{self._taken} bytes unpack to more than {self._given}: no capture shrinks so far, the rest is left"
            )
