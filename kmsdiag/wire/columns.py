"""Which records of a batch can matter, and the header fields of the plain ones, all at once.

Plain is TCP or UDP in an unfragmented IPv4 packet without options, or an IPv6 packet without extension headers, on a
usual link with at most two VLAN tags. Everything else that may hold such a packet is *odd*, and
:mod:`kmsdiag.wire.layers` looks at it frame by frame. What neither can hold (ARP, ESP, …) is left out.
What this says of a plain packet, and what ``layers`` says of it, is the same.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from kmsdiag.wire.batch import Batch, Bytes, Int64s, rows
from kmsdiag.wire.layers import Unread

Mask = npt.NDArray[np.bool_]
Unsigned64s = npt.NDArray[np.uint64]

V4: Final = (1 << 64) - 1
"""Upper half of an address that is IPv4 (as IPv6 it would be multicast, which nobody speaks TCP with)."""

TCP: Final = 6
UDP: Final = 17

DNS_PORT: Final = 53
DNS_PORTS: Final = (DNS_PORT, 5353, 5355)
"""UDP ports of DNS, mDNS and LLMNR."""

TUNNEL_PORTS: Final = (2152, 4789, 6081, 8472)
"""UDP ports of what ``layers`` looks into: GTP-U, VXLAN, Geneve, VXLAN again."""

INTERFACE: Final = tuple(map(bytes.fromhex, ("7521c8514e845047b0d8ec255555bc06", "51c82175844e4750b0d8ec255555bc06")))
"""The interface UUID of KMS in a bind: little-endian, big-endian."""

_NOTHING, _ODD, _TAGGED, _LLC, _IPV4, _IPV6 = 0, 1, 2, 3, 4, 6
"""What a link layer carries: nothing of use, something that the exact path has to look into, or what it says."""

_TYPED: Final = {1: (12, 14), 113: (14, 16), 276: (0, 20)}
"""Ethernet and Linux cooked captures: where the EtherType is, and how long the header."""

_LOOPBACK: Final = (0, 108)
_BARE: Final = dict.fromkeys((0, 12, 14, 101, 108), (4, 6)) | {228: (4,), 229: (6,)}
"""Links that carry nothing but IP, behind an address family or nothing: the versions that there are."""

_EXACT: Final = (9, 50, 51, 104)
"""Link types that only the exact path reads: PPP and its like."""

_FAMILIES: Final = (2, 10, 23, 24, 28, 30)


def _table(size: int, members: Iterable[int]) -> Mask:
    found = np.zeros(size, np.bool_)
    found[list(members)] = True
    return found


# What an IP header may announce that leads to TCP, UDP or an ICMP error. ICMP itself is looked at closer.
_LEADS_ON: Final = _table(256, (0, 4, 41, 43, 44, 47, 51, 60, 135, 137, 139, 140))
_ICMP, _ICMP6 = 1, 58
_ICMP_ERRORS: Final = _table(256, (3, 4, 11, 12))
_ICMP6_ERRORS: Final = _table(256, (1, 2, 3, 4))


def _ether_types() -> npt.NDArray[np.uint8]:
    """What each EtherType stands for; up to 1500 it is the length of an IEEE 802.3 frame."""
    found = np.full(65_536, _NOTHING, np.uint8)
    found[:1501] = _LLC
    found[[0x8100, 0x88A8, 0x9100, 0x9200, 0x9300]] = _TAGGED
    found[[0x8847, 0x8848, 0x8864]] = _ODD  # MPLS, PPPoE
    found[0x0800], found[0x86DD] = _IPV4, _IPV6
    return found


_ETHER_TYPES: Final = _ether_types()
_SERVICES: Final = _table(65_536, (0xAAAA, 0x0606))
"""LLC service access points that can carry IP: SNAP's, and IP's own."""


class Columns(NamedTuple):
    """Plain packets, one entry each, in the batch's order.

    ``index`` is into the batch. Addresses are two words each; the upper one is :data:`V4` for IPv4. ``start`` is where
    the payload begins in the batch's ``data``; it has ``length`` bytes on the wire, of which ``captured`` are there.
    ``seq``, ``ack`` and ``flags`` (the eight of RFC 9293) are 0 for UDP; ``ip_id`` is 0 for IPv6. ``binds`` says that
    the payload opens a bind of the KMS interface, in a packet that would not matter otherwise.
    """

    index: Int64s  # type: ignore[assignment]  # tuple.index is of no use here
    protocol: npt.NDArray[np.uint8]
    src_hi: Unsigned64s
    src_lo: Unsigned64s
    dst_hi: Unsigned64s
    dst_lo: Unsigned64s
    sport: npt.NDArray[np.uint16]
    dport: npt.NDArray[np.uint16]
    seq: npt.NDArray[np.uint32]
    ack: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint8]
    ip_id: npt.NDArray[np.uint16]
    start: Int64s
    length: Int64s
    captured: Int64s
    binds: Mask


class Selected(NamedTuple):
    """What of a batch can matter: plain packets, and indices of the records that are odd.

    ``unread`` counts what might have mattered and can't be known: frames cut before their ports, link types.
    """

    plain: Columns
    odd: Int64s
    unread: dict[str, int]


class Filter:
    """What matters: packets of these TCP ports, of these connections, of DNS, and binds of the KMS interface.

    ``flows`` are what :func:`flow_keys` gives. Without ``ports`` all plain packets matter.
    """

    def __init__(self, ports: Collection[int] | None, flows: Unsigned64s | None = None) -> None:
        self.everything = ports is None
        self.flows = np.empty(0, np.uint64) if flows is None else flows
        self.tcp = _table(65_536, (*(ports or ()), DNS_PORT))
        self.udp = _table(65_536, DNS_PORTS)
        self.tunnel = _table(65_536, TUNNEL_PORTS)


class _Packets(NamedTuple):
    """Packets of one IP version on their way to :class:`Columns`.

    ``index`` is into the batch, ``at`` where the IP header is in the data and ``end`` where the captured bytes end;
    ``head`` is a table of the first bytes from there on; ``ip`` the size of the IP header.
    """

    index: Int64s  # type: ignore[assignment]
    at: Int64s
    end: Int64s
    head: Bytes
    ip: int

    def take(self, which: Int64s | Mask) -> "_Packets":
        return _Packets(self.index[which], self.at[which], self.end[which], self.head[which], self.ip)

    def u1(self, at: int) -> npt.NDArray[np.uint8]:
        return self.head[:, at]

    def u2(self, at: int) -> npt.NDArray[np.uint16]:
        """A 16-bit field in network order; ``at`` is even."""
        return self.head.view(">u2")[:, at // 2]

    def u4(self, at: int) -> npt.NDArray[np.uint32]:
        """A 32-bit field in network order; ``at`` is a multiple of four."""
        return self.head.view(">u4")[:, at // 4]

    def u8(self, at: int) -> Unsigned64s:
        return np.asarray(self.u4(at).astype(np.uint64) << np.uint64(32) | self.u4(at + 4).astype(np.uint64))


def select(batch: Batch, links: Sequence[int], wanted: Filter) -> Selected:
    """Choose what can matter of a batch. ``links`` are the link types of the interfaces."""
    plain: list[Columns] = []
    odd: list[Int64s] = []
    unread: dict[str, int] = {}
    for link, index in _by_link(batch, links):
        if link in _EXACT:
            odd.append(index)
            continue
        network = _network(batch, link, index)
        if network is None:
            unread[f"link type {link}"] = unread.get(f"link type {link}", 0) + len(index)
            continue
        kinds, at = network
        odd.append(index[kinds == _ODD])
        for kind in (_IPV4, _IPV6):
            chosen = np.flatnonzero(kinds == kind)
            if len(chosen):
                packets = _packets(batch, index[chosen], at[chosen], kind)
                columns, strange, cut = _choose(batch, packets, wanted)
                plain.append(columns)
                odd.append(strange)
                if cut:
                    unread[Unread.CUT.value] = unread.get(Unread.CUT.value, 0) + cut
    return Selected(_in_order(plain), np.sort(np.concatenate(odd)) if odd else np.empty(0, np.int64), unread)


def flow_keys(columns: Columns) -> Unsigned64s:
    """A number for each packet's connection, the same in both directions. Different ones may rarely be equal."""
    return _keys(
        _endpoint(columns.src_hi, columns.src_lo, columns.sport),
        _endpoint(columns.dst_hi, columns.dst_lo, columns.dport),
    )


