"""Many machines in one finding: who, which products, from when to when."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.collected import Machine, NamedBy
from kmsdiag.grouping import Groups, some, span, who
from kmsdiag.model.request import Status
from kmsdiag.model.target import StatusFile

A, B = Status(file=StatusFile(label="a.txt")), Status(file=StatusFile(label="b.txt"))


def machines(number: int, by: NamedBy = NamedBy.INSIDE) -> list[Machine]:
    return [Machine(f"pc{index}", by, (), ()) for index in range(1, number + 1)]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (machines(1), "pc1"),
        (machines(1, NamedBy.FOLDER), "pc1 (assumed from the folder)"),
        (machines(2), "2 machines (pc1, pc2)"),
        (machines(3), "3 machines (pc1, pc2, pc3)"),
        (machines(1204), "1,204 machines (pc1, pc2, pc3 and 1,201 more)"),
        (machines(2, NamedBy.FILE), "2 machines (pc1, pc2; names assumed)"),
    ],
)
def test_one_machine_reads_naturally_and_many_are_counted(found: list[Machine], words: str) -> None:
    assert who(found) == words


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (0, "an unknown time"),
        (1, "1 minute"),
        (119, "119 minutes"),
        (120, "2 hours"),
        (2879, "47 hours"),
        (2880, "2 days"),
        (259_200, "180 days"),
    ],
)
def test_a_span_has_the_unit_that_matters(minutes: int, words: str) -> None:
    assert span(minutes) == words


def test_a_list_is_sorted_and_short() -> None:
    assert some(["b", "a", "", "b"]) == ("a", "b")
    assert some("edcba") == ("a", "b", "c", "2 more")


def test_the_same_values_are_one_finding_and_others_another() -> None:
    groups, (one, two, three) = Groups(), machines(3)
    groups.add("late", one, (A,), reason="x")
    groups.add("late", two, (A, B), reason="x")
    groups.add("late", three, (B,), reason="y")
    found = [(finding.args["who"], finding.args["reason"], finding.because) for finding in groups.findings()]
    assert found == [("2 machines (pc1, pc2)", "x", (A, B)), ("pc3", "y", (B,))]


def test_a_machine_counts_once_however_many_products_it_has() -> None:
    groups, (one,) = Groups(), machines(1)
    groups.add("late", one, (A,), listed={"products": "Windows(R), Enterprise edition"})
    groups.add("late", one, (A,), listed={"products": "Office 21"})
    (finding,) = groups.findings()
    assert finding.args == {"who": "pc1", "products": "Office 21; Windows(R), Enterprise edition"}


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        ([0, 0], "an unknown time"),
        ([0, 2880], "2 days"),
        ([2880, 2881], "2 days"),
        ([2880, 14400], "2 to 10 days"),
        ([60, 14400], "60 minutes to 10 days"),
    ],
)
def test_minutes_become_a_range(minutes: list[int], words: str) -> None:
    groups = Groups()
    for machine, number in zip(machines(len(minutes)), minutes, strict=True):
        groups.add("late", machine, (A,), minutes={"left": number})
    (finding,) = groups.findings()
    assert finding.args["left"] == words


def test_dates_become_a_range_or_nothing() -> None:
    day = datetime.datetime(2026, 1, 5, 8, tzinfo=datetime.UTC)
    groups, (one, two, three) = Groups(), machines(3)
    groups.add("late", one, (A,), until={"ends": None}, number=0)
    groups.add("late", one, (A,), until={"ends": day}, number=1)
    groups.add("late", two, (A,), until={"ends": day}, number=2)
    groups.add("late", three, (A,), until={"ends": day + datetime.timedelta(days=3)}, number=2)
    ends = [finding.args["ends"] for finding in groups.findings()]
    assert ends == ["", " (until 2026-01-05)", " (until 2026-01-05 to 2026-01-08)"]


@given(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=20))
def test_any_minutes_have_words(minutes: list[int]) -> None:
    groups = Groups()
    for machine, number in zip(machines(len(minutes)), minutes, strict=True):
        groups.add("late", machine, (A,), minutes={"left": number})
    (finding,) = groups.findings()
    assert str(finding.args["left"])
