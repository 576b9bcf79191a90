"""Formats of capture files, whole and damaged."""

from collections.abc import Callable
from typing import Any

from tests import pcapfiles as files
from tests.pcapfiles import LINKS, Frame, Pcapng, frames, pcap, pcapng
from tests.pcapgen import (
    noise,
)
from tests.pcapscenes import Scene, also, got, saw, scene
from tests.pcapscenes.lookups import LOOKED_UP, by_name, whole


def _file(about: str, name: str, make: Callable[[list[Frame]], bytes], *, packets: int = 14, **file: Any) -> Scene:
    """The usual 14 frames in a file of some format."""
    return Scene(
        about,
        {name: make(frames(whole()))},
        [saw("activated", got(elapsed_ms={"about": [8.1, 0.001]}), found_by="srv", frames=10)],
        {"files": [{"packets": packets, "damaged": False, "notes": [], **file}], "lookups": by_name(LOOKED_UP)},
    )


def _pcapng(order: str) -> Scene:
    return _file(
        f"pcapng, byte order {order}.",
        "pcapng",
        lambda captured: bytes(Pcapng(order).interface().packets(captured)),
    )


def _modified(order: str) -> Scene:
    return _file(
        f"pcap in Kuznetzov's variant, byte order {order}.",
        "pcap",
        lambda captured: pcap(captured, order=order, modified=True),
    )


def _plain(order: str, nano: bool) -> Scene:
    return _file(
        f"pcap, {'nano' if nano else 'micro'}seconds, byte order {order}.",
        "pcap",
        lambda captured: pcap(captured, order=order, nano=nano),
    )


for _order, _endian in (("<", "little"), (">", "big")):
    for _nano in (False, True):
        also(
            f"file-pcap-{_endian}-{'nano' if _nano else 'micro'}",
            _plain,
            _order,
            _nano,
        )
    also(
        f"file-pcap-{_endian}-modified",
        _modified,
        _order,
    )
    also(
        f"file-pcapng-{_endian}",
        _pcapng,
        _order,
    )
also("file-pcap-gz", lambda: _file("pcap, packed with gzip.", "pcap.gz", lambda captured: files.gz(pcap(captured))))
also(
    "file-pcapng-zst",
    lambda: _file("pcapng, packed with zstd.", "pcapng.zst", lambda captured: files.zst(pcapng(captured))),
)
also(
    "file-gz-of-two-members",
    lambda: _file(
        "A gzip file of two members.",
        "pcap.gz",
        lambda captured: files.gz(pcap(captured[:7])) + files.gz(pcap(captured)[len(pcap(captured[:7])) :]),
    ),
)
also(
    "file-pcapng-nanoseconds",
    lambda: _file("pcapng with a resolution of 10**-9 s.", "pcapng", lambda captured: pcapng(captured, resolution=9)),
)
also(
    "file-pcapng-power-of-two",
    lambda: _file(
        "pcapng with a resolution of 2**-20 s.", "pcapng", lambda captured: pcapng(captured, resolution=0x80 | 20)
    ),
)
also(
    "file-pcapng-time-offset",
    lambda: _file(
        "pcapng whose times count from 2025 on.", "pcapng", lambda captured: pcapng(captured, offset=1_735_689_600)
    ),
)
also(
    "file-pcapng-obsolete-blocks",
    lambda: _file("pcapng with packet blocks of its first draft.", "pcapng", _obsolete),
)


def _obsolete(captured: list[Frame]) -> bytes:
    file = Pcapng().interface()
    for one in captured:
        file.obsolete(one)
    return bytes(file)


@scene
def file_pcapng_simple_blocks() -> Scene:
    """They have no times."""
    file = Pcapng().interface()
    for one in frames(whole()):
        file.simple(one)
    return Scene(
        "pcapng with simple packet blocks, which have no times.",
        {"pcapng": bytes(file)},
        [saw("activated", got(), found_by="srv")],
        {"files": [{"packets": 14, "damaged": False}]},
    )


@scene
def file_pcapng_sections() -> Scene:
    """Each with an order and an interface of its own."""
    captured = frames(whole())
    file = Pcapng("<").interface().packets(captured[:9]).section(">").interface(name="eth1").packets(captured[9:])
    return Scene(
        "pcapng of two sections with different byte orders; the connection goes across.",
        {"pcapng": bytes(file)},
        [saw("activated", got(), found_by="srv", first=[0, 5], last=[0, 14])],
        {"files": [{"packets": 14, "damaged": False, "interfaces": [{"link": 1}, {"link": 1, "name": "eth1"}]}]},
    )


