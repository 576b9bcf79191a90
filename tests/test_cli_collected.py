"""``kmsdiag analyze`` on files that others collected: a whole company, parts of it, and files of all bad kinds."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from kmsdiag.cli import main
from kmsdiag.report import json as json_report
from tests import scene
from tests.eventsamples import as_text, as_viewer_csv, asked
from tests.scene import CAPTURE, FOLDER, KMS1

BUNDLE = FOLDER.parent / "bundles/v1/mixed.json"
MADE = ("--collected-at", "2026-05-29T12:00Z")

Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["analyze", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def report(capsys: Capture, *arguments: str | Path) -> dict[str, Any]:
    _code, out, _err = run(capsys, *arguments, "--format", "json")
    found: dict[str, Any] = json.loads(out)
    return found


def codes(found: dict[str, Any]) -> set[str]:
    return {finding["code"] for result in found["results"] for finding in result["findings"]}


@pytest.fixture
def dlv(tmp_path: Path) -> Path:
    """What slmgr /dlv prints on a healthy client."""
    path = tmp_path / "dlv.txt"
    path.write_text(scene.dlv(rest=scene.kms_client(1)))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report on all files of the company."""
    path = tmp_path_factory.mktemp("whole") / "report.json"
    assert main(["analyze", str(FOLDER), *MADE, "--format", "json", "-o", str(path)]) == 1
    found: dict[str, Any] = json.loads(path.read_text())
    return found


