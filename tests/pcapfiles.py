"""Packets in every kind of frame, and frames in every kind of capture file. scapy writes the headers of the frames."""

import gzip
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Self

import zstandard
from scapy.contrib.erspan import ERSPAN_I, ERSPAN_II, ERSPAN_III
from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.contrib.gtp import GTP_U_Header
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, LLC, SNAP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from tests.pcapgen import START, Packet, Piece, ipv4, ipv6

MACS: Final = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
INNER_MACS: Final = {"src": "02:00:00:00:00:03", "dst": "02:00:00:00:00:04"}
OUTER: Final = {"src": "203.0.113.1", "dst": "203.0.113.2", "id": 9}
OUTER6: Final = {"src": "2001:db8:9::1", "dst": "2001:db8:9::2"}


def _kind(data: bytes) -> int:
    """The EtherType of an IP packet."""
    return 0x86DD if data[0] >> 4 == 6 else 0x0800


def _ppp(data: bytes) -> int:
    """The protocol number of an IP packet in PPP."""
    return 0x57 if data[0] >> 4 == 6 else 0x21


# from packets to frames


def ethernet(data: bytes) -> bytes:
    """Ethernet II, padded to the 60 bytes that are the least on the wire."""
    return (bytes.fromhex("020000000002020000000001") + struct.pack(">H", _kind(data)) + data).ljust(60, b"\0")


def _tagged(*tags: Any) -> Callable[[bytes], bytes]:
    """Ethernet with tags."""

    def frame(data: bytes) -> bytes:
        layers = Ether(**MACS)
        for tag in tags:
            layers = layers / tag.copy()
        layers.lastlayer().type = _kind(data)
        return bytes(layers / Raw(data))

    return frame


def _qinq_9100(data: bytes) -> bytes:
    frame = _tagged(Dot1Q(vlan=7), Dot1Q(vlan=8))(data)
    return frame[:12] + b"\x91\x00" + frame[14:]


def _announced(kind: int, header: Callable[[bytes], Any]) -> Callable[[bytes], bytes]:
    """Ethernet of this type, and what is between it and the packet."""
    return lambda data: bytes(Ether(type=kind, **MACS) / header(data) / Raw(data))


def _inner_ethernet(data: bytes) -> Any:
    return Ether(type=_kind(data), **INNER_MACS)


def _pseudowire(data: bytes) -> Any:
    return MPLS(label=16, s=1, ttl=9) / Raw(bytes(4) + bytes(_inner_ethernet(data)))


def _null(order: str) -> Callable[[bytes], bytes]:
    return lambda data: struct.pack(order + "I", 30 if data[0] >> 4 == 6 else 2) + data


class Link(NamedTuple):
    """How packets are framed: the LINKTYPE_ number, and a function from packet to frame."""

    number: int
    frame: Callable[[bytes], bytes]


LINKS: Final = {
    "ethernet": Link(1, ethernet),
    "vlan": Link(1, _tagged(Dot1Q(vlan=7))),
    "vlan-priority": Link(1, _tagged(Dot1Q(vlan=0, prio=5))),
    "vlan-triple": Link(1, _tagged(Dot1Q(vlan=7), Dot1Q(vlan=8), Dot1Q(vlan=9))),
    "qinq": Link(1, _tagged(Dot1AD(vlan=7), Dot1Q(vlan=8))),
    "qinq-9100": Link(1, _qinq_9100),
    "snap": Link(1, lambda data: bytes(Dot3(**MACS) / LLC() / SNAP(code=_kind(data)) / Raw(data))),
    "mpls": Link(1, _announced(0x8847, lambda _: MPLS(label=16, s=0, ttl=9) / MPLS(label=17, s=1, ttl=9))),
    "mpls-ethernet": Link(1, _announced(0x8847, _pseudowire)),
    "pppoe": Link(1, _announced(0x8864, lambda data: PPPoE(sessionid=5) / PPP(proto=_ppp(data)))),
    "pppoe-vlan": Link(
        1, _announced(0x8100, lambda data: Dot1Q(vlan=7, type=0x8864) / PPPoE(sessionid=5) / PPP(proto=_ppp(data)))
    ),
    "sll": Link(113, lambda data: bytes(CookedLinux(proto=_kind(data), lladdrtype=1, lladdrlen=6) / Raw(data))),
    "sll2": Link(276, lambda data: bytes(CookedLinuxV2(proto=_kind(data), lladdrtype=1, lladdrlen=6) / Raw(data))),
    "null": Link(0, _null("<")),
    "null-big-endian": Link(0, _null(">")),
    "loop": Link(108, _null(">")),
    "raw": Link(101, bytes),
    "raw-12": Link(12, bytes),
    "ppp": Link(9, lambda data: b"\xff\x03" + struct.pack(">H", _ppp(data)) + data),
    "ppp-compressed": Link(9, lambda data: bytes([_ppp(data)]) + data),
    "ppp-serial": Link(50, lambda data: b"\xff\x03" + struct.pack(">H", _ppp(data)) + data),
    "cisco-hdlc": Link(104, lambda data: b"\x0f\x00" + struct.pack(">H", _kind(data)) + data),
}
IPV4_ONLY: Final = Link(228, bytes)
IPV6_ONLY: Final = Link(229, bytes)


