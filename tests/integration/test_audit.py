"""Baseline, audit, what-if and changes against BIND: a change in one SRV record shows up as the right drift."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.nameservers import Bind
from tests.integration.world import listening
from tests.netlab import Lab, require_lab, require_tools

DOMAIN: Final = "corp.test"
SERVERS: Final = ("primary", "secondary")
HOSTS: Final = "kms1 A 10.77.0.14\nkms2 A 10.77.0.15\n"
BASE: Final = "_vlmcs._tcp SRV 0 0 1688 kms1\n_vlmcs._tcp SRV 10 0 1688 kms2\n" + HOSTS
KMS2: Final = f"kms2.{DOMAIN}:1688"


class World:
    """Two BIND servers, two KMS hosts, and a client from which kmsdiag is run."""

    def __init__(self, lab: Lab, servers: dict[str, Bind], folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self._servers = servers
        self._serial = 1

    def publish(self, records: str, *where: str) -> None:
        """The zone's next version, at both servers or at one."""
        self._serial += 1
        for name in where or SERVERS:
            self._servers[name].primary(DOMAIN, self._serial, SERVERS, records)
            self._servers[name].reload()

    def kmsdiag(self, *arguments: str, host: str = "client") -> "subprocess.CompletedProcess[str]":
        """The real command on a host, in a folder of its own."""
        root = Path(__file__).parents[2]
        environment = {**os.environ, "COLUMNS": "100", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(root)}
        command = [sys.executable, "-m", "kmsdiag", *arguments]

        def run() -> "subprocess.CompletedProcess[str]":
            return subprocess.run(
                command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
            )

        return self.lab.call(host, run)

    def audit(self, *arguments: str, host: str = "client") -> dict[str, Any]:
        """The JSON report of an audit."""
        options = ("--timeout", "1.5", "--no-clock", "--format", "json")
        done = self.kmsdiag("audit", "expected.toml", *options, *arguments, host=host)
        assert done.stderr == ""
        report: dict[str, Any] = json.loads(done.stdout)
        return {**report, "exit": done.returncode}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The base state, written down by ``kmsdiag baseline`` and completed as a person would."""
    require_lab()
    require_tools("named", "nft")
    folder = tmp_path_factory.mktemp("audit")
    with Lab(client=11, primary=12, secondary=13, kms1=14, kms2=15, elsewhere=16) as lab:
        servers = {name: Bind(lab, name, folder) for name in SERVERS}
        for server in servers.values():
            server.primary(DOMAIN, 1, SERVERS, BASE)
            server.start()
        made = World(lab, servers, folder)
        with listening(lab, "kms1", lab.v4("kms1")), listening(lab, "kms2", lab.v4("kms2")):
            asked = [part for name in SERVERS for part in ("--server", lab.v4(name))]
            done = made.kmsdiag("baseline", DOMAIN, *asked, "-o", "expected.toml")
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            _complete(folder / "expected.toml")
            yield made


def _complete(file: Path) -> None:
    """Fill in what can't be seen from outside."""
    text = file.read_text()
    for old, new in (
        (f'name = "{DOMAIN}"', 'name = "hq"'),
        ("{client = 0, server = 0, office = 0}", "{client = 60, server = 8, office = 20}"),
    ):
        assert text.count(old) == 1, text
        text = text.replace(old, new)
    file.write_text(f'{text}\n[[networks]]\nname = "client"\naddress = "10.77.0.0/28"\nsite = "hq"\n')


@pytest.fixture
def base(world: World) -> Iterator[World]:
    """The world as the baseline saw it; whatever a test publishes is taken back."""
    yield world
    world.publish(BASE)


def states(report: dict[str, Any]) -> dict[str, str]:
    return {one["what"]: one["state"] for one in report["audit"]["requirements"]}


def failed(report: dict[str, Any]) -> list[str]:
    return [what for what, state in states(report).items() if state == "fail"]


def drift(report: dict[str, Any]) -> dict[str, str]:
    """What hosts_expected says, by code."""
    return {
        finding["code"].partition(".")[2]: finding["text"]
        for result in report["results"]
        if result["check"] == "hosts_expected"
        for finding in result["findings"]
    }


def test_the_baseline_is_sound_and_met(base: World) -> None:
    done = base.kmsdiag("audit", "--check-config", "expected.toml")
    assert done.stdout == "expected.toml is sound: 1 domain, 2 hosts, 1 site, 1 network, 0 waivers\n"
    report = base.audit("--vantage", "client")
    assert set(states(report).values()) == {"pass"}
    assert (report["exit"], report["verdict"]["state"]) == (0, "healthy")


def test_a_network_knows_its_machines_by_their_addresses(base: World) -> None:
    """None of them has a default route: the way to the DNS servers is what tells a machine its own address."""
    report = base.audit()
    assert report["vantage"]["addresses"] == [base.lab.v4("client")]
    assert states(report)["activation works from client (10.77.0.0/28, hq)"] == "pass"
    assert report["exit"] == 0


def test_from_elsewhere_the_network_is_not_known(base: World) -> None:
    report = base.audit(host="elsewhere")
    assert [what for what, state in states(report).items() if state != "pass"] == [
        "activation works from client (10.77.0.0/28, hq)"
    ]
    assert report["exit"] == 3


