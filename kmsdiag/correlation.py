"""Two sides of one request: events 12288/12289 of clients with 12290 of hosts, with status files and with captures.

A request is the same on both sides where its client machine ID and the client's own time are: both events carry them,
so the clocks of the two machines do not matter. Windows and Office of one machine ask on their own, maybe different
hosts: each product has its own last attempt. Pure: the same evidence gives the same rows.
"""

import datetime
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from kmsdiag import captured, products
from kmsdiag.captured import People
from kmsdiag.collected import Machine
from kmsdiag.knowledge import codes
from kmsdiag.knowledge.codes import Layer
from kmsdiag.knowledge.licences import LICENSED
from kmsdiag.knowledge.limits import CLIENT_THRESHOLD
from kmsdiag.model.capture import CaptureAnswer
from kmsdiag.model.correlation import Correlation, Fate
from kmsdiag.model.events import (
    Attempt,
    AttemptEnd,
    ClientEvents,
    EventsAnswer,
    HostEvents,
    HostRequest,
    Requester,
    greatest,
)
from kmsdiag.model.machine_name import ByName, is_same
from kmsdiag.model.same import Same

SAME_TIME: Final = datetime.timedelta(minutes=1)
"""The client's own time in 12288 and 12290 is written in minutes."""

NEARBY: Final = datetime.timedelta(minutes=5)
"""Without that time: how far the clocks of two machines of one domain may be apart (Kerberos' limit)."""

ZONES: Final = datetime.timedelta(hours=14)
"""How far a time that was taken for UTC may be off: UTC+14 is the farthest zone."""

GIVEN_UP: Final = datetime.timedelta(days=1)
"""A product that is not activated asks every two hours: one that is silent for a day, while others of its machine ask,
is not there any more (its edition or key was changed)."""

_NONE: Final = "0x00000000"


class _Hosts:
    """The hosts' logs, by client machine ID and by host."""

    def __init__(self, answer: EventsAnswer) -> None:
        self.logs = ByName((host.host, host) for host in answer.hosts)
        self.zone_assumed = answer.zone_assumed
        self.by_id: dict[str, list[Requester]] = {}
        for requester in answer.requesters:
            self.by_id.setdefault(requester.client_machine_id, []).append(requester)

    def requesters(self, machine_id: str) -> Sequence[Requester]:
        return self.by_id.get(machine_id, ()) if machine_id else ()

    def match(self, attempt: Attempt, machine: str) -> tuple[Requester, HostRequest] | None:
        """The host's side of an attempt."""
        found = [
            (abs(_apart(attempt, request)), requester, request)
            for requester in self.requesters(attempt.client_machine_id)
            for request in requester.requests_in_detail
            if _is_same_request(attempt, request) and _may_be(request.machine, machine)
        ]
        if not found:
            return None
        _apart_by, requester, request = min(found, key=lambda one: (one[0], one[1].host))
        return requester, request

    def covering(self, attempt: Attempt) -> HostEvents | None:
        """The log of the host that was asked, where it would hold the request if that had arrived."""
        own = self.logs.get(attempt.host)
        if own is None or own.first is None or own.last is None:
            return None
        if self.zone_assumed and attempt.client_time is None:
            return None
        margin = ZONES if self.zone_assumed else datetime.timedelta()
        if not margin <= attempt.at - own.first or not margin <= own.last - attempt.at:
            return None
        for one in self.requesters(attempt.client_machine_id):
            kept = one.requests_in_detail
            # Of an ID with many requests the newest are kept.
            if one.host == own.host and one.requests > len(kept) and (not kept or attempt.at - kept[0].at < margin):
                return None
        return own


def _apart(attempt: Attempt, request: HostRequest) -> datetime.timedelta:
    if attempt.client_time is not None and request.client_time is not None:
        return attempt.client_time - request.client_time
    return attempt.at - request.at


def _is_same_request(attempt: Attempt, request: HostRequest) -> bool:
    if attempt.activation_id and request.activation_id and attempt.activation_id != request.activation_id:
        return False
    both = attempt.client_time is not None and request.client_time is not None
    return abs(_apart(attempt, request)) <= (SAME_TIME if both else NEARBY)


def _may_be(named: str, machine: str) -> bool:
    """Whether a name in a host's log can be that of a client: it means the same, or one of them is not known."""
    return not named or not machine or is_same(named, machine)


