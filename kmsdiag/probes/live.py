"""Puts questions to the real network: the live answerer."""

from types import TracebackType
from typing import Any, Self

from kmsdiag.model.answer import Answer
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


class LiveAnswerer:
    """Answers questions by asking the network. An async context manager: leaving it closes all sockets."""

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings
        self._dns = DnsClient(settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
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
                return await tcp.ask(request, self._settings)
            case TcpTrace():
                return await trace.ask(request, self._settings)
            case RpcBind():
                return await rpc.ask(request, self._settings)
            case ClockQuery():
                return await clock.ask(request, self._settings)
            case SystemLookup():
                return await machine.lookup(request, self._settings)
            case MachineSettings():
                return await machine.settings(self._settings)
        raise TypeError(f"no probe answers a {type(request).__name__}")
