"""What clients ask DNS, and what comes back."""

import itertools
from collections.abc import Sequence
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from tests.pcapgen import (
    CLIENT,
    CLIENT6,
    HOST,
    RESOLVER,
    RESOLVER6,
    Ends,
    Packet,
    Talk,
    datagram,
    icmp,
    noise,
)
from tests.pcapscenes import Expectation, Scene, also, got, of, saw, scene
from tests.pcapscenes.lookups import NAME, SRV, asked, by_name, found, replied, reply_to, srv_record


def _dns(
    about: str, packets: Sequence[Packet], *lookups: Expectation, clients: Sequence[Expectation] | None = None
) -> Scene:
    more = {} if clients is None else {"clients": list(clients)}
    return of(packets, about=about, lookups=by_name(lookups), conversations=0, **more)


def _srv(outcome: str, count: int = 1, **more: Any) -> Expectation:
    return {"name": SRV, "kind": "SRV", "server": RESOLVER, "channel": "dns", "outcomes": {outcome: count}, **more}


def _answered_with(about: str, outcome: str, rcode: int) -> Scene:
    question = asked(0, SRV, "SRV")
    return _dns(
        about,
        [question[1], replied(0.002, question, rcode=rcode)],
        _srv(outcome, questions=1, records=[], elapsed_ms={"median": 2.0}),
        clients=[{"address": CLIENT, "asked": ["corp.example"], "told": []}],
    )


also("dns-nxdomain", lambda: _answered_with("The KMS record does not exist.", "nxdomain", 3))
also("dns-nodata", lambda: _answered_with("The name exists and has no SRV record.", "nodata", 0))
also("dns-servfail", lambda: _answered_with("The server fails.", "servfail", 2))
also("dns-refused", lambda: _answered_with("The server refuses to answer.", "refused", 5))


@scene
def dns_silent() -> Scene:
    """Asked three times."""
    packets = [asked(at, SRV, "SRV")[1] for at in (0, 1, 3)]
    packets.append(datagram(12, CLIENT, 5004, HOST, 5004, b"later"))
    return _dns("A DNS server that never answers.", packets, _srv("timeout", questions=3, repeated=2))


@scene
def dns_unreachable() -> Scene:
    """ICMP for the question."""
    question = asked(0, SRV, "SRV")
    error = icmp(0.001, RESOLVER, question[1], 3, 3, 28)
    return _dns(
        "Nobody listens on the DNS server's port.",
        [question[1], error],
        _srv("not_listening", icmp={"type": 3, "code": 3}),
    )


@scene
def dns_several() -> Scene:
    """Three targets, addresses along with them."""
    question = asked(0, SRV, "SRV")
    records = [srv_record(f"kms{at}.corp.example", priority=at * 10, weight=at) for at in range(3)]
    extra = [f"kms{at}.corp.example. 600 A 198.51.100.{at + 1}" for at in range(3)]
    told = [{"priority": at * 10, "weight": at, "port": 1688, "target": f"kms{at}.corp.example"} for at in range(3)]
    return _dns(
        "Three SRV records with priorities, and their addresses in the same answer.",
        [question[1], replied(0.002, question, *records, additional=extra)],
        _srv("answered", records=told),
        clients=[{"told": [f"kms{at}.corp.example:1688" for at in range(3)]}],
    )


@scene
def dns_in_ipv6() -> Scene:
    """The resolver is asked over IPv6."""
    packets = found(client=CLIENT6, server=RESOLVER6)
    return of(
        packets,
        about="Questions and answers over IPv6.",
        lookups=[{"server": RESOLVER6}, {"server": RESOLVER6, "addresses": [HOST]}],
    )


def dns_talk(at: float, query: dns.message.QueryMessage, reply: bytes, *cuts: int) -> Talk:
    """A question and its answer over TCP; the answer in segments cut at these places."""
    talk = Talk(Ends(CLIENT, 53_100, RESOLVER, 53), at=at).open()
    question = query.to_wire()
    talk.client(len(question).to_bytes(2, "big") + question)
    data = len(reply).to_bytes(2, "big") + reply
    places = (0, *cuts, len(data))
    return talk.host(*(data[low:high] for low, high in itertools.pairwise(places))).close()


@scene
def dns_truncated() -> Scene:
    """Then over TCP."""
    question = asked(0, SRV, "SRV")
    records = [srv_record(f"a-long-name-of-a-kms-host-{at:02}.corp.example") for at in range(20)]
    over_tcp = dns_talk(0.003, question[0], reply_to(question[0], *records), 1, 300)
    return _dns(
        "A truncated answer, and the whole one over TCP, in three segments.",
        [question[1], replied(0.002, question, truncated=True), *over_tcp.packets()],
        _srv("answered", over_tcp=1, records=[{"port": 1688}] * 20),
    )


@scene
def dns_multicast() -> Scene:
    """A client that looks for its host by mDNS and LLMNR."""
    mdns = asked(0, "kms.local", "A", server="224.0.0.251", port=5353, sport=5353, ident=0)
    llmnr = asked(1, "kms1", "A", server="224.0.0.252", port=5355, sport=53_001)
    return of(
        [
            mdns[1],
            llmnr[1],
            asked(2, SRV, "SRV", server="224.0.0.251", port=5353, sport=5353, ident=0)[1],
            *Talk(at=9).activation().packets(),
        ],
        saw("activated", got()),
        about="Questions by mDNS and LLMNR, which Windows does not use for SRV, and no DNS.",
        lookups=[{"name": SRV, "channel": "mdns", "server": "multicast"}],
    )


@scene
def dns_answer_alone() -> Scene:
    """The question went another way."""
    question = asked(0, SRV, "SRV")
    return _dns(
        "Only the answer was captured.",
        [replied(0.002, question, srv_record())],
        _srv("answered", questions=0, records=[{"target": NAME}], elapsed_ms=None),
    )


@scene
def dns_other_names() -> Scene:
    """Nothing of KMS."""
    question = asked(0, "www.corp.example", "A")
    odd = datagram(1, RESOLVER, 53, CLIENT, 53_000, noise(50))
    return of(
        [question[1], replied(0.002, question, "www.corp.example. 60 A 203.0.113.80"), odd],
        about="DNS about other names, and bytes from port 53 that are no DNS.",
        lookups=[],
        conversations=0,
        quality={"dns_packets": 3},
    )
