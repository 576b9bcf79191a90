"""JUnit XML: valid by what the usual schemas have in common, with every result in it, and nothing that acts."""

import datetime
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.model.audit import Audit, Requirement, RequirementState
from kmsdiag.model.finding import Severity, Status
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.path import PathState
from kmsdiag.report import views
from kmsdiag.report.junit import Case, Problem, Run, Suite, document, render
from tests.conftest import DOMAIN, World
from tests.labruns import NAMES, hostile_report, runs
from tests.places import BRANCH, HQ, KMS2, blocked, healthy, seen, stale
from tests.test_compare import difference_of
from tests.test_merge import merged
from tests.test_reports import captured_report

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).parent / "junit.xsd"))


def valid(text: str) -> ET.Element:
    """The document, once the schema has accepted it."""
    assert text.isascii()
    SCHEMA.validate(text)
    root = ET.fromstring(text)
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.get("tests", "-1")) == len(cases)
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(attribute, "-1")) == len(suite.findall(f"testcase/{tag}")), attribute
    return root


def cases(root: ET.Element, suite: str) -> dict[str, tuple[str, str]]:
    """What became of each case of a suite, by its name: tag and message."""
    found = {}
    for case in root.findall(f"testsuite[@name='{suite}']/testcase"):
        problem = next(iter(case), None)
        found[case.get("name", "")] = ("passed", "") if problem is None else (problem.tag, problem.get("message", ""))
    return found


def test_the_schema_refuses_what_the_usual_ones_refuse() -> None:
    good = render(runs()["mixed"].report)
    SCHEMA.validate(good)
    for old, new in (
        ("<system-err />", ""),
        ('hostname="lab"', ""),
        ('package="kmsdiag"', ""),
        ("<failure type=", "<failure kind="),
        ('timestamp="20', 'timestamp="x'),
    ):
        assert old in good
        assert not SCHEMA.is_valid(good.replace(old, new))


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_is_valid_and_whole(name: str) -> None:
    report = runs()[name].report
    root = valid(render(report))
    assert root[0].get("time") == f"{report.counts.seconds:.3f}"
    ways = cases(root, "kmsdiag.ways")
    tags = {
        PathState.OK: "passed",
        PathState.PARTIAL: "failure",
        PathState.FAIL: "failure",
        PathState.UNKNOWN: "skipped",
    }
    assert sorted(tag for tag, _message in ways.values()) == sorted(tags[path.state] for path in report.paths)
    for result in report.results:
        tag, _message = cases(root, f"kmsdiag.{result.check}")[str(result.subject)]
        expected = {Status.ERROR: "failure", Status.NOT_ASSESSED: "skipped", Status.CRASHED: "error"}
        assert tag == expected.get(result.status, "passed")


def test_a_failing_way_says_the_cause_and_what_to_do() -> None:
    root = valid(render(runs()["mixed"].report))
    (case,) = root.findall(".//testcase[@name='contoso.example → kms-old.contoso.example:1688']")
    (failure,) = case
    assert failure.get("type") == "tcp.timeout"
    assert failure.get("message") == "KMS host kms-old.contoso.example (10.1.0.9) is silent on TCP 1688"
    assert "do: test the path from a client" in (failure.text or "")


def test_two_servers_that_fail_in_the_same_domain_are_not_mixed_up() -> None:
    """Both are causes of the way to nowhere, and each case has its own server in its name."""
    world = World(DOMAIN, servers=("10.1.0.2", "10.1.0.3"))
    world.srv(outcome=DnsOutcome.REFUSED, server="10.1.0.2").srv(outcome=DnsOutcome.TIMEOUT, server="10.1.0.3")
    root = valid(render(world.report()))
    assert cases(root, "kmsdiag.ways") == {
        f"{DOMAIN} at 10.1.0.2": ("failure", "fails at srv (REFUSED)"),
        f"{DOMAIN} at 10.1.0.3": ("failure", "fails at srv (silent)"),
    }
    texts = [failure.text or "" for failure in root.findall("testsuite[@name='kmsdiag.ways']/testcase/failure")]
    assert all("DNS server 10.1.0.2 refuses" in text and "10.1.0.3 does not answer" in text for text in texts)


def test_findings_from_the_chosen_severity_on_are_failures() -> None:
    report = runs()["mixed"].report
    strict, usual = (valid(render(report, level)) for level in (Severity.INFO, Severity.ERROR))
    assert cases(usual, "kmsdiag.hosts_several")[DOMAIN] == ("passed", "")
    assert cases(strict, "kmsdiag.hosts_several")[DOMAIN][0] == "failure"
    notes = usual.find("testsuite[@name='kmsdiag.hosts_several']/system-out")
    assert notes is not None
    assert "info hosts_several.equal (contoso.example): contoso.example has 2 KMS hosts" in (notes.text or "")


