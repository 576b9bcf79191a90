"""What ``dig`` prints, whole or ``+short``."""

import re
from collections.abc import Sequence
from typing import Final

from kmsdiag.evidence.names import addresses, suffix
from kmsdiag.evidence.tools.records import Row, lookups, srv
from kmsdiag.model.collected import ToolLookup
from kmsdiag.model.outcome import DnsOutcome

TOOL: Final = "dig"

_BANNER: Final = re.compile(r"^;\s*<<>> DiG\b.*<<>>\s*(.*)$")
_COMMAND: Final = re.compile(r"^dig\s+(.*)$")
_STATUS: Final = re.compile(r"status:\s*([A-Z]+)")
_QUESTION: Final = re.compile(r"^;(\S+?)\s+IN\s+(SRV|A|AAAA)$")
_SECTION: Final = re.compile(r"^;; (ANSWER|AUTHORITY|ADDITIONAL) SECTION:")
_RECORD: Final = re.compile(r"^(\S+)\s+(\d{1,10})\s+IN\s+(SRV|A|AAAA|CNAME)\s+(.+)$")
_SHORT: Final = re.compile(r"^(\d{1,5}) (\d{1,5}) (\d{1,5}) (\S+)$")
_SERVER: Final = re.compile(r"^;; SERVER: ([^#\s]+)#")
_SILENT: Final = re.compile(r"^;; (?:connection timed out|no servers could be reached)")

_OUTCOMES: Final = {
    "NOERROR": DnsOutcome.ANSWERED,
    "NXDOMAIN": DnsOutcome.NXDOMAIN,
    "SERVFAIL": DnsOutcome.SERVFAIL,
    "REFUSED": DnsOutcome.REFUSED,
}


class _Message:
    """One call of dig."""

    def __init__(self, words: str) -> None:
        self.server = ""
        self.name = ""
        self.kind = "A"
        self.status = ""
        self.section = ""
        self.rows: list[Row] = []
        for word in words.split():
            if word.startswith("@"):
                self.server = suffix(word[1:])
            elif word.upper() in ("SRV", "A", "AAAA"):
                self.kind = word.upper()
            elif not word.startswith(("+", "-")) and not self.name:
                self.name = suffix(word)
        self.silent = False

    def lookup(self) -> list[ToolLookup]:
        """The question and its end; [] where nothing came of it."""
        if not self.name or not (self.status or self.rows or self.silent):
            return []
        own = [
            one for one in lookups(self.rows, TOOL, self.server)[0] if (one.name, one.kind) == (self.name, self.kind)
        ]
        if own:
            return own
        outcome = DnsOutcome.TIMEOUT if self.silent else _OUTCOMES.get(self.status, DnsOutcome.ERROR_RCODE)
        if outcome is DnsOutcome.ANSWERED:
            outcome = DnsOutcome.NODATA
        return [ToolLookup(tool=TOOL, name=self.name, kind=self.kind, outcome=outcome, server=self.server)]


def read(rows: Sequence[str]) -> tuple[list[ToolLookup], list[str]]:
    """Questions in cleaned lines (:func:`kmsdiag.evidence.pasted.lines`), and notes. Never raises."""
    found: list[ToolLookup] = []
    notes: list[str] = []
    message: _Message | None = None
    for line in rows:
        start = _BANNER.match(line) or _COMMAND.match(line)
        if start is not None:
            found += [] if message is None else message.lookup()
            message = _Message(start[1])
        elif message is not None:
            _take(message, line, notes)
    found += [] if message is None else message.lookup()
    return found, notes


def _take(message: _Message, line: str, notes: list[str]) -> None:
    if (match := _STATUS.search(line)) is not None and line.startswith(";; ->>HEADER"):
        message.status = match[1]
    elif (match := _QUESTION.match(line)) is not None:
        message.name, message.kind = suffix(match[1]), match[2]
    elif (match := _SECTION.match(line)) is not None:
        message.section = match[1].lower()
    elif (match := _SERVER.match(line)) is not None:
        message.server = suffix(match[1])
    elif _SILENT.match(line):
        message.silent = True
    elif (match := _RECORD.match(line)) is not None:
        row = _row(suffix(match[1]), match[3], match[4], min(int(match[2]), 0xFFFF_FFFF), message.section or "answer")
        if row is None:
            notes.append(f"dig: a record that can't be read: {line}")
        else:
            message.rows.append(row)
    elif not message.status and _SHORT.match(line) and message.kind == "SRV":
        row = _row(message.name, "SRV", line, 0, "answer")
        message.rows += [] if row is None else [row]


def _row(name: str, kind: str, data: str, ttl: int, section: str) -> Row | None:
    if kind == "SRV":
        match = _SHORT.match(data.strip())
        record = srv(match[1], match[2], match[3], match[4], ttl) if match is not None else None
        return None if record is None else Row(name, kind, section, record.target, srv=record)
    if kind == "CNAME":
        return Row(name, kind, section, suffix(data))
    own = addresses([data])
    return Row(name, kind, section, address=own[0]) if own else None
