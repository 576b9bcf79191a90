"""The pieces in which a file's bytes are handed on."""

from typing import Final, NamedTuple

HEADROOM: Final = 1 << 20
"""Free bytes that a chunk's buffer has before its data: room for the record that the chunk before left incomplete."""

SLACK: Final = 256
"""Free bytes that a chunk's buffer has behind its data, so that headers may be fetched without a look at the end."""


class Chunk(NamedTuple):
    """``buffer[start:end]`` is the next piece of a file.

    ``start`` is at least ``HEADROOM``, and ``SLACK`` bytes follow ``end``. The buffer may be overwritten as soon as the
    next chunk is asked for.
    """

    buffer: bytearray
    start: int
    end: int
