"""DNS servers of other makers beside BIND: NSD and Knot as secondaries, and a Samba domain controller with its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from kmsdiag.model.outcome import ClockOutcome, DnsOutcome
from kmsdiag.model.path import VerdictState
from kmsdiag.model.request import ClockQuery, ClockSource, SrvQuery
from kmsdiag.model.target import Target
from tests.integration.nameservers import Bind, check, soa_serial, words
from tests.integration.world import ask, causes, diagnose, listening, wait_for
from tests.netlab import Lab, is_real_root, require, require_lab, require_tools

AGREE: Final = "dns_servers_agree"
BEFORE: Final = "_vlmcs._tcp SRV 0 0 1688 kms1\n_vlmcs._tcp SRV 10 50 1688 kms2\nkms1 A 10.77.0.15\nkms2 A 10.77.0.15\n"
NOW: Final = BEFORE.replace("kms2", "kms3")
KINDS: Final = ("same", "stale", "serial")
BRANDS: Final = ("nsd", "knot")

by_brand = pytest.mark.parametrize("brand", BRANDS)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A network of this module's own: each brand has port 53 of the host that is called like it."""
    require_lab()
    with Lab(client=11, primary=12, nsd=13, knot=14, kms=15, dc=16) as made:
        yield made


def start(lab: Lab, brand: str, folder: Path, conf: str, *command: str, zones: list[str]) -> None:
    """Start a secondary, and wait until it has copied all zones."""
    (folder / f"{brand}.conf").write_text(conf)
    log = folder / f"{brand}.log"
    with log.open("w") as out:
        process = lab.popen(brand, *command, str(folder / f"{brand}.conf"), stdout=out, stderr=out)
    address = lab.v4(brand)
    wait_for(lab, brand, process, log, lambda: all(soa_serial(address, zone) == 1 for zone in zones))


def start_nsd(lab: Lab, folder: Path, zones: list[str]) -> None:
    conf = (
        f"server:\n ip-address: {lab.v4('nsd')}\n username: root\n server-count: 1\n database: ''\n pidfile: ''\n"
        f" zonesdir: {folder}\n zonelistfile: {folder}/list\n xfrdfile: {folder}/xfrd\n xfrdir: {folder}\n"
        "remote-control:\n control-enable: no\n"
    )
    for zone in zones:
        conf += f"zone:\n name: {zone}\n zonefile: {zone}\n request-xfr: AXFR {lab.v4('primary')} NOKEY\n"
    start(lab, "nsd", folder, conf, "nsd", "-d", "-c", zones=zones)


def start_knot(lab: Lab, folder: Path, zones: list[str]) -> None:
    conf = (
        f"server:\n    listen: {lab.v4('knot')}@53\n    rundir: {folder}\n    udp-workers: 1\n    tcp-workers: 1\n"
        f"database:\n    storage: {folder}/db\n"
        f"remote:\n  - id: primary\n    address: {lab.v4('primary')}@53\nzone:\n"
    )
    for zone in zones:
        conf += f"  - domain: {zone}\n    master: primary\n    storage: {folder}\n    file: {zone}\n"
    start(lab, "knot", folder, conf, "knotd", "-c", zones=zones)