@pytest.mark.parametrize(
    ("records", "code", "says", "fails"),
    [
        (
            BASE.replace("10 0 1688", "10 0 1689"),
            "drift",
            f"kms2.{DOMAIN} is published with port 1689; 1688 is expected.",
            ["kms2"],
        ),
        (
            BASE.replace("10 0 1688", "0 0 1688"),
            "rank_drift",
            f"{KMS2} is published in {DOMAIN} with priority 0, weight 0; priority 10, weight 0 is expected.",
            ["kms2"],
        ),
        (
            BASE.replace("10 0 1688", "10 7 1688"),
            "rank_drift",
            f"{KMS2} is published in {DOMAIN} with priority 10, weight 7; priority 10, weight 0 is expected.",
            ["kms2"],
        ),
        (
            BASE.replace("kms2 A 10.77.0.15", "kms2 A 10.77.0.14"),
            "address_drift",
            f"kms2.{DOMAIN} has the addresses 10.77.0.14; 10.77.0.15 are expected.",
            ["kms2"],
        ),
        (
            BASE.replace("_vlmcs._tcp SRV 10 0 1688 kms2\n", ""),
            "missing",
            f"The expected host {KMS2} is not published in {DOMAIN}.",
            ["kms2"],
        ),
        (
            BASE + "_vlmcs._tcp SRV 0 0 1688 desktop-17\ndesktop-17 A 10.77.0.11\n",
            "unexpected",
            f"desktop-17.{DOMAIN}:1688 is published for {DOMAIN} and is not expected.",
            ["no other host"],
        ),
    ],
    ids=["port", "priority", "weight", "address", "deleted", "added"],
)
def test_one_changed_record_is_one_drift(base: World, records: str, code: str, says: str, fails: list[str]) -> None:
    assert records != BASE
    base.publish(records)
    report = base.audit(host="elsewhere")
    assert drift(report) == {code: says}
    found = [what for what in failed(report) if "is published" in what]
    assert [any(what.startswith(start) for start in fails) for what in found] == [True]
    assert report["exit"] == 1


def test_a_renamed_target_is_a_missing_host_and_an_unexpected_one(base: World) -> None:
    base.publish(BASE.replace("1688 kms2", "1688 kms3") + "kms3 A 10.77.0.15\n")
    assert drift(base.audit()).keys() == {"unexpected", "missing"}


def test_servers_that_disagree_fail_their_own_requirement(base: World) -> None:
    base.publish(BASE.replace("10 0 1688", "10 0 1689"), "primary")
    report = base.audit()
    assert f"the DNS servers of {DOMAIN} give the same records" in failed(report)


def test_a_firewall_is_seen_from_the_network_and_its_opening_is_printed(base: World) -> None:
    with base.lab.nft("kms2", "tcp dport 1688 drop"):
        report = base.audit("--vantage", "client", "--print-changes")
    assert failed(report) == ["activation works from client (10.77.0.0/28, hq)"]
    (change,) = report["changes"]
    assert change["what"] == f"TCP 1688 of kms2.{DOMAIN} (10.77.0.15) is to be open from 10.77.0.0/28"
    rule = "New-NetFirewallRule -DisplayName 'KMS 1688 (kmsdiag)' -Direction Inbound -Protocol TCP -LocalPort 1688"
    assert change["steps"][0]["do"] == [f"{rule} -RemoteAddress '10.77.0.0/28' -Action Allow"]


def test_the_printed_zone_lines_bring_the_expected_state(base: World) -> None:
    """What ``--print-changes`` says is done to the zone file, line by line; the next audit is content."""
    base.publish(BASE.replace("10 0 1688", "0 5 1700") + "_vlmcs._tcp SRV 0 0 1688 old\nold A 10.77.0.15\n")
    report = base.audit("--vantage", "client", "--print-changes")
    assert failed(report)
    steps = [step for change in report["changes"] for step in change["steps"] if step["where"] == "in the zone file"]
    after = _edited(_full(BASE.replace("10 0 1688", "0 5 1700") + "_vlmcs._tcp SRV 0 0 1688 old\n"), steps, "do")
    base.publish(after)
    assert failed(base.audit("--vantage", "client")) == []
    # And back.
    base.publish(_edited(after.splitlines(), steps[::-1], "undo"))
    assert failed(base.audit("--vantage", "client")) == failed(report)


def _full(records: str) -> list[str]:
    """Records with their names in full, as the printed lines have them."""
    lines = []
    for line in records.splitlines():
        name, *middle, last = line.split()
        last = f"{last}.{DOMAIN}." if "SRV" in middle else last
        lines.append(" ".join((f"{name}.{DOMAIN}. 60 IN", *middle, last)))
    return [*lines, f"old.{DOMAIN}. 60 IN A 10.77.0.15"]


def _edited(lines: list[str], steps: list[dict[str, Any]], way: str) -> str:
    lines = list(lines)
    for step in steps:
        for edit in step[way]:
            sign, _, line = edit.partition(" ")
            if sign == "+":
                lines.append(line)
            else:
                lines.remove(line)
    return "\n".join(lines) + "\n"


def test_what_if_foretells_what_then_happens(base: World) -> None:
    proposed = "_vlmcs._tcp 60 SRV 0 0 1688 kms2\nkms2 60 A 10.77.0.15\n"
    (base.folder / "records.zone").write_text(proposed)
    foretold = base.audit("--vantage", "client", "--what-if", "records.zone")
    (shift,) = foretold["what_if"]["domains"]
    assert (shift["moves"], shift["removed"]) == (1.0, [{"host": f"kms1.{DOMAIN}:1688", "answers": True}])
    base.publish(proposed.replace("60 ", "") + "kms1 A 10.77.0.14\n")
    happened = base.audit("--vantage", "client")
    assert states(happened) == states(foretold)
    for part in ("domain", "target", "port", "state", "ranks"):
        assert [path.get(part) for path in happened["paths"]] == [path.get(part) for path in foretold["paths"]]
