"""One domain, two resolvers, three name servers, three hosts and their clocks: a whole check, and what silence costs.

``python -m benchmarks.bench_whole clocks ADDRESS...`` is the helper process that tells the time by SMB2 and NTP.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.common import CannotRun, Cost, Plan, Row, kmsdiag, need, plan, process, report, responder, run
from kmsdiag.lab.time import TimeServer
from kmsdiag.model.report import Report
from kmsdiag.model.request import ClockSource
from kmsdiag.wire import smb2

DOMAIN = "whole.bench.test"
RESOLVERS = ("10.78.0.11", "10.78.0.12")
NAME_SERVERS = ("10.78.0.21", "10.78.0.22", "10.78.0.23")
HOSTS = ("10.78.0.31", "10.78.0.32", "10.78.0.33")
TIMEOUT = 2.0
NOISE = 0.1
"""Seconds by which two runs of the same may differ here."""

WHOLE = 1.5
"""Seconds for the process when everybody answers."""

DNS = "meta l4proto { tcp, udp } th dport 53"
CLOCKS = "th dport { 80, 123, 445 }"
SILENT = {
    "the first resolver silent": [f"ip daddr {RESOLVERS[0]} {DNS} drop"],
    "the second resolver silent": [f"ip daddr {RESOLVERS[1]} {DNS} drop"],
    "a name server silent": [f"ip daddr {NAME_SERVERS[1]} {DNS} drop"],
    "a host silent": [f"ip daddr {HOSTS[1]} drop"],
    "a clock silent": [f"ip daddr {HOSTS[2]} meta l4proto {{ tcp, udp }} {CLOCKS} drop"],
}
SILENT["one of each kind silent"] = [
    *SILENT["a name server silent"],
    *SILENT["a host silent"],
    *SILENT["a clock silent"],
]
SILENT["and the first resolver too"] = [*SILENT["one of each kind silent"], *SILENT["the first resolver silent"]]

OTHER_PORT = f"port.{DOMAIN}"
"""The same hosts, published with a port on which they do not listen."""

ALL_HOSTS = [f"ip daddr {{ {', '.join(HOSTS)} }} drop"]
HEAD_START = TIMEOUT / 8
"""Seconds after which the machine's next resolver is asked as well."""


def zone() -> str:
    """The domain's records; its name servers are ns0 to ns2."""
    lines = ["$TTL 3600", "@ SOA ns0 hostmaster 1 3600 600 86400 60"]
    lines += [f"@ NS ns{number}\nns{number} A {address}" for number, address in enumerate(NAME_SERVERS)]
    lines += [f"_vlmcs._tcp SRV 0 0 1688 kms{number}\nkms{number} A {address}" for number, address in enumerate(HOSTS)]
    lines += [f"_vlmcs._tcp.port SRV 0 0 1689 kms{number}" for number in range(len(HOSTS))]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def named(folder: Path, address: str, options: str, zones: str = "") -> Iterator[None]:
    """BIND on port 53 of one address; ready when it answers for the domain."""
    (folder / f"{address}.conf").write_text(
        f"""options {{
            directory "{folder}"; listen-on {{ {address}; }}; listen-on-v6 {{ none; }};
            dnssec-validation no; empty-zones-enable no; notify no; session-keyfile none; pid-file none; {options}
        }};
        controls {{ }};
        {zones}
        """
    )

    def ready() -> bool:
        asked = ["dig", "+time=1", "+tries=1", "+noall", "+answer", f"@{address}", DOMAIN, "SOA"]
        return b"\tSOA\t" in run(asked, allowed=(0, 9)).output

    command = ["named", "-g", "-n", "1", "-c", str(folder / f"{address}.conf")]
    with process(command, ready, folder / f"{address}.log"):
        yield


@contextlib.contextmanager
def world(folder: Path) -> Iterator[None]:
    """All servers: resolvers that know the primary, a primary, two secondaries, three hosts and clocks."""
    (folder / "zone").write_text(zone())
    for address in (*RESOLVERS, *NAME_SERVERS, *HOSTS):
        # Ready where it stands: named listens only on addresses that an interface has.
        run(["ip", "address", "add", f"{address}/32", "dev", "lo"])
    primary, *secondaries = NAME_SERVERS
    forward = f"recursion yes; allow-recursion {{ any; }}; forward only; forwarders {{ {primary}; }};"
    own = f'zone "{DOMAIN}" {{ type primary; file "zone"; }};'
    copied = f'zone "{DOMAIN}" {{ type secondary; primaries {{ {primary}; }}; }};'
    addresses = [*RESOLVERS, *NAME_SERVERS, *HOSTS]
    command = [sys.executable, "-m", "benchmarks.bench_whole", "clocks", *addresses]
    with contextlib.ExitStack() as stack:
        stack.enter_context(named(folder, primary, "recursion no;", own))
        for address in secondaries:
            stack.enter_context(named(folder, address, "recursion no;", copied))
        for address in RESOLVERS:
            stack.enter_context(named(folder, address, forward))
        stack.enter_context(responder(folder, "0.0.0.0", 1688))
        log = folder / "clocks.log"
        stack.enter_context(process(command, lambda: log.exists() and b"ready" in log.read_bytes(), log))
        # The machine's own resolvers, in this mount namespace only.
        settings = folder / "resolv.conf"
        settings.write_text("".join(f"nameserver {address}\n" for address in RESOLVERS))
        run(["mount", "--bind", str(settings), "/etc/resolv.conf"])
        stack.callback(run, ["umount", "/etc/resolv.conf"])
        yield


