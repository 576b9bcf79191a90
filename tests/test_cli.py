import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmsdiag import bundle as bundles
from kmsdiag.cli import main
from kmsdiag.evidence.powershell.script import COLLECTOR
from kmsdiag.lab.dns import DnsBehaviour, DnsServer
from kmsdiag.lab.rpc import Behaviour, RpcHost
from kmsdiag.registry import discover
from kmsdiag.version import VERSION
from tests.labruns import NAMES, in_thread, runs

CRASHING = '''
"""Crashes."""
from kmsdiag.check import CheckMeta, Code, Severity, whole_run
META = CheckMeta(title="t", codes={"fine": Code(Severity.OK, "fine")}, tags=frozenset(), since="0.1")
subjects = whole_run
def ask(subject, seen):
    return iter(())
def judge(subject, seen):
    raise RuntimeError("boom\\x1b[2J")
'''

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home, a folder and an environment of the test's own."""
    for name in list(os.environ):
        if name.startswith("KMSDIAG_") or name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    """A bundle of scenario mixed."""
    path = tmp_path / "mixed.json"
    path.write_bytes(bundles.encode(runs()["mixed"].bundle))
    return str(path)


def bundle_of(name: str, tmp_path: Path) -> str:
    path = tmp_path / f"{name}.json"
    path.write_bytes(bundles.encode(runs()[name].bundle))
    return str(path)


