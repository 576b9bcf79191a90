"""What the two sides of a connection say to each other in DCE/RPC: questions, their answers, and the KMS in them.

A *question* is a bind, an alter_context or a request; it is answered by the first fitting PDU of its call that no other
question took. Sources: C706 chapter 12; KMS stubs: :mod:`kmsdiag.wire.kms`.
"""

import functools
from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from kmsdiag.model.request import KMS_INTERFACE
from kmsdiag.wire import kms, rpc
from kmsdiag.wire.pdus import Message, Pdu, Reading, messages

_JOINED: Final = (rpc.REQUEST, rpc.RESPONSE)

_ANSWERS: Final = {
    rpc.RESPONSE: (rpc.REQUEST,),
    rpc.BIND_ACK: (rpc.BIND,),
    rpc.ALTER_CONTEXT_RESP: (rpc.ALTER_CONTEXT,),
    rpc.BIND_NAK: (rpc.BIND, rpc.ALTER_CONTEXT),
    rpc.FAULT: (rpc.REQUEST, rpc.ALTER_CONTEXT, rpc.BIND),
}
"""What a PDU of the host can answer, the likeliest first."""

_START: Final = attrgetter("start")

Said = Message | Pdu


class Bind(NamedTuple):
    """A bind or alter_context and its answer, which may be a bind_ack, an alter_context_resp, a bind_nak or a fault.

    ``offers`` is None where it was cut or can't be read; ``ack`` None where there is none or it can't be read.
    """

    question: Pdu
    offers: tuple[rpc.Offer, ...] | None
    answer: Pdu | None
    ack: rpc.BindAck | None

    @property
    def asks_for_kms(self) -> bool | None:
        """Whether the KMS interface is among the offers; None where that can't be seen."""
        return None if self.offers is None else any(offer.interface == KMS_INTERFACE for offer in self.offers)

    def results(self) -> Iterator[tuple[rpc.Offer, int, int, str]]:
        """(offer, result, reason, accepted syntax) for each offer that was answered."""
        if self.offers is not None and self.ack is not None:
            for offer, result in zip(self.offers, self.ack.contexts, strict=False):
                yield offer, result.result, result.reason, result.syntax


class Call(NamedTuple):
    """A request and its answer, a response or a fault. ``request`` is None where only the answer was captured.

    ``syntax`` is the accepted transfer syntax of its context, "" where that was not captured.
    """

    request: Message | None
    answer: Message | Pdu | None
    syntax: str


class Dialogue(NamedTuple):
    """All of it. ``calls`` are those of the KMS interface; ``others`` counts calls of other interfaces."""

    binds: tuple[Bind, ...]
    calls: tuple[Call, ...]
    others: int

    @property
    def bound(self) -> bool:
        """Whether a context of the KMS interface was accepted."""
        return any(
            result == 0 and offer.interface == KMS_INTERFACE
            for bind in self.binds
            for offer, result, *_ in bind.results()
        )

    @property
    def speaks_kms(self) -> bool:
        """Whether the client asked for the KMS interface, or sent a KMS request without a captured bind."""
        return bool(self.calls) or any(bind.asks_for_kms for bind in self.binds)


def dialogue(client: Reading, host: Reading, *, kms_port: bool) -> Dialogue:
    """Match what both sides said. On a ``kms_port``, what can't be seen to be another interface's call is KMS's."""
    questions = _said(client, (rpc.REQUEST, rpc.BIND, rpc.ALTER_CONTEXT))
    answers = _said(host, _ANSWERS)
    pairs, free = _matched(questions, answers)
    binds = tuple(_bind(one, pairs.get(at)) for at, one in enumerate(questions) if isinstance(one, Pdu))
    contexts = {
        offer.number: (offer.interface == KMS_INTERFACE, syntax)
        for bind in binds
        for offer, result, _reason, syntax in bind.results()
        if result == 0
    }
    # Until a bind is seen for what it is, an unknown context of a KMS port may be KMS's.
    kms_port = kms_port or any(bind.asks_for_kms for bind in binds)
    calls, others = [], 0
    for at, one in enumerate(questions):
        if isinstance(one, Pdu):
            continue
        known, syntax = contexts.get(_number(one), (None, ""))
        if known or (known is None and _may_be_kms(one, kms_port=kms_port)):
            calls.append(Call(one, pairs.get(at), syntax))
        else:
            others += 1
    if kms_port and not others:
        calls.extend(
            Call(None, answer, contexts.get(_number(answer), (None, ""))[1])
            for answer in free
            if isinstance(answer, Message)
        )
    return Dialogue(binds, tuple(calls), others)


def _number(message: Message) -> int:
    """Its context, -1 where that was cut."""
    return -1 if message.context is None else message.context


def _said(reading: Reading, kinds: Container[int]) -> list[Said]:
    """What is of these kinds, requests and responses joined, in stream order."""
    pdus = [pdu for pdu in reading.pdus if pdu.type in kinds]
    said: list[Said] = [pdu for pdu in pdus if pdu.type not in _JOINED]
    said += messages(pdus)
    said.sort(key=_START)
    return said


def _matched(questions: Sequence[Said], answers: Iterable[Said]) -> tuple[dict[int, Said], list[Said]]:
    """The answer of each question (by index), and the answers to nothing that was captured."""
    waiting: dict[tuple[int, int], deque[int]] = {}
    for at, question in enumerate(questions):
        waiting.setdefault((question.type, question.call_id), deque()).append(at)
    pairs: dict[int, Said] = {}
    free = []
    for answer in answers:
        for kind in _ANSWERS[answer.type]:
            if indices := waiting.get((kind, answer.call_id)):
                pairs[indices.popleft()] = answer
                break
        else:
            free.append(answer)
    return pairs, free


def _may_be_kms(request: Message, *, kms_port: bool) -> bool:
    """Whether a request of an unknown context is one of KMS: by its stub, or because nothing of that was captured."""
    if kms.looks_like_request(request.stub, request.stub_length, little=request.little):
        return True
    return kms_port and (request.cut or not request.ended or not request.begun)


def _bind(question: Pdu, answer: Said | None) -> Bind:
    reply = answer if isinstance(answer, Pdu) else None
    ack = None
    if reply is not None and reply.type in (rpc.BIND_ACK, rpc.ALTER_CONTEXT_RESP) and reply.whole:
        ack = _decoded_ack(_unvaried(reply.data))
    return Bind(question, _decoded_bind(_unvaried(question.data)) if question.whole else None, reply, ack)


def _unvaried(data: bytes) -> bytes:
    """A bind or its answer without call id and association group, which vary and are not read."""
    return data[:12] + b"\0\0\0\0" + data[16:20] + b"\0\0\0\0" + data[24:]


@functools.lru_cache(maxsize=512)
def _decoded_bind(data: bytes) -> tuple[rpc.Offer, ...] | None:
    """Kept, because all machines of one kind send the same."""
    try:
        return rpc.decode_bind(data)
    except rpc.RpcFormatError:
        return None


@functools.lru_cache(maxsize=512)
def _decoded_ack(data: bytes) -> rpc.BindAck | None:
    try:
        return rpc.decode_bind_ack(data)
    except rpc.RpcFormatError:
        return None
