"""How a conversation without an exchange ended: the stages in the order in which a client meets them.

The rules. A *question* (SYN, bind, request) that has no answer failed only when the capture shows that the host had the
chance to give one:

* the host hung up (FIN) or reset the connection, or
* two seconds (:data:`~kmsdiag.capture.evidence.PATIENCE`) went by, to the end of the capture or until the client gave
  up, or
* it was sent again: a SYN once, data twice.

Otherwise the capture ended too early, and the outcome is *not known* (``Lack.END``); a client that gives up sooner
broke off by itself. Where bytes of the host are known to be missing from the capture, because the client acknowledged
them or the snap length cut them, silence proves nothing. An answer that the host sent three times and the client never
acknowledged did not reach it: the question counts as unanswered.
"""

from collections.abc import Sequence
from typing import Final

from kmsdiag.capture.evidence import PATIENCE, End, Evidence, missing_bytes, seconds
from kmsdiag.capture.exchanges import Bind
from kmsdiag.capture.words import fault_words, nak_words
from kmsdiag.model.capture import Lack
from kmsdiag.model.outcome import ConversationOutcome as Outcome
from kmsdiag.wire import rpc
from kmsdiag.wire.pdus import Pdu
from kmsdiag.wire.streams import What

GREETING: Final = 5_000_000_000
"""Time (ns) that a host waits for first words at the least; if it hangs up later, it is the client that was silent."""

_EXCERPT: Final = 32
_BIND_STAGE: Final = {
    Outcome.REQUEST_UNANSWERED: Outcome.BIND_UNANSWERED,
    Outcome.REQUEST_RESET: Outcome.BIND_RESET,
    Outcome.REQUEST_CLOSED: Outcome.BIND_CLOSED,
}
_METHODS: Final = (b"GET ", b"POST ", b"HEAD ", b"OPTIONS ", b"CONNECT ")


def ending(case: Evidence) -> End:
    """How a connection ended on which no request was captured."""
    sent = case.stream.from_client
    if not sent.segments:
        return _by_the_host(case, "only the host's side was captured")
    if sent.extent:
        return _after_words(case)
    return other_protocol(case) or _before_words(case)


def other_protocol(case: Evidence) -> End | None:
    """Another protocol than DCE/RPC, spoken by the host from its first byte on."""
    foreign = case.host.foreign
    if foreign is None or case.host.pdus:
        return None
    name = rpc.name_protocol(foreign.data)
    runs = case.stream.from_host.runs
    first = runs[0].offset == 0 and runs[0].data.startswith(foreign.data)
    if not (first if case.stream.from_host.begun else name):
        return None
    said = rpc.printable(foreign.data[:_EXCERPT], _EXCERPT)
    return End(Outcome.OTHER_PROTOCOL, f"{name}: {said}" if name else said)


def _by_the_host(case: Evidence, lacking: str) -> End:
    """What the client asked was not captured. What the host says itself is known all the same."""
    nak = next((pdu for pdu in case.host.pdus if pdu.type == rpc.BIND_NAK), None)
    return End(Outcome.NOT_KNOWN, lacking) if nak is None else _nak(nak)


# without a byte of the client's


def _before_words(case: Evidence) -> End:
    if Lack.START in case.lacks:
        return End(Outcome.NOT_KNOWN, "the connection began before the capture, and nothing was said in it")
    answered = case.event(What.SYN_ACK, client=False)
    if answered is None:
        return _without_answer(case)
    opened = case.event(What.ACK, client=True)
    if opened is None:
        return _without_ack(case, answered.at)
    if missing_bytes(case.stream.from_host):
        return End(Outcome.NOT_KNOWN, "what the host sent was not captured")
    lost = case.passed_elsewhere()
    if lost:
        return End(Outcome.BIND_UNANSWERED, _lost_words(lost))
    if case.close is None:
        if case.end - opened.at < PATIENCE:
            return case.too_early()
        return End(Outcome.CONNECT_ONLY, f"the client said nothing for {seconds(case.end - opened.at)}")
    if case.close.client:
        return End(Outcome.CONNECT_ONLY)
    waited = case.close.at - opened.at
    if waited >= GREETING:
        return End(Outcome.CONNECT_ONLY, f"the client said nothing for {seconds(waited)}, and the host hung up")
    return End(Outcome.CLOSED_EARLY, "by a reset" if case.close.what is What.RST else "")


