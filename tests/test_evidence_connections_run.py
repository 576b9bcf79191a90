"""Whole runs over logs, through the API and the command line. ``fixtures/logs`` holds what ``logsamples`` makes up."""

import gzip
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmsdiag.capture.scan import Analysis, Want
from kmsdiag.cli import main
from kmsdiag.evidence.connections.run import analyse_logs
from kmsdiag.model.capture import FoundBy, Lack
from kmsdiag.model.target import Selection
from kmsdiag.sources.files import gather
from kmsdiag.sources.recognise import Kind, recognise
from tests import logsamples as logs
from tests.logsamples import HOME, KMS1, KMS2, SRV, TARGETS, conn, ends, json_lines, rpc, table

SCENES = HOME.parent / "pcap"
BUNDLE = HOME.parent / "bundles/v1/mixed.json"
EVE, ZEEK = HOME / "eve.json", HOME / "zeek"

Capture = pytest.CaptureFixture[str]


def analyse(*paths: Path, selection: Selection | None = None, want: Want = Want.CONVERSATIONS) -> Analysis:
    return analyse_logs(gather([str(path) for path in paths]).sources, selection, want=want)


def outcomes(analysis: Analysis) -> list[tuple[str, str, str]]:
    return [(one.client, one.host, one.outcome.value) for one in analysis.conversations]


