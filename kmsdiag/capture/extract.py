"""The frames that matter, in a new pcapng file of their own, to hand to somebody else."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kmsdiag.wire import pcapng_blocks as blocks
from kmsdiag.wire.batch import Batch
from kmsdiag.wire.chunks import Chunk
from kmsdiag.wire.records import CaptureReader


class Extract(NamedTuple):
    """One file to take frames from: its label, its chunks from the beginning, and the numbers wanted, ascending."""

    label: str
    chunks: Iterable[Chunk]
    numbers: Sequence[int]


def extract(files: Iterable[Extract]) -> Iterator[bytes]:
    """The blocks of the new file, in the order of the files and of their frames.

    Each interface that a kept frame came by becomes one of the new file; a comment says the file and the number there.
    """
    yield blocks.section("frames of kmsdiag's analysis; each comment names the file and the number in it")
    interfaces = 0
    for file in files:
        numbers: dict[int, int] = {}
        reader = CaptureReader(file.chunks)
        wanted = np.asarray(file.numbers, np.int64)
        for batch in reader:
            inside = wanted[(wanted >= batch.first) & (wanted < batch.first + len(batch.at))]
            for index in (inside - batch.first).tolist():
                source = int(batch.interface[index])
                if source not in numbers:
                    numbers[source] = interfaces
                    interfaces += 1
                    known = reader.interfaces[source]
                    yield blocks.interface(known.link, known.name or file.label)
                yield _packet(batch, index, numbers[source], file.label)
            if not len(wanted) or batch.first + len(batch.at) > wanted[-1]:
                break


def _packet(batch: Batch, index: int, interface: int, label: str) -> bytes:
    start = int(batch.offset[index])
    data = batch.data[start : start + int(batch.caplen[index])].tobytes()
    comment = f"frame {batch.first + index} of {label}"
    return blocks.packet(interface, int(batch.at[index]), data, int(batch.length[index]), comment)
