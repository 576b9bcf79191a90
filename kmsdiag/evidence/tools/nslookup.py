"""Output of ``nslookup``, of Windows and of BIND's, called with a name or in its own dialogue."""

import re
from collections.abc import Sequence
from typing import Final

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.names import addresses, suffix
from kmsdiag.evidence.tools.records import Row, lookups, srv
from kmsdiag.model.collected import ToolLookup
from kmsdiag.model.outcome import DnsOutcome

TOOL: Final = "nslookup"

_COMMAND: Final = re.compile(r"\bnslookup(?:\.exe)?(?P<words>(?:\s+\S+)*)\s*$", re.IGNORECASE)
_TYPE: Final = re.compile(r"^-?(?:set\s+)?(?:q|ty|type|querytype|query)=(\w+)$", re.IGNORECASE)
_SERVER: Final = re.compile(r"^(?:Default )?Server:\s*(\S+)$", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"^Address(?:es)?:\s*(\S+)$", re.IGNORECASE)
_NAME: Final = re.compile(r"^Name:\s*(\S+)$", re.IGNORECASE)
_ALIAS: Final = re.compile(r"^Aliases:\s*(\S+)$", re.IGNORECASE)
_LOCATION: Final = re.compile(r"^(\S+)\s+SRV service location:", re.IGNORECASE)
_FIELD: Final = re.compile(r"(priority|weight|port|s[vr][rv] hostname)\s*=\s*(\S+)", re.IGNORECASE)
_SERVICE: Final = re.compile(r"^(\S+)\s+service = (\d{1,5}) (\d{1,5}) (\d{1,5}) (\S+)$", re.IGNORECASE)
_EXTRA: Final = re.compile(
    r"^(\S+)\s+(?:internet address\s*=|AAAA IPv6 address\s*=|has AAAA address|has address)\s*(\S+)$", re.IGNORECASE
)
_CANONICAL: Final = re.compile(r"^(\S+)\s+canonical name = (\S+)$", re.IGNORECASE)
_ERROR: Final = re.compile(r"^\*{2,3}\s*(.+)$|^;; (connection timed out.*|no servers could be reached.*)$")
_NOT_FOUND: Final = re.compile(r"(?:can't|cannot) find ([^\s:]+)\s*:", re.IGNORECASE)
_NO_RECORDS: Final = re.compile(r"records? available for (\S+)", re.IGNORECASE)
_LOOKS_LIKE_A_NAME: Final = re.compile(r"^[\w-]+(?:\.[\w-]+)*\.?$")

_LOOKS_LIKE_AN_ADDRESS: Final = re.compile(r"^(?:[0-9.]+|[0-9a-f:.]*:[0-9a-f:.%]*)$", re.IGNORECASE)

_PHRASES: Final = (
    ("non-existent domain", DnsOutcome.NXDOMAIN),
    ("nxdomain", DnsOutcome.NXDOMAIN),
    ("server failed", DnsOutcome.SERVFAIL),
    ("servfail", DnsOutcome.SERVFAIL),
    ("refused", DnsOutcome.REFUSED),
    ("timed-out", DnsOutcome.TIMEOUT),
    ("timed out", DnsOutcome.TIMEOUT),
    ("no response from server", DnsOutcome.TIMEOUT),
    ("no servers could be reached", DnsOutcome.TIMEOUT),
    ("records available for", DnsOutcome.NODATA),
    ("record available for", DnsOutcome.NODATA),
    ("no answer", DnsOutcome.NODATA),
    ("format error", DnsOutcome.ERROR_RCODE),
    ("unspecified error", DnsOutcome.ERROR_RCODE),
    ("not implemented", DnsOutcome.ERROR_RCODE),
)


def read(rows: Sequence[str]) -> tuple[list[ToolLookup], list[str]]:
    """Questions in cleaned lines (:func:`kmsdiag.evidence.pasted.lines`), and notes. Never raises."""
    one = _Transcript()
    for number, line in enumerate(rows):
        one.take(line, rows[number + 1] if number + 1 < len(rows) else "")
    one.end()
    return one.found, one.notes


