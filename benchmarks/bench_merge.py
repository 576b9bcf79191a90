"""A thousand reports of about 100 KB in one picture, beside what plain JSON readers take for the same files."""

import datetime
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.common import CannotRun, Plan, Row, kmsdiag, plan, report, run
from kmsdiag import diagnosis
from kmsdiag.bundle import BUNDLE_FORMAT, Bundle, make_facts
from kmsdiag.model.answer import AddressAnswer, Answer, RpcAnswer, SrvAnswer, SrvRecord, TcpAnswer
from kmsdiag.model.outcome import DnsOutcome, RpcOutcome, TcpOutcome
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.request import AddressQuery, Request, RpcBind, SrvQuery, TcpConnect
from kmsdiag.model.target import Family, Target
from kmsdiag.registry import discover
from kmsdiag.report import json as rendered

REPORTS = 1000
DOMAINS = 8
HOSTS = 3
LIMIT_S = 5.0
LIMIT_MB = 500
SIZE_KB = (80, 100)
"""A report is about as large as the target says, and not larger."""

AT = datetime.datetime(2026, 1, 5, 8, tzinfo=datetime.UTC)
SERVERS = ("10.0.0.53", "10.0.1.53")
STALE, BLOCKED = 7, 11
"""Every seventh place asks the second server, which is stale; every eleventh is in a network that is cut off."""

READ = "import json, sys\nfor name in open(sys.argv[1]).read().split('\\n'):\n    json.load(open(name, 'rb'))\n"


class Place(NamedTuple):
    """One of the places: which server it asks, and whether its network lets KMS through."""

    stale: bool
    blocked: bool


def _answers(place: Place) -> Iterator[tuple[Request[Any], Answer]]:
    server = SERVERS[place.stale]
    for number in range(DOMAINS):
        domain = f"d{number}.bench.test"
        # The stale server still names a host that is gone, and does not name the newest one.
        hosts = range(HOSTS) if not place.stale else range(1, HOSTS + 1)
        records = tuple(SrvRecord(0, 0, 1688, f"k{host}.{domain}", 3600) for host in hosts)
        yield (
            SrvQuery(name=f"_vlmcs._tcp.{domain}", server=server),
            SrvAnswer(at=AT, elapsed_ms=1.5, outcome=DnsOutcome.ANSWERED, server=server, records=records),
        )
        for host in hosts:
            address = f"10.9.{number}.{host + 1}"
            yield (
                AddressQuery(name=f"k{host}.{domain}", family=Family.IPV4, server=server),
                AddressAnswer(at=AT, elapsed_ms=1.5, outcome=DnsOutcome.ANSWERED, server=server, addresses=(address,)),
            )
            silent = place.blocked or host == HOSTS
            outcome = TcpOutcome.TIMEOUT if silent else TcpOutcome.OPEN
            yield (
                TcpConnect(address=address, port=1688),
                TcpAnswer(at=AT, elapsed_ms=3000.0 if silent else 2.5, outcome=outcome, waited_s=3.0),
            )
            if not silent:
                bind = RpcAnswer(at=AT, elapsed_ms=1.2, outcome=RpcOutcome.ACCEPTED, detail="NDR64")
                yield RpcBind(address=address, port=1688), bind


def judged(place: Place) -> Report:
    """What the checks say of one place."""
    target = Target(
        domains=tuple(f"d{number}.bench.test" for number in range(DOMAINS)),
        servers=(SERVERS[place.stale],),
        families=(Family.IPV4,),
        nonce="bench",
        trace=False,
        clock=False,
    )
    bundle = Bundle(
        kmsdiag_bundle=BUNDLE_FORMAT,
        tool="0.1",
        vantage=Vantage(label="bench"),
        target=target,
        checks=(),
        started=AT,
        ended=AT + datetime.timedelta(seconds=3),
        facts=make_facts(dict(_answers(place))),
    )
    checks = ("dns_srv_hosts", "dns_srv_targets", "dns_srv_fields", "hosts_several", "tcp_reachable", "rpc_service")
    return diagnosis.judge(bundle, discover().select(only=checks))


def generate(folder: Path, count: int) -> list[Path]:
    """Reports of many places, some of which see another world; the files."""
    kinds = {
        Place(stale, blocked): judged(Place(stale, blocked)) for stale in (False, True) for blocked in (False, True)
    }
    files = []
    for number in range(count):
        blocked = number % BLOCKED == 0
        made = kinds[Place(number % STALE == 0, blocked)]
        # Those that are cut off share a /16 which is nobody else's.
        address = f"10.{200 if blocked else 100}.{number // 250}.{number % 250 + 1}"
        vantage = Vantage(label=f"place-{number:04}", host=f"host-{number:04}", addresses=(address,))
        files.append(folder / f"{number:04}.json")
        files[-1].write_text(rendered.render(msgspec.structs.replace(made, vantage=vantage)), encoding="utf-8")
    return files


def main(runs: Plan) -> None:
    """Measure, and hand over the rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = list(map(str, generate(folder, REPORTS)))
        size = sum(Path(file).stat().st_size for file in files) / len(files) / 1000
        if not SIZE_KB[0] <= size <= SIZE_KB[1]:
            raise CannotRun(f"a report has {size:.0f} KB, not {SIZE_KB[0]} to {SIZE_KB[1]}")
        listed = folder / "list"
        listed.write_text("\n".join(files))
        jq = ["jq", "-c", "[.vantage.label, .verdict.state]", *files]
        commands = [
            # Places that are broken are findings: exit code 1.
            lambda: run(kmsdiag("merge", *files, "--format", "json"), allowed=(1,)),
            lambda: run([sys.executable, "-c", READ, str(listed)]),
            *([lambda: run(jq)] if shutil.which("jq") else []),
        ]
        merged, loaded, *rest = runs._replace(repeat=min(3, runs.repeat)).alternate(*commands)
    causes = json.loads(merged.output)["causes"]
    kinds = sorted((cause["kind"], cause["name"]) for cause in causes)
    if kinds != [("network", "10.200.0.0/16"), ("server", SERVERS[1])]:
        raise CannotRun(f"merge found other causes than the two that are there: {kinds}")
    rows = [
        Row(
            "merge of 1,000 reports",
            merged.wall,
            "s",
            loaded.wall,
            "json.load of each",
            LIMIT_S,
            f"{size:.0f} KB each; names the stale server and the network that is cut off",
        ),
        Row("  peak memory", merged.peak_mb, "MB", loaded.peak_mb, "json.load of each", LIMIT_MB),
    ]
    rows += [Row("  the same", merged.wall, "s", cost.wall, "jq, two fields", LIMIT_S) for cost in rest]
    report(rows)


if __name__ == "__main__":
    main(plan())
