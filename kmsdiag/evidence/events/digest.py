"""What one event log says, gathered as its records come; and the joining of several."""

from collections import Counter
from collections.abc import Collection
from typing import Final

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.events.attempts import ClientLog, Logged
from kmsdiag.evidence.events.choice import EVER, Choice
from kmsdiag.evidence.events.hosts import HostLog, HostRequests
from kmsdiag.evidence.events.kinds import NOISE, READ, Event, domain_of, hresult_of, info_of, is_licensing
from kmsdiag.evidence.events.times import microseconds
from kmsdiag.evidence.events.unread import Unread, tally
from kmsdiag.knowledge import event_fields

NOTES: Final = 20

_PROVIDERS: Final = 10_000
_LONGEST: Final = 1000
"""Characters of a list of values that are kept: names are no longer than 255."""


class EventDigest:
    """Takes the events of one file. ``file`` is its number among those of the run, ``machine`` whose it is if not told.

    ``records`` counts all events, ``used`` those that say something here; ``notes`` say what is wrong with the file.
    """

    def __init__(self, file: int, machine: str, choice: Choice, details: Collection[str] = ()) -> None:
        self.file = file
        self.machine = machine
        self.choice = choice
        self.records = 0
        self.used = 0
        self.first = EVER
        self.last = -EVER
        self.noise: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self.unread = Unread()
        self.notes: list[str] = []
        self.damaged = False
        self.zone_assumed = False
        self.clients: dict[str, ClientLog] = {}
        self.requests = HostRequests(choice, details, self.unread)
        self._licensing: dict[str, bool] = {}
        self._place = 0
        self._step = 0
        self._before: int | None = None

    def note(self, text: str, *, damaged: bool = True) -> None:
        """Take down what is wrong with the file."""
        self.damaged = self.damaged or damaged
        text = ascii_text(text, 200)
        if len(self.notes) < NOTES and text not in self.notes:
            self.notes.append(text)

    def is_licensing(self, provider: str) -> bool:
        """Whether a provider logs activation events."""
        known = self._licensing.get(provider)
        if known is None:
            if len(self._licensing) >= _PROVIDERS:
                self._licensing.clear()
            known = self._licensing[provider] = is_licensing(provider)
        return known

    def take(self, number: int, at: int | None, machine: str, provider: str, text: str) -> None:
        """Take down an event: its number, time in µs (None: not told), computer, provider, and message or values."""
        self.records += 1
        if not self.is_licensing(provider):
            tally(self.others, str(number))
        elif number == Event.HOST_REQUEST:
            self.requests.take(at, machine or self.machine, info_of(text)[:_LONGEST])
        elif number in READ:
            self._take(number, at, machine or self.machine, text)
        else:
            self._pass(number, at)

    def _pass(self, number: int, at: int | None) -> None:
        if at is None or self.choice.since <= at <= self.choice.until:
            tally(self.noise if number in NOISE else self.others, str(number))

    def _take(self, number: int, at: int | None, machine: str, text: str) -> None:
        if number in (Event.CLIENT_REQUEST, Event.CLIENT_ANSWER):
            self._take_attempt(number, at, machine, info_of(text)[:_LONGEST])
            return
        if at is not None and not self.choice.since <= at <= self.choice.until:
            return
        self._used(at)
        if number in (Event.ACTIVATION_FAILED, Event.RULES_ENGINE):
            hresult = hresult_of(text)
            if not hresult:
                self.unread.add(number, machine, ("the error code",), text)
            tally(self.client(machine, at).failures, hresult or "unreadable")
        elif number == Event.DIRECTORY:
            self.client(machine, at).note_directory(at)
        elif self.choice.host(machine):
            self._take_host(number, at, machine, text)

    def _take_host(self, number: int, at: int | None, machine: str, text: str) -> None:
        log, hresult = self.requests.host(machine), hresult_of(text)
        if not hresult and number != Event.PUBLISHED:
            self.unread.add(number, machine, ("the error code",), text)
        if number in (Event.HOST_START, Event.HOST_TIMER):
            tally(log.start_failures, hresult or "unreadable")
            return
        domain = ascii_text(domain_of(text))
        if not domain:
            self.unread.add(number, machine, ("the domain",), text)
        log.publish(domain or "unknown", at, hresult, failed=number == Event.PUBLISH_FAILED)

    def _take_attempt(self, number: int, at: int | None, machine: str, info: str) -> None:
        fields = event_fields.request(info) if number == Event.CLIENT_REQUEST else event_fields.answer(info)
        if fields is None:
            self.unread.add(number, machine, ("its list of values",), info)
            return
        if at is None:
            if fields.client_time is None:
                self.unread.add(number, machine, ("its time",), info)
                return
            at = microseconds(fields.client_time)
        if not self.choice.since <= at <= self.choice.until:
            return
        self._used(at)
        log = self.client(machine, at)
        if isinstance(fields, event_fields.RequestFields) and fields.client_machine_id and len(log.ids) < 64:
            log.ids.add(fields.client_machine_id)
        self._place += 1
        if self._step == 0 and self._before is not None and at != self._before:
            self._step = 1 if at > self._before else -1
            if self._step < 0:
                self._turn()
        self._before = at
        place = self._place if self._step >= 0 else -self._place
        log.add(self.file, Logged(at, place, number, info), self.choice, self.unread)

    def _turn(self) -> None:
        """The file has its newest events first: what stands later at the same time was earlier."""
        for log in self.clients.values():
            for file, events in log.files.items():
                log.files[file] = [event._replace(place=-event.place) for event in events]

    def _used(self, at: int | None) -> None:
        self.used += 1
        if at is not None:
            self.first = min(self.first, at)
            self.last = max(self.last, at)

    def client(self, machine: str, at: int | None) -> ClientLog:
        """The log of a machine as a client."""
        log = self.clients.get(machine.lower())
        if log is None:
            log = self.clients[machine.lower()] = ClientLog(ascii_text(machine))
        if at is not None:
            log.first = at if log.first is None else min(log.first, at)
            log.last = at if log.last is None else max(log.last, at)
        return log

    @property
    def client_machine_ids(self) -> set[str]:
        """IDs that clients' own logs have."""
        return {one for log in self.clients.values() for one in log.ids}

    def finish(self) -> None:
        """The file is at its end."""
        self.requests.fold()
        if self._step == 0 and self._place:
            # All at one time: an answer before its request shows that the newest come first.
            orders = [[event.number for event in log.files.get(self.file, ())] for log in self.clients.values()]
            if any(order and order[0] == Event.CLIENT_ANSWER and order[-1] == Event.CLIENT_REQUEST for order in orders):
                self._turn()
        self.used += self.requests.used
        self.first = min(self.first, self.requests.first)
        self.last = max(self.last, self.requests.last)

    @property
    def hosts(self) -> dict[str, HostLog]:
        """The logs of hosts, by lower-case name."""
        return self.requests.hosts
