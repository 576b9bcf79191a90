import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.wire.batch import Facts, Part, State
from kmsdiag.wire.parts import WINDOW, follows, guess, joined, rest, state_after
from tests.capturefile import VARIANTS, Found, Pcapng, Written, pcap, read

AT = 1_760_000_000_000_000_000


def records(count: int, seed: int, longest: int = 400) -> list[Written]:
    chance = random.Random(seed)
    found = []
    for number in range(count):
        data = chance.randbytes(chance.randrange(longest))
        found.append(Written(AT + number * 1_000_000, data, len(data)))
    return found


def pcapng(written: list[Written], *, little: bool = True) -> bytes:
    file = Pcapng(little=little).section().interface(1, 0, Pcapng(little=little).option(9, b"\x09"))
    parts = [file.data, *(Pcapng(little=little).packet(one.data, one.at).data for one in written)]
    return b"".join(parts)


def in_parts(data: bytes, starts: list[int], state: State) -> tuple[list[Found], Facts, int]:
    """Records of a capture read in parts from these starts on; their facts; how many guesses were dropped."""
    edges = [0, *starts, None]
    planned = [Part(begin or 0, end, state if begin else None) for begin, end in itertools.pairwise(edges)]
    dropped, number = 0, 0
    found: list[Found] = []
    all_facts: list[Facts] = []
    for part in planned:
        if all_facts and all_facts[-1].damaged:
            break
        if all_facts and not follows(all_facts[-1], part):
            dropped += 1
            part = rest(all_facts[-1], part)
        own, reader = read(data, 10_000, part)
        found += (one._replace(number=one.number + number) for one in own)
        number += reader.packets
        all_facts.append(reader.facts)
    return found, joined(all_facts), dropped


class TestParts:
    @pytest.mark.parametrize("little", [True, False])
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_guesses_are_right(self, variant: str, little: bool) -> None:
        data = pcap(records(3000, 1), variant, little=little)
        self.check(data)

    @pytest.mark.parametrize("little", [True, False])
    def test_guesses_are_right_in_pcapng(self, little: bool) -> None:
        self.check(pcapng(records(3000, 2), little=little))

    @staticmethod
    def check(data: bytes) -> None:
        state = state_after(data[:WINDOW])
        assert state is not None
        starts = []
        for third in (1, 2):
            offset = len(data) * third // 3 & ~3
            place = guess(data[:WINDOW], state, data[offset : offset + 100_000])
            assert place >= 0
            starts.append(offset + place)
        whole, reader = read(data)
        found, facts, dropped = in_parts(data, starts, state)
        assert (found, facts, dropped) == (whole, reader.facts, 0)

    @settings(max_examples=60)
    @given(st.data(), st.booleans())
    def test_wrong_guesses_change_nothing(self, data: st.DataObject, ng: bool) -> None:
        written = records(60, 3)
        capture = pcapng(written) if ng else pcap(written)
        starts = sorted(data.draw(st.sets(st.integers(200, len(capture) - 1), max_size=4)))
        state = state_after(capture)
        assert state is not None
        whole, reader = read(capture)
        found, facts, dropped = in_parts(capture, starts, state)
        assert found == whole
        assert facts == reader.facts
        assert dropped == sum(start not in {one.position for one in whole} for start in starts)

    def test_a_capture_within_a_capture(self) -> None:
        """The guess falls into what was sent, which is a capture too: it is dropped."""
        inner = pcap(records(400, 4))
        data = pcap([Written(AT, bytes(100), 100), Written(AT, inner, len(inner)), Written(AT, b"last", 4)])
        state = state_after(data)
        assert state is not None
        offset = len(data) // 2 & ~3
        place = guess(data, state, data[offset:])
        assert place >= 0
        found, facts, dropped = in_parts(data, [offset + place], state)
        assert (found, facts, dropped) == (*[read(data)[0], read(data)[1].facts], 1)

    def test_interfaces_that_come_late(self) -> None:
        """The second part would not know them: it is read again."""
        one = pcapng(records(200, 5))
        late = Pcapng().interface(101).packet(b"raw", 7, 1).data
        other = Pcapng().packet(b"raw again", 8, 1).data
        data = one + late + other
        state = state_after(one)
        assert state is not None
        found, facts, dropped = in_parts(data, [len(one) + len(late)], state)
        assert (found, facts) == (read(data)[0], read(data)[1].facts)
        assert dropped == 1

    def test_drop_counts_come_together(self) -> None:
        body = pcapng(records(50, 6))
        half = body + Pcapng().statistics(0, 3).data
        data = half + body[len(Pcapng().section().data) + 32 :]
        facts = joined(
            [read(data, part=part)[1].facts for part in (Part(0, len(half)), Part(len(half), None, state_after(body)))]
        )
        assert facts.state.interfaces[0].dropped == 3

    def test_behind_damage_nothing_follows(self) -> None:
        data = pcap(records(10, 7)) + b"\xff" * 40
        facts = read(data)[1].facts
        assert facts.damaged
        assert not follows(facts, Part(facts.reached, None, facts.state))

    @pytest.mark.parametrize(
        "head", [b"", b"\xd4\xc3\xb2\xa1", b"text", Pcapng().section().interface().data, Pcapng().section().data[:9]]
    )
    def test_a_file_that_is_not_cut(self, head: bytes) -> None:
        assert state_after(head) is None

    @pytest.mark.parametrize("window", [b"", bytes(50_000), random.Random(8).randbytes(50_000)])
    def test_nothing_is_found_in_rubbish(self, window: bytes) -> None:
        for data in (pcap(records(3, 9)), pcapng(records(3, 9))):
            state = state_after(data)
            assert state is not None
            assert guess(data, state, window + b"\0" * 40) == -1

    def test_a_reader_that_goes_on_knows_the_time(self) -> None:
        """Simple packets have none of their own."""
        data = Pcapng().section().interface().packet(b"x", 5).simple(b"y").data
        found, reader = read(data, part=Part(0, len(data) - 20))
        assert reader.facts.state.clock == 5000
        assert read(data, part=rest(reader.facts, Part()))[0][0].at == 5000
        assert len(found) == 1
