import asyncio
import socket
import struct
import sys
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from kmsdiag.lab.rpc import REQUEST, Behaviour, RpcHost
from kmsdiag.model.answer import RpcAnswer
from kmsdiag.model.outcome import RpcOutcome
from kmsdiag.model.request import KMS_INTERFACE, RpcBind
from kmsdiag.probes import rpc as probe
from kmsdiag.probes.settings import ProbeSettings
from kmsdiag.wire import rpc
from tests.labruns import NAMES, runs

TIMEOUT = 0.5
NOBODYS = "00000000-dead-beef-0000-000000000000"

EXPECTED = {
    Behaviour.KMS: RpcOutcome.ACCEPTED,
    Behaviour.REFUSED: RpcOutcome.NO_CONNECTION,
    Behaviour.SILENT_TCP: RpcOutcome.NO_CONNECTION,
    Behaviour.SILENT: RpcOutcome.SILENT,
    Behaviour.CLOSE: RpcOutcome.CLOSED,
    Behaviour.RESET: RpcOutcome.RESET,
    Behaviour.HALF: RpcOutcome.INCOMPLETE,
    Behaviour.DRIP: RpcOutcome.INCOMPLETE,
    Behaviour.HTTP: RpcOutcome.OTHER_PROTOCOL,
    Behaviour.TLS: RpcOutcome.OTHER_PROTOCOL,
    Behaviour.SSH: RpcOutcome.OTHER_PROTOCOL,
    Behaviour.GARBAGE: RpcOutcome.MALFORMED,
    Behaviour.LYING: RpcOutcome.MALFORMED,
    Behaviour.ENDLESS: RpcOutcome.MALFORMED,
    Behaviour.FRAGMENTS: RpcOutcome.MALFORMED,
    Behaviour.OTHER_INTERFACE: RpcOutcome.REJECTED,
    Behaviour.USER_REJECTION: RpcOutcome.REJECTED,
    Behaviour.NAK: RpcOutcome.NAK,
    Behaviour.FAULT: RpcOutcome.FAULT,
    Behaviour.ANYTHING: RpcOutcome.ACCEPTED,
    Behaviour.ONE_CONNECTION: RpcOutcome.ACCEPTED,
    # Its first SYN is lost, and the second comes after a second.
    Behaviour.LOSSY: RpcOutcome.NO_CONNECTION,
}
DETAILS = {
    Behaviour.KMS: "NDR64",
    Behaviour.REFUSED: "ECONNREFUSED",
    Behaviour.SILENT_TCP: "timeout",
    Behaviour.HALF: "30 of 108 bytes, then nothing more",
    Behaviour.HTTP: "HTTP",
    Behaviour.TLS: "TLS",
    Behaviour.SSH: "SSH",
    Behaviour.GARBAGE: "the bytes belong to no protocol that is known here",
    Behaviour.LYING: "fragment length 65535 is outside 16 to 5840",
    Behaviour.ENDLESS: "a bind_ack in several fragments",
    Behaviour.FRAGMENTS: "a bind_ack in several fragments",
    Behaviour.OTHER_INTERFACE: "provider_rejection, abstract_syntax_not_supported",
    Behaviour.USER_REJECTION: "user_rejection, reason_not_specified",
    Behaviour.NAK: "local_limit_exceeded",
    Behaviour.FAULT: "nca_unk_if",
}


def bind(behaviour: Behaviour, interface: str = KMS_INTERFACE, timeout: float = TIMEOUT) -> RpcAnswer:
    async def put() -> RpcAnswer:
        async with RpcHost(behaviour) as host:
            return await probe.ask(
                RpcBind(address="127.0.0.1", port=host.port, interface=interface), ProbeSettings(timeout=timeout)
            )

    return asyncio.run(put())


def answered_with(data: bytes, *, close: bool = True) -> RpcAnswer:
    """What the probe makes of a server that answers a bind with these bytes."""

    async def put() -> RpcAnswer:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(160)
            writer.write(data)
            if close:
                writer.close()
            else:
                await reader.read()
                writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            answer = await probe.ask(RpcBind(address="127.0.0.1", port=port), ProbeSettings(timeout=TIMEOUT))
            await asyncio.sleep(0)
        return answer

    return asyncio.run(put())


