"""The report for a terminal: verdict first, at most 25 lines; then failing checks; then what was not checked."""

from collections.abc import Iterable, Sequence

from kmsdiag.model.audit import RequirementState, WaiverUse
from kmsdiag.model.finding import Severity
from kmsdiag.model.path import Cause, FixView, VerdictState
from kmsdiag.model.report import Report
from kmsdiag.report import captures, collected, layout, plan
from kmsdiag.report.lines import LABEL, Line, Piece, Writer
from kmsdiag.report.tables import Table

MOST_CAUSES = 4
MOST_FIXES = 2
MOST_ROWS = 8
MOST_NOTES = 3
MOST_IMPACT = 3
MOST_EXPLAINED = 2
MOST_EXPLANATIONS = 2
LEAST_ROWS = 3
SCREEN = 25
"""Lines that the verdict and the table of paths are meant to have at most."""


def render(report: Report, *, verbosity: int = 0, width: int = 100, unicode: bool = True) -> list[Line]:
    """The report as lines. ``verbosity`` 1 shows all findings, 2 also what each rests on."""
    writer = Writer(width)
    _verdict(writer, report)
    _what_if(writer, report)
    _audit(writer, report, verbosity)
    _changes(writer, report)
    _findings(writer, report, verbosity)
    _servers(writer, report, verbosity)
    _captures(writer, report, verbosity)
    _collected(writer, report, verbosity)
    _not_checked(writer, report, verbosity)
    writer.line()
    writer.text("", layout.counts_words(report), style="label")
    return writer.lines(unicode=unicode)


def _verdict(writer: Writer, report: Report) -> None:
    verdict = report.verdict
    symbol, word = layout.MARKS[verdict.state.value]
    writer.line(Piece(f"{symbol} {word}", verdict.state.value), Piece(f"  {verdict.headline}"))
    if report.interrupted:
        writer.text("", "Interrupted: this is what was known by then.", style="warning")
    causes = verdict.causes[:MOST_CAUSES]
    for number, cause in enumerate(causes, 1):
        writer.text("why" if number == 1 else "", _numbered(causes, number) + cause.headline)
    if len(verdict.causes) > len(causes):
        writer.text("", f"and {len(verdict.causes) - len(causes)} more (-v shows them all)")
    # Captures and files may show many faults at once; the rest of them stands with the findings.
    crowded = report.captures is not None or report.collected is not None
    explained = causes[:MOST_EXPLAINED] if crowded else causes
    # Where something is broken, mere information can wait.
    lowest = Severity.INFO if verdict.state is VerdictState.HEALTHY else Severity.WARNING
    notes = MOST_NOTES if len(explained) == len(causes) else 0
    for number, remark in enumerate(layout.remarks(report, lowest)[:notes]):
        mark, name = layout.MARKS[remark.severity]
        more = f" (and {remark.count - 1} more)" if remark.count > 1 else ""
        writer.text("note" if number == 0 else "", f"{mark} {name}: {remark.text}{more}")
    for number, cause in enumerate(explained, 1):
        writer.text("because" if number == 1 else "", _numbered(causes, number) + cause.text)
    for text in layout.explanations(report)[:MOST_EXPLANATIONS]:
        writer.text("", text)
    if verdict.state is not VerdictState.HEALTHY and len(explained) == len(causes):
        for number, words in enumerate(layout.impact_lines(report, MOST_IMPACT)):
            writer.text("clients" if number == 0 else "", words)
    _shows(writer, explained)
    _do(writer, explained)
    _paths(writer, report)


def _numbered(causes: Sequence[Cause], number: int) -> str:
    return f"[{number}] " if len(causes) > 1 else ""


def _shows(writer: Writer, causes: Sequence[Cause]) -> None:
    """What clients show, the same codes once for all causes that lead to them."""
    said: dict[str, list[int]] = {}
    for number, cause in enumerate(causes, 1):
        words = layout.client_codes(cause)
        if words:
            said.setdefault(words, []).append(number)
    for number, (words, numbers) in enumerate(said.items()):
        prefix = f"[{', '.join(map(str, numbers))}] " if len(said) > 1 else ""
        writer.text("shows" if number == 0 else "", prefix + words)