class _Captured(NamedTuple):
    """How a client ended in captures, and from when to when it dealt with each host there."""

    words: str
    spans: tuple[tuple[datetime.datetime, datetime.datetime], ...]


def _words_of(seen: _Captured | None, at: datetime.datetime) -> str:
    """How a client ended in captures that show it at the time of its attempt; "" where they show it at others alone."""
    if seen is None:
        return ""
    near = any(first - NEARBY <= at <= last + NEARBY for first, last in seen.spans)
    return seen.words if near or not seen.spans else ""


def correlate(
    machines: Sequence[Machine], events: EventsAnswer | None, captures: CaptureAnswer | None
) -> tuple[Correlation, ...]:
    """One row a product of the clients in the logs or status files whose requests can be followed, sorted by name."""
    if events is None:
        return ()
    hosts = _Hosts(events)
    met = _captured(machines, captures)
    rows: list[Correlation] = []
    logged = []
    owners = _owners(machines)
    known = ByName((machine.name, machine) for machine in machines)
    for client in events.clients:
        if client.latest:
            name = client.machine or owners.get(client.latest[-1].client_machine_id, "")
            own = known.get(name)
            logged.append(name)
            rows.extend(_from_log(client, name, attempt, hosts, met, own) for attempt in last_attempts(client))
    by_log = ByName((name, name) for name in logged)
    for machine in machines:
        if by_log.get(machine.name) is None and not machine.is_host:
            rows.extend(_from_status(machine, hosts, met))
    return tuple(sorted(rows, key=lambda row: (row.client.lower(), row.client_machine_id, row.activation_id)))


def _owners(machines: Iterable[Machine]) -> dict[str, str]:
    """Names of machines by client machine ID, where an ID is that of one machine."""
    found: dict[str, list[str]] = {}
    for machine in machines:
        for one in machine.client_machine_ids:
            found.setdefault(one, []).append(machine.name)
    return {one: names[0] for one, names in found.items() if len(names) == 1}


# ------------------------------------------------------------------------------------------------- clients' logs


def _from_log(
    client: ClientEvents,
    name: str,
    attempt: Attempt,
    hosts: _Hosts,
    met: ByName[_Captured],
    machine: Machine | None,
) -> Correlation:
    met_at = hosts.match(attempt, client.machine)
    covering = hosts.covering(attempt)
    fate, gaps = _fate(attempt, met_at, covering), list(_gaps(client, attempt, met_at, covering, hosts))
    request = None if met_at is None else met_at[1]
    return Correlation(
        client=name or attempt.client_machine_id,
        fate=fate,
        at=attempt.at,
        client_machine_id=attempt.client_machine_id,
        activation_id=attempt.activation_id,
        host=attempt.host or ("" if met_at is None else met_at[0].host),
        hresult=attempt.answer if attempt.end is AttemptEnd.NOT_ACTIVATED else attempt.hresult,
        host_hresult="" if request is None else request.hresult,
        count=attempt.count,
        required=attempt.required if attempt.required is not None else None if request is None else request.required,
        attempts=client.attempts,
        requests=sum(one.requests for one in hosts.requesters(attempt.client_machine_id)),
        captured=_words_of(met.get(name), attempt.at),
        since=activated_since(attempt, machine),
        gaps=tuple(gaps),
    )


def activated_since(attempt: Attempt, machine: Machine | None) -> datetime.datetime | None:
    """When the product of an attempt that failed was activated after it, by a file of the same machine."""
    if machine is None or attempt.end in (AttemptEnd.ACTIVATED, AttemptEnd.OPEN):
        return None
    for product, part in products.clients(machine):
        begun = products.begun(product, part)
        windows = attempt.required == CLIENT_THRESHOLD and not products.is_office(product)
        same = windows or product.activation_id.lower() == attempt.activation_id
        if same and begun is not None and begun >= attempt.at:
            return begun
    return None


class _Asked(NamedTuple):
    """A product's last request, as far as it matters to whether the product is still there."""

    at: datetime.datetime
    required: int | None
    served: bool


