"""Writes large captures to measure with: a busy network with a little KMS in it, and nothing but KMS.

    python -m benchmarks.makecapture mixed FILE.pcap[ng] [--packets N]
    python -m benchmarks.makecapture kms FILE.pcap[ng] [--activations N] [--clients N]

Everything is made up here: addresses of RFC 5737 and RFC 1918, bodies of version 6 that are random bytes. The same
arguments give the same bytes.
"""

import argparse
import struct
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from kmsdiag.model.request import KMS_INTERFACE
from kmsdiag.wire.rpc import FEATURES, NDR32, NDR64, encode_bind

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

START: Final = 1_780_000_000
"""Unix time of the first packet, in seconds (28 May 2026)."""

SYN, ACK, PSH, FIN, RST = 0x02, 0x10, 0x08, 0x01, 0x04
TCP_HEADERS: Final = 14 + 20 + 20
UDP_HEADERS: Final = 14 + 20 + 8
CLIENT_NET, HOST_NET = 0x0A000000, 0xC6336400  # 10.0.0.0, 198.51.100.0
RESOLVER: Final = 0xC0000235  # 192.0.2.53


class Packets(NamedTuple):
    """Packets of one size, a row each: frame bytes and capture time in microseconds since START."""

    frames: Bytes
    at: Ints


# ------------------------------------------------------------------------------------------------- PDUs


def _header(kind: int, flags: int, body: bytes, call_id: int) -> bytes:
    return struct.pack("<BBBB4sHHI", 5, 0, kind, flags, b"\x10\0\0\0", 16 + len(body), 0, call_id) + body


def _results(results: Sequence[tuple[int, int, tuple[str, int] | None]]) -> bytes:
    body = struct.pack("<BBH", len(results), 0, 0)
    for result, reason, syntax in results:
        name, version = syntax or ("00000000-0000-0000-0000-000000000000", 0)
        body += struct.pack("<HH", result, reason) + uuid.UUID(name).bytes_le + struct.pack("<I", version)
    return body


def _bind_ack() -> bytes:
    """A host that speaks NDR64: it turns NDR32 down, as Server 2012 and later do."""
    body = struct.pack("<HHIH", 5840, 5840, 0x1063, 5) + b"1688\0"
    body += b"\0" * (-(16 + len(body)) % 4) + _results(((2, 2, None), (0, 0, NDR64), (3, 3, None)))
    return _header(12, 0x13, body, 2)


def _alter() -> bytes:
    context = struct.pack("<HBB", 0, 1, 0) + uuid.UUID(KMS_INTERFACE).bytes_le + struct.pack("<HH", 1, 0)
    context += uuid.UUID(NDR32[0]).bytes_le + struct.pack("<I", NDR32[1])
    return _header(14, 0x13, struct.pack("<HHIBBH", 5840, 5840, 0x1063, 1, 0, 0) + context, 2)


def _alter_response() -> bytes:
    return _header(15, 0x03, struct.pack("<HHIH", 5840, 5840, 0x1063, 0) + b"\0\0" + _results(((0, 0, NDR32),)), 2)


def _request() -> bytes:
    """The shell of a version 6 request: sizes and version; its 256 bytes of body are filled with random ones later."""
    stub = struct.pack("<IIHH", 260, 260, 0, 6) + bytes(256)
    return _header(0, 0x03, struct.pack("<IHH", len(stub), 0, 0) + stub, 2)


def _response() -> bytes:
    """The shell of a version 6 response; HRESULT 0 at its end."""
    stub = struct.pack("<IIIHH", 260, 0x20000, 260, 0, 6) + bytes(256) + struct.pack("<I", 0)
    return _header(2, 0x03, struct.pack("<IHBB", len(stub), 0, 0, 0) + stub, 2)


def _refusal() -> bytes:
    stub = bytes(12)
    return _header(2, 0x03, struct.pack("<IHBB", len(stub), 0, 0, 0) + stub, 2)


assert FEATURES[1] == 1  # the bind offers three contexts, and _bind_ack answers three


# ------------------------------------------------------------------------------------------------- frames


class Step(NamedTuple):
    """One segment of a scripted connection: who sends it, when (µs after its start), what."""

    client: bool
    after: int
    flags: int
    payload: bytes = b""
    random: slice | None = None


