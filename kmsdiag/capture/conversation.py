"""One TCP connection to a KMS host, judged: how far the client came, and how it ended.

When silence counts as a failure, and when the capture is to blame, is said in :mod:`kmsdiag.capture.endings`.
"""

import datetime
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from kmsdiag.capture.endings import ending, other_protocol
from kmsdiag.capture.evidence import End, Evidence, missing_bytes
from kmsdiag.capture.exchanges import Call
from kmsdiag.capture.ladder import ladder
from kmsdiag.capture.words import fault_words
from kmsdiag.model.capture import Conversation, Exchange, Frame, Lack
from kmsdiag.model.outcome import ConversationOutcome as Outcome
from kmsdiag.wire import kms, rpc
from kmsdiag.wire.addresses import address_text
from kmsdiag.wire.layers import IcmpError, Segment
from kmsdiag.wire.pdus import Message, Pdu
from kmsdiag.wire.streams import KMS_PORTS, What

Resolve = Callable[[int], Frame]

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

_WORST: Final = (
    Outcome.REQUEST_UNANSWERED,
    Outcome.REQUEST_RESET,
    Outcome.REQUEST_CLOSED,
    Outcome.REQUEST_FAULT,
    Outcome.OTHER_PROTOCOL,
    Outcome.MALFORMED,
    Outcome.REQUEST_ABORTED,
    Outcome.HOST_REFUSED,
    Outcome.BELOW_THRESHOLD,
    Outcome.NOT_KNOWN,
    Outcome.ACTIVATED,
)
"""Of several exchanges, the first of these that occurs is the conversation's outcome."""


def converse(
    segments: Sequence[Segment],
    icmp: Sequence[IcmpError],
    resolve: Resolve,
    end: int,
    *,
    ports: Collection[int] = KMS_PORTS,
    with_ladder: bool = True,
) -> Conversation | None:
    """Judge the segments of one connection (at least one) and the ICMP errors that quote it, in file order.

    ``resolve`` gives the frame of a ref; ``end`` is the time of the capture's last packet in ns since 1970; ``ports``
    are those on which KMS is expected. On others, None is returned unless the client asks for the KMS interface.
    ``number``, ``tap`` and ``found_by`` are for the caller to fill in. Never raises, whatever the bytes are.
    """
    case = Evidence(segments, icmp, end, ports)
    said = case.said
    if not case.kms_port and not said.speaks_kms:
        return None
    exchanges = tuple(_exchange(case, call, resolve) for call in said.calls)
    how = _worst(exchanges) if exchanges else ending(case)
    if how.outcome is Outcome.NOT_KNOWN and not case.lacks:
        case.lacks.add(Lack.END)
    stream, close = case.stream, case.close
    refs = [segments[0].ref, segments[-1].ref, *(error.ref for error in icmp)]
    syn, answered = case.event(What.SYN, client=True), case.event(What.SYN_ACK, client=False)
    bound = next((bind for bind in said.binds if bind.answer is not None), None)
    steps = ladder(stream, (case.client, case.host), said, exchanges, icmp, resolve, case.first) if with_ladder else ()
    return Conversation(
        number=0,
        tap=0,
        client=address_text(stream.client[0]),
        client_port=stream.client[1],
        host=address_text(stream.host[0]),
        host_port=stream.host[1],
        started=_time(case.first),
        ended=_time(case.last),
        first=resolve(min(refs)),
        last=resolve(max(refs)),
        outcome=how.outcome,
        frames=len(segments) + len(icmp),
        syns=case.count(What.SYN),
        connect_ms=_ms(syn.at, answered.at) if syn and answered else None,
        bind_ms=_ms(bound.question.at, bound.answer.at) if bound and bound.answer else None,
        exchanges=exchanges,
        retransmissions=len(stream.from_client.repeats) + len(stream.from_host.repeats),
        icmp=next(iter(case.errors), None),
        reason=how.reason,
        secondary_address=next((bind.ack.secondary_address for bind in said.binds if bind.ack), ""),
        detail=how.detail,
        closed_by="" if close is None else "client" if close.client else "host",
        reset=close is not None and close.what is What.RST,
        lacks=tuple(lack for lack in Lack if lack in case.lacks),
        ladder=steps,
    )


def _worst(exchanges: Sequence[Exchange]) -> End:
    worst = min(exchanges, key=lambda one: _WORST.index(one.outcome))
    return End(worst.outcome, worst.detail)


