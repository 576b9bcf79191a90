"""IP addresses as captures hold them."""

import functools
import ipaddress


@functools.lru_cache(maxsize=65_536)
def address_text(raw: bytes) -> str:
    """An address of 4 or 16 bytes as people write it (RFC 5952)."""
    if len(raw) == 4:
        return f"{raw[0]}.{raw[1]}.{raw[2]}.{raw[3]}"
    return str(ipaddress.IPv6Address(raw))
