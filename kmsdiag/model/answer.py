"""Answers: what was learned from one question, with the bytes it was learned from.

All text in an answer is printable ASCII: whoever makes an answer escapes what the network sent.
"""

import datetime
from typing import Annotated

import msgspec

from kmsdiag.model.outcome import DnsOutcome, RpcOutcome, TcpOutcome
from kmsdiag.model.target import Unsigned16


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="is"):
    """Base of all answers. ``at`` is when the question was put (UTC); ``elapsed_ms`` until the outcome was known."""

    at: datetime.datetime
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


AnyAnswer = SrvAnswer | AddressAnswer | TcpAnswer | RpcAnswer
