import asyncio
import datetime
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kmsdiag import engine
from kmsdiag.check import CheckMeta, Code, Severity, domains, say, whole_run
from kmsdiag.engine import Budget, Inquiry, NoAnswer, Progress
from kmsdiag.model.answer import Answer, SrvAnswer, SrvRecord, TcpAnswer
from kmsdiag.model.evidence import Evidence, Missing
from kmsdiag.model.finding import CheckResult, Finding
from kmsdiag.model.outcome import DnsOutcome, TcpOutcome
from kmsdiag.model.request import Request, SrvQuery, TcpConnect
from kmsdiag.model.target import RUN, Subject, Target
from kmsdiag.registry import LoadedCheck, discover

AT = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)
TARGET = Target(domains=("a.example", "b.example"))


def srv(name: str) -> SrvQuery:
    return SrvQuery(name=name)


def tcp(address: str, attempt: int = 1) -> TcpConnect:
    return TcpConnect(address=address, port=1688, attempt=attempt)


def answer_to(request: Request[Any]) -> Answer:
    if isinstance(request, SrvQuery):
        record = SrvRecord(0, 0, 1688, f"kms.{request.name}", 60)
        return SrvAnswer(at=AT, outcome=DnsOutcome.ANSWERED, records=(record,))
    return TcpAnswer(at=AT, outcome=TcpOutcome.OPEN)


class FakeCheck:
    """A check made of functions; by default it asks SRV, then TCP, and is content."""

    META = CheckMeta(
        title="fake", codes={"fine": Code(Severity.OK, "fine")}, tags=frozenset(), since="0.1", references=()
    )

    def __init__(
        self,
        ask: Callable[[Subject, Evidence], Iterator[Request[Any]]] | None = None,
        judge: Callable[[Subject, Evidence], Iterator[Finding]] | None = None,
        subjects: Callable[[Target], Iterator[Subject]] = domains,
    ) -> None:
        self._ask = ask or (lambda subject, seen: iter([srv(subject.name)]))
        self._judge = judge or (lambda subject, seen: iter([say("fine", ())]))
        self._subjects = subjects

    def subjects(self, target: Target, /) -> Iterator[Subject]:
        return self._subjects(target)

    def ask(self, subject: Subject, seen: Evidence, /) -> Iterator[Request[Any]]:
        return self._ask(subject, seen)

    def judge(self, subject: Subject, seen: Evidence, /) -> Iterator[Finding]:
        return self._judge(subject, seen)


class Network:
    """An answerer whose every move the test decides; it notes what was put and what was answered, in order."""

    def __init__(self, reply: Callable[[Request[Any]], Awaitable[Answer]] | None = None) -> None:
        self.events: list[str] = []
        self.put: list[Request[Any]] = []
        self.cancelled: list[Request[Any]] = []
        self._reply = reply

    async def answer(self, request: Request[Any], /) -> Answer:
        self.put.append(request)
        self.events.append(f"put {request}")
        try:
            found = await self._reply(request) if self._reply is not None else answer_to(request)
        except asyncio.CancelledError:
            self.cancelled.append(request)
            raise
        self.events.append(f"answer {request}")
        return found


def inquire(*checks: FakeCheck, target: Target = TARGET, budget: Budget | None = None) -> Inquiry:
    loaded = [LoadedCheck(f"fake_{number}", check, "test") for number, check in enumerate(checks)]
    return Inquiry(loaded, target, budget or Budget())


