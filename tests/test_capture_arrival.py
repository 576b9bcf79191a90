"""The first final response among packets as they come."""

import ipaddress
import struct

import pytest

from kmsdiag.capture.arrival import CONNECTIONS, FirstResponse
from kmsdiag.model.outcome import ConversationOutcome
from kmsdiag.model.request import KMS_INTERFACE
from kmsdiag.wire.rpc import encode_bind

CLIENT, HOST = bytes((10, 1, 0, 5)), bytes((10, 1, 0, 8))
SYN, ACK, PSH, RST = 0x02, 0x10, 0x08, 0x04
ETHERNET = 1


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack("<BBBB4sHHI", 5, 0, kind, 3, b"\x10\0\0\0", 16 + len(body), 0, 2) + body


ACCEPT = pdu(
    12,
    struct.pack("<HHIH", 5840, 5840, 1, 5)
    + b"1688\0\0"[: 5 + 1]
    + struct.pack("<BBH", 1, 0, 0)
    + struct.pack("<HH", 0, 0)
    + bytes.fromhex("045d888aeb1cc9119fe808002b104860")
    + struct.pack("<I", 2),
)
REQUEST = pdu(0, struct.pack("<IHH", 268, 0, 0) + struct.pack("<IIHH", 260, 260, 0, 6) + bytes(256))


def refusal(hresult: int) -> bytes:
    return pdu(2, struct.pack("<IHBB", 12, 0, 0, 0) + struct.pack("<III", 0, 0, hresult))


class Wire:
    """Frames of one connection, with sequence numbers that fit."""

    def __init__(self, port: int = 50_000, client: bytes = CLIENT, kms: int = 1688) -> None:
        self.port, self.client, self.kms = port, client, kms
        self.next = {True: 1_000, False: 9_000}
        self.at = 1_780_000_000_000_000_000

    def frame(self, payload: bytes = b"", flags: int = PSH | ACK, *, up: bool = True) -> tuple[int, int, bytes]:
        ends = (self.client, HOST) if up else (HOST, self.client)
        ports = (self.port, self.kms) if up else (self.kms, self.port)
        tcp = struct.pack(">HHIIBBHHH", *ports, self.next[up], self.next[not up], 0x50, flags, 64_000, 0, 0) + payload
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + b"".join(ends)
        self.next[up] += len(payload) + bool(flags & SYN)
        self.at += 1_000_000
        return ETHERNET, self.at, bytes(12) + b"\x08\0" + ip + tcp

    def opening(self) -> list[tuple[int, int, bytes]]:
        return [self.frame(flags=SYN), self.frame(flags=SYN | ACK, up=False), self.frame(flags=ACK)]

    def activation(self, hresult: int) -> list[tuple[int, int, bytes]]:
        bind = [self.frame(encode_bind(KMS_INTERFACE)), self.frame(ACCEPT, up=False)]
        return [*self.opening(), *bind, self.frame(REQUEST), self.frame(refusal(hresult), up=False)]


def feed(watch: FirstResponse, frames: list[tuple[int, int, bytes]]) -> list[bool]:
    return [watch.feed(*frame) for frame in frames]


@pytest.mark.parametrize("kms", [1688, 7_000])
def test_found_with_the_response_and_not_before(kms: int) -> None:
    watch = FirstResponse()
    frames = Wire(kms=kms).activation(0xC004F042)
    assert feed(watch, frames) == [False] * (len(frames) - 1) + [True]
    assert watch.found is not None
    assert watch.found.outcome is ConversationOutcome.HOST_REFUSED
    assert watch.found.exchanges[0].hresult == "0xC004F042"
    assert watch.feed(*Wire().frame(flags=RST)), "it stays found"


def test_only_the_clients_that_were_asked_for() -> None:
    watch = FirstResponse([ipaddress.ip_network("10.1.0.6/32")])
    assert not any(feed(watch, Wire().activation(0)))
    assert feed(watch, Wire(client=bytes((10, 1, 0, 6))).activation(0xC004F06C))[-1]
    assert watch.found is not None
    assert watch.found.client == "10.1.0.6"


def test_a_bind_is_no_response() -> None:
    watch = FirstResponse()
    wire = Wire()
    frames = [*wire.opening(), wire.frame(encode_bind(KMS_INTERFACE)), wire.frame(ACCEPT, up=False)]
    assert not any(feed(watch, frames))


def test_other_services_and_noise_are_nothing() -> None:
    watch = FirstResponse()
    wire = Wire(kms=443)
    assert not any(feed(watch, [*wire.opening(), wire.frame(b"\x16\x03\x01 hello"), wire.frame(b"\x16\x03", up=False)]))
    assert not watch.feed(ETHERNET, wire.at, b"")
    assert not watch.feed(99_999, wire.at, bytes(60))


def test_memory_is_bounded_by_forgetting_the_quietest() -> None:
    watch = FirstResponse()
    first = Wire(port=1)
    opening = first.activation(0)[:-1]
    feed(watch, opening)
    for number in range(CONNECTIONS):
        watch.feed(*Wire(port=2 + number, client=bytes((10, 2, number >> 8, number & 255))).frame(flags=SYN))
    assert len(watch._connections) == CONNECTIONS
