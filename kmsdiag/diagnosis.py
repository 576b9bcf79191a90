"""From a target to a report: gather evidence, judge it, compile. The functions behind every command."""

import asyncio
import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from kmsdiag import agreement, audit, captured, collected_view, engine, headline, observed
from kmsdiag.audit import View
from kmsdiag.bundle import BUNDLE_FORMAT, Bundle, make_facts, make_gaps
from kmsdiag.changes import compile_changes
from kmsdiag.check import domains_and_hosts
from kmsdiag.discovery import overridden
from kmsdiag.engine import Answerer, Budget, Inquiry, NoAnswer, Progress
from kmsdiag.fault import NOWHERE, Fault
from kmsdiag.knowledge.causes import CAUSES
from kmsdiag.model.answer import Answer, DnsAnswer, RpcAnswer, TcpAnswer
from kmsdiag.model.audit import Change
from kmsdiag.model.capture import CaptureAnswer
from kmsdiag.model.collected import StatusAnswer
from kmsdiag.model.events import EventsAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Args, CheckResult, Finding, Severity, Status
from kmsdiag.model.outcome import RpcOutcome, State
from kmsdiag.model.path import Cause, Path, PathState, Remark, Verdict
from kmsdiag.model.proposal import Proposal
from kmsdiag.model.report import (
    REPORT_FORMAT,
    CaptureView,
    CollectedView,
    Counts,
    FindingView,
    NotChecked,
    Report,
    ResultView,
    Vantage,
)
from kmsdiag.model.request import Request
from kmsdiag.model.target import RUN, SubjectKind, Target
from kmsdiag.path import Diagnosis
from kmsdiag.path import diagnose as build_paths
from kmsdiag.policy import Policy
from kmsdiag.registry import BrokenCheck, LoadedCheck, Registry
from kmsdiag.report.words import fill, fill_fixes, visible
from kmsdiag.version import VERSION
from kmsdiag.whatif import compile_what_if


async def gather(
    target: Target,
    registry: Registry,
    answerer: Answerer,
    vantage: Vantage,
    *,
    budget: Budget | None = None,
    stop: asyncio.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    proposed: Proposal | None = None,
) -> Bundle:
    """Ask everything that the checks want to know about the target, and keep it.

    The run ends when no question is open, when the budget is spent, or soon after ``stop`` is set; whatever was
    learned by then is in the bundle. With ``proposed`` records the world is asked as it is, and then what else the
    checks would want to know with the records in place.
    """
    budget, stop = budget or Budget(), stop or asyncio.Event()
    started = datetime.datetime.now(datetime.UTC)
    inquiry = Inquiry(registry.checks, target, budget)
    interrupted = await engine.gather(inquiry, answerer, budget, stop, on_progress)
    facts, unanswered = inquiry.facts, inquiry.unanswered
    if proposed is not None and not interrupted:
        supposing = _Supposing(proposed, started, facts, unanswered, answerer)
        inquiry = Inquiry(registry.checks, target, budget)
        spent = (datetime.datetime.now(datetime.UTC) - started).total_seconds()
        interrupted = await engine.gather(inquiry, supposing, budget, stop, on_progress, spent)
        facts |= supposing.learned
        unanswered = {**inquiry.unanswered, **unanswered}
    return Bundle(
        kmsdiag_bundle=BUNDLE_FORMAT,
        tool=VERSION,
        vantage=vantage,
        target=target,
        checks=tuple(check.id for check in registry.checks),
        started=started,
        ended=datetime.datetime.now(datetime.UTC),
        facts=make_facts(facts),
        unanswered=make_gaps(unanswered),
        interrupted=interrupted,
        proposed=proposed,
    )


