"""Digests come to the same in any order and any number of pieces, and their tables say what the rows do."""

import datetime
import itertools
import random
from collections.abc import Iterable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.capture import tables as tables_module
from kmsdiag.capture.digest import (
    EXAMPLES,
    EXCHANGE,
    NAMES,
    ROW,
    Digest,
    exchanges_of,
    frame_of,
    microseconds,
    moment,
    row_of,
    version_code,
    version_text,
)
from kmsdiag.capture.found import Discovery
from kmsdiag.capture.selection import Chooser
from kmsdiag.capture.tables import Tables, tabulate
from kmsdiag.model.capture import Conversation, Exchange, Frame, Lack
from kmsdiag.model.outcome import ConversationOutcome as Outcome
from kmsdiag.model.target import Selection
from kmsdiag.wire.frames import ref_of

AT = datetime.datetime(2026, 5, 28, 20, 0, tzinfo=datetime.UTC)


def conversation(
    number: int, outcome: Outcome = Outcome.ACTIVATED, *, after: float = 0, **more: object
) -> Conversation:
    """A conversation whose first frame has this number."""
    fields: dict[str, object] = {
        "number": 0,
        "tap": 0,
        "client": "192.0.2.10",
        "client_port": 50_000,
        "host": "198.51.100.20",
        "host_port": 1688,
        "started": AT + datetime.timedelta(seconds=after),
        "ended": AT + datetime.timedelta(seconds=after + 1),
        "first": Frame(0, number),
        "last": Frame(0, number + 9),
        "outcome": outcome,
        **more,
    }
    return msgspec.convert(fields, Conversation)


def exchange(hresult: str = "0x00000000", **more: object) -> Exchange:
    return msgspec.convert({"outcome": Outcome.ACTIVATED, "version": "6.0", "hresult": hresult, **more}, Exchange)


def digest(conversations: Iterable[Conversation], selection: Selection | None = None) -> Digest:
    found = Digest(Chooser(selection))
    for one in conversations:
        if found.add(one) and found.wants(one):
            found.keep(one)
    return found


def tables(conversations: Iterable[Conversation]) -> Tables:
    return tabulate(digest(conversations), Discovery((), 0, has_dns=False), microseconds(AT) + 10**9)


def many(seed: int, count: int = 40) -> list[Conversation]:
    chance = random.Random(seed)
    outcomes = list(Outcome)
    return [
        conversation(
            number * 10 + 1,
            chance.choice(outcomes),
            after=chance.randrange(5_000),
            client=f"192.0.2.{chance.randrange(5)}",
            host=chance.choice(("198.51.100.20", "2001:db8::20")),
            exchanges=[exchange(chance.choice(("0x00000000", "0xC004F042")), elapsed_ms=chance.randrange(9_000) / 1000)]
            * chance.randrange(3),
        )
        for number in range(count)
    ]


class TestPieces:
    @settings(max_examples=40)
    @given(st.integers(0, 1000), st.randoms(use_true_random=False))
    def test_neither_order_nor_pieces_matter(self, seed: int, chance: random.Random) -> None:
        conversations = many(seed)
        expected = tables(conversations)
        chance.shuffle(conversations)
        cuts = sorted(chance.sample(range(len(conversations)), 3))
        pieces = [conversations[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(conversations)])]
        whole = Digest()
        for piece in pieces:
            whole.merge(digest(piece))
        assert tabulate(whole, Discovery((), 0, has_dns=False), microseconds(AT) + 10**9) == expected
        assert whole.examples == digest(many(seed)).examples

    def test_rows_and_conversations_are_the_same(self) -> None:
        conversations = many(5)
        one, other = digest(conversations), Digest()
        rows = np.array([row_of(conversation) for conversation in conversations], ROW)
        exchanges = [row for each in conversations for row in exchanges_of(each, ref_of(0, each.first.number))]
        accepted = other.add_rows(rows, np.array(exchanges, EXCHANGE))
        assert accepted.all()
        assert other.rows().tolist() == one.rows().tolist()
        assert str(other.exchanges().tolist()) == str(one.exchanges().tolist())

    def test_moved_digests_name_other_frames(self) -> None:
        by = ref_of(3, 100)
        moved = digest(many(5)).moved(by)
        assert moved.rows()["ref"].tolist() == [ref + by for ref in digest(many(5)).rows()["ref"].tolist()]
        for examples in moved.examples.values():
            for ref, one in examples.items():
                assert one.first == frame_of(ref)
                assert one.last == Frame(3, one.first.number + 9)