_MIX: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))


def _endpoint(high: Unsigned64s, low: Unsigned64s, port: npt.NDArray[np.uint16]) -> Unsigned64s:
    mixed = (high * _MIX[0] ^ low) * _MIX[1] + port.astype(np.uint64) * _MIX[2]
    return np.asarray((mixed ^ mixed >> np.uint64(31)) * _MIX[0])


def _keys(one: Unsigned64s, other: Unsigned64s) -> Unsigned64s:
    return np.asarray(np.maximum(one, other) * _MIX[1] + np.minimum(one, other))


# Link layers


def _by_link(batch: Batch, links: Sequence[int]) -> list[tuple[int, Int64s]]:
    """Indices of the records by link type."""
    everything = np.arange(len(batch.at))
    if not len(everything) or not links:  # without interfaces there are no packets, but numbered blocks
        return []
    first = batch.interface[0]
    if (batch.interface == first).all():
        return [(links[first], everything)]
    numbers, own = np.unique(batch.interface, return_inverse=True)
    kinds = np.array([links[number] for number in numbers.tolist()])[own]
    return [(link, np.flatnonzero(kinds == link)) for link in np.unique(kinds).tolist()]


def _network(batch: Batch, link: int, index: Int64s) -> tuple[npt.NDArray[np.uint8], Int64s] | None:
    """What the link layer carries, and where; None for a link type that is not read."""
    start = batch.offset[index]
    end = start + batch.caplen[index]
    if link in _TYPED:
        type_at, header = _TYPED[link]
        return _untagged(batch.data, _ETHER_TYPES[_words(batch.data, start + type_at)], start + header, end)
    if link not in _BARE:
        return None
    at = start + 4 * (link in _LOOPBACK)
    versions = batch.data[at] >> 4
    fine = np.isin(versions, _BARE[link]) & (at < end)
    if link in _LOOPBACK:
        fine &= _loopback(batch.data, start)
    return np.where(fine, versions, _NOTHING), at


