"""The exact path: scapy writes the frames; scapy and tshark say what is in them. Points: see test_wire_streams."""

import functools
import itertools
import random
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    fragment6,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import (
    ARP,
    GRE,
    LLC,
    SNAP,
    CookedLinux,
    CookedLinuxV2,
    Dot1AD,
    Dot1Q,
    Dot3,
    Ether,
    Loopback,
)
from scapy.layers.ppp import HDLC, PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet as Scapy
from scapy.packet import Raw

from kmsdiag.wire.fragments import Fragments
from kmsdiag.wire.frames import RawFrame
from kmsdiag.wire.layers import (
    TUNNELS,
    Datagram,
    IcmpError,
    Packet,
    Segment,
    Unread,
    dissect,
)
from tests.netlab import require_tools
from tests.samples import SAMPLES, need_samples, packets

# Without addresses of its own scapy would ask the network for them.
eth = functools.partial(Ether, src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02")
dot3 = functools.partial(Dot3, src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02")

CLIENT4, HOST4 = "192.0.2.10", "192.0.2.20"
CLIENT6, HOST6 = "2001:db8::10", "2001:db8::20"
OUTER4 = {"src": "198.51.100.1", "dst": "198.51.100.2"}
OUTER6 = {"src": "2001:db8:1::1", "dst": "2001:db8:1::2"}
PAYLOAD = bytes(range(60))


def tcp4(payload: bytes = PAYLOAD, **ip: Any) -> Scapy:
    layer = TCP(sport=50000, dport=1688, seq=0xFFFFFFF0, ack=5, flags="PA", options=[("Timestamp", (1, 2))])
    return IP(src=CLIENT4, dst=HOST4, id=77, **ip) / layer / Raw(payload)


def tcp6(payload: bytes = PAYLOAD) -> Scapy:
    return IPv6(src=CLIENT6, dst=HOST6) / TCP(sport=50000, dport=1688, seq=9, ack=5, flags="PA") / Raw(payload)


def udp4(payload: bytes = PAYLOAD, sport: int = 50000, dport: int = 53) -> Scapy:
    return IP(src=CLIENT4, dst=HOST4) / UDP(sport=sport, dport=dport) / Raw(payload)


SEGMENT4 = Segment(
    1, 2, bytes([192, 0, 2, 10]), 50000, bytes([192, 0, 2, 20]), 1688, 0xFFFFFFF0, 5, 0x18, PAYLOAD, 60, 77
)
SEGMENT6 = SEGMENT4._replace(
    src=bytes.fromhex("20010db8" + "00" * 11 + "10"), dst=bytes.fromhex("20010db8" + "00" * 11 + "20"), seq=9, ip_id=0
)
DATAGRAM4 = Datagram(1, 2, SEGMENT4.src, 50000, SEGMENT4.dst, 53, PAYLOAD, 60)


def read(
    data: Scapy | bytes,
    link: int = 1,
    length: int | None = None,
    fragments: Fragments | None = None,
    unread: Counter[str] | None = None,
) -> Packet | None:
    octets = bytes(data)
    return dissect(RawFrame(1, 2, link, octets, length or len(octets)), fragments or Fragments(), unread)


def why_not(data: Scapy | bytes, link: int = 1, length: int | None = None) -> list[str]:
    unread: Counter[str] = Counter()
    assert read(data, link, length, unread=unread) is None
    return list(unread.elements())


def ip_in(kind: int, ip: Scapy) -> bytes:
    return struct.pack(">H", kind) + bytes(ip)


def erspan1(inner: Scapy) -> Scapy:
    return GRE(proto=0x88BE) / eth() / inner


WRAPPED: dict[str, tuple[int, Callable[[Scapy], Scapy | bytes]]] = {
    "ethernet": (1, lambda inner: eth() / inner),
    "vlan": (1, lambda inner: eth() / Dot1Q(vlan=7) / inner),
    "priority and two vlans": (1, lambda inner: eth() / Dot1Q(vlan=0) / Dot1Q(vlan=7) / Dot1Q(vlan=8) / inner),
    "802.1ad": (1, lambda inner: eth() / Dot1AD(vlan=7) / Dot1Q(vlan=8) / inner),
    "qinq 9100": (1, lambda inner: eth(type=0x9100) / Raw(b"\0\x07\x81\0\0\x08" + ip_in(ether_type(inner), inner))),
    "qinq 9200": (1, lambda inner: eth(type=0x9200) / Raw(b"\0\x07" + ip_in(ether_type(inner), inner))),
    "snap": (1, lambda inner: dot3() / LLC() / SNAP(code=ether_type(inner)) / inner),
    "snap, bridge tunnel": (1, lambda inner: dot3() / LLC() / SNAP(OUI=0xF8, code=ether_type(inner)) / inner),
    "vlan and snap": (
        1,
        lambda inner: eth(type=0x8100) / Raw(b"\0\7\0\x80" + bytes(LLC() / SNAP(code=ether_type(inner)) / inner)),
    ),
    "mpls": (1, lambda inner: eth(type=0x8847) / MPLS(label=16, s=0) / MPLS(label=17, s=1) / inner),
    "mpls upstream": (1, lambda inner: eth(type=0x8848) / MPLS(label=17, s=1) / inner),
    "pseudowire": (
        1,
        lambda inner: eth(type=0x8847) / MPLS(s=1) / Raw(bytes(eth() / inner)),
    ),
    "pseudowire, control word": (
        1,
        lambda inner: eth(type=0x8847) / MPLS(s=1) / Raw(bytes(4) + bytes(eth() / inner)),
    ),
    "pppoe": (1, lambda inner: eth() / PPPoE(sessionid=9) / PPP() / inner),
    "pppoe in qinq": (1, lambda inner: eth() / Dot1AD() / Dot1Q() / PPPoE() / PPP() / inner),
    "pppoe alone": (51, lambda inner: PPPoE() / PPP() / inner),
    "sll": (113, lambda inner: CookedLinux(proto=ether_type(inner)) / inner),
    "sll, vlan": (113, lambda inner: CookedLinux(proto=0x8100) / Raw(b"\0\7" + ip_in(ether_type(inner), inner))),
    "sll, 802.2": (113, lambda inner: CookedLinux(proto=4) / LLC() / SNAP(code=ether_type(inner)) / inner),
    "sll2": (276, lambda inner: CookedLinuxV2(proto=ether_type(inner)) / inner),
    "sll2, 802.2": (276, lambda inner: CookedLinuxV2(proto=4) / LLC() / SNAP(code=ether_type(inner)) / inner),
    "null, little": (0, lambda inner: struct.pack("<I", family(inner)) + bytes(inner)),
    "null, big": (0, lambda inner: struct.pack(">I", family(inner)) + bytes(inner)),
    "null, macOS": (0, lambda inner: bytes(Loopback(type=30 if inner.version == 6 else 2) / inner)),
    "loop": (108, lambda inner: struct.pack(">I", family(inner)) + bytes(inner)),
    "raw 12": (12, bytes),
    "raw 14": (14, bytes),
    "raw 101": (101, bytes),
    "ppp": (9, lambda inner: PPP() / inner),
    "ppp, address": (9, lambda inner: HDLC() / PPP() / inner),
    "ppp, short protocol": (9, lambda inner: bytes([0x57 if inner.version == 6 else 0x21]) + bytes(inner)),
    "ppp, mpls": (9, lambda inner: b"\x02\x81" + bytes(MPLS(s=1) / inner)),
    "serial, ppp": (50, lambda inner: HDLC() / PPP() / inner),
    "serial, cisco": (50, lambda inner: b"\x0f\0" + ip_in(ether_type(inner), inner)),
    "cisco hdlc": (104, lambda inner: b"\x0f\0" + ip_in(ether_type(inner), inner)),
    "ip in ip": (1, lambda inner: eth() / IP(**OUTER4) / inner),
    "ip in ipv6": (1, lambda inner: eth() / IPv6(**OUTER6) / inner),
    "gre": (1, lambda inner: eth() / IP(**OUTER4) / GRE() / inner),
    "gre, all fields": (
        1,
        lambda inner: eth() / IP(**OUTER4) / GRE(chksum_present=1, key_present=1, seqnum_present=1) / inner,
    ),
    "gre in ipv6": (1, lambda inner: eth() / IPv6(**OUTER6) / GRE(key_present=1, key=7) / inner),
    "gre, ethernet": (1, lambda inner: eth() / IP(**OUTER4) / GRE(key_present=1) / eth() / Dot1Q() / inner),
    "gre, mpls": (1, lambda inner: eth() / IP(**OUTER4) / GRE(proto=0x8847) / MPLS(s=1) / inner),
    "pptp": (
        1,
        lambda inner: (
            eth()
            / IP(proto=47, **OUTER4)
            / Raw(struct.pack(">HHHHII", 0x3081, 0x880B, 0, 1, 2, 3) + bytes(HDLC() / PPP() / inner))
        ),
    ),
    "erspan 1": (1, lambda inner: eth() / IP(**OUTER4) / erspan1(inner)),
    "erspan 2": (
        1,
        lambda inner: eth() / IP(**OUTER4) / GRE(proto=0x88BE, seqnum_present=1) / ERSPAN_II() / eth() / inner,
    ),
    "erspan 3": (
        1,
        lambda inner: eth() / IP(**OUTER4) / GRE(proto=0x22EB, seqnum_present=1) / ERSPAN_III() / eth() / inner,
    ),
    "erspan 3, platform": (
        1,
        lambda inner: (
            eth()
            / IP(**OUTER4)
            / GRE(proto=0x22EB, seqnum_present=1)
            / Raw(bytes(ERSPAN_III())[:11] + b"\x01" + bytes(8) + bytes(eth() / inner))
        ),
    ),
    "erspan 3, ip": (
        1,
        lambda inner: (
            eth()
            / IP(**OUTER4)
            / GRE(proto=0x22EB, seqnum_present=1)
            / Raw(bytes(ERSPAN_III())[:10] + struct.pack(">H", 2 << 10) + bytes(inner))
        ),
    ),
    "vxlan": (1, lambda inner: eth() / IP(**OUTER4) / UDP(sport=5) / VXLAN(vni=7) / eth() / inner),
    "vxlan, group policy": (
        1,
        lambda inner: eth() / IP(**OUTER4) / UDP(sport=5) / VXLAN(gpid=9, flags=0x88) / eth() / inner,
    ),
    "vxlan 8472": (
        1,
        lambda inner: eth() / IP(**OUTER4) / UDP(sport=5, dport=8472) / Raw(bytes(VXLAN() / eth() / inner)),
    ),
    "geneve, ethernet": (1, lambda inner: eth() / IP(**OUTER4) / UDP(sport=5) / GENEVE() / eth() / inner),
    "geneve, options": (
        1,
        lambda inner: (
            eth()
            / IP(**OUTER4)
            / UDP(sport=5, dport=6081)
            / Raw(struct.pack(">BBHI", 3, 0, ether_type(inner), 7 << 8) + bytes(12) + bytes(inner))
        ),
    ),
    "gtp": (1, lambda inner: eth() / IP(**OUTER4) / UDP(sport=5) / GTP_U_Header(teid=1) / inner),
    "gtp, extension": (
        1,
        lambda inner: (
            eth()
            / IP(**OUTER4)
            / UDP(sport=5)
            / GTP_U_Header(teid=1, E=1, next_ex=0x85)
            / GTPPDUSessionContainer(QFI=1)
            / inner
        ),
    ),
    "mpls in ip": (1, lambda inner: eth() / IP(proto=137, **OUTER4) / Raw(bytes(MPLS(s=1) / inner))),
    "padded": (1, lambda inner: bytes(eth() / inner) + b"\xfe" * 46),
    "frame check sequence": (1, lambda inner: bytes(eth() / inner) + b"\x05\0\x0b\x03"),
}


def ether_type(ip: Scapy) -> int:
    return 0x86DD if ip.version == 6 else 0x0800


def family(ip: Scapy) -> int:
    return 24 if ip.version == 6 else 2


class TestWrappings:
    @pytest.mark.parametrize("name", WRAPPED)
    def test_point_13_what_is_inside_is_the_same(self, name: str) -> None:
        link, wrap = WRAPPED[name]
        assert read(wrap(tcp4()), link) == SEGMENT4
        assert read(wrap(tcp6()), link) == SEGMENT6
        assert read(wrap(udp4()), link) == DATAGRAM4

    @pytest.mark.parametrize("name", WRAPPED)
    def test_a_frame_cut_anywhere_gives_nothing_or_the_same_with_fewer_bytes(self, name: str) -> None:
        link, wrap = WRAPPED[name]
        whole = bytes(wrap(tcp4()))
        seen = 0
        for end in range(len(whole)):
            unread: Counter[str] = Counter()
            packet = read(whole[:end], link, len(whole), unread=unread)
            if packet is None:
                assert sum(unread.values()) == 1
                continue
            assert isinstance(packet, Segment)
            assert PAYLOAD.startswith(packet.payload)
            assert packet._replace(payload=PAYLOAD) == SEGMENT4
            seen += 1
        # The 20 bytes of a TCP header from its flags on can be missing, but for these.
        assert seen >= len(PAYLOAD) + 18

    def test_ip_over_its_own_sap(self) -> None:
        assert read(dot3() / Raw(b"\x06\x06\x03" + bytes(tcp4()))) == SEGMENT4

    def test_links_that_hold_one_version_only(self) -> None:
        assert read(tcp4(), 228) == SEGMENT4
        assert read(tcp6(), 229) == SEGMENT6
        assert why_not(tcp6(), 228) == why_not(tcp4(), 229) == [Unread.MALFORMED]

    @pytest.mark.parametrize("family", [2, 10, 23, 24, 28, 30])
    def test_every_systems_address_family(self, family: int) -> None:
        assert read(struct.pack("<I", family) + bytes(tcp6()), 0) == SEGMENT6

    def test_point_13_tunnels_are_followed_up_to_a_depth(self) -> None:
        def nested(tunnels: int) -> Scapy:
            packet = tcp4()
            for _ in range(tunnels):
                packet = IP(**OUTER4) / packet
            return eth() / packet

        assert read(nested(TUNNELS)) == SEGMENT4
        assert why_not(nested(TUNNELS + 1)) == [Unread.DEEP]

    def test_headers_of_all_kinds_are_bounded(self) -> None:
        assert why_not(eth(type=0x8100) / Raw(b"\0\7\x81\0" * 16_000)) == [Unread.DEEP]
        assert why_not(eth(type=0x8847) / Raw(bytes(64_000))) == [Unread.DEEP]
        assert why_not(IPv6(nh=60) / Raw(b"\x3c\0" + bytes(6) + (b"\x3c\0" + bytes(6)) * 8000), 101) == [Unread.DEEP]

    @pytest.mark.parametrize("dport", [2152, 4789, 6081, 8472])
    def test_a_name_servers_answer_to_the_port_of_a_tunnel_is_no_tunnel(self, dport: int) -> None:
        answer = bytes([0x08]) + PAYLOAD
        assert read(udp4(answer, sport=53, dport=dport), 101) == DATAGRAM4._replace(
            sport=53, dport=dport, payload=answer, length=61
        )

    @pytest.mark.parametrize("dport", [2152, 4789, 6081, 8472])
    def test_what_only_uses_the_port_of_a_tunnel_is_a_datagram(self, dport: int) -> None:
        payload = b"\xc7" + PAYLOAD
        assert read(udp4(payload, dport=dport), 101) == DATAGRAM4._replace(dport=dport, payload=payload, length=61)

    @pytest.mark.parametrize(
        ("frame", "link"),
        [
            (eth() / ARP(), 1),
            (dot3() / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(bytes(35)), 1),
            (eth() / IP() / ICMP(), 1),
            (eth() / IP(proto=50) / Raw(bytes(40)), 1),
            (PPP(proto=0xC021) / Raw(bytes(10)), 9),
            (eth(type=0x8864) / Raw(b"\x11\xa7" + bytes(20)), 1),
            (eth(type=0x8847) / MPLS(s=1) / Raw(b"\x10" + bytes(30)), 1),
            (b"\x10\0\0\0" + bytes(tcp4()), 0),
            (eth() / IP() / GRE(proto=0x1234) / Raw(bytes(20)), 1),
            (eth() / IP() / GRE(routing_present=1) / tcp4(), 1),
        ],
    )
    def test_other_protocols(self, frame: Scapy | bytes, link: int) -> None:
        assert why_not(frame, link) == [Unread.OTHER]

    def test_a_link_type_that_is_not_read_is_named(self) -> None:
        assert why_not(tcp4(), 147) == ["link type 147"]


class TestIp:
    def test_point_1_padding_is_no_payload(self) -> None:
        small = tcp4(b"bind")
        assert read(bytes(eth() / small) + b"\xfe" * 40) == SEGMENT4._replace(payload=b"bind", length=4)
        empty = read(bytes(eth() / tcp4(b"")) + bytes(6))
        assert empty == SEGMENT4._replace(payload=b"", length=0)

    def test_options_of_ipv4(self) -> None:
        options = [IPOption_NOP(), IPOption_RR(routers=["192.0.2.1"] * 8)]
        assert read(eth() / tcp4(options=options)) == SEGMENT4

    def test_point_1_no_total_length_means_up_to_the_end_of_the_frame(self) -> None:
        assert read(eth() / tcp4(len=0)) == SEGMENT4
        cut = bytes(eth() / tcp4(len=0))
        packet = read(cut[:-30], length=len(cut))
        assert packet == SEGMENT4._replace(payload=PAYLOAD[:30])

    def test_no_payload_length_in_ipv6_likewise(self) -> None:
        packet = tcp6()
        packet.plen = 0
        assert read(packet, 101) == SEGMENT6

    @pytest.mark.parametrize("ip", [tcp4(ihl=4), tcp4(len=19), tcp4(version=5), IP(len=20, proto=6) / Raw(bytes(40))])
    def test_lengths_that_contradict_each_other(self, ip: Scapy) -> None:
        assert why_not(eth(type=0x0800) / ip) == [Unread.MALFORMED]

    def test_a_record_that_claims_more_captured_than_there_was(self) -> None:
        frame = eth() / tcp4()
        assert read(frame, length=len(frame) - 20) == SEGMENT4

    def test_point_9_bytes_that_the_snap_length_cut(self) -> None:
        frame = bytes(eth() / tcp4())
        assert read(frame[:-50], length=len(frame)) == SEGMENT4._replace(payload=PAYLOAD[:10])
        assert why_not(frame[:40], length=len(frame)) == [Unread.CUT]

    def test_extension_headers(self) -> None:
        headers = (
            IPv6ExtHdrHopByHop()
            / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)])
            / AH(nh=6, payloadlen=4, icv=bytes(12))
        )
        packet = IPv6(src=CLIENT6, dst=HOST6) / headers / tcp6()[TCP]
        assert read(eth() / packet) == SEGMENT6

    @pytest.mark.parametrize("kind", [0, 4])
    def test_a_routing_header_names_the_destination(self, kind: int) -> None:
        hops = [HOST6, "2001:db8::2"] if kind == 4 else ["2001:db8::2", HOST6]
        data = b"".join(bytes(IPv6(dst=hop))[24:40] for hop in hops)
        header = bytes([6, 4, kind, 1]) + bytes(4) + data
        packet = IPv6(src=CLIENT6, dst="2001:db8::1", nh=43) / Raw(header + bytes(tcp6()[TCP]))
        assert read(packet, 101) == SEGMENT6

    def test_a_routing_header_that_is_used_up_changes_nothing(self) -> None:
        packet = IPv6(src=CLIENT6, dst=HOST6) / IPv6ExtHdrRouting(addresses=["2001:db8::2"], segleft=0) / tcp6()[TCP]
        assert read(packet, 101) == SEGMENT6

    def test_point_13_an_atomic_fragment(self) -> None:
        assert read(IPv6(src=CLIENT6, dst=HOST6) / IPv6ExtHdrFragment(id=7) / tcp6()[TCP], 101) == SEGMENT6

    def test_a_tcp_header_that_is_longer_than_the_packet(self) -> None:
        assert why_not(eth() / IP() / TCP(dataofs=15)) == [Unread.MALFORMED]
        assert why_not(eth() / IP() / TCP(dataofs=4)) == [Unread.MALFORMED]

    def test_lengths_of_udp(self) -> None:
        whole = udp4()
        whole[UDP].len = 0
        assert read(eth() / whole) == DATAGRAM4
        whole[UDP].len = 28
        assert read(eth() / whole) == DATAGRAM4._replace(payload=PAYLOAD[:20], length=20)
        whole[UDP].len = 60_000
        assert read(eth() / whole) == DATAGRAM4
        whole[UDP].len = 7
        assert why_not(eth() / whole) == [Unread.MALFORMED]


