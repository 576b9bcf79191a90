"""A network of its own for tests that need one: hosts, a switch, firewalls, ports below 1024; nothing leaves it.

``python tests/netlab.py CMD...`` runs CMD in fresh network, mount and PID namespaces: as root directly, otherwise
(or with NETLAB_ROOTLESS=1) inside a user namespace, where no privileges are needed. Where neither works, one line says
so and CMD runs all the same; tests that call :func:`require` then skip, or fail where KMSDIAG_REQUIRE_ALL=1.
"""

import asyncio
import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, NoReturn, ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

INSIDE: Final = "NETLAB"
ROOTLESS: Final = "NETLAB_ROOTLESS"
REQUIRE_ALL: Final = "KMSDIAG_REQUIRE_ALL"
OUTSIDE: Final = "no network lab; run it as: python tests/netlab.py python -m pytest"

_CLONE_NEWNET: Final = 0x40000000
_NAMESPACES: Final = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# A private /run lets `ip netns add` work without root, and its names never meet the machine's own.
_ENTER: Final = "mount -t tmpfs tmpfs /run && ip link set lo up"
_TRY: Final = (
    f"{_ENTER} && ip netns add there && ip link add br0 type bridge"
    " && ip link add here0 type veth peer name there0 netns there"
)


def inside() -> bool:
    """Whether this process runs in a network of the lab's making."""
    return os.environ.get(INSIDE) == "1"


