import asyncio
import errno
import ipaddress
import socket
import struct
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.lab.rpc import Behaviour, RpcHost
from kmsdiag.model.answer import Icmp, TcpAnswer
from kmsdiag.model.outcome import State, TcpOutcome
from kmsdiag.model.request import TcpConnect
from kmsdiag.probes import tcp
from kmsdiag.probes.live import LiveAnswerer
from kmsdiag.probes.settings import ProbeSettings

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which ICMP error it was")

ICMP = Icmp(3, 13, "10.0.0.1", "communication administratively prohibited")
ORIGIN_LOCAL, ORIGIN_ICMP, ORIGIN_ICMP6 = 1, 2, 3


def queued(number: int, origin: int, kind: int, code: int, sender: str = "") -> bytes:
    """What the kernel puts into the error queue: struct sock_extended_err and the address of the sender."""
    head = struct.pack("=IBBBBII", number, origin, kind, code, 0, 0, 0)
    if not sender:
        return head + struct.pack("=HHI8x", 0, 0, 0)
    address = ipaddress.ip_address(sender)
    if address.version == 4:
        return head + struct.pack("=HH4s8x", socket.AF_INET, 0, address.packed)
    return head + struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, address.packed, 0)


def ask(request: TcpConnect, **settings: object) -> TcpAnswer:
    async def put() -> TcpAnswer:
        async with LiveAnswerer(ProbeSettings(**{"timeout": 0.4, **settings})) as answerer:  # type: ignore[arg-type]
            answer = await answerer.answer(request)
        assert isinstance(answer, TcpAnswer)
        return answer

    return asyncio.run(put())


def ask_lab(behaviour: Behaviour, family: socket.AddressFamily = socket.AF_INET, attempt: int = 1) -> TcpAnswer:
    async def put() -> TcpAnswer:
        async with RpcHost(behaviour, family=family) as host:
            address = "::1" if family == socket.AF_INET6 else "127.0.0.1"
            return await tcp.ask(
                TcpConnect(address=address, port=host.port, attempt=attempt), ProbeSettings(timeout=0.4)
            )

    return asyncio.run(put())


@linux
class TestIcmp:
    @pytest.mark.parametrize(
        ("record", "icmp"),
        [
            (
                queued(errno.EHOSTUNREACH, ORIGIN_ICMP, 3, 1, "10.0.0.1"),
                Icmp(3, 1, "10.0.0.1", "host unreachable"),
            ),
            (queued(errno.EHOSTUNREACH, ORIGIN_ICMP, 3, 13, "10.0.0.1"), ICMP),
            (
                queued(errno.ECONNREFUSED, ORIGIN_ICMP, 3, 3, "10.1.0.8"),
                Icmp(3, 3, "10.1.0.8", "port unreachable"),
            ),
            (queued(errno.ENETUNREACH, ORIGIN_ICMP, 3, 0, "10.0.0.1"), Icmp(3, 0, "10.0.0.1", "network unreachable")),
            (
                queued(errno.EACCES, ORIGIN_ICMP6, 1, 1, "fd00::1"),
                Icmp(1, 1, "fd00::1", "communication administratively prohibited"),
            ),
            (
                queued(errno.EHOSTUNREACH, ORIGIN_ICMP6, 1, 3, "fd00::1"),
                Icmp(1, 3, "fd00::1", "address unreachable"),
            ),
            (queued(errno.ECONNREFUSED, ORIGIN_ICMP6, 1, 4, "fd00::1"), Icmp(1, 4, "fd00::1", "port unreachable")),
            (queued(errno.EHOSTUNREACH, ORIGIN_ICMP, 3, 77, "10.0.0.1"), Icmp(3, 77, "10.0.0.1", "code 77")),
            (queued(errno.EPROTO, ORIGIN_ICMP, 11, 0, "10.0.0.1"), Icmp(11, 0, "10.0.0.1", "time to live exceeded")),
            (queued(errno.EHOSTUNREACH, ORIGIN_ICMP, 3, 1), Icmp(3, 1, "", "host unreachable")),
            (queued(errno.EHOSTUNREACH, ORIGIN_LOCAL, 0, 0), None),
            (b"", None),
            (b"\0" * 15, None),
        ],
    )
    def test_the_error_queue(self, record: bytes, icmp: Icmp | None) -> None:
        assert tcp.icmp_of(record) == icmp

    @given(st.binary(max_size=60))
    def test_any_bytes(self, record: bytes) -> None:
        found = tcp.icmp_of(record)
        assert found is None or record[4] in (ORIGIN_ICMP, ORIGIN_ICMP6)


