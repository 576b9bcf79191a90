"""Reports as JUnit XML, which Jenkins, GitLab, Azure DevOps and their like show as test results.

There is no standard. What is written here is valid by both schemas in use, that of Ant (windyroad/JUnit-Schema) and
that of Jenkins (jenkinsci/xunit-plugin, junit-10.xsd): one suite a check, one case a subject, at most one failure a
case.
"""

import datetime
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET

from kmsdiag.model.audit import Requirement, RequirementState
from kmsdiag.model.finding import Severity, Status
from kmsdiag.model.outcome import State
from kmsdiag.model.path import Cause, FixView, Path, PathState
from kmsdiag.model.report import FindingView, Report, ResultView
from kmsdiag.model.target import join_host_port
from kmsdiag.path import NOWHERE
from kmsdiag.report.words import visible


class Problem(NamedTuple):
    """Why a case is not passed: a code, one line, and all there is to say."""

    type: str
    message: str
    text: str = ""


class Case(NamedTuple):
    """One test case; with none of the three it is passed. ``skipped`` says why nothing is known."""

    classname: str
    name: str
    failure: Problem | None = None
    error: Problem | None = None
    skipped: str = ""


class Suite(NamedTuple):
    """Test cases under one name; ``notes`` are lines that belong to none of them as a failure."""

    name: str
    cases: Sequence[Case]
    notes: Sequence[str] = ()


class Run(NamedTuple):
    """Where and when the cases were tested: host, start (UTC), seconds, and whatever else is worth a property."""

    host: str
    started: datetime.datetime | None
    seconds: float
    properties: Sequence[tuple[str, str]]


def document(run: Run, suites: Iterable[Suite]) -> str:
    """The XML, in ASCII: other characters are references, and those that XML can't carry are written out."""
    root = ET.Element("testsuites")
    for number, suite in enumerate(suites):
        root.append(_suite(run, suite, number))
    ET.indent(root, " ")
    text = ET.tostring(root, encoding="us-ascii", xml_declaration=False).decode()
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(run: Run, suite: Suite, number: int) -> ET.Element:
    started = run.started or datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    element = ET.Element(
        "testsuite",
        {
            "name": _text(suite.name),
            "package": "kmsdiag",
            "id": str(number),
            "timestamp": started.replace(microsecond=0, tzinfo=None).isoformat(),
            "hostname": _text(run.host).strip() or "localhost",
            "tests": str(len(suite.cases)),
            "failures": str(sum(case.failure is not None for case in suite.cases)),
            "errors": str(sum(case.error is not None for case in suite.cases)),
            "skipped": str(sum(bool(case.skipped) for case in suite.cases)),
            # The run's time is told once, so that adding up gives it.
            "time": f"{run.seconds if number == 0 else 0:.3f}",
        },
    )
    properties = ET.SubElement(element, "properties")
    for name, value in run.properties:
        ET.SubElement(properties, "property", {"name": name, "value": _text(value)})
    for case in suite.cases:
        element.append(_case(case))
    ET.SubElement(element, "system-out").text = "\n".join(map(_text, suite.notes))
    ET.SubElement(element, "system-err")
    return element


def _case(case: Case) -> ET.Element:
    element = ET.Element("testcase", {"classname": _text(case.classname), "name": _text(case.name), "time": "0"})
    for tag, problem in (("failure", case.failure), ("error", case.error)):
        if problem is not None:
            child = ET.SubElement(element, tag, {"type": _text(problem.type), "message": _text(problem.message)})
            child.text = "\n".join(map(_text, problem.text.split("\n")))
    if case.skipped:
        ET.SubElement(element, "skipped", {"message": _text(case.skipped)})
    return element


def _text(text: str) -> str:
    r"""One line that XML can carry and that acts nowhere: what can't be seen is written as ``\xNN``."""
    return visible(text)


def render(report: Report, fail_on: Severity = Severity.ERROR) -> str:
    """The whole report: its ways, its requirements, and a suite a check. Findings from ``fail_on`` on are failures."""
    run = Run(
        host=report.vantage.host or report.vantage.label,
        started=report.started,
        seconds=report.counts.seconds,
        properties=(
            ("tool", f"kmsdiag {report.tool}"),
            ("vantage", report.vantage.label),
            ("verdict", report.verdict.state.value),
            ("headline", report.verdict.headline),
        ),
    )
    suites = [_ways(report)]
    if report.audit is not None:
        suites.append(_requirements(report.audit.requirements, fail_on))
    by_check: dict[str, list[ResultView]] = {}
    for result in report.results:
        by_check.setdefault(result.check, []).append(result)
    suites += [_check(check, results, fail_on) for check, results in sorted(by_check.items())]
    return document(run, suites)