@pytest.fixture(scope="module")
def primary(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """BIND, and both brands with copies of its zones, which are older than BIND's by now; BIND's address."""
    require_tools("named", "nsd", "knotd")
    folder = tmp_path_factory.mktemp("brands")
    first = Bind(lab, "primary", folder)
    zones: dict[str, list[str]] = {}
    for brand in BRANDS:
        zones[brand] = [f"{kind}.{brand}.test" for kind in KINDS]
        for zone in (*zones[brand], f"lame.{brand}.test"):
            first.primary(zone, 1, ("primary", brand), BEFORE)
    first.primary("all.test", 1, ("primary", *BRANDS), BEFORE)
    first.start()
    for brand, begin in (("nsd", start_nsd), ("knot", start_knot)):
        (folder / brand).mkdir()
        begin(lab, folder / brand, [*zones[brand], "all.test"])
    for brand in BRANDS:
        first.primary(f"stale.{brand}.test", 2, ("primary", brand), NOW)
        first.primary(f"serial.{brand}.test", 2, ("primary", brand), BEFORE + "unrelated A 10.77.0.99\n")
    first.reload()
    with listening(lab, "kms", lab.v4("kms")):
        yield lab.v4("primary")


def test_three_brands_agree(lab: Lab, primary: str) -> None:
    report = check(lab, "all.test", servers=[primary, lab.v4("nsd"), lab.v4("knot")])
    assert words(report, AGREE) == {
        "agree": [
            (
                "All 3 servers asked about all.test give the same records:"
                " knot.all.test (10.77.0.14), nsd.all.test (10.77.0.13), primary.all.test (10.77.0.12)."
            )
        ]
    }
    assert report.verdict.state is VerdictState.HEALTHY


@by_brand
class TestSecondaries:
    def test_one_that_agrees(self, lab: Lab, primary: str, brand: str) -> None:
        report = check(lab, f"same.{brand}.test", servers=[primary])
        assert list(words(report, AGREE)) == ["agree"]

    @pytest.mark.parametrize("asked_itself", [False, True])
    def test_one_that_is_stale(self, lab: Lab, primary: str, brand: str, asked_itself: bool) -> None:
        domain = f"stale.{brand}.test"
        report = check(lab, domain, servers=[lab.v4(brand) if asked_itself else primary])
        assert words(report, AGREE) == {
            "differ": [
                (
                    f"{brand}.{domain} ({lab.v4(brand)}) gives other records for {domain} than the newest copy:"
                    f" kms3.{domain}:1688 is missing, kms2.{domain}:1688 is extra."
                )
            ]
        }
        (matrix,) = report.dns
        assert {row.server: row.serial for row in matrix.rows} == {
            f"{brand}.{domain} ({lab.v4(brand)})": 1,
            f"primary.{domain} (10.77.0.12)": 2,
        }

    def test_one_that_is_stale_in_what_does_not_matter_yet(self, lab: Lab, primary: str, brand: str) -> None:
        report = check(lab, f"serial.{brand}.test", servers=[primary])
        assert list(words(report, AGREE)) == ["stale_serial"]

    def test_one_that_does_not_hold_the_zone(self, lab: Lab, primary: str, brand: str) -> None:
        report = check(lab, f"lame.{brand}.test", servers=[primary])
        found = words(report, AGREE)
        assert set(found) == {"lame", "single"}
        assert "REFUSED" in found["lame"][0]

    def test_one_without_tcp(self, lab: Lab, primary: str, brand: str) -> None:
        with lab.nft(brand, "tcp dport 53 reject with tcp reset"):
            report = check(lab, f"same.{brand}.test", servers=[primary])
        assert list(words(report, AGREE)) == ["tcp_blocked"]

    def test_it_answers_with_edns_and_authority(self, lab: Lab, primary: str, brand: str) -> None:
        name = f"_vlmcs._tcp.same.{brand}.test"
        theirs, binds = (
            ask(lab, SrvQuery(name=name, server=server, recursion=False)) for server in (lab.v4(brand), primary)
        )
        assert (theirs.outcome, theirs.records) == (DnsOutcome.ANSWERED, binds.records)
        assert (theirs.edns, theirs.authoritative) == (True, True)


_SMB_CONF: Final = """[global]
server role = active directory domain controller
realm = AD.TEST
workgroup = AD
netbios name = DC1
server services = s3fs, rpc, dns, ldap, cldap, kdc
dcerpc endpoint servers = epmapper, dnsserver
prefork children = 1
interfaces = lo eth0
bind interfaces only = yes
load printers = no
disable spoolss = yes
vfs objects = dfs_samba4 acl_xattr
private dir = {run}/private
state directory = {run}/state
cache directory = {run}/cache
lock directory = {run}
binddns dir = {run}/bind-dns
pid directory = {run}/pid
ncalrpc dir = {run}/ncalrpc
winbindd socket directory = {run}/winbindd
ntp signd socket directory = {run}/ntp
log file = {run}/log.%m
"""
_ADMIN: Final = "Administrator%Passw0rd!x"


@pytest.fixture(scope="module")
def controller(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Samba AD DC whose own DNS names it as the KMS host of ad.test, and which answers binds; its address."""
    require_tools("samba", "samba-tool", "smbd")
    require(is_real_root(), "Samba provisions a domain only for the root of the machine, not of a user namespace")
    run = tmp_path_factory.mktemp("samba-dc")
    address = lab.v4("dc")
    lab.sh(
        "dc",
        *("samba-tool", "domain", "provision", "--realm=AD.TEST", "--domain=AD", "--server-role=dc"),
        *("--dns-backend=SAMBA_INTERNAL", "--adminpass=Passw0rd!x", "--host-name=dc1", f"--host-ip={address}"),
        *(f"--targetdir={run}", "--option=interfaces=lo eth0", "--option=bind interfaces only=yes"),
    )
    conf = run / "etc" / "smb.conf"
    conf.write_text(_SMB_CONF.format(run=run))
    # Samba makes "ntp" itself, and minds if somebody else did.
    for folder in ("pid", "ncalrpc", "winbindd"):
        (run / folder).mkdir(exist_ok=True)
    log = run / "log"
    with log.open("w") as out:
        # A session of its own: when smbd ends, it ends its whole process group.
        process = lab.popen(
            "dc", "samba", "-i", "--debug-stdout", "-s", str(conf), "-d", "1",
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    query = ClockQuery(address=address, source=ClockSource.SMB2)
    wait_for(lab, "dc", process, log, lambda: bool(soa_serial(address, "ad.test")), seconds=30)
    wait_for(lab, "dc", process, log, lambda: ask(lab, query).outcome is ClockOutcome.ANSWERED, seconds=30)
    record = ("ad.test", "_vlmcs._tcp", "SRV", "dc1.ad.test 1688 0 100")
    lab.sh("dc", "samba-tool", "dns", "add", address, *record, "-U", _ADMIN, "-s", str(conf))
    # It published its IPv6 address by itself.
    with listening(lab, "dc", *lab.both("dc")):
        yield address


class TestSamba:
    def test_no_edns_in_its_replies_is_no_failure(self, lab: Lab, controller: str) -> None:
        answer = ask(lab, SrvQuery(name="_vlmcs._tcp.ad.test", server=controller))
        assert (answer.outcome, answer.authoritative, answer.queries) == (DnsOutcome.ANSWERED, True, 1)
        assert [(one.target, one.port) for one in answer.records] == [("dc1.ad.test", 1688)]
        assert b"\0\0\x29" not in answer.wire[0]

    def test_a_whole_run(self, lab: Lab, controller: str) -> None:
        report = diagnose(lab, Target(domains=("ad.test",), servers=(controller,), trace=False))
        assert (report.verdict.state, causes(report)) == (VerdictState.HEALTHY, [])
        (path,) = report.paths
        assert (path.target, path.port, {route.address for route in path.routes}) == (
            "dc1.ad.test",
            1688,
            set(lab.both("dc")),
        )
        assert words(report, AGREE) == {
            "single": [
                "ad.test is answered by one server only (dc1.ad.test (10.77.0.16)): nothing to compare.",
            ]
        }
        clocks = sorted(words(report, "clock_skew")["within"])
        assert len(clocks) == 2
        assert clocks[0].startswith("dc1.ad.test (10.77.0.16) is ")
        assert clocks[1].startswith("dc1.ad.test (fd77::16) is ")
        assert all(clock.endswith(" from this machine's clock (by SMB2).") for clock in clocks)
        assert list(words(report, "dns_wildcard")) == ["honest"]
        assert list(words(report, "dns_misspelt")) == ["none"]

    def test_the_command(self, lab: Lab, controller: str) -> None:
        command = [sys.executable, "-m", "kmsdiag", "check", "ad.test", "--server", controller, "--format", "json"]
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}

        def run() -> "subprocess.CompletedProcess[str]":
            root = Path(__file__).parents[2]
            return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)

        done = lab.call("client", run)
        assert (done.returncode, done.stderr) == (0, "")
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["verdict"]["state"] == "healthy"
        assert report["paths"][0]["target"] == "dc1.ad.test"

    def test_a_bind_that_holds_an_older_copy_of_its_zone(self, lab: Lab, controller: str, tmp_path: Path) -> None:
        """A secondary made by hand: it is not among the zone's servers, and is asked as a configured one."""
        beside = Bind(lab, "kms", tmp_path)
        beside.primary("ad.test", 1, ("kms",), "_vlmcs._tcp SRV 0 0 1688 retired\nretired A 10.77.0.15\n")
        address = beside.start()
        report = check(lab, "ad.test", servers=[controller, address])
        (text,) = words(report, AGREE)["differ"]
        assert text.startswith("10.77.0.15 gives other records for ad.test than ")
        assert "dc1.ad.test:1688 is missing, retired.ad.test:1688 is extra" in text
