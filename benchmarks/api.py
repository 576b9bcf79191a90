"""One whole diagnosis in one process, by the functions behind the commands; says where its time went.

``python -m benchmarks.api TARGET.json TIMEOUT [CHECK...]`` prints one JSON object.
"""

import asyncio
import itertools
import sys
import time
from pathlib import Path

import msgspec

from kmsdiag import diagnosis, registry
from kmsdiag.bundle import Bundle, encode
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.target import Target
from kmsdiag.probes.live import LiveAnswerer
from kmsdiag.probes.settings import ProbeSettings
from kmsdiag.report import lines, text


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


async def _gather(target: Target, settings: ProbeSettings, found: registry.Registry) -> Bundle:
    async with LiveAnswerer(settings) as answerer:
        return await diagnosis.gather(target, found, answerer, Vantage(label="bench"))


def diagnose(target: Target, timeout: float, checks: tuple[str, ...] = ()) -> tuple[Report, Parts]:
    """Gather, judge, render."""
    found = registry.discover().select(checks)
    times = [time.perf_counter()]
    bundle = asyncio.run(_gather(target, ProbeSettings(timeout=timeout), found))
    times.append(time.perf_counter())
    report = diagnosis.judge(bundle, found)
    times.append(time.perf_counter())
    lines.plain(text.render(report))
    times.append(time.perf_counter())
    encode(bundle)
    times.append(time.perf_counter())
    gather, judge, render, write = (round(after - before, 4) for before, after in itertools.pairwise(times))
    counts = report.counts
    return report, Parts(
        gather=gather,
        judge=judge,
        render=render,
        bundle=write,
        dns_messages=counts.dns_messages,
        tcp_connections=counts.tcp_connections,
        rpc_binds=counts.rpc_binds,
        questions=counts.questions,
        verdict=report.verdict.state.value,
        headline=report.verdict.headline,
    )


if __name__ == "__main__":
    _report, parts = diagnose(
        msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Target), float(sys.argv[2]), tuple(sys.argv[3:])
    )
    sys.stdout.write(msgspec.json.encode(parts).decode() + "\n")
