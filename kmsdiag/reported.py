"""Activation paths, faults and figures as clients and hosts report them; :mod:`kmsdiag.path` joins them with the rest.

A product that Active Directory activated, or whose key never asks a KMS host and is licensed, has no part in a path.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from kmsdiag import captured, collected, correlation, products
from kmsdiag.client_ends import ClientEnd, client_ends
from kmsdiag.client_faults import client_faults
from kmsdiag.collected import Machine
from kmsdiag.fault import NOWHERE, Fault
from kmsdiag.knowledge import licences, limits
from kmsdiag.model.collected import HostState, ProductState
from kmsdiag.model.events import EventsAnswer, greatest
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Scalar
from kmsdiag.model.machine_name import bare, is_same
from kmsdiag.model.outcome import Stage, State
from kmsdiag.model.path import Basis, ClientGroup, Impact, Path, PathState, StageResult
from kmsdiag.model.target import KMS_PORT, join_host_port

Names = Mapping[tuple[str, int], Sequence[str]]
"""Domains whose records name a target and port, by live questions, captures and lookups of tools."""


class Reported(NamedTuple):
    """What the files add to a diagnosis."""

    paths: tuple[Path, ...]
    faults: tuple[Fault, ...]
    impact: tuple[Impact, ...]
    ends: tuple[ClientEnd, ...]


class _HostView(NamedTuple):
    """A KMS host by its own account: a host key on a machine."""

    machine: Machine
    product: ProductState
    state: HostState


def report(seen: Evidence, known: Names) -> Reported:
    """Paths, faults and figures of the collected files; ``known`` are the domains that name a target and port."""
    machines = collected.known_machines(seen)
    events = collected.events_of(seen)
    captures = captured.answer_of(seen)
    rows = correlation.rows(machines, events, captures)
    names = _with_lookups(known, machines)
    ends = list(client_ends(machines, rows, events))
    hosts = _hosts(machines)
    paths: list[Path] = []
    faults: list[Fault] = []
    ways: dict[tuple[str, str, int], list[ClientEnd]] = {}
    for end in ends:
        ways.setdefault(_key(_called(end.host, hosts, names), names), []).append(end)
    for view in hosts:
        ways.setdefault(_key(_place(view), names), [])
    for key, own in sorted(ways.items()):
        views = [view for view in hosts if _is_target(view, key[1])]
        path, broken = _path(key, own, views, events)
        paths.append(path)
        faults.extend(broken)
    return Reported(tuple(paths), tuple(faults), tuple(_impact(ways)), tuple(ends))


# -------------------------------------------------------------------------------------------------------- hosts


def _hosts(machines: Iterable[Machine]) -> list[_HostView]:
    return [
        _HostView(machine, product, product.host)
        for machine in machines
        for product, _part in machine.products()
        if product.host is not None and product.in_use is not False
    ]


def _place(view: _HostView) -> tuple[str, int]:
    return (bare(view.machine.name), view.state.port or KMS_PORT)


def _called(host: tuple[str, int] | None, hosts: Sequence[_HostView], names: Names) -> tuple[str, int] | None:
    """A client's host by the name of its machine in the files: a client may use a short name or an address."""
    if host is None or host in names:
        return host
    own = {bare(view.machine.name) for view in hosts if products.is_named(view.machine, host[0])}
    return (own.pop(), host[1]) if len(own) == 1 else host


def _is_target(view: _HostView, target: str) -> bool:
    return target != NOWHERE and is_same(view.machine.name, target)


def _need(view: _HostView, clients: Sequence[ClientEnd], events: EventsAnswer | None) -> int:
    """How many a host has to count before everybody who asks it activates, as far as it is known who asks."""
    if products.is_office(view.product):
        # As many as Windows Server needs (KMS activation planning).
        return limits.SERVER_THRESHOLD
    needs = {end.row.required for end in clients if end.row is not None and end.row.required is not None}
    for host in () if events is None else events.hosts:
        if is_same(host.host, view.machine.name):
            needs.add(greatest(host.needs) or 0)
    if view.state.required:
        needs.add(view.state.required)
    return max(needs, default=limits.SERVER_THRESHOLD)


