import asyncio
import errno
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.lab.rpc import Behaviour, RpcHost
from kmsdiag.model.answer import Hop, Icmp, TraceAnswer
from kmsdiag.model.outcome import TraceOutcome
from kmsdiag.model.request import TcpTrace
from kmsdiag.probes import trace
from kmsdiag.probes.live import LiveAnswerer
from kmsdiag.probes.settings import ProbeSettings
from kmsdiag.probes.trace import Echo, echo_of, read

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which router it was")

HOST, HOST6 = "10.1.0.8", "fd00:1::8"
A, B = "10.9.0.1", "172.16.3.1"


def ask(address: str, port: int = 1688, **settings: object) -> TraceAnswer:
    async def put() -> TraceAnswer:
        async with LiveAnswerer(ProbeSettings(**{"timeout": 0.4, **settings})) as answerer:  # type: ignore[arg-type]
            answer = await answerer.answer(TcpTrace(address=address, port=port))
        assert isinstance(answer, TraceAnswer)
        return answer

    return asyncio.run(put())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestRead:
    @pytest.mark.parametrize(
        ("echoes", "outcome", "hops", "detail"),
        [
            ({}, TraceOutcome.STOPPED, (), ""),
            ({1: Echo(A, 0.5)}, TraceOutcome.STOPPED, (Hop(1, A, 0.5),), ""),
            (
                {1: Echo(A, 0.5), 3: Echo(B, 0.7)},
                TraceOutcome.STOPPED,
                (Hop(1, A, 0.5), Hop(2, "", -1.0), Hop(3, B, 0.7)),
                "",
            ),
            (
                {1: Echo(A, 0.5), 2: Echo(HOST, 0.7, "it answers", arrived=True)},
                TraceOutcome.REACHED,
                (Hop(1, A, 0.5), Hop(2, HOST, 0.7)),
                "it answers",
            ),
            # Behind the host there is nothing: all larger TTLs lead to it as well.
            (
                {2: Echo(HOST, 0.7, "first", arrived=True), 3: Echo(HOST, 0.8, "second", arrived=True), 4: Echo(B, 1)},
                TraceOutcome.REACHED,
                (Hop(1, "", -1.0), Hop(2, HOST, 0.7)),
                "first",
            ),
            (
                {1: Echo(A, 0.5), 2: Echo(A, 0.7, "host unreachable, said by 10.9.0.1")},
                TraceOutcome.STOPPED,
                (Hop(1, A, 0.5), Hop(2, A, 0.7)),
                "host unreachable, said by 10.9.0.1",
            ),
        ],
    )
    def test_what_the_echoes_say(
        self, echoes: dict[int, Echo], outcome: TraceOutcome, hops: tuple[Hop, ...], detail: str
    ) -> None:
        assert read(echoes, HOST) == (outcome, hops, detail)

    @given(
        st.dictionaries(
            st.integers(1, trace.FARTHEST),
            st.builds(Echo, st.sampled_from([A, B, HOST]), st.floats(0, 2000), st.sampled_from(["", "end"])),
        )
    )
    def test_hops_are_numbered_from_here(self, echoes: dict[int, Echo]) -> None:
        _outcome, hops, _detail = read(echoes, HOST)
        assert [hop.ttl for hop in hops] == list(range(1, len(hops) + 1))
        assert not hops or hops[-1].address


class TestEcho:
    @pytest.mark.parametrize(
        ("icmp", "address", "echo"),
        [
            (Icmp(11, 0, A, "type 11 code 0"), HOST, Echo(A, 1.0)),
            (Icmp(3, 0, "fd00:9::1", "type 3 code 0"), HOST6, Echo("fd00:9::1", 1.0)),
            # Type 3 is another thing in the other family.
            (Icmp(3, 0, A, "network unreachable"), HOST, Echo(A, 1.0, f"network unreachable, said by {A}")),
            (Icmp(11, 0, HOST, "type 11 code 0"), HOST, Echo(HOST, 1.0)),
            (Icmp(3, 3, HOST, "port unreachable"), HOST, Echo(HOST, 1.0, "it answers by ICMP: port unreachable", True)),
            (Icmp(1, 1, HOST6, "x"), HOST6, Echo(HOST6, 1.0, "it answers by ICMP: x", True)),
        ],
    )
    def test_what_an_icmp_error_says(self, icmp: Icmp, address: str, echo: Echo) -> None:
        assert echo_of(icmp, address, 1.0) == echo


