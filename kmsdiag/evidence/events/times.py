"""Times of event records, as programs of Windows write them: ISO 8601, regional formats, and JSON of PowerShell 5.1.

All are µs since 1970, UTC. A time without a zone is taken for UTC; a client's own clock, which is UTC and stands in
most activation events, tells whether day or month comes first.
"""

import datetime
import re
from typing import Final

SECOND: Final = 1_000_000
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
_CACHED: Final = 100_000

_DATE: Final = re.compile(r"([0-9]{1,4})[./-] ?([0-9]{1,2})[./-] ?([0-9]{1,4})\.?,?\Z")
_TIME: Final = re.compile(
    r"(?P<before>[^0-9:]{0,6}?)\s*(?P<hour>[0-9]{1,2})[:.](?P<minute>[0-9]{2})(?:[:.](?P<second>[0-9]{2})"
    r"(?:[.,](?P<fraction>[0-9]{1,9}))?)?\s*(?:(?P<zone>Z|UTC|[+-][0-9]{2}:?[0-9]{2})|(?P<after>[^0-9:]{1,6}))?\s*\Z"
)
_SPLIT: Final = re.compile(r"\s*([0-9]{1,4}[./-] ?[0-9]{1,2}[./-] ?[0-9]{1,4}\.?,?)[T\s]+(.{4,40}?)\s*\Z", re.DOTALL)
_JSON_DATE: Final = re.compile(r"\s*\\?/Date\((-?[0-9]{1,16})(?:[+-][0-9]{4})?\)\\?/\s*\Z")
_BEFORE_NOON: Final = frozenset({"am", "πμ", "上午", "오전", "午前"})
_AFTER_NOON: Final = frozenset({"pm", "μμ", "下午", "오후", "午後"})


def microseconds(at: datetime.datetime) -> int:
    """µs since 1970 of a time."""
    return (at - _EPOCH) // _MICROSECOND


def moment(at: int) -> datetime.datetime:
    """The time of µs since 1970; the bounds of what a datetime can hold where it is beyond them."""
    return _EPOCH + datetime.timedelta(microseconds=min(max(at, _LEAST), _MOST))


_LEAST: Final = microseconds(datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC))
_MOST: Final = microseconds(datetime.datetime(9998, 1, 1, tzinfo=datetime.UTC))


def iso_time(text: str) -> int | None:
    """A time as event logs have it, ``2026-11-24T12:00:00.1230000Z``; None for any other."""
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.UTC)
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


class Times:
    """Reads the times of one file. ``assumed``: one without a zone was taken for UTC; ``unread`` counts failures.

    ``days`` and ``clocks`` are the dates and times of day met so far, as they were written, and ``between`` is what
    stands between them: of a known one, the time is the sum of both.
    """

    def __init__(self) -> None:
        self.assumed = False
        self.unread = 0
        self.between = " "
        self.days: dict[str, int] = {}
        self.clocks: dict[str, int] = {}
        self._day_first: bool | None = None

    def read(self, text: str, client: datetime.datetime | None = None) -> int | None:
        """A time; ``client`` is the client's clock in the same event, where it has one."""
        day, _, clock = text.partition(self.between)
        try:
            return self.days[day] + self.clocks[clock]
        except KeyError:
            return self._slowly(text, client)

    def _slowly(self, text: str, client: datetime.datetime | None) -> int | None:
        found = _JSON_DATE.match(text)
        if found is not None:
            at = int(found[1]) * 1000
            return at if _LEAST <= at <= _MOST else None
        parts = _SPLIT.match(text[:100])
        day = self._day(parts[1], client) if parts is not None else None
        time = self._time(parts[2]) if parts is not None else None
        if parts is None or day is None or time is None:
            self.unread += bool(text.strip())
            return None
        # The whole text's halves are what the next look-up will ask for.
        self.between = "T" if text[10:11] == "T" else " "
        key, _, rest = text.partition(self.between)
        if key.strip() == parts[1] and rest.strip() == parts[2]:
            for cache in (self.days, self.clocks):
                if len(cache) >= _CACHED:
                    cache.clear()
            self.days[key] = day
            self.clocks[rest] = time
        return day + time

    def _day(self, text: str, client: datetime.datetime | None) -> int | None:
        found = _DATE.match(text)
        if found is None:
            return None
        first, second, third = int(found[1]), int(found[2]), int(found[3])
        if len(found[1]) > 2:
            return _date(first, second, third)
        year = third + 2000 if third < 100 else third
        day_first, month_first = _date(year, second, first), _date(year, first, second)
        if day_first is None or month_first is None:
            certain = day_first is not None
        elif client is not None:
            at = microseconds(client)
            certain = abs(day_first - at) < abs(month_first - at)
        elif "." in text:
            certain = True
        else:
            certain = bool(self._day_first)
            return day_first if certain else month_first
        if day_first != month_first:
            self._day_first = certain
        return day_first if certain else month_first

    def _time(self, text: str) -> int | None:
        found = _TIME.match(text)
        if found is None:
            return None
        hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"] or 0)
        half = re.sub(r"[.\s\u202f]", "", found["after"] or found["before"] or "").lower()
        if half in _AFTER_NOON:
            hour = hour % 12 + 12
        elif half in _BEFORE_NOON:
            hour %= 12
        if hour > 23 or minute > 59 or second > 60:
            return None
        at = ((hour * 60 + minute) * 60 + second) * SECOND + int((found["fraction"] or "0")[:6].ljust(6, "0"))
        zone = found["zone"]
        if zone is None:
            self.assumed = True
        elif zone not in ("Z", "UTC"):
            offset = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
            at -= (offset if zone[0] == "+" else -offset) * SECOND
        return at


def _date(year: int, month: int, day: int) -> int | None:
    try:
        return microseconds(datetime.datetime(year, month, day, tzinfo=datetime.UTC)) if year >= 1601 else None
    except ValueError:
        return None