def last_attempts(client: ClientEvents) -> list[Attempt]:
    """The attempt to tell of, of each product of a client that still asks; by product.

    A machine has one Windows: the one that asked last counts. What failed before Active Directory activated the machine
    (12308) does not count either.
    """
    told = {attempt.activation_id for attempt in client.latest} - {""}
    only = next(iter(told)) if len(told) == 1 else ""
    groups: dict[str, list[Attempt]] = {}
    for attempt in client.latest:
        groups.setdefault(attempt.activation_id or only, []).append(attempt)
    asked = {
        product: _Asked(own[-1].at, own[-1].required, telling(own).end is AttemptEnd.ACTIVATED)
        for product, own in groups.items()
    }
    directory = client.by_directory_last
    return [
        telling(own)
        for product, own in sorted(groups.items())
        if _still_asks(product, asked) and (directory is None or asked[product].served or own[-1].at > directory)
    ]


def _still_asks(product: str, asked: Mapping[str, _Asked]) -> bool:
    """Whether a product is not one that another has taken the place of."""
    own = asked[product]
    for name, other in asked.items():
        if name == product or (other.at, name) <= (own.at, product):
            continue
        if own.required == other.required == CLIENT_THRESHOLD:
            return False
        if not own.served and other.at - own.at > GIVEN_UP:
            return False
    return True


def telling(latest: Sequence[Attempt]) -> Attempt:
    """The attempt to tell of. Where several hosts were asked at once, the one that got furthest; else the last."""
    last = latest[-1]
    together = [one for one in latest if last.at - one.at <= captured.ATTEMPT]
    return max(enumerate(together), key=lambda pair: (_progress(pair[1]), pair[0]))[1]


def _progress(attempt: Attempt) -> int:
    if attempt.end is AttemptEnd.ACTIVATED:
        return 4
    if attempt.end is AttemptEnd.NOT_ACTIVATED:
        return 3
    known = codes.find(attempt.hresult)
    layer = Layer.PATH if known is None else known.layer
    return 2 if layer in (Layer.HOST, Layer.COUNT) else 1 if attempt.host else 0


def _fate(attempt: Attempt, met_at: tuple[Requester, HostRequest] | None, covering: HostEvents | None) -> Fate:
    match attempt.end:
        case AttemptEnd.ACTIVATED:
            return Fate.SUCCEEDED
        case AttemptEnd.NOT_ACTIVATED:
            return _discontent(attempt)
        case AttemptEnd.OPEN if met_at is None:
            return Fate.OPEN
        case AttemptEnd.FAILED:
            known = codes.find(attempt.hresult)
            layer = Layer.PATH if known is None else known.layer
            if layer is Layer.HOST:
                return Fate.REFUSED
            if layer is Layer.COUNT:
                return Fate.COUNT_TOO_LOW
            if layer in (Layer.NAME, Layer.DNS):
                return Fate.NO_HOST
            if layer in (Layer.CLIENT_KEY, Layer.HOST_KEY, Layer.NOT_KMS):
                return Fate.NOT_ACTIVATED
    if met_at is not None:
        return Fate.LOST_BACK if not codes.is_failure(met_at[1].hresult) else Fate.REFUSED
    return Fate.LOST_THERE if covering is not None else Fate.NOT_REACHED


def _discontent(attempt: Attempt) -> Fate:
    below = attempt.count is not None and attempt.required is not None and attempt.count < attempt.required
    known = codes.find(attempt.answer)
    if below or (known is not None and known.layer is Layer.COUNT):
        return Fate.COUNT_TOO_LOW
    if known is not None and known.layer is Layer.HOST:
        return Fate.REFUSED
    return Fate.NOT_ACTIVATED


def _gaps(
    client: ClientEvents,
    attempt: Attempt,
    met_at: tuple[Requester, HostRequest] | None,
    covering: HostEvents | None,
    hosts: _Hosts,
) -> Iterator[str]:
    """What makes a row less than certain."""
    if met_at is None and attempt.end is not AttemptEnd.OPEN and attempt.host:
        if covering is not None and attempt.end in (AttemptEnd.ACTIVATED, AttemptEnd.NOT_ACTIVATED):
            yield f"the log of {covering.host} lacks the request"
        elif covering is None:
            own = hosts.logs.get(attempt.host)
            yield "no log of that host" if own is None else f"the log of {own.host} does not surely hold that time"
    yield from _shared(hosts.requesters(attempt.client_machine_id))
    if len(client.client_machine_ids) > 1:
        yield f"{len(client.client_machine_ids)} client machine IDs in its log"
    if client.orphans:
        yield f"{captured.count(client.orphans, 'answer')} without a request in its log"


