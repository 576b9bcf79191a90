"""What event logs cost: the log of a KMS host with a million requests (12290) of 20,000 clients, as CSV and as .evtx.

The peers do the least that any program would have to: Python's csv module reads all rows, the package evtx gives all
records as JSON and the json module decodes them. Each is a process of its own, from start to exit, and reads from the
page cache.
"""

import csv
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.common import CannotRun, Cost, Plan, Row, plan, report, run

ROWS, MACHINES = 1_000_000, 20_000
CSV_TIMES, EVTX_TIMES = 3.0, 2.0
"""How many times the peer's time may pass."""
FEW: int = 100_000
"""Rows of a tenth of the log, with as many clients: memory is to be about the same."""


def analyse(path: str) -> int:
    """As ``kmsdiag analyze`` does, up to the digest."""
    from kmsdiag.evidence.events.run import analyse_events
    from kmsdiag.sources.files import Source
    from kmsdiag.sources.recognise import Format, Kind

    size = Path(path).stat().st_size
    found = analyse_events([Source(path, Path(path).name, size, Format(Kind.OTHER, "an event log", bool))])
    assert len(found.answer.requesters) == MACHINES
    return sum(host.requests for host in found.answer.hosts)


def read_csv(path: str) -> int:
    """The csv module alone; two rows are none of the host's."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        return sum(1 for _row in csv.reader(file)) - 2


def read_evtx(path: str) -> int:
    """The package evtx, and the json module."""
    import evtx

    count = 0
    for record in evtx.PyEvtxParser(path).records_json():
        assert record is not None
        json.loads(record["data"])
        count += 1
    return count


READERS = {"kmsdiag": analyse, "csv": read_csv, "evtx": read_evtx}


def one(reader: str, path: Path, expected: int) -> Cost:
    """One process that reads a file.

    Raises:
        CannotRun: it found another number of requests than there are.
    """
    cost = run([sys.executable, "-m", "benchmarks.bench_events", "--read", reader, str(path)])
    if int(cost.output) != expected:
        raise CannotRun(f"{reader} found {int(cost.output):,} of {expected:,} requests in {path.name}")
    return cost


def make(kind: str, path: Path, rows: int) -> None:
    """Write a log, in a process of its own."""
    run([sys.executable, "-m", "benchmarks.makeevents", kind, str(path), str(rows), str(MACHINES)])


def measure(kind: str, peer: str, times: float, folder: Path, runs: Plan) -> list[Row]:
    """One format."""
    whole, tenth = folder / f"kms.{kind}", folder / f"few.{kind}"
    make(kind, whole, ROWS)
    make(kind, tenth, FEW)
    one("kmsdiag", tenth, FEW)
    few = one("kmsdiag", tenth, FEW)
    ours, theirs = runs.alternate(lambda: one("kmsdiag", whole, ROWS), lambda: one(kind, whole, ROWS))
    note = f"{whole.stat().st_size / 1e6:.0f} MB; CPU {ours.cpu:.2f} s and {theirs.cpu:.2f} s"
    return [
        Row(f"{ROWS:,} requests, {kind}", ours.wall, "s", theirs.wall, peer, times * theirs.wall, note),
        Row("  the same, CPU", ours.cpu, "s", theirs.cpu, peer, times * theirs.cpu),
        Row("  peak memory", ours.peak_mb, "MB", few.peak_mb, f"{FEW:,} requests", 1.5 * few.peak_mb),
    ]


def main(runs: Plan) -> None:
    """Measure, and hand over the rows."""
    rows: list[Row] = []
    for kind, peer, times in (("csv", "csv module", CSV_TIMES), ("evtx", "evtx + json.loads", EVTX_TIMES)):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(kind, peer, times, Path(folder), runs)
    report(rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        sys.stdout.write(str(READERS[sys.argv[2]](sys.argv[3])))
    else:
        main(plan())
