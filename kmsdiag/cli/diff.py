"""``kmsdiag diff``: two runs side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import (
    ChecksDirOption,
    Color,
    ColorOption,
    FormatOption,
    OutputAllOption,
    OutputOption,
    VerboseOption,
)

if TYPE_CHECKING:
    from kmsdiag.model.report import Report


def command(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="The earlier report or bundle; - is stdin.", show_default=False)
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The later one.", show_default=False)],
    checks_dir: ChecksDirOption = None,
    format: FormatOption = None,  # noqa: A002
    output: OutputOption = None,
    output_all: OutputAllOption = None,
    color: ColorOption = Color.AUTO,
    verbose: VerboseOption = 0,
) -> int:
    """Say what changed between two runs, what got better, and what got worse: ways, domains and findings.

    Ends with 0 where nothing got worse, 1 where something did, 3 where that can't be told.
    """
    from kmsdiag.cli.live import write
    from kmsdiag.cli.output import OutputPlan
    from kmsdiag.compare import difference
    from kmsdiag.model.difference import DifferenceState
    from kmsdiag.policy import ExitCode

    plan = OutputPlan(form=format, output=output, prefix=output_all, color=color, verbosity=verbose)
    if old == new == "-":
        raise UsageProblem("stdin can be only one of the two")
    before, after = _read((old, new), checks_dir)
    found = difference(before, after, (old, new))
    write(plan, found)
    return {
        DifferenceState.NO_WORSE: ExitCode.OK,
        DifferenceState.WORSE: ExitCode.FINDINGS,
        DifferenceState.NOT_COMPARABLE: ExitCode.UNKNOWN,
    }[found.state]


def _read(names: tuple[str, str], checks_dir: Path | None) -> "tuple[Report, Report]":
    from kmsdiag.cli.config import policy
    from kmsdiag.cli.live import complain_about_broken, load_all
    from kmsdiag.reports import ReportError, read_report

    checks = load_all(checks_dir)
    rules = policy(checks)
    complain_about_broken(checks)
    try:
        return read_report(names[0], checks, rules), read_report(names[1], checks, rules)
    except ReportError as error:
        raise UsageProblem(str(error)) from None
