"""``kmsdiag baseline`` and ``kmsdiag audit`` against servers of the lab, through the real program and in process."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kmsdiag.cli import main
from kmsdiag.expected import read
from kmsdiag.lab.dns import DnsBehaviour, DnsServer
from kmsdiag.lab.rpc import Behaviour, RpcHost
from tests.labruns import in_thread

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home, a folder and an environment of the test's own."""
    for name in list(os.environ):
        if name.startswith("KMSDIAG_") or name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


class Place(NamedTuple):
    """A lab: its DNS server, and the ports of two KMS hosts, kms1 and kms2."""

    dns: DnsServer
    ports: tuple[int, int]

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.dns.port}"


@contextlib.contextmanager
def place(zone: str, behaviour: DnsBehaviour = DnsBehaviour.ANSWER) -> Iterator[Place]:
    """``{0}`` and ``{1}`` in the zone are the ports."""
    with in_thread(lambda: RpcHost(Behaviour.KMS)) as one, in_thread(lambda: RpcHost(Behaviour.KMS)) as two:
        text = zone.format(one.port, two.port) + "kms1 60 IN A 127.0.0.1\nkms2 60 IN A 127.0.0.1\n"
        with in_thread(lambda: DnsServer({"contoso.example": text}, behaviour)) as dns:
            yield Place(dns, (one.port, two.port))


ONE = "_vlmcs._tcp 60 IN SRV 0 0 {0} kms1\n"
TWO = ONE + "_vlmcs._tcp 60 IN SRV 0 0 {1} kms2\n"
# A lab has no authoritative server of its own, and only loopback.
QUIET = ["--skip", "dns_servers_agree", "--no-trace", "--no-clock", "--timeout", "2"]


def expected(there: Place, text: str = "") -> str:
    """An expected state in which kms1 alone is published; its file's name."""
    Path("expected.toml").write_text(
        f'domains = ["contoso.example"]\n{text}\n'
        f'[[hosts]]\nhost = "kms1.contoso.example"\nport = {there.ports[0]}\npriority = 0\n'
        f'[[sites]]\nname = "hq"\ndns = ["{there.server}"]\nmachines = {{ client = 60, server = 6 }}\n'
    )
    return "expected.toml"


