"""Answers: what was learned from one question, with the bytes it was learned from.

All text in an answer is printable ASCII: whoever makes an answer escapes what the network sent.
"""

import datetime
from typing import Annotated, Final

import msgspec

from kmsdiag.model.outcome import ClockOutcome, DnsOutcome, LookupOutcome, RpcOutcome, TcpOutcome, TraceOutcome
from kmsdiag.model.target import Unsigned16, Utc

EPOCH: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)
"""The time of an answer from a file that has none."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="is"):
    """Base of all answers. ``at`` is when the question was put (UTC); ``elapsed_ms`` until the outcome was known."""

    at: Utc
    elapsed_ms: float = 0.0


class ServerTry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One DNS server that was asked before another one gave the final outcome."""

    server: str
    outcome: DnsOutcome


class DnsAnswer(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """What is common to answers from DNS.

    ``server`` gave the outcome; ``tried`` are the ones before it, in order. ``chain`` holds the CNAME targets that
    were followed. ``rcode`` is the mnemonic of the last message. ``wire`` keeps the messages as received.
    ``detail`` is one line about what went wrong.
    """

    outcome: DnsOutcome
    server: str = ""
    tried: tuple[ServerTry, ...] = ()
    rcode: str = ""
    chain: tuple[str, ...] = ()
    transport: str = ""
    authoritative: bool = False
    edns: bool = True
    queries: int = 0
    detail: str = ""
    wire: tuple[bytes, ...] = ()


class SrvRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """One SRV record (RFC 2782). ``target`` is lower-case without the final dot, "." for the root; ``ttl`` in s."""

    priority: Unsigned16
    weight: Unsigned16
    port: Unsigned16
    target: str
    ttl: Annotated[int, msgspec.Meta(ge=0)]


class SrvAnswer(DnsAnswer, frozen=True, kw_only=True, omit_defaults=True, tag="srv"):
    """SRV records of one name at one server, sorted; duplicates are kept."""

    records: tuple[SrvRecord, ...] = ()


class AddressAnswer(DnsAnswer, frozen=True, kw_only=True, omit_defaults=True, tag="address"):
    """Addresses of one name and family at one server, sorted."""

    addresses: tuple[str, ...] = ()


class Icmp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ICMP error that ended a connection attempt. ``sender`` is the router or host that sent it."""

    type: int
    code: int
    sender: str
    name: str


class TcpAnswer(Answer, frozen=True, kw_only=True, omit_defaults=True, tag="tcp"):
    """One TCP connection attempt.

    ``rtt_ms`` is the kernel's own measure of the handshake where there is one; ``retransmits`` counts SYNs that had
    to be sent again; ``errno`` is the symbolic error; ``waited_s`` is the time limit that was in force.
    """

    outcome: TcpOutcome
    rtt_ms: float | None = None
    retransmits: int = 0
    errno: str = ""
    icmp: Icmp | None = None
    waited_s: float = 0.0


class ContextResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a bind_ack (C706 12.6.3.1): ``result`` 0 accepts; ``reason`` explains a rejection."""

    result: int
    reason: int
    syntax: str


class RpcAnswer(Answer, frozen=True, kw_only=True, omit_defaults=True, tag="rpc"):
    """One bind, one look at what came back, and a hang-up. No request was sent.

    ``detail`` names the reason of a rejection, the protocol that answered, or what is wrong with the bytes;
    ``excerpt`` is the start of what came back, escaped; ``received`` the bytes themselves (at most 4 KiB).
    """

    outcome: RpcOutcome
    contexts: tuple[ContextResult, ...] = ()
    reason: int | None = None
    secondary_address: str = ""
    detail: str = ""
    excerpt: str = ""
    received: bytes = b""


class SoaAnswer(DnsAnswer, frozen=True, kw_only=True, omit_defaults=True, tag="soa"):
    """The zone that a name lies in: its apex, the name of its primary server, and its serial number."""

    zone: str = ""
    primary: str = ""
    serial: int = 0


class NsAnswer(DnsAnswer, frozen=True, kw_only=True, omit_defaults=True, tag="ns"):
    """Names of a zone's authoritative servers, sorted."""

    names: tuple[str, ...] = ()


class LookupAnswer(Answer, frozen=True, kw_only=True, omit_defaults=True, tag="lookup"):
    """Addresses that the operating system gives for a name (hosts file, DNS, whatever it is configured to use)."""

    outcome: LookupOutcome
    addresses: tuple[str, ...] = ()
    detail: str = ""


class ClockAnswer(Answer, frozen=True, kw_only=True, omit_defaults=True, tag="clock"):
    """Another machine's clock.

    ``offset_s`` is its time minus this machine's, in seconds; the true value lies within ``error_s`` of it.
    ``stratum`` is NTP's. ``detail`` says what went wrong.
    """

    outcome: ClockOutcome
    offset_s: float = 0.0
    error_s: float = 0.0
    stratum: int = 0
    detail: str = ""


class Hop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step on the way: ``address`` is "" where nobody answered for this TTL; ``rtt_ms`` is -1 then."""

    ttl: int
    address: str
    rtt_ms: float


class TraceAnswer(Answer, frozen=True, kw_only=True, omit_defaults=True, tag="trace"):
    """The way to an address, as far as routers tell (TCP SYN with growing TTL)."""

    outcome: TraceOutcome
    hops: tuple[Hop, ...] = ()
    detail: str = ""


class HostsEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the hosts file, names in lower case."""

    address: str
    names: tuple[str, ...]


class KmsOverride(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A KMS host that was set by hand (slmgr /skms, a script, a policy).

    ``level`` is ``global``, ``application`` or ``product``; ``view`` is ``64`` or ``32``, the registry view;
    ``scope`` the application or product id, or "". ``host`` may be empty where only a port is set; ``port`` is 0 where
    none is.
    """

    level: str
    host: str
    port: int = 0
    scope: str = ""
    view: str = "64"


class LicensedProduct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One product with a key (SoftwareLicensingProduct). ``status`` 0-6, -1 unknown; ``reason`` an HRESULT as text."""

    name: str
    description: str = ""
    application_id: str = ""
    activation_id: str = ""
    channel: str = ""
    status: int = 0
    reason: str = ""
    grace_minutes: int = 0
    discovered_host: str = ""
    discovered_port: int = 0


class KmsEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A licensing event (12288, 12289 or 12308): id, time (UTC) and the insertion string as Windows logged it."""

    id: int
    at: Utc
    info: str


class KmsClient(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What Windows itself knows about activation on this machine; all of it is read, none of it changed."""

    overrides: tuple[KmsOverride, ...] = ()
    lookup_domain: str = ""
    caching: bool | None = None
    client_machine_id: str = ""
    is_host: bool = False
    products: tuple[LicensedProduct, ...] = ()
    events: tuple[KmsEvent, ...] = ()
    problems: tuple[str, ...] = ()


class MachineAnswer(Answer, frozen=True, kw_only=True, omit_defaults=True, tag="machine"):
    """Settings of the machine itself, as far as they decide where it looks for a KMS host. ``kms`` only on Windows."""

    system: str
    name: str = ""
    primary_suffix: str = ""
    search: tuple[str, ...] = ()
    dhcp_suffixes: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    hosts_file: tuple[HostsEntry, ...] = ()
    devolution: bool | None = None
    kms: KmsClient | None = None
    problems: tuple[str, ...] = ()
