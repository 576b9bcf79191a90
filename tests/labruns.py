"""Runs of the lab's scenarios, made once for all test modules that look at them, and servers in a thread."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import msgspec

from kmsdiag import api, diagnosis
from kmsdiag.bundle import Bundle
from kmsdiag.check import CheckMeta, whole_run
from kmsdiag.lab.scenarios import SCENARIOS
from kmsdiag.lab.world import Scenario, running
from kmsdiag.model.answer import Icmp
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import DnsOutcome, RpcOutcome, TcpOutcome
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.request import AddressQuery, Request
from kmsdiag.model.target import Family, HostSpec, Subject, Target
from kmsdiag.registry import BrokenCheck, LoadedCheck, Registry, discover
from tests.conftest import World, record

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


NASTY = (
    "\x1b[2J\x1b]0;owned\x07",
    "a\nDO THIS: reboot",
    "\r\n# Heading",
    "\u202eexe.gnp",
    "zero\u200bwidth\ufeff",
    "\u2028line",
    "<script>alert(1)</script><img src=x>",
    "[link](javascript:alert(1)) ![i](http://x.example/i.png)",
    "`code` ```\nfence\n```",
    "*bold* _em_ ~~strike~~ |cell| **x**",
    "http://x.example/ www.x.example me@x.example",
    "'; reboot; ‘$(reboot)`reboot`’",
    "&amp; &lt;b&gt; &#x1b;",
    "</td></table><!-- ",
)
"""Strings that act somewhere: in terminals, Markdown, HTML, shells."""


def hostile_bundle() -> Bundle:
    """A run in which everything that comes from outside is hostile, and a good deal of it."""
    domains = tuple(f"d{number}{text}.example" for number, text in enumerate(NASTY))
    world = World(*domains, hosts=(HostSpec(NASTY[0]), HostSpec(NASTY[6], 1689)))
    for number, (domain, text) in enumerate(zip(domains, NASTY, strict=True)):
        address = f"10.1.0.{number}"
        world.srv(record(f"k{text}.example"), record(f"{text}.example", 1), domain=domain, detail=text)
        world.name(f"k{text}.example", address, chain=(f"c{text}.example",))
        world.tcp(address)
        outcome = list(RpcOutcome)[number % len(RpcOutcome)]
        world.rpc(address, outcome, detail=text, excerpt=text)
        world.gap(AddressQuery(name=f"{text}.example", family=Family.IPV4), reason=text)
    world.tcp("10.1.0.3", TcpOutcome.UNREACHABLE, icmp=Icmp(3, 1, NASTY[0], NASTY[8]))
    bad = World(NASTY[6], servers=("10.1.0.2",)).srv(
        outcome=DnsOutcome.MALFORMED, domain=NASTY[6], server="10.1.0.2", detail=NASTY[8]
    )
    bundle = world.bundle()
    return msgspec.structs.replace(
        bundle,
        vantage=Vantage(label=NASTY[1], host=NASTY[0], system=NASTY[6], addresses=(NASTY[7],)),
        tool=NASTY[9],
        facts=(*bundle.facts, *bad.bundle().facts),
    )


class _Crashing:
    """A check whose title, codes and crash are hostile too."""

    META = CheckMeta(title=NASTY[6], codes={}, tags=frozenset(), since="0.1")

    def subjects(self, target: Target, /) -> Iterator[Subject]:
        return whole_run(target)

    def ask(self, subject: Subject, seen: Evidence, /) -> Iterator[Request[Any]]:
        return iter(())

    def judge(self, subject: Subject, seen: Evidence, /) -> Iterator[Finding]:
        raise RuntimeError(" ".join(NASTY))


def hostile_report() -> Report:
    """What is said about the hostile run, by all checks and one that crashes and one that could not be loaded."""
    registry = Registry(
        (*discover().checks, LoadedCheck("tcp_crash", _Crashing(), NASTY[0])),
        (BrokenCheck("tcp_broken", NASTY[1], NASTY[6]),),
    )
    return diagnosis.judge(hostile_bundle(), registry)