class TestFragments:
    """Fragments in any order; those that miss one are a matter of test_wire_fragments."""

    PIECES: ClassVar = [bytes(piece) for piece in fragment(tcp4(), fragsize=32)]

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_point_13_the_frame_that_makes_it_whole_counts(self, order: tuple[int, ...]) -> None:
        fragments = Fragments()
        frames = [RawFrame(number, 10 * number, 101, self.PIECES[index], 0) for number, index in enumerate(order, 5)]
        packets = [dissect(frame, fragments) for frame in frames]
        assert packets == [None, None, SEGMENT4._replace(ref=7, at=70)]

    def test_padding_is_no_part_of_a_fragment(self) -> None:
        fragments = Fragments()
        packets = [read(bytes(eth(type=0x800)) + piece + b"\xfe" * 20, fragments=fragments) for piece in self.PIECES]
        assert packets == [None, None, SEGMENT4]

    def test_what_the_snap_length_cut_is_no_fragment(self) -> None:
        fragments = Fragments()
        unread: Counter[str] = Counter()
        for piece in self.PIECES:
            assert read(piece[:40], 101, len(piece), fragments, unread) is None
        assert unread == {Unread.CUT: 3}

    def test_of_ipv6_with_headers_on_both_sides(self) -> None:
        packet = IPv6(src=CLIENT6, dst=HOST6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(id=9) / IPv6ExtHdrDestOpt()
        pieces = fragment6(packet / tcp6(bytes(2000))[TCP], 1280)
        assert len(pieces) == 2
        fragments = Fragments()
        assert [read(piece, 101, fragments=fragments) for piece in reversed(pieces)] == [
            None,
            SEGMENT6._replace(payload=bytes(2000), length=2000),
        ]

    def test_of_a_tunnel_and_within_it(self) -> None:
        inner = [bytes(piece) for piece in fragment(tcp4(), fragsize=48)]
        fragments = Fragments()
        packets = []
        for number, piece in enumerate(inner):
            outer = IP(**OUTER4, id=number, proto=4) / Raw(piece)
            packets += [read(part, 101, fragments=fragments) for part in fragment(outer, fragsize=24)]
        assert [packet for packet in packets if packet] == [SEGMENT4]
        assert fragments.missing == 0


class TestIcmpErrors:
    """What an error quotes is what it belongs to."""

    QUOTED = (SEGMENT4.src, 50000, SEGMENT4.dst, 1688)

    @pytest.mark.parametrize(("kind", "code"), [(3, 13), (3, 3), (3, 4), (11, 0), (12, 0), (4, 0)])
    @pytest.mark.parametrize("quoted", [28, 40, 92])
    def test_point_14_a_quoted_segment(self, kind: int, code: int, quoted: int) -> None:
        quote = bytes(tcp4())[:quoted]
        packet = IP(src="198.51.100.1", dst=CLIENT4) / ICMP(type=kind, code=code) / Raw(quote)
        error = IcmpError(1, 2, bytes([198, 51, 100, 1]), kind, code, False, 6, *self.QUOTED, 0xFFFFFFF0)
        assert read(eth() / packet) == error

    def test_a_quotation_that_ends_before_the_sequence_number(self) -> None:
        packet = read(IP(dst=CLIENT4) / ICMP(type=3, code=3) / Raw(bytes(tcp4())[:24]), 101)
        assert isinstance(packet, IcmpError)
        assert (packet.src, packet.sport, packet.dst, packet.dport, packet.seq) == (*self.QUOTED, None)

    def test_point_14_a_quoted_question(self) -> None:
        packet = read(IP(src=HOST4, dst=CLIENT4) / ICMP(type=3, code=3) / udp4(), 101)
        assert packet == IcmpError(1, 2, SEGMENT4.dst, 3, 3, False, 17, SEGMENT4.src, 50000, SEGMENT4.dst, 53, None)

    @pytest.mark.parametrize("error", [ICMPv6DestUnreach(code=1), ICMPv6PacketTooBig(), ICMPv6TimeExceeded()])
    @pytest.mark.parametrize("headers", [[], [IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrFragment()]])
    def test_point_14_a_quotation_in_icmpv6(self, error: Scapy, headers: list[Scapy]) -> None:
        quote = IPv6(src=CLIENT6, dst=HOST6)
        for header in [*headers, tcp6()[TCP]]:
            quote = quote / header
        packet = read(eth() / IPv6(src="2001:db8::1", dst=CLIENT6) / error / Raw(bytes(quote)))
        assert packet == IcmpError(
            1,
            2,
            bytes(IPv6(src="2001:db8::1"))[8:24],
            error.type,
            error.code,
            True,
            6,
            SEGMENT6.src,
            50000,
            SEGMENT6.dst,
            1688,
            9,
        )

    @pytest.mark.parametrize(
        "quote",
        [
            tcp4(frag=3),
            IP() / ICMP(),
            IPv6() / IPv6ExtHdrFragment(offset=3) / TCP(),
        ],
    )
    def test_quotations_without_ports(self, quote: Scapy) -> None:
        error = IPv6() / ICMPv6DestUnreach() if quote.version == 6 else IP() / ICMP(type=3)
        assert why_not(error / Raw(bytes(quote)), 101) == [Unread.OTHER]

    def test_padding_is_no_quotation(self) -> None:
        frame = bytes(eth() / IP() / ICMP(type=3, code=3)) + bytes(tcp4())
        assert why_not(frame) == [Unread.MALFORMED]


@given(
    st.sampled_from([0, 1, 9, 12, 14, 50, 51, 101, 104, 108, 113, 228, 229, 276, 999]),
    st.binary(max_size=120),
    st.integers(0, 200),
)
@settings(max_examples=300)
def test_any_bytes(link: int, data: bytes, length: int) -> None:
    unread: Counter[str] = Counter()
    packet = dissect(RawFrame(1, 2, link, data, length), Fragments(), unread)
    assert sum(unread.values()) <= (packet is None)


@given(
    st.sampled_from(sorted(WRAPPED)),
    st.booleans(),
    st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=2)), max_size=4),
)
@settings(max_examples=300)
def test_any_damage_to_a_frame(name: str, v6: bool, damages: list[tuple[int, bytes]]) -> None:
    link, wrap = WRAPPED[name]
    data = bytearray(bytes(wrap(tcp6() if v6 else tcp4())))
    for place, new in damages:
        data[place % len(data) : place % len(data) + len(new)] = new
    packet = read(bytes(data), link)
    if isinstance(packet, Segment | Datagram):
        assert 0 <= len(packet.payload) <= packet.length
        assert bytes(packet.payload) in bytes(data)