_PDUS: Final = (
    Step(True, 0, SYN),
    Step(False, 300, SYN | ACK),
    Step(True, 320, ACK),
    Step(True, 400, PSH | ACK, encode_bind(KMS_INTERFACE)),
    Step(False, 900, PSH | ACK, _bind_ack()),
    Step(True, 1_100, PSH | ACK, _alter()),
    Step(False, 1_500, PSH | ACK, _alter_response()),
    Step(True, 1_800, PSH | ACK, _request(), slice(36, 292)),
)
ACTIVATED: Final = (
    *_PDUS,
    Step(False, 9_000, PSH | ACK, _response(), slice(40, 296)),
    Step(True, 9_300, RST | ACK),
)
REFUSED: Final = (*_PDUS, Step(False, 4_000, PSH | ACK, _refusal()), Step(True, 4_300, RST | ACK))
CUT: Final = (*_PDUS, Step(False, 2_500, RST | ACK))
CLOSED_PORT: Final = tuple(
    step
    for turn in range(5)
    for step in (Step(True, turn * 500_000, SYN), Step(False, turn * 500_000 + 200, RST | ACK))
)
SILENT: Final = tuple(Step(True, after, SYN) for after in (0, 3_000_000, 9_000_000))


def _put(frames: Bytes, at: int, values: Ints, width: int) -> None:
    """Write ``values`` big-endian into the columns from ``at`` on."""
    for place in range(width):
        frames[:, at + place] = (values >> 8 * (width - 1 - place)) & 0xFF


def _ip(count: int, size: int, protocol: int, source: Ints, target: Ints) -> Bytes:
    """Frames of Ethernet and IPv4 headers, the rest zero; ``size`` is of the whole frame."""
    frames = np.zeros((count, size), np.uint8)
    frames[:, :14] = np.frombuffer(bytes.fromhex("0200000000010200000000020800"), np.uint8)
    frames[:, 14], frames[:, 22], frames[:, 23] = 0x45, 64, protocol
    frames[:, 16:18] = np.frombuffer(struct.pack(">H", size - 14), np.uint8)
    frames[:, 20] = 0x40
    _put(frames, 26, source, 4)
    _put(frames, 30, target, 4)
    return frames


def script(
    steps: Sequence[Step], starts: Ints, clients: Ints, ports: Ints, hosts: Ints, generator: np.random.Generator
) -> Iterator[Packets]:
    """The packets of many connections that all follow one script; ``starts`` in µs."""
    count = len(starts)
    numbers = {True: generator.integers(0, 2**32, count), False: generator.integers(0, 2**32, count)}
    silent = not any(not step.client for step in steps)
    for step in steps:
        own, other = numbers[step.client], numbers[not step.client]
        source, target = (clients, hosts) if step.client else (hosts, clients)
        frames = _ip(count, TCP_HEADERS + len(step.payload), 6, source, target)
        kms = np.full(count, 1688)
        _put(frames, 34, ports if step.client else kms, 2)
        _put(frames, 36, kms if step.client else ports, 2)
        _put(frames, 38, own, 4)
        if step.flags & ACK:
            # A refusal acknowledges the SYN, which is repeated with the same number.
            _put(frames, 42, (other + (steps is CLOSED_PORT)) & 0xFFFFFFFF, 4)
        frames[:, 46], frames[:, 47], frames[:, 48] = 0x50, step.flags, 0xFA
        frames[:, TCP_HEADERS:] = np.frombuffer(step.payload, np.uint8)
        if step.random is not None:
            body = slice(TCP_HEADERS + step.random.start, TCP_HEADERS + step.random.stop)
            frames[:, body] = generator.integers(0, 256, (count, body.stop - body.start), np.uint8)
        yield Packets(frames, starts + step.after)
        if not silent and not (step.flags & SYN and steps is CLOSED_PORT):
            grown = len(step.payload) + bool(step.flags & (SYN | FIN))
            numbers[step.client] = (own + grown) & 0xFFFFFFFF


def _with_hresult(packets: Iterator[Packets], codes: Ints) -> Iterator[Packets]:
    for frames, at in packets:
        if frames.shape[1] == TCP_HEADERS + 36:
            for place in range(4):
                frames[:, -4 + place] = (codes >> 8 * place) & 0xFF
        yield Packets(frames, at)


