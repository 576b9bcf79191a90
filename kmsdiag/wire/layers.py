"""One frame of any link type, through whatever it is wrapped in, down to TCP, UDP or an ICMP error.

This is the exact path. Each layer is a function that reads its header from a walk through the frame, moves on behind it
and names the layer that follows. Checksums are not looked at: with offloading, a sender's own capture has wrong ones.
Sources: the RFC or standard named at each layer; link types: www.tcpdump.org/linktypes.html.
"""

import struct
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from kmsdiag.wire.fragments import Fragments, Piece
from kmsdiag.wire.frames import RawFrame

TUNNELS: Final = 6
"""IP headers inside another one that are followed."""

_HEADERS: Final = 64
"""Headers of any kind that a frame may have."""


class Segment(NamedTuple):
    """A TCP segment; of its ``length`` bytes on the wire ``payload`` was captured. Addresses are 4 or 16 bytes.

    ``ref`` and ``at`` are the frame's, of a fragmented packet those of the frame that made it whole. ``flags`` are the
    eight of RFC 9293. ``ip_id`` is 0 in IPv6, which has none.
    """

    ref: int
    at: int
    src: bytes
    sport: int
    dst: bytes
    dport: int
    seq: int
    ack: int
    flags: int
    payload: bytes
    length: int
    ip_id: int


class Datagram(NamedTuple):
    """A UDP datagram, with its fields as in :class:`Segment`."""

    ref: int
    at: int
    src: bytes
    sport: int
    dst: bytes
    dport: int
    payload: bytes
    length: int


class IcmpError(NamedTuple):
    """An ICMP or (``v6``) ICMPv6 error and the packet that it quotes, which is of TCP (6) or UDP (17).

    ``src``, ``sport``, ``dst`` and ``dport`` are the quoted packet's. ``seq`` is of a quoted TCP segment, None where
    the quotation ends before it.
    """

    ref: int
    at: int
    sender: bytes
    type: int
    code: int
    v6: bool
    protocol: int
    src: bytes
    sport: int
    dst: bytes
    dport: int
    seq: int | None


Packet = Segment | Datagram | IcmpError


class Unread(StrEnum):
    """Why a frame gave nothing. A link type that is not read counts as "link type" and its number."""

    CUT = "headers cut by the snap length"
    DEEP = "wrapped too deeply"
    MALFORMED = "malformed headers"
    OTHER = "other protocol"


class _GivenUp(Exception):
    def __init__(self, why: str) -> None:
        self.why = why


class _Walk:
    """Where the reading of a frame is: at ``at`` in ``data``; the layer around it ends on the wire at ``end``."""

    __slots__ = ("at", "data", "dst", "end", "fragments", "frame", "ident", "levels", "packet", "src")

    def __init__(self, frame: RawFrame, fragments: Fragments) -> None:
        self.frame = frame
        self.fragments = fragments
        self.data = frame.data
        self.at = 0
        # A record that claims to have captured more than there was is wrong about the latter.
        self.end = max(frame.length, len(frame.data))
        self.levels = 0
        self.src = self.dst = b""
        self.ident = 0
        self.packet: Packet | None = None


_Layer = Callable[[_Walk], "_Layer | None"]


def dissect(frame: RawFrame, fragments: Fragments, unread: Counter[str] | None = None) -> Packet | None:
    """What the frame carries innermost; None for a piece of an unfinished packet, and for what is not read.

    Never raises, whatever the bytes are. Fragments are joined in ``fragments``. Why nothing came of a frame, other
    than that, is counted in ``unread`` (:class:`Unread`).
    """
    layer = _LINKS.get(frame.link)
    walk = _Walk(frame, fragments)
    try:
        if layer is None:
            raise _GivenUp(f"link type {frame.link}")
        for _ in range(_HEADERS):
            layer = layer(walk)
            if layer is None:
                return walk.packet
        raise _GivenUp(Unread.DEEP)
    except _GivenUp as reason:
        why = reason.why
    except (struct.error, IndexError):
        why = Unread.CUT if len(walk.data) < walk.end else Unread.MALFORMED
    if unread is not None:
        unread[why] += 1
    return None


