"""``kmsdiag demo``: the real engine against the embedded lab."""

from typing import TYPE_CHECKING, Annotated

import typer

from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import (
    Color,
    ColorOption,
    FailLevel,
    FailOnOption,
    FormatOption,
    OutputAllOption,
    OutputOption,
    RecordOption,
    VerboseOption,
)

if TYPE_CHECKING:
    import asyncio

    from kmsdiag.bundle import Bundle
    from kmsdiag.cli.live import ProgressCallback
    from kmsdiag.lab.world import Scenario
    from kmsdiag.registry import Registry


def command(
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="NAME", help="The world to diagnose, or all: one line each.")
    ] = "mixed",
    list_: Annotated[bool, typer.Option("--list", help="List the scenarios and exit.")] = False,
    record: RecordOption = None,
    format: FormatOption = None,  # noqa: A002
    output: OutputOption = None,
    output_all: OutputAllOption = None,
    fail_on: FailOnOption = FailLevel.NEVER,
    color: ColorOption = Color.AUTO,
    verbose: VerboseOption = 0,
) -> int:
    """Diagnose a broken network that kmsdiag itself starts on loopback; needs no privileges and sends nothing out.

    Names and addresses in the report are the lab's; every answer came over a real socket.
    """
    from kmsdiag.cli.config import policy
    from kmsdiag.cli.live import finish, load_all
    from kmsdiag.cli.output import OutputPlan, require_writable
    from kmsdiag.lab.scenarios import SCENARIOS, by_name

    if list_:
        width = max(len(one.name) for one in SCENARIOS)
        typer.echo("\n".join(f"{one.name:{width}}  {one.title}" for one in SCENARIOS))
        return 0
    if scenario == "all":
        if record is not None or output is not None or output_all is not None or format is not None:
            raise UsageProblem(
                "--scenario all prints one line a scenario; name one to record it or to format its report"
            )
        return _all(load_all(None))
    world = by_name(scenario)
    if world is None:
        names = ", ".join(one.name for one in SCENARIOS)
        raise UsageProblem(f"there is no scenario {scenario!r}; there are {names}, and all")
    plan = OutputPlan(form=format, output=output, prefix=output_all, color=color, verbosity=verbose, fail_on=fail_on)
    if record is not None:
        require_writable(record)
    registry = load_all(None)
    rules = policy(registry)
    typer.echo(f"lab on loopback, scenario {world.name}: {world.title}\n", err=True)
    return finish(_run(world, registry), registry, rules, plan, fail_on, record)


def _all(registry: "Registry") -> int:
    from kmsdiag import diagnosis
    from kmsdiag.lab.scenarios import SCENARIOS
    from kmsdiag.report.layout import MARKS, summary

    width = max(len(one.name) for one in SCENARIOS)
    for world in SCENARIOS:
        bundle = _run(world, registry)
        report = diagnosis.judge(bundle, registry)
        symbol, word = MARKS[report.verdict.state.value]
        typer.echo(f"{symbol} {word:8}  {world.name:{width}}  {summary(report)}")
        if bundle.interrupted:
            return 130
    return 0


def _run(world: "Scenario", registry: "Registry") -> "Bundle":
    from kmsdiag import api
    from kmsdiag.cli.live import gather
    from kmsdiag.lab.world import running
    from kmsdiag.model.report import Vantage

    async def record(stop: "asyncio.Event", on_progress: "ProgressCallback | None") -> "Bundle":
        async with running(world) as lab:
            return await api.record(
                world.target(),
                registry=registry,
                settings=lab.settings,
                vantage=Vantage(label="lab"),
                stop=stop,
                on_progress=on_progress,
            )

    return gather(record)
