"""Captures written to files and analysed: populations of conversations of every kind, the same for the same seed."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from kmsdiag.capture.scan import Analysis, Want, analyse_sources
from kmsdiag.model.capture import CaptureAnswer
from kmsdiag.model.target import Selection
from kmsdiag.sources.files import gather
from kmsdiag.wire.fragments import Fragments
from kmsdiag.wire.frames import RawFrame
from kmsdiag.wire.layers import Segment, dissect
from tests.pcapfiles import frames, pcap
from tests.pcapgen import ACK, PSH, RST, START, Ends, Packet, Talk, bind, bind_nak, fault, merged, request, response


def write(path: Path, packets: Iterable[Packet]) -> Path:
    """A pcap file of Ethernet frames."""
    path.write_bytes(pcap(frames(packets)))
    return path


def run(*paths: Path, selection: Selection | None = None, **more: Any) -> Analysis:
    """Analyse files, which must all be captures."""
    gathered = gather([str(path) for path in paths])
    assert gathered.refused == ()
    return analyse_sources(gathered.sources, selection, **more)


def everything(*paths: Path, **more: Any) -> Analysis:
    """Analyse files, and keep all conversations."""
    return run(*paths, want=Want.CONVERSATIONS, **more)


def as_json(answer: CaptureAnswer) -> bytes:
    """An answer as bytes, to see whether two are the same."""
    return msgspec.json.encode(answer)


def dissected(packets: Iterable[Packet]) -> list[Segment]:
    """TCP packets as segments, numbered from 1."""
    found = []
    for number, packet in enumerate(packets, 1):
        frame = RawFrame(number, (START + packet.at) * 1000, 101, packet.data, len(packet.data))
        segment = dissect(frame, Fragments())
        assert isinstance(segment, Segment)
        found.append(segment)
    return found


def segments(*talks: Talk) -> list[Segment]:
    """Segments of connections, by time."""
    return dissected(merged(*(talk.packets() for talk in talks)))


def _activated(talk: Talk, chance: random.Random) -> Talk:
    code = chance.choice((0, 0, 0, 0xC004F042, 0xC004F06C))
    return talk.activation(chance.choice((5, 6)), code, modern=chance.random() < 0.7)


def _refused(talk: Talk, chance: random.Random) -> Talk:
    for _ in range(chance.randrange(1, 6)):
        talk.syn().add(False, RST | ACK, seq=0).wait(chance.choice((0.5, 0.5, 1.5)))
    return talk


def _unanswered(talk: Talk, chance: random.Random) -> Talk:
    for pause in chance.choice(((3, 6), (1, 2, 4, 8), ())):
        talk.syn().wait(pause)
    return talk.syn()


def _twice(talk: Talk, chance: random.Random) -> Talk:
    talk.bound().exchange(6).ack().wait(chance.choice((0.01, 3, 25)))
    return talk.exchange(6, call=3, wide=True).close(chance.random() < 0.5)


def _repeated(talk: Talk, _chance: random.Random) -> Talk:
    talk.bound().client(request(6)).add(True, PSH | ACK, request(6), seq=talk.next[True] - 292)
    return talk.host(response(6)).close()


WAYS: Final[tuple[Callable[[Talk, random.Random], Talk], ...]] = (
    _activated,
    _activated,
    _activated,
    _refused,
    _unanswered,
    _twice,
    _repeated,
    lambda talk, chance: talk.syn().wait(chance.choice((1, 3))).syn().syn_ack().ack().client(bind()),
    lambda talk, _chance: talk.open().close(),
    lambda talk, chance: talk.open().client(bind()).wait(chance.choice((0.5, 1.9, 2.1, 30))).rst(),
    lambda talk, chance: (
        talk.bound().client(request(6)).wait(chance.choice((0.5, 1.99, 2.5, 31))).fin().fin(False).ack()
    ),
    lambda talk, _chance: talk.activation(4),
    lambda talk, _chance: talk.open().client(bind()).host(bind_nak(2)).close(False),
    lambda talk, _chance: talk.bound().client(request(6)).host(fault(0x1C010003)).rst(),
)
"""The ways in which conversations go."""


def _disturbed(packets: list[Packet], chance: random.Random) -> list[Packet]:
    """A packet is missing, or there twice."""
    at = chance.randrange(len(packets))
    if chance.random() < 0.5:
        return packets[:at] + packets[at + 1 :]
    again = packets[at]._replace(at=packets[at].at + chance.choice((10, 5_000, 400_000)))
    return merged(packets, [again])


def population(seed: int, *, most: int = 120) -> list[Packet]:
    """Conversations of up to 29 clients with three hosts; each client takes a new port for each."""
    chance = random.Random(seed)
    span = chance.choice((5, 60, 200, 600))
    ports: dict[str, int] = {}
    talks = []
    for _ in range(chance.randrange(5, most)):
        client, host = f"192.0.2.{chance.randrange(1, 30)}", f"198.51.100.{chance.randrange(1, 4)}"
        ports[client] = port = ports.get(client, 49_152) + 1
        numbers = chance.randrange(2**32), chance.randrange(2**32)
        talk = Talk(Ends(client, port, host), at=chance.random() * span, numbers=numbers)
        if chance.random() < 0.06:
            talks.append(_disturbed(talk.bound(modern=False).exchange(6).close().packets(), chance))
        else:
            talks.append(chance.choice(WAYS)(talk, chance).packets())
    return merged(*talks)