def _shared(requesters: Iterable[Requester]) -> Iterator[str]:
    names = max((one.names for one in requesters), default=0)
    if names > 1:
        yield f"{names:,} machines share its ID"


# ------------------------------------------------------------------------------------------------- status files


def _from_status(machine: Machine, hosts: _Hosts, met: ByName[_Captured]) -> Iterator[Correlation]:
    """A client without a log of its own, by its ID in the hosts' logs."""
    for machine_id in machine.client_machine_ids:
        requesters = hosts.requesters(machine_id)
        last = _last_requests(machine, requesters)
        asked = {
            product: _Asked(request.at, request.required, not codes.is_failure(request.hresult))
            for product, (_requester, request) in last.items()
        }
        for product, (requester, request) in sorted(last.items()):
            if _still_asks(product, asked):
                yield Correlation(
                    client=machine.name,
                    fate=_fate_of(machine, request),
                    at=request.at,
                    client_machine_id=machine_id,
                    activation_id=product,
                    host=requester.host,
                    host_hresult=request.hresult,
                    required=request.required,
                    requests=sum(one.requests for one in requesters),
                    captured=_words_of(met.get(machine.name), request.at),
                    gaps=(*_shared(requesters), "no log of the client"),
                )


def _last_requests(machine: Machine, requesters: Iterable[Requester]) -> dict[str, tuple[Requester, HostRequest]]:
    """A machine's last request of each product; of an ID that several share, only those with its own name."""
    # A name that is assumed is no reason against a request; of an ID that several share it may be one for it.
    name = "" if machine.named_by.assumed else machine.name
    last: dict[str, tuple[Requester, HostRequest]] = {}
    for one in requesters:
        for request in one.requests_in_detail or _as_detail(one):
            named = request.machine or ("" if one.names > 1 else "".join(one.machines))
            if not (is_same(named, machine.name) if one.names > 1 else _may_be(named, name)):
                continue
            before = last.get(request.activation_id)
            if before is None or (request.at, one.host) >= (before[1].at, before[0].host):
                last[request.activation_id] = (one, request)
    return last


def _as_detail(requester: Requester) -> tuple[HostRequest, ...]:
    """The last request of an ID whose requests were not kept one by one; none where several machines share it."""
    if requester.names > 1:
        return ()
    products = requester.activation_ids
    return (
        HostRequest(
            at=requester.last,
            hresult=requester.last_hresult,
            machine="".join(requester.machines),
            required=greatest(requester.required),
            activation_id=products[0] if len(products) == 1 else "",
        ),
    )


def _fate_of(machine: Machine, request: HostRequest) -> Fate:
    if codes.is_failure(request.hresult):
        return Fate.REFUSED
    own = [product for product, _part in machine.products()]
    same = [product for product in own if product.activation_id.lower() == request.activation_id]
    licensed = any(product.status == LICENSED for product in (same or own))
    return Fate.SUCCEEDED if licensed else Fate.ANSWERED


# ----------------------------------------------------------------------------------------------------- captures


def _captured(machines: Sequence[Machine], answer: CaptureAnswer | None) -> ByName[_Captured]:
    """How clients ended in captures, by name: version 4 has it, else their addresses in status files tell."""
    if answer is None:
        return ByName(())
    people: People = captured.people_of(answer)
    names = {
        address: machine.name for machine in machines for network in machine.networks() for address in network.addresses
    }
    return ByName(
        (name, _Captured(fate.outcome.words, tuple((use.first, use.last) for use in fate.client.uses)))
        for fate in people.fates
        for name in (*fate.client.machines, *([names[fate.client.address]] if fate.client.address in names else []))
    )


@functools.lru_cache(maxsize=1)
def _kept(
    evidence: Same[Sequence[Machine], EventsAnswer | None, CaptureAnswer | None],
) -> tuple[Correlation, ...]:
    return correlate(*evidence.things)


def rows(
    machines: Sequence[Machine], events: EventsAnswer | None, captures: CaptureAnswer | None
) -> tuple[Correlation, ...]:
    """The same as :func:`correlate`, kept for the next one who asks about the same evidence."""
    return _kept(Same(machines, events, captures))
