"""What one call costs: the help text, and a check of one healthy domain."""

import sys
import tempfile
from pathlib import Path

from benchmarks.common import Plan, Row, bind, kmsdiag, plan, report, responder, run

DNS_PORT = 5354
KMS_PORT = 16881
ZONE = f"_vlmcs._tcp.lab SRV 0 0 {KMS_PORT} kms.lab\nkms.lab A 127.0.0.1\n"
CHECK = kmsdiag("check", "lab.bench.test", "--server", f"127.0.0.1:{DNS_PORT}")

HELP_CPU = 0.15
CHECK_WALL = 0.6


def main(runs: Plan) -> None:
    """Measure, and hand over the rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with bind(folder, DNS_PORT, ZONE), responder(folder, "127.0.0.1", KMS_PORT):
            bare, usage, check, demo = runs._replace(repeat=max(7, runs.repeat)).alternate(
                lambda: run([sys.executable, "-c", "pass"]),
                lambda: run(kmsdiag("--help")),
                lambda: run(CHECK),
                lambda: run(kmsdiag("demo", "--scenario", "healthy")),
            )
    report(
        [
            Row("kmsdiag --help, CPU", usage.cpu, "s", bare.cpu, "python -c pass", HELP_CPU),
            Row("check of one domain", check.wall, "s", bare.wall, "python -c pass", CHECK_WALL),
            Row("demo --scenario healthy", demo.wall, "s", bare.wall, "python -c pass", CHECK_WALL),
        ]
    )


if __name__ == "__main__":
    main(plan())
