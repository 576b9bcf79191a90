"""What checks say: findings by code, and the status they roll up to."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from kmsdiag.model.request import Request
from kmsdiag.model.target import Subject

Scalar = str | int | float
Args = Mapping[str, Scalar | tuple[str, ...]]


class Severity(StrEnum):
    """How much a code matters by default. ``not_assessed`` is not a grade: there was nothing to judge."""

    OK = "ok"
    NOT_ASSESSED = "not_assessed"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """Position from harmless to grave."""
        return _SEVERITIES.index(self)


_SEVERITIES = list(Severity)


class Status(StrEnum):
    """What became of one check for one subject."""

    OK = "ok"
    NOT_ASSESSED = "not_assessed"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRASHED = "crashed"

    @property
    def rank(self) -> int:
        """Position from harmless to grave."""
        return _STATUSES.index(self)


_STATUSES = list(Status)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a check says: a code of its META, the values for the code's templates, and the questions behind it."""

    code: str
    args: Args
    because: tuple[Request[Any], ...]


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """One check on one subject. ``gaps`` say what could not be judged and why; ``crash`` is a traceback's last line."""

    check: str
    subject: Subject
    findings: tuple[Finding, ...] = ()
    gaps: tuple[str, ...] = ()
    crash: str = ""