def _without_answer(case: Evidence) -> End:
    """No SYN-ACK was captured."""
    if Lack.HOST in case.lacks:
        return End(Outcome.NOT_KNOWN, "only the client's side was captured")
    if case.event(What.RST, client=False):
        return End(Outcome.REFUSED)
    if case.errors:
        return End(Outcome.UNREACHABLE, f"{case.errors[0].name}, says {case.errors[0].sender}")
    if case.stream.from_host.segments:
        return End(Outcome.HANDSHAKE_FAILED, "the host answered the SYN with a segment of another connection")
    syns = [event for event in case.stream.events if event.what is What.SYN]
    if len(syns) > 1:
        return End(Outcome.UNANSWERED, f"{len(syns)} SYNs in {seconds(max(0, syns[-1].at - syns[0].at))}")
    return End(Outcome.UNANSWERED) if syns and case.end - syns[0].at >= PATIENCE else case.too_early()


def _without_ack(case: Evidence, answered: int) -> End:
    """The host answered the SYN, and the client never acknowledged that."""
    syn = case.event(What.SYN, client=True)
    if syn is not None and case.event(What.RST, client=True):
        late = answered - syn.at
        if late >= PATIENCE:
            return End(Outcome.HANDSHAKE_FAILED, f"the SYN-ACK came after {seconds(late)}, and the client reset it")
        return End(Outcome.CONNECT_ONLY, "the client reset the half-open connection, as port scanners do")
    answers = case.count(What.SYN_ACK)
    if answers > 1 or case.end - answered >= PATIENCE:
        return End(Outcome.HANDSHAKE_FAILED, f"SYN-ACK sent {answers}x, never acknowledged by the client")
    return case.too_early()


# with bytes of the client's, and no request


def _after_words(case: Evidence) -> End:
    binds = case.said.binds
    asked = [bind for bind in binds if bind.asks_for_kms or (bind.asks_for_kms is None and case.kms_port)]
    if asked:
        return _after_bind(case, asked[-1])
    if binds or case.said.others:
        return _other_interface(binds)
    if case.client.pdus or missing_bytes(case.stream.from_client) or Lack.START in case.lacks:
        return _bind_stage(case, None)
    runs = case.stream.from_client.runs
    data = runs[0].data[:_EXCERPT] if runs and runs[0].offset == 0 else b""
    more = not case.close or bool(case.stream.from_client.gaps or case.passed_elsewhere())
    if not data or (len(data) < rpc.HEADER and rpc.could_be_rpc(data) and more):
        return _bind_stage(case, None)
    name = "HTTP: " if data.startswith(_METHODS) else f"{rpc.name_protocol(data)}: ".removeprefix(": ")
    return End(Outcome.NOT_KMS, f"the client sent {name}{rpc.printable(data, _EXCERPT)}")


def _other_interface(binds: Sequence[Bind]) -> End:
    """DCE/RPC, and not about KMS."""
    for bind in binds:
        if bind.offers:
            reason = next((reason for _offer, result, reason, _syntax in bind.results() if result in (1, 2)), None)
            return End(Outcome.NOT_KMS, f"the client asked for interface {bind.offers[0].interface}", reason)
    return End(Outcome.NOT_KMS, "the client called another interface than KMS")