class _Supposing:
    """Answers as if proposed records were there; what no record changes is as it was ``known`` before, or is asked.

    ``learned`` are the answers that were asked for.
    """

    def __init__(
        self,
        proposed: Proposal,
        at: datetime.datetime,
        known: Mapping[Request[Any], Answer],
        gaps: Mapping[Request[Any], str],
        answerer: Answerer,
    ) -> None:
        self.learned: dict[Request[Any], Answer] = {}
        self._proposed = proposed
        self._at = at
        self._known = known
        self._gaps = gaps
        self._answerer = answerer

    async def answer(self, request: Request[Any]) -> Answer:
        known = self._known.get(request)
        supposed = self._proposed.answer(request, known, self._at) or known
        if supposed is not None:
            return supposed
        if request in self._gaps:
            raise NoAnswer(self._gaps[request])
        self.learned[request] = await self._answerer.answer(request)
        return self.learned[request]


def judge(bundle: Bundle, registry: Registry, policy: Policy | None = None, others: Sequence[Report] = ()) -> Report:
    """Judge a bundle: pure, so the same bundle and checks give the same report.

    ``others`` are reports of other places, for an audit of requirements that this run can't test. With proposed records
    the report is about the world with them in place.
    """
    policy = policy or Policy()
    report = _judge(bundle, registry, policy, others)
    if bundle.proposed is None:
        return report
    before = _judge(msgspec.structs.replace(bundle, proposed=None), registry, policy, others)
    what_if = compile_what_if(bundle.proposed, before, report, _evidence(bundle), bundle.started)
    return msgspec.structs.replace(report, what_if=what_if)


def changes(bundle: Bundle, report: Report, others: Sequence[Report] = ()) -> tuple[Change, ...]:
    """The commands that would bring the world of a bundle, and those of other reports, to the expected state."""
    own = msgspec.structs.replace(bundle, proposed=None)
    return compile_changes(_evidence(own), [audit.view(report), *map(audit.view, others)])


def _evidence(bundle: Bundle) -> Evidence:
    """The world as it is."""
    return Evidence(bundle.target, bundle.answers(), bundle.gaps())


def _judge(bundle: Bundle, registry: Registry, policy: Policy, others: Sequence[Report]) -> Report:
    answers, reasons = bundle.answers(), bundle.gaps()

    def recorded(request: Request[Any]) -> Answer | str:
        known = answers.get(request)
        supposed = bundle.proposed.answer(request, known, bundle.started) if bundle.proposed is not None else None
        return supposed or known or reasons.get(request, "not in the bundle")

    inquiry = Inquiry(
        registry.checks, bundle.target, Budget(requests=max(1, len(answers) + len(reasons)) * 10 + 10_000)
    )
    engine.replay(inquiry, recorded)
    results = engine.judge(inquiry)
    # Paths are built from all evidence of the bundle, asked for by a selected check or not.
    everything = Evidence(bundle.target, {**answers, **inquiry.facts}, {**reasons, **inquiry.unanswered})
    subjects = [*overridden(everything), *sorted(domains_and_hosts(bundle.target), key=lambda subject: subject.order)]
    diagnosis = build_paths(everything, list(dict.fromkeys(subjects)))
    by_id = {check.id: check for check in registry.checks}
    behind = _failing_stages(diagnosis)
    shown = captured.answer_of(everything)
    tables = None if shown is None else observed.view(shown, bundle.target.selection)
    files = collected_view.view(everything, diagnosis.ends)
    on = bundle.ended.date()
    views = _views(results, by_id, policy, behind, on) + tuple(_broken_view(check) for check in registry.broken)
    return Report(
        kmsdiag_report=REPORT_FORMAT,
        tool=VERSION,
        vantage=bundle.vantage,
        target=bundle.target,
        started=bundle.started,
        ended=bundle.ended,
        counts=_counts(bundle),
        verdict=_verdict(diagnosis, bundle, _remarks(views, diagnosis, behind, by_id), tables, files),
        paths=diagnosis.paths,
        results=views,
        dns=tuple(
            found
            for subject in subjects
            if subject.kind is SubjectKind.DOMAIN and (found := agreement.matrix(subject, everything)) is not None
        ),
        captures=tables,
        collected=files,
        not_checked=_not_checked(views, results, registry.broken, captures=tables is not None, files=files is not None),
        interrupted=bundle.interrupted,
        audit=audit.compile_audit(
            View(bundle.vantage, bundle.target, diagnosis.paths, bundle.started),
            _views(results, by_id, Policy(), behind, on),
            others,
            policy,
            on,
        )
        if bundle.target.expected.planned
        else None,
    )


