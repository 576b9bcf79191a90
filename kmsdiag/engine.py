"""The ask/answer loop and the judging.

A *unit* is one check on one subject. The engine asks each unit what it wants to know, puts each distinct question
once, and asks the unit again as its answers arrive, until it has no more questions. There is no barrier: one silent
host holds up only the units that wait for it, and even those learn of their other answers meanwhile.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgspec

from kmsdiag.model.answer import Answer
from kmsdiag.model.evidence import Evidence, Missing
from kmsdiag.model.finding import CheckResult, Finding
from kmsdiag.model.request import Request
from kmsdiag.model.target import RUN, Subject, Target
from kmsdiag.registry import LoadedCheck

REASK_SHARE: Final = 9
"""A unit with open questions is asked again at most for a tenth of the time: it rests nine times its last cost."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a run may cost: questions, seconds, and connections open at once."""

    requests: int = 50_000
    seconds: float = 60.0
    concurrency: int = 500


class Answerer(Protocol):
    """Whoever answers: the network, or a recording."""

    async def answer(self, request: Request[Any], /) -> Answer:
        """The answer; raises :class:`NoAnswer` where there is none."""


class NoAnswer(Exception):
    """A question that this answerer can't put; the text says why."""


class Progress(msgspec.Struct):
    """How far a run is: distinct questions put, and those that are still open."""

    asked: int = 0
    open: int = 0


class _Unit:
    """One check on one subject, with what it asked so far."""

    __slots__ = ("asked", "check", "cost", "crash", "rested_at", "scheduled", "subject", "waiting")

    def __init__(self, check: LoadedCheck, subject: Subject) -> None:
        self.check = check
        self.subject = subject
        self.asked: dict[Request[Any], None] = {}
        self.waiting = 0
        self.scheduled = False
        self.cost = 0.0
        self.rested_at = 0.0
        self.crash = ""


class Inquiry:
    """The state of asking: who wants to know what. It does no I/O; a driver feeds it."""

    def __init__(self, checks: Iterable[LoadedCheck], target: Target, budget: Budget) -> None:
        self.facts: dict[Request[Any], Answer] = {}
        self.unanswered: dict[Request[Any], str] = {}
        self.seen = Evidence(target, self.facts, self.unanswered)
        self.units: list[_Unit] = []
        self.crashed: list[CheckResult] = []
        self._waiters: dict[Request[Any], list[_Unit]] = {}
        self._budget = budget
        for check in checks:
            try:
                self.units.extend(_Unit(check, subject) for subject in check.module.subjects(target))
            except (Exception, SystemExit) as error:  # noqa: BLE001  # a check may be anybody's; its crash stays its own
                self.crashed.append(CheckResult(check=check.id, subject=RUN, crash=_crash(error)))

    @property
    def open(self) -> int:
        """Questions put and not answered yet."""
        return len(self._waiters)

    def ask(self, unit: _Unit) -> list[Request[Any]]:
        """Ask one unit; the questions that nobody has put before."""
        unit.scheduled = False
        started = time.perf_counter()
        new: list[Request[Any]] = []
        try:
            for request in unit.check.module.ask(unit.subject, self.seen):
                if request in unit.asked:
                    continue
                unit.asked[request] = None
                if request in self.facts or request in self.unanswered:
                    continue
                waiters = self._waiters.get(request)
                if waiters is None:
                    if len(self.facts) + len(self._waiters) >= self._budget.requests:
                        self.unanswered[request] = f"the limit of {self._budget.requests} questions was reached"
                        continue
                    waiters = self._waiters[request] = []
                    new.append(request)
                waiters.append(unit)
                unit.waiting += 1
        except Missing:
            # It wants an answer before it can go on; with the answer it is asked again.
            pass
        except (Exception, SystemExit) as error:  # noqa: BLE001  # see __init__
            unit.crash = _crash(error)
        unit.cost = time.perf_counter() - started
        unit.rested_at = started + unit.cost * (1 + REASK_SHARE)
        return new

    def feed(self, request: Request[Any], answer: Answer | str) -> list[_Unit]:
        """Take an answer, or the reason why there is none; the units that should be asked again."""
        if isinstance(answer, str):
            self.unanswered[request] = answer
        else:
            self.facts[request] = answer
        ready = []
        for unit in self._waiters.pop(request, ()):
            unit.waiting -= 1
            if not unit.scheduled and not unit.crash:
                unit.scheduled = True
                ready.append(unit)
        return ready

    def give_up(self, reason: str) -> None:
        """Leave every open question unanswered, and those that resting units would have put next."""
        for unit in self.units:
            if unit.scheduled:
                self.ask(unit)
        for request in list(self._waiters):
            self.feed(request, reason)