def is_real_root() -> bool:
    """Whether this process is root of the machine, and not only of a user namespace."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def require(condition: object, reason: str) -> None:
    """Skip the test where the condition does not hold; fail it where nothing may be skipped (in CI)."""
    import pytest

    if condition:
        return
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{reason} ({REQUIRE_ALL}=1 allows no gap)", pytrace=False)
    pytest.skip(reason)


def require_tools(*names: str) -> None:
    """Skip or fail where one of these programs is not installed."""
    for name in names:
        require(shutil.which(name), f"{name} is not installed")


def require_lab() -> None:
    """Skip or fail outside the lab."""
    require(inside(), OUTSIDE)
    require_tools("ip", "nft")


def until(condition: Callable[[], R], what: str, seconds: float = 10.0) -> R:
    """The first true value of ``condition``; it is tried every few milliseconds.

    Raises:
        TimeoutError: it did not become true in time.
    """
    limit = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > limit:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.01)
    return value


class Lab:
    """Hosts on one switch, each in a network namespace: ``Lab(client=11, kms=13)`` has 10.77.0.11 and fd77::13.

    The switch has a namespace too, so several labs can exist side by side. A context manager: leaving it ends the
    processes it started and removes the namespaces.

    Raises:
        RuntimeError: outside the namespaces of ``python tests/netlab.py``; the machine's own network is never touched.
    """

    _numbers = itertools.count(1)

    def __init__(self, **hosts: int) -> None:
        if not inside() or _has_default_route():
            raise RuntimeError(OUTSIDE)
        self._prefix = f"lab{os.getpid()}-{next(self._numbers)}-"
        self._hosts = hosts
        self._namespaces: list[str] = []
        self._processes: list[subprocess.Popen[Any]] = []
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        switch = self._add_namespace("switch")
        _ip(switch, "link add br0 type bridge\nlink set br0 up")
        for host, number in self._hosts.items():
            namespace = self._add_namespace(host)
            _ip(
                switch,
                f"link add p{number} type veth peer name eth0 netns {namespace}\nlink set p{number} master br0 up",
            )
            # nodad: an IPv6 address is usable at once.
            _ip(
                namespace,
                f"link set lo up\naddr add {self.v4(host)}/24 dev eth0\n"
                f"addr add {self.v6(host)}/64 dev eth0 nodad\nlink set eth0 up",
            )
            # Without this, only the first few rejects a second are said by ICMP, and the rest look like silence.
            self.sysctl(host, "ipv4/icmp_ratelimit", 0)
            self.sysctl(host, "ipv6/icmp/ratelimit", 0)

    def _add_namespace(self, name: str) -> str:
        namespace = self._prefix + name
        _run("ip", "netns", "add", namespace)
        self._namespaces.append(namespace)
        # No waiting for link-local addresses to be found unique; there is nobody else.
        self.sysctl(name, "ipv6/conf/default/accept_dad", 0)
        return namespace

    def v4(self, host: str) -> str:
        """IPv4 address of a host."""
        return f"10.77.0.{self._hosts[host]}"

    def v6(self, host: str) -> str:
        """IPv6 address of a host (its last group reads like the IPv4 address's last number)."""
        return f"fd77::{self._hosts[host]}"

    def both(self, host: str) -> tuple[str, str]:
        """IPv4 and IPv6 address of a host."""
        return self.v4(host), self.v6(host)

    def add_behind(self, router: str, host: str) -> None:
        """Add a host with 10.77.1.2 and fd78::2 behind another one, which becomes a router (by ``to-<host>``)."""
        inner, outer = self._prefix + router, self._add_namespace(host)
        _ip(
            inner,
            f"link add to-{host} type veth peer name eth0 netns {outer}\naddr add 10.77.1.1/24 dev to-{host}\n"
            f"addr add fd78::1/64 dev to-{host} nodad\nlink set to-{host} up",
        )
        _ip(
            outer,
            "link set lo up\naddr add 10.77.1.2/24 dev eth0\naddr add fd78::2/64 dev eth0 nodad\nlink set eth0 up\n"
            "route add default via 10.77.1.1\nroute add default via fd78::1",
        )
        self.sysctl(router, "ipv4/ip_forward", 1)
        self.sysctl(router, "ipv6/conf/all/forwarding", 1)

    def ip(self, host: str, commands: str) -> None:
        """Run ``ip`` commands (one a line, without the word ip) in a host."""
        _ip(self._prefix + host, commands)

    def sysctl(self, host: str, name: str, value: int) -> None:
        """Set a value below /proc/sys/net in a host."""
        self.call(host, Path("/proc/sys/net", name).write_text, str(value))

    def call(self, host: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in a thread of this process that is inside the host. Sockets it opens stay there."""
        future: Future[R] = Future()

        def work() -> None:
            try:
                self._enter(host)
                future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # whatever it was, it is the caller's
                future.set_exception(error)

        thread = threading.Thread(target=work, name=f"in {host}", daemon=True)
        thread.start()
        try:
            return future.result()
        finally:
            thread.join(5)

    def run(self, host: str, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine inside a host."""
        return self.call(host, asyncio.run, coroutine)

    def _enter(self, host: str) -> None:
        # os.setns came with Python 3.12. It moves this thread alone, for the rest of its life.
        with open(f"/run/netns/{self._prefix}{host}", "rb") as namespace:  # noqa: PTH123
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), host)

    def popen(self, host: str, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside a host; it is ended with the lab at the latest."""
        # A child is born into the namespace of the thread that starts it.
        process = self.call(host, lambda: subprocess.Popen(command, **options))
        self._processes.append(process)
        return process

    def sh(self, host: str, *command: str, stdin: str | None = None) -> str:
        """Run a program inside a host to its end; what it printed.

        Raises:
            CalledProcessError: it failed; the note holds what it said.
        """
        return self.call(host, _run, *command, stdin=stdin)

    @contextlib.contextmanager
    def nft(self, host: str, *rules: str, hook: str = "input", table: str = "lab") -> Iterator[None]:
        """Firewall rules in a host, for as long as the context lasts. They go into the chain ``inet lab rules``."""
        lines = "\n".join(rules)
        text = f"table inet {table} {{\n chain rules {{\n type filter hook {hook} priority 0;\n{lines}\n}}\n}}\n"
        self.sh(host, "nft", "-f", "-", stdin=text)
        try:
            yield
        finally:
            self.sh(host, "nft", "delete", "table", "inet", table)

    def nft_packets(self, host: str) -> list[int]:
        """Packets that each ``counter`` of the rules has seen, in their order."""
        words = self.sh(host, "nft", "list", "table", "inet", "lab").split()
        return [int(words[at + 2]) for at, word in enumerate(words) if word == "counter"]

    def stop(self, process: subprocess.Popen[Any]) -> None:
        """End one process that the lab started."""
        if process in self._processes:
            self._processes.remove(process)
        end(process)

    def close(self) -> None:
        """End all processes of this lab and remove its namespaces."""
        for process in self._processes:
            process.terminate()
        while self._processes:
            self.stop(self._processes[-1])
        while self._namespaces:
            # Removing the last name destroys the namespace; a veth goes with either of its ends.
            _run("ip", "netns", "del", self._namespaces.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def end(process: subprocess.Popen[Any], seconds: float = 5.0) -> None:
    """Terminate a process, kill it where that does not help, and close its pipes."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    pipe: IO[Any] | None
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _has_default_route() -> bool:
    """Whether packets could leave: the lab's own main namespace has nothing but lo."""
    return "default" in _run("ip", "route", "show", "table", "all")


def _ip(namespace: str, commands: str) -> None:
    _run("ip", "-n", namespace, "-batch", "-", stdin=commands)


def _run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        error.add_note(done.stderr.strip())
        raise error
    return done.stdout


def how() -> tuple[list[str] | None, str]:
    """Arguments for unshare that work here, or None and the reason why none do."""
    ways: list[tuple[str, ...]] = [("--user", "--map-root-user")]
    if os.geteuid() == 0 and os.environ.get(ROOTLESS) != "1":
        ways.insert(0, ())
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return None, "unshare (util-linux) and ip (iproute2) are needed"
    reason = ""
    for way in ways:
        arguments = [*way, *_NAMESPACES]
        done = subprocess.run(["unshare", *arguments, "sh", "-c", _TRY], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return arguments, ""
        reason = (done.stderr.strip().splitlines() or [f"unshare ended with {done.returncode}"])[-1]
    return None, reason


def enter(command: list[str]) -> int:
    """Run a command inside the lab, or where there can be none, plainly; its exit status."""
    arguments, reason = how()
    if arguments is None:
        sys.stderr.write(f"netlab: tests/integration will not run: no network namespaces here ({reason})\n")
        sys.stderr.flush()
        os.execvp(command[0], command)
    script = f'{_ENTER} && exec "$@"'
    process = subprocess.Popen(
        ["unshare", *arguments, "sh", "-c", script, "sh", *command], env={**os.environ, INSIDE: "1"}
    )

    def stop(_number: int, _frame: object) -> None:
        # unshare --kill-child takes PID 1 of the lab with it, and with that everything inside.
        process.kill()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    # The command gets the terminal's Ctrl-C by itself, and what it makes of it is the answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = process.wait()
    return status if status >= 0 else 128 - status


def main() -> NoReturn:
    """Entry point."""
    if len(sys.argv) < 2:
        sys.exit("usage: python tests/netlab.py COMMAND [ARGUMENT...]")
    sys.exit(enter(sys.argv[1:]))


if __name__ == "__main__":
    main()