def _do(writer: Writer, causes: Sequence[Cause]) -> None:
    # The first screen has room for few steps; the rest stands with the findings.
    most = MOST_FIXES if len(causes) == 1 else 1
    first = True
    for number, cause in enumerate(causes, 1):
        for fix in cause.fixes[:most]:
            _fix(writer, "do" if first else "", _numbered(causes, number), fix)
            first = False


def _fix(writer: Writer, label: str, number: str, fix: FixView) -> None:
    writer.text(label, f"{number}{fix.text}, {fix.where}:" if fix.command else f"{number}{fix.text}")
    if fix.command:
        writer.command(fix.command)


def _paths(writer: Writer, report: Report) -> None:
    rows = layout.path_rows(report.paths)
    if not rows:
        return
    writer.line()
    crowded = report.captures is not None or report.collected is not None
    most = max(LEAST_ROWS, min(MOST_ROWS, SCREEN - writer.length - 3)) if crowded else MOST_ROWS
    shown = rows[:most]
    styles = {"ok": "", "fail": "error", "partial": "warning"}
    writer.table(
        layout.PATH_HEADERS, [row.cells for row in shown], [styles.get(row.state, "not_assessed") for row in shown]
    )
    if len(rows) > len(shown):
        more = len(rows) - len(shown)
        ways = "1 more way" if more == 1 else f"{more} more ways"
        writer.line(Piece(f"  … and {ways}; --format json lists all", "label"))


def _what_if(writer: Writer, report: Report) -> None:
    """Proposed records: shares by generation, who moves, what is lost."""
    if report.what_if is None:
        return
    writer.line()
    writer.line(Piece("what if"), Piece(f"  {plan.what_if_headline(report.what_if)}"))
    for record in report.what_if.records[:MOST_ROWS]:
        writer.line(Piece(" " * (LABEL + 2)), Piece(record, "command"))
    if len(report.what_if.records) > MOST_ROWS:
        writer.text("", f"and {len(report.what_if.records) - MOST_ROWS} more (--format json lists all)", style="label")
    for shift in report.what_if.domains:
        writer.line()
        writer.line(Piece(f"  clients of {shift.domain}", "label"))
        writer.table(plan.SHARE_HEADERS, plan.share_rows(shift))
        _labelled(writer, plan.shift_lines(shift))
    if report.what_if.effects:
        writer.line()
        _labelled(writer, [plan.effect_words(effect) for effect in report.what_if.effects])


def _labelled(writer: Writer, lines: Sequence[tuple[str, str]]) -> None:
    before = ""
    for label, text in lines:
        writer.text("" if label == before else label, text)
        before = label


def _audit(writer: Writer, report: Report, verbosity: int) -> None:
    """Requirements that are not met, and with verbosity those that are; waivers that matter."""
    if report.audit is None:
        return
    writer.line()
    writer.line(Piece("expected"), Piece(f"  {plan.requirement_counts(report)}"))
    for row in plan.requirement_rows(report):
        if row.requirement.state is RequirementState.PASS and not verbosity:
            continue
        writer.line(Piece(f"  {row.mark}", plan.STYLES[row.requirement.state]), Piece(f"  {row.what}"))
        if row.why:
            writer.text("", row.why, style="label")
    for waiver in report.audit.waivers:
        if verbosity or waiver.use is not WaiverUse.NOT_NEEDED:
            writer.text("waiver", plan.waiver_words(waiver), style="label")


def _changes(writer: Writer, report: Report) -> None:
    """What would bring reality to the expected state, each with its way back."""
    if not report.changes:
        return
    writer.line()
    writer.line(Piece("changes"), Piece("  that would bring the expected state; kmsdiag makes none of them"))
    for number, change in enumerate(report.changes, 1):
        writer.text(str(number), change.what)
        for step in change.steps:
            writer.text("", f"{step.where}:", style="label")
            for line in step.do:
                writer.command(line)
            writer.text("", "and back:", style="label")
            for line in step.undo:
                writer.command(line)


