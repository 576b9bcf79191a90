"""The command line: options to API to renderer to exit code, one module a command.

Modules here import nothing heavy at the top: ``kmsdiag --help`` has to answer at once.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from kmsdiag.cli import (
    analyze,
    audit,
    baseline,
    capture,
    check,
    checks,
    collect_script,
    demo,
    diff,
    explain,
    forecast,
    merge,
    schema,
)
from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import HELP
from kmsdiag.version import VERSION

_CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
"""ClickException, wherever this typer keeps it (newer ones bring their own click)."""

app = typer.Typer(
    name="kmsdiag",
    help=(
        "Says where Microsoft KMS volume activation breaks: DNS, TCP, RPC, one verdict, and the next command.\n\n"
        "It only looks: it never sends an activation request, never grants one, and changes no host's count and no"
        " machine's settings."
    ),
    epilog=(
        "Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 usage or configuration, 3 verdict unknown,"
        " 4 internal error, 130 interrupted."
    ),
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings=HELP,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kmsdiag {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    del version


app.command("check", context_settings=HELP, short_help="Say live where activation breaks for a domain.")(check.command)
app.command("analyze", context_settings=HELP, short_help="Judge packet captures and recorded runs.")(analyze.command)
app.add_typer(capture.app, name="capture", context_settings=HELP)
app.command("audit", context_settings=HELP, short_help="Hold the network against an expected state.")(audit.command)
app.command("baseline", context_settings=HELP, short_help="Write an expected state from what is there now.")(
    baseline.command
)
app.command("merge", context_settings=HELP, short_help="Join the runs of many places in one picture.")(merge.command)
app.command("diff", context_settings=HELP, short_help="Say what changed between two runs.")(diff.command)
app.command("explain", context_settings=explain.SETTINGS, short_help="Say what a code, event, check or topic means.")(
    explain.command
)
app.command("forecast", context_settings=HELP, short_help="Say when clients ask, renew and end, and what counts come.")(
    forecast.command
)
app.add_typer(checks.app, name="checks", context_settings=HELP)
app.command("schema", context_settings=HELP, short_help="Print a JSON Schema.")(schema.command)
app.command(
    "collect-script", context_settings=HELP, short_help="Print a read-only script that gathers evidence on Windows."
)(collect_script.command)
app.command("demo", context_settings=HELP, short_help="Diagnose a broken network that runs on loopback.")(demo.command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Whatever a person did wrong is one line on stderr."""
    import gc

    words = list(sys.argv[1:] if arguments is None else arguments)
    # A run makes many values that live to its end and form no cycles; looking for cycles costs a tenth of the time.
    gc.set_threshold(100_000, 20, 100)
    try:
        result = app(words, standalone_mode=False, prog_name="kmsdiag", default_map=_defaults(words))
    except UsageProblem as error:
        return _complain(str(error))
    except _CLICK_ERROR as error:
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(context.get_help() if context is not None else str(error), err=True)
            return 2
        path = context.command_path if context is not None else "kmsdiag"
        return _complain(f"{_message(error).rstrip('.')} (see '{path} --help')")
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("kmsdiag: interrupted", err=True)
        return 130
    except SystemExit as end:
        # Click makes an exit of a broken pipe, with the code that means findings here.
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        from kmsdiag.cli.output import drop_stdout

        drop_stdout()
        return 0
    except Exception as error:  # noqa: BLE001  # the last line of defence: a bug becomes one line and exit code 4
        return _crash(error)
    return int(result or 0)


def _defaults(words: Sequence[str]) -> dict[str, Any]:
    """What the configuration files say; nothing where only help or completion is wanted, whatever state they are in."""
    import os

    from kmsdiag.cli.config import option_defaults

    if {"--help", "-h", "--version"} & set(words) or "_KMSDIAG_COMPLETE" in os.environ:
        return {}
    return option_defaults()


def _message(error: Exception) -> str:
    return str(error.format_message() if hasattr(error, "format_message") else error)


def _complain(text: str) -> int:
    from kmsdiag.report.words import visible

    typer.echo(f"kmsdiag: {visible(' '.join(text.split()))}", err=True)
    return 2


def _crash(error: Exception) -> int:
    import os
    import traceback

    if os.environ.get("KMSDIAG_TRACEBACK"):
        traceback.print_exception(error)
    from kmsdiag.report.words import visible

    typer.echo(
        f"kmsdiag: internal error: {type(error).__name__}: {visible(str(error))}"
        " (this is a bug; set KMSDIAG_TRACEBACK=1 to see where)",
        err=True,
    )
    return 4
