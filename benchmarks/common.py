"""What the benchmarks share: rows of the table, timing of processes, a BIND with many domains, a bind responder."""

import contextlib
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.api import Parts

ROOT = Path(__file__).resolve().parent.parent


class Row(msgspec.Struct, omit_defaults=True):
    """One line of the table. ``limit`` is what ``kmsdiag`` may be at most (None: a figure without a target)."""

    what: str
    kmsdiag: float
    unit: str = "s"
    peer: float | None = None
    peer_name: str = ""
    limit: float | None = None
    note: str = ""


class Cost(NamedTuple):
    """What one process took: wall clock and CPU in seconds, peak memory in MB, and what it wrote to stdout."""

    wall: float
    cpu: float
    peak_mb: float
    output: bytes


class CannotRun(Exception):
    """A benchmark whose conditions are not there; the text says which."""


def run(command: Sequence[str], *, env: dict[str, str] | None = None, allowed: tuple[int, ...] = (0,)) -> Cost:
    """Run one process to its end, from the root of the repository.

    Raises:
        CannotRun: another exit status than the ones allowed.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, cwd=ROOT, env={**os.environ, **(env or {})}
        )
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode not in allowed:
            said = errors.read().decode(errors="replace").strip().splitlines()
            raise CannotRun(f"{' '.join(command[:6])} … ended with {process.returncode}: {said[-1] if said else ''}")
        return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output.read())


class Plan(NamedTuple):
    """How often everything is run, and which run counts: the median, or the fastest where the machine is busy."""

    repeat: int
    best: bool

    def pick(self, figures: Iterable[float]) -> float:
        """The figure that counts."""
        return min(figures) if self.best else statistics.median(figures)

    def alternate(self, *runs: Callable[[], Cost]) -> list[Cost]:
        """Run several things in turn and pick of each. In turn: the machine's moods hit all alike."""
        rounds = [[one() for one in runs] for _ in range(self.repeat)]
        return [
            Cost(
                self.pick(cost.wall for cost in column),
                self.pick(cost.cpu for cost in column),
                max(cost.peak_mb for cost in column),
                column[-1].output,
            )
            for column in zip(*rounds, strict=True)
        ]


def plan() -> Plan:
    """What run.py said: the number of runs, and ``median`` or ``best``."""
    return Plan(int(sys.argv[1]), sys.argv[2] == "best")


def need(*programs: str) -> None:
    """Insist on programs.

    Raises:
        CannotRun: one is not installed.
    """
    for program in programs:
        if shutil.which(program) is None:
            raise CannotRun(f"{program} is not installed")


def kmsdiag(*arguments: str) -> list[str]:
    """The command line of kmsdiag from this checkout."""
    return [sys.executable, "-m", "kmsdiag", *arguments]


@contextlib.contextmanager
def process(command: Sequence[str], ready: Callable[[], bool], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that runs while the block does; ended by its own id.

    Raises:
        CannotRun: it ended, or was not ready within 15 s.
    """
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT)
    try:
        limit = time.monotonic() + 15
        while not ready():
            if server.poll() is not None or time.monotonic() > limit:
                raise CannotRun(f"{command[0]} did not start: {log.read_text(errors='replace')[-300:]}")
            time.sleep(0.02)
        yield server
    finally:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextlib.contextmanager
def bind(folder: Path, port: int, zone: str, origin: str = "bench.test") -> Iterator[None]:
    """BIND on 127.0.0.1 with one zone; it sends nothing anywhere."""
    need("named", "dig")
    head = "$TTL 3600\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n"
    (folder / "zone").write_text(head + zone)
    (folder / "named.conf").write_text(
        f"""options {{
            directory "{folder}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
            recursion no; dnssec-validation no; empty-zones-enable no; notify no; minimal-responses yes;
            session-keyfile none; pid-file none; check-integrity no; max-records-per-type 0;
        }};
        controls {{ }};
        zone "{origin}" {{ type primary; file "{folder}/zone"; }};
        """
    )

    def ready() -> bool:
        # A question for the zone's own record; dig's text would also hold the words of its errors.
        asked = ["dig", "+time=1", "+tries=1", "+noall", "+answer", "-p", str(port), "@127.0.0.1", origin, "SOA"]
        return b"\tSOA\t" in subprocess.run(asked, capture_output=True, check=False).stdout

    with process(["named", "-g", "-c", str(folder / "named.conf")], ready, folder / "named.log"):
        yield


@contextlib.contextmanager
def responder(folder: Path, address: str, port: int) -> Iterator[None]:
    """A process that accepts connections at ``address`` (0.0.0.0: every one) and answers binds as a KMS host does."""

    def ready() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1" if address == "0.0.0.0" else address, port)) == 0

    command = [sys.executable, "-m", "benchmarks.responder", address, str(port)]
    with process(command, ready, folder / "responder.log"):
        yield


def counted(output: bytes, what: str) -> int:
    """A figure of the last lines of a report, such as the number of ``DNS messages``.

    Raises:
        CannotRun: the report does not say.
    """
    spaced = what.replace(" ", r"\s+")
    found = re.search(rf"([\d,]+)\s+{spaced}", output.decode())
    if found is None:
        raise CannotRun(f"the report tells no number of {what}: {output[:200]!r}")
    return int(found[1].replace(",", ""))


def parts(target: Path, timeout: float, *checks: str) -> Parts:
    """Where the time of one diagnosis goes, by a run through the API."""
    done = run([sys.executable, "-m", "benchmarks.api", str(target), str(timeout), *checks])
    return msgspec.json.decode(done.output, type=Parts)


def in_parts(found: Parts) -> str:
    """The same as words for a note."""
    return (
        f"one run by the API took {found.gather:.2f} s to gather, {found.judge:.2f} to judge, {found.render:.2f} to"
        f" render (a bundle: {found.bundle:.2f})"
    )


def own_peak_mb() -> float:
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(rows: Sequence[Row]) -> None:
    """Hand the rows to run.py."""
    sys.stdout.write(msgspec.json.encode(rows).decode() + "\n")