# Link layers


def _ethernet(walk: _Walk) -> _Layer:
    walk.at += 12
    return _typed(walk)


_TYPE = struct.Struct(">H")


def _typed(walk: _Walk) -> _Layer:
    """An EtherType and what it announces, or an IEEE 802.3 length (up to 1500) and LLC."""
    (kind,) = _TYPE.unpack_from(walk.data, walk.at)
    walk.at += 2
    layer = _ETHERTYPES.get(kind)
    if layer is not None:
        return layer
    if kind <= 1500:
        return _llc
    raise _GivenUp(Unread.OTHER)


def _llc(walk: _Walk) -> _Layer:
    """IEEE 802.2 with SNAP (RFC 1042; 00-00-F8 is 802.1H's bridge tunnel), or with IP's own SAP."""
    head = walk.data[walk.at : walk.at + 6]
    if head in (b"\xaa\xaa\x03\0\0\0", b"\xaa\xaa\x03\0\0\xf8"):
        walk.at += 6
        return _typed
    if head[:3] == b"\x06\x06\x03":
        walk.at += 3
        return _ipv4
    raise _GivenUp(Unread.OTHER)


def _tag(walk: _Walk) -> _Layer:
    """IEEE 802.1Q: two bytes of priority and VLAN, then the EtherType of what is tagged."""
    walk.at += 2
    return _typed


def _cooked(walk: _Walk) -> _Layer:
    """LINKTYPE_LINUX_SLL: its protocol field is an EtherType, or 4 for 802.2."""
    walk.at += 14
    return _typed


def _cooked2(walk: _Walk) -> _Layer:
    """LINKTYPE_LINUX_SLL2: the protocol field comes first in its 20 bytes."""
    (kind,) = _TYPE.unpack_from(walk.data, walk.at)
    walk.at += 20
    return _llc if kind <= 1500 else _announced(kind)


def _announced(kind: int) -> _Layer:
    layer = _ETHERTYPES.get(kind)
    if layer is None:
        raise _GivenUp(Unread.OTHER)
    return layer


def _loopback(walk: _Walk) -> _Layer:
    """LINKTYPE_NULL and LOOP: the address family, in the byte order of whoever captured or of the network."""
    (family,) = struct.unpack_from("<I", walk.data, walk.at)
    (swapped,) = struct.unpack_from(">I", walk.data, walk.at)
    # AF_INET is 2 everywhere; AF_INET6 is 10 (Linux), 23 (Windows), 24, 28 or 30 (BSDs, macOS)
    if min(family, swapped) not in (2, 10, 23, 24, 28, 30):
        raise _GivenUp(Unread.OTHER)
    walk.at += 4
    return _ip


def _ppp(walk: _Walk) -> _Layer:
    """RFC 1661 and 1662: address and control may be left out, and the protocol field be one byte."""
    data = walk.data
    if data[walk.at : walk.at + 2] == b"\xff\x03":
        walk.at += 2
    kind = data[walk.at]
    walk.at += 1
    if not kind & 1:
        kind = kind << 8 | data[walk.at]
        walk.at += 1
    layer = {0x21: _ipv4, 0x57: _ipv6, 0x281: _mpls, 0x283: _mpls}.get(kind)
    if layer is None:
        raise _GivenUp(Unread.OTHER)
    return layer


def _cisco_hdlc(walk: _Walk) -> _Layer:
    walk.at += 2
    return _typed


def _serial(walk: _Walk) -> _Layer:
    """LINKTYPE_PPP_HDLC holds PPP, or Cisco HDLC, whose address is 0x0f (unicast) or 0x8f (broadcast)."""
    return _cisco_hdlc if walk.data[walk.at] in (0x0F, 0x8F) else _ppp


def _pppoe(walk: _Walk) -> _Layer:
    """RFC 2516, session stage."""
    version_type, code = walk.data[walk.at], walk.data[walk.at + 1]
    if version_type != 0x11 or code != 0:
        raise _GivenUp(Unread.OTHER)
    walk.at += 6
    return _ppp


