"""Reading captures and logs of connections from the command line: progress, clusters, and what could not be used."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from kmsdiag.cli.errors import UsageProblem

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from kmsdiag.capture.scan import Analysis, Progress, Want
    from kmsdiag.model.target import ExpectedHost, Selection
    from kmsdiag.sources.files import Source


def read_captures(
    captures: "Sequence[Source]",
    selection: "Selection",
    *,
    jobs: int,
    scheduler: str = "",
    want: "Want | None" = None,
    show: Sequence[int] = (),
) -> "Analysis":
    """Read captures, with progress on stderr, here or on a cluster."""
    from kmsdiag.capture.scan import Want, analyse_sources

    with _cluster(scheduler) as executor, reading_progress() as progress:
        return analyse_sources(
            captures,
            selection,
            jobs=jobs,
            executor=executor,
            want=want or Want.ANSWER,
            show=show,
            progress=progress,
        )


def read_logs(
    logs: "Sequence[Source]", selection: "Selection", *, want: "Want | None" = None, show: bool = False
) -> "Analysis":
    """Read logs of another program (at least one), with progress on stderr."""
    from kmsdiag.capture.scan import Want
    from kmsdiag.evidence.connections.run import analyse_logs

    with reading_progress() as progress:
        return analyse_logs(logs, selection, want=want or Want.ANSWER, show=show, progress=progress)


def expected_hosts(texts: Sequence[str]) -> "tuple[ExpectedHost, ...]":
    """Hosts that should be there.

    Raises:
        UsageProblem: no host.
    """
    from kmsdiag.model.target import TargetError, expected_host

    try:
        return tuple(expected_host(text) for text in texts)
    except TargetError as error:
        raise UsageProblem(str(error)) from None


@contextlib.contextmanager
def _cluster(scheduler: str) -> "Iterator[Executor | None]":
    if not scheduler:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise UsageProblem("--scheduler needs Dask: pip install 'kmsdiag[cluster]'") from None
    try:
        client = Client(scheduler, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageProblem(f"--scheduler {scheduler}: no scheduler answers there ({error})") from None
    with client:
        yield client.get_executor()


@contextlib.contextmanager
def reading_progress() -> "Iterator[Progress | None]":
    """A line on stderr that says how far the reading is, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("reading …") as status:
        shown = 0.0

        def show(done: int, whole: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown > 0.1:
                shown = now
                of = f" of {whole / 1e6:,.0f} MB ({done / whole:.0%})" if whole else " MB"
                status.update(f"reading … {done / 1e6:,.0f}{of}")

        yield show


def complain_about(unusable: Iterable[tuple[str, str]]) -> None:
    """One line on stderr for each input (label, reason) that could not be used."""
    from kmsdiag.report.words import visible

    for label, why in unusable:
        print(f"kmsdiag: {visible(f'{label}: {why}')}", file=sys.stderr)
