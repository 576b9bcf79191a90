"""What changed between two reports: the verdict, paths, findings from warning on, and requirements of an audit.

What only one of the two runs was asked about is left out: that is no change of the world.
"""

from collections.abc import Iterator
from typing import NamedTuple

from kmsdiag.model.audit import RequirementState
from kmsdiag.model.difference import (
    DIFFERENCE_FORMAT,
    ChangeKind,
    ChangeView,
    Difference,
    DifferenceState,
    Side,
)
from kmsdiag.model.finding import Severity, Status
from kmsdiag.model.path import Path, PathState, VerdictState
from kmsdiag.model.report import FindingView, Report, ResultView
from kmsdiag.model.target import SubjectKind, join_host_port
from kmsdiag.path import NOWHERE
from kmsdiag.version import VERSION


class Change(NamedTuple):
    """One thing that is not as before; ``better`` is None where it is neither better nor worse.

    ``known`` is False where it may be worse and one of the two runs could not look.
    """

    what: str
    better: bool | None
    known: bool = True
    kind: ChangeKind = ChangeKind.VERDICT
    domain: str = ""
    host: str = ""
    code: str = ""


_WORTH = {PathState.FAIL: 0, PathState.PARTIAL: 1, PathState.OK: 2}
_VERDICTS = {VerdictState.BROKEN: 0, VerdictState.DEGRADED: 1, VerdictState.HEALTHY: 2}


def changes(before: Report, after: Report) -> list[Change]:
    """Changes in the order verdict, paths, findings, requirements; empty where nothing changed."""
    return [
        *_verdict(before, after),
        *_paths(before, after),
        *_findings(before, after),
        *_requirements(before, after),
    ]


def difference(before: Report, after: Report, sources: tuple[str, str]) -> Difference:
    """The same with its outcome. ``sources`` name the two files."""
    found = changes(before, after)
    reasons = _reasons(before, after, sources)
    sorts: dict[str, list[ChangeView]] = {"worse": [], "not_known": [], "better": [], "changed": []}
    for change in found if not reasons else []:
        sort = {True: "better", False: "worse", None: "changed" if change.known else "not_known"}[change.better]
        sorts[sort].append(
            ChangeView(kind=change.kind, what=change.what, domain=change.domain, host=change.host, code=change.code)
        )
    if sorts["worse"]:
        state = DifferenceState.WORSE
    elif reasons or sorts["not_known"]:
        state = DifferenceState.NOT_COMPARABLE
    else:
        state = DifferenceState.NO_WORSE
    return Difference(
        kmsdiag_diff=DIFFERENCE_FORMAT,
        tool=VERSION,
        state=state,
        headline=_headline(sorts, reasons),
        old=_side(before, sources[0]),
        new=_side(after, sources[1]),
        **{sort: tuple(views) for sort, views in sorts.items()},
        reasons=reasons,
        notes=_notes(before, after),
    )


def _headline(sorts: dict[str, list[ChangeView]], reasons: tuple[str, ...]) -> str:
    if reasons:
        return "the two can't be compared."
    words = {"worse": "got worse", "not_known": "can't be told", "better": "got better", "changed": "changed otherwise"}
    parts = [f"{len(views)} {words[sort]}" for sort, views in sorts.items() if views]
    return f"{', '.join(parts)}." if parts else "nothing changed."


def _side(report: Report, source: str) -> Side:
    return Side(
        source=source,
        label=report.vantage.label,
        state=report.verdict.state,
        started=report.started,
        tool=report.tool,
    )


def _reasons(before: Report, after: Report, sources: tuple[str, str]) -> tuple[str, ...]:
    reasons = []
    if not _asked(before) & _asked(after) and (_asked(before) or _asked(after)):
        reasons.append("no domain and no host is in both")
    for report, source in zip((before, after), sources, strict=True):
        if report.verdict.state is VerdictState.UNKNOWN:
            reasons.append(f"{source} tested nothing to its end: {report.verdict.headline}")
    return tuple(reasons)


def _notes(before: Report, after: Report) -> tuple[str, ...]:
    notes = []
    if before.vantage.label != after.vantage.label:
        notes.append(
            f"seen from two places, {before.vantage.label} and {after.vantage.label}:"
            " a difference may be one of place, not of time"
        )
    if after.started < before.started:
        notes.append("the new report was made before the old one")
    for one, other, which in ((before, after, "old"), (after, before, "new")):
        only = sorted(_asked(one) - _asked(other))
        if only:
            more = f" and {len(only) - 3} more" if len(only) > 3 else ""
            notes.append(f"only in the {which} report, and not compared: {', '.join(only[:3])}{more}")
    return tuple(notes)


def _asked(report: Report) -> frozenset[str]:
    """Domains and hosts that a run was asked about; captures are asked about all that they show."""
    shown = map(_thing, report.paths) if report.captures is not None else ()
    return frozenset({*report.target.domains, *map(str, report.target.hosts), *shown})


def _verdict(before: Report, after: Report) -> Iterator[Change]:
    old, new = before.verdict.state, after.verdict.state
    if old is not new:
        told = old in _VERDICTS and new in _VERDICTS
        better = _VERDICTS[new] > _VERDICTS[old] if told else None
        yield Change(f"verdict: {old} → {new}", better, known=told or new is VerdictState.HEALTHY)


def _paths(before: Report, after: Report) -> Iterator[Change]:
    alone = _asked(before) ^ _asked(after)
    old, new = ({_key(path): path for path in report.paths if _thing(path) not in alone} for report in (before, after))
    for key in sorted(old.keys() | new.keys()):
        yield from _path_change(old.get(key), new.get(key))


