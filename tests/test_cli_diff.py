"""``kmsdiag diff`` at the command line: exit codes, formats, and files that can't be used."""

import json
from pathlib import Path

import pytest

from kmsdiag import bundle as bundles
from kmsdiag.cli import main
from kmsdiag.report import json as rendered
from tests.labruns import runs
from tests.places import HQ, blocked, healthy, seen
from tests.test_compare import one, report, untested

SCENES = Path(__file__).parent.parent / "fixtures/pcap"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a good and a bad run, and one that tested nothing, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name, made in (
        ("good", seen(healthy(), "hq", HQ)),
        ("bad", seen(blocked(), "hq", HQ)),
        ("nothing", report(untested())),
        ("one", report(one())),
    ):
        Path(f"{name}.json").write_text(rendered.render(made), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ("good", "bad", 1, "✖ WORSE  2 got worse."),
        ("bad", "good", 0, "✔ NO WORSE  2 got better."),
        ("good", "good", 0, "✔ NO WORSE  nothing changed."),
        ("one", "nothing", 3, "? NOT COMPARABLE  the two can't be compared."),
    ],
)
def test_exit_codes(old: str, new: str, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", f"{old}.json", f"{new}.json"]) == code
    out, err = capsys.readouterr()
    assert (out.splitlines()[0], err) == (says, "")


def test_a_bundle_is_judged_again(capsys: pytest.CaptureFixture[str]) -> None:
    run = runs()["mixed"]
    Path("bundle.json").write_bytes(bundles.encode(run.bundle))
    Path("report.json").write_text(rendered.render(run.report), encoding="utf-8")
    assert main(["diff", "report.json", "bundle.json"]) == 0
    assert "nothing changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "it is empty"),
        ('{"kmsdiag_report": 99}', "report format 99, newer than 1, which this kmsdiag reads: update kmsdiag"),
        ('{"kmsdiag_report": 1}', "it is damaged"),
        ("{}", "neither a report"),
        ('{"kmsdiag_diff": 1}', "it is what 'kmsdiag diff' wrote, no report: give the files it was made of"),
        ('{"kmsdiag_merged": 1}', "it is what 'kmsdiag merge' wrote, no report: give the files it was made of"),
        ("\ufeff", "it is empty"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_file_that_can_not_be_used(content: str, says: str, place: int, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.json").write_text(content, encoding="utf-8")
    names = ["good.json", "good.json"]
    names[place] = "broken.json"
    assert main(["diff", *names, "-o", "diff.json"]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith("kmsdiag: broken.json can't be used: ")
    assert says in err
    assert not Path("diff.json").exists()


def test_stdin_can_be_only_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "-", "-"]) == 2
    assert capsys.readouterr().err == "kmsdiag: stdin can be only one of the two\n"


def test_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "good.json", "bad.json", "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["kmsdiag_diff"], found["state"]) == (1, "worse")
    assert found["worse"][1]["host"] == "kms1.contoso.example:1688"
    assert main(["diff", "good.json", "bad.json", "-oA", "d"]) == 1
    assert {path.name for path in Path().iterdir()} >= {"d.txt", "d.md", "d.json", "d.xml"}


def test_captures(capsys: pytest.CaptureFixture[str]) -> None:
    for scene, option in (("retries-and-renewals", "--record"), ("version-6", "-o")):
        main(["analyze", str(SCENES / f"{scene}.pcap"), "--format", "json", option, f"{scene}.json"])
    capsys.readouterr()
    assert main(["diff", "retries-and-renewals.json", "retries-and-renewals.json"]) == 0
    assert "nothing changed" in capsys.readouterr().out
    assert main(["diff", "version-6.json", "retries-and-renewals.json", "--format", "json"]) == 1
    worse = [change["what"] for change in json.loads(capsys.readouterr().out)["worse"]]
    assert worse == [
        "verdict: healthy → degraded",
        "198.51.100.20:1688: ok → partial",
        "new: capture_refusals.other_product (captures)",
    ]
    assert main(["diff", "retries-and-renewals.json", "version-6.json", "--format", "junit"]) == 0
    assert "<failure" not in capsys.readouterr().out
