"""Events exported as CSV: by Event Viewer, or ``Get-WinEvent | Export-Csv``."""

import csv
import datetime
import io
from collections.abc import Iterator
from typing import Final

from kmsdiag.evidence.event_digest import EventDigest
from kmsdiag.evidence.event_kinds import Event, info_of
from kmsdiag.evidence.event_times import Times
from kmsdiag.knowledge import event_fields
from kmsdiag.sources.recognise_events import columns

_HEAD: Final = 40
"""Lines by which the columns are known."""


def read_csv(stream: io.TextIOBase, digest: EventDigest) -> None:
    """Read a whole file into a digest; lines that are no rows of it are passed over, and noted."""
    begun: list[str] = []
    for line in stream:
        begun.append(line)
        if len(begun) >= _HEAD:
            break
    if begun and begun[0].lstrip("\ufeff").startswith("#TYPE"):
        begun = begun[1:]
    found = columns("".join(begun))
    if found is None:
        digest.note("its columns are not those of an export of events")
        return
    reader = _Rows(begun, stream, found.separator)
    times = Times()
    _rows(reader, digest, times, found.number, found.time, found.text, found.provider, found.machine)
    digest.zone_assumed = digest.zone_assumed or times.assumed
    if times.unread:
        digest.note(f"{times.unread:,} times are in no format that is read here", damaged=False)
    if reader.bad:
        digest.note(f"{reader.bad:,} rows could not be read, the first of them near line {reader.first_bad:,}")


class _Rows:
    """The rows after the header. Where one is too long (a quote that is never closed), reading goes on behind it."""

    def __init__(self, begun: list[str], stream: io.TextIOBase, separator: str) -> None:
        self.bad = 0
        self.first_bad = 0
        self._lines = _chained(begun, stream)
        self._separator = separator
        self._number = 0

    def __iter__(self) -> Iterator[list[str]]:
        reader = csv.reader(self._lines, delimiter=self._separator)
        first = True
        while True:
            try:
                if first:
                    next(reader, None)
                    first = False
                yield from reader
            except csv.Error:
                self.complain(self._number + reader.line_num)
                self._number += reader.line_num
                reader = csv.reader(self._lines, delimiter=self._separator)
            else:
                return

    def complain(self, line: int = 0) -> None:
        """A row that is none."""
        self.bad += 1
        self.first_bad = self.first_bad or line


def _chained(begun: list[str], stream: io.TextIOBase) -> Iterator[str]:
    yield from begun
    yield from stream


def _rows(
    rows: _Rows, digest: EventDigest, times: Times, number: int, time: int, text: int, provider: int, machine: int
) -> None:
    """The loop over all rows; what hosts log comes by the million."""
    own, take_request, known = digest.machine, digest.requests.take, times.known
    host_request = str(int(Event.HOST_REQUEST))
    records = 0
    most = max(number, time, text)
    for row in rows:
        if len(row) <= most:
            if row:
                rows.complain(records + 2)
            continue
        source = row[provider] if provider >= 0 else ""
        computer = (row[machine] if machine >= 0 else "") or own
        if row[number] == host_request and digest.is_licensing(source):
            records += 1
            message = row[text]
            info = message[message.rfind("\n") + 1 :]
            if info[:2] != "0x":
                info = info_of(message)
            at = known(row[time])
            if at is None:
                at = times.read(row[time], _client_time(info, 4))
            take_request(at, computer, info)
            continue
        event = row[number].strip()
        if not (event.isascii() and event.isdecimal()) or len(event) > 10:
            rows.complain(records + 2)
            continue
        message = row[text]
        place = {12288: 4, 12289: 7}.get(int(event) & 0xFFFF)
        client = None if place is None else _client_time(info_of(message), place)
        digest.take(int(event) & 0xFFFF, times.read(row[time], client), computer, source, message)
    digest.records += records


def _client_time(info: str, place: int) -> datetime.datetime | None:
    values = event_fields.values(info)
    return event_fields.client_time(values[place]) if len(values) > place else None
