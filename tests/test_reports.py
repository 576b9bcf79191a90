"""Reports read back: what was written is read, what is no report is named in one line, and nothing else comes out."""

import datetime
import functools
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag import bundle as bundles
from kmsdiag import diagnosis
from kmsdiag.model.finding import Severity
from kmsdiag.model.path import VerdictState
from kmsdiag.model.report import Report
from kmsdiag.policy import Policy
from kmsdiag.registry import discover
from kmsdiag.report import json as rendered
from kmsdiag.reports import ReportError, decode_report, read_report
from tests.conftest import DOMAIN, World, record
from tests.labruns import NAMES, hostile_report, runs
from tests.places import KMS1, many_ends

FIXTURES = Path(__file__).parent.parent / "fixtures/reports"


def written(name: str = "mixed") -> bytes:
    return rendered.render(runs()[name].report).encode()


@functools.cache
def captured_report() -> Report:
    """What all checks say of captures with clients that end in many ways, beside questions put from here."""
    world = World(DOMAIN).srv(record("kms1")).host("kms1", KMS1)
    return world.captures(many_ends().answer()).report(discover())


def changed(path: tuple[str | int, ...], value: Any, report: bytes | None = None) -> bytes:
    """The report (of scenario mixed, unless given) with one value, somewhere inside, replaced."""
    data = json.loads(report or written())
    place: Any = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(data).encode()


class TestRoundTrip:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_scenario(self, name: str) -> None:
        again = decode_report(written(name))
        assert again == runs()[name].report
        # Numbers keep their value, whole ones not their spelling: what is written again is the same from then on.
        text = rendered.render(again)
        assert rendered.render(decode_report(text.encode())) == text

    def test_a_hostile_one(self) -> None:
        report = hostile_report()
        assert decode_report(rendered.render(report).encode()) == report

    def test_one_of_captures(self) -> None:
        report = captured_report()
        assert report.captures is not None
        assert decode_report(rendered.render(report).encode()) == report

    def test_an_empty_one(self) -> None:
        report = World().report()
        assert decode_report(rendered.render(report).encode()) == report

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_one_that_a_shell_of_windows_redirected(self, encoding: str) -> None:
        text = written().decode().replace("\n", "\r\n")
        assert decode_report(text.encode(encoding)) == runs()["mixed"].report

    @pytest.mark.parametrize("name", NAMES)
    def test_a_bundle_is_judged_again(self, name: str) -> None:
        run = runs()[name]
        assert decode_report(bundles.encode(run.bundle)) == run.report


class TestOlderOnes:
    @pytest.mark.parametrize("path", sorted(FIXTURES.rglob("*.json")), ids=lambda path: path.stem)
    def test_are_read(self, path: Path) -> None:
        data = json.loads(path.read_bytes())
        report = read_report(path)
        assert report.verdict.state.value == data["verdict"]["state"]
        assert [path.key for path in report.paths] == [
            (path["domain"], path["target"], path["port"]) for path in data["paths"]
        ]

    def test_there_is_one(self) -> None:
        assert list(FIXTURES.rglob("*.json"))

    def test_a_bundle_of_the_first_format_is_judged(self) -> None:
        report = read_report(FIXTURES.parent / "bundles/v1/mixed.json")
        assert report.verdict.state is VerdictState.DEGRADED


def test_the_checks_of_a_bundle_are_those_it_was_recorded_for() -> None:
    checks = discover()
    bundle = World(DOMAIN).srv().bundle("dns_srv_hosts")
    report = decode_report(bundles.encode(bundle), checks)
    assert {result.check for result in report.results} == {"dns_srv_hosts"}
    assert report == diagnosis.judge(bundle, checks.select(["dns_srv_hosts"]))


