import datetime
import random
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.capture.conversation import converse
from kmsdiag.capture.endings import GREETING
from kmsdiag.capture.evidence import PATIENCE
from kmsdiag.capture.ladder import RUNGS_MAX
from kmsdiag.model.answer import Icmp
from kmsdiag.model.capture import Conversation, Exchange, Frame, Lack
from kmsdiag.model.outcome import ConversationOutcome as Outcome
from kmsdiag.wire import rpc
from kmsdiag.wire.layers import Segment
from tests import kmsbytes as make
from tests.kmsbytes import ACK, PSH, RST, SYN, Talk
from tests.samples import SAMPLES, need_samples, packets

LONG = PATIENCE / 1e9 + 1
PAGE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
LOST = "292 bytes, sent 5 times and never acknowledged: they do not get through (path MTU?)"
REJECTED = ((2, 1, ""), (2, 1, ""), (2, 1, ""))


def judge(talk: Talk, *, after: float = 0, ports: tuple[int, ...] = (1688,), ladder: bool = True) -> Conversation:
    """The conversation, in a capture that goes on for some seconds ``after`` its last frame."""
    found = judge_or_none(talk, after=after, ports=ports, ladder=ladder)
    assert found is not None
    return found


def judge_or_none(
    talk: Talk, *, after: float = 0, ports: tuple[int, ...] = (1688,), ladder: bool = True
) -> Conversation | None:
    end = talk.at - talk.spacing + int(after * make.NS)
    return converse(talk.segments, talk.icmp, make.frame, end, ports=ports, with_ladder=ladder)


def exchange(talk: Talk, *, after: float = 0) -> Exchange:
    """Its only exchange."""
    (one,) = judge(talk, after=after).exchanges
    return one