def _counts(bundle: Bundle) -> Counts:
    answers = [fact.answer for fact in bundle.facts]
    binds = [answer for answer in answers if isinstance(answer, RpcAnswer)]
    logs = [file for answer in answers if isinstance(answer, EventsAnswer) for file in answer.files]
    return Counts(
        questions=len(bundle.facts) + len(bundle.unanswered),
        unanswered=len(bundle.unanswered),
        dns_messages=sum(answer.queries for answer in answers if isinstance(answer, DnsAnswer)),
        tcp_connections=sum(isinstance(answer, TcpAnswer) for answer in answers) + len(binds),
        rpc_binds=sum(answer.outcome is not RpcOutcome.NO_CONNECTION for answer in binds),
        seconds=round((bundle.ended - bundle.started).total_seconds(), 3),
        packets=sum(file.packets for answer in answers if isinstance(answer, CaptureAnswer) for file in answer.files),
        events=sum(file.records for file in logs),
        files=sum(isinstance(answer, StatusAnswer) for answer in answers),
    )


def _failing_stages(diagnosis: Diagnosis) -> dict[str, str]:
    """Question to the name of the failing stage that it is the reason for."""
    found: dict[str, str] = {}
    for path in diagnosis.paths:
        stages = [*path.stages, *(stage for route in path.routes for stage in route.stages)]
        for stage in stages:
            if stage.state is State.FAIL:
                for question in stage.questions:
                    found[question] = f"{stage.stage.value} of {path_name(path)}"
    return found


def path_name(path: Path) -> str:
    """A path as a reader would call it."""
    if path.target == NOWHERE:
        return path.domain
    host = f"{path.target}:{path.port}"
    return host if path.domain == NOWHERE else f"{path.domain} → {host}"


def _views(
    results: Iterable[CheckResult],
    checks: Mapping[str, LoadedCheck],
    policy: Policy,
    failing: dict[str, str],
    on: datetime.date,
) -> tuple[ResultView, ...]:
    views = (_view(result, checks[result.check], policy, failing, on) for result in results)
    return tuple(view for view in views if view is not None)


def _view(
    result: CheckResult, check: LoadedCheck, policy: Policy, failing: dict[str, str], on: datetime.date
) -> ResultView | None:
    meta = check.module.META
    findings = []
    for finding in result.findings:
        code = f"{result.check}.{finding.code}"
        if code not in policy.ignore:
            view = _finding_view(code, finding, check, policy, failing)
            waived = audit.waived(result.subject, code, finding.args, policy, on)
            findings.append(msgspec.structs.replace(view, waived=waived) if waived else view)
    if not findings and result.findings and not result.gaps and not result.crash:
        return None
    counting = (Status(finding.severity.value) for finding in findings if not finding.waived)
    status = max(counting, key=lambda one: one.rank, default=Status.OK)
    reason = ""
    if result.gaps:
        status = max(status, Status.NOT_ASSESSED, key=lambda one: one.rank)
        more = f" (and {len(result.gaps) - 1} more)" if len(result.gaps) > 1 else ""
        reason = visible(result.gaps[0]) + more
    if result.crash:
        status, reason = Status.CRASHED, visible(result.crash)
    return ResultView(
        check=result.check,
        title=meta.title,
        subject=result.subject,
        status=status,
        findings=tuple(findings),
        reason=reason,
    )


