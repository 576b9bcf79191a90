"""A source as a stream of text."""

import io
from collections.abc import Callable
from typing import Final

from kmsdiag.evidence.events.digest import EventDigest
from kmsdiag.sources.files import Reading
from kmsdiag.sources.recognise import HEAD
from kmsdiag.sources.recognise_events import encoding_of

_BUFFER: Final = 1 << 18


class Bytes(io.RawIOBase):
    """The bytes of a source. ``told`` is called with the bytes read so far."""

    def __init__(self, reading: Reading, told: Callable[[int], None] | None = None) -> None:
        self._reading = reading
        self._told = told
        self._chunks = iter(reading)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object, /) -> int:
        """The next bytes; 0 at the end."""
        into = memoryview(buffer)  # type: ignore[arg-type]
        if not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            if self._told is not None:
                self._told(self._reading.done)
            self._left = memoryview(chunk.buffer)[chunk.start : chunk.end]
        count = min(len(into), len(self._left))
        into[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def opened(reading: Reading, told: Callable[[int], None] | None = None) -> tuple[bytes, "io.BufferedReader[Bytes]"]:
    """The first bytes of a source, and the stream of all of them.

    Raises:
        OSError: it can't be opened.
    """
    stream = io.BufferedReader(Bytes(reading, told), _BUFFER)
    return stream.peek(HEAD)[:HEAD], stream


def text_of(head: bytes, stream: "io.BufferedReader[Bytes]", digest: EventDigest) -> io.TextIOWrapper:
    """The stream as text; bytes that are none become replacement characters."""
    encoding = encoding_of(head)
    if "16" in encoding and len(head) % 2:
        digest.note("its last character is cut")
    return io.TextIOWrapper(stream, encoding, errors="replace", newline="")
