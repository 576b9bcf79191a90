"""What ``Resolve-DnsName`` prints: its table, its lists, its errors."""

import re
from collections.abc import Sequence
from typing import Final

from kmsdiag.evidence.names import suffix
from kmsdiag.evidence.powershell import network as net_json
from kmsdiag.evidence.tools.pasted import pairs
from kmsdiag.evidence.tools.records import Row, lookups, srv
from kmsdiag.model.collected import ToolLookup
from kmsdiag.model.outcome import DnsOutcome

TOOL: Final = "Resolve-DnsName"

_KINDS: Final = ("SRV", "A", "AAAA", "A_AAAA")
_COMMAND: Final = re.compile(r"\bResolve-DnsName((?:\s+[^\s|;]+)+)", re.IGNORECASE)
_TABLE: Final = re.compile(
    r"^(\S+)\s+(SRV|A|AAAA|CNAME|SOA)\s+(\d{1,10})\s+(Answer|Additional|Authority)\s+(\S+)(?:\s+(\d{1,5})\s+(\d{1,5})\s+(\d{1,5}))?",
    re.IGNORECASE,
)
_ERROR: Final = re.compile(r"^Resolve-DnsName\s*:\s*(\S+)\s+:\s*(.*)$", re.IGNORECASE)
_REASON_LINES: Final = 9
"""Lines of an error: the message, where it was, and the identifier, which is not translated."""

_REASONS: Final = (
    ("dns_error_rcode_name_error", DnsOutcome.NXDOMAIN),
    ("dns name does not exist", DnsOutcome.NXDOMAIN),
    ("dns_info_no_records", DnsOutcome.NODATA),
    ("no records found for given dns query", DnsOutcome.NODATA),
    ("dns_error_rcode_server_failure", DnsOutcome.SERVFAIL),
    ("dns server failure", DnsOutcome.SERVFAIL),
    ("dns_error_rcode_refused", DnsOutcome.REFUSED),
    ("dns operation refused", DnsOutcome.REFUSED),
    ("error_timeout", DnsOutcome.TIMEOUT),
    ("timeout period expired", DnsOutcome.TIMEOUT),
    ("dns_error_no_dns_servers", DnsOutcome.NO_SERVER),
    ("no dns servers configured", DnsOutcome.NO_SERVER),
)
_CODES: Final = {
    "9501": DnsOutcome.NODATA,
    "9002": DnsOutcome.SERVFAIL,
    "9003": DnsOutcome.NXDOMAIN,
    "9005": DnsOutcome.REFUSED,
    "9852": DnsOutcome.NO_SERVER,
    "1460": DnsOutcome.TIMEOUT,
}
_CODE: Final = re.compile(r"\b(9501|9002|9003|9005|9852|1460)\b")


def read(rows: Sequence[str]) -> tuple[list[ToolLookup], list[str]]:
    """Questions in cleaned lines (:func:`kmsdiag.evidence.pasted.lines`), and notes. Never raises."""
    one = _Transcript()
    for number, line in enumerate(rows):
        one.take(line, rows[number : number + _REASON_LINES])
    one.end()
    return one.found, one.notes


class _Transcript:
    """Where the reading stands: what was asked, the records of the answer so far, and a list's entry that is open."""

    def __init__(self) -> None:
        self.found: list[ToolLookup] = []
        self.notes: list[str] = []
        self.records: list[Row] = []
        self.entry: dict[str, str] = {}
        self.asked = ("", "")

    def take(self, line: str, following: Sequence[str]) -> None:
        """Read a line; ``following`` are this line and the next ones."""
        if (match := _ERROR.match(line)) is not None:
            self.end()
            self.found.append(_failed(suffix(match[1]), " ".join(following), self.notes))
        elif (match := _COMMAND.search(line)) is not None:
            if not line.startswith("+"):
                # The echo in an error message is no new question.
                self.end()
                self.asked = _asked(match[1].split())
        elif (row := _row(line, " ".join(following[:2]))) is not None:
            self._end_entry()
            self.records.append(row)
        elif (pair := pairs(line)) is not None:
            label = pair[0].replace(" ", "").lower()
            if label == "name":
                self._end_entry()
            if label == "name" or self.entry:
                self.entry[label] = pair[1]

    def _end_entry(self) -> None:
        if net_json.is_record(self.entry):
            row = net_json.row(self.entry, f"{TOOL}: {self.entry['name']}", self.notes)
            self.records += [] if row is None else [row]
        self.entry = {}

    def end(self) -> None:
        """Put the records of an answer together."""
        self._end_entry()
        own, said = lookups(self.records, TOOL)
        if not own and self.asked[0] and any(row.kind == "SOA" for row in self.records):
            own, said = [ToolLookup(tool=TOOL, name=self.asked[0], kind=self.asked[1], outcome=DnsOutcome.NODATA)], []
        self.found += own
        self.notes += said
        self.records = []


def _asked(words: Sequence[str]) -> tuple[str, str]:
    """Name and type of a command line."""
    name, kind, option = "", "A", ""
    for word in words:
        if word.startswith("-"):
            option = word.lower()
        elif option.startswith("-t") and option != "-tcponly":
            kind, option = word.strip("'\"").upper(), ""
        elif option in ("", "-name", "-n") and not name:
            name, option = suffix(word.strip("'\"")), ""
        else:
            option = ""
    return name, kind if kind in ("SRV", "AAAA") else "A"


def _row(line: str, joined: str) -> Row | None:
    """A line of the table; the numbers of an SRV record may stand in the next line."""
    match = _TABLE.match(line)
    if match is None:
        return None
    name, kind, ttl, section, value = suffix(match[1]), match[2].upper(), int(match[3]), match[4].lower(), match[5]
    if kind != "SRV":
        data = {"name": name, "type": kind, "section": section, "ttl": ttl, "ipaddress": value, "namehost": value}
        return net_json.row(data, name, [])
    if match[6] is None:
        match = _TABLE.match(joined) or match
    if match[6] is None:
        return None
    record = srv(match[6], match[7], match[8], value, ttl)
    return None if record is None else Row(name, kind, section, record.target, srv=record)


def _failed(name: str, reason: str, notes: list[str]) -> ToolLookup:
    outcome = next((outcome for phrase, outcome in _REASONS if phrase in reason.lower()), None)
    if outcome is None and (code := _CODE.search(reason)) is not None:
        outcome = _CODES[code[0]]
    if outcome is None:
        notes.append(f"{TOOL}: {name}: {reason}")
    command = _COMMAND.search(reason.partition("+")[2])
    kind = _asked(command[1].split())[1] if command is not None else "SRV" if name.startswith("_") else "A"
    return ToolLookup(tool=TOOL, name=name, kind=kind, outcome=outcome or DnsOutcome.ERROR_RCODE)