class TestExamples:
    def test_the_first_of_each_outcome(self) -> None:
        found = digest(conversation(number, outcome) for number in (9, 5, 7, 1, 3) for outcome in (Outcome.REFUSED,))
        assert sorted(found.examples[Outcome.REFUSED]) == [ref_of(0, number) for number in (1, 3, 5)]
        assert EXAMPLES == 3
        assert not found.wants(conversation(6, Outcome.REFUSED))
        assert found.wants(conversation(2, Outcome.REFUSED))

    def test_rows_that_are_wanted(self) -> None:
        found = digest([conversation(4), conversation(6)])
        rows = np.array([row_of(conversation(number)) for number in (9, 3, 8, 5, 7)], ROW)
        assert found.wanted(rows) == [1, 3, 4], "of the batch the first three, of which two are among the first in all"
        found = digest([conversation(1), conversation(2), conversation(4)])
        assert found.wanted(rows) == [1]

    def test_sought_conversations_are_kept(self) -> None:
        found = Digest(sought=frozenset({ref_of(0, 50)}))
        for number in range(1, 100, 7):
            one = conversation(number)
            if found.add(one) and found.wants(one):
                found.keep(one)
        assert list(found.kept) == [ref_of(0, 50)]

    def test_those_that_were_never_walked_are_missing(self) -> None:
        found = Digest()
        found.add_rows(np.array([row_of(conversation(number)) for number in (1, 2, 3, 4)], ROW), np.empty(0, EXCHANGE))
        found.keep(conversation(2))
        assert found.missing_examples() == {ref_of(0, 1), ref_of(0, 3)}


class TestSelection:
    def test_numbers_count_all(self) -> None:
        found = digest(many(3), Selection(clients=("192.0.2.1",)))
        assert len(found.first_frames()) == 40
        assert 0 < len(found.rows()) < 40

    def test_dropped_ones_keep_or_lose_their_numbers(self) -> None:
        for numbered in (True, False):
            found = digest([conversation(1), conversation(5), conversation(9)])
            found.drop(np.array([False, True, False]), numbered=numbered)
            assert len(found.rows()) == 2
            assert len(found.first_frames()) == (3 if numbered else 2)
            assert sorted(found.examples[Outcome.ACTIVATED]) == [ref_of(0, 1), ref_of(0, 9)]


