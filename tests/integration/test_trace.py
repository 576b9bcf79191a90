"""The way to a silent host through two routers: client, router1, router2, kms, each a hop behind the other."""

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kmsdiag.model.answer import TraceAnswer
from kmsdiag.model.outcome import TraceOutcome
from kmsdiag.model.report import Report
from kmsdiag.model.request import TcpTrace
from kmsdiag.model.target import HostSpec, Target
from kmsdiag.probes import trace
from tests.integration.world import ask, codes, diagnose, listening, text_of
from tests.netlab import Lab, is_real_root, require, require_lab, require_tools

KMS, KMS6 = "10.77.2.13", "fd79::13"
# What a router sends back goes out where the client is, or under the address that it keeps for that way.
ROUTERS = {KMS: ("10.77.0.1", "10.77.1.2"), KMS6: ("fd77::1", "fd79::2")}
BOTH = pytest.mark.parametrize("address", [KMS, KMS6])
DROP = "tcp dport 1688 drop"


@pytest.fixture(scope="module")
def chain() -> Iterator[Lab]:
    """Four hosts in three networks on one switch; only the routers know more than one of them."""
    require_lab()
    with Lab(client=11, router1=1, router2=2, kms=13) as lab:
        for router in ("router1", "router2"):
            lab.sysctl(router, "ipv4/ip_forward", 1)
            lab.sysctl(router, "ipv6/conf/all/forwarding", 1)
            # One interface for both networks: a router would point out the shorter way.
            lab.sysctl(router, "ipv4/conf/all/send_redirects", 0)
            lab.sysctl(router, "ipv4/conf/eth0/send_redirects", 0)
        lab.sysctl("client", "ipv6/conf/eth0/accept_redirects", 0)
        lab.ip("client", "route add default via 10.77.0.1\nroute add default via fd77::1")
        lab.ip(
            "router1",
            "addr add 10.77.1.1/24 dev eth0\naddr add fd78::1/64 dev eth0 nodad\n"
            "route add 10.77.2.0/24 via 10.77.1.2\nroute add fd79::/64 via fd78::2",
        )
        lab.ip(
            "router2",
            "addr flush dev eth0 scope global\naddr add 10.77.1.2/24 dev eth0\naddr add 10.77.2.2/24 dev eth0\n"
            "addr add fd78::2/64 dev eth0 nodad\naddr add fd79::2/64 dev eth0 nodad\n"
            "route add default via 10.77.1.1\nroute add default via fd78::1",
        )
        lab.ip(
            "kms",
            "addr flush dev eth0 scope global\naddr add 10.77.2.13/24 dev eth0\naddr add fd79::13/64 dev eth0 nodad\n"
            "route add default via 10.77.2.2\nroute add default via fd79::2",
        )
        with listening(lab, "kms", KMS, KMS6):
            yield lab


def follow(lab: Lab, address: str, timeout: float = 0.6, **settings: Any) -> TraceAnswer:
    return ask(lab, TcpTrace(address=address, port=1688), timeout=timeout, **settings)


def way(answer: TraceAnswer) -> list[str]:
    assert [hop.ttl for hop in answer.hops] == list(range(1, len(answer.hops) + 1))
    return [hop.address for hop in answer.hops]


def judge(lab: Lab, *addresses: str) -> Report:
    target = Target(hosts=tuple(HostSpec(address) for address in addresses))
    return diagnose(lab, target, only=("tcp_path",), timeout=0.6)


