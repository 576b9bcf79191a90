"""Questions: what a check may ask. Each is a value, costs at most one connection, and knows its answer's type."""

from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from kmsdiag.model.answer import (
    AddressAnswer,
    Answer,
    ClockAnswer,
    LookupAnswer,
    MachineAnswer,
    NsAnswer,
    RpcAnswer,
    SoaAnswer,
    SrvAnswer,
    TcpAnswer,
    TraceAnswer,
)
from kmsdiag.model.capture import CaptureAnswer
from kmsdiag.model.collected import StatusAnswer
from kmsdiag.model.events import EventsAnswer
from kmsdiag.model.target import SYSTEM, Family, GivenFile, Selection, StatusFile, Unsigned16, join_host_port

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

    @property
    def connects(self) -> bool:
        """Whether putting the question holds a connection of its own (and so counts against the concurrency limit)."""
        return True


class Connectionless(Request[A], frozen=True, kw_only=True, omit_defaults=True):
    """Questions without a connection of their own: datagrams to one server share a socket, and files are read."""

    @property
    def connects(self) -> bool:
        """It holds none."""
        return False


class Transport(StrEnum):
    """How a DNS question travels: UDP with TCP where the answer is cut, or TCP from the start."""

    UDP = "udp"
    TCP = "tcp"


class SrvQuery(Request[SrvAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="srv"):
    """SRV records of ``name`` from ``server`` (``system``: the resolvers of the machine, in their order).

    ``recursion`` False asks an authoritative server for its own data.
    """

    name: str
    server: str = SYSTEM
    transport: Transport = Transport.UDP
    recursion: bool = True

    @property
    def connects(self) -> bool:
        """Over TCP it does; datagrams to one server share a socket."""
        return self.transport is Transport.TCP

    def __str__(self) -> str:
        over = " over TCP" if self.transport is Transport.TCP else ""
        return f"SRV {self.name} @{self.server}{over}" + ("" if self.recursion else " (no recursion)")


class AddressQuery(Connectionless[AddressAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="address"):
    """A or AAAA records of ``name`` from ``server``."""

    name: str
    family: Family
    server: str = SYSTEM

    def __str__(self) -> str:
        return f"{'A' if self.family is Family.IPV4 else 'AAAA'} {self.name} @{self.server}"


class SoaQuery(Connectionless[SoaAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="soa"):
    """The zone that ``name`` lies in, and its serial number, from ``server``."""

    name: str
    server: str = SYSTEM
    recursion: bool = True

    def __str__(self) -> str:
        return f"SOA {self.name} @{self.server}" + ("" if self.recursion else " (no recursion)")


class NsQuery(Connectionless[NsAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="ns"):
    """The authoritative servers of a zone, from ``server``."""

    name: str
    server: str = SYSTEM

    def __str__(self) -> str:
        return f"NS {self.name} @{self.server}"


class SystemLookup(Request[LookupAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="lookup"):
    """The addresses that a program on this machine gets for ``name`` (getaddrinfo)."""

    name: str

    def __str__(self) -> str:
        return f"lookup {self.name} by the operating system"


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


class TcpTrace(Request[TraceAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="trace"):
    """The routers on the way to an address and port, by TCP SYNs with growing TTL."""

    address: str
    port: Unsigned16

    def __str__(self) -> str:
        return f"trace TCP {join_host_port(self.address, self.port)}"


class ClockSource(StrEnum):
    """Protocols that tell a machine's time without credentials."""

    SMB2 = "smb2"
    NTP = "ntp"
    HTTP = "http"

    @property
    def port(self) -> int:
        """The port it is asked on (TCP 445, UDP 123, TCP 80)."""
        return {ClockSource.SMB2: 445, ClockSource.NTP: 123, ClockSource.HTTP: 80}[self]


class ClockQuery(Request[ClockAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="clock"):
    """The time of the machine at ``address``, at most one second's wait."""

    address: str
    source: ClockSource

    def __str__(self) -> str:
        return f"time by {self.source} {join_host_port(self.address, self.source.port)}"


class MachineSettings(Request[MachineAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="machine"):
    """The settings of this machine: resolvers, suffixes, hosts file; on Windows its KMS client state. Read-only."""

    def __str__(self) -> str:
        return "settings of this machine"


class Captures(Connectionless[CaptureAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="captures"):
    """What the captures of a run say together, in the order of their first packets."""

    files: tuple[GivenFile, ...]
    selection: Selection = Selection()

    def __str__(self) -> str:
        return f"captures {_listed(self.files)}"


class Status(Connectionless[StatusAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="status"):
    """What one file says about the state of machines."""

    file: StatusFile

    def __str__(self) -> str:
        return f"status {self.file.label}" + (f" of {self.file.machine}" if self.file.machine else "")


class EventLogs(Connectionless[EventsAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="events"):
    """What the event logs of a run say together."""

    files: tuple[GivenFile, ...]
    selection: Selection = Selection()

    def __str__(self) -> str:
        return f"event logs {_listed(self.files)}"


def _listed(files: tuple[GivenFile, ...]) -> str:
    first = files[0].label if files else "none"
    return first + (f" and {len(files) - 1} more" if len(files) > 1 else "")


AnyAnswer = (
    SrvAnswer
    | AddressAnswer
    | SoaAnswer
    | NsAnswer
    | LookupAnswer
    | TcpAnswer
    | TraceAnswer
    | RpcAnswer
    | ClockAnswer
    | MachineAnswer
    | CaptureAnswer
    | StatusAnswer
    | EventsAnswer
)

AnyRequest = (
    SrvQuery
    | AddressQuery
    | SoaQuery
    | NsQuery
    | SystemLookup
    | TcpConnect
    | TcpTrace
    | RpcBind
    | ClockQuery
    | MachineSettings
    | Captures
    | Status
    | EventLogs
)


def order(request: Request[Answer]) -> tuple[str, str, str]:
    """A sort key that puts questions of one kind together."""
    # Two files may have the same name.
    content = request.file.hash if isinstance(request, Status) else ""
    return (type(request).__name__, str(request), content)
