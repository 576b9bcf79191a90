"""Requests without an answer, and answers that are no activation."""

from tests.pcapgen import (
    ACK,
    OTHER,
    PSH,
    RST,
    Talk,
    answered,
    bind,
    bind_ack,
    fault,
    opaque,
    request,
    response,
    response_stub,
    response_v4,
)
from tests.pcapscenes import Scene, also, got, lost, refused, saw, scene, told


@scene
def request_unanswered() -> Scene:
    """The host hangs."""
    talk = Talk().bound().client(request()).ack(False).wait(10).close()
    return told(
        talk,
        saw("request_unanswered", lost("request_unanswered")),
        about="The request is acknowledged and never answered.",
    )


@scene
def request_never_acknowledged() -> Scene:
    """Path MTU."""
    talk = Talk().bound().client(request())
    again = talk.segments[-1]
    for wait in (0.3, 0.6, 1.2, 2.4):
        talk.wait(wait).add(True, PSH | ACK, again.data, seq=again.seq)
    return told(
        talk.wait(5).rst(),
        saw("request_unanswered", lost("request_unanswered", detail={"matches": "MTU"}), retransmissions=4),
        about="The request is sent five times and never acknowledged: large packets do not get through.",
    )


@scene
def response_never_arrives() -> Scene:
    """The way back drops what is large."""
    talk = Talk().bound().client(request()).host(response(), after=0.008)
    again, known = talk.segments[-1], talk.segments[-1].seq
    for wait in (0.3, 0.6, 1.2):
        talk.wait(wait).add(False, PSH | ACK, again.data, seq=again.seq)
    talk.wait(3).add(True, RST | ACK, ack=known)
    return told(
        talk,
        saw("request_unanswered", {"outcome": "request_unanswered", "version": "6.0"}, retransmissions=3),
        about="The host answers four times; the client acknowledges none.",
    )


@scene
def request_closed() -> Scene:
    """FIN."""
    talk = Talk().bound().client(request()).ack(False).fin(False).ack().fin().ack(False)
    return told(
        talk, saw("request_closed", lost("request_closed"), closed_by="host"), about="The host hangs up on the request."
    )


@scene
def request_reset() -> Scene:
    """RST."""
    talk = Talk().bound().client(request()).rst(False)
    return told(
        talk, saw("request_reset", lost("request_reset"), reset=True), about="The request is answered by a reset."
    )


def _fault(status: int) -> Scene:
    return told(
        Talk().bound().client(request()).host(fault(status)).rst(),
        saw("request_fault", lost("request_fault", fault=f"0x{status:08X}")),
        about=f"The request is answered by a fault, status 0x{status:08X}.",
    )


for _status, _name in (
    (0x1C010002, "operation"),
    (0x1C010003, "interface"),
    (5, "access-denied"),
    (0x1C000009, "unknown"),
):
    also(
        f"request-fault-{_name}",
        _fault,
        _status,
    )


@scene
def request_of_unknown_context() -> Scene:
    """Context 7 was never bound."""
    talk = Talk().open().client(bind()).host(bind_ack()).client(request(4, context=7)).host(fault(0x1C010003)).close()
    return told(
        talk,
        saw("request_fault", lost("request_fault", version="4.0", fault="0x1C010003")),
        about="A request for a context that was never bound.",
    )


@scene
def request_without_bind() -> Scene:
    """The client never binds: it is the client that lacks it, not the capture."""
    talk = Talk().open().client(request(4)).host(fault(0x1C010003)).close()
    return told(
        talk,
        saw("request_fault", lost("request_fault", version="4.0", fault="0x1C010003")),
        about="A request without a bind before it, answered by a fault.",
    )


@scene
def request_aborted() -> Scene:
    """In its middle."""
    talk = Talk().bound().client(request()[:100]).rst()
    return told(
        talk,
        saw("request_aborted", lost("request_aborted"), closed_by="client"),
        about="The client resets after 100 of 292 bytes.",
    )


@scene
def request_given_up() -> Scene:
    """Too soon to blame the host."""
    talk = Talk().bound().client(request()).ack(False).wait(0.4).rst()
    return told(talk, saw("request_aborted", lost("request_aborted")), about="The client waits for 0.4 s and resets.")


def _refused(code: int) -> Scene:
    return told(
        Talk().activation(hresult=code),
        saw("host_refused", refused(f"0x{code:08X}", response_size=36)),
        about=f"The host refuses with 0x{code:08X}.",
        hosts=[{"hresults": {f"0x{code:08X}": 1}, "speaks_kms": True}],
    )


for _code in (0xC004F042, 0xC004F06C, 0x8007000D, 0xC004D104, 0xC0DE0001):
    also(
        f"refused-{_code:08x}",
        _refused,
        _code,
    )


@scene
def refused_in_version_4() -> Scene:
    """And the clock that explains it."""
    talk = Talk().activation(4, 0xC004F06C, skew=-5 * 3600)
    exchange = refused("0xC004F06C", "4.0", skew_s={"about": [-18_000, 0.1]})
    return told(talk, saw("host_refused", exchange), about="Refused for the client's clock, which is five hours slow.")


@scene
def refused_in_ndr64() -> Scene:
    """A refusal of 44 bytes."""
    talk = Talk().bound().exchange().exchange(6, 0xC004F042, call=3, wide=True).rst()
    return told(
        talk,
        saw("host_refused", got(), refused("0xC004F042", syntax="NDR64", response_size=44)),
        about="The first request of a connection succeeds, the second one is refused: the worst counts.",
    )


@scene
def clock_three_hours_off() -> Scene:
    """Within what a host takes."""
    talk = Talk().activation(4, skew=3 * 3600)
    return told(
        talk,
        saw("activated", got(version="4.0", skew_s={"about": [10_800, 0.1]})),
        about="The client's clock is three hours fast, and the host takes it.",
        clients=[{"skew_s": {"about": [10_800, 0.1]}}],
    )


@scene
def below_threshold() -> Scene:
    """HRESULT 0, and no activation."""
    talk = Talk().activation(4, required=25, count=3)
    return told(
        talk,
        saw("below_threshold", got("below_threshold", "4.0", required=25, count=3)),
        about="The host answers with success and a count of 3; the client needs 25.",
        hosts=[{"below": 1, "required": [25]}],
    )


@scene
def response_too_small() -> Scene:
    """No KMS response."""
    talk = Talk().bound().client(request()).host(answered(bytes(4))).rst()
    return told(talk, saw("malformed", {"outcome": "malformed"}), about="A response whose stub has four bytes.")


@scene
def response_that_lies() -> Scene:
    """Sizes that do not fit."""
    stub = response_stub(opaque(6))
    talk = Talk().bound().client(request()).host(answered(b"\xff\xff\0\0" + stub[4:])).rst()
    return told(
        talk, saw("malformed", {"outcome": "malformed"}), about="A response that says that its body has 65,535 bytes."
    )


@scene
def response_in_another_version() -> Scene:
    """Answered in version 5."""
    talk = Talk().bound().client(request(6)).host(response(5)).rst()
    exchange = got(detail={"matches": r"6\.0.*5\.0"})
    return told(talk, saw("activated", exchange), about="Asked in version 6, answered in version 5.")


@scene
def response_with_another_machine_id() -> Scene:
    """No Microsoft host does that."""
    body = response_v4(cmid=OTHER)
    talk = Talk().bound().client(request(4)).host(response(4, body=body)).rst()
    return told(
        talk,
        saw("activated", got(version="4.0", detail={"matches": "machine ID"})),
        about="A response for another client.",
    )
