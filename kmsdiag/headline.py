"""The one sentence of a verdict: what was asked from here, what captures show, what clients and hosts report."""

from collections import Counter
from collections.abc import Sequence

from kmsdiag import captured
from kmsdiag.bundle import Bundle
from kmsdiag.model.finding import Severity
from kmsdiag.model.outcome import Stage, State
from kmsdiag.model.path import Basis, Cause, PathState, Remark, VerdictState
from kmsdiag.model.report import CaptureView, CollectedView
from kmsdiag.path import Diagnosis


def shorten(names: Sequence[str], most: int = 3) -> str:
    """A list for a sentence: the first few names, and how many more."""
    listed = ", ".join(names[:most])
    return f"{listed} and {len(names) - most} more" if len(names) > most else listed


def headline(
    diagnosis: Diagnosis,
    causes: Sequence[Cause],
    remarks: Sequence[Remark],
    bundle: Bundle,
    captures: CaptureView | None,
    files: CollectedView | None,
) -> str:
    """One sentence about what was asked from here, what captures show, what clients and hosts report, or all of it."""
    parts = []
    live = ""
    if bundle.target.domains or bundle.target.hosts or bundle.target.machine or (captures is None and files is None):
        live = _live(diagnosis, causes, remarks, bundle).removesuffix(".")
        parts.append(live)
    if captures is not None:
        parts.append(f"{'in the captures ' if parts else ''}{_captures(captures, diagnosis)}")
    if files is not None:
        parts.append(f"{'by their own account ' if parts else ''}{_files(files)}")
    whole = "; ".join(parts)
    return f"{whole}." if live else f"{whole[0].upper()}{whole[1:]}."


def _files(files: CollectedView) -> str:
    """How the machines of the collected files stand."""
    tried = files.activated + files.failed
    more = f" ({files.not_known:,} more: not known)" if files.not_known and tried else ""
    if files.failed and files.failed == files.renewing:
        whole = "the only client" if tried == 1 else f"{files.failed:,} of {tried:,} clients"
        return f"{whole} could not renew, and {'is' if files.failed == 1 else 'are'} activated still{more}"
    if files.failed:
        if files.partly:
            more = f" ({files.partly:,} with another product that is){more}"
        if files.renewing:
            still = "is" if files.renewing == 1 else "are"
            more = f" ({files.renewing:,} more could not renew, and {still} activated still){more}"
        if tried == 1:
            return f"the only client is not activated{more}"
        lapsed = files.failed - files.renewing
        if lapsed == tried:
            return f"none of {tried:,} clients is activated{more}"
        return f"{lapsed:,} of {tried:,} clients {'is' if lapsed == 1 else 'are'} not activated{more}"
    if files.activated:
        return ("the only client is activated" if tried == 1 else f"all {tried:,} clients are activated") + more
    if files.not_known:
        return f"of {captured.count(files.not_known, 'client')} nothing tells whether it activates"
    hosts = len({row.machine for row in files.hosts})
    return f"{captured.count(hosts, 'KMS host')} and no client" if hosts else "no machine that activates by KMS is seen"


def _captures(captures: CaptureView, diagnosis: Diagnosis) -> str:
    """Who activated and who did not, and at which stages they failed."""
    tried, unsure = captures.activated + captures.failed, captures.not_known
    if captures.source != "packets":
        return _logs(captures)
    more = f" ({unsure:,} more: not known)" if unsure and tried else ""
    if captures.failed:
        where = _where(captures)
        whole = "the only client" if tried == 1 else f"all {tried:,} clients" if not captures.activated else ""
        if whole:
            return f"{whole} failed to activate, {where}{more}"
        return f"{captures.failed:,} of {tried:,} clients could not activate, {where}{more}"
    if captures.activated:
        hosts = sum(path.state in (PathState.OK, PathState.PARTIAL) and bool(path.clients) for path in diagnosis.paths)
        whole = "the only client was" if tried == 1 else f"all {tried:,} clients were"
        delayed = sum(round(one.delayed * one.clients) for one in diagnosis.impact if one.basis is Basis.OBSERVED)
        late = f", {delayed:,} of them after an attempt that failed" if delayed else ""
        return f"{whole} answered with success by {captured.count(hosts, 'KMS host')}{late}{more}"
    if captures.conversations:
        return "no attempt to activate is seen to its end"
    return "no attempt to activate is seen"


def _where(captures: CaptureView) -> str:
    """At which stages clients failed."""
    stages = Counter(row.stage for row in captures.clients if row.state is State.FAIL and row.stage is not None)
    if len(stages) == 1:
        return f"at {next(iter(stages))}"
    return ", ".join(f"{stages[stage]:,} at {stage}" for stage in Stage if stage in stages)


def _logs(captures: CaptureView) -> str:
    """The same from logs of another program, which show failures and never a success."""
    every = captures.activated + captures.failed + captures.not_known
    if captures.failed:
        rest = every - captures.failed
        others = f" (how it ended for the other {rest:,} is not in the logs)" if rest else ""
        return (
            f"{captures.failed:,} of {captured.count(every, 'client')} could not activate, {_where(captures)}{others}"
        )
    if captures.conversations:
        return "the logs hold no failure, and can't show a success"
    return "no attempt to activate is in the logs"


def _live(diagnosis: Diagnosis, causes: Sequence[Cause], remarks: Sequence[Remark], bundle: Bundle) -> str:
    paths = diagnosis.paths
    scope = shorten([*bundle.target.domains, *map(str, bundle.target.hosts)])
    states = Counter(path.state for path in paths)
    works = states[PathState.OK] + states[PathState.PARTIAL]
    untested = f"; {states[PathState.UNKNOWN]} could not be tested" if states[PathState.UNKNOWN] else ""
    match diagnosis.state:
        case VerdictState.HEALTHY:
            hosts = {(path.target, path.port) for path in paths if path.state is PathState.OK}
            count = f"{len(hosts)} KMS host{'s' if len(hosts) > 1 else ''}"
            beside = sum(remark.count for remark in remarks if remark.severity == Severity.ERROR)
            errors = f", but {beside} error{'s' if beside > 1 else ''} beside the way" if beside else ""
            return f"{scope}: {count}, found, reached and answering as KMS{errors}{untested}."
        case VerdictState.DEGRADED:
            faults = "1 fault" if len(causes) == 1 else f"{len(causes)} faults"
            verb = "works" if works == 1 else "work"
            return f"{scope}: {works} of {len(paths)} ways to a KMS host {verb}, {faults}{untested}."
        case VerdictState.BROKEN:
            return f"{scope}: no way to a KMS host works from here{untested}."
    tested = "nothing was tested" if not paths else "no way to a KMS host was tested to its end"
    return f"{scope}: {tested}." if scope else f"{tested[0].upper()}{tested[1:]}."
