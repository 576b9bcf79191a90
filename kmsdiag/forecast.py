"""What comes when: a client's next attempts, its renewal, its end; and planned counts against the thresholds. Pure.

Sources of the figures (:mod:`kmsdiag.knowledge.limits` and :mod:`~kmsdiag.knowledge.licences` hold them):

* 120 minutes between attempts of a client that is not activated, 10,080 between renewals, both 15 to 43,200 and the
  host's to set: "Registry settings for volume activation", "Activation policy values", "Slmgr.vbs options".
* A failed renewal: 15 minutes of watching the network, then the first interval: "KMS activation timing and discovery".
* 180 days (259,200 minutes) from each success, not to be changed: the same two.
* Windows warns 30 days before the end: "Guidelines for troubleshooting KMS".
* 25, 5 and 5 machines: "KMS activation planning", "Configure a KMS host computer for Office".

Not sure: how long a grace period is. The general page gives 30 days after installation, the policy table of Windows 8.1
and 2012 R2 none; the 30 days after the end on Windows 7 are a third party's. Here only what a machine itself shows as
left is counted.
"""

import datetime
from collections.abc import Iterable, Iterator, Sequence

from kmsdiag import plan, products
from kmsdiag.collected import Machine
from kmsdiag.knowledge.licences import (
    GRACE,
    LICENSED,
    MINUTES_OF_A_GRANT,
    NOTIFICATION,
    WARNING_MINUTES,
    status_words,
)
from kmsdiag.knowledge.limits import ACTIVATION_INTERVAL, HOSTS_PER_KEY, RENEWAL_INTERVAL, RENEWAL_WATCH
from kmsdiag.model.forecast import ClientForecast, CountState, Forecast, HostCount, Reading, Step, StepKind
from kmsdiag.model.target import Expected, ExpectedHost, Site

_DAY = 24 * 60
_STALE = _DAY
"""Minutes after which a reading may have been overtaken by a renewal that nobody saw."""

_DOMAIN = "planned.example"

_NO_DATES = "Where the moment of the reading is not known, times count from it and have no date."
_USUAL = (
    "Intervals that are not told are the usual ones, 120 minutes and, once activated, 10,080; a host may set others."
)
_GRACE_DOUBT = (
    "How long a grace period is differs by version, and Microsoft's pages do not agree on it; what is left is the"
    " machine's own word."
)
_AFTER_THE_END = "After the end Windows 7 has a further grace period; newer versions go to notifications."
_AVERAGES = (
    "Counts are averages: clients pick among equal hosts at random. The asking machine counts itself, and one that has"
    " not asked for 30 days no longer counts."
)
_MOST_COUNT = "A host shows at most 50 where Windows clients ask, and 10 for servers alone or for Office."


def forecast(
    readings: Iterable[Reading], plans: Sequence[Expected], tool: str, now: datetime.datetime | None = None
) -> Forecast:
    """All clients that end soonest first, then the counts of all plans.

    ``now`` is UTC and marks what has passed; None where the moment does not matter. Without a collection time a
    client's steps have no dates.
    """
    clients = sorted((client(reading, now) for reading in readings), key=_urgency)
    counts = tuple(row for expected in plans for row in thresholds(expected))
    return Forecast(tool=tool, clients=tuple(clients), counts=counts, notes=tuple(_notes(clients, counts, plans)))


def of_machine(machine: Machine) -> Iterator[Reading]:
    """The products of a machine that ask a KMS host, as its collected files show them."""
    for product, part in products.clients(machine):
        yield Reading(
            name=f"{machine.name} (assumed)" if machine.named_by.assumed else machine.name,
            product=product.name,
            status=product.status,
            remaining=product.grace_minutes or None,
            activation_interval=product.activation_interval_min,
            renewal_interval=product.renewal_interval_min,
            collected_at=part.at,
            directory=bool(product.ad_object),
        )


