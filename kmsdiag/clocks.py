"""Whose clock is how far from whose: hosts, the DNS servers of a domain (its domain controllers, mostly), and here.

The check and the activation paths read the same clocks, so they can't disagree about who is wrong.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kmsdiag import discovery
from kmsdiag.knowledge.limits import CLOCK_TOLERANCE, CLOCK_WARNING
from kmsdiag.model.answer import ClockAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.outcome import ClockOutcome, DnsOutcome
from kmsdiag.model.request import ClockQuery, ClockSource, Request
from kmsdiag.model.target import SYSTEM, Subject, split_server

_SLACK = 1.0
"""Seconds by which two sources of one machine may differ beyond their error bars."""


class Machine(NamedTuple):
    """One address to ask: of a KMS host by the name of its record, or of a DNS server, whose name is its address."""

    name: str
    address: str
    is_host: bool

    def __str__(self) -> str:
        if not self.is_host:
            return f"DNS server {self.address}"
        return self.name if self.name == self.address else f"{self.name} ({self.address})"


class Reading(NamedTuple):
    """What a machine has said about its time so far: its answers, in the order of the sources."""

    machine: Machine
    answers: tuple[tuple[ClockQuery, ClockAnswer], ...]

    @property
    def complete(self) -> bool:
        """Whether every source has been heard."""
        return len(self.answers) == len(ClockSource)

    @property
    def told(self) -> tuple[tuple[ClockQuery, ClockAnswer], ...]:
        """The answers that hold a time."""
        return tuple((query, answer) for query, answer in self.answers if answer.outcome is ClockOutcome.ANSWERED)


class Clock(NamedTuple):
    """A machine with the best of its readings (that with the smallest error bar), and the questions behind them.

    It is ``sure`` where its sources agree; no error rests on one that is not.
    """

    machine: Machine
    source: ClockSource
    offset: float
    error: float
    sure: bool
    because: tuple[Request[Any], ...]

    def is_off(self, limit: float) -> bool:
        """Whether it is further from this machine's clock than that, error bar and all."""
        return abs(self.offset) - self.error > limit

    def is_apart(self, other: "Clock", limit: float) -> bool:
        """Whether two machines are further apart than that, both error bars and all."""
        return abs(self.offset - other.offset) - self.error - other.error > limit


def machines(subject: Subject, seen: Evidence) -> list[Machine]:
    """Each address once: those of hosts, and for a domain that has hosts those of the DNS servers that answered."""
    found: dict[str, Machine] = {}
    for endpoint in discovery.endpoints(subject, seen):
        found.setdefault(endpoint.address, Machine(endpoint.service.target, endpoint.address, is_host=True))
    if found:
        for query, answer in discovery.srv_answers(subject, seen):
            server = query.server
            if server == SYSTEM:
                # One that did not answer is only the last that was tried.
                answered = answer.outcome is DnsOutcome.ANSWERED or answer.outcome.is_absence
                server = answer.server if answered else ""
            address = split_server(server)[0] if server else ""
            # A resolver on this machine itself (systemd-resolved and its like) has this machine's clock.
            if address and address != "::1" and not address.startswith("127."):
                found.setdefault(address, Machine(address, address, is_host=False))
    return list(found.values())


def queries(machine: Machine) -> list[ClockQuery]:
    """The time of a machine by every source."""
    return [ClockQuery(address=machine.address, source=source) for source in ClockSource]


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """Discovery, then the time of each machine by all sources at once."""
    yield from discovery.ask(subject, seen)
    for machine in machines(subject, seen):
        yield from queries(machine)


def is_complete(subject: Subject, seen: Evidence) -> bool:
    """Whether every question was answered: a machine not heard may be the one that shows whose clock is wrong."""
    return all(seen.get(request) is not None for request in ask(subject, seen))


def readings(subject: Subject, seen: Evidence) -> list[Reading]:
    """What each machine has said so far."""
    return [
        Reading(
            machine,
            tuple((query, answer) for query in queries(machine) if (answer := seen.get(query)) is not None),
        )
        for machine in machines(subject, seen)
    ]


def clock_of(reading: Reading) -> Clock | None:
    """The clock of a machine; None where it told no time."""
    told = reading.told
    if not told:
        return None
    query, answer = min(told, key=lambda one: one[1].error_s)
    sure = all(
        abs(one.offset_s - other.offset_s) <= one.error_s + other.error_s + _SLACK
        for (_one, one), (_other, other) in itertools.combinations(told, 2)
    )
    because = tuple(query for query, _answer in told)
    return Clock(reading.machine, query.source, answer.offset_s, answer.error_s, sure, because)


def is_here_wrong(clocks: Sequence[Clock]) -> bool:
    """Whether two machines or more agree with each other, and all that told their time differ from this one."""
    # Two addresses of one name may be one machine, and two names of one address are.
    if len({clock.machine.name for clock in clocks}) < 2:
        return False
    if not all(clock.is_off(CLOCK_WARNING) for clock in clocks):
        return False
    return not any(one.is_apart(other, CLOCK_WARNING) for one, other in itertools.combinations(clocks, 2))


def refusing(subject: Subject, seen: Evidence) -> dict[str, float]:
    """Hosts whose clock is beyond what KMS tolerates for this subject's clients, by address: seconds they are off.

    Clients have the clock of their domain controller. Where no DNS server tells its time, this machine's clock stands
    for it. Nothing is said on incomplete evidence, where a machine's sources disagree, or where it is this machine that
    is wrong.
    """
    if not is_complete(subject, seen):
        return {}
    clocks = [clock for reading in readings(subject, seen) if (clock := clock_of(reading)) is not None]
    if is_here_wrong(clocks):
        return {}
    servers = [clock for clock in clocks if not clock.machine.is_host and clock.sure]
    found = {}
    for host in (clock for clock in clocks if clock.machine.is_host and clock.sure):
        apart = [host.offset - server.offset for server in servers if host.is_apart(server, CLOCK_TOLERANCE)]
        if apart:
            found[host.machine.address] = apart[0]
        elif not servers and host.is_off(CLOCK_TOLERANCE):
            found[host.machine.address] = host.offset
    return found


def in_words(seconds: float) -> str:
    """A signed offset, in hours and minutes where it is long."""
    whole = round(abs(seconds))
    sign = "-" if seconds < 0 else "+"
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{sign}{hours} h {minutes} min" if hours else f"{sign}{minutes} min {whole % 60} s"
