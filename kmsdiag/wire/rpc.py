"""DCE/RPC connection-oriented PDUs, as far as a bind needs them (C706 chapter 12, MS-RPCE 2.2.2).

Encodes the bind that a Windows KMS client sends (three presentation contexts, 160 bytes) and decodes what may come
back. There is no encoder for a request PDU, and there must never be one: kmsdiag binds and hangs up.
"""

import struct
import uuid
from typing import Final, NamedTuple

from kmsdiag.model.answer import ContextResult

REQUEST, RESPONSE, FAULT, BIND, BIND_ACK, BIND_NAK = 0, 2, 3, 11, 12, 13
ALTER_CONTEXT, ALTER_CONTEXT_RESP, AUTH3, SHUTDOWN, CO_CANCEL, ORPHANED = 14, 15, 16, 17, 18, 19

TYPES: Final = {
    REQUEST: "request",
    RESPONSE: "response",
    FAULT: "fault",
    BIND: "bind",
    BIND_ACK: "bind_ack",
    BIND_NAK: "bind_nak",
    ALTER_CONTEXT: "alter_context",
    ALTER_CONTEXT_RESP: "alter_context_resp",
    AUTH3: "auth3",
    SHUTDOWN: "shutdown",
    CO_CANCEL: "co_cancel",
    ORPHANED: "orphaned",
}
"""The PDU types of connection-oriented DCE/RPC (C706 12.6.4; auth3: MS-RPCE 2.2.2.1)."""

FIRST_FRAGMENT, LAST_FRAGMENT = 0x01, 0x02

HEADER: Final = 16
MAX_FRAGMENT: Final = 5840
"""Largest fragment that the bind offers to receive, as Windows does; a longer one is a lie."""

NDR32: Final = ("8a885d04-1ceb-11c9-9fe8-08002b104860", 2)
NDR64: Final = ("71710533-beba-4937-8319-b5dbef9ccc36", 1)
# Bind-time feature negotiation (MS-RPCE 2.2.2.14): bytes 8-9 are the features asked for, here 3.
FEATURES: Final = ("6cb71c2c-9812-4540-0300-000000000000", 1)

_SYNTAX_NAMES = {NDR32[0]: "NDR32", NDR64[0]: "NDR64"}


def syntax_name(syntax: str) -> str:
    """What a transfer syntax is called; its UUID where it has no name here."""
    if syntax.startswith(FEATURES[0][:18]):
        return "feature negotiation"
    return _SYNTAX_NAMES.get(syntax, syntax)


RESULTS = {0: "acceptance", 1: "user_rejection", 2: "provider_rejection", 3: "negotiate_ack"}
"""p_cont_def_result_t; 3 is MS-RPCE's answer to feature negotiation and accepts no interface."""

REJECT_REASONS = {
    0: "reason_not_specified",
    1: "abstract_syntax_not_supported",
    2: "proposed_transfer_syntaxes_not_supported",
    3: "local_limit_exceeded",
}
"""p_provider_reason_t, the reasons inside a bind_ack."""

NAK_REASONS = {
    0: "reason_not_specified",
    1: "temporary_congestion",
    2: "local_limit_exceeded",
    3: "called_paddr_unknown",
    4: "protocol_version_not_supported",
    5: "default_context_not_supported",
    6: "user_data_not_readable",
    7: "no_psap_available",
    8: "authentication_type_not_recognized",
    9: "invalid_checksum",
}
"""p_reject_reason_t, the reasons of a bind_nak: another table than that of bind_ack."""

FAULTS = {
    0x00000005: "access_denied",
    0x1C010002: "nca_op_rng_error",
    0x1C010003: "nca_unk_if",
    0x1C01000B: "nca_proto_error",
    0x000006D8: "rpc_s_cannot_support",
}


class RpcFormatError(ValueError):
    """Bytes that claim to be DCE/RPC and are not; the text says what is wrong and where."""


class Header(NamedTuple):
    """The 16 bytes that open every PDU. ``little`` is the byte order of its integers."""

    minor: int
    type: int
    flags: int
    little: bool
    length: int
    auth_length: int
    call_id: int


class BindAck(NamedTuple):
    """What a server says to a bind: its own port as text, and a result for each context offered."""

    secondary_address: str
    contexts: tuple[ContextResult, ...]


def encode_bind(interface: str, call_id: int = 2) -> bytes:
    """A bind to version 1.0 of ``interface`` with NDR32, NDR64 and feature negotiation, as Windows clients send it."""
    contexts = b"".join(
        struct.pack("<HBB", number, 1, 0)
        + uuid.UUID(interface).bytes_le
        + struct.pack("<HH", 1, 0)
        + uuid.UUID(syntax).bytes_le
        + struct.pack("<I", version)
        for number, (syntax, version) in enumerate((NDR32, NDR64, FEATURES))
    )
    body = struct.pack("<HHIBBH", MAX_FRAGMENT, MAX_FRAGMENT, 0, 3, 0, 0) + contexts
    # 0x13: first fragment, last fragment, concurrent multiplexing.
    header = struct.pack("<BBBB4sHHI", 5, 0, BIND, 0x13, b"\x10\0\0\0", HEADER + len(body), 0, call_id)
    return header + body


def could_be_rpc(data: bytes) -> bool:
    """Whether the first bytes (there may be only one) can open a connection-oriented PDU."""
    if data[:1] != b"\x05" or (len(data) > 1 and data[1] > 1):
        return False
    return len(data) < 3 or data[2] <= 19


