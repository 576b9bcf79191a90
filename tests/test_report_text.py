import unicodedata

import msgspec
import pytest

from kmsdiag import diagnosis
from kmsdiag.model.finding import Severity
from kmsdiag.model.outcome import DnsOutcome, TcpOutcome
from kmsdiag.model.report import Report
from kmsdiag.model.target import HostSpec
from kmsdiag.registry import discover
from kmsdiag.report import layout
from kmsdiag.report.lines import STYLES, plain
from kmsdiag.report.text import render
from tests.conftest import World, record
from tests.labruns import NAMES, NASTY, hostile_report, runs


def text(report: Report, *, verbosity: int = 0, width: int = 100, unicode: bool = True) -> str:
    return plain(render(report, verbosity=verbosity, width=width, unicode=unicode))


def joined(lines: list[str]) -> str:
    """Wrapped lines as one."""
    return " ".join(" ".join(lines).split())


def first_screen(report: Report) -> list[str]:
    """The lines up to and including the table of paths: two paragraphs, of which the second is the table."""
    lines = text(report).splitlines()
    blank = [number for number, line in enumerate(lines) if not line]
    if not report.paths:
        return lines[: blank[0]]
    assert lines[blank[0] + 1].startswith("  domain") or lines[blank[0] + 1].lstrip().startswith("host")
    return lines[: blank[1]]


class TestScenarios:
    @pytest.mark.parametrize("name", NAMES)
    def test_the_verdict_comes_first(self, name: str) -> None:
        run = runs()[name]
        first = text(run.report).splitlines()[0]
        symbol, word = layout.MARKS[run.report.verdict.state.value]
        assert first == f"{symbol} {word}  {run.report.verdict.headline}"

    @pytest.mark.parametrize("name", NAMES)
    def test_the_first_five_lines_name_what_is_wrong(self, name: str) -> None:
        run = runs()[name]
        assert run.scenario.says in joined(text(run.report).splitlines()[:5])

    @pytest.mark.parametrize("name", NAMES)
    def test_the_first_screen_is_short(self, name: str) -> None:
        screen = first_screen(runs()[name].report)
        assert len(screen) <= 25, "\n".join(screen)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("verbosity", [0, 1, 2])
    def test_ascii_is_ascii(self, name: str, verbosity: int) -> None:
        shown = text(runs()[name].report, verbosity=verbosity, unicode=False)
        assert shown.isascii()
        assert "?" not in shown.replace("? not checked", "").replace("? not tested", "").replace("? UNKNOWN", "")

    @pytest.mark.parametrize("name", NAMES)
    def test_every_cause_has_a_next_step(self, name: str) -> None:
        for cause in runs()[name].report.verdict.causes:
            assert any(fix.command for fix in cause.fixes)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("width", [60, 80, 100, 140])
    def test_prose_keeps_to_the_width(self, name: str, width: int) -> None:
        """Commands and names are never wrapped: they have to be copied in one piece."""
        report = runs()[name].report
        commands = [fix.command for cause in report.verdict.causes for fix in cause.fixes]
        commands += [fix.command for one in report.results for finding in one.findings for fix in finding.fixes]
        for line in render(report, width=width):
            shown = "".join(piece.text for piece in line)
            if len(line) > 1 and line[-1].style == "command":
                assert line[-1].text in commands
            elif line and line[0].text.startswith("  ") and line[0].style == "label" and " " in shown.strip():
                assert len(shown) <= width or len(shown.split()) < 4, shown

    def test_styles_are_known(self) -> None:
        for name in NAMES:
            for line in render(runs()[name].report, verbosity=2):
                assert {piece.style for piece in line} <= {"", *STYLES}


class TestVerbosity:
    def test_more_is_more(self) -> None:
        report = runs()["mixed"].report
        lengths = [len(text(report, verbosity=level)) for level in (0, 1, 2)]
        assert lengths == sorted(set(lengths))

    def test_all_findings(self) -> None:
        report = runs()["mixed"].report
        shown = text(report, verbosity=1)
        for result in report.results:
            for finding in result.findings:
                if finding.severity is not Severity.NOT_ASSESSED:
                    assert finding.code in shown

    def test_reasons(self) -> None:
        report = runs()["mixed"].report
        assert "TCP 10.1.0.9:1688" not in text(report, verbosity=1)
        assert "TCP 10.1.0.9:1688" in text(report, verbosity=2)


