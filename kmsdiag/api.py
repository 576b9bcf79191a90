"""The live diagnosis in one call, for programs: the functions behind ``kmsdiag check``."""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from kmsdiag import diagnosis
from kmsdiag.bundle import Bundle
from kmsdiag.engine import Budget, Progress
from kmsdiag.model.proposal import Proposal
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.target import SYSTEM, Target, as_address, split_server
from kmsdiag.policy import Policy
from kmsdiag.probes.live import LiveAnswerer
from kmsdiag.probes.settings import ProbeSettings, machine, own_addresses, system_dns
from kmsdiag.registry import Registry, discover


def here(label: str = "", target: Target | None = None, source: str = "") -> Vantage:
    """The vantage that this machine is; the label defaults to its host name.

    Its addresses are those on the way to what ``target`` asks, and to elsewhere; ``source`` is the one to ask from.
    """
    host, system = machine()
    resolvers = system_dns().servers
    return Vantage(
        label=label or host,
        host=host,
        system=system,
        resolvers=resolvers,
        addresses=own_addresses(() if target is None else _asked(target, resolvers), source),
    )


def _asked(target: Target, resolvers: Iterable[str]) -> Iterator[str]:
    """Addresses that are known to be asked before anything is: of DNS servers, and of hosts given by address."""
    for server in target.servers:
        yield from (split_server(one)[0] for one in (resolvers if server == SYSTEM else (server,)))
    yield from (host.host for host in target.hosts if as_address(host.host) is not None)


async def record(
    target: Target,
    *,
    registry: Registry | None = None,
    settings: ProbeSettings | None = None,
    budget: Budget | None = None,
    vantage: Vantage | None = None,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    proposed: Proposal | None = None,
) -> Bundle:
    """Put all questions about the target to the network and keep the answers; see :func:`kmsdiag.diagnosis.gather`.

    Whatever the network does is in the bundle; no exception stands for a failure of the network.
    """
    settings = settings or ProbeSettings()
    async with LiveAnswerer(settings) as answerer:
        return await diagnosis.gather(
            target,
            registry or discover(),
            answerer,
            vantage or here(target=target, source=settings.source),
            budget=budget,
            stop=stop,
            on_progress=on_progress,
            proposed=proposed,
        )


def diagnose(
    target: Target,
    *,
    settings: ProbeSettings | None = None,
    budget: Budget | None = None,
    policy: Policy | None = None,
) -> Report:
    """Ask the network about the target and judge the answers."""
    registry = discover()
    bundle = asyncio.run(record(target, registry=registry, settings=settings, budget=budget))
    return diagnosis.judge(bundle, registry, policy)
