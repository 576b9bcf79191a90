"""Frames of the exact path, and which of them made one packet together: IP fragments, also across parts.

A packet whose fragments lie on both sides of a part's edge is whole for neither part. So the frames of what stays
unfinished are kept, and whoever joins the parts takes them once more.
"""

from collections import Counter
from typing import Final

from kmsdiag.wire.fragments import Fragments, Key, Piece
from kmsdiag.wire.frames import RawFrame
from kmsdiag.wire.layers import Packet, dissect

MOST: Final = 512
"""Unfinished packets of which frames are kept, of the first ones and of the last ones each."""

_PIECES: Final = 64
"""Frames of one packet that are kept: KMS and DNS messages have a few."""


class Pieces:
    """Dissects frames and joins fragments.

    ``companions`` are the frame that made a packet whole, and all of its frames.
    """

    def __init__(self) -> None:
        self.companions: list[tuple[int, tuple[int, ...]]] = []
        self._fragments = _Noted()
        self._open: dict[Key, list[RawFrame]] = {}
        self._whole: dict[Key, None] = {}

    @property
    def missing(self) -> int:
        """Packets that were never whole."""
        return self._fragments.missing

    def take(self, frame: RawFrame, unread: Counter[str]) -> Packet | None:
        """What the frame carries, or the packet that it makes whole; reasons for nothing are counted in ``unread``."""
        self._fragments.taken = None
        packet = dissect(frame, self._fragments, unread)
        key = self._fragments.taken
        if key is not None:
            self._note(key, frame, whole=packet is not None)
        return packet

    def _note(self, key: Key, frame: RawFrame, *, whole: bool) -> None:
        if key in self._whole and not whole:
            return  # a mirror port's second copy
        frames = self._open.setdefault(key, [])
        if len(frames) < _PIECES:
            frames.append(frame)
        if whole:
            self.companions.append((frame.ref, tuple(one.ref for one in self._open.pop(key))))
            self._whole[key] = None
            if len(self._whole) > MOST:
                del self._whole[next(iter(self._whole))]
        elif len(self._open) > 2 * MOST:
            # The first ones may belong to the part before, the last ones to the one that follows.
            del self._open[list(self._open)[MOST]]

    def left(self) -> tuple[tuple[RawFrame, ...], ...]:
        """The frames of packets that are not whole, packet by packet."""
        return tuple(tuple(frames) for frames in self._open.values())


class _Noted(Fragments):
    """Fragments that say which packet the last one was of."""

    taken: Key | None = None

    def add(self, key: Key, at: int, piece: Piece) -> bytes | None:
        """Take one fragment."""
        self.taken = key
        return super().add(key, at, piece)