# -------------------------------------------------------------------------------------------------------- paths


def _with_lookups(known: Names, machines: Iterable[Machine]) -> Names:
    """The same with what SRV lookups of tools, on the machines themselves, found."""
    names: dict[tuple[str, int], list[str]] = {place: list(own) for place, own in known.items()}
    for machine in machines:
        for lookup in machine.lookups():
            prefix, _dot, domain = lookup.name.lower().removesuffix(".").partition("._tcp.")
            if lookup.kind == "SRV" and prefix == "_vlmcs":
                for record in lookup.records:
                    own = names.setdefault((record.target, record.port), [])
                    if domain not in own:
                        own.append(domain)
    return names


def with_captured(told: Sequence[Fault], known: Sequence[Fault], seen: Evidence) -> list[Fault]:
    """Faults that files tell of, made one with those that captures show of the same thing; no client counts twice."""
    shown = {(fault.code, fault.path, fault.args.get("hresult")): fault for fault in known if fault.captured}
    machines = collected.known_machines(seen)
    addresses = {
        machine.name: {address for network in machine.networks() for address in network.addresses}
        for machine in machines
    }
    found = []
    for fault in told:
        same = shown.get((fault.code, fault.path, fault.args.get("hresult")))
        if same is None:
            found.append(fault)
            continue
        seen_there = set(same.clients)
        clients = tuple(one for one in fault.clients if not addresses.get(one, set()) & seen_there)
        found.append(fault._replace(thing=same.thing, clients=clients, attempts=fault.attempts if clients else 0))
    return found


def places(seen: Evidence) -> dict[tuple[str, int], list[tuple[str, str]]]:
    """Domain and name of hosts by address and port, as the machines' own files tell; what captures show goes by them.

    A host is known by its own addresses, and by those that somebody looked up.
    """
    machines = collected.known_machines(seen)
    names = _with_lookups({}, machines)
    ports = {_key(_place(view), names): None for view in _hosts(machines)}
    ports |= {(own[0], target, port): None for (target, port), own in names.items()}
    found: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for domain, target, port in sorted(ports):
        for address in sorted(_addresses(target, machines)):
            found.setdefault((address, port), []).append((domain, target))
    return found


def _addresses(target: str, machines: Iterable[Machine]) -> set[str]:
    """Addresses of a host, from its own files and from lookups of others."""
    found: set[str] = set()
    for machine in machines:
        if machine.name.lower() == target:
            found |= {address for network in machine.networks() for address in network.addresses}
        for lookup in machine.lookups():
            if lookup.kind != "SRV" and lookup.name.lower().removesuffix(".") == target:
                found |= set(lookup.addresses)
    return found


def _key(host: tuple[str, int] | None, names: Names) -> tuple[str, str, int]:
    if host is None:
        return (NOWHERE, NOWHERE, 0)
    target, port = host
    if (target, port) in names:
        return (names[target, port][0], target, port)
    # Tools may show a short name, and a host's own name has no port in it.
    near = sorted(place for place in names if is_same(place[0], target))
    return (names[near[0]][0], *near[0]) if len(near) == 1 else (NOWHERE, target, port)


def _path(
    key: tuple[str, str, int], ends: Sequence[ClientEnd], views: Sequence[_HostView], events: EventsAnswer | None
) -> tuple[Path, list[Fault]]:
    states = {end.state for end in ends} - {State.UNKNOWN}
    stages = tuple(_host_stage(view, ends, events) for view in views)
    state, fails_at = PathState.UNKNOWN, None
    low = any(stage.state is State.FAIL for stage in stages)
    # A host that counts enough for servers and Office, and not for Windows clients, serves the former; one may have an
    # Office key that serves nobody beside a Windows key that does.
    some = any(
        stage.state is State.OK or (stage.outcome == _COUNT_LOW and (view.state.count or 0) >= limits.SERVER_THRESHOLD)
        for view, stage in zip(views, stages, strict=True)
    )
    told = {"answer.below_threshold"} if any(stage.outcome == _COUNT_LOW for stage in stages) else set()
    if low and not some:
        # Not activated, without an attempt that tells why: the host that they use tells.
        told.add("client.not_activated")
    faults = [*_host_faults(key, ends, views, events), *client_faults(key, ends, told)]
    if states == {State.OK}:
        state = PathState.PARTIAL if low else PathState.OK
    elif states == {State.FAIL}:
        state, fails_at = PathState.FAIL, _stage(faults)
    elif states or (low and some):
        state = PathState.PARTIAL
    elif low:
        state, fails_at = PathState.FAIL, Stage.HOST
    domain, target, port = key
    return (
        Path(
            domain=domain,
            target=target,
            port=port,
            state=state,
            stages=stages,
            fails_at=fails_at,
            clients=_groups(ends),
        ),
        faults,
    )