ENDS: dict[str, tuple[Callable[[], Talk], Outcome, str]] = {
    # connect
    "SYNs without an answer": (lambda: Talk(spacing=1).syn(5), Outcome.UNANSWERED, "5 SYNs in 4.0 s"),
    "a SYN and then nothing": (
        lambda: Talk().syn().wait(LONG).put(client=True, flags=SYN, seq=1000),
        Outcome.UNANSWERED,
        "2 SYNs in 3.0 s",
    ),
    "refused": (lambda: Talk().syn().refuse(), Outcome.REFUSED, ""),
    "refused five times, as Windows asks": (
        lambda: _refused_five_times(),
        Outcome.REFUSED,
        "",
    ),
    "an ICMP error": (
        lambda: Talk().syn().error(3, 13),
        Outcome.UNREACHABLE,
        "communication administratively prohibited, says 10.1.0.1",
    ),
    "an ICMPv6 error": (
        lambda: Talk().syn().error(1, 3, v6=True),
        Outcome.UNREACHABLE,
        "address unreachable, says 10.1.0.1",
    ),
    "a redirect is no error": (lambda: Talk(spacing=1).syn().error(5, 1).syn(), Outcome.UNANSWERED, "2 SYNs in 2.0 s"),
    "SYN-ACKs that do not arrive": (
        lambda: Talk(spacing=1).syn().syn_ack().syn_ack().syn_ack(),
        Outcome.HANDSHAKE_FAILED,
        "SYN-ACK sent 3x, never acknowledged by the client",
    ),
    "a SYN-ACK that comes late": (
        lambda: Talk().syn().wait(LONG).syn_ack().rst(client=True),
        Outcome.HANDSHAKE_FAILED,
        "the SYN-ACK came after 3.0 s, and the client reset it",
    ),
    "an answer of another connection": (
        lambda: Talk().syn().put(client=False, flags=ACK, seq=77).put(client=True, flags=RST, seq=5),
        Outcome.HANDSHAKE_FAILED,
        "the host answered the SYN with a segment of another connection",
    ),
    "a half-open scan": (
        lambda: Talk().syn().syn_ack().put(client=True, flags=RST),
        Outcome.CONNECT_ONLY,
        "the client reset the half-open connection, as port scanners do",
    ),
    "a port test": (lambda: Talk().open().close(), Outcome.CONNECT_ONLY, ""),
    "a port test with a reset": (lambda: Talk().open().rst(client=True), Outcome.CONNECT_ONLY, ""),
    "a client that says nothing": (
        lambda: Talk().open().wait(GREETING / 1e9).fin(client=False),
        Outcome.CONNECT_ONLY,
        "the client said nothing for 5.0 s, and the host hung up",
    ),
    # bind
    "a bind that never came by": (
        lambda: Talk().open().missed(make.bind(), client=True).wait(LONG).fin(client=True),
        Outcome.BIND_UNANSWERED,
        "160 bytes that the client sent never came by here, and the host never acknowledged them (path MTU?)",
    ),
    "the host hangs up at once": (lambda: Talk().open().fin(client=False), Outcome.CLOSED_EARLY, ""),
    "the host resets at once": (lambda: Talk().open().rst(client=False), Outcome.CLOSED_EARLY, "by a reset"),
    "HTTP from the client": (
        lambda: Talk().open().ask(b"GET / HTTP/1.1\r\n\r\n").rst(client=False),
        Outcome.NOT_KMS,
        "the client sent HTTP: GET / HTTP/1.1\\x0d\\x0a\\x0d\\x0a",
    ),
    "HTTP from both": (
        lambda: Talk().open().ask(b"GET / HTTP/1.1\r\n\r\n").answer(PAGE),
        Outcome.NOT_KMS,
        "the client sent HTTP: GET / HTTP/1.1\\x0d\\x0a\\x0d\\x0a",
    ),
    "TLS from the client": (
        lambda: Talk().open().ask(b"\x16\x03\x01\0\x05hello").close(),
        Outcome.NOT_KMS,
        "the client sent TLS: \\x16\\x03\\x01\\x00\\x05hello",
    ),
    "noise from the client": (
        lambda: Talk().open().ask(b"\xff\xfe").close(),
        Outcome.NOT_KMS,
        "the client sent \\xff\\xfe",
    ),
    "what only begins like DCE/RPC": (
        lambda: Talk().open().ask(b"\5\1\0").close(),
        Outcome.NOT_KMS,
        "the client sent \\x05\\x01\\x00",
    ),
    "another interface": (
        lambda: Talk().open().ask(make.bind(interface=make.OTHER_INTERFACE)).answer(make.ack(*REJECTED)).close(),
        Outcome.NOT_KMS,
        f"the client asked for interface {make.OTHER_INTERFACE}",
    ),
    "a call of another interface": (
        lambda: Talk().open().ask(make.request(b"another call")).answer(make.fault(0x1C010003)).close(),
        Outcome.NOT_KMS,
        "the client called another interface than KMS",
    ),
    "no answer to the bind": (
        lambda: Talk().open().ask(make.bind()).put(client=False, flags=ACK).wait(LONG).fin(client=True),
        Outcome.BIND_UNANSWERED,
        "acknowledged, and then nothing for 3.0 s",
    ),
    "a bind that does not arrive": (
        lambda: Talk().open().ask(make.bind()).again(3),
        Outcome.BIND_UNANSWERED,
        "160 bytes, sent 4 times and never acknowledged: they do not get through (path MTU?)",
    ),
    "no answer to alter_context": (
        lambda: Talk().open().ask(make.bind()).answer(make.ack()).ask(make.alter()).wait(LONG).fin(client=True),
        Outcome.BIND_UNANSWERED,
        "nothing for 3.0 s",
    ),
    "a bind_ack that does not arrive": (
        lambda: _unheard(Talk().open().ask(make.bind()), make.ack()),
        Outcome.BIND_UNANSWERED,
        "the host answered 4 times and was never acknowledged: its answer does not reach the client",
    ),
    "the host hangs up on the bind": (
        lambda: Talk().open().ask(make.bind()).fin(client=False),
        Outcome.BIND_CLOSED,
        "",
    ),
    "the host resets on the bind": (lambda: Talk().open().ask(make.bind()).rst(client=False), Outcome.BIND_RESET, ""),
    "half a bind_ack": (
        lambda: Talk().open().ask(make.bind()).answer(make.ack()[:50]).rst(client=False),
        Outcome.BIND_RESET,
        "after 50 of 108 bytes of the bind_ack",
    ),
    "a bind_nak": (
        lambda: Talk().open().ask(make.bind()).answer(make.nak(2)).rst(client=True),
        Outcome.BIND_NAK,
        "local_limit_exceeded",
    ),
    "the interface is rejected": (
        lambda: Talk().open().ask(make.bind()).answer(make.ack(*REJECTED)).close(),
        Outcome.BIND_REJECTED,
        "abstract_syntax_not_supported",
    ),
    "the user's rejection": (
        lambda: Talk().open().ask(make.bind()).answer(make.ack((1, 0, ""), (1, 0, ""), (3, 0, ""))).close(),
        Outcome.BIND_REJECTED,
        "user_rejection, reason_not_specified",
    ),
    "no result at all": (
        lambda: Talk().open().ask(make.bind()).answer(make.ack((3, 3, ""))).close(),
        Outcome.BIND_REJECTED,
        "no context was accepted",
    ),
    "a fault to the bind": (
        lambda: Talk().open().ask(make.bind()).answer(make.fault(0x1C01000B)).close(),
        Outcome.BIND_FAULT,
        "0x1C01000B nca_proto_error",
    ),
    "another protocol answers": (
        lambda: Talk().open().ask(make.bind()).answer(PAGE).fin(client=False),
        Outcome.OTHER_PROTOCOL,
        "HTTP: HTTP/1.1 400 Bad Request\\x0d\\x0aConnec",
    ),
    "another protocol speaks first": (
        lambda: Talk().open().answer(b"SSH-2.0-OpenSSH_9.2\r\n").close(),
        Outcome.OTHER_PROTOCOL,
        "SSH: SSH-2.0-OpenSSH_9.2\\x0d\\x0a",
    ),
    "a protocol without a name": (
        lambda: Talk().open().ask(make.bind()).answer(b"\0\1\2").close(),
        Outcome.OTHER_PROTOCOL,
        "\\x00\\x01\\x02",
    ),
    "a bind_ack that can't be read": (
        lambda: (
            Talk().open().ask(make.bind()).answer(make.pdu(rpc.BIND_ACK, bytes(8) + b"\xff\xff" + bytes(20))).close()
        ),
        Outcome.MALFORMED,
        "the bind_ack can't be read",
    ),
    "bound, and idle": (lambda: Talk().bound().wait(LONG).fin(client=False), Outcome.BOUND, ""),
    "bound, and hung up": (lambda: Talk().bound().close(), Outcome.BOUND, ""),
    # request
    "no answer to the request": (
        lambda: Talk().bound().ask(make.v6_request()).put(client=False, flags=ACK).wait(LONG).fin(client=True),
        Outcome.REQUEST_UNANSWERED,
        "acknowledged, and then nothing for 3.0 s",
    ),
    "a path that swallows large packets": (
        lambda: Talk().bound().ask(make.v6_request()).again(4).rst(client=True),
        Outcome.REQUEST_UNANSWERED,
        LOST,
    ),
    "a path that says so": (
        lambda: Talk().bound().ask(make.v6_request()).error(3, 4).again(4),
        Outcome.REQUEST_UNANSWERED,
        f"{LOST}; fragmentation needed, says 10.1.0.1",
    ),
    "seen behind such a path": (
        lambda: Talk().bound().missed(make.v6_request(), client=True).put(client=True, flags=RST),
        Outcome.REQUEST_UNANSWERED,
        "292 bytes that the client sent never came by here, and the host never acknowledged them (path MTU?)",
    ),
    "a response that does not arrive": (
        lambda: _unheard(Talk().bound().ask(make.v6_request()), make.v6_response()),
        Outcome.REQUEST_UNANSWERED,
        "the host answered 4 times and was never acknowledged: its answer does not reach the client",
    ),
    "the host hangs up on the request": (
        lambda: Talk().bound().ask(make.v6_request()).fin(client=False),
        Outcome.REQUEST_CLOSED,
        "",
    ),
    "the host resets on the request": (
        lambda: Talk().bound().ask(make.v6_request()).rst(client=False),
        Outcome.REQUEST_RESET,
        "",
    ),
    "half a response": (
        lambda: Talk().bound().ask(make.v6_request()).answer(make.v6_response()[:200]).rst(client=False),
        Outcome.REQUEST_RESET,
        "after 200 of 300 bytes of the response",
    ),
    "a fault": (
        lambda: Talk().bound().ask(make.v6_request()).answer(make.fault(0x1C010002)).close(),
        Outcome.REQUEST_FAULT,
        "0x1C010002 nca_op_rng_error",
    ),
    "a request without a bind": (
        lambda: Talk().open().ask(make.v4_request()).answer(make.fault(0x1C010003)).close(),
        Outcome.REQUEST_FAULT,
        "0x1C010003 nca_unk_if",
    ),
    "half a request": (
        lambda: Talk().bound().ask(make.v6_request()[:100]).rst(client=True),
        Outcome.REQUEST_ABORTED,
        "by a reset in the middle of the request",
    ),
    "half a header": (
        lambda: Talk().bound().ask(make.v6_request()[:10]).fin(client=True),
        Outcome.REQUEST_ABORTED,
        "by hanging up in the middle of a header",
    ),
    "an impatient client": (
        lambda: Talk().bound().ask(make.v6_request()).wait(0.5).fin(client=True),
        Outcome.REQUEST_ABORTED,
        "by hanging up after 501.0 ms",
    ),
    "a protocol that answers requests": (
        lambda: Talk().open().ask(make.v4_request()).answer(PAGE).close(),
        Outcome.OTHER_PROTOCOL,
        "HTTP: HTTP/1.1 400 Bad Request\\x0d\\x0aConnec",
    ),
    # answer
    "a response that can't be read": (
        lambda: Talk().bound().ask(make.v6_request()).answer(make.response(bytes(12))).close(),
        Outcome.MALFORMED,
        "neither a body nor an error code",
    ),
    "a refusal": (
        lambda: Talk().bound().ask(make.v6_request()).answer(make.v6_response(0xC004F042)).close(),
        Outcome.HOST_REFUSED,
        "",
    ),
    "below the threshold": (
        lambda: (
            Talk()
            .bound()
            .ask(make.v4_request(required=25))
            .answer(make.response(make.response_stub(make.answer_v4(count=24))))
        ),
        Outcome.BELOW_THRESHOLD,
        "count 24, needed 25",
    ),
    "at the threshold": (
        lambda: (
            Talk()
            .bound()
            .ask(make.v4_request(required=25))
            .answer(make.response(make.response_stub(make.answer_v4(count=25))))
        ),
        Outcome.ACTIVATED,
        "",
    ),
    "activated": (
        lambda: Talk().bound().ask(make.v6_request()).answer(make.v6_response()).close(),
        Outcome.ACTIVATED,
        "",
    ),
}