def activations(count: int, clients: int, seconds: float, generator: np.random.Generator) -> Iterator[Packets]:
    """``count`` attempts to activate by ``clients`` machines with two hosts: nine in ten succeed."""
    starts = np.sort(generator.integers(0, int(seconds * 1e6), count))
    who = generator.permutation(np.arange(count) % clients)
    address = CLIENT_NET + 256 + who
    # Each attempt of a client has a port of its own.
    order = np.argsort(who, kind="stable")
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count) - np.searchsorted(who[order], who[order])
    ports = 49_152 + rank * 7 % 16_384
    hosts = HOST_NET + 1 + generator.integers(0, 2, count)
    fate = generator.permutation(np.arange(count) % 100)
    for script_of, chosen in (
        (ACTIVATED, fate >= 10),
        (REFUSED, fate < 5),
        (CUT, (fate >= 5) & (fate < 6)),
        (CLOSED_PORT, (fate >= 6) & (fate < 8)),
        (SILENT, (fate >= 8) & (fate < 10)),
    ):
        packets = script(script_of, starts[chosen], address[chosen], ports[chosen], hosts[chosen], generator)
        if script_of is REFUSED:
            codes = np.where(fate[chosen] < 3, 0xC004F042, 0xC004F06C)
            packets = _with_hresult(packets, codes)
        yield from packets


# ------------------------------------------------------------------------------------------------- other traffic


def _question(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return labels + b"\0" + struct.pack(">HH", kind, 1)


def lookups(count: int, seconds: float, generator: np.random.Generator) -> Iterator[Packets]:
    """``count`` DNS questions of other names and for the KMS record, each with its answer right behind it."""
    starts = np.sort(generator.integers(0, int(seconds * 1e6), count))
    clients = CLIENT_NET + 256 + generator.integers(0, 400, count)
    ports = generator.integers(49_152, 65_536, count)
    ids = generator.integers(0, 65_536, count)
    resolver = np.full(count, RESOLVER)
    srv = _question("_VLMCS._TCP.corp.example", 33)
    target = b"".join(bytes([len(label)]) + label.encode() for label in ("kms1", "corp", "example")) + b"\0"
    rdata = struct.pack(">HHH", 0, 0, 1688) + target
    answer = b"\xc0\x0c" + struct.pack(">HHIH", 33, 1, 3600, len(rdata)) + rdata
    other = _question("www.corp.example", 1)
    other_answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 300, 4) + bytes((192, 0, 2, 80))
    is_srv = np.arange(count) % 4 == 0
    for chosen, question, record in ((is_srv, srv, answer), (~is_srv, other, other_answer)):
        number = int(chosen.sum())
        for back in (False, True):
            payload = struct.pack(">HHHHHH", 0, 0x8580 if back else 0x0100, 1, int(back), 0, 0) + question
            payload += record if back else b""
            ends = (resolver[chosen], clients[chosen]) if back else (clients[chosen], resolver[chosen])
            frames = _ip(number, UDP_HEADERS + len(payload), 17, *ends)
            fixed = np.full(number, 53)
            _put(frames, 34, fixed if back else ports[chosen], 2)
            _put(frames, 36, ports[chosen] if back else fixed, 2)
            _put(frames, 38, np.full(number, 8 + len(payload)), 2)
            frames[:, UDP_HEADERS:] = np.frombuffer(payload, np.uint8)
            _put(frames, UDP_HEADERS, ids[chosen], 2)
            yield Packets(frames, starts[chosen] + (700 if back else 0))


SIZES: Final = ((66, 0.30), (180, 0.12), (590, 0.12), (1_514, 0.38), (1_000, 0.08))
"""Frame sizes of the other traffic with their shares; the mean is 740 bytes."""