class _Transcript:
    """Where the reading stands: what was asked, of whom, and the records of the answer so far."""

    def __init__(self) -> None:
        self.found: list[ToolLookup] = []
        self.notes: list[str] = []
        self.seen = False
        self.kind = ""
        self.asked = ""
        self.server = ""
        self.in_server = False
        self.name = ""
        self.fields: dict[str, str] = {}
        self.rows: list[Row] = []

    def take(self, line: str, following: str) -> None:
        """Read a line; ``following`` is where a wrapped message goes on."""
        if not (self._command(line) or self._server(line) or self._error(line, following)):
            self._record(line)

    def end(self) -> None:
        """Put the records of an answer together."""
        found, notes = lookups(self.rows, TOOL, self.server)
        self.found += found
        self.notes += notes
        self.rows, self.fields, self.name = [], {}, ""

    def _command(self, line: str) -> bool:
        match = _COMMAND.search(line)
        if match is not None:
            self.end()
            self.seen, self.kind, self.asked = True, "", ""
            for word in match["words"].split():
                kind = _TYPE.match(word)
                if kind is not None:
                    self.kind = kind[1].upper()
                elif not word.startswith("-") and not self.asked:
                    self.asked = suffix(word)
            return True
        kind = _TYPE.match(line)
        if kind is not None:
            self.seen, self.kind = True, kind[1].upper()
            return True
        return False

    def _server(self, line: str) -> bool:
        match = _SERVER.match(line)
        if match is not None:
            self.end()
            self.server, self.in_server = ascii_text(match[1]), True
            return True
        if self.in_server and (match := _ADDRESS.match(line)) is not None:
            own = addresses([match[1].partition("#")[0]])
            self.seen, self.in_server = True, False
            if own:
                self.server = own[0]
            return True
        return False

    def _error(self, line: str, following: str) -> bool:
        match = _ERROR.match(line)
        if match is None:
            return False
        told = (match[1] or match[2]).strip()
        if re.search(r"server name for address|default servers? (?:is|are) not", told, re.IGNORECASE):
            # About the name of the DNS server itself.
            return True
        for text in (told, f"{told} {following}"):
            outcome = next((outcome for phrase, outcome in _PHRASES if phrase in text.lower()), None)
            named = _NOT_FOUND.search(text) or _NO_RECORDS.search(text)
            # Other texts have lines with stars, too.
            if outcome is not None and (self.seen or named is not None):
                self._failed(suffix(named[1]) if named is not None else self.asked, outcome)
                return True
        if _NOT_FOUND.search(told) or self.seen:
            self.notes.append(f"nslookup says something that is not known: {ascii_text(told, 100)}")
        return True

    def _failed(self, name: str, outcome: DnsOutcome) -> None:
        if not name:
            self.notes.append(f"nslookup: {outcome.words}; what it was asked is not in the file")
            return
        if _LOOKS_LIKE_AN_ADDRESS.match(name):
            # Whose an address is says nothing here.
            return
        kind = self.kind if self.kind in ("SRV", "A", "AAAA") else "SRV" if name.startswith("_") else "A"
        self.end()
        self.found.append(ToolLookup(tool=TOOL, name=name, kind=kind, outcome=outcome, server=self.server))

    def _record(self, line: str) -> None:
        if (match := _LOCATION.match(line)) is not None:
            self.seen, self.name, self.fields = True, suffix(match[1]), {}
        elif (match := _SERVICE.match(line)) is not None:
            self._srv(suffix(match[1]), match[2], match[3], match[4], match[5])
        elif (match := _EXTRA.match(line)) is not None:
            self._addresses(suffix(match[1]), match[2], "additional")
        elif (match := _CANONICAL.match(line)) is not None:
            self.rows.append(Row(suffix(match[1]), "CNAME", "answer", suffix(match[2])))
        elif (match := _NAME.match(line)) is not None and self.seen:
            self.name, self.fields = suffix(match[1]), {"in": "name"}
        elif "in" in self.fields:
            self._of_name(line)
        elif self.name:
            self._field(line)
        elif self.seen and _LOOKS_LIKE_A_NAME.match(line) and line.lower() != "exit":
            self.asked = suffix(line)
        if self.name and _LOCATION.match(line):
            self._field(line)

    def _field(self, line: str) -> None:
        for label, value in _FIELD.findall(line):
            label = label.lower()
            if label in ("priority", "weight", "port"):
                self.fields[label] = value
            else:
                priority, weight, port = (self.fields.get(key, "") for key in ("priority", "weight", "port"))
                self._srv(self.name, priority, weight, port, value)
                self.fields = {}

    def _srv(self, name: str, priority: str, weight: str, port: str, target: str) -> None:
        record = srv(priority, weight, port, target)
        if record is None:
            self.notes.append(f"nslookup: an SRV record of {name} is not whole")
            return
        self.seen = True
        self.rows.append(Row(name, "SRV", "answer", record.target, srv=record))

    def _of_name(self, line: str) -> None:
        """Addresses and aliases below ``Name:``; addresses go on without a label."""
        if (match := _ADDRESS.match(line)) is not None:
            self._addresses(self.name, match[1], "answer")
        elif (match := _ALIAS.match(line)) is not None:
            self.rows.append(Row(suffix(match[1]), "CNAME", "answer", self.name))
        elif _LOOKS_LIKE_AN_ADDRESS.match(line):
            self._addresses(self.name, line, "answer")
        else:
            self.fields, self.name = {}, ""
            if _LOOKS_LIKE_A_NAME.match(line):
                self.asked = suffix(line)

    def _addresses(self, name: str, text: str, section: str) -> None:
        for one in addresses([text.partition("#")[0]]):
            self.rows.append(Row(name, "AAAA" if ":" in one else "A", section, address=one))
