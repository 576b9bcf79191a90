"""Objects that ``Resolve-DnsName`` and ``Test-NetConnection`` give, as ``ConvertTo-Json`` writes them.

``data`` is always an object with its names in lower case.
"""

from collections.abc import Mapping
from typing import Any, Final

from kmsdiag.evidence.names import addresses, suffix
from kmsdiag.evidence.powershell.fields import Fields
from kmsdiag.evidence.tools.records import Row
from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.collected import PortTest

_TYPES: Final = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 28: "AAAA", 33: "SRV"}
_SECTIONS: Final = ("question", "answer", "authority", "additional")
_LONGEST_TTL: Final = 0xFFFF_FFFF


def is_record(data: Mapping[str, Any]) -> bool:
    """Whether an object is a DNS record."""
    return "name" in data and ("querytype" in data or {"type", "ttl"} <= data.keys())


def is_port_test(data: Mapping[str, Any]) -> bool:
    """Whether an object is a test of a TCP port."""
    return "tcptestsucceeded" in data and "remoteport" in data


def row(data: Mapping[str, Any], where: str, problems: list[str]) -> Row | None:
    """Read a record; None for a type that says nothing here."""
    one = Fields(data, where, problems)
    kind = _named(one, "type" if data.get("type") is not None else "querytype", _TYPES)
    section = _named(one, "section", dict(enumerate(_SECTIONS))).lower()
    name = suffix(one.text("name"))
    target = suffix(one.text("nametarget") or one.text("namehost") or one.text("target") or one.text("host"))
    match kind:
        case "SRV":
            record = SrvRecord(
                one.number("priority", 65_535),
                one.number("weight", 65_535),
                one.number("port", 65_535),
                target or ".",
                one.number("ttl", _LONGEST_TTL),
            )
            return Row(name, kind, section, target or ".", srv=record)
        case "A" | "AAAA":
            texts = [one.text(key) for key in ("ipaddress", "ip4address", "ip6address", "address")]
            found = addresses(text for text in texts if text)
            if not found:
                one.wrong("ipaddress", data.get("ipaddress"))
                return None
            return Row(name, kind, section, address=found[0])
        case "CNAME" | "SOA":
            return Row(name, kind, section, target if kind == "CNAME" else "")
    return None


def _named(one: Fields, key: str, names: Mapping[int, str]) -> str:
    """An enumeration, as a number or by name."""
    value = one.data.get(key)
    if isinstance(value, str) and not value.strip().isdigit():
        return value.strip().upper() if key != "section" else value.strip()
    number = one.number(key, 0xFFFF, missing=-1)
    return names.get(number, "")


def port_test(data: Mapping[str, Any], where: str, problems: list[str]) -> PortTest | None:
    """Read a test of a port; None where it says of no port."""
    one = Fields(data, where, problems)
    port, succeeded = one.number("remoteport", 65_535), one.flag("tcptestsucceeded")
    if not port or succeeded is None:
        problems.append(f"{where}: a connection test without a port or a result")
        return None
    address = data.get("remoteaddress")
    if isinstance(address, Mapping):
        # .NET's address object in Windows PowerShell 5.1.
        address = address.get("IPAddressToString")
    found = addresses([address]) if isinstance(address, str) else ()
    return PortTest(
        tool="Test-NetConnection",
        target=suffix(one.text("computername")) or (found[0] if found else ""),
        port=port,
        succeeded=succeeded,
        address=found[0] if found else "",
        ping=one.flag("pingsucceeded"),
    )
