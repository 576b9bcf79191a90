"""A thousand domains at one BIND: look-ups beside dig and plain dnspython, and a whole check."""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import dns.asyncquery
import dns.message
import dns.rdatatype
import msgspec

from benchmarks.api import Parts
from benchmarks.common import (
    CannotRun,
    Cost,
    Plan,
    Row,
    bind,
    counted,
    in_parts,
    kmsdiag,
    own_peak_mb,
    parts,
    plan,
    report,
    responder,
    run,
)
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.request import SrvQuery
from kmsdiag.model.target import Target
from kmsdiag.probes.dns import DnsClient
from kmsdiag.probes.settings import ProbeSettings

DOMAINS = 1000
DNS_PORT = 5353
KMS_PORT = 16880
SERVER = f"127.0.0.1:{DNS_PORT}"

SHARE_OF_DIG = 0.4
"""Look-ups go at least at this share of dig's speed."""

CHECK_FACTOR = 1.5
"""A check takes at most this times what its DNS messages take at that speed."""


def domains(world: str) -> list[str]:
    """Domain names: in world ``one`` all hosts share an address, in world ``own`` each has its own."""
    return [f"d{number:04}.{world}.bench.test" for number in range(DOMAINS)]


def zone() -> str:
    """Records of both worlds; every SRV target has an A record and no AAAA."""
    lines = []
    for world in ("one", "own"):
        for number in range(DOMAINS):
            address = "127.0.0.1" if world == "one" else f"127.1.{number >> 8}.{number & 255}"
            lines.append(f"_vlmcs._tcp.d{number:04}.{world} SRV 0 0 {KMS_PORT} kms.d{number:04}.{world}")
            lines.append(f"kms.d{number:04}.{world} A {address}")
    return "\n".join(lines) + "\n"


async def _dnspython(names: list[str]) -> None:
    async def one(name: str) -> None:
        query = dns.message.make_query(name, dns.rdatatype.SRV)
        answer = await dns.asyncquery.udp(query, "127.0.0.1", port=DNS_PORT, timeout=5)
        if len(answer.answer) != 1:
            raise CannotRun(f"dnspython got no answer for {name}")

    await asyncio.gather(*map(one, names))


async def _client(names: list[str]) -> None:
    client = DnsClient(ProbeSettings(timeout=5))
    answers = await asyncio.gather(*(client.srv(SrvQuery(name=name, server=SERVER)) for name in names))
    await client.close()
    if any(answer.outcome is not DnsOutcome.ANSWERED for answer in answers):
        raise CannotRun("kmsdiag got no answer")
    repeated = sum(answer.queries for answer in answers) - len(answers)
    if repeated:
        sys.stderr.write(f"  {repeated} questions had to be asked again\n")


def _in_process(what: str, names: list[str]) -> Cost:
    started, cpu = time.perf_counter(), time.process_time()
    asyncio.run(_client(names) if what == "client" else _dnspython(names))
    return Cost(time.perf_counter() - started, time.process_time() - cpu, own_peak_mb(), b"")


def main(runs: Plan) -> None:
    """Measure, and hand over the rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [f"_vlmcs._tcp.{domain}" for domain in domains("one")]
        questions = folder / "questions"
        questions.write_text("".join(f"{one} SRV\n" for one in names))
        dig = ["dig", "-p", str(DNS_PORT), "@127.0.0.1", "+noall", "+answer", "-f", str(questions)]
        targets = {}
        for world in ("one", "own"):
            targets[world] = folder / f"{world}.json"
            target = Target(domains=tuple(domains(world)), servers=(SERVER,), nonce="bench")
            targets[world].write_bytes(msgspec.json.encode(target))

        def lookups() -> Cost:
            """The look-up part of a check alone: without start, judging and text."""
            cost = run([sys.executable, "-m", "benchmarks.api", str(targets["one"]), "3", "dns_srv_hosts"])
            return cost._replace(wall=msgspec.json.decode(cost.output, type=Parts).gather)

        def check(world: str) -> Cost:
            return run(kmsdiag("check", *domains(world), "--server", SERVER))

        with bind(folder, DNS_PORT, zone()), responder(folder, "0.0.0.0", KMS_PORT):
            by_dig, plain, client, engine, one, own = runs.alternate(
                lambda: run(dig),
                lambda: _in_process("dnspython", names),
                lambda: _in_process("client", names),
                lookups,
                lambda: check("one"),
                lambda: check("own"),
            )
            notes = {world: in_parts(parts(target, 3)) for world, target in targets.items()}
        if by_dig.output.count(b"SRV") != DOMAINS:
            raise CannotRun(f"dig got {by_dig.output.count(b'SRV')} answers")
        limit = by_dig.wall / SHARE_OF_DIG
        rows = [
            Row("1,000 SRV look-ups, DnsClient", client.wall, "s", by_dig.wall, "dig -f", limit),
            Row("  the same, beside plain dnspython", client.wall, "s", plain.wall, "asyncquery.udp"),
            Row("1,000 SRV look-ups, with engine", engine.wall, "s", by_dig.wall, "dig -f", limit),
        ]
        for cost, world, what in ((one, "one", "one host"), (own, "own", "1,000 hosts")):
            messages = counted(cost.output, "DNS messages")
            if b"HEALTHY" not in cost.output:
                raise CannotRun(f"the check says {cost.output[:200]!r}")
            expected = limit / DOMAINS * messages
            allowed = CHECK_FACTOR * expected if world == "one" else None
            connections = counted(cost.output, "TCP connections")
            note = f"{messages} DNS messages, {connections} TCP connections; {notes[world]}"
            rows.append(
                Row(f"check 1,000 domains, {what}", cost.wall, "s", expected, "messages at dig/0.4", allowed, note)
            )
            rows.append(Row("  peak memory", cost.peak_mb, "MB"))
        report(rows)


if __name__ == "__main__":
    main(plan())