def _refused_five_times() -> Talk:
    talk = Talk(spacing=0.25)
    for _ in range(5):
        talk.syn().refuse()
    return talk


def _unheard(talk: Talk, data: bytes) -> Talk:
    """An answer that the host sends four times, while the client asks again."""
    seq = talk.next[False]
    for _ in range(4):
        talk.put(client=False, flags=PSH | ACK, data=data, seq=seq)
    return talk.wait(LONG).put(client=True, flags=RST)


@pytest.mark.parametrize(("talk", "outcome", "detail"), ENDS.values(), ids=ENDS)
def test_how_it_ended(talk: Callable[[], Talk], outcome: Outcome, detail: str) -> None:
    found = judge(talk())
    assert (found.outcome, found.detail, found.lacks) == (outcome, detail, ())


def test_every_outcome_is_tested() -> None:
    assert {outcome for _talk, outcome, _detail in ENDS.values()} | {Outcome.NOT_KNOWN} == set(Outcome)


class TestNotKnown:
    """A capture that lacks something never makes a failure."""

    @pytest.mark.parametrize(
        ("talk", "outcome"),
        [
            (lambda: Talk().syn(), Outcome.UNANSWERED),
            (lambda: Talk().syn().syn_ack(), Outcome.HANDSHAKE_FAILED),
            (lambda: Talk().open(), Outcome.CONNECT_ONLY),
            (lambda: Talk().open().ask(make.bind()), Outcome.BIND_UNANSWERED),
            (lambda: Talk().bound(), Outcome.BOUND),
            (lambda: Talk().bound().ask(make.v6_request()), Outcome.REQUEST_UNANSWERED),
            (lambda: Talk().bound().ask(make.v6_request()).again(), Outcome.REQUEST_UNANSWERED),
            (lambda: Talk().bound().ask(make.v6_request()[:100]), Outcome.REQUEST_UNANSWERED),
            (
                lambda: Talk().bound().ask(make.v6_request()).answer(make.v6_response()[:100]),
                Outcome.REQUEST_UNANSWERED,
            ),
        ],
    )
    def test_silence_at_the_end_of_a_capture_counts_once_it_lasts(
        self, talk: Callable[[], Talk], outcome: Outcome
    ) -> None:
        early, late = judge(talk(), after=PATIENCE / 1e9 - 0.1), judge(talk(), after=PATIENCE / 1e9)
        assert (early.outcome, early.lacks) == (Outcome.NOT_KNOWN, (Lack.END,))
        assert (late.outcome, late.lacks) == (outcome, ())

    def test_only_the_client_was_captured(self) -> None:
        talk = Talk().bound().ask(make.v6_request()).close()
        talk.segments = [one for one in talk.segments if one.dport == 1688]
        found = judge(talk, after=60)
        assert (found.outcome, found.lacks) == (Outcome.NOT_KNOWN, (Lack.HOST,))
        assert found.exchanges[0].version == "6.0"

    def test_only_a_handshake_of_the_clients_was_captured(self) -> None:
        talk = Talk().open().close()
        talk.segments = [one for one in talk.segments if one.dport == 1688]
        found = judge(talk, after=60)
        assert (found.outcome, found.lacks) == (Outcome.NOT_KNOWN, (Lack.HOST,))
        assert found.detail == "only the client's side was captured"

    def test_only_the_host_was_captured(self) -> None:
        talk = Talk().bound().ask(make.v6_request()).answer(make.v6_response(0xC004F042)).close()
        talk.segments = [one for one in talk.segments if one.sport == 1688]
        found = judge(talk)
        assert (found.outcome, found.lacks) == (Outcome.HOST_REFUSED, (Lack.BIND, Lack.CLIENT))
        assert found.client_port == make.PORT
        assert found.exchanges[0].hresult == "0xC004F042"
        assert found.exchanges[0].request is None

    def test_only_a_bind_ack_was_captured(self) -> None:
        talk = Talk().bound().close()
        talk.segments = [one for one in talk.segments if one.sport == 1688]
        found = judge(talk, after=60)
        assert (found.outcome, found.lacks) == (Outcome.NOT_KNOWN, (Lack.CLIENT,))

    def test_it_began_before_the_capture(self) -> None:
        talk = Talk().bound().ask(make.v6_request()).answer(make.v6_response(0xC004F06C)).close()
        talk.segments = talk.segments[7:]
        found = judge(talk)
        assert (found.outcome, found.lacks) == (Outcome.HOST_REFUSED, (Lack.START, Lack.BIND))
        assert (found.client_port, found.host_port) == (make.PORT, 1688)

    def test_only_its_end_was_captured(self) -> None:
        talk = Talk().bound().close()
        talk.segments = talk.segments[-2:]
        found = judge(talk, after=60)
        assert (found.outcome, found.lacks) == (Outcome.NOT_KNOWN, (Lack.START,))

    def test_the_end_of_a_pdu_at_the_beginning_is_no_foreign_protocol(self) -> None:
        talk = Talk().bound().ask(make.v6_request()).answer(make.v6_response()[:290], make.v6_response()[290:]).close()
        talk.segments = talk.segments[-3:]
        found = judge(talk, after=60)
        assert (found.outcome, found.lacks) == (Outcome.NOT_KNOWN, (Lack.START,))

    def test_the_answer_was_not_captured(self) -> None:
        talk = Talk().bound().ask(make.v6_request()).missed(make.v6_response(), client=False).close()
        found = judge(talk, after=60)
        assert (found.outcome, found.lacks) == (Outcome.NOT_KNOWN, (Lack.BYTES,))

    def test_the_bind_ack_was_not_captured(self) -> None:
        talk = Talk().open().ask(make.bind()).missed(make.ack(), client=False).close()
        found = judge(talk, after=60)
        assert (found.outcome, found.lacks) == (Outcome.NOT_KNOWN, (Lack.BYTES,))

    def test_the_request_was_not_captured(self) -> None:
        talk = Talk().bound().missed(make.v6_request(), client=True).put(client=False, flags=ACK).close()
        found = judge(talk, after=60)
        assert (found.outcome, found.lacks) == (Outcome.NOT_KNOWN, (Lack.BYTES,))
        assert found.detail == "what the client sent after the bind was not captured"

    @pytest.mark.parametrize(
        ("kept", "version", "response", "detail"),
        [
            (10, "", None, ""),
            (42, "6.0", Frame(0, 9), "the HRESULT was not captured; 300 bytes are the size of a response with a body"),
        ],
    )
    def test_the_snap_length_cut_it(self, kept: int, version: str, response: Frame | None, detail: str) -> None:
        talk = Talk().open()
        for client, data in ((True, make.bind()), (False, make.ack()), (True, make.alter()), (False, make.alter_ack())):
            talk.say(data, client=client, captured=kept)
        talk.say(make.v6_request(), client=True, captured=kept).say(make.v6_response(), client=False, captured=kept)
        found = judge(talk.close(), after=60)
        assert (found.outcome, found.detail) == (Outcome.NOT_KNOWN, detail)
        assert Lack.CUT in found.lacks
        assert [one.version for one in found.exchanges] == ([version] if version else [])
        assert [one.response for one in found.exchanges] == ([response] if response else [])

    def test_a_cut_refusal_is_known_by_its_size(self) -> None:
        talk = Talk().bound().ask(make.v6_request()).say(make.v6_response(0xC004F042), client=False, captured=26)
        assert judge(talk).detail == "the HRESULT was not captured; 36 bytes are the size of a refusal"

    def test_a_reset_after_a_cut_bind_is_one_all_the_same(self) -> None:
        talk = Talk().open().say(make.bind(), client=True, captured=14).rst(client=False)
        found = judge(talk)
        assert (found.outcome, found.lacks) == (Outcome.BIND_RESET, (Lack.CUT,))