@BOTH
@pytest.mark.parametrize(
    ("place", "hook", "passed"),
    [
        ("kms", "input", 2),
        # A router counts the time to live down before its filter sees a packet that it forwards ...
        ("router2", "forward", 2),
        # ... and not before one that looks at all that comes in.
        ("router2", "prerouting", 1),
        ("router1", "forward", 1),
    ],
)
def test_the_last_router_that_answers(chain: Lab, address: str, place: str, hook: str, passed: int) -> None:
    with chain.nft(place, DROP, hook=hook):
        answer = follow(chain, address)
        report = judge(chain, address)
    assert (answer.outcome, way(answer)) == (TraceOutcome.STOPPED, [*ROUTERS[address][:passed]])
    assert all(0 < hop.rtt_ms < 500 for hop in answer.hops)
    assert 600 <= answer.elapsed_ms < 1500
    assert codes(report) == {"tcp_path.last_hop"}
    hops = "1 hop" if passed == 1 else "2 hops"
    assert f"is {ROUTERS[address][passed - 1]} ({hops})" in text_of(report, "tcp_path.last_hop")


@BOTH
def test_not_even_the_first_router(chain: Lab, address: str) -> None:
    with chain.nft("router1", DROP, hook="prerouting"):
        answer = follow(chain, address)
        report = judge(chain, address)
    assert (answer.outcome, answer.hops) == (TraceOutcome.STOPPED, ())
    assert codes(report) == {"tcp_path.no_hop"}


def test_a_firewall_on_this_machine(chain: Lab) -> None:
    with chain.nft("client", DROP, hook="output"):
        assert codes(judge(chain, KMS)) == {"tcp_path.no_hop"}


def test_two_families_that_end_in_different_places(chain: Lab) -> None:
    with (
        chain.nft("kms", f"ip saddr 10.77.0.11 {DROP}"),
        chain.nft("router2", f"meta nfproto ipv6 {DROP}", hook="prerouting"),
    ):
        report = judge(chain, KMS, KMS6)
    texts = [finding.text for result in report.results for finding in result.findings]
    assert any(KMS in text and "10.77.1.2 (2 hops)" in text for text in texts), texts
    assert any(KMS6 in text and "fd77::1 (1 hop)" in text for text in texts), texts


@BOTH
def test_a_router_that_says_nothing_is_passed_over(chain: Lab, address: str) -> None:
    quiet = ("icmp type time-exceeded drop", "icmpv6 type time-exceeded drop")
    with chain.nft("router1", *quiet, hook="output"), chain.nft("kms", DROP):
        answer = follow(chain, address)
    assert way(answer) == ["", ROUTERS[address][1]]
    assert answer.hops[0].rtt_ms == -1


@BOTH
def test_an_echo_that_is_lost_comes_with_the_next_syn(chain: Lab, address: str) -> None:
    echo = "icmp type time-exceeded" if address == KMS else "icmpv6 type time-exceeded"
    with chain.nft("router1", f"{echo} numgen inc mod 2 == 0 drop", hook="output"), chain.nft("kms", DROP):
        answer = follow(chain, address, timeout=2)
    assert way(answer) == [*ROUTERS[address]]
    assert 900 < answer.hops[0].rtt_ms < 1500


@BOTH
def test_the_way_is_open(chain: Lab, address: str) -> None:
    payload = "ip length > 60" if address == KMS else "ip6 length > 40"
    count = [
        "tcp dport 1688 tcp flags & (syn | ack) == syn counter",
        "tcp dport 1688 tcp flags & rst == rst counter",
        f"tcp dport 1688 {payload} counter",
    ]
    with chain.nft("kms", *count):
        answer = follow(chain, address)
        time.sleep(0.05)
        syns, resets, data = chain.nft_packets("kms")
    assert (answer.outcome, answer.detail) == (TraceOutcome.REACHED, "it accepts the connection")
    assert way(answer) == [*ROUTERS[address], address]
    assert answer.elapsed_ms < 400
    # Few connections, each ended by a reset, and none carried a byte.
    assert 1 <= syns <= 3
    assert resets == syns
    assert data == 0


@BOTH
def test_the_host_refuses(chain: Lab, address: str) -> None:
    with chain.nft("kms", "tcp dport 1688 reject with tcp reset"):
        answer = follow(chain, address)
    assert (answer.outcome, answer.detail) == (TraceOutcome.REACHED, "it refuses the connection")
    assert way(answer) == [*ROUTERS[address], address]


