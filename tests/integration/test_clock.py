"""Clocks of real servers: Samba by SMB2, chrony by NTP, Python's web server by HTTP, right and (libfaketime) wrong."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from kmsdiag.model.answer import ClockAnswer
from kmsdiag.model.outcome import ClockOutcome
from kmsdiag.model.request import ClockQuery, ClockSource
from kmsdiag.model.target import HostSpec, Target
from tests.integration.world import Zone, ask, codes, diagnose, start_named, text_of, wait_for
from tests.netlab import Lab, is_real_root, require, require_lab, require_tools

SMB2, NTP, HTTP = ClockSource
TWO_HOURS, FIVE_HOURS = 2 * 3600.0, 5 * 3600.0
LIBFAKETIME: Final = [
    path
    for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    if path.parts[3].startswith(os.uname().machine.replace("arm64", "aarch64"))
]
# libfaketime keeps its state in /dev/shm, and leaves it there where the program is ended.
PRIVATE_SHM: Final = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh")
# Whatever chrony thinks of the time, this machine's clock is not its to set.
HANDS_OFF: Final = ("setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time", "--")

by_source = pytest.mark.parametrize("source", list(ClockSource))
by_family = pytest.mark.parametrize("family", ["IPv4", "IPv6"])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A network of this module's own: these servers are on ports that other tests find closed."""
    require_lab()
    require(is_real_root(), "Samba needs real root: it sets groups, which a user namespace does not let it")
    require_tools("smbd", "chronyd", "named", "unshare", "setpriv")
    require(LIBFAKETIME, "libfaketime is not installed")
    with Lab(client=11, kms=12, ahead=13, dc=14, mixed=15, bare=16, old=17, strict=18) as made:
        yield made


def start(
    lab: Lab, host: str, folder: Path, ready: Callable[[], bool], *command: str, ahead: float = 0
) -> subprocess.Popen[Any]:
    """Start a server whose clock is so many seconds ahead, and wait until it answers."""
    environment = dict(os.environ)
    if ahead:
        command = (*PRIVATE_SHM, "env", f"LD_PRELOAD={LIBFAKETIME[0]}", f"FAKETIME={ahead:+.0f}s", *command)
    log = folder / f"{host}-{Path(command[0]).name}.log"
    with log.open("w") as out:
        # A session of its own: when smbd ends, it ends its whole process group.
        process = lab.popen(host, *command, stdout=out, stderr=out, env=environment, start_new_session=True)
    wait_for(lab, host, process, log, ready)
    return process


def listens(lab: Lab, host: str, port: int) -> Callable[[], bool]:
    def connect() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((lab.v4(host), port), timeout=1):
            return True
        return False

    return connect


def start_smbd(lab: Lab, host: str, folder: Path, *options: str, ahead: float = 0) -> None:
    folder = folder / host
    for part in ("private", "lock", "state", "cache", "ncalrpc"):
        (folder / part).mkdir(parents=True)
    conf = folder / "smb.conf"
    lines = (
        "[global]",
        "workgroup = LAB",
        "server role = standalone server",
        "smb ports = 445",
        "disable netbios = yes",
        "load printers = no",
        "printcap name = /dev/null",
        f"private dir = {folder}/private",
        f"lock directory = {folder}/lock",
        f"state directory = {folder}/state",
        f"cache directory = {folder}/cache",
        f"ncalrpc dir = {folder}/ncalrpc",
        f"pid directory = {folder}",
        *options,
    )
    conf.write_text("\n".join(lines) + "\n")
    command = ("smbd", "--foreground", "--no-process-group", "--debug-stdout", "-s", str(conf))
    start(lab, host, folder, listens(lab, host, 445), *command, ahead=ahead)


def start_chrony(lab: Lab, host: str, folder: Path, *options: str, ahead: float = 0) -> None:
    folder = folder / host
    folder.mkdir(exist_ok=True)
    conf = folder / "chrony.conf"
    lines = ("port 123", "allow all", "cmdport 0", "bindcmdaddress /", f"pidfile {folder}/chrony.pid", *options)
    conf.write_text("\n".join(lines) + "\n")
    # -x: it never touches the clock.
    command = (*HANDS_OFF, "chronyd", "-d", "-x", "-u", "root", "-f", str(conf))

    def ready() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.2)
            with contextlib.suppress(OSError):
                sock.connect((lab.v4(host), 123))
                sock.send(b"\x23" + bytes(47))
                return len(sock.recv(64)) == 48
        return False

    start(lab, host, folder, ready, *command, ahead=ahead)


def start_web(lab: Lab, host: str, folder: Path, ahead: float = 0) -> None:
    folder = folder / host / "web"
    folder.mkdir(parents=True)
    command = (sys.executable, "-m", "http.server", "--bind", "::", "--directory", str(folder), "80")
    start(lab, host, folder, listens(lab, host, 80), *command, ahead=ahead)