def _exchange(case: Evidence, call: Call, resolve: Resolve) -> Exchange:
    """One request and what became of it."""
    request, answer = call.request, call.answer
    asked = told = None
    if request is not None and request.begun:
        asked = kms.decode_request(request.stub, request.stub_length, call.syntax, little=request.little)
    if isinstance(answer, Message):
        syntax = call.syntax or (asked.syntax if asked else "")
        told = kms.decode_response(
            answer.stub, answer.stub_length, syntax, little=answer.little, begun=answer.begun, ended=answer.ended
        )
    how = _exchange_ending(case, call, asked, told)
    version = (asked and asked.version) or (told and told.version) or None
    first = request or answer
    fields: dict[str, Any] = {}
    if request is not None and asked is not None and asked.fields is not None:
        fields = _clear_request(asked.fields, request.at)
    if told is not None and told.fields is not None:
        fields = _clear_response(told.fields) | fields
    return Exchange(
        outcome=how.outcome,
        request=resolve(request.ref) if request else None,
        response=resolve(answer.ref) if answer else None,
        at=_time(first.at) if first else None,
        elapsed_ms=_ms(request.at, answer.at) if request and answer else None,
        version=f"{version[0]}.{version[1]}" if version else "",
        syntax=asked.syntax if asked else told.syntax if told else "",
        hresult=f"0x{told.hresult:08X}" if told and told.hresult is not None else "",
        fault=_status(answer) if isinstance(answer, Pdu) else "",
        request_size=request.size if request else 0,
        response_size=answer.size if isinstance(answer, Message) else answer.length if answer else 0,
        detail=how.detail,
        **fields,
    )


def _exchange_ending(case: Evidence, call: Call, asked: kms.Request | None, told: kms.Response | None) -> End:
    request, answer = call.request, call.answer
    if answer is not None:
        undelivered = case.undelivered(answer)
        if undelivered:
            return End(Outcome.REQUEST_UNANSWERED, undelivered)
        if isinstance(answer, Message) and told is not None:
            return _judged(asked, told) if answer.ended else _half_a_response(case, answer, told)
        return End(Outcome.REQUEST_FAULT, fault_words(answer) if isinstance(answer, Pdu) else "")
    foreign = other_protocol(case)
    if foreign is not None or request is None:
        return foreign or End(Outcome.NOT_KNOWN)
    if not request.ended:
        if missing_bytes(case.stream.from_client) or missing_bytes(case.stream.from_host):
            return End(Outcome.NOT_KNOWN, "the request was not captured in full")
        if case.close is not None and case.close.client:
            return End(Outcome.REQUEST_ABORTED, f"by {case.closing()} in the middle of the request")
    return case.unanswered(request)


def _half_a_response(case: Evidence, answer: Message, told: kms.Response) -> End:
    """The end of the response, where the HRESULT is, is not there."""
    if not missing_bytes(case.stream.from_host):
        return case.unanswered(None)
    if answer.fragments > 1:
        return End(Outcome.NOT_KNOWN, "the HRESULT was not captured")
    kind = "a refusal" if answer.stub_length == kms.REFUSAL_STUBS[told.syntax] else "a response with a body"
    return End(Outcome.NOT_KNOWN, f"the HRESULT was not captured; {answer.size} bytes are the size of {kind}")


def _judged(asked: kms.Request | None, told: kms.Response) -> End:
    """What a whole response means."""
    if told.hresult:
        return End(Outcome.HOST_REFUSED, told.note)
    if told.problem or told.hresult is None:
        return End(Outcome.MALFORMED, told.problem)
    if asked is not None and asked.fields is not None and told.fields is not None:
        count, required = told.fields.current_count, asked.fields.required
        if count < required:
            return End(Outcome.BELOW_THRESHOLD, f"count {count}, needed {required}")
    return End(Outcome.ACTIVATED, told.note or _oddity(asked, told))


def _oddity(asked: kms.Request | None, told: kms.Response) -> str:
    """What no Microsoft host does."""
    if asked is None:
        return ""
    if asked.version and told.version and asked.version != told.version:
        return (
            f"asked in version {asked.version[0]}.{asked.version[1]}, answered in {told.version[0]}.{told.version[1]}"
        )
    if asked.fields is not None and told.fields is not None:
        if asked.fields.client_machine_id != told.fields.client_machine_id:
            return "the response repeats another client machine ID than the request's"
        if asked.fields.raw_time != told.fields.raw_time:
            return "the response repeats another time than the request's"
    return ""


def _clear_request(fields: kms.RequestV4, at: int) -> dict[str, Any]:
    """The fields of a version 4 request, as an exchange has them; ``at`` is its time of capture."""
    return {
        "machine": fields.machine,
        "client_machine_id": fields.client_machine_id,
        "application_id": fields.application_id,
        "activation_id": fields.activation_id,
        "kms_counted_id": fields.kms_counted_id,
        "previous_machine_id": fields.previous_machine_id,
        "license_status": fields.license_status,
        "remaining_min": fields.remaining_min,
        "virtual": fields.virtual,
        "required": fields.required,
        "skew_s": None if fields.client_time is None else round((fields.client_time - at) / 1e9, 3),
    }


def _clear_response(fields: kms.ResponseV4) -> dict[str, Any]:
    return {
        "client_machine_id": fields.client_machine_id,
        "count": fields.current_count,
        "activation_interval_min": fields.activation_interval_min,
        "renewal_interval_min": fields.renewal_interval_min,
        "host_pid": fields.pid,
    }


def _status(fault: Pdu) -> str:
    """The status of a fault, "" where it was not captured."""
    try:
        return f"0x{rpc.decode_fault(fault.data):08X}"
    except rpc.RpcFormatError:
        return ""


def _ms(start: int, end: int) -> float:
    """From one time to another; 0 where the capture's clock went back."""
    return round(max(0, end - start) / 1e6, 3)


def _time(at: int) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(microseconds=at // 1000)
