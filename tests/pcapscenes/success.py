"""Activations that succeed, by version and generation of client and host."""

from tests.pcapgen import (
    CLIENT,
    CLIENT6,
    HOST6,
    NDR32,
    NEITHER,
    WINDOWS,
    Ends,
    Talk,
    bind,
    bind_ack,
    called,
    merged,
    request,
    request_stub,
    request_v4,
    response,
    response_v4,
)
from tests.pcapscenes import Scene, also, got, of, refused, saw, scene, told

REQUEST, RESPONSE = [0, 8], [0, 9]
"""Frames of a usual activation."""


def _version_of(version: int, sizes: tuple[int, int]) -> Scene:
    return told(
        Talk().activation(version),
        saw(
            "activated",
            got(
                version=f"{version}.0",
                syntax="NDR32",
                request=REQUEST,
                response=RESPONSE,
                request_size=sizes[0],
                response_size=sizes[1],
                elapsed_ms=8.1,
            ),
            connect_ms=0.1,
            bind_ms=0.5,
            secondary_address="1688",
            closed_by="client",
            reset=True,
        ),
        about=f"A whole activation in version {version}: handshake, bind, alter_context, request, response, reset.",
    )


for _version, _sizes in ((4, (284, 200)), (5, (292, 268)), (6, (292, 300))):
    also(
        f"version-{_version}",
        _version_of,
        _version,
        _sizes,
    )


@scene
def version_4_fields() -> Scene:
    """Everything that version 4 shows."""
    exchange = got(
        version="4.0",
        machine="client01.corp.example",
        client_machine_id="11111111-2222-4333-8444-555555555555",
        application_id="55c92734-d682-4d71-983e-d6ec3f16059f",
        activation_id="00000000-0000-0000-0000-000000002222",
        kms_counted_id="00000000-0000-0000-0000-000000003333",
        license_status=2,
        remaining_min=43_200,
        virtual=True,
        required=5,
        count=10,
        activation_interval_min=120,
        renewal_interval_min=10_080,
        host_pid="00000-00000-000-000000-00-0000-00000.0000-0000000",
        skew_s={"about": [0, 0.01]},
    )
    hosts = [{"count": {"values": 1, "least": 10, "greatest": 10}, "required": [5], "below": 0}]
    return told(
        Talk().activation(4, required=5, count=10),
        saw("activated", exchange),
        about="Version 4 is in clear: what the client says of itself, and the host's count (Office needs 5).",
        hosts=hosts,
        clients=[{"machines": ["client01.corp.example"], "skew_s": {"about": [0, 0.01]}}],
    )


@scene
def host_without_ndr64() -> Scene:
    """An old host."""
    talk = Talk().activation(4, modern=False)
    return told(talk, saw("activated", got(version="4.0", request=[0, 6])), about="Server 2008: no alter_context.")


@scene
def host_without_features() -> Scene:
    """A host that also turns feature negotiation down."""
    talk = Talk().open().client(bind()).host(bind_ack(NEITHER)).exchange().rst()
    return told(talk, saw("activated", got()), about="A host without NDR64 and without feature negotiation.")


@scene
def client_offers_ndr32_alone() -> Scene:
    """One context."""
    talk = Talk().open().client(bind((NDR32,))).host(bind_ack(((0, 0, NDR32),))).exchange(4).close()
    return told(
        talk,
        saw("activated", got(version="4.0", syntax="NDR32"), closed_by="client", reset=False),
        about="A client that offers one transfer syntax, and hangs up by FIN.",
    )


@scene
def client_with_stray_bytes() -> Scene:
    """py-kms."""
    stub = request_stub(request_v4()) + bytes(4)
    talk = Talk().open().client(bind((NDR32, WINDOWS[2]), call=1)).host(bind_ack(((0, 0, NDR32), (3, 3, None)), call=1))
    talk.client(called(stub, hint=264)).host(response(4), after=0.01).fin().fin(False).ack()
    return told(
        talk,
        saw("activated", got(version="4.0", request_size=288)),
        about="An open-source client: call ids from 1, four zero bytes behind its request.",
    )


@scene
def host_that_pads_late() -> Scene:
    """A body of 158 bytes."""
    body = response_v4(pid="00000-00000-000-000000-00-0000-00000.0000-000000")
    talk = Talk().bound().client(request(4)).host(response(4, body=body, late_pad=True)).rst()
    return told(
        talk,
        saw("activated", got(version="4.0", count=50)),
        about="An HRESULT right behind a body of 158 bytes, then padding.",
    )


@scene
def requests_on_one_connection() -> Scene:
    """NDR64 from the second on."""
    talk = Talk().bound().exchange(call=2).exchange(call=3, wide=True).exchange(call=4, wide=True).rst()
    exchanges = (
        got(syntax="NDR32", request_size=292, response_size=300, request=[0, 8]),
        got(syntax="NDR64", request_size=300, response_size=312, request=[0, 10]),
        got(syntax="NDR64", request_size=300, response_size=312, request=[0, 12], response=[0, 13]),
    )
    return told(
        talk,
        saw("activated", *exchanges),
        about="Three requests on one connection, as two products send them.",
        exchanges=3,
    )


@scene
def requests_on_three_connections() -> Scene:
    """Each with a port of its own."""
    talks = [Talk(Ends(sport=50_000 + turn), at=turn).activation() for turn in range(3)]
    expected = [saw("activated", got(), client_port=50_000 + turn, number=turn + 1, frames=10) for turn in range(3)]
    clients = [{"address": CLIENT, "uses": [{"conversations": 3, "attempts": 1, "outcomes": {"activated": 3}}]}]
    return of(
        merged(*(talk.packets() for talk in talks)),
        *expected,
        about="Three connections within three seconds: one attempt.",
        clients=clients,
        conversations=3,
        outcomes={"activated": 3},
    )


@scene
def big_endian_host() -> Scene:
    """Both sides with another byte order."""
    talk = Talk().open().client(bind((NDR32,), little=False)).host(bind_ack(((0, 0, NDR32),), little=False))
    talk.client(request(little=False)).host(response(6, 0xC004F042, little=False)).rst()
    return told(
        talk,
        saw("host_refused", refused("0xC004F042", syntax="NDR32")),
        about="Integers in big-endian order, as drep says.",
    )


@scene
def client_of_ipv6() -> Scene:
    """Version 6 of both."""
    talk = Talk(Ends(CLIENT6, 49_200, HOST6)).activation()
    return told(talk, saw("activated", got(), client=CLIENT6, host=HOST6), about="An activation over IPv6.")
