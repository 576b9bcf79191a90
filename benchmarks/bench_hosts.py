"""Two thousand addresses, a quarter of them silent: TCP and binds beside nmap's connect scan."""

import ipaddress
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.api import Parts
from benchmarks.common import CannotRun, Cost, Row, alternate, bind, need, report, responder, run
from kmsdiag.model.target import Family, HostSpec, Target

HOSTS = 2000
DNS_PORT = 5355
NETWORK = ipaddress.ip_network("10.77.0.0/16")
TIMEOUT = 2

NMAP_FACTOR = 1.2
PEAK_MB = 150

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


def main(repeat: int) -> None:
    """Measure, and hand over the rows."""
    need("nmap", "nft", "ip")
    subprocess.run(["ip", "route", "add", "local", str(NETWORK), "dev", "lo"], check=True)
    subprocess.run(["nft", RULES], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = folder / "list"
        listed.write_text("\n".join(addresses()) + "\n")
        targets = {
            "hosts": Target(hosts=tuple(map(HostSpec, addresses())), nonce="bench"),
            "domain": Target(
                domains=("many.bench.test",),
                servers=(f"127.0.0.1:{DNS_PORT}",),
                families=(Family.IPV4,),
                nonce="bench",
            ),
        }
        for kind, target in targets.items():
            (folder / kind).write_bytes(msgspec.json.encode(target))
        scan = ["nmap", "-sT", "-Pn", "-n", "--max-retries", "0", "--initial-rtt-timeout", "2s"]
        scan += ["--max-rtt-timeout", "2s", "--min-parallelism", "500", "-p", "1688", "-oG", "-", "-iL", str(listed)]

        def api(kind: str) -> Cost:
            return run([sys.executable, "-m", "benchmarks.api", str(folder / kind), str(TIMEOUT)])

        with bind(folder, DNS_PORT, zone()), responder(folder, "0.0.0.0", 1688):
            nmap, hosts, domain = alternate(
                min(repeat, 3), lambda: run(scan), lambda: api("hosts"), lambda: api("domain")
            )
    if nmap.output.count(b"/open/") != HOSTS * 3 // 4:
        raise CannotRun(f"nmap found {nmap.output.count(b'/open/')} open ports")
    rows = []
    for cost, what in ((hosts, "2,000 explicit hosts"), (domain, "1,000 records, 2,000 addresses")):
        parts = msgspec.json.decode(cost.output, type=Parts)
        if parts.rpc_binds != HOSTS * 3 // 4 * 2:
            raise CannotRun(f"{what}: {parts.rpc_binds} binds; {parts.headline}")
        note = (
            f"{parts.tcp_connections} connections of which {parts.rpc_binds} with a bind; gather {parts.gather:.2f},"
            f" judge {parts.judge:.2f}, text {parts.render:.2f} (bundle {parts.bundle:.2f}); CPU {cost.cpu:.2f}"
        )
        rows.append(Row(what, cost.wall, "s", nmap.wall, "nmap -sT", nmap.wall * NMAP_FACTOR, note))
        rows.append(Row("  peak memory", cost.peak_mb, "MB", nmap.peak_mb, "nmap -sT", PEAK_MB))
    report(rows)


if __name__ == "__main__":
    main(int(sys.argv[1]))