def _mpls(walk: _Walk) -> _Layer:
    """RFC 3032: labels up to the one marked as the last, then IP, or Ethernet in a pseudowire (RFC 4448)."""
    (label,) = struct.unpack_from(">I", walk.data, walk.at)
    walk.at += 4
    if not label & 0x100:
        return _mpls
    first = walk.data[walk.at] >> 4
    if first in (4, 6):
        return _ip
    # Ethernet may have a control word before it, which begins with 0, as most addresses do.
    if first == 0 and _TYPE.unpack_from(walk.data, walk.at + 12)[0] not in _ETHERTYPES:
        walk.at += 4
    return _ethernet


# IP

_IPV4 = struct.Struct(">BxHHHxBxx4s4s")
_IPV6 = struct.Struct(">IHBx16s16s")


def _ip(walk: _Walk) -> _Layer:
    version = walk.data[walk.at] >> 4
    if version == 4:
        return _ipv4
    if version == 6:
        return _ipv6
    raise _GivenUp(Unread.MALFORMED)


def _ipv4(walk: _Walk) -> _Layer | None:
    """RFC 791. A total length of 0 is what a sender's own capture shows where the card will cut the packet (TSO)."""
    at = walk.at
    first, total, ident, fragment, protocol, walk.src, walk.dst = _IPV4.unpack_from(walk.data, at)
    header = (first & 15) * 4
    if first >> 4 != 4 or header < 20 or 0 < total < header:
        raise _GivenUp(Unread.MALFORMED)
    _enter(walk)
    walk.ident = ident
    walk.at = at + header
    if total:
        walk.end = at + total
    if fragment & 0x3FFF:
        return _join(walk, Piece((fragment & 0x1FFF) * 8, bool(fragment & 0x2000), b""), protocol, ident)
    return _carried(protocol)


def _ipv6(walk: _Walk) -> _Layer:
    """RFC 8200. A payload length of 0 means a jumbogram, or TSO."""
    first, length, following, walk.src, walk.dst = _IPV6.unpack_from(walk.data, walk.at)
    if first >> 28 != 6:
        raise _GivenUp(Unread.MALFORMED)
    _enter(walk)
    walk.ident = 0
    walk.at += 40
    if length:
        walk.end = walk.at + length
    return _carried(following)


def _enter(walk: _Walk) -> None:
    if walk.levels > TUNNELS:
        raise _GivenUp(Unread.DEEP)
    walk.levels += 1


def _carried(protocol: int) -> _Layer:
    layer = _PROTOCOLS.get(protocol)
    if layer is None:
        raise _GivenUp(Unread.OTHER)
    return layer


def _join(walk: _Walk, piece: Piece, protocol: int, ident: int) -> _Layer | None:
    """Go on in the whole packet if this was its last missing fragment."""
    key = walk.src, walk.dst, protocol, ident
    data = walk.data[walk.at : walk.end]
    if len(data) < walk.end - walk.at:
        raise _GivenUp(Unread.CUT)
    whole = walk.fragments.add(key, walk.frame.at, piece._replace(data=data))
    if whole is None:
        return None
    walk.data, walk.at, walk.end = whole, 0, len(whole)
    return _carried(protocol)


def _options(walk: _Walk) -> _Layer:
    """Hop-by-hop and destination options, and other extension headers of this form (RFC 6564)."""
    following, length = walk.data[walk.at], walk.data[walk.at + 1]
    walk.at += (length + 1) * 8
    return _carried(following)


def _routing(walk: _Walk) -> _Layer:
    """Where segments are left, the last one is where the packet is going (RFC 8200, 8754 for type 4)."""
    following, length, kind, left = struct.unpack_from("4B", walk.data, walk.at)
    end = walk.at + (length + 1) * 8
    last = {0: end - 16, 2: end - 16, 4: walk.at + 8}.get(kind)
    if left and last is not None and length >= 2 and last + 16 <= len(walk.data):
        walk.dst = walk.data[last : last + 16]
    walk.at = end
    return _carried(following)


def _authentication(walk: _Walk) -> _Layer:
    """RFC 4302: its length is in words of four bytes."""
    following, length = walk.data[walk.at], walk.data[walk.at + 1]
    walk.at += (length + 2) * 4
    return _carried(following)


