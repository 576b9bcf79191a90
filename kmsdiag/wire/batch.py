"""The values that pass between whoever opens a capture, the readers of its formats, and those who look into frames."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from kmsdiag.wire.frames import RawFrame, ref_of

MAX_FRAME: Final = 262_144
"""Captured bytes of a frame; a record that claims more is damaged (Wireshark's WTAP_MAX_PACKET_SIZE_STANDARD)."""

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]


class CaptureError(ValueError):
    """Bytes that no reader here takes for a capture; the text says why."""


class Interface(NamedTuple):
    """One interface of a capture file.

    ``link`` is its LINKTYPE_ number, without FCS bits, ``snap`` the snap length in bytes (0: none), ``dropped`` the
    packets that the recorder says it lost, None where it says nothing. Time stamps count ``2**-power`` (``binary``) or
    ``10**-power`` seconds from ``shift`` seconds after 1970.
    """

    link: int
    snap: int = 0
    name: str = ""
    dropped: int | None = None
    power: int = 6
    binary: bool = False
    shift: int = 0


class State(NamedTuple):
    """All that a reader must know to go on in the middle of a file.

    ``format`` names the format for a person ("pcap", "pcapng", …). ``interfaces`` are those so far, and ``section`` is
    the index of the first one of the current section. ``header`` is the size of a pcap record's header, 0 for
    pcapng; ``swapped`` says that a record's two lengths have changed places (pcap before version 2.3). ``clock`` is
    the time of the last record in ns, for those that have none.
    """

    format: str
    little: bool
    interfaces: tuple[Interface, ...]
    section: int = 0
    header: int = 0
    swapped: bool = False
    clock: int = 0


class Part(NamedTuple):
    """A stretch of a file: the records that start in ``start…stop`` (file offsets; None: to the end).

    ``state`` is None where the file's own header stands at ``start``.
    """

    start: int = 0
    stop: int | None = None
    state: State | None = None


WHOLE: Final = Part()


class Facts(NamedTuple):
    """What reading a part came to.

    ``reached`` is the file offset of the first record that was not read, and ``state`` what a reader must know to go
    on there. ``first`` and ``last`` are the earliest and latest time in ns since 1970, None where there is none.
    """

    state: State
    packets: int
    reached: int
    damaged: bool
    first: int | None
    last: int | None
    notes: tuple[str, ...]


class Records(NamedTuple):
    """Records in a chunk, one entry each: where they start, where the frame's bytes start, and what they say.

    ``position`` and ``offset`` are in the chunk's buffer. ``caplen`` are the bytes that were captured and ``length``
    those on the wire; ``at`` is in ns since 1970; ``interface`` its number.
    """

    position: Int64s
    offset: Int64s
    caplen: Int64s
    length: Int64s
    at: Int64s
    interface: Int64s


class Stretch(NamedTuple):
    """What a format's reader made of a piece of a buffer.

    ``after`` is where it has to go on: where it began when the rest is incomplete, behind the piece's end when what
    comes next is of no use. ``problem`` is "", or the damage at ``after`` that ends the reading. ``notes`` are oddities
    with their position in the buffer.
    """

    records: Records | None
    after: int
    problem: str = ""
    notes: tuple[tuple[str, int], ...] = ()


class Batch(NamedTuple):
    """Records of one chunk, in order; valid until the next batch is asked for.

    ``first`` is the number of the first one in its part, from 1. A frame's bytes are ``data[offset:offset + caplen]``;
    at least ``SLACK`` bytes follow the last frame. ``length`` is its size on the wire; ``at`` is in ns since 1970, for
    a record without a time that of the one before (0 without any); ``interface`` is an index of the reader's
    ``interfaces``. ``base`` is the file offset of ``data[0]`` (it may be negative), so that ``base + position`` is
    where a record starts in the file. A block that Wireshark numbers as a frame though it is none, is a record of no
    bytes.
    """

    data: Bytes
    base: int
    first: int
    position: Int64s
    offset: Int64s
    caplen: Int64s
    length: Int64s
    at: Int64s
    interface: Int64s

    def frames(self, indices: Iterable[int], part: int, links: Sequence[int]) -> list[RawFrame]:
        """The records at these indices, copied. ``links`` are the link types of the interfaces."""
        chosen = np.fromiter(indices, np.int64)
        starts = self.offset[chosen]
        return [
            RawFrame(ref_of(part, number), at, links[interface], self.data[start:end].tobytes(), length)
            for number, at, interface, start, end, length in zip(
                (chosen + self.first).tolist(),
                self.at[chosen].tolist(),
                self.interface[chosen].tolist(),
                starts.tolist(),
                (starts + self.caplen[chosen]).tolist(),
                self.length[chosen].tolist(),
                strict=True,
            )
        ]


def rows(buffer: bytearray | Bytes, width: int, starts: Int64s) -> Bytes:
    """``width`` bytes from each start, as a table with a row a start. The buffer must hold them."""
    size = len(buffer) - width + 1
    # Elements of an opaque type are moved as a whole, wherever they stand.
    windows = np.ndarray((max(size, 0),), np.dtype((np.void, width)), buffer, 0, (1,))
    return windows[starts].view(np.uint8).reshape(len(starts), width)
