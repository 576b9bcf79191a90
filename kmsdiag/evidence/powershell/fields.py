"""Fields of JSON objects as PowerShell writes them: what does not fit becomes a line, and is read as missing."""

import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.names import LIST_LIMIT


class Fields:
    """Reads the fields of one JSON object; what does not fit is told to ``problems`` and read as missing."""

    def __init__(self, data: Mapping[str, Any], where: str, problems: list[str]) -> None:
        self.data = data
        self.where = where
        self.problems = problems

    def wrong(self, key: str, value: object) -> None:
        """Note a value that does not fit."""
        self.problems.append(ascii_text(f"{self.where}: {key} is {_shown(value)}"))

    def raw_text(self, key: str) -> str:
        """A text as it is, or ""."""
        value = self.data.get(key)
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return "\n".join(value)
        self.wrong(key, value)
        return ""

    def text(self, key: str, limit: int = 255) -> str:
        """A text in printable ASCII, or ""."""
        value = self.data.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return ascii_text(str(value), limit)
        text = self.raw_text(key).strip()
        if len(text) > limit:
            self.problems.append(f"{self.where}: {key} has {len(text)} characters, {limit} are kept")
        return ascii_text(text, limit)

    def number(self, key: str, most: int, least: int = 0, missing: int = 0) -> int:
        """A number, or ``missing``. The registry keeps some as text."""
        value = self.data.get(key)
        if value is None or value == "":
            return missing
        if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,12}\s*", value, re.ASCII):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and least <= value <= most:
            return int(value)
        self.wrong(key, value)
        return missing

    def flag(self, key: str) -> bool | None:
        """Yes or no, or None where it is not said."""
        value = self.data.get(key)
        if value is None or value == "":
            return None
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        return bool(self.number(key, 0xFFFF_FFFF))

    def code(self, key: str) -> str:
        """An HRESULT as 0x text; "" for 0."""
        value = self.data.get(key)
        if isinstance(value, str) and re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}", value):
            value = int(value, 16)
        elif value is not None:
            value = self.number(key, 0xFFFF_FFFF, -0x8000_0000)
        return f"0x{value & 0xFFFF_FFFF:08X}" if value else ""

    def object(self, key: str) -> "Fields":
        """A nested object; empty where it is missing. A list of one object is that object."""
        value = self.data.get(key)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if value is not None and not isinstance(value, dict):
            self.wrong(key, value)
        return Fields(value if isinstance(value, dict) else {}, key, self.problems)

    def items(self, key: str, most: int = LIST_LIMIT) -> list[Any]:
        """A list; PowerShell writes one element without the list, and some lists as ``{"value": [], "Count": n}``."""
        value = self.data.get(key)
        if isinstance(value, dict) and value.keys() == {"value", "Count"}:
            value = value["value"]
        if value is None:
            return []
        found = value if isinstance(value, list) else [value]
        if len(found) > most:
            self.problems.append(f"{self.where}: {key} has {len(found)} entries, {most} are kept")
        return found[:most]

    def objects(self, key: str, name: str, most: int = LIST_LIMIT) -> Iterator["Fields"]:
        """A list of objects."""
        for number, value in enumerate(self.items(key, most), 1):
            if isinstance(value, dict):
                yield Fields(value, f"{name} {number}", self.problems)
            elif value is not None:
                self.wrong(f"{name} {number}", value)

    def texts(self, key: str) -> list[str]:
        """A list of texts."""
        found = []
        for value in self.items(key):
            if isinstance(value, str):
                found.append(value)
            elif value is not None:
                self.wrong(key, value)
        return found

    def time(self, key: str) -> datetime.datetime | None:
        """A time in UTC: ISO 8601, ``/Date(milliseconds)/``, or an object with either as ``value``."""
        value = self.data.get(key)
        if isinstance(value, dict):
            value = value.get("value", value.get("DateTime"))
        found = parse_time(value) if isinstance(value, str) else None
        if found is None:
            self.wrong(key, value)
        return found


def _shown(value: object) -> str:
    if isinstance(value, Mapping | list):
        return "an object" if isinstance(value, Mapping) else "a list"
    return ascii_text(repr(value), 60)


def parse_time(text: str) -> datetime.datetime | None:
    """A time as ``ConvertTo-Json`` writes it (ISO 8601 or ``/Date(milliseconds)/``) in UTC, None where it is none."""
    ticks = re.fullmatch(r"/Date\((-?[0-9]{1,15})(?:[+-][0-9]{4})?\)/", text)
    try:
        if ticks is not None:
            return datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(milliseconds=int(ticks[1]))
        # .NET writes seven digits of a second, Python reads six.
        found = datetime.datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text))
        if found.tzinfo is None:
            found = found.replace(tzinfo=datetime.UTC)
        return found.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return None