def decode_header(data: bytes) -> Header:
    """Decode the first 16 bytes.

    Raises:
        RpcFormatError: not version 5, or a fragment length outside 16…5840.
    """
    if len(data) < HEADER:
        raise RpcFormatError(f"a PDU header has 16 bytes, here are {len(data)}")
    version, minor, kind, flags = data[:4]
    if version != 5:
        raise RpcFormatError(f"RPC version {version} instead of 5")
    # C706 14.1: high nibble of the first format byte, 1 = little-endian, 0 = big-endian.
    little = data[4] >> 4 == 1
    length, auth_length, call_id = struct.unpack_from("<HHI" if little else ">HHI", data, 8)
    if not HEADER <= length <= MAX_FRAGMENT:
        raise RpcFormatError(f"fragment length {length} is outside {HEADER} to {MAX_FRAGMENT}")
    return Header(minor, kind, flags, little, length, auth_length, call_id)


def decode_bind_ack(data: bytes) -> BindAck:
    """Decode a whole bind_ack.

    Raises:
        RpcFormatError: a count or length points outside the PDU.
    """
    header = decode_header(data)
    order = "<" if header.little else ">"
    try:
        (size,) = struct.unpack_from(order + "H", data, 24)
        if 26 + size > header.length:
            raise RpcFormatError(f"secondary address of {size} bytes does not fit into {header.length}")
        address = data[26 : 26 + size].split(b"\0")[0]
        at = 26 + size
        at += -at % 4
        (count,) = struct.unpack_from("B", data, at)
        at += 4
        if at + 24 * count > header.length:
            raise RpcFormatError(f"{count} context results do not fit into {header.length} bytes")
        contexts = []
        for number in range(count):
            result, reason = struct.unpack_from(order + "HH", data, at + 24 * number)
            raw = data[at + 24 * number + 4 : at + 24 * number + 20]
            syntax = str(uuid.UUID(bytes_le=raw) if header.little else uuid.UUID(bytes=raw))
            contexts.append(ContextResult(result, reason, _SYNTAX_NAMES.get(syntax, syntax)))
    except (struct.error, ValueError) as error:
        if isinstance(error, RpcFormatError):
            raise
        raise RpcFormatError(f"bind_ack is cut short: {error}") from None
    return BindAck("".join(chr(byte) if 32 < byte < 127 else "?" for byte in address[:64]), tuple(contexts))


def decode_bind_nak(data: bytes) -> int:
    """The reject reason of a bind_nak.

    Raises:
        RpcFormatError: too short to hold one.
    """
    header = decode_header(data)
    if header.length < 18 or len(data) < 18:
        raise RpcFormatError("bind_nak holds no reason")
    return int(struct.unpack_from("<H" if header.little else ">H", data, 16)[0])


def decode_fault(data: bytes) -> int:
    """The status of a fault PDU.

    Raises:
        RpcFormatError: too short to hold one.
    """
    header = decode_header(data)
    if header.length < 28 or len(data) < 28:
        raise RpcFormatError("fault holds no status")
    return int(struct.unpack_from("<I" if header.little else ">I", data, 24)[0])


_SIGNATURES: Final = (
    (b"HTTP/", "HTTP"),
    (b"SSH-", "SSH"),
    (b"\x15\x03", "TLS"),
    (b"\x16\x03", "TLS"),
    (b"<", "HTTP or XML"),
    (b"220", "SMTP or FTP"),
    (b"* OK", "IMAP"),
    (b"+OK", "POP3"),
    (b"-ERR", "Redis or POP3"),
    (b"RFB ", "VNC"),
    (b"\x03\x00\x00", "RDP"),
    (b"\xffSMB", "SMB"),
    (b"\xfeSMB", "SMB"),
    (b"AMQP", "AMQP"),
)


def name_protocol(data: bytes) -> str:
    """The protocol that these first bytes belong to, or "" where they are nobody's."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if len(data) > 8 and data[:2] == b"\0\0" and data[4:8] in (b"\xffSMB", b"\xfeSMB"):
        return "SMB"
    if len(data) > 5 and data[3] == 0 and data[4] == 10 and data[1:3] == b"\0\0":
        return "MySQL"
    return ""


def printable(data: bytes, limit: int = 64) -> str:
    r"""The start of ``data`` as ASCII, everything else as ``\xNN``."""
    text = "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02x}" for byte in data[:limit])
    return text + ("…" if len(data) > limit else "")


class Offer(NamedTuple):
    """One presentation context of a bind: its id, the interface, and the transfer syntaxes offered for it."""

    number: int
    interface: str
    syntaxes: tuple[str, ...]


def decode_bind(data: bytes) -> tuple[Offer, ...]:
    """The contexts of a whole bind or alter_context PDU.

    Raises:
        RpcFormatError: a count points outside the PDU.
    """
    header = decode_header(data)
    order = "<" if header.little else ">"

    def uuid_at(at: int) -> str:
        raw = data[at : at + 16]
        return str(uuid.UUID(bytes_le=raw) if header.little else uuid.UUID(bytes=raw))

    offers = []
    try:
        count = data[24]
        at = 28
        for _ in range(count):
            number, syntaxes = struct.unpack_from(order + "HB", data, at)
            if at + 24 + 20 * syntaxes > header.length:
                raise RpcFormatError(f"{syntaxes} transfer syntaxes do not fit into {header.length} bytes")
            named = tuple(uuid_at(at + 24 + 20 * index) for index in range(syntaxes))
            offers.append(Offer(number, uuid_at(at + 4), named))
            at += 24 + 20 * syntaxes
    except (struct.error, IndexError, ValueError) as error:
        if isinstance(error, RpcFormatError):
            raise
        raise RpcFormatError(f"bind is cut short: {error}") from None
    return tuple(offers)
