"""pcap files in all their variants (draft-ietf-opsawg-pcap; libpcap's sf-pcap.c, Wireshark's wiretap/libpcap.c)."""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from kmsdiag.wire import magic
from kmsdiag.wire.batch import MAX_FRAME, CaptureError, Interface, Records, State, Stretch, rows
from kmsdiag.wire.chain import Rule, follow


class _Variant(NamedTuple):
    """``power``: time stamps in 10**-power s; ``header``: bytes of a record's header; ``file``: of the file's."""

    name: str
    power: int = 6
    header: int = 16
    file: int = 24


_IXIA: Final = _Variant("pcap, Ixia", file=28)
_VARIANTS: Final = {
    magic.PCAP: _Variant("pcap"),
    magic.PCAP_NANOSECONDS: _Variant("pcap, nanoseconds", power=9),
    magic.PCAP_MODIFIED: _Variant("pcap, modified", header=24),
    **dict.fromkeys(magic.PCAP_IXIA, _IXIA),
}

LONGEST_HEADER: Final = 28

# The link type shares its number with "R", "P" and the length of the FCS (draft-ietf-opsawg-pcap section 4).
_LINK: Final = 0xFFFF

_TRIES: Final = 32
_CHAIN: Final = 2


def read_header(head: bytes) -> tuple[State, int]:
    """What the file's header says, and its size.

    Raises:
        CaptureError: no pcap file, or its header is cut.
    """
    for little in (True, False):
        order = "<" if little else ">"
        variant = _VARIANTS.get(struct.unpack(order + "I", head[:4])[0]) if len(head) >= 4 else None
        if variant is None:
            continue
        if len(head) < variant.file:
            raise CaptureError(f"a pcap file whose header is cut: {len(head)} of {variant.file} bytes")
        major, minor, snap, link = struct.unpack_from(order + "HH8xII", head, 4)
        interface = Interface(link & _LINK, snap, power=variant.power)
        name = variant.name if little else f"{variant.name}, big-endian"
        state = State(name, little, (interface,), header=variant.header, swapped=(major, minor) < (2, 3))
        return state, variant.file
    raise CaptureError("no pcap file")


class PcapDecoder:
    """Finds the records of a pcap file in pieces of it. ``state`` is what its header said."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.format = state.format
        self.interfaces = list(state.interfaces)
        self.links = [one.link for one in state.interfaces]
        self._order = "<" if state.little else ">"
        self._caplen, self._length = (3, 2) if state.swapped else (2, 3)

    def stretch(self, buffer: bytearray, start: int, end: int, stop: int) -> Stretch:
        """The whole records in ``buffer[start:end]`` that start before ``stop``."""
        header = self.state.header
        position, after = follow(buffer, start, min(end - header + 1, stop), self._rule(buffer, start, end))
        if not len(position):
            return Stretch(None, start)
        fields = rows(buffer, 16, position).view(f"{self._order}u4")
        caplen = fields[:, self._caplen].astype(np.int64)
        whole, problem = len(position), ""
        too_long = np.flatnonzero(caplen > MAX_FRAME)
        if len(too_long):
            whole = int(too_long[0])
            after = int(position[whole])
            problem = f"a record claims {caplen[whole]} bytes, and no frame is longer than {MAX_FRAME}"
        elif after > end:
            whole -= 1
            after = int(position[whole])
        at = fields[:whole, 0].astype(np.int64) * 1_000_000_000
        at += fields[:whole, 1].astype(np.int64) * 10 ** (9 - self.state.interfaces[0].power)
        records = Records(
            position[:whole],
            position[:whole] + header,
            caplen[:whole],
            fields[:whole, self._length].astype(np.int64),
            at,
            np.zeros(whole, np.int64),
        )
        return Stretch(records, after, problem)

    def _rule(self, buffer: bytearray, start: int, end: int) -> Rule:
        # The upper half of the seconds is the same for 18 hours.
        shift = 2 if self.state.little else 0
        pattern = bytes(buffer[start + shift : start + shift + 2])
        find = finder(self.state, pattern, shift, end)
        return Rule(4 * self._caplen, self.state.header, self.state.little, self.state.header, find)


def finder(
    state: State, pattern: bytes, shift: int, end_of_data: int, chain: int = _CHAIN, tries: int = _TRIES
) -> Callable[[bytearray, int, int], int]:
    """A guess where a record starts: its seconds have ``pattern`` at byte ``shift``, its other fields make sense.

    ``chain`` records must follow each other so, or lead up to ``end_of_data``; ``tries`` places are looked at.
    """
    read = struct.Struct("<IIII" if state.little else ">IIII").unpack_from
    fraction_below = 10 ** state.interfaces[0].power
    header, swapped = state.header, state.swapped

    def holds(buffer: bytearray, position: int) -> bool:
        for seen in range(chain):
            if position + 16 > end_of_data:
                return seen > 0
            _seconds, fraction, caplen, length = read(buffer, position)
            if swapped:
                caplen, length = length, caplen
            if fraction >= fraction_below or not 0 < caplen <= length <= MAX_FRAME:
                return False
            if not buffer.startswith(pattern, position + shift):
                return False
            position += header + caplen
        return True

    def find(buffer: bytearray, start: int, end: int) -> int:
        for _ in range(tries):
            hit = buffer.find(pattern, start + shift, end)
            if hit < 0:
                break
            if holds(buffer, hit - shift):
                return hit - shift
            start = hit - shift + 1
        return -1

    return find
