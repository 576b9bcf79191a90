"""Two sides of one request: events 12288/12289 of clients with 12290 of hosts, with status files and with captures.

A request is the same on both sides where its client machine ID and the client's own time are: both events carry them,
so the clocks of the two machines do not matter. Pure: the same evidence gives the same rows.
"""

import datetime
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from kmsdiag import captured
from kmsdiag.captured import People
from kmsdiag.collected import ByName, Machine, is_same_name
from kmsdiag.knowledge import codes
from kmsdiag.knowledge.codes import Layer
from kmsdiag.knowledge.licences import LICENSED
from kmsdiag.model.capture import CaptureAnswer
from kmsdiag.model.correlation import Correlation, Fate
from kmsdiag.model.events import Attempt, AttemptEnd, ClientEvents, EventsAnswer, HostEvents, HostRequest, Requester

SAME_TIME: Final = datetime.timedelta(minutes=1)
"""The client's own time in 12288 and 12290 is written in minutes."""

NEARBY: Final = datetime.timedelta(minutes=5)
"""Without that time: how far the clocks of two machines of one domain may be apart (Kerberos' limit)."""

_NONE: Final = "0x00000000"


class _Hosts:
    """The hosts' logs, by client machine ID and by host."""

    def __init__(self, answer: EventsAnswer) -> None:
        self.logs = ByName(answer.hosts, lambda host: host.host)
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
            if _is_same(attempt, request) and _may_be(request.machine, machine)
        ]
        if not found:
            return None
        _apart_by, requester, request = min(found, key=lambda one: (one[0], one[1].host))
        return requester, request

    def covering(self, attempt: Attempt) -> HostEvents | None:
        """The log of the host that was asked, where it holds the time of the attempt."""
        own = self.logs.get(_without_port(attempt.host))
        if own is None or own.first is None or own.last is None:
            return None
        return own if own.first <= attempt.at <= own.last else None


def _apart(attempt: Attempt, request: HostRequest) -> datetime.timedelta:
    if attempt.client_time is not None and request.client_time is not None:
        return attempt.client_time - request.client_time
    return attempt.at - request.at


def _is_same(attempt: Attempt, request: HostRequest) -> bool:
    both = attempt.client_time is not None and request.client_time is not None
    return abs(_apart(attempt, request)) <= (SAME_TIME if both else NEARBY)


def _may_be(named: str, machine: str) -> bool:
    """Whether a name in a host's log can be that of a client; one that is not known may be any."""
    return not named or not machine or is_same_name(named, machine)


def _without_port(host: str) -> str:
    return host.partition(":")[0]


def _short(name: str) -> str:
    return name.lower().partition(":")[0].partition(".")[0]


def correlate(
    machines: Sequence[Machine], events: EventsAnswer | None, captures: CaptureAnswer | None
) -> tuple[Correlation, ...]:
    """One row a client of the logs or status files whose requests can be followed, sorted by name."""
    if events is None:
        return ()
    hosts = _Hosts(events)
    met = _captured(machines, captures)
    logged = [client for client in events.clients if client.latest]
    by_log = ByName(logged, lambda client: client.machine)
    rows = [_from_log(client, hosts, met) for client in logged]
    for machine in machines:
        if by_log.get(machine.name) is None and not machine.is_host:
            rows.extend(_from_status(machine, hosts, met))
    return tuple(sorted(rows, key=lambda row: (row.client.lower(), row.client_machine_id)))


# ------------------------------------------------------------------------------------------------- clients' logs


