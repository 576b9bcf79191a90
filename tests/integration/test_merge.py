"""Three networks, each with its own DNS server: a healthy one, one behind a firewall, one with an old copy of the zone.

``kmsdiag check`` runs in each of them, and ``kmsdiag merge`` of the three files names both causes.
"""

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
from tests.pages import assert_shown, blocks

DOMAIN: Final = "corp.test"
SERVERS: Final = ("nshq", "nsbranch", "nsdepot")
HOSTS: Final = "kms1 A 10.77.0.31\nkmsold A 10.77.0.32\n"
BEFORE: Final = "_vlmcs._tcp SRV 0 0 1688 kmsold\n" + HOSTS
NOW: Final = "_vlmcs._tcp SRV 0 0 1688 kms1\n" + HOSTS
PLACES: Final = {"hq": "nshq", "branch": "nsbranch", "depot": "nsdepot"}
FIRST_SCREEN: Final = 25


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The old host is gone; the firewall before the new one lets nothing of the branch through."""
    require_lab()
    require_tools("named", "nft")
    folder = tmp_path_factory.mktemp("named")
    hosts = {"hq": 11, "branch": 12, "depot": 13, "nshq": 21, "nsbranch": 22, "nsdepot": 23, "kms1": 31, "kmsold": 32}
    with Lab(**hosts) as made:
        first, second, third = (Bind(made, host, folder) for host in SERVERS)
        first.primary(DOMAIN, 1, SERVERS, BEFORE)
        # What looked at the zone before the change has it as it was.
        third.secondary(DOMAIN, "nshq", 1)
        first.start()
        third.start()
        first.primary(DOMAIN, 2, SERVERS, NOW)
        first.reload()
        second.secondary(DOMAIN, "nshq", 2)
        second.start()
        rule = f"ip saddr {made.v4('branch')} tcp dport 1688 drop"
        with listening(made, "kms1", made.v4("kms1")), made.nft("kms1", rule), made.nft("kmsold", "drop"):
            yield made


def kmsdiag(*arguments: str, folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
    root = Path(__file__).parents[2]
    environment = {**os.environ, "COLUMNS": "100", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "kmsdiag", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def files(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What ``check`` wrote in each place: a report, and beside it the bundle."""
    folder = tmp_path_factory.mktemp("reports")
    made = {}
    for place, server in PLACES.items():
        made[place] = folder / f"{place}.json"
        arguments = ("check", DOMAIN, "--server", lab.v4(server), "--vantage", place, "--timeout", "1.5")
        record = folder / f"{place}.bundle.json"
        done = lab.call(place, kmsdiag, *arguments, "-o", str(made[place]), "--record", str(record))
        assert done.stderr == "", place
    return made


def merge(*paths: Path) -> tuple[int, dict[str, Any], str]:
    done = kmsdiag("merge", *map(str, paths), "--format", "json")
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found, done.stderr


def both(lab: Lab) -> list[tuple[str, str, list[str]]]:
    """The two causes, whatever the files they are found in."""
    return [("server", lab.v4("nsdepot"), ["depot"]), ("vantage", "branch", ["branch"])]


def causes(picture: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    return [(cause["kind"], cause["name"], cause["vantages"]) for cause in picture["causes"]]


def test_each_place_alone_sees_its_own_trouble(files: dict[str, Path]) -> None:
    states = {place: json.loads(path.read_text())["verdict"]["state"] for place, path in files.items()}
    assert states == {"hq": "healthy", "branch": "broken", "depot": "broken"}


def test_merge_names_both_causes(lab: Lab, files: dict[str, Path]) -> None:
    code, picture, err = merge(*files.values())
    assert (code, err) == (1, "")
    assert picture["state"] == "degraded"
    assert causes(picture) == both(lab)
    server, place = picture["causes"]
    assert f"does not name kms1.{DOMAIN}:1688, which works elsewhere" in server["headline"]
    assert f"leads to kmsold.{DOMAIN}:1688 ({lab.v4('kmsold')}), which fails at tcp (silent)" in server["headline"]
    assert place["headline"] == f"Only from branch: kms1.{DOMAIN}:1688 ({lab.v4('kms1')}) fails at tcp (silent)"
    assert place["works_at"] == ["hq"]


def test_the_first_screen_has_them(lab: Lab, files: dict[str, Path]) -> None:
    done = kmsdiag("merge", *map(str, files.values()))
    screen = " ".join(" ".join(done.stdout.splitlines()[:FIRST_SCREEN]).split())
    assert screen.startswith("▲ DEGRADED 1 of 3 places healthy, 2 broken; 2 common causes.")
    for part in (f"DNS server {lab.v4('nsdepot')} does not name kms1", "Only from branch: kms1", "0xC004F074"):
        assert part in screen, done.stdout


def test_bundles_judged_again_say_the_same(lab: Lab, files: dict[str, Path]) -> None:
    bundle = files["depot"].with_name("depot.bundle.json")
    _code, picture, _err = merge(files["hq"], files["branch"], bundle)
    assert causes(picture) == both(lab)


def test_a_place_that_could_not_be_reached_changes_no_cause_and_is_no_health(
    lab: Lab, files: dict[str, Path], tmp_path: Path
) -> None:
    far = tmp_path / "far.json"
    far.write_bytes(b"")
    code, picture, err = merge(*files.values(), far)
    assert (code, err) == (1, f"kmsdiag: {far} can't be used: it is empty\n")
    assert causes(picture) == both(lab)
    assert all(way["not_known"] == 1 for way in picture["ways"])
    code, picture, _err = merge(files["hq"], far)
    assert picture["state"] == "unknown"


def test_diff_of_two_places(files: dict[str, Path]) -> None:
    worse = kmsdiag("diff", str(files["hq"]), str(files["branch"]))
    assert worse.returncode == 1
    assert f"{DOMAIN} → kms1.{DOMAIN}:1688: ok → fails at tcp (silent)" in worse.stdout
    better = kmsdiag("diff", str(files["branch"]), str(files["hq"]))
    assert f"{DOMAIN} → kms1.{DOMAIN}:1688: fails at tcp (silent) → ok" in better.stdout
    assert "✔ NO WORSE" in better.stdout


def test_the_page_shows_this_picture(lab: Lab, files: dict[str, Path], tmp_path: Path) -> None:
    (picture,), (unknown,), (worse,) = (
        blocks("audit.md", begin) for begin in ("▲ DEGRADED  1 of 3", "kmsdiag: far.json", "✖ WORSE")
    )
    names = {"hq.json": files["hq"], "branch.json": files["branch"], "before.json": files["hq"]}
    for name, source in {**names, "depot.json": files["depot"].with_name("depot.bundle.json")}.items():
        (tmp_path / name).write_bytes(source.read_bytes())
    (tmp_path / "far.json").write_bytes(b"")
    server = lab.v4(PLACES["hq"])
    with lab.nft("kms1", "tcp dport 1688 drop", table="again"):
        options = ("--server", server, "--vantage", "hq", "--timeout", "1.5", "-o", str(tmp_path / "after.json"))
        lab.call("hq", kmsdiag, "check", DOMAIN, *options)

    def said(*arguments: str) -> str:
        done = kmsdiag(*arguments, folder=tmp_path)
        return done.stderr + done.stdout

    assert_shown(picture, said("merge", "hq.json", "branch.json", "depot.json"))
    assert_shown(unknown, said("merge", "hq.json", "far.json"))
    assert_shown(worse, said("diff", "before.json", "after.json"))
