"""SMB 2 and 3, as far as NEGOTIATE goes (MS-SMB2 2.2.3 and 2.2.4): its answer tells the server's time to anybody.

There is no encoder for a session setup, and there must never be one: kmsdiag reads the clock and hangs up.
"""

import struct
from typing import Final, NamedTuple

DIALECTS: Final = (0x0202, 0x0210, 0x0300, 0x0302, 0x0311)
"""All of them: a server may be told to speak none below 3.1.1."""

SALT: Final = 32
"""Bytes of salt that Windows sends with 3.1.1."""

FRAME: Final = 4
HEADER: Final = 64
FIXED: Final = HEADER + 64
"""Header and fixed part of a NEGOTIATE response; its security buffer follows and is not needed."""

MAX_FRAME: Final = 128 * 1024
"""A longer answer to NEGOTIATE is a lie: its one variable part has a length of 16 bits."""

_ERROR: Final = HEADER + 9
_MAGIC: Final = b"\xfeSMB"
_NEGOTIATE: Final = 0
_IS_RESPONSE: Final = 1
_SIGNING_ENABLED: Final = 1
_PREAUTH_INTEGRITY: Final = 1
_SHA_512: Final = 1

# 1601-01-01 to 1970-01-01 in units of 100 ns (MS-DTYP 2.3.3)
_UNIX_EPOCH: Final = 116_444_736_000_000_000
_TICKS: Final = 10_000_000
# SystemTime is a signed number of these.
_LATEST: Final = 0x7FFF_FFFF_FFFF_FFFF

STATUSES: Final = {
    0xC000000D: "STATUS_INVALID_PARAMETER",
    0xC0000022: "STATUS_ACCESS_DENIED",
    0xC000009A: "STATUS_INSUFFICIENT_RESOURCES",
    0xC00000BB: "STATUS_NOT_SUPPORTED",
    0xC0000203: "STATUS_USER_SESSION_DELETED",
    0xC0000205: "STATUS_INSUFF_SERVER_RESOURCES",
}


class Smb2FormatError(ValueError):
    """Bytes that are no usable answer to NEGOTIATE; the text says what they are instead."""


class Negotiated(NamedTuple):
    """What a server says to NEGOTIATE: the dialect it picked, and its time in seconds since 1970 (UTC)."""

    dialect: int
    time: float


def encode_negotiate(client: bytes, salt: bytes) -> bytes:
    """A NEGOTIATE with its frame. ``client`` is a GUID (16 bytes) and ``salt`` 32 bytes; both should be random."""
    context = struct.pack("<HHH", 1, len(salt), _SHA_512) + salt
    dialects = struct.pack(f"<{len(DIALECTS)}H", *DIALECTS)
    contexts_at = HEADER + 36 + len(dialects)
    padding = -contexts_at % 8
    body = struct.pack("<HHHHI16s", 36, len(DIALECTS), _SIGNING_ENABLED, 0, 0, client)
    body += struct.pack("<IHH", contexts_at + padding, 1, 0) + dialects + bytes(padding)
    body += struct.pack("<HHI", _PREAUTH_INTEGRITY, len(context), 0) + context
    message = struct.pack("<4sHHIHHIIQIIQ16s", _MAGIC, 64, 0, 0, _NEGOTIATE, 1, 0, 0, 0, 0, 0, 0, b"") + body
    return struct.pack(">I", len(message)) + message


def missing(received: bytes) -> int:
    """How many bytes at least have to follow before :func:`decode_negotiate` can tell; 0 where it can tell now."""
    if received[:1] not in (b"", b"\0"):
        return 0
    if len(received) < FRAME:
        return FRAME - len(received)
    whole = int.from_bytes(received[1:FRAME], "big")
    magic = received[FRAME : FRAME + len(_MAGIC)]
    if len(magic) < min(whole, len(_MAGIC)):
        return len(_MAGIC) - len(magic)
    if magic != _MAGIC or not _ERROR <= whole <= MAX_FRAME:
        return 0
    return max(0, FRAME + min(whole, FIXED) - len(received))


def decode_negotiate(received: bytes) -> Negotiated:
    """Read the answer to NEGOTIATE, from its frame on; of the security buffer nothing need be there.

    Raises:
        Smb2FormatError: anything else.
    """
    if received[:1] not in (b"", b"\0"):
        raise Smb2FormatError(_instead_of_frame(received))
    if len(received) < FRAME:
        raise Smb2FormatError(f"{len(received)} of {FRAME} bytes of a frame")
    whole = int.from_bytes(received[1:FRAME], "big")
    message = received[FRAME : FRAME + whole]
    if message[:4] == b"\xffSMB":
        raise Smb2FormatError("it speaks SMB 1 only")
    if len(message) >= 4 and message[:4] != _MAGIC:
        raise Smb2FormatError("the answer is no SMB")
    if not _ERROR <= whole <= MAX_FRAME:
        raise Smb2FormatError(f"a frame of {whole} bytes cannot hold an answer to NEGOTIATE")
    if len(message) < min(whole, FIXED):
        raise Smb2FormatError(f"{len(message)} of {whole} bytes of an answer")
    size, _charge, status, command, _credits, flags = struct.unpack_from("<HHIHHI", message, 4)
    if size != HEADER or command != _NEGOTIATE or not flags & _IS_RESPONSE:
        raise Smb2FormatError("the answer is to something else than NEGOTIATE")
    if status:
        raise Smb2FormatError(f"it refuses to negotiate: {STATUSES.get(status, f'status 0x{status:08X}')}")
    return _decode_body(message, whole)


def _instead_of_frame(received: bytes) -> str:
    # RFC 1002 4.3: the other packets of the NetBIOS session service
    names = {0x82: "positive session response", 0x83: "negative session response", 0x84: "retarget", 0x85: "keep-alive"}
    name = names.get(received[0])
    return f"it answers with a NetBIOS {name}" if name else "the answer is no SMB"


def _decode_body(message: bytes, whole: int) -> Negotiated:
    if whole < FIXED:
        raise Smb2FormatError(f"an answer to NEGOTIATE has {FIXED} bytes or more, here are {whole}")
    size, _security, dialect = struct.unpack_from("<HHH", message, HEADER)
    if size != 65:
        raise Smb2FormatError("the answer is to something else than NEGOTIATE")
    if dialect not in DIALECTS:
        raise Smb2FormatError(f"it picked the dialect 0x{dialect:04x}, which was not offered")
    buffer_at, buffer_size = struct.unpack_from("<HH", message, HEADER + 56)
    if buffer_size and not FIXED <= buffer_at <= whole - buffer_size:
        raise Smb2FormatError(f"its security buffer lies outside the {whole} bytes of the frame")
    (ticks,) = struct.unpack_from("<Q", message, HEADER + 40)
    if not 0 < ticks <= _LATEST:
        raise Smb2FormatError("the answer has no time (SystemTime)")
    return Negotiated(dialect, (ticks - _UNIX_EPOCH) / _TICKS)


def filetime(seconds: float) -> int:
    """A time since 1970 as FILETIME: units of 100 ns since 1601."""
    return round(seconds * _TICKS) + _UNIX_EPOCH
