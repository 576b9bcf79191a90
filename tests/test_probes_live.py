"""The live answerer: what it begins before anybody asks, so that a silent host costs one time limit."""

import asyncio
import time
from typing import NamedTuple

import pytest

from kmsdiag.lab.rpc import Behaviour, RpcHost
from kmsdiag.model.answer import RpcAnswer, TcpAnswer
from kmsdiag.model.outcome import RpcOutcome, TcpOutcome
from kmsdiag.model.request import RpcBind, TcpConnect
from kmsdiag.probes.live import FORESEEN_BINDS, LiveAnswerer
from kmsdiag.probes.settings import ProbeSettings

ADDRESS, PORT, KMS = "10.1.0.8", 1689, 1688
TIMEOUT = 0.8
CONNECT = TcpConnect(address=ADDRESS, port=PORT)
BIND = RpcBind(address=ADDRESS, port=KMS)


class Run(NamedTuple):
    tcp: TcpOutcome
    rpc: RpcOutcome
    seconds: float
    connections: int


def run(published: Behaviour, default: Behaviour, *, foresee: bool = True) -> Run:
    """Connect to the published port, then bind on 1688, as the check does; what came back and how long it took."""

    async def put() -> Run:
        async with RpcHost(published) as other, RpcHost(default) as kms:
            via = {(ADDRESS, PORT): ("127.0.0.1", other.port), (ADDRESS, KMS): ("127.0.0.1", kms.port)}
            settings = ProbeSettings(timeout=TIMEOUT, via=via, foresee_binds=foresee)
            started = time.perf_counter()
            async with LiveAnswerer(settings) as answerer:
                tcp, rpc = await answerer.answer(CONNECT), await answerer.answer(BIND)
            assert isinstance(tcp, TcpAnswer)
            assert isinstance(rpc, RpcAnswer)
            return Run(tcp.outcome, rpc.outcome, time.perf_counter() - started, len(kms.received))

    return asyncio.run(put())


@pytest.mark.parametrize(
    ("default", "outcome"),
    [(Behaviour.SILENT_TCP, RpcOutcome.NO_CONNECTION), (Behaviour.SILENT, RpcOutcome.SILENT)],
)
def test_two_silent_ports_of_a_host_cost_one_time_limit(default: Behaviour, outcome: RpcOutcome) -> None:
    done = run(Behaviour.SILENT_TCP, default)
    assert (done.tcp, done.rpc) == (TcpOutcome.TIMEOUT, outcome)
    assert TIMEOUT * 0.95 < done.seconds < TIMEOUT * 1.5


def test_not_foreseen_they_cost_two() -> None:
    assert run(Behaviour.SILENT_TCP, Behaviour.SILENT_TCP, foresee=False).seconds > TIMEOUT * 1.9


def test_a_bind_begun_early_is_the_one_that_is_asked_for() -> None:
    done = run(Behaviour.SILENT_TCP, Behaviour.KMS)
    assert (done.tcp, done.rpc, done.connections) == (TcpOutcome.TIMEOUT, RpcOutcome.ACCEPTED, 1)


@pytest.mark.parametrize(
    ("published", "port", "attempt", "foresee"),
    [
        (Behaviour.KMS, PORT, 1, True),
        (Behaviour.REFUSED, PORT, 1, True),
        (Behaviour.SILENT_TCP, KMS, 1, True),
        (Behaviour.SILENT_TCP, PORT, 2, True),
        (Behaviour.SILENT_TCP, PORT, 1, False),
    ],
    ids=["open", "refused", "1688 itself", "second try", "not wanted"],
)
def test_nothing_is_begun_that_nobody_will_ask(published: Behaviour, port: int, attempt: int, *, foresee: bool) -> None:
    async def put() -> int:
        async with RpcHost(published) as other, RpcHost(Behaviour.KMS) as kms:
            nowhere = ("127.0.0.1", kms.port)
            settings = ProbeSettings(
                timeout=0.3,
                via={(ADDRESS, port): ("127.0.0.1", other.port)},
                elsewhere=nowhere,
                foresee_binds=foresee,
            )
            async with LiveAnswerer(settings) as answerer:
                await answerer.answer(TcpConnect(address=ADDRESS, port=port, attempt=attempt))
            return len(kms.received)

    assert asyncio.run(put()) == 0


def test_it_has_an_end() -> None:
    # Each of them is a connection that nobody has counted.
    async def put() -> int:
        async with RpcHost(Behaviour.SILENT_TCP) as other, RpcHost(Behaviour.SILENT) as kms:
            addresses = [f"10.1.0.{number}" for number in range(FORESEEN_BINDS + 3)]
            via = {(address, PORT): ("127.0.0.1", other.port) for address in addresses}
            settings = ProbeSettings(timeout=0.4, via=via, elsewhere=("127.0.0.1", kms.port), foresee_binds=True)
            async with LiveAnswerer(settings) as answerer:
                connects = (answerer.answer(TcpConnect(address=address, port=PORT)) for address in addresses)
                await asyncio.gather(*connects)
            return len(kms.received)

    assert asyncio.run(put()) == FORESEEN_BINDS


def test_leaving_early_leaves_nothing_behind() -> None:
    async def put() -> float:
        async with RpcHost(Behaviour.SILENT_TCP) as other, RpcHost(Behaviour.SILENT) as kms:
            via = {(ADDRESS, PORT): ("127.0.0.1", other.port), (ADDRESS, KMS): ("127.0.0.1", kms.port)}
            started = time.perf_counter()
            async with LiveAnswerer(ProbeSettings(timeout=2, via=via, foresee_binds=True)) as answerer:
                task = asyncio.ensure_future(answerer.answer(CONNECT))
                await asyncio.sleep(0.7)
                assert len(kms.received) == 1
                task.cancel()
            return time.perf_counter() - started

    assert asyncio.run(put()) < 1.2