def _finding_view(
    code: str, finding: Finding, check: LoadedCheck, policy: Policy, failing: dict[str, str]
) -> FindingView:
    meta = check.module.META.codes[finding.code]
    because = tuple(str(request) for request in finding.because)
    behind = ""
    if meta.severity is Severity.NOT_ASSESSED:
        # There was nothing to judge because something earlier on the path failed.
        behind = next((failing[question] for question in because if question in failing), "")
    return FindingView(
        code=code,
        severity=policy.severity_of(code, meta.severity),
        text=_once(fill(meta.text, finding.args), finding.args),
        args=dict(finding.args),
        consequence=fill(meta.consequence, finding.args),
        fixes=fill_fixes(meta.fixes, finding.args),
        because=because,
        behind=behind,
    )


def _broken_view(check: BrokenCheck) -> ResultView:
    return ResultView(
        check=check.id,
        title=f"could not be loaded from {visible(check.origin)}",
        subject=RUN,
        status=Status.NOT_ASSESSED,
        reason=visible(check.error),
    )


def _not_checked(
    views: Sequence[ResultView],
    results: Sequence[CheckResult],
    broken: Sequence[BrokenCheck],
    *,
    captures: bool,
    files: bool,
) -> tuple[NotChecked, ...]:
    """What was not looked at and why: what follows from a failure once a stage, each other reason once."""
    found: Counter[tuple[str, str]] = Counter()
    same: dict[str, list[str]] = {}
    following: dict[str, tuple[set[str], set[str]]] = {}
    for view in views:
        for finding in view.findings:
            if finding.severity is not Severity.NOT_ASSESSED:
                continue
            if finding.behind:
                stage, _, path = finding.behind.partition(" of ")
                titles, paths = following.setdefault(stage, (set(), set()))
                titles.add(view.check)
                paths.add(path)
            else:
                same.setdefault(finding.code, []).append(finding.text)
    alike: dict[str, list[tuple[str, int]]] = {}
    for code, texts in same.items():
        # One example speaks for all that lack the same; JSON has every finding.
        alike.setdefault(texts[0], []).append((code.partition(".")[0], len(texts)))
    for text, checks in alike.items():
        found[", ".join(sorted({check for check, _number in checks})), text] += max(number for _check, number in checks)
    for stage, (titles, paths) in following.items():
        why = f"nothing to look at; it follows from the failure at stage {stage} of {headline.shorten(sorted(paths))}"
        found[", ".join(sorted(titles)), why] += 1
    for gap in {gap for result in results for gap in result.gaps}:
        question, _, why = gap.partition(": ")
        found[f"{question.partition(' ')[0]} questions", why] += 1
    if not files:
        found["client and host state", _OUTSIDE] += 1
    if captures:
        found["what captures can't show", _NOT_CAPTURED] += 1
    for check in broken:
        found[check.id, f"could not be loaded from {check.origin}: {check.error}"] += 1
    return tuple(NotChecked(visible(what), visible(why), count) for (what, why), count in sorted(found.items()))


_OUTSIDE = (
    "seen from outside only; whether a host's count reaches 25 (5 for servers and Office) and what clients show"
    " is said by slmgr /dlv on both"
)


_NOT_CAPTURED = (
    "machines that sent nothing past a capture point, activation by Active Directory, and whether a client accepted the"
    " answer: its event 12289 and slmgr /dlv say so"
)


