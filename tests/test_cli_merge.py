"""``kmsdiag merge`` at the command line: files of every kind, exit codes, and files that are replaced as a whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kmsdiag import bundle as bundles
from kmsdiag.cli import main
from kmsdiag.model.audit import WhatIf
from kmsdiag.model.report import Report
from kmsdiag.report import json as rendered
from tests.labruns import runs
from tests.places import BRANCH, DEPOT, HQ, blocked, healthy, seen, stale

SCENES = Path(__file__).parent.parent / "fixtures/pcap"

Write = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes a report, or bytes, to a file of the working folder; its name."""

    def write(name: str, content: Report | bytes) -> str:
        data = content if isinstance(content, bytes) else rendered.render(content).encode()
        (folder / name).write_bytes(data)
        return name

    return write


@pytest.fixture
def three(write: Write) -> list[str]:
    """Files of a healthy place, one that is cut off, and one whose DNS server is stale."""
    return [
        write("hq.json", seen(healthy(), "hq", HQ)),
        write("branch.json", seen(blocked(), "branch", BRANCH)),
        write("depot.json", seen(stale(), "depot", DEPOT)),
    ]


def causes(text: str) -> list[tuple[str, str]]:
    return [(cause["kind"], cause["name"]) for cause in json.loads(text)["causes"]]


def test_reports(three: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", *three]) == 1
    out, err = capsys.readouterr()
    assert (out.splitlines()[0], err) == ("▲ DEGRADED  1 of 3 places healthy, 2 broken; 2 common causes.", "")


def test_healthy_places(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    names = [write(f"{label}.json", seen(healthy(), label)) for label in ("a", "b")]
    assert main(["merge", *names]) == 0
    assert capsys.readouterr().out.startswith("✔ HEALTHY  2 of 2 places healthy.")


def test_bundles_and_reports_together(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs()["mixed"]
    report, bundle = write("report.json", run.report), write("bundle.json", bundles.encode(run.bundle))
    assert main(["merge", report, report, "--format", "json"]) == 1
    reports = json.loads(capsys.readouterr().out)
    assert main(["merge", report, bundle, "--format", "json"]) == 1
    both = json.loads(capsys.readouterr().out)
    assert [view["label"] for view in both["vantages"]] == ["lab", "lab#2"]
    assert (both["ways"], both["causes"]) == (reports["ways"], reports["causes"])


@pytest.fixture
def captures(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Files of what is recorded about two captures, and the report about a third."""
    names = []
    for scene, option in (("retries-and-renewals", "--record"), ("version-6", "--record"), ("syn-unanswered", "-o")):
        main(["analyze", str(SCENES / f"{scene}.pcap"), "--format", "json", option, str(folder / f"{scene}.json")])
        names.append(f"{scene}.json")
    capsys.readouterr()
    return names


def test_captures(captures: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", *captures, "--format", "json"]) == 1
    out, err = capsys.readouterr()
    picture = json.loads(out)
    assert err == ""
    assert [view["label"] for view in picture["vantages"]] == ["retries-and-renewals", "version-6", "syn-unanswered"]
    assert causes(out) == [("vantage", "retries-and-renewals"), ("vantage", "syn-unanswered")]
    (way,) = picture["ways"]
    assert (way["domain"], way["target"], way["port"]) == ("–", "198.51.100.20", 1688)
    last = {label: one["stages"][-1] for one in way["outcomes"] for label in one["vantages"]}
    assert {label: (cell["stage"], cell["state"]) for label, cell in last.items()} == {
        "retries-and-renewals": ("answer", "fail"),
        "version-6": ("answer", "ok"),
        "syn-unanswered": ("tcp", "fail"),
    }


@pytest.mark.parametrize("form", ["text", "markdown", "junit"])
def test_captures_in_every_format(captures: list[str], form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", *captures, "--format", form]) == 1
    out, _err = capsys.readouterr()
    assert "fails at answer (1/2 refused)" in out
    assert "198.51.100.20:1688" in out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"{", "it is no JSON"),
        (b'{"kmsdiag_report": 99}', "report format 99, newer than"),
        (b'{"kmsdiag_bundle": 99}', "bundle format 99, newer than"),
        (b"[1]", "it is no report"),
    ],
)
def test_a_bad_file_is_one_line_and_stops_no_other(
    write: Write, three: list[str], capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    bad = write("far.json", content)
    assert main(["merge", three[0], bad, *three[1:], "--format", "json"]) == 1
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert err.startswith("kmsdiag: far.json can't be used: ")
    assert says in err
    views = {view["label"]: view for view in json.loads(out)["vantages"]}
    assert views.keys() == {"hq", "far", "branch", "depot"}
    assert (views["far"]["state"], "problem" in views["far"]) == ("unknown", True)
    assert causes(out) == [("server", "10.0.1.53"), ("vantage", "branch")]


def test_a_missing_file_among_healthy_ones_is_not_health(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", write("hq.json", seen(healthy(), "hq", HQ)), "nowhere.json"]) == 3
    out, err = capsys.readouterr()
    assert out.startswith("? UNKNOWN  1 of 2 places healthy, 1 without data.")
    assert err == "kmsdiag: nowhere.json can't be read: No such file or directory\n"


def test_no_usable_file(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", write("a.json", b"{}"), "b.json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "kmsdiag: there is nothing to merge: no file could be used"
    assert len(err.splitlines()) == 3


def test_a_what_if_is_no_place(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    proposed = msgspec.structs.replace(seen(healthy(), "hq", HQ), what_if=WhatIf(records=("x",)))
    assert main(["merge", write("hq.json", seen(healthy(), "hq", HQ)), write("if.json", proposed)]) == 3
    assert "if.json can't be used: it is about proposed records" in capsys.readouterr().err


def test_no_file_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(("level", "code"), [("never", 0), ("error", 1), ("warning", 1), ("info", 1)])
def test_fail_on(three: list[str], level: str, code: int) -> None:
    assert main(["merge", *three, "--fail-on", level]) == code


@pytest.mark.parametrize(("level", "code"), [("never", 0), ("error", 0), ("info", 1)])
def test_findings_of_a_healthy_place_count(write: Write, level: str, code: int) -> None:
    assert main(["merge", write("lab.json", runs()["two_hosts"].report), "--fail-on", level]) == code


def test_all_formats_at_once(three: list[str]) -> None:
    assert main(["merge", *three, "-oA", "all", "-o", "picture.xml"]) == 1
    made = {path.name for path in Path().iterdir()}
    assert made >= {"all.txt", "all.md", "all.json", "all.xml", "picture.xml"}
    assert Path("all.xml").read_bytes() == Path("picture.xml").read_bytes()
    assert Path("all.xml").read_text().startswith("<?xml")
    assert json.loads(Path("all.json").read_text())["kmsdiag_merged"] == 1


def test_the_old_file_stays_where_nothing_can_be_merged(write: Write) -> None:
    old = write("picture.json", b"old")
    assert main(["merge", write("a.json", b"{}"), "-o", old]) == 2
    assert Path(old).read_bytes() == b"old"


def test_stdin(three: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with Path(three[0]).open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert main(["merge", "-", *three[1:], "--format", "json"]) == 1
    assert causes(capsys.readouterr().out) == [("server", "10.0.1.53"), ("vantage", "branch")]


def test_hostile_names_of_files(three: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", three[0], "\x1b[2J\n.json"]) == 3
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert len(err.splitlines()) == 1


def test_options_from_the_configuration_file(three: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("kmsdiag.toml").write_text('[merge]\nformat = "json"\nfail-on = "never"\n')
    assert main(["merge", *three]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["state"] == "degraded"