@contextlib.contextmanager
def silence(rules: Sequence[str]) -> Iterator[None]:
    """A firewall for as long as the block lasts."""
    lines = "\n".join(rules)
    run(["nft", f"table inet bench {{\nchain rules {{\ntype filter hook input priority 0;\n{lines}\n}}\n}}"])
    try:
        yield
    finally:
        run(["nft", "delete", "table", "inet", "bench"])


def check(rules: Sequence[str] = (), domain: str = DOMAIN, servers: Sequence[str] = RESOLVERS) -> Cost:
    """The whole process, with JSON for what it found. Without servers the machine's own are asked."""
    asked = [part for address in servers for part in ("--server", address)]
    command = kmsdiag("check", domain, *asked, "-4", "--timeout", str(TIMEOUT), "--format", "json")
    with silence(rules) if rules else contextlib.nullcontext():
        return run(command, allowed=(0, 1))


def found(cost: Cost) -> str:
    """What a run did, as words for a note."""
    told = msgspec.json.decode(cost.output, type=Report)
    counts = told.counts
    codes = {one.code for result in told.results for one in result.findings if one.severity in ("error", "warning")}
    return (
        f"{told.verdict.state}; {counts.questions} questions, {counts.dns_messages} DNS messages,"
        f" {counts.tcp_connections} TCP connections, {counts.seconds:.2f} s of asking; CPU {cost.cpu:.2f} s; "
        + (", ".join(sorted(codes)) or "nothing to complain about")
    )


def main(runs: Plan) -> None:
    """Measure, and hand over the rows."""
    need("nft", "ip", "named", "dig", "mount")
    with tempfile.TemporaryDirectory() as name, world(Path(name)):
        healthy, port, system, *silent = runs.alternate(
            check,
            lambda: check(ALL_HOSTS, domain=OTHER_PORT),
            lambda: check(SILENT["and the first resolver too"], servers=()),
            *(lambda rules=rules: check(rules) for rules in SILENT.values()),
        )
    told = msgspec.json.decode(healthy.output, type=Report)
    if told.verdict.state != "healthy" or not any(one.check == "dns_servers_agree" for one in told.results):
        raise CannotRun(f"the world is not what it should be: {found(healthy)}")
    rows = [Row("check, 2 + 3 servers, 3 hosts", healthy.wall, limit=WHOLE, note=found(healthy))]
    rows += [silent_row(what, cost, healthy) for what, cost in zip(SILENT, silent, strict=True)]
    rows.append(silent_row("all hosts, on another port", port, healthy))
    rows.append(silent_row("all of that, by resolv.conf", system, healthy, HEAD_START))
    report(rows)


def silent_row(what: str, cost: Cost, healthy: Cost, more: float = 0.0) -> Row:
    """What silence costs, beside a run in which everybody answers: one time-out, and ``more`` seconds."""
    return Row(
        f"  {what}",
        cost.wall,
        "s",
        healthy.wall,
        "all answer",
        healthy.wall + TIMEOUT + more + NOISE,
        f"{cost.wall - healthy.wall:+.2f} s, time-out {TIMEOUT:g} s; {found(cost)}",
    )


async def _clocks(addresses: Sequence[str]) -> None:
    """Tell the right time on the real ports of all addresses."""
    loop = asyncio.get_running_loop()

    async def negotiate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            frame = await reader.readexactly(smb2.FRAME)
            writer.write(TimeServer(ClockSource.SMB2).reply(frame))
            await reader.read()
        writer.close()

    servers: list[Any] = []
    for address in addresses:
        servers.append(await asyncio.start_server(negotiate, address, ClockSource.SMB2.port))
        servers.append(await loop.create_datagram_endpoint(_Ntp, (address, ClockSource.NTP.port)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


class _Ntp(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(TimeServer(ClockSource.NTP).reply(data), address)


if __name__ == "__main__":
    if sys.argv[1] == "clocks":
        asyncio.run(_clocks(sys.argv[2:]))
    else:
        main(plan())
