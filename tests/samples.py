"""Recordings and texts that lie beside the project on some machines; recordings are read with scapy as well."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from scapy.utils import RawPcapNgReader, RawPcapReader

from kmsdiag.wire.fragments import Fragments
from kmsdiag.wire.frames import RawFrame
from kmsdiag.wire.layers import Datagram, IcmpError, Segment, dissect
from kmsdiag.wire.streams import split_connections

SAMPLES: Final = Path(__file__).parents[2] / "shared" / "pcap"
TEXTS: Final = SAMPLES.parent / "samples"


def need_samples() -> None:
    """Skip where they are not: they are no part of the project, so CI goes without them."""
    import pytest

    if not SAMPLES.is_dir():
        pytest.skip("no captures beside the project")


def sample_text(name: str) -> str:
    """A text that somebody published, skipping where it is not."""
    import pytest

    file = TEXTS / name
    if not file.is_file():
        pytest.skip("no texts beside the project")
    return file.read_text(encoding="utf-8")


class Packets(NamedTuple):
    """What the frames of a capture carry; ``end`` is the last frame's time in ns."""

    segments: list[Segment]
    datagrams: list[Datagram]
    errors: list[IcmpError]
    end: int

    def connections(self) -> Iterator[tuple[list[Segment], list[IcmpError]]]:
        """Each TCP connection, and the ICMP errors that quote its ends."""
        flows: dict[frozenset[tuple[bytes, int]], list[Segment]] = defaultdict(list)
        for one in self.segments:
            flows[frozenset({(one.src, one.sport), (one.dst, one.dport)})].append(one)
        for ends, segments in flows.items():
            quoting = [one for one in self.errors if {(one.src, one.sport), (one.dst, one.dport)} == ends]
            for connection in split_connections(segments):
                yield connection, quoting


def packets(file: Path) -> Packets:
    """All packets of a capture."""
    found = Packets([], [], [], 0)
    fragments = Fragments()
    end = 0
    for frame in frames(file):
        end = max(end, frame.at)
        packet = dissect(frame, fragments)
        if isinstance(packet, Segment):
            found.segments.append(packet)
        elif isinstance(packet, Datagram):
            found.datagrams.append(packet)
        elif isinstance(packet, IcmpError):
            found.errors.append(packet)
    return found._replace(end=end)


def frames(file: Path) -> Iterator[RawFrame]:
    """The frames of a capture with their times."""
    modern = file.read_bytes()[:4] == b"\n\r\r\n"
    with (RawPcapNgReader if modern else RawPcapReader)(str(file)) as reader:
        for number, (data, facts) in enumerate(reader, 1):
            link = facts.linktype if modern else reader.linktype
            yield RawFrame(number, _time(reader, facts, modern=modern), link, data, facts.wirelen)


def _time(reader: Any, facts: Any, *, modern: bool) -> int:
    if modern:
        stamp = (facts.tshigh or 0) << 32 | (facts.tslow or 0)
        return int(stamp * 1_000_000_000 // (facts.tsresol or 1_000_000))
    return int(facts.sec * 1_000_000_000 + facts.usec * (1 if reader.nano else 1000))
