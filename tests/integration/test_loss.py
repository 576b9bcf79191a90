"""Packets that get lost, and lines that are slow: what several tries say about them, counted by the firewall too."""

import socket
from collections.abc import Iterator

import pytest

from kmsdiag.model.report import FindingView, Report
from kmsdiag.model.target import HostSpec, Target
from tests.integration.world import codes, diagnose
from tests.netlab import Lab, require_tools

BOTH = pytest.mark.parametrize("address", ["10.77.0.13", "fd77::13"])
SYN = "tcp dport 1688 tcp flags & (syn | ack) == syn"
SYN_ACK = "tcp sport 1688 tcp flags & (syn | ack) == syn | ack"

pytestmark = pytest.mark.usefixtures("kms")


def run(lab: Lab, *addresses: str, tries: int, timeout: float = 0.5) -> Report:
    target = Target(hosts=tuple(HostSpec(address) for address in addresses), tries=tries)
    return diagnose(lab, target, only=("tcp_reachable", "tcp_path"), timeout=timeout)


def finding(report: Report, code: str) -> FindingView:
    (found,) = (one for result in report.results for one in result.findings if one.code == code)
    return found


def number(value: object) -> int:
    assert isinstance(value, int)
    return value


@BOTH
def test_random_loss_is_measured_as_the_firewall_counts_it(lab: Lab, address: str) -> None:
    tries = 16
    with lab.nft("kms", f"{SYN} counter", f"{SYN} numgen random mod 100 < 50 counter drop"):
        report = run(lab, address, tries=tries)
        sent, dropped = lab.nft_packets("kms")
    assert "tcp_reachable.lossy" in codes(report)
    args = finding(report, "tcp_reachable.lossy").args
    # The trace, where the first try was lost, sends SYNs of its own; they are no tries.
    traced = sent - tries
    assert args["sent"] == tries
    lost = number(args["lost"])
    assert dropped - traced <= lost <= dropped
    # Half of them: fewer than 2 or more than 14 of 16 come about once in 1900 runs.
    assert 2 <= lost <= 14
    assert args["rate"] == f"{lost / tries:.0%}"


@BOTH
def test_a_known_share(lab: Lab, address: str) -> None:
    """Every third SYN, from the second on: 4 of 12."""
    with lab.nft("kms", f"{SYN} numgen inc mod 3 == 1 drop"):
        report = run(lab, address, tries=12)
    args = finding(report, "tcp_reachable.lossy").args
    assert (args["lost"], args["sent"], args["rate"]) == (4, 12, "33%")
    assert codes(report) == {"tcp_reachable.lossy", "tcp_reachable.open", "tcp_path.not_needed"}


@BOTH
def test_answers_that_are_lost(lab: Lab, address: str) -> None:
    """The way back counts as well: it is the same to a client."""
    with lab.nft("kms", f"{SYN_ACK} numgen inc mod 4 == 1 drop", hook="output"):
        report = run(lab, address, tries=12)
    args = finding(report, "tcp_reachable.lossy").args
    assert 2 <= number(args["lost"]) <= 5
    assert "tcp_reachable.open" in codes(report)


def test_no_loss_is_no_finding(lab: Lab) -> None:
    report = run(lab, "10.77.0.13", "fd77::13", tries=5)
    assert codes(report) == {"tcp_reachable.open", "tcp_path.not_needed"}


def test_loss_of_everything_is_silence(lab: Lab) -> None:
    with lab.nft("kms", f"{SYN} drop"):
        report = run(lab, "10.77.0.13", tries=4, timeout=0.3)
    assert codes(report) == {"tcp_reachable.timed_out", "tcp_path.no_hop"}
    assert finding(report, "tcp_reachable.timed_out").args["attempts"] == "4 attempts"


def test_one_family_loses_and_the_other_does_not(lab: Lab) -> None:
    with lab.nft("kms", f"meta nfproto ipv6 {SYN} numgen inc mod 2 == 1 drop"):
        report = run(lab, "10.77.0.13", "fd77::13", tries=6)
    assert finding(report, "tcp_reachable.lossy").args["address"] == "fd77::13"


def fill_line(lab: Lab) -> None:
    """Let datagrams of the host "kms" wait in front of whatever it sends next; nobody takes them."""
    with lab.call("kms", socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(5):
            sock.sendto(bytes(50), (lab.v4("client"), 9))


@pytest.fixture
def slow_line(lab: Lab) -> Iterator[None]:
    """The host "kms" sends 625 bytes a second; a datagram of :func:`fill_line` takes 150 ms."""
    require_tools("tc")
    lab.sh("kms", "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "5kbit", "burst", "100", "latency", "4s")
    yield
    lab.sh("kms", "tc", "qdisc", "del", "dev", "eth0", "root")


@BOTH
@pytest.mark.usefixtures("slow_line")
def test_a_slow_line(lab: Lab, address: str) -> None:
    """It is slow, and none of its packets is taken for lost."""
    fill_line(lab)
    report = run(lab, address, tries=1, timeout=2)
    latency = float(str(finding(report, "tcp_reachable.open").args["latency"]))
    assert codes(report) == {"tcp_reachable.open", "tcp_path.not_needed"}
    assert 100 < latency < 1000
