"""Questions: what a check may ask. Each is a value, costs at most one connection, and knows its answer's type."""

from typing import ClassVar, Generic, TypeVar

import msgspec

from kmsdiag.model.answer import AddressAnswer, Answer, RpcAnswer, SrvAnswer, TcpAnswer
from kmsdiag.model.target import SYSTEM, Family, Unsigned16, join_host_port

A = TypeVar("A", bound=Answer, covariant=True)

KMS_INTERFACE = "51c82175-844e-4750-b0d8-ec255555bc06"
"""UUID of the KMS RPC interface, version 1.0 (seen on the wire; also in Zeek's and Samba-world endpoint lists)."""


class Request(
    msgspec.Struct,
    Generic[A],
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="is",
):
    """Base of all questions; ``A`` is the type of the answer."""

    connects: ClassVar[bool] = True
    """Whether putting the question holds a connection of its own (and so counts against the concurrency limit)."""


class SrvQuery(Request[SrvAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="srv"):
    """SRV records of ``name`` from ``server`` (``system``: the resolvers of the machine, in their order)."""

    connects: ClassVar[bool] = False
    name: str
    server: str = SYSTEM

    def __str__(self) -> str:
        return f"SRV {self.name} @{self.server}"


class AddressQuery(Request[AddressAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="address"):
    """A or AAAA records of ``name`` from ``server``."""

    connects: ClassVar[bool] = False
    name: str
    family: Family
    server: str = SYSTEM

    def __str__(self) -> str:
        return f"{'A' if self.family is Family.IPV4 else 'AAAA'} {self.name} @{self.server}"


class TcpConnect(Request[TcpAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="tcp"):
    """One TCP connection to an address; ``attempt`` (from 1) tells repeated ones apart."""

    address: str
    port: Unsigned16
    attempt: int = 1

    def __str__(self) -> str:
        again = f" (attempt {self.attempt})" if self.attempt > 1 else ""
        return f"TCP {join_host_port(self.address, self.port)}{again}"


class RpcBind(Request[RpcAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="rpc"):
    """One DCE/RPC bind to ``interface`` (version 1.0) at an address. A bind activates nothing and counts nobody."""

    address: str
    port: Unsigned16
    interface: str = KMS_INTERFACE

    def __str__(self) -> str:
        other = "" if self.interface == KMS_INTERFACE else f" {self.interface}"
        return f"RPC bind{other} {join_host_port(self.address, self.port)}"


AnyRequest = SrvQuery | AddressQuery | TcpConnect | RpcBind


def order(request: Request[Answer]) -> tuple[str, str]:
    """A sort key that puts questions of one kind together."""
    return (type(request).__name__, str(request))
