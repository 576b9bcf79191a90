"""What an audit says: requirements and their state, what proposed records would do, commands that change things."""

import datetime
from enum import StrEnum

import msgspec

from kmsdiag.model.finding import Severity


class RequirementState(StrEnum):
    """Whether a requirement is met. What could not be looked at is neither met nor failed."""

    PASS = "pass"  # noqa: S105  # no password
    FAIL = "fail"
    NOT_KNOWN = "not known"


class Requirement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that the expected state demands.

    ``code`` says who decides: a check, or ``audit.network``. ``seen_from`` are the vantages it rests on; ``severity``
    is what a failure is worth; ``waived`` says why it does not count.
    """

    code: str
    what: str
    state: RequirementState
    why: str = ""
    seen_from: tuple[str, ...] = ()
    severity: Severity = Severity.ERROR
    waived: str = ""


class WaiverUse(StrEnum):
    """What became of a waiver in this run."""

    USED = "used"
    NOT_NEEDED = "not needed"
    EXPIRED = "expired"


class WaiverView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A waiver, and whether anything was waived by it."""

    code: str
    reason: str
    until: datetime.date
    use: WaiverUse
    about: str = ""


class Audit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The expected state against what was found."""

    requirements: tuple[Requirement, ...] = ()
    waivers: tuple[WaiverView, ...] = ()


class Share(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Part of a domain's clients that try a host first, from 0 to 1, by Windows generation.

    ``ranked`` is Windows 7 / Server 2008 R2 and later; ``random`` is Vista / Server 2008, which ignore ranks.
    ``windows`` and ``office`` are planned machines, where there is a plan.
    """

    host: str
    ranked: float
    random: float
    windows: int | None = None
    office: int | None = None


class Removed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A host that is published no more. ``answers``: it answers as KMS now (None: not known)."""

    host: str
    answers: bool | None = None


class DomainShift(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What proposed records do to the clients of one domain.

    ``moves`` and ``moves_random`` are the parts of first picks, from 0 to 1, that go to another host, by generation;
    ``ttl`` is how many seconds a DNS cache may hold the old records (0: there are none).
    """

    domain: str
    before: tuple[Share, ...] = ()
    after: tuple[Share, ...] = ()
    moves: float = 0.0
    moves_random: float = 0.0
    ttl: int = 0
    added: tuple[str, ...] = ()
    removed: tuple[Removed, ...] = ()


class Effect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that is not as before with the proposed records; ``better`` is None where it is neither."""

    what: str
    better: bool | None = None


class WhatIf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Proposed records, judged before the change. The rest of the report is about the world with them in place."""

    records: tuple[str, ...]
    domains: tuple[DomainShift, ...] = ()
    effects: tuple[Effect, ...] = ()


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Lines to type, and those that take them back; ``where`` says on which machine."""

    where: str
    do: tuple[str, ...]
    undo: tuple[str, ...]


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One difference from the expected state. Its ``steps`` are ways to the same end, for different machines."""

    what: str
    steps: tuple[Step, ...]
