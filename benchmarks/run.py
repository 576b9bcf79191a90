"""Runs the benchmarks and prints one table: ``python benchmarks/run.py [--repeat N] [--best] [NAME ...]``.

It runs itself again inside new namespaces, so that nothing it does leaves the machine; without root it makes a user
namespace first. The exit code is 0 unless a benchmark could not run: a figure is told, not asserted.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ("startup", "dns", "hosts", "whole", "merge", "captures", "events")
HEADERS = ("", "kmsdiag", "peer", "", "ratio", "target", "")


def enter() -> None:
    """Go on as the first process of new namespaces, where only a loopback exists."""
    unshare = ["unshare", "-n", "-m", "-p", "-f", "--mount-proc"]
    if os.geteuid() != 0:
        unshare += ["-U", "-r"]
    command = [*unshare, sys.executable, __file__, "--inside", *sys.argv[1:]]
    os.execvp(command[0], command)


def measure(name: str, repeat: int, pick: str) -> list[dict[str, Any]]:
    """The rows of one benchmark, which runs in a process of its own; an empty list where it could not run."""
    command = [sys.executable, "-m", f"benchmarks.bench_{name}", str(repeat), pick]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    rows: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 else []
    return rows


def cells(row: dict[str, Any]) -> list[str]:
    """One row as text."""
    unit = row.get("unit", "s")
    figure = "{:.0f}" if unit == "MB" else "{:.3f}"
    value, peer, limit = row["kmsdiag"], row.get("peer"), row.get("limit")
    return [
        row["what"],
        f"{figure.format(value)} {unit}",
        "" if peer is None else f"{figure.format(peer)} {unit}",
        row.get("peer_name", ""),
        "" if peer is None else f"{value / peer:.2f}",
        "" if limit is None else f"≤ {figure.format(limit)} {unit}",
        "" if limit is None else ("holds" if value <= limit else "MISSED"),
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """All rows, and below them what they say about themselves."""
    lines = [list(HEADERS), *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADERS))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    notes = [f"{row['what'].strip()}: {row['note']}" for row in rows if row.get("note")]
    return "\n".join([*text, "", *notes])


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description="Benchmarks of kmsdiag beside its peers; see benchmarks/README.md.")
    parser.add_argument("benchmarks", nargs="*", help=f"which of {', '.join(BENCHMARKS)}; none: all")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each; the median counts (default 5)")
    parser.add_argument("--best", action="store_true", help="the fastest run counts: for a machine that is busy")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.benchmarks) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if not options.inside:
        enter()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    rows, missing = [], []
    pick = "best" if options.best else "median"
    for name in options.benchmarks or BENCHMARKS:
        found = measure(name, max(1, options.repeat), pick)
        rows += found
        if not found:
            missing.append(name)
    today = datetime.datetime.now(datetime.UTC).date()
    print(f"{today}, {os.cpu_count()} cores, Python {platform.python_version()}, {pick} of {options.repeat}\n")
    print(table(rows))
    if missing:
        print(f"could not run: {', '.join(missing)} (reasons above)")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