class TestExchange:
    def test_a_version_4_exchange_in_full(self) -> None:
        talk = Talk(spacing=0.01).bound()
        talk.ask(make.v4_request(at=talk.at + 90 * make.NS, required=5, virtual=True))
        talk.answer(make.response(make.response_stub(make.answer_v4(at=talk.segments[-1].at + 90 * make.NS, count=7))))
        assert exchange(talk) == Exchange(
            outcome=Outcome.ACTIVATED,
            request=Frame(0, 8),
            response=Frame(0, 9),
            at=datetime.datetime(2026, 1, 5, 8, 0, 0, 70_000, tzinfo=datetime.UTC),
            elapsed_ms=10.0,
            version="4.0",
            syntax="NDR32",
            hresult="0x00000000",
            request_size=284,
            response_size=len(make.response(make.response_stub(make.answer_v4()))),
            machine="PC-17.contoso.example",
            client_machine_id=str(make.MACHINE),
            application_id=str(uuid.UUID(int=1 << 96 | 1)),
            activation_id=str(uuid.UUID(int=2 << 96 | 2)),
            kms_counted_id=str(uuid.UUID(int=3 << 96 | 3)),
            previous_machine_id=str(uuid.UUID(int=9)),
            license_status=2,
            remaining_min=43_200,
            virtual=True,
            required=5,
            count=7,
            activation_interval_min=120,
            renewal_interval_min=10_080,
            host_pid="03612-00206-558-893799-03-1033-17763",
            skew_s=90.0,
        )

    @pytest.mark.parametrize("hours", [-5, 3])
    def test_the_clients_clock_against_the_captures(self, hours: int) -> None:
        talk = Talk().bound()
        talk.ask(make.v4_request(at=talk.at + hours * 3600 * make.NS)).answer(make.v6_response(0xC004F06C))
        one = exchange(talk)
        assert (one.skew_s, one.hresult, one.outcome) == (hours * 3600.0, "0xC004F06C", Outcome.HOST_REFUSED)

    def test_the_syntax_is_that_of_its_context(self) -> None:
        stubs = (
            make.request_stub(make.body_opaque(), syntax="NDR64"),
            make.response_stub(b"", 0xC004F042, syntax="NDR64"),
        )
        talk = Talk().bound().ask(make.request(stubs[0], context=1)).answer(make.response(stubs[1], context=1))
        one = exchange(talk)
        assert (one.syntax, one.request_size, one.response_size, one.hresult) == ("NDR64", 300, 44, "0xC004F042")

    def test_a_big_endian_peer(self) -> None:
        talk = Talk().open().ask(make.bind(order=">")).answer(make.ack(order=">"))
        talk.ask(make.request(make.request_stub(make.body_v4(), order=">"), order=">"))
        talk.answer(make.response(make.response_stub(b"", 0xC004F042, order=">"), order=">"))
        one = exchange(talk)
        assert (one.version, one.required, one.hresult) == ("4.0", 25, "0xC004F042")

    def test_pipelined_requests_are_matched_by_call(self) -> None:
        talk = Talk().bound().ask(*(make.v6_request(call=call) for call in (3, 4, 5)))
        talk.answer(make.v6_response(call=5), make.v6_response(0xC004F042, call=3), make.v6_response(call=4)).close()
        found = judge(talk)
        assert [one.hresult for one in found.exchanges] == ["0xC004F042", "0x00000000", "0x00000000"]
        assert [one.response for one in found.exchanges] == [Frame(0, 12), Frame(0, 13), Frame(0, 11)]

    def test_of_several_the_worst_counts(self) -> None:
        talk = Talk().bound()
        for call, hresult in enumerate((0, 0xC004F042, 0), 3):
            talk.ask(make.v6_request(call=call)).answer(make.v6_response(hresult, call=call))
        assert judge(talk).outcome is Outcome.HOST_REFUSED
        talk.ask(make.v6_request(call=9)).rst(client=False)
        assert judge(talk).outcome is Outcome.REQUEST_RESET

    def test_what_is_not_known_of_one_is_not_known_of_all(self) -> None:
        talk = Talk().bound().ask(make.v6_request()).answer(make.v6_response()).ask(make.v6_request(call=3))
        found = judge(talk)
        assert [one.outcome for one in found.exchanges] == [Outcome.ACTIVATED, Outcome.NOT_KNOWN]
        assert (found.outcome, found.lacks) == (Outcome.NOT_KNOWN, (Lack.END,))

    def test_a_call_id_may_be_used_again(self) -> None:
        talk = Talk().bound()
        for hresult in (0xC004F042, 0):
            talk.ask(make.v6_request()).answer(make.v6_response(hresult))
        assert [one.hresult for one in judge(talk).exchanges] == ["0xC004F042", "0x00000000"]

    def test_fragments_of_a_request(self) -> None:
        stub = make.request_stub(make.body_v4())
        talk = Talk().bound().ask(make.request(stub[:144], flags=1), make.request(stub[144:], flags=2))
        one = exchange(talk.answer(make.v6_response(0xC004F042)))
        assert (one.required, one.request_size, one.outcome) == (25, 308, Outcome.HOST_REFUSED)

    @pytest.mark.parametrize(
        ("answer", "detail"),
        [
            (
                make.answer_v4(machine=uuid.UUID(int=5)),
                "the response repeats another client machine ID than the request's",
            ),
            (make.answer_v4(at=0), "the response repeats another time than the request's"),
            (make.body_opaque(), "asked in version 4.0, answered in 6.0"),
        ],
    )
    def test_what_no_microsoft_host_does(self, answer: bytes, detail: str) -> None:
        talk = Talk().bound().ask(make.v4_request()).answer(make.response(make.response_stub(answer)))
        one = exchange(talk)
        assert (one.outcome, one.detail) == (Outcome.ACTIVATED, detail)

    def test_times_that_run_backwards_are_no_negative_durations(self) -> None:
        talk = Talk(spacing=-0.01).bound().ask(make.v6_request()).answer(make.v6_response()).close()
        found = judge(talk)
        assert (found.connect_ms, found.bind_ms, found.exchanges[0].elapsed_ms) == (0, 0, 0)
        assert found.ended >= found.started

    def test_segments_in_any_order(self) -> None:
        talk = Talk().bound().ask(make.v4_request()).answer(make.v6_response(0xC004F042)).close()
        whole = judge(talk)
        for seed in range(20):
            mixed = random.Random(seed).sample(talk.segments, len(talk.segments))
            talk.segments = [one._replace(ref=ref) for ref, one in enumerate(mixed, 1)]
            found = judge(talk)
            assert found.outcome is Outcome.HOST_REFUSED
            assert found.exchanges[0].hresult == whole.exchanges[0].hresult


