"""Files, folders and standard input by name, and their bytes in chunks.

A file is never mapped into memory: one that is cut while it is read would end the process.
"""

import contextlib
import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from kmsdiag.model.target import GivenFile
from kmsdiag.sources.archives import ArchiveError, last_names, members, opened
from kmsdiag.sources.recognise import HEAD, Format, Kind, recognise
from kmsdiag.sources.unpack import Fills, Gzip, UnpackError, Zstd
from kmsdiag.wire.chunks import HEADROOM, SLACK, Chunk

STDIN: Final = "-"

CHUNK: Final = 8 << 20
"""Bytes of a chunk: large enough for numpy, small enough for the processor's cache."""

_ENDS: Final = 1 << 16
"""Bytes at each end of a file that its hash covers."""


class Source(NamedTuple):
    """An input that can be used. Without a ``stream`` it is a value that another process may open.

    ``label`` is its name without folders, ``size`` its bytes on disk (0 for standard input). ``packing`` is what it is
    packed with (``Kind.GZIP``, ``Kind.ZSTD``) or None, and ``format`` what the unpacked bytes are. ``stream`` are those
    of standard input, which can be read only once. ``member`` is its name in the zip archive at ``path``, where it lies
    in one; ``size`` is then that of the member, and ``crc`` its CRC-32. ``folder`` is the name of the folder that it
    lies in, ``machine`` whose it is, where somebody said so. ``found`` is true where nobody named it: it lies in a
    folder or an archive that was given.
    """

    path: str
    label: str
    size: int
    format: Format
    packing: Kind | None = None
    stream: Fills | None = None
    member: str = ""
    crc: int = 0
    folder: str = ""
    machine: str = ""
    found: bool = False

    @property
    def again(self) -> bool:
        """Whether it can be read a second time."""
        return self.stream is None

    @property
    def seekable(self) -> bool:
        """Whether reading may begin in the middle."""
        return self.again and self.packing is None and not self.member


class Refused(NamedTuple):
    """An input that can't be used, and one line that says why and what to do."""

    label: str
    reason: str


class Gathered(NamedTuple):
    """What was found under the names given. ``passed_over`` counts files in folders that are not read here."""

    sources: tuple[Source, ...]
    refused: tuple[Refused, ...] = ()
    passed_over: int = 0


def gather(names: Sequence[str], machines: Sequence[str] = ()) -> Gathered:
    """Find the inputs: files, ``-`` for standard input, and all that is of use in folders and archives, at any depth.

    ``machines`` are the machines that the files of each name are of, "" where nobody said so. Nothing is raised: what
    can't be used is refused. A file that is named twice is read once.
    """
    sources: list[Source] = []
    refused: list[Refused] = []
    passed_over = 0
    seen: set[str] = set()
    for number, name in enumerate(names):
        inside = _files(name) if name != STDIN and _is_folder(name) else None
        machine = machines[number] if machines else ""
        usable: list[Source] = []
        complaints: list[Refused] = []
        others = 0
        for path in [name] if inside is None else inside:
            identity = path if path == STDIN else _real(path)
            if identity in seen:
                continue
            seen.add(identity)
            looked = _look(path)
            if isinstance(looked, Source) and looked.format.kind is Kind.ZIP:
                more = _unzipped(looked, found=inside is not None)
                usable += more.sources
                complaints += more.refused
                others += more.passed_over
            elif isinstance(looked, Source):
                usable.append(looked._replace(folder=_folder(path), found=inside is not None))
            elif inside is None:
                complaints.append(looked)
            else:
                others += 1
        sources += [one._replace(machine=machine) for one in usable]
        refused += complaints
        passed_over += others
        if inside is not None and not usable and not complaints and (others or not inside):
            refused.append(Refused(_label(name), "a folder that holds nothing that is read here"))
    return Gathered(_told_apart(sources), tuple(refused), passed_over)


def _told_apart(sources: Sequence[Source]) -> tuple[Source, ...]:
    """The same with the name of its folder for each file that is called like another one."""
    labels = Counter(source.label for source in sources)
    return tuple(
        source._replace(label=_with_folder(source)) if labels[source.label] > 1 and source.folder else source
        for source in sources
    )


def _with_folder(source: Source) -> str:
    archive, slash, name = source.label.rpartition("/")
    return f"{archive}{slash}{source.folder}/{name}"


def _folder(path: str) -> str:
    return "" if path == STDIN else _shown(Path(path).parent.name)