def _thing(path: Path) -> str:
    """What was asked about, of which the path is a part."""
    return join_host_port(path.target, path.port) if path.domain == NOWHERE else path.domain


def _key(path: Path) -> tuple[str, str, int, tuple[str, ...]]:
    """What makes two paths the same. Ways that lead to no host are told apart by the DNS servers that say so."""
    return (*path.key, () if path.port else path.servers)


def _path_change(old: Path | None, new: Path | None) -> Iterator[Change]:
    either = new or old
    if either is None or (old is not None and new is not None and _words(old) == _words(new)):
        return
    if old is None:
        what = f"new way: {_name(either)}, {_words(either)}"
        # A way nobody could test yet may be anything.
        better, known = {PathState.OK: True, PathState.UNKNOWN: None}.get(either.state, False), True
    elif new is None:
        what, better, known = f"no longer there: {_name(old)} (before: {_words(old)})", None, True
    else:
        what = f"{_name(new)}: {_words(old)} → {_words(new)}"
        better, known = _judge(old.state, new.state)
    yield Change(
        what,
        better,
        known,
        ChangeKind.WAY,
        domain="" if either.domain == NOWHERE else either.domain,
        host=join_host_port(either.target, either.port) if either.port else "",
    )


def _judge(old: PathState, new: PathState) -> tuple[bool | None, bool]:
    """Better, and whether that can be told: the best is no worse than anything, and nothing is worse than the worst."""
    if old in _WORTH and new in _WORTH:
        return (None if _WORTH[old] == _WORTH[new] else _WORTH[new] > _WORTH[old]), True
    return None, new is PathState.OK or old is PathState.FAIL


def _name(path: Path) -> str:
    parts = (path.domain, join_host_port(path.target, path.port) if path.port else path.target)
    return " → ".join(part for part in parts if part != NOWHERE) or "no host known"


def _words(path: Path) -> str:
    """State, with the stage and the way in which it fails."""
    stages = [*path.stages, *(stage for route in path.routes for stage in route.stages)]
    if path.fails_at is None:
        return path.state.value
    failing = next((stage for stage in stages if stage.stage is path.fails_at and stage.note), None)
    return f"fails at {path.fails_at}" + (f" ({failing.note})" if failing is not None else "")


_FindingKey = tuple[str, str, str]


def _findings(before: Report, after: Report) -> Iterator[Change]:
    """Findings that came or went. Where the check did not look, nothing is known to be gone or new."""
    alone = _asked(before) ^ _asked(after)
    old, new = _grave(before, alone), _grave(after, alone)
    had, have = _results(before), _results(after)
    for key in sorted(old.keys() - new.keys()):
        result = have.get(_where(old[key][0]))
        if result is None or result.status in (Status.NOT_ASSESSED, Status.CRASHED):
            yield _finding(f"not looked at any more: {_title(old[key])}", old[key], better=None)
        else:
            yield _finding(f"gone: {_title(old[key])}", old[key], better=True)
    for key in sorted(new.keys() - old.keys()):
        result = had.get(_where(new[key][0]))
        if result is None or result.reason:
            yield _finding(f"not looked at before: {_title(new[key])}", new[key], better=None, known=False)
        elif result.status is Status.NOT_ASSESSED:
            # There was nothing to judge then, because something before it failed.
            yield _finding(f"seen now: {_title(new[key])}", new[key], better=None)
        else:
            yield _finding(f"new: {_title(new[key])}", new[key], better=False)


_Grave = tuple[ResultView, FindingView]


def _grave(report: Report, alone: frozenset[str]) -> dict[_FindingKey, _Grave]:
    """Findings that matter, by what makes two of them the same: code, subject and the values that name things."""
    return {
        (finding.code, str(result.subject), _things(finding.args)): (result, finding)
        for result in report.results
        if str(result.subject) not in alone
        for finding in result.findings
        if finding.severity.rank >= Severity.WARNING.rank and not finding.waived
    }


def _results(report: Report) -> dict[tuple[str, str], ResultView]:
    return {_where(result): result for result in report.results}


def _where(result: ResultView) -> tuple[str, str]:
    return result.check, str(result.subject)


def _title(found: _Grave) -> str:
    result, finding = found
    return f"{finding.code} ({result.subject})"


def _finding(what: str, found: _Grave, *, better: bool | None, known: bool = True) -> Change:
    result, finding = found
    subject = result.subject
    return Change(
        what,
        better,
        known,
        ChangeKind.FINDING,
        domain=subject.name if subject.kind is SubjectKind.DOMAIN else "",
        host=str(subject) if subject.kind is SubjectKind.HOST else "",
        code=finding.code,
    )


def _things(args: object) -> str:
    """The values that name things; latencies and waiting times change at every run."""
    names = ("target", "address", "host", "server", "name", "port")
    return " ".join(str(args.get(name, "")) for name in names) if isinstance(args, dict) else ""


_REQUIREMENTS = {RequirementState.FAIL: 0, RequirementState.PASS: 1}


def _requirements(before: Report, after: Report) -> Iterator[Change]:
    """Requirements of an audit that are in both."""
    old, new = (
        {(one.code, one.what): one for one in report.audit.requirements} if report.audit is not None else {}
        for report in (before, after)
    )
    for key in sorted(old.keys() & new.keys()):
        was, now = old[key].state, new[key].state
        if was is not now:
            told = was in _REQUIREMENTS and now in _REQUIREMENTS
            yield Change(
                f"{key[1]}: {was} → {now}",
                _REQUIREMENTS[now] > _REQUIREMENTS[was] if told else None,
                told or now is RequirementState.PASS or was is RequirementState.FAIL,
                ChangeKind.REQUIREMENT,
                code=key[0],
            )
