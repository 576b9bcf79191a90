"""NTP datagrams, as far as a client needs them (RFC 5905 section 7.3, RFC 4330)."""

import struct
from typing import Final, NamedTuple

PACKET: Final = 48

_CLIENT, _SERVER = 3, 4
_VERSION: Final = 4
_ALARM: Final = 3
_UNSYNCHRONISED: Final = 16

# 1900-01-01 to 1970-01-01 in seconds
_UNIX_EPOCH: Final = 2_208_988_800
_ERA: Final = 1 << 32
_FRACTION: Final = 1 << 32

COARSEST: Final = 1.0
"""Seconds; a server that claims a clock with longer steps than this is not believed."""


class NtpFormatError(ValueError):
    """A datagram that is no answer to the question; the text says why."""


class Reply(NamedTuple):
    """What an NTP server says.

    ``received`` and ``sent`` are its own clock when the question came and the answer went, as 64-bit timestamps;
    ``step`` is what it calls the precision of that clock, in seconds; ``kiss`` the code of a kiss-o'-death.
    """

    leap: int
    stratum: int
    step: float
    kiss: str
    received: int
    sent: int

    @property
    def unsynchronised(self) -> str:
        """How it says that its clock is set by nobody, or that it does not answer; "" where it tells the time."""
        if self.stratum == 0 and self.kiss:
            return f"kiss-o'-death {self.kiss}"
        if self.leap == _ALARM:
            return "leap 3"
        if self.stratum == 0 or self.stratum >= _UNSYNCHRONISED:
            return f"stratum {self.stratum}"
        return ""


def encode_request(cookie: int) -> bytes:
    """A client's question. ``cookie`` stands where its time would: 64 random bits, which the answer has to repeat."""
    return struct.pack(">B39xQ", _VERSION << 3 | _CLIENT, cookie)


def decode_reply(data: bytes, cookie: int) -> Reply:
    """Read an answer; what follows its 48 bytes (extensions, a MAC) is left alone.

    Raises:
        NtpFormatError: too short, no answer of a server, or the answer to another question.
    """
    if len(data) < PACKET:
        raise NtpFormatError(f"{len(data)} bytes, and an NTP datagram has {PACKET}")
    first, stratum, _poll, precision = struct.unpack_from(">BBbb", data)
    leap, version, mode = first >> 6, first >> 3 & 7, first & 7
    if mode != _SERVER or not 1 <= version <= _VERSION:
        raise NtpFormatError(f"no answer of an NTP server (version {version}, mode {mode})")
    originate, received, sent = struct.unpack_from(">QQQ", data, 24)
    if originate != cookie:
        raise NtpFormatError("the answer to another question (origin timestamp)")
    kiss = "".join(chr(byte) for byte in data[12:16] if 48 <= byte < 58 or 65 <= byte < 91) if stratum == 0 else ""
    reply = Reply(leap, stratum, min(2.0**precision, COARSEST), kiss, received, sent)
    if not reply.unsynchronised and (not received or not sent):
        raise NtpFormatError("an answer without a time")
    return reply


def to_unix(timestamp: int, near: float) -> float:
    """A 64-bit timestamp as seconds since 1970, in the era (of 136 years, the next from 2036) that is closest."""
    seconds = timestamp / _FRACTION - _UNIX_EPOCH
    return seconds + round((near - seconds) / _ERA) * _ERA


def from_unix(seconds: float) -> int:
    """Seconds since 1970 as a 64-bit timestamp of whatever era they lie in."""
    return round((seconds + _UNIX_EPOCH) * _FRACTION) % (_ERA * _FRACTION)
