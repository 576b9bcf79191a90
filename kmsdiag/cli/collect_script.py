"""``kmsdiag collect-script``: the collector for Windows."""

from typing import Annotated

import typer


def command(
    output: Annotated[
        str | None, typer.Option("-o", metavar="FILE", help="Write to FILE, replacing it as a whole; - is stdout.")
    ] = None,
) -> int:
    """Print a read-only PowerShell script that gathers on a Windows machine what 'kmsdiag analyze' reads.

    Save it as kmsdiag-collect.ps1 and run it there, on a client or a KMS host, best in an elevated Windows PowerShell
    5.1. It writes one new JSON file (-Zip: a zip), changes nothing, sends no activation request and reads no product
    key. The script's own options are at its top. It has not been run on Windows yet.
    """
    from kmsdiag.cli.options import Color
    from kmsdiag.cli.output import OutputPlan
    from kmsdiag.evidence.powershell.script import COLLECTOR

    OutputPlan(form=None, output=output, prefix=None, color=Color.NEVER, verbosity=0).write_text(COLLECTOR)
    return 0
