"""Where reports go: stdout with or without colour, and files that are replaced as a whole."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import Color, FailLevel, Format, PlainFormat

if TYPE_CHECKING:
    from kmsdiag.report.views import Document


class OutputPlan:
    """The output options of one command, checked before any work is done."""

    def __init__(
        self,
        *,
        form: Format | None,
        output: str | None,
        prefix: str | None,
        color: Color,
        verbosity: int,
        fail_on: FailLevel = FailLevel.ERROR,
    ) -> None:
        self._color = color
        # Where nothing is to fail the command, JUnit still tells errors from the rest.
        self._fail_on = FailLevel.ERROR if fail_on is FailLevel.NEVER else fail_on
        self._verbosity = verbosity
        self._file = None if output in (None, "-") else Path(str(output))
        self._form = form or _form_of(self._file) or Format.TEXT
        self._all = [] if prefix is None else [(one, Path(prefix + one.suffix)) for one in Format]
        self.paths = [path for path in (self._file, *(path for _form, path in self._all)) if path is not None]
        for path in self.paths:
            require_writable(path)

    def write(self, document: "Document") -> None:
        """Write the document everywhere it should go.

        Raises:
            UsageProblem: a file can't be written; the document is on stdout then, so that nothing is lost.
        """
        problems = []
        for form, path in self._all:
            problems += _try_replace(path, self._render(document, form))
        if self._file is not None:
            problems += _try_replace(self._file, self._render(document, self._form))
        if self._file is None or problems:
            self._print(document)
        if problems:
            raise UsageProblem(f"{problems[0]}; the report was written to stdout instead")

    def write_text(self, text: str) -> None:
        """Write something other than a report, to the file of -o or to stdout.

        Raises:
            UsageProblem: the file can't be written; the text is on stdout then.
        """
        problems = [] if self._file is None else _try_replace(self._file, text)
        if self._file is None or problems:
            try:
                _write_text(sys.stdout, text)
            except BrokenPipeError:
                drop_stdout()
        if problems:
            raise UsageProblem(f"{problems[0]}; it was written to stdout instead")

    def _print(self, document: "Document") -> None:
        if self._form is not Format.TEXT:
            _write_text(sys.stdout, self._render(document, self._form))
            return
        unicode = can_show_unicode(sys.stdout)
        width = _width(sys.stdout)
        if not wants_color(self._color, sys.stdout):
            _write_text(sys.stdout, self._render(document, Format.TEXT, width, unicode=unicode))
            return
        _print_colored(document, self._verbosity, width, unicode=unicode)

    def _render(self, document: "Document", form: Format, width: int = 100, *, unicode: bool = True) -> str:
        from kmsdiag.report import lines, views

        match form:
            case Format.TEXT:
                return lines.plain(views.as_lines(document, verbosity=self._verbosity, width=width, unicode=unicode))
            case Format.MARKDOWN:
                return views.as_markdown(document)
            case Format.JSON:
                return views.as_json(document)
            case Format.JUNIT:
                from kmsdiag.model.finding import Severity

                return views.as_junit(document, Severity(self._fail_on.value))


def plain_plan(*, form: PlainFormat | None, output: str | None, color: Color) -> OutputPlan:
    """Where something goes that is no report of a run, and so has no JUnit form.

    Raises:
        UsageProblem: the file can't be written, or its name ends like a JUnit file's.
    """
    if form is None and output is not None and output.endswith(Format.JUNIT.suffix):
        raise UsageProblem(f"{output} can't be written: there is no JUnit form of this; name it .txt, .md or .json")
    return OutputPlan(form=None if form is None else Format(form), output=output, prefix=None, color=color, verbosity=0)


def _print_colored(document: "Document", verbosity: int, width: int, *, unicode: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    from kmsdiag.report import lines, views

    console = Console(file=sys.stdout, force_terminal=True, highlight=False, soft_wrap=True, legacy_windows=False)
    for line in views.as_lines(document, verbosity=verbosity, width=width, unicode=unicode):
        console.print(Text.assemble(*((piece.text, lines.STYLES.get(piece.style, "")) for piece in line)))


def _form_of(path: Path | None) -> Format | None:
    return next((form for form in Format if path is not None and path.suffix == form.suffix), None)


def _width(stream: TextIO) -> int:
    """Columns of a terminal; 100 for a file or pipe."""
    try:
        return min(os.get_terminal_size(stream.fileno()).columns, 140)
    except (OSError, ValueError):
        return 100


def wants_color(color: Color, stream: TextIO) -> bool:
    """Whether to colour what goes to this stream (https://no-color.org; FORCE_COLOR likewise)."""
    if color is not Color.AUTO:
        return color is Color.ALWAYS
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def can_show_unicode(stream: TextIO) -> bool:
    """Whether the stream's encoding has the symbols of the report."""
    try:
        "✔✖▲‼–→…─".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _write_text(stream: TextIO, text: str) -> None:
    if can_show_unicode(stream):
        stream.write(text)
    else:
        stream.write(text.encode(stream.encoding or "ascii", "backslashreplace").decode(stream.encoding or "ascii"))
    stream.flush()


def require_writable(path: Path) -> None:
    """Fail before the work rather than after it.

    Raises:
        UsageProblem: the folder is missing or may not be written.
    """
    folder = path.resolve().parent
    if not folder.is_dir():
        raise UsageProblem(f"{path} can't be written: there is no folder {path.parent}")
    if path.is_dir():
        raise UsageProblem(f"{path} can't be written: it is a folder")
    is_device = path.exists() and not path.is_file()
    if not os.access(path if is_device else folder, os.W_OK):
        raise UsageProblem(f"{path} can't be written: no permission in {path.parent}")


def require_apart(outputs: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Fail rather than write over what is read.

    Raises:
        UsageProblem: an output is one of the inputs.
    """
    taken = {Path(name).resolve() for name in inputs}
    for path in outputs:
        if path.is_file() and path.resolve() in taken:
            raise UsageProblem(f"{path} is one of the files to be read, and would be lost: give another name")


def drop_stdout() -> None:
    """Send the rest to nowhere: whoever read our output has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _try_replace(path: Path, text: str) -> list[str]:
    try:
        replace(path, text.encode())
    except OSError as error:
        return [f"{path} can't be written: {error.strerror or error}"]
    return []


def replace(path: Path, data: bytes) -> None:
    """Write a file as a whole: readers see the old one or the new one, never half of it."""
    replace_from(path, (data,))


def replace_from(path: Path, pieces: Iterable[bytes]) -> None:
    """The same, for data that comes in pieces. A link keeps leading to the file; a device or pipe is written to."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as device:
            device.writelines(pieces)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
