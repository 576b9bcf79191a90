"""``kmsdiag explain``: what a code, an event, a check or a topic means, why it comes, and what to do."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import (
    HELP,
    ChecksDirOption,
    Color,
    ColorOption,
    PlainFormatOption,
    PlainOutputOption,
)

if TYPE_CHECKING:
    from pathlib import Path

    from kmsdiag.model.explanation import Explained
    from kmsdiag.registry import Registry

SETTINGS = {**HELP, "ignore_unknown_options": True}
"""A code may be a negative number, which is no option; :func:`command` refuses what else looks like one."""


def command(
    things: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="X",
            help="Error codes in any spelling, event IDs, checks, codes of checks, or topics.",
            show_default=False,
        ),
    ] = None,
    checks_dir: ChecksDirOption = None,
    format: PlainFormatOption = None,  # noqa: A002
    output: PlainOutputOption = None,
    color: ColorOption = Color.AUTO,
) -> int:
    """Explain an error code, an event, a check or a topic: meaning, causes, what proves each, and what to do.

    Asks no network. Without X it lists the topics. What kmsdiag does not know of a code it takes apart; a word that is
    nothing at all makes the exit code 2.
    """
    from kmsdiag.cli.live import write
    from kmsdiag.cli.output import plain_plan
    from kmsdiag.model.explanation import Explanation
    from kmsdiag.report.words import visible
    from kmsdiag.version import VERSION

    plan = plain_plan(form=format, output=output, color=color)
    for word in things or ():
        if word.startswith("-") and not word[1:].isdigit():
            raise UsageProblem(f"No such option: {word} (see 'kmsdiag explain --help')")
    found, problems = _explain(things or [], checks_dir)
    if found:
        write(plan, Explanation(tool=VERSION, things=tuple(found)))
    for problem in problems:
        print(f"kmsdiag: {visible(problem)} ('kmsdiag explain' lists the topics)", file=sys.stderr)
    return 2 if problems else 0


def _explain(words: list[str], checks_dir: "Path | None") -> tuple[list["Explained"], list[str]]:
    from kmsdiag.explain import NothingKnownError, explain, index, separate

    if not words:
        return [index()], []
    loaded: list[Registry] = []

    def checks() -> "Registry":
        from kmsdiag.cli.live import load_all

        if not loaded:
            loaded.append(load_all(checks_dir))
        return loaded[0]

    found, problems = [], []
    for word in separate(words):
        try:
            found.append(explain(word, checks))
        except NothingKnownError as error:
            problems.append(str(error))
    return found, problems
