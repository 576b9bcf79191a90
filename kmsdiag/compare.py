"""What changed between two reports of the same question: the verdict, paths, and findings from warning on."""

from typing import NamedTuple

from kmsdiag.model.finding import Severity
from kmsdiag.model.path import Path, PathState
from kmsdiag.model.report import Report


class Change(NamedTuple):
    """One thing that is not as before; ``better`` is None where it is neither better nor worse."""

    what: str
    better: bool | None


_WORTH = {PathState.FAIL: 0, PathState.UNKNOWN: 1, PathState.PARTIAL: 2, PathState.OK: 3}


def changes(before: Report, after: Report) -> list[Change]:
    """Changes in the order verdict, paths, findings; empty where nothing changed."""
    found: list[Change] = []
    if before.verdict.state is not after.verdict.state:
        found.append(Change(f"verdict: {before.verdict.state} → {after.verdict.state}", None))
    old, new = ({_key(path): path for path in report.paths} for report in (before, after))
    for key in sorted(old.keys() | new.keys()):
        found.extend(_path_change(old.get(key), new.get(key)))
    old_findings, new_findings = _findings(before), _findings(after)
    found += [
        Change(f"gone: {old_findings[key]}", better=True) for key in sorted(old_findings.keys() - new_findings.keys())
    ]
    found += [
        Change(f"new: {new_findings[key]}", better=False) for key in sorted(new_findings.keys() - old_findings.keys())
    ]
    return found


def _key(path: Path) -> tuple[str, str, int, tuple[str, ...]]:
    """What makes two paths the same. Ways that lead to no host are told apart by the DNS servers that say so."""
    return (*path.key, () if path.port else path.servers)


def _path_change(old: Path | None, new: Path | None) -> list[Change]:
    if old is None and new is not None:
        return [Change(f"new way: {_name(new)}, {_words(new)}", better=new.state is PathState.OK)]
    if old is not None and new is None:
        return [Change(f"no longer there: {_name(old)}", None)]
    if old is None or new is None or _words(old) == _words(new):
        return []
    better = _WORTH[new.state] - _WORTH[old.state]
    return [Change(f"{_name(new)}: {_words(old)} → {_words(new)}", better=better > 0 if better else None)]


def _name(path: Path) -> str:
    return " → ".join(
        part for part in (path.domain, f"{path.target}:{path.port}" if path.port else path.target) if part != "–"
    )


def _words(path: Path) -> str:
    """State, with the stage and the way in which it fails."""
    stages = [*path.stages, *(stage for route in path.routes for stage in route.stages)]
    if path.fails_at is None:
        return path.state.value
    failing = next((stage for stage in stages if stage.stage is path.fails_at and stage.note), None)
    return f"fails at {path.fails_at}" + (f" ({failing.note})" if failing is not None else "")


def _findings(report: Report) -> dict[tuple[str, str, str], str]:
    """Findings that matter, by what makes two of them the same: code, subject and the values that name things."""
    return {
        (finding.code, str(result.subject), _things(finding.args)): f"{finding.code} ({result.subject})"
        for result in report.results
        for finding in result.findings
        if finding.severity.rank >= Severity.WARNING.rank
    }


def _things(args: object) -> str:
    """The values that name things; latencies and waiting times change at every run."""
    names = ("target", "address", "host", "server", "name", "port")
    return " ".join(str(args.get(name, "")) for name in names) if isinstance(args, dict) else ""
