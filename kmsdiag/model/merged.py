"""Runs from many places in one picture: who finds and reaches which host, and what the failures have in common."""

import datetime
from enum import StrEnum
from typing import Final

import msgspec

from kmsdiag.model.finding import Severity
from kmsdiag.model.outcome import Stage, State
from kmsdiag.model.path import ClientCode, FixView, PathState, VerdictState

MERGED_FORMAT: Final = 1
"""Number of the format of a merged picture; it grows when a reader of the old one would misread the new one."""


class VantageView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place. ``problem`` says why its file told nothing; then ``state`` is unknown, which is never healthy.

    ``source`` is the file, ``servers`` are the DNS servers that were asked, ``remark`` is the gravest thing beside the
    ways; ``errors`` and ``warnings`` count the findings of its own report, ``worst`` is the gravest.
    """

    label: str
    source: str
    state: VerdictState
    headline: str = ""
    remark: str = ""
    host: str = ""
    addresses: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    started: datetime.datetime | None = None
    tool: str = ""
    errors: int = 0
    warnings: int = 0
    worst: Severity = Severity.OK
    problem: str = ""


class StageCell(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stage as one place saw it: works (ok), fails, or not known.

    ``at`` is the host's address (tcp, rpc, clock), or the DNS server (srv, name) that does not serve; ``note`` is a
    word or two.
    """

    stage: Stage
    state: State
    note: str = ""
    at: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a way is worth from some places, for which every stage looks the same."""

    state: PathState
    stages: tuple[StageCell, ...]
    vantages: tuple[str, ...]


class WayView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way to a host as all places see it; ``not_known`` places could tell nothing of it.

    Known by (domain, target, port) like a path; ``target`` is "–" where discovery fails.
    """

    domain: str
    target: str
    port: int
    outcomes: tuple[Outcome, ...]
    not_known: int = 0


class CauseKind(StrEnum):
    """What failing places can have in common, in the order in which equals are preferred."""

    SERVER = "server"
    HOST = "host"
    DOMAIN = "domain"
    VANTAGE = "vantage"
    NETWORK = "network"


class CommonCause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that explains failures at ``vantages``, and that nothing known contradicts.

    ``works_at`` are places where the same works; ``instead`` are other things that would explain as much;
    ``screen`` is what a client there shows.
    """

    kind: CauseKind
    name: str
    stage: Stage
    headline: str
    text: str
    vantages: tuple[str, ...]
    works_at: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    screen: ClientCode | None = None
    fixes: tuple[FixView, ...] = ()


class Merged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The picture. ``state``: healthy only where every place is; unknown where none fails and one told nothing."""

    kmsdiag_merged: int
    tool: str
    state: VerdictState
    headline: str
    causes: tuple[CommonCause, ...] = ()
    vantages: tuple[VantageView, ...] = ()
    ways: tuple[WayView, ...] = ()
    notes: tuple[str, ...] = ()
