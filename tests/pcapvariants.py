"""Variants of KMS connections by the thousand: cut, mixed up, repeated, lossy, in all kinds of frames; in one file.

Each variant is a connection with a client port of its own, by which all readers know it. What was said on it is known,
because it was made: :class:`Variant` holds the PDUs and the exchanges.
"""

import itertools
import random
import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from tests.pcapfiles import LINKS, SHAPES, SHAPES4, SHAPES6, Frame, Link, Pcapng, Shape, frames
from tests.pcapgen import (
    CLIENT,
    CLIENT6,
    HOST,
    HOST6,
    NDR32,
    Ends,
    Segment,
    Talk,
    bind,
    bind_ack,
    bind_nak,
    datagram,
    fault,
    fragmented,
    noise,
    pdu,
    request,
    response,
)

FIRST_PORT: Final = 20_000
HANDSHAKE: Final = 3


class Said(NamedTuple):
    """A PDU: whether the client sent it, its type, call id and length."""

    client: bool
    kind: int
    call: int
    size: int


class Variant(NamedTuple):
    """A connection as it was captured. ``codes`` are the HRESULT (-1: a fault) of each exchange, in order of requests.

    ``lossless``: all bytes of it are in the capture.
    """

    port: int
    segments: list[Segment]
    ends: Ends
    pdus: list[tuple[bool, bytes]]
    codes: list[int]
    changes: tuple[str, ...]
    lossless: bool
    frames: list[Frame]
    link: Link

    @property
    def said(self) -> list[Said]:
        """The PDUs in a few words."""
        return [
            Said(client, data[2], struct.unpack_from("<I" if data[4] else ">I", data, 12)[0], len(data))
            for client, data in self.pdus
        ]


Base = Callable[[Talk, random.Random], list[int]]


def _modern(talk: Talk, chance: random.Random) -> list[int]:
    talk.bound()
    codes = []
    for turn in range(chance.choice((1, 1, 1, 2, 3))):
        codes.append(chance.choice((0, 0, 0, 0xC004F042, 0xC004F06C)))
        talk.exchange(chance.choice((4, 5, 6, 6)), codes[-1], call=2 + turn, wide=turn > 0)
    return codes


def _old(talk: Talk, chance: random.Random) -> list[int]:
    code = chance.choice((0, 0x8007000D))
    talk.bound(modern=False).exchange(chance.choice((4, 6)), code)
    return [code]


def _swapped_order(talk: Talk, chance: random.Random) -> list[int]:
    code = chance.choice((0xC004F042, 0x8007000D))
    talk.open().client(bind((NDR32,), little=False)).host(bind_ack(((0, 0, NDR32),), little=False))
    talk.client(request(little=False)).host(response(6, code, little=False))
    return [code]


def _fragments(talk: Talk, chance: random.Random) -> list[int]:
    code = chance.choice((0, 0xC004F042))
    talk.bound()
    talk.client(*fragmented(request(), *sorted(chance.sample(range(20, 250), chance.randint(1, 3)))))
    talk.host(*fragmented(response(hresult=code), *((8,) if code else (chance.randrange(20, 250),))))
    return [code]


def _pipelined(talk: Talk, chance: random.Random) -> list[int]:
    codes = [chance.choice((0, 0xC004F042)) for _ in range(3)]
    asked = [request(call=2 + at) for at in range(3)]
    replies = [response(6, code, call=2 + at) for at, code in enumerate(codes)]
    chance.shuffle(replies)
    talk.bound().client(b"".join(asked)).host(b"".join(replies))
    return codes


def _with_trailers(talk: Talk, chance: random.Random) -> list[int]:
    talk.bound().client(request(auth=noise(16)), pdu(18, b"")).host(response(6, 0xC004F042, auth=noise(16)))
    return [0xC004F042]


def _fault(talk: Talk, chance: random.Random) -> list[int]:
    talk.bound().client(request()).host(fault(chance.choice((5, 0x1C010002, 0x1C010003))))
    return [-1]


def _nak(talk: Talk, chance: random.Random) -> list[int]:
    talk.open().client(bind()).host(bind_nak(chance.choice((0, 2, 4))))
    return []


def _rejected(talk: Talk, chance: random.Random) -> list[int]:
    talk.open().client(bind()).host(bind_ack(((2, 1, None),) * 3))
    return []


BASES: Final[tuple[Base, ...]] = (
    *[_modern] * 6,
    *[_old] * 2,
    _swapped_order,
    *[_fragments] * 2,
    *[_pipelined] * 2,
    _with_trailers,
    _fault,
    _nak,
    _rejected,
)


def pdus_of(segments: Sequence[Segment]) -> list[tuple[bool, bytes]]:
    """What both sides say (the client first) in segments that are in order and complete."""
    found = []
    for client in (True, False):
        data = b"".join(one.data for one in segments if one.client == client)
        while data:
            (size,) = struct.unpack_from("<H" if data[4] else ">H", data, 8)
            found.append((client, data[:size]))
            data = data[size:]
    return found


# what happens to segments; each function gets those after the handshake and before the close

Segments = list[Segment]


def _cut(segments: Segments, chance: random.Random) -> Segments:
    """Into pieces of any size."""
    out: Segments = []
    most = chance.choice((5, 30, 60, 120, 200))
    for one in segments:
        at = 0
        while at < len(one.data) or not one.data:
            size = chance.randint(1, most) if one.data else 0
            out.append(one._replace(seq=one.seq + at, data=one.data[at : at + size]))
            at += size
            if not one.data:
                break
    return out