class TestOutcome:
    @pytest.mark.parametrize(
        ("number", "outcome"),
        [
            (errno.ECONNREFUSED, TcpOutcome.REFUSED),
            (errno.ETIMEDOUT, TcpOutcome.TIMEOUT),
            (errno.EHOSTUNREACH, TcpOutcome.UNREACHABLE),
            (errno.ENETUNREACH, TcpOutcome.UNREACHABLE),
            (errno.EACCES, TcpOutcome.UNREACHABLE),
            (errno.ENOPROTOOPT, TcpOutcome.UNREACHABLE),
            (errno.ECONNRESET, TcpOutcome.RESET),
            (errno.ECONNABORTED, TcpOutcome.RESET),
            (errno.EPIPE, TcpOutcome.RESET),
            (errno.EMFILE, TcpOutcome.LOCAL_ERROR),
            (errno.EADDRNOTAVAIL, TcpOutcome.LOCAL_ERROR),
            (errno.EPERM, TcpOutcome.LOCAL_ERROR),
            (0, TcpOutcome.LOCAL_ERROR),
            (10061, TcpOutcome.REFUSED),
            (10060, TcpOutcome.TIMEOUT),
            (10054, TcpOutcome.RESET),
        ],
    )
    def test_every_errno_has_one_outcome(self, number: int, outcome: TcpOutcome) -> None:
        assert tcp.outcome_of(OSError(number, "text does not matter"), ICMP) is outcome

    @linux
    @pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES])
    def test_without_an_icmp_error_it_is_this_machine_that_has_no_route(self, number: int) -> None:
        outcome = tcp.outcome_of(OSError(number, ""), None)
        assert outcome is TcpOutcome.NO_ROUTE
        assert outcome.state is State.UNKNOWN

    @pytest.mark.parametrize("outcome", TcpOutcome)
    def test_what_never_left_this_machine_blames_nobody(self, outcome: TcpOutcome) -> None:
        local = outcome in (TcpOutcome.NO_ROUTE, TcpOutcome.LOCAL_ERROR)
        assert (outcome.state is State.UNKNOWN) == local
        assert (outcome.state is State.OK) == (outcome is TcpOutcome.OPEN)


class TestLoopback:
    @pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
    def test_open(self, family: socket.AddressFamily) -> None:
        answer = ask_lab(Behaviour.KMS, family)
        assert answer.outcome is TcpOutcome.OPEN
        assert (answer.errno, answer.icmp, answer.retransmits) == ("", None, 0)
        assert answer.waited_s == 0.4
        if sys.platform == "linux":
            assert answer.rtt_ms is not None
            assert 0 < answer.rtt_ms < 100

    @pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
    def test_refused_at_once(self, family: socket.AddressFamily) -> None:
        answer = ask_lab(Behaviour.REFUSED, family)
        assert (answer.outcome, answer.errno) == (TcpOutcome.REFUSED, "ECONNREFUSED")
        assert answer.elapsed_ms < 200
        assert answer.rtt_ms is None

    @linux
    def test_silent_until_the_limit(self) -> None:
        answer = ask_lab(Behaviour.SILENT_TCP)
        assert answer.outcome is TcpOutcome.TIMEOUT
        assert 390 < answer.elapsed_ms < 1500

    def test_later_attempts_are_spaced(self) -> None:
        started = time.perf_counter()
        answer = ask_lab(Behaviour.KMS, attempt=3)
        assert answer.outcome is TcpOutcome.OPEN
        assert time.perf_counter() - started > 2 * tcp.TRY_SPACING
        # Waiting for its turn is no part of the connection.
        assert answer.elapsed_ms < 1000 * tcp.TRY_SPACING

    @linux
    def test_no_route_says_nothing_about_the_host(self) -> None:
        """The kernel refuses to connect to the broadcast address by itself."""
        answer = ask(TcpConnect(address="255.255.255.255", port=1688))
        assert answer.outcome is TcpOutcome.NO_ROUTE
        assert answer.errno in ("ENETUNREACH", "EACCES")

    def test_a_scope_that_no_interface_has(self) -> None:
        answer = ask(TcpConnect(address="fe80::1%nowhere0", port=1688))
        assert answer.outcome is TcpOutcome.NO_ROUTE

    def test_a_source_address_that_is_not_ours(self) -> None:
        answer = ask(TcpConnect(address="127.0.0.1", port=1), source="192.0.2.77")
        assert (answer.outcome, answer.errno) == (TcpOutcome.LOCAL_ERROR, "EADDRNOTAVAIL")

    @linux
    def test_the_source_address_is_used(self) -> None:
        async def put() -> str:
            peers: list[str] = []
            accepted = asyncio.Event()

            def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                peers.append(writer.get_extra_info("peername")[0])
                accepted.set()
                writer.close()

            async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
                port = server.sockets[0].getsockname()[1]
                answer = await tcp.ask(TcpConnect(address="127.0.0.1", port=port), ProbeSettings(source="127.0.0.9"))
                assert answer.outcome is TcpOutcome.OPEN
                await asyncio.wait_for(accepted.wait(), 5)
            return peers[0]

        assert asyncio.run(put()) == "127.0.0.9"

    def test_no_descriptors_are_left(self) -> None:
        if sys.platform != "linux":
            pytest.skip("counts /proc/self/fd")
        from pathlib import Path

        def count() -> int:
            return len(list(Path("/proc/self/fd").iterdir()))

        before = count()
        for behaviour in (Behaviour.KMS, Behaviour.REFUSED, Behaviour.SILENT_TCP):
            ask_lab(behaviour)
        assert count() == before