def _findings(writer: Writer, report: Report, verbosity: int) -> None:
    for result in layout.crashes(report):
        writer.line()
        text = f"{result.check} ({result.subject}) crashed, the other checks are not affected: {result.reason}"
        symbol, word = layout.MARKS["crashed"]
        writer.line(Piece(f"{symbol} {word}", "crashed"), Piece(f"  {text}"))
    lowest = (Severity.WARNING, Severity.INFO, Severity.OK)[min(verbosity, 2)] if verbosity else Severity.WARNING
    if verbosity:
        lowest = Severity.OK
    most = 1_000_000 if verbosity else 3
    for finding, result, more in layout.grouped(layout.noteworthy(report, lowest), most):
        if finding.severity is Severity.NOT_ASSESSED:
            continue
        writer.line()
        symbol, word = layout.MARKS[finding.severity.value]
        writer.line(Piece(f"{symbol} {word}", finding.severity.value), Piece(f"  {finding.text}"))
        writer.text("", f"{finding.code}  ·  {result.title}", style="label")
        if finding.consequence and finding.severity is not Severity.OK:
            writer.text("", finding.consequence)
        if finding.severity is not Severity.OK:
            for number, fix in enumerate(finding.fixes):
                _fix(writer, "do" if number == 0 else "", "", fix)
        if verbosity > 1 and finding.because:
            writer.text("from", "; ".join(finding.because), style="label")
        if more:
            writer.text("", f"and {more} more like this (-v shows them all)", style="label")


def _servers(writer: Writer, report: Report, verbosity: int) -> None:
    """Servers against records, where they differ."""
    shown = report.dns if verbosity else report.dns[:MOST_CAUSES]
    for matrix in shown:
        writer.line()
        writer.line(Piece(f"  DNS servers and records of {matrix.domain}", "label"))
        writer.table(*layout.matrix_rows(matrix))
    if len(report.dns) > len(shown):
        writer.text("", f"and {len(report.dns) - len(shown)} more domains (-v shows them all)", style="label", indent=2)


def _tables(writer: Writer, tables: Iterable[Table], verbosity: int) -> None:
    for table in tables:
        shown = table.rows if verbosity else table.rows[:MOST_ROWS]
        writer.line()
        writer.line(Piece(f"  {table.title}", "label"))
        writer.table(table.headers, shown)
        if len(table.rows) > len(shown):
            more = f"and {len(table.rows) - len(shown):,} more (-v shows them all)"
            writer.text("", more, style="label", indent=2)


def _collected(writer: Writer, report: Report, verbosity: int) -> None:
    """Tables about files that others collected: both sides of requests, products, hosts, files."""
    if report.collected is not None:
        _tables(writer, collected.tables(report.collected), verbosity)


def _captures(writer: Writer, report: Report, verbosity: int) -> None:
    """Tables about packet captures: who failed, at which host, what DNS said, where to look in Wireshark."""
    if report.captures is None:
        return
    _tables(writer, captures.tables(report.captures), verbosity)
    writer.line()
    writer.text("", "everything this rests on, in Wireshark:", style="label", indent=2)
    writer.command(report.captures.filter)
    if report.captures.examples:
        writer.text("", "one conversation, frame by frame:", style="label", indent=2)
        writer.command(f"kmsdiag analyze <captures> --show {report.captures.examples[0].number}")


def _not_checked(writer: Writer, report: Report, verbosity: int) -> None:
    missing = report.not_checked
    if not missing:
        return
    writer.line()
    most = len(missing) if verbosity else 6
    for number, gap in enumerate(missing[:most]):
        times = f" (and {gap.count - 1} more)" if gap.count > 1 else ""
        text = f"{gap.what}: {gap.why}{times}"
        if number == 0:
            writer.line(Piece("? not checked", "not_assessed"))
        writer.text("", text, style="label", indent=2)
    if len(missing) > most:
        writer.text("", f"and {len(missing) - most} more (-v shows them all)", style="label", indent=2)
