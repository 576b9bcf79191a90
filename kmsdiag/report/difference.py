"""Two reports side by side, for a terminal, as Markdown and as JUnit: what got worse comes first."""

from collections.abc import Sequence

from kmsdiag.model.difference import ChangeView, Difference, DifferenceState, Side
from kmsdiag.report import markdown as md
from kmsdiag.report.junit import Case, Problem, Run, Suite, document
from kmsdiag.report.layout import MARKS
from kmsdiag.report.lines import Line, Piece, Writer

MOST = 12
"""Changes of each sort on a screen."""

_WORDS = {
    DifferenceState.WORSE: ("✖ WORSE", "broken"),
    DifferenceState.NO_WORSE: ("✔ NO WORSE", "healthy"),
    DifferenceState.NOT_COMPARABLE: ("? NOT COMPARABLE", "unknown"),
}


def _sorts(difference: Difference) -> list[tuple[str, str, Sequence[ChangeView]]]:
    """Heading, style and changes of each sort, the gravest first."""
    return [
        ("worse", "error", difference.worse),
        ("not known", "not_assessed", difference.not_known),
        ("better", "ok", difference.better),
        ("changed", "", difference.changed),
    ]


def lines(difference: Difference, *, verbosity: int = 0, width: int = 100, unicode: bool = True) -> list[Line]:
    """The changes as lines; with ``verbosity`` all of them."""
    writer = Writer(width)
    words, style = _WORDS[difference.state]
    writer.line(Piece(words, style), Piece(f"  {difference.headline}"))
    for label, side in (("old", difference.old), ("new", difference.new)):
        writer.text(label, _side(side))
    for number, reason in enumerate(difference.reasons):
        writer.text("why" if number == 0 else "", reason)
    for number, note in enumerate(difference.notes):
        writer.text("note" if number == 0 else "", note)
    for heading, style, changes in _sorts(difference):
        if changes:
            writer.line()
        shown = changes if verbosity else changes[:MOST]
        for number, change in enumerate(shown):
            writer.text(heading if number == 0 else "", change.what, style=style, indent=11)
        if len(changes) > len(shown):
            writer.text("", f"and {len(changes) - len(shown)} more (-v shows them all)", style="label", indent=11)
    return writer.lines(unicode=unicode)


def _side(side: Side) -> str:
    symbol, word = MARKS[side.state.value]
    return f"{symbol} {word}, {side.label}, {side.started:%Y-%m-%d %H:%M:%S} UTC, {side.source}"


def markdown(difference: Difference) -> str:
    """All changes, ready for a ticket."""
    words, _style = _WORDS[difference.state]
    out = [f"# {words}: {md.escape(difference.headline)}", ""]
    out += [
        f"- **{label}**: {md.escape(_side(side))}" for label, side in (("old", difference.old), ("new", difference.new))
    ]
    out += [f"- {md.escape(text)}" for text in (*difference.reasons, *difference.notes)]
    out.append("")
    for heading, _style, changes in _sorts(difference):
        if changes:
            out += [f"## {heading.capitalize()}", "", *(f"- {md.escape(change.what)}" for change in changes), ""]
    return "\n".join(out)


def junit(difference: Difference) -> str:
    """A case a change: a failure what got worse, skipped what can't be told, all else passed."""
    cases = []
    for heading, _style, changes in _sorts(difference):
        for change in changes:
            case = Case(f"kmsdiag.diff.{change.kind}", change.what)
            if heading == "worse":
                case = case._replace(failure=Problem(change.code or f"{change.kind}.worse", change.what))
            elif heading == "not known":
                case = case._replace(skipped="one of the two runs could not look")
            cases.append(case)
    cases += [Case("kmsdiag.diff", "comparable", skipped=reason) for reason in difference.reasons]
    run = Run(
        host=difference.new.label,
        started=difference.new.started,
        seconds=0.0,
        properties=(("tool", f"kmsdiag {difference.tool}"), ("outcome", difference.state.value)),
    )
    return document(run, [Suite("kmsdiag.diff", cases, difference.notes)])