def _fragment(walk: _Walk) -> _Layer | None:
    """RFC 8200 section 4.5; a fragment that is the whole packet is called atomic (RFC 6946)."""
    following, place, ident = struct.unpack_from(">BxHI", walk.data, walk.at)
    walk.at += 8
    offset, more = place & 0xFFF8, bool(place & 1)
    if offset or more:
        return _join(walk, Piece(offset, more, b""), following, ident)
    return _carried(following)


# Tunnels


def _gre(walk: _Walk) -> _Layer:
    """RFC 2784, 2890 and (version 1, PPTP) 2637."""
    flags, kind = struct.unpack_from(">HH", walk.data, walk.at)
    if flags & 0x4000:  # source routes, that nobody sends any more
        raise _GivenUp(Unread.OTHER)
    acknowledges = flags & 0x87 == 0x81
    walk.at += 4 + 4 * sum(map(bool, (flags & 0x8000, flags & 0x2000, flags & 0x1000, acknowledges)))
    if kind == 0x6558:  # transparent Ethernet bridging, NVGRE
        return _ethernet
    if kind == 0x88BE:  # ERSPAN type I has no header of its own, type II eight bytes (draft-foschiano-erspan)
        walk.at += 8 if flags & 0x1000 else 0
        return _ethernet
    if kind == 0x22EB:
        return _erspan3
    if kind == 0x880B:
        return _ppp
    return _announced(kind)


def _erspan3(walk: _Walk) -> _Layer:
    """ERSPAN type III: 12 bytes, and 8 of a platform's own where the last bit says so; then Ethernet, or IP."""
    (flags,) = _TYPE.unpack_from(walk.data, walk.at + 10)
    walk.at += 20 if flags & 1 else 12
    return _ip if flags >> 10 & 31 == 2 else _ethernet


def _vxlan(walk: _Walk) -> _Layer | None:
    """RFC 7348: a flag that must be set, and the network's number."""
    if not walk.data[walk.at] & 0x08:
        return None
    walk.at += 8
    return _ethernet


def _geneve(walk: _Walk) -> _Layer | None:
    """RFC 8926: options in words of four bytes."""
    first, kind = struct.unpack_from(">BxH", walk.data, walk.at)
    if first >> 6:
        return None
    walk.at += 8 + (first & 63) * 4
    return _ethernet if kind == 0x6558 else _announced(kind)


def _gtp_user(walk: _Walk) -> _Layer | None:
    """3GPP TS 29.281 section 5: version 1, a packet of a user (type 255), perhaps with extension headers."""
    data, at = walk.data, walk.at
    flags, kind = data[at], data[at + 1]
    if flags >> 4 != 3 or kind != 0xFF:
        return None
    at += 12 if flags & 7 else 8
    following = data[at - 1] if flags & 4 else 0
    while following:
        if not data[at]:
            return None
        at += data[at] * 4
        following = data[at - 1]
    walk.at = at
    return _ip


# Transport

_UDP = struct.Struct(">HHH")
_TCP = struct.Struct(">HHIIBB")


def _tcp(walk: _Walk) -> None:
    """RFC 9293 section 3.1."""
    at, end = walk.at, walk.end
    sport, dport, seq, ack, offset, flags = _TCP.unpack_from(walk.data, at)
    at += (offset >> 4) * 4
    if offset < 0x50 or at > end:
        raise _GivenUp(Unread.MALFORMED)
    frame = walk.frame
    payload = walk.data[at:end]
    walk.packet = Segment(
        frame.ref, frame.at, walk.src, sport, walk.dst, dport, seq, ack, flags, payload, end - at, walk.ident
    )


def _udp(walk: _Walk) -> _Layer | None:
    """RFC 768. A length of 0 means a jumbogram (RFC 2675), or that the card cuts the packet."""
    sport, dport, length = _UDP.unpack_from(walk.data, walk.at)
    if 0 < length < 8 or walk.at + 8 > walk.end:
        raise _GivenUp(Unread.MALFORMED)
    end = min(walk.end, walk.at + length) if length else walk.end
    at = walk.at = walk.at + 8
    tunnel = _UDP_TUNNELS.get(dport)
    # An answer may go to any port: it is a name server's, not a tunnel's.
    if tunnel is not None and sport != 53 and (layer := tunnel(walk)) is not None:
        return layer
    frame = walk.frame
    payload = walk.data[at:end]
    walk.packet = Datagram(frame.ref, frame.at, walk.src, sport, walk.dst, dport, payload, end - at)
    return None


