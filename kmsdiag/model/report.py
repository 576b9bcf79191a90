"""The report: everything that is said about one run, in the shape that JSON has."""

import datetime
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from kmsdiag.model.audit import Audit, Change, WhatIf
from kmsdiag.model.capture import (
    CapturedHost,
    CapturedLookup,
    Conversation,
    FileFacts,
    FoundBy,
    PairedPath,
    Quality,
)
from kmsdiag.model.correlation import Correlation
from kmsdiag.model.events import EventFile
from kmsdiag.model.finding import Args, Severity, Status
from kmsdiag.model.outcome import Stage, State
from kmsdiag.model.path import FixView, Path, Verdict
from kmsdiag.model.target import Subject, Target

REPORT_FORMAT = 1
"""Number of the report format; it grows when a reader of the old one would misread the new one."""


FILES: Final = "files"
"""Label of a vantage of which nothing is known but the capture files that came from there."""


class Vantage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the questions were asked from."""

    label: str
    host: str = ""
    system: str = ""
    resolvers: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


class Counts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the run cost: questions, DNS messages sent, TCP connections (binds included), binds, seconds.

    ``packets`` were read from captures, ``events`` from event logs; ``files`` are those about machines.
    """

    questions: int
    unanswered: int
    dns_messages: int
    tcp_connections: int
    rpc_binds: int
    seconds: float
    packets: int = 0
    events: int = 0
    files: int = 0


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


class ClientRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one captured client ended: at which stage, with which outcome, at which host, and why.

    ``name`` is its workstation name where version 4 shows it. ``host`` is "" where it found none; ``domains`` are those
    it asked for. ``attempts`` counts those at that host, ``numbers`` are examples of their conversations.
    """

    address: str
    state: State
    outcome: str
    words: str
    stage: Stage | None = None
    name: str = ""
    domains: tuple[str, ...] = ()
    host: str = ""
    found_by: FoundBy = FoundBy.NOT_KNOWN
    hresults: tuple[str, ...] = ()
    attempts: int = 0
    last: datetime.datetime | None = None
    numbers: tuple[int, ...] = ()


class OutcomeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which captured conversations ended: how many, and what to show of them in Wireshark."""

    stage: Stage
    outcome: str
    state: State
    words: str
    conversations: int
    clients: int
    numbers: tuple[int, ...]


class CaptureView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the captures of a run show, as tables. ``clients`` are those that failed, or all of a selection by host.

    ``activated``, ``failed`` and ``not_known`` count all clients by how they ended. ``filter`` is a display filter for
    Wireshark that shows everything this rests on. ``source`` is "packets", or the program whose logs were read instead.
    """

    files: tuple[FileFacts, ...]
    conversations: int
    exchanges: int
    activated: int
    failed: int
    not_known: int
    filter: str
    outcomes: tuple[OutcomeRow, ...] = ()
    hosts: tuple[CapturedHost, ...] = ()
    lookups: tuple[CapturedLookup, ...] = ()
    clients: tuple[ClientRow, ...] = ()
    examples: tuple[Conversation, ...] = ()
    quality: Quality = Quality()
    pairs: tuple[PairedPath, ...] = ()
    source: str = "packets"


class ProductRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One product on one machine, as the files of the run tell it.

    ``assumed`` says that whose it is was guessed. ``channel`` is the key's, ``status`` the licence state in words,
    ``remaining_min`` what was left of it when the file was made, ``expires`` when it ends (UTC) where that time is
    known. ``host`` was found through DNS (``by_hand`` False) or set by hand. ``state`` and ``words`` say how it stands
    with KMS, ``code`` why not; ``state`` is None for a product that has nothing to do with KMS.
    """

    machine: str
    product: str
    channel: str = ""
    status: str = ""
    assumed: bool = False
    remaining_min: int = 0
    expires: datetime.datetime | None = None
    host: str = ""
    by_hand: bool = False
    state: State | None = None
    words: str = ""
    code: str = ""
    files: tuple[str, ...] = ()


class HostRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One host key on a machine, as its files tell it; ``logged`` are requests in its event log of the run."""

    machine: str
    product: str
    status: str = ""
    count: int | None = None
    port: int = 0
    publishing: bool | None = None
    requests: int | None = None
    failed: int | None = None
    logged: int | None = None
    clients_30_days: int | None = None
    files: tuple[str, ...] = ()


class StatusFileRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file about machines: what it is, whose, and what of it could not be read."""

    label: str
    format: str
    machines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class CollectedView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What files that others collected show, as tables.

    ``activated``, ``failed`` and ``not_known`` count client machines by how they stand, ``renewing`` those of
    ``failed`` that are activated still, ``partly`` those with another product that is. ``correlations`` are what
    client and host logged of the same request. ``noise`` counts events, by ID, that say nothing about KMS.
    """

    activated: int
    failed: int
    not_known: int
    renewing: int = 0
    partly: int = 0
    products: tuple[ProductRow, ...] = ()
    hosts: tuple[HostRow, ...] = ()
    correlations: tuple[Correlation, ...] = ()
    files: tuple[StatusFileRow, ...] = ()
    logs: tuple[EventFile, ...] = ()
    noise: Mapping[str, int] = {}
    unread: int = 0


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
    captures: CaptureView | None = None
    collected: CollectedView | None = None
    not_checked: tuple[NotChecked, ...] = ()
    interrupted: bool = False
    audit: Audit | None = None
    what_if: WhatIf | None = None
    changes: tuple[Change, ...] = ()
