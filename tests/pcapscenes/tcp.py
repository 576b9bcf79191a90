"""TCP in all its forms."""

from collections.abc import Callable
from typing import Any

from tests.pcapfiles import frames, pcap
from tests.pcapgen import (
    ACK,
    CLIENT,
    HOST,
    NDR32,
    RST,
    SYN,
    Ends,
    Segment,
    Talk,
    bind,
    bind_ack,
    merged,
    noise,
    request,
    response,
)
from tests.pcapscenes import Expectation, Scene, also, got, lost, of, refused, saw, scene, told


def _cut(talk: Talk, size: int, *, client: bool | None = None) -> Talk:
    """The same connection with segments of at most ``size`` bytes."""
    segments = []
    for one in talk.segments:
        if len(one.data) <= size or client not in (None, one.client):
            segments.append(one)
            continue
        for at in range(0, len(one.data), size):
            ident = 0x4000 + len(segments)
            segments.append(one._replace(seq=one.seq + at, data=one.data[at : at + size], at=one.at + at, ident=ident))
    talk.segments = segments
    return talk


also(
    "segments-of-7-bytes",
    lambda: told(_cut(Talk().activation(), 7), saw("activated", got()), about="All data in segments of seven bytes."),
)
also(
    "client-writes-1-byte",
    lambda: told(
        _cut(Talk().activation(4), 1, client=True),
        saw("activated", got(version="4.0", count=50)),
        about="The client's data in segments of one byte.",
    ),
)


def _altered(
    about: str,
    change: Callable[[list[Segment]], list[Segment]],
    expected: Expectation,
    talk: Talk | None = None,
    **more: Any,
) -> Scene:
    """A usual activation with a change to its ten segments; expected frames are counted from what remains."""
    talk = talk or Talk().activation()
    talk.segments = change(talk.segments)
    return told(talk, expected, about=about, **more)


def _swapped(first: int, second: int) -> Callable[[list[Segment]], list[Segment]]:
    def change(segments: list[Segment]) -> list[Segment]:
        one, two = segments[first], segments[second]
        segments[first], segments[second] = two._replace(at=one.at), one._replace(at=two.at)
        return segments

    return change


def _halves(segment: Segment, at: int, gain: int = 0) -> list[Segment]:
    """A segment as two, the second one beginning ``gain`` bytes early."""
    low = segment._replace(data=segment.data[:at])
    high = segment._replace(
        seq=segment.seq + at - gain, data=segment.data[at - gain :], at=segment.at + 20, ident=segment.ident + 0x3000
    )
    return [low, high]


also(
    "out-of-order-in-a-request",
    lambda: _altered(
        "The second half of the request comes first.",
        lambda captured: [*captured[:7], *_halves(captured[7], 140)[::-1], *captured[8:]],
        saw("activated", got(request=[0, 9])),
    ),
)
also(
    "response-before-request",
    lambda: _altered(
        "The capture has the response before the request.",
        _swapped(7, 8),
        saw("activated", got(request=[0, 9], response=[0, 8])),
    ),
)
also(
    "syn-ack-before-syn",
    lambda: _altered("The capture has the SYN-ACK before the SYN.", _swapped(0, 1), saw("activated", got())),
)
also(
    "overlap",
    lambda: _altered(
        "The halves of the request overlap by 40 bytes.",
        lambda captured: [*captured[:7], *_halves(captured[7], 140, 40), *captured[8:]],
        saw("activated", got(), retransmissions=1),
    ),
)


def _conflict(segments: list[Segment]) -> list[Segment]:
    """The request once more with other bytes, which don't count."""
    other = segments[7]._replace(at=segments[7].at + 1000, data=b"\xff" * 292, ident=0x7777)
    return [*segments[:8], other, *segments[8:]]


also(
    "overlap-with-other-bytes",
    lambda: _altered(
        "The request is sent again with other bytes: the first ones count.",
        _conflict,
        saw("activated", got(), retransmissions=1),
    ),
)


def _again(segments: list[Segment], *which: int, after: int = 300_000) -> list[Segment]:
    """Segments sent once more, later, with an identification of their own."""
    copies = [segments[at]._replace(at=segments[at].at + after, ident=0x7000 + at) for at in which]
    return sorted([*segments, *copies], key=lambda one: one.at)


also(
    "retransmission",
    lambda: _altered(
        "The request is sent twice and answered once: one exchange.",
        lambda captured: _again(captured, 7, after=4_000),
        saw("activated", got(request=[0, 8]), retransmissions=1),
    ),
)
also(
    "response-retransmitted-after-close",
    lambda: _altered(
        "The response comes once more after the client's reset.",
        lambda captured: _again(captured, 8, after=9_000),
        saw("activated", got(response=[0, 9]), retransmissions=1),
    ),
)