def test_the_host_rejects(chain: Lab) -> None:
    with chain.nft("kms", "tcp dport 1688 reject with icmp type port-unreachable"):
        answer = follow(chain, KMS)
    assert (answer.outcome, answer.detail) == (TraceOutcome.REACHED, "it answers by ICMP: port unreachable")
    assert way(answer) == [*ROUTERS[KMS], KMS]


@BOTH
def test_a_router_turns_the_packets_back(chain: Lab, address: str) -> None:
    kind = "icmp" if address == KMS else "icmpv6"
    with chain.nft("router2", f"tcp dport 1688 reject with {kind} type admin-prohibited", hook="forward"):
        answer = follow(chain, address)
    assert answer.outcome is TraceOutcome.STOPPED
    assert way(answer)[:2] == [*ROUTERS[address]]
    assert answer.detail.startswith("communication administratively prohibited, said by ")
    assert answer.elapsed_ms < 500


def test_a_dead_host_behind_a_router(chain: Lab) -> None:
    """The router asks for the machine for a second here, by default for three; then it says so."""
    chain.sysctl("router2", "ipv4/neigh/eth0/mcast_solicit", 1)
    answer = follow(chain, "10.77.2.99", timeout=2)
    assert way(answer)[:2] == [*ROUTERS[KMS]]
    assert answer.detail == "host unreachable, said by 10.77.1.2"


def test_connections_that_are_lost_and_a_way_that_is_open(chain: Lab) -> None:
    """The first SYN of all is dropped, those after it arrive."""
    first = "tcp dport 1688 tcp flags & (syn | ack) == syn numgen inc mod 1000 == 0 drop"
    with chain.nft("kms", first):
        report = judge(chain, KMS)
    assert codes(report) == {"tcp_path.reached"}
    assert "(3 hops): it accepts the connection" in text_of(report, "tcp_path.reached")


@pytest.mark.parametrize(("network", "address", "via"), [("10.77.9.0/24", "10.77.9.8", 0), ("fd80::/64", "fd80::8", 1)])
def test_a_way_in_a_circle(chain: Lab, network: str, address: str, via: int) -> None:
    chain.ip("router1", f"route add {network} via {('10.77.1.2', 'fd78::2')[via]}")
    chain.ip("router2", f"route add {network} via {('10.77.1.1', 'fd78::1')[via]}")
    try:
        answer = follow(chain, address)
        report = judge(chain, address)
    finally:
        chain.ip("router1", f"route del {network}")
        chain.ip("router2", f"route del {network}")
    assert answer.outcome is TraceOutcome.STOPPED
    assert len(answer.hops) >= trace.FARTHEST - 1
    assert codes(report) == {"tcp_path.loop"}


def test_eight_silent_addresses_end_in_one_word(chain: Lab) -> None:
    """Also where routers send few errors a second, as they do by default."""
    for router in ("router1", "router2"):
        chain.sysctl(router, "ipv4/icmp_ratelimit", 1000)
    try:
        with chain.nft("router2", DROP, hook="forward"):
            report = judge(chain, *(f"10.77.2.{number}" for number in range(20, 28)))
    finally:
        for router in ("router1", "router2"):
            chain.sysctl(router, "ipv4/icmp_ratelimit", 0)
    assert codes(report) <= {"tcp_path.last_hop", "tcp_path.no_hop"}
    assert "tcp_path.last_hop" in codes(report)


_CHILD = """
import asyncio, json, os, sys
from kmsdiag.model.request import TcpTrace
from kmsdiag.probes import trace
from kmsdiag.probes.settings import ProbeSettings
answer = asyncio.run(trace.ask(TcpTrace(address=sys.argv[1], port=1688), ProbeSettings(timeout=0.6)))
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps([os.getuid(), int(status["CapEff"], 16), answer.outcome, [hop.address for hop in answer.hops]]))
"""


