"""When a connection is over, what is kept until then, and what belongs to no connection any more."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.capture import flows as flows_module
from kmsdiag.capture.flows import IDLE, QUIET, REFUSED, SECOND, Ended, Flows, key_of, keys_of
from kmsdiag.capture.packets import PACKET, Packets, compact, from_segments, joined
from kmsdiag.wire.layers import IcmpError, Segment
from tests.capturerun import dissected, population, segments
from tests.pcapgen import ACK, CLIENT, CLIENT6, HOST, HOST6, PSH, RST, SYN, Ends, Talk, packed, request


def refs(ended: Ended | None) -> list[list[int]]:
    """Frame numbers of each connection that ended, sorted."""
    if ended is None:
        return []
    numbers = ended.packets.table["ref"].tolist()
    bounds = zip(ended.starts.tolist(), ended.counts.tolist(), strict=True)
    return sorted(numbers[start : start + count] for start, count in bounds)


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows_module, "SETTLE", 1)


def fed(flows: Flows, batch: Sequence[Segment]) -> Ended | None:
    return flows.feed(from_segments(batch))


class TestWhenItIsOver:
    def test_complete_at_once(self) -> None:
        assert refs(fed(Flows(), segments(Talk().bound().exchange().close())[:-1])) == []
        batch = segments(Talk().bound().exchange().close())
        assert refs(fed(Flows(), batch)) == [list(range(1, len(batch) + 1))]

    def test_reset_after_a_while(self) -> None:
        flows, batch = Flows(), segments(Talk().activation())
        assert fed(flows, batch) is None
        later = segments(Talk(Ends(sport=1_000), at=QUIET / SECOND + 0.1).syn())
        assert refs(fed(flows, later)) == [list(range(1, len(batch) + 1))]

    def test_refused_after_the_time_for_another_try(self) -> None:
        talk = Talk().syn().add(False, RST | ACK, seq=0).wait(2.9).syn().add(False, RST | ACK, seq=0)
        flows = Flows()
        assert fed(flows, segments(talk)) is None
        flows.tick(segments(talk)[-1].at + REFUSED)
        assert refs(flows.finish()[0]) == [[1, 2, 3, 4]]

    def test_silent_for_long(self) -> None:
        flows, batch = Flows(), segments(Talk().syn())
        assert fed(flows, batch) is None
        later = segments(Talk(Ends(sport=1_000), at=IDLE / SECOND - 1).syn())
        assert fed(flows, later) is None
        later = segments(Talk(Ends(sport=1_001), at=IDLE / SECOND + 1).syn())
        assert refs(fed(flows, later)) == [[1]]

    def test_until_says_no_more_than_the_rule_needs(self) -> None:
        flows, batch = Flows(), segments(Talk().activation())
        fed(flows, batch)
        flows.tick(batch[-1].at + 10**13)
        ended, _loose = flows.finish()
        assert ended is not None
        assert ended.until.tolist() == [batch[-1].at + QUIET]

    def test_an_attempt_after_a_refusal_is_not_over(self) -> None:
        talk = Talk().syn().add(False, RST | ACK, seq=0).wait(0.5).syn()
        flows = Flows()
        fed(flows, segments(talk))
        flows.tick(segments(talk)[-1].at + REFUSED * 2)
        assert flows._settle() is None


class TestStragglers:
    def test_what_comes_after_the_end_is_dropped(self) -> None:
        talk = Talk().bound().exchange().close()
        batch = segments(talk.wait(0.2).ack().wait(0.2).ack(False))
        flows = Flows()
        assert len(refs(fed(flows, batch[:-2]))[0]) == len(batch) - 2
        assert fed(flows, batch[-2:]) is None
        ended, loose = flows.finish()
        assert (refs(ended), loose.packets.size) == ([], 0)

    def test_so_it_is_when_they_come_together(self) -> None:
        talk = Talk().bound().exchange().close()
        batch = segments(talk.wait(0.2).ack().wait(0.2).ack(False))
        assert len(refs(fed(Flows(), batch))[0]) == len(batch) - 2

    def test_after_a_reset_too(self) -> None:
        batch = segments(Talk().activation().wait(QUIET / SECOND + 1).fin(False))
        flows = Flows()
        assert len(refs(fed(flows, batch))[0]) == len(batch) - 1

    def test_a_port_that_is_used_again_is_another_connection(self) -> None:
        first = Talk().activation()
        second = Talk(at=60, numbers=(7, 9)).activation()
        batch = segments(first, second)
        half = len(batch) // 2
        whole = Flows()
        whole._held = [from_segments(batch)]
        whole.tick(batch[-1].at + QUIET)
        assert refs(whole._settle()) == [list(range(1, half + 1)), list(range(half + 1, len(batch) + 1))]


class TestRegular:
    def regular(self, talk: Talk, drop: Sequence[int] = ()) -> bool:
        batch = [segment for index, segment in enumerate(segments(talk)) if index not in drop]
        flows = Flows()
        flows._held = [from_segments(batch)]
        flows.tick(batch[-1].at + IDLE)
        ended, _loose = flows.finish()
        assert ended is not None
        return bool(ended.regular[0])

    def test_whole_and_in_order(self) -> None:
        assert self.regular(Talk().activation())
        assert self.regular(Talk().bound().exchange().close(False))
        assert self.regular(Talk(numbers=(2**32 - 40, 2**32 - 60)).activation())
        assert self.regular(Talk().syn().wait(1).syn())

    def test_not_so(self) -> None:
        whole = Talk().activation()
        for missing in (0, *(at for at, segment in enumerate(whole.segments) if segment.data)):
            assert not self.regular(Talk().activation(), (missing,)), missing
        assert not self.regular(Talk().bound().client(request(6)).add(True, PSH | ACK, request(6), seq=5))
        assert not self.regular(Talk().open().ack().ack())
        assert not self.regular(Talk().syn().syn())

    def test_relative_numbers(self) -> None:
        ended = fed(Flows(), segments(Talk(numbers=(2**32 - 1, 99)).open().client(b"abc").host(b"d").close()))
        assert ended is not None
        assert ended.seq.tolist() == [2**32 - 1, 2**32 - 1, 0, 0, 0, 3, 1, 4]
        assert ended.ack.tolist() == [0, 0, 0, 0, 3, 1, 4, 2]
        assert ended.from_client.tolist() == [True, False, True, True, False, True, False, True]


class TestLimits:
    def test_those_silent_for_longest_are_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(flows_module, "MOST_PACKETS", 10)
        flows = Flows()
        batch = segments(*(Talk(Ends(sport=1_000 + at), at=at / 10).syn() for at in range(12)))
        assert refs(fed(flows, batch)) == [[number] for number in range(1, 8)]
        assert flows.limits_hit
        assert flows._held[0].size == 5

    def test_one_that_never_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(flows_module, "LONGEST", 20)
        flows = Flows()
        talk = Talk().open()
        for _ in range(30):
            talk.client(b"x" * 10)
        batch = segments(talk)
        assert refs(fed(flows, batch)) == [list(range(1, len(batch) + 1))]
        assert fed(flows, segments(Talk(at=0.1, numbers=(1_000_301, 5_000_001)).client(b"y" * 10))) is None


class TestEdges:
    def test_what_is_open_at_the_end_is_loose(self) -> None:
        flows = Flows(tail=True)
        batch = segments(Talk().bound().client(request(6)))
        fed(flows, batch)
        ended, loose = flows.finish()
        assert ended is None
        assert loose.packets.table["ref"].tolist() == list(range(1, len(batch) + 1))

    def test_what_has_no_beginning_is_loose(self) -> None:
        flows = Flows(head=True)
        batch = segments(Talk().bound().exchange().close())[3:]
        flows.begin(batch[0].at)
        fed(flows, batch)
        ended, loose = flows.finish()
        assert (refs(ended), loose.packets.size) == ([], len(batch))

    def test_whole_ones_are_counted_and_named(self) -> None:
        flows = Flows(head=True)
        batch = segments(Talk().bound().exchange().close())
        flows.begin(batch[0].at)
        assert len(refs(fed(flows, batch))) == 1
        early = flows.finish()[1].early.tolist()
        assert early == [key_of(packed(CLIENT), 49_200, packed(HOST), 1688)]
        again = Flows(head=True, aside=early)
        again.begin(batch[0].at)
        assert fed(again, batch) is None
        assert again.finish()[1].packets.size == len(batch)

    def test_icmp_errors_go_along(self) -> None:
        flows = Flows(tail=True)
        error = IcmpError(5, 9, packed("203.0.113.1"), 3, 13, False, 6, packed(CLIENT), 49_200, packed(HOST), 1688, 1)
        flows.feed_icmp([error])
        assert flows.finish()[1].icmp == (error,)


def test_a_key_is_the_same_both_ways() -> None:
    batch = segments(Talk().open(), Talk(Ends(CLIENT6, 49_200, HOST6)).open())
    keys = keys_of(from_segments(batch).table).tolist()
    assert len(set(keys)) == 2
    assert key_of(packed(HOST), 1688, packed(CLIENT), 49_200) in keys


def test_connections_whose_hashes_are_equal_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows_module, "keys_of", lambda table: np.zeros(len(table), np.uint64))
    flows = Flows()
    flows._held = [from_segments(segments(Talk().activation(), Talk(Ends(sport=5), at=1).activation()))]
    flows.tick(2 * 10**18)
    ended, _loose = flows.finish()
    assert ended is not None
    assert ended.mixed.all()
    assert not ended.regular.any()


@settings(max_examples=20)
@given(st.integers(0, 500), st.data())
def test_no_packet_is_lost_and_none_comes_twice(seed: int, data: st.DataObject) -> None:
    """However packets are fed, each is in one connection, or loose, or a straggler of one that is over."""
    batch = _segments_of(seed)
    flows = Flows(head=data.draw(st.booleans()), tail=data.draw(st.booleans()))
    flows.begin(batch[0].at)
    seen: list[int] = []
    at = 0
    while at < len(batch):
        size = data.draw(st.integers(1, len(batch)))
        for number in refs(fed(flows, batch[at : at + size])):
            seen += number
        at += size
    ended, loose = flows.finish()
    for numbers in refs(ended):
        seen += numbers
    seen += loose.packets.table["ref"].tolist()
    assert len(seen) == len(set(seen))
    missing = {segment.ref for segment in batch} - set(seen)
    assert all(segment.flags & (SYN | ACK) != SYN for segment in batch if segment.ref in missing)


def _segments_of(seed: int) -> list[Segment]:
    return dissected(population(seed, most=15))


class TestPackets:
    def test_there_and_back(self) -> None:
        batch = segments(Talk().activation(), Talk(Ends(CLIENT6, 49_200, HOST6), at=1).activation())
        packets = from_segments(batch)
        assert packets.segments(np.arange(packets.size)) == batch
        assert compact(packets).segments(np.array([3, 5])) == [batch[3], batch[5]]
        both = joined([packets.take(np.array([1, 4])), packets])
        assert both.segments(np.arange(3)) == [batch[1], batch[4], batch[0]]

    def test_compact_keeps_only_its_own_bytes(self) -> None:
        packets = from_segments(segments(Talk().activation()))
        few = compact(packets.take(np.array([3])))
        assert 0 <= len(few.blob) - int(few.table["captured"][0]) < 8 < len(packets.blob) - len(few.blob)
        assert compact(Packets(np.empty(0, PACKET), packets.blob)).size == 0