def test_hostile_text_does_nothing() -> None:
    text = render(hostile_report())
    valid(text)
    assert "\x1b" not in text
    assert "&#27;" not in text
    assert "<script" not in text


def test_requirements_of_an_audit() -> None:
    requirements = (
        Requirement(code="a.b", what="first", state=RequirementState.PASS),
        Requirement(code="a.c", what="second", state=RequirementState.FAIL, why="it is not there"),
        Requirement(code="a.d", what="third", state=RequirementState.NOT_KNOWN, why="nobody looked"),
        Requirement(code="a.e", what="fourth", state=RequirementState.FAIL, waived="until the move"),
        Requirement(code="a.f", what="fifth", state=RequirementState.FAIL, why="few", severity=Severity.WARNING),
    )
    report = msgspec.structs.replace(World(DOMAIN).srv().report(), audit=Audit(requirements=requirements))
    assert cases(valid(render(report)), "kmsdiag.requirements") == {
        "first": ("passed", ""),
        "second": ("failure", "it is not there"),
        "third": ("skipped", "nobody looked"),
        "fourth": ("skipped", "waived: until the move"),
        "fifth": ("passed", ""),
    }
    strict = cases(valid(render(report, Severity.WARNING)), "kmsdiag.requirements")
    assert strict["fifth"] == ("failure", "few")


def test_a_merged_picture() -> None:
    picture = merged(
        seen(healthy(), "hq", HQ), seen(blocked(), "branch", BRANCH), seen(stale(), "depot"), missing=["far.json"]
    )
    root = valid(views.as_junit(picture, Severity.ERROR))
    assert {name: tag for name, (tag, _message) in cases(root, "kmsdiag.places").items()} == {
        "hq": "passed",
        "branch": "failure",
        "depot": "failure",
        "far": "skipped",
    }
    assert len(cases(root, "kmsdiag.common_causes")) == 2
    way = cases(root, f"kmsdiag.way {DOMAIN} → kms1.{DOMAIN}:1688")
    assert {name: tag for name, (tag, _message) in way.items()} == {
        "hq": "passed",
        "branch": "failure",
        "depot": "failure",
    }
    assert valid(views.as_junit(merged(missing=["a.json"]), Severity.ERROR)) is not None
    valid(views.as_junit(merged(hostile_report()), Severity.ERROR))


def test_captures() -> None:
    report = captured_report()
    root = valid(render(report))
    ways = cases(root, "kmsdiag.ways")
    assert ways["corp.example at 10.1.0.2"][0] == "failure"
    assert ways[f"{KMS2}:1688"] == ("failure", f"{KMS2} has too low a count: 3 of 25")
    (failure,) = root.findall(f".//testcase[@name='{KMS2}:1688']/failure")
    assert failure.get("type") == "answer.below_threshold"
    assert len(ways) == len(report.paths)
    refusals = cases(root, "kmsdiag.capture_refusals")
    assert [tag for tag, _message in refusals.values()] == ["failure"]
    picture = merged(report, seen(healthy(), "hq", HQ))
    root = valid(views.as_junit(picture, Severity.ERROR))
    (case,) = root.findall(f"testsuite[@name='kmsdiag.way {KMS2}:1688']/testcase")
    (failure,) = case
    assert failure.get("message") == f"tcp ok {KMS2}; rpc ok KMS {KMS2}; answer fail count too low {KMS2}"
    valid(views.as_junit(difference_of(report, seen(healthy(), "hq", HQ)), Severity.ERROR))


def test_a_difference() -> None:
    better, worse = seen(healthy(), "hq", HQ), seen(blocked(), "hq", HQ)
    root = valid(views.as_junit(difference_of(better, worse), Severity.ERROR))
    assert {tag for tag, _message in cases(root, "kmsdiag.diff").values()} == {"failure"}
    root = valid(views.as_junit(difference_of(worse, better), Severity.ERROR))
    assert {tag for tag, _message in cases(root, "kmsdiag.diff").values()} == {"passed"}
    valid(views.as_junit(difference_of(hostile_report(), better), Severity.ERROR))


@settings(max_examples=200)
@given(st.text(), st.text(), st.text(), st.datetimes(timezones=st.just(datetime.UTC)))
def test_any_text_is_carried(name: str, message: str, note: str, when: datetime.datetime) -> None:
    run = Run(name, when, 0.5, (("property", message),))
    case = Case("kmsdiag.check", f"case {name}", failure=Problem(name, message, f"{note}\n{message}"))
    valid(document(run, [Suite(f"suite {name}", [case, Case("kmsdiag.check", "b", skipped=note)], [note, message])]))
