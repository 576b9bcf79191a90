"""The requests that hosts logged (12290), by client machine ID, and what else a host's log says.

The inner loop of reading large logs is :meth:`HostLog.request`: rows that differ in nothing but times and minutes are
one *variant*, whose values are read once. What is kept grows with machines: variants are counted into requesters as
soon as there are many.
"""

import heapq
from collections.abc import Collection
from typing import Final

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.events.choice import EVER, Choice
from kmsdiag.evidence.events.times import SECOND, microseconds, moment
from kmsdiag.evidence.events.unread import Unread, tally
from kmsdiag.knowledge import event_fields
from kmsdiag.knowledge.event_fields import HOST_REQUEST, HostFields
from kmsdiag.model.events import HostEvents, HostRequest, Publishing, Requester

DETAILS: Final = 200
"""Requests of one ID that are kept one by one."""
NAMES: Final = 8
IDS: Final = 64
_VARIANTS: Final = 100_000
_CLIENT_TIMES: Final = 50_000
_LONGEST: Final = 300
_MONTH: Final = 30 * 86_400 * SECOND


class Asked:
    """All requests of one ID to one host."""

    __slots__ = (
        "activation_ids",
        "details",
        "first",
        "hresults",
        "last",
        "last_hresult",
        "machines",
        "requests",
        "required",
        "virtual",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.first = EVER
        self.last = -EVER
        self.last_hresult = ""
        self.machines: set[str] = set()
        self.hresults: dict[str, int] = {}
        self.required: dict[str, int] = {}
        self.activation_ids: set[str] = set()
        self.virtual: bool | None = None
        self.details: list[tuple[int, HostRequest]] = []

    def join(self, other: "Asked") -> None:
        """Add those of another file, or of a variant."""
        if (other.last, other.last_hresult) > (self.last, self.last_hresult):
            self.last_hresult = other.last_hresult
            self.virtual = other.virtual if other.virtual is not None else self.virtual
        self.requests += other.requests
        self.first = min(self.first, other.first)
        self.last = max(self.last, other.last)
        self.machines |= other.machines
        for mine, theirs in ((self.hresults, other.hresults), (self.required, other.required)):
            for key, count in theirs.items():
                tally(mine, key, count)
        if len(self.activation_ids) < IDS:
            self.activation_ids |= other.activation_ids
        self.add_details(other.details)

    def add_details(self, details: list[tuple[int, HostRequest]]) -> None:
        """Keep the newest ones."""
        if details:
            self.details = heapq.nlargest(DETAILS, [*self.details, *details], key=_detail_order)

    def finish(self, host: str, client_machine_id: str) -> Requester:
        """As a value of the model."""
        return Requester(
            host=host,
            client_machine_id=client_machine_id,
            requests=self.requests,
            first=moment(self.first),
            last=moment(self.last),
            machines=tuple(sorted(self.machines)[:NAMES]),
            names=len(self.machines),
            hresults=dict(sorted(self.hresults.items())),
            required=_by_number(self.required),
            activation_ids=tuple(sorted(self.activation_ids)),
            virtual=self.virtual,
            last_hresult=self.last_hresult,
            requests_in_detail=tuple(request for _at, request in reversed(self.details)),
        )


def _detail_order(pair: tuple[int, HostRequest]) -> tuple[int, str, str, int, str]:
    at, request = pair
    return (at, request.hresult, request.machine, request.remaining_min or 0, request.activation_id)


def _by_number(counter: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda pair: (not pair[0].isdecimal(), len(pair[0]), pair[0])))