class TestConversation:
    def test_a_regular_one_in_full(self) -> None:
        talk = Talk(spacing=0.01).bound().ask(make.v6_request()).answer(make.v6_response()).close()
        found = judge(talk)
        assert (found.client, found.client_port, found.host, found.host_port) == ("10.1.0.5", 49_200, "10.1.0.8", 1688)
        assert found.started == datetime.datetime(2026, 1, 5, 8, tzinfo=datetime.UTC)
        assert found.ended - found.started == datetime.timedelta(milliseconds=100)
        assert (found.first, found.last, found.frames) == (Frame(0, 1), Frame(0, 11), 11)
        assert (found.syns, found.connect_ms, found.bind_ms) == (1, 10.0, 10.0)
        assert (found.retransmissions, found.secondary_address) == (0, "1688")
        assert (found.closed_by, found.reset, found.lacks, found.icmp) == ("client", False, (), None)

    def test_windows_repeats_a_refused_connect(self) -> None:
        found = judge(_refused_five_times())
        assert (found.syns, found.frames, found.closed_by, found.reset) == (5, 10, "host", True)

    def test_a_refusal_before_the_connection_did_not_close_it(self) -> None:
        talk = Talk(spacing=0.25).syn().refuse().open().ask(make.bind()).answer(make.ack()).fin(client=True)
        found = judge(talk)
        assert (found.outcome, found.closed_by, found.reset) == (Outcome.BOUND, "client", False)

    def test_an_icmp_error_is_attached(self) -> None:
        found = judge(Talk().syn().error(3, 3))
        assert found.icmp == Icmp(3, 3, "10.1.0.1", "port unreachable")
        assert (found.frames, found.last) == (2, Frame(0, 2))

    def test_retransmissions_count_and_are_no_requests(self) -> None:
        talk = Talk().bound().ask(make.v6_request()).again(2).answer(make.v6_response()).close()
        found = judge(talk)
        assert (found.outcome, found.retransmissions, len(found.exchanges)) == (Outcome.ACTIVATED, 2, 1)

    @pytest.mark.parametrize(
        ("bytes_", "reason"),
        [(make.nak(4), 4), (make.ack(*REJECTED), 1), (make.ack((2, 2, ""), (2, 2, ""), (2, 2, "")), 2)],
    )
    def test_a_reason_has_a_number(self, bytes_: bytes, reason: int) -> None:
        assert judge(Talk().open().ask(make.bind()).answer(bytes_).close()).reason == reason

    def test_any_port_counts_once_the_interface_is_asked_for(self) -> None:
        talk = Talk(host_port=40_001).bound().ask(make.v6_request()).answer(make.v6_response()).close()
        assert judge(talk).outcome is Outcome.ACTIVATED

    def test_any_port_counts_where_a_request_is_plain(self) -> None:
        talk = Talk(host_port=40_001).bound().ask(make.v6_request()).answer(make.v6_response()).close()
        talk.segments = talk.segments[7:]
        found = judge(talk)
        assert (found.outcome, found.host_port) == (Outcome.ACTIVATED, 40_001)

    def test_who_is_the_client_is_seen_from_what_is_said(self) -> None:
        talk = Talk(port=600, host_port=40_001).bound().ask(make.v6_request()).answer(make.v6_response()).close()
        talk.segments = talk.segments[3:]
        found = judge(talk)
        assert (found.client_port, found.host_port, found.outcome) == (600, 40_001, Outcome.ACTIVATED)

    @pytest.mark.parametrize(
        "talk",
        [
            Talk(host_port=443).syn().refuse(),
            Talk(host_port=443).open().ask(b"\x16\x03\x01\0\x05hello").close(),
            Talk(host_port=135).open().ask(make.bind(interface=make.OTHER_INTERFACE)).answer(make.ack()).close(),
            Talk(host_port=135).open().ask(make.request(b"another call")).answer(make.fault(5)).close(),
            Talk(port=1688, host_port=443).open().close(),
        ],
    )
    def test_what_is_not_about_kms_is_none(self, talk: Talk) -> None:
        assert judge_or_none(talk) is None

    def test_which_ports_are_kms_can_be_told(self) -> None:
        talk = Talk(host_port=40_001).syn().refuse()
        assert judge(talk, ports=(1688, 40_001)).outcome is Outcome.REFUSED