class TestTheCompany:
    """``fixtures/collected``: each machine has something else to tell."""

    def test_the_files_are_those_that_the_scene_makes(self) -> None:
        written = {str(path.relative_to(FOLDER)): path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
        assert written == scene.files()

    def test_the_verdict(self, whole: dict[str, Any]) -> None:
        assert whole["verdict"]["headline"] == "5 of 50 clients are not activated."
        assert {(cause["code"], cause["headline"]) for cause in whole["verdict"]["causes"]} == {
            ("srv.tool_says", "1 client (pc11): DNS gave no KMS host, by the output of ospp /dstatus"),
            (
                "tcp.tool_says",
                "kms-old.contoso.example takes no connection from 1 client (PC05.contoso.example) on TCP 1688",
            ),
            ("request.lost_back", "Answers of kms1.contoso.example do not come back to 1 client (pc03)"),
            (
                "tcp.client_says",
                (
                    "kms1.contoso.example can't be reached by 1 client (pc02): the RPC server is not available: TCP is"
                    " blocked, or nothing listens (0x800706BA)"
                ),
            ),
            ("answer.other_product", "kms1.contoso.example refuses (0xC004F042): its key is for other products"),
        }

    def test_each_product(self, whole: dict[str, Any]) -> None:
        rows = {row["machine"]: row for row in whole["collected"]["products"]}
        assert {name: (row.get("state"), row.get("words", "")) for name, row in rows.items()} == {
            "pc01.contoso.example": ("ok", "activated"),
            "pc02": ("fail", "lost on the way to the host"),
            "pc03": ("fail", "lost on the way back"),
            "web04.contoso.example": ("fail", "the host refused"),
            "PC05.contoso.example": ("fail", "notification, 0xC004F056"),
            "pc06": (None, ""),
            "pc07": (None, "by Active Directory"),
            "pc08.contoso.example": ("ok", "activated"),
            "pc09": ("ok", "activated"),
            "pc10": ("ok", "licensed"),
            "pc11": ("fail", "notification, 0xC004F009"),
            "pc12.contoso.example": ("ok", "activated"),
        }
        assert rows["PC05.contoso.example"]["by_hand"] is True
        assert rows["pc06"]["channel"] == "multiple activation key"
        assert rows["pc10"]["expires"] == "2026-10-23T12:00:00Z"

    def test_the_host(self, whole: dict[str, Any]) -> None:
        (row,) = whole["collected"]["hosts"]
        assert (row["machine"], row["count"], row["publishing"], row["requests"], row["failed"], row["logged"]) == (
            KMS1,
            42,
            True,
            4711,
            47,
            50,
        )

    def test_both_sides(self, whole: dict[str, Any]) -> None:
        rows = {row["client"]: row for row in whole["collected"]["correlations"]}
        assert {name: (row["fate"], row.get("hresult"), row.get("host_hresult")) for name, row in rows.items()} == {
            "PC01.contoso.example": ("succeeded", "0x00000000", "0x00000000"),
            "PC02.contoso.example": ("lost_there", "0x800706BA", None),
            "PC03.contoso.example": ("lost_back", "0x800706BE", "0x00000000"),
            "WEB04.contoso.example": ("refused", "0xC004F042", "0xC004F042"),
            "pc08.contoso.example": ("succeeded", None, "0x00000000"),
            "pc09": ("succeeded", None, "0x00000000"),
            "PC12.contoso.example": ("succeeded", "0x00000000", "0x00000000"),
        }
        assert rows["pc08.contoso.example"]["gaps"] == ["2 machines share its ID", "no log of the client"]

    def test_what_the_checks_say(self, whole: dict[str, Any]) -> None:
        assert codes(whole) >= {
            "client_channel.ad_activated",
            "client_channel.mak",
            "client_identity.shared",
            "client_sources.override_dead",
            "client_sources.against_dns",
            "client_status.not_renewed",
            "events_correlation.lost_back",
            "events_correlation.lost_there",
            "events_identity.shared",
            "host_activation.no_office_key",
            "host_activation.not_covered",
            "host_count.enough",
        }
        assert not any(result["status"] == "crashed" for result in whole["results"])

    def test_what_could_not_be_read_is_said(self, whole: dict[str, Any]) -> None:
        notes = {row["label"]: row["notes"] for row in whole["collected"]["files"] if row.get("notes")}
        assert set(notes) == {"pc10/slmgr-dlv.txt"}
        assert notes["pc10/slmgr-dlv.txt"][0] == "not UTF-8: taken as code page 850"

    def test_files_of_one_name_are_told_apart(self, whole: dict[str, Any]) -> None:
        labels = [row["label"] for row in whole["collected"]["files"] + whole["collected"]["logs"]]
        assert {"pc01/slmgr-dlv.txt", "pc02/slmgr-dlv.txt", "pc01/application.evtx", "web04/application.evtx"} <= {
            *labels
        }
        assert "kms.csv" in labels

    def test_with_a_capture(self, capsys: Capture) -> None:
        """The refused client is in it, by the address that its ipconfig shows; so is the host."""
        found = report(capsys, FOLDER, CAPTURE, *MADE)
        rows = {row["client"]: row for row in found["collected"]["correlations"]}
        assert {name for name, row in rows.items() if row.get("captured")} == {"WEB04.contoso.example"}
        assert rows["WEB04.contoso.example"]["captured"] == "the host refused (HRESULT)"
        ways = {(path["domain"], path["target"]) for path in found["paths"]}
        assert ways == {("contoso.example", KMS1), ("–", "kms-old.contoso.example"), ("–", "–")}
        refusals = [cause for cause in found["verdict"]["causes"] if cause["code"] == "answer.other_product"]
        assert len(refusals) == 1
        assert "1 client (192.0.2.11)" in refusals[0]["text"]

    def test_nothing_depends_on_order_or_jobs(self, capsys: Capture) -> None:
        parts = sorted(FOLDER.iterdir())
        expected = run(capsys, FOLDER, *MADE, "--format", "json")
        assert run(capsys, *parts, *MADE, "--format", "json", "--jobs", "1") == expected
        assert run(capsys, *reversed(parts), *MADE, "--format", "json", "--jobs", "4") == expected

    def test_recorded_and_judged_again(self, tmp_path: Path, capsys: Capture) -> None:
        kept = tmp_path / "kept.json"
        first = run(capsys, FOLDER, CAPTURE, *MADE, "--record", kept)
        assert run(capsys, kept) == first

    def test_a_recorded_run_and_files(self, capsys: Capture) -> None:
        alone = report(capsys, BUNDLE)
        both = report(capsys, BUNDLE, FOLDER / "kms1", FOLDER / "pc02")
        assert both["target"]["domains"] == alone["target"]["domains"]
        assert {result["check"] for result in both["results"]} >= {"tcp_reachable", "client_status", "host_count"}

    def test_all_formats(self, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        code, out, err = run(capsys, FOLDER, *MADE, "-oA", "all")
        assert (code, err) == (1, "")
        assert out.startswith("▲ DEGRADED  5 of 50")
        jsonschema.validate(json.loads(Path("all.json").read_text()), json.loads(json_report.schemas()["report"]))
        page = Path("all.md").read_text()
        assert "| PC03.contoso.example | lost on the way back |" in page
        ways = ET.parse("all.xml").findall("testsuite[@name='kmsdiag.ways']/testcase")
        assert "contoso.example → kms1.contoso.example:1688" in {way.get("name") for way in ways}

    def test_merged_and_compared(self, tmp_path: Path, capsys: Capture) -> None:
        whole, part = tmp_path / "whole.json", tmp_path / "part.json"
        for path, given in ((whole, FOLDER), (part, FOLDER / "pc01")):
            run(capsys, given, *MADE, "--format", "json", "-o", path)
        assert main(["diff", str(whole), str(whole)]) == 0
        assert "nothing changed" in capsys.readouterr().out
        assert main(["diff", str(part), str(whole)]) == 1
        out = capsys.readouterr().out
        assert "new way: no host known, fails at srv" in out
        assert main(["merge", str(whole), str(part)]) == 1
        assert "5 of 50 clients are not activated." in capsys.readouterr().out


class TestNames:
    def test_given(self, dlv: Path, capsys: Capture) -> None:
        (row,) = report(capsys, f"PC17={dlv}")["collected"]["products"]
        assert (row["machine"], row.get("assumed")) == ("PC17", None)

    def test_a_file_that_is_really_called_so(self, dlv: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(dlv.parent)
        shutil.copy(dlv, "a=b.txt")
        found = report(capsys, "a=b.txt")
        assert [row["label"] for row in found["collected"]["files"]] == ["a=b.txt"]
        assert found["collected"]["products"][0]["assumed"] is True

    def test_a_folder(self, dlv: Path, capsys: Capture) -> None:
        folder = dlv.parent / "desk-17"
        folder.mkdir()
        dlv.rename(folder / "dlv.txt")
        (row,) = report(capsys, folder)["collected"]["products"]
        assert (row["machine"], row["assumed"]) == ("desk-17", True)

    def test_a_name_for_a_whole_folder(self, dlv: Path, capsys: Capture) -> None:
        folder = dlv.parent / "desk-17"
        folder.mkdir()
        dlv.rename(folder / "dlv.txt")
        (folder / "old.txt").write_text(scene.ipconfig("PC05", "192.0.2.5"))
        found = report(capsys, f"PC17={folder}")
        assert {name for row in found["collected"]["files"] for name in row["machines"]} == {"PC17"}

    def test_events_in_a_text_are_of_the_machine_that_was_named(self, tmp_path: Path, capsys: Capture) -> None:
        events = tmp_path / "pasted.txt"
        events.write_text(as_text([asked(0, "0x800706BA", machine="")]))
        (row,) = report(capsys, f"PC17={events}")["collected"]["correlations"]
        assert row["client"] == "PC17"


class TestLogsWithoutAComputer:
    """Event Viewer writes no computer into CSV."""

    def log(self, path: Path) -> Path:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(as_viewer_csv([asked(0, "0x800706BA")]))
        return path

    def clients(self, capsys: Capture, *arguments: str | Path) -> list[str]:
        return [row["client"] for row in report(capsys, *arguments)["collected"]["correlations"]]

    def test_are_of_the_machine_that_was_named(self, tmp_path: Path, capsys: Capture) -> None:
        assert self.clients(capsys, f"PC17={self.log(tmp_path / 'app.csv')}") == ["PC17"]

    def test_are_of_the_machine_of_their_folder(self, tmp_path: Path, capsys: Capture) -> None:
        for name in ("pc17", "pc18"):
            self.log(tmp_path / name / "app.csv")
        assert self.clients(capsys, tmp_path) == ["pc17", "pc18"]

    def test_and_of_its_other_files(self, dlv: Path, capsys: Capture) -> None:
        folder = dlv.parent / "pc17"
        for name in ("app.csv", "older.csv"):
            self.log(folder / name)
        dlv.rename(folder / "dlv.txt")
        found = report(capsys, folder)
        assert [row["client"] for row in found["collected"]["correlations"]] == ["pc17"]
        assert found["collected"]["products"][0]["machine"] == "pc17"

    def test_two_in_a_folder_may_be_of_two_machines(self, tmp_path: Path, capsys: Capture) -> None:
        for name in ("pc17.csv", "pc18.csv"):
            self.log(tmp_path / "logs" / name)
        assert self.clients(capsys, tmp_path / "logs") == ["pc17", "pc18"]

    def test_their_folder_is_nobodys_where_files_of_two_machines_lie_in_it(
        self, dlv: Path, tmp_path: Path, capsys: Capture
    ) -> None:
        self.log(tmp_path / "pc17.csv")
        (tmp_path / "other.txt").write_text(scene.dlv(rest=scene.kms_client(2)))
        assert "pc17" in self.clients(capsys, tmp_path)


class TestTimes:
    def test_without_a_time_there_is_no_date(self, dlv: Path, capsys: Capture) -> None:
        (row,) = report(capsys, dlv)["collected"]["products"]
        assert (row["remaining_min"], row.get("expires")) == (251_234, None)

    def test_collected_at(self, dlv: Path, capsys: Capture) -> None:
        (row,) = report(capsys, dlv, *MADE)["collected"]["products"]
        assert row["expires"] == "2026-11-19T23:14:00Z"

    def test_a_time_that_is_none(self, dlv: Path, capsys: Capture) -> None:
        code, out, err = run(capsys, dlv, "--collected-at", "yesterday")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "--collected-at" in err

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (("--since", "2026-05-29T06:00Z"), 2),
            (("--until", "2026-05-29T06:00Z"), 1),
            (("--since", "2026-05-29T05:30Z", "--until", "2026-05-29T08:00Z"), 1),
        ],
    )
    def test_only_events_of_a_time(self, options: tuple[str, ...], expected: int, capsys: Capture) -> None:
        (row,) = report(capsys, FOLDER / "pc02" / "application.xml", *options)["collected"]["correlations"]
        assert row["attempts"] == expected

    def test_only_events_of_a_client(self, capsys: Capture) -> None:
        found = report(capsys, FOLDER / "kms1", FOLDER / "pc02", FOLDER / "web04", "--client", "WEB04.contoso.example")
        assert [row["client"] for row in found["collected"]["correlations"]] == ["WEB04.contoso.example"]

    def test_only_events_with_a_host(self, capsys: Capture) -> None:
        given = (FOLDER / "pc02" / "application.xml", FOLDER / "web04" / "application.evtx")
        both = report(capsys, *given, "--host", KMS1)
        assert len(both["collected"]["correlations"]) == 2
        code, out, _err = run(capsys, *given, "--host", "kms2.contoso.example")
        assert code == 3
        assert "PC02" not in out


class TestBadFiles:
    def test_among_good_ones(self, dlv: Path, capsys: Capture) -> None:
        empty, noise, text = (dlv.parent / name for name in ("empty.txt", "noise.bin", "letter.txt"))
        empty.write_bytes(b"")
        noise.write_bytes(bytes(range(256)) * 40)
        text.write_text("Dear all, it does not work.")
        code, out, err = run(capsys, dlv, empty, noise, text, dlv.parent / "none.txt")
        assert code == 3
        assert out.startswith("✔ HEALTHY")
        lines = err.splitlines()
        assert [line.split(":")[1].strip() for line in lines] == ["empty.txt", "letter.txt", "noise.bin", "none.txt"]
        assert "nothing about activation is known" in lines[1]

    def test_nothing_of_use(self, tmp_path: Path, capsys: Capture) -> None:
        text = tmp_path / "letter.txt"
        text.write_text("Dear all, it does not work.")
        code, out, err = run(capsys, text)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("kmsdiag: letter.txt: it is text in which nothing about activation is known")

    def test_unknown_text_in_a_folder_is_passed_over(self, dlv: Path, capsys: Capture) -> None:
        (dlv.parent / "letter.txt").write_text("Dear all, it does not work.")
        code, out, err = run(capsys, dlv.parent)
        assert (code, err) == (0, "")
        assert "letter" not in out

    def test_a_text_without_end(self, tmp_path: Path, dlv: Path, capsys: Capture) -> None:
        large = tmp_path / "large.txt"
        with large.open("wb") as file:
            for _ in range(65):
                file.write(b"kms log line\r\n" * 75_000)
        code, _out, err = run(capsys, dlv, large)
        assert code == 3
        assert err == "kmsdiag: large.txt: it is larger than 64 MiB: give event logs as .evtx, XML or CSV\n"

    def test_members_of_archives(self, tmp_path: Path, capsys: Capture) -> None:
        archive = tmp_path / "pc12.zip"
        archive.write_bytes((FOLDER / "pc12.zip").read_bytes()[:400])
        code, out, err = run(capsys, archive)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("kmsdiag: pc12.zip: ")

    def test_packed(self, dlv: Path, capsys: Capture) -> None:
        packed = dlv.parent / "dlv.txt.gz"
        packed.write_bytes(gzip.compress(dlv.read_bytes()))
        assert run(capsys, packed)[0] == 0


class TestStandardInput:
    def test_a_text(self, dlv: Path) -> None:
        command = [sys.executable, "-m", "kmsdiag", "analyze", "-", "--format", "json"]
        with dlv.open("rb") as file:
            done = subprocess.run(command, stdin=file, capture_output=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        assert json.loads(done.stdout)["collected"]["files"][0]["label"] == "standard input"

    def test_ctrl_c_keeps_what_was_read(self, dlv: Path) -> None:
        command = [sys.executable, "-m", "kmsdiag", "analyze", str(dlv), "-", "--format", "json"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as running:
            assert running.stdin is not None
            assert running.stdout is not None
            # More than a pipe holds: when it is written, the other side is reading it.
            running.stdin.write(b"a line of text\n" * 100_000)
            running.stdin.flush()
            os.kill(running.pid, signal.SIGINT)
            out = running.stdout.read()
            assert running.wait(timeout=60) == 130
        found = json.loads(out)
        assert found["interrupted"] is True
        assert [row["label"] for row in found["collected"]["files"]] == ["dlv.txt"]


HOSTILE = "\x1b[31mpc\u202e|<b>`17"


class TestHostileText:
    """Names and notes from files are text in every format, and nothing else."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> list[str]:
        folder = tmp_path / HOSTILE.replace("/", "")
        folder.mkdir()
        (folder / "dlv.txt").write_text(
            scene.dlv(name=f"Windows(R) {HOSTILE} edition", rest=scene.kms_client(1)), encoding="utf-8"
        )
        (tmp_path / "log.txt").write_text(as_text([asked(0, "0x800706BA", machine=HOSTILE)]), encoding="utf-8")
        return [str(folder), f"{HOSTILE}2={tmp_path / 'log.txt'}"]

    @pytest.mark.parametrize("form", ["text", "markdown", "json", "junit"])
    def test_in_every_format(self, form: str, files: list[str], capsys: Capture) -> None:
        _code, out, err = run(capsys, *files, "--format", form)
        assert err == ""
        assert "pc" in out
        assert not {"\x1b", "\u202e"} & set(out)
        if form == "markdown":
            assert "<b>" not in out
        if form == "junit":
            assert ET.fromstring(out).tag == "testsuites"
