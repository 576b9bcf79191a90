"""The merged picture for a terminal, as Markdown and as JUnit: causes first, then the places, then way by way."""

from collections.abc import Sequence

from kmsdiag.model.merged import CommonCause, Merged, Outcome, VantageView, WayView
from kmsdiag.model.outcome import Stage, State
from kmsdiag.model.path import PathState, VerdictState
from kmsdiag.model.target import join_host_port
from kmsdiag.path import NOWHERE
from kmsdiag.report import markdown as md
from kmsdiag.report.junit import Case, Problem, Run, Suite, document
from kmsdiag.report.layout import MARKS
from kmsdiag.report.lines import Line, Piece, Writer

MOST_CAUSES = 6
MOST_ROWS = 15
MOST_LABELS = 3
MOST_NOTES = 6
MOST_COLUMNS = 48
"""Characters of a cell in the table of places."""

_MARKS = {State.OK: "✔", State.FAIL: "✖", State.UNKNOWN: "?"}
_STYLES = {PathState.FAIL: "error", PathState.PARTIAL: "warning", PathState.UNKNOWN: "not_assessed"}
_PLACES = {VerdictState.BROKEN: "error", VerdictState.DEGRADED: "warning", VerdictState.UNKNOWN: "not_assessed"}
_GRAVEST = [VerdictState.BROKEN, VerdictState.UNKNOWN, VerdictState.DEGRADED, VerdictState.HEALTHY]
_WORST = [PathState.FAIL, PathState.PARTIAL, PathState.UNKNOWN, PathState.OK]

PLACE_HEADERS = ("place", "verdict", "from", "DNS server", "run (UTC)", "errors", "says")
WAY_HEADERS = ("domain", "host", "seen from", *(stage.value for stage in Stage))


def lines(merged: Merged, *, verbosity: int = 0, width: int = 100, unicode: bool = True) -> list[Line]:
    """The picture as lines. ``verbosity`` 1 and more shows all causes, places and ways."""
    writer = Writer(width)
    symbol, word = MARKS[merged.state.value]
    writer.line(Piece(f"{symbol} {word}", merged.state.value), Piece(f"  {merged.headline}"))
    _causes(writer, merged.causes, len(merged.causes) if verbosity else MOST_CAUSES)
    for number, note in enumerate(merged.notes if verbosity else merged.notes[:MOST_NOTES]):
        writer.text("note" if number == 0 else "", note)
    if not verbosity and len(merged.notes) > MOST_NOTES:
        writer.text("", f"and {len(merged.notes) - MOST_NOTES} more notes (-v shows them all)", style="label")
    most = None if verbosity else MOST_ROWS
    labels = None if verbosity else MOST_LABELS
    places = [(_PLACES.get(view.state, ""), _cut(_place_row(view))) for view in _places(merged.vantages)]
    _table(writer, PLACE_HEADERS, places, most, "places")
    ways = [(_STYLES.get(state, ""), row) for way in _ways(merged) for state, row in _way_rows(way, labels)]
    _table(writer, WAY_HEADERS, ways, most, "rows")
    return writer.lines(unicode=unicode)


def _causes(writer: Writer, causes: Sequence[CommonCause], most: int) -> None:
    for number, cause in enumerate(causes[:most], 1):
        prefix = f"[{number}] " if len(causes) > 1 else ""
        writer.text("why" if number == 1 else "", prefix + cause.headline)
        writer.text("", cause.text, style="label")
    if len(causes) > most:
        writer.text("", f"and {len(causes) - most} more (-v shows them all)", style="label")
    codes = list(dict.fromkeys(_shows(cause) for cause in causes[:most] if cause.screen is not None))
    for number, words in enumerate(codes):
        writer.text("shows" if number == 0 else "", words)
    first = True
    for number, cause in enumerate(causes[:most], 1):
        prefix = f"[{number}] " if len(causes) > 1 else ""
        for fix in cause.fixes[:2]:
            writer.text("do" if first else "", f"{prefix}{fix.text}" + (f", {fix.where}:" if fix.command else ""))
            if fix.command:
                writer.command(fix.command)
            first = False


def _shows(cause: CommonCause) -> str:
    return f"{cause.screen.code} on a client's screen ({cause.screen.basis})" if cause.screen is not None else ""


def _table(
    writer: Writer, headers: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], most: int | None, what: str
) -> None:
    if not rows:
        return
    writer.line()
    shown = rows[:most]
    writer.table(headers, [cells for _style, cells in shown], [style for style, _cells in shown])
    if len(rows) > len(shown):
        writer.line(Piece(f"  … and {len(rows) - len(shown)} more {what} (-v shows them all)", "label"))


def _places(vantages: Sequence[VantageView]) -> list[VantageView]:
    return sorted(vantages, key=lambda view: _GRAVEST.index(view.state))


def _place_row(view: VantageView) -> tuple[str, ...]:
    symbol, word = MARKS[view.state.value]
    ran = f"{view.started:%Y-%m-%d %H:%M}" if view.started is not None else ""
    says = view.problem or (view.remark if view.state is VerdictState.HEALTHY else view.headline)
    verdict = f"{symbol} NO DATA" if view.state is VerdictState.UNKNOWN else f"{symbol} {word}"
    errors = str(view.errors) if view.errors else ""
    return (view.label, verdict, ", ".join(view.addresses), ", ".join(view.servers), ran, errors, says)


