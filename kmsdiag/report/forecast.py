"""A forecast for a terminal and as Markdown: a table of clients, a line of time for each, and counts by host."""

from collections.abc import Sequence

from kmsdiag.captured import span
from kmsdiag.knowledge.licences import MINUTES_OF_A_GRANT
from kmsdiag.model.forecast import ClientForecast, CountState, Forecast, HostCount, Step, StepKind
from kmsdiag.report import markdown as md
from kmsdiag.report.lines import Line, Piece, Writer

MOST = 40
"""Clients on a screen; JSON and Markdown have them all."""

MOST_STEPS = 2
"""Clients whose steps are told one by one on a screen."""

_COLUMNS = 60
_PER_COLUMN = MINUTES_OF_A_GRANT // _COLUMNS
_LEGEND = "━ since the last success, ● the reading, R renewal, W warning, E end; a column is 3 days"
_LONGEST_NAME = 24
_MOST_HOSTS = 3
_MOST_NAMES = 5

CLIENT_HEADERS = ("client", "product", "status", "left", "next try", "renewal", "warning", "end")
COUNT_HEADERS = ("machines", "planned", "needed", "host", "count", "verdict")

_VERDICTS = {
    CountState.MET: ("✔ met", ""),
    CountState.TOO_FEW: ("✖ too few: 0xC004F038", "error"),
    CountState.RESERVE: ("– none, while better-ranked hosts answer", "not_assessed"),
    CountState.NO_HOST: ("? no host of the plan serves them", "warning"),
}


def lines(forecast: Forecast, *, width: int = 100, unicode: bool = True) -> list[Line]:
    """The forecast as lines."""
    writer = Writer(width)
    shown = forecast.clients[:MOST]
    if shown:
        writer.line(Piece("clients", "command"), Piece(f"  {_headline(forecast.clients)}"))
        writer.line()
        writer.table(CLIENT_HEADERS, [_client_row(one) for one in shown])
        _more(writer, len(forecast.clients) - len(shown))
        _timelines(writer, shown)
        for one in shown[:MOST_STEPS]:
            _steps(writer, one, named=len(forecast.clients) > 1)
        _remarks(writer, shown)
    if forecast.counts:
        if shown:
            writer.line()
        writer.line(Piece("counts", "command"), Piece(f"  {_count_headline(forecast.counts)}"))
        writer.line()
        rows = [_count_row(one) for one in forecast.counts]
        writer.table(COUNT_HEADERS, rows, [_VERDICTS[one.state][1] for one in forecast.counts])
    if forecast.notes:
        writer.line()
    for number, note in enumerate(forecast.notes):
        writer.text("note" if number == 0 else "", note, style="label")
    return writer.lines(unicode=unicode)


def _more(writer: Writer, left_out: int) -> None:
    if left_out:
        writer.line(Piece(f"  … and {left_out} more, which end later; --format json lists all", "label"))


def _headline(clients: Sequence[ClientForecast]) -> str:
    late = sum(1 for one in clients if one.late)
    alone = len(clients) == 1
    first = clients[0]
    end = next((step for step in first.steps if step.kind is StepKind.END), None)
    many = "1 client" if alone else f"{len(clients)} clients"
    words = f"{many}, {late} late to renew" if late else many
    if end is None:
        over = [one for one in clients if one.steps and not any(step.kind is StepKind.END for step in one.steps)]
        if len(over) > 1:
            return f"{words}; {len(over)} are not activated"
        return f"{words}; {_name(first)} is not activated" if first.steps else words
    verb = "ended" if end.minutes <= 0 else "ends"
    whose, name = ("its", "") if alone else ("the first", f" ({_name(first)})")
    return f"{words}; {whose} activation {verb} {_when(end)}{name}"


def _name(one: ClientForecast) -> str:
    return one.reading.name or one.reading.product or "the client"


def _client_row(one: ClientForecast) -> tuple[str, ...]:
    first: dict[StepKind, Step] = {}
    for step in one.steps:
        first.setdefault(step.kind, step)
    # A renewal that is still to come is the next try.
    following = first.get(StepKind.RENEWAL, first.get(StepKind.TRY))
    renewal = f"overdue by {span(one.late * 60)}" if one.late else _when(first.get(StepKind.RENEWAL))
    minutes = one.reading.remaining or 0
    left = span(minutes * 60) if minutes > 0 else ""
    return (
        one.reading.name,
        one.reading.product,
        one.status,
        left,
        _when(following),
        renewal,
        _when(first.get(StepKind.WARNING)),
        _when(first.get(StepKind.END)),
    )


def _when(step: Step | None) -> str:
    """A step's moment: its date, else the time until it."""
    if step is None:
        return ""
    if step.latest:
        return f"within {span(step.minutes * 60)}"
    if step.at is not None:
        return f"{step.at:%Y-%m-%d %H:%M}" + (" (passed)" if step.past and step.kind is not StepKind.ACTIVATED else "")
    return f"in {span(step.minutes * 60)}" if step.minutes > 0 else f"{span(-step.minutes * 60)} ago"