@scene
def keep_alive() -> Scene:
    """One byte at next - 1 is no data."""
    talk = Talk().bound()
    for _ in range(3):
        talk.wait(5).add(True, ACK, b"\0", seq=talk.next[True] - 1).ack(False)
    return told(
        talk.exchange().rst(), saw("activated", got()), about="Three keep-alives with a byte each before the request."
    )


@scene
def keep_alive_without_data() -> Scene:
    """The other kind."""
    talk = Talk().bound().wait(5).add(True, ACK, seq=Talk().bound().next[True] - 1).ack(False).exchange().rst()
    return told(talk, saw("activated", got()), about="A keep-alive without a byte.")


@scene
def mirrored_twice() -> Scene:
    """A mirror port of both directions."""
    packets = [copy for one in Talk().activation().packets() for copy in (one, one._replace(at=one.at + 7))]
    return of(
        packets,
        saw("activated", got(), frames=20),
        about="A mirror port delivers each packet twice: nothing is a retransmission.",
        quality={"duplicate_packets": 10},
    )


also(
    "numbers-wrap",
    lambda: told(
        Talk(numbers=(2**32 - 200, 2**32 - 150)).activation(),
        saw("activated", got()),
        about="Both sequence numbers pass 2**32.",
    ),
)


def _without(*which: int) -> Callable[[list[Segment]], list[Segment]]:
    return lambda segments: [one for at, one in enumerate(segments) if at not in which]


also(
    "gap-bind-ack",
    lambda: _altered("The bind_ack was not captured.", _without(4), saw("activated", got(), lacks=["bytes"])),
)
also(
    "gap-request",
    lambda: _altered(
        "The request was not captured; the host acknowledges it.",
        _without(7),
        saw("activated", {"outcome": "activated", "hresult": "0x00000000", "request": None}, lacks=["bytes"]),
    ),
)
also(
    "gap-response",
    lambda: _altered(
        "The response was not captured; the client acknowledges it.",
        _without(8),
        saw("not_known", lost("not_known"), lacks=["bytes"]),
    ),
)


@scene
def gap_in_the_response() -> Scene:
    """Its middle is missing: the HRESULT at its end is there."""
    talk = Talk().activation(hresult=0)
    first, rest = _halves(talk.segments[8], 100)
    _middle, end = _halves(rest, 100)
    talk.segments[8:9] = [first, end]
    return told(
        talk,
        saw("not_known", {"outcome": "not_known"}, lacks=["bytes"]),
        about="100 bytes in the middle of the response were not captured: nothing is joined across the gap.",
    )


@scene
def capture_begins_late() -> Scene:
    """From the bind_ack on."""
    talk = Talk().activation()
    talk.segments = talk.segments[4:]
    return told(
        talk, saw("activated", got(), syns=0, lacks=["start", "bind"]), about="The capture begins with the bind_ack."
    )


@scene
def capture_begins_with_the_request() -> Scene:
    """NDR64 is guessed."""
    talk = Talk().bound().exchange().exchange(6, 0xC004F042, call=3, wide=True).rst()
    talk.segments = talk.segments[9:]
    return told(
        talk,
        saw("host_refused", refused("0xC004F042", syntax="NDR64"), syns=0, lacks=["start", "bind"]),
        about="The capture begins with the second request of a connection.",
    )


@scene
def only_the_client() -> Scene:
    """One direction."""
    talk = Talk().activation()
    talk.segments = [one for one in talk.segments if one.client]
    return told(
        talk, saw("not_known", lost("not_known"), lacks=["host"]), about="Only what the client sent was captured."
    )


@scene
def only_the_host() -> Scene:
    """The other direction."""
    talk = Talk().activation(hresult=0xC004F042)
    talk.segments = [one for one in talk.segments if not one.client]
    return told(
        talk,
        saw(
            "host_refused",
            {"outcome": "host_refused", "hresult": "0xC004F042"},
            syns=0,
            lacks=["bind", "client"],
            client=CLIENT,
        ),
        about="Only what the host sent was captured: its refusal is in there.",
    )


@scene
def capture_ends_early() -> Scene:
    """No verdict."""
    talk = Talk().bound().client(request())
    return told(
        talk, saw("not_known", lost("not_known"), lacks=["end"]), about="The capture ends with the request.", later=0.2
    )


@scene
def data_in_the_syn() -> Scene:
    """TCP Fast Open."""
    talk = (
        Talk()
        .add(True, SYN, bind())
        .add(False, SYN | ACK)
        .ack()
        .host(bind_ack(((0, 0, NDR32), (2, 2, None), (3, 3, None))))
    )
    return told(talk.exchange().rst(), saw("activated", got()), about="The bind is in the SYN (TCP Fast Open).")


