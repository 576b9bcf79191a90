"""A large capture in parts that are read at the same time, with the result that one reader would have.

pcap has no marks by which a record is found in the middle. So a start is guessed: a chain of plausible records. Proof
comes later: the part before must end exactly there (:func:`follows`), or else the guess is dropped (:func:`rest`).
"""

from collections.abc import Sequence
from typing import Final

from kmsdiag.wire import pcap, pcapng
from kmsdiag.wire.batch import CaptureError, Facts, Part, State
from kmsdiag.wire.chunks import SLACK
from kmsdiag.wire.magic import is_pcap, is_pcapng

WINDOW: Final = 1 << 20
"""Bytes that the functions here want to see: the largest frame is a quarter of it."""

_CHAIN: Final = 16
_TRIES: Final = 50_000


def state_after(head: bytes) -> State | None:
    """What a reader knows at the first packet of a file that begins with ``head``; None where that is not in there."""
    if is_pcap(head):
        try:
            return pcap.read_header(head)[0]
        except CaptureError:
            return None
    if not is_pcapng(head):
        return None
    decoder = pcapng.PcapngDecoder()
    buffer = bytearray(head) + bytes(SLACK)
    start = 0
    while True:
        stretch = decoder.stretch(buffer, start, len(head), len(head))
        if stretch.problem or stretch.after == start:
            return None
        if stretch.records is not None:
            return decoder.state
        start = stretch.after


def guess(head: bytes, state: State, window: bytes) -> int:
    """Where in a window, from the middle of the file and at an offset that four divides, a record starts; or -1.

    ``head`` is the beginning of the file, and ``state`` what :func:`state_after` says of it.
    """
    buffer = bytearray(window) + bytes(SLACK)
    if state.header:
        _, first = pcap.read_header(head)
        # The topmost byte of the seconds is the same for half a year.
        shift = 3 if state.little else 0
        pattern = head[first + shift : first + shift + 1]
        if not pattern:
            return -1
        return pcap.finder(state, pattern, shift, len(window), _CHAIN, _TRIES)(buffer, 0, len(window))
    find = pcapng.finder(little=state.little, alignment=0, end_of_data=len(window), chain=_CHAIN, tries=_TRIES)
    return find(buffer, 0, len(window))


def follows(done: Facts, planned: Part) -> bool:
    """Whether a part that was planned by a guess begins exactly where the one before it ended, knowing the same.

    Then both together are what one reader would have found. Otherwise :func:`rest` is to be read instead, unless
    ``done`` is damaged: nothing behind a damage counts.
    """
    return (
        planned.state is not None
        and not done.damaged
        and done.reached == planned.start
        and _without_counts(done.state) == _without_counts(planned.state)
    )


def rest(done: Facts, planned: Part) -> Part:
    """What to read instead of a part that does not follow."""
    return Part(done.reached, planned.stop, done.state)


def joined(parts: Sequence[Facts]) -> Facts:
    """The facts of a whole file, from those of its parts in order."""
    last = parts[-1]
    interfaces = list(last.state.interfaces)
    for part in reversed(parts[:-1]):
        for index, one in enumerate(part.state.interfaces):
            if interfaces[index].dropped is None:
                interfaces[index] = interfaces[index]._replace(dropped=one.dropped)
    return Facts(
        last.state._replace(interfaces=tuple(interfaces)),
        sum(part.packets for part in parts),
        last.reached,
        last.damaged,
        min((part.first for part in parts if part.first is not None), default=None),
        max((part.last for part in parts if part.last is not None), default=None),
        tuple(note for part in parts for note in part.notes),
    )


def _without_counts(state: State) -> State:
    """What matters for reading on: neither drop counts nor the time, since a guessed record has one."""
    return state._replace(interfaces=tuple(one._replace(dropped=None) for one in state.interfaces), clock=0)