@BOTH
@pytest.mark.parametrize("who", ["root_without_capabilities", "nobody"])
def test_no_privileges_are_needed(chain: Lab, address: str, who: str) -> None:
    require_tools("setpriv")
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    if who == "nobody":
        require(is_real_root(), "there are no other users without root")
        command += ["--reuid=65534", "--regid=65534", "--clear-groups"]
    with chain.nft("kms", DROP):
        process = chain.popen(
            "client", *command, sys.executable, "-c", _CHILD, address, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        output, error = process.communicate(timeout=20)
    if who == "nobody":
        require(b"Permission denied" not in error, f"nobody may not run {sys.executable}")
    uid, capabilities, outcome, hops = json.loads(output or error)
    assert (uid == 65534) == (who == "nobody")
    assert capabilities == 0
    assert (outcome, hops) == ("stopped", [*ROUTERS[address]])


_SCAPY = """
import json, sys
from scapy.config import conf
conf.verb = 0
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.sendrecv import sr
from scapy.all import conf
address, ttls = sys.argv[1], list(range(1, 7))
head = IPv6(dst=address, hlim=ttls) if ":" in address else IP(dst=address, ttl=ttls)
packets = [packet / TCP(sport=40000 + packet.ttl if "ttl" in packet.fields else 40000 + packet.hlim, dport=1688)
           for packet in head]
answered, _ = sr(packets, timeout=0.6)
print(json.dumps(sorted([sent.sport - 40000, got.src] for sent, got in answered)))
"""


@BOTH
def test_scapy_finds_the_same_way(chain: Lab, address: str) -> None:
    """Raw sockets, as root: another program's eyes on the same routers."""
    pytest.importorskip("scapy")
    with chain.nft("kms", DROP):
        seen = json.loads(chain.sh("client", sys.executable, "-W", "ignore", "-c", _SCAPY, address))
        answer = follow(chain, address)
    assert [[hop.ttl, hop.address] for hop in answer.hops] == seen


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _error(kind: int, code: int, quoted: bytes) -> bytes:
    body = struct.pack("!BBHI", kind, code, 0, 0) + quoted
    body += b"\0" * (len(body) % 2)
    return body[:2] + struct.pack("!H", _checksum(body)) + body[4:]


@contextlib.contextmanager
def hostile_router(lab: Lab) -> Iterator[list[int]]:
    """Router1 answers each SYN that it sees with every kind of nonsense; how many it saw."""
    heard = lab.call("router1", socket.socket, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    mouth = lab.call("router1", socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    heard.settimeout(0.1)
    over = threading.Event()
    seen = [0]

    def work() -> None:
        while not over.is_set():
            try:
                packet = heard.recv(2048)
            except TimeoutError:
                continue
            if packet[9] != socket.IPPROTO_TCP or packet[12:16] != socket.inet_aton("10.77.0.11"):
                continue
            seen[0] += 1
            wrong_sequence = packet[:24] + b"\xff\xff\xff\xff" + packet[28:]
            for kind, code, quoted in (
                (11, 0, wrong_sequence),
                (11, 0, packet[:10]),
                (11, 0, b""),
                (3, 1, packet[:20] + bytes(8)),
                (3, 4, packet[:28]),
                (5, 1, packet[:28]),
                (4, 0, packet[:28]),
                (99, 99, packet),
                (3, 200, b"\x45" * 60),
                (12, 0, wrong_sequence[:28]),
            ):
                mouth.sendto(_error(kind, code, quoted), ("10.77.0.11", 0))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(5)
        heard.close()
        mouth.close()


def test_nonsense_from_a_hostile_router_changes_nothing(chain: Lab) -> None:
    with hostile_router(chain) as seen, chain.nft("kms", DROP):
        answer = follow(chain, KMS)
        assert seen[0] >= trace.FARTHEST
    assert (answer.outcome, way(answer)) == (TraceOutcome.STOPPED, [*ROUTERS[KMS]])
