"""Runs passes over parts: here, in processes of its own, or wherever an executor runs them."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor

import numpy as np

from kmsdiag.capture.digest import Digest
from kmsdiag.capture.flows import Flows
from kmsdiag.capture.lookups import Lookups
from kmsdiag.capture.parts import Scanned, Task, scan_part

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all (0 where not known)."""


class Runner:
    """Runs tasks on ``executor``, else with ``jobs`` processes (1: this one). ``interrupted`` by Ctrl-C, it ends soon.

    ``whole`` is how many bytes there are to read in all, for ``progress``.
    """

    def __init__(self, jobs: int = 1, executor: Executor | None = None, progress: Progress | None = None) -> None:
        self.jobs = jobs
        self.interrupted = False
        self.whole = 0
        self._executor = executor
        self._progress = progress
        self._done = 0

    @property
    def parallel(self) -> bool:
        """Whether several tasks run at the same time."""
        return self.jobs > 1 or self._executor is not None

    def run(self, tasks: Sequence[Task]) -> list[Scanned]:
        """The results, in the order of the tasks. Once interrupted, no further task is begun."""
        # What can't be opened by another process is read here.
        own = [index for index, task in enumerate(tasks) if not task.source.again]
        if not self.parallel or len(tasks) - len(own) <= 1:
            return [self._here(task) for task in tasks]
        if self._executor is not None:
            return self._spread(self._executor, tasks, own)
        # One of the jobs is this process, where there are no more tasks than jobs.
        own = own or ([0] if len(tasks) <= self.jobs else [])
        with ProcessPoolExecutor(min(self.jobs, len(tasks) - len(own))) as pool:
            return self._spread(pool, tasks, own)

    def _spread(self, executor: Executor, tasks: Sequence[Task], own: Collection[int]) -> list[Scanned]:
        futures = {index: executor.submit(scan_part, task) for index, task in enumerate(tasks) if index not in own}
        results = {index: self._here(tasks[index]) for index in own}
        for index, future in futures.items():
            results[index] = self._wait(future, tasks[index], futures.values())
            self._tell(tasks[index].size)
        return [results[index] for index in range(len(tasks))]

    def _wait(self, future: Future[Scanned], task: Task, all_of_them: Collection[Future[Scanned]]) -> Scanned:
        """A result. After Ctrl-C, which workers notice too, what is there by then; a second one ends everything."""
        try:
            scanned = future.result() if not self.interrupted else None
        except KeyboardInterrupt:
            self.interrupted = True
            scanned = None
            for one in all_of_them:
                one.cancel()
        if scanned is None:
            scanned = nothing(task) if future.cancelled() else future.result()
        self.interrupted = self.interrupted or scanned.interrupted
        return scanned

    def _here(self, task: Task) -> Scanned:
        if self.interrupted:
            return nothing(task)
        scanned = scan_part(task, self._tell)
        self.interrupted = scanned.interrupted
        return scanned

    def _tell(self, done: int) -> None:
        self._done += done
        if self._progress is not None:
            self._progress(self._done, self.whole)


def nothing(task: Task) -> Scanned:
    """The result of a task that was never begun."""
    _ended, loose = Flows().finish()
    return Scanned(
        facts=None,
        problem="not read: interrupted",
        digest=Digest(task.chooser),
        lookups=Lookups(),
        loose=loose,
        services=frozenset(),
        frames=np.empty(0, np.int64),
        interrupted=True,
    )