def kmsdiag(*arguments: str, stdin: str | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The real program."""
    return subprocess.run(
        [sys.executable, "-m", "kmsdiag", *arguments],
        input=stdin or "",
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )


@contextlib.contextmanager
def silent_server() -> Iterator[DnsServer]:
    with in_thread(lambda: DnsServer({}, DnsBehaviour.SILENT)) as server:
        yield server


@contextlib.contextmanager
def live_world(behaviour: Behaviour = Behaviour.KMS) -> Iterator[list[str]]:
    """A lab that the real ``check`` can reach: its DNS server and host have ports of their own; the arguments."""
    with in_thread(lambda: RpcHost(behaviour)) as host:
        zone = f"_vlmcs._tcp 60 IN SRV 0 0 {host.port} kms1\nkms1 60 IN A 127.0.0.1\n"
        with in_thread(lambda: DnsServer({"contoso.example": zone})) as server:
            yield ["check", "contoso.example", "--server", f"127.0.0.1:{server.port}", "--timeout", "2"]


class TestStreams:
    def test_stdout_is_the_report_alone(self) -> None:
        done = kmsdiag("demo", "--scenario", "healthy", "--format", "json")
        assert done.returncode == 0
        assert json.loads(done.stdout)["verdict"]["state"] == "healthy"
        assert done.stderr.startswith("lab on loopback, scenario healthy")

    def test_a_live_run(self) -> None:
        with live_world() as arguments:
            done = kmsdiag(*arguments)
        assert done.stdout.startswith("✔ HEALTHY  contoso.example: 1 KMS host, found, reached and answering as KMS.\n")
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout

    def test_a_pipe_that_nobody_reads(self, recorded: str) -> None:
        for arguments, code in (
            (["analyze", recorded], 1),
            (["analyze", recorded, "--color", "always", "--fail-on", "never"], 0),
            (["demo", "--scenario", "healthy", "--format", "json"], 0),
            (["checks", "list"], 0),
            (["schema"], 0),
        ):
            reading, writing = os.pipe()
            os.close(reading)
            with subprocess.Popen(
                [sys.executable, "-m", "kmsdiag", *arguments], stdout=writing, stderr=subprocess.PIPE, text=True
            ) as process:
                os.close(writing)
                _out, error = process.communicate(timeout=30)
            assert process.returncode == code
            assert "Traceback" not in error
            assert "Exception ignored" not in error
            assert "BrokenPipe" not in error

    def test_head(self, recorded: str) -> None:
        command = f"{sys.executable} -m kmsdiag analyze {recorded} -vv | head -1"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, encoding="utf-8", timeout=30)
        assert done.stdout.startswith("▲ DEGRADED")
        assert done.stderr == ""

    def test_ascii_where_the_terminal_needs_it(self, recorded: str) -> None:
        done = kmsdiag("analyze", recorded, PYTHONIOENCODING="ascii")
        assert done.stdout.isascii()
        assert done.stdout.startswith("! DEGRADED")

    def test_json_where_the_terminal_needs_ascii(self, recorded: str) -> None:
        done = kmsdiag("analyze", recorded, "--format", "json", PYTHONIOENCODING="ascii")
        assert done.returncode == 1
        assert done.stdout.isascii()


def wrong(capsys: Capture, *arguments: str) -> str:
    """Run what a person got wrong; the one line on stderr."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("kmsdiag: ")
    assert "Traceback" not in line
    return line


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["check", "10.1.0.8"], "use --host 10.1.0.8"),
            (["check", "a..b"], "is no label"),
            (["check", "https://contoso.example"], "without scheme"),
            (["check", "con\x1b[2Jtoso"], r"'con\x1b[2Jtoso' is no DNS name"),
            (["check", "--host", "10.1.0.999"], "looks like an address but is none"),
            (["check", "--host", "kms1:0"], "give a number from 1 to 65535"),
            (["check", "--host", "kms1:99999"], "give a number from 1 to 65535"),
            (["check", "contoso.example", "--expect-host", "a b"], "is no label"),
            (["check", "contoso.example", "--server", "dc1.contoso.example"], "give its address"),
            (["check", "contoso.example", "--source", "x"], "is no address"),
            (["check", "contoso.example", "--source", "192.0.2.77"], "is no address of this machine"),
            (["check", "contoso.example", "--timeout", "0"], "see 'kmsdiag check --help'"),
            (["check", "contoso.example", "--tries", "-1"], "see 'kmsdiag check --help'"),
            (["check", "contoso.example", "--deadline", "x"], "see 'kmsdiag check --help'"),
            (["check", "contoso.example", "--nothing"], "No such option"),
            (["check", "contoso.example", "--format", "html"], "'html'"),
            (["check", "contoso.example", "--check", "tcp_reachble"], "did you mean 'tcp_reachable'?"),
            (["check", "contoso.example", "--skip", "zzz"], "'kmsdiag checks list' names all"),
            (
                ["check", "contoso.example", "--check", "tcp_reachable", "--skip", "tcp_reachable"],
                "no check is left to run",
            ),
            (["check", "contoso.example", "--checks-dir", "none"], "--checks-dir takes a folder"),
            (["check", "contoso.example", "-o", "none/x.txt"], "there is no folder none"),
            (["check", "contoso.example", "-o", "."], "it is a folder"),
            (["check", "contoso.example", "-oA", "none/x"], "there is no folder none"),
            (["check", "contoso.example", "--record", "none/x.json"], "there is no folder none"),
            (["check", "--from", "none.txt"], "none.txt can't be read: No such file"),
            (["check", "--from", "."], "can't be read"),
            (["analyze", "none.json"], "none.json: it can't be read: No such file"),
            (["analyze"], "Missing argument"),
            (["demo", "--scenario", "zzz"], "there is no scenario 'zzz'; there are mixed, healthy"),
            (["checks", "show", "zzz"], "there is no check 'zzz'"),
            (["checks", "show", "tcp_reachable.zzz"], "tcp_reachable says no 'zzz'; it says open"),
            (["schema", "zzz"], "'zzz'"),
            (["chekc"], "No such command"),
            (["--nothing"], "No such option"),
        ],
    )
    def test_are_one_line_with_the_remedy(self, arguments: list[str], says: str, capsys: Capture) -> None:
        assert says in wrong(capsys, *arguments)

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b"", "it is empty: nothing was written to it"),
            (b"not json", "it is text"),
            (b"\xff\xfe", "it is text"),
            (b"\x7f\x01\x02\x03", "it is in no format that is known here"),
            (b"{}", "JSON in which nothing about activation is known"),
            (b'{"kmsdiag_report": 1}', "a report of kmsdiag, which holds no evidence"),
            (b'{"kmsdiag_bundle": 99}', "it can't be used: it has bundle format 99"),
            (b'{"kmsdiag_bundle": 1}', "it can't be used: it is damaged"),
            (b'{"kmsdiag_bundle": 1', "it can't be used: it is no JSON"),
        ],
    )
    def test_bundles(self, data: bytes, says: str, tmp_path: Path, capsys: Capture) -> None:
        path = tmp_path / "x.json"
        path.write_bytes(data)
        line = wrong(capsys, "analyze", str(path))
        assert says in line
        assert line.startswith(f"kmsdiag: {path.name}: it ")

    @pytest.mark.parametrize(
        ("text", "says"),
        [("", "holds no domain"), ("# only a remark\n\n", "holds no domain"), ("a..b", "is no label")],
    )
    def test_files_of_domains(self, text: str, says: str, tmp_path: Path, capsys: Capture) -> None:
        path = tmp_path / "domains.txt"
        path.write_text(text)
        assert says in wrong(capsys, "check", "--from", str(path))

    def test_a_file_of_domains_that_is_no_text(self, tmp_path: Path, capsys: Capture) -> None:
        path = tmp_path / "domains.txt"
        path.write_bytes(b"\xff\xfe\x00")
        assert "is no text file" in wrong(capsys, "check", "--from", str(path))

    def test_no_arguments_show_the_help(self, capsys: Capture) -> None:
        assert main([]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "Usage: kmsdiag" in err

    def test_a_bug_is_one_line_and_code_4(
        self, monkeypatch: pytest.MonkeyPatch, capsys: Capture, recorded: str
    ) -> None:
        monkeypatch.setattr("kmsdiag.diagnosis.judge", lambda *_: 1 / 0)
        assert main(["analyze", recorded]) == 4
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("kmsdiag: internal error: ZeroDivisionError: division by zero (this is a bug")
        monkeypatch.setenv("KMSDIAG_TRACEBACK", "1")
        assert main(["analyze", recorded]) == 4
        assert "Traceback" in capsys.readouterr().err


class TestExitCodes:
    def test_0_and_1_by_fail_on(self, tmp_path: Path, capsys: Capture) -> None:
        two = bundle_of("two_hosts", tmp_path)
        assert main(["analyze", two]) == 0
        assert main(["analyze", two, "--fail-on", "warning"]) == 0
        assert main(["analyze", two, "--fail-on", "info"]) == 1
        mixed = bundle_of("mixed", tmp_path)
        assert main(["analyze", mixed]) == 1
        assert main(["analyze", mixed, "--fail-on", "never"]) == 0

    def test_1_through_the_real_program(self) -> None:
        with live_world(Behaviour.HTTP) as arguments:
            done = kmsdiag(*arguments)
        assert done.returncode == 1
        assert done.stdout.startswith("✖ BROKEN")
        assert "speaks HTTP, not KMS" in done.stdout

    def test_demo_finds_nothing_wrong_with_a_broken_world(self) -> None:
        done = kmsdiag("demo", "--scenario", "refused")
        assert done.returncode == 0
        assert done.stdout.startswith("✖ BROKEN")
        assert kmsdiag("demo", "--scenario", "refused", "--fail-on", "error").returncode == 1

    def test_2_a_check_that_can_not_be_loaded_while_the_others_report(self, tmp_path: Path) -> None:
        (tmp_path / "tcp_mine.py").write_text("import nothing_of_this_name")
        with live_world() as arguments:
            done = kmsdiag(*arguments, "--checks-dir", str(tmp_path))
        assert done.returncode == 2
        assert done.stdout.startswith("✔ HEALTHY")
        assert "tcp_mine: could not be loaded" in done.stdout
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"kmsdiag: check 'tcp_mine' from {tmp_path}/tcp_mine.py could not be loaded: ModuleNotF")
        assert line.endswith("mend it or leave it out")

    def test_a_broken_check_can_be_skipped(self, tmp_path: Path, capsys: Capture, recorded: str) -> None:
        (tmp_path / "tcp_mine.py").write_text("1 / 0")
        arguments = ["analyze", recorded, "--checks-dir", str(tmp_path), "--fail-on", "never"]
        assert main(arguments) == 2
        assert main([*arguments, "--skip", "tcp_mine"]) == 0

    def test_3_where_nothing_was_tested_to_its_end(self) -> None:
        with live_world() as arguments:
            done = kmsdiag(*arguments, "--check", "dns_srv_hosts")
        assert done.returncode == 3
        assert done.stdout.startswith("? UNKNOWN")

    def test_4_a_check_that_crashes_while_the_others_report(self, tmp_path: Path) -> None:
        (tmp_path / "tcp_mine.py").write_text(CRASHING)
        with live_world() as arguments:
            done = kmsdiag(*arguments, "--checks-dir", str(tmp_path))
        assert done.returncode == 4
        assert done.stdout.startswith("✔ HEALTHY")
        assert "‼ crashed  tcp_mine (all) crashed" in done.stdout
        assert "boom\\x1b[2J" in done.stdout

    def test_precedence_through_the_program(self, tmp_path: Path, capsys: Capture, recorded: str) -> None:
        """A crash beats a broken configuration beats findings."""
        (tmp_path / "tcp_broken.py").write_text("1 / 0")
        arguments = ["analyze", recorded, "--checks-dir", str(tmp_path)]
        assert main([*arguments, "--skip", "tcp_broken"]) == 1
        assert main(arguments) == 2
        (tmp_path / "tcp_mine.py").write_text(CRASHING)
        assert main([*arguments, "--check", "tcp_broken", "--check", "tcp_mine", "--check", "tcp_reachable"]) == 4

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_130_and_the_report_all_the_same(self, number: signal.Signals, tmp_path: Path) -> None:
        record = tmp_path / "run.json"
        with silent_server() as server:
            arguments = ["check", "contoso.example", "--server", f"127.0.0.1:{server.port}", "--timeout", "60"]
            with subprocess.Popen(
                [sys.executable, "-m", "kmsdiag", *arguments, "--record", str(record), "--format", "json"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                limit = time.monotonic() + 20
                while not server.asked and time.monotonic() < limit:
                    time.sleep(0.01)
                process.send_signal(number)
                out, error = process.communicate(timeout=10)
        assert process.returncode == 130
        report = json.loads(out)
        assert report["interrupted"] is True
        assert report["verdict"]["state"] == "unknown"
        assert error.startswith("kmsdiag: stopping; what is known so far is reported")
        assert "Traceback" not in error
        kept = bundles.decode(record.read_bytes())
        assert set(kept.gaps().values()) == {"interrupted"}
        assert main(["analyze", str(record)]) == 130

    def test_the_deadline_bounds_the_run(self) -> None:
        with silent_server() as server:
            started = time.monotonic()
            done = kmsdiag(
                *("check", "contoso.example", "--server", f"127.0.0.1:{server.port}", "--timeout", "60"),
                *("--deadline", "0.3", "--format", "json"),
            )
        assert time.monotonic() - started < 10
        assert done.returncode == 3
        assert "the deadline of 0.3 s was reached" in done.stdout


class TestOutput:
    @pytest.mark.parametrize(
        ("name", "begins"),
        [
            ("r.json", "{"),
            ("r.md", "# ▲ DEGRADED"),
            ("r.txt", "▲ DEGRADED"),
            ("r.xml", "<?xml"),
            ("r.out", "▲ DEGRADED"),
        ],
    )
    def test_the_ending_says_the_format(self, name: str, begins: str, recorded: str, capsys: Capture) -> None:
        assert main(["analyze", recorded, "-o", name]) == 1
        assert capsys.readouterr() == ("", "")
        assert Path(name).read_text(encoding="utf-8").startswith(begins)

    def test_the_option_beats_the_ending(self, recorded: str) -> None:
        main(["analyze", recorded, "-o", "r.txt", "--format", "json"])
        assert Path("r.txt").read_text(encoding="utf-8").startswith("{")

    def test_a_hyphen_is_stdout(self, recorded: str, capsys: Capture) -> None:
        main(["analyze", recorded, "-o", "-", "--format", "markdown"])
        assert capsys.readouterr().out.startswith("# ▲ DEGRADED")
        assert list(Path().iterdir()) == []

    def test_all_formats(self, recorded: str, capsys: Capture) -> None:
        main(["analyze", recorded, "-oA", "all", "-o", "one.md"])
        assert capsys.readouterr().out == ""
        assert sorted(path.name for path in Path().iterdir()) == ["all.json", "all.md", "all.txt", "all.xml", "one.md"]
        assert Path("all.md").read_text(encoding="utf-8") == Path("one.md").read_text(encoding="utf-8")
        assert json.loads(Path("all.json").read_text(encoding="utf-8"))["kmsdiag_report"] == 1

    def test_all_formats_beside_stdout(self, recorded: str, capsys: Capture) -> None:
        main(["analyze", recorded, "-oA", "all"])
        out = capsys.readouterr().out
        assert out == Path("all.txt").read_text(encoding="utf-8")

    def test_a_pipe_or_device_stays_one(self, recorded: str) -> None:
        os.mkfifo("pipe")
        reading = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
        done = kmsdiag("analyze", recorded, "-o", "pipe")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
        assert os.read(reading, 65_536).startswith("▲ DEGRADED".encode())
        assert Path("pipe").is_fifo()
        os.close(reading)

    def test_a_link_keeps_leading_to_the_file(self, recorded: str) -> None:
        Path("folder").mkdir()
        Path("link.txt").symlink_to("folder/r.txt")
        main(["analyze", recorded, "-o", "link.txt"])
        assert Path("link.txt").is_symlink()
        assert Path("folder/r.txt").read_text(encoding="utf-8").startswith("▲ DEGRADED")

    def test_a_file_is_replaced_as_a_whole(self, recorded: str) -> None:
        """Who has the old file open still reads the old one; the new one has the usual permissions."""
        Path("r.txt").write_text("old")
        umask = os.umask(0o022)
        try:
            with Path("r.txt").open() as old:
                main(["analyze", recorded, "-o", "r.txt"])
                assert old.read() == "old"
        finally:
            os.umask(umask)
        assert Path("r.txt").read_text(encoding="utf-8").startswith("▲ DEGRADED")
        assert Path("r.txt").stat().st_mode & 0o777 == 0o644
        assert [path.name for path in Path().iterdir()] == ["r.txt"]

    @pytest.mark.parametrize("option", ["-o", "-oA", "--record"])
    def test_a_report_that_can_not_be_written_is_not_lost(self, option: str) -> None:
        """The disk is full, as far as this process is concerned: no file may grow."""
        done = subprocess.run(
            [sys.executable, "-m", "kmsdiag", "demo", "--scenario", "healthy", option, "out"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        )
        assert done.returncode == 2
        assert done.stdout.startswith("✔ HEALTHY")
        line = done.stderr.splitlines()[-1]
        assert re.match(r"kmsdiag: out\S* can't be written: File too large", line)
        assert list(Path().iterdir()) == []


class TestColor:
    ESCAPE = "\x1b["

    @pytest.mark.parametrize(
        ("options", "environment", "colored"),
        [
            ([], {}, False),
            (["--color", "always"], {}, True),
            (["--color", "always"], {"NO_COLOR": "1"}, True),
            (["--color", "auto"], {"FORCE_COLOR": "1"}, True),
            ([], {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
            (["--color", "never"], {"FORCE_COLOR": "1"}, False),
            ([], {"KMSDIAG_COLOR": "always"}, True),
        ],
    )
    def test_when(
        self,
        options: list[str],
        environment: dict[str, str],
        *,
        colored: bool,
        recorded: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: Capture,
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        main(["analyze", recorded, *options])
        assert (self.ESCAPE in capsys.readouterr().out) == colored

    def test_the_text_is_the_same(self, recorded: str, capsys: Capture) -> None:
        main(["analyze", recorded, "-v"])
        plain = capsys.readouterr().out
        main(["analyze", recorded, "-v", "--color", "always"])
        assert re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out) == plain

    def test_other_formats_have_none(self, recorded: str, capsys: Capture) -> None:
        for form in ("json", "markdown"):
            main(["analyze", recorded, "--color", "always", "--format", form])
            assert self.ESCAPE not in capsys.readouterr().out


class TestInput:
    def test_domains_from_stdin(self) -> None:
        with in_thread(lambda: DnsServer({"a.example": "", "b.example": ""})) as server:
            options = ("--server", f"127.0.0.1:{server.port}", "--format", "json", "--check", "dns_srv_hosts")
            done = kmsdiag("check", "--from", "-", *options, stdin="# mine\na.example\n\nB.example.  # again\n")
        assert json.loads(done.stdout)["target"]["domains"] == ["a.example", "b.example"]

    def test_domains_from_a_file_and_the_command_line(self, tmp_path: Path) -> None:
        (tmp_path / "domains.txt").write_text("a.example\n")
        with in_thread(lambda: DnsServer({"a.example": "", "b.example": ""})) as server:
            options = ("--server", f"127.0.0.1:{server.port}", "--format", "json", "--check", "dns_srv_hosts")
            done = kmsdiag("check", "b.example", "--from", str(tmp_path / "domains.txt"), *options)
        assert json.loads(done.stdout)["target"]["domains"] == ["b.example", "a.example"]

    def test_a_bundle_from_stdin(self, recorded: str) -> None:
        done = kmsdiag("analyze", "-", stdin=Path(recorded).read_text(encoding="utf-8"))
        assert done.stdout == kmsdiag("analyze", recorded).stdout
        assert done.returncode == 1

    @pytest.mark.parametrize("name", NAMES)
    def test_what_was_recorded_reads_the_same(self, name: str, tmp_path: Path, capsys: Capture) -> None:
        from kmsdiag.report import json as rendered

        main(["analyze", bundle_of(name, tmp_path), "--format", "json"])
        assert capsys.readouterr().out == rendered.render(runs()[name].report)

    def test_record_and_analyze(self) -> None:
        live = kmsdiag("demo", "--scenario", "healthy", "--record", "run.json", "--format", "json")
        again = kmsdiag("analyze", "run.json", "--format", "json")
        assert again.stdout == live.stdout

    def test_families_tries_and_expectations(self) -> None:
        with live_world() as arguments:
            done = kmsdiag(
                *arguments,
                *("-4", "--tries", "3", "--expect-host", "kms1.contoso.example", "--machines", "40"),
                *("--vantage", "desk", "--format", "json"),
            )
        target = json.loads(done.stdout)["target"]
        assert (target["families"], target["tries"]) == (["ipv4"], 3)
        assert target["expected"] == {
            "hosts": [{"host": "kms1.contoso.example", "port": 1688}],
            "machines": 40,
        }
        assert json.loads(done.stdout)["vantage"]["label"] == "desk"

    def test_an_explicit_host(self) -> None:
        with in_thread(lambda: RpcHost(Behaviour.KMS)) as host:
            done = kmsdiag("check", "--host", f"127.0.0.1:{host.port}", "--timeout", "2")
        assert done.returncode == 0
        assert done.stdout.startswith(f"✔ HEALTHY  127.0.0.1:{host.port}: 1 KMS host")


class TestCatalogue:
    def test_version(self, capsys: Capture) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"kmsdiag {VERSION}\n"

    def test_checks_list(self, capsys: Capture) -> None:
        assert main(["checks", "list"]) == 0
        out = capsys.readouterr().out
        for check in discover().checks:
            assert re.search(rf"^{check.id} +{re.escape(check.module.META.title)}", out, re.MULTILINE)

    def test_checks_list_by_tag(self, capsys: Capture) -> None:
        assert main(["checks", "list", "--tag", "rpc"]) == 0
        out = capsys.readouterr().out
        assert "rpc_service" in out
        assert "dns_srv_hosts" not in out

    def test_checks_list_with_a_broken_one(self, tmp_path: Path, capsys: Capture) -> None:
        (tmp_path / "tcp_mine.py").write_text("1 / 0")
        assert main(["checks", "list", "--checks-dir", str(tmp_path)]) == 2
        out, err = capsys.readouterr()
        assert "tcp_reachable" in out
        assert "'tcp_mine'" in err

    def test_checks_show(self, capsys: Capture) -> None:
        for check in discover().checks:
            assert main(["checks", "show", check.id]) == 0
            out = capsys.readouterr().out
            assert "Why it matters:" in out
            for code in check.module.META.codes:
                assert f"{check.id}.{code}  [" in out

    def test_checks_show_one_code(self, capsys: Capture) -> None:
        assert main(["checks", "show", "tcp_reachable.refused"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("tcp_reachable.refused  [error]\n")
        assert "timed_out" not in out

    @pytest.mark.parametrize("kind", ["report", "bundle"])
    def test_schema(self, kind: str, capsys: Capture) -> None:
        assert main(["schema", kind]) == 0
        assert json.loads(capsys.readouterr().out)["title"] == f"kmsdiag {kind}"

    def test_collect_script(self, capsys: Capture, tmp_path: Path) -> None:
        assert main(["collect-script"]) == 0
        out = capsys.readouterr().out
        assert out == COLLECTOR
        file = tmp_path / "kmsdiag-collect.ps1"
        assert main(["collect-script", "-o", str(file)]) == 0
        assert (file.read_text(encoding="ascii"), capsys.readouterr()) == (COLLECTOR, ("", ""))
        assert main(["collect-script", "-o", str(tmp_path / "none" / "x.ps1")]) == 2
        assert "there is no folder" in capsys.readouterr().err

    def test_demo_list(self, capsys: Capture) -> None:
        assert main(["demo", "--list"]) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(NAMES)

    @pytest.mark.parametrize(
        "command",
        [
            [],
            ["check"],
            ["analyze"],
            ["schema"],
            ["collect-script"],
            ["demo"],
            ["checks"],
            ["checks", "list"],
            ["checks", "show"],
        ],
    )
    @pytest.mark.parametrize("option", ["--help", "-h"])
    def test_help(self, command: list[str], option: str, capsys: Capture) -> None:
        assert main([*command, option]) == 0
        out, err = capsys.readouterr()
        assert out.startswith(f"Usage: {' '.join(['kmsdiag', *command])}")
        assert err == ""

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell", "pwsh"])
    def test_completion_scripts(self, shell: str) -> None:
        done = kmsdiag(_KMSDIAG_COMPLETE=f"source_{shell}")
        assert done.returncode == 0
        assert "kmsdiag" in done.stdout
        assert "_KMSDIAG_COMPLETE" in done.stdout

    def test_completion_completes(self) -> None:
        done = kmsdiag(_KMSDIAG_COMPLETE="complete_bash", COMP_WORDS="kmsdiag che", COMP_CWORD="1")
        assert done.stdout.split() == ["check", "checks"]

    def test_show_completion(self) -> None:
        done = kmsdiag("--show-completion", "zsh", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
        assert done.returncode == 0
        assert done.stdout.startswith("#compdef kmsdiag")