def _stage(faults: Sequence[Fault]) -> Stage | None:
    ranked = Counter({fault.stage: 0 for fault in faults})
    for fault in faults:
        ranked[fault.stage] += len(fault.clients)
    return max(ranked, key=lambda stage: ranked[stage], default=None)


def _groups(ends: Sequence[ClientEnd]) -> tuple[ClientGroup, ...]:
    found: dict[tuple[str, State], dict[str, None]] = {}
    for end in ends:
        found.setdefault((end.outcome, end.state), {})[end.client] = None
    return tuple(
        ClientGroup(outcome, state, len(own), tuple(own)[:3]) for (outcome, state), own in sorted(found.items())
    )


_COUNT_LOW: Final = "count_low"


def _host_stage(view: _HostView, ends: Sequence[ClientEnd], events: EventsAnswer | None) -> StageResult:
    if view.product.status not in (licences.LICENSED, -1):
        return StageResult(stage=Stage.HOST, state=State.FAIL, outcome="not_activated", note="not activated")
    count = view.state.count
    if count is None or count <= 0:
        note = "nobody asked" if count is not None else ""
        return StageResult(stage=Stage.HOST, state=State.UNKNOWN, outcome="not_counted", note=note)
    need = _need(view, ends, events)
    if count < need:
        note = f"{count} of {need}"
        return StageResult(stage=Stage.HOST, state=State.FAIL, outcome=_COUNT_LOW, note=note)
    return StageResult(stage=Stage.HOST, state=State.OK, outcome="counted", note=f"count {count}")


# ------------------------------------------------------------------------------------------------------- faults


def _host_faults(
    key: tuple[str, str, int], ends: Sequence[ClientEnd], views: Sequence[_HostView], events: EventsAnswer | None
) -> Iterator[Fault]:
    domain, target, port = key
    failing = tuple(dict.fromkeys(end.client for end in ends if end.state is State.FAIL))
    for view in views:
        stage = _host_stage(view, ends, events)
        if stage.state is not State.FAIL:
            continue
        product = view.product.name or view.product.activation_id
        args: dict[str, Scalar] = {"target": target, "port": port, "product": product}
        if stage.outcome == "not_activated":
            args["status"] = licences.status_words(view.product.status)
        else:
            args.update(count=view.state.count or 0, need=_need(view, ends, events))
        yield Fault(f"host.{stage.outcome}", Stage.HOST, target, args, key, domain, clients=failing, reported=True)


# ------------------------------------------------------------------------------------------------------ figures


def _impact(ways: Mapping[tuple[str, str, int], Sequence[ClientEnd]]) -> Iterator[Impact]:
    """Clients by how they ended, for each domain, and for each host that no domain names."""
    groups: dict[str, tuple[dict[str, State], set[str]]] = {}
    for (domain, target, port), ends in ways.items():
        host = "no host known" if target == NOWHERE else join_host_port(target, port)
        label = host if domain == NOWHERE else domain
        states, hosts = groups.setdefault(label, ({}, set()))
        hosts.add(f"{target}:{port}")
        for end in ends:
            if end.state is not State.UNKNOWN and states.get(end.client) is not State.FAIL:
                states[end.client] = end.state
    for label, (states, hosts) in sorted(groups.items()):
        if states:
            failed = sum(state is State.FAIL for state in states.values())
            share = captured.share(failed, len(states))
            yield Impact(
                domain=label,
                hosts=len(hosts),
                first_pick_dead=share,
                delayed=0.0,
                fails=share,
                basis=Basis.OBSERVED,
                clients=len(states),
            )
