"""Logs of Zeek and Suricata through ``kmsdiag analyze``: what they say, what they can't say, and hostile lines."""

import csv
import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmsdiag.cli import main

ROOT = Path(__file__).parent.parent
LOGS = ROOT / "fixtures/logs"
ZEEK, EVE = LOGS / "zeek", LOGS / "eve.json"

Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["analyze", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def rows(capsys: Capture, *arguments: str | Path) -> list[dict[str, str]]:
    _code, out, _err = run(capsys, *arguments, "--conversations", "csv")
    return list(csv.DictReader(io.StringIO(out)))


def report(capsys: Capture, *arguments: str | Path) -> dict[str, Any]:
    _code, out, _err = run(capsys, *arguments, "--format", "json")
    return json.loads(out)  # type: ignore[no-any-return]


def ends(found: list[dict[str, str]]) -> list[tuple[str, str, str, str]]:
    return [(row["client"], row["found_by"], row["outcome"], row["hresult"]) for row in found]


def test_zeek_says_who_got_how_far_and_never_how_it_ended(capsys: Capture) -> None:
    assert ends(rows(capsys, ZEEK)) == [
        ("192.0.2.11", "srv", "not_known", ""),
        ("192.0.2.12", "srv", "not_known", ""),
        ("192.0.2.13", "nothing", "unanswered", ""),
        ("192.0.2.15", "srv", "bind_unanswered", ""),
    ]


def test_suricata_shows_a_refusal_by_its_size(capsys: Capture) -> None:
    assert ends(rows(capsys, EVE)) == [
        ("192.0.2.11", "srv", "not_known", ""),
        ("192.0.2.12", "srv", "host_refused", ""),
        ("192.0.2.13", "nothing", "unanswered", ""),
        ("192.0.2.15", "srv", "bind_unanswered", ""),
    ]


@pytest.mark.parametrize("logs", [ZEEK, EVE], ids=lambda path: str(path.name))
def test_the_report_says_that_it_rests_on_logs(logs: Path, capsys: Capture) -> None:
    found = report(capsys, logs)
    said = {finding["code"] for result in found["results"] for finding in result["findings"]}
    assert "capture_quality.logs" in said
    assert not [result for result in found["results"] if result["status"] == "crashed"]
    assert found["verdict"]["state"] != "healthy"


def test_packed_and_one_by_one_and_in_any_order(tmp_path: Path, capsys: Capture) -> None:
    whole = rows(capsys, ZEEK)
    files = sorted(ZEEK.iterdir())
    packed = []
    for file in files:
        packed.append(tmp_path / f"{file.name}.gz")
        packed[-1].write_bytes(gzip.compress(file.read_bytes()))
    assert ends(rows(capsys, *reversed(files))) == ends(rows(capsys, *packed)) == ends(whole)


def test_selection(capsys: Capture) -> None:
    assert {row["client"] for row in rows(capsys, EVE, "--client", "192.0.2.12")} == {"192.0.2.12"}
    assert {row["client"] for row in rows(capsys, ZEEK, "--host", "198.51.100.99")} == {"192.0.2.13"}


def test_packets_win_over_logs(capsys: Capture) -> None:
    scene = ROOT / "fixtures/pcap/version-6.pcap"
    code, out, err = run(capsys, scene, EVE, "--conversations", "csv")
    assert code in (0, 3)
    assert "eve.json" in err
    assert [row["outcome"] for row in csv.DictReader(io.StringIO(out))] == ["activated"]


def test_logs_have_no_frames_to_extract(tmp_path: Path, capsys: Capture) -> None:
    code, out, err = run(capsys, EVE, "--extract", tmp_path / "x.pcapng")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "x.pcapng").exists()


def test_a_bad_line_stops_nothing(tmp_path: Path, capsys: Capture) -> None:
    whole = ends(rows(capsys, EVE))
    lines = EVE.read_bytes().splitlines(keepends=True)
    damaged = tmp_path / "eve.json"
    damaged.write_bytes(
        b"".join((lines[0], b'{"event_type": "dcerpc", \xff\x1b[2J\n', b"{]\n", *lines[1:])) + b'{"cut": '
    )
    assert ends(rows(capsys, damaged)) == whole
    notes = " ".join(report(capsys, damaged)["captures"]["files"][0]["notes"])
    assert "line" in notes
    assert "\x1b" not in notes


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    at=st.integers(0, 400), cut=st.integers(0, 200), noise=st.binary(max_size=40), name=st.sampled_from([0, 1, 2, 3])
)
def test_any_damage_is_survived(at: int, cut: int, noise: bytes, name: int, tmp_path: Path, capsys: Capture) -> None:
    source = [EVE, *sorted(ZEEK.iterdir())][name]
    data = source.read_bytes()
    # The first line stays, for it says what the file is.
    keep = data.index(b"\n") + 1 + at
    folder = tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / source.name).write_bytes(data[:keep] + noise + data[keep + cut :])
    code, _out, err = run(capsys, folder, "--format", "json")
    assert code in (0, 1, 2, 3), err
    assert "internal error" not in err