def _joined(segments: Segments, chance: random.Random) -> Segments:
    """Neighbours of one side become one segment."""
    out = segments[:1]
    for one in segments[1:]:
        last = out[-1]
        if last.data and one.data and (last.client, last.seq + len(last.data)) == (one.client, one.seq):
            out[-1] = last._replace(data=last.data + one.data)
        else:
            out.append(one)
    return out


def _mixed_up(segments: Segments, chance: random.Random) -> Segments:
    """Out of order, by up to four places."""
    keys = [at + chance.uniform(0, 4) for at in range(len(segments))]
    return [one for _, one in sorted(zip(keys, segments, strict=True), key=lambda pair: pair[0])]


def _repeated(segments: Segments, chance: random.Random) -> Segments:
    """Some are sent again, soon or later, whole or with some of what came before."""
    out = list(segments)
    data = [one for one in segments if one.data]
    for one in chance.sample(data, min(len(data), chance.randint(1, 3))):
        place = chance.randint(out.index(one) + 1, len(out))
        out.insert(place, one._replace(ident=one.ident + 0x4000))
    return out


def _overlapping(segments: Segments, chance: random.Random) -> Segments:
    """Segments begin before the end of the last one of their side."""
    out: Segments = []
    last: dict[bool, Segment] = {}
    for one in segments:
        before = last.get(one.client)
        if before is not None and one.data and before.data and before.seq + len(before.data) == one.seq:
            gain = chance.randint(0, len(before.data) - 1)
            if gain:
                one = one._replace(seq=one.seq - gain, data=before.data[-gain:] + one.data)
        out.append(one)
        last[one.client] = one
    return out


def _kept_alive(segments: Segments, chance: random.Random) -> Segments:
    """Keep-alives between."""
    place = chance.randrange(1, len(segments) + 1)
    before = [one for one in segments[:place] if one.client]
    if not before:
        return segments
    last = max(before, key=lambda one: one.seq + len(one.data))
    acknowledged = [one.ack for one in segments[:place] if not one.client]
    if last.seq + len(last.data) not in acknowledged:
        return segments
    alive = last._replace(seq=last.seq + len(last.data) - 1, data=chance.choice((b"", b"\0")), flags=16, ident=0x7777)
    return [*segments[:place], alive, *segments[place:]]


def _lost(segments: Segments, chance: random.Random) -> Segments:
    """One or two were not captured."""
    gone = chance.sample(range(len(segments)), min(len(segments), chance.randint(1, 2)))
    return [one for at, one in enumerate(segments) if at not in gone]


KEEPS: Final = {
    "cut": _cut,
    "joined": _joined,
    "mixed up": _mixed_up,
    "repeated": _repeated,
    "overlapping": _overlapping,
    "kept alive": _kept_alive,
}
"""Changes that lose nothing."""


def variant(port: int, chance: random.Random, *, lossy: bool) -> Variant:
    """A connection with some changes."""
    six = chance.random() < 0.2
    ends = Ends(CLIENT6 if six else CLIENT, port, HOST6 if six else HOST)
    numbers = chance.choice(((1_000_000, 5_000_000), (2**32 - 150, 77), (2**31 - 20, 2**32 - 300)))
    talk = Talk(ends, at=port - FIRST_PORT, numbers=numbers)
    codes = chance.choice(BASES)(talk, chance)
    pdus = pdus_of(talk.segments)
    start, middle = talk.segments[:HANDSHAKE], talk.segments[HANDSHAKE:]
    close = Talk(ends)
    close.now, close.next, close.idents = talk.now + 1_000_000, talk.next, talk.idents
    getattr(close, chance.choice(("close", "rst")))()
    names = chance.sample(sorted(KEEPS), chance.choice((0, 1, 1, 2, 2, 3)))
    for name in names:
        middle = KEEPS[name](middle, chance)
    if lossy:
        names.append("lost")
        middle = _lost(middle, chance)
    middle = [
        one._replace(at=start[-1].at + 100 * (at + 1), ident=(one.ident + at) & 0xFFFF) for at, one in enumerate(middle)
    ]
    segments = [*start, *middle, *close.segments]
    link, shape, how = _framing(chance, six=six)
    captured = frames([one.packet(ends) for one in segments], link, shape)
    if chance.random() < 0.1:
        names.append("mirrored")
        captured = list(itertools.chain.from_iterable((one, one._replace(at=one.at + 900)) for one in captured))
    return Variant(port, segments, ends, pdus, codes, (*names, how), not lossy, captured, link)


def _framing(chance: random.Random, *, six: bool) -> tuple[Link, Shape | None, str]:
    if chance.random() < 0.6:
        return LINKS["ethernet"], None, "ethernet"
    if chance.random() < 0.5:
        name = chance.choice(sorted(LINKS))
        return LINKS[name], None, name
    shapes = {**SHAPES, **(SHAPES6 if six else SHAPES4)}
    name = chance.choice(sorted(shapes))
    return LINKS["ethernet"], shapes[name], name


def variants(seed: int, count: int, *, lossy: bool = False) -> list[Variant]:
    """Many of them."""
    chance = random.Random(f"{seed} {lossy}")
    return [variant(FIRST_PORT + number, chance, lossy=lossy) for number in range(count)]


def one_file(made: Sequence[Variant]) -> bytes:
    """All variants as pcapng, an interface a link type; the capture runs on for a minute."""
    links = sorted({one.link.number for one in made} | {1})
    file = Pcapng()
    for number in links:
        file.interface(number, resolution=9)
    for one in made:
        file.packets(one.frames, links.index(one.link.number))
    last = datagram(made[-1].port - FIRST_PORT + 60, CLIENT, 5004, HOST, 5004, b"later")
    return bytes(file.packets(frames([last]), links.index(1)))