class HostLog:
    """What the log of one host says. ``asked`` are its requests by client machine ID."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.asked: dict[str, Asked] = {}
        self.unnamed = Asked()
        """Requests whose ID can't be read: they are nobody's, and count for the host all the same."""
        self.published: dict[str, _Published] = {}
        self.start_failures: dict[str, int] = {}

    def join(self, other: "HostLog") -> None:
        """Add what other files say of the same host."""
        self.host = min(self.host, other.host)
        for key, asked in other.asked.items():
            self.add(key, asked)
        self.unnamed.join(other.unnamed)
        for domain, published in other.published.items():
            self.published.setdefault(domain, _Published()).join(published)
        for hresult, count in other.start_failures.items():
            tally(self.start_failures, hresult, count)

    def add(self, client_machine_id: str, asked: Asked) -> None:
        """Add requests of an ID ("": nobody's); what is added belongs to this log from then on."""
        known = self.asked.get(client_machine_id) if client_machine_id else self.unnamed
        if known is None:
            self.asked[client_machine_id] = asked
        else:
            known.join(asked)

    def times(self) -> dict[str, tuple[int, int, int]]:
        """Requests, first and last time by ID, in seconds: formats differ in fractions of them."""
        return {key: (one.requests, one.first // SECOND, one.last // SECOND) for key, one in self.asked.items()}

    def without_requests(self) -> "HostLog":
        """The rest of it."""
        rest = HostLog(self.host)
        rest.published, rest.start_failures = self.published, self.start_failures
        return rest

    def publish(self, domain: str, at: int | None, hresult: str, *, failed: bool) -> None:
        """An event about publishing: 12293 or 12294."""
        known = self.published.setdefault(
            domain if domain in self.published or len(self.published) < IDS else "others", _Published()
        )
        known.note(at, hresult, failed=failed)

    def finish(self) -> HostEvents:
        """As a value of the model."""
        everybody = [*self.asked.values(), *([self.unnamed] if self.unnamed.requests else [])]
        last = max((one.last for one in everybody), default=0)
        hresults: dict[str, int] = {}
        needs: dict[str, int] = {}
        for one in everybody:
            for key, count in one.hresults.items():
                tally(hresults, key, count)
        for one in self.asked.values():
            for key in one.required:
                tally(needs, key)
        return HostEvents(
            host=self.host,
            requests=sum(one.requests for one in everybody),
            clients=len(self.asked),
            clients_30_days=sum(one.last > last - _MONTH for one in self.asked.values()),
            first=moment(min(one.first for one in everybody)) if everybody else None,
            last=moment(last) if everybody else None,
            hresults=dict(sorted(hresults.items())),
            needs=_by_number(needs),
            publishing=tuple(one.finish(domain) for domain, one in sorted(self.published.items())),
            start_failures=dict(sorted(self.start_failures.items())),
        )

    def requesters(self) -> list[Requester]:
        """Its requesters, sorted by ID."""
        return [asked.finish(self.host, key) for key, asked in sorted(self.asked.items())]


class _Published:
    """Events about one domain."""

    def __init__(self) -> None:
        self.published = 0
        self.published_last: int | None = None
        self.failed = 0
        self.failed_last: int | None = None
        self.hresult = ""

    def note(self, at: int | None, hresult: str, *, failed: bool) -> None:
        """One event."""
        if failed:
            if self.failed == 0 or (at or -EVER, hresult) >= (self.failed_last or -EVER, self.hresult):
                self.hresult = hresult
            self.failed += 1
            self.failed_last = _later(self.failed_last, at)
        else:
            self.published += 1
            self.published_last = _later(self.published_last, at)

    def join(self, other: "_Published") -> None:
        """Add those of another file."""
        mine, theirs = (self.failed_last or -EVER, self.hresult), (other.failed_last or -EVER, other.hresult)
        if other.failed and (not self.failed or theirs > mine):
            self.hresult = other.hresult
        self.published += other.published
        self.failed += other.failed
        self.published_last = _later(self.published_last, other.published_last)
        self.failed_last = _later(self.failed_last, other.failed_last)

    def finish(self, domain: str) -> Publishing:
        """As a value of the model."""
        return Publishing(
            domain=domain,
            published=self.published,
            published_last=None if self.published_last is None else moment(self.published_last),
            failed=self.failed,
            failed_last=None if self.failed_last is None else moment(self.failed_last),
            hresult=self.hresult,
        )


def _later(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


class _Variant:
    """Requests that differ in times and minutes alone."""

    __slots__ = ("chosen", "count", "details", "fields", "first", "info", "last", "product", "status", "virtual")

    def __init__(
        self, fields: HostFields, info: str, last: tuple[str, str, str], *, chosen: bool, detailed: bool
    ) -> None:
        self.fields = fields
        self.virtual, self.status, self.product = last
        self.info = info[:_LONGEST]
        self.chosen = chosen
        self.count = 0
        self.first = EVER
        self.last = -EVER
        self.details: list[tuple[int, str, str]] | None = [] if detailed and chosen else None


class HostRequests:
    """Takes 12290 of one file, by host. ``details`` are the client machine IDs whose requests are kept one by one."""

    def __init__(self, choice: Choice, details: Collection[str], unread: Unread) -> None:
        self.hosts: dict[str, HostLog] = {}
        self.used = 0
        self.first = EVER
        self.last = -EVER
        self._choice = choice
        self._details = details
        self._unread = unread
        self._variants: dict[tuple[str, ...], _Variant] = {}
        self._latest: dict[str, dict[str, _Variant]] = {}
        """By host and the values before the times, the variant of the last request."""
        self._narrowed = choice.timed or bool(choice.clients or choice.hosts) or bool(details)
        self._client_times: set[str] = set()
        self._days: set[str] = set()
        self._clocks: set[str] = set()
        self._shared: dict[str, str] = {}

    def host(self, name: str) -> HostLog:
        """The log of a host by name, whose case does not matter."""
        key = name.lower()
        found = self.hosts.get(key)
        if found is None:
            found = self.hosts[key] = HostLog(ascii_text(name))
        return found

    def take(self, at: int | None, host: str, info: str) -> None:
        """Take down one request: its time (None: by the client's clock), the log's machine, the list of values."""
        try:
            head, time, virtual, status, left, product = info.rsplit(", ", 5)
            variant = self._latest[host][head]
        except (ValueError, KeyError):
            self._take_any(at, host, info)
            return
        if variant.status != status or variant.virtual != virtual or variant.product != product:
            self._take_any(at, host, info)
            return
        if time not in self._client_times or not left.isdecimal():
            self._look(host, info, time, left)
        if at is None or self._narrowed:
            self._count(variant, at, time, left)
            return
        variant.count += 1
        if at < variant.first:
            variant.first = at
        if at > variant.last:
            variant.last = at

    def _take_any(self, at: int | None, host: str, info: str) -> None:
        """The same for requests that differ from the one before of their client, or are written otherwise."""
        values = event_fields.values(info)
        if len(values) < 9 or not event_fields.is_list(info):
            self._unread.add(HOST_REQUEST, host, ("its list of values",), info)
            return
        hresult, required, machine, cmid, time, virtual, status, left, product = values[:9]
        key = (host, hresult, required, machine, cmid, virtual, status, product)
        variant = self._variants.get(key) or self._new(key, info, values[:9])
        if time not in self._client_times or not left.isdecimal():
            self._look(host, info, time, left)
        self._latest.setdefault(host, {})[f"{hresult}, {required}, {machine}, {cmid}"] = variant
        self._count(variant, at, time, left)

    def _count(self, variant: _Variant, at: int | None, time: str, left: str) -> None:
        if at is None:
            clock = event_fields.client_time(time)
            if clock is None:
                self._unread.add(HOST_REQUEST, "", ("its time",), variant.info)
                return
            at = microseconds(clock)
        if not (variant.chosen and self._choice.since <= at <= self._choice.until):
            return
        variant.count += 1
        variant.first = min(variant.first, at)
        variant.last = max(variant.last, at)
        if variant.details is not None:
            variant.details.append((at, time, left))
            if len(variant.details) > 4 * DETAILS:
                variant.details = heapq.nlargest(DETAILS, variant.details)

    def _look(self, host: str, info: str, time: str, left: str) -> None:
        """Values that are new in each row: whether they can be read."""
        missing = [] if left.isdecimal() else [f"minutes left '{left}'"]
        if time not in self._client_times:
            day, _, clock = time.partition(" ")
            if day in self._days and clock in self._clocks:
                known = True
            else:
                known = event_fields.client_time(time) is not None
                if known and len(self._days) < _CLIENT_TIMES > len(self._clocks):
                    # A day and a time of day that were each part of a time make one together.
                    self._days.add(day)
                    self._clocks.add(clock)
            if not known:
                missing.append(f"client time '{time}'")
            else:
                if len(self._client_times) >= _CLIENT_TIMES:
                    self._client_times.clear()
                self._client_times.add(time)
        if missing:
            self._unread.add(HOST_REQUEST, host, missing, info)

    def _new(self, key: tuple[str, ...], info: str, values: list[str]) -> _Variant:
        if len(self._variants) >= _VARIANTS:
            self.fold()
        # What most have in common is kept once.
        if len(self._shared) > 1000:
            self._shared.clear()
        share = self._shared.setdefault
        host, hresult, required, machine, cmid, virtual, status, product = key
        hresult, required, product = share(hresult, hresult), share(required, required), share(product, product)
        virtual, status = share(virtual, virtual), share(status, status)
        key = (host, hresult, required, machine, cmid, virtual, status, product)
        fields = event_fields.host_request_of(values)
        chosen = self._choice.host(host) and self._choice.client(fields.machine, fields.client_machine_id)
        detailed = fields.client_machine_id in self._details
        variant = _Variant(fields, info, (virtual, status, product), chosen=chosen, detailed=detailed)
        self._variants[key] = variant
        return variant

    def fold(self) -> None:
        """Count the variants into requesters, and forget them."""
        for (host, *_rest), variant in self._variants.items():
            fields = variant.fields
            missing = [one for one in fields.unread if not one.startswith(("client time", "minutes left"))]
            if missing:
                self._unread.add(HOST_REQUEST, host, missing, variant.info, max(variant.count, 1))
            if not variant.count:
                continue
            self.used += variant.count
            self.first = min(self.first, variant.first)
            self.last = max(self.last, variant.last)
            self.host(host).add(fields.client_machine_id, _asked(variant))
        self._variants = {}
        self._latest = {}


def _asked(variant: _Variant) -> Asked:
    """A variant as requests of its ID."""
    fields, found = variant.fields, Asked()
    hresult = fields.hresult or "unreadable"
    machine, product = ascii_text(fields.machine), fields.activation_id
    found.requests, found.first, found.last, found.last_hresult = variant.count, variant.first, variant.last, hresult
    found.machines = {machine} if machine else set()
    found.hresults = {hresult: variant.count}
    if fields.required is not None:
        found.required = {str(fields.required): variant.count}
    found.activation_ids = {product} if product else set()
    found.virtual = fields.virtual
    if variant.details:
        found.add_details([_detail(fields, hresult, machine, *one) for one in variant.details])
    return found


def _detail(fields: HostFields, hresult: str, machine: str, at: int, time: str, left: str) -> tuple[int, HostRequest]:
    """One request of a variant, with its time in µs."""
    request = HostRequest(
        at=moment(at),
        hresult=hresult,
        machine=machine,
        client_time=event_fields.client_time(time),
        required=fields.required,
        license_status=fields.license_status,
        remaining_min=int(left) if left.isdecimal() and len(left) < 10 else None,
        activation_id=fields.activation_id,
    )
    return at, request
