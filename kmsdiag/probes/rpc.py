"""Bind-only DCE/RPC: connect, bind, read one answer within a deadline, hang up. No request PDU ever leaves."""

import asyncio
import datetime
import functools
import socket
import time
from typing import Any, Final

from kmsdiag.model.answer import RpcAnswer
from kmsdiag.model.outcome import RpcOutcome
from kmsdiag.model.request import RpcBind
from kmsdiag.probes.settings import ProbeSettings
from kmsdiag.probes.tcp import ConnectError, connect
from kmsdiag.wire import rpc

KEEP: Final = 4096
"""Bytes of a reply that are kept; a genuine bind_ack has about 108."""

ENOUGH_TO_NAME: Final = 8
"""Bytes after which a protocol is known or stays unknown."""

# A run binds to two interfaces, over and over.
_encode_bind: Final = functools.lru_cache(maxsize=8)(rpc.encode_bind)

_EXCERPT: Final = (RpcOutcome.OTHER_PROTOCOL, RpcOutcome.MALFORMED, RpcOutcome.INCOMPLETE)


async def ask(request: RpcBind, settings: ProbeSettings) -> RpcAnswer:
    """Bind to the interface and classify what comes back. Connecting and reading share one time limit."""
    at = datetime.datetime.now(datetime.UTC)
    started = time.perf_counter()
    received = bytearray()
    try:
        outcome, facts = await _exchange(request, settings, received)
    except ConnectError as error:
        outcome, facts = RpcOutcome.NO_CONNECTION, {"detail": error.errno_name or error.outcome.value}
    return RpcAnswer(
        at=at,
        elapsed_ms=round((time.perf_counter() - started) * 1000, 3),
        outcome=outcome,
        excerpt=rpc.printable(bytes(received)) if outcome in _EXCERPT else "",
        received=bytes(received[:KEEP]),
        **facts,
    )


async def _exchange(
    request: RpcBind, settings: ProbeSettings, received: bytearray
) -> tuple[RpcOutcome, dict[str, Any]]:
    limit = time.monotonic() + settings.timeout
    sock = await connect(request.address, request.port, settings)
    loop = asyncio.get_running_loop()
    ended = RpcOutcome.SILENT
    with sock:
        try:
            async with asyncio.timeout(max(0.05, limit - time.monotonic())):
                await loop.sock_sendall(sock, _encode_bind(request.interface))
                while _wants_more(received):
                    chunk = await loop.sock_recv(sock, rpc.MAX_FRAGMENT)
                    if not chunk:
                        ended = RpcOutcome.CLOSED
                        break
                    received += chunk
        except TimeoutError:
            ended = RpcOutcome.SILENT
        except OSError:
            # The connection was there and broke; after the handshake there is no other way to break it than a reset.
            ended = RpcOutcome.RESET
        _hang_up(sock)
    return classify(bytes(received), ended)


def _hang_up(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _wants_more(received: bytearray) -> bool:
    """Whether the reply so far is the start of a PDU that has not arrived whole."""
    if not received:
        return True
    head = bytes(received[: rpc.HEADER])
    if not rpc.could_be_rpc(head):
        return len(received) < ENOUGH_TO_NAME and not rpc.name_protocol(head)
    if len(head) < rpc.HEADER:
        return True
    try:
        return len(received) < rpc.decode_header(head).length
    except rpc.RpcFormatError:
        return False


def classify(received: bytes, ended: RpcOutcome) -> tuple[RpcOutcome, dict[str, Any]]:
    """What the bytes that answered a bind mean. ``ended`` is how reading ended where the PDU is not whole."""
    if not received:
        return ended, {}
    if not rpc.could_be_rpc(received):
        name = rpc.name_protocol(received)
        if name:
            return RpcOutcome.OTHER_PROTOCOL, {"detail": name}
        return RpcOutcome.MALFORMED, {"detail": "the bytes belong to no protocol that is known here"}
    try:
        if len(received) < rpc.HEADER:
            return RpcOutcome.INCOMPLETE, {"detail": f"{len(received)} bytes of a PDU header, then {_how(ended)}"}
        header = rpc.decode_header(received)
        if len(received) < header.length:
            detail = f"{len(received)} of {header.length} bytes, then {_how(ended)}"
            return RpcOutcome.INCOMPLETE, {"detail": detail}
        pdu = received[: header.length]
        if header.type == rpc.BIND_NAK:
            reason = rpc.decode_bind_nak(pdu)
            return RpcOutcome.NAK, {"reason": reason, "detail": rpc.NAK_REASONS.get(reason, f"reason {reason}")}
        if header.type == rpc.FAULT:
            status = rpc.decode_fault(pdu)
            return RpcOutcome.FAULT, {"reason": status, "detail": rpc.FAULTS.get(status, f"status 0x{status:08x}")}
        if header.type != rpc.BIND_ACK:
            return RpcOutcome.MALFORMED, {"detail": f"a PDU of type {header.type} where a bind_ack belongs"}
        if not header.flags & rpc.LAST_FRAGMENT:
            return RpcOutcome.MALFORMED, {"detail": "a bind_ack in several fragments"}
        return _judge_ack(rpc.decode_bind_ack(pdu))
    except rpc.RpcFormatError as error:
        return RpcOutcome.MALFORMED, {"detail": str(error)}


def _how(ended: RpcOutcome) -> str:
    return {RpcOutcome.CLOSED: "the connection was closed", RpcOutcome.RESET: "the connection was reset"}.get(
        ended, "nothing more"
    )


def _judge_ack(ack: rpc.BindAck) -> tuple[RpcOutcome, dict[str, Any]]:
    facts: dict[str, Any] = {"contexts": ack.contexts, "secondary_address": ack.secondary_address}
    accepted = [context for context in ack.contexts if context.result == 0]
    if accepted:
        return RpcOutcome.ACCEPTED, {**facts, "detail": accepted[0].syntax}
    # Result 3 answers feature negotiation and neither accepts nor rejects an interface.
    rejected = [context for context in ack.contexts if context.result != 3]
    if not rejected:
        return RpcOutcome.MALFORMED, {**facts, "detail": "a bind_ack without a result for the interface"}
    first = rejected[0]
    result = rpc.RESULTS.get(first.result, f"result {first.result}")
    reason = rpc.REJECT_REASONS.get(first.reason, f"reason {first.reason}")
    return RpcOutcome.REJECTED, {**facts, "reason": first.reason, "detail": f"{result}, {reason}"}
