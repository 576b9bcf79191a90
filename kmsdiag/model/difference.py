"""Two reports side by side: what got worse, what got better, what else changed, and what can't be told."""

import datetime
from enum import StrEnum
from typing import Final

import msgspec

from kmsdiag.model.path import VerdictState

DIFFERENCE_FORMAT: Final = 1
"""Number of the format of a difference; it grows when a reader of the old one would misread the new one."""


class ChangeKind(StrEnum):
    """What changed."""

    VERDICT = "verdict"
    WAY = "way"
    FINDING = "finding"
    REQUIREMENT = "requirement"


class DifferenceState(StrEnum):
    """The outcome: something got worse; nothing did; or it can't be told, because one of the two did not look."""

    WORSE = "worse"
    NO_WORSE = "no worse"
    NOT_COMPARABLE = "not comparable"


class Side(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the two reports."""

    source: str
    label: str
    state: VerdictState
    started: datetime.datetime
    tool: str = ""


class ChangeView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change. ``domain`` and ``host`` (``name:port``) say of which way, ``code`` of which finding it is."""

    kind: ChangeKind
    what: str
    domain: str = ""
    host: str = ""
    code: str = ""


class Difference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All changes from ``old`` to ``new``. ``reasons`` say why the two can't be compared, ``notes`` what to mind."""

    kmsdiag_diff: int
    tool: str
    state: DifferenceState
    headline: str
    old: Side
    new: Side
    worse: tuple[ChangeView, ...] = ()
    not_known: tuple[ChangeView, ...] = ()
    better: tuple[ChangeView, ...] = ()
    changed: tuple[ChangeView, ...] = ()
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
