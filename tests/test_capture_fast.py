"""The fast way says what the exact path says; what it may not decide, it leaves alone."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.capture import fast
from kmsdiag.capture.conversation import converse
from kmsdiag.capture.digest import Digest, frame_of
from kmsdiag.capture.flows import Ended, Flows
from kmsdiag.capture.lookups import Lookups
from kmsdiag.capture.packets import from_segments
from kmsdiag.capture.walk import Walker
from tests.capturerun import as_json, everything, population, run, segments, write
from tests.pcapgen import ACK, RST, Ends, Talk, bind, noise, request, response


def ended(*talks: Talk, later: int = 400) -> Ended:
    """The connections as they end, the capture going on for some seconds."""
    flows = Flows()
    batch = segments(*talks)
    flows.feed(from_segments(batch))
    flows.tick(batch[-1].at + later * 1_000_000_000)
    result, _loose = flows.finish()
    assert result is not None
    return result


def shapes(*talks: Talk) -> list[int | None]:
    """The shape of each, in the order of their client ports; None for those that have none."""
    batch = ended(*talks)
    fit, hashes = fast._hashes(batch)
    ports = batch.packets.table["sport"][batch.starts].tolist()
    found = dict(zip(ports, zip(fit.tolist(), hashes.tolist(), strict=True), strict=True))
    return [found[talk.ends.sport][1] if found[talk.ends.sport][0] else None for talk in talks]


def talks(build: Callable[[Talk, int], Talk], count: int = 2) -> list[Talk]:
    """Conversations with different addresses, ports, numbers and times, otherwise made in the same way."""
    chance = random.Random(7)
    return [
        build(
            Talk(
                Ends(f"192.0.2.{index + 1}", 50_000 + index, "198.51.100.9" if index else "198.51.100.7"),
                at=index * 50.0,
                numbers=(chance.randrange(2**32), chance.randrange(2**32)),
            ),
            index,
        )
        for index in range(count)
    ]


class TestWholeCaptures:
    @pytest.mark.parametrize("seed", range(20, 40))
    def test_both_ways_say_the_same(self, tmp_path: Path, seed: int) -> None:
        file = write(tmp_path / "x.pcap", population(seed))
        exact, quick = everything(file, fast=False), everything(file)
        assert as_json(quick.answer) == as_json(exact.answer)
        assert quick.conversations == exact.conversations
        assert as_json(run(file).answer) == as_json(exact.answer)

    def test_most_of_a_usual_population_goes_the_fast_way(self) -> None:
        chance = random.Random(1)
        batch = segments(
            *(
                Talk(Ends(sport=50_000 + index), at=index * 0.2).activation(6, chance.choice((0, 0xC004F042)))
                for index in range(200)
            )
        )
        flows, digest = Flows(), Digest()
        walker = Walker(flows, digest, Lookups(), ports={1688})
        walked = []

        def walk(group: int) -> list[fast.Walked]:
            walked.append(group)
            return walker._walked(result, group)

        flows.feed(from_segments(batch))
        flows.tick(batch[-1].at + 10**12)
        found, _loose = flows.finish()
        assert found is not None
        result = found
        counted = fast.Shapes().count(result, walk, digest)
        assert counted.all()
        assert len(digest.rows()) == 200
        assert len(set(walked)) <= 8, "two of a shape are learnt, and three examples of each are drawn"


class TestShapes:
    @pytest.mark.parametrize(
        "build",
        [
            lambda talk, _index: talk.activation(),
            lambda talk, _index: talk.activation(5),
            lambda talk, _index: talk.bound().exchange(6).exchange(6, call=3, wide=True).close(),
            lambda talk, _index: talk.syn().add(False, RST | ACK, seq=0).wait(0.5).syn().add(False, RST | ACK, seq=0),
            lambda talk, _index: talk.syn().wait(3).syn().wait(6).syn(),
            lambda talk, _index: talk.open().close(),
            lambda talk, index: talk.bound().wait(index * 0.3).exchange(6).rst(),
        ],
    )
    def test_conversations_that_differ_in_nothing_that_counts(self, build: Callable[[Talk, int], Talk]) -> None:
        one, other = shapes(*talks(build))
        assert one is not None
        assert one == other

    @pytest.mark.parametrize(
        "build",
        [
            lambda talk, index: talk.activation(6, (0, 0xC004F042)[index]),
            lambda talk, index: talk.activation(6, (0xC004F06C, 0xC004F042)[index]),
            lambda talk, index: talk.activation((5, 6)[index]),
            lambda talk, index: talk.activation(modern=bool(index)),
            lambda talk, index: talk.bound().exchange().close(bool(index)),
            lambda talk, index: talk.bound().client(request(6)).wait((0.5, 2.5)[index]).fin().fin(False).ack(),
            lambda talk, index: talk.syn().wait((0.5, 0.001)[index]).syn(),
            lambda talk, index: talk.open().client(bind()).wait((1, 3)[index]).rst(),
            lambda talk, index: talk.open().wait((1, 6)[index]).close(False),
            lambda talk, index: talk.bound().client(request(6, call=2 + index)).host(response(6, call=2)).close(),
        ],
    )
    def test_what_counts_makes_another_shape(self, build: Callable[[Talk, int], Talk]) -> None:
        one, other = shapes(*talks(build))
        assert one != other or one is None

    @pytest.mark.parametrize(
        "build",
        [
            lambda talk, _index: talk.activation(4),
            lambda talk, _index: talk.bound().client(request(6)[:100], request(6)[100:]).host(response(6)).close(),
            lambda talk, _index: talk.bound().client(request(6) + request(6, call=3)).host(response(6)).close(),
            lambda talk, _index: talk.open().client(b"GET / HTTP/1.0\r\n\r\n").close(),
            lambda talk, _index: (
                talk.bound().client(request(6)).host(response(6)).wait(1).ack().wait(0.001).ack().rst()
            ),
        ],
    )
    def test_what_is_left_to_the_exact_path(self, build: Callable[[Talk, int], Talk]) -> None:
        assert shapes(*talks(build)) == [None, None]

    def test_the_capture_must_have_gone_on(self) -> None:
        """Nobody knows yet whether an answer comes: how long the capture went on matters to the second."""
        batch = ended(Talk().bound().client(request(6)), later=3)
        assert not fast._hashes(batch)[0].any()


@given(st.integers(0, 2**40), st.integers(-(2**30), 2**36))
def test_durations_are_the_exact_path_s(begin: int, elapsed: int) -> None:
    (quick,) = fast.microseconds_between(np.array([begin]), np.array([begin + elapsed])).tolist()
    assert quick == round(round(max(0, elapsed) / 1e6, 3) * 1000)


def test_a_shape_that_cannot_be_told_by_its_rows_is_walked_each_time() -> None:
    """A walker whose verdict depends on something else: it is noticed, and nothing is counted."""
    batch = ended(*talks(lambda talk, _index: talk.activation(), 5))
    calls = []

    def walk(group: int) -> list[fast.Walked]:
        start, count = int(batch.starts[group]), int(batch.counts[group])
        own = batch.packets.segments(np.arange(start, start + count))
        found = converse(own, (), frame_of, int(batch.until[group]))
        assert found is not None
        calls.append(group)
        return [fast.Walked(found, (-1, -1))]

    counted = fast.Shapes().count(batch, walk, Digest())
    assert not counted.any(), "initial numbers differ from what the rows say"
    assert len(calls) == 1


def test_random_bytes_as_payload_are_not_taken_for_pdus() -> None:
    built = talks(lambda talk, index: talk.open().client(b"\x05\x00\x00\x03" + noise(200, index)).close())
    assert shapes(*built) == [None, None]