# from packets to packets


def _over(outer: Callable[[], Any], header: Callable[[bytes], Any]) -> "Shape":
    """A tunnel: outer IP, and what is between it and the packet."""
    return lambda data: [bytes(outer() / header(data) / Raw(data))]


def _over_udp(port: int, header: Callable[[bytes], Any]) -> "Shape":
    return _over(lambda: IP(**OUTER) / UDP(sport=49_999, dport=port), header)


def _erspan3(data: bytes) -> Any:
    return GRE(proto=0x22EB, seqnum_present=1) / ERSPAN_III() / _inner_ethernet(data)


def _three_tunnels(data: bytes) -> list[bytes]:
    for name in ("ipip", "vxlan", "gre"):
        (data,) = SHAPES[name](data)
    return [data]


def _v4(data: bytes) -> tuple[bytes, bytes, int, int, bytes]:
    """Addresses, protocol, identification and payload of an IPv4 packet without options."""
    return data[12:16], data[16:20], data[9], int.from_bytes(data[4:6], "big"), data[20:]


def with_options(data: bytes) -> list[bytes]:
    """An IPv4 packet with a record-route option."""
    src, dst, protocol, ident, payload = _v4(data)
    return [ipv4(src, dst, protocol, payload, ident=ident, options=b"\x07\x0b\x04" + bytes(8) + b"\x00")]


def without_length(data: bytes) -> list[bytes]:
    """A large IPv4 packet as the sender's own capture shows it: total length 0, because the card will cut it."""
    src, dst, protocol, ident, payload = _v4(data)
    return [ipv4(src, dst, protocol, payload, ident=ident, total=0 if len(payload) > 100 else None)]


def _pieces(size: int, whole: int, overlap: int = 0) -> list[tuple[int, int]]:
    """Where fragments of ``size`` bytes begin and end; each but the first begins ``overlap`` bytes early."""
    return [(max(at - overlap, 0), min(at + size, whole)) for at in range(0, whole, size)]


def fragments(data: bytes, size: int = 96, overlap: int = 0) -> list[bytes]:
    """A packet in fragments, if it carries more than ``size`` bytes (a multiple of 8)."""
    if data[0] >> 4 == 6:
        return _fragments6(data, size)
    src, dst, protocol, ident, payload = _v4(data)
    if len(payload) <= size:
        return [data]
    return [
        ipv4(src, dst, protocol, payload[low:high], ident=ident, piece=Piece(low, high < len(payload)))
        for low, high in _pieces(size, len(payload), overlap)
    ]


def _extended(data: bytes, kind: int, header: bytes) -> list[bytes]:
    """An IPv6 packet with an extension header, whose first byte is filled in here."""
    return [ipv6(data[8:24], data[24:40], kind, data[6:7] + header[1:] + data[40:])]


def _routed(data: bytes) -> list[bytes]:
    """An IPv6 packet with a routing header without segments left."""
    return _extended(data, 43, bytes([0, 2, 4, 0, 0, 0, 0, 0]) + bytes(16))


def _fragments6(data: bytes, size: int) -> list[bytes]:
    payload = data[40:]
    if len(payload) <= size:
        return [data]
    ident = zlib.crc32(data)
    return [
        ipv6(
            data[8:24],
            data[24:40],
            44,
            struct.pack(">BBHI", data[6], 0, low | (high < len(payload)), ident) + payload[low:high],
        )
        for low, high in _pieces(size, len(payload))
    ]


