import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.evidence.events.times import Times, iso_time, microseconds, moment

FIRST, LAST = (datetime.datetime.fromisoformat(text) for text in ("1601-01-02", "9000-01-01"))


def at(*parts: int) -> datetime.datetime:
    return datetime.datetime(*parts, tzinfo=datetime.UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "expected", "assumed"),
    [
        ("2026-11-24T12:00:01.1230000Z", at(2026, 11, 24, 12, 0, 1, 123_000), False),
        ("2026-11-24T12:00:01+01:00", at(2026, 11, 24, 11, 0, 1), False),
        ("2026-11-24T12:00:01.123", at(2026, 11, 24, 12, 0, 1, 123_000), True),
        ("/Date(1795521601000)/", at(2026, 11, 24, 12, 0, 1), False),
        (r"\/Date(1795521601000)\/", at(2026, 11, 24, 12, 0, 1), False),
        ("11/24/2026 12:00:01 AM", at(2026, 11, 24, 0, 0, 1), True),
        ("11/24/2026 1:00:01\u202fPM", at(2026, 11, 24, 13, 0, 1), True),
        ("24.11.2026 12:00:01", at(2026, 11, 24, 12, 0, 1), True),
        ("1.2.2026 12:00:01", at(2026, 2, 1, 12, 0, 1), True),
        ("2026/11/24 下午 02:00:01", at(2026, 11, 24, 14, 0, 1), True),
        ("24-11-2026 12:00", at(2026, 11, 24, 12, 0), True),
    ],
)
def test_times_are_read_in_many_formats(text: str, expected: datetime.datetime, assumed: bool) -> None:
    times = Times()
    # The second time it is known.
    assert [times.read(text), times.read(text)] == [microseconds(expected)] * 2
    assert times.assumed is assumed


@pytest.mark.parametrize("text", ["", "yesterday", "99.99.2026 10:00", "2026-11-24", "11/24/2026 25:00:00"])
def test_what_is_no_time_is_none(text: str) -> None:
    times = Times()
    assert times.read(text) is None
    assert times.unread == bool(text)


def test_the_clients_clock_tells_day_from_month() -> None:
    times = Times()
    assert times.read("03/04/2026 10:00:00", at(2026, 4, 3, 9, 0)) == microseconds(at(2026, 4, 3, 10))
    assert times.read("05/06/2026 10:00:00") == microseconds(at(2026, 6, 5, 10))
    assert Times().read("05/06/2026 10:00:00") == microseconds(at(2026, 5, 6, 10))


@given(st.datetimes(min_value=FIRST, max_value=LAST))
def test_times_of_logs_are_read_as_they_were_written(when: datetime.datetime) -> None:
    when = when.replace(tzinfo=datetime.UTC)
    text = f"{when:%Y-%m-%dT%H:%M:%S.%f}0Z".rjust(28, "0")
    found = iso_time(text)
    assert found is not None
    assert moment(found) == when
    assert Times().read(text) == found


@given(st.text(max_size=60))
def test_no_text_makes_it_raise(text: str) -> None:
    Times().read(text)
    iso_time(text)
