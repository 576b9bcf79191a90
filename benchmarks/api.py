"""One whole diagnosis in one process, by the functions behind the commands; says where its time went.

``python -m benchmarks.api TARGET.json TIMEOUT [CHECK...]`` prints one JSON object.
"""

import asyncio
import sys
import time
from pathlib import Path

import msgspec

from kmsdiag import diagnosis, registry
from kmsdiag.bundle import encode
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.target import Target
from kmsdiag.probes.live import LiveAnswerer
from kmsdiag.probes.settings import ProbeSettings
from kmsdiag.report import text


class Parts(msgspec.Struct):
    """Seconds of each part, what the run did, and its verdict."""

    gather: float
    judge: float
    render: float
    bundle: float
    dns_messages: int
    tcp_connections: int
    rpc_binds: int
    questions: int
    verdict: str
    headline: str


async def _gather(target: Target, timeout: float, found: registry.Registry) -> diagnosis.Bundle:
    async with LiveAnswerer(ProbeSettings(timeout=timeout)) as answerer:
        return await diagnosis.gather(target, found, answerer, Vantage(label="bench"))


def diagnose(target: Target, timeout: float, checks: tuple[str, ...] = ()) -> tuple[Report, Parts]:
    """Gather, judge, render."""
    found = registry.discover().select(checks)
    times = [time.perf_counter()]
    bundle = asyncio.run(_gather(target, timeout, found))
    times.append(time.perf_counter())
    report = diagnosis.judge(bundle, found)
    times.append(time.perf_counter())
    text.plain(text.render(report))
    times.append(time.perf_counter())
    encode(bundle)
    times.append(time.perf_counter())
    parts = [round(after - before, 4) for before, after in zip(times, times[1:], strict=False)]
    counts, verdict = report.counts, report.verdict
    return report, Parts(
        *parts,
        counts.dns_messages,
        counts.tcp_connections,
        counts.rpc_binds,
        counts.questions,
        verdict.state.value,
        verdict.headline,
    )


if __name__ == "__main__":
    _report, parts = diagnose(
        msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Target), float(sys.argv[2]), tuple(sys.argv[3:])
    )
    sys.stdout.write(msgspec.json.encode(parts).decode() + "\n")
