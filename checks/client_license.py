"""How the products on this machine are licensed, and how the last attempt to activate them ended.

What it looks at: channel, status, reason and remaining time of each product with a key, as the licensing service has
them, whether a KMS host key is among them, and the last activation events (12288 request, 12289 answer).
Why it matters: only products with a client setup key (GVLK, channel VOLUME_KMSCLIENT) ask a KMS host; MAK, retail, OEM
and evaluation never do, whatever DNS and the network do. The event holds the code that the screen hides.
What to do: install the client setup key of the edition where KMS is wanted; otherwise follow the event's code.
"""

import datetime
from collections.abc import Iterator
from typing import NamedTuple

from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.knowledge import event_fields, licences
from kmsdiag.knowledge.codes import meaning
from kmsdiag.knowledge.event_fields import AnswerFields, RequestFields
from kmsdiag.knowledge.licences import Channel
from kmsdiag.model.answer import KmsClient, KmsEvent, LicensedProduct, MachineAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import MachineSettings
from kmsdiag.model.target import KMS_PORT, Subject, SubjectKind, Target, join_host_port

_TRY = Fix(Where.CLIENT, "try again and see the code", "slmgr /ato {activation_id}")
_LOG = Fix(
    Where.CLIENT,
    "see the events",
    "Get-WinEvent -MaxEvents 10 -FilterHashtable @{{ LogName = 'Application'; Id = 12288, 12289 }}",
)

META = CheckMeta(
    title="Licences of this machine",
    codes={
        "licensed": Code(Severity.OK, "{product} is licensed by KMS ({host}), {left} left."),
        "ad_activated": Code(
            Severity.OK,
            "{product} is licensed, and no KMS host is known to have done it ({sign}): probably by Active Directory.",
            "Such a client sends nothing to a KMS host while a domain controller answers it, and is not counted there.",
        ),
        "expires_soon": Code(
            Severity.WARNING,
            "{product} is licensed, but only for {left} more: its renewals fail.",
            "A client renews every 7 days for 180; that little is left only where no host was reached for months.",
            (_TRY,),
        ),
        "in_grace": Code(
            Severity.WARNING,
            "{product} is not activated yet: {status}, {left} left{reason}.",
            "It works until then, and asks a KMS host every two hours.",
            (_TRY,),
        ),
        "not_licensed": Code(
            Severity.ERROR,
            "{product} is not licensed: {status}{reason}.",
            "Its users are told to activate Windows or Office.",
            (_TRY,),
        ),
        "other_channel": Code(
            Severity.INFO,
            "{product} has the channel {channel} ({kind}), status {status}: it never asks a KMS host.",
            "KMS hosts, DNS and firewalls have no part in its activation.",
            (
                Fix(
                    Where.CLIENT,
                    "if KMS shall activate it, install the client setup key of its edition (Microsoft publishes them)",
                    "slmgr /ipk <client-setup-key>",
                ),
            ),
        ),
        "unknown_status": Code(
            Severity.NOT_ASSESSED,
            "The licence status of {product} is not known.",
        ),
        "unknown_channel": Code(
            Severity.NOT_ASSESSED,
            "{product} has the channel {channel}: whether it asks a KMS host is not known.",
        ),
        "is_host": Code(
            Severity.INFO,
            "This machine is a KMS host: {product} has a KMS host key.",
            "It publishes itself in DNS and draws clients; on a workstation that is nearly always a mistake.",
            (
                Fix(
                    Where.CLIENT,
                    "where it is a mistake: install the client setup key instead, then delete its SRV record",
                    "slmgr /ipk <client-setup-key>",
                ),
            ),
        ),
        "no_product": Code(
            Severity.WARNING,
            "No product on this machine has a key.",
            "There is nothing that could be activated (0xC004F014).",
        ),
        "answered": Code(
            Severity.OK, "{product}: {host} answered the last activation request ({at}) and activated it."
        ),
        "not_activated": Code(
            Severity.WARNING,
            "{product}: {host} answered the last activation request ({at}) and did not activate it: {code}, the host's"
            " count is {count}.",
            "A host activates Windows clients from a count of 25 on, servers and Office from 5; this client needs"
            " {needed}.",
            (_LOG,),
        ),
        "failed": Code(
            Severity.WARNING,
            "{product}: the last activation request ({at}) to {host} failed with {code}: {meaning}.",
            "This is the cause behind the code on the screen.",
            (_LOG,),
        ),
        "not_answered": Code(
            Severity.WARNING,
            "{product}: the last activation request ({at}) went to {host}, and no answer is logged.",
            "The answer was lost, or was not accepted; the host's event 12290 tells which.",
            (_LOG,),
        ),
        "no_attempt": Code(
            Severity.NOT_ASSESSED,
            "The event log holds no activation request of this machine: how the last one ended is not known.",
        ),
        "unreadable": Code(
            Severity.NOT_ASSESSED, "The activation event {number} of {at} can't be read: {info}", fixes=(_LOG,)
        ),
        "incomplete": Code(Severity.NOT_ASSESSED, "Windows did not tell everything: {problems}."),
        "not_windows": Code(Severity.NOT_ASSESSED, "This machine runs {system}: only Windows has such licences."),
    },
    tags=frozenset({"client", "machine"}),
    since="0.1",
    references=(
        "Microsoft: SoftwareLicensingProduct class",
        "Microsoft: Windows event log, table 11 (volume activation)",
        "Microsoft: Activation policy values for volume activation",
    ),
)


def subjects(target: Target) -> Iterator[Subject]:
    """The machine, where its settings are part of the question."""
    if target.machine:
        yield Subject(SubjectKind.MACHINE, "this machine")