def background(count: int, seconds: float, generator: np.random.Generator) -> Iterator[Packets]:
    """Other people's packets: three in four TCP, over 20,000 flows, with sequence numbers that fit; random payload."""
    size_of = generator.choice([size for size, _share in SIZES], count, p=[share for _size, share in SIZES])
    at = np.sort(generator.integers(0, int(seconds * 1e6), count))
    flow = generator.integers(0, 20_000, count)
    tcp = flow % 4 != 0
    # A flow's sequence numbers grow by what it has sent so far.
    order = np.argsort(flow, kind="stable")
    grown = np.cumsum(size_of[order] - TCP_HEADERS)
    begins = np.r_[True, flow[order][1:] != flow[order][:-1]]
    base = np.maximum.accumulate(np.where(begins, np.r_[0, grown[:-1]], 0))
    sequence = np.empty(count, np.int64)
    sequence[order] = np.r_[0, grown[:-1]] - base
    for size, _share in SIZES:
        for is_tcp in (True, False):
            chosen = np.flatnonzero((size_of == size) & (tcp == is_tcp))
            for part in np.array_split(chosen, max(1, len(chosen) * size // 2**26)):
                yield _background_frames(size, flow[part], sequence[part], at[part], generator, is_tcp=is_tcp)


def _background_frames(
    size: int, flow: Ints, sequence: Ints, at: Ints, generator: np.random.Generator, *, is_tcp: bool
) -> Packets:
    count = len(flow)
    source, target = CLIENT_NET + 0x10000 + flow, 0xAC100000 + flow % 500
    frames = _ip(count, size, 6 if is_tcp else 17, source, target)
    _put(frames, 34, 20_000 + flow, 2)
    _put(frames, 36, np.where(flow % 3 == 0, 443, 8_443 if is_tcp else 4_433), 2)
    begin = TCP_HEADERS if is_tcp else UDP_HEADERS
    if is_tcp:
        _put(frames, 38, (flow * 7_919 + sequence) & 0xFFFFFFFF, 4)
        frames[:, 46], frames[:, 47], frames[:, 48] = 0x50, ACK, 0xFA
    else:
        _put(frames, 38, np.full(count, size - 34), 2)
    noise = np.frombuffer(generator.bytes(count * (size - begin)), np.uint8)
    frames[:, begin:] = noise.reshape(count, size - begin)
    return Packets(frames, at)


# ------------------------------------------------------------------------------------------------- files


def write(path: Path, packets: Sequence[Packets]) -> int:
    """Write packets in the order of their times, as pcapng where the name says so, else pcap; how many there are."""
    sizes = np.concatenate([np.full(len(group.at), group.frames.shape[1]) for group in packets])
    at = np.concatenate([group.at for group in packets])
    order = np.argsort(at, kind="stable")
    as_ng = path.suffix == ".pcapng"
    padded = sizes + (-sizes % 4 if as_ng else 0)
    lengths = padded + (32 if as_ng else 16)
    head = _ng_head() if as_ng else struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)
    begins = np.empty(len(at), np.int64)
    begins[order] = len(head) + np.r_[0, np.cumsum(lengths[order])[:-1]]
    out = np.empty(len(head) + int(lengths.sum()), np.uint8)
    out[: len(head)] = np.frombuffer(head, np.uint8)
    number = 0
    for group in packets:
        count = len(group.at)
        rows = _ng_rows(group) if as_ng else _rows(group)
        for part in range(0, count, 4_096):
            places = begins[number + part : number + min(part + 4_096, count)]
            out[places[:, None] + np.arange(rows.shape[1])] = rows[part : part + 4_096]
        number += count
    out.tofile(path)
    return len(at)


def _rows(group: Packets) -> Bytes:
    count, size = group.frames.shape
    rows = np.empty((count, 16 + size), np.uint8)
    head = np.empty((count, 4), "<u4")
    head[:, 0], head[:, 1] = START + group.at // 1_000_000, group.at % 1_000_000
    head[:, 2:] = size
    rows[:, :16] = head.view(np.uint8)
    rows[:, 16:] = group.frames
    return rows


def _ng_head() -> bytes:
    section = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    return section + struct.pack("<IIHHII", 1, 20, 1, 0, 262_144, 20)


def _ng_rows(group: Packets) -> Bytes:
    count, size = group.frames.shape
    length = 32 + size + -size % 4
    rows = np.zeros((count, length), np.uint8)
    at = START * 1_000_000 + group.at
    head = np.empty((count, 7), "<u4")
    head[:, 0], head[:, 1], head[:, 2] = 6, length, 0
    head[:, 3], head[:, 4] = at >> 32, at & 0xFFFFFFFF
    head[:, 5:] = size
    rows[:, :28] = head.view(np.uint8)
    rows[:, 28 : 28 + size] = group.frames
    rows[:, -4:] = np.frombuffer(struct.pack("<I", length), np.uint8)
    return rows


def mixed(path: Path, packets: int = 1_447_200) -> int:
    """A busy network: half a percent of its packets are KMS (1 in 370) and DNS."""
    generator = np.random.default_rng(1688)
    kms, dns = packets // 3_700, packets // 871
    groups = [*activations(kms, max(1, kms // 2), 600, generator), *lookups(dns, 600, generator)]
    rest = packets - sum(len(group.at) for group in groups)
    groups += background(rest, 600, generator)
    return write(path, groups)


def only_kms(path: Path, attempts: int = 100_000, clients: int = 20_000) -> int:
    """Nothing but attempts to activate, a thousand a second."""
    generator = np.random.default_rng(74)
    return write(path, list(activations(attempts, clients, attempts / 1_000, generator)))


def main() -> None:
    """Write one capture and say what it holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=("mixed", "kms"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--packets", type=int, default=1_447_200)
    parser.add_argument("--activations", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=20_000)
    chosen = parser.parse_args()
    if chosen.kind == "mixed":
        count = mixed(chosen.file, chosen.packets)
    else:
        count = only_kms(chosen.file, chosen.activations, chosen.clients)
    print(f"{chosen.file}: {count:,} packets, {chosen.file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
