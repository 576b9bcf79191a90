"""What text and Markdown have in common: which findings to show, in which order, grouped when they are many."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kmsdiag.captured import span
from kmsdiag.model.finding import Severity, Status
from kmsdiag.model.outcome import Stage, State
from kmsdiag.model.path import Basis, Cause, Impact, Path, PathState, Remark
from kmsdiag.model.report import Cell, DnsMatrix, FindingView, Report, ResultView
from kmsdiag.path import NOWHERE
from kmsdiag.report.words import visible

MARKS = {
    "ok": ("✔", "ok"),
    "not_assessed": ("?", "not assessed"),
    "info": ("i", "info"),
    "warning": ("▲", "warning"),
    "error": ("✖", "error"),
    "crashed": ("‼", "crashed"),
    "healthy": ("✔", "HEALTHY"),
    "degraded": ("▲", "DEGRADED"),
    "broken": ("✖", "BROKEN"),
    "unknown": ("?", "UNKNOWN"),
}
"""Symbol and word for each status and verdict: never colour, never a symbol alone."""


class Shown(NamedTuple):
    """A finding to show, with the result it belongs to and how many like it were left out."""

    finding: FindingView
    result: ResultView
    more: int


def noteworthy(report: Report, at_least: Severity) -> list[tuple[FindingView, ResultView]]:
    """Findings from a severity on, gravest first; what follows from a failing stage, or is waived, is left out."""
    pairs = [
        (finding, result)
        for result in report.results
        for finding in result.findings
        if finding.severity.rank >= at_least.rank and not finding.behind and not finding.waived
    ]
    return sorted(pairs, key=lambda pair: -pair[0].severity.rank)


def remarks(report: Report, at_least: Severity) -> list[Remark]:
    """Remarks of the verdict from a severity on."""
    return [remark for remark in report.verdict.remarks if Severity(remark.severity).rank >= at_least.rank]


def explanations(report: Report) -> list[str]:
    """What mere information says about the questions on which paths fail: where the way to a silent host ends."""
    stages = [
        stage
        for path in report.paths
        for stage in (*path.stages, *(one for route in path.routes for one in route.stages))
    ]
    failing = {question for stage in stages if stage.state is State.FAIL for question in stage.questions}
    found = (
        f"{finding.text} {finding.consequence}".rstrip()
        for finding, _result in noteworthy(report, Severity.INFO)
        if finding.severity is Severity.INFO and not failing.isdisjoint(finding.because)
    )
    return list(dict.fromkeys(found))


def grouped(pairs: Iterable[tuple[FindingView, ResultView]], most: int) -> list[Shown]:
    """At most ``most`` findings of each code; the last one shown says how many more there are."""
    by_code: dict[str, list[tuple[FindingView, ResultView]]] = {}
    for pair in pairs:
        by_code.setdefault(pair[0].code, []).append(pair)
    shown = []
    for same in by_code.values():
        for number, (finding, result) in enumerate(same[:most]):
            more = len(same) - most if number == most - 1 and len(same) > most else 0
            shown.append(Shown(finding, result, more))
    return shown


def crashes(report: Report) -> list[ResultView]:
    """Checks that crashed, each once with its first subject."""
    seen: dict[tuple[str, str], ResultView] = {}
    for result in report.results:
        if result.status is Status.CRASHED:
            seen.setdefault((result.check, result.reason), result)
    return list(seen.values())


class Row(NamedTuple):
    """One line of the table of paths; ``state`` is for colour."""

    state: PathState
    cells: tuple[str, ...]


def path_rows(paths: Sequence[Path]) -> list[Row]:
    """Paths as rows: domain, SRV rank, host, address, and what each stage said. Failing ones first."""
    rank = {PathState.FAIL: 0, PathState.PARTIAL: 1, PathState.UNKNOWN: 2, PathState.OK: 3}
    rows = []
    for path in sorted(paths, key=lambda path: rank[path.state]):
        stages = {stage.stage: stage for stage in path.stages}
        ranks = ", ".join(f"{priority}/{weight}" for priority, weight in path.ranks)
        host = NOWHERE if path.target == NOWHERE else f"{path.target}:{path.port}"
        dns = stages.get(Stage.NAME) or stages.get(Stage.SRV)
        before = _cell(dns.state, dns.note or "ok", dns.elapsed_ms) if dns is not None else ""
        state_of_host = stages.get(Stage.HOST)
        own = _cell(state_of_host.state, state_of_host.note or "not known", None) if state_of_host is not None else ""
        if not path.routes:
            empty = [""] * len(_ROUTE_STAGES)
            rows.append(Row(path.state, (path.domain, ranks, host, "", before, *empty, own, _clients(path))))
        for number, route in enumerate(path.routes):
            found = {stage.stage: stage for stage in route.stages}
            cells = [
                _cell(stage.state, stage.note or "open", stage.elapsed_ms) if (stage := found.get(kind)) else ""
                for kind in _ROUTE_STAGES
            ]
            state = {State.OK: PathState.OK, State.FAIL: PathState.FAIL}.get(route.state, PathState.UNKNOWN)
            if len(path.routes) == 1 and path.clients and state is PathState.FAIL:
                state = path.state
            ends = (own, _clients(path)) if number == 0 else ("", "")
            rows.append(Row(state, (path.domain, ranks, host, route.address, before, *cells, *ends)))
    return rows


def _clients(path: Path) -> str:
    """How many of a path's captured clients ended well, and how many did not."""
    counts = {state: sum(group.count for group in path.clients if group.state is state) for state in State}
    words = {State.OK: "ok", State.FAIL: "failed", State.UNKNOWN: "not known"}
    return ", ".join(f"{number:,} {words[state]}" for state, number in counts.items() if number)


