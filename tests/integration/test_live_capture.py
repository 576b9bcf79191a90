"""Recording live in namespaces: beside tcpdump, while ``check`` probes, and until a host's first answer.

Nothing here asks for activation: hosts accept binds, and one says "refused" without ever having been asked.
"""

import contextlib
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kmsdiag.lab.rpc import bind_ack
from kmsdiag.model.request import KMS_INTERFACE
from kmsdiag.wire import rpc
from tests.netlab import Lab, require_tools, until

KMSDIAG = (sys.executable, "-m", "kmsdiag")
REFUSED = 0xC004F042


def refusal() -> bytes:
    """A response PDU that refuses: NDR32, no body, an HRESULT."""
    stub = struct.pack("<III", 0, 0, REFUSED)
    body = struct.pack("<IHBB", len(stub), 0, 0, 0) + stub
    return struct.pack("<BBBB4sHHI", 5, 0, 2, 3, b"\x10\0\0\0", 16 + len(body), 0, 2) + body


def packets(file: Path) -> int:
    done = subprocess.run(["capinfos", "-Mc", str(file)], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout.rsplit(None, 1)[-1])


def run(lab: Lab, host: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run kmsdiag in a host, in a folder."""
    return lab.call(
        host,
        lambda: subprocess.run(
            [*KMSDIAG, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        ),
    )


@contextlib.contextmanager
def recording(lab: Lab, host: str, *arguments: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """``kmsdiag capture`` under way in a host."""
    log = folder / "said.txt"
    with log.open("w") as said:
        process = lab.popen(
            host,
            *KMSDIAG,
            "capture",
            *arguments,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
    until(lambda: "recording on" in log.read_text(), "recording begins", 20)
    yield process
    if process.poll() is None:
        lab.stop(process)


def bind(lab: Lab, host: str, address: str) -> None:
    """One connection, one bind, as kmsdiag makes it."""

    def put() -> None:
        with socket.create_connection((address, 1688), timeout=5) as sock:
            sock.sendall(rpc.encode_bind(KMS_INTERFACE))
            sock.recv(4_096)

    lab.call(host, put)


def test_the_same_packets_as_tcpdump(lab: Lab, kms: str, tmp_path: Path) -> None:
    require_tools("tcpdump", "capinfos")
    beside = tmp_path / "tcpdump.pcap"
    tcpdump = lab.popen(
        "client", "tcpdump", "-i", "eth0", "-U", "-w", str(beside), "tcp port 1688", stderr=subprocess.PIPE, text=True
    )
    errors = tcpdump.stderr
    assert errors is not None
    until(lambda: "listening" in errors.readline(), "tcpdump records")
    with recording(lab, "client", "-i", "eth0", "-w", "own.pcapng", folder=tmp_path) as process:
        for _ in range(20):
            bind(lab, "client", kms)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        report, _err = process.communicate(timeout=30)
    tcpdump.terminate()
    tcpdump.wait(10)
    assert process.returncode in (0, 3)
    own = subprocess.run(
        # An ICMP error quotes the ports of what it answers, and tcpdump's filter does not look into it.
        ["tshark", "-n", "-r", str(tmp_path / "own.pcapng"), "-Y", "tcp.port==1688 && !icmp"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert len(own.stdout.splitlines()) == packets(beside) > 20 * 8
    assert f"{kms}:1688" in report
    assert "0 dropped" in (tmp_path / "said.txt").read_text()


def test_several_interfaces_in_one_file(lab: Lab, kms: str, tmp_path: Path) -> None:
    require_tools("tshark", "capinfos")

    def knock() -> None:
        with socket.socket() as sock:
            assert sock.connect_ex(("127.0.0.1", 1688)) != 0

    with recording(lab, "client", "-i", "eth0", "-i", "lo", "-w", "two.pcapng", folder=tmp_path) as process:
        bind(lab, "client", kms)
        lab.call("client", knock)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        report, _err = process.communicate(timeout=30)
    fields = [
        "-T",
        "fields",
        "-e",
        "frame.interface_name",
        "-e",
        "ip.dst",
        "-Y",
        "tcp.flags.syn==1 && tcp.flags.ack==0",
    ]
    command = ["tshark", "-n", "-r", "two.pcapng", *fields]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert set(done.stdout.splitlines()) == {f"eth0\t{kms}", "lo\t127.0.0.1"}
    assert f"{kms}:1688" in report
    assert "127.0.0.1:1688" in report
    counts = subprocess.run(
        ["capinfos", "-I", str(tmp_path / "two.pcapng")], capture_output=True, text=True, check=True, timeout=60
    )
    numbers = [int(line.rsplit(None, 1)[-1]) for line in counts.stdout.splitlines() if "Number of packets" in line]
    assert len(numbers) == 2
    assert all(numbers)


def test_check_and_capture_in_one_report(lab: Lab, named: str, kms: str, tmp_path: Path) -> None:
    arguments = ("check", "one.test", "--server", named, "--capture", "-i", "eth0", "--no-clock", "--no-trace")
    done = run(
        lab, "client", *arguments, "--format", "json", "--record", "run.json", "-w", "run.pcapng", folder=tmp_path
    )
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    (facts,) = report["captures"]["files"]
    assert facts["packets"] == packets(tmp_path / "run.pcapng") > 0
    checks = {result["check"] for result in report["results"]}
    assert {"tcp_reachable", "capture_rpc", "capture_discovery"} <= checks
    hosts = {(host["address"], host["port"]) for host in report["captures"]["hosts"]}
    assert (kms, 1688) in hosts
    # What was recorded is judged again to the same words, without a network.
    again = run(lab, "client", "analyze", "run.json", "--format", "json", folder=tmp_path)
    assert json.loads(again.stdout)["verdict"] == report["verdict"]


def test_check_keeps_no_file_unless_told(lab: Lab, named: str, kms: str, tmp_path: Path) -> None:
    done = run(lab, "client", "check", "one.test", "--server", named, "--capture", "-i", "eth0", folder=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_until_the_first_answer_of_a_host(lab: Lab, tmp_path: Path) -> None:
    arguments = ("-i", "eth0", "--until-activation", "-w", "w.pcapng")
    with (
        lab.call("router", socket.create_server, (lab.v4("router"), 1688)) as server,
        recording(lab, "client", *arguments, folder=tmp_path) as process,
        lab.call("client", socket.create_connection, (lab.v4("router"), 1688)) as client,
    ):
        host, _address = server.accept()
        with host:
            client.sendall(rpc.encode_bind(KMS_INTERFACE))
            host.recv(4_096)
            host.sendall(bind_ack(rpc.encode_bind(KMS_INTERFACE), 1688, None))
            client.recv(4_096)
            time.sleep(0.5)
            assert process.poll() is None, "a bind is no answer"
            host.sendall(refusal())
            client.recv(4_096)
            report, _err = process.communicate(timeout=30)
    said = (tmp_path / "said.txt").read_text()
    assert f"{lab.v4('router')} answered {lab.v4('client')}" in said
    assert "0xC004F042" in report


def test_time_is_up(lab: Lab, tmp_path: Path) -> None:
    done = run(lab, "client", "capture", "-i", "eth0", "--seconds", "0.5", "-w", "w.pcapng", folder=tmp_path)
    assert done.returncode == 3, "nothing was seen, so nothing is known"
    assert "recording on eth0" in done.stderr
    assert (tmp_path / "w.pcapng").exists()


def test_a_ring_keeps_the_newest_files(lab: Lab, kms: str, tmp_path: Path) -> None:
    arguments = ("-i", "eth0", "--ring", "3x20k", "-w", "ring.pcapng")
    with recording(lab, "client", *arguments, folder=tmp_path) as process:
        for _ in range(60):
            bind(lab, "client", kms)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    files = sorted(tmp_path.glob("ring_*.pcapng"))
    assert len(files) == 3
    assert all(file.stat().st_size <= 20_000 for file in files)
    assert files[0].name > "ring_00001.pcapng"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-i", "nosuch"), "there is no interface 'nosuch': see 'kmsdiag capture list'"),
        (("-i", "eth0", "-w", "there.pcapng"), "there.pcapng is there already"),
        (("-i", "eth0", "--ring", "10"), "--ring '10' is no ring"),
        (("-i", "eth0", "--ring", "2x20k", "-w", "ring.pcapng"), "ring_00007.pcapng is there already"),
        (("-i", "eth0", "--until-activation", "--client", "kms"), "--client"),
    ],
)
def test_what_a_person_got_wrong_is_one_line(lab: Lab, arguments: Any, says: str, tmp_path: Path) -> None:
    (tmp_path / "there.pcapng").write_bytes(b"mine")
    (tmp_path / "ring_00007.pcapng").write_bytes(b"mine")
    done = run(lab, "client", "capture", *arguments, "--seconds", "1", folder=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"there.pcapng", "ring_00007.pcapng"}
    assert all(file.read_bytes() == b"mine" for file in tmp_path.iterdir())


def test_without_privilege_it_says_what_to_run_instead(lab: Lab, tmp_path: Path) -> None:
    require_tools("setpriv")
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *KMSDIAG, "capture", "--seconds", "1", "-i", "eth0"]
    done = lab.call(
        "client",
        lambda: subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False),
    )
    assert done.returncode == 2
    assert "sudo tcpdump" in done.stderr
    assert "pktmon" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("kmsdiag: this user may not record on eth0")
    assert list(tmp_path.iterdir()) == []
