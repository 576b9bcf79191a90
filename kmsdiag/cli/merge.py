"""``kmsdiag merge``: runs from many places in one picture."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import (
    ChecksDirOption,
    Color,
    ColorOption,
    FailLevel,
    FailOnOption,
    FormatOption,
    OutputAllOption,
    OutputOption,
    VerboseOption,
)

if TYPE_CHECKING:
    from kmsdiag.model.merged import Merged


def command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Reports (--format json) and bundles (--record), a file a run; - is stdin.",
            show_default=False,
        ),
    ],
    checks_dir: ChecksDirOption = None,
    format: FormatOption = None,  # noqa: A002
    output: OutputOption = None,
    output_all: OutputAllOption = None,
    fail_on: FailOnOption = FailLevel.ERROR,
    color: ColorOption = Color.AUTO,
    verbose: VerboseOption = 0,
) -> int:
    """Join the runs of many places: who finds and reaches which host, and what those that fail have in common.

    Bundles are judged again. A file that can't be used is one line on stderr and a place without data, which is never
    taken for a healthy one.
    """
    from kmsdiag.cli.live import write
    from kmsdiag.cli.output import OutputPlan

    plan = OutputPlan(form=format, output=output, prefix=output_all, color=color, verbosity=verbose, fail_on=fail_on)
    merged = _merge(files, checks_dir)
    write(plan, merged)
    return _exit_code(merged, fail_on)


def _merge(files: list[str], checks_dir: Path | None) -> "Merged":
    from kmsdiag.cli.config import policy
    from kmsdiag.cli.live import complain_about_broken, load_all
    from kmsdiag.merge import Merger
    from kmsdiag.report.words import visible
    from kmsdiag.reports import ReportError, read_report

    checks = load_all(checks_dir)
    rules = policy(checks)
    merger = Merger()
    usable = 0
    for name in files:
        try:
            report = read_report(name, checks, rules)
            if report.what_if is not None:
                raise ReportError(f"{name} can't be used: it is about proposed records (--what-if), not what is there")
        except ReportError as error:
            print(f"kmsdiag: {visible(str(error))}", file=sys.stderr)
            merger.miss(name, str(error))
        else:
            merger.add(report, name)
            usable += 1
    complain_about_broken(checks)
    if not usable:
        raise UsageProblem("there is nothing to merge: no file could be used")
    return merger.picture()


def _exit_code(merged: "Merged", fail_on: FailLevel) -> int:
    """As ``check`` would end: 1 for what is broken or found anywhere, 3 where a place told nothing."""
    from kmsdiag.model.finding import Severity
    from kmsdiag.model.path import VerdictState
    from kmsdiag.policy import ExitCode

    if fail_on is not FailLevel.NEVER:
        limit = Severity(fail_on.value).rank
        broken = merged.state in (VerdictState.BROKEN, VerdictState.DEGRADED)
        if broken or any(view.worst.rank >= limit for view in merged.vantages):
            return ExitCode.FINDINGS
    if any(view.state is VerdictState.UNKNOWN for view in merged.vantages):
        return ExitCode.UNKNOWN
    return ExitCode.OK