class TestWays:
    """Where the way to a silent host ends is mere information, and yet what its reader wants to know."""

    def report(self, *silent: str, hops: tuple[str, ...] = ("10.9.0.1",)) -> Report:
        world = World(hosts=(HostSpec("10.1.0.8"), *map(HostSpec, silent)))
        world.tcp("10.1.0.8").rpc("10.1.0.8")
        for address in silent:
            world.tcp(address, TcpOutcome.TIMEOUT).trace(address, *hops)
        return diagnosis.judge(world.bundle("tcp_path", "tcp_reachable"), discover().select(["tcp_path"], []))

    def test_it_stands_below_the_cause(self) -> None:
        screen = joined(first_screen(self.report("10.1.0.9")))
        cause = screen.index("a firewall drops it")
        assert cause < screen.index("the last router that answers is 10.9.0.1 (1 hop). The packets are dropped")
        assert screen.index("10.9.0.1") < screen.index("shows")

    def test_no_more_than_there_is_room_for(self) -> None:
        many = self.report(*(f"10.1.0.{number}" for number in range(20, 26)))
        assert joined(first_screen(many)).count("the last router that answers") == 2
        assert len(layout.explanations(many)) == 6

    def test_nothing_is_explained_where_nothing_fails(self) -> None:
        assert layout.explanations(self.report()) == []

    def test_what_works_explains_nothing(self) -> None:
        # The information that hosts share the clients rests on questions that were answered.
        world = World("contoso.example").srv(record("kms1"), record("kms2"))
        world.name("kms1", "10.1.0.8").name("kms2", "10.1.0.9").tcp("10.1.0.8").rpc("10.1.0.8")
        report = world.tcp("10.1.0.9", TcpOutcome.TIMEOUT).report()
        assert any(finding.severity is Severity.INFO for one in report.results for finding in one.findings)
        assert layout.explanations(report) == []


class TestContent:
    def test_an_address_that_is_the_name_is_said_once(self) -> None:
        world = World(hosts=(HostSpec("10.1.0.9"),)).tcp("10.1.0.9", TcpOutcome.TIMEOUT)
        shown = text(world.report(), verbosity=2)
        assert "10.1.0.9 does not answer on TCP 1688" in shown
        assert "10.1.0.9 (10.1.0.9" not in shown

    def test_interrupted(self) -> None:
        bundle = msgspec.structs.replace(runs()["healthy"].bundle, interrupted=True)
        lines = text(diagnosis.judge(bundle, discover())).splitlines()
        assert "Interrupted" in lines[1]

    def test_no_activation_request(self) -> None:
        assert "no activation request" in joined(text(runs()["healthy"].report).splitlines())

    def test_what_follows_is_not_told_as_a_finding(self) -> None:
        shown = text(runs()["refused"].report, verbosity=2)
        assert "rpc_service.nothing" not in shown
        assert "rpc_service: nothing to look at; it follows from the failure at stage tcp" in joined(shown.splitlines())

    def test_many_paths_are_cut(self) -> None:
        world = World("contoso.example").srv(*(record(f"k{number}") for number in range(30)))
        for number in range(30):
            world.name(f"k{number}", f"10.1.0.{number}").tcp(f"10.1.0.{number}", TcpOutcome.REFUSED)
        lines = text(world.report()).splitlines()
        assert any("and 22 more ways" in line for line in lines)
        assert any("and 26 more (-v shows them all)" in line for line in lines)
        assert sum("refuses TCP 1688." in line for line in lines) <= 4

    def test_one_cause_for_many_domains_stays_one(self) -> None:
        names = tuple(f"d{number}.example" for number in range(200))
        world = World(*names)
        for name in names:
            world.srv(outcome=DnsOutcome.TIMEOUT, domain=name)
        lines = text(world.report()).splitlines()
        assert sum("does not answer (" in line for line in lines[:5]) == 1
        assert "and 197 more" in joined(lines[:5])
        assert len(first_screen(world.report())) <= 25

    def test_an_empty_report(self) -> None:
        assert text(World().report()).startswith("? UNKNOWN  Nothing was tested.\n")


class TestHostile:
    @pytest.mark.parametrize("verbosity", [0, 1, 2])
    @pytest.mark.parametrize("unicode", [True, False])
    def test_nothing_acts(self, *, verbosity: int, unicode: bool) -> None:
        shown = text(hostile_report(), verbosity=verbosity, unicode=unicode)
        for character in shown.replace("\n", ""):
            assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"), repr(character)
        assert shown.isascii() or unicode

    def test_nothing_begins_a_line_of_its_own(self) -> None:
        shown = text(hostile_report(), verbosity=2)
        for line in shown.splitlines():
            assert not line.lstrip().startswith(("DO THIS", "# Heading", "fence"))

    def test_everything_is_shown_all_the_same(self) -> None:
        """Escaped, not swallowed: an administrator has to see what was sent."""
        report = hostile_report()
        assert [result.check for result in report.results if result.status == "crashed"] == ["tcp_crash"]
        shown = text(report, verbosity=2)
        for trace in ("\\x1b[2J", "\\x0a", "\\u{202e}", "\\u{200b}", "<script>"):
            assert trace in shown

    def test_the_strings_are_hostile(self) -> None:
        """The guard of the tests above: unescaped they would not pass."""
        assert any(unicodedata.category(character) == "Cc" for one in NASTY for character in one)
        assert any(unicodedata.category(character) == "Cf" for one in NASTY for character in one)
