"""Members of zip archives, read as files: by content, never by their paths, and never without end.

A member is never written to disk, so a path in an archive can lead nowhere. Sizes are held to what the archive's own
directory declares; what overlaps, or declares more than any evidence unpacks to, is refused as a whole.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Final, NamedTuple

from kmsdiag.sources.unpack import MOST_BEFORE, MOST_RATIO, Fills, UnpackError

MOST_MEMBERS: Final = 100_000
"""Members of an archive that are looked at: more is no collection of evidence."""

MOST_BYTES: Final = 1 << 36
"""Unpacked bytes of a whole archive (64 GiB)."""

_ENCRYPTED: Final = 0x1


class Member(NamedTuple):
    """One file in an archive: its name there, its unpacked bytes, and its CRC-32."""

    name: str
    size: int
    crc: int


class ArchiveError(ValueError):
    """An archive that can't be used; the text says why."""


def members(path: str) -> tuple[Member, ...]:
    """The files of an archive, in its own order.

    Raises:
        ArchiveError: damaged, or made to fill memory or disk.
        OSError: it can't be read.
    """
    with _opened(path) as archive:
        entries = [one for one in archive.infolist() if not one.is_dir()]
        if len(entries) > MOST_MEMBERS:
            raise ArchiveError(f"it has {len(entries):,} members: give them in parts of {MOST_MEMBERS:,}")
        _require_sound(entries)
        return tuple(Member(one.filename, one.file_size, one.CRC) for one in entries)


def _require_sound(entries: list[zipfile.ZipInfo]) -> None:
    """Refuse what no program packs: members that share bytes, and sizes out of all proportion.

    Raises:
        ArchiveError: see above.
    """
    packed = sum(one.compress_size for one in entries)
    unpacked = sum(one.file_size for one in entries)
    if unpacked > MOST_BYTES or (unpacked > MOST_BEFORE and unpacked > packed * MOST_RATIO):
        raise ArchiveError(f"{packed:,} bytes unpack to {unpacked:,}: no evidence shrinks so far")
    end = 0
    for one in sorted(entries, key=lambda entry: entry.header_offset):
        if one.header_offset < end:
            raise ArchiveError("its members overlap: no program that packs evidence makes such an archive")
        end = one.header_offset + one.compress_size


@contextmanager
def opened(path: str, name: str) -> Iterator[Fills]:
    """The bytes of one member.

    Raises:
        UnpackError: it can't be unpacked; damage further on shows as an ``UnpackError`` while it is read.
        OSError: the archive can't be opened any more.
    """
    try:
        with _opened(path) as archive:
            entry = archive.getinfo(name)
            if entry.flag_bits & _ENCRYPTED:
                raise UnpackError("it is encrypted: unpack it, and give what is in it")
            with archive.open(entry) as stream:
                yield _Checked(stream)
    except (ArchiveError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UnpackError(f"it can't be unpacked ({error})") from None


class _Checked:
    """A member whose damage is told as everywhere else."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer from its start; the number of bytes, 0 at the end.

        Raises:
            UnpackError: damaged or cut.
        """
        import zlib

        try:
            data = self._stream.read(len(buffer))
        except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
            raise UnpackError(f"the archive is damaged there ({error or 'it is cut'})") from None
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _opened(path: str) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(Path(path))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise ArchiveError(f"it is a zip archive that can't be read ({error})") from None
    with archive:
        yield archive


def last_names(name: str) -> tuple[str, str]:
    """The names of a member and of the folder that it lies in, whichever slashes the archive has; "" for no folder."""
    parts = [part for whole in PurePosixPath(name).parts for part in PureWindowsPath(whole).parts]
    plain = [part for part in parts if part not in ("/", "\\", "..") and not part.endswith((":", ":\\"))]
    return (plain[-1] if plain else "member", plain[-2] if len(plain) > 1 else "")