def run(capsys: Capture, *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["analyze", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_samples_are_those_of_the_generator() -> None:
    found = {
        str(path.relative_to(HOME)): path.read_text() for path in HOME.rglob("*") if path.suffix in (".log", ".json")
    }
    assert found == logs.samples()


class TestRecognised:
    @pytest.mark.parametrize("log", ["conn", "dns", "dce_rpc"])
    def test_zeek(self, log: str) -> None:
        for text in (
            table(log, logs.ZEEK[log]),
            table(log, logs.ZEEK[log], separator="|"),
            table(log, []).replace("\n", "\r\n"),
            json_lines(logs.ZEEK[log]),
        ):
            found = recognise(text.encode())
            assert (found.kind, found.name) == (Kind.ZEEK, f"a Zeek {log}.log")

    def test_other_logs_of_zeek(self) -> None:
        for text in (
            table("http", [], ["ts", "uid", "host"]),
            table("conn_summary", [], ["ts"]),
            json_lines([{"ts": 1.0, "uid": "C", **ends("192.0.2.1", 1, "192.0.2.2", 80), "host": "x"}]),
        ):
            found = recognise(text.encode())
            assert (found.kind, found.name) == (Kind.OTHER, "a Zeek log other than conn, dns and dce_rpc")

    def test_suricata(self) -> None:
        assert recognise(json_lines(logs.EVE).encode()).kind is Kind.SURICATA
        assert recognise(b'{"timestamp":"2026-05-28T20:26:40","flow_id":1,"event_type":"alert"}').kind is Kind.SURICATA

    @pytest.mark.parametrize("text", ["{}", '{"timestamp":1}', '["uid"]', "#separator", "#fields\tts\tuid"])
    def test_what_only_looks_like_it(self, text: str) -> None:
        assert recognise(text.encode()).kind in (Kind.TEXT, Kind.JSON)


class TestRun:
    EXPECTED = (
        ("192.0.2.11", KMS1[0], "not_known"),
        ("192.0.2.12", KMS1[0], "not_known"),
        ("192.0.2.13", "198.51.100.99", "unanswered"),
        ("192.0.2.15", KMS2[0], "bind_unanswered"),
    )

    def test_zeek(self) -> None:
        analysis = analyse(ZEEK)
        answer = analysis.answer
        assert tuple(outcomes(analysis)) == self.EXPECTED
        assert [one.found_by for one in analysis.conversations] == [
            FoundBy.SRV, FoundBy.SRV, FoundBy.NOTHING, FoundBy.SRV
        ]  # fmt: skip
        assert all(Lack.SUMMARY in one.lacks for one in analysis.conversations)
        assert (answer.source, answer.exchanges, answer.quality.dns_packets) == ("zeek", 2, len(logs.DNS))
        assert [one.format for one in answer.files] == ["Zeek dce_rpc.log", "Zeek conn.log", "Zeek dns.log"]
        assert [one.packets for one in answer.files] == [3, 5, 8]
        host = answer.hosts[0]
        assert (host.address, host.names, host.published, host.speaks_kms) == (KMS1[0], TARGETS[:1], True, True)
        assert [one.address for one in answer.clients] == [f"192.0.2.{number}" for number in (11, 12, 13, 14, 15)]

    def test_suricata(self) -> None:
        analysis = analyse(EVE)
        refused = ("192.0.2.12", KMS1[0], "host_refused")
        assert tuple(outcomes(analysis)) == (self.EXPECTED[0], refused, *self.EXPECTED[2:])
        answer = analysis.answer
        assert (answer.source, [one.format for one in answer.files]) == ("suricata", ["Suricata EVE"])
        (found,) = (one for one in answer.lookups if one.name == SRV)
        assert [(one.target, one.priority, one.port) for one in found.records] == [
            (TARGETS[0], 0, 1688),
            (TARGETS[1], 10, 1688),
        ]

    def test_neither_order_nor_packing_matters(self, tmp_path: Path) -> None:
        whole = analyse(ZEEK)
        paths = []
        for log in sorted(logs.ZEEK):
            path = tmp_path / f"{log}.log"
            path.write_bytes(gzip.compress((ZEEK / f"{log}.log").read_bytes()))
            paths.append(path)
        for order in (paths, paths[::-1]):
            again = analyse(*order)
            assert outcomes(again) == outcomes(whole)
            assert again.answer.clients == whole.answer.clients
            assert again.answer.lookups == whole.answer.lookups

    def test_tables_and_json_say_the_same(self, tmp_path: Path) -> None:
        mixed = tmp_path / "all.json"
        rows = [*logs.RPC, *logs.CONN, *logs.DNS]
        mixed.write_text(json_lines(rows))
        one, other = analyse(mixed), analyse(ZEEK)
        assert one.answer.files[0].format == "Zeek dce_rpc.log and conn.log and dns.log"
        assert outcomes(one) == outcomes(other)
        assert [(one.address, one.asked, one.told, one.last) for one in one.answer.clients] == [
            (one.address, one.asked, one.told, one.last) for one in other.answer.clients
        ]

    def test_lines_in_any_order_within_a_log(self, tmp_path: Path) -> None:
        path = tmp_path / "eve.json"
        rows = [row for row in logs.EVE if row["event_type"] != "dns"]
        expected = sorted(outcomes(analyse(EVE)))
        for seed in range(5):
            shuffled = random.Random(seed).sample(rows, len(rows))
            path.write_text(json_lines(shuffled))
            assert sorted(outcomes(analyse(path))) == expected

    def test_a_log_alone_says_what_it_can(self) -> None:
        only_rpc, only_conn, only_dns = (analyse(ZEEK / f"{log}.log") for log in ("dce_rpc", "conn", "dns"))
        assert tuple(outcomes(only_rpc)) == self.EXPECTED[:2]
        assert tuple(outcomes(only_conn)) == self.EXPECTED
        assert only_dns.conversations == ()
        assert [one.ignored for one in only_dns.answer.clients] == [()] * 4
        assert {one.found_by for one in only_conn.conversations} == {FoundBy.NOT_KNOWN}

    @pytest.mark.parametrize(
        ("selection", "clients"),
        [
            (Selection(clients=("192.0.2.12/31",)), {"192.0.2.12", "192.0.2.13"}),
            (Selection(hosts=("kms1.corp.example",)), {"192.0.2.11", "192.0.2.12"}),
            (Selection(hosts=("198.51.100.99",)), {"192.0.2.13"}),
            (Selection(hosts=("unheard.example",)), set()),
        ],
    )
    def test_selection(self, selection: Selection, clients: set[str]) -> None:
        for path in (ZEEK, EVE):
            analysis = analyse(path, selection=selection)
            assert {one.client for one in analysis.conversations} == clients
            if clients:
                number = analysis.conversations[0].number
                assert number == int(min(clients).removeprefix("192.0.2.1"))

    def test_examples_need_no_list(self) -> None:
        plain, listed = analyse(EVE, want=Want.ANSWER), analyse(EVE)
        assert plain.conversations == ()
        assert plain.answer == listed.answer
        assert {one.number for one in plain.answer.examples} == {1, 2, 3, 4}

    def test_bad_lines_are_noted_with_their_numbers(self, tmp_path: Path) -> None:
        path = tmp_path / "dce_rpc.log"
        text = table("dce_rpc", [rpc("C1", ends("192.0.2.1", 49200, *KMS1))])
        path.write_text(text.replace("#close", "1.0\tKMS\n#close") + "2.0\tKMS")
        (facts,) = analyse(path).answer.files
        assert (facts.damaged, facts.packets, facts.kept) == (True, 3, 1)
        assert facts.notes == (
            "2 lines could not be read and were left out, the first of them line 9: it has 2 fields, not 10",
        )

    def test_a_cut_archive_gives_what_it_has(self, tmp_path: Path) -> None:
        path = tmp_path / "conn.log.gz"
        rows = [conn(f"C{n}", ends("192.0.2.1", 1024 + n, *KMS1), "REJ", "Sr", at=n / 7) for n in range(20_000)]
        path.write_bytes(gzip.compress(table("conn", rows).encode())[:100_000])
        analysis = analyse(path, want=Want.ANSWER)
        (facts,) = analysis.answer.files
        assert facts.damaged
        assert any("the gzip file is cut" in note for note in facts.notes)
        assert 1000 < analysis.answer.conversations < 20_000

    def test_a_file_that_goes_away(self, tmp_path: Path) -> None:
        path = tmp_path / "conn.log"
        shutil.copy(ZEEK / "conn.log", path)
        sources = gather([str(path)]).sources
        path.unlink()
        analysis = analyse_logs(sources)
        assert (analysis.captures, analysis.unusable) == (
            (),
            (("conn.log", "it can't be read: No such file or directory"),),
        )


class TestCommand:
    def test_report(self, capsys: Capture) -> None:
        code, out, err = run(capsys, ZEEK)
        assert (code, err) == (1, "")
        assert out.startswith(
            "▲ DEGRADED  3 of 5 clients could not activate, 1 at srv, 1 at tcp, 1 at rpc (how it ended"
        )
        assert "Zeek logs the targets of SRV records alone" in out
        assert "16 lines of 3 logs" in out
        # ranks are not known, and so not shown
        assert "0/0" not in out
        code, out, err = run(capsys, EVE)
        assert (code, err) == (1, "")
        assert "kms1.corp.example (198.51.100.20) refuses; its code was not recorded" in out
        assert "10/0" in out

    def test_without_a_failure_nothing_is_known(self, capsys: Capture) -> None:
        code, out, _err = run(capsys, ZEEK / "dce_rpc.log")
        assert (code, out.splitlines()[0]) == (3, "? UNKNOWN  The logs hold no failure, and can't show a success.")

    def test_the_same_bytes_again_and_from_a_record(self, tmp_path: Path, capsys: Capture) -> None:
        kept = tmp_path / "kept.json"
        first = run(capsys, EVE, "--record", kept)
        assert run(capsys, EVE) == first
        assert run(capsys, kept) == first

    def test_with_a_recorded_run(self, capsys: Capture) -> None:
        _code, out, _err = run(capsys, BUNDLE, EVE, "--format", "json")
        report = json.loads(out)
        assert [one["label"] for one in report["captures"]["files"]] == ["eve.json"]
        assert {result["check"] for result in report["results"]} >= {"tcp_reachable", "capture_connect"}

    def test_captures_win(self, capsys: Capture) -> None:
        alone = run(capsys, SCENES / "version-6.pcap")
        code, out, err = run(capsys, ZEEK, SCENES / "version-6.pcap")
        assert (code, out) == alone[:2]
        assert err == (
            "kmsdiag: conn.log, dce_rpc.log, dns.log: left out, since captures are given, which say more of the same"
            " connections\n"
        )

    def test_of_one_program_at_a_time(self, capsys: Capture) -> None:
        code, out, err = run(capsys, ZEEK, EVE)
        assert (code, out) == (2, "")
        assert err.startswith("kmsdiag: conn.log is of Zeek and eve.json of Suricata")

    def test_list_and_ladder(self, capsys: Capture) -> None:
        code, out, _err = run(capsys, ZEEK, "--conversations", "json", "--client", "192.0.2.12")
        (one,) = json.loads(out)["conversations"]
        assert (code, one["number"], one["outcome"], one["lacks"]) == (0, 2, "not_known", ["summary"])
        code, out, _err = run(capsys, ZEEK, "--show", "2")
        assert code == 0
        assert "the capture lacks: its packets (known from a log alone)" in out
        assert "dce_rpc.log: 9        10.000 ms  ──▶ request  answered after 8.0 ms" in out
        code, _out, err = run(capsys, ZEEK, "--show", "9")
        assert (code, "there is no conversation 9" in err) == (2, True)

    def test_nothing_to_extract(self, tmp_path: Path, capsys: Capture) -> None:
        code, out, err = run(capsys, EVE, "--extract", tmp_path / "x.pcapng")
        assert (code, out, err) == (2, "", "kmsdiag: --extract needs a packet capture: logs hold no frames\n")
        assert not (tmp_path / "x.pcapng").exists()

    @pytest.mark.parametrize("path", [EVE, ZEEK / "dns.log", ZEEK / "conn.log"])
    def test_standard_input(self, path: Path, capsys: Capture) -> None:
        def said(text: str) -> dict[str, Any]:
            captures = json.loads(text)["captures"]
            del captures["files"]
            return captures  # type: ignore[no-any-return]

        command = [sys.executable, "-m", "kmsdiag", "analyze", "-", "--format", "json"]
        with path.open("rb") as file:
            done = subprocess.run(command, stdin=file, capture_output=True, check=False, timeout=60)
        _code, out, _err = run(capsys, path, "--format", "json")
        piped, read = said(done.stdout.decode()), said(out)
        # Read once, addresses of other names are kept as well, and left out in the end.
        assert piped == read

    def test_hostile_text_is_never_printed_as_it_is(self, tmp_path: Path, capsys: Capture) -> None:
        rows = [
            {**row, "rrname": "\x1b[2J"} if "rrname" in row else json.loads(
                json.dumps(row).replace("lab.example", "\\u001b[31m\\u202e.example").replace("timeout", "\\u001b[2J")
            )
            for row in logs.EVE
        ]  # fmt: skip
        path = tmp_path / "eve.json"
        path.write_text(json_lines(rows))
        for options in ((), ("--conversations", "table"), ("--conversations", "csv"), ("--show", "3"), ("-vv",)):
            _code, out, err = run(capsys, path, *options)
            assert not {"\x1b", "\u202e"} & set(out + err)

    def test_in_a_folder_other_logs_are_passed_over(self, tmp_path: Path, capsys: Capture) -> None:
        shutil.copytree(ZEEK, tmp_path / "zeek")
        (tmp_path / "zeek/http.log").write_text(table("http", [], ["ts", "uid", "host"]))
        assert run(capsys, tmp_path / "zeek") == run(capsys, ZEEK)
        code, _out, err = run(capsys, tmp_path / "zeek/http.log")
        assert (code, "a Zeek log other than conn, dns and dce_rpc" in err) == (2, True)


def test_progress_counts_bytes() -> None:
    told: list[tuple[int, int]] = []
    analyse_logs(gather([str(ZEEK)]).sources, progress=lambda done, whole: told.append((done, whole)))
    assert [done for done, _whole in told] == sorted(done for done, _whole in told)
    assert all(0 < done <= whole for done, whole in told)


def test_interrupted_reading_keeps_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, _whole: int) -> None:
        raise KeyboardInterrupt

    analysis = analyse_logs(gather([str(ZEEK)]).sources, want=Want.CONVERSATIONS, progress=stop)
    assert analysis.interrupted
    assert [one.label for one in analysis.captures] == ["dce_rpc.log"]
    assert analysis.answer.files[0].notes == ("reading was interrupted: what comes after is missing",)
    assert len(analysis.conversations) == 2


@pytest.mark.parametrize("path", [ZEEK, EVE], ids=lambda path: str(path.name))
def test_the_report_says_that_it_rests_on_logs(path: Path, capsys: Capture) -> None:
    _code, out, _err = run(capsys, path, "--format", "json")
    found = json.loads(out)
    said = {finding["code"] for result in found["results"] for finding in result["findings"]}
    assert "capture_quality.logs" in said
    assert not [result for result in found["results"] if result["status"] == "crashed"]


def test_damaged_lines_stop_nothing(tmp_path: Path) -> None:
    first, *others = EVE.read_bytes().splitlines(keepends=True)
    damaged = tmp_path / "eve.json"
    bad = b'{"event_type": "dcerpc", \xff\x1b[2J\n{]\n'
    damaged.write_bytes(b"".join((first, bad, *others)) + b'{"cut": ')
    analysis = analyse(damaged)
    assert outcomes(analysis) == outcomes(analyse(EVE))
    (note,) = analysis.answer.files[0].notes
    assert note.startswith("3 lines could not be read and were left out, the first of them line 2: ")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    at=st.integers(0, 400),
    cut=st.integers(0, 200),
    noise=st.binary(max_size=40),
    source=st.sampled_from([EVE, *sorted(ZEEK.iterdir())]),
)
def test_any_damage_is_survived(at: int, cut: int, noise: bytes, source: Path, tmp_path: Path, capsys: Capture) -> None:
    data = source.read_bytes()
    # The first line stays, for it says what the file is.
    keep = data.index(b"\n") + 1 + at
    folder = tmp_path / "damaged"
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():
        left.unlink()
    (folder / source.name).write_bytes(data[:keep] + noise + data[keep + cut :])
    code, _out, err = run(capsys, folder, "--format", "json")
    assert code in (0, 1, 2, 3), err