def _from_log(client: ClientEvents, hosts: _Hosts, met: Mapping[str, str]) -> Correlation:
    attempt = telling(client.latest)
    met_at = hosts.match(attempt, client.machine)
    covering = hosts.covering(attempt)
    fate, gaps = _fate(attempt, met_at, covering), list(_gaps(client, attempt, met_at, covering, hosts))
    request = None if met_at is None else met_at[1]
    return Correlation(
        client=client.machine or attempt.client_machine_id,
        fate=fate,
        at=attempt.at,
        client_machine_id=attempt.client_machine_id,
        host=attempt.host or ("" if met_at is None else met_at[0].host),
        hresult=attempt.answer if attempt.end is AttemptEnd.NOT_ACTIVATED else attempt.hresult,
        host_hresult="" if request is None else request.hresult,
        count=attempt.count,
        required=attempt.required if attempt.required is not None else None if request is None else request.required,
        attempts=client.attempts,
        requests=sum(one.requests for one in hosts.requesters(attempt.client_machine_id)),
        captured=met.get(_short(client.machine), ""),
        gaps=tuple(gaps),
    )


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
        return Fate.LOST_BACK if _is_success(met_at[1].hresult) else Fate.REFUSED
    return Fate.LOST_THERE if covering is not None else Fate.NOT_REACHED


def _discontent(attempt: Attempt) -> Fate:
    below = attempt.count is not None and attempt.required is not None and attempt.count < attempt.required
    known = codes.find(attempt.answer)
    if below or (known is not None and known.layer is Layer.COUNT):
        return Fate.COUNT_TOO_LOW
    if known is not None and known.layer is Layer.HOST:
        return Fate.REFUSED
    return Fate.NOT_ACTIVATED


def _is_success(hresult: str) -> bool:
    return not hresult or not int(hresult, 16) >> 31


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
            own = hosts.logs.get(_without_port(attempt.host))
            yield "no log of that host" if own is None else f"the log of {own.host} does not reach to that time"
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


def _from_status(machine: Machine, hosts: _Hosts, met: Mapping[str, str]) -> Iterator[Correlation]:
    """A client without a log of its own, by its ID in the hosts' logs."""
    for machine_id in machine.client_machine_ids:
        requesters = hosts.requesters(machine_id)
        if not requesters:
            continue
        last = max(requesters, key=lambda one: (one.last, one.host))
        licensed = any(product.status == LICENSED for product, _part in machine.products())
        refused = not _is_success(last.last_hresult)
        yield Correlation(
            client=machine.name,
            fate=Fate.REFUSED if refused else Fate.SUCCEEDED if licensed else Fate.ANSWERED,
            at=last.last,
            client_machine_id=machine_id,
            host=last.host,
            host_hresult=last.last_hresult,
            required=max(map(int, last.required), default=None),
            requests=sum(one.requests for one in requesters),
            captured=met.get(_short(machine.name), ""),
            gaps=(*_shared(requesters), "no log of the client"),
        )


# ----------------------------------------------------------------------------------------------------- captures


def _captured(machines: Sequence[Machine], answer: CaptureAnswer | None) -> dict[str, str]:
    """How clients ended in captures, by short name: version 4 has it, else their addresses in status files tell."""
    if answer is None:
        return {}
    people: People = captured.people_of(answer)
    names = {
        address: machine.name for machine in machines for network in machine.networks() for address in network.addresses
    }
    met = {}
    for fate in people.fates:
        own = [*fate.client.machines, *([names[fate.client.address]] if fate.client.address in names else [])]
        for name in own:
            met[_short(name)] = fate.outcome.words
    return met


@functools.lru_cache(maxsize=1)
def _kept(key: "_Key") -> tuple[Correlation, ...]:
    return correlate(key.machines, key.events, key.captures)


class _Key:
    """Evidence as a key: it is large and not hashable, and the very same is asked about by checks, paths and report."""

    __slots__ = ("captures", "events", "machines")

    def __init__(
        self, machines: Sequence[Machine], events: EventsAnswer | None, captures: CaptureAnswer | None
    ) -> None:
        self.machines, self.events, self.captures = machines, events, captures

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Key)
            and self.machines is other.machines
            and self.events is other.events
            and self.captures is other.captures
        )

    def __hash__(self) -> int:
        return hash((id(self.machines), id(self.events), id(self.captures)))


def rows(
    machines: Sequence[Machine], events: EventsAnswer | None, captures: CaptureAnswer | None
) -> tuple[Correlation, ...]:
    """The same as :func:`correlate`, kept for the next one who asks about the same evidence."""
    return _kept(_Key(machines, events, captures))
