"""The report for a terminal: verdict first, at most 25 lines; then failing checks; then what was not checked.

Lines are made of styled pieces, so that colour is somebody else's business and the text is the same without.
"""

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kmsdiag.model.finding import Severity
from kmsdiag.model.path import Cause, FixView, VerdictState
from kmsdiag.model.report import Report
from kmsdiag.report import captures, layout
from kmsdiag.report.words import visible

LABEL = 9
"""Width of the column of labels."""

MOST_CAUSES = 4
MOST_FIXES = 2
MOST_ROWS = 8
MOST_NOTES = 3
MOST_IMPACT = 3
MOST_EXPLAINED = 2
LEAST_ROWS = 3
SCREEN = 25
"""Lines that the verdict and the table of paths are meant to have at most."""

_ASCII = str.maketrans(
    {"✔": "+", "✖": "x", "▲": "!", "‼": "!", "–": "-", "→": ">", "…": "...", "─": "-", "└": "`", "·": "-", "±": "+-"}
)


class Piece(NamedTuple):
    """Text and the name of its style: "" or one of the names in :data:`STYLES`."""

    text: str
    style: str = ""


Line = tuple[Piece, ...]

STYLES = {
    "ok": "green",
    "healthy": "bold green",
    "info": "cyan",
    "not_assessed": "dim",
    "unknown": "bold",
    "warning": "yellow",
    "degraded": "bold yellow",
    "error": "red",
    "broken": "bold red",
    "crashed": "bold magenta",
    "label": "dim",
    "command": "bold",
}
"""Style names and what rich makes of them."""


def plain(lines: Iterable[Line]) -> str:
    """The text without styles."""
    return "".join("".join(piece.text for piece in line) + "\n" for line in lines)


def render(report: Report, *, verbosity: int = 0, width: int = 100, unicode: bool = True) -> list[Line]:
    """The report as lines. ``verbosity`` 1 shows all findings, 2 also what each rests on."""
    writer = _Writer(width)
    _verdict(writer, report)
    _findings(writer, report, verbosity)
    _servers(writer, report, verbosity)
    _captures(writer, report, verbosity)
    _not_checked(writer, report, verbosity)
    writer.line()
    writer.text("", layout.counts_words(report), style="label")
    lines = [tuple(Piece(visible(piece.text), piece.style) for piece in line) for line in writer.lines]
    if unicode:
        return lines
    return [
        tuple(Piece(piece.text.translate(_ASCII).encode("ascii", "replace").decode(), piece.style) for piece in line)
        for line in lines
    ]


class _Writer:
    """Collects lines with a column of labels; long text is wrapped, commands are not."""

    def __init__(self, width: int) -> None:
        self.lines: list[Line] = []
        self._width = max(60, width)

    def line(self, *pieces: Piece) -> None:
        self.lines.append(pieces)

    def text(self, label: str, text: str, *, style: str = "", indent: int = LABEL) -> None:
        wrapped = textwrap.wrap(text, self._width - indent - 2, break_long_words=False, break_on_hyphens=False)
        for number, part in enumerate(wrapped or [""]):
            head = f"  {label}" if number == 0 and label else ""
            self.line(Piece(head.ljust(indent + 2), "label"), Piece(part, style))

    def command(self, command: str) -> None:
        self.line(Piece(" " * (LABEL + 6)), Piece(command, "command"))


def _verdict(writer: _Writer, report: Report) -> None:
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
    # Captures may show many faults at once; the rest of them stands with the findings.
    explained = causes if report.captures is None else causes[:MOST_EXPLAINED]
    # Where something is broken, mere information can wait.
    lowest = Severity.INFO if verdict.state is VerdictState.HEALTHY else Severity.WARNING
    notes = MOST_NOTES if len(explained) == len(causes) else 0
    for number, remark in enumerate(layout.remarks(report, lowest)[:notes]):
        mark, name = layout.MARKS[remark.severity]
        more = f" (and {remark.count - 1} more)" if remark.count > 1 else ""
        writer.text("note" if number == 0 else "", f"{mark} {name}: {remark.text}{more}")
    for number, cause in enumerate(explained, 1):
        writer.text("because" if number == 1 else "", _numbered(causes, number) + cause.text)
    if verdict.state is not VerdictState.HEALTHY and len(explained) == len(causes):
        for number, words in enumerate(layout.impact_lines(report, MOST_IMPACT)):
            writer.text("clients" if number == 0 else "", words)
    _shows(writer, explained)
    _do(writer, explained)
    _paths(writer, report)


def _numbered(causes: Sequence[Cause], number: int) -> str:
    return f"[{number}] " if len(causes) > 1 else ""


