"""Capture files in chunks → batches of records, whatever their format.

A reader is given the chunks of a file in order. Nothing is decoded here, and nothing kept but the last, incomplete
record of a chunk. Frames are counted as Wireshark counts them. Damage ends the reading with a note; all before counts.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from kmsdiag.wire.batch import WHOLE, Batch, Bytes, CaptureError, Facts, Interface, Part, Records, State
from kmsdiag.wire.chunks import Chunk
from kmsdiag.wire.magic import is_pcap, is_pcapng
from kmsdiag.wire.pcap import LONGEST_HEADER, PcapDecoder, read_header
from kmsdiag.wire.pcapng import PcapngDecoder

MAX_NOTES: Final = 20
_FAR: Final = 1 << 62


class CaptureReader:
    """Iterates once over the batches of a part of a capture. What it found out is complete when it is exhausted.

    ``chunks`` are the file's bytes from ``part.start`` on, and may go on behind ``part.stop``. ``place`` is how notes
    name a place in the file.

    Raises:
        CaptureError: on the first step, where the bytes are no capture that is read here.
    """

    def __init__(self, chunks: Iterable[Chunk], part: Part = WHOLE, place: str = "byte") -> None:
        self._chunks = chunks
        self._part = part
        self._place = place
        self._decoder: PcapDecoder | PcapngDecoder | None = None if part.state is None else _decoder(part.state)
        self._notes: list[str] = []
        self._unnoted = 0
        self._first: int | None = None
        self._last: int | None = None
        self._reached = part.start
        self.packets = 0
        self.damaged = False

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces met so far. Drop counts come late."""
        return () if self._decoder is None else tuple(self._decoder.interfaces)

    @property
    def links(self) -> Sequence[int]:
        """The link types of the interfaces met so far (LINKTYPE_ numbers); it grows while reading goes on."""
        return () if self._decoder is None else self._decoder.links

    @property
    def format(self) -> str:
        """The format for a person, such as "pcap, nanoseconds, big-endian"."""
        return "" if self._decoder is None else self._decoder.format

    @property
    def notes(self) -> tuple[str, ...]:
        """Damage and oddities, each with its place in the file; the first ``MAX_NOTES`` of them."""
        return tuple(self._notes) + ((f"{self._unnoted} more notes like these",) if self._unnoted else ())

    @property
    def facts(self) -> Facts:
        """What reading came to.

        Raises:
            CaptureError: nothing was read yet.
        """
        if self._decoder is None:
            raise CaptureError("nothing was read yet")
        return Facts(
            self._decoder.state,
            self.packets,
            self._reached,
            self.damaged,
            self._first,
            self._last,
            self.notes,
        )

    def __iter__(self) -> Iterator[Batch]:
        offset = self._part.start
        stop = _FAR if self._part.stop is None else self._part.stop
        left = b""
        skip = 0
        for buffer, first, end in self._chunks:
            start = first - len(left)
            buffer[start:first] = left
            base = offset - first
            offset += end - first
            if skip >= end - start:
                skip -= end - start
                continue
            position = start + skip
            skip = 0
            position = yield from self._pieces(buffer, base, position, end, stop)
            self._reached = base + position
            if self.damaged or self._reached >= stop:
                return
            left = bytes(buffer[position:end])
            skip = max(position - end, 0)
        self._finish(left, skip, offset)

    def _pieces(self, buffer: bytearray, base: int, start: int, end: int, stop: int) -> Generator[Batch, None, int]:
        """The batches of ``buffer[start:end]``; where the next piece has to go on."""
        if self._decoder is None:
            if end - start < LONGEST_HEADER:
                return start
            start += self._open(bytes(buffer[start : start + LONGEST_HEADER]))
        data = np.frombuffer(buffer, np.uint8)
        while self._decoder is not None and start < end:
            stretch = self._decoder.stretch(buffer, start, end, stop - base)
            for what, where in stretch.notes:
                self._note(what, base + where)
            if stretch.records is not None and len(stretch.records.at):
                yield self._batch(data, base, stretch.records)
            if stretch.problem:
                self._damage(stretch.problem, base + stretch.after)
                return stretch.after
            if stretch.after == start:
                break
            start = stretch.after
        return start

    def _open(self, head: bytes) -> int:
        """Read the file's header: its size, 0 where it is a block like others."""
        if is_pcap(head):
            state, size = read_header(head)
            self._decoder = PcapDecoder(state)
            return size
        if not is_pcapng(head):
            raise CaptureError("no capture file" if head else "an empty file")
        self._decoder = PcapngDecoder()
        return 0

    def _batch(self, data: Bytes, base: int, records: Records) -> Batch:
        number = self.packets + 1
        self.packets += len(records.at)
        timed = records.at if records.at.all() else records.at[records.at != 0]
        if len(timed):
            first, last = int(timed.min()), int(timed.max())
            self._first = first if self._first is None else min(self._first, first)
            self._last = last if self._last is None else max(self._last, last)
        return Batch(data, base, number, *records)

    def _finish(self, left: bytes, skip: int, offset: int) -> None:
        """The file is at its end; what is left is the start of a record."""
        if self._decoder is None:
            left = left[self._open(left) :]
            self._reached = offset - len(left)
        if left or skip:
            self._damage("the file is cut within this record", offset - len(left))

    def _damage(self, what: str, offset: int) -> None:
        self.damaged = True
        self._reached = offset
        self._note(what, offset)

    def _note(self, what: str, offset: int) -> None:
        if len(self._notes) < MAX_NOTES:
            self._notes.append(f"at {self._place} {offset}: {what}")
        else:
            self._unnoted += 1


def _decoder(state: State) -> PcapDecoder | PcapngDecoder:
    return PcapDecoder(state) if state.header else PcapngDecoder(state)