def _ways(report: Report) -> Suite:
    causes: dict[str, list[Cause]] = {}
    for cause in report.verdict.causes:
        for name in cause.paths:
            causes.setdefault(name, []).append(cause)
    return Suite("kmsdiag.ways", [_way(path, causes) for path in report.paths])


def _way(path: Path, causes: dict[str, list[Cause]]) -> Case:
    host = "" if path.target == NOWHERE else join_host_port(path.target, path.port)
    name = " → ".join(part for part in ("" if path.domain == NOWHERE else path.domain, host) if part)
    case = Case("kmsdiag.way", name if host else f"{name} at {', '.join(path.servers)}")
    if path.state is PathState.OK:
        return case
    if path.state is PathState.UNKNOWN:
        return case._replace(skipped="not tested to its end")
    stages = [*path.stages, *(stage for route in path.routes for stage in route.stages)]
    failing = next((stage for stage in stages if stage.state is State.FAIL), None)
    words = f"fails at {failing.stage} ({failing.note or failing.outcome})" if failing is not None else path.state.value
    own = causes.get(name, [])
    if not own:
        return case._replace(failure=Problem(f"way.{path.state}", words))
    if len(own) == 1:
        return case._replace(failure=Problem(own[0].code, own[0].headline, "\n".join(_cause(own[0]))))
    # Of several causes, such as two silent DNS servers, it is not told which is whose.
    lines = [line for cause in own for line in (cause.headline, *_cause(cause))]
    return case._replace(failure=Problem(own[0].code, words, "\n".join(lines)))


def _cause(cause: Cause) -> list[str]:
    return [cause.text, *_fixes(cause.fixes)]


def _requirements(requirements: Sequence[Requirement], fail_on: Severity) -> Suite:
    """Requirements of an audit. One that fails and matters less than ``fail_on`` is a note."""
    cases, notes = [], []
    for one in requirements:
        case = Case("kmsdiag.requirement", one.what)
        if one.state is RequirementState.NOT_KNOWN:
            case = case._replace(skipped=one.why or "not known")
        elif one.waived:
            case = case._replace(skipped=f"waived: {one.waived}")
        elif one.state is RequirementState.FAIL:
            if one.severity.rank >= fail_on.rank:
                case = case._replace(failure=Problem(one.code, one.why or "not met"))
            else:
                notes.append(f"{one.severity} {one.code}: {one.what}: {one.why or 'not met'}")
        cases.append(case)
    return Suite("kmsdiag.requirements", cases, notes)


def _check(check: str, results: Sequence[ResultView], fail_on: Severity) -> Suite:
    notes = [
        f"{finding.severity} {finding.code} ({result.subject}): {finding.text}"
        + (f" ({finding.waived})" if finding.waived else "")
        for result in results
        for finding in result.findings
        if (finding.severity.rank < fail_on.rank or finding.waived) and finding.severity.rank >= Severity.INFO.rank
    ]
    return Suite(f"kmsdiag.{check}", [_result(result, fail_on) for result in results], notes)


def _result(result: ResultView, fail_on: Severity) -> Case:
    case = Case(f"kmsdiag.{result.check}", str(result.subject))
    if result.status is Status.CRASHED:
        return case._replace(error=Problem("crashed", result.reason))
    grave = [one for one in result.findings if one.severity.rank >= fail_on.rank and not one.waived]
    if grave:
        more = f" (and {len(grave) - 1} more)" if len(grave) > 1 else ""
        text = "\n".join(line for finding in grave for line in _finding(finding))
        return case._replace(failure=Problem(grave[0].code, grave[0].text + more, text))
    if result.status is Status.NOT_ASSESSED:
        missing = (finding.text for finding in result.findings if finding.severity is Severity.NOT_ASSESSED)
        return case._replace(skipped=result.reason or next(missing, "not assessed"))
    return case


def _finding(finding: FindingView) -> list[str]:
    return [line for line in (f"{finding.code}: {finding.text}", finding.consequence) if line] + _fixes(finding.fixes)


def _fixes(fixes: Sequence[FixView]) -> list[str]:
    return [f"do: {fix.text}" + (f", {fix.where}: {fix.command}" if fix.command else "") for fix in fixes]
