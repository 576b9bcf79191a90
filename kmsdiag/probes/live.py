"""Puts questions to the real network: the live answerer."""

import asyncio
import datetime
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from kmsdiag.model.answer import Answer, RpcAnswer, TcpAnswer, TraceAnswer
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
from kmsdiag.model.target import KMS_PORT
from kmsdiag.probes import clock, machine, rpc, tcp, trace
from kmsdiag.probes.dns import DnsClient
from kmsdiag.probes.settings import ProbeSettings

SILENCE: Final = 0.25
"""Part of the time limit after which an address counts as probably silent."""

MOST: Final = 8
"""Ways that are followed in one run: silent hosts mostly end in one place."""

FORESEEN: Final = 3
"""The same where ways are followed before anybody asks: more of them would cost more than one time limit."""

FORESEEN_BINDS: Final = 16
"""Binds begun before anybody asks: six hosts and a few more, on both families."""


class LiveAnswerer:
    """Answers questions by asking the network. An async context manager: leaving it closes all sockets."""

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings
        self._dns = DnsClient(settings)
        self._traces: dict[tuple[str, int], asyncio.Task[TraceAnswer]] = {}
        self._binds: dict[RpcBind, asyncio.Task[RpcAnswer]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        begun = (*self._traces.values(), *self._binds.values())
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
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
                return await self._bind(request)
            case ClockQuery():
                return await clock.ask(request, self._settings)
            case SystemLookup():
                return await machine.lookup(request, self._settings)
            case MachineSettings():
                return await machine.settings(self._settings)
        raise TypeError(f"no probe answers a {type(request).__name__}")

    async def _connect(self, request: TcpConnect) -> TcpAnswer:
        if request.attempt != 1 or not (self._may_trace or self._may_bind(request)):
            return await tcp.ask(request, self._settings)
        connecting = asyncio.ensure_future(tcp.ask(request, self._settings))
        try:
            await asyncio.wait({connecting}, timeout=self._settings.timeout * SILENCE)
            if not connecting.done():
                self._foresee(request)
            return await connecting
        finally:
            connecting.cancel()

    @property
    def _may_trace(self) -> bool:
        return self._settings.foresee_traces and len(self._traces) < FORESEEN

    def _may_bind(self, request: TcpConnect) -> bool:
        return self._settings.foresee_binds and request.port != KMS_PORT and len(self._binds) < FORESEEN_BINDS

    def _foresee(self, silent: TcpConnect) -> None:
        """Begin what will be asked once this connection has come to nothing; it has what is left of the time."""
        settings = msgspec.structs.replace(self._settings, timeout=self._settings.timeout * (1 - SILENCE))
        if self._may_trace:
            self._begin(TcpTrace(address=silent.address, port=silent.port), settings)
        bind = RpcBind(address=silent.address, port=KMS_PORT)
        if self._may_bind(silent) and bind not in self._binds:
            self._binds[bind] = asyncio.ensure_future(rpc.ask(bind, settings))

    async def _bind(self, request: RpcBind) -> RpcAnswer:
        begun = self._binds.get(request)
        return await (rpc.ask(request, self._settings) if begun is None else asyncio.shield(begun))

    async def _follow(self, request: TcpTrace) -> TraceAnswer:
        begun = self._traces.get((request.address, request.port))
        if begun is None:
            most = FORESEEN if self._settings.foresee_traces else MOST
            if len(self._traces) >= most:
                at = datetime.datetime.now(datetime.UTC)
                detail = f"the ways to {most} other silent addresses of this run were followed already"
                return TraceAnswer(at=at, outcome=TraceOutcome.NOT_POSSIBLE, detail=detail)
            begun = self._begin(request, self._settings)
        return await asyncio.shield(begun)

    def _begin(self, way: TcpTrace, settings: ProbeSettings) -> asyncio.Task[TraceAnswer]:
        task = self._traces[way.address, way.port] = asyncio.ensure_future(trace.ask(way, settings))
        return task