def _untagged(
    data: Bytes, kinds: npt.NDArray[np.uint8], at: Int64s, end: Int64s
) -> tuple[npt.NDArray[np.uint8], Int64s]:
    """Go behind up to two VLAN tags, and look closer at what IEEE 802.3 frames carry."""
    for _ in range(2):
        tagged = np.flatnonzero(kinds == _TAGGED)
        if not len(tagged):
            break
        at[tagged] += 4
        kinds[tagged] = _ETHER_TYPES[_words(data, at[tagged] - 2)]
    llc = np.flatnonzero(kinds == _LLC)
    kinds[llc] = np.where(_SERVICES[_words(data, at[llc])], _ODD, _NOTHING)
    kinds[kinds == _TAGGED] = _ODD
    kinds[at > end] = _NOTHING
    return kinds, at


def _loopback(data: Bytes, start: Int64s) -> Mask:
    """Where the four bytes are an address family of IP, in either byte order."""
    family = rows(data, 4, start)
    return np.isin(family.view("<u4")[:, 0], _FAMILIES) | np.isin(family.view(">u4")[:, 0], _FAMILIES)


def _words(data: Bytes, at: Int64s) -> npt.NDArray[np.uint16]:
    """The 16-bit fields in network order at these places."""
    return np.ndarray((len(data) - 1,), ">u2", data.data, 0, (1,))[at]


# IP and above


def _packets(batch: Batch, index: Int64s, at: Int64s, version: int) -> _Packets:
    size = 20 if version == 4 else 40
    end = batch.offset[index] + batch.caplen[index]
    return _Packets(index, at, end, rows(batch.data, size + 20, at), size)


