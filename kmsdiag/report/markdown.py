"""The report as Markdown, ready for a ticket."""

import re
from collections.abc import Iterable, Sequence

from kmsdiag.model.finding import Severity
from kmsdiag.model.path import Cause
from kmsdiag.model.report import Report
from kmsdiag.report import captures, collected, layout, plan
from kmsdiag.report.tables import Table
from kmsdiag.report.words import visible

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&])")


def escape(text: str) -> str:
    """Text that Markdown (and the HTML inside it) shows as it is."""
    return _SPECIAL.sub(r"\\\1", visible(text)).replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def code(*lines: str) -> str:
    """A fenced block that its content can't end."""
    longest = max((len(run) for line in lines for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join((fence, *map(visible, lines), fence))


def render(report: Report) -> str:
    """The whole report; findings of every severity but ok."""
    verdict = report.verdict
    symbol, word = layout.MARKS[verdict.state.value]
    out = [f"# {symbol} {word}: {escape(verdict.headline)}", ""]
    if report.interrupted:
        out += ["**Interrupted**: this is what was known by then.", ""]
    for number, cause in enumerate(verdict.causes, 1):
        out += _cause(number, cause)
    if verdict.impact:
        out += ["## Who is hit", "", *(f"- {escape(layout.impact_words(impact))}" for impact in verdict.impact), ""]
    rows = layout.path_rows(report.paths)
    if rows:
        used = layout.used_columns([row.cells for row in rows])
        out += [
            "## Paths",
            "",
            table_row([layout.PATH_HEADERS[column] for column in used]),
            table_row(["---"] * len(used)),
        ]
        out += [table_row([escape(row.cells[column]) for column in used]) for row in rows] + [""]
    out += [*_what_if(report), *_audit(report), *_changes(report), *_findings(report)]
    for matrix in report.dns:
        headers, cells = layout.matrix_rows(matrix)
        out += [f"## DNS servers and records of {escape(matrix.domain)}", ""]
        out += [table_row([escape(one) for one in headers]), table_row(["---"] * len(headers))]
        out += [table_row([escape(one) for one in row]) for row in cells] + [""]
    if report.captures is not None:
        out += _tables(captures.tables(report.captures))
        out += ["Everything this rests on, in Wireshark:", "", code(report.captures.filter), ""]
    if report.collected is not None:
        out += _tables(collected.tables(report.collected))
    if report.not_checked:
        out += ["## Not checked", ""]
        for gap in report.not_checked:
            times = f" (and {gap.count - 1} more)" if gap.count > 1 else ""
            out.append(f"- {escape(gap.what)}: {escape(gap.why)}{times}")
        out.append("")
    vantage = report.vantage
    where = ", ".join([vantage.label, *vantage.addresses])
    out += [
        f"{escape(layout.counts_words(report))}.",
        f"From {escape(where)} at {report.started:%Y-%m-%d %H:%M:%S} UTC, kmsdiag {escape(report.tool)}.",
        "",
    ]
    return "\n".join(out)


def _cause(number: int, cause: Cause) -> list[str]:
    out = [f"{number}. **{escape(cause.headline)}**  ", f"   {escape(cause.text)}"]
    codes = layout.client_codes(cause)
    if codes:
        out[-1] += f" Shows {codes}."
    out.append("")
    for fix in cause.fixes:
        out += [f"   {escape(fix.text)}" + (f", {escape(fix.where)}:" if fix.command else ""), ""]
        if fix.command:
            out += [f"   {line}" for line in code(fix.command).splitlines()] + [""]
    return out


def _findings(report: Report) -> list[str]:
    out: list[str] = []
    crashed = layout.crashes(report)
    shown = [pair for pair in layout.noteworthy(report, Severity.INFO) if pair[0].severity is not Severity.NOT_ASSESSED]
    if shown or crashed:
        out += ["## Findings", ""]
        out += [f"- **crashed** {escape(result.check)}: {escape(result.reason)}" for result in crashed]
        for finding, result in shown:
            mark = layout.MARKS[finding.severity.value][1]
            consequence = f" {escape(finding.consequence)}" if finding.consequence else ""
            out.append(
                f"- **{mark}** `{finding.code}` ({escape(str(result.subject))}): {escape(finding.text)}{consequence}"
            )
        out.append("")
    return out


def _tables(tables: Iterable[Table]) -> list[str]:
    out: list[str] = []
    for table in tables:
        out += [f"## {table.title}", "", table_row(table.headers), table_row(["---"] * len(table.headers))]
        out += [table_row([escape(cell) for cell in row]) for row in table.rows] + [""]
    return out


def _what_if(report: Report) -> list[str]:
    """Proposed records: shares by generation, who moves, what is lost."""
    if report.what_if is None:
        return []
    out = ["## What if", "", f"{escape(plan.what_if_headline(report.what_if))}:", ""]
    out += [code(*report.what_if.records), ""]
    for shift in report.what_if.domains:
        out += [f"## Clients of {escape(shift.domain)}", ""]
        rows = plan.share_rows(shift)
        used = layout.used_columns(rows)
        if rows:
            out += [table_row([plan.SHARE_HEADERS[column] for column in used]), table_row(["---"] * len(used))]
            out += [table_row([escape(row[column]) for column in used]) for row in rows] + [""]
        out += [f"- {label}: {escape(text)}" for label, text in plan.shift_lines(shift)] + [""]
    effects = [plan.effect_words(effect) for effect in report.what_if.effects]
    if effects:
        out += ["## What changes", "", *(f"- **{word}**: {escape(what)}" for word, what in effects), ""]
    return out


def _audit(report: Report) -> list[str]:
    """Every requirement with its state; waivers."""
    if report.audit is None:
        return []
    out = ["## Expected state", "", f"{plan.requirement_counts(report)}.", ""]
    rows = plan.requirement_rows(report)
    if rows:
        out += [table_row(("state", "requirement", "why")), table_row(["---"] * 3)]
        out += [table_row((escape(row.mark), escape(row.what), escape(row.why))) for row in rows] + [""]
    if report.audit.waivers:
        out += [f"- {escape(plan.waiver_words(waiver))}" for waiver in report.audit.waivers] + [""]
    return out


def _changes(report: Report) -> list[str]:
    """Commands with their way back, for a change request."""
    if not report.changes:
        return []
    out = ["## Changes", "", "They would bring the expected state; kmsdiag makes none of them.", ""]
    for number, change in enumerate(report.changes, 1):
        out += [f"**{number}. {escape(change.what)}**", ""]
        for step in change.steps:
            for words, lines in (("", step.do), ("and back, ", step.undo)):
                out += [f"{words}{escape(step.where)}:", "", code(*lines), ""]
    return out


def table_row(cells: Sequence[str]) -> str:
    """A row of a table; the cells are escaped already."""
    return "| " + " | ".join(cells) + " |"