class TestTables:
    def test_attempts_and_their_spacing(self) -> None:
        times = [0, 0.5, 59, 7_200, 7_230, 14_400]
        (client,) = tables(
            conversation(number, Outcome.REFUSED, after=at) for number, at in enumerate(times, 1)
        ).clients
        (use,) = client.uses
        assert (use.conversations, use.attempts) == (6, 3)
        assert use.spacing_s is not None
        assert (use.spacing_s.values, use.spacing_s.least, use.spacing_s.greatest) == (2, 7_200, 7_200)
        assert (use.first, use.last) == (AT, AT + datetime.timedelta(seconds=14_400))

    def test_quantiles_are_values_that_occur(self) -> None:
        conversations = [
            conversation(number, exchanges=[exchange(elapsed_ms=number / 10)], connect_ms=number * 1.5)
            for number in range(1, 101)
        ]
        (host,) = tables(conversations).hosts
        assert host.answer_ms == msgspec.convert(
            {"values": 100, "least": 0.1, "median": 5.0, "p95": 9.5, "greatest": 10.0}, type(host.answer_ms)
        )
        assert host.connect_ms is not None
        assert host.connect_ms.median == 75

    def test_hosts_add_up(self) -> None:
        found = tables(
            [
                conversation(1, exchanges=[exchange(), exchange("0xC004F042", version="5.0")]),
                conversation(2, Outcome.HOST_REFUSED, client="192.0.2.11", exchanges=[exchange("0xC004F042")]),
                conversation(3, Outcome.REFUSED, host="10.0.0.1", retransmissions=2),
                conversation(4, Outcome.REFUSED, host="2001:db8::1"),
            ]
        )
        assert [host.address for host in found.hosts] == ["10.0.0.1", "198.51.100.20", "2001:db8::1"]
        host = found.hosts[1]
        assert (host.clients, host.conversations, host.exchanges) == (2, 2, 3)
        assert host.hresults == {"0x00000000": 1, "0xC004F042": 2}
        assert host.versions == {"5.0": 1, "6.0": 2}
        assert host.outcomes == {"host_refused": 1, "activated": 1}
        assert host.numbers == (2,), "examples are of failing ones"
        assert (host.speaks_kms, found.hosts[0].speaks_kms) == (True, False)
        assert found.hosts[0].retransmissions == 2
        assert found.outcomes == {"refused": 2, "host_refused": 1, "activated": 1}

    def test_version_4_counts(self) -> None:
        (host,) = tables(
            conversation(number, exchanges=[exchange(version="4.0", required=25, count=count)])
            for number, count in enumerate((10, 24, 25, 50), 1)
        ).hosts
        assert (host.required, host.below) == ((25,), 2)
        assert host.count is not None
        assert (host.count.least, host.count.greatest) == (10, 50)

    def test_clients(self) -> None:
        found = tables(
            [
                conversation(1, exchanges=[exchange(machine="B", client_machine_id="x", skew_s=5.0)]),
                conversation(5, exchanges=[exchange(machine="A", client_machine_id="x", skew_s=7.5)], after=10),
                conversation(9, Outcome.REFUSED, after=5, host="10.0.0.1"),
                conversation(13, client="9.0.0.1"),
            ]
        )
        assert [client.address for client in found.clients] == ["9.0.0.1", "192.0.2.10"]
        client = found.clients[1]
        assert (client.machines, client.machine_ids, client.skew_s) == (("B", "A"), ("x",), 5.0)
        assert client.last is Outcome.ACTIVATED
        assert [use.address for use in client.uses] == ["10.0.0.1", "198.51.100.20"]

    def test_only_the_first_names_are_kept(self) -> None:
        named = [conversation(number, exchanges=[exchange(machine=f"PC{number}")]) for number in range(1, 20)]
        random.Random(1).shuffle(named)
        (client,) = tables(named).clients
        assert client.machines == tuple(f"PC{number}" for number in range(1, NAMES + 1))

    def test_lacks_are_counted(self) -> None:
        found = tables([conversation(1, lacks=[Lack.START, Lack.CUT]), conversation(2, lacks=[Lack.START])])
        assert found.lacking == {"start": 2, "cut": 1}

    def test_doubled_ones_do_not_count(self) -> None:
        found = digest([conversation(1), conversation(2, exchanges=[exchange()])])
        mask = np.array([False, True])
        (host,) = tabulate(found, Discovery((), 0, has_dns=False), 0, mask).hosts
        assert (host.conversations, host.exchanges, host.numbers) == (1, 0, (1,))

    def test_more_clients_than_can_be_listed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that only knocked are the first to be left out, and hosts count all."""
        monkeypatch.setattr(tables_module, "CLIENTS", 3)
        outcomes = [Outcome.UNANSWERED, Outcome.UNANSWERED, Outcome.ACTIVATED, Outcome.REFUSED, Outcome.HOST_REFUSED]
        found = tables(
            conversation(number, outcome, client=f"192.0.2.{number}", exchanges=[exchange()] * (number == 3))
            for number, outcome in enumerate(outcomes, 1)
        )
        assert [client.address for client in found.clients] == ["192.0.2.1", "192.0.2.3", "192.0.2.5"]
        assert found.clients[1].uses[0].hresults == {"0x00000000": 1}
        assert (found.hosts[0].clients, found.hosts[0].found_by) == (5, {"not_known": 5})
        assert not found.all_listed

    def test_nothing(self) -> None:
        assert tables([]) == Tables((), (), {}, {})


def test_versions_and_times_as_numbers() -> None:
    for version in ("", "4.0", "6.0", "5.12", "65535.65535"):
        assert version_text(version_code(version)) == version
    assert moment(microseconds(AT)) == AT


def test_odd_numbers_fit_into_a_row() -> None:
    one = conversation(1, retransmissions=70_000, exchanges=[exchange(required=2**32 - 1, count=2**32 - 1)])
    row = np.array([row_of(one)], ROW)
    assert row["retransmissions"][0] == 0xFFFF
    assert digest([one]).exchanges()["required"][0] == 0x7FFFFFFF


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_a_code(outcome: Outcome) -> None:
    assert tables([conversation(1, outcome)]).outcomes == {outcome.value: 1}
