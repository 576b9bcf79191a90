"""Two captures of one path: what was lost, added, changed or delayed between them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.capture.packets import from_segments
from kmsdiag.capture.pairs import connections, match, pair_paths
from kmsdiag.model.capture import PairedPath
from kmsdiag.wire.layers import Segment
from tests.capturerun import everything, segments, write
from tests.pcapgen import HOST, RST, Ends, Talk, merged, packed

HOSTS = {(packed(HOST), 1688)}
MS = 1_000_000


class Seen(NamedTuple):
    """What both taps saw."""

    a: list[Segment]
    b: list[Segment]


def path(count: int = 6, *, there: int = 3 * MS, back: int = 3 * MS, offset: int = 0) -> Seen:
    """Conversations seen next to the clients, and next to the host: delays and the clocks' offset in ns."""
    near = segments(*(Talk(Ends(sport=50_000 + at), at=at * 3.0).activation() for at in range(count)))
    far = [
        one._replace(ref=one.ref + 1000, at=one.at + offset + (there if one.dport == 1688 else -back)) for one in near
    ]
    return Seen(near, far)


def compare(seen: Seen) -> PairedPath:
    numbers = {segment.ref: 1 + (segment.sport - 50_000) for segment in (*seen.a, *seen.b) if segment.flags == 2}
    (found,) = pair_paths((0, 1), from_segments(seen.a), from_segments(seen.b), HOSTS, numbers)
    return found


def lossless(found: PairedPath) -> bool:
    return (found.lost_ab, found.lost_ba, found.only_a, found.only_b, found.altered) == (0, 0, 0, 0, 0)


@settings(max_examples=30)
@given(st.integers(0, 80 * MS), st.integers(0, 80 * MS), st.integers(-(10**12), 10**12))
def test_offset_and_delays(there: int, back: int, offset: int) -> None:
    """The clocks' offset is known to within half of the difference between both ways; the sum of delays is exact."""
    seen = path(there=there, back=back, offset=offset)
    found = compare(seen)
    assert lossless(found)
    assert (found.conversations, found.matched) == (6, len(seen.a))
    assert abs(found.offset_ms * 1e6 - offset) <= abs(there - back) / 2 + 1_000
    assert found.delay_ms is not None
    assert found.delay_ms.greatest == pytest.approx((there + back) / 2e6, abs=0.002)


def test_the_taps_may_stand_the_other_way_round() -> None:
    seen = path(there=3 * MS, back=5 * MS, offset=7 * MS)
    found = compare(Seen(seen.b, seen.a))
    assert lossless(found)
    assert found.offset_ms == pytest.approx(-7, abs=1.01)


@pytest.mark.parametrize(
    ("lose", "lost"),
    [
        (lambda one: one.dport == 1688 and one.length == 292, {"lost_ab": 1}),
        (lambda one: one.sport == 1688 and one.length == 300, {"only_a": 1}),
    ],
)
def test_what_one_tap_lacks_far_from_its_edges(lose: Callable[[Segment], bool], lost: dict[str, int]) -> None:
    seen = path()
    victim = next(one for one in seen.b if 50_003 in (one.sport, one.dport) and lose(one))
    found = compare(Seen(seen.a, [one for one in seen.b if one is not victim]))
    counts = {name: getattr(found, name) for name in ("lost_ab", "lost_ba", "only_a", "only_b")}
    assert {name: count for name, count in counts.items() if count} == lost
    assert found.numbers == (4,)
    assert len(found.examples) == 1


def test_a_response_that_never_came_back() -> None:
    seen = path()
    victim = next(one for one in seen.a if one.dport == 50_002 and one.length == 300)
    found = compare(Seen([one for one in seen.a if one is not victim], seen.b))
    assert (found.lost_ba, found.only_b, found.numbers) == (1, 0, (3,))
    assert found.examples == ("lost from b to a: 198.51.100.20:1688 to 192.0.2.10:50002 (host), ACK, 300 bytes",)


def test_a_reset_that_a_firewall_made() -> None:
    """The client is reset, and the host never sent that."""
    seen = path()
    template = next(one for one in seen.a if one.dport == 50_002 and one.length == 56)
    forged = template._replace(ref=9_000, flags=RST, payload=b"", length=0, ip_id=4711)
    found = compare(Seen([*seen.a, forged], seen.b))
    assert (found.only_a, found.lost_ab, found.lost_ba) == (1, 0, 0)
    assert "at a alone" in found.examples[0]