class _Gathering:
    """One run of asking: the questions under way, those that wait for room, and the units to be asked again."""

    def __init__(
        self, inquiry: Inquiry, answerer: Answerer, budget: Budget, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self.done = asyncio.Event()
        self.failure: BaseException | None = None
        self._inquiry = inquiry
        self._answerer = answerer
        self._room = budget.concurrency
        self._on_progress = on_progress
        self._progress = Progress()
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Request[Any]] = deque()
        self._tasks: dict[asyncio.Task[None], Request[Any]] = {}
        self._resting = 0
        self._ended = False

    def begin(self) -> None:
        """Ask every unit for the first time."""
        for unit in self._inquiry.units:
            self._want(self._inquiry.ask(unit))
        self._see_whether_done()

    async def end(self) -> None:
        """Cancel what is still under way; units that rest are not asked any more."""
        self._ended = True
        tasks = list(self._tasks)
        for task in tasks:
            task.remove_done_callback(self._finished)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _want(self, requests: Iterable[Request[Any]]) -> None:
        for request in requests:
            self._progress.asked += 1
            if request.connects:
                self._queue.append(request)
            else:
                self._start(request)
        self._fill()

    def _fill(self) -> None:
        while self._queue and self._room > 0:
            self._room -= 1
            self._start(self._queue.popleft())

    def _start(self, request: Request[Any]) -> None:
        task = self._loop.create_task(self._put(request))
        self._tasks[task] = request
        task.add_done_callback(self._finished)

    async def _put(self, request: Request[Any]) -> None:
        try:
            answer: Answer | str = await self._answerer.answer(request)
        except NoAnswer as reason:
            answer = str(reason)
        for unit in self._inquiry.feed(request, answer):
            self._schedule(unit)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._room += self._tasks.pop(task).connects
        if not task.cancelled() and (error := task.exception()) is not None:
            # A probe turns whatever the network does into an answer, so this is a bug of kmsdiag: end and say so.
            self.failure = self.failure or error
            self.done.set()
        self._fill()
        if self._on_progress is not None:
            self._progress.open = self._inquiry.open
            self._on_progress(self._progress)
        self._see_whether_done()

    def _schedule(self, unit: _Unit) -> None:
        # Asking costs as much as the unit is large. Where all its answers are in, it goes at once; until then it rests.
        self._resting += 1
        rest = unit.rested_at - time.perf_counter() if unit.waiting else 0.0
        if rest <= 0:
            self._loop.call_soon(self._again, unit)
        else:
            self._loop.call_later(rest, self._again, unit)

    def _again(self, unit: _Unit) -> None:
        if self._ended:
            return
        self._resting -= 1
        self._want(self._inquiry.ask(unit))
        self._see_whether_done()

    def _see_whether_done(self) -> None:
        if not self._tasks and not self._queue and not self._resting:
            self.done.set()


async def gather(
    inquiry: Inquiry,
    answerer: Answerer,
    budget: Budget,
    stop: asyncio.Event,
    on_progress: Callable[[Progress], None] | None = None,
    spent: float = 0.0,
) -> bool:
    """Put questions until none is open, the deadline is over or ``stop`` is set. Returns whether it was stopped.

    ``spent`` are seconds of the budget that are gone already.
    """
    run = _Gathering(inquiry, answerer, budget, on_progress)
    run.begin()
    stopped = asyncio.ensure_future(stop.wait())
    finishing = asyncio.ensure_future(run.done.wait())
    try:
        left = max(0.0, budget.seconds - spent)
        await asyncio.wait((stopped, finishing), timeout=left, return_when=asyncio.FIRST_COMPLETED)
    finally:
        interrupted = stopped.done()
        complete = finishing.done()
        stopped.cancel()
        finishing.cancel()
        await run.end()
        await asyncio.gather(stopped, finishing, return_exceptions=True)
    if run.failure is not None:
        raise run.failure
    if interrupted:
        inquiry.give_up("interrupted")
    elif not complete:
        inquiry.give_up(f"the deadline of {budget.seconds:g} s was reached")
    return interrupted


def replay(inquiry: Inquiry, answers: Callable[[Request[Any]], Answer | str]) -> None:
    """Put questions to a recording: no loop, no clock, no network."""
    todo = deque(inquiry.units)
    while todo:
        for request in inquiry.ask(todo.popleft()):
            todo.extend(inquiry.feed(request, answers(request)))


def judge(inquiry: Inquiry) -> list[CheckResult]:
    """Let every unit judge. Findings before a gap or a crash are kept; silence counts as a crash."""
    results = list(inquiry.crashed)
    for unit in inquiry.units:
        findings: list[Finding] = []
        gaps: list[str] = []
        crash = unit.crash
        if not crash:
            try:
                for finding in unit.check.module.judge(unit.subject, inquiry.seen):
                    if finding.code not in unit.check.module.META.codes:
                        raise LookupError(f"META has no code {finding.code!r}")
                    findings.append(finding)
            except Missing as gap:
                gaps.append(f"{gap.request}: {gap.reason}")
            except (Exception, SystemExit) as error:  # noqa: BLE001  # see Inquiry
                crash = _crash(error)
        open_questions = [
            f"{request}: {inquiry.unanswered[request]}" for request in unit.asked if request in inquiry.unanswered
        ]
        gaps.extend(gap for gap in open_questions if gap not in gaps)
        if not findings and not gaps and not crash:
            crash = "it said nothing; a check that is content says so with a code"
        results.append(
            CheckResult(
                check=unit.check.id,
                subject=unit.subject,
                findings=tuple(findings),
                gaps=tuple(gaps),
                crash=crash,
            )
        )
    return sorted(results, key=lambda result: (result.subject.order, result.check))


def _crash(error: BaseException) -> str:
    """The error with the place it came from, in one line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" ({trace.tb_frame.f_code.co_name}, line {trace.tb_lineno})" if trace is not None else ""
    return f"{type(error).__name__}: {error}{where}"
