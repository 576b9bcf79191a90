"""What findings are worth here: severities by ``check.code``, what is ignored, and the exit code."""

import datetime
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum, StrEnum
from typing import Any

import msgspec

from kmsdiag.model.audit import Requirement, RequirementState
from kmsdiag.model.finding import Args, Severity, Status
from kmsdiag.model.path import VerdictState
from kmsdiag.model.report import Report
from kmsdiag.model.target import Subject


class FailOn(StrEnum):
    """From which severity on a finding makes the exit code 1."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    NEVER = "never"


class ExitCode(IntEnum):
    """Exit codes; where several apply, the first of 130, 4, 2, 1, 3, 0 wins."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    UNKNOWN = 3
    INTERNAL = 4
    INTERRUPTED = 130


PRECEDENCE = (
    ExitCode.INTERRUPTED,
    ExitCode.INTERNAL,
    ExitCode.USAGE,
    ExitCode.FINDINGS,
    ExitCode.UNKNOWN,
    ExitCode.OK,
)


class PolicyError(ValueError):
    """A policy that says something impossible; the text names the key and the remedy."""


class Waiver(msgspec.Struct, frozen=True, kw_only=True):
    """A code that does not count up to and including a day (UTC). ``about``: one thing that it names; "" for all."""

    code: str
    reason: str
    until: datetime.date
    about: str = ""

    def covers(self, code: str, named: Iterable[str]) -> bool:
        """Whether this is about the code, and about one of the things that a finding names."""
        return code == self.code and (not self.about or any(self.about in _names(thing) for thing in named))


def _names(thing: str) -> tuple[str, str]:
    """A host with its port is also known without it."""
    return (thing.lower(), thing.lower().rpartition(":")[0])


class Policy(msgspec.Struct, frozen=True):
    """Severities that differ from the checks' own, codes that are left out of the report, and waivers."""

    severity: Mapping[str, Severity] = {}
    ignore: frozenset[str] = frozenset()
    waivers: tuple[Waiver, ...] = ()

    def severity_of(self, code: str, default: Severity) -> Severity:
        """Severity of ``check.code`` here. What was not assessed stays so: no policy can make it known."""
        return default if default is Severity.NOT_ASSESSED else self.severity.get(code, default)

    def waiver(self, code: str, named: Iterable[str], on: datetime.date) -> Waiver | None:
        """The waiver that covers a finding on a day, or None."""
        things = tuple(named)
        return next((one for one in self.waivers if on <= one.until and one.covers(code, things)), None)


def things(subject: Subject, args: Args) -> Iterator[str]:
    """What a finding is about, for a waiver: its subject, and every name and address among its values."""
    yield str(subject)
    for value in args.values():
        yield from value if isinstance(value, tuple) else (str(value),)


def parse_policy(
    data: Mapping[str, Any], known: frozenset[str], source: str, broken: frozenset[str] = frozenset()
) -> Policy:
    """Read the tables ``severity`` (code = "warning") and ``ignore`` (codes = [...]) of a configuration file.

    ``known`` are all codes; what the checks ``broken``, which could not be loaded, would say is not known.

    Raises:
        PolicyError: an unknown code or severity.
    """
    severities: dict[str, Severity] = {}
    for code, value in dict(data.get("severity", {})).items():
        require_known(code, known, broken, f"{source}: severity.{code!r}")
        try:
            severities[code] = Severity(value)
        except ValueError:
            allowed = ", ".join(severity for severity in Severity if severity is not Severity.NOT_ASSESSED)
            raise PolicyError(f"{source}: severity.{code!r}: {value!r} is no severity ({allowed})") from None
        if severities[code] is Severity.NOT_ASSESSED:
            raise PolicyError(f"{source}: severity.{code!r}: 'not_assessed' is a fact, not a severity; use ignore")
    codes = data.get("ignore", [])
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise PolicyError(f"{source}: ignore must be a list of codes such as ['hosts_several.equal']")
    for code in codes:
        require_known(code, known, broken, f"{source}: ignore")
    return Policy(severities, frozenset(codes))


def require_known(code: str, known: frozenset[str], broken: frozenset[str], where: str) -> None:
    """Refuse a code that nothing says.

    Raises:
        PolicyError: with the nearest known one.
    """
    if code not in known and code.partition(".")[0] not in broken:
        import difflib

        near = difflib.get_close_matches(code, sorted(known), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise PolicyError(f"{where}: no check says {code!r}{hint}")


def exit_code(report: Report, fail_on: FailOn, *, configuration_at_fault: bool = False) -> ExitCode:
    """The exit code of a report. ``configuration_at_fault``: a check could not be loaded."""
    codes = {ExitCode.OK}
    if report.interrupted:
        codes.add(ExitCode.INTERRUPTED)
    if any(result.status is Status.CRASHED for result in report.results):
        codes.add(ExitCode.INTERNAL)
    if configuration_at_fault:
        codes.add(ExitCode.USAGE)
    if fail_on is not FailOn.NEVER:
        limit = Severity(fail_on.value).rank
        severities = [one.severity for result in report.results for one in result.findings if not one.waived]
        severities += [one.severity for one in _requirements(report, RequirementState.FAIL)]
        if any(severity.rank >= limit for severity in severities):
            codes.add(ExitCode.FINDINGS)
    if report.verdict.state is VerdictState.UNKNOWN or _requirements(report, RequirementState.NOT_KNOWN):
        codes.add(ExitCode.UNKNOWN)
    return next(code for code in PRECEDENCE if code in codes)


def _requirements(report: Report, state: RequirementState) -> list[Requirement]:
    """Requirements in a state, without those that are waived."""
    requirements = () if report.audit is None else report.audit.requirements
    return [one for one in requirements if one.state is state and not one.waived]
