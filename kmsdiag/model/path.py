"""Activation paths and the verdict: domain, SRV record, target, address, TCP, RPC, and what it all means."""

from enum import StrEnum

import msgspec

from kmsdiag.model.outcome import Stage, State


class PathState(StrEnum):
    """What a path is worth to a client: ``partial`` means some of its addresses work and some do not."""

    OK = "ok"
    PARTIAL = "partial"
    FAIL = "fail"
    UNKNOWN = "unknown"


class StageResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One stage of a path. ``note`` is a word or two for the table; ``questions`` are what it rests on.

    ``server`` is the DNS server whose word it is, where one spoke or should have. ``failing`` counts captured clients:
    how many failed here, and of how many the end is known.
    """

    stage: Stage
    state: State
    outcome: str
    elapsed_ms: float | None = None
    note: str = ""
    questions: tuple[str, ...] = ()
    server: str = ""
    failing: tuple[int, int] | None = None

    @property
    def partly(self) -> bool:
        """It fails for some captured clients, and not for others."""
        return self.failing is not None and self.failing[0] < self.failing[1]


class Route(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One address of a path: TCP and RPC."""

    address: str
    stages: tuple[StageResult, ...] = ()

    @property
    def state(self) -> State:
        """The first stage that is not ok decides; no stage at all is unknown."""
        if not self.stages:
            return State.UNKNOWN
        return next((stage.state for stage in self.stages if stage.state is not State.OK), State.OK)


class ClientGroup(msgspec.Struct, frozen=True):
    """Captured clients of a path that ended alike: how (an outcome's value), how many, and at most three of them."""

    outcome: str
    state: State
    count: int
    examples: tuple[str, ...]


class Path(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way from a domain to a host, known by (domain, target, port); all else are attributes.

    ``domain`` is "–" for a host given explicitly, or met in a capture without an SRV record; ``target`` is "–" where
    discovery found none. ``clients`` are those seen in captures. ``note`` says where captures and questions put from
    here disagree about this path.
    """

    domain: str
    target: str
    port: int
    state: PathState
    ranks: tuple[tuple[int, int], ...] = ()
    servers: tuple[str, ...] = ()
    stages: tuple[StageResult, ...] = ()
    routes: tuple[Route, ...] = ()
    fails_at: Stage | None = None
    clients: tuple[ClientGroup, ...] = ()
    note: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes two paths the same across vantages and over time."""
        return (self.domain, self.target, self.port)


class Basis(StrEnum):
    """Where a figure or a code comes from."""

    DOCUMENTED = "documented"
    INFERRED = "inferred"
    SIMULATED = "simulated"
    OBSERVED = "observed"


class ClientCode(msgspec.Struct, frozen=True):
    """A code that a client would show, with where that knowledge comes from."""

    code: str
    basis: Basis


class FixView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A next step with its command, filled in and quoted for the shell it is meant for."""

    where: str
    text: str
    command: str = ""


class Cause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that, mended, mends all paths it lists. ``code`` is ``stage.outcome``."""

    code: str
    stage: Stage
    headline: str
    text: str
    paths: tuple[str, ...]
    screen: ClientCode | None = None
    event: ClientCode | None = None
    fixes: tuple[FixView, ...] = ()


class Impact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who is hit in one domain: three figures from 0 to 1.

    ``first_pick_dead``: the host tried first does not work; ``delayed``: the same, and another one does;
    ``fails``: no host works. ``first_pick_dead_random`` is set where the other documented reading (priority and weight
    ignored, Vista / Server 2008) gives another figure. All this is simulated from the records.

    Observed in captures (``basis``), ``domain`` is a domain or a host, ``clients`` are those whose end was seen,
    ``fails`` is the share of those whose last attempt failed, ``delayed`` of those that activated after one that
    failed, and ``first_pick_dead`` is the sum.
    """

    domain: str
    hosts: int
    first_pick_dead: float
    delayed: float
    fails: float
    basis: Basis = Basis.SIMULATED
    first_pick_dead_random: float | None = None
    clients: int = 0


class VerdictState(StrEnum):
    """The one word: none succeeds, some do, all do, nothing was tested."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    BROKEN = "broken"
    UNKNOWN = "unknown"


class Remark(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that matters beside the causes: the finding's code, its severity and text; ``count`` times the like."""

    code: str
    severity: str
    text: str
    count: int = 1


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """State, the one sentence, what explains it, and what else matters, gravest first."""

    state: VerdictState
    headline: str
    causes: tuple[Cause, ...] = ()
    remarks: tuple[Remark, ...] = ()
    impact: tuple[Impact, ...] = ()
    unknown: tuple[str, ...] = ()
