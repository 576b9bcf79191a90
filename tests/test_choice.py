import itertools
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag import choice
from kmsdiag.model.answer import SrvRecord
from tests.conftest import record


def group(*weights: int) -> list[SrvRecord]:
    """Records of one priority, one host each."""
    return [record(f"kms{number}", weight=weight) for number, weight in enumerate(weights)]


def rfc_2782(order: Sequence[SrvRecord]) -> list[Fraction]:
    """First picks by the algorithm as it stands in RFC 2782, every draw enumerated.

    "To select a target to be contacted next, arrange all SRV RRs (that have not been ordered yet) in any order, except
    that all those with weight 0 are placed at the beginning of the list. Compute the sum of the weights of those RRs,
    and with each RR associate the running sum in the selected order. Then choose a uniform random number between 0 and
    the sum computed (inclusive), and select the RR whose running sum value is the first in the selected order which is
    greater than or equal to the random number selected."
    """
    listed = sorted(range(len(order)), key=lambda index: order[index].weight != 0)
    total = sum(one.weight for one in order)
    picks = [0] * len(order)
    for number in range(total + 1):
        running = 0
        for index in listed:
            running += order[index].weight
            if running >= number:
                picks[index] += 1
                break
    return [Fraction(count, total + 1) for count in picks]


def over_all_orders(records: Sequence[SrvRecord]) -> list[list[Fraction]]:
    """For each record, its chance in every order in which the list may stand before the draw."""
    chances: list[list[Fraction]] = [[] for _ in records]
    for order in itertools.permutations(range(len(records))):
        for place, chance in zip(order, rfc_2782([records[index] for index in order]), strict=True):
            chances[place].append(chance)
    return chances


weights = st.lists(st.integers(0, 6), min_size=1, max_size=4)
record_lists = st.lists(
    st.builds(
        SrvRecord,
        priority=st.integers(0, 3),
        weight=st.one_of(st.just(0), st.integers(0, 65535)),
        port=st.just(1688),
        target=st.sampled_from(["kms1.contoso.example", "kms2.contoso.example", "kms3.contoso.example"]),
        ttl=st.just(3600),
    ),
    min_size=1,
    max_size=12,
)


@given(weights)
def test_a_group_with_a_zero_weight_is_drawn_as_the_rfc_says(values: list[int]) -> None:
    """The order of the list does not matter then, but for which of several zero weights comes first."""
    records = group(0, *values)
    mean = [sum(chances) / len(chances) for chances in over_all_orders(records)]
    assert choice.first_pick_ranked(records) == pytest.approx([float(chance) for chance in mean])


@given(weights.filter(all))
def test_a_group_without_a_zero_weight_is_within_what_the_rfc_leaves_open(values: list[int]) -> None:
    """The draw of 0 goes to the first in the list; the list's order is free, and so is one chance in sum + 1."""
    records = group(*values)
    for chances, found in zip(over_all_orders(records), choice.first_pick_ranked(records), strict=True):
        assert float(min(chances)) - 1e-12 <= found <= float(max(chances)) + 1e-12


@given(weights.filter(all))
def test_a_group_without_a_zero_weight_shares_by_weight(values: list[int]) -> None:
    shares = choice.first_pick_ranked(group(*values))
    assert shares == pytest.approx([value / sum(values) for value in values])


@given(record_lists)
def test_probabilities_sum_to_one(records: list[SrvRecord]) -> None:
    for chances in (choice.first_pick_ranked(records), choice.first_pick_random(records)):
        assert len(chances) == len(records)
        assert sum(chances) == pytest.approx(1)
        assert all(0 <= chance <= 1 for chance in chances)


@given(record_lists)
def test_only_the_best_priority_is_picked_and_all_of_it(records: list[SrvRecord]) -> None:
    best = min(one.priority for one in records)
    for one, chance in zip(records, choice.first_pick_ranked(records), strict=True):
        assert (chance > 0) is (one.priority == best)


@given(st.permutations(list(enumerate([(0, 0), (0, 5), (0, 0), (0, 40), (1, 9)]))))
def test_the_order_of_the_records_does_not_matter(order: list[tuple[int, tuple[int, int]]]) -> None:
    records = [record(f"kms{number}", priority, weight) for number, (priority, weight) in order]
    chances = {one.target: chance for one, chance in zip(records, choice.first_pick_ranked(records), strict=True)}
    in_order = [chances[f"kms{number}.contoso.example"] for number in range(5)]
    assert in_order == pytest.approx([0.5 / 46, 5 / 46, 0.5 / 46, 40 / 46, 0])


@given(record_lists)
def test_more_weight_never_means_fewer_picks(records: list[SrvRecord]) -> None:
    best = min(one.priority for one in records)
    chances = choice.first_pick_ranked(records)
    ranked = sorted((one.weight, chance) for one, chance in zip(records, chances, strict=True) if one.priority == best)
    assert all(lighter[1] <= heavier[1] + 1e-12 for lighter, heavier in itertools.pairwise(ranked))


@given(st.lists(st.integers(1, 65535), min_size=1, max_size=5), st.integers(1, 4))
def test_zero_weights_are_rare_but_possible(values: list[int], zeros: int) -> None:
    """Together they have one chance in sum + 1, shared equally; the RFC wants it very small."""
    chances = choice.first_pick_ranked(group(*[0] * zeros, *values))[:zeros]
    assert sum(chances) == pytest.approx(1 / (sum(values) + 1))
    assert min(chances) == max(chances) > 0


@given(record_lists)
def test_ignoring_ranks_gives_each_record_the_same(records: list[SrvRecord]) -> None:
    assert set(choice.first_pick_random(records)) == {1 / len(records)}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], []),
        (group(0), [1.0]),
        (group(0, 0, 0, 0), [0.25] * 4),
        (group(75, 25), [0.75, 0.25]),
        (group(0, 1), [0.5, 0.5]),
        (group(0, 99), [0.01, 0.99]),
        ([record("kms1", 10, 100), record("kms2", 0, 0)], [0.0, 1.0]),
        ([record("kms1", 10), record("kms2", 5), record("kms3", 5)], [0.0, 0.5, 0.5]),
        ([record("kms1", weight=1), record("kms1", weight=1), record("kms2", weight=2)], [0.25, 0.25, 0.5]),
    ],
)
def test_examples(records: list[SrvRecord], expected: list[float]) -> None:
    assert choice.first_pick_ranked(records) == pytest.approx(expected)