def _unzipped(archive: Source, *, found: bool) -> Gathered:
    """What is of use in a zip archive; one that can't be used, or holds nothing of use, is refused."""
    if not archive.again or archive.packing is not None:
        return Gathered((), (Refused(archive.label, "a zip archive has to be given as a file: unpack it"),))
    try:
        entries = members(archive.path)
    except OSError as error:
        return Gathered((), (Refused(archive.label, f"it can't be read: {error.strerror or error}"),))
    except ArchiveError as error:
        return Gathered((), (Refused(archive.label, str(error)),))
    usable, refused, passed_over = [], [], 0
    for entry in entries:
        name, folder = last_names(entry.name)
        label = f"{archive.label}/{_shown(name)}"
        try:
            with opened(archive.path, entry.name) as stream:
                _stream, head, packing = _unpacked(stream)
        except (UnpackError, OSError) as error:
            refused.append(Refused(label, f"it can't be used: {error}"))
            continue
        shape = recognise(head)
        source = Source(archive.path, label, entry.size, shape, packing, member=entry.name, crc=entry.crc, found=True)
        if shape.kind is Kind.ZIP:
            refused.append(Refused(label, "it is an archive in an archive: unpack one of them"))
        elif isinstance(_usable(source), Source):
            usable.append(source._replace(folder=_shown(folder)))
        else:
            passed_over += 1
    if not usable and not refused and not found:
        refused.append(Refused(archive.label, "a zip archive that holds nothing that is read here"))
    return Gathered(tuple(usable), tuple(refused), passed_over)


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # a NUL in it: opening will say so
        return path


def _is_folder(name: str) -> bool:
    return os.path.isdir(name)  # noqa: PTH112 (Path's raises where permission lacks)


def _files(folder: str) -> list[str]:
    """Regular files under a folder. Numbers in names count as numbers, so that a ring of files is in its order."""
    found = [str(Path(place, name)) for place, _folders, names in os.walk(folder) for name in names]
    return sorted((path for path in found if os.path.isfile(path)), key=_natural)  # noqa: PTH113 (likewise)


def _natural(path: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"([0-9]+)", path)]


def _label(name: str) -> str:
    return _shown("standard input" if name == STDIN else Path(name).name or Path(name).resolve().name)


def _shown(name: str) -> str:
    """A name that can be encoded, whatever bytes the disk or the archive has for it."""
    return name.encode("utf-8", "backslashreplace").decode()


def _look(name: str) -> Source | Refused:
    """Open an input for a look at its first bytes, unpacked."""
    label = _label(name)
    try:
        if name == STDIN:
            # Not closed: it is read when its turn comes, and belongs to whoever started this process.
            stream, head, packing = _unpacked(open(0, "rb", buffering=0, closefd=False))  # noqa: SIM115
            return _usable(Source(name, label, 0, recognise(head), packing, _Replay(head, stream)))
        if not stat.S_ISREG(Path(name).stat().st_mode):
            return Refused(label, "it is no regular file: give what it holds as standard input, with -")
        with Path(name).open("rb", buffering=0) as file:
            _stream, head, packing = _unpacked(file)
            return _usable(Source(name, label, os.fstat(file.fileno()).st_size, recognise(head), packing))
    except OSError as error:
        return Refused(label, f"it can't be read: {error.strerror or error}")
    except UnpackError as error:
        return Refused(label, f"it can't be used: {error}")
    except ValueError as error:  # a NUL in a name
        return Refused(label, f"it can't be opened: {error}")


def _usable(source: Source) -> Source | Refused:
    packed = f", packed with {source.packing}" if source.packing else ""
    if source.format.kind in (Kind.GZIP, Kind.ZSTD):
        return Refused(source.label, f"it is packed twice, with {source.format.kind} inside: unpack it once")
    if source.format.kind is Kind.OTHER:
        remedy = f": {source.format.remedy}" if source.format.remedy else ""
        return Refused(source.label, f"it is {source.format.name}{packed}{remedy}")
    return source


class _Replay:
    """Bytes that were read before, and then those that follow them."""

    def __init__(self, head: bytes, rest: Fills) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readinto(self, buffer: memoryview) -> int:
        if not self._head:
            return self._rest.readinto(buffer) or 0
        count = min(len(buffer), len(self._head))
        buffer[:count] = self._head[:count]
        self._head = self._head[count:]
        return count


def _unpacked(raw: Fills) -> tuple[Fills, bytes, Kind | None]:
    """What follows in a stream, unpacked; its first bytes, which were taken from it; and how it was packed.

    Raises:
        UnpackError: nothing can be read, or unpacked.
    """
    head, problem = _take(raw, HEAD)
    if problem and not head:
        raise UnpackError(problem)
    kind = recognise(head).kind
    if kind is Kind.GZIP or kind is Kind.ZSTD:
        stream = _unpacker(kind, _Replay(head, raw))
        head, problem = _take(stream, HEAD)
        if problem and not head:
            raise UnpackError(problem)
        return stream, head, kind
    return raw, head, None


def _unpacker(kind: Kind, raw: Fills) -> Fills:
    return Gzip(raw) if kind is Kind.GZIP else Zstd(raw)


def _take(stream: Fills, count: int) -> tuple[bytes, str]:
    buffer = bytearray(count)
    filled, problem = _fill(stream, memoryview(buffer))
    return bytes(buffer[:filled]), problem


def _fill(stream: Fills, buffer: memoryview) -> tuple[int, str]:
    """Fill a buffer as far as it goes: the bytes it holds, and why there are no more of them, "" at a proper end."""
    filled = 0
    try:
        while filled < len(buffer) and (count := stream.readinto(buffer[filled:])):
            filled += count
    except UnpackError as error:
        return filled, str(error)
    except OSError as error:
        return filled, f"reading failed: {error.strerror or error}"
    return filled, ""