def _timelines(writer: Writer, clients: Sequence[ClientForecast]) -> None:
    bars = [(_name(one), bar(one)) for one in clients if _ends(one)]
    if not bars:
        return
    writer.line()
    writer.line(Piece(f"  {_LEGEND}", "label"))
    longest = min(_LONGEST_NAME, max(len(name) for name, _bar in bars))
    for name, drawn in bars:
        cut = name if len(name) <= longest else f"{name[: longest - 1]}…"
        writer.line(Piece(f"  {cut.ljust(longest)}  ", "label"), Piece(drawn))


def _ends(one: ClientForecast) -> bool:
    return any(step.kind is StepKind.END and step.minutes > 0 for step in one.steps)


def bar(one: ClientForecast) -> str:
    """A client's time from its last success (or, never activated, from the reading) to its end, 3 days a column."""
    start = one.elapsed or 0
    end = max(step.minutes for step in one.steps if step.kind is StepKind.END)
    cells = ["━" if column < start // _PER_COLUMN else "─" for column in range((start + end) // _PER_COLUMN + 1)]
    marks = {StepKind.RENEWAL: "R", StepKind.WARNING: "W", StepKind.END: "E"}
    for step in one.steps:
        if step.kind in marks:
            cells[max(0, (start + step.minutes) // _PER_COLUMN)] = marks[step.kind]
        if step.minutes > 0 and cells[start // _PER_COLUMN] in marks.values():
            # What is still to come stands beside the reading, not under it.
            cells[start // _PER_COLUMN : start // _PER_COLUMN + 2] = ["●", marks[step.kind]]
    cells[start // _PER_COLUMN] = "●"
    return "".join(cells)


def _steps(writer: Writer, one: ClientForecast, *, named: bool) -> None:
    if not one.steps:
        return
    writer.line()
    if named:
        writer.line(Piece(f"  {_name(one)}", "label"))
    longest = max(len(_when(step)) for step in one.steps)
    for step in one.steps:
        writer.text(_when(step), step.text, indent=longest + 2)
    if one.tries:
        writer.text("", f"about {one.tries:,} more attempts until the end", indent=longest + 2, style="label")


def _remarks(writer: Writer, clients: Sequence[ClientForecast]) -> None:
    said = _notes(clients)
    if said:
        writer.line()
    for number, text in enumerate(said):
        writer.text("but" if number == 0 else "", text, style="warning")


def _notes(clients: Sequence[ClientForecast]) -> list[str]:
    """What is to be said of clients, the same of several once."""
    names: dict[str, list[str]] = {}
    for one in clients:
        for note in one.notes:
            names.setdefault(note, []).append(_name(one))
    if len(clients) == 1:
        return list(names)
    return [f"{_cut(whose, _MOST_NAMES)}: {note}" for note, whose in names.items()]


def _cut(names: Sequence[str], most: int) -> str:
    """Names in a row; of more than ``most`` the number of the rest."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


def _count_headline(counts: Sequence[HostCount]) -> str:
    low = {one.kind for one in counts if one.state in (CountState.TOO_FEW, CountState.NO_HOST)}
    if not low:
        return "every host will meet the machines that it needs"
    return f"not enough at every host: {', '.join(sorted(low))}"


def _count_row(one: HostCount) -> tuple[str, ...]:
    each = "each " if len(one.hosts) > 1 else ""
    count = f"{each}{one.count:.0f}" if one.hosts else ""
    return one.kind, str(one.planned), str(one.needed), _cut(one.hosts, _MOST_HOSTS), count, _VERDICTS[one.state][0]


def markdown(forecast: Forecast) -> str:
    """All of it, ready for a ticket."""
    out: list[str] = []
    if forecast.clients:
        out += [f"# Clients: {md.escape(_headline(forecast.clients))}", ""]
        out += _table(CLIENT_HEADERS, [_client_row(one) for one in forecast.clients])
        bars = [f"{_name(one)}  {bar(one)}" for one in forecast.clients if _ends(one)]
        out += [md.code(_LEGEND, *bars), ""] if bars else []
        out += [f"- {md.escape(note)}." for note in _notes(forecast.clients)]
        if out[-1]:
            out.append("")
    if forecast.counts:
        out += [f"# Counts: {md.escape(_count_headline(forecast.counts))}", ""]
        out += _table(COUNT_HEADERS, [_count_row(one) for one in forecast.counts])
    out += [*(f"- {md.escape(note)}" for note in forecast.notes), ""] if forecast.notes else []
    return "\n".join(out)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [md.table_row([md.escape(cell) for cell in row]) for row in rows]
    return [md.table_row(headers), md.table_row(["---"] * len(headers)), *cells, ""]