class TestNotPossible:
    @pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
    def test_loopback(self, address: str) -> None:
        answer = ask(address)
        assert (answer.outcome, answer.hops) == (TraceOutcome.NOT_POSSIBLE, ())
        assert "loopback" in answer.detail
        assert answer.elapsed_ms < 100

    @pytest.mark.parametrize("address", ["169.254.3.4", "fe80::1", "fe80::1%nowhere0"])
    def test_link_local(self, address: str) -> None:
        answer = ask(address)
        assert answer.outcome is TraceOutcome.NOT_POSSIBLE
        assert "link-local" in answer.detail

    def test_the_lab(self) -> None:
        answer = ask(HOST, via={(HOST, 1688): ("127.0.0.1", 1)})
        assert (answer.outcome, answer.detail) == (TraceOutcome.NOT_POSSIBLE, "the lab has no routers")

    def test_other_systems(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trace, "_TELLS_HOPS", False)
        answer = ask(HOST)
        assert answer.outcome is TraceOutcome.NOT_POSSIBLE
        assert "only Linux" in answer.detail

    @linux
    def test_a_source_address_that_is_not_ours(self) -> None:
        answer = ask(HOST, source="192.0.2.77")
        assert answer.outcome is TraceOutcome.NOT_POSSIBLE
        assert "EADDRNOTAVAIL" in answer.detail

    @linux
    @pytest.mark.parametrize(
        ("number", "outcome"),
        [
            (errno.EPERM, TraceOutcome.NOT_PERMITTED),
            (errno.EACCES, TraceOutcome.NOT_PERMITTED),
            (errno.EMFILE, TraceOutcome.NOT_POSSIBLE),
        ],
    )
    def test_a_socket_that_is_not_given(
        self, monkeypatch: pytest.MonkeyPatch, number: int, outcome: TraceOutcome
    ) -> None:
        def refuse(*_arguments: object) -> None:
            raise OSError(number, "the text does not matter")

        monkeypatch.setattr(trace, "open_socket", refuse)
        answer = ask(HOST)
        assert (answer.outcome, answer.hops) == (outcome, ())
        assert errno.errorcode[number] in answer.detail


@linux
class TestSockets:
    """On loopback a TTL means nothing: each SYN reaches the host, which is enough to see what is sent to it."""

    @pytest.fixture(autouse=True)
    def loopback_will_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trace, "_obstacle", lambda _address, _settings: "")

    def trace_to(self, behaviour: Behaviour) -> tuple[TraceAnswer, list[bytearray]]:
        async def put() -> tuple[TraceAnswer, list[bytearray]]:
            async with RpcHost(behaviour) as host:
                request = TcpTrace(address="127.0.0.1", port=host.port)
                answer = await trace.ask(request, ProbeSettings(timeout=0.5))
                await asyncio.sleep(0.05)
                return answer, host.received

        return asyncio.run(put())

    def test_accepted_reset_and_nothing_sent(self) -> None:
        answer, received = self.trace_to(Behaviour.KMS)
        assert (answer.outcome, answer.detail) == (TraceOutcome.REACHED, "it accepts the connection")
        assert [(hop.ttl, hop.address) for hop in answer.hops] == [(1, "127.0.0.1")]
        # The host answered the first SYN; it does not get nineteen more.
        assert 1 <= len(received) <= 3
        assert not any(received)

    def test_refused(self) -> None:
        answer, _received = self.trace_to(Behaviour.REFUSED)
        assert (answer.outcome, answer.detail) == (TraceOutcome.REACHED, "it refuses the connection")
        assert answer.elapsed_ms < 300

    def test_silent_until_the_limit(self) -> None:
        answer, _received = self.trace_to(Behaviour.SILENT_TCP)
        assert (answer.outcome, answer.hops) == (TraceOutcome.STOPPED, ())
        assert 490 < answer.elapsed_ms < 1500

    def test_no_descriptors_are_left(self) -> None:
        before = open_files()
        for behaviour in (Behaviour.KMS, Behaviour.REFUSED, Behaviour.SILENT_TCP):
            self.trace_to(behaviour)
        assert open_files() == before

    def test_it_can_be_cancelled(self) -> None:
        async def put() -> int:
            async with RpcHost(Behaviour.SILENT_TCP) as host:
                before = open_files()
                request = TcpTrace(address="127.0.0.1", port=host.port)
                task = asyncio.create_task(trace.ask(request, ProbeSettings(timeout=2)))
                await asyncio.sleep(0.3)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                return open_files() - before

        started = time.perf_counter()
        assert asyncio.run(put()) == 0
        assert time.perf_counter() - started < 1.5


def test_only_a_few_traces_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running = most = 0

    async def follow(_request: TcpTrace, _settings: ProbeSettings) -> dict[int, Echo]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return {1: Echo(A, 0.5)}

    async def put() -> list[TraceAnswer]:
        requests = [TcpTrace(address=f"10.1.0.{number}", port=1688) for number in range(10)]
        return await asyncio.gather(*(trace.ask(request, ProbeSettings()) for request in requests))

    monkeypatch.setattr(trace, "_follow", follow)
    monkeypatch.setattr(trace, "_TELLS_HOPS", True)
    # Twice: the limit belongs to a loop, and a program may have one after the other.
    for _ in range(2):
        answers = asyncio.run(put())
        assert {answer.outcome for answer in answers} == {TraceOutcome.STOPPED}
        # Waiting for its turn is no part of the trace.
        assert max(answer.elapsed_ms for answer in answers) < 60
    assert most == trace.TRACES
