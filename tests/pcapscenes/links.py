"""Links, tunnels, fragments."""

from tests import pcapfiles as files
from tests.pcapfiles import LINKS, SHAPES, SHAPES4, SHAPES6, Frame, Link, Shape, frames, pcap
from tests.pcapgen import (
    ENDS6,
    Ends,
    Talk,
)
from tests.pcapscenes import Scene, also, got, saw, scene
from tests.pcapscenes.lookups import whole


def _framed(about: str, link: Link, shape: Shape | None, ends: Ends | None = None) -> Scene:
    ends = ends or Ends()
    captured = frames(whole(ends), link, shape)
    expected = saw("activated", got(), client=ends.client, host=ends.host, found_by="srv")
    return Scene(about, {"pcap": pcap(captured, link.number)}, [expected], {"files": [{"packets": len(captured)}]})


def _link(link: Link, name: str) -> Scene:
    return _framed(f"Lookups and an activation in frames: {name}.", link, None)


for _name, _how in LINKS.items():
    also(
        f"link-{_name}",
        _link,
        _how,
        _name,
    )


def _shape4(shape: Shape, name: str) -> Scene:
    return _framed(f"Lookups and an activation in packets: {name}.", LINKS["ethernet"], shape)


for _name, _shape in {**SHAPES, **SHAPES4}.items():
    also(
        f"packets-{_name}",
        _shape4,
        _shape,
        _name,
    )


def _shape6(shape: Shape, name: str) -> Scene:
    return _framed(f"Lookups and an activation in packets: {name}.", LINKS["ethernet"], shape, ENDS6)


for _name, _shape in {**SHAPES6, "ipv6-fragments": SHAPES["fragments"], "ipv6-in-ipv4": SHAPES["ipip"]}.items():
    also(
        f"packets-{_name}",
        _shape6,
        _shape,
        _name,
    )
also("link-ipv4", lambda: _framed("Packets of IPv4 without a link header.", files.IPV4_ONLY, None))
also("link-ipv6", lambda: _framed("Packets of IPv6 without a link header.", files.IPV6_ONLY, None, ENDS6))


@scene
def fragment_missing() -> Scene:
    """Of the request."""
    talk = Talk().activation()
    captured: list[Frame] = []
    for at, one in enumerate(talk.packets()):
        pieces = frames([one], shape=SHAPES["fragments"])
        captured += pieces[:1] + pieces[2:] if at == 7 else pieces
    expected = saw("activated", {"outcome": "activated", "hresult": "0x00000000", "request": None}, lacks=["bytes"])
    return Scene(
        "All large packets in fragments; one fragment of the request is missing.",
        {"pcap": pcap(captured)},
        [expected],
        {"quality": {"fragments_missing": 1}},
    )


@scene
def link_not_read() -> Scene:
    """A radio header, which is not read."""
    captured = [
        Frame(one.at, bytes([0, 0, 8, 0, 0, 0, 0, 0]) + one.data) for one in frames(Talk().activation().packets())
    ]
    return Scene(
        "A link type that is not read (radiotap): said, not guessed.",
        {"pcap": pcap(captured, 127)},
        [],
        {"files": [{"packets": 10, "kept": 0}], "quality": {"links_not_read": {"127": 10}}},
    )