def _shows(writer: _Writer, causes: Sequence[Cause]) -> None:
    """What clients show, the same codes once for all causes that lead to them."""
    said: dict[str, list[int]] = {}
    for number, cause in enumerate(causes, 1):
        words = layout.client_codes(cause)
        if words:
            said.setdefault(words, []).append(number)
    for number, (words, numbers) in enumerate(said.items()):
        prefix = f"[{', '.join(map(str, numbers))}] " if len(said) > 1 else ""
        writer.text("shows" if number == 0 else "", prefix + words)


def _do(writer: _Writer, causes: Sequence[Cause]) -> None:
    # The first screen has room for few steps; the rest stands with the findings.
    most = MOST_FIXES if len(causes) == 1 else 1
    first = True
    for number, cause in enumerate(causes, 1):
        for fix in cause.fixes[:most]:
            _fix(writer, "do" if first else "", _numbered(causes, number), fix)
            first = False


def _fix(writer: _Writer, label: str, number: str, fix: FixView) -> None:
    writer.text(label, f"{number}{fix.text}, {fix.where}:" if fix.command else f"{number}{fix.text}")
    if fix.command:
        writer.command(fix.command)


def _paths(writer: _Writer, report: Report) -> None:
    from tabulate import tabulate

    rows = layout.path_rows(report.paths)
    if not rows:
        return
    writer.line()
    most = MOST_ROWS if report.captures is None else max(LEAST_ROWS, min(MOST_ROWS, SCREEN - len(writer.lines) - 3))
    shown = rows[:most]
    cells = [[visible(cell) for cell in row.cells] for row in shown]
    used = layout.used_columns(shown)
    table = tabulate(
        [[row[column] for column in used] for row in cells],
        headers=[layout.PATH_HEADERS[column] for column in used],
        tablefmt="simple",
        disable_numparse=True,
    ).splitlines()
    for number, text in enumerate(table):
        style = (
            "label"
            if number < 2
            else {"ok": "", "fail": "error", "partial": "warning"}.get(shown[number - 2].state.value, "not_assessed")
        )
        writer.line(Piece("  "), Piece(text.rstrip(), style))
    if len(rows) > len(shown):
        writer.line(Piece(f"  … and {len(rows) - len(shown)} more ways; --format json lists all", "label"))


def _findings(writer: _Writer, report: Report, verbosity: int) -> None:
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


def _servers(writer: _Writer, report: Report, verbosity: int) -> None:
    """Servers against records, where they differ."""
    from tabulate import tabulate

    shown = report.dns if verbosity else report.dns[:MOST_CAUSES]
    for matrix in shown:
        writer.line()
        writer.line(Piece(f"  DNS servers and records of {matrix.domain}", "label"))
        headers, rows = layout.matrix_rows(matrix)
        table = tabulate([[visible(cell) for cell in row] for row in rows], headers=headers, disable_numparse=True)
        for text in table.splitlines():
            writer.line(Piece("  "), Piece(text.rstrip()))
    if len(report.dns) > len(shown):
        writer.text("", f"and {len(report.dns) - len(shown)} more domains (-v shows them all)", style="label", indent=2)


def _captures(writer: _Writer, report: Report, verbosity: int) -> None:
    """Tables about packet captures: who failed, at which host, what DNS said, where to look in Wireshark."""
    from tabulate import tabulate

    if report.captures is None:
        return
    for table in captures.tables(report.captures):
        shown = table.rows if verbosity else table.rows[:MOST_ROWS]
        cells = [[visible(cell) for cell in row] for row in shown]
        used = [column for column in range(len(table.headers)) if any(row[column] for row in cells)]
        writer.line()
        writer.line(Piece(f"  {table.title}", "label"))
        headers = [table.headers[column] for column in used]
        text = tabulate([[row[column] for column in used] for row in cells], headers=headers, disable_numparse=True)
        for line in text.splitlines():
            writer.line(Piece("  "), Piece(line.rstrip()))
        if len(table.rows) > len(shown):
            more = f"and {len(table.rows) - len(shown):,} more (-v shows them all)"
            writer.text("", more, style="label", indent=2)
    writer.line()
    writer.text("", "everything this rests on, in Wireshark:", style="label", indent=2)
    writer.command(visible(report.captures.filter))
    if report.captures.examples:
        writer.text("", "one conversation, frame by frame:", style="label", indent=2)
        writer.command(f"kmsdiag analyze <captures> --show {report.captures.examples[0].number}")


def _not_checked(writer: _Writer, report: Report, verbosity: int) -> None:
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
