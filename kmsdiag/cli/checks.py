"""``kmsdiag checks``: the catalogue."""

from typing import TYPE_CHECKING, Annotated

import typer

from kmsdiag.cli.options import HELP, ChecksDirOption

if TYPE_CHECKING:
    from kmsdiag.registry import LoadedCheck

app = typer.Typer(
    help="List the checks and show what each looks at and may say.", rich_markup_mode=None, no_args_is_help=True
)


@app.command("list", context_settings=HELP)
def list_checks(
    checks_dir: ChecksDirOption = None,
    tag: Annotated[str, typer.Option("--tag", help="Only checks with this tag.")] = "",
) -> int:
    """List all checks; one that could not be loaded is listed with the reason."""
    from tabulate import tabulate

    from kmsdiag.cli.live import complain_about_broken, load_all

    registry = load_all(checks_dir)
    rows = [
        (check.id, check.module.META.title, ", ".join(sorted(check.module.META.tags)), check.origin)
        for check in registry.checks
        if not tag or tag in check.module.META.tags
    ]
    typer.echo(tabulate(rows, headers=("id", "title", "tags", "from"), disable_numparse=True))
    complain_about_broken(registry)
    return 2 if registry.broken else 0


@app.command("show", context_settings=HELP)
def show(
    name: Annotated[str, typer.Argument(metavar="ID[.CODE]", help="A check, or one of its codes.", show_default=False)],
    checks_dir: ChecksDirOption = None,
) -> int:
    """Show what a check looks at, why it matters, what to do, and everything it may say."""
    from kmsdiag.cli.errors import UsageProblem
    from kmsdiag.cli.live import load_all, select

    id_, _, code = name.partition(".")
    found = select(load_all(checks_dir), [id_], [])
    for broken in found.broken:
        raise UsageProblem(f"check {broken.id!r} from {broken.origin} could not be loaded: {broken.error}")
    check = found.checks[0]
    codes = check.module.META.codes
    if code and code not in codes:
        raise UsageProblem(f"{id_} says no {code!r}; it says {', '.join(codes)}")
    typer.echo(describe(check, code))
    return 0


def describe(check: "LoadedCheck", only: str = "") -> str:
    """The manual page of a check, or of one code."""
    meta = check.module.META
    out = [] if only else [f"{check.id}: {meta.title}", "", check.docstring, ""]
    for name, code in meta.codes.items():
        if only and name != only:
            continue
        out.append(f"{check.id}.{name}  [{code.severity}]")
        out.append(f"    {code.text}")
        if code.consequence:
            out.append(f"    {code.consequence}")
        for fix in code.fixes:
            out.append(f"    do: {fix.text}, {fix.where.words}" + (":" if fix.command else ""))
            if fix.command:
                out.append(f"        {fix.command.replace('{{', '{').replace('}}', '}')}")
        out.append("")
    if not only:
        out.append(f"Tags: {', '.join(sorted(meta.tags))}. Since {meta.since}. From: {check.origin}.")
        out += [f"Source: {reference}" for reference in meta.references]
    return "\n".join(out).rstrip()
