"""One path from what was asked from here, what captures show of it, and what clients and hosts report.

Neither silently outvotes the others: where they contradict each other, a path is partial, and its note says how.
"""

from collections.abc import Iterable, Sequence

import msgspec

from kmsdiag import captured
from kmsdiag.fault import NOWHERE
from kmsdiag.model.outcome import ConversationOutcome, Stage, State
from kmsdiag.model.path import Path, PathState, Route, StageResult


def with_captured(live: Sequence[Path], shown: Iterable[Path]) -> list[Path]:
    """Paths of live questions with what captures show of the same ones, then those that only captures show."""
    own = {path.key: number for number, path in enumerate(live) if path.target != NOWHERE}
    works = {path.domain for path in live if path.stages and path.stages[0].state is State.OK}
    joined = list(live)
    for path in shown:
        number = own.get(path.key)
        if number is not None:
            joined[number] = _one_captured(live[number], path)
        elif path.target == NOWHERE and path.domain in works:
            note = f"asked from here, DNS has the record; in the captures {_clients_of(path)} did not get it"
            joined.append(msgspec.structs.replace(path, note=note))
        else:
            joined.append(path)
    return joined


def _one_captured(live: Path, shown: Path) -> Path:
    """One path, seen from here and in captures. Neither silently outvotes the other: what differs is in the note."""
    more = {route.address: route.stages for route in shown.routes}
    routes = [
        msgspec.structs.replace(route, stages=(*route.stages, *_later(route, more.pop(route.address, ()))))
        for route in live.routes
    ]
    routes += [Route(address=address, stages=stages) for address, stages in more.items()]
    state, fails_at = live.state, live.fails_at
    if shown.state not in (live.state, PathState.UNKNOWN):
        # Nothing is asked of a host from here after the bind; what clients met later is no contradiction.
        later = shown.state is PathState.FAIL and shown.fails_at in (Stage.REQUEST, Stage.ANSWER)
        if live.state is PathState.UNKNOWN or (live.state is PathState.OK and later):
            state, fails_at = shown.state, shown.fails_at
        else:
            state, fails_at = PathState.PARTIAL, None
    return msgspec.structs.replace(
        live,
        state=state,
        fails_at=fails_at,
        routes=tuple(routes),
        clients=shown.clients,
        note=_disagreement(live, shown),
    )


def _later(route: Route, stages: Sequence[StageResult]) -> list[StageResult]:
    """Of what captures show of an address: stages that live questions do not reach, where these found it open."""
    known = {stage.stage for stage in route.stages}
    return [stage for stage in stages if stage.stage not in known] if route.state is State.OK else []


def _disagreement(live: Path, shown: Path) -> str:
    early = [
        group
        for group in shown.clients
        if group.state is State.FAIL and ConversationOutcome(group.outcome).stage in (Stage.TCP, Stage.RPC)
    ]
    if live.state is PathState.OK and early:
        hit = sum(group.count for group in early)
        words = ", ".join(ConversationOutcome(group.outcome).words for group in early)
        return f"it works from here; in the captures {hit} of {_clients_of(shown)} failed there ({words})"
    served = sum(group.count for group in shown.clients if group.state is State.OK)
    if live.state is PathState.FAIL and served:
        stage = live.fails_at.value if live.fails_at is not None else "some stage"
        return f"it fails from here at stage {stage}; in the captures it answered {served} of {_clients_of(shown)}"
    return ""


def _clients_of(path: Path) -> str:
    return captured.count(sum(group.count for group in path.clients), "client")


def with_reported(known: Sequence[Path], told: Iterable[Path]) -> list[Path]:
    """Paths with what clients and hosts report of the same ones, then those that only they tell of."""
    own = {path.key: number for number, path in enumerate(known)}
    joined = list(known)
    for path in told:
        number = own.get(path.key)
        if number is None:
            joined.append(path)
            continue
        before = joined[number]
        state, fails_at = before.state, before.fails_at
        later = path.state is PathState.FAIL and path.fails_at in (Stage.REQUEST, Stage.ANSWER, Stage.HOST)
        if before.state is PathState.UNKNOWN or (before.state is PathState.OK and later):
            # What a client meets there comes after all that can be asked from here.
            state, fails_at = path.state, path.fails_at
        elif path.state not in (before.state, PathState.UNKNOWN):
            state, fails_at = PathState.PARTIAL, None
        joined[number] = msgspec.structs.replace(
            before,
            state=state,
            fails_at=fails_at,
            stages=(*before.stages, *path.stages),
            clients=(*before.clients, *path.clients),
            note=before.note or _contradiction(before, path),
        )
    return joined


def _contradiction(before: Path, path: Path) -> str:
    """Where what was seen and what clients report do not agree; "" where they do."""
    clients = _clients_of(path)
    failed = sum(group.count for group in path.clients if group.state is State.FAIL)
    served = sum(group.count for group in path.clients if group.state is State.OK)
    if before.state is PathState.OK and path.fails_at in (Stage.SRV, Stage.NAME, Stage.TCP):
        return f"it works from here; by their own account {failed} of {clients} did not get there"
    if before.state is PathState.FAIL and served:
        stage = before.fails_at.value if before.fails_at is not None else "some stage"
        return f"it fails at stage {stage}; by their own account {served} of {clients} got activated by it"
    return ""
