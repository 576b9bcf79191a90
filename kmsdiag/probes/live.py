"""Puts questions to the real network: the live answerer."""

import asyncio
from types import TracebackType
from typing import Any, Final, Self

from kmsdiag.model.answer import Answer, TcpAnswer, TraceAnswer
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

FORESEEN: Final = 8
"""Ways that are followed before anybody asks for them."""


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
                begun = self._traces.get((request.address, request.port))
                return await (trace.ask(request, self._settings) if begun is None else asyncio.shield(begun))
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
                following = asyncio.ensure_future(trace.ask(way, self._settings))
                self._traces[request.address, request.port] = following
            return await connecting
        finally:
            connecting.cancel()
