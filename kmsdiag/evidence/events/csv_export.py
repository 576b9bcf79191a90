"""Events exported as CSV: by Event Viewer, or ``Get-WinEvent | Export-Csv``."""

import csv
import datetime
import io
import itertools
from collections.abc import Iterator
from typing import Final

from kmsdiag.evidence.events.digest import EventDigest
from kmsdiag.evidence.events.kinds import Event, info_of
from kmsdiag.evidence.events.times import Times
from kmsdiag.knowledge import event_fields
from kmsdiag.sources.recognise_events import Columns, columns

_HEAD: Final = 40
"""Lines by which the columns are known."""
_CLIENT_TIME: Final = {Event.CLIENT_REQUEST: 4, Event.CLIENT_ANSWER: 7, Event.HOST_REQUEST: 4}
"""Where the client's clock stands in the lists of values."""


def read_csv(stream: io.TextIOBase, digest: EventDigest) -> None:
    """Read a whole file into a digest; lines that are no rows of it are passed over, and noted."""
    begun = list(itertools.islice(stream, _HEAD))
    if begun and begun[0].lstrip("\ufeff").startswith("#TYPE"):
        begun = begun[1:]
    found = columns("".join(begun))
    if found is None:
        digest.note("its columns are not those of an export of events")
        return
    reader = _Reader(found, digest)
    lines = itertools.chain(begun, stream)
    rows = csv.reader(lines, delimiter=found.separator)
    header = True
    while True:
        try:
            if header:
                header = False
                next(rows, None)
            reader.take(rows)
            break
        except csv.Error as error:
            # A quote that is never closed makes a value too long; what follows may be whole.
            reader.complain(str(error))
            rows = csv.reader(lines, delimiter=found.separator)
    reader.finish()


class _Reader:
    """Takes rows into a digest."""

    def __init__(self, where: Columns, digest: EventDigest) -> None:
        self._where = where
        self._digest = digest
        self._times = Times()
        self._bad = 0
        self._first_bad = ""

    def take(self, rows: Iterator[list[str]]) -> None:
        """Rows up to the end. What a host logs comes by the million.

        Raises:
            csv.Error: a row can't be read.
        """
        where, digest = self._where, self._digest
        number, time, text, provider, machine = where.number, where.time, where.text, where.provider, where.machine
        own, take_request, known = digest.machine, digest.requests.take, self._times
        days, clocks, between = known.days, known.clocks, known.between
        host_request, licensing = str(int(Event.HOST_REQUEST)), ""
        for row in rows:
            try:
                if row[number] != host_request:
                    self._take(row)
                    continue
                if provider >= 0 and row[provider] != licensing:
                    if not digest.is_licensing(row[provider]):
                        self._take(row)
                        continue
                    licensing = row[provider]
                message = row[text]
                info = message[message.rfind("\n") + 1 :]
                if info[:2] != "0x":
                    info = info_of(message)
                day, _, clock = row[time].partition(between)
                try:
                    at: int | None = days[day] + clocks[clock]
                except KeyError:
                    at = self._time(row[time], Event.HOST_REQUEST, info)
                    between = known.between
                take_request(at, (row[machine] or own) if machine >= 0 else own, info)
            except IndexError:
                if row:
                    self.complain("it has too few columns")
                continue
            digest.records += 1

    def _take(self, row: list[str]) -> None:
        """Any other event.

        Raises:
            IndexError: the row is too short.
        """
        where = self._where
        event, time, message = row[where.number].strip(), row[where.time], row[where.text]
        if not (event.isascii() and event.isdecimal()) or len(event) > 10:
            self.complain(f"'{event[:20]}' is no event's number")
            return
        number = int(event) & 0xFFFF
        provider = row[where.provider] if where.provider >= 0 else ""
        machine = row[where.machine] if where.machine >= 0 else ""
        at = self._time(time, number, info_of(message) if number in _CLIENT_TIME else "")
        self._digest.take(number, at, machine, provider, message)

    def _time(self, text: str, number: int, info: str) -> int | None:
        place = _CLIENT_TIME.get(Event(number)) if info else None
        values = event_fields.values(info) if place is not None else []
        client: datetime.datetime | None = None
        if place is not None and len(values) > place:
            client = event_fields.client_time(values[place])
        return self._times.read(text, client)

    def complain(self, why: str) -> None:
        """A row that can't be read."""
        self._bad += 1
        self._first_bad = self._first_bad or f"behind record {self._digest.records:,}: {why}"

    def finish(self) -> None:
        """All is read."""
        digest = self._digest
        digest.zone_assumed = digest.zone_assumed or self._times.assumed
        if self._times.unread:
            digest.note(f"{self._times.unread:,} times are in no format that is read here", damaged=False)
        if self._bad:
            digest.note(f"{self._bad:,} rows could not be read, the first of them {self._first_bad}")
