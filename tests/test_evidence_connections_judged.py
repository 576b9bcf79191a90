from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.capture.digest import EXCHANGE, ROW, exchanges_of, row_of
from kmsdiag.evidence.connections.judged import (
    RPC,
    Call,
    Closer,
    Connection,
    Life,
    Reply,
    conversation_of,
    judge,
    rows_of,
)
from kmsdiag.model.capture import NOT_LOGGED, Lack
from kmsdiag.model.outcome import ConversationOutcome, State

S = 1_000_000_000
T = 1_780_000_000 * S
END = T + 3600 * S


def life(**facts: Any) -> Life:
    """A connection that was opened and closed by the client after 20 ms, with not a word."""
    known = {"syn": True, "answered": True, "opened": True, "refused": False, "asked": False, "replied": False}
    return Life(ref=9, started=T, **{"ended": T + S // 50, "closer": Closer.CLIENT, **known, **facts})


def link(what: Life | None = None, *calls: Call) -> Connection:
    made = Connection(("192.0.2.1", 49200), ("198.51.100.20", 1688))
    for call in calls:
        made.add(call)
    if what is not None:
        made.add(what)
    return made


def bind(reply: Reply = Reply.GIVEN) -> Call:
    return Call(1, T, bind=True, reply=reply)


def request(reply: Reply = Reply.GIVEN, **facts: Any) -> Call:
    return Call(2, T, bind=False, reply=reply, **facts)


TALKED = life(asked=True, replied=True, client=RPC, received=464)
SILENT = {"asked": True, "client": RPC}


class TestJudge:
    @pytest.mark.parametrize(
        ("made", "outcome"),
        [
            # nothing but the handshake
            (link(life(answered=False, opened=False, closer=Closer.NOBODY, syns=3)), "unanswered"),
            (link(life(answered=False, opened=False, closer=Closer.NOBODY)), "unanswered"),
            (link(life(answered=False, opened=False, refused=True, closer=Closer.NOBODY)), "refused"),
            (link(life(opened=False, closer=Closer.NOBODY)), "handshake_failed"),
            (link(life(opened=False, reset=True)), "connect_only"),
            (link(life()), "connect_only"),
            (link(life(closer=Closer.HOST)), "closed_early"),
            (link(life(closer=Closer.HOST, ended=T + 6 * S)), "connect_only"),
            # the bind
            (link(life(**SILENT, ended=T + 9 * S)), "bind_unanswered"),
            (link(life(**SILENT)), "request_aborted"),
            (link(life(**SILENT, closer=Closer.HOST)), "bind_closed"),
            (link(life(**SILENT, closer=Closer.HOST, reset=True)), "bind_reset"),
            (link(None, bind(Reply.REJECTED)), "bind_rejected"),
            (link(None, bind(Reply.NAK)), "bind_nak"),
            (link(None, bind(Reply.FAULT)), "bind_fault"),
            (link(life(opened=False, reset=True, ended=T + 7 * S)), "handshake_failed"),
            (link(life(asked=True, replied=True, client=RPC, host="ssh")), "other_protocol"),
            (link(life(replied=True, host="ssh")), "other_protocol"),
            (link(life(asked=True, replied=True, client="http", host="http")), "not_kms"),
            # the request
            (link(TALKED, bind(), request(size=12)), "host_refused"),
            (link(TALKED, bind(), request(size=20)), "host_refused"),
            (link(None, request(Reply.FAULT)), "request_fault"),
            (link(life(closer=Closer.HOST, reset=True), bind(), request(Reply.NOT_LOGGED)), "request_reset"),
            (link(TALKED, request(size=284), request(size=20)), "host_refused"),
        ],
    )
    def test_what_a_log_says(self, made: Connection, outcome: str) -> None:
        assert judge(made, END, "Suricata").how.outcome == outcome

    @pytest.mark.parametrize(
        ("made", "lack"),
        [
            # a response, and not what it holds: no success, whatever its size
            (link(TALKED, bind(), request(size=284)), None),
            (link(TALKED, request(elapsed=8_000_000)), None),
            (link(None, request()), None),
            # no response in the log is no silence
            (link(TALKED, bind(), request(Reply.NOT_LOGGED)), None),
            (link(None, bind(Reply.NOT_LOGGED)), None),
            (link(TALKED), None),
            (link(TALKED, bind(Reply.NOT_LOGGED)), None),
            # too little is known
            (link(life(syn=False, asked=True)), Lack.START),
            (link(life(answered=False, asked=True)), Lack.HOST),
            (link(life(**SILENT, ended=T + 9 * S, gap=True)), Lack.BYTES),
            (link(life(asked=True, ended=T + 9 * S)), None),
            (link(life(closer=Closer.UNTOLD)), None),
            (link(None, bind()), None),
            (link(TALKED, bind()), None),
            (link(life(replied=True)), None),
        ],
    )
    def test_what_it_does_not_say(self, made: Connection, lack: Lack | None) -> None:
        verdict = judge(made, END, "Suricata")
        assert verdict.how.outcome is ConversationOutcome.NOT_KNOWN
        assert verdict.how.detail
        assert verdict.lacks == {Lack.SUMMARY} | ({lack} if lack else set())
        assert conversation_of(made, verdict).words == NOT_LOGGED

    @pytest.mark.parametrize(
        "made",
        [
            life(answered=False, opened=False, closer=Closer.NOBODY),
            life(opened=False, closer=Closer.NOBODY),
            life(closer=Closer.NOBODY),
            life(**SILENT, closer=Closer.NOBODY),
        ],
    )
    def test_a_log_that_ends_at_once_shows_no_silence(self, made: Life) -> None:
        verdict = judge(link(made), made.ended + S, "Zeek")
        assert (verdict.how.outcome, Lack.END in verdict.lacks) == (ConversationOutcome.NOT_KNOWN, True)
        assert judge(link(made), END, "Zeek").how.outcome is not ConversationOutcome.NOT_KNOWN

    def test_bytes_of_the_host_are_told(self) -> None:
        refused, answered = TALKED._replace(received=200), TALKED
        assert "no more than a bind and a refusal" in judge(link(refused, request()), END, "Zeek").how.detail
        assert ", more than a bind and a refusal" in judge(link(answered, request()), END, "Zeek").how.detail
        assert "in all" not in judge(link(answered._replace(gap=True), request()), END, "Zeek").how.detail


LIVES = st.builds(
    life,
    ended=st.integers(T, T + 20 * S),
    closer=st.sampled_from(Closer),
    received=st.none() | st.integers(0, 1000),
    syns=st.integers(0, 5),
    client=st.sampled_from(["", RPC, "http"]),
    host=st.sampled_from(["", RPC, "ssh"]),
    **{name: st.booleans() for name in ("syn", "answered", "opened", "refused", "asked", "replied", "gap", "reset")},
)
CALLS = st.builds(
    Call,
    st.integers(1, 8),
    st.integers(T, T + S),
    bind=st.booleans(),
    reply=st.sampled_from(Reply),
    elapsed=st.none() | st.integers(0, S).map(lambda at: at // 1000 * 1000),
    size=st.sampled_from([-1, 0, 12, 20, 284]),
)


class TestRows:
    @settings(max_examples=200)
    @given(st.none() | LIVES, st.lists(CALLS, max_size=4))
    def test_rows_are_those_of_the_conversation(self, what: Life | None, calls: list[Call]) -> None:
        made = link(what, *calls)
        if what is None and not calls:
            return
        verdict = judge(made, END, "Zeek")
        assert Lack.SUMMARY in verdict.lacks
        assert verdict.how.outcome.state is not State.OK
        whole = conversation_of(made, verdict)
        row, exchanges = rows_of(made, verdict)
        assert np.array([row], ROW).tolist() == np.array([row_of(whole)], ROW).tolist()
        # In words, for no NaN is equal to another.
        expected = np.array(exchanges_of(whole, made.first), EXCHANGE)
        assert str(np.array(exchanges, EXCHANGE).tolist()) == str(expected.tolist())
