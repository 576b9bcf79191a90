"""Whether the first bytes of a file are those of an event log: .evtx, or exported as XML, CSV or JSON.

These are tests for the first 4 KiB, UTF-8, UTF-16 or an 8-bit code page.
"""

import contextlib
import csv
import itertools
import re
from typing import Final

EVTX: Final = b"ElfFile\0"

_XML: Final = re.compile(
    r"\s*+(?:<\?xml[^>]*+>\s*+)?+(?:<!DOCTYPE[^>\[]*+(?:\[[^\]]*+\]\s*+)?+>\s*+|<!--(?:[^-]|-(?!->))*+-->\s*+)*+"
    r"(?:<Events\b[^>]*+>\s*+)?+<Event(?:\s[^>]*+)?>"
)
_JSON: Final = re.compile(r"\s*\[?\s*\{")
_JSON_KEYS: Final = (
    re.compile(r'"(?:ProviderName|LogName|MachineName)"\s*:'),
    re.compile(r'"(?:Id|EventID|InstanceId)"\s*:'),
)
_JSON_EVENT: Final = re.compile(
    r'"Event"\s*:\s*\{.{0,400}?"System"\s*:|"system"\s*:\s*\{.{0,400}?"event_id"\s*:', re.DOTALL
)
_TYPE: Final = re.compile(r"#TYPE [^\r\n]*EventLog(?:Record|Entry)")


def decoded(head: bytes) -> str:
    """The first bytes as text, whatever encoding they are in; "" where they are none."""
    encoding = encoding_of(head)
    return head[: len(head) & ~1 if "16" in encoding else None].decode(encoding, "replace").removeprefix("\ufeff")


def encoding_of(head: bytes) -> str:
    """The encoding of a text by its mark, else by its zeros, else UTF-8 where it is valid, else Windows-1252."""
    if head.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    even, odd = head[0:512:2], head[1:512:2]
    if odd and odd.count(0) > len(odd) // 2 > even.count(0):
        return "utf-16-le"
    if even and even.count(0) > len(even) // 2 > odd.count(0):
        return "utf-16-be"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return "cp1252"
    return "utf-8"


def is_evtx(head: bytes) -> bool:
    """A Windows event log."""
    return head.startswith(EVTX)


def is_event_xml(head: bytes) -> bool:
    """Events as XML: of Event Viewer (``Events``), or of ``wevtutil qe``, which writes them without a root."""
    return _XML.match(decoded(head)) is not None


def is_event_json(head: bytes) -> bool:
    """Events as JSON: ``Get-WinEvent | ConvertTo-Json``, or one object an event with its ``System`` part."""
    text = decoded(head)
    if _JSON.match(text) is None:
        return False
    return all(key.search(text) for key in _JSON_KEYS) or _JSON_EVENT.search(text) is not None


def is_event_csv(head: bytes) -> bool:
    """Events as CSV: ``Get-WinEvent | Export-Csv``, or Event Viewer's, whose header may be in any language."""
    text = decoded(head)
    return _TYPE.match(text) is not None or columns(text) is not None


class Columns:
    """Where a CSV file has what: the separator, and the columns (-1: it has none)."""

    def __init__(self, separator: str, number: int, time: int, text: int, provider: int, machine: int) -> None:
        self.separator = separator
        self.number = number
        self.time = time
        self.text = text
        self.provider = provider
        self.machine = machine


def columns(text: str) -> Columns | None:
    """The columns of a CSV file of events by its first lines; None where it is none."""
    lines = text.lstrip("\ufeff").splitlines(keepends=True)
    if lines and lines[0].startswith("#TYPE"):
        lines = lines[1:]
    for separator in ",;\t":
        rows: list[list[str]] = []
        # A damaged row may come right behind the header.
        with contextlib.suppress(csv.Error):
            for row in itertools.islice(csv.reader(lines, delimiter=separator), 3):
                rows.append(row)  # noqa: PERF402  # those before the damage count
        if rows:
            found = _named(rows[0], separator) or _placed(rows, separator)
            if found is not None:
                return found
    return None


def _named(header: list[str], separator: str) -> Columns | None:
    """By English names of columns, or those of PowerShell."""
    names = [name.strip().lower() for name in header]

    def place(*wanted: str) -> int:
        return next((names.index(one) for one in wanted if one in names), -1)

    number = place("id", "eventid", "event id", "instanceid")
    text = place("message", "description", "info")
    time = place("timecreated", "date and time", "timegenerated", "timewritten", "time created", "date")
    provider = place("providername", "source", "provider")
    machine = place("machinename", "computer", "computername")
    if number < 0 or time < 0:
        return None
    if text < 0:
        # Event Viewer gives the message no name.
        if names[:1] != ["level"]:
            return None
        text = len(header)
    return Columns(separator, number, time, text, provider, machine)


def _placed(rows: list[list[str]], separator: str) -> Columns | None:
    """Event Viewer's order, whatever the language: level, time, source, number, category, and the message unnamed."""
    if len(rows[0]) != 5 or len(rows) < 2 or not any(character.isalpha() for character in "".join(rows[0])):
        return None
    row = rows[1]
    if len(row) != 6 or not (row[3].isascii() and row[3].isdecimal()) or not re.search(r"[0-9]+:[0-9]{2}", row[1]):
        return None
    return Columns(separator, number=3, time=1, text=5, provider=2, machine=-1)
