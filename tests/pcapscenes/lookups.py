"""DNS on the way to a KMS host: questions, answers, and the usual ones before an activation."""

from collections.abc import Sequence
from typing import Final

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from tests.pcapgen import (
    CLIENT,
    HOST,
    RESOLVER,
    RESOLVER6,
    Ends,
    Packet,
    Talk,
    datagram,
)
from tests.pcapscenes import Expectation

NAME: Final = "kms1.corp.example"
SRV: Final = "_vlmcs._tcp.corp.example"


def asked(
    at: float,
    name: str,
    kind: str,
    *,
    client: str = CLIENT,
    server: str = RESOLVER,
    port: int = 53,
    ident: int = 0x1688,
    sport: int = 53_000,
) -> tuple[dns.message.QueryMessage, Packet]:
    """A question, and the datagram that carries it."""
    query = dns.message.make_query(name, kind, id=ident)
    return query, datagram(at, client, sport, server, port, query.to_wire())


def replied(
    at: float,
    question: tuple[dns.message.QueryMessage, Packet],
    *answers: str,
    rcode: int = 0,
    additional: Sequence[str] = (),
    truncated: bool = False,
    client: str = CLIENT,
    server: str = RESOLVER,
    sport: int = 53_000,
    port: int = 53,
) -> Packet:
    """Its answer; records as in a zone file."""
    return datagram(
        at,
        server,
        port,
        client,
        sport,
        reply_to(question[0], *answers, rcode=rcode, additional=additional, truncated=truncated),
    )


def reply_to(
    query: dns.message.QueryMessage,
    *answers: str,
    rcode: int = 0,
    additional: Sequence[str] = (),
    truncated: bool = False,
) -> bytes:
    """The bytes of an answer."""
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    if truncated:
        reply.flags |= dns.flags.TC
    reply.answer = [_record(text) for text in answers]
    reply.additional = [_record(text) for text in additional]
    return reply.to_wire()


def _record(text: str) -> dns.rrset.RRset:
    name, ttl, kind, data = text.split(maxsplit=3)
    return dns.rrset.from_text(name, int(ttl), "IN", kind, data)


def srv_record(target: str = NAME, port: int = 1688, *, priority: int = 0, weight: int = 0, ttl: int = 3600) -> str:
    """An SRV record of the domain."""
    return f"{SRV}. {ttl} SRV {priority} {weight} {port} {target}."


def found(at: float = 0, *, host: str = HOST, client: str = CLIENT, server: str = RESOLVER) -> list[Packet]:
    """The usual lookups: SRV, then the target's addresses, each answered after a millisecond."""
    kind = "AAAA" if ":" in host else "A"
    srv = asked(at, SRV.upper(), "SRV", client=client, server=server, ident=0x51)
    name = asked(at + 0.01, NAME, kind, client=client, server=server, ident=0x52)
    return [
        srv[1],
        replied(at + 0.001, srv, srv_record(), client=client, server=server),
        name[1],
        replied(at + 0.011, name, f"{NAME}. 3600 {kind} {host}", client=client, server=server),
    ]


LOOKED_UP: Final[list[Expectation]] = [
    {"name": SRV, "kind": "SRV", "server": RESOLVER, "clients": 1, "questions": 1, "outcomes": {"answered": 1}},
    {"name": NAME, "kind": "A", "server": RESOLVER, "outcomes": {"answered": 1}, "addresses": [HOST]},
]


def whole(ends: Ends | None = None) -> list[Packet]:
    """Lookups and an activation: 14 packets."""
    ends = ends or Ends()
    server = RESOLVER6 if ":" in ends.client else RESOLVER
    return [*found(host=ends.host, client=ends.client, server=server), *Talk(ends, at=0.02).activation().packets()]


def by_name(lookups: Sequence[Expectation]) -> list[Expectation]:
    return sorted(lookups, key=lambda one: (str(one["name"]), str(one["kind"])))
