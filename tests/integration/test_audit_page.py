"""The walk of docs/audit.md, step by step: what the page shows is what kmsdiag says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.integration.nameservers import Bind
from tests.integration.world import listening
from tests.netlab import Lab, require_lab, require_tools
from tests.pages import assert_shown, blocks

PAGE: Final = "audit.md"
DOMAIN: Final = "contoso.example"
SERVERS: Final = ("dns1", "dns2")
ADDRESSES: Final = "kms1 A 10.77.0.8\nkms-old A 10.77.0.9\nkms2 A 10.77.0.10\n"
BEFORE: Final = "_vlmcs._tcp SRV 0 0 1688 kms1\n_vlmcs._tcp SRV 0 0 1688 kms-old\n"
AFTER: Final = "_vlmcs._tcp SRV 0 0 1688 kms1\n_vlmcs._tcp SRV 10 0 1688 kms2\n"


class Walk:
    """The network of the page, and the folder in which its reader works."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self._servers = [Bind(lab, name, folder) for name in SERVERS]

    def publish(self, serial: int, records: str) -> None:
        """The zone's next version at both servers."""
        for server in self._servers:
            server.primary(DOMAIN, serial, SERVERS, records + ADDRESSES)
            if serial == 1:
                server.start()
            else:
                server.reload()

    def kmsdiag(self, *arguments: str) -> str:
        """What the command prints."""
        root = Path(__file__).parents[2]
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(root)}
        command = [sys.executable, "-m", "kmsdiag", *arguments]

        def run() -> "subprocess.CompletedProcess[str]":
            return subprocess.run(
                command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
            )

        done = self.lab.call("admin", run)
        assert done.stderr == ""
        return done.stdout


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    require_lab()
    require_tools("named", "nft")
    folder = tmp_path_factory.mktemp("page")
    with Lab(dns1=2, dns2=3, kms1=8, old=9, kms2=10, admin=20) as lab:
        made = Walk(lab, folder)
        made.publish(1, BEFORE)
        hosts = [listening(lab, name, lab.v4(name)) for name in ("kms1", "kms2")]
        with hosts[0], hosts[1], lab.nft("old", "drop"):
            yield made


def test_the_walk(walk: Walk) -> None:
    """One step after the other, as a reader takes them."""
    expected = walk.folder / "expected.toml"
    (before,), (first,) = blocks(PAGE, "# What 'kmsdiag baseline' found"), blocks(PAGE, "# How KMS activation")
    (sound,), (degraded,) = blocks(PAGE, "expected.toml is sound"), blocks(PAGE, "▲ DEGRADED  contoso.example")
    (changes,), (records,) = blocks(PAGE, "changes  that would bring"), blocks(PAGE, "$ORIGIN")
    foretold, after = blocks(PAGE, "✔ HEALTHY")

    servers = [part for name in SERVERS for part in ("--server", walk.lab.v4(name))]
    walk.kmsdiag("baseline", DOMAIN, *servers, "--vantage", "admin-pc", "-o", "expected.toml")
    assert_shown(before, expected.read_text())

    expected.write_text(first)
    assert_shown(sound, walk.kmsdiag("audit", "--check-config", "expected.toml"))

    audit = ("audit", "expected.toml", "--vantage", "hq-desks")
    assert_shown(degraded, walk.kmsdiag(*audit))

    (walk.folder / "records.zone").write_text(records)
    assert_shown(foretold, walk.kmsdiag(*audit, "--what-if", "records.zone"))
    assert_shown(changes, walk.kmsdiag(*audit, "--print-changes"))

    walk.publish(2, AFTER)
    assert_shown(after, walk.kmsdiag(*audit))
