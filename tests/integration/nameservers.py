"""Zones with several name servers: BIND as primary and secondary, zones that change while a secondary does not look."""

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from kmsdiag import api, diagnosis, registry
from kmsdiag.model.finding import Severity
from kmsdiag.model.report import FindingView, Report, Vantage
from kmsdiag.model.target import Target
from kmsdiag.probes.settings import ProbeSettings
from tests.integration.world import wait_for
from tests.netlab import Lab, until


def zone_text(lab: Lab, serial: int, servers: Sequence[str], records: str) -> str:
    """A zone whose name servers are hosts of the lab, each with the host's name and IPv4 address."""
    # A secondary looks for changes by itself after an hour at the earliest.
    lines = [f"$TTL 60\n@ SOA {servers[0]} hostmaster {serial} 3600 600 86400 5"]
    lines += [f"@ NS {server}\n{server} A {lab.v4(server)}" for server in servers]
    return "\n".join([*lines, records, ""])


def soa_serial(server: str, zone: str) -> int | None:
    """The serial that a server has of a zone; None where it has none, or does not answer."""
    try:
        reply = dns.query.udp(dns.message.make_query(zone, "SOA"), server, timeout=0.2)
    except (dns.exception.DNSException, OSError):
        return None
    return next((record.serial for rrset in reply.answer for record in rrset if record.rdtype == dns.rdatatype.SOA), 0)


class Bind:
    """A BIND on port 53 of a host. Zones are added before ``start``; a primary one can be written anew after it."""

    def __init__(self, lab: Lab, host: str, folder: Path, options: str = "recursion no;") -> None:
        self._lab, self._host, self._folder = lab, host, folder / host
        self._folder.mkdir()
        self._process: subprocess.Popen[Any] | None = None
        self._serials: dict[str, int] = {}
        self._conf = [
            f'options {{ directory "{self._folder}"; listen-on {{ {lab.v4(host)}; }}; listen-on-v6 {{ none; }};',
            "pid-file none; session-keyfile none; dnssec-validation no; empty-zones-enable no; notify no;",
            f"allow-transfer {{ any; }}; check-names primary ignore; {options} }};\ncontrols {{ }};",
        ]

    def primary(self, zone: str, serial: int, servers: Sequence[str], records: str) -> None:
        """Serve a zone; once BIND runs, its next version."""
        (self._folder / zone).write_text(zone_text(self._lab, serial, servers, records))
        if self._process is None:
            self._conf.append(f'zone "{zone}" {{ type primary; file "{zone}"; check-integrity no; }};')
        self._serials[zone] = serial

    def secondary(self, zone: str, primary: str, serial: int) -> None:
        """Serve a copy of a zone that another host has with this serial."""
        source = self._lab.v4(primary)
        self._conf.append(f'zone "{zone}" {{ type secondary; file "{zone}"; primaries {{ {source}; }}; }};')
        self._serials[zone] = serial

    def add(self, conf: str) -> None:
        """Configuration in BIND's own words."""
        self._conf.append(conf)

    def start(self) -> str:
        """Start, and wait until every zone is there; the address."""
        (self._folder / "named.conf").write_text("\n".join(self._conf) + "\n")
        log = self._folder / "log"
        with log.open("w") as stderr:
            self._process = self._lab.popen(
                self._host, "named", "-g", "-c", str(self._folder / "named.conf"), "-n", "1", stderr=stderr
            )
        wait_for(self._lab, self._host, self._process, log, self._ready)
        return self._lab.v4(self._host)

    def reload(self) -> None:
        """Read the primary zones again; returns when all are served with their new serials."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)
        until(lambda: self._lab.call(self._host, self._ready), "named has read its zones again")

    def _ready(self) -> bool:
        address = self._lab.v4(self._host)
        if self._serials:
            return all(soa_serial(address, zone) == serial for zone, serial in self._serials.items())
        return soa_serial(address, "nowhere.test") is not None


def check(lab: Lab, *domains: str, servers: Sequence[str], resolvers: tuple[str, ...] = (), **settings: Any) -> Report:
    """A run through the API from the host "client", with all checks, and only what DNS and hosts are asked.

    ``resolvers`` are those that the host is set to.
    """
    everything = registry.discover()
    target = Target(domains=domains, servers=tuple(servers), resolvers=resolvers, clock=False, trace=False, nonce="lab")
    probes = ProbeSettings(**{"timeout": 2.0, "resolvers": resolvers, **settings})
    run = api.record(target, registry=everything, settings=probes, vantage=Vantage(label="client"))
    report = diagnosis.judge(lab.run("client", run), everything)
    assert not [result for result in report.results if result.status == "crashed"], report.results
    return report


def said(report: Report, check_id: str) -> list[FindingView]:
    """All findings of one check."""
    return [finding for result in report.results if result.check == check_id for finding in result.findings]


def words(report: Report, check_id: str) -> dict[str, list[str]]:
    """The texts of one check's findings, by the code's last part."""
    found: dict[str, list[str]] = {}
    for finding in said(report, check_id):
        found.setdefault(finding.code.partition(".")[2], []).append(finding.text)
    return found


def errors(report: Report) -> set[str]:
    """The codes of all findings that are errors."""
    return {one.code for result in report.results for one in result.findings if one.severity is Severity.ERROR}
