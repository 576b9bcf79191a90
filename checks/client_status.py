"""Whether the KMS clients in the files are licensed, for how much longer, and how attempts to activate them ended.

What it looks at: status, reason and remaining time of each product with a client setup key, the time at which the file
was made, and the result of an attempt (slmgr /ato, ospp.vbs /act) that the same text shows.
Why it matters: an activation lasts 180 days and is renewed every 7. When renewals fail, nothing is seen for 150 days,
then Windows warns for 30, then the product is not licensed any more. A client whose last renewal is weeks old shows
the fault long before its user does.
What to do: try by hand (slmgr /ato) and follow the code; event 12288 has the one behind 0xC004F074.
"""

import datetime
from collections.abc import Iterator
from typing import Any

from kmsdiag import check, collected, products
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.collected import Machine, Part
from kmsdiag.grouping import Groups
from kmsdiag.knowledge import codes, licences
from kmsdiag.knowledge.licences import Channel
from kmsdiag.knowledge.limits import RENEWAL_INTERVAL
from kmsdiag.model.collected import ProductState
from kmsdiag.model.events import AttemptEnd, EventsAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.machine_name import is_same
from kmsdiag.model.request import Request
from kmsdiag.model.target import Subject

_TRY = Fix(
    Where.CLIENT,
    "try again on one of them (slmgr /ato; Office: ospp.vbs /act in its folder, by cscript) and see the code",
)
_LOG = Fix(
    Where.CLIENT,
    "see the events: they name the host and the code behind the code",
    "Get-WinEvent -MaxEvents 10 -FilterHashtable @{{ LogName = 'Application'; Id = 12288, 12289 }}",
)

_MISSED = 3
"""Renewals in a row without success from which on it is told (kmsdiag's own limit): a laptop is away for two weeks."""

META = CheckMeta(
    title="Licences in the files",
    codes={
        "licensed": Code(
            Severity.OK,
            "{who}: licensed by KMS, {left} left{ends} ({products}).",
            "A client renews every 7 days; without a host Windows warns 30 days before the end, and is not licensed"
            " after it.",
        ),
        "ad_activated": Code(
            Severity.OK,
            "{who}: licensed by Active Directory, {left} left{ends} ({products}).",
            "Domain controllers renew it; a KMS host has no part in that.",
        ),
        "permanent": Code(Severity.OK, "{who}: permanently activated ({products}).", "That is no activation by KMS."),
        "not_renewed": Code(
            Severity.WARNING,
            "{who}: licensed, {left} left{ends}, and last renewed {ago} before the file was made ({products}).",
            "Several renewals failed, or the machine was off or away. It works until the end; Windows warns in the last"
            " 30 days.",
            (_TRY, _LOG),
        ),
        "expires_soon": Code(
            Severity.WARNING,
            "{who}: licensed, but only for {left} more{ends} ({products}): its renewals fail.",
            "A client renews every 7 days for 180; that little is left only where no host (or domain controller) was"
            " reached for months. After that its users are told to activate.",
            (_TRY, _LOG),
        ),
        "in_grace": Code(
            Severity.WARNING,
            "{who}: not activated yet: {status}, {left} left{ends}{reason} ({products}).",
            "Such a client works until then, and asks a KMS host every two hours.",
            (_TRY, _LOG),
        ),
        "not_licensed": Code(
            Severity.ERROR,
            "{who}: not licensed: {status}{reason} ({products}).",
            "Its users are told to activate Windows or Office.",
            (_TRY, _LOG),
        ),
        "activated_since": Code(
            Severity.INFO,
            "{who}: not licensed when the file was made, and activated since, by the event log: {when} ({products}).",
            "The file is older than the log; a new one would show the licence.",
        ),
        "never_asked": Code(
            Severity.WARNING,
            "{who}: no KMS host has ever answered ({products}).",
            "slmgr shows neither host nor client machine ID before the first answer.",
            (_TRY,),
        ),
        "attempt_failed": Code(
            Severity.WARNING,
            "{who}: an attempt to activate ended with {code}: {meaning} ({products}).",
            "The files show this attempt; a later one may have ended otherwise.",
            (_LOG,),
        ),
        "attempt_succeeded": Code(Severity.OK, "{who}: an attempt to activate succeeded ({products})."),
        "unknown_status": Code(Severity.NOT_ASSESSED, "{who}: the files do not tell the licence status ({products})."),
        "nothing": Code(Severity.NOT_ASSESSED, "The files tell of no KMS client."),
    },
    tags=frozenset({"client", "files", "path"}),
    since="0.1",
    references=(
        "Microsoft: Activation policy values for volume activation",
        "Microsoft: KMS activation timing and discovery",
        "Microsoft: Troubleshoot Windows activation error codes",
    ),
)