class TestLadder:
    def test_each_step_has_its_frame(self) -> None:
        talk = Talk().bound().ask(make.v4_request()).answer(make.v6_response(0xC004F042)).close()
        steps = [
            (one.frame.number, one.after_ms, one.sender, one.what, one.size, one.detail) for one in judge(talk).ladder
        ]
        assert steps == [
            (1, 0.0, "client", "SYN", 0, ""),
            (2, 1.0, "host", "SYN-ACK", 0, ""),
            (3, 2.0, "client", "ACK", 0, ""),
            (4, 3.0, "client", "bind", 160, "KMS: NDR32, NDR64, feature negotiation"),
            (
                5,
                4.0,
                "host",
                "bind_ack",
                108,
                "NDR32: proposed_transfer_syntaxes_not_supported, NDR64: accepted, feature negotiation: accepted",
            ),
            (6, 5.0, "client", "alter_context", 72, "KMS: NDR32"),
            (7, 6.0, "host", "alter_context_resp", 56, "NDR32: accepted"),
            (8, 7.0, "client", "request", 284, "KMS 4.0, needs a count of 25, PC-17.contoso.example"),
            (9, 8.0, "host", "response", 36, "HRESULT 0xC004F042"),
            (10, 9.0, "client", "FIN", 0, ""),
            (11, 10.0, "host", "FIN", 0, ""),
        ]

    def test_what_goes_wrong_has_its_own_steps(self) -> None:
        talk = Talk(spacing=1).syn(2).error().open().ask(make.v6_request()[:40]).again().answer(PAGE)
        steps = [(one.sender, one.what, one.detail) for one in judge(talk).ladder]
        assert steps[:3] == [
            ("client", "SYN", ""),
            ("client", "SYN again", ""),
            ("10.1.0.1", "ICMP error", "communication administratively prohibited"),
        ]
        assert steps[-3:] == [
            ("client", "request (cut)", "KMS 6.0"),
            ("client", "retransmission", ""),
            ("host", "no DCE/RPC", "HTTP/1.1 400 Bad Request\\x0d\\x0aConnec"),
        ]

    def test_there_is_an_end_to_it_and_the_end_is_in_it(self) -> None:
        talk = Talk().bound()
        for call in range(300):
            talk.ask(make.v6_request(call=call)).answer(make.v6_response(call=call))
        ladder = judge(talk.close()).ladder
        assert len(ladder) == RUNGS_MAX
        assert [one.what for one in ladder if one.what == "..."] == ["..."]
        assert ladder[149].detail == f"{7 + 600 + 2 - 199} lines are left out here"
        assert ladder[-1].what == "FIN"

    def test_nobody_has_to_have_one(self) -> None:
        talk = Talk().bound().ask(make.v6_request()).answer(make.v6_response())
        assert judge(talk, ladder=False) == judge(talk).__class__(
            **{field: getattr(judge(talk), field) for field in judge(talk).__struct_fields__ if field != "ladder"}
        )


