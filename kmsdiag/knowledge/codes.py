"""Error codes of volume activation: what each means, at which layer, why it comes, what proves it and what to do.

The records are in ``data/codes.json``, from Microsoft's "Troubleshoot Windows activation error codes", Table 10 of the
Volume Activation guide, articles on single codes, and the messages of slmgr.vbs and ospp.vbs; each names its sources,
and says so where a fact is inferred, contradicted or a third party's. ``data/win32.json`` has the names of winerror.h
that can stand behind 0x8007 codes of an activation.
"""

import re
from enum import StrEnum
from typing import Final

import msgspec

from kmsdiag.knowledge import data
from kmsdiag.model.fix import Fix


class Layer(StrEnum):
    """Where a code says that activation broke, in the order in which a client gets there; then what is no failure."""

    NAME = "name"
    DNS = "dns"
    PATH = "path"
    UMBRELLA = "umbrella"
    HOST = "host"
    COUNT = "count"
    CLIENT_KEY = "client_key"
    HOST_KEY = "host_key"
    PUBLISHING = "publishing"
    NOT_KMS = "not_kms"
    INFORMATION = "information"

    @property
    def words(self) -> str:
        """The layer, for a reader."""
        return _LAYERS[self]


_LAYERS: Final = {
    Layer.NAME: "before any question: the client has no DNS name to ask for, or no server to ask",
    Layer.DNS: "DNS: what it answers, or does not",
    Layer.PATH: "the way to the host: TCP 1688 and RPC",
    Layer.UMBRELLA: "above all others: the real code is in each event 12288",
    Layer.HOST: "the host: it answered and refused",
    Layer.COUNT: "the count: the host answered, and too few machines ask it",
    Layer.CLIENT_KEY: "the client itself: its key, its licence or its licensing service",
    Layer.HOST_KEY: "the host's key with Microsoft",
    Layer.PUBLISHING: "the host's registration in DNS",
    Layer.NOT_KMS: "not KMS",
    Layer.INFORMATION: "no failure",
}


class Refusal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A code as the answer of a KMS host, where the HRESULT is in clear in every protocol version.

    ``name`` is short and unique; ``meaning`` is a clause about the host, ``cause`` sentences. ``documented`` says
    whether a Microsoft text ties the code to an answer of a host; where not, it was seen there. Fixes are templates
    over ``target``, ``address`` and ``port``; one whose value is missing is left out.
    """

    name: str
    meaning: str
    cause: str
    fixes: tuple[Fix, ...] = ()
    documented: bool = True
    code: str = ""


class ErrorCode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One code, as ``0x`` and eight capital hexadecimal digits.

    ``name`` is that of winerror.h or slerror.h, "" where it is not known. ``meaning`` is a clause. ``sides`` are the
    machines that show it: ``client``, ``host``. ``causes`` come likeliest first, and ``evidence`` has for each what
    would prove it. ``doubtful`` says what of it is not sure; "" when all is.
    """

    code: str
    name: str
    meaning: str
    layer: Layer
    sides: tuple[str, ...]
    causes: tuple[str, ...]
    evidence: tuple[str, ...]
    fixes: tuple[Fix, ...]
    sources: tuple[str, ...]
    doubtful: str = ""
    refusal: Refusal | None = None


CODES: Final = {one.code: one for one in data.read("codes", tuple[ErrorCode, ...])}
"""By code, sorted."""

REFUSALS: Final = {
    one.code: msgspec.structs.replace(one.refusal, code=one.code, fixes=one.refusal.fixes or one.fixes)
    for one in CODES.values()
    if one.refusal is not None
}
"""What a host may answer, by code."""

_WIN32: Final = {int(number): name for number, name in data.read("win32", dict[str, str]).items()}

_FACILITIES: Final = {0: "general", 4: "licensing service", 7: "Win32", 1: "RPC", 9: "security"}
_WIN32_FACILITY: Final = 7
_NTSTATUS_RPC: Final = 0xC002

_HEXADECIMAL: Final = re.compile(r"0x([0-9a-f]{1,8})|([0-9a-f]{8})", re.IGNORECASE)
_DECIMAL: Final = re.compile(r"-?[0-9]{9,10}")
_LEAST_DECIMAL: Final = 1 << 30
"""A smaller decimal number is no HRESULT that anything here shows: event IDs, Win32 numbers and dates are."""


def canonical(text: str) -> str | None:
    """A code in the one spelling of this project; None where the text is no code.

    Takes hexadecimal with and without ``0x`` (then all eight digits), and the decimal number that scripts show, signed
    or not. Spaces, quotes and a full stop after it do not matter.
    """
    bare = re.sub(r"[\s\"'`]", "", text).rstrip(".,:;")
    if found := _HEXADECIMAL.fullmatch(bare):
        return f"0x{int(found[1] or found[2], 16):08X}"
    if _DECIMAL.fullmatch(bare):
        value = int(bare)
        if -(1 << 31) <= value < 0 or _LEAST_DECIMAL <= value < 1 << 32:
            return f"0x{value & 0xFFFFFFFF:08X}"
    return None


def is_failure(code: str) -> bool:
    """Whether it is a code of a failure: what is no code is none."""
    return int(canonical(code) or "0", 16) >> 31 == 1


def find(code: str) -> ErrorCode | None:
    """What is known of a code in any spelling, or by its name."""
    return CODES.get(canonical(code) or "") or _BY_NAME.get(code.strip().upper())


def meaning(code: str) -> str:
    """A clause for a sentence: the known meaning, else the decoded parts; the text itself where it is no code."""
    known = find(code)
    return known.meaning if known is not None else decode(canonical(code) or "") or code


def nearest(code: str, most: int = 3) -> tuple[ErrorCode, ...]:
    """Known codes of the same kind and facility with the closest numbers, the closest first; none for no code."""
    value = int(canonical(code) or "0", 16)
    own = [one for one in CODES.values() if value and int(one.code, 16) >> 16 == value >> 16]
    return tuple(sorted(own, key=lambda one: (abs(int(one.code, 16) - value), one.code))[:most])


def win32_name(code: str) -> str:
    """The Win32, Winsock, DNS or RPC name behind a 0x8007 code; "" where it is none, or one that is not known here."""
    value = int(canonical(code) or "0", 16)
    return _WIN32.get(value & 0xFFFF, "") if value >> 16 == 0x8000 | _WIN32_FACILITY else ""


def decode(code: str) -> str:
    """The parts of an HRESULT (MS-ERREF 2.1), as "licensing service error 0xF0FF"; "" for no HRESULT."""
    try:
        value = int(code, 16)
    except ValueError:
        return ""
    facility, number = value >> 16 & 0x7FF, value & 0xFFFF
    kind = "error" if value >> 31 else "information"
    if not value >> 16:
        return f"plain number {number} {_WIN32.get(number, '')}".rstrip()
    if facility == _WIN32_FACILITY:
        return f"Win32 {kind} {number} {win32_name(code)}".rstrip()
    name = "NTSTATUS RPC" if value >> 16 == _NTSTATUS_RPC else _FACILITIES.get(facility, f"facility {facility}")
    return f"{name} {kind} 0x{number:04X}"


_BY_NAME: Final = {one.name: one for one in CODES.values() if one.name}
