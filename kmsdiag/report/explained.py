"""An explanation for a terminal and as Markdown: meaning first, then causes with their evidence, then what to type."""

from kmsdiag.model.explanation import Explained, Explanation, Kind, Listing, PossibleCause
from kmsdiag.model.path import FixView
from kmsdiag.report import markdown as md
from kmsdiag.report.lines import Line, Piece, Writer

_HEAD = 34
"""Width of a column of names at most; where one is longer, all stand above their text."""

_COLUMN = 10
"""Width of the column of labels here."""

_WORDS = frozenset({Kind.INDEX, Kind.TOPIC})
"""Kinds whose name is a word of the language, and not one of a program."""


def lines(explanation: Explanation, *, width: int = 100, unicode: bool = True) -> list[Line]:
    """Everything that was asked about."""
    writer = Writer(width)
    for number, thing in enumerate(explanation.things):
        if number:
            writer.line()
        _thing(writer, thing)
    return writer.lines(unicode=unicode)


def _thing(writer: Writer, one: Explained) -> None:
    writer.line(Piece(one.name, "command"), Piece(f"  {one.title}"))
    for fact in one.facts:
        writer.text(fact.name, fact.text, indent=_COLUMN)
    for text in one.text:
        writer.line()
        writer.text("", text, indent=0)
    _causes(writer, one.causes)
    for listing in one.listings:
        writer.line()
        _listing(writer, listing)
    _do(writer, one.fixes)
    if one.see or one.doubtful or one.sources:
        writer.line()
    if one.see:
        writer.text("see", ", ".join(one.see), indent=_COLUMN)
    if one.doubtful:
        writer.text("doubt", one.doubtful, style="warning", indent=_COLUMN)
    for number, source in enumerate(one.sources):
        writer.text("source" if number == 0 else "", source, style="label", indent=_COLUMN)


def _causes(writer: Writer, causes: tuple[PossibleCause, ...]) -> None:
    if causes:
        writer.line()
    for number, cause in enumerate(causes, 1):
        writer.text("causes" if number == 1 else "", f"{number}. {cause.text}", indent=_COLUMN)
        if cause.evidence:
            writer.text("", f"proof: {cause.evidence}", style="label", indent=_COLUMN + 3)


def _listing(writer: Writer, listing: Listing) -> None:
    writer.line(Piece(f"  {listing.title}:", "label"))
    longest = max(len(entry.name) for entry in listing.entries)
    for entry in listing.entries:
        if longest <= _HEAD:
            writer.text(f"  {entry.name}", entry.text, indent=longest + 4)
        else:
            writer.text("", entry.name, style="label", indent=2)
            writer.text("", entry.text, indent=6)


def _do(writer: Writer, fixes: tuple[FixView, ...]) -> None:
    if fixes:
        writer.line()
    for number, fix in enumerate(fixes):
        words = f"{fix.text}, {fix.where}:" if fix.command else fix.text
        writer.text("do" if number == 0 else "", words, indent=_COLUMN)
        if fix.command:
            writer.command(fix.command)


def markdown(explanation: Explanation) -> str:
    """The same, ready for a ticket or a wiki."""
    return "\n".join(line for thing in explanation.things for line in _markdown(thing))


def _markdown(one: Explained) -> list[str]:
    name = md.escape(one.name) if one.kind in _WORDS else f"`{one.name}`"
    out = [f"# {name}: {md.escape(one.title)}", ""]
    if one.facts:
        out += [*(f"- **{md.escape(fact.name)}**: {md.escape(fact.text)}" for fact in one.facts), ""]
    for text in one.text:
        out += [md.escape(text), ""]
    if one.causes:
        out += ["## Causes", ""]
        for number, cause in enumerate(one.causes, 1):
            proof = f" *Proof: {md.escape(cause.evidence)}.*" if cause.evidence else ""
            out.append(f"{number}. {md.escape(cause.text)}.{proof}")
        out.append("")
    for listing in one.listings:
        rows = [md.table_row((md.escape(entry.name), md.escape(entry.text))) for entry in listing.entries]
        title = listing.title[:1].upper() + listing.title[1:]
        out += [
            f"## {md.escape(title)}",
            "",
            md.table_row(("name", "meaning")),
            md.table_row(("---", "---")),
            *rows,
            "",
        ]
    return [*out, *_steps(one.fixes), *_end(one)]


def _steps(fixes: tuple[FixView, ...]) -> list[str]:
    out = ["## What to do", ""] if fixes else []
    for fix in fixes:
        out += [f"- {md.escape(fix.text)}" + (f", {md.escape(fix.where)}:" if fix.command else "."), ""]
        if fix.command:
            out += [*(f"  {line}" for line in md.code(fix.command).splitlines()), ""]
    return out


def _end(one: Explained) -> list[str]:
    out = [f"See also: {', '.join(f'`{name}`' for name in one.see)}.", ""] if one.see else []
    if one.doubtful:
        out += [f"**Not sure:** {md.escape(one.doubtful)}", ""]
    if one.sources:
        out += ["Sources: " + "; ".join(md.escape(source) for source in one.sources) + ".", ""]
    return out