def since_success(
    last: datetime.datetime, now: datetime.datetime, activation_interval: int = 0, renewal_interval: int = 0
) -> Reading:
    """What a client shows now whose last success was then, if none came since."""
    left = MINUTES_OF_A_GRANT - int((now - last).total_seconds() // 60)
    return Reading(
        status=LICENSED if left > 0 else NOTIFICATION,
        remaining=left,
        activation_interval=activation_interval,
        renewal_interval=renewal_interval,
        collected_at=now,
    )


# ------------------------------------------------------------------------------------------------------ clients


def client(reading: Reading, now: datetime.datetime | None = None) -> ClientForecast:
    """What comes for one product, if no host answers it, and what if one does."""
    tells = reading.remaining is not None and 0 < reading.remaining <= MINUTES_OF_A_GRANT
    if reading.status == LICENSED and tells:
        found = _licensed(reading)
    elif reading.status == LICENSED:
        said = "the minutes that are left are not told" if reading.remaining is None else "it is not for 180 days"
        note = f"it is licensed and {said}: when it renews, and whether it ends at all, is not known"
        found = ClientForecast(reading=reading, status=status_words(reading.status), notes=(note,))
    elif 0 <= reading.status <= max(GRACE):
        found = _not_licensed(reading)
    else:
        note = "its status is not told: nothing can be said"
        found = ClientForecast(reading=reading, status=status_words(reading.status), notes=(note,))
    return _dated(found, now)


def _intervals(reading: Reading) -> tuple[int, int]:
    """Minutes between attempts, and between renewals."""
    return (
        reading.activation_interval or ACTIVATION_INTERVAL // 60,
        reading.renewal_interval or RENEWAL_INTERVAL // 60,
    )


def _licensed(reading: Reading) -> ClientForecast:
    left = reading.remaining or 0
    often, renewal = _intervals(reading)
    watch = RENEWAL_WATCH // 60
    elapsed = MINUTES_OF_A_GRANT - left
    due = renewal - elapsed
    notes = []
    if due >= 0:
        steps = [
            Step(kind=StepKind.RENEWAL, minutes=due, text="asks its host to renew; a success gives 180 days anew"),
            Step(
                kind=StepKind.TRY,
                minutes=due + watch,
                text=f"if that fails: after {watch} minutes of watching the network, then every {often} minutes",
            ),
        ]
    else:
        steps = [
            Step(kind=StepKind.TRY, minutes=often, text=f"asks again, as every {often} minutes", latest=True),
        ]
        notes.append(
            "its renewals fail: it should have renewed before this was read"
            if -due > renewal
            else "a renewal is overdue: it failed, or the machine was off"
        )
    steps += [
        Step(kind=StepKind.ACTIVATED, minutes=-elapsed, text="last success, which follows from the minutes left"),
        Step(kind=StepKind.WARNING, minutes=left - WARNING_MINUTES, text="Windows warns, 30 days before the end"),
        Step(kind=StepKind.END, minutes=left, text="no longer activated, if no host answers until then"),
    ]
    if reading.directory:
        notes.append("Active Directory activated it: it renews there, and asks a KMS host only where that fails")
    return ClientForecast(
        reading=reading,
        status=status_words(reading.status),
        steps=tuple(sorted(steps, key=lambda step: step.minutes)),
        elapsed=elapsed,
        late=max(0, -due),
        tries=max(0, (left - max(due, 0) - watch) // often),
        notes=tuple(notes),
    )


def _not_licensed(reading: Reading) -> ClientForecast:
    often, _renewal = _intervals(reading)
    steps = [
        Step(kind=StepKind.TRY, minutes=often, text=f"asks at start-up, and every {often} minutes", latest=True),
    ]
    left = reading.remaining or 0
    if left < 0 or (left == 0 and reading.remaining is not None):
        steps.append(Step(kind=StepKind.END, minutes=left, text="its 180 days ended"))
    elif reading.status in GRACE and left:
        steps.append(Step(kind=StepKind.END, minutes=left, text="its grace period ends, if no host answers until then"))
    return ClientForecast(
        reading=reading,
        status=status_words(reading.status),
        steps=tuple(sorted(steps, key=lambda step: step.minutes)),
        tries=max(0, left) // often if reading.status in GRACE else 0,
    )


def _dated(found: ClientForecast, now: datetime.datetime | None) -> ClientForecast:
    """The same with dates where the moment of the reading is known."""
    start = found.reading.collected_at
    if start is None:
        return found
    age = int((now - start).total_seconds() // 60) if now is not None else 0
    steps = []
    for step in found.steps:
        at = _later(start, step.minutes)
        past = step.minutes < age or step.kind is StepKind.ACTIVATED
        steps.append(_replace(step, at, past=past))
    notes = list(found.notes)
    if age < 0:
        notes.append("read after now: one of the two times is wrong")
    return ClientForecast(
        reading=found.reading,
        status=found.status,
        steps=tuple(steps),
        elapsed=found.elapsed,
        late=found.late,
        tries=found.tries,
        age=max(0, age),
        notes=tuple(notes),
    )


def _replace(step: Step, at: datetime.datetime | None, *, past: bool) -> Step:
    return Step(kind=step.kind, minutes=step.minutes, text=step.text, at=at, latest=step.latest, past=past)


def _later(start: datetime.datetime, minutes: int) -> datetime.datetime | None:
    try:
        return start + datetime.timedelta(minutes=minutes)
    except OverflowError:
        return None


def _urgency(one: ClientForecast) -> tuple[int, str, str]:
    ends = [step.minutes for step in one.steps if step.kind is StepKind.END]
    # Without an end: what is not activated has come to it, and of the rest nothing is known.
    end = ends[0] if ends else -1 if one.steps else MINUTES_OF_A_GRANT + 1
    return end, one.reading.name, one.reading.product


# ------------------------------------------------------------------------------------------------------- counts


def planned(clients: int, servers: int, office: int, hosts: int) -> Expected:
    """A plan of one domain with so many equal hosts, for numbers without an expected state."""
    names = tuple(f"host {number}" for number in range(1, hosts + 1))
    return Expected(
        hosts=tuple(ExpectedHost(name, domains=(_DOMAIN,)) for name in names),
        planned=True,
        sites=(Site(name="", domain=_DOMAIN, client=clients, server=servers, office=office),),
    )


def thresholds(expected: Expected) -> Iterator[HostCount]:
    """Each kind of planned machine at the hosts of the plan, as the plan publishes them."""
    load = plan.spread(
        ((site, plan.as_planned(site.domain, expected.hosts)) for site in expected.sites), expected.hosts
    )
    for kind in plan.Kind:
        number = sum(kind.planned(site) for site in expected.sites)
        if not number:
            continue
        groups: dict[float, list[str]] = {}
        for host, count in load.hosts(kind):
            groups.setdefault(round(count, 1), []).append(host)
        for count, hosts in groups.items():
            state = CountState.MET if count >= kind.threshold else CountState.TOO_FEW if count else CountState.RESERVE
            yield HostCount(
                kind=kind.words, planned=number, needed=kind.threshold, hosts=tuple(hosts), count=count, state=state
            )
        if not groups:
            yield HostCount(
                kind=kind.words, planned=number, needed=kind.threshold, hosts=(), count=0, state=CountState.NO_HOST
            )


def _notes(clients: Sequence[ClientForecast], counts: Sequence[HostCount], plans: Sequence[Expected]) -> Iterator[str]:
    known = [one for one in clients if one.steps]
    if any(not one.reading.collected_at for one in known):
        yield _NO_DATES
    if any(one.reading.collected_at for one in known):
        yield "Times are UTC."
    oldest = max((one.age for one in clients), default=0)
    if oldest >= _STALE:
        days = "1 day" if oldest < 2 * _DAY else f"up to {oldest // _DAY} days"
        yield f"What was read is {days} old: attempts that have passed since then may have gone well."
    if any(_assumed(one.reading) for one in known):
        yield _USUAL
    if any(one.reading.status in GRACE for one in clients):
        yield _GRACE_DOUBT
    if any(one.elapsed is not None for one in clients):
        yield _AFTER_THE_END
    if counts:
        yield _AVERAGES
        yield _MOST_COUNT
    if any(len(expected.hosts) > HOSTS_PER_KEY for expected in plans):
        yield f"One host key can be activated on {HOSTS_PER_KEY} hosts."


def _assumed(reading: Reading) -> bool:
    return not reading.activation_interval or (reading.status == LICENSED and not reading.renewal_interval)