def gather(
    inquiry: Inquiry,
    network: Network,
    budget: Budget | None = None,
    stop: Callable[[asyncio.Event], Awaitable[None]] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> bool:
    async def run() -> bool:
        event = asyncio.Event()
        stopper = asyncio.ensure_future(stop(event)) if stop is not None else None
        result = await engine.gather(inquiry, network, budget or Budget(seconds=10), event, on_progress)
        if stopper is not None:
            await stopper
        return result

    return asyncio.run(run())


def srv_then_tcp(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    yield srv(subject.name)
    for record in seen[srv(subject.name)].records:
        yield tcp(record.target)


class TestAsking:
    def test_each_distinct_question_is_put_once(self) -> None:
        same = FakeCheck(srv_then_tcp)
        network = Network()
        inquiry = inquire(same, same, FakeCheck(lambda _subject, _seen: iter([srv("a.example")])))
        assert gather(inquiry, network) is False
        assert sorted(map(str, network.put)) == [
            "SRV a.example @system",
            "SRV b.example @system",
            "TCP kms.a.example:1688",
            "TCP kms.b.example:1688",
        ]
        assert set(inquiry.facts) == set(network.put)
        assert not inquiry.unanswered
        assert inquiry.open == 0

    def test_a_silent_subject_holds_up_no_other(self) -> None:
        """b's first answer comes only after a's second question: with a barrier between rounds neither would come."""
        second = asyncio.Event()

        async def reply(request: Request[Any]) -> Answer:
            if request == srv("b.example"):
                await second.wait()
            if request == tcp("kms.a.example"):
                second.set()
            return answer_to(request)

        network = Network(reply)
        inquiry = inquire(FakeCheck(srv_then_tcp))
        gather(inquiry, network)
        assert not inquiry.unanswered
        order = network.events.index
        assert order("put TCP kms.a.example:1688") < order("answer SRV b.example @system")
        assert tcp("kms.b.example") in inquiry.facts

    def test_an_open_question_holds_up_no_other_of_the_same_subject(self) -> None:
        second = asyncio.Event()

        def ask(_subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
            yield srv("slow.example")
            yield srv("fast.example")
            found = seen.get(srv("fast.example"))
            if found is not None:
                yield tcp("next")

        async def reply(request: Request[Any]) -> Answer:
            if request == srv("slow.example"):
                await second.wait()
            if request == tcp("next"):
                second.set()
            return answer_to(request)

        inquiry = inquire(FakeCheck(ask, subjects=whole_run))
        gather(inquiry, Network(reply))
        assert set(inquiry.facts) == {srv("slow.example"), srv("fast.example"), tcp("next")}

    def test_a_long_dialogue(self) -> None:
        def ask(_subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
            for number in range(200):
                yield srv(f"n{number}")
                seen[srv(f"n{number}")]

        inquiry = inquire(FakeCheck(ask, subjects=whole_run))
        gather(inquiry, Network())
        assert len(inquiry.facts) == 200

    def test_nothing_to_ask(self) -> None:
        inquiry = inquire(FakeCheck(lambda _subject, _seen: iter(())))
        assert gather(inquiry, Network()) is False
        assert not inquiry.facts

    def test_no_check_at_all(self) -> None:
        assert gather(inquire(), Network()) is False

    def test_no_answer_is_a_gap_with_its_reason(self) -> None:
        async def reply(request: Request[Any]) -> Answer:
            if request == srv("a.example"):
                raise NoAnswer("no privilege for that")
            return answer_to(request)

        inquiry = inquire(FakeCheck(srv_then_tcp))
        gather(inquiry, Network(reply))
        assert inquiry.unanswered == {srv("a.example"): "no privilege for that"}
        assert tcp("kms.b.example") in inquiry.facts

    def test_progress_ends_with_nothing_open(self) -> None:
        seen: list[tuple[int, int]] = []
        gather(inquire(FakeCheck(srv_then_tcp)), Network(), on_progress=lambda at: seen.append((at.asked, at.open)))
        assert len(seen) == 4
        assert seen[-1] == (4, 0)
        assert all(open_ <= asked for asked, open_ in seen)


class TestLimits:
    @pytest.mark.parametrize("limit", [1, 2, 7])
    def test_questions(self, limit: int) -> None:
        def ask(_subject: Subject, _seen: Evidence) -> Iterator[Request[Any]]:
            yield from (srv(f"n{number}") for number in range(20))

        budget = Budget(requests=limit)
        network = Network()
        inquiry = inquire(FakeCheck(ask, subjects=whole_run), budget=budget)
        gather(inquiry, network, budget)
        assert len(network.put) == len(inquiry.facts) == limit
        assert len(inquiry.unanswered) == 20 - limit
        assert set(inquiry.unanswered.values()) == {f"the limit of {limit} questions was reached"}

    def test_seconds(self) -> None:
        async def reply(request: Request[Any]) -> Answer:
            if request == srv("a.example"):
                await asyncio.sleep(3600)
            return answer_to(request)

        network = Network(reply)
        inquiry = inquire(FakeCheck(srv_then_tcp))
        assert gather(inquiry, network, Budget(seconds=0.2)) is False
        assert inquiry.unanswered == {srv("a.example"): "the deadline of 0.2 s was reached"}
        assert network.cancelled == [srv("a.example")]
        assert tcp("kms.b.example") in inquiry.facts

    def test_seconds_bound_an_inquiry_that_never_ends(self) -> None:
        def ask(_subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
            number = 0
            while True:
                yield srv(f"n{number}")
                if seen.get(srv(f"n{number}")) is None:
                    return
                number += 1

        async def reply(request: Request[Any]) -> Answer:
            await asyncio.sleep(0.001)
            return answer_to(request)

        inquiry = inquire(FakeCheck(ask, subjects=whole_run))
        gather(inquiry, Network(reply), Budget(seconds=0.2))
        assert "the deadline of 0.2 s was reached" in inquiry.unanswered.values()
        assert 1 <= len(inquiry.facts) < 300

    def test_stop(self) -> None:
        known = asyncio.Event()

        async def reply(request: Request[Any]) -> Answer:
            if request == srv("a.example"):
                await asyncio.sleep(3600)
            if request == tcp("kms.b.example"):
                asyncio.get_running_loop().call_later(0.05, known.set)
            return answer_to(request)

        network = Network(reply)

        async def stop(event: asyncio.Event) -> None:
            await known.wait()
            event.set()

        inquiry = inquire(FakeCheck(srv_then_tcp))
        assert gather(inquiry, network, stop=stop) is True
        assert inquiry.unanswered == {srv("a.example"): "interrupted"}
        assert tcp("kms.b.example") in inquiry.facts

    def test_what_waits_for_room_is_a_gap_too(self) -> None:
        async def reply(_request: Request[Any]) -> Answer:
            await asyncio.sleep(3600)
            raise AssertionError

        def ask(_subject: Subject, _seen: Evidence) -> Iterator[Request[Any]]:
            yield from (tcp(f"10.0.0.{number}") for number in range(5))

        network = Network(reply)
        inquiry = inquire(FakeCheck(ask, subjects=whole_run))
        gather(inquiry, network, Budget(seconds=0.1, concurrency=2))
        assert len(network.put) == 2
        assert len(inquiry.unanswered) == 5

    @pytest.mark.parametrize("limit", [1, 3, 10])
    def test_connections_open_at_once(self, limit: int) -> None:
        now = most = dns_now = dns_most = 0

        async def reply(request: Request[Any]) -> Answer:
            nonlocal now, most, dns_now, dns_most
            if request.connects:
                now += 1
                most = max(most, now)
            else:
                dns_now += 1
                dns_most = max(dns_most, dns_now)
            await asyncio.sleep(0.002)
            if request.connects:
                now -= 1
            else:
                dns_now -= 1
            return answer_to(request)

        def ask(_subject: Subject, _seen: Evidence) -> Iterator[Request[Any]]:
            yield from (tcp(f"10.0.0.{number}") for number in range(40))
            yield from (srv(f"n{number}") for number in range(40))

        inquiry = inquire(FakeCheck(ask, subjects=whole_run))
        gather(inquiry, Network(reply), Budget(seconds=10, concurrency=limit))
        assert len(inquiry.facts) == 80
        assert most == limit
        # DNS questions share a socket and hold no connection.
        assert dns_most == 40


class TestBugs:
    def test_a_bug_of_a_probe_ends_the_run(self) -> None:
        async def reply(request: Request[Any]) -> Answer:
            if request == srv("a.example"):
                raise ZeroDivisionError("a bug")
            await asyncio.sleep(3600)
            return answer_to(request)

        network = Network(reply)
        with pytest.raises(ZeroDivisionError, match="a bug"):
            gather(inquire(FakeCheck(srv_then_tcp)), network)
        assert network.cancelled == [srv("b.example")]

    def test_cancelling_the_run_cancels_its_questions(self) -> None:
        both = asyncio.Event()

        async def reply(request: Request[Any]) -> Answer:
            if request == srv("b.example"):
                both.set()
            await asyncio.sleep(3600)
            raise AssertionError

        network = Network(reply)

        async def run() -> None:
            task = asyncio.ensure_future(
                engine.gather(inquire(FakeCheck(srv_then_tcp)), network, Budget(), asyncio.Event())
            )
            await both.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(run())
        assert len(network.cancelled) == 2


def boom(*_arguments: object) -> Iterator[Any]:
    raise RuntimeError("boom")
    yield


class TestJudging:
    def results(self, *checks: FakeCheck) -> list[CheckResult]:
        inquiry = inquire(*checks, target=Target(domains=("a.example",)))
        gather(inquiry, Network())
        return engine.judge(inquiry)

    def test_findings(self) -> None:
        (result,) = self.results(FakeCheck())
        assert [finding.code for finding in result.findings] == ["fine"]
        assert (result.gaps, result.crash) == ((), "")

    @pytest.mark.parametrize("where", ["subjects", "ask", "judge"])
    def test_a_crash_is_shown_and_stays_its_own(self, where: str) -> None:
        broken = FakeCheck(**{where: boom})
        results = self.results(broken, FakeCheck())
        crashed = next(result for result in results if result.check == "fake_0")
        assert crashed.crash.startswith("RuntimeError: boom (boom, line ")
        assert crashed.findings == ()
        assert (crashed.subject == RUN) == (where == "subjects")
        fine = next(result for result in results if result.check == "fake_1")
        assert fine.crash == ""
        assert len(fine.findings) == 1

    def test_a_crash_while_asking_keeps_what_others_asked(self) -> None:
        def ask(subject: Subject, _seen: Evidence) -> Iterator[Request[Any]]:
            yield srv(subject.name)
            raise RuntimeError("boom")

        inquiry = inquire(FakeCheck(ask), FakeCheck(srv_then_tcp))
        gather(inquiry, Network())
        assert len(inquiry.facts) == 4

    def test_saying_nothing_is_a_crash(self) -> None:
        (result,) = self.results(FakeCheck(judge=lambda _subject, _seen: iter(())))
        assert "it said nothing" in result.crash

    def test_an_undeclared_code_is_a_crash(self) -> None:
        (result,) = self.results(FakeCheck(judge=lambda _subject, _seen: iter([say("fine", ()), say("new", ())])))
        assert "META has no code 'new'" in result.crash
        assert [finding.code for finding in result.findings] == ["fine"]

    def test_a_question_never_asked_is_a_gap(self) -> None:
        def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
            yield say("fine", ())
            seen[tcp("10.0.0.1")]
            yield say("fine", ())

        (result,) = self.results(FakeCheck(judge=judge))
        assert result.gaps == ("TCP 10.0.0.1:1688: never asked",)
        assert len(result.findings) == 1
        assert result.crash == ""

    def test_a_question_without_an_answer_is_a_gap_even_where_judge_does_not_look(self) -> None:
        inquiry = inquire(FakeCheck(), target=Target(domains=("a.example",)))
        inquiry.unanswered[srv("a.example")] = "why not"
        gather(inquiry, Network())
        (result,) = engine.judge(inquiry)
        assert result.gaps == ("SRV a.example @system: why not",)

    def test_gaps_are_named_once(self) -> None:
        def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
            seen[srv(subject.name)]
            yield say("fine", ())

        inquiry = inquire(FakeCheck(judge=judge), target=Target(domains=("a.example",)))
        inquiry.unanswered[srv("a.example")] = "why not"
        (unit,) = inquiry.units
        inquiry.ask(unit)
        (result,) = engine.judge(inquiry)
        assert result.gaps == ("SRV a.example @system: why not",)

    def test_results_are_sorted(self) -> None:
        inquiry = inquire(FakeCheck(subjects=whole_run), FakeCheck(), target=Target(domains=("z.example", "a.example")))
        gather(inquiry, Network())
        assert [(str(result.subject), result.check) for result in engine.judge(inquiry)] == [
            ("a.example", "fake_1"),
            ("z.example", "fake_1"),
            ("all", "fake_0"),
        ]


class TestReplay:
    def test_gives_what_the_live_run_gave(self) -> None:
        live = inquire(FakeCheck(srv_then_tcp))
        gather(live, Network())
        again = inquire(FakeCheck(srv_then_tcp))
        engine.replay(again, lambda request: live.facts[request])
        assert again.facts == live.facts
        assert engine.judge(again) == engine.judge(live)

    def test_reasons_are_replayed(self) -> None:
        again = inquire(FakeCheck(srv_then_tcp))
        engine.replay(again, lambda request: f"not recorded: {request}")
        assert set(again.unanswered) == {srv("a.example"), srv("b.example")}


class TestEvidence:
    def test_a_missing_answer_names_its_question(self) -> None:
        seen = Evidence(TARGET, {}, {srv("a.example"): "the deadline"})
        with pytest.raises(Missing, match=r"SRV a\.example @system: the deadline"):
            seen[srv("a.example")]
        with pytest.raises(Missing, match="never asked"):
            seen[srv("b.example")]
        assert seen.get(srv("a.example")) is None

    def test_nothing_known(self) -> None:
        seen = Evidence(TARGET)
        assert (dict(seen.facts), dict(seen.unanswered)) == ({}, {})


@pytest.mark.parametrize("part", ["subjects", "ask", "judge"])
def test_a_check_that_exits_ends_only_itself(tmp_path: Path, part: str) -> None:
    """sys.exit() in a foreign check is its crash, not the end of the run."""
    body = {"subjects": "return domains(target)", "ask": "yield from ()", "judge": "yield from ()"}
    body[part] = "raise SystemExit(7)"
    (tmp_path / "dns_exit.py").write_text(
        '"""x"""\n'
        "from kmsdiag.check import CheckMeta, domains\n"
        'META = CheckMeta(title="x", codes={}, tags=frozenset(), since="0.1")\n'
        f"def subjects(target):\n    {body['subjects']}\n"
        f"def ask(subject, seen):\n    {body['ask']}\n    yield\n"
        f"def judge(subject, seen):\n    {body['judge']}\n    yield\n"
    )
    registry = discover(tmp_path).select(["dns_exit"])
    inquiry = Inquiry(registry.checks, Target(domains=("contoso.example",)), Budget())
    engine.replay(inquiry, lambda _request: "not in the bundle")
    (result,) = engine.judge(inquiry)
    assert result.crash.startswith("SystemExit: 7")
