"""Runs of the lab's scenarios, made once for all test modules that look at them, and servers in a thread."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from kmsdiag import api, diagnosis
from kmsdiag.bundle import Bundle
from kmsdiag.lab.scenarios import SCENARIOS
from kmsdiag.lab.world import Scenario, running
from kmsdiag.model.report import Report, Vantage
from kmsdiag.registry import discover

T = TypeVar("T")

NAMES = tuple(scenario.name for scenario in SCENARIOS)


class Run(NamedTuple):
    """One scenario, run live: what was learned, what it means, and every byte that the lab's hosts received."""

    scenario: Scenario
    bundle: Bundle
    report: Report
    heard: tuple[bytes, ...]


async def run_scenario(scenario: Scenario) -> Run:
    """Start the scenario's world, ask it everything, judge."""
    registry = discover()
    async with running(scenario) as lab:
        bundle = await api.record(
            scenario.target(), registry=registry, settings=lab.settings, vantage=Vantage(label="lab")
        )
        heard = tuple(bytes(one) for host in lab.hosts for one in host.received)
    return Run(scenario, bundle, diagnosis.judge(bundle, registry), heard)


@functools.cache
def runs() -> Mapping[str, Run]:
    """Every scenario of ``kmsdiag demo``, run once and all together."""

    async def together() -> list[Run]:
        return list(await asyncio.gather(*(run_scenario(scenario) for scenario in SCENARIOS)))

    return MappingProxyType({run.scenario.name: run for run in asyncio.run(together())})


@contextlib.contextmanager
def in_thread(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Run an asynchronous context in a thread of its own, for tests of code that brings its own loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def call(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    async def enter() -> tuple[AbstractAsyncContextManager[T], T]:
        context = make()
        return context, await context.__aenter__()

    context, value = call(enter())
    try:
        yield value
    finally:

        async def leave() -> None:
            await context.__aexit__(None, None, None)
            await asyncio.sleep(0)
            rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        call(leave())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextlib.asynccontextmanager
async def udp_server(reply: Callable[[bytes], list[bytes]]) -> AsyncIterator[int]:
    """A UDP server on loopback that sends back whatever ``reply`` makes of a datagram; its port."""

    class Protocol(asyncio.DatagramProtocol):
        transport: asyncio.DatagramTransport

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            for datagram in reply(data):
                self.transport.sendto(datagram, address)

    loop = asyncio.get_running_loop()
    transport, _protocol = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.abort()
