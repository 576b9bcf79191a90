"""What captures cost: a gigabyte of a busy network with a little KMS in it, and a capture of nothing but KMS.

The peers are tcpdump, which only filters, and tshark, which dissects. All read from the page cache.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.common import CannotRun, Cost, Plan, Row, kmsdiag, need, plan, report, run
from kmsdiag.model.report import Report

FILTER = "tcp port 1688 or udp port 53"
MIXED_ATTEMPTS = 391
ATTEMPTS, CLIENTS = 100_000, 20_000

TWO, ONE = 3.0, 4.0
"""How many times tcpdump's time may pass with two processes, and with one."""

FASTER_MIXED, FASTER_KMS = 25, 3
"""How many times faster than tshark."""

PEAK = 150
"""MB a process, of the busy network."""


def analyze(file: Path, jobs: int) -> Cost:
    """The whole process."""
    return run(kmsdiag("analyze", str(file), "--jobs", str(jobs)), allowed=(0, 1))


def tcpdump(file: Path) -> Cost:
    """The fastest way to the packets that matter."""
    return run(["tcpdump", "-r", str(file), "-w", "/dev/null", FILTER])


def tshark(file: Path) -> Cost:
    """A full dissection, of which it prints what is DCE/RPC."""
    return run(["tshark", "-n", "-r", str(file), "-Y", "dcerpc"])


def make(kind: str, file: Path, *options: str) -> None:
    """Write a capture. In a process of its own: what this one has in memory would count as that of those it starts."""
    run([sys.executable, "-m", "benchmarks.makecapture", kind, str(file), *options])


def conversations(file: Path) -> int:
    """How many are found."""
    cost = run(kmsdiag("analyze", str(file), "--format", "json"), allowed=(0, 1))
    told = msgspec.json.decode(cost.output, type=Report)
    return told.captures.conversations if told.captures else 0


def expect(file: Path, count: int) -> None:
    """Read a file once, which also brings it into the page cache.

    Raises:
        CannotRun: something else is found than was put in.
    """
    found = conversations(file)
    if found != count:
        raise CannotRun(f"{file.name}: {found} conversations are found, and {count} are there")


def mixed(file: Path, runs: Plan) -> list[Row]:
    """A gigabyte, of which half a percent matters."""
    make("mixed", file)
    expect(file, MIXED_ATTEMPTS)
    two, one, filtered = runs.alternate(lambda: analyze(file, 2), lambda: analyze(file, 1), lambda: tcpdump(file))
    (dissected,) = runs._replace(repeat=1).alternate(lambda: tshark(file))
    kind = file.suffix.lstrip(".")
    size = f"{file.stat().st_size / 2**30:.2f} GiB"
    note = f"{size}; CPU {two.cpu:.2f} s; tcpdump {filtered.cpu:.2f} s; tshark's peak memory {dissected.peak_mb:.0f} MB"
    return [
        Row(f"mixed {kind}, two processes", two.wall, "s", filtered.wall, "tcpdump", TWO * filtered.wall, note),
        Row(f"mixed {kind}, one process", one.wall, "s", filtered.wall, "tcpdump", ONE * filtered.wall),
        Row("  the same", two.wall, "s", dissected.wall, "tshark -Y dcerpc", dissected.wall / FASTER_MIXED),
        *peaks(two, one, filtered),
    ]


def peaks(two: Cost, one: Cost, filtered: Cost) -> Sequence[Row]:
    """Memory of the largest process."""
    return (
        Row("  peak memory, of two", two.peak_mb, "MB", filtered.peak_mb, "tcpdump", PEAK),
        Row("  peak memory, of one", one.peak_mb, "MB", filtered.peak_mb, "tcpdump", PEAK),
    )


def only_kms(file: Path, runs: Plan) -> list[Row]:
    """A million packets, all of which matter."""
    make("kms", file, "--activations", str(ATTEMPTS), "--clients", str(CLIENTS))
    expect(file, ATTEMPTS)
    two, one = runs.alternate(lambda: analyze(file, 2), lambda: analyze(file, 1))
    (dissected,) = runs._replace(repeat=1).alternate(lambda: tshark(file))
    limit = dissected.wall / FASTER_KMS
    note = f"{file.stat().st_size / 1e6:.0f} MB, {ATTEMPTS:,} attempts of {CLIENTS:,} clients; CPU {two.cpu:.2f} s"
    return [
        Row("all KMS, two processes", two.wall, "s", dissected.wall, "tshark -Y dcerpc", limit, note),
        Row("all KMS, one process", one.wall, "s", dissected.wall, "tshark -Y dcerpc", limit),
        Row("  peak memory, of two", two.peak_mb, "MB", dissected.peak_mb, "tshark"),
        Row("  peak memory, of one", one.peak_mb, "MB", dissected.peak_mb, "tshark"),
    ]


def main(runs: Plan) -> None:
    """Measure, and hand over the rows. One file at a time: each is a gigabyte."""
    need("tcpdump", "tshark")
    rows: list[Row] = []
    for name, measure in (("mixed.pcap", mixed), ("mixed.pcapng", mixed), ("kms.pcap", only_kms)):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(Path(folder) / name, runs)
    report(rows)


if __name__ == "__main__":
    main(plan())