def test_bytes_that_were_changed_on_the_way() -> None:
    seen = path()
    changed = [
        one._replace(payload=one.payload[:-1] + b"!") if one.sport == 50_001 and one.length == 292 else one
        for one in seen.b
    ]
    found = compare(Seen(seen.a, changed))
    assert (found.altered, found.numbers) == (1, (2,))


def test_a_retransmission_stands_for_the_one_that_was_lost() -> None:
    """The request is sent twice, the first one is lost: the second one was not slow."""
    talk = Talk(at=5).bound()
    start = talk.next[True]
    talk.exchange().rst()
    near = segments(Talk(Ends(sport=7), at=1).activation(), talk, Talk(Ends(sport=8), at=9).activation())
    request = next(one for one in near if one.seq == start and one.length == 292)
    again = request._replace(ref=5_000, at=request.at + 300 * MS, ip_id=request.ip_id + 700)
    far = [one._replace(at=one.at + (2 * MS if one.dport == 1688 else -2 * MS)) for one in near if one is not request]
    far.append(again._replace(at=again.at + 2 * MS))
    found = compare(Seen([*near, again], far))
    assert (found.lost_ab, found.lost_ba) == (1, 0)
    assert found.delay_ms is not None
    assert found.delay_ms.greatest == pytest.approx(2, abs=0.01)


def test_the_edges_of_a_capture_are_no_losses() -> None:
    """The far capture began later and ended sooner."""
    seen = path(20)
    far = [one for one in seen.b if 10_000 * MS < one.at - seen.b[0].at < 40_000 * MS]
    assert lossless(compare(Seen(seen.a, far)))


class TestMatching:
    def test_addresses_that_are_translated(self) -> None:
        seen = path(3)
        outside = packed("203.0.113.99")
        translated = [
            one._replace(src=outside, sport=one.sport + 5)
            if one.dport == 1688
            else one._replace(dst=outside, dport=one.dport + 5)
            for one in seen.b
        ]
        found = compare(Seen(seen.a, translated))
        assert (found.conversations, found.matched) == (3, len(seen.a))

    def test_ip_identifications_that_are_not_kept(self) -> None:
        seen = path(3)
        chance = random.Random(4)
        assert lossless(compare(Seen(seen.a, [one._replace(ip_id=chance.randrange(1, 2**16)) for one in seen.b])))

    def test_a_port_that_is_used_again(self) -> None:
        batch = from_segments(segments(Talk().activation(), Talk(at=60, numbers=(5, 6)).activation()))
        found = connections(batch, HOSTS)
        assert [one.isn_client for one in found] == [1_000_000, 5]
        assert len(match(found, found)) == 2

    def test_a_connection_without_beginning(self) -> None:
        batch = segments(Talk().activation())[2:]
        (found,) = connections(from_segments(batch[::-1]), HOSTS)
        assert found.host == (packed(HOST), 1688)

    def test_nothing_in_common(self) -> None:
        one, other = segments(Talk().activation()), segments(Talk(Ends(sport=9), numbers=(1, 2)).activation())
        assert pair_paths((0, 1), from_segments(one), from_segments(other), HOSTS, {}) == []


def test_files_of_two_taps(tmp_path: Path) -> None:
    packets = merged(*(Talk(Ends(sport=50_000 + at), at=at * 3).activation().packets() for at in range(6)))
    inside = [packet for index, packet in enumerate(packets) if index != 27]
    near = write(tmp_path / "near.pcap", packets)
    far = write(tmp_path / "far.pcap", [packet._replace(at=packet.at + 2_000) for packet in inside])
    analysis = everything(near, far)
    (pair,) = analysis.answer.pairs
    assert (pair.a, pair.b, pair.host, pair.port, pair.conversations) == (0, 1, HOST, 1688, 6)
    assert pair.lost_ab + pair.only_a == 1
    assert len(analysis.conversations) == 12
    shown = {one.number: one for one in analysis.conversations}
    assert {shown[number].client_port for number in pair.numbers} == {50_000 + 27 // 10}