def used_columns(rows: Sequence[Sequence[str]]) -> list[int]:
    """Columns of a table that hold anything."""
    return [column for column, cells in enumerate(zip(*rows, strict=True)) if any(cells)]


def _cell(state: State, note: str, elapsed_ms: float | None) -> str:
    mark = {State.OK: "✔", State.FAIL: "✖", State.UNKNOWN: "?"}[state]
    if state is State.UNKNOWN and note in ("ok", "open"):
        note = "not tested"
    timing = ""
    if state is State.OK and elapsed_ms is not None:
        timing = " <0.1 ms" if elapsed_ms < 0.1 else f" {elapsed_ms:.1f} ms"
    return f"{mark} {note}{timing}"


_ROUTE_STAGES = (Stage.TCP, Stage.RPC, Stage.REQUEST, Stage.ANSWER, Stage.CLOCK)
PATH_HEADERS = (
    "domain",
    "rank",
    "host",
    "address",
    "dns",
    *(stage.value for stage in _ROUTE_STAGES),
    "host state",
    "clients",
)


MOST_COLUMNS = 4
"""Records that a matrix shows at most; JSON has them all."""

_CELLS = {Cell.PRESENT: "✔", Cell.OTHER_RANK: "▲ other rank", Cell.ABSENT: "✖ absent", Cell.NOT_KNOWN: "? not known"}