def _icmp(walk: _Walk) -> None:
    """RFC 792: unreachable, source quench, time exceeded, parameter problem."""
    _quoting(walk, {3, 4, 11, 12}, v6=False)


def _icmp6(walk: _Walk) -> None:
    """RFC 4443: unreachable, too big, time exceeded, parameter problem."""
    _quoting(walk, {1, 2, 3, 4}, v6=True)


def _quoting(walk: _Walk, errors: set[int], *, v6: bool) -> None:
    data, at = walk.data[: walk.end], walk.at
    kind, code = data[at], data[at + 1]
    if kind not in errors:
        raise _GivenUp(Unread.OTHER)
    protocol, src, dst, at = (_quoted6 if v6 else _quoted4)(data, at + 8)
    if protocol not in (6, 17):
        raise _GivenUp(Unread.OTHER)
    sport, dport = struct.unpack_from(">HH", data, at)
    seq = int.from_bytes(data[at + 4 : at + 8]) if protocol == 6 and len(data) >= at + 8 else None
    frame = walk.frame
    walk.packet = IcmpError(frame.ref, frame.at, walk.src, kind, code, v6, protocol, src, sport, dst, dport, seq)


def _quoted4(data: bytes, at: int) -> tuple[int, bytes, bytes, int]:
    """Protocol, addresses, and where the quoted packet's payload is; a later fragment has no ports."""
    first, _total, _ident, fragment, protocol, src, dst = _IPV4.unpack_from(data, at)
    if first >> 4 != 4 or first & 15 < 5:
        raise _GivenUp(Unread.MALFORMED)
    return -1 if fragment & 0x1FFF else protocol, src, dst, at + (first & 15) * 4


def _quoted6(data: bytes, at: int) -> tuple[int, bytes, bytes, int]:
    first, _length, protocol, src, dst = _IPV6.unpack_from(data, at)
    if first >> 28 != 6:
        raise _GivenUp(Unread.MALFORMED)
    at += 40
    while protocol in (0, 43, 44, 51, 60):
        if protocol == 44 and int.from_bytes(data[at + 2 : at + 4]) & 0xFFF8:
            return -1, src, dst, at
        length = 8 if protocol == 44 else (data[at + 1] + 2) * 4 if protocol == 51 else (data[at + 1] + 1) * 8
        protocol = data[at]
        at += length
    return protocol, src, dst, at


_LINKS: Final[dict[int, _Layer]] = {
    0: _loopback,
    1: _ethernet,
    9: _ppp,
    12: _ip,
    14: _ip,
    50: _serial,
    51: _pppoe,
    101: _ip,
    104: _cisco_hdlc,
    108: _loopback,
    113: _cooked,
    228: _ipv4,
    229: _ipv6,
    276: _cooked2,
}

_ETHERTYPES: Final[dict[int, _Layer]] = {
    0x0800: _ipv4,
    0x86DD: _ipv6,
    0x8100: _tag,
    0x88A8: _tag,
    0x9100: _tag,
    0x9200: _tag,
    0x9300: _tag,
    0x8847: _mpls,
    0x8848: _mpls,
    0x8864: _pppoe,
}

_PROTOCOLS: Final[dict[int, _Layer]] = {
    0: _options,
    1: _icmp,
    4: _ipv4,
    6: _tcp,
    17: _udp,
    41: _ipv6,
    43: _routing,
    44: _fragment,
    47: _gre,
    51: _authentication,
    58: _icmp6,
    60: _options,
    135: _options,
    137: _mpls,
    139: _options,
    140: _options,
}

_UDP_TUNNELS: Final[dict[int, Callable[[_Walk], _Layer | None]]] = {
    2152: _gtp_user,
    4789: _vxlan,
    6081: _geneve,
    8472: _vxlan,
}