class Reading:
    """Iterates once over the chunks of a source, or of those of its bytes that are needed for records in a stretch.

    ``notes`` say what went wrong on the way; what was read before counts. ``done`` is how far reading has come, in
    bytes on disk. With ``ahead`` a thread reads the next chunk while this one is worked on.

    Raises:
        OSError: on the first step, where the file can't be opened any more.
    """

    def __init__(self, source: Source, start: int = 0, stop: int | None = None, *, ahead: bool = False) -> None:
        self._source = source
        self._start = start
        self._stop = stop
        self._ahead = ahead and source.again
        self.notes: tuple[str, ...] = ()
        self.done = 0

    def __iter__(self) -> Iterator[Chunk]:
        with contextlib.ExitStack() as cleanup:
            stream = self._source.stream
            if stream is None:
                stream = _Counted(self._opened(cleanup))
            counted = stream
            if self._source.packing is not None and self._source.again:
                stream = _unpacker(self._source.packing, stream)
            fill = self._filler(stream)
            size = self._chunk()
            ahead = self._ahead and size == CHUNK
            for chunk in self._two(fill, size, cleanup) if ahead else self._one(fill, size):
                self.done = counted.count if isinstance(counted, _Counted) else self.done + chunk.end - chunk.start
                yield chunk

    def _opened(self, cleanup: contextlib.ExitStack) -> Fills:
        """The bytes from the start of the stretch on.

        Raises:
            OSError: they can't be read any more.
        """
        source = self._source
        if source.member:
            try:
                return cleanup.enter_context(opened(source.path, source.member))
            except UnpackError as error:
                raise OSError(str(error)) from None
        file = Path(source.path).open("rb", buffering=0)  # noqa: SIM115
        cleanup.callback(file.close)
        file.seek(self._start)
        return file

    def _chunk(self) -> int:
        """Bytes of a chunk: a small file needs no large buffer, which costs more to make than the file to read."""
        return min(CHUNK, max(self._source.size - self._start, 0) + 1) if self._source.seekable else CHUNK

    def _filler(self, stream: Fills) -> Callable[[bytearray], Chunk]:
        """A function that puts the next bytes into a buffer."""
        left = float("inf") if self._stop is None else self._stop - self._start + HEADROOM

        def fill(buffer: bytearray) -> Chunk:
            nonlocal left
            want = int(min(len(buffer) - HEADROOM - SLACK, left))
            filled, problem = _fill(stream, memoryview(buffer)[HEADROOM : HEADROOM + want])
            left -= filled
            if problem:
                self.notes += (problem,)
                left = 0
            return Chunk(buffer, HEADROOM, HEADROOM + filled)

        return fill

    @staticmethod
    def _one(fill: Callable[[bytearray], Chunk], size: int) -> Iterator[Chunk]:
        buffer = _buffer(size)
        while (chunk := fill(buffer)).end > HEADROOM:
            yield chunk

    @staticmethod
    def _two(fill: Callable[[bytearray], Chunk], size: int, cleanup: contextlib.ExitStack) -> Iterator[Chunk]:
        thread = cleanup.enter_context(ThreadPoolExecutor(1))
        this, other = _buffer(size), _buffer(size)
        coming = thread.submit(fill, this)
        while (chunk := coming.result()).end > HEADROOM:
            coming = thread.submit(fill, other)
            yield chunk
            this, other = other, this


class _Counted:
    """A file that counts what is read from it."""

    def __init__(self, file: Fills) -> None:
        self._file = file
        self.count = 0

    def readinto(self, buffer: memoryview) -> int:
        count = self._file.readinto(buffer) or 0
        self.count += count
        return count


def _buffer(size: int) -> bytearray:
    return bytearray(HEADROOM + size + SLACK)


def read_whole(source: Source, limit: int) -> bytes:
    """All bytes of a source, unpacked; ``limit + 1`` of them where there are more.

    Raises:
        OSError: the file can't be opened any more.
        UnpackError: it could not be read to its end.
    """
    reading = Reading(source)
    found = bytearray()
    for chunk in reading:
        found += memoryview(chunk.buffer)[chunk.start : chunk.end]
        if len(found) > limit:
            return bytes(found[: limit + 1])
    if reading.notes:
        raise UnpackError(reading.notes[0])
    return bytes(found)


def describe(source: Source) -> GivenFile:
    """Name, size and hash of a file for the target of a run. Standard input has no hash.

    The hash covers the size and both ends, so that it costs nothing; what was read whole is told apart all the same.
    """
    if not source.again:
        return GivenFile(label=source.label)
    if source.member:
        return GivenFile(label=source.label, size=source.size, hash=f"{source.crc:08x}")
    digest = hashlib.sha256(str(source.size).encode())
    with contextlib.suppress(OSError), Path(source.path).open("rb", buffering=0) as file:
        digest.update(file.read(_ENDS))
        file.seek(max(source.size - _ENDS, 0))
        digest.update(file.read(_ENDS))
    return GivenFile(label=source.label, size=source.size, hash=digest.hexdigest()[:16])
