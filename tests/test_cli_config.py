from pathlib import Path

import pytest

from kmsdiag import bundle as bundles
from kmsdiag.cli import main
from kmsdiag.cli.config import option_defaults
from kmsdiag.cli.errors import UsageProblem
from tests.labruns import runs

Capture = pytest.CaptureFixture[str]


class Files:
    """The two configuration files, and a bundle in which two hosts of equal rank are an info."""

    def __init__(self, root: Path) -> None:
        self.here = root / "here/kmsdiag.toml"
        self.user = root / "config/kmsdiag/kmsdiag.toml"
        self.two_hosts = str(root / "two_hosts.json")
        self.here.parent.mkdir()
        self.user.parent.mkdir(parents=True)
        Path(self.two_hosts).write_bytes(bundles.encode(runs()["two_hosts"].bundle))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    for name in ("KMSDIAG_FORMAT", "KMSDIAG_FAIL_ON", "KMSDIAG_COLOR", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made = Files(tmp_path)
    monkeypatch.chdir(made.here.parent)
    return made


def form(out: str) -> str:
    return {"{": "json", "#": "markdown"}.get(out[0], "text")


class TestPrecedence:
    """Options over KMSDIAG_* over ./kmsdiag.toml over the user's file."""

    def shown(self, capsys: Capture, files: Files, *options: str) -> str:
        main(["analyze", files.two_hosts, *options])
        return form(capsys.readouterr().out)

    def test_each_beats_the_next(self, files: Files, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
        assert self.shown(capsys, files) == "text"
        files.user.write_text('[options]\nformat = "markdown"\n')
        assert self.shown(capsys, files) == "markdown"
        files.here.write_text('[options]\nformat = "json"\n')
        assert self.shown(capsys, files) == "json"
        monkeypatch.setenv("KMSDIAG_FORMAT", "markdown")
        assert self.shown(capsys, files) == "markdown"
        assert self.shown(capsys, files, "--format", "text") == "text"

    def test_a_command_beats_all_commands(self, files: Files, capsys: Capture) -> None:
        files.here.write_text('[options]\nformat = "json"\n[analyze]\nformat = "markdown"\n')
        assert self.shown(capsys, files) == "markdown"

    def test_files_are_merged(self, files: Files) -> None:
        files.user.write_text('[options]\ntimeout = 1.5\n[check]\nserver = ["10.1.0.2"]\n')
        files.here.write_text('[check]\nexpect-host = ["kms1"]\n')
        defaults = option_defaults()
        assert defaults["check"] == {"timeout": 1.5, "server": ["10.1.0.2"], "expect_host": ["kms1"]}
        # Only check has the option.
        assert defaults["demo"] == {}

    def test_no_file(self, files: Files) -> None:
        assert option_defaults() == {}

    def test_a_wrong_value_is_a_mistake_like_a_wrong_option(self, files: Files, capsys: Capture) -> None:
        files.here.write_text('[options]\nformat = "html"\n')
        assert main(["analyze", files.two_hosts]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "'html'" in line

    def test_a_list_in_a_file(self, files: Files, capsys: Capture) -> None:
        files.here.write_text('[analyze]\nonly = ["dns_srv_hosts", "tcp_reachable"]\nformat = "json"\n')
        main(["analyze", files.two_hosts])
        out = capsys.readouterr().out
        assert '"check": "dns_srv_hosts"' in out
        assert '"check": "rpc_service"' not in out


def test_a_home_that_can_not_be_looked_into_has_no_file(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Such as root's, after a change of user that kept the environment; too long a name is refused to root as well."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "x" * 5000)
    assert main(["analyze", files.two_hosts]) == 0
    assert capsys.readouterr().err == ""


class TestPolicy:
    def test_severity_changes_the_exit_code(self, files: Files, capsys: Capture) -> None:
        assert main(["analyze", files.two_hosts]) == 0
        files.here.write_text('[severity]\n"hosts_several.equal" = "error"\n')
        assert main(["analyze", files.two_hosts]) == 1
        assert "✖ error" in capsys.readouterr().out

    def test_ignore_changes_the_exit_code(self, files: Files, capsys: Capture) -> None:
        assert main(["analyze", files.two_hosts, "--fail-on", "info"]) == 1
        files.here.write_text('ignore = ["hosts_several.equal", "dns_srv_hosts.several"]\n')
        assert main(["analyze", files.two_hosts, "--fail-on", "info"]) == 0

    def test_the_nearer_file_wins_code_by_code(self, files: Files, capsys: Capture) -> None:
        files.user.write_text('[severity]\n"hosts_several.equal" = "error"\n')
        assert main(["analyze", files.two_hosts]) == 1
        files.here.write_text('[severity]\n"hosts_several.equal" = "ok"\n')
        assert main(["analyze", files.two_hosts]) == 0

    def test_ignores_add_up(self, files: Files, capsys: Capture) -> None:
        files.user.write_text('ignore = ["hosts_several.equal"]\n')
        files.here.write_text('ignore = ["dns_srv_hosts.several"]\n')
        assert main(["analyze", files.two_hosts, "--fail-on", "info"]) == 0

    def test_a_policy_about_a_check_that_is_skipped(self, files: Files, capsys: Capture) -> None:
        """The file holds for every run; it may speak of checks that this one leaves out."""
        files.here.write_text('ignore = ["hosts_several.equal"]\n[severity]\n"tcp_reachable.refused" = "warning"\n')
        assert main(["analyze", files.two_hosts, "--check", "dns_srv_hosts"]) == 0
        assert capsys.readouterr().err == ""

    def test_a_policy_about_a_check_that_could_not_be_loaded(
        self, files: Files, tmp_path: Path, capsys: Capture
    ) -> None:
        """What it may say is not known; its import error is the fault to name."""
        (tmp_path / "tcp_mine.py").write_text("1 / 0")
        files.here.write_text('ignore = ["tcp_mine.fine"]\n')
        assert main(["analyze", files.two_hosts, "--checks-dir", str(tmp_path)]) == 2
        out, err = capsys.readouterr()
        assert out.startswith("✔ HEALTHY")
        assert "could not be loaded" in err
        assert main(["analyze", files.two_hosts, "--checks-dir", str(tmp_path), "--skip", "tcp_mine"]) == 0


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[options", "is no valid TOML"),
            ("[opitons]\n", "unknown key 'opitons' (known: options, check, analyze"),
            ("options = 3\n", "options must be a table, [options]"),
            ("severity = []\n", "severity must be a table, [severity]"),
            ("[options]\nformta = 3\n", "[options] 'formta' is an option of no command"),
            ("[analyze]\ntimeout = 3\n", "[analyze] has no option 'timeout'"),
            ('[severity]\n"hosts_several.equl" = "error"\n', "did you mean 'hosts_several.equal'?"),
            ('[severity]\n"hosts_several.equal" = "bad"\n', "'bad' is no severity"),
            ('ignore = "x"\n', "ignore must be a list of codes"),
            ('ignore = ["zzz"]\n', "no check says 'zzz'"),
        ],
    )
    def test_name_the_file_and_the_key(self, text: str, says: str, files: Files, capsys: Capture) -> None:
        files.here.write_text(text)
        assert main(["analyze", files.two_hosts]) == 2
        _out, err = capsys.readouterr()
        (line,) = err.splitlines()
        assert line.startswith("kmsdiag: kmsdiag.toml")
        assert says in line

    def test_are_found_before_the_network_is_asked(self, files: Files, capsys: Capture) -> None:
        files.here.write_text('ignore = ["zzz"]\n')
        assert main(["demo", "--scenario", "silent", "--record", "run.json"]) == 2
        assert not Path("run.json").exists()

    def test_bytes_that_are_no_text(self, files: Files) -> None:
        files.here.write_bytes(b"\xff\xfe")
        with pytest.raises(UsageProblem, match="can't be read"):
            option_defaults()

    def test_help_needs_no_sound_file(self, files: Files, capsys: Capture) -> None:
        files.here.write_text("[options")
        assert main(["--help"]) == 0
        assert capsys.readouterr().out.startswith("Usage: kmsdiag")
