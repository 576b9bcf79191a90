"""Running the live questions from the command line: progress on stderr, Ctrl-C that loses nothing, the exit code."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import FailLevel
from kmsdiag.cli.output import OutputPlan, drop_stdout, replace

if TYPE_CHECKING:
    from kmsdiag.bundle import Bundle
    from kmsdiag.engine import Budget, Progress
    from kmsdiag.model.proposal import Proposal
    from kmsdiag.model.report import Report
    from kmsdiag.model.target import Family, Target
    from kmsdiag.policy import Policy
    from kmsdiag.probes.settings import ProbeSettings
    from kmsdiag.registry import Registry
    from kmsdiag.report.views import Document

ProgressCallback = Callable[["Progress"], None]


def load_all(checks_dir: Path | None) -> "Registry":
    """All checks there are.

    Raises:
        UsageProblem: no such folder.
    """
    from kmsdiag.registry import discover

    try:
        return discover(checks_dir)
    except NotADirectoryError as error:
        raise UsageProblem(str(error)) from None


def select(registry: "Registry", only: list[str], skip: list[str]) -> "Registry":
    """The checks to run.

    Raises:
        UsageProblem: no such check, or none left.
    """
    from kmsdiag.registry import UnknownCheckError

    try:
        registry = registry.select(only, skip)
    except UnknownCheckError as error:
        raise UsageProblem(str(error)) from None
    if not registry.checks and not registry.broken:
        raise UsageProblem("no check is left to run: --skip takes away all that --check names")
    return registry


@contextlib.asynccontextmanager
async def stopping() -> AsyncIterator[asyncio.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; the second Ctrl-C ends the process as usual."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        print("kmsdiag: stopping; what is known so far is reported (Ctrl-C again to give up)", file=sys.stderr)
        release()

    def release() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError, ValueError):
                loop.remove_signal_handler(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        loop.add_signal_handler(signal.SIGINT, on_signal)
        loop.add_signal_handler(signal.SIGTERM, on_signal)
    except NotImplementedError:
        # Windows: the loop has no signal handlers, but an ordinary one may wake it.
        signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(on_signal))
    try:
        yield stop
    finally:
        release()


@contextlib.contextmanager
def progress() -> Iterator[ProgressCallback | None]:
    """A line on stderr that counts questions, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("asking …") as status:
        shown = 0.0

        def show(state: "Progress") -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown > 0.1:
                shown = now
                status.update(f"asking … {state.asked - state.open} of {state.asked} questions answered")

        yield show


def gather(record: "Callable[[asyncio.Event, ProgressCallback | None], Awaitable[Bundle]]") -> "Bundle":
    """Run the questions in a loop of their own, with Ctrl-C and progress; ``record`` gets both."""
    # Not the coroutine's result: at its end asyncio.run restores SIGINT, and that prints a task's result to a string.
    kept: list[Bundle] = []

    async def run() -> None:
        async with stopping() as stop:
            with progress() as on_progress:
                kept.append(await record(stop, on_progress))

    asyncio.run(run())
    return kept[0]


def record_live(
    target: "Target",
    registry: "Registry",
    settings: "ProbeSettings",
    budget: "Budget",
    label: str,
    proposed: "Proposal | None" = None,
) -> "Bundle":
    """Ask the network about a target from here."""
    from kmsdiag import api

    where = api.here(label, target, settings.source)
    return gather(
        lambda stop, on_progress: api.record(
            target,
            registry=registry,
            settings=settings,
            budget=budget,
            vantage=where,
            stop=stop,
            on_progress=on_progress,
            proposed=proposed,
        )
    )


def source_address(text: str) -> str:
    """The value of --source: a local address, or nothing.

    Raises:
        UsageProblem: no address, or none of this machine.
    """
    from kmsdiag.model.target import as_address
    from kmsdiag.probes.settings import can_send_from

    if not text:
        return ""
    address = as_address(text)
    if address is None:
        raise UsageProblem(f"--source {text!r} is no address: give one of this machine's own addresses")
    problem = can_send_from(address)
    if problem:
        raise UsageProblem(f"--source {address} is no address of this machine ({problem})")
    return address


def families(*, ipv4: bool, ipv6: bool) -> "tuple[Family, ...]":
    """The address families that -4 and -6 choose; both where neither is given."""
    from kmsdiag.model.target import Family

    chosen = tuple(family for family, wanted in ((Family.IPV4, ipv4), (Family.IPV6, ipv6)) if wanted)
    return chosen or tuple(Family)


def finish(
    bundle: "Bundle",
    registry: "Registry",
    policy: "Policy",
    plan: OutputPlan,
    fail_on: FailLevel,
    record: Path | None = None,
    judge: "Callable[[Bundle], Report] | None" = None,
) -> int:
    """Keep the bundle, judge it (as every command does, unless ``judge`` says how), write the report; the exit code."""
    from kmsdiag import bundle as bundles
    from kmsdiag import diagnosis
    from kmsdiag.policy import FailOn, exit_code

    problem = ""
    if record is not None:
        try:
            replace(record, bundles.encode(bundle))
        except OSError as error:
            problem = f"{record} can't be written: {error.strerror or error}"
    report = diagnosis.judge(bundle, registry, policy) if judge is None else judge(bundle)
    write(plan, report)
    complain_about_broken(registry)
    if problem:
        raise UsageProblem(problem)
    return exit_code(report, FailOn(fail_on.value), configuration_at_fault=bool(registry.broken))


def write(plan: OutputPlan, document: "Document") -> None:
    """Write the document; a reader that has gone away is no error."""
    try:
        plan.write(document)
    except BrokenPipeError:
        drop_stdout()


def complain_about_broken(registry: "Registry") -> None:
    """One line on stderr for each check that could not be loaded."""
    from kmsdiag.report.words import visible

    for broken in registry.broken:
        text = f"check {broken.id!r} from {broken.origin} could not be loaded: {broken.error}"
        print(f"kmsdiag: {visible(' '.join(text.split()))}; mend it or leave it out", file=sys.stderr)
