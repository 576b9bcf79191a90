"""Whether the clocks of hosts, of the domain's servers and of this machine agree.

What it looks at: the time of each address of each host by SMB2 negotiate (TCP 445), NTP (UDP 123) and the Date of an
HTTP answer (TCP 80), with error bars and without logging in; for a domain also the time of the DNS servers asked.
Why it matters: a KMS host refuses a client whose clock differs by more than 4 hours in UTC (0xC004F06C), time zones
apart. Clients follow their domain controller, which is usually their DNS server: where host and DNS server are apart,
host and clients are.
What to do: correct the one clock that differs from all others, and find out what it is set by.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from kmsdiag import clocks
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains_and_hosts, say
from kmsdiag.clocks import Clock, Reading, clock_of, is_here_wrong, readings
from kmsdiag.knowledge.limits import CLOCK_TOLERANCE, CLOCK_WARNING
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import ClockOutcome
from kmsdiag.model.request import ClockSource, Request
from kmsdiag.model.target import Subject

_STATUS = Fix(Where.KMS_HOST, "see what sets its clock", "w32tm /query /status")
_RESYNC = Fix(Where.KMS_HOST, "set its clock anew", "w32tm /resync")
_COMPARE_HOST = Fix(
    Where.KMS_HOST, "compare it with the domain", "w32tm /stripchart /computer:{server} /samples:3 /dataonly"
)
_COMPARE_CLIENT = Fix(
    Where.CLIENT, "compare a client with the domain", "w32tm /stripchart /computer:{server} /samples:3 /dataonly"
)

META = CheckMeta(
    title="Clocks of the hosts",
    codes={
        "within": Code(Severity.OK, "{machine} is {offset} ± {error} from this machine's clock (by {source})."),
        "large": Code(
            Severity.WARNING,
            "{machine} is {offset} ± {error} from this machine's clock (by {source}): more than 5 minutes.",
            "One of the two is wrong. Beyond 5 minutes Kerberos fails, beyond 4 hours KMS.",
            (_STATUS, _RESYNC),
        ),
        "beyond": Code(
            Severity.ERROR,
            "{machine} is {offset} ± {error} from this machine's clock (by {source}): more than 4 hours.",
            "The host answers clients that are so far from it with 0xC004F06C, and they show 0xC004F074. If this"
            " machine's clock is right, these are all that have the right time.",
            (_STATUS, _RESYNC),
        ),
        "sources_differ": Code(
            Severity.WARNING,
            "{machine} tells several times: {readings}.",
            "What answers on one of the ports is another machine (a proxy, a load balancer) or has a clock of its own.",
            (
                Fix(
                    Where.KMS_HOST,
                    "see what the machine itself says",
                    "w32tm /query /status; (Get-Date).ToUniversalTime()",
                ),
            ),
        ),
        "apart": Code(
            Severity.WARNING,
            "{machine} is {offset} ± {error} from the clock of DNS server {server}: more than 5 minutes.",
            "Clients follow their domain controller. Beyond 5 minutes Kerberos fails, beyond 4 hours KMS.",
            (_COMPARE_HOST, _RESYNC, _COMPARE_CLIENT),
        ),
        "apart_beyond": Code(
            Severity.ERROR,
            "{machine} is {offset} ± {error} from the clock of DNS server {server}: more than 4 hours.",
            "Clients that follow this server as their domain controller get 0xC004F06C and show 0xC004F074.",
            (_COMPARE_HOST, _RESYNC, _COMPARE_CLIENT),
        ),
        "server_off": Code(
            Severity.WARNING,
            "DNS server {server} is {offset} ± {error} from this machine's clock (by {source}): more than 5 minutes.",
            "If it is a domain controller, clients follow it, away from KMS hosts that have the right time.",
            (Fix(Where.DNS_SERVER, "see what sets its clock", "w32tm /query /status"), _COMPARE_CLIENT),
        ),
        "here_wrong": Code(
            Severity.WARNING,
            "This machine's clock is {off} against all {count} machines that told theirs: {machines}.",
            "They agree with each other, so this machine is wrong. A client with this clock is refused beyond 4 hours.",
            (
                Fix(Where.HERE, "see whether this machine's clock is synchronised", "timedatectl status"),
                Fix(Where.CLIENT, "if it is a client: set its clock anew", "w32tm /resync"),
            ),
        ),
        "unknown": Code(
            Severity.NOT_ASSESSED,
            "{machine} tells nobody its time: {tried}.",
            "Nothing is known about its clock; none of these ports has to be open for KMS.",
            (
                Fix(
                    Where.KMS_HOST,
                    "see its time and what sets it",
                    "w32tm /query /status; (Get-Date).ToUniversalTime()",
                ),
            ),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "No address of {subject} is known to ask for the time."),
        "off": Code(Severity.NOT_ASSESSED, "The clocks of {subject} were not to be asked for."),
    },
    tags=frozenset({"clock", "network"}),
    since="0.1",
    references=(
        "Microsoft: Error 0xC004F074 when you activate Windows (KB 974998)",
        "MS-SMB2 2.2.4",
        "RFC 5905",
        "RFC 9110 section 6.6.1",
    ),
)

subjects = domains_and_hosts

_NAMES = {ClockSource.SMB2: "SMB2", ClockSource.NTP: "NTP", ClockSource.HTTP: "HTTP"}
_WORDS = {
    ClockOutcome.SILENT: "silent",
    ClockOutcome.REFUSED: "refused",
    ClockOutcome.UNREACHABLE: "unreachable",
    ClockOutcome.UNSYNCHRONISED: "not synchronised",
    ClockOutcome.NOT_SPOKEN: "no time",
}


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """Discovery, then the time of each machine by all sources at once."""
    if seen.target.clock:
        yield from clocks.ask(subject, seen)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a machine, more where machines differ. Errors are said only where every question was answered."""
    if not seen.target.clock:
        yield say("off", (), subject=str(subject))
        return
    asked = tuple(dict.fromkeys(ask(subject, seen)))
    heard = readings(subject, seen)
    if not heard:
        for request in asked:
            seen[request]
        yield say("nothing", asked, subject=str(subject))
        return
    told = []
    for reading in heard:
        clock = clock_of(reading)
        if clock is not None:
            if not clock.sure:
                yield _say_differ(reading)
            told.append(clock)
        elif reading.machine.is_host and reading.complete:
            yield _say_unknown(reading)
    yield from _compare(told, complete=clocks.is_complete(subject, seen))
    # Where a machine told nothing because it was not asked, the engine adds the gap.


