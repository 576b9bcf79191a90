"""HRESULTs that a KMS host returns in its answer: what each means, why it comes, and what to type next.

In the answer the HRESULT is in clear in every protocol version. Sources: Microsoft, "Troubleshoot Windows activation
error codes", "Guidelines for troubleshooting KMS", KB 974998 (0xC004F06C), KB 3086418 (0xC004F015), slmgr.vbs (message
constants). Fixes are templates over ``target``, ``address`` and ``port``; one whose value is missing is left out.
"""

from typing import Final

import msgspec

from kmsdiag.model.fix import Fix, Where


class HResult(msgspec.Struct, frozen=True, kw_only=True):
    """One code. ``name`` is short and unique; ``meaning`` is a clause, ``cause`` sentences.

    ``documented`` says whether a Microsoft text ties the code to an answer of a KMS host; where not, it was seen there.
    """

    code: str
    name: str
    meaning: str
    cause: str
    fixes: tuple[Fix, ...]
    documented: bool = True


_SEE_HOST = Fix(Where.KMS_HOST, "see its keys and counts", "slmgr /dlv all")
_SEE_LOG = Fix(
    Where.KMS_HOST,
    "see the refused requests: who asked, for which product",
    "Get-WinEvent -MaxEvents 20 -FilterHashtable @{{ LogName = 'Key Management Service'; Id = 12290 }}",
)
_SEE_CLIENT = Fix(Where.CLIENT, "see the product that asks, and which host it uses", "slmgr /dlv")
_RETURN_TO_DNS = Fix(
    Where.CLIENT, "if this host was set by hand and is the wrong one, return to DNS discovery", "slmgr /ckms"
)

_ALL: Final = (
    HResult(
        code="0xC004F042",
        name="other_product",
        meaning="its key is for other products",
        cause="Its host key (or an update it lacks) is older than the client, or it is a host for Windows alone and"
        " Office asks.",
        fixes=(_SEE_HOST, _SEE_LOG, _SEE_CLIENT, _RETURN_TO_DNS),
    ),
    HResult(
        code="0xC004F06C",
        name="clock",
        meaning="the clocks are too far apart",
        cause="Client and host are more than four hours apart in UTC, or an old host meets a newer client.",
        fixes=(
            Fix(Where.CLIENT, "compare the clocks", "w32tm /stripchart /computer:{target} /samples:3 /dataonly"),
            Fix(Where.CLIENT, "set the client's clock", "w32tm /resync; w32tm /query /status"),
            Fix(Where.KMS_HOST, "or, where it is the host's, set that", "w32tm /resync; w32tm /query /status"),
        ),
    ),
    HResult(
        code="0xC004F041",
        name="host_not_activated",
        meaning="the host itself is not activated",
        cause="Its KMS host key was installed and never activated with Microsoft, or its activation was lost.",
        fixes=(
            Fix(
                Where.KMS_HOST,
                "see its own licence; activate it online, or by phone with its installation ID",
                "slmgr /dlv; slmgr /dti",
            ),
        ),
    ),
    HResult(
        code="0xC004F015",
        name="key_too_old",
        meaning="its host key does not cover this client",
        cause="The host key is of another group, or an update for newer clients is missing (KB 3172614, KB 3079821).",
        fixes=(_SEE_HOST, _SEE_LOG),
    ),
    HResult(
        code="0xC004F039",
        name="not_enabled",
        meaning="the Key Management Service is not enabled there",
        cause="The machine answers and is no KMS host, or is none any more.",
        fixes=(_SEE_HOST, _RETURN_TO_DNS),
    ),
    HResult(
        code="0xC004F06B",
        name="virtual_machine",
        meaning="it does not serve virtual machines",
        cause="A KMS of the first generation does not count virtual machines.",
        fixes=(_SEE_HOST,),
    ),
    HResult(
        code="0x8007000D",
        name="invalid_data",
        meaning="the request's data is invalid",
        cause="A protocol version that the host does not know, a program that is no Windows client, or a host that asks"
        " itself.",
        fixes=(_SEE_LOG, _SEE_CLIENT),
        documented=False,
    ),
    HResult(
        code="0x80070005",
        name="access_denied",
        meaning="access is denied",
        cause="The service, or a filter in front of it, does not let this client ask.",
        fixes=(_SEE_LOG,),
        documented=False,
    ),
)

HRESULTS: Final = {one.code: one for one in _ALL}
"""By code, written as ``0x`` and eight capital hexadecimal digits."""

_FACILITIES: Final = {4: "licensing service", 7: "Win32", 1: "RPC"}


def decode(code: str) -> str:
    """The parts of an HRESULT (MS-ERREF 2.1): "licensing service error 0xF0FF", "Win32 error 5"; "" for no HRESULT."""
    try:
        value = int(code, 16)
    except ValueError:
        return ""
    facility, number = value >> 16 & 0x7FF, value & 0xFFFF
    kind = "error" if value >> 31 else "information"
    name = _FACILITIES.get(facility, f"facility {facility}")
    return f"{name} {kind} {number}" if facility == 7 else f"{name} {kind} 0x{number:04X}"