def matrix_rows(matrix: DnsMatrix) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of a matrix of servers and records: the columns in which servers differ, and not too many."""
    differing = [
        column
        for column in range(len(matrix.records))
        if any(row.cells[column] not in (Cell.PRESENT, Cell.NOT_KNOWN) for row in matrix.rows)
    ]
    columns = (differing or list(range(len(matrix.records))))[:MOST_COLUMNS]
    headers = ["server", "role", "serial", *(matrix.records[column] for column in columns), "note"]
    rows = [
        [
            row.server,
            row.role,
            "" if row.serial is None else str(row.serial),
            *(_CELLS[row.cells[column]] for column in columns),
            row.note,
        ]
        for row in matrix.rows
    ]
    return headers, rows


def client_codes(cause: Cause) -> str:
    """What a client shows for a cause, and how sure that is; "" where nothing is known."""
    screen, event = cause.screen, cause.event
    if screen is not None and event is not None and screen.basis is event.basis:
        return f"{screen.code} on a client's screen, {event.code} in its event 12288 ({screen.basis})"
    codes = [f"{screen.code} on a client's screen ({screen.basis})"] if screen else []
    codes += [f"{event.code} in its event 12288 ({event.basis})"] if event else []
    return ", ".join(codes)


def summary(report: Report) -> str:
    """The verdict in one line: its first cause, else its gravest remark, else its headline."""
    verdict = report.verdict
    if verdict.causes:
        more = len(verdict.causes) - 1
        return visible(verdict.causes[0].headline) + (f" (and {more} more)" if more else "")
    grave = [remark for remark in verdict.remarks if remark.severity != Severity.INFO] or verdict.remarks
    return visible(grave[0].text if grave else verdict.headline)


def impact_lines(report: Report, most: int) -> list[str]:
    """Who is hit: a line a domain where it is simulated, then one for the captures, unless the headline says it all."""
    impact = report.verdict.impact
    lines = [impact_words(one) for one in impact if one.basis is not Basis.OBSERVED][:most]
    seen = [one for one in impact if one.basis is Basis.OBSERVED]
    if len(seen) > 1 or any(one.delayed for one in seen):
        more = f"; and {len(seen) - most} more" if len(seen) > most else ""
        lines.append("; ".join(map(_observed_words, seen[:most])) + f"{more} ({Basis.OBSERVED})")
    return lines


def impact_words(impact: Impact) -> str:
    """Who is hit in one domain, in words."""
    if impact.basis is Basis.OBSERVED:
        return f"{_observed_words(impact)} ({impact.basis})"
    if impact.fails == 1:
        return f"{impact.domain}: every client that looks for a host here fails ({impact.basis})"
    if impact.first_pick_dead == 0 and impact.first_pick_dead_random is None:
        return f"{impact.domain}: no client is hit ({impact.basis})"
    words = (
        f"{impact.domain}: first pick dead for {impact.first_pick_dead:.0%}, "
        f"delayed until they fall back {impact.delayed:.0%}, fails {impact.fails:.0%} ({impact.basis})"
    )
    if impact.first_pick_dead_random is not None:
        words += (
            f"; where rank is ignored (Vista, Server 2008): first pick dead for {impact.first_pick_dead_random:.0%}"
        )
    return words


def _observed_words(impact: Impact) -> str:
    failed, late = round(impact.fails * impact.clients), round(impact.delayed * impact.clients)
    again = f", {late:,} activated on trying again" if late else ""
    return f"{impact.domain}: {failed:,} of {_count(impact.clients, 'client')} failed{again}"


def counts_words(report: Report) -> str:
    """What the run did, in one line."""
    counts = report.counts
    statuses: dict[str, int] = {}
    for result in report.results:
        statuses[MARKS[result.status.value][1]] = statuses.get(MARKS[result.status.value][1], 0) + 1
    verdicts = ", ".join(f"{number} {word}" for word, number in statuses.items())
    if report.captures is not None:
        recorded = report.captures.source == "packets"
        files = _count(len(report.captures.files), "capture file" if recorded else "log")
        verdicts += f"; {_count(counts.packets, 'packet' if recorded else 'line')} of {files}"
    if report.collected is not None:
        read = [f"{_count(counts.files, 'file')} about machines"] if counts.files else []
        if report.collected.logs:
            read.append(f"{_count(counts.events, 'event')} of {_count(len(report.collected.logs), 'log')}")
        verdicts += f"; {', '.join(read)}"
    sent = counts.dns_messages or counts.tcp_connections
    if report.collected is not None and not sent:
        return f"{_count(len(report.results), 'result')} ({verdicts}); nothing was sent"
    if report.captures is not None and counts.questions == 1:
        return (
            f"{_count(len(report.results), 'result')} ({verdicts}); nothing was sent; {span(counts.seconds)} of traffic"
        )
    return (
        f"{_count(len(report.results), 'result')} ({verdicts}) from {_count(counts.questions, 'question')}:"
        f" {_count(counts.dns_messages, 'DNS message')}, {_count(counts.tcp_connections, 'TCP connection')},"
        f" {_count(counts.rpc_binds, 'RPC bind')}, no activation request; {counts.seconds:.2f} s"
    )


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")
