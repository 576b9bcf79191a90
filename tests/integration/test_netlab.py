"""The lab itself: what it isolates, how it ends, and what happens where it can't be."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netlab import INSIDE, REQUIRE_ALL, Lab, require, require_lab, until

ROOT = Path(__file__).parents[2]
NETLAB = [sys.executable, str(ROOT / "tests" / "netlab.py")]


def outside(**changes: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != INSIDE} | changes


def test_nothing_inside_can_leave(lab: Lab) -> None:
    for host in ("client", "router", "kms"):
        assert "default" not in lab.sh(host, "ip", "route", "show", "table", "all")

        def leave() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(("192.0.2.1", 9))

        with pytest.raises(OSError, match="unreachable"):
            lab.call(host, leave)


def test_hosts_have_the_addresses_they_were_given(lab: Lab) -> None:
    listed = lab.sh("kms", "ip", "-brief", "address", "show", "dev", "eth0")
    assert f"{lab.v4('kms')}/24" in listed
    assert f"{lab.v6('kms')}/64" in listed


def test_a_call_happens_inside_and_the_caller_stays_outside(lab: Lab) -> None:
    def network() -> str:
        return str(Path("/proc/thread-self/ns/net").readlink())

    before = network()
    assert len({lab.call("client", network), lab.call("kms", network), before}) == 3
    assert network() == before


def test_an_error_inside_is_the_callers(lab: Lab) -> None:
    with pytest.raises(ZeroDivisionError):
        lab.call("client", lambda: 1 // 0)


def test_two_labs_side_by_side_do_not_meet(lab: Lab) -> None:
    with Lab(client=11, kms=13) as other:
        listener = other.call("kms", socket.create_server, (other.v4("kms"), 1700))
        with listener:
            other.call("client", socket.create_connection, (other.v4("kms"), 1700), 2).close()
            with pytest.raises(ConnectionRefusedError):
                lab.call("client", socket.create_connection, (lab.v4("kms"), 1700), 2)


def test_closing_ends_processes_and_removes_namespaces() -> None:
    require_lab()

    def namespaces() -> set[str]:
        return set(subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split())

    before = namespaces()
    with Lab(client=11) as made:
        sleeper = made.popen("client", "sleep", "600")
        assert sleeper.poll() is None
        assert namespaces() > before
    assert sleeper.returncode == -signal.SIGTERM
    assert namespaces() == before


def test_firewall_rules_go_with_their_context(lab: Lab) -> None:
    with lab.nft("peer", "tcp dport 1 counter drop"):
        assert lab.nft_packets("peer") == [0]
    assert lab.sh("peer", "nft", "list", "ruleset") == ""


def test_a_lab_is_refused_outside() -> None:
    code = "from tests.netlab import Lab; Lab(client=11)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=outside(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "RuntimeError: no network lab" in done.stderr


def test_without_namespaces_the_command_runs_all_the_same(tmp_path: Path) -> None:
    # On this PATH there is no unshare.
    command = [*NETLAB, sys.executable, "-c", "import os; print(os.environ.get('NETLAB'))"]
    done = subprocess.run(command, env=outside(PATH=str(tmp_path)), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "None\n")
    (line,) = done.stderr.splitlines()
    assert line == (
        "netlab: tests/integration will not run: no network namespaces here"
        " (unshare (util-linux) and ip (iproute2) are needed)"
    )


def test_the_status_of_the_command_is_the_status() -> None:
    require_lab()
    assert subprocess.run([*NETLAB, "sh", "-c", "exit 7"], env=outside(), check=False).returncode == 7


def test_ending_the_launcher_ends_everything_inside(tmp_path: Path) -> None:
    require_lab()
    beat = tmp_path / "beat"
    beating = f"while echo >> {beat}; do sleep 0.02; done"
    with subprocess.Popen([*NETLAB, "sh", "-c", beating], env=outside()) as launcher:
        until(beat.exists, "the start of the command")
        launcher.terminate()
        assert launcher.wait(10) == 128 + signal.SIGKILL
    size = beat.stat().st_size
    with pytest.raises(TimeoutError):
        until(lambda: beat.stat().st_size > size, "another beat", 0.2)


@pytest.mark.parametrize(("everything", "raised"), [("1", "Failed"), ("", "Skipped")])
def test_a_gap_is_a_skip_here_and_a_failure_where_none_is_allowed(
    monkeypatch: pytest.MonkeyPatch, everything: str, raised: str
) -> None:
    monkeypatch.setenv(REQUIRE_ALL, everything)
    # pytest's own outcomes are no Exceptions, so that nothing swallows them.
    with pytest.raises(BaseException, match="for lack of a reason") as caught:
        require(condition=False, reason="for lack of a reason")
    assert type(caught.value).__name__ == raised
    require(condition=True, reason="none")
