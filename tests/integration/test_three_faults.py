"""A domain that is broken in three ways at once: the verdict names all three, the most harmful first."""

import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from kmsdiag.lab.time import TimeServer
from kmsdiag.model.request import ClockSource
from tests.integration.nameservers import Bind
from tests.integration.world import listening
from tests.netlab import Lab, require_lab, require_tools

DOMAIN: Final = "corp.test"
SERVERS: Final = ("primary", "secondary")
HOSTS: Final = "kms1 A 10.77.0.14\nkms2 A 10.77.0.15\n"
BEFORE: Final = "_vlmcs._tcp SRV 0 0 1688 kms1\n" + HOSTS
NOW: Final = "_vlmcs._tcp SRV 0 0 1688 kms1\n_vlmcs._tcp SRV 0 0 1688 kms2\n" + HOSTS
TWO_HOURS: Final = 7200.0
FIRST_SCREEN: Final = 25


class Faults(NamedTuple):
    """What tells the three faults apart from all else, in the text and in JSON, in order of harm."""

    silent: str = "kms2.corp.test (10.77.0.15) is silent on TCP 1688"
    stale: str = "secondary.corp.test (10.77.0.13) gives other records for corp.test than the newest copy"
    clock: str = "kms1.corp.test (10.77.0.14) is +2 h"


FAULTS: Final = Faults()


class _Ntp(socketserver.BaseRequestHandler):
    """NTP from a machine whose clock is two hours ahead."""

    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(TimeServer(ClockSource.NTP, TWO_HOURS).reply(data), self.client_address)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """BIND and its stale secondary; "kms1" answers binds and is two hours ahead; "kms2" drops everything."""
    require_lab()
    require_tools("named", "nft")
    folder = tmp_path_factory.mktemp("three")
    with Lab(client=11, primary=12, secondary=13, kms1=14, kms2=15) as made:
        first, second = Bind(made, "primary", folder), Bind(made, "secondary", folder)
        first.primary(DOMAIN, 1, SERVERS, BEFORE)
        second.secondary(DOMAIN, "primary", 1)
        first.start()
        second.start()
        first.primary(DOMAIN, 2, SERVERS, NOW)
        first.reload()
        clock = made.call("kms1", socketserver.UDPServer, (made.v4("kms1"), ClockSource.NTP.port), _Ntp)
        thread = threading.Thread(target=clock.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        with listening(made, "kms1", made.v4("kms1")), made.nft("kms2", "drop"):
            yield made
        clock.shutdown()
        clock.server_close()
        thread.join(5)


def kmsdiag(lab: Lab, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The real command in the host "client"."""
    command = [sys.executable, "-m", "kmsdiag", "check", DOMAIN, "--timeout", "1.5", *arguments]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "COLUMNS": "100", "LC_ALL": "C.UTF-8"}

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)

    return lab.call("client", run)


def servers(lab: Lab, *hosts: str) -> list[str]:
    return [part for host in hosts for part in ("--server", lab.v4(host))]


@pytest.mark.parametrize("asked", [("primary",), SERVERS, ("secondary", "primary")], ids="+".join)
def test_the_first_screen_names_all_three_in_order_of_harm(lab: Lab, asked: tuple[str, ...]) -> None:
    done = kmsdiag(lab, *servers(lab, *asked))
    assert (done.returncode, done.stderr) == (1, "")
    # Lines are wrapped wherever they are full.
    screen = " ".join(" ".join(done.stdout.splitlines()[:FIRST_SCREEN]).split())
    assert screen.startswith("▲ DEGRADED corp.test: 1 of 2 ways to a KMS host works")
    places = [screen.find(words) for words in FAULTS]
    assert -1 not in places, done.stdout
    assert places == sorted(places), done.stdout


@pytest.mark.parametrize("asked", [("primary",), SERVERS, ("secondary", "primary")], ids="+".join)
def test_json_has_them_in_the_same_order(lab: Lab, asked: tuple[str, ...]) -> None:
    done = kmsdiag(lab, *servers(lab, *asked), "--format", "json")
    assert done.returncode == 1
    verdict: dict[str, Any] = json.loads(done.stdout)["verdict"]
    assert verdict["state"] == "degraded"
    assert [(cause["code"], cause["paths"]) for cause in verdict["causes"]] == [
        ("tcp.timeout", ["corp.test → kms2.corp.test:1688"])
    ]
    grave = [(one["code"], one["severity"]) for one in verdict["remarks"] if one["severity"] in ("error", "warning")]
    assert grave == [("dns_servers_agree.differ", "error"), ("clock_skew.large", "warning")]
    texts = [verdict["causes"][0]["headline"], *(one["text"] for one in verdict["remarks"][:2])]
    assert [words in text for words, text in zip(FAULTS, texts, strict=True)] == [True] * 3


def test_the_stale_secondary_alone_hides_the_silent_host_and_says_so(lab: Lab) -> None:
    # Whoever asks only the stale server is not sent to the silent host; that it is stale is the first thing said.
    done = kmsdiag(lab, *servers(lab, "secondary"))
    assert done.returncode == 1
    screen = " ".join(" ".join(done.stdout.splitlines()[:FIRST_SCREEN]).split())
    assert screen.find(FAULTS.stale) != -1
    assert screen.find(FAULTS.stale) < screen.find(FAULTS.clock)
    assert "kms2.corp.test:1688 is missing" in screen


def test_markdown_names_them_too(lab: Lab) -> None:
    done = kmsdiag(lab, *servers(lab, "primary"), "--format", "markdown")
    assert done.returncode == 1
    plain = done.stdout.replace("\\", "")
    places = [plain.find(words) for words in FAULTS]
    assert -1 not in places, done.stdout
    assert places == sorted(places)