def _choose(batch: Batch, packets: _Packets, wanted: Filter) -> tuple[Columns, Int64s, int]:
    """The columns of plain packets that matter, indices of odd records, and how many are cut before their ports."""
    plain, strange = (_sorted4 if packets.ip == 20 else _sorted6)(packets)
    seen = packets.at + (packets.ip + 4) <= packets.end
    cut = int(np.count_nonzero(plain & ~seen))
    if cut or not plain.all():
        odd = packets.index[strange & (packets.at + packets.ip <= packets.end)]
        cut += int(np.count_nonzero(strange & (packets.at + packets.ip > packets.end)))
        packets = packets.take(plain & seen)
    else:
        odd = packets.index[:0]
    tcp = packets.u1(9 if packets.ip == 20 else 6) == TCP
    sport, dport = packets.u2(packets.ip), packets.u2(packets.ip + 2)
    tunnel = ~tcp & wanted.tunnel[dport]
    if tunnel.any():
        odd = np.concatenate([odd, packets.index[tunnel]])
    keep = np.where(tcp, wanted.tcp[sport] | wanted.tcp[dport], wanted.udp[sport] | wanted.udp[dport])
    if len(wanted.flows):
        keep |= tcp & np.isin(_keys(*_endpoints(packets)), wanted.flows)
    binds = np.zeros(len(tcp), np.bool_)
    binds[_binds(batch, packets, np.flatnonzero(tcp & ~keep))] = True
    keep |= binds
    if wanted.everything:
        keep[:] = True
    which = np.flatnonzero(keep & ~tunnel)
    columns, malformed = _columns(batch, packets.take(which), tcp[which], binds[which])
    return columns, np.concatenate([odd, malformed]), cut


def _sorted4(packets: _Packets) -> tuple[Mask, Mask]:
    """Which IPv4 packets are plain, and which need the exact path."""
    first, protocol = packets.u1(0), packets.u1(9)
    transport = (protocol == TCP) | (protocol == UDP)
    whole = packets.u2(6) & 0x3FFF == 0
    plain = transport & whole & (first == 0x45)
    rest = np.flatnonzero(~plain)
    strange = np.zeros(len(plain), np.bool_)
    if len(rest):
        kind = protocol[rest]
        short = (first[rest] == 0x45) & whole[rest]
        error = _is_icmp(kind) & (~short | _is_error(kind, packets.head[rest, 20]))
        strange[rest] = (first[rest] >> 4 == 4) & (transport[rest] | _LEADS_ON[kind] | error)
    return plain, strange


def _sorted6(packets: _Packets) -> tuple[Mask, Mask]:
    """Which IPv6 packets are plain, and which need the exact path."""
    version, following = packets.u1(0) >> 4 == 6, packets.u1(6)
    plain = version & ((following == TCP) | (following == UDP))
    error = _is_icmp(following) & _is_error(following, packets.u1(40))
    return plain, version & (_LEADS_ON[following] | error)


def _is_icmp(protocol: npt.NDArray[np.uint8]) -> Mask:
    return np.asarray((protocol == _ICMP) | (protocol == _ICMP6))


def _is_error(protocol: npt.NDArray[np.uint8], kind: npt.NDArray[np.uint8]) -> Mask:
    return np.asarray(np.where(protocol == _ICMP, _ICMP_ERRORS[kind], _ICMP6_ERRORS[kind]))


def _endpoints(packets: _Packets) -> tuple[Unsigned64s, Unsigned64s]:
    source, target = _addresses(packets)
    return _endpoint(*source, packets.u2(packets.ip)), _endpoint(*target, packets.u2(packets.ip + 2))


def _addresses(packets: _Packets) -> tuple[tuple[Unsigned64s, Unsigned64s], tuple[Unsigned64s, Unsigned64s]]:
    if packets.ip == 20:
        high = np.full(len(packets.index), V4, np.uint64)
        return (high, packets.u4(12).astype(np.uint64)), (high, packets.u4(16).astype(np.uint64))
    return (packets.u8(8), packets.u8(16)), (packets.u8(24), packets.u8(32))


