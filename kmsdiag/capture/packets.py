"""TCP segments of many connections as columns: one table of headers, one array of payload bytes.

A capture that is all KMS has millions of segments; kept as objects they would cost a kilobyte and ten microseconds
each. As columns they cost 80 bytes besides their payload, and are sorted, compared and carried along by numpy.
"""

import functools
import ipaddress
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmsdiag.capture.rows import pick, stack
from kmsdiag.wire.layers import Segment

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

V4: Final = (1 << 64) - 1
"""Upper half of an address that is IPv4 (as IPv6 it would be multicast, which no TCP endpoint is)."""

PACKET: Final = np.dtype(
    [
        ("ref", "<i8"),
        ("at", "<i8"),
        ("src_hi", "<u8"),
        ("src_lo", "<u8"),
        ("dst_hi", "<u8"),
        ("dst_lo", "<u8"),
        ("start", "<i8"),
        ("seq", "<u4"),
        ("ack", "<u4"),
        ("length", "<i4"),
        ("captured", "<i4"),
        ("ip_id", "<i4"),
        ("sport", "<u2"),
        ("dport", "<u2"),
        ("flags", "u1"),
    ],
    align=True,
)
"""A segment: times in ns since 1970, ``length`` payload bytes on the wire, of which ``captured`` begin at ``start``."""


class Packets(NamedTuple):
    """Segments in the order in which they were fed: a table of :data:`PACKET` rows, and the bytes they point into."""

    table: NDArray[Any]
    blob: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """Number of segments."""
        return len(self.table)

    def take(self, which: Indices | Mask) -> "Packets":
        """Some rows, over the same bytes."""
        return Packets(pick(self.table, which), self.blob)

    def segments(self, indices: Indices) -> list[Segment]:
        """Rows as the objects that the exact path works on."""
        rows = pick(self.table, indices).tolist()
        blob = self.blob
        return [
            Segment(
                ref=ref,
                at=at,
                src=address_bytes(src_hi, src_lo),
                sport=sport,
                dst=address_bytes(dst_hi, dst_lo),
                dport=dport,
                seq=seq,
                ack=ack,
                flags=flags,
                payload=blob[start : start + captured].tobytes(),
                length=length,
                ip_id=ip_id,
            )
            for (
                ref,
                at,
                src_hi,
                src_lo,
                dst_hi,
                dst_lo,
                start,
                seq,
                ack,
                length,
                captured,
                ip_id,
                sport,
                dport,
                flags,
            ) in rows
        ]


def empty() -> Packets:
    """No packets."""
    return Packets(np.empty(0, PACKET), np.empty(0, np.uint8))


def from_segments(segments: Sequence[Segment]) -> Packets:
    """Segments of the exact path as columns."""
    table = np.empty(len(segments), PACKET)
    start = 0
    for index, one in enumerate(segments):
        source, target = address_words(one.src), address_words(one.dst)
        table[index] = (
            one.ref,
            one.at,
            *source,
            *target,
            start,
            one.seq,
            one.ack,
            one.length,
            len(one.payload),
            one.ip_id,
            one.sport,
            one.dport,
            one.flags & 0xFF,
        )
        start += len(one.payload)
    return Packets(table, np.frombuffer(b"".join(one.payload for one in segments), np.uint8))


def joined(parts: Sequence[Packets]) -> Packets:
    """Several batches, one behind the other, with bytes of their own."""
    table = stack([part.table for part in parts])
    at, shift = 0, 0
    for part in parts:
        table["start"][at : at + part.size] += shift
        at += part.size
        shift += len(part.blob)
    return Packets(table, np.concatenate([part.blob for part in parts]))


def compact(packets: Packets) -> Packets:
    """The same rows, with little more than the bytes that they point to: what is carried along outlives its chunk.

    Whole words are moved, so that up to seven bytes of no meaning follow each payload.
    """
    table, blob = packets.table.copy(), packets.blob
    count = (table["captured"].astype(np.int64) + 7) >> 3
    ends = np.cumsum(count)
    starts = ends - count
    total = int(ends[-1]) if len(ends) else 0
    if total and int((table["start"] + 8 * count).max()) > len(blob):
        blob = np.concatenate([blob, np.zeros(8, np.uint8)])
    where = np.repeat(table["start"] - 8 * starts, count) + 8 * np.arange(total)
    table["start"] = 8 * starts
    words = np.ndarray((max(len(blob) - 7, 0),), "<u8", blob.data, 0, (1,))
    return Packets(table, words[where].view(np.uint8))


def address_bytes(high: int, low: int) -> bytes:
    """The 4 or 16 bytes of an address."""
    return low.to_bytes(4, "big") if high == V4 else high.to_bytes(8, "big") + low.to_bytes(8, "big")


def address_words(address: bytes) -> tuple[int, int]:
    """An address as the table holds it."""
    if len(address) == 4:
        return V4, int.from_bytes(address, "big")
    return int.from_bytes(address[:8], "big"), int.from_bytes(address[8:], "big")


def address_text(high: int, low: int) -> str:
    """An address as people write it."""
    if high == V4:
        return f"{low >> 24}.{low >> 16 & 255}.{low >> 8 & 255}.{low & 255}"
    return str(ipaddress.IPv6Address(high << 64 | low))


@functools.lru_cache(maxsize=65_536)
def text_words(text: str) -> tuple[int, int]:
    """The words of an address in text.

    Raises:
        ValueError: no address.
    """
    return address_words(ipaddress.ip_address(text).packed)
