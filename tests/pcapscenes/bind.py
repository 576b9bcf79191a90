"""Binds that fail, clients that want something else, and hosts that are none."""

from collections.abc import Sequence

from tests.pcapgen import (
    ACK,
    NDR32,
    OTHER,
    PSH,
    RST,
    Result,
    Talk,
    alter,
    alter_response,
    bind,
    bind_ack,
    bind_nak,
    fault,
    noise,
)
from tests.pcapscenes import Scene, also, saw, scene, told


@scene
def client_speaks_http() -> Scene:
    """A browser, or a scanner."""
    talk = Talk().open().client(b"GET / HTTP/1.1\r\nHost: kms\r\n\r\n").ack(False).wait(0.01).rst(False)
    return told(talk, saw("not_kms", detail={"matches": "HTTP"}), about="A client that asks for a web page.")


@scene
def client_sends_garbage() -> Scene:
    """A scanner."""
    talk = Talk().open().client(b"\x00\x01scan\xff\x00" + noise(21)).ack(False).rst(False)
    return told(talk, saw("not_kms"), about="A client that sends 29 bytes of nothing known.")


@scene
def client_wants_another_interface() -> Scene:
    """Rejected, and rightly."""
    talk = Talk().open().client(bind((NDR32,), interface=OTHER)).host(bind_ack(((2, 1, None),))).close()
    detail = {"matches": str(OTHER)}
    return told(
        talk,
        saw("not_kms", detail=detail),
        about="A bind to an interface that is not KMS.",
        hosts=[{"speaks_kms": False}],
    )


@scene
def bind_unanswered() -> Scene:
    """The service hangs."""
    talk = Talk().open().client(bind()).ack(False).wait(10).close()
    return told(
        talk,
        saw("bind_unanswered"),
        about="The bind is acknowledged and never answered; the client gives up after 10 s.",
    )


@scene
def bind_never_acknowledged() -> Scene:
    """Something on the way drops data."""
    talk = Talk().open().client(bind())
    again = talk.segments[-1]
    for wait in (0.3, 0.6, 1.2, 2.4):
        talk.wait(wait).add(True, PSH | ACK, again.data, seq=again.seq)
    return told(
        talk.wait(5).rst(),
        saw("bind_unanswered", retransmissions=4),
        about="The bind is sent five times and never acknowledged.",
    )


@scene
def bind_ack_never_arrives() -> Scene:
    """The way back drops data."""
    talk = Talk().open().client(bind()).host(bind_ack())
    again = talk.segments[-1]
    for wait in (0.3, 0.6, 1.2):
        talk.wait(wait).add(False, PSH | ACK, again.data, seq=again.seq)
    talk.wait(3).add(True, RST | ACK, ack=5_000_001)
    return told(
        talk,
        saw("bind_unanswered", retransmissions=3),
        about="The host answers four times; the client acknowledges none.",
    )


@scene
def bind_closed() -> Scene:
    """FIN."""
    return told(
        Talk().open().client(bind()).ack(False).fin(False).ack().fin().ack(False),
        saw("bind_closed", closed_by="host"),
        about="The host hangs up on the bind.",
    )


@scene
def bind_reset() -> Scene:
    """RST."""
    return told(
        Talk().open().client(bind()).rst(False),
        saw("bind_reset", closed_by="host", reset=True),
        about="The host resets the connection on the bind.",
    )


def _nak(reason: int) -> Scene:
    return told(
        Talk().open().client(bind()).host(bind_nak(reason, versions=reason == 4)).rst(),
        saw("bind_nak", reason=reason),
        about=f"The bind is refused by a bind_nak with reason {reason}.",
    )


for _reason, _name in ((0, "not-specified"), (1, "congestion"), (2, "local-limit"), (4, "version")):
    also(
        f"bind-nak-{_name}",
        _nak,
        _reason,
    )


def _rejected(results: Sequence[Result], reason: int) -> Scene:
    return told(
        Talk().open().client(bind()).host(bind_ack(results)).close(),
        saw("bind_rejected", reason=reason),
        about=f"A bind_ack that accepts no context of KMS (result {results[0][0]}, reason {reason}).",
    )


for _results, _reason, _name in (
    (((2, 1, None),) * 3, 1, "interface"),
    (((2, 2, None), (2, 2, None), (3, 3, None)), 2, "syntaxes"),
    (((2, 3, None),) * 3, 3, "local-limit"),
    (((1, 0, None),) * 3, 0, "by-user"),
):
    also(
        f"bind-rejected-{_name}",
        _rejected,
        _results,
        _reason,
    )


@scene
def bind_fault() -> Scene:
    """Access denied."""
    talk = Talk().open().client(bind()).host(fault(5)).rst()
    return told(
        talk,
        saw("bind_fault", detail={"matches": "(?i)access.denied"}),
        about="The bind is answered by a fault: access denied.",
    )


@scene
def alter_rejected() -> Scene:
    """The interface was accepted, and the second context is turned down."""
    talk = Talk().open().client(bind()).host(bind_ack()).client(alter()).host(alter_response(((2, 2, None),)))
    return told(
        talk.close(), saw("bound"), about="The bind succeeds, the alter_context is turned down, and the client leaves."
    )


@scene
def host_speaks_ssh() -> Scene:
    """The host speaks first."""
    talk = Talk().open().host(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n").client(bind()).ack(False).wait(0.1).close(False)
    return told(talk, saw("other_protocol", detail={"matches": "SSH"}), about="An SSH server on port 1688.")


@scene
def host_speaks_http() -> Scene:
    """It answers the bind."""
    talk = Talk().open().client(bind()).host(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").close(False)
    return told(talk, saw("other_protocol", detail={"matches": "HTTP"}), about="A web server on port 1688.")


@scene
def host_speaks_tls() -> Scene:
    """An alert."""
    talk = Talk().open().client(bind()).host(b"\x15\x03\x01\x00\x02\x02\x46").close(False)
    return told(talk, saw("other_protocol", detail={"matches": "TLS"}), about="A TLS server on port 1688.")


@scene
def bound_and_idle() -> Scene:
    """Harmless."""
    talk = Talk().bound().wait(30).close(client=False)
    return told(talk, saw("bound", closed_by="host"), about="Bound, nothing asked; the host hangs up after 30 s.")


@scene
def bound_and_left() -> Scene:
    """What kmsdiag itself does."""
    return told(
        Talk().open().client(bind()).host(bind_ack()).close(),
        saw("bound", closed_by="client"),
        about="Bound and hung up.",
    )