def _binds(batch: Batch, packets: _Packets, tcp: Int64s) -> Int64s:
    """Of the TCP packets, those whose payload opens a bind, or an alter_context, of the KMS interface.

    A payload that ends before the interface's UUID is not held against it.
    """
    start = packets.at[tcp] + packets.ip + (packets.u1(packets.ip + 12)[tcp] >> 4) * np.int64(4)
    word = np.ndarray((len(batch.data) - 3,), "<u4", batch.data.data, 0, (1,))[start]
    # Version 5.0 or 5.1, type 11 or 14, first fragment
    opens = (word & 0xFEFF == 5) & np.isin(word >> 16 & 0xFF, (11, 14)) & (word >> 24 & 1 == 1)
    opens &= start + 4 <= packets.end[tcp]
    found = []
    for place in np.flatnonzero(opens).tolist():
        payload = batch.data[start[place] : packets.end[tcp[place]]].tobytes()
        if len(payload) < 48 or any(uuid in payload for uuid in INTERFACE):
            found.append(place)
    return tcp[found]


def _columns(batch: Batch, packets: _Packets, tcp: Mask, binds: Mask) -> tuple[Columns, Int64s]:
    """All fields, and indices of those that contradict themselves or are cut within a header."""
    ip = packets.ip
    transport = packets.at + ip
    end = _wire_end(batch, packets)
    offset, flags = packets.u1(ip + 12), packets.u1(ip + 13)
    header = np.where(tcp, (offset >> 4) * np.int64(4), 8)
    start = transport + header
    udp_length = np.where(tcp, 0, packets.u2(ip + 4)).astype(np.int64)
    end = np.where(udp_length > 0, np.minimum(end, transport + udp_length), end)
    # A header that is cut, or longer than what it stands in
    fixed = np.where(tcp, 20, 8)
    wrong = (header < fixed) | (start > end) | (transport + fixed > packets.end) | ((udp_length > 0) & (udp_length < 8))
    fine = np.flatnonzero(~wrong)
    odd = packets.index[wrong]
    if len(odd):
        packets, tcp, binds = packets.take(fine), tcp[fine], binds[fine]
        start, end, flags = start[fine], end[fine], flags[fine]
    (src_hi, src_lo), (dst_hi, dst_lo) = _addresses(packets)
    ident = packets.u2(4) if ip == 20 else np.zeros(len(fine), np.uint16)
    columns = Columns(
        packets.index,
        np.where(tcp, np.uint8(TCP), np.uint8(UDP)),
        src_hi,
        src_lo,
        dst_hi,
        dst_lo,
        packets.u2(ip).astype(np.uint16),
        packets.u2(ip + 2).astype(np.uint16),
        np.where(tcp, packets.u4(ip + 4), 0).astype(np.uint32),
        np.where(tcp, packets.u4(ip + 8), 0).astype(np.uint32),
        np.where(tcp, flags, 0).astype(np.uint8),
        ident.astype(np.uint16),
        start,
        end - start,
        np.clip(np.minimum(end, packets.end) - start, 0, None),
        binds,
    )
    return columns, odd


def _wire_end(batch: Batch, packets: _Packets) -> Int64s:
    """Where the IP packets end by their own account; by the frame's length where they say nothing (TSO)."""
    total = packets.u2(2 if packets.ip == 20 else 4).astype(np.int64)
    extra = 0 if packets.ip == 20 else 40
    frame = batch.offset[packets.index] + np.maximum(batch.length, batch.caplen)[packets.index]
    return np.where(total > 0, packets.at + total + extra, frame)


def _in_order(parts: list[Columns]) -> Columns:
    """Columns of several kinds as one, in the order of the batch."""
    if not parts:
        return _no_columns()
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([part.index for part in parts]))
    return Columns(*(np.concatenate(columns)[order] for columns in zip(*parts, strict=True)))


def _no_columns() -> Columns:
    u1, u2, u4, u8 = np.empty(0, np.uint8), np.empty(0, np.uint16), np.empty(0, np.uint32), np.empty(0, np.uint64)
    i8 = np.empty(0, np.int64)
    return Columns(i8, u1, u8, u8, u8, u8, u2, u2, u4, u4, u1, u2, i8, i8, i8, np.empty(0, np.bool_))
