"""A lab world: what DNS says and what hosts do, and how to start it on loopback."""

import contextlib
import socket
from collections.abc import AsyncIterator, Mapping

import msgspec

from kmsdiag.lab.dns import DnsBehaviour, DnsServer
from kmsdiag.lab.rpc import Behaviour, RpcHost
from kmsdiag.lab.time import TimeServer
from kmsdiag.model.answer import MachineAnswer
from kmsdiag.model.request import ClockSource
from kmsdiag.model.target import Expected, HostSpec, Target
from kmsdiag.probes.settings import ProbeSettings


class LabHost(msgspec.Struct, frozen=True):
    """One port of one address, and what happens there. ``clock``: seconds it is ahead (None: it tells no time)."""

    address: str
    behaviour: Behaviour
    port: int = 1688
    clock: float | None = None


class LabServer(msgspec.Struct, frozen=True):
    """One DNS server: zone text by origin, and how it answers."""

    address: str
    zones: Mapping[str, str] = {}
    behaviour: DnsBehaviour = DnsBehaviour.ANSWER


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A world and the question that is put to it.

    ``title`` says what is wrong in it; ``says`` is in the verdict. ``asked`` are the DNS servers that clients use (all,
    where none is named); ``machine`` are the settings of a client in it, which become part of the question.
    """

    name: str
    title: str
    says: str
    domains: tuple[str, ...] = ("contoso.example",)
    servers: tuple[LabServer, ...] = ()
    hosts: tuple[LabHost, ...] = ()
    expected: Expected = Expected()
    explicit: tuple[HostSpec, ...] = ()
    timeout: float = 1.0
    asked: tuple[str, ...] = ()
    machine: MachineAnswer | None = None

    def target(self) -> Target:
        """The question: the scenario's domains and hosts, asked of its own DNS servers."""
        return Target(
            domains=self.domains,
            hosts=self.explicit,
            servers=self.asked or tuple(server.address for server in self.servers),
            machine=self.machine is not None,
            trace=False,
            expected=self.expected,
            nonce=f"lab-{self.name}",
        )


class RunningWorld:
    """A world that runs: ``settings`` lead probes into it; ``hosts`` and ``servers`` hold what it heard."""

    def __init__(self, settings: ProbeSettings, hosts: tuple[RpcHost, ...], servers: tuple[DnsServer, ...]) -> None:
        self.settings = settings
        self.hosts = hosts
        self.servers = servers


@contextlib.asynccontextmanager
async def running(scenario: Scenario) -> AsyncIterator[RunningWorld]:
    """Start every server of the scenario on loopback; stop them at the end.

    Probes see the addresses of the scenario (10.1.0.8) and are led to loopback by ``settings``; what no server of the
    scenario has is led to a port that refuses, so nothing ever leaves loopback.
    """
    via: dict[tuple[str, int], tuple[str, int]] = {}
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for server in scenario.servers:
            running_server = await stack.enter_async_context(DnsServer(server.zones, server.behaviour, server.address))
            via[server.address, 53] = ("127.0.0.1", running_server.port)
            servers.append(running_server)
        hosts = []
        for host in scenario.hosts:
            family = socket.AF_INET6 if ":" in host.address else socket.AF_INET
            running_host = await stack.enter_async_context(RpcHost(host.behaviour, host.port, family))
            via[host.address, host.port] = ("::1" if family == socket.AF_INET6 else "127.0.0.1", running_host.port)
            hosts.append(running_host)
            if host.clock is not None:
                for source in ClockSource:
                    teller = await stack.enter_async_context(TimeServer(source, host.clock))
                    via[host.address, source.port] = (teller.address, teller.port)
        nobody = await stack.enter_async_context(RpcHost(Behaviour.REFUSED))
        settings = ProbeSettings(
            timeout=scenario.timeout, via=via, elsewhere=("127.0.0.1", nobody.port), machine=scenario.machine
        )
        yield RunningWorld(settings, tuple(hosts), tuple(servers))
