"""Columns against the exact path, which has scapy and tshark as its judges."""

import random
import struct
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.wire import layers
from kmsdiag.wire.batch import Batch
from kmsdiag.wire.columns import (
    _BARE,
    _EXACT,
    _TYPED,
    DNS_PORTS,
    INTERFACE,
    TCP,
    TUNNEL_PORTS,
    V4,
    Columns,
    Filter,
    Selected,
    flow_keys,
    select,
)
from kmsdiag.wire.fragments import Fragments
from kmsdiag.wire.frames import RawFrame
from kmsdiag.wire.layers import Datagram, IcmpError, Segment, Unread, dissect
from kmsdiag.wire.records import CaptureReader
from tests.capturefile import Pcapng, pieces

LINKS = sorted({*_TYPED, *_BARE, *_EXACT, 147})


def transport(chance: random.Random, protocol: int, payload: bytes) -> bytes:
    sport, dport = (chance.choice([1688, 53, 5353, 5355, 443, 50_000, 60_000, *TUNNEL_PORTS]) for _ in range(2))
    if protocol == TCP:
        options = bytes(chance.choice([0, 0, 12, 40]))
        offset = chance.choice([5 + len(options) // 4] * 9 + [chance.randrange(16)])
        head = struct.pack(
            ">HHIIBBHHH", sport, dport, chance.getrandbits(32), chance.getrandbits(32), offset << 4,
            chance.randrange(256), 0, 0, 0,
        )  # fmt: skip
        return head + options + payload
    if protocol == 17:
        length = chance.choice([8 + len(payload)] * 6 + [0, 7, 4, len(payload) // 2 + 8, 60_000])
        return struct.pack(">HHHH", sport, dport, length, 0) + payload
    if protocol in (1, 58):
        quoted = ip(chance, 4 if protocol == 1 else 6, payload, protocols=(6, 17))
        return bytes([chance.choice([0, 1, 2, 3, 4, 5, 8, 11, 12, 128]), 1, 0, 0, 0, 0, 0, 0]) + quoted
    return payload


def ip(chance: random.Random, version: int, payload: bytes, protocols: Sequence[int] = ()) -> bytes:
    protocol = chance.choice(
        protocols or (6, 6, 6, 6, 17, 17, 1, 58, 2, 4, 41, 43, 44, 47, 50, 51, 60, 89, 0, 132, 255)
    )
    body = transport(chance, protocol, payload)
    if version == 4:
        options = bytes(chance.choice([0, 0, 0, 0, 4, 40]))
        words = chance.choice([5 + len(options) // 4] * 12 + [chance.randrange(16)])
        real = 20 + len(options) + len(body)
        total = chance.choice([real] * 9 + [0, 19, real + 50, real - 3, 65_535]) & 0xFFFF
        part = chance.choice([0, 0, 0, 0x4000, 0x4000, 0x2000, 0x0010, 0x8000])
        first = chance.choice([4] * 12 + [chance.randrange(16)]) << 4 | words
        head = struct.pack(">BBHHHBBH", first, 0, total, chance.getrandbits(16), part, 64, protocol, 0)
        return head + chance.randbytes(8) + options + body
    length = chance.choice([len(body)] * 9 + [0, 4, len(body) + 50, 65_535])
    first = chance.choice([6] * 12 + [chance.randrange(16)]) << 28
    return struct.pack(">IHBB", first, length & 0xFFFF, protocol, 64) + chance.randbytes(32) + body


def linked(chance: random.Random, link: int, version: int, inner: bytes) -> bytes:
    kind = struct.pack(">H", {4: 0x0800, 6: 0x86DD}[version])
    other = struct.pack(">H", chance.choice([0x0806, 0x8847, 0x8864, 0x88CC, 0, 46, 1500, 1501, 0x05FF, 0x8863]))
    tags = b"".join(
        struct.pack(">HH", chance.choice([0x8100, 0x88A8, 0x9100, 0x9200, 0x9300]), chance.randrange(4096))
        for _ in range(chance.choice([0, 0, 0, 0, 1, 2, 3]))
    )
    if tags:
        kind = tags + kind
    if chance.random() < 0.1:
        kind = tags + other + chance.choice([b"", b"\xaa\xaa\x03\0\0\0", b"\xaa\xaa\x03\0\0\0\x08\0", b"\x06\x06\x03"])
    if link == 1:
        return chance.randbytes(12) + kind + inner
    if link == 113:
        return chance.randbytes(14) + kind + inner
    if link == 276:
        return kind[:2] + chance.randbytes(18) + kind[2:] + inner
    if link in (0, 108):
        family = chance.choice([2, 10, 23, 24, 28, 30, 7])
        return struct.pack(chance.choice("<>") + "I", family) + inner
    return inner


def frame(chance: random.Random, link: int) -> tuple[bytes, int]:
    """A frame of this link type, more or less sound; captured bytes, and its length on the wire."""
    version = chance.choice([4, 4, 6])
    payload = chance.choice([
        b"", b"\x05", chance.randbytes(chance.randrange(80)), bind(), bind(little=False), bind()[:40],
        b"\x05\0\x0b\x03" + bytes(80), b"\x05\x01\x0e\x03" + bytes(80),
    ])  # fmt: skip
    data = linked(chance, link, version, ip(chance, version, payload))
    data += bytes(chance.choice([0, 0, 0, 6]))
    length = len(data)
    if chance.random() < 0.3:
        data = data[: chance.randrange(len(data) + 1)]
    return data, chance.choice([length] * 9 + [length // 2])


def bind(*, little: bool = True) -> bytes:
    return b"\x05\0\x0b\x13" + bytes(28) + INTERFACE[not little] + bytes(24)


def batches_of(frames: Sequence[tuple[int, bytes, int]]) -> tuple[list[Batch], Sequence[int]]:
    """Batches with link type, bytes and length of each frame, and the link types by interface."""
    links = sorted({link for link, _, _ in frames})
    file = Pcapng().section()
    parts = [file.data, *(Pcapng().interface(link).data for link in links)]
    parts += (
        Pcapng().packet(data, number * 7, links.index(link), length).data
        for number, (link, data, length) in enumerate(frames)
    )
    reader = CaptureReader(pieces(b"".join(parts)))
    return [batch._replace(data=batch.data.copy()) for batch in reader], reader.links


def batch_of(frames: Sequence[tuple[int, bytes, int]]) -> tuple[Batch, Sequence[int]]:
    """The same for few frames, which are one batch."""
    (batch,), links = batches_of(frames)
    return batch, links


def address(high: int, low: int) -> bytes:
    return low.to_bytes(4, "big") if high == V4 else high.to_bytes(8, "big") + low.to_bytes(8, "big")


def packets(batch: Batch, columns: Columns) -> Iterator[tuple[int, Segment | Datagram]]:
    """The columns as the exact path would give them."""
    for row in zip(*(column.tolist() for column in columns), strict=True):
        (
            index,
            protocol,
            src_hi,
            src_lo,
            dst_hi,
            dst_lo,
            sport,
            dport,
            seq,
            ack,
            flags,
            ident,
            start,
            length,
            captured,
            _,
        ) = row
        source, target = address(src_hi, src_lo), address(dst_hi, dst_lo)
        payload = batch.data[start : start + captured].tobytes()
        ref, at = batch.first + index, int(batch.at[index])
        if protocol == TCP:
            yield index, Segment(ref, at, source, sport, target, dport, seq, ack, flags, payload, length, ident)
        else:
            assert (seq, ack, flags) == (0, 0, 0)
            yield index, Datagram(ref, at, source, sport, target, dport, payload, length)


def compare(frames: Sequence[tuple[int, bytes, int]]) -> list[Selected]:
    """Whatever the exact path finds is found by columns, or left to it; and nothing else, and nothing different."""
    batches, links = batches_of(frames)
    assert sum(len(batch.at) for batch in batches) == len(frames)
    return [compare_batch(batch, links) for batch in batches]


def compare_batch(batch: Batch, links: Sequence[int]) -> Selected:
    chosen = select(batch, links, Filter(None))
    plain = dict(packets(batch, chosen.plain))
    odd = set(chosen.odd.tolist())
    assert list(plain) == sorted(plain)
    assert len(plain) == len(chosen.plain.index)
    assert not odd & set(plain)
    lost = 0
    for index, raw in enumerate(batch.frames(range(len(batch.at)), 0, links)):
        fragments = Fragments()
        exact = dissect(raw, fragments)
        if index in plain:
            assert plain[index] == exact
        elif index not in odd:
            assert exact is None
            # Fragments of what leads nowhere are left out.
            assert not any(protocol in layers._PROTOCOLS for _, _, protocol, _ in fragments._packets)
            lost += 1
    assert sum(chosen.unread.values()) <= lost
    return chosen


@pytest.mark.parametrize("link", LINKS)
def test_columns_and_the_exact_path_agree(link: int) -> None:
    chance = random.Random(link)
    chosen = compare([(link, *frame(chance, link)) for _ in range(1500)])
    plain, odd = (sum(map(len, column)) for column in zip(*((one.plain.index, one.odd) for one in chosen), strict=True))
    if link in _EXACT:
        assert odd == 1500
    elif link == 147:
        assert sum(one.unread["link type 147"] for one in chosen) == 1500
    else:
        assert min(plain, odd) > 50


@settings(max_examples=40)
@given(st.integers(0, 1 << 32))
def test_links_may_be_mixed(seed: int) -> None:
    chance = random.Random(seed)
    compare([(link, *frame(chance, link)) for link in (chance.choice(LINKS) for _ in range(60))])


@given(st.lists(st.tuples(st.sampled_from(LINKS), st.binary(max_size=90), st.integers(0, 100)), min_size=1, max_size=8))
def test_any_bytes(frames: list[tuple[int, bytes, int]]) -> None:
    compare(frames)


def test_the_links_are_those_of_the_exact_path() -> None:
    assert {*_TYPED, *_BARE, *_EXACT} == set(layers._LINKS)
    assert set(TUNNEL_PORTS) == set(layers._UDP_TUNNELS)


def ethernet(sport: int, dport: int, payload: bytes = b"", *, protocol: int = 6, host: int = 2) -> bytes:
    body = struct.pack(">HHIIBBHHH", sport, dport, 1, 2, 0x50, 0x18, 0, 0, 0) if protocol == 6 else b""
    if protocol == 17:
        body = struct.pack(">HHHH", sport, dport, 8 + len(payload), 0)
    body += payload
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(body),
        7,
        0x4000,
        64,
        protocol,
        0,
        b"\x0a\0\0\x01",
        b"\x0a\0\0" + bytes([host]),
    )
    return bytes(12) + b"\x08\0" + head + body


def chosen_of(frames: Sequence[bytes], wanted: Filter, link: int = 1) -> Selected:
    batch, links = batch_of([(link, data, len(data)) for data in frames])
    return select(batch, links, wanted)


class TestFilter:
    def test_ports(self) -> None:
        frames = [
            ethernet(50_000, 1688),
            ethernet(1688, 50_000),
            ethernet(50_000, 443),
            ethernet(50_000, 1688, protocol=17),
            *(ethernet(port, 50_000, protocol=17) for port in DNS_PORTS),
            *(ethernet(50_000, port, protocol=17) for port in DNS_PORTS),
            ethernet(50_000, 53),
            ethernet(50_000, 5353),
            ethernet(40_000, 1689),
        ]
        assert chosen_of(frames, Filter((1688,))).plain.index.tolist() == [0, 1, 4, 5, 6, 7, 8, 9, 10]
        assert chosen_of(frames, Filter((1688, 1689))).plain.index.tolist()[-1] == 12
        assert chosen_of(frames, Filter(())).plain.index.tolist() == [4, 5, 6, 7, 8, 9, 10]
        assert len(chosen_of(frames, Filter(None)).plain.index) == len(frames)

    @pytest.mark.parametrize(
        ("payload", "binds"),
        [
            (bind(), True),
            (bind(little=False), True),
            (b"\x05\x01" + bind()[2:], True),
            (b"\x05\0\x0e" + bind()[3:], True),
            (bind()[:47], True),
            (bind()[:4], True),
            (bind()[:3], False),
            (b"\x05\x02" + bind()[2:], False),
            (b"\x05\0\x0b\x12" + bind()[4:], False),
            (b"\x05\0\0" + bind()[3:], False),
            (bind()[:32] + bytes(40), False),
            (b"", False),
        ],
    )
    def test_a_bind_on_any_port(self, payload: bytes, binds: bool) -> None:
        chosen = chosen_of([ethernet(50_000, 4711, payload), ethernet(50_000, 1688, payload)], Filter((1688,)))
        assert chosen.plain.index.tolist() == ([0, 1] if binds else [1])
        assert chosen.plain.binds.tolist() == ([True, False] if binds else [False])

    def test_a_bind_with_the_interface_in_a_later_context(self) -> None:
        payload = bind()[:32] + bytes(44) + bind()[32:]
        assert chosen_of([ethernet(50_000, 4711, payload)], Filter(())).plain.binds.tolist() == [True]

    def test_what_follows_a_short_payload_is_not_looked_at(self) -> None:
        """The next record begins right there."""
        short = ethernet(50_000, 4711, b"\x05\0")
        assert len(chosen_of([short, short], Filter(())).plain.index) == 0

    def test_connections(self) -> None:
        frames = [
            ethernet(50_000, 4711),
            ethernet(4711, 50_000),
            ethernet(50_001, 4711),
            ethernet(50_000, 4711, host=3),
            ethernet(50_000, 4711, protocol=17),
        ]
        everything = chosen_of(frames, Filter(None)).plain
        keys = flow_keys(everything)
        # Addresses are not turned round in the second; protocols are not told apart.
        assert len(set(keys.tolist())) == 4
        chosen = chosen_of(frames, Filter((), np.sort(keys[:1])))
        assert chosen.plain.index.tolist() == [0]

    @settings(max_examples=30)
    @given(st.integers(0, 1 << 32))
    def test_a_connection_has_one_key_in_both_directions(self, seed: int) -> None:
        chance = random.Random(seed)
        there: Columns = chosen_of([linked(chance, 1, 4, ip(chance, 4, b"")) for _ in range(30)], Filter(None)).plain
        back = there._replace(
            src_hi=there.dst_hi, src_lo=there.dst_lo, dst_hi=there.src_hi, dst_lo=there.src_lo,
            sport=there.dport, dport=there.sport,
        )  # fmt: skip
        assert flow_keys(there).tolist() == flow_keys(back).tolist()

    def test_what_is_cut_before_its_ports_is_counted(self) -> None:
        frames = [ethernet(50_000, 1688)[:37], ethernet(50_000, 1688)[:30], ethernet(50_000, 1688)[:38]]
        batch, links = batch_of([(1, data, 60) for data in frames])
        chosen = select(batch, links, Filter((1688,)))
        assert (len(chosen.plain.index), chosen.odd.tolist()) == (0, [2])
        assert chosen.unread[Unread.CUT] == 2

    def test_nothing_but_numbered_blocks(self) -> None:
        file = Pcapng().section().block(0xBAD, bytes(8)).data
        (batch,) = list(CaptureReader(pieces(file)))
        chosen = select(batch, (), Filter((1688,)))
        assert (len(chosen.plain.index), len(chosen.odd), chosen.unread) == (0, 0, {})

    def test_pings_are_left_out_and_errors_are_not(self) -> None:
        frames = [ethernet(0, 0, bytes([kind]) + bytes(7), protocol=1) for kind in range(20)]
        assert chosen_of(frames, Filter(())).odd.tolist() == [3, 4, 11, 12]


def test_exact_kinds_are_all_met() -> None:
    """The generator makes every kind of packet that the exact path knows, and fragments."""
    chance = random.Random(1)
    fragments = Fragments()
    met = {type(dissect(RawFrame(1, 2, 1, *frame(chance, 1)), fragments)) for _ in range(3000)}
    assert met >= {Segment, Datagram, IcmpError, type(None)}
    assert fragments._packets
