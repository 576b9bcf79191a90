"""The report: everything that is said about one run, in the shape that JSON has."""

import datetime
from enum import StrEnum

import msgspec

from kmsdiag.model.audit import Audit, Change, WhatIf
from kmsdiag.model.finding import Args, Severity, Status
from kmsdiag.model.path import FixView, Path, Verdict
from kmsdiag.model.target import Subject, Target

REPORT_FORMAT = 1
"""Number of the report format; it grows when a reader of the old one would misread the new one."""


class Vantage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the questions were asked from."""

    label: str
    host: str = ""
    system: str = ""
    resolvers: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What the run cost: questions, DNS messages sent, TCP connections (binds included), binds, seconds."""

    questions: int
    unanswered: int
    dns_messages: int
    tcp_connections: int
    rpc_binds: int
    seconds: float


class FindingView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A finding with its texts filled in.

    ``behind`` names the path stage whose failure it only follows from; ``waived`` says why it does not count.
    """

    code: str
    severity: Severity
    text: str
    args: Args
    consequence: str = ""
    fixes: tuple[FixView, ...] = ()
    because: tuple[str, ...] = ()
    behind: str = ""
    waived: str = ""


class ResultView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One check on one subject."""

    check: str
    title: str
    subject: Subject
    status: Status
    findings: tuple[FindingView, ...] = ()
    reason: str = ""


class NotChecked(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that was not looked at, and why; ``count`` like it, of which this is the first."""

    what: str
    why: str
    count: int = 1


class Cell(StrEnum):
    """What one DNS server says about one record; *absent* and *could not ask* are never the same."""

    PRESENT = "present"
    OTHER_RANK = "other rank"
    ABSENT = "absent"
    NOT_KNOWN = "could not ask"


class ServerRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One DNS server's word on each record of a matrix; ``note`` says why it could not be asked."""

    server: str
    role: str
    cells: tuple[Cell, ...]
    serial: int | None = None
    note: str = ""


class DnsMatrix(msgspec.Struct, frozen=True, kw_only=True):
    """Servers against records of one domain, where the servers do not all say the same."""

    domain: str
    records: tuple[str, ...]
    rows: tuple[ServerRow, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run. ``started`` and ``ended`` are UTC and come from the evidence, so a replay has the same.

    ``audit`` is there where a whole plan was given, ``what_if`` where records were proposed.
    """

    kmsdiag_report: int
    tool: str
    vantage: Vantage
    target: Target
    started: datetime.datetime
    ended: datetime.datetime
    counts: Counts
    verdict: Verdict
    paths: tuple[Path, ...] = ()
    results: tuple[ResultView, ...] = ()
    dns: tuple[DnsMatrix, ...] = ()
    not_checked: tuple[NotChecked, ...] = ()
    interrupted: bool = False
    audit: Audit | None = None
    what_if: WhatIf | None = None
    changes: tuple[Change, ...] = ()
