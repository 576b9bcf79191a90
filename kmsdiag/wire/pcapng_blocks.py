"""The pcapng blocks that kmsdiag writes (draft-ietf-opsawg-pcapng): little-endian, times in nanoseconds."""

import struct
from typing import Final

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_END_OF_OPTIONS, _COMMENT, _NAME, _FILTER, _RESOLUTION, _RECEIVED, _DROPPED, _APPLICATION = 0, 1, 2, 11, 9, 4, 5, 4

SNAP: Final = 262_144
"""Snap length of the interfaces written, in bytes: Wireshark's and tcpdump's own, so nothing is cut."""

COMMENT_LIMIT: Final = 4_096
"""Bytes of a comment that are kept; an option can't hold more than 65,535."""


def section(comment: str = "") -> bytes:
    """The section header that opens a file. The section's length is left open, as for a file still being written."""
    options = _option(_COMMENT, comment) + _option(_APPLICATION, "kmsdiag")
    return _block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _closed(options))


def interface(link: int, name: str = "", capture_filter: str = "") -> bytes:
    """An interface description; ``link`` is the LINKTYPE_ number. Interfaces are numbered from 0 as they come."""
    options = _option(_NAME, name)
    if capture_filter:
        # A filter option opens with a byte that says what it is: 0, a string as tcpdump takes it.
        options += _raw_option(_FILTER, b"\0" + _text(capture_filter))
    options += _raw_option(_RESOLUTION, b"\x09")
    return _block(_INTERFACE, struct.pack("<HHI", link, 0, SNAP) + _closed(options))


def packet(number: int, at: int, data: bytes, length: int, comment: str = "") -> bytes:
    """A packet of interface ``number``: ``at`` in ns since 1970, ``length`` its size on the wire in bytes."""
    head = struct.pack("<IIIII", number, at >> 32 & 0xFFFFFFFF, at & 0xFFFFFFFF, len(data), length)
    return _block(_PACKET, head + data + bytes(-len(data) % 4) + _closed(_option(_COMMENT, comment)))


def statistics(number: int, at: int, received: int, dropped: int) -> bytes:
    """What interface ``number`` received and what the system dropped, at a time in ns since 1970."""
    options = _raw_option(_RECEIVED, struct.pack("<Q", received)) + _raw_option(_DROPPED, struct.pack("<Q", dropped))
    return _block(_STATISTICS, struct.pack("<III", number, at >> 32 & 0xFFFFFFFF, at & 0xFFFFFFFF) + _closed(options))


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + length + body + length


def _closed(options: bytes) -> bytes:
    return options + struct.pack("<HH", _END_OF_OPTIONS, 0) if options else b""


def _option(code: int, text: str) -> bytes:
    return _raw_option(code, _text(text)) if text else b""


def _raw_option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:COMMENT_LIMIT].decode("utf-8", "ignore").encode()
