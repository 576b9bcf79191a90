"""TCP 1688 behind real firewalls, routers and routes: what nftables does to a connection is what kmsdiag says."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from kmsdiag.model.answer import Icmp, TcpAnswer
from kmsdiag.model.outcome import DnsOutcome, RpcOutcome, TcpOutcome
from kmsdiag.model.path import PathState, VerdictState
from kmsdiag.model.request import RpcBind, SrvQuery, TcpConnect
from kmsdiag.model.target import Family, HostSpec, Target
from tests.integration.world import ask, causes, codes, diagnose, listening, text_of
from tests.netlab import Lab, require_tools

KMS, KMS6 = "10.77.0.13", "fd77::13"
ROUTER, ROUTER6 = "10.77.0.1", "fd77::1"
FAR, FAR6 = "10.77.1.2", "fd78::2"
BOTH = pytest.mark.parametrize("address", [KMS, KMS6])
SYN = "tcp dport 1688 tcp flags & (syn | ack) == syn"

pytestmark = pytest.mark.usefixtures("kms")


def connect(lab: Lab, address: str, timeout: float = 0.5, port: int = 1688, source: str = "") -> TcpAnswer:
    return ask(lab, TcpConnect(address=address, port=port), timeout=timeout, source=source)


def run_hosts(*addresses: str, tries: int = 1) -> Target:
    return Target(hosts=tuple(HostSpec(address) for address in addresses), tries=tries)


class Reject(NamedTuple):
    """A way in which nftables turns a SYN back, and what has to come out of it."""

    how: str
    errno: str
    type: int
    code: int
    name: str


REJECTS = [
    Reject("icmp type net-unreachable", "ENETUNREACH", 3, 0, "network unreachable"),
    Reject("icmp type host-unreachable", "EHOSTUNREACH", 3, 1, "host unreachable"),
    Reject("icmp type prot-unreachable", "ENOPROTOOPT", 3, 2, "protocol unreachable"),
    Reject("icmp type port-unreachable", "ECONNREFUSED", 3, 3, "port unreachable"),
    Reject("icmp type net-prohibited", "ENETUNREACH", 3, 9, "network administratively prohibited"),
    Reject("icmp type host-prohibited", "EHOSTUNREACH", 3, 10, "host administratively prohibited"),
    Reject("icmp type admin-prohibited", "EHOSTUNREACH", 3, 13, "communication administratively prohibited"),
    Reject("icmpv6 type no-route", "ENETUNREACH", 1, 0, "no route to destination"),
    Reject("icmpv6 type admin-prohibited", "EACCES", 1, 1, "communication administratively prohibited"),
    Reject("icmpv6 type addr-unreachable", "EHOSTUNREACH", 1, 3, "address unreachable"),
    Reject("icmpv6 type port-unreachable", "ECONNREFUSED", 1, 4, "port unreachable"),
    Reject("icmpv6 type policy-fail", "EACCES", 1, 5, "source address failed policy"),
    Reject("icmpv6 type reject-route", "EACCES", 1, 6, "reject route to destination"),
]


@BOTH
def test_open(lab: Lab, address: str) -> None:
    answer = connect(lab, address)
    assert (answer.outcome, answer.retransmits, answer.icmp) == (TcpOutcome.OPEN, 0, None)
    assert answer.rtt_ms is not None
    # The kernel's own measure lies inside the time that the whole attempt took.
    assert 0 < answer.rtt_ms <= answer.elapsed_ms < 500


@BOTH
def test_a_closed_port_refuses(lab: Lab, address: str) -> None:
    answer = connect(lab, address, port=1689)
    assert (answer.outcome, answer.errno, answer.icmp) == (TcpOutcome.REFUSED, "ECONNREFUSED", None)


@BOTH
def test_dropped(lab: Lab, address: str) -> None:
    with lab.nft("kms", "tcp dport 1688 drop"):
        answer = connect(lab, address)
        report = diagnose(lab, run_hosts(address), timeout=0.5)
    assert (answer.outcome, answer.icmp, answer.waited_s) == (TcpOutcome.TIMEOUT, None, 0.5)
    assert 500 <= answer.elapsed_ms < 3000
    assert codes(report) >= {"tcp_reachable.timed_out", "rpc_service.nothing"}
    assert causes(report) == ["tcp.timeout"]


@BOTH
def test_reset_by_a_firewall_is_a_refusal(lab: Lab, address: str) -> None:
    with lab.nft("kms", "tcp dport 1688 reject with tcp reset"):
        answer = connect(lab, address)
        report = diagnose(lab, run_hosts(address))
    assert (answer.outcome, answer.errno, answer.icmp) == (TcpOutcome.REFUSED, "ECONNREFUSED", None)
    assert "tcp_reachable.refused" in codes(report)
    assert causes(report) == ["tcp.refused"]


@pytest.mark.parametrize("reject", REJECTS, ids=lambda reject: reject.how)
def test_each_kind_of_icmp_is_named_with_its_sender(lab: Lab, reject: Reject) -> None:
    address = KMS6 if reject.how.startswith("icmpv6") else KMS
    with lab.nft("kms", f"tcp dport 1688 reject with {reject.how}"):
        # By the ICMP itself: the next SYN, which would be answered in any case, goes out after 1 s.
        answer = connect(lab, address, timeout=0.9)
        report = diagnose(lab, run_hosts(address))
    # Port unreachable too: a host without such a port answers TCP with a reset, so this is a firewall's word.
    assert (answer.outcome, answer.errno) == (TcpOutcome.UNREACHABLE, reject.errno)
    assert answer.icmp == Icmp(reject.type, reject.code, address, reject.name)
    assert causes(report) == ["tcp.unreachable"]
    assert f"{reject.name}, said by {address}" in text_of(report, "tcp_reachable.unreachable")


def test_no_such_host_on_the_network(lab: Lab) -> None:
    nobody = "10.77.0.99"
    # One question for the hardware address instead of three, one a second.
    lab.sysctl("client", "ipv4/neigh/eth0/mcast_solicit", 1)
    try:
        answer = connect(lab, nobody, timeout=2.5)
    finally:
        lab.sysctl("client", "ipv4/neigh/eth0/mcast_solicit", 3)
    assert (answer.outcome, answer.errno) == (TcpOutcome.UNREACHABLE, "EHOSTUNREACH")
    # It is this machine itself that found out.
    assert answer.icmp == Icmp(3, 1, lab.v4("client"), "host unreachable")


@pytest.mark.parametrize(
    ("kind", "outcome", "errno"),
    [
        ("unreachable", TcpOutcome.NO_ROUTE, "EHOSTUNREACH"),
        ("prohibit", TcpOutcome.NO_ROUTE, "EACCES"),
        ("blackhole", TcpOutcome.LOCAL_ERROR, "EINVAL"),
    ],
)
def test_a_route_of_this_machine_says_nothing_about_the_host(
    lab: Lab, kind: str, outcome: TcpOutcome, errno: str
) -> None:
    lab.ip("client", f"route add {kind} {KMS}/32")
    try:
        answer = connect(lab, KMS)
        report = diagnose(lab, run_hosts(KMS))
    finally:
        lab.ip("client", f"route del {kind} {KMS}/32")
    assert (answer.outcome, answer.errno, answer.icmp) == (outcome, errno, None)
    assert "tcp_reachable.not_from_here" in codes(report)
    assert report.verdict.state is VerdictState.UNKNOWN
    assert causes(report) == []


@pytest.mark.parametrize("address", ["10.99.0.1", "fd99::1"])
def test_no_route(lab: Lab, address: str) -> None:
    answer = connect(lab, address)
    assert (answer.outcome, answer.errno) == (TcpOutcome.NO_ROUTE, "ENETUNREACH")
    assert answer.elapsed_ms < 100


def test_a_firewall_on_this_machine(lab: Lab) -> None:
    with lab.nft("client", "tcp dport 1688 reject with icmp type admin-prohibited", hook="output"):
        answer = connect(lab, KMS)
    assert answer.outcome is TcpOutcome.UNREACHABLE
    assert answer.icmp == Icmp(3, 13, lab.v4("client"), "communication administratively prohibited")


@BOTH
def test_a_lost_syn_is_seen_though_the_connection_came_about(lab: Lab, address: str) -> None:
    with lab.nft("kms", f"{SYN} numgen inc mod 2 == 0 counter drop"):
        answer = connect(lab, address, timeout=3)
        assert lab.nft_packets("kms") == [1]
    assert (answer.outcome, answer.retransmits) == (TcpOutcome.OPEN, 1)
    assert answer.elapsed_ms > 900


def test_loss_is_a_finding_of_its_own(lab: Lab) -> None:
    with lab.nft("kms", f"{SYN} numgen inc mod 2 == 0 drop"):
        report = diagnose(lab, run_hosts(KMS), only=("tcp_reachable",), timeout=3)
    assert codes(report) == {"tcp_reachable.lossy", "tcp_reachable.open"}
    assert "lost 1 of 2 connection attempts on TCP 1688 (50%)" in text_of(report, "tcp_reachable.lossy")


def test_the_rate_of_loss_over_several_tries(lab: Lab) -> None:
    # The time limit is shorter than the wait before a second SYN, so each loss is a try that failed.
    with lab.nft("kms", f"{SYN} counter", f"{SYN} numgen inc mod 4 == 0 counter drop"):
        report = diagnose(lab, run_hosts(KMS, tries=8), only=("tcp_reachable",), timeout=0.7)
        assert lab.nft_packets("kms") == [8, 2]
    assert "lost 2 of 8 connection attempts on TCP 1688 (25%)" in text_of(report, "tcp_reachable.lossy")
    assert report.verdict.state is not VerdictState.BROKEN


def test_loss_is_counted_as_the_firewall_counts_it(lab: Lab) -> None:
    # Twelve tries at once, with time to send again: which of them the firewall hits is chance, how often is not.
    with lab.nft("kms", f"{SYN} counter", f"{SYN} numgen inc mod 3 == 0 counter drop"):
        report = diagnose(lab, run_hosts(KMS, tries=12), only=("tcp_reachable",), timeout=8)
        sent, lost = lab.nft_packets("kms")
    (finding,) = [f for r in report.results for f in r.findings if f.code == "tcp_reachable.lossy"]
    assert (finding.args["lost"], finding.args["sent"]) == (lost, sent)
    assert lost >= 4


def test_as_many_connections_as_the_report_says(lab: Lab) -> None:
    with lab.nft("kms", f"{SYN} counter"):
        report = diagnose(lab, run_hosts(KMS, KMS6, tries=3))
        arrived = lab.nft_packets("kms")
    # Three tries and two binds, at each of two addresses.
    assert arrived == [report.counts.tcp_connections] == [10]
    assert report.counts.rpc_binds == 4


def test_one_open_try_of_several_makes_the_host_reachable(lab: Lab) -> None:
    with lab.nft("kms", f"{SYN} numgen inc mod 3 < 2 drop"):
        report = diagnose(lab, run_hosts(KMS, tries=3), only=("tcp_reachable",), timeout=0.5)
    assert codes(report) == {"tcp_reachable.open", "tcp_reachable.lossy"}
    assert causes(report) == []


def test_a_slow_line_shows_in_the_handshake(lab: Lab) -> None:
    require_tools("tc")
    fast = connect(lab, KMS)
    lab.sh("kms", "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "4kbit", "burst", "100", "latency", "4s")
    try:
        # The first answer may use up what the line had saved.
        slow = max((connect(lab, KMS, timeout=3) for _ in range(2)), key=lambda answer: answer.rtt_ms or 0)
    finally:
        lab.sh("kms", "tc", "qdisc", "del", "dev", "eth0", "root")
    assert (fast.outcome, slow.outcome) == (TcpOutcome.OPEN, TcpOutcome.OPEN)
    assert fast.rtt_ms is not None
    assert slow.rtt_ms is not None
    assert slow.rtt_ms > 30 > fast.rtt_ms
    assert slow.retransmits == 0


@pytest.mark.parametrize(
    ("rule", "works", "fails"),
    [
        ("meta nfproto ipv6 tcp dport 1688 drop", "IPv4", "IPv6"),
        ("meta nfproto ipv4 tcp dport 1688 reject with tcp reset", "IPv6", "IPv4"),
    ],
)
def test_families_that_differ(lab: Lab, named: str, rule: str, works: str, fails: str) -> None:
    with lab.nft("kms", rule):
        report = diagnose(lab, Target(domains=("one.test",), servers=(named,)), timeout=0.7)
    assert f"works over {works} and not over {fails}" in text_of(report, "tcp_reachable.families_differ")
    assert [path.state for path in report.paths] == [PathState.PARTIAL]
    assert report.verdict.state is VerdictState.DEGRADED


def test_one_family_alone_is_asked_for(lab: Lab, named: str) -> None:
    with lab.nft("kms", "meta nfproto ipv6 tcp dport 1688 counter drop"):
        target = Target(domains=("one.test",), servers=(named,), families=(Family.IPV4,))
        report = diagnose(lab, target)
        assert lab.nft_packets("kms") == [0]
    assert report.verdict.state is VerdictState.HEALTHY


@BOTH
def test_data_dropped_behind_the_handshake(lab: Lab, address: str) -> None:
    # Bare SYN and ACK are smaller than 100 bytes, a bind is larger: what a black hole for large packets does.
    with lab.nft("kms", "tcp dport 1688 meta length > 100 drop"):
        answer = ask(lab, RpcBind(address=address, port=1688), timeout=0.6)
        report = diagnose(lab, run_hosts(address), timeout=0.6)
    assert answer.outcome is RpcOutcome.SILENT
    assert 600 <= answer.elapsed_ms < 3000
    assert codes(report) >= {"tcp_reachable.open", "rpc_service.silent"}
    assert causes(report) == ["rpc.silent"]


def test_the_answer_to_the_bind_is_lost(lab: Lab) -> None:
    with lab.nft("kms", "tcp sport 1688 meta length > 100 drop", hook="output"):
        answer = ask(lab, RpcBind(address=KMS, port=1688), timeout=0.6)
    assert (answer.outcome, answer.received) == (RpcOutcome.SILENT, b"")


def test_a_bind_that_a_firewall_resets(lab: Lab) -> None:
    with lab.nft("kms", "tcp dport 1688 meta length > 100 reject with tcp reset"):
        answer = ask(lab, RpcBind(address=KMS, port=1688))
        report = diagnose(lab, run_hosts(KMS))
    assert answer.outcome is RpcOutcome.RESET
    assert "rpc_service.reset" in codes(report)
    assert causes(report) == ["rpc.reset"]


def test_a_host_that_takes_no_second_connection(lab: Lab) -> None:
    with lab.nft("kms", f"{SYN} numgen inc mod 2 == 1 reject with tcp reset"):
        report = diagnose(lab, run_hosts(KMS))
    assert codes(report) >= {"tcp_reachable.open", "rpc_service.no_connection"}


def test_several_silent_hosts_are_one_fault(lab: Lab) -> None:
    with lab.nft("client", "tcp dport 1688 drop", hook="output"):
        report = diagnose(lab, run_hosts(KMS, KMS6, lab.v4("peer")), timeout=0.5)
    assert causes(report) == ["tcp.timeout_everywhere"]


@pytest.fixture
def second_address(lab: Lab) -> Iterator[str]:
    """Another address of the client."""
    lab.ip("client", "addr add 10.77.0.21/24 dev eth0")
    yield "10.77.0.21"
    lab.ip("client", "addr del 10.77.0.21/24 dev eth0")


def test_the_source_address_is_used_for_tcp_and_dns(lab: Lab, named: str, second_address: str) -> None:
    only = f"ip saddr {lab.v4('client')} meta l4proto {{ tcp, udp }} drop"
    with lab.nft("kms", only), lab.nft("dns", only):
        assert connect(lab, KMS).outcome is TcpOutcome.TIMEOUT
        assert connect(lab, KMS, source=second_address).outcome is TcpOutcome.OPEN
        # Over UDP and, where the answer is cut, over TCP.
        large = SrvQuery(name="_vlmcs._tcp.big.test", server=named)
        answer = ask(lab, large, source=second_address, timeout=0.5)
        assert (answer.outcome, answer.transport) == (DnsOutcome.ANSWERED, "tcp")
        assert ask(lab, large, timeout=0.5).outcome is DnsOutcome.TIMEOUT
    # A source of the other family is left out.
    assert connect(lab, KMS6, source=second_address).outcome is TcpOutcome.OPEN


def test_a_source_that_this_machine_does_not_have(lab: Lab) -> None:
    answer = connect(lab, KMS, source="10.77.0.22")
    assert (answer.outcome, answer.errno) == (TcpOutcome.LOCAL_ERROR, "EADDRNOTAVAIL")


@pytest.fixture(scope="module")
def far(lab: Lab) -> Iterator[None]:
    """A KMS host behind the router: 10.77.1.2 and fd78::2."""
    lab.add_behind("router", "far")
    lab.ip("client", f"route add 10.77.1.0/24 via {ROUTER}\nroute add fd78::/64 via {ROUTER6}")
    with listening(lab, "far", FAR, FAR6):
        yield


@pytest.mark.usefixtures("far")
class TestRouter:
    """A firewall on the way speaks with its own address."""

    @pytest.mark.parametrize("address", [FAR, FAR6])
    def test_it_lets_through(self, lab: Lab, address: str) -> None:
        report = diagnose(lab, run_hosts(address))
        assert report.verdict.state is VerdictState.HEALTHY

    @pytest.mark.parametrize(
        ("address", "rule", "icmp"),
        [
            (
                FAR,
                "icmp type admin-prohibited",
                Icmp(3, 13, ROUTER, "communication administratively prohibited"),
            ),
            (FAR, "icmp type port-unreachable", Icmp(3, 3, ROUTER, "port unreachable")),
            (
                FAR6,
                "icmpv6 type admin-prohibited",
                Icmp(1, 1, ROUTER6, "communication administratively prohibited"),
            ),
        ],
    )
    def test_it_rejects_in_its_own_name(self, lab: Lab, address: str, rule: str, icmp: Icmp) -> None:
        with lab.nft("router", f"tcp dport 1688 reject with {rule}", hook="forward"):
            answer = connect(lab, address, timeout=0.9)
        assert (answer.outcome, answer.icmp) == (TcpOutcome.UNREACHABLE, icmp)

    @pytest.mark.parametrize(
        ("kind", "meaning"),
        [
            ("admin-prohibited", "a firewall rule forbids it on the way"),
            ("port-unreachable", "a firewall rejects the port"),
        ],
    )
    def test_the_report_says_that_it_is_on_the_way(self, lab: Lab, kind: str, meaning: str) -> None:
        with lab.nft("router", f"tcp dport 1688 reject with icmp type {kind}", hook="forward"):
            report = diagnose(lab, run_hosts(FAR))
        (finding,) = [f for r in report.results for f in r.findings if f.code == "tcp_reachable.unreachable"]
        assert (finding.args["sender"], finding.args["meaning"]) == (ROUTER, meaning)

    def test_a_dns_server_behind_a_firewall_is_not_a_dead_one(self, lab: Lab) -> None:
        query = SrvQuery(name="_vlmcs._tcp.one.test", server=FAR)
        with lab.nft("router", "udp dport 53 reject with icmp type port-unreachable", hook="forward"):
            behind = ask(lab, query)
        assert (behind.outcome, behind.detail) == (DnsOutcome.UNREACHABLE, f"port unreachable, said by {ROUTER}")
        assert ask(lab, query).outcome is DnsOutcome.NOT_LISTENING

    @pytest.mark.parametrize(
        ("route", "icmp"),
        [
            ("unreachable 10.77.1.2/32", Icmp(3, 1, ROUTER, "host unreachable")),
            ("prohibit 10.77.1.2/32", Icmp(3, 13, ROUTER, "communication administratively prohibited")),
        ],
    )
    def test_a_route_that_the_router_lacks(self, lab: Lab, route: str, icmp: Icmp) -> None:
        lab.ip("router", f"route add {route}")
        try:
            # A router says this once a second at most; then it is the next SYN that is answered.
            answer = connect(lab, FAR, timeout=3)
        finally:
            lab.ip("router", f"route del {route}")
        assert (answer.outcome, answer.icmp) == (TcpOutcome.UNREACHABLE, icmp)

    def test_a_network_that_the_router_does_not_know(self, lab: Lab) -> None:
        lab.ip("client", f"route add 10.77.2.0/24 via {ROUTER}")
        try:
            answer = connect(lab, "10.77.2.2", timeout=3)
        finally:
            lab.ip("client", f"route del 10.77.2.0/24 via {ROUTER}")
        assert answer.icmp == Icmp(3, 0, ROUTER, "network unreachable")

    def test_a_dead_host_behind_the_router(self, lab: Lab) -> None:
        lab.sysctl("router", "ipv4/neigh/to-far/mcast_solicit", 1)
        answer = connect(lab, "10.77.1.9", timeout=3)
        assert answer.icmp == Icmp(3, 1, ROUTER, "host unreachable")
