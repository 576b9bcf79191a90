import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.wire import chain
from kmsdiag.wire.chain import REACH, Rule, follow


def nothing(_buffer: bytearray, _start: int, _end: int) -> int:
    return -1


def serial(buffer: bytearray, start: int, stop: int, rule: Rule) -> tuple[list[int], int]:
    """Where the records are, one by one."""
    found = []
    while start < stop:
        found.append(start)
        step = int.from_bytes(buffer[start + rule.at : start + rule.at + 4], "little" if rule.little else "big")
        step += rule.extra
        if step < rule.least:
            break
        start += step
    return found, start


def records(sizes: list[int], *, little: bool = True) -> tuple[bytearray, int]:
    """Records whose first four bytes are the number of bytes behind their eight; the buffer, and their end."""
    data = b"".join(struct.pack("<II" if little else ">II", size, 0xFFFFFFFF) + b"\xff" * size for size in sizes)
    return bytearray(data + bytes(REACH + 4)), len(data)


class TestFollow:
    @given(st.lists(st.integers(0, 40), max_size=60), st.booleans())
    def test_few_records(self, sizes: list[int], little: bool) -> None:
        buffer, end = records(sizes, little=little)
        rule = Rule(0, 8, little, 8, nothing)
        found, after = follow(buffer, 0, end, rule)
        assert (found.tolist(), after) == serial(buffer, 0, end, rule)
        assert after == end

    @settings(max_examples=150)
    @given(st.data(), st.lists(st.integers(0, 300), min_size=1, max_size=400), st.booleans())
    def test_lanes_say_the_same_whatever_is_guessed(self, data: st.DataObject, sizes: list[int], little: bool) -> None:
        buffer, end = records(sizes, little=little)
        true = set(serial(buffer, 0, end, Rule(0, 8, little, 8, nothing))[0])
        wrong = data.draw(st.floats(0, 1))
        chance = random.Random(data.draw(st.integers(0, 1 << 16)))

        def guess(_buffer: bytearray, start: int, end: int) -> int:
            """A record, or any place, or none."""
            if chance.random() < wrong:
                return chance.choice([-1, chance.randrange(start, end)])
            return next((place for place in range(start, end) if place in true), -1)

        rule = Rule(0, 8, little, 8, guess)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chain, "LANE", data.draw(st.sampled_from([32, 100, 1000])))
            patch.setattr(chain, "FEWEST", 2)
            patch.setattr(chain, "_LAST", data.draw(st.sampled_from([1, 4])))
            found, after = follow(buffer, 0, end, rule)
        assert (found.tolist(), after) == serial(buffer, 0, end, rule)

    @given(st.binary(min_size=200, max_size=2000), st.integers(0, 24))
    def test_rubbish_up_to_the_first_impossible_length(self, noise: bytes, least: int) -> None:
        """What lies behind that means nothing, and lanes and the slow way may differ there."""
        buffer = bytearray(bytes(byte & 0x1F if place % 4 == 0 else 0 for place, byte in enumerate(noise)))
        stop = len(buffer) - REACH - 4
        rule = Rule(0, 0, True, max(least, 1), lambda _buffer, start, _end: start)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chain, "LANE", 48)
            patch.setattr(chain, "FEWEST", 2)
            found, _ = follow(buffer, 0, stop, rule)
        expected, _ = serial(buffer, 0, stop, rule)
        assert found.tolist()[: len(expected)] == expected

    def test_a_record_that_leads_far_away(self) -> None:
        buffer, end = records([10] * 5)
        struct.pack_into("<I", buffer, 36, 0xFFFFFFF0)
        found, after = follow(buffer, 0, end, Rule(0, 8, True, 8, nothing))
        assert (found.tolist(), after) == ([0, 18, 36], 36 + 8 + 0xFFFFFFF0)

    def test_many_records_come_in_several_turns(self) -> None:
        buffer, end = records([0] * (chain.MOST * 2 + 5))
        for least_lanes in (chain.FEWEST, 1 << 30):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(chain, "FEWEST", least_lanes)
                turns, start = [], 0
                while start < end:
                    found, start = follow(buffer, start, end, Rule(0, 8, True, 8, lambda _buffer, start, _end: start))
                    turns.append(len(found))
            assert (turns, start) == ([chain.MOST, chain.MOST, 5], end)

    def test_a_megabyte_takes_the_lanes(self) -> None:
        """At their own sizes, with a guess that is right, wrong and right again."""
        chance = random.Random(3)
        buffer, end = records([chance.randrange(1500) for _ in range(6000)])
        expected, _ = serial(buffer, 0, end, Rule(0, 8, True, 8, nothing))
        true = set(expected)
        asked = []

        def guess(_buffer: bytearray, start: int, end: int) -> int:
            asked.append(start)
            place = next(place for place in range(start, end) if place in true)
            return place + (len(asked) % 7 == 3)

        found, after = follow(buffer, 0, end, Rule(0, 8, True, 8, guess))
        assert (found.tolist(), after) == (expected, end)
        assert len(asked) > 60