def test_the_policy_is_that_of_the_reader() -> None:
    bundle = World(DOMAIN).srv().bundle("dns_srv_hosts")
    (result,) = decode_report(bundles.encode(bundle), policy=Policy({"dns_srv_hosts.none": Severity.INFO})).results
    assert [finding.severity for finding in result.findings] == [Severity.INFO]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b" \n\t", "it is empty"),
        (b"slmgr", "it is no JSON"),
        (b"\xff\xfe\x00", "it is no JSON"),
        (b'{"kmsdiag_report": 1', "it is no JSON"),
        (b"[]", "it is no report"),
        (b"7", "it is no report"),
        (b"{}", "neither a report .* nor a bundle"),
        (b'{"kmsdiag_merged": 1}', "it is what 'kmsdiag merge' wrote"),
        (b'{"kmsdiag_report": "1"}', "it is no report: .*kmsdiag_report"),
        (b'{"kmsdiag_report": 2}', "report format 2, newer than 1, .*: update kmsdiag"),
        (b'{"kmsdiag_report": 0}', "report format 0, which there never was"),
        (b'{"kmsdiag_report": 1}', "it is damaged: .*required field"),
        (b'{"kmsdiag_bundle": 2}', "bundle format 2, newer than 1, .*: update kmsdiag"),
        (b'{"kmsdiag_bundle": 1}', "it is damaged: .*required field"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (changed(("verdict", "state"), "fine"), r"damaged: .*'fine' - at `\$\.verdict\.state`"),
        (changed(("paths", 0, "port"), "1688"), r"damaged: .* - at `\$\.paths\[0\]\.port`"),
        (changed(("started",), "2026-01-05T08:00:00"), r"damaged: a time without a zone - at `\$\.started`"),
        (changed(("started",), "0001-01-01T00:00:00+05:00"), r"damaged: no such time - at `\$\.started`"),
        (changed(("ended",), "yesterday"), r"damaged: .* - at `\$\.ended`"),
    ],
)
def test_errors_say_what_it_is(data: bytes, says: str) -> None:
    with pytest.raises(ReportError, match=says) as caught:
        decode_report(data)
    assert "\n" not in str(caught.value)


def test_times_are_in_utc_whoever_wrote_them() -> None:
    report = decode_report(changed(("started",), "2026-01-05T08:00:00+05:00"))
    assert report.started == datetime.datetime(2026, 1, 5, 3, tzinfo=datetime.UTC)
    assert report.started.tzinfo is datetime.UTC


def test_a_row_that_does_not_fit_its_records() -> None:
    report = runs()[next(name for name in NAMES if runs()[name].report.dns)].report
    data = json.loads(rendered.render(report))
    data["dns"][0]["rows"][0]["cells"].append("present")
    with pytest.raises(ReportError, match=r"does not fit its records - at `\$\.dns\[0\]`"):
        decode_report(json.dumps(data).encode())


def test_a_way_to_find_hosts_that_there_is_not() -> None:
    data = json.loads(rendered.render(captured_report()))
    data["captures"]["hosts"][0]["found_by"]["luck"] = 1
    with pytest.raises(ReportError, match=r"'luck' is no FoundBy - at `\$\.captures\.hosts\[0\]`"):
        decode_report(json.dumps(data).encode())


def test_a_bundle_with_times_of_two_kinds() -> None:
    data = json.loads(bundles.encode(runs()["healthy"].bundle))
    data["started"] = data["started"].removesuffix("Z")
    with pytest.raises(ReportError, match="a time without a zone"):
        decode_report(json.dumps(data).encode())


class TestFiles:
    def test_the_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.json"
        path.write_bytes(b"{}")
        with pytest.raises(ReportError, match=r"bad\.json can't be used: it is JSON, but neither"):
            read_report(path)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ReportError, match=r"none\.json can't be read: No such file"):
            read_report(tmp_path / "none.json")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ReportError, match="can't be read: Is a directory"):
            read_report(tmp_path)

    def test_stdin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(written())))
        assert read_report("-") == runs()["mixed"].report

    def test_a_file_without_end_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Endless(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                return b" " * size

        monkeypatch.setattr("kmsdiag.reports.MAX_BYTES", 1000)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Endless()))
        with pytest.raises(ReportError, match="stdin is larger than"):
            read_report("-")


def _parts(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from _parts(child, (*path, key))


PLACES = sorted({path for path in _parts(json.loads(written())) if path}, key=str)
CAPTURED = rendered.render(captured_report()).encode()
IN_CAPTURES = sorted((path for path in _parts(json.loads(CAPTURED)) if path[:1] == ("captures",)), key=str)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def read(data: bytes) -> Report | None:
    """The report, or None with an error of the right kind and on one line."""
    try:
        report = decode_report(data)
    except ReportError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return None
    return report


@settings(max_examples=150)
@given(st.sampled_from(PLACES), JSON_VALUES)
def test_one_value_replaced_is_read_or_refused(path: tuple[str | int, ...], value: Any) -> None:
    report = read(changed(path, value))
    if report is not None:
        assert rendered.render(report)


@settings(max_examples=150)
@given(st.integers(0, 20_000), st.binary(max_size=8), st.integers(0, 40))
def test_bytes_replaced_are_read_or_refused(at: int, new: bytes, cut: int) -> None:
    data = written()
    report = read(data[:at] + new + data[at + cut :])
    if report is not None:
        assert rendered.render(report)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    assert read(data) is None