def _remarks(
    views: Sequence[ResultView], diagnosis: Diagnosis, failing: dict[str, str], checks: Mapping[str, LoadedCheck]
) -> tuple[Remark, ...]:
    """What matters beside the causes, gravest first, each code once with its first text."""
    found: dict[str, list[FindingView]] = {}
    explained_by = {tag for _first, group in diagnosis.faults for fault in group for tag in _tags(fault)}
    for view in views:
        tags = checks[view.check].module.META.tags if view.check in checks else frozenset()
        of_paths = "path" in tags and bool(tags & explained_by)
        for finding in view.findings:
            # An error about a question on which a path fails is what the cause says already. Captures, and files that
            # others collected, are questions about everything; there the check says (by its tag) that its errors are
            # failures of paths.
            explained = finding.severity is Severity.ERROR and (
                of_paths or any(question in failing for question in finding.because)
            )
            shown = not (explained or finding.behind or finding.waived)
            if finding.severity.rank >= Severity.INFO.rank and shown:
                found.setdefault(finding.code, []).append(finding)
    remarks = [Remark(code, same[0].severity.value, same[0].text, len(same)) for code, same in found.items()]
    differing = [f"{path_name(path)}: {path.note}" for path in diagnosis.paths if path.note]
    if differing:
        remarks.insert(0, Remark("path.captures_differ", Severity.WARNING.value, visible(differing[0]), len(differing)))
    return tuple(sorted(remarks, key=lambda remark: -Severity(remark.severity).rank))


def _tags(fault: Fault) -> tuple[str, ...]:
    """Tags of the checks that look at the evidence which a fault comes from."""
    if fault.reported:
        return ("client", "host", "events")
    return ("capture",) if fault.captured else ()


def _verdict(
    diagnosis: Diagnosis,
    bundle: Bundle,
    remarks: tuple[Remark, ...],
    captures: CaptureView | None,
    files: CollectedView | None,
) -> Verdict:
    causes = tuple(_cause(first, group) for first, group in diagnosis.faults)
    unknown = tuple(path_name(path) for path in diagnosis.paths if path.state is PathState.UNKNOWN)
    return Verdict(
        state=diagnosis.state,
        headline=headline.headline(diagnosis, causes, remarks, bundle, captures, files),
        causes=causes,
        remarks=remarks,
        impact=diagnosis.impact,
        unknown=unknown,
    )


def _cause(first: Fault, group: Sequence[Fault]) -> Cause:
    text = CAUSES[first.code]
    domains = tuple(dict.fromkeys(fault.domain for fault in group if fault.domain != NOWHERE))
    shown = [fault for fault in group if fault.captured]
    told = [fault for fault in group if fault.captured or fault.reported]
    clients = sorted({client for fault in told for client in fault.clients}, key=_address_order)
    args = {
        **first.args,
        "domains": headline.shorten(domains) or "the given hosts",
        "clients": captured.who(clients, most=1),
        "attempts": captured.count(sum(fault.attempts for fault in told), "connection attempt"),
    }
    asked = next((fault for fault in group if not fault.captured), None)
    said = [] if asked is None else [fill(text.text, {**args, **asked.args})]
    if shown:
        said.append(fill(text.captured or text.text, {**shown[0].args, **args}))
    return Cause(
        code=first.code,
        stage=first.stage,
        headline=_once(fill(text.headline, args), first.args),
        text=_once(" ".join(dict.fromkeys(said)), first.args),
        paths=tuple(dict.fromkeys(" → ".join(_words(fault)) for fault in group)),
        screen=first.screen or text.screen,
        event=first.event or text.event,
        fixes=fill_fixes((*first.fixes, *text.fixes) if first.fixes else text.fixes, args),
    )


def _address_order(address: str) -> tuple[bool, int, str]:
    return (":" in address, len(address), address)


def _once(text: str, args: Args) -> str:
    """The text, with the address of a host that has no other name said once."""
    target = visible(str(args.get("target", "")))
    if not target or target != args.get("address"):
        return text
    return text.replace(f"{target} ({target})", target).replace(f"{target} ({target}, ", f"{target} (")


def _words(fault: Fault) -> list[str]:
    domain, target, port = fault.path
    words = [] if domain == NOWHERE else [domain]
    return words if target == NOWHERE else [*words, f"{target}:{port}"]
