"""Two thousand addresses, a quarter of them silent: TCP and binds beside nmap's connect scan."""

import ipaddress
import subprocess
import tempfile
from pathlib import Path

import msgspec

from benchmarks.common import (
    CannotRun,
    Cost,
    Plan,
    Row,
    bind,
    counted,
    in_parts,
    kmsdiag,
    need,
    parts,
    plan,
    report,
    responder,
    run,
)
from kmsdiag.model.target import HostSpec, Target

HOSTS = 2000
DNS_PORT = 5355
NETWORK = ipaddress.ip_network("10.77.0.0/16")
TIMEOUT = 2

NMAP_FACTOR = 1.2
PEAK_MB = 150

NMAP = ["nmap", "-sT", "-Pn", "-n", "--max-retries", "0", "--initial-rtt-timeout", "2s", "--max-rtt-timeout", "2s"]
NMAP += ["--min-parallelism", "500"]
HOLD = ("--min-rtt-timeout", "2s")
"""Without it nmap lowers its time-out as it learns how fast hosts answer."""

# Every fourth address drops what comes for the port: addresses that end in binary 11.
RULES = """table inet bench {
  chain input {
    type filter hook input priority 0;
    ip daddr 10.77.0.0/16 ip daddr & 0.0.0.3 == 0.0.0.3 tcp dport 1688 drop
  }
}
"""


def addresses() -> list[str]:
    """The addresses asked."""
    return [str(NETWORK[256 + number]) for number in range(HOSTS)]


def zone() -> str:
    """One domain with 1,000 records whose targets have two addresses each (2,000 records do not fit a message)."""
    lines = []
    for number, address in enumerate(addresses()):
        lines.append(f"k{number // 2}.many A {address}")
        if number % 2 == 0:
            lines.append(f"_vlmcs._tcp.many SRV 0 0 1688 k{number // 2}.many")
    return "\n".join(lines) + "\n"


def main(runs: Plan) -> None:
    """Measure, and hand over the rows."""
    need("nmap", "nft", "ip")
    subprocess.run(["ip", "route", "add", "local", str(NETWORK), "dev", "lo"], check=True)
    subprocess.run(["nft", RULES], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = folder / "list"
        listed.write_text("\n".join(addresses()) + "\n")
        explicit = folder / "hosts.json"
        explicit.write_bytes(msgspec.json.encode(Target(hosts=tuple(map(HostSpec, addresses())), nonce="bench")))
        given = [part for address in addresses() for part in ("--host", address)]
        published = ["many.bench.test", "--server", f"127.0.0.1:{DNS_PORT}", "-4"]

        def scan(*more: str) -> Cost:
            return run([*NMAP, *more, "-p", "1688", "-oG", "-", "-iL", str(listed)])

        def check(*arguments: str) -> Cost:
            # Silent hosts are findings: exit code 1.
            return run(kmsdiag("check", *arguments, "--timeout", str(TIMEOUT)), allowed=(1,))

        with bind(folder, DNS_PORT, zone()), responder(folder, "0.0.0.0", 1688):
            adaptive, held, hosts, domain = runs._replace(repeat=min(3, runs.repeat)).alternate(
                scan, lambda: scan(*HOLD), lambda: check(*given), lambda: check(*published)
            )
            note = in_parts(parts(explicit, TIMEOUT))
    for cost in (adaptive, held):
        if cost.output.count(b"/open/") != HOSTS * 3 // 4:
            raise CannotRun(f"nmap found {cost.output.count(b'/open/')} open ports")
    rows = []
    for cost, what in ((hosts, "2,000 hosts by --host"), (domain, "1,000 records, 2,000 addresses")):
        binds, connections = counted(cost.output, "RPC binds"), counted(cost.output, "TCP connections")
        if binds != HOSTS * 3 // 4 * 2:
            raise CannotRun(f"{what}: {binds} binds instead of two for each open address")
        by_hosts = cost is hosts
        rows.append(
            Row(
                what,
                cost.wall,
                "s",
                held.wall,
                "nmap, time-out 2 s",
                held.wall * NMAP_FACTOR,
                f"{connections} connections, {binds} with a bind; CPU {cost.cpu:.2f} s" + (f"; {note}" * by_hosts),
            )
        )
        if by_hosts:
            rows.append(
                Row(
                    "  the same",
                    cost.wall,
                    "s",
                    adaptive.wall,
                    "nmap, adaptive",
                    adaptive.wall * NMAP_FACTOR,
                    "nmap cuts its time-out to 100 ms after the first quick answers; kmsdiag waits the 2 s it was told",
                )
            )
        rows.append(Row("  peak memory", cost.peak_mb, "MB", held.peak_mb, "nmap", PEAK_MB))
    report(rows)


if __name__ == "__main__":
    main(plan())
