"""The report as Markdown, ready for a ticket."""

import re

from kmsdiag.model.finding import Severity
from kmsdiag.model.report import CaptureView, Report
from kmsdiag.report import captures, layout
from kmsdiag.report.words import visible

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&])")


def escape(text: str) -> str:
    """Text that Markdown (and the HTML inside it) shows as it is."""
    return _SPECIAL.sub(r"\\\1", visible(text)).replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def _code(text: str) -> str:
    """A fenced block that its content can't end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{visible(text)}\n{fence}"


def render(report: Report) -> str:
    """The whole report; findings of every severity but ok."""
    verdict = report.verdict
    symbol, word = layout.MARKS[verdict.state.value]
    out = [f"# {symbol} {word}: {escape(verdict.headline)}", ""]
    if report.interrupted:
        out += ["**Interrupted**: this is what was known by then.", ""]
    for number, cause in enumerate(verdict.causes, 1):
        out += [f"{number}. **{escape(cause.headline)}**  ", f"   {escape(cause.text)}"]
        codes = layout.client_codes(cause)
        if codes:
            out[-1] += f" Shows {codes}."
        out.append("")
        for fix in cause.fixes:
            out += [f"   {escape(fix.text)}, {escape(fix.where)}:", ""]
            out += [f"   {line}" for line in _code(fix.command).splitlines()] + [""]
    if verdict.impact:
        out += ["## Who is hit", "", *(f"- {escape(layout.impact_words(impact))}" for impact in verdict.impact), ""]
    rows = layout.path_rows(report.paths)
    if rows:
        used = layout.used_columns(rows)
        out += ["## Paths", "", _row([layout.PATH_HEADERS[column] for column in used]), _row(["---"] * len(used))]
        out += [_row([escape(row.cells[column]) for column in used]) for row in rows] + [""]
    out += _findings(report)
    for matrix in report.dns:
        headers, cells = layout.matrix_rows(matrix)
        out += [f"## DNS servers and records of {escape(matrix.domain)}", ""]
        out += [_row([escape(one) for one in headers]), _row(["---"] * len(headers))]
        out += [_row([escape(one) for one in row]) for row in cells] + [""]
    if report.captures is not None:
        out += _captures(report.captures)
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


def _captures(view: CaptureView) -> list[str]:
    out: list[str] = []
    for table in captures.tables(view):
        out += [f"## {table.title}", "", _row(table.headers), _row(["---"] * len(table.headers))]
        out += [_row([escape(cell) for cell in row]) for row in table.rows] + [""]
    return [*out, "Everything this rests on, in Wireshark:", "", *_code(view.filter).splitlines(), ""]


def _row(cells: "list[str] | tuple[str, ...]") -> str:
    return "| " + " | ".join(cells) + " |"
