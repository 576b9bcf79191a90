"""DCE/RPC in all its forms."""

from tests.pcapgen import (
    CLIENT,
    HOST,
    NDR32,
    OTHER,
    Talk,
    answered,
    bind,
    bind_ack,
    bind_nak,
    called,
    datagram,
    fragmented,
    noise,
    pdu,
    request,
    response,
)
from tests.pcapscenes import Scene, got, of, refused, saw, scene, told


@scene
def request_in_fragments() -> Scene:
    """FIRST, MIDDLE, LAST."""
    talk = Talk().bound()
    for part in fragmented(request(), 100, 200):
        talk.client(part)
    return told(talk.host(response()).rst(), saw("activated", got()), about="A request in three DCE/RPC fragments.")


@scene
def response_in_fragments() -> Scene:
    """Two of them."""
    talk = Talk().bound().client(request())
    for part in fragmented(response(), 120):
        talk.host(part)
    return told(talk.rst(), saw("activated", got(response=[0, 10])), about="A response in two DCE/RPC fragments.")


@scene
def refusal_in_fragments() -> Scene:
    """The HRESULT alone in the second one."""
    talk = Talk().bound().client(request()).host(*fragmented(response(hresult=0xC004F042), 8)).rst()
    return told(
        talk, saw("host_refused", refused("0xC004F042")), about="A refusal whose HRESULT has a fragment of its own."
    )


@scene
def pipelined_requests() -> Scene:
    """Answered in another order."""
    asked = [request(call=2), request(5, call=3), request(call=4)]
    replies = [response(call=4), response(5, 0xC004F042, call=3), response(call=2)]
    talk = Talk().bound().client(b"".join(asked)).host(b"".join(replies)).rst()
    return told(
        talk,
        saw("host_refused", got(), refused("0xC004F042", "5.0"), got()),
        about="Three requests in one segment; the responses come in one, in another order.",
    )


@scene
def request_with_authentication() -> Scene:
    """A trailer that is not the stub's."""
    talk = Talk().bound().client(request(auth=noise(16))).host(response(hresult=0xC004F042, auth=noise(16))).rst()
    return told(talk, saw("host_refused", refused("0xC004F042")), about="Authentication trailers behind both stubs.")


@scene
def request_with_object() -> Scene:
    """The object UUID comes before the stub."""
    plain = request()
    whole = pdu(0, plain[16:24] + noise(16) + plain[24:], flags=0x83)
    talk = Talk().bound().client(whole).host(response()).rst()
    return told(talk, saw("activated", got(request_size=308)), about="A request with an object UUID.")


@scene
def request_of_minor_version_1() -> Scene:
    """DCE/RPC 5.1."""
    talk = Talk().bound().client(request(minor=1)).host(response(minor=1)).rst()
    return told(talk, saw("activated", got()), about="PDUs of DCE/RPC version 5.1.")


@scene
def other_pdus_between() -> Scene:
    """auth3, co_cancel, orphaned, shutdown."""
    talk = (
        Talk().bound().client(pdu(16, noise(28)), request(), pdu(18, b""), pdu(19, b"")).host(pdu(17, b""), response())
    )
    return told(talk.rst(), saw("activated", got()), about="PDUs of other types between request and response.")


@scene
def bind_repeated() -> Scene:
    """Refused for a moment, then accepted on the same connection."""
    talk = (
        Talk()
        .open()
        .client(bind())
        .host(bind_nak(1))
        .client(bind(call=3))
        .host(bind_ack(call=3))
        .exchange(call=4)
        .rst()
    )
    return told(
        talk, saw("activated", got()), about="A bind_nak, another bind on the same connection, and an activation."
    )


@scene
def foreign_calls_on_1688() -> Scene:
    """Another interface is bound and called."""
    talk = Talk().open().client(bind((NDR32,), interface=OTHER)).host(bind_ack(((0, 0, NDR32),)))
    talk.client(called(noise(260))).host(answered(noise(40))).close()
    return told(talk, saw("not_kms"), about="Another interface is bound, accepted and called on port 1688.")


@scene
def connectionless_rpc() -> Scene:
    """DCE/RPC version 4 over UDP."""
    data = bytes([4, 0, 0x20, 0, 0x10, 0, 0, 0]) + bytes.fromhex("c2511c85") + noise(200)
    return of(
        [datagram(0, CLIENT, 5000, HOST, 1688, data)],
        about="Connectionless DCE/RPC on UDP port 1688 is no KMS.",
        conversations=0,
    )
