"""Whose clock is how far from whose: what machines have said so far, the best of it, and which hosts refuse clients."""

import msgspec
import pytest

from kmsdiag import clocks
from kmsdiag.clocks import Machine
from kmsdiag.knowledge.limits import CLOCK_TOLERANCE
from kmsdiag.model.outcome import ClockOutcome
from kmsdiag.model.request import ClockQuery, ClockSource
from kmsdiag.model.target import Subject, SubjectKind
from tests.conftest import DOMAIN, World, record

SUBJECT = Subject(SubjectKind.DOMAIN, DOMAIN)
DC, K1, K2 = "10.1.0.2", "10.1.0.8", "10.1.0.9"
HOUR = 3600.0


def world(**offsets: float | None) -> World:
    """Two hosts, published by one DNS server; each tells its time by NTP, or not at all (None)."""
    found = World(DOMAIN, servers=(DC,)).srv(record("kms1"), record("kms2"), server=DC)
    found.name("kms1", K1, server=DC).name("kms2", K2, server=DC)
    for name, address in (("dc", DC), ("kms1", K1), ("kms2", K2)):
        for source in ClockSource:
            found.clock(address, None, source)
        found.clock(address, offsets.get(name))
    return found


class TestReadings:
    def test_each_machine_by_each_source(self) -> None:
        read = clocks.readings(SUBJECT, world(kms1=1.0).evidence())
        assert [reading.machine for reading in read] == [
            Machine(f"kms1.{DOMAIN}", K1, is_host=True),
            Machine(f"kms2.{DOMAIN}", K2, is_host=True),
            Machine(DC, DC, is_host=False),
        ]
        assert all(reading.complete for reading in read)
        assert [[query.source for query, _answer in reading.answers] for reading in read] == [list(ClockSource)] * 3
        assert [[query.source for query, _answer in reading.told] for reading in read] == [[ClockSource.NTP], [], []]

    def test_a_source_that_was_not_heard_is_left_out(self) -> None:
        seen = world(kms1=1.0)
        del seen.facts[ClockQuery(address=K1, source=ClockSource.SMB2)]
        first, second, _server = clocks.readings(SUBJECT, seen.evidence())
        assert not first.complete
        assert [query.source for query, _answer in first.answers] == [ClockSource.NTP, ClockSource.HTTP]
        assert second.complete


class TestClock:
    def clock(self, seen: World) -> clocks.Clock | None:
        return clocks.clock_of(clocks.readings(SUBJECT, seen.evidence())[0])

    def test_none_where_no_time_was_told(self) -> None:
        assert self.clock(world().clock(K1, None, outcome=ClockOutcome.UNSYNCHRONISED)) is None

    def test_the_most_exact_source_speaks_and_all_are_named(self) -> None:
        found = self.clock(world().clock(K1, 2.0, ClockSource.HTTP, error=0.6).clock(K1, 1.5, ClockSource.SMB2))
        assert found is not None
        assert (found.source, found.offset, found.error, found.sure) == (ClockSource.SMB2, 1.5, 0.1, True)
        assert found.because == tuple(
            ClockQuery(address=K1, source=one) for one in (ClockSource.SMB2, ClockSource.HTTP)
        )

    @pytest.mark.parametrize(("other", "sure"), [(1.15, True), (1.25, False), (-1.25, False)])
    def test_sure_where_sources_agree_within_their_error_bars_and_a_second(self, other: float, *, sure: bool) -> None:
        found = self.clock(world().clock(K1, 0.0, ClockSource.SMB2).clock(K1, other, ClockSource.HTTP))
        assert found is not None
        assert found.sure is sure


class TestRefusing:
    def found(self, seen: World) -> dict[str, float]:
        return clocks.refusing(SUBJECT, seen.evidence())

    def test_a_host_is_held_against_the_dns_server(self) -> None:
        assert self.found(world(dc=5 * HOUR, kms1=5 * HOUR, kms2=0.0)) == {K2: -5 * HOUR}

    def test_this_machine_stands_for_a_server_that_tells_no_time(self) -> None:
        assert self.found(world(kms1=5 * HOUR, kms2=0.0)) == {K1: 5 * HOUR}

    def test_the_error_bars_count(self) -> None:
        assert self.found(world(dc=0.0, kms1=CLOCK_TOLERANCE + 0.15, kms2=0.0)) == {}
        assert self.found(world(dc=0.0, kms1=CLOCK_TOLERANCE + 0.25, kms2=0.0)) == {K1: CLOCK_TOLERANCE + 0.25}

    def test_where_all_others_agree_this_machine_is_wrong(self) -> None:
        assert self.found(world(kms1=5 * HOUR, kms2=5 * HOUR)) == {}

    @pytest.mark.parametrize("address", [DC, K1, K2])
    def test_nothing_is_said_while_a_question_is_open(self, address: str) -> None:
        seen = world(dc=0.0, kms1=5 * HOUR, kms2=0.0)
        del seen.facts[ClockQuery(address=address, source=ClockSource.HTTP)]
        assert self.found(seen) == {}

    def test_nothing_is_said_while_a_dns_server_is_not_heard(self) -> None:
        # Its clock is not known, and may agree with the host's: then it is this machine that is wrong.
        seen = world(dc=0.0, kms1=5 * HOUR, kms2=0.0)
        seen.target = msgspec.structs.replace(seen.target, servers=(DC, "10.1.0.3"))
        assert self.found(seen) == {}

    def test_a_machine_whose_sources_disagree_is_not_judged(self) -> None:
        assert self.found(world(dc=0.0, kms1=5 * HOUR, kms2=0.0).clock(K1, 0.0, ClockSource.HTTP)) == {}

    def test_no_machine(self) -> None:
        assert self.found(World(DOMAIN, servers=(DC,)).srv(server=DC)) == {}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "+0 min 0 s"), (-61.0, "-1 min 1 s"), (3599.6, "+1 h 0 min"), (-5 * HOUR - 90, "-5 h 1 min")],
)
def test_in_words(seconds: float, words: str) -> None:
    assert clocks.in_words(seconds) == words