class TestHostile:
    @given(st.data())
    @settings(max_examples=300)
    def test_no_segments_are_too_strange(self, data: st.DataObject) -> None:
        """A real conversation with segments left out, cut, changed and repeated."""
        talk = Talk().bound().ask(make.v4_request()).answer(make.v6_response(0xC004F042)).close()
        chosen = data.draw(st.lists(st.sampled_from(talk.segments), min_size=1, max_size=30))
        segments = [_changed(one, data) for one in chosen]
        segments = [one._replace(ref=ref) for ref, one in enumerate(segments, 1)]
        check(converse(segments, talk.icmp, make.frame, data.draw(st.integers(0, 2 * make.START))))

    @given(st.lists(st.tuples(st.booleans(), st.binary(max_size=100)), max_size=12))
    def test_no_bytes_are_too_strange(self, said: list[tuple[bool, bytes]]) -> None:
        talk = Talk().open()
        for client, data in said:
            talk.say(data, client=client)
        check(converse(talk.segments, [], make.frame, talk.at + 5 * make.NS))

    @pytest.mark.parametrize("kept", [*range(0, 292, 7), 291])
    def test_cut_at_every_length(self, kept: int) -> None:
        talk = Talk().open()
        for client, data in (
            (True, make.bind()),
            (False, make.ack()),
            (True, make.v4_request()),
            (False, make.response(make.response_stub(make.answer_v4()))),
        ):
            talk.say(data, client=client, captured=kept)
        found = judge(talk.close(), after=60)
        assert found.outcome is Outcome.ACTIVATED if kept >= 284 else found.outcome is not Outcome.REQUEST_UNANSWERED
        assert found.outcome in (Outcome.NOT_KNOWN, Outcome.ACTIVATED)

    @pytest.mark.parametrize("frames", range(1, 12))
    def test_a_capture_that_ends_anywhere_makes_no_failure(self, frames: int) -> None:
        talk = Talk().bound().ask(make.v6_request()).answer(make.v6_response()).close()
        talk.segments = talk.segments[:frames]
        talk.at = talk.segments[-1].at + talk.spacing
        assert judge(talk).outcome in (Outcome.NOT_KNOWN, Outcome.ACTIVATED)

    @pytest.mark.parametrize("frame", range(11))
    def test_no_single_lost_frame_makes_a_failure(self, frame: int) -> None:
        talk = Talk().bound().ask(make.v6_request()).answer(make.v6_response()).close()
        del talk.segments[frame]
        found = judge(talk, after=60)
        assert found.outcome in (Outcome.NOT_KNOWN, Outcome.ACTIVATED)
        if frame in (7, 8):
            assert Lack.BYTES in found.lacks

    @pytest.mark.parametrize("frame", range(11))
    def test_no_capture_that_begins_late_makes_a_failure(self, frame: int) -> None:
        talk = Talk().bound().ask(make.v6_request()).answer(make.v6_response()).close()
        talk.segments = talk.segments[frame:]
        assert judge(talk, after=60).outcome in (Outcome.NOT_KNOWN, Outcome.ACTIVATED)