def _bind_stage(case: Evidence, question: Pdu | None) -> End:
    """A bind, or what may have become one, without an answer."""
    if question is None and Lack.START in case.lacks:
        return End(Outcome.NOT_KNOWN, "the connection began before the capture")
    if question is None and any(gap.acknowledged and not gap.cut for gap in case.stream.from_client.gaps):
        return _by_the_host(case, "what the client sent first was not captured")
    how = case.unanswered(question)
    return how._replace(outcome=_BIND_STAGE.get(how.outcome, how.outcome))


def _after_bind(case: Evidence, last: Bind) -> End:
    """KMS was asked for; ``last`` is the last bind, or alter_context, that did so."""
    answer = last.answer
    if answer is None:
        return other_protocol(case) or _bind_stage(case, last.question)
    undelivered = case.undelivered(answer)
    if undelivered:
        return End(Outcome.BIND_UNANSWERED, undelivered)
    if answer.type == rpc.BIND_NAK:
        return _nak(answer)
    if answer.type == rpc.FAULT:
        if any(gap.acknowledged and gap.offset >= last.question.end for gap in case.stream.from_client.gaps):
            return _stray_fault(answer)
        return End(Outcome.BIND_FAULT, fault_words(answer))
    if not answer.whole:
        return _half_an_ack(case)
    if last.ack is None:
        return End(Outcome.MALFORMED, f"the {answer.name} can't be read")
    if last.offers is None:
        return End(Outcome.NOT_KNOWN, f"the {last.question.name} was not captured in full")
    return _after_bound(case, answer) if case.said.bound else _rejection(last)


def _half_an_ack(case: Evidence) -> End:
    if case.close is not None and not case.close.client and not missing_bytes(case.stream.from_host):
        how = case.hung_up()
        return how._replace(outcome=_BIND_STAGE[how.outcome])
    return End(Outcome.NOT_KNOWN, "the answer to the bind was not captured in full")


def _after_bound(case: Evidence, answer: Pdu) -> End:
    """The way is open, and no request was captured."""
    sent = case.stream.from_client
    if missing_bytes(sent):
        return End(Outcome.NOT_KNOWN, "what the client sent after the bind was not captured")
    fault = next((pdu for pdu in case.host.pdus if pdu.type == rpc.FAULT and pdu.start >= answer.end), None)
    if fault is not None:
        return _stray_fault(fault)
    lost = case.passed_elsewhere()
    if (lost or sent.gaps) and missing_bytes(case.stream.from_host):
        return End(Outcome.NOT_KNOWN, "what was said after the bind was not captured")
    if lost:
        return End(Outcome.REQUEST_UNANSWERED, _lost_words(lost))
    if case.client.unfinished and case.close is not None and case.close.client:
        return End(Outcome.REQUEST_ABORTED, f"by {case.closing()} in the middle of a header")
    if case.close is None and case.end - answer.at < PATIENCE:
        return case.too_early()
    return End(Outcome.BOUND)


def _stray_fault(fault: Pdu) -> End:
    return End(Outcome.NOT_KNOWN, f"the host answered by a fault ({fault_words(fault)}); to what was not captured")


def _lost_words(size: int) -> str:
    return f"{size} bytes that the client sent never came by here, and the host never acknowledged them (path MTU?)"


def _nak(answer: Pdu) -> End:
    try:
        reason = rpc.decode_bind_nak(answer.data)
    except rpc.RpcFormatError:
        reason = None
    return End(Outcome.BIND_NAK, nak_words(answer), reason)


def _rejection(bind: Bind) -> End:
    """No context of the KMS interface was accepted."""
    results = [(result, reason) for _offer, result, reason, _syntax in bind.results() if result in (1, 2)]
    if not results:
        return End(Outcome.BIND_REJECTED, "no context was accepted")
    result, reason = results[0]
    words = rpc.REJECT_REASONS.get(reason, f"reason {reason}")
    return End(Outcome.BIND_REJECTED, words if result == 2 else f"{rpc.RESULTS[result]}, {words}", reason)