def variants(count: int) -> Iterator[tuple[Scapy, Scapy]]:
    """Frames that hold a TCP segment in up to three random wrappings, and its IP layer."""
    chance = random.Random(1688)
    tunnels: list[Callable[[Scapy], Scapy]] = [
        lambda inner: IP(**OUTER4, options=[IPOption_NOP()] * chance.randrange(5)) / inner,
        lambda inner: IPv6(**OUTER6) / inner,
        lambda inner: IP(**OUTER4) / GRE(key_present=chance.randrange(2), seqnum_present=chance.randrange(2)) / inner,
        lambda inner: IPv6(**OUTER6) / GRE(chksum_present=1) / eth() / inner,
        lambda inner: IP(**OUTER4) / UDP(sport=chance.randrange(1024, 65536)) / VXLAN(vni=1) / eth() / Dot1Q() / inner,
        lambda inner: IP(**OUTER4) / UDP(sport=4096) / GENEVE() / eth() / inner,
        lambda inner: IP(**OUTER4) / GRE(proto=0x88BE, seqnum_present=1) / ERSPAN_II() / eth() / inner,
    ]
    links: list[Callable[[Scapy], Scapy]] = [
        lambda inner: eth() / inner,
        lambda inner: eth() / Dot1Q(vlan=chance.randrange(4096)) / inner,
        lambda inner: eth() / Dot1AD() / Dot1Q() / inner,
        lambda inner: eth() / PPPoE() / PPP() / inner,
        lambda inner: eth(type=0x8847) / MPLS(s=0) / MPLS(s=1) / inner,
        lambda inner: dot3() / LLC() / SNAP(code=ether_type(inner)) / inner,
    ]
    for _ in range(count):
        ports = {"sport": chance.choice([49152, 50000, 1688]), "dport": chance.choice([1688, 40000])}
        tcp = TCP(
            **ports,
            seq=chance.getrandbits(32),
            ack=chance.getrandbits(32),
            flags=chance.randrange(256),
            options=chance.choice([[], [("Timestamp", (1, 2))], [("MSS", 1460), ("SAckOK", b""), ("NOP", None)]]),
        )
        payload = Raw(chance.randbytes(chance.choice([0, 1, 7, 60, 292])))
        inner = (
            IPv6(src=CLIENT6, dst=HOST6) / IPv6ExtHdrDestOpt() / tcp
            if chance.random() < 0.2
            else IPv6(src=CLIENT6, dst=HOST6) / tcp
            if chance.random() < 0.4
            else IP(src=CLIENT4, dst=HOST4, id=chance.getrandbits(16), options=[IPOption_NOP()] * chance.choice([0, 4]))
            / tcp
        ) / payload
        packet = inner
        for _ in range(chance.choice([0, 0, 1, 1, 2])):
            packet = chance.choice(tunnels)(packet)
        yield chance.choice(links)(packet), inner