def _changed(segment: Segment, data: st.DataObject) -> Segment:
    how = data.draw(st.sampled_from(["no", "no", "cut", "bytes", "flags", "seq", "time"]))
    if how == "cut":
        return segment._replace(payload=segment.payload[: data.draw(st.integers(0, 300))])
    if how == "bytes" and segment.payload:
        at = data.draw(st.integers(0, len(segment.payload) - 1))
        changed = bytearray(segment.payload)
        changed[at] = data.draw(st.integers(0, 255))
        return segment._replace(payload=bytes(changed))
    if how == "flags":
        return segment._replace(flags=data.draw(st.integers(0, 255)))
    if how == "seq":
        return segment._replace(seq=data.draw(st.integers(0, 2**32 - 1)), ack=data.draw(st.integers(0, 2**32 - 1)))
    if how == "time":
        return segment._replace(at=data.draw(st.integers(0, 2**63 - 1)))
    return segment


def check(found: Conversation | None) -> None:
    if found is None:
        return
    assert found.ended >= found.started
    texts = [found.detail, found.secondary_address, *(one.detail for one in found.exchanges)]
    texts += [text for rung in found.ladder for text in (rung.what, rung.detail, rung.sender)]
    texts += [text for one in found.exchanges for text in (one.machine, one.host_pid)]
    assert all(text.isascii() and text.isprintable() for text in texts)
    for one in (found.connect_ms, found.bind_ms, *(one.elapsed_ms for one in found.exchanges)):
        assert one is None or one >= 0
    if found.outcome is Outcome.NOT_KNOWN:
        assert found.lacks


RECORDED = {
    "live-bind-unknown-transfer-syntax-rejected": "bind_rejected",
    "live-bind-wrong-interface-rejected": "not_kms",
    "live-client-rst-mid-request": "request_aborted",
    "live-dns-srv-then-v6-activation": "activated",
    "live-fault-unbound-context": "request_fault",
    "live-fragmented-request-2frags": "host_refused",
    "live-garbage-to-1688-closed": "not_kms",
    "live-port-scan-connect-close": "connect_only",
    "live-request-without-bind-fault": "request_fault",
    "live-server-idle-timeout-after-bind": "bound",
    "live-stub-bind-ack-all-rejected-abstract-syntax": "bind_rejected",
    "live-stub-bind-nak-local-limit-2": "bind_nak",
    "live-stub-bind-nak-not-specified-0": "bind_nak",
    "live-stub-bind-nak-protocol-version-4": "bind_nak",
    "live-stub-fault-op-range-1c010002": "request_fault",
    "live-stub-fault-unk-if-1c010003": "request_fault",
    "live-stub-fin-after-accept": "bind_reset",
    "live-stub-fin-after-request": "request_closed",
    "live-stub-no-answer-to-bind": "bind_unanswered",
    "live-stub-no-answer-to-request": "request_unanswered",
    "live-stub-other-service-on-1688-http": "other_protocol",
    "live-stub-rst-after-bind": "bind_reset",
    "live-stub-rst-after-request": "request_reset",
    "live-tcp-icmp-port-unreachable": "unreachable",
    "live-tcp-refused": "refused",
    "live-tcp-syn-dropped": "unanswered",
    # the host stopped answering after 295 of them
    "live-v4-300requests-1connection": "request_unanswered",
    "live-v4-count-below-threshold": "below_threshold",
    "live-v4-err-clock-skew-C004F06C": "host_refused",
    "live-v4-err-unknown-kmsid-C004F042": "host_refused",
    "live-v4-err-wrong-appid-C004F042": "host_refused",
    "live-v6-err-clock-skew-C004F06C": "host_refused",
    "derived-caplen-gt-len": "",
    "derived-snaplen68": "not_known",
    "derived-tcp-request-never-acked": "request_unanswered",
    "derived-tcp-rst-instead-of-response": "request_reset",
    "derived-usec-overflow": "",
}
"""Recordings by name, and how each ended; all others with a conversation in them were activations."""

SEVERAL = {"live-v6-3requests-3connections": 3, "live-v6-server-disconnects-after-each": 3}


class TestRecordings:
    def test_each_ends_as_it_is_described(self) -> None:
        need_samples()
        files = [*SAMPLES.glob("live-*"), *SAMPLES.glob("derived-*")]
        # scapy does not read this format; the frames in it are those of the others
        files = [file for file in files if "kuznetzov" not in file.name]
        assert len(files) > 80
        for file in files:
            name = file.name.split(".")[0]
            expected = RECORDED.get(name, "" if "live-dns" in name else "activated")
            assert [one.outcome.value for one in conversations(file)] == [expected] * bool(expected) * SEVERAL.get(
                name, 1
            ), name

    def test_other_protocols_are_none(self) -> None:
        """Of all public captures only two, of port scans, hold anything for a KMS port: one SYN each."""
        need_samples()
        found = [
            (file.name, one.outcome.value, one.frames)
            for file in sorted((SAMPLES / "public").glob("*.pcap"))
            if file.stat().st_size > 24
            for one in conversations(file)
        ]
        assert set(found) == {("ndpi--synscan.pcap", "unanswered", 1)}


def conversations(file: Path) -> list[Conversation]:
    found = packets(file)
    judged = (converse(segments, icmp, make.frame, found.end) for segments, icmp in found.connections())
    return [one for one in judged if one is not None]