@scene
def fin_before_the_data() -> Scene:
    """Out of order."""
    talk = Talk().bound().exchange().close(client=False)
    talk.segments = _swapped(8, 9)(talk.segments)
    return told(talk, saw("activated", got()), about="The host's FIN is captured before the response.")


@scene
def reset_with_text() -> Scene:
    """What a reset carries is no data."""
    talk = Talk().bound().client(request()).add(False, RST | ACK, b"No service here. " * 8)
    return told(talk, saw("request_reset", lost("request_reset")), about="A reset that carries a text.")


@scene
def half_close() -> Scene:
    """The client shuts its side after the request."""
    talk = Talk().bound().client(request()).fin().ack(False).host(response()).ack().fin(False).ack()
    return told(
        talk, saw("activated", got(), closed_by="client"), about="The client closes its side before the answer."
    )


def _snapped(snap: int) -> list[Expectation]:
    """54 bytes hold no payload at all; with 96 the version words of a request are there."""
    found: Expectation = {"outcome": "not_known", "lacks": ["cut"], "client": CLIENT, "host": HOST}
    if snap >= 96:
        found["exchanges"] = [{"outcome": "not_known", "version": "6.0", "request": [0, 8], "hresult": ""}]
    return [found]


def _snap(snap: int) -> Scene:
    """A usual activation, cut. Padding that is cut is no loss."""
    talk = Talk().activation()
    captured = [one.cut(snap) for one in frames(talk.packets())]
    cut = sum(len(one.data) + 54 > snap for one in talk.segments)
    return Scene(
        f"A snap length of {snap} bytes: the HRESULT is cut off.",
        {"pcap": pcap(captured, snap=snap)},
        _snapped(snap),
        {"files": [{"packets": 10}], "quality": {"cut_packets": cut}},
    )


for _size in (54, 68, 96, 128, 200):
    also(f"snap-{_size}", _snap, _size)


@scene
def snap_of_a_refusal() -> Scene:
    """36 bytes fit."""
    captured = [one.cut(96) for one in frames(Talk().activation(hresult=0xC004F042).packets())]
    return Scene(
        "A snap length of 96 bytes, and a refusal that fits into it.",
        {"pcap": pcap(captured, snap=96)},
        [saw("host_refused", refused("0xC004F042"), lacks=["cut"])],
        {},
    )


@scene
def clock_steps_back() -> Scene:
    """Times fall by an hour in the middle."""
    talk = Talk().activation()
    talk.segments = [
        one._replace(at=one.at - (3_600_000_000 if at >= 5 else 0)) for at, one in enumerate(talk.segments)
    ]
    return told(
        talk,
        saw("activated", got(elapsed_ms=8.1)),
        about="The capturing machine's clock is set back by an hour.",
        quality={"clock_backwards": 1},
    )


@scene
def port_used_again() -> Scene:
    """At once, with another initial number."""
    first = Talk().activation(hresult=0xC004F042)
    second = Talk(at=0.5, numbers=(9_000_000, 3_000_000)).activation()
    return of(
        [*first.packets(), *second.packets()],
        saw("host_refused", refused("0xC004F042"), first=[0, 1], last=[0, 10], frames=10),
        saw("activated", got(), first=[0, 11], last=[0, 20], frames=10),
        about="A second connection from the same port, half a second later.",
    )


@scene
def two_at_once() -> Scene:
    """Frames of both alternate."""
    one, two = Talk().activation(), Talk(Ends(sport=49_201), at=0.00005).activation(5)
    return of(
        merged(one.packets(), two.packets()),
        saw("activated", got(request=[0, 15]), client_port=49_200, number=1, frames=10),
        saw("activated", got(version="5.0", request=[0, 16]), client_port=49_201, number=2, frames=10),
        about="Two connections at the same time.",
    )


@scene
def wrong_checksums() -> Scene:
    """The card computes them later."""
    talk = Talk().activation()
    packets = [one.packet(talk.ends, wrong=True) for one in talk.segments]
    return of(packets, saw("activated", got()), about="TCP checksums are wrong, as in captures of the sender itself.")


@scene
def tcp_options() -> Scene:
    """40 bytes of them."""
    talk = Talk().activation()
    packets = [one.packet(talk.ends, options=b"\x01\x01\x08\x0a" + bytes(8) + b"\x01" * 28) for one in talk.segments]
    return of(packets, saw("activated", got()), about="TCP headers of 60 bytes.")


@scene
def trailers() -> Scene:
    """Bytes behind the packet are not the stream's."""
    captured = [one._replace(data=one.data + noise(12)) for one in frames(Talk().activation().packets())]
    return Scene(
        "Ethernet trailers of twelve bytes behind each packet.", {"pcap": pcap(captured)}, [saw("activated", got())], {}
    )