Shape = Callable[[bytes], list[bytes]]
"""From one packet to one or several."""

SHAPES: Final[dict[str, Shape]] = {
    "gre": _over(lambda: IP(**OUTER), lambda data: GRE(proto=_kind(data))),
    "gre-key": _over(
        lambda: IP(**OUTER),
        lambda data: GRE(proto=_kind(data), key_present=1, seqnum_present=1, chksum_present=1, key=7),
    ),
    "gre-ethernet": _over(lambda: IP(**OUTER), lambda data: GRE(proto=0x6558) / _inner_ethernet(data)),
    "gre-ipv6": _over(lambda: IPv6(**OUTER6), lambda data: GRE(proto=_kind(data))),
    "erspan1": _over(lambda: IP(**OUTER), lambda data: GRE(proto=0x88BE) / ERSPAN_I() / _inner_ethernet(data)),
    "erspan2": _over(
        lambda: IP(**OUTER), lambda data: GRE(proto=0x88BE, seqnum_present=1) / ERSPAN_II() / _inner_ethernet(data)
    ),
    "erspan3": _over(lambda: IP(**OUTER), _erspan3),
    "ipip": lambda data: [bytes(IP(proto=41 if data[0] >> 4 == 6 else 4, **OUTER) / Raw(data))],
    "ip-in-ipv6": lambda data: [bytes(IPv6(nh=41 if data[0] >> 4 == 6 else 4, **OUTER6) / Raw(data))],
    "vxlan": _over_udp(4789, lambda data: VXLAN(vni=7, flags=8) / _inner_ethernet(data)),
    "geneve": _over_udp(
        6081, lambda data: GENEVE(vni=7, proto=0x6558, options=[GeneveOptions(data=bytes(8))]) / _inner_ethernet(data)
    ),
    "gtp": _over_udp(2152, lambda _: GTP_U_Header(teid=7, gtp_type=255)),
    "three-tunnels": _three_tunnels,
    "fragments": fragments,
    "fragments-reversed": lambda data: fragments(data)[::-1],
}
"""For packets of both versions of IP."""

SHAPES4: Final[dict[str, Shape]] = {
    "ipv4-options": with_options,
    "ipv4-fragments-overlap": lambda data: fragments(data, overlap=16),
    "ipv4-length-0": without_length,
}
SHAPES6: Final[dict[str, Shape]] = {
    "ipv6-hop-by-hop": lambda data: _extended(data, 0, bytes([0, 0, 1, 4, 0, 0, 0, 0])),
    "ipv6-destination-options": lambda data: _extended(data, 60, bytes([0, 0, 1, 4, 0, 0, 0, 0])),
    "ipv6-routing": _routed,
    "ipv6-atomic-fragment": lambda data: _extended(data, 44, bytes([0, 0, 0, 0, 0, 0, 0, 9])),
}


class Frame(NamedTuple):
    """A captured frame: its time in ns since 1970, its bytes, and their number on the wire (0: all were captured)."""

    at: int
    data: bytes
    length: int = 0

    @property
    def on_wire(self) -> int:
        """Bytes on the wire."""
        return self.length or len(self.data)

    def cut(self, snap: int) -> "Frame":
        """The frame as a capture with this snap length has it."""
        return Frame(self.at, self.data[:snap], self.on_wire)


def frames(packets: Iterable[Packet], link: Link = LINKS["ethernet"], shape: Shape | None = None) -> list[Frame]:
    """Packets as frames; ``shape`` changes the packets before."""
    return [
        Frame((START + packet.at) * 1000, link.frame(data))
        for packet in packets
        for data in (shape(packet.data) if shape else [packet.data])
    ]


# from frames to files


def pcap(
    captured: Iterable[Frame],
    link: int = 1,
    *,
    order: str = "<",
    nano: bool = False,
    modified: bool = False,
    snap: int = 262_144,
) -> bytes:
    """A pcap file. ``modified`` is Kuznetzov's variant, whose records have eight more bytes."""
    magic = 0xA1B2CD34 if modified else 0xA1B23C4D if nano else 0xA1B2C3D4
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, link)]
    for frame in captured:
        seconds, rest = divmod(frame.at, 1_000_000_000)
        part = rest if nano else rest // 1000
        out.append(struct.pack(order + "IIII", seconds, part, len(frame.data), frame.on_wire))
        if modified:
            out.append(struct.pack(order + "IHBB", 2, 0x0800, 0, 0))
        out.append(frame.data)
    return b"".join(out)


