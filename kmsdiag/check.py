"""All that a check imports besides the model: its metadata, and the usual choices of subjects.

A check is a module in ``checks/`` (or an entry point of the group ``kmsdiag.checks``) with

* a docstring whose sections say what it looks at, why it matters and what to do,
* ``META``: a :class:`CheckMeta`,
* ``subjects(target)``: what it will be asked about,
* ``ask(subject, seen)``: the questions whose answers it needs, given what is known so far,
* ``judge(subject, seen)``: findings, from the evidence alone.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding, Scalar, Severity
from kmsdiag.model.fix import Fix, Where
from kmsdiag.model.request import Request
from kmsdiag.model.target import CAPTURES, FILES, MACHINE, RUN, Subject, SubjectKind, Target

__all__ = [
    "Check",
    "CheckMeta",
    "Code",
    "Fix",
    "Severity",
    "Where",
    "captures",
    "collected",
    "domains",
    "domains_and_hosts",
    "event_logs",
    "say",
    "this_machine",
    "whole_run",
]


class Code(msgspec.Struct, frozen=True):
    """One thing that a check can say; all strings are templates over the finding's args."""

    severity: Severity
    text: str
    consequence: str = ""
    fixes: tuple[Fix, ...] = ()


class CheckMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What a check is and what it may say. ``since`` is the first kmsdiag version that has it."""

    title: str
    codes: Mapping[str, Code]
    tags: frozenset[str]
    since: str
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Make ``codes`` read-only: META is shared by every run of the process."""
        msgspec.structs.force_setattr(self, "codes", MappingProxyType(dict(self.codes)))


class Check(Protocol):
    """The shape of a check module."""

    META: CheckMeta

    def subjects(self, target: Target, /) -> Iterator[Subject]:
        """What the check looks at in this run."""

    def ask(self, subject: Subject, seen: Evidence, /) -> Iterator[Request[Any]]:
        """The questions that matter, given what is known; asked again as answers arrive."""

    def judge(self, subject: Subject, seen: Evidence, /) -> Iterator[Finding]:
        """What the evidence says."""


def domains(target: Target) -> Iterator[Subject]:
    """Subjects of a check about published records: each domain."""
    for name in target.domains:
        yield Subject(SubjectKind.DOMAIN, name)


def domains_and_hosts(target: Target) -> Iterator[Subject]:
    """Subjects of a check about hosts: each domain, and each host given explicitly."""
    yield from domains(target)
    for spec in target.hosts:
        yield Subject(SubjectKind.HOST, spec.host, spec.port)


def this_machine(target: Target) -> Iterator[Subject]:
    """The subject of a check about the settings of this machine, where the run is about them."""
    if target.machine:
        yield MACHINE


def captures(target: Target) -> Iterator[Subject]:
    """The subject of a check about packet captures, where the run has any."""
    if target.captures:
        yield CAPTURES


def collected(target: Target) -> Iterator[Subject]:
    """The subject of a check about the state of machines, where the run has files about it."""
    if target.status:
        yield FILES


def event_logs(target: Target) -> Iterator[Subject]:
    """The subject of a check about event logs, where the run has any."""
    if target.events:
        yield FILES


def whole_run(_target: Target) -> Iterator[Subject]:
    """The one subject of a check about everything together."""
    yield RUN


def say(code: str, because: tuple[Request[Any], ...], /, **args: Scalar | tuple[str, ...]) -> Finding:
    """Make a finding: a code of META, the questions it rests on, and the values of the code's templates."""
    return Finding(code=code, args=args, because=because)
