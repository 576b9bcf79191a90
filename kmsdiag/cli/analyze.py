"""``kmsdiag analyze``: judge recorded evidence again, without a network."""

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
    OnlyOption,
    OutputAllOption,
    OutputOption,
    SkipOption,
    VerboseOption,
)

if TYPE_CHECKING:
    from kmsdiag.bundle import Bundle


def command(
    bundle: Annotated[
        str,
        typer.Argument(metavar="BUNDLE", help="What 'kmsdiag check --record' wrote; - is stdin.", show_default=False),
    ],
    only: OnlyOption = [],  # noqa: B006  # typer copies it
    skip: SkipOption = [],  # noqa: B006
    checks_dir: ChecksDirOption = None,
    format: FormatOption = None,  # noqa: A002
    output: OutputOption = None,
    output_all: OutputAllOption = None,
    fail_on: FailOnOption = FailLevel.ERROR,
    color: ColorOption = Color.AUTO,
    verbose: VerboseOption = 0,
) -> int:
    """Judge a recorded run again. Nothing is asked of any network, and the same bundle gives the same bytes.

    Runs the checks that the bundle was recorded for, and those that are newer than it; --check chooses others.
    """
    from kmsdiag.cli.config import policy
    from kmsdiag.cli.live import finish, load_all, select
    from kmsdiag.cli.output import OutputPlan

    plan = OutputPlan(form=format, output=output, prefix=output_all, color=color, verbosity=verbose, fail_on=fail_on)
    recorded = _read(bundle)
    everything = load_all(checks_dir)
    rules = policy(everything)
    registry = select(everything, only, skip)
    if not only:
        registry = registry.recorded(recorded.checks, recorded.tool)
    return finish(recorded, registry, rules, plan, fail_on)


def _read(name: str) -> "Bundle":
    import sys
    from pathlib import Path

    from kmsdiag.bundle import MAX_BYTES, BundleError, decode

    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageProblem(f"{name} can't be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UsageProblem(f"{name} is larger than {MAX_BYTES // 1024**2} MiB: no bundle of kmsdiag")
    try:
        return decode(data)
    except BundleError as error:
        raise UsageProblem(f"{name} can't be used: {error}") from None
