"""Puts questions to the real network: the live answerer."""

import asyncio
import datetime
from types import TracebackType
from typing import Any, Final, Self

from kmsdiag.model.answer import Answer, TcpAnswer, TraceAnswer
from kmsdiag.model.outcome import TraceOutcome
from kmsdiag.model.request import (
    AddressQuery,
    ClockQuery,
    MachineSettings,
    NsQuery,
    Request,
    RpcBind,
    SoaQuery,
    SrvQuery,
    SystemLookup,
    TcpConnect,
    TcpTrace,
)
from kmsdiag.probes import clock, machine, rpc, tcp, trace
from kmsdiag.probes.dns import DnsClient
from kmsdiag.probes.settings import ProbeSettings

SILENCE: Final = 0.25
"""Part of the time limit after which an address counts as probably silent."""

MOST: Final = 8
"""Ways that are followed in one run: silent hosts mostly end in one place."""

FORESEEN: Final = 3
"""The same where ways are followed before anybody asks: more of them would cost more than one time limit."""


class LiveAnswerer:
    """Answers questions by asking the network. An async context manager: leaving it closes all sockets."""

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings
        self._dns = DnsClient(settings)
        self._traces: dict[tuple[str, int], asyncio.Task[TraceAnswer]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for task in self._traces.values():
            task.cancel()
        await asyncio.gather(*self._traces.values(), return_exceptions=True)
        await self._dns.close()

    async def answer(self, request: Request[Any]) -> Answer:
        """Put one question. Whatever the network does is an answer; only a bug raises."""
        match request:
            case SrvQuery():
                return await self._dns.srv(request)
            case AddressQuery():
                return await self._dns.addresses(request)
            case SoaQuery():
                return await self._dns.soa(request)
            case NsQuery():
                return await self._dns.ns(request)
            case TcpConnect():
                return await self._connect(request)
            case TcpTrace():
                return await self._follow(request)
            case RpcBind():
                return await rpc.ask(request, self._settings)
            case ClockQuery():
                return await clock.ask(request, self._settings)
            case SystemLookup():
                return await machine.lookup(request, self._settings)
            case MachineSettings():
                return await machine.settings(self._settings)
        raise TypeError(f"no probe answers a {type(request).__name__}")

    async def _connect(self, request: TcpConnect) -> TcpAnswer:
        foresee = self._settings.foresee_traces and request.attempt == 1
        if not foresee or len(self._traces) >= FORESEEN:
            return await tcp.ask(request, self._settings)
        connecting = asyncio.ensure_future(tcp.ask(request, self._settings))
        try:
            await asyncio.wait({connecting}, timeout=self._settings.timeout * SILENCE)
            if not connecting.done() and len(self._traces) < FORESEEN:
                way = TcpTrace(address=request.address, port=request.port)
                self._begin(way)
            return await connecting
        finally:
            connecting.cancel()

    async def _follow(self, request: TcpTrace) -> TraceAnswer:
        begun = self._traces.get((request.address, request.port))
        if begun is None:
            most = FORESEEN if self._settings.foresee_traces else MOST
            if len(self._traces) >= most:
                at = datetime.datetime.now(datetime.UTC)
                detail = f"the ways to {most} other silent addresses of this run were followed already"
                return TraceAnswer(at=at, outcome=TraceOutcome.NOT_POSSIBLE, detail=detail)
            begun = self._begin(request)
        return await asyncio.shield(begun)

    def _begin(self, way: TcpTrace) -> asyncio.Task[TraceAnswer]:
        task = self._traces[way.address, way.port] = asyncio.ensure_future(trace.ask(way, self._settings))
        return task