class Pcapng:
    """A pcapng file, block by block (draft-ietf-opsawg-pcapng). Each method returns the file."""

    def __init__(self, order: str = "<") -> None:
        self.out: list[bytes] = []
        self.order = order
        self.resolutions: list[tuple[int, int]] = []
        self.section(order)

    def __bytes__(self) -> bytes:
        return b"".join(self.out)

    def block(self, kind: int, body: bytes, *, length: int | None = None, trailer: int | None = None) -> Self:
        """Any block; ``length`` and its copy at the end may lie."""
        body += bytes(-len(body) % 4)
        size = 12 + len(body) if length is None else length
        last = size if trailer is None else trailer
        self.out.append(struct.pack(self.order + "II", kind, size) + body + struct.pack(self.order + "I", last))
        return self

    def options(self, *options: tuple[int, bytes]) -> bytes:
        """Options of a block, with their end."""
        out = b""
        for code, value in options:
            out += struct.pack(self.order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
        return out + bytes(4) if options else b""

    def section(self, order: str = "<") -> Self:
        """A section header; what follows is in this byte order, and has interfaces of its own."""
        self.order = order
        self.resolutions = []
        return self.block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1) + self.options((4, b"lab")))

    def interface(
        self,
        link: int = 1,
        *,
        snap: int = 262_144,
        name: str = "",
        resolution: int | None = None,
        offset: int = 0,
    ) -> Self:
        """An interface description; ``resolution`` is the byte of if_tsresol, ``offset`` seconds of if_tsoffset."""
        options = [(2, name.encode())] if name else []
        if resolution is not None:
            options.append((9, bytes([resolution])))
        if offset:
            options.append((14, struct.pack(self.order + "q", offset)))
        power = 6 if resolution is None else resolution
        self.resolutions.append((2 ** (power & 127) if power & 128 else 10**power, offset))
        return self.block(1, struct.pack(self.order + "HHI", link, 0, snap) + self.options(*options))

    def _time(self, frame: Frame, interface: int) -> tuple[int, int]:
        per_second, offset = self.resolutions[interface] if interface < len(self.resolutions) else (1_000_000, 0)
        return divmod((frame.at - offset * 1_000_000_000) * per_second // 1_000_000_000, 2**32)

    def packet(self, frame: Frame, interface: int = 0, *options: tuple[int, bytes]) -> Self:
        """An enhanced packet block."""
        fields = interface, *self._time(frame, interface), len(frame.data), frame.on_wire
        data = frame.data + bytes(-len(frame.data) % 4)
        return self.block(6, struct.pack(self.order + "IIIII", *fields) + data + self.options(*options))

    def packets(self, captured: Iterable[Frame], interface: int = 0) -> Self:
        """Many of them."""
        for frame in captured:
            self.packet(frame, interface)
        return self

    def simple(self, frame: Frame) -> Self:
        """A simple packet block, which has no time."""
        return self.block(3, struct.pack(self.order + "I", frame.on_wire) + frame.data)

    def obsolete(self, frame: Frame, interface: int = 0) -> Self:
        """A packet block as the first draft had it."""
        fields = interface, 0, *self._time(frame, interface), len(frame.data), frame.on_wire
        return self.block(2, struct.pack(self.order + "HHIIII", *fields) + frame.data)

    def statistics(self, interface: int, dropped: int) -> Self:
        """How many packets an interface dropped."""
        options = self.options((5, struct.pack(self.order + "Q", dropped)))
        return self.block(5, struct.pack(self.order + "III", interface, 0, 0) + options)


def pcapng(captured: Iterable[Frame], link: int = 1, **interface: Any) -> bytes:
    """A plain pcapng file."""
    return bytes(Pcapng().interface(link, **interface).packets(captured))


def gz(data: bytes) -> bytes:
    """Packed with gzip."""
    return gzip.compress(data, mtime=0)


def zst(data: bytes) -> bytes:
    """Packed with zstd."""
    return zstandard.ZstdCompressor().compress(data)