def ask(_subject: Subject, _seen: Evidence) -> Iterator[MachineSettings]:
    """The settings of the machine."""
    yield MachineSettings()


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a product, and one about the last attempt where a product asks KMS."""
    because = (MachineSettings(),)
    settings: MachineAnswer = seen[MachineSettings()]
    kms = settings.kms
    if kms is None:
        yield say("not_windows", because, system=settings.system)
        return
    if kms.problems:
        yield say("incomplete", because, problems=kms.problems)
    elif not kms.products:
        yield say("no_product", because)
    kinds = [(product, licences.channel_of(product.channel, product.description)) for product in kms.products]
    for product, kind in kinds:
        yield _judge_product(product, kind, kms)
    if kms.is_host and Channel.HOST not in {kind for _product, kind in kinds}:
        yield say("is_host", because, product="one of its products")
    if Channel.CLIENT in {kind for _product, kind in kinds}:
        yield from _judge_events(kms)


def _left(minutes: int) -> str:
    if not minutes:
        return "an unknown time"
    if minutes < 60 * 48:
        return f"{minutes} minutes"
    return f"{minutes // (24 * 60)} days"


def _name(product: LicensedProduct) -> str:
    return product.name or product.activation_id or "A product without a name"


def _judge_product(product: LicensedProduct, kind: Channel, kms: KmsClient) -> Finding:
    because, name = (MachineSettings(),), _name(product)
    status = licences.status_words(product.status)
    channel = product.channel or product.description.rpartition(", ")[2].removesuffix(" channel") or "unknown"
    if kind is Channel.HOST:
        return say("is_host", because, product=name)
    if not kind:
        return say("unknown_channel", because, product=name, channel=channel)
    if kind is not Channel.CLIENT:
        return say("other_channel", because, product=name, channel=channel, kind=kind.value, status=status)
    left, reason = _left(product.grace_minutes), f", {product.reason}" if product.reason else ""
    if product.status == licences.LICENSED:
        return _judge_licensed(product, left, kms)
    if not 0 <= product.status < len(licences.STATUS):
        return say("unknown_status", because, product=name)
    if product.status in licences.GRACE:
        args = {"product": name, "status": status, "left": left, "reason": reason}
        return say("in_grace", because, activation_id=product.activation_id, **args)
    return say("not_licensed", because, product=name, status=status, reason=reason, activation_id=product.activation_id)


def _judge_licensed(product: LicensedProduct, left: str, kms: KmsClient) -> Finding:
    because, name = (MachineSettings(),), _name(product)
    if 0 < product.grace_minutes < licences.WARNING_MINUTES:
        return say("expires_soon", because, product=name, left=left, activation_id=product.activation_id)
    if product.discovered_host:
        host = join_host_port(product.discovered_host, product.discovered_port or KMS_PORT)
        return say("licensed", because, product=name, host=host, left=left)
    own = {"", product.application_id, product.activation_id}
    override = next((one.host for one in kms.overrides if one.host and one.scope in own), "")
    if override:
        return say("licensed", because, product=name, host=f"{override}, set by hand", left=left)
    if any(event.id == 12308 for event in kms.events):
        return say("ad_activated", because, product=name, sign="event 12308 is logged")
    if any(_activated(event) for event in kms.events) or kms.problems:
        return say("licensed", because, product=name, host="which one is not known", left=left)
    return say("ad_activated", because, product=name, sign="none is cached, set or logged")


# ------------------------------------------------------------------------------------------------------- events


class _Attempt(NamedTuple):
    """One request, and the answer that was logged before the next request."""

    at: str
    request: RequestFields
    answer: AnswerFields | None


def _activated(event: KmsEvent) -> bool:
    answer = event_fields.answer(event.info) if event.id == event_fields.CLIENT_ANSWER else None
    return answer is not None and answer.activated is True


def _at(event: KmsEvent) -> str:
    return event.at.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _judge_events(kms: KmsClient) -> Iterator[Finding]:
    """The newest attempt of each product; what can't be read."""
    because = (MachineSettings(),)
    last: dict[str, _Attempt] = {}
    current: _Attempt | None = None
    events = sorted(
        (event for event in kms.events if event.id in (event_fields.CLIENT_REQUEST, event_fields.CLIENT_ANSWER)),
        key=lambda event: (event.at, event.id, event.info),
    )
    for event in events:
        request = event_fields.request(event.info) if event.id == event_fields.CLIENT_REQUEST else None
        answer = event_fields.answer(event.info) if event.id == event_fields.CLIENT_ANSWER else None
        if request is None and answer is None:
            yield say("unreadable", because, number=event.id, at=_at(event), info=event.info)
        elif request is not None:
            current = last[request.activation_id] = _Attempt(_at(event), request, None)
        elif current is not None and current.answer is None:
            # An answer has no product; it is of the request before it.
            current = last[current.request.activation_id] = current._replace(answer=answer)
    if not events and not kms.problems:
        yield say("no_attempt", because)
    names = {product.activation_id: _name(product) for product in kms.products}
    for product, attempt in sorted(last.items()):
        yield _judge_attempt(names.get(product) or product or "A product without an id", attempt)


def _judge_attempt(product: str, attempt: _Attempt) -> Finding:
    because, request, answer = (MachineSettings(),), attempt.request, attempt.answer
    args = {"product": product, "at": attempt.at, "host": request.host or "an unknown host"}
    if int(request.hresult, 16):
        return say("failed", because, **args, code=request.hresult, meaning=meaning(request.hresult))
    if answer is None:
        return say("not_answered", because, **args)
    if answer.activated:
        return say("answered", because, **args)
    needed = "a number that is not logged" if request.required is None else str(request.required)
    count = "not logged" if answer.current_count is None else str(answer.current_count)
    return say("not_activated", because, **args, code=answer.hresult, count=count, needed=needed)
