"""Refusals of DCE/RPC in the standard's words."""

from kmsdiag.wire import rpc
from kmsdiag.wire.pdus import Pdu


def nak_words(answer: Pdu) -> str:
    """The reason of a bind_nak, in the standard's words."""
    try:
        reason = rpc.decode_bind_nak(answer.data)
    except rpc.RpcFormatError as error:
        return str(error)
    return rpc.NAK_REASONS.get(reason, f"reason {reason}")


def fault_words(answer: Pdu) -> str:
    """The status of a fault and its name."""
    try:
        status = rpc.decode_fault(answer.data)
    except rpc.RpcFormatError as error:
        return str(error)
    name = rpc.FAULTS.get(status, "")
    return f"0x{status:08X}" + (f" {name}" if name else "")
