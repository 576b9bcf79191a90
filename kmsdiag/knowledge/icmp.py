"""What an ICMP error to a connection attempt means for the person who reads it."""

from kmsdiag.model.answer import Icmp


def meaning(error: Icmp, address: str) -> str:
    """One clause: who rejects, and why. ``address`` is where the connection was going."""
    if "prohibited" in error.name or "policy" in error.name:
        return "a firewall rule forbids it" + ("" if error.sender == address else " on the way")
    if error.name == "port unreachable":
        return "a firewall rejects the port" if error.sender != address else "the host itself rejects the port"
    if error.name in ("host unreachable", "address unreachable"):
        return "no machine has this address on its network"
    if error.name in ("network unreachable", "no route to destination", "reject route to destination"):
        return "a router on the way knows no route to it"
    if error.name == "time to live exceeded":
        return "routers send the packets in a circle"
    return "the packets are turned back"
