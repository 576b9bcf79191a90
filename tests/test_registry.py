import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kmsdiag import registry
from kmsdiag.registry import Registry, UnknownCheckError, discover

ROOT = Path(__file__).parent.parent

GOOD = '''
"""A check of a test."""
from kmsdiag.check import CheckMeta, Code, Severity, say, whole_run
META = CheckMeta(title="t", codes={"fine": Code(Severity.OK, "fine")}, tags=frozenset({"x"}), since="0.1")
subjects = whole_run
def ask(subject, seen):
    return iter(())
def judge(subject, seen):
    yield say("fine", ())
'''


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    return tmp_path


class TestBuiltIn:
    def test_every_module_of_checks_is_found(self) -> None:
        found = discover()
        files = {path.stem for path in (ROOT / "checks").glob("*.py")} - {"__init__"}
        assert {check.id for check in found.checks} == files
        assert found.broken == ()
        assert [check.id for check in found.checks] == sorted(files)
        assert {check.origin for check in found.checks} == {"built in"}

    def test_the_docstring_is_the_manual_page(self) -> None:
        for check in discover().checks:
            assert "Why it matters" in check.docstring

    def test_a_bare_checkout_needs_no_installation(self) -> None:
        """With the editable installation's finder out of the way, checks/ beside the package is used."""
        program = (
            "import sys\n"
            "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder).lower()]\n"
            f"sys.path = [{str(ROOT)!r}, *(path for path in sys.path if 'editable' not in path)]\n"
            "from kmsdiag.registry import discover\n"
            "import kmsdiag\n"
            "print(kmsdiag.__file__)\n"
            "print(*(check.id for check in discover().checks))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd="/")
        where, ids = done.stdout.splitlines()
        assert Path(where) == ROOT / "kmsdiag/__init__.py"
        assert ids.split() == [check.id for check in discover().checks]


class TestFolder:
    def test_a_good_one(self, tmp_path: Path) -> None:
        found = discover(folder(tmp_path, tcp_mine=GOOD, __init__="raise RuntimeError"))
        (mine,) = (check for check in found.checks if check.id == "tcp_mine")
        assert mine.origin == str(tmp_path / "tcp_mine.py")
        assert mine.docstring == "A check of a test."
        assert not found.broken

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("def (", "SyntaxError"),
            ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
            ("raise SystemExit(3)", "SystemExit: 3"),
            ("1 / 0", "ZeroDivisionError"),
            ("x = 1", "it lacks META, subjects, ask, judge"),
            (GOOD.replace("def judge", "def other"), "it lacks judge"),
            (GOOD.replace("META =", "OTHER ="), "it lacks META"),
            ("META = 3\nsubjects = ask = judge = print", "it lacks META"),
            (GOOD + "\nask = 3", "it lacks ask"),
        ],
    )
    def test_a_broken_one_is_data(self, tmp_path: Path, text: str, error: str) -> None:
        found = discover(folder(tmp_path, tcp_mine=text))
        (broken,) = found.broken
        assert broken.id == "tcp_mine"
        assert broken.origin == str(tmp_path / "tcp_mine.py")
        assert error in broken.error
        assert len(found.checks) == len(discover().checks)

    def test_an_interruption_is_no_broken_check(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            discover(folder(tmp_path, tcp_mine="raise KeyboardInterrupt"))

    def test_a_taken_id(self, tmp_path: Path) -> None:
        found = discover(folder(tmp_path, tcp_reachable=GOOD))
        (broken,) = found.broken
        assert broken.error == "the id is taken by the check from built in"
        assert next(check for check in found.checks if check.id == "tcp_reachable").origin == "built in"

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(NotADirectoryError, match="takes a folder"):
            discover(tmp_path / "none")


def test_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution as pip would install it: two checks, one of which can't be imported."""
    folder(tmp_path, kmsdiag_extra=GOOD)
    info = tmp_path / "kmsdiag_extra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kmsdiag-extra\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[kmsdiag.checks]\ntcp_extra = kmsdiag_extra\ntcp_gone = kmsdiag_extra_gone\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = discover()
    (extra,) = (check for check in found.checks if check.id == "tcp_extra")
    assert extra.origin == "package kmsdiag-extra"
    (broken,) = found.broken
    assert (broken.id, broken.origin) == ("tcp_gone", "package kmsdiag-extra")
    assert "No module named 'kmsdiag_extra_gone'" in broken.error


class TestSelect:
    def test_only_and_skip(self) -> None:
        found = discover()
        ids = [check.id for check in found.checks]
        assert found.select() == found
        assert [check.id for check in found.select(only=["tcp_reachable"]).checks] == ["tcp_reachable"]
        assert [check.id for check in found.select(skip=["tcp_reachable"]).checks] == [
            one for one in ids if one != "tcp_reachable"
        ]
        assert found.select(only=["tcp_reachable"], skip=["tcp_reachable"]) == Registry(())

    @pytest.mark.parametrize("how", ["only", "skip"])
    def test_an_unknown_name_comes_with_a_near_one(self, how: str) -> None:
        with pytest.raises(UnknownCheckError, match="no check 'tcp_reachble'; did you mean 'tcp_reachable'"):
            discover().select(**{how: ["tcp_reachble"]})

    def test_nothing_near(self) -> None:
        with pytest.raises(UnknownCheckError, match=r"no check 'zzz' \('kmsdiag checks list'"):
            discover().select(only=["zzz"])

    def test_a_broken_one_can_be_named_and_skipped(self, tmp_path: Path) -> None:
        found = discover(folder(tmp_path, tcp_mine="1 / 0"))
        assert found.select(skip=["tcp_mine"]).broken == ()
        assert found.select(only=["tcp_mine"]).broken == found.broken
        assert found.select(only=["tcp_reachable"]).broken == ()


class TestRecorded:
    """A bundle is judged by the checks it was recorded for, and by those that its kmsdiag did not have yet."""

    def test_same_version(self) -> None:
        found = discover()
        assert [check.id for check in found.recorded(["tcp_reachable"], "0.1.0").checks] == ["tcp_reachable"]
        assert found.recorded([], "0.1.0").checks == ()

    def test_an_older_recording_is_judged_by_newer_checks_too(self, tmp_path: Path) -> None:
        found = discover(folder(tmp_path, tcp_new=GOOD.replace('since="0.1"', 'since="0.2"')))
        assert [check.id for check in found.recorded(["tcp_reachable"], "0.1").checks] == ["tcp_new", "tcp_reachable"]
        assert [check.id for check in found.recorded(["tcp_reachable"], "0.2.0").checks] == ["tcp_reachable"]

    @pytest.mark.parametrize(
        ("text", "numbers"),
        [("0.1", (0, 1)), ("0.1.0", (0, 1)), ("1.10.2", (1, 10, 2)), ("", ()), ("0.2.dev1", (0, 2))],
    )
    def test_versions(self, text: str, numbers: tuple[int, ...]) -> None:
        assert registry._version(text) == numbers
