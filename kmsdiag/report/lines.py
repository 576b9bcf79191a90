"""Lines for a terminal, made of styled pieces: colour is somebody else's business, and the text is the same without."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kmsdiag.report.layout import used_columns
from kmsdiag.report.words import visible

LABEL = 9
"""Width of the column of labels."""

_ASCII = str.maketrans(
    {
        "✔": "+",
        "✖": "x",
        "▲": "!",
        "‼": "!",
        "–": "-",
        "→": ">",
        "…": "...",
        "─": "-",
        "└": "`",
        "·": "-",
        "±": "+-",
        "━": "=",
        "●": "*",
    }
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


class Writer:
    """Collects lines with a column of labels; long text is wrapped, commands are not. ``width`` is in columns."""

    def __init__(self, width: int) -> None:
        self._lines: list[Line] = []
        self._width = max(60, width)

    @property
    def length(self) -> int:
        """How many lines there are by now."""
        return len(self._lines)

    def line(self, *pieces: Piece) -> None:
        """A line as it is."""
        self._lines.append(pieces)

    def text(self, label: str, text: str, *, style: str = "", indent: int = LABEL) -> None:
        """A text beside its label, wrapped."""
        wrapped = textwrap.wrap(text, self._width - indent - 2, break_long_words=False, break_on_hyphens=False)
        for number, part in enumerate(wrapped or [""]):
            head = f"  {label}" if number == 0 and label else ""
            self.line(Piece(head.ljust(indent + 2), "label"), Piece(part, style))

    def command(self, command: str) -> None:
        """A command on a line of its own."""
        self.line(Piece(" " * (LABEL + 6)), Piece(command, "command"))

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
        """A table without the columns that are empty; ``styles`` are those of the rows."""
        from tabulate import tabulate

        cells = [[visible(cell) for cell in row] for row in rows]
        used = used_columns(cells)
        table = tabulate(
            [[row[column] for column in used] for row in cells],
            headers=[visible(headers[column]) for column in used],
            tablefmt="simple",
            disable_numparse=True,
        ).splitlines()
        for text, style in zip(table, ("label", "label", *(styles or [""] * len(cells))), strict=True):
            self.line(Piece("  "), Piece(text.rstrip(), style))

    def lines(self, *, unicode: bool) -> list[Line]:
        """All lines, made visible; without ``unicode`` in ASCII."""
        lines = [tuple(Piece(visible(piece.text), piece.style) for piece in line) for line in self._lines]
        if unicode:
            return lines
        return [
            tuple(
                Piece(piece.text.translate(_ASCII).encode("ascii", "replace").decode(), piece.style) for piece in line
            )
            for line in lines
        ]
