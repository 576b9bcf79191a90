"""Connections that never come about, or on which nothing is said."""

from collections.abc import Sequence

from tests.pcapgen import (
    ACK,
    ENDS6,
    HOST,
    HOST6,
    RST,
    SYN,
    Ends,
    Talk,
    icmp,
)
from tests.pcapscenes import Scene, also, of, saw, scene, told


def _silent(turns: Sequence[float] = (0, 1, 3, 7)) -> Talk:
    talk = Talk()
    for at in turns:
        talk.now = round(at * 1e6)
        talk.syn()
    return talk


@scene
def syn_unanswered() -> Scene:
    """A firewall drops."""
    return told(
        _silent(),
        saw("unanswered", syns=4, connect_ms=None, closed_by=""),
        about="Four SYNs, and nothing ever comes back.",
        later=10,
    )


@scene
def syn_unanswered_once() -> Scene:
    """One SYN, long before the capture ends."""
    return told(
        _silent((0,)), saw("unanswered"), about="One SYN; the capture runs on for 10 s without an answer.", later=10
    )


@scene
def syn_at_the_end() -> Scene:
    """Nobody knows."""
    return told(
        _silent((0,)), saw("not_known", lacks=["end"]), about="A SYN is the last thing captured: no verdict.", later=0.3
    )


@scene
def connection_refused() -> Scene:
    """Windows repeats."""
    talk = Talk()
    for _ in range(5):
        talk.syn().add(False, RST | ACK, seq=0).wait(0.4998)
    return told(
        talk,
        saw("refused", syns=5, connect_ms=None),
        about="Five SYNs half a second apart, each answered by a reset: one refused connection.",
        later=10,
        hosts=[{"conversations": 1, "speaks_kms": False, "outcomes": {"refused": 1}}],
    )


@scene
def connection_refused_with_new_numbers() -> Scene:
    """Each SYN has a number of its own."""
    talk = Talk()
    for turn in range(3):
        number = 1_000_000 + 77_777 * turn
        talk.add(True, SYN, seq=number).add(False, RST | ACK, seq=0, ack=number + 1).wait(0.5)
    return told(talk, saw("refused", syns=3), about="The same, where each try has a new sequence number.", later=10)


def _errors(sender: str, kind: int, code: int, ends: Ends) -> Scene:
    talk = Talk(ends)
    packets = []
    for turn in (0, 1, 3):
        talk.now = turn * 1_000_000
        asked = talk.syn().segments[-1].packet(ends)
        packets += [asked, icmp(turn + 0.02, sender, asked, kind, code, 60 if ":" in sender else 28)]
    expected = saw(
        "unreachable",
        client=ends.client,
        host=ends.host,
        syns=3,
        frames=6,
        icmp={"type": kind, "code": code, "sender": sender},
    )
    return of(packets, expected, about=f"ICMP errors (type {kind}, code {code}) from {sender} answer the SYNs.")


also("icmp-port-unreachable", lambda: _errors(HOST, 3, 3, Ends()))
also("icmp-prohibited", lambda: _errors("192.0.2.1", 3, 13, Ends()))
also("icmp-host-unreachable", lambda: _errors("192.0.2.1", 3, 1, Ends()))
also("icmp6-prohibited", lambda: _errors("2001:db8::1", 1, 1, ENDS6))
also("icmp6-port-unreachable", lambda: _errors(HOST6, 1, 4, ENDS6))


@scene
def handshake_not_completed() -> Scene:
    """The way back is blocked."""
    talk = Talk().syn()
    for wait in (0, 1, 2):
        talk.wait(wait).add(False, SYN | ACK, seq=5_000_000, ack=1_000_001)
    return told(
        talk, saw("handshake_failed"), about="The host answers the SYN three times; the client never hears it.", later=5
    )


@scene
def answer_to_syn_too_late() -> Scene:
    """The client gave up."""
    talk = _silent((0, 1, 3)).wait(4).syn_ack().add(True, RST, seq=1_000_001)
    return told(talk, saw("handshake_failed", syns=3), about="A SYN-ACK after seven seconds, and the client resets it.")


@scene
def half_open_scan() -> Scene:
    """A port scanner."""
    talk = Talk().syn().syn_ack().add(True, RST, seq=1_000_001)
    return told(talk, saw("connect_only"), about="SYN, SYN-ACK, RST: a port scan.", later=5)


@scene
def connect_and_close() -> Scene:
    """Test-NetConnection."""
    return told(
        Talk().open().wait(0.01).close(),
        saw("connect_only", closed_by="client"),
        about="Connected and hung up: a port test.",
    )


@scene
def connect_and_silence() -> Scene:
    """The host hangs up in the end."""
    return told(
        Talk().open().wait(30).close(client=False),
        saw("connect_only", closed_by="host"),
        about="A client that connects and says nothing; the host hangs up after 30 s.",
    )


@scene
def host_hangs_up_at_once() -> Scene:
    """A full host, or a proxy without a backend."""
    return told(
        Talk().open().wait(0.01).close(client=False),
        saw("closed_early", closed_by="host"),
        about="The host hangs up before a word was said.",
    )


@scene
def host_resets_at_once() -> Scene:
    """A load balancer."""
    return told(
        Talk().open().wait(0.01).rst(client=False),
        saw("closed_early", closed_by="host", reset=True),
        about="The host resets the connection before a word was said.",
    )
