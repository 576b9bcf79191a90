"""A small authoritative DNS server on loopback, UDP and TCP on one port, from zones in the usual text form."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone

_HEAD = "@ 3600 IN SOA ns hostmaster 1 3600 600 86400 60\n@ 3600 IN NS ns\nns 3600 IN A {address}\n"
"""What a zone begins with that brings no SOA record of its own."""


class DnsBehaviour(StrEnum):
    """What a lab DNS server does with a question."""

    ANSWER = "answer"
    NOT_LISTENING = "not_listening"
    SILENT = "silent"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    NOTIMP = "notimp"
    REFERRAL = "referral"
    GARBAGE = "garbage"
    WRONG_QUESTION = "wrong_question"
    TRUNCATED = "truncated"
    TRUNCATED_NO_TCP = "truncated_no_tcp"
    NO_EDNS = "no_edns"


class DnsServer:
    """One lab DNS server on an ephemeral loopback port. An async context manager; ``port`` is valid inside.

    Args:
        zones: zone text by origin, with ``@``-relative names and a TTL.
        behaviour: how it answers.
        address: what its zones say its own address is.
    """

    def __init__(
        self, zones: Mapping[str, str], behaviour: DnsBehaviour = DnsBehaviour.ANSWER, address: str = "127.0.0.1"
    ) -> None:
        self.behaviour = behaviour
        self.port = 0
        self.asked: list[str] = []
        self._zones = {
            dns.name.from_text(origin): dns.zone.from_text(
                text if " SOA " in text else _HEAD.format(address=address) + text,
                origin=origin,
                relativize=False,
                check_origin=False,
            )
            for origin, text in zones.items()
        }
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._held: list[socket.socket] = []
        self._busy: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "DnsServer":
        udp, tcp = _one_port()
        self.port = udp.getsockname()[1]
        if self.behaviour is DnsBehaviour.NOT_LISTENING:
            # Nobody reads and nobody holds it: a connected UDP socket learns so at once.
            udp.close()
            tcp.close()
            return self
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), sock=udp)
        if self.behaviour is DnsBehaviour.TRUNCATED_NO_TCP:
            self._held.append(tcp)
        else:
            self._server = await asyncio.start_server(self._tcp, sock=tcp)
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._server is not None:
            self._server.close()
        for task in list(self._busy):
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        for sock in self._held:
            sock.close()

    def reply(self, data: bytes, *, tcp: bool) -> bytes | None:
        """The answer to one message, or None for silence."""
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return None
        question = query.question[0]
        self.asked.append(f"{question.name} {dns.rdatatype.to_text(question.rdtype)}")
        match self.behaviour:
            case DnsBehaviour.SILENT:
                return None
            case DnsBehaviour.GARBAGE:
                return data[:2] + b"\x81\x80" + b"\xff" * 40
            case DnsBehaviour.WRONG_QUESTION:
                other = dns.message.make_query("elsewhere.example", "SRV", id=query.id)
                return dns.message.make_response(other).to_wire()
        answer = dns.message.make_response(query, recursion_available=False)
        simple = {
            DnsBehaviour.SERVFAIL: dns.rcode.SERVFAIL,
            DnsBehaviour.REFUSED: dns.rcode.REFUSED,
            DnsBehaviour.NOTIMP: dns.rcode.NOTIMP,
        }
        if self.behaviour in simple:
            answer.set_rcode(simple[self.behaviour])
        elif self.behaviour is DnsBehaviour.NO_EDNS and query.edns >= 0:
            answer.use_edns(-1)
            answer.set_rcode(dns.rcode.FORMERR)
        elif self.behaviour is DnsBehaviour.REFERRAL:
            answer.authority.append(dns.rrset.from_text("example.", 60, "IN", "NS", "ns.elsewhere.example."))
        elif self.behaviour in (DnsBehaviour.TRUNCATED, DnsBehaviour.TRUNCATED_NO_TCP) and not tcp:
            answer.flags |= dns.flags.TC
        else:
            self._look_up(question.name, question.rdtype, answer)
        wire = answer.to_wire(max_size=65_535)
        if not tcp and len(wire) > max(512, query.payload):
            cut = dns.message.make_response(query)
            cut.flags |= dns.flags.TC
            return cut.to_wire()
        return wire

    def _look_up(self, name: dns.name.Name, kind: dns.rdatatype.RdataType, answer: dns.message.Message) -> None:
        zone = max(
            (zone for origin, zone in self._zones.items() if name.is_subdomain(origin)),
            key=lambda zone: len(zone.origin or ()),
            default=None,
        )
        if zone is None:
            answer.set_rcode(dns.rcode.REFUSED)
            return
        answer.flags |= dns.flags.AA
        owner = _owner(zone, name)
        if owner is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            self._answer_from(zone, owner, name, kind, answer)
        soa = zone.get_rrset(zone.origin or name, dns.rdatatype.SOA)
        if not answer.answer and soa is not None:
            answer.authority.append(soa)

    def _answer_from(
        self,
        zone: dns.zone.Zone,
        owner: dns.name.Name,
        name: dns.name.Name,
        kind: dns.rdatatype.RdataType,
        answer: dns.message.Message,
    ) -> None:
        """Answer with the records of ``owner``, which is the name itself or a wildcard, under the name asked for."""
        alias = zone.get_rrset(owner, dns.rdatatype.CNAME)
        if alias is not None and kind != dns.rdatatype.CNAME:
            answer.answer.append(_renamed(alias, name))
            target = alias[0].target
            if len(answer.answer) < 20 and target.is_subdomain(zone.origin or dns.name.root):
                self._look_up(target, kind, answer)
            return
        found = zone.get_rrset(owner, kind)
        if found is not None:
            answer.answer.append(_renamed(found, name))

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)
        # Cancelled only when the lab closes; asyncio's stream server would print a traceback for a cancelled task.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
                answer = self.reply(await reader.readexactly(size), tcp=True)
                if answer is None:
                    break
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        answer = self._server.reply(data, tcp=False)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, address)


def _one_port() -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on the same free loopback port."""
    for _ in range(50):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        udp.setblocking(False)
        try:
            udp.bind(("127.0.0.1", 0))
            tcp.bind(("127.0.0.1", udp.getsockname()[1]))
        except OSError:
            udp.close()
            tcp.close()
            continue
        return udp, tcp
    raise OSError("no loopback port is free for both UDP and TCP")


def _owner(zone: dns.zone.Zone, name: dns.name.Name) -> dns.name.Name | None:
    """The name whose records answer for ``name``: itself, a wildcard of the closest ancestor (RFC 4592), or none."""
    if any(owner == name or owner.is_subdomain(name) for owner in zone.nodes):
        return name
    ancestor = name.parent()
    while zone.origin is not None and ancestor.is_subdomain(zone.origin):
        if any(owner == ancestor or owner.is_subdomain(ancestor) for owner in zone.nodes):
            wildcard = dns.name.Name((b"*", *ancestor.labels))
            return wildcard if wildcard in zone.nodes else None
        ancestor = ancestor.parent()
    return None


def _renamed(records: dns.rrset.RRset, name: dns.name.Name) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, records.ttl, list(records))