def pdus(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of each PDU of a connection, which must hold nothing else."""
    while data:
        header = rpc.decode_header(data)
        assert len(data) >= header.length
        yield header.type, data[: header.length]
        data = data[header.length :]


def test_every_behaviour_has_an_expectation() -> None:
    assert set(EXPECTED) == set(Behaviour)


@pytest.mark.parametrize("behaviour", Behaviour)
def test_outcome_within_the_limit(behaviour: Behaviour) -> None:
    if behaviour in (Behaviour.SILENT_TCP, Behaviour.LOSSY) and sys.platform != "linux":
        pytest.skip("a full backlog is silent only on Linux")
    started = time.perf_counter()
    answer = bind(behaviour)
    took = time.perf_counter() - started
    assert answer.outcome is EXPECTED[behaviour]
    assert took < TIMEOUT + 1
    assert answer.elapsed_ms < (TIMEOUT + 1) * 1000
    if behaviour in DETAILS:
        assert answer.detail == DETAILS[behaviour]
    assert len(answer.received) <= probe.KEEP
    assert answer.excerpt.removesuffix("…").isascii()
    assert answer.excerpt.isprintable()
    assert len(answer.excerpt) <= 4 * 64 + 1


def test_no_request_ever_leaves() -> None:
    """Every byte that any host of any scenario received: binds, and nothing but binds."""
    seen = 0
    for name in NAMES:
        for heard in runs()[name].heard:
            for kind, pdu in pdus(heard):
                assert kind == rpc.BIND
                assert kind != REQUEST
                assert len(pdu) == 160
                seen += 1
    assert seen >= 10


@pytest.mark.parametrize("behaviour", [one for one in Behaviour if one not in (Behaviour.SILENT_TCP, Behaviour.LOSSY)])
def test_one_bind_whatever_comes_back(behaviour: Behaviour) -> None:
    async def put() -> list[bytes]:
        async with RpcHost(behaviour) as host:
            await probe.ask(RpcBind(address="127.0.0.1", port=host.port), ProbeSettings(timeout=0.2))
            await asyncio.sleep(0.01)
            return [bytes(one) for one in host.received]

    heard = asyncio.run(put())
    assert heard == ([] if behaviour is Behaviour.REFUSED else [rpc.encode_bind(KMS_INTERFACE)])


def test_a_genuine_server_rejects_what_nobody_has() -> None:
    answer = bind(Behaviour.KMS, NOBODYS)
    assert (answer.outcome, answer.reason) == (RpcOutcome.REJECTED, 1)
    assert bind(Behaviour.ANYTHING, NOBODYS).outcome is RpcOutcome.ACCEPTED


def test_a_host_with_one_connection_to_give() -> None:
    async def put() -> list[RpcOutcome]:
        async with RpcHost(Behaviour.ONE_CONNECTION) as host:
            request = RpcBind(address="127.0.0.1", port=host.port)
            settings = ProbeSettings(timeout=TIMEOUT)
            return [(await probe.ask(request, settings)).outcome for _ in range(2)]

    assert asyncio.run(put()) == [RpcOutcome.ACCEPTED, RpcOutcome.NO_CONNECTION]


def test_the_answer_in_full() -> None:
    answer = bind(Behaviour.KMS)
    assert answer.secondary_address == "1688"
    assert [(one.result, one.reason, one.syntax) for one in answer.contexts] == [
        (2, 2, "00000000-0000-0000-0000-000000000000"),
        (0, 0, "NDR64"),
        (3, 3, "00000000-0000-0000-0000-000000000000"),
    ]
    assert answer.excerpt == ""
    assert rpc.decode_bind_ack(answer.received).secondary_address == "1688"


def test_an_endless_answer_costs_no_memory() -> None:
    bind(Behaviour.ENDLESS)
    tracemalloc.start()
    try:
        before, _peak = tracemalloc.get_traced_memory()
        answer = bind(Behaviour.ENDLESS)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.outcome is RpcOutcome.MALFORMED
    assert len(answer.received) == probe.KEEP
    assert peak - before < 4 * 1024 * 1024


def test_connecting_and_reading_share_one_limit() -> None:
    """A server that sends a byte now and then gets no more time for each of them."""
    answer = bind(Behaviour.DRIP, timeout=1.3)
    assert answer.outcome is RpcOutcome.INCOMPLETE
    assert 1 <= len(answer.received) <= 3
    assert answer.elapsed_ms < 2500


class TestBytes:
    def test_a_whole_answer_does_not_wait_for_the_connection_to_end(self) -> None:
        data = struct.pack("<BBBB4sHHI", 5, 0, rpc.BIND_NAK, 3, b"\x10\0\0\0", 18, 0, 2) + b"\x01\0"
        answer = answered_with(data, close=False)
        assert (answer.outcome, answer.reason, answer.detail) == (RpcOutcome.NAK, 1, "temporary_congestion")
        assert answer.elapsed_ms < TIMEOUT * 1000

    def test_big_endian_nak(self) -> None:
        data = struct.pack(">BBBB4sHHI", 5, 0, rpc.BIND_NAK, 3, b"\0\0\0\0", 18, 0, 2) + b"\0\x04"
        assert answered_with(data).detail == "protocol_version_not_supported"

    def test_an_unknown_reason_keeps_its_number(self) -> None:
        data = struct.pack("<BBBB4sHHI", 5, 0, rpc.BIND_NAK, 3, b"\x10\0\0\0", 18, 0, 2) + b"\x63\0"
        answer = answered_with(data)
        assert (answer.reason, answer.detail) == (99, "reason 99")

    def test_another_pdu(self) -> None:
        data = struct.pack("<BBBB4sHHI", 5, 0, 15, 3, b"\x10\0\0\0", 16, 0, 2)
        answer = answered_with(data)
        assert (answer.outcome, answer.detail) == (
            RpcOutcome.MALFORMED,
            "a PDU of type 15 where a bind_ack belongs",
        )

    @pytest.mark.parametrize(
        ("data", "close", "detail"),
        [
            (b"\x05", True, "1 bytes of a PDU header, then the connection was closed"),
            (b"\x05\x00\x0c\x03", False, "4 bytes of a PDU header, then nothing more"),
            (
                struct.pack("<BBBB4sHHI", 5, 0, 12, 3, b"\x10\0\0\0", 100, 0, 2),
                True,
                "16 of 100 bytes, then the connection was closed",
            ),
        ],
    )
    def test_cut_short(self, data: bytes, *, close: bool, detail: str) -> None:
        answer = answered_with(data, close=close)
        assert (answer.outcome, answer.detail) == (RpcOutcome.INCOMPLETE, detail)

    def test_no_result_for_the_interface(self) -> None:
        body = struct.pack("<HHIH", 5840, 5840, 1, 0) + b"\0\0" + struct.pack("<BBH", 1, 0, 0)
        body += struct.pack("<HH16sI", 3, 3, b"", 0)
        data = struct.pack("<BBBB4sHHI", 5, 0, 12, 3, b"\x10\0\0\0", 16 + len(body), 0, 2) + body
        answer = answered_with(data)
        assert (answer.outcome, answer.detail) == (
            RpcOutcome.MALFORMED,
            "a bind_ack without a result for the interface",
        )

    def test_a_terminal_escape_in_a_banner_is_shown_not_obeyed(self) -> None:
        answer = answered_with(b"\x1b]0;owned\x07\x1b[2J hello")
        assert answer.excerpt == "\\x1b]0;owned\\x07\\x1b[2J hello"


def test_ipv6() -> None:
    async def put() -> RpcAnswer:
        async with RpcHost(Behaviour.KMS, family=socket.AF_INET6) as host:
            return await probe.ask(RpcBind(address="::1", port=host.port), ProbeSettings(timeout=TIMEOUT))

    assert asyncio.run(put()).outcome is RpcOutcome.ACCEPTED