def kmsdiag(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """The real program."""
    return subprocess.run(
        [sys.executable, "-m", "kmsdiag", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


def audited(capsys: Capture, *arguments: str) -> dict[str, Any]:
    """An audit's JSON report; its exit code is in ``exit``."""
    code = main(["audit", *arguments, *QUIET, "--format", "json"])
    out, err = capsys.readouterr()
    assert err == ""
    report: dict[str, Any] = json.loads(out)
    return {**report, "exit": code}


def failed(report: dict[str, Any]) -> list[str]:
    return [one["what"] for one in report["audit"]["requirements"] if one["state"] == "fail"]


class TestBaseline:
    def test_what_it_writes_is_met(self, capsys: Capture) -> None:
        with place(TWO) as there:
            done = kmsdiag("baseline", "contoso.example", "--server", there.server, "-o", "expected.toml")
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            report = audited(capsys, "expected.toml")
        state = read(Path("expected.toml").read_bytes(), "x")
        assert [(host.host, host.port) for host in state.expected.hosts] == [
            ("kms1.contoso.example", there.ports[0]),
            ("kms2.contoso.example", there.ports[1]),
        ]
        assert state.servers == (there.server,)
        assert failed(report) == []

    def test_stdout(self, capsys: Capture) -> None:
        with place(ONE) as there:
            assert main(["baseline", "contoso.example", "--server", there.server]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert read(out.encode(), "x").domains == ("contoso.example",)

    def test_it_replaces_a_file_as_a_whole(self) -> None:
        Path("expected.toml").write_text("old\n" * 10_000)
        with place(ONE) as there:
            assert main(["baseline", "contoso.example", "--server", there.server, "-o", "expected.toml"]) == 0
        assert "old" not in Path("expected.toml").read_text()
        assert [one.name for one in Path().iterdir()] == ["expected.toml"]

    def test_3_where_dns_could_not_be_asked(self, capsys: Capture) -> None:
        with place(ONE, DnsBehaviour.REFUSED) as there:
            assert main(["baseline", "contoso.example", "--server", there.server, "-o", "expected.toml"]) == 3
        assert capsys.readouterr().err == (
            "kmsdiag: DNS could not be asked about contoso.example: the file lacks its hosts\n"
        )
        assert read(Path("expected.toml").read_bytes(), "x").expected.hosts == ()

    def test_a_run_that_knows_less_replaces_nothing(self, capsys: Capture) -> None:
        Path("expected.toml").write_text(SOUND)
        with place(ONE, DnsBehaviour.REFUSED) as there:
            assert main(["baseline", "contoso.example", "--server", there.server, "-o", "expected.toml"]) == 3
        assert capsys.readouterr() == (
            "",
            "kmsdiag: DNS could not be asked about contoso.example: expected.toml is as it was\n",
        )
        assert Path("expected.toml").read_text() == SOUND

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["a..b"], "is no label"),
            (["10.1.0.8"], "is an address, not a domain"),
            (["contoso.example", "--server", "dc1"], "give its address"),
            (["contoso.example", "-o", "none/x.toml"], "there is no folder none"),
            (["contoso.example", "-o", "."], "it is a folder"),
            (["contoso.example", "--suffix", "a b"], "is no label"),
            ([], "Missing argument"),
        ],
    )
    def test_mistakes(self, arguments: list[str], says: str, capsys: Capture) -> None:
        assert says in wrong(capsys, "baseline", *arguments)


def wrong(capsys: Capture, *arguments: str) -> str:
    """Run what a person got wrong; the one line on stderr. Nothing is left in the folder."""
    before = sorted(Path().iterdir())
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert sorted(Path().iterdir()) == before
    return line.removeprefix("kmsdiag: ")


class TestAudit:
    def test_all_is_met(self, capsys: Capture) -> None:
        with place(ONE) as there:
            report = audited(capsys, expected(there, "max_hosts = 1"))
        assert failed(report) == []
        # That check was left out.
        assert [one["what"] for one in report["audit"]["requirements"] if one["state"] == "not known"] == [
            "the DNS servers of contoso.example give the same records"
        ]
        assert report["exit"] == 3

    @pytest.mark.parametrize(
        ("zone", "fails", "codes"),
        [
            (
                "_vlmcs._tcp 60 IN SRV 0 0 {1} kms1\n",
                ["kms1.contoso.example:{} (priority 0) is published in contoso.example"],
                {"hosts_expected.drift"},
            ),
            (
                "_vlmcs._tcp 60 IN SRV 7 0 {0} kms1\n",
                ["kms1.contoso.example:{} (priority 0) is published in contoso.example"],
                {"hosts_expected.rank_drift"},
            ),
            (
                "_vlmcs._tcp 60 IN SRV 0 0 {1} kms2\n",
                ["kms1.contoso.example:{} (priority 0) is published in contoso.example", "no other host is published"],
                {"hosts_expected.missing", "hosts_expected.unexpected"},
            ),
            (TWO, ["no other host is published"], {"hosts_expected.unexpected"}),
            (
                "",
                [
                    "contoso.example publishes a KMS host, at every DNS server asked",
                    "contoso.example publishes a host for Windows",
                    "kms1.contoso.example:{} (priority 0) is published in contoso.example",
                ],
                {"hosts_expected.missing", "plan_domains.not_published"},
            ),
        ],
    )
    def test_a_changed_record_is_the_right_drift(
        self, zone: str, fails: list[str], codes: set[str], capsys: Capture
    ) -> None:
        with place(zone) as there:
            report = audited(capsys, expected(there))
        assert failed(report) == [one.format(there.ports[0]) for one in fails]
        said = {finding["code"] for result in report["results"] for finding in result["findings"]}
        assert {code for code in said if code.startswith("hosts_expected") or code == "plan_domains.not_published"} == (
            codes
        )
        assert report["exit"] == 1

    def test_text_through_the_program(self) -> None:
        with place(TWO) as there:
            done = kmsdiag("audit", expected(there), *QUIET)
        assert done.returncode == 1
        assert done.stderr == ""
        assert "expected  5 of 7 requirements met, 1 failed, 1 not known\n" in done.stdout
        assert "  ✖ FAIL  no other host is published\n" in done.stdout

    def test_the_deadline_ends_it_and_what_was_cut_is_not_known(self, capsys: Capture) -> None:
        with place(ONE, DnsBehaviour.SILENT) as there:
            report = audited(capsys, expected(there), "--deadline", "0.3", "--timeout", "60")
        assert {one["state"] for one in report["audit"]["requirements"]} == {"not known"}
        assert report["exit"] == 3

    def test_severities_and_waivers(self, capsys: Capture) -> None:
        waiver = (
            '[severity]\n"hosts_public.unusable" = "info"\n'
            '[[waivers]]\ncode = "hosts_expected.unexpected"\nabout = "kms2.contoso.example"\nreason = "moving"\n'
            "until = 2999-12-31\n"
        )
        with place(TWO) as there:
            name = expected(there)
            Path(name).write_text(Path(name).read_text() + waiver)
            report = audited(capsys, name)
        assert report["exit"] == 3
        assert report["audit"]["waivers"][0]["use"] == "used"
        said = {f["code"]: f for result in report["results"] for f in result["findings"]}
        assert said["hosts_public.unusable"]["severity"] == "info"
        assert said["hosts_expected.unexpected"]["waived"] == "waived until 2999-12-31: moving"

    def test_reports_of_other_places(self, capsys: Capture) -> None:
        network = '[[networks]]\nname = "branch"\naddress = "10.7.0.0/16"\nsite = "hq"\n'
        with place(ONE) as there:
            name = expected(there)
            Path(name).write_text(Path(name).read_text() + network)
            check = ["check", "contoso.example", "--server", there.server, "--no-clock", "--no-trace"]
            assert main([*check, "--vantage", "branch", "-o", "branch.json"]) == 0
            assert main([*check, "--vantage", "elsewhere", "--record", "bundle.json"]) == 0
            capsys.readouterr()
            alone = audited(capsys, name)
            more = audited(capsys, name, "--from", "branch.json", "bundle.json")
        what = "activation works from branch (10.7.0.0/16, hq)"
        assert [self.state(report, what) for report in (alone, more)] == ["not known", "pass"]

    def test_a_what_if_of_another_place_decides_nothing(self, capsys: Capture) -> None:
        Path("r.zone").write_text("_vlmcs._tcp SRV 0 0 1688 kms1\n")
        with place(ONE) as there:
            name = expected(there)
            main(["audit", name, *QUIET, "--what-if", "r.zone", "-o", "supposed.json"])
            capsys.readouterr()
            says = wrong(capsys, "audit", name, "--from", "supposed.json")
        assert says == "supposed.json can't be used: it is about proposed records (--what-if), not what is there"

    def state(self, report: dict[str, Any], what: str) -> str:
        return next(str(one["state"]) for one in report["audit"]["requirements"] if one["what"] == what)

    def test_other_servers_may_be_asked(self, capsys: Capture) -> None:
        with place(ONE) as there, place(TWO) as other:
            report = audited(capsys, expected(there), "--server", other.server)
        assert report["target"]["servers"] == [other.server]
        assert "no other host is published" in failed(report)

    def test_a_recorded_audit_is_judged_the_same_again(self, capsys: Capture) -> None:
        with place(TWO) as there:
            report = audited(capsys, expected(there), "--record", "run.json")
        assert main(["analyze", "run.json", "--format", "json", "--skip", "dns_servers_agree"]) == 1
        assert json.loads(capsys.readouterr().out) == {key: report[key] for key in report if key != "exit"}

    def test_changes_are_printed_and_not_made(self, capsys: Capture) -> None:
        with place(TWO) as there:
            report = audited(capsys, expected(there), "--print-changes")
            again = audited(capsys, expected(there))
        (change,) = report["changes"]
        assert change["what"] == "kms2.contoso.example is not to be published in contoso.example"
        assert "changes" not in again
        assert failed(again) == failed(report)


class TestWhatIf:
    def test_a_zone_file_and_stdin(self, capsys: Capture) -> None:
        with place(TWO) as there:
            zone = f"_vlmcs._tcp SRV 0 0 {there.ports[0]} kms1\n"
            Path("records.zone").write_text(zone)
            name = expected(there)
            report = audited(capsys, name, "--what-if", "records.zone")
            done = kmsdiag("audit", name, *QUIET, "--what-if", "-", stdin=zone)
        assert failed(report) == []
        (shift,) = report["what_if"]["domains"]
        assert [one["host"] for one in shift["removed"]] == [f"kms2.contoso.example:{there.ports[1]}"]
        assert done.returncode == 3
        assert "what if  1 proposed record, judged as if in place; nothing was changed\n" in done.stdout
        assert "  no other host is published: fail → pass\n" in done.stdout

    def test_a_host_that_is_only_proposed_is_probed(self, capsys: Capture) -> None:
        with place(ONE) as there:
            Path("records.zone").write_text(f"_vlmcs._tcp SRV 0 0 {there.ports[1]} new\nnew A 127.0.0.1\n")
            report = audited(capsys, expected(there), "--what-if", "records.zone")
        (path,) = report["paths"]
        assert (path["target"], path["state"]) == ("new.contoso.example", "ok")

    def test_records_of_another_domain_are_named(self, capsys: Capture) -> None:
        with place(ONE) as there:
            Path("records.zone").write_text(
                f"_vlmcs._tcp SRV 0 0 {there.ports[0]} kms1\n_vlmcs._tcp.other.example. SRV 0 0 1688 kms1\n"
            )
            main(["audit", expected(there), *QUIET, "--what-if", "records.zone"])
        assert capsys.readouterr().err == (
            "kmsdiag: records.zone: _vlmcs._tcp.other.example is of no domain of the plan, and not judged\n"
        )


SOUND = 'domains = ["contoso.example"]\n[[sites]]\nname = "hq"\n'


class TestCheckConfig:
    def test_a_sound_file(self, capsys: Capture) -> None:
        Path("e.toml").write_text(SOUND)
        assert main(["audit", "--check-config", "e.toml"]) == 0
        assert capsys.readouterr().out == "e.toml is sound: 1 domain, 0 hosts, 1 site, 0 networks, 0 waivers\n"

    def test_stdin(self) -> None:
        done = kmsdiag("audit", "-", "--check-config", stdin=SOUND)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("stdin is sound")

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ('domains = ["contoso.example]\n', "e.toml: it is no valid TOML: Illegal character"),
            ('domains = ["contoso.example"]\n[[sites]]\nname = 3\n', "e.toml: sites[0].name: Expected `str`"),
            (f'{SOUND}[severity]\n"tcp_reachble.open" = "info"\n', "severity.'tcp_reachble.open': no check says"),
            (f'{SOUND}[severity]\n"tcp_reachable.open" = "grave"\n', "'grave' is no severity"),
            (
                f'{SOUND}[[waivers]]\ncode = "hosts_public.publc"\nreason = "x"\nuntil = 2026-01-01\n',
                "e.toml: waivers[0].code: no check says 'hosts_public.publc'; did you mean 'hosts_public.public'?",
            ),
            (f"{SOUND}max = 1\n", "e.toml: sites[0].max: there is no such key"),
        ],
    )
    def test_one_that_is_not(self, text: str, says: str, capsys: Capture) -> None:
        Path("e.toml").write_text(text)
        assert says in wrong(capsys, "audit", "--check-config", "e.toml")
        # Nor is anything asked with it.
        assert says in wrong(capsys, "audit", "e.toml")


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], "Missing argument"),
            (["none.toml"], "none.toml can't be read: No such file"),
            (["."], "can't be read"),
            (
                ["e.toml", "more.json"],
                "'more.json' is one argument too many: reports of other places come after --from",
            ),
            (["e.toml", "--from", "none.json"], "none.json can't be read"),
            (["e.toml", "--from", "newer.json"], "update kmsdiag"),
            (["e.toml", "--from", "e.toml"], "it is no JSON"),
            (["e.toml", "--what-if", "none.zone"], "none.zone can't be read"),
            (["e.toml", "--what-if", "bad.zone"], "bad.zone:2 is no usable zone file"),
            (["e.toml", "--what-if", "other.zone"], "proposes _vlmcs._tcp.other.example, and the domains are contoso"),
            (["e.toml", "--what-if", "e.toml"], "e.toml:1 is no usable zone file"),
            (["e.toml", "--what-if", "binary.zone"], "binary.zone is no zone file: it is no text in UTF-8"),
            (["-", "--what-if", "-"], "- stands for stdin, which can be only one of the files"),
            (["e.toml", "--server", "dc1"], "--server: 'dc1' is no DNS server"),
            (["e.toml", "--source", "x"], "is no address"),
            (["e.toml", "--check", "zzz"], "there is no check 'zzz'"),
            (["e.toml", "-o", "none/x.txt"], "there is no folder none"),
            (["e.toml", "--record", "none/x.json"], "there is no folder none"),
        ],
    )
    def test_are_one_line_with_the_remedy(self, arguments: list[str], says: str, capsys: Capture) -> None:
        Path("e.toml").write_text(SOUND)
        Path("bad.zone").write_text("_vlmcs._tcp SRV 0 0 1688 kms1\nkms1 A 10.1.0\n")
        Path("other.zone").write_text("_vlmcs._tcp.other.example. SRV 0 0 1688 kms1.other.example.\n")
        Path("binary.zone").write_bytes(b"\x00\xff")
        Path("newer.json").write_text('{"kmsdiag_report": 99}')
        assert says in wrong(capsys, "audit", *arguments)

    def test_two_domains_need_names_in_full(self, capsys: Capture) -> None:
        Path("e.toml").write_text('domains = ["a.example", "b.example"]\n')
        Path("x.zone").write_text("_vlmcs._tcp SRV 0 0 1688 kms1\n")
        assert "or an $ORIGIN before" in wrong(capsys, "audit", "e.toml", "--what-if", "x.zone")

    def test_a_file_that_is_too_large(self, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kmsdiag.cli.audit.MAX_BYTES", 10)
        Path("e.toml").write_text(SOUND)
        assert "e.toml is larger than" in wrong(capsys, "audit", "e.toml")


def test_the_schema_of_the_file_is_printed(capsys: Capture) -> None:
    assert main(["schema", "expected"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "kmsdiag expected"


def test_defaults_come_from_the_configuration(capsys: Capture) -> None:
    Path("kmsdiag.toml").write_text('[audit]\nformat = "json"\n')
    with place(ONE) as there:
        main(["audit", expected(there), *QUIET])
    assert capsys.readouterr().out.startswith("{")