@pytest.fixture(scope="module")
def servers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The clocks: "kms" right by SMB2 and HTTP, "ahead" five hours ahead by both, "mixed" right by HTTP and two hours
    ahead by NTP, "dc" five hours ahead by NTP and a DNS server, "strict" and "old" only with the newest and oldest SMB;
    "bare" has nothing."""
    folder = tmp_path_factory.mktemp("clock")
    start_smbd(lab, "kms", folder)
    start_web(lab, "kms", folder)
    start_smbd(lab, "ahead", folder, ahead=FIVE_HOURS)
    start_web(lab, "ahead", folder, ahead=FIVE_HOURS)
    start_smbd(lab, "strict", folder, "server min protocol = SMB3_11")
    start_chrony(lab, "strict", folder)
    start_smbd(lab, "old", folder, "server min protocol = NT1", "server max protocol = NT1")
    start_chrony(lab, "mixed", folder, "local stratum 3", ahead=TWO_HOURS)
    start_web(lab, "mixed", folder)
    start_chrony(lab, "dc", folder, "local stratum 5", ahead=FIVE_HOURS)
    zones = {
        f"{host}.test": Zone(f"_vlmcs._tcp SRV 0 0 1688 kms\nkms A {lab.v4(host)}\nkms AAAA {lab.v6(host)}\n")
        for host in ("kms", "ahead", "bare")
    }
    (folder / "named").mkdir()
    start_named(lab, "dc", folder / "named", zones, "recursion no;", "kms.test")


def clock(lab: Lab, host: str, source: ClockSource, family: str = "IPv4", timeout: float = 2.0) -> ClockAnswer:
    address = lab.v6(host) if family == "IPv6" else lab.v4(host)
    return ask(lab, ClockQuery(address=address, source=source), timeout=timeout)


def hosts(*addresses: str) -> Target:
    return Target(hosts=tuple(HostSpec(address) for address in addresses), trace=False)


@pytest.mark.usefixtures("servers")
class TestReadings:
    @by_family
    @pytest.mark.parametrize(
        ("host", "source", "offset", "step"),
        [
            ("kms", SMB2, 0.0, 0.0157),
            ("strict", SMB2, 0.0, 0.0157),
            ("ahead", SMB2, FIVE_HOURS, 0.0157),
            ("mixed", NTP, TWO_HOURS, 0.0001),
            ("dc", NTP, FIVE_HOURS, 0.0001),
            ("kms", HTTP, 0.0, 1.0001),
            ("ahead", HTTP, FIVE_HOURS, 1.0001),
        ],
    )
    def test_the_true_offset_lies_inside_the_error_bar(
        self, lab: Lab, host: str, source: ClockSource, offset: float, step: float, family: str
    ) -> None:
        for _ in range(3):
            answer = clock(lab, host, source, family)
            assert (answer.outcome, answer.detail) == (ClockOutcome.ANSWERED, "")
            assert abs(answer.offset_s - offset) <= answer.error_s
            # Half of the exchange at most, besides what the clock itself rounds away.
            assert answer.error_s <= step + answer.elapsed_ms / 2000

    def test_the_stratum_is_told(self, lab: Lab) -> None:
        assert [clock(lab, host, NTP).stratum for host in ("mixed", "dc")] == [3, 5]

    def test_an_ntp_server_that_follows_nobody(self, lab: Lab) -> None:
        answer = clock(lab, "strict", NTP)
        assert (answer.outcome, answer.detail, answer.offset_s) == (ClockOutcome.UNSYNCHRONISED, "leap 3", 0.0)

    def test_smb_1_alone_tells_no_time(self, lab: Lab) -> None:
        answer = clock(lab, "old", SMB2)
        assert answer.outcome is ClockOutcome.NOT_SPOKEN
        assert answer.detail == "the connection was closed"


@pytest.mark.usefixtures("servers")
class TestEnds:
    @by_family
    @by_source
    def test_nobody_listens(self, lab: Lab, source: ClockSource, family: str) -> None:
        answer = clock(lab, "bare", source, family)
        assert answer.outcome is ClockOutcome.REFUSED
        assert answer.elapsed_ms < 500

    @by_family
    @pytest.mark.parametrize(
        ("host", "source", "ports"), [("kms", SMB2, "tcp dport 445"), ("dc", NTP, "udp dport 123")]
    )
    def test_filtered(self, lab: Lab, host: str, source: ClockSource, ports: str, family: str) -> None:
        with lab.nft(host, f"{ports} drop"):
            answer = clock(lab, host, source, family, timeout=5.0)
        assert answer.outcome is ClockOutcome.SILENT
        # A second, whatever the time limit of the run is.
        assert 1000 <= answer.elapsed_ms < 1500

    @by_family
    @by_source
    def test_rejected_by_a_firewall(self, lab: Lab, source: ClockSource, family: str) -> None:
        how = "icmpv6 type admin-prohibited" if family == "IPv6" else "icmp type admin-prohibited"
        protocol = "udp" if source is NTP else "tcp"
        with lab.nft("bare", f"{protocol} dport {source.port} reject with {how}"):
            answer = clock(lab, "bare", source, family)
        assert answer.outcome is ClockOutcome.UNREACHABLE
        sender = lab.v6("bare") if family == "IPv6" else lab.v4("bare")
        assert answer.detail == f"communication administratively prohibited, said by {sender}"
        assert answer.elapsed_ms < 500

    @by_source
    @pytest.mark.parametrize("address", ["10.99.0.1", "fd99::1"])
    def test_no_route(self, lab: Lab, source: ClockSource, address: str) -> None:
        answer = ask(lab, ClockQuery(address=address, source=source))
        assert (answer.outcome, answer.detail) == (ClockOutcome.UNREACHABLE, "ENETUNREACH")

    def test_an_answer_that_never_arrives(self, lab: Lab) -> None:
        # The connection opens and what the server says is lost.
        with lab.nft("kms", "tcp sport 445 tcp flags & (psh | ack) == psh | ack drop", hook="output"):
            answer = clock(lab, "kms", SMB2, timeout=0.5)
        assert (answer.outcome, answer.detail) == (
            ClockOutcome.SILENT,
            "the connection opened, then nothing came",
        )


@pytest.mark.usefixtures("servers")
class TestRuns:
    def test_clocks_that_agree(self, lab: Lab) -> None:
        report = diagnose(lab, hosts(lab.v4("kms"), lab.v6("kms")), only=("clock_skew",))
        assert codes(report) == {"clock_skew.within"}

    def test_one_host_five_hours_ahead(self, lab: Lab) -> None:
        report = diagnose(lab, hosts(lab.v4("ahead")), only=("clock_skew",))
        assert codes(report) == {"clock_skew.beyond"}
        text = text_of(report, "clock_skew.beyond")
        assert text.startswith("10.77.0.13 is +")
        assert "5 h 0 min 0.0 s" in text or "4 h 59 min 60.0 s" in text or "4 h 59 min 59.9 s" in text
        assert "more than 4 hours" in text

    def test_a_host_and_its_domain_are_apart(self, lab: Lab) -> None:
        # The host has this machine's time, the DNS server does not: that is what clients see.
        report = diagnose(lab, Target(domains=("kms.test",), servers=(lab.v4("dc"),)), only=("clock_skew",))
        assert codes(report) == {"clock_skew.apart_beyond", "clock_skew.within"}
        apart = [f for result in report.results for f in result.findings if f.code == "clock_skew.apart_beyond"]
        assert {finding.args["machine"] for finding in apart} == {
            f"kms.kms.test ({address})" for address in lab.both("kms")
        }
        commands = [fix.command for fix in apart[0].fixes]
        assert "w32tm /stripchart /computer:10.77.0.14 /samples:3 /dataonly" in commands

    def test_all_others_agree(self, lab: Lab) -> None:
        report = diagnose(lab, Target(domains=("ahead.test",), servers=(lab.v4("dc"),)), only=("clock_skew",))
        assert codes(report) == {"clock_skew.here_wrong"}
        assert " slow against all 2 machines that told theirs" in text_of(report, "clock_skew.here_wrong")

    def test_no_host_tells_its_time(self, lab: Lab) -> None:
        target = Target(domains=("bare.test",), servers=(lab.v4("dc"),))
        report = diagnose(lab, target, only=("clock_skew",))
        assert codes(report) == {"clock_skew.unknown", "clock_skew.server_off"}

    def test_one_machine_with_two_clocks(self, lab: Lab) -> None:
        report = diagnose(lab, hosts(lab.v4("mixed")), only=("clock_skew",))
        assert codes(report) == {"clock_skew.sources_differ", "clock_skew.large"}
        text = text_of(report, "clock_skew.sources_differ")
        assert "NTP +" in text
        assert "HTTP " in text

    def test_a_filtered_host_costs_a_second(self, lab: Lab) -> None:
        with lab.nft("kms", "drop"):
            report = diagnose(lab, hosts(lab.v4("kms")), only=("clock_skew",), timeout=5.0)
        assert text_of(report, "clock_skew.unknown") == (
            "10.77.0.12 tells nobody its time: SMB2 silent, NTP silent, HTTP silent."
        )
        # All three at once.
        assert (report.ended - report.started).total_seconds() < 2

    def test_one_connection_and_one_datagram_a_source(self, lab: Lab) -> None:
        syn = "tcp flags & (fin | syn | rst | ack) == syn"
        rules = [
            f"tcp dport 445 {syn} counter",
            f"tcp dport 80 {syn} counter",
            "udp dport 123 counter",
            syn + " counter",
        ]
        with lab.nft("kms", *rules):
            diagnose(lab, hosts(lab.v4("kms")), only=("clock_skew",))
            arrived = lab.nft_packets("kms")
        assert arrived == [1, 1, 1, 2]

    def test_nothing_is_asked_where_clocks_are_not_wanted(self, lab: Lab) -> None:
        with lab.nft("kms", "ip daddr 10.77.0.12 counter"):
            target = Target(hosts=(HostSpec(lab.v4("kms")),), clock=False)
            report = diagnose(lab, target, only=("clock_skew",))
            assert lab.nft_packets("kms") == [0]
        assert codes(report) == {"clock_skew.off"}