@functools.cache
def frames() -> list[tuple[bytes, Scapy]]:
    return [(bytes(frame), inner) for frame, inner in variants(1200)]


def test_scapy_reads_the_same_from_what_it_wrote() -> None:
    for data, written in frames():
        inner = type(written)(bytes(written))
        tcp = inner[TCP]
        payload = bytes(tcp.payload)
        ident = inner.id if inner.version == 4 else 0
        flags = int(tcp.flags) & 0xFF
        addresses = bytes(written)[12:20] if inner.version == 4 else bytes(written)[8:40]
        half = len(addresses) // 2
        assert read(data) == Segment(
            1,
            2,
            addresses[:half],
            tcp.sport,
            addresses[half:],
            tcp.dport,
            tcp.seq,
            tcp.ack,
            flags,
            payload,
            len(payload),
            ident,
        )


def test_tshark_reads_the_same(tmp_path: Path) -> None:
    """All variants, and each of them cut short."""
    require_tools("tshark")
    chance = random.Random(7)
    records = [(data, len(data)) for data, _ in frames()]
    records += [(data[: chance.randrange(len(data) // 2, len(data))], len(data)) for data, _ in frames()[:300]]
    file = tmp_path / "variants.pcap"
    file.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
    with file.open("ab") as out:
        out.writelines(struct.pack("<IIII", 0, 0, len(data), length) + data for data, length in records)
    fields = ["tcp.srcport", "tcp.dstport", "tcp.seq_raw", "tcp.ack_raw", "tcp.len", "tcp.payload"]
    command = ["tshark", "-r", str(file), "-o", "tcp.desegment_tcp_streams:FALSE", "-T", "fields", "-E", "occurrence=l"]
    command += [word for field in ["frame.number", *fields] for word in ("-e", field)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(records)
    compared = 0
    for (data, length), line in zip(records, lines, strict=True):
        number, sport, dport, seq, ack, size, payload = line.split("\t")
        packet = read(data, length=length)
        if not size:
            # All 20 bytes of the header have to be there for tshark; 14 are enough to follow a stream.
            assert len(data) < length, number
            continue
        assert isinstance(packet, Segment), number
        found = packet.sport, packet.dport, packet.seq, packet.ack, packet.length
        assert found == tuple(map(int, (sport, dport, seq, ack, size))), number
        if not packet.flags & 4:
            # In a reset, tshark calls it the cause.
            assert packet.payload.hex() == payload, number
        compared += 1
    assert compared > 1200


class TestSamples:
    """Recordings of one exchange in every wrapping, where they are at hand."""

    def test_every_wrapping_holds_the_same_segments(self) -> None:
        need_samples()
        plain = self.segments(SAMPLES / "derived-raw101.pcap")
        assert len(plain) == 14
        names = [
            "erspan2",
            "gre-ip",
            "ipip",
            "ipv4-228",
            "null-be",
            "ppp9-noaddr",
            "pppoe",
            "qinq-9100",
            "sll2",
            "vxlan",
        ]
        for name in names:
            assert self.segments(SAMPLES / f"derived-{name}.pcap") == plain, name

    def test_fragments_and_headers_of_ipv6_change_nothing(self) -> None:
        need_samples()
        plain = self.segments(SAMPLES / "derived-ipv6.pcap")
        assert len(plain) == 16
        for name in ("ipv6-atomic-fragment", "ipv6-fragments", "ipv6-hopbyhop-dstopt"):
            assert self.segments(SAMPLES / f"derived-{name}.pcap") == plain, name

    @staticmethod
    def segments(file: Path) -> list[tuple[object, ...]]:
        return [segment[2:] for segment in packets(file).segments]
