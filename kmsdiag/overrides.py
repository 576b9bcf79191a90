"""KMS hosts that are set by hand: how they are told, what is wrong with one, what to do; live and in files."""

from collections.abc import Iterable

from kmsdiag.knowledge import licences
from kmsdiag.model.answer import KmsOverride
from kmsdiag.model.fix import Fix, Where
from kmsdiag.model.target import KMS_PORT, TargetError, as_address, join_host_port, parse_host

LEVELS = ("global", "application", "product")
"""From the widest to the narrowest, which counts."""

SEE = Fix(Where.CLIENT, "see what is set", "slmgr /dlv")
SEE_32_BIT = Fix(
    Where.CLIENT,
    "see the 32-bit value",
    "Get-ItemProperty 'HKLM:\\SOFTWARE\\Wow6432Node\\Microsoft\\Windows NT\\CurrentVersion"
    "\\SoftwareProtectionPlatform'",
)
CLEAR = Fix(
    Where.CLIENT,
    "return to DNS discovery (one product: add its activation ID; Office on Windows 7: ospp.vbs /remhst)",
    "slmgr /ckms",
)


def scope(override: KmsOverride) -> str:
    """What it is set for: the whole machine, an application, a product."""
    if override.level == "global":
        return "the whole machine"
    name = licences.APPLICATIONS.get(override.scope, override.scope)
    return f"{override.level} {name}"


def shown(override: KmsOverride) -> str:
    """Its host and port; the port alone where no host is set."""
    if not override.host:
        return f"port {override.port}"
    return join_host_port(override.host.strip("[]"), override.port or KMS_PORT)


def in_force(overrides: Iterable[KmsOverride]) -> list[KmsOverride]:
    """Those in the registry view of the licensing service, the widest level first."""
    found = {one for one in overrides if one.view == "64" and one.level in LEVELS}
    return sorted(found, key=lambda one: (LEVELS.index(one.level), one.scope, one.host, one.port))


def why_no_host(host: str) -> str:
    """What is wrong with a text that should be a host, or ""."""
    bare = host.removeprefix("[").removesuffix("]")
    if as_address(bare) is not None:
        return ""
    if ":" in host:
        return "a colon belongs into no name; the port is a setting of its own"
    try:
        parse_host(host)
    except TargetError as error:
        return str(error)
    return ""


def differing_views(overrides: Iterable[KmsOverride]) -> list[tuple[KmsOverride, KmsOverride | None]]:
    """What only the 32-bit view has, or has otherwise, with the 64-bit one; that it has nothing is usual."""
    every = list(overrides)
    by_scope = {(one.level, one.scope): one for one in every if one.view == "64"}
    found = []
    for one in sorted((one for one in every if one.view == "32"), key=lambda one: (one.level, one.scope)):
        other = by_scope.get((one.level, one.scope))
        if other is None or (other.host, other.port) != (one.host, one.port):
            found.append((one, other))
    return found
