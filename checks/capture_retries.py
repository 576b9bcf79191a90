"""How often captured clients come back, and what that says about their state.

What it looks at: the time between the attempts of one client at one host (connections less than a minute apart are
one attempt).
Why it matters: a client that is not activated asks every 2 hours, one that is every 7 days, unless the host sets
other intervals. The spacing tells which of the two it is even where the answer's content is encrypted. A client that
asks every few minutes is a script or a fault, and fills the host's event log.
What to do: look at what the host answers those who come back every two hours; find what runs on those who never stop.
"""

from collections.abc import Iterable, Iterator

from kmsdiag import captured
from kmsdiag.captured import Contact, People, span
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, captures, say
from kmsdiag.knowledge.limits import ACTIVATION_INTERVAL, LEAST_INTERVAL, RENEWAL_INTERVAL
from kmsdiag.model.capture import CapturedHost, Spread
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Captures
from kmsdiag.model.target import Subject

_NEAR = 0.1
"""Share by which a spacing may differ from an interval and still be taken for it."""

_MANY = 5
"""Attempts from which on a client that comes too soon counts as hammering."""

_SEE = Fix(Where.CLIENT, "see its state, and which host it uses", "slmgr /dlv")

META = CheckMeta(
    title="Retries in the captures",
    codes={
        "retrying": Code(
            Severity.WARNING,
            "{host} is asked every {spacing} by {clients}: the interval of clients that are not activated.",
            "They keep asking until a host activates them; where the answer was a success, its count is too low.",
            (_SEE,),
        ),
        "renewing": Code(Severity.OK, "{host} is asked every {spacing} by {clients}: renewals of activated clients."),
        "hammering": Code(
            Severity.WARNING,
            "{host} is asked up to {attempts} times, about every {spacing}, by {clients}.",
            "Windows does not ask more often than every 15 minutes by itself: a script, a scheduled task, or a tool.",
            (
                Fix(
                    Where.CLIENT,
                    "see what starts it",
                    "Get-ScheduledTask -TaskPath '\\Microsoft\\Windows\\SoftwareProtectionPlatform\\'",
                ),
                _SEE,
            ),
        ),
        "interval": Code(
            Severity.INFO,
            "{host} is asked every {spacing} by {clients}.",
            "An interval that the host sets (slmgr /sai, /sri), or attempts by hand.",
            (Fix(Where.KMS_HOST, "see the intervals it sets", "slmgr /dlv"),),
        ),
        "once": Code(Severity.OK, "Nobody came back to the same host within {duration}."),
        "too_short": Code(
            Severity.NOT_ASSESSED,
            "The captures last {duration}: whether clients come back every 2 hours or 7 days can't be seen in them.",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The captures hold no attempt to activate."),
    },
    tags=frozenset({"capture", "client"}),
    since="0.1",
    references=("Microsoft: KMS activation timing and discovery for volume activation",),
)

subjects = captures
ask = captured.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a host and kind of spacing."""
    request = captured.request(seen.target)
    answer = seen[request]
    people = captured.people_of(answer)
    hosts = captured.tried(answer.hosts, people)
    if not hosts:
        yield say("nothing", (request,))
        return
    again = False
    for host in hosts:
        for finding in _judge_host(host, people, (request,)):
            again = True
            yield finding
    duration = answer.elapsed_ms / 1000
    if duration < ACTIVATION_INTERVAL:
        yield say("too_short", (request,), duration=span(duration))
    elif not again:
        yield say("once", (request,), duration=span(duration))


def _judge_host(host: CapturedHost, people: People, because: tuple[Captures]) -> Iterator[Finding]:
    kinds: dict[str, list[tuple[Contact, Spread]]] = {}
    for contact in people.at(host):
        spacing = contact.use.spacing_s
        if spacing is not None:
            kinds.setdefault(_kind(contact, spacing), []).append((contact, spacing))
    for kind in ("hammering", "retrying", "interval", "renewing"):
        own = kinds.get(kind)
        if own:
            args: dict[str, str | int] = {
                "host": captured.called(host),
                "clients": captured.who([contact.client.address for contact, _spacing in own]),
                "spacing": span(_middle(spacing.median for _contact, spacing in own)),
            }
            if kind == "hammering":
                args["attempts"] = max(contact.use.attempts for contact, _spacing in own)
            yield say(kind, because, **args)


def _kind(contact: Contact, spacing: Spread) -> str:
    if spacing.median < LEAST_INTERVAL and contact.use.attempts >= _MANY:
        return "hammering"
    if _is_near(spacing.median, ACTIVATION_INTERVAL):
        return "retrying"
    return "renewing" if _is_near(spacing.median, RENEWAL_INTERVAL) else "interval"


def _is_near(seconds: float, interval: int) -> bool:
    return abs(seconds - interval) <= _NEAR * interval


def _middle(values: Iterable[float]) -> float:
    ranked = sorted(values)
    return ranked[(len(ranked) - 1) // 2]