def _compare(told: Sequence[Clock], *, complete: bool) -> Iterator[Finding]:
    if is_here_wrong(told):
        yield _say_here_wrong(told)
        return
    hosts = [clock for clock in told if clock.machine.is_host]
    servers = [clock for clock in told if not clock.machine.is_host]
    named: set[str] = set()
    for host, server in itertools.product(hosts, servers):
        if host.is_apart(server, CLOCK_WARNING):
            named |= {host.machine.address, server.machine.address}
            beyond = complete and host.sure and server.sure and host.is_apart(server, CLOCK_TOLERANCE)
            yield say(
                "apart_beyond" if beyond else "apart",
                (*host.because, *server.because),
                machine=str(host.machine),
                server=server.machine.address,
                offset=_offset_words(host.offset - server.offset),
                error=_error_words(host.error + server.error),
            )
    for clock in told:
        if not clock.is_off(CLOCK_WARNING):
            yield _say_clock("within", clock, machine=str(clock.machine))
        elif clock.machine.address in named:
            # Said already, and better: against the clock that clients have.
            continue
        elif not clock.machine.is_host:
            yield _say_clock("server_off", clock, server=clock.machine.address)
        else:
            beyond = complete and clock.sure and clock.is_off(CLOCK_TOLERANCE)
            yield _say_clock("beyond" if beyond else "large", clock, machine=str(clock.machine))


def _say_here_wrong(told: Sequence[Clock]) -> Finding:
    best = min(told, key=lambda clock: clock.error)
    by_name: dict[str, Clock] = {}
    for clock in told:
        by_name.setdefault(clock.machine.name, clock)
    return say(
        "here_wrong",
        tuple(query for clock in told for query in clock.because),
        off=f"{_in_words(abs(best.offset))} {'slow' if best.offset > 0 else 'fast'}",
        count=len(by_name),
        machines=tuple(f"{clock.machine} {_offset_words(clock.offset)}" for clock in by_name.values()),
    )


def _say_clock(code: str, clock: Clock, **place: str) -> Finding:
    return say(
        code,
        clock.because,
        **place,
        offset=_offset_words(clock.offset),
        error=_error_words(clock.error),
        source=_NAMES[clock.source],
    )


def _say_differ(reading: Reading) -> Finding:
    because = tuple(query for query, _answer in reading.told)
    times = tuple(
        f"{_NAMES[query.source]} {_offset_words(answer.offset_s)} ± {_error_words(answer.error_s)}"
        for query, answer in reading.told
    )
    return say("sources_differ", because, machine=str(reading.machine), readings=times)


def _say_unknown(reading: Reading) -> Finding:
    tried = []
    for query, answer in reading.answers:
        detail = "" if answer.outcome is ClockOutcome.REFUSED else answer.detail
        tried.append(f"{_NAMES[query.source]} {_WORDS[answer.outcome]}" + (f" ({detail})" if detail else ""))
    because = tuple(query for query, _answer in reading.answers)
    return say("unknown", because, machine=str(reading.machine), tried=tuple(tried))


def _offset_words(seconds: float) -> str:
    return ("-" if round(seconds, 3) < 0 else "+") + _in_words(abs(seconds))


def _in_words(seconds: float) -> str:
    """A length of time: finely where it is short, in hours and minutes where it is long."""
    if seconds < 10:
        return f"{seconds:.3f} s"
    tenths = round(seconds * 10)
    if tenths < 600:
        return f"{tenths / 10:.1f} s"
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    first = next(place for place, (number, _unit) in enumerate(parts) if number)
    return " ".join(f"{number} {unit}" for number, unit in parts[first:]) + f" {tenths / 10:.1f} s"


def _error_words(seconds: float) -> str:
    return f"{max(seconds, 0.001):.3f} s" if seconds < 10 else _in_words(seconds)
