"""``kmsdiag analyze`` on packet captures: any mix of files, lists, ladders, extracts, selections, clusters."""

import csv
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kmsdiag.cli import main
from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.times import moment
from kmsdiag.report.conversations import COLUMNS
from tests.capturefile import Written, pcap
from tests.pcapgen import START, Ends, Packet, Talk, merged

ROOT = Path(__file__).parent.parent
SCENES = ROOT / "fixtures/pcap"
BUNDLE = ROOT / "fixtures/bundles/v1/mixed.json"
RAW = 101

Capture = pytest.CaptureFixture[str]


def written(path: Path, packets: list[Packet]) -> Path:
    """A pcap file of IP packets."""
    records = [Written((START + one.at) * 1_000, one.data, len(one.data)) for one in packets]
    path.write_bytes(pcap(records, link=RAW))
    return path


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three clients of one host, an hour apart: one succeeds, one is refused, one gets no answer to its SYN."""
    good = Talk(Ends("192.0.2.1")).activation()
    refused = Talk(Ends("192.0.2.2"), at=3_600).activation(hresult=0xC004F042)
    silent = Talk(Ends("192.0.2.3"), at=7_200).syn().wait(3).syn().wait(6).syn()
    return written(tmp_path / "three.pcap", merged(*(talk.packets() for talk in (good, refused, silent))))


def run(capsys: Capture, *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["analyze", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def report(capsys: Capture, *arguments: str | Path) -> dict[str, Any]:
    _code, out, _err = run(capsys, *arguments, "--format", "json")
    return json.loads(out)  # type: ignore[no-any-return]


class TestReport:
    def test_who_failed_where_and_why(self, three: Path, capsys: Capture) -> None:
        code, out, err = run(capsys, three)
        assert (code, err) == (1, "")
        first = out.splitlines()[0]
        assert first.startswith("▲ DEGRADED  2 of 3 clients could not activate")
        assert "0xC004F042" in out

    def test_the_same_bytes_again_and_in_any_order(self, three: Path, tmp_path: Path, capsys: Capture) -> None:
        other = written(tmp_path / "other.pcap", Talk(Ends("192.0.2.9"), at=9_000).activation().packets())
        assert run(capsys, three, other) == run(capsys, other, three) == run(capsys, three, other, "--jobs", "1")

    def test_a_run_and_captures_are_judged_together(self, three: Path, capsys: Capture) -> None:
        alone = report(capsys, BUNDLE)
        both = report(capsys, BUNDLE, three)
        assert both["target"]["domains"] == alone["target"]["domains"]
        assert [one["label"] for one in both["captures"]["files"]] == ["three.pcap"]
        assert {result["check"] for result in both["results"]} >= {"tcp_reachable", "capture_connect"}

    def test_record_and_judge_again(self, three: Path, tmp_path: Path, capsys: Capture) -> None:
        kept = tmp_path / "kept.json"
        first = run(capsys, three, "--record", kept)
        three.unlink()
        assert run(capsys, kept) == first

    def test_as_junit(self, three: Path, capsys: Capture) -> None:
        code, out, err = run(capsys, three, "--format", "junit")
        assert (code, err) == (1, "")
        ways = ET.fromstring(out).findall("testsuite[@name='kmsdiag.ways']/testcase")
        assert [way.get("name") for way in ways] == ["198.51.100.20:1688"]
        assert ways[0].find("failure") is not None

    def test_what_fails_in_junit_is_what_fails_the_command(self, capsys: Capture) -> None:
        scene = SCENES / "retries-and-renewals.pcap"

        def failures(level: str) -> int:
            _code, out, _err = run(capsys, scene, "--format", "junit", "--fail-on", level)
            return len(ET.fromstring(out).findall("testsuite[@name!='kmsdiag.ways']/testcase/failure"))

        assert (failures("error"), failures("warning")) == (1, 2)

    def test_expected_hosts(self, three: Path, capsys: Capture) -> None:
        found = report(capsys, three, "--expect-host", "198.51.100.99")
        said = {finding["code"] for result in found["results"] for finding in result["findings"]}
        assert "capture_hosts.unexpected" in said

    def test_folders_and_packed_files(self, three: Path, tmp_path: Path, capsys: Capture) -> None:
        expected = report(capsys, three)["verdict"]
        folder = tmp_path / "folder" / "deeper"
        folder.mkdir(parents=True)
        (folder / "three.pcap.gz").write_bytes(gzip.compress(three.read_bytes()))
        (folder / "readme.txt").write_text("notes of somebody")
        assert report(capsys, tmp_path / "folder")["verdict"] == expected

    def test_standard_input(self, three: Path) -> None:
        command = [sys.executable, "-m", "kmsdiag", "analyze", "-", "--format", "json"]
        with three.open("rb") as file:
            done = subprocess.run(command, stdin=file, capture_output=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (1, b"")
        (facts,) = json.loads(done.stdout)["captures"]["files"]
        assert facts["label"] == "standard input"


class TestSelection:
    @pytest.mark.parametrize(
        ("options", "clients"),
        [
            (("--client", "192.0.2.2"), {"192.0.2.2"}),
            (("--client", "192.0.2.2/31"), {"192.0.2.2", "192.0.2.3"}),
            (("--client", "192.0.2.1", "--client", "192.0.2.3"), {"192.0.2.1", "192.0.2.3"}),
            (("--host", "198.51.100.20"), {"192.0.2.1", "192.0.2.2", "192.0.2.3"}),
            (("--host", "198.51.100.20:1688"), {"192.0.2.1", "192.0.2.2", "192.0.2.3"}),
            (("--host", "198.51.100.21"), set()),
            (("--since", "2026-05-28T20:56:40Z"), {"192.0.2.2", "192.0.2.3"}),
            (("--until", "2026-05-28T20:56:40Z"), {"192.0.2.1"}),
            (("--since", "2026-05-28T20:56:40Z", "--until", "2026-05-28T22:00:00Z"), {"192.0.2.2"}),
        ],
    )
    def test_which_conversations_count(
        self, options: tuple[str, ...], clients: set[str], three: Path, capsys: Capture
    ) -> None:
        _code, out, _err = run(capsys, three, "--conversations", "json", *options)
        assert {one["client"] for one in json.loads(out)["conversations"]} == clients

    def test_numbers_do_not_depend_on_it(self, three: Path, capsys: Capture) -> None:
        _code, out, _err = run(capsys, three, "--conversations", "json", "--client", "192.0.2.3")
        assert [one["number"] for one in json.loads(out)["conversations"]] == [3]
        _code, out, _err = run(capsys, three, "--show", "3")
        assert out.startswith("conversation 3: 192.0.2.3:")

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (("--client", "a b"), "--client 'a b'"),
            (("--client", "192.0.2.0/40"), "--client '192.0.2.0/40'"),
            (("--host", "x:99999"), "--host 'x:99999'"),
            (("--since", "yesterday"), "--since 'yesterday' is no time"),
            (("--since", "2026-05-29", "--until", "2026-05-28"), "--since is later than --until"),
            (("--show", "99"), "there is no conversation 99"),
            (("--show", "1", "--conversations", "csv"), "exclude each other"),
            (("--extract", "none/x.pcapng"), "there is no folder none"),
            (("--scheduler", "tcp://127.0.0.1:9"), "no scheduler answers there"),
        ],
    )
    def test_mistakes_are_one_line(self, options: tuple[str, ...], says: str, three: Path, capsys: Capture) -> None:
        code, out, err = run(capsys, three, *options)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        assert says in line

    @pytest.mark.parametrize("option", ["--extract", "-o", "--record"])
    def test_no_input_is_written_over(self, option: str, three: Path, capsys: Capture) -> None:
        before = three.read_bytes()
        code, out, err = run(capsys, three, option, three.parent / "." / three.name)
        assert (code, out) == (2, "")
        assert "is one of the files to be read" in err
        assert three.read_bytes() == before

    def test_no_capture_of_a_folder_is_written_over(self, three: Path, capsys: Capture) -> None:
        before = three.read_bytes()
        code, _out, err = run(capsys, three.parent, "--extract", three)
        assert code == 2
        assert "is one of the files to be read" in err
        assert three.read_bytes() == before


class TestLists:
    def test_csv(self, three: Path, capsys: Capture) -> None:
        code, out, err = run(capsys, three, "--conversations", "csv")
        assert (code, err) == (0, "")
        rows = list(csv.DictReader(io.StringIO(out)))
        assert tuple(rows[0]) == COLUMNS
        assert [(row["client"], row["stage"], row["outcome"], row["hresult"]) for row in rows] == [
            ("192.0.2.1", "answer", "activated", "0x00000000"),
            ("192.0.2.2", "answer", "host_refused", "0xC004F042"),
            ("192.0.2.3", "tcp", "unanswered", ""),
        ]
        assert [row["first_frame"] for row in rows] == ["1", "11", "21"]

    def test_a_formula_stays_a_text(self, tmp_path: Path, capsys: Capture) -> None:
        talk = Talk().open().client(b"GET / HTTP/1.1\r\n\r\n").host(b"=cmd|' /C calc'!A0 \x1b[2J").close()
        _code, out, _err = run(capsys, written(tmp_path / "=1+1.pcap", talk.packets()), "--conversations", "csv")
        (row,) = csv.DictReader(io.StringIO(out))
        assert not [value for value in row.values() if value.startswith(("=", "+", "-", "@"))]
        assert "\x1b" not in out
        assert row["file"] == "'=1+1.pcap"

    def test_table(self, three: Path, capsys: Capture) -> None:
        _code, out, _err = run(capsys, three, "--conversations", "table")
        assert len(out.splitlines()) == 5
        assert "refused (HRESULT)" in out

    def test_to_a_file(self, three: Path, tmp_path: Path, capsys: Capture) -> None:
        path = tmp_path / "list.csv"
        _code, out, _err = run(capsys, three, "--conversations", "csv", "-o", path)
        assert out == ""
        assert path.read_text().startswith("number,started")

    def test_ladder(self, three: Path, capsys: Capture) -> None:
        code, out, _err = run(capsys, three, "--show", "2")
        assert code == 0
        lines = out.splitlines()
        assert lines[0].startswith("conversation 2: 192.0.2.2:49200 → 198.51.100.20:1688, 2026-05-28 ")
        assert any("request" in line and "──▶" in line for line in lines)
        assert any("HRESULT 0xC004F042" in line and "◀──" in line for line in lines)
        shown = lines[-1].partition(": ")[2]
        command = ["tshark", "-n", "-r", str(three), "-Y", shown, "-T", "fields", "-e", "frame.number"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert [int(number) for number in done.stdout.split()] == list(range(11, 21))

    def test_a_bundle_has_no_conversations(self, capsys: Capture) -> None:
        code, _out, err = run(capsys, BUNDLE, "--conversations", "csv")
        assert code == 2
        assert "need a packet capture" in err


class TestExtract:
    def test_only_the_frames_that_matter(self, three: Path, tmp_path: Path, capsys: Capture) -> None:
        noise = Talk(Ends("192.0.2.77", 50_000, "198.51.100.5", 443), at=100).open().client(b"x" * 50).close().packets()
        refused = Talk(Ends("192.0.2.2"), at=200).activation(hresult=0xC004F042).packets()
        busy = written(tmp_path / "busy.pcap", merged(noise, refused))
        path = tmp_path / "kms.pcapng"
        before = report(capsys, busy)["verdict"]
        run(capsys, busy, "--extract", path)
        command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-e", "frame.comment", "-e", "tcp.port"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        comments = [line.split("\t")[0] for line in done.stdout.splitlines()]
        assert comments == [f"frame {len(noise) + 1 + n} of busy.pcap" for n in range(len(refused))]
        assert report(capsys, path)["verdict"]["headline"] == before["headline"]

    def test_what_can_not_be_read_twice(self, three: Path) -> None:
        command = [sys.executable, "-m", "kmsdiag", "analyze", "-", "--extract", "x.pcapng"]
        with three.open("rb") as file:
            done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2
        assert "a second time" in done.stderr


class TestUnusable:
    def test_the_others_are_judged_all_the_same(self, three: Path, tmp_path: Path, capsys: Capture) -> None:
        trace = tmp_path / "trace.cap"
        trace.write_bytes(b"GMBU" + bytes(100))
        code, out, err = run(capsys, three, trace, tmp_path / "none.pcap", "--fail-on", "never")
        assert code == 3
        assert out.startswith("▲ DEGRADED")
        assert sorted(err.splitlines()) == [
            "kmsdiag: none.pcap: it can't be read: No such file or directory",
            "kmsdiag: trace.cap: it is a Network Monitor capture: convert it: editcap -F pcapng FILE FILE.pcapng",
        ]

    def test_findings_come_first(self, three: Path, tmp_path: Path, capsys: Capture) -> None:
        code, _out, _err = run(capsys, three, tmp_path / "none.pcap")
        assert code == 1

    def test_nothing_at_all(self, tmp_path: Path, capsys: Capture) -> None:
        (tmp_path / "a.txt").write_text("hello")
        code, out, err = run(capsys, tmp_path / "a.txt", tmp_path / "none")
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 2

    def test_two_runs(self, tmp_path: Path, capsys: Capture) -> None:
        other = shutil.copy(BUNDLE, tmp_path / "other.json")
        code, _out, err = run(capsys, BUNDLE, other)
        assert code == 2
        assert "give one at a time" in err

    def test_a_name_from_hell_is_made_visible(self, tmp_path: Path, capsys: Capture) -> None:
        name = tmp_path / "x\x1b[31m\n.pcap"
        name.write_bytes(b"hello")
        _code, _out, err = run(capsys, name)
        assert "\x1b" not in err
        assert len(err.splitlines()) == 1


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Dask cluster of two workers on loopback; its address."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
    ) as made:
        yield made.scheduler_address


@pytest.mark.filterwarnings("ignore")  # whatever Dask and tornado warn of is theirs
def test_the_same_bytes_from_a_cluster(cluster: str, three: Path, tmp_path: Path) -> None:
    names = sorted(str(path) for path in (SCENES / "ring-of-files").iterdir() if path.suffix.startswith(".pcap"))
    files = [str(three), *names]

    def analyzed(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kmsdiag", "analyze", *files, "--format", "json", *options]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    here, there = analyzed("--jobs", "1"), analyzed("--scheduler", cluster)
    assert there.returncode == here.returncode, there.stderr
    assert there.stdout == here.stdout


class TestTimes:
    def test_with_a_zone(self) -> None:
        assert moment("2026-11-24T08:00:00+02:00", "--since").isoformat() == "2026-11-24T06:00:00+00:00"

    def test_before_now(self) -> None:
        assert moment("-2h", "--since") < moment("-1h", "--since") < moment("-5s", "--since")

    @pytest.mark.parametrize("text", ["08:00", "8:00", "08:00:30", "2026-11-24", "2026-11-24T08:00"])
    def test_local(self, text: str) -> None:
        assert moment(text, "--since").utcoffset() is not None

    @pytest.mark.parametrize("text", ["", "now", "25:00", "-2w", "2026-13-01", "0000-00-00", "-99999999999h"])
    def test_none(self, text: str) -> None:
        with pytest.raises(UsageProblem, match="is no time"):
            moment(text, "--since")