def _cut(row: Sequence[str]) -> list[str]:
    """A row whose cells leave room for each other; JSON and Markdown have them whole."""
    return [cell if len(cell) <= MOST_COLUMNS else f"{cell[: MOST_COLUMNS - 1]}…" for cell in row]


def _ways(merged: Merged) -> list[WayView]:
    """Ways, those that fail somewhere first."""
    return sorted(merged.ways, key=lambda way: min(_WORST.index(one.state) for one in way.outcomes))


def _way_rows(way: WayView, labels: int | None) -> list[tuple[PathState, tuple[str, ...]]]:
    rows: list[tuple[PathState, tuple[str, ...]]] = []
    host = NOWHERE if way.target == NOWHERE else join_host_port(way.target, way.port)
    for outcome in way.outcomes:
        first = not rows
        cells = tuple(_cell(outcome, stage) for stage in Stage)
        seen = _labels(outcome.vantages, labels)
        rows.append((outcome.state, (way.domain if first else "", host if first else "", seen, *cells)))
    if way.not_known:
        places = "1 other place" if way.not_known == 1 else f"{way.not_known} other places"
        rows.append((PathState.UNKNOWN, ("", "", places, "? no data", *[""] * (len(Stage) - 1))))
    return rows


def _cell(outcome: Outcome, stage: Stage) -> str:
    """One stage; where a host has several addresses with different results, each with its address."""
    cells = [cell for cell in outcome.stages if cell.stage is stage]
    same = len({(cell.state, cell.note) for cell in cells}) == 1
    words = []
    for cell in cells[:1] if same else cells:
        at = "" if same or not cell.at else f" {cell.at}"
        words.append(" ".join(part for part in (_MARKS[cell.state], cell.note) if part) + at)
    return ", ".join(words)


def _labels(names: Sequence[str], most: int | None) -> str:
    shown = names[:most]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def markdown(merged: Merged) -> str:
    """The whole picture, ready for a ticket."""
    symbol, word = MARKS[merged.state.value]
    out = [f"# {symbol} {word}: {md.escape(merged.headline)}", ""]
    for number, cause in enumerate(merged.causes, 1):
        shows = f" Shows {md.escape(_shows(cause))}." if cause.screen is not None else ""
        out += [f"{number}. **{md.escape(cause.headline)}**  ", f"   {md.escape(cause.text)}{shows}", ""]
        for fix in cause.fixes:
            out += [f"   {md.escape(fix.text)}" + (f", {md.escape(fix.where)}:" if fix.command else "."), ""]
            if fix.command:
                out += [f"   {line}" for line in md.code(fix.command).splitlines()] + [""]
    if merged.notes:
        out += ["## Notes", "", *(f"- {md.escape(note)}" for note in merged.notes), ""]
    places = [_place_row(view) for view in _places(merged.vantages)]
    ways = [row for way in _ways(merged) for _state, row in _way_rows(way, None)]
    for title, headers, rows in (("Places", PLACE_HEADERS, places), ("Ways", WAY_HEADERS, ways)):
        if rows:
            out += [f"## {title}", "", md.table_row(headers), md.table_row(["---"] * len(headers))]
            out += [md.table_row([md.escape(cell) for cell in row]) for row in rows] + [""]
    out += [f"Merged by kmsdiag {md.escape(merged.tool)}.", ""]
    return "\n".join(out)


def junit(merged: Merged) -> str:
    """A suite of the places, one of the common causes, and one a way with a case a place."""
    starts = [view.started for view in merged.vantages if view.started is not None]
    run = Run(
        host="",
        started=max(starts, default=None),
        seconds=0.0,
        properties=(
            ("tool", f"kmsdiag {merged.tool}"),
            ("verdict", merged.state.value),
            ("headline", merged.headline),
        ),
    )
    causes = [
        Case(f"kmsdiag.common_cause.{cause.kind}", cause.name, failure=Problem(cause.kind, cause.headline, cause.text))
        for cause in merged.causes
    ]
    suites = [
        Suite("kmsdiag.places", [_place_case(view) for view in merged.vantages], merged.notes),
        Suite("kmsdiag.common_causes", causes),
        *(Suite(f"kmsdiag.way {_way_name(way)}", _way_cases(way)) for way in merged.ways),
    ]
    return document(run, suites)


def _way_name(way: WayView) -> str:
    host = "" if way.target == NOWHERE else join_host_port(way.target, way.port)
    return " → ".join(part for part in (way.domain if way.domain != NOWHERE else "", host) if part)


def _place_case(view: VantageView) -> Case:
    match view.state:
        case VerdictState.HEALTHY:
            return Case("kmsdiag.place", view.label)
        case VerdictState.UNKNOWN:
            return Case("kmsdiag.place", view.label, skipped=view.problem or view.headline)
    return Case("kmsdiag.place", view.label, failure=Problem(view.state, view.headline))


def _way_cases(way: WayView) -> list[Case]:
    cases = []
    for outcome in way.outcomes:
        words = "; ".join(
            " ".join(part for part in (cell.stage.value, cell.state.value, cell.note, cell.at) if part)
            for cell in outcome.stages
        )
        for label in outcome.vantages:
            case = Case("kmsdiag.way", label)
            if outcome.state is PathState.UNKNOWN:
                case = case._replace(skipped=words or "not tested")
            elif outcome.state is not PathState.OK:
                case = case._replace(failure=Problem(f"way.{outcome.state}", words))
            cases.append(case)
    return cases
