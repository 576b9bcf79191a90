import datetime
import itertools
from typing import Any

import pytest

from kmsdiag.model.finding import Severity, Status
from kmsdiag.model.path import Verdict, VerdictState
from kmsdiag.model.report import Counts, FindingView, Report, ResultView, Vantage
from kmsdiag.model.target import RUN, Target
from kmsdiag.policy import PRECEDENCE, ExitCode, FailOn, Policy, PolicyError, exit_code, parse_policy

KNOWN = frozenset({"hosts_several.equal", "hosts_several.ranked", "tcp_reachable.refused"})
AT = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)


def report(
    *severities: Severity,
    state: VerdictState = VerdictState.HEALTHY,
    crashed: bool = False,
    interrupted: bool = False,
) -> Report:
    findings = tuple(FindingView(code="a.b", severity=severity, text="", args={}) for severity in severities)
    results = [ResultView(check="a", title="", subject=RUN, status=Status.OK, findings=findings)]
    if crashed:
        results.append(ResultView(check="b", title="", subject=RUN, status=Status.CRASHED, reason="boom"))
    return Report(
        kmsdiag_report=1,
        tool="0.1",
        vantage=Vantage(label="here"),
        target=Target(),
        started=AT,
        ended=AT,
        counts=Counts(questions=0, unanswered=0, dns_messages=0, tcp_connections=0, rpc_binds=0, seconds=0),
        verdict=Verdict(state=state, headline=""),
        results=tuple(results),
        interrupted=interrupted,
    )


class TestParse:
    def test_nothing(self) -> None:
        assert parse_policy({}, KNOWN, "f") == Policy()

    def test_all(self) -> None:
        data = {"severity": {"hosts_several.equal": "error"}, "ignore": ["tcp_reachable.refused"], "options": {}}
        assert parse_policy(data, KNOWN, "f") == Policy(
            {"hosts_several.equal": Severity.ERROR}, frozenset({"tcp_reachable.refused"})
        )

    def test_what_a_broken_check_would_say_is_not_known(self) -> None:
        data = {"severity": {"tcp_mine.x": "error"}, "ignore": ["tcp_mine.y"]}
        assert parse_policy(data, KNOWN, "f", frozenset({"tcp_mine"})).ignore == {"tcp_mine.y"}
        with pytest.raises(PolicyError, match=r"no check says 'tcp_mine\.x'"):
            parse_policy(data, KNOWN, "f")

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (
                {"severity": {"hosts_several.equl": "error"}},
                "f: severity.'hosts_several.equl': no check says .*; did you mean 'hosts_several.equal'?",
            ),
            ({"severity": {"zzz": "error"}}, "no check says 'zzz'$"),
            ({"severity": {"hosts_several.equal": "bad"}}, "'bad' is no severity \\(ok, info, warning, error\\)"),
            ({"severity": {"hosts_several.equal": 3}}, "3 is no severity"),
            ({"severity": {"hosts_several.equal": "not_assessed"}}, "is a fact, not a severity; use ignore"),
            ({"ignore": ["hosts_several.rankd"]}, "f: ignore: .*did you mean 'hosts_several.ranked'?"),
            ({"ignore": "hosts_several.equal"}, "must be a list of codes"),
            ({"ignore": [3]}, "must be a list of codes"),
        ],
    )
    def test_errors_name_key_and_remedy(self, data: dict[str, Any], says: str) -> None:
        with pytest.raises(PolicyError, match=says):
            parse_policy(data, KNOWN, "f")


class TestSeverity:
    def test_by_code(self) -> None:
        policy = Policy({"a.b": Severity.ERROR})
        assert policy.severity_of("a.b", Severity.INFO) is Severity.ERROR
        assert policy.severity_of("a.c", Severity.INFO) is Severity.INFO

    def test_what_was_not_assessed_stays_so(self) -> None:
        assert Policy({"a.b": Severity.OK}).severity_of("a.b", Severity.NOT_ASSESSED) is Severity.NOT_ASSESSED

    def test_ranks(self) -> None:
        assert sorted(Severity, key=lambda one: one.rank) == ["ok", "not_assessed", "info", "warning", "error"]
        assert max(Status, key=lambda one: one.rank) is Status.CRASHED


class TestExitCode:
    @pytest.mark.parametrize(
        ("severity", "fail_on", "code"),
        [
            (Severity.ERROR, FailOn.ERROR, 1),
            (Severity.ERROR, FailOn.WARNING, 1),
            (Severity.ERROR, FailOn.INFO, 1),
            (Severity.ERROR, FailOn.NEVER, 0),
            (Severity.WARNING, FailOn.ERROR, 0),
            (Severity.WARNING, FailOn.WARNING, 1),
            (Severity.INFO, FailOn.WARNING, 0),
            (Severity.INFO, FailOn.INFO, 1),
            (Severity.NOT_ASSESSED, FailOn.INFO, 0),
            (Severity.OK, FailOn.INFO, 0),
        ],
    )
    def test_findings(self, severity: Severity, fail_on: FailOn, code: int) -> None:
        assert exit_code(report(Severity.OK, severity), fail_on) == code

    @pytest.mark.parametrize(
        ("state", "code"),
        [
            (VerdictState.HEALTHY, 0),
            (VerdictState.DEGRADED, 0),
            (VerdictState.BROKEN, 0),
            (VerdictState.UNKNOWN, 3),
        ],
    )
    def test_the_verdict_alone(self, state: VerdictState, code: int) -> None:
        assert exit_code(report(state=state), FailOn.NEVER) == code

    @pytest.mark.parametrize(
        ("interrupted", "crashed", "at_fault", "finding", "unknown"), list(itertools.product([False, True], repeat=5))
    )
    def test_precedence(
        self, *, interrupted: bool, crashed: bool, at_fault: bool, finding: bool, unknown: bool
    ) -> None:
        made = report(
            *([Severity.ERROR] if finding else []),
            state=VerdictState.UNKNOWN if unknown else VerdictState.HEALTHY,
            crashed=crashed,
            interrupted=interrupted,
        )
        expected = next(
            (
                code
                for code, applies in (
                    (130, interrupted),
                    (4, crashed),
                    (2, at_fault),
                    (1, finding),
                    (3, unknown),
                )
                if applies
            ),
            0,
        )
        assert exit_code(made, FailOn.ERROR, configuration_at_fault=at_fault) == expected

    def test_all_codes_have_a_place(self) -> None:
        assert [int(code) for code in PRECEDENCE] == [130, 4, 2, 1, 3, 0]
        assert set(PRECEDENCE) == set(ExitCode)