@scene
def file_pcapng_links() -> Scene:
    """Four link types, the frames in turn."""
    names = ("ethernet", "sll", "raw", "null")
    file = Pcapng()
    for name in names:
        file.interface(LINKS[name].number, name=name)
    for at, one in enumerate(whole()):
        file.packet(frames([one], LINKS[names[at % 4]])[0], at % 4)
    return Scene(
        "pcapng with four interfaces of four link types, one connection through all of them.",
        {"pcapng": bytes(file)},
        [saw("activated", got(), found_by="srv")],
        {"files": [{"packets": 14, "interfaces": [{"link": LINKS[name].number, "name": name} for name in names]}]},
    )


@scene
def file_pcapng_other_blocks() -> Scene:
    """Names, statistics, custom and unknown blocks; comments and drop counts. Wireshark numbers custom blocks."""
    file = Pcapng().interface(name="eth0")
    file.block(4, bytes(4)).block(0xBAD, b"custom!!" * 3).block(0x77777777, noise(64))
    for one in frames(whole()):
        file.packet(one, 0, (1, b"a comment"), (2, bytes(4)))
    file.statistics(0, 12)
    return Scene(
        "pcapng with blocks and options that don't matter, and an interface that dropped 12 packets.",
        {"pcapng": bytes(file)},
        [saw("activated", got(request=[0, 13]), found_by="srv")],
        {"files": [{"packets": 15, "interfaces": [{"dropped": 12, "name": "eth0"}]}]},
    )


def _damaged(
    about: str, name: str, data: bytes, packets: int, *notes: str, damaged: bool = True, **conversation: Any
) -> Scene:
    return Scene(
        about,
        {name: data},
        [{**saw("activated", got(), found_by="srv"), **conversation}],
        {"files": [{"packets": packets, "damaged": damaged, "notes": [{"matches": note} for note in notes]}]},
    )


also(
    "damage-cut-in-a-record",
    lambda: _damaged(
        "Cut in the middle of the last record.",
        "pcap",
        pcap([*frames(whole()), frames(whole())[0]])[:-9],
        14,
        "cut|offset",
    ),
)
also(
    "damage-cut-in-a-header",
    lambda: _damaged(
        "Cut in the middle of a record header.", "pcap", pcap(frames(whole())) + b"\1\2\3\4\5", 14, "cut|offset"
    ),
)
also(
    "damage-impossible-length",
    lambda: _damaged(
        "Garbage where a record should begin.",
        "pcap",
        pcap(frames(whole())) + bytes.fromhex("0102030405060708f0fffffff0ffffff") + noise(40),
        14,
        "byte 2175: a record claims 4294967280 bytes",
    ),
)
also(
    "damage-cut-pcapng",
    lambda: _damaged(
        "pcapng, cut in a block.", "pcapng", pcapng([*frames(whole()), frames(whole())[0]])[:-9], 14, "cut|offset"
    ),
)
also(
    "damage-lying-block",
    lambda: _damaged(
        "pcapng with a block whose length is no multiple of four and differs from its copy.",
        "pcapng",
        bytes(Pcapng().interface().packets(frames(whole())).block(6, bytes(20), length=37, trailer=40)) + noise(64),
        14,
        "block|length|offset",
    ),
)
also(
    "damage-cut-gz",
    lambda: _damaged(
        "A gzip file that was cut.",
        "pcap.gz",
        files.gz(pcap([*frames(whole()), Frame(0, noise(1000))]))[:-500],
        14,
        "gzip file is cut",
        "unpacked byte 2175: .* cut",
    ),
)


@scene
def damage_no_such_interface() -> Scene:
    """A frame without a link type is left out."""
    captured = frames(whole())
    file = Pcapng().interface().packet(captured[0], 7).packets(captured)
    return Scene(
        "pcapng with a packet of an interface that is not there.",
        {"pcapng": bytes(file)},
        [saw("activated", got(), found_by="srv")],
        {"files": [{"notes": [{"matches": "interface"}]}]},
    )


@scene
def no_packets() -> Scene:
    """A header and nothing else."""
    return Scene(
        "A pcap file without packets.", {"pcap": pcap([])}, [], {"files": [{"packets": 0}], "conversations": 0}
    )
