"""Points in time as people type them."""

import datetime
import re

from kmsdiag.cli.errors import UsageProblem

_BEFORE = re.compile(r"-(\d+)([smhd])")
_TIME = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def moment(text: str, option: str) -> datetime.datetime:
    """A point in time, in UTC: ISO 8601 (local time unless it says otherwise), a time of today, or "-2h" before now.

    Raises:
        UsageProblem: none of these.
    """
    now = datetime.datetime.now(datetime.UTC)
    before = _BEFORE.fullmatch(text)
    try:
        if before is not None:
            return now - datetime.timedelta(seconds=int(before[1]) * _UNITS[before[2]])
        if _TIME.fullmatch(text):
            text = f"{now.astimezone():%Y-%m-%d}T{text.zfill(len(text) + (text.index(':') == 1))}"
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise UsageProblem(
            f"{option} {text!r} is no time: give 2026-11-24, 2026-11-24T08:00, 2026-11-24T08:00Z, 08:00 or -2h"
        ) from None