subjects = check.collected


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """The files; the event logs, which may know of a success after a file was made."""
    yield from collected.ask(subject, seen)
    if seen.target.events:
        yield collected.logs(seen.target)


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a state, one a code. Where a log is missing, who is not licensed may be so no longer: a gap."""
    groups, unsure = Groups(), False
    for machine in collected.machines(seen):
        for product, part, channel in products.with_key(machine):
            if product.result and channel in (Channel.CLIENT, Channel.UNKNOWN):
                _judge_attempt(product, machine, part, groups)
            if _is_not_licensed(product, channel):
                unsure = not _judge_not_licensed(product, machine, part, groups, seen) or unsure
            elif channel is Channel.CLIENT:
                _judge_client(product, machine, part, groups)
            elif product.permanent and channel is not Channel.HOST:
                groups.add("permanent", machine, (part.question,), listed={"products": products.label(product)})
    if groups or unsure:
        yield from groups.findings()
    else:
        yield say("nothing", collected.questions(seen.target))


def _judge_attempt(product: ProductState, machine: Machine, part: Part, groups: Groups) -> None:
    listed, because = {"products": products.label(product)}, (part.question,)
    code = codes.canonical(product.result) or product.result
    known = codes.find(code)
    if known is not None and known.layer is codes.Layer.INFORMATION:
        groups.add("attempt_succeeded", machine, because, listed=listed)
    else:
        groups.add("attempt_failed", machine, because, listed=listed, code=code, meaning=codes.meaning(code))


def _judge_client(product: ProductState, machine: Machine, part: Part, groups: Groups) -> None:
    listed, because, status = {"products": products.label(product)}, (part.question,), product.status
    _judge_never_asked(product, machine, part, groups)
    left, ends = {"left": product.grace_minutes}, {"ends": products.end(product, part)}
    if status == licences.LICENSED:
        code = _code_of_licensed(product)
        minutes = {**left, "ago": _since_renewal(product)} if code == "not_renewed" else left
        if code == "permanent":
            groups.add(code, machine, because, listed=listed)
        else:
            groups.add(code, machine, because, listed=listed, minutes=minutes, until=ends)
    elif status in licences.GRACE:
        words = licences.status_words(status)
        reason = _reason(product)
        groups.add("in_grace", machine, because, listed=listed, minutes=left, until=ends, status=words, reason=reason)
    elif product.permanent:
        groups.add("permanent", machine, because, listed=listed)
    elif not product.never_asked and not product.result:
        groups.add("unknown_status", machine, because, listed=listed)


def _is_not_licensed(product: ProductState, channel: Channel) -> bool:
    return channel in (Channel.CLIENT, Channel.UNKNOWN) and product.status in (
        licences.UNLICENSED,
        licences.NOTIFICATION,
    )


def _judge_never_asked(product: ProductState, machine: Machine, part: Part, groups: Groups) -> None:
    if product.never_asked:
        groups.add("never_asked", machine, (part.question,), listed={"products": products.label(product)})


def _judge_not_licensed(product: ProductState, machine: Machine, part: Part, groups: Groups, seen: Evidence) -> bool:
    """Say so, unless a log knows of a success after the file was made; False where the log that may was not read."""
    listed, because = {"products": products.label(product)}, (part.question,)
    if seen.target.events:
        question = collected.logs(seen.target)
        answer = seen.get(question)
        if answer is None:
            return False
        since = _activated_since(product, machine, part, answer)
        if since is not None:
            when = f"{since:%Y-%m-%d %H:%M} UTC"
            groups.add("activated_since", machine, (*because, question), listed={**listed, "when": when})
            return True
    _judge_never_asked(product, machine, part, groups)
    words = licences.status_words(product.status)
    groups.add("not_licensed", machine, because, listed=listed, status=words, reason=_reason(product))
    return True


def _activated_since(
    product: ProductState, machine: Machine, part: Part, answer: EventsAnswer
) -> datetime.datetime | None:
    """The last success of a product in its machine's log, where that is later than the file."""
    if part.at is None:
        return None
    found = [
        attempt.at
        for client in answer.clients
        if is_same(client.machine, machine.name)
        for attempt in client.latest
        if attempt.end is AttemptEnd.ACTIVATED
        and attempt.at > part.at
        and product.activation_id.lower() in ("", attempt.activation_id)
    ]
    return max(found, default=None)


def _code_of_licensed(product: ProductState) -> str:
    if product.permanent:
        return "permanent"
    if 0 < product.grace_minutes < licences.WARNING_MINUTES:
        return "expires_soon"
    if product.ad_object:
        return "ad_activated"
    # Where a host wants it more often than usual, a machine that is off at night is no news.
    interval = max(product.renewal_interval_min, RENEWAL_INTERVAL // 60)
    return "not_renewed" if _since_renewal(product) >= _MISSED * interval else "licensed"


def _since_renewal(product: ProductState) -> int:
    """Minutes since the last success: each one gives 180 days."""
    return max(licences.MINUTES_OF_A_GRANT - product.grace_minutes, 0) if product.grace_minutes else 0


def _reason(product: ProductState) -> str:
    if not product.reason:
        return ""
    code = codes.canonical(product.reason) or product.reason
    return f", {code}: {codes.meaning(code)}"
