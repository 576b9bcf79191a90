"""Names of ICMP errors (RFC 792, RFC 1812 5.2.7, RFC 4443): one table for what the kernel tells and captures show."""

from typing import Final

UNREACHABLE4: Final = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    9: "network administratively prohibited",
    10: "host administratively prohibited",
    13: "communication administratively prohibited",
}
UNREACHABLE6: Final = {
    0: "no route to destination",
    1: "communication administratively prohibited",
    3: "address unreachable",
    4: "port unreachable",
    5: "source address failed policy",
    6: "reject route to destination",
}


def error_name(kind: int, code: int, *, ipv6: bool) -> str:
    """What an ICMP (or ICMPv6) error of this type and code is called."""
    if kind == (1 if ipv6 else 3):
        return (UNREACHABLE6 if ipv6 else UNREACHABLE4).get(code, f"code {code}")
    if (kind, code) == (3 if ipv6 else 11, 0):
        return "time to live exceeded"
    if ipv6 and kind == 2:
        return "packet too big"
    return f"type {kind} code {code}"
