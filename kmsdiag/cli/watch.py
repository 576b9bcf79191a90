"""``kmsdiag check --until-healthy``: ask again and again while somebody repairs, and say what changes."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kmsdiag.bundle import Bundle
    from kmsdiag.model.report import Report

RUN_LIMIT = 60.0
"""Seconds that one of the runs may take at most."""


def until_healthy(
    ask: "Callable[[float], Bundle]", judge: "Callable[[Bundle], Report]", *, every: float, deadline: float
) -> "Bundle":
    """Repeat until the verdict is healthy, the deadline is over or Ctrl-C; the last run. Changes go to stderr.

    ``ask`` gets the seconds it may take; ``every`` is the time from the end of a run to the start of the next.
    """
    import msgspec

    from kmsdiag.model.path import VerdictState

    end = time.monotonic() + deadline
    before: Report | None = None
    while True:
        bundle = ask(max(1.0, min(RUN_LIMIT, end - time.monotonic())))
        # Ctrl-C in a run ends that run; anywhere else the last one is what is left.
        try:
            report = judge(bundle)
            _say_changes(before, report)
            before = report
            over = time.monotonic() + every >= end
            if report.verdict.state is VerdictState.HEALTHY or bundle.interrupted or over:
                return bundle
            time.sleep(every)
        except KeyboardInterrupt:
            return msgspec.structs.replace(bundle, interrupted=True)


def _say_changes(before: "Report | None", after: "Report") -> None:
    from kmsdiag.compare import changes
    from kmsdiag.report.words import visible

    clock = f"{after.ended.astimezone():%H:%M:%S}"
    if before is None:
        print(f"{clock}  {after.verdict.state.value.upper()}  {visible(after.verdict.headline)}", file=sys.stderr)
        for cause in after.verdict.causes:
            print(f"{clock}  {visible(cause.headline)}", file=sys.stderr)
        return
    for change in changes(before, after):
        mark = {True: "better", False: "worse", None: "changed"}[change.better]
        print(f"{clock}  {mark}: {visible(change.what)}", file=sys.stderr)
