"""Activation paths, faults and figures as clients and hosts report them; :mod:`kmsdiag.path` joins them with the rest.

What a client says of the last attempt of each product (its events, else the output of a tool) decides, and where that
is nothing, or older than what a tool shows, its licence state does. A product that Active Directory activated, or whose
key never asks a KMS host and is licensed, has no part in a path.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from kmsdiag import captured, collected, correlation, products
from kmsdiag.collected import Machine, Part
from kmsdiag.fault import NOWHERE, Fault
from kmsdiag.knowledge import codes, licences, limits
from kmsdiag.knowledge.codes import REFUSALS, Layer
from kmsdiag.knowledge.licences import Channel
from kmsdiag.model.collected import HostState, PortTest, ProductState
from kmsdiag.model.correlation import Correlation, Fate
from kmsdiag.model.events import EventsAnswer, greatest
from kmsdiag.model.evidence import Evidence, Missing
from kmsdiag.model.finding import Scalar
from kmsdiag.model.fix import Fix
from kmsdiag.model.machine_name import ByName, bare, is_same
from kmsdiag.model.outcome import Stage, State
from kmsdiag.model.path import Basis, ClientCode, ClientGroup, Impact, Path, PathState, StageResult
from kmsdiag.model.target import KMS_PORT, TargetError, join_host_port, parse_host

Names = Mapping[tuple[str, int], Sequence[str]]
"""Domains whose records name a target and port, by live questions, captures and lookups of tools."""


class ClientEnd(NamedTuple):
    """How one product of one client stands.

    ``client`` is the machine's name, ``product`` the product's. ``state`` is unknown where nothing tells whether it can
    activate. ``code`` is the HRESULT behind a failure, ``where`` what says so ("its event 12288 says"). ``host`` is the
    target and port that it used or would use. ``outcome`` is a :class:`Fate`, or a word for a state without an attempt.
    ``tool`` is what showed the cause where no attempt did.
    ``licensed``: the product is activated still, whatever became of its last attempt to renew that.
    """

    client: str
    state: State
    outcome: str
    words: str
    product: str = ""
    code: str = ""
    where: str = ""
    host: tuple[str, int] | None = None
    row: Correlation | None = None
    status: str = ""
    channel: str = ""
    kind: str = ""
    tool: str = ""
    activation_id: str = ""
    licensed: bool = False


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
    try:
        machines = collected.machines(seen)
    except Missing:
        machines = ()
    events = collected.events_of(seen)
    captures = seen.get(captured.request(seen.target)) if seen.target.captures else None
    rows = correlation.rows(machines, events, captures)
    names = _with_lookups(known, machines)
    ends = list(_ends(machines, rows, events))
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


# ------------------------------------------------------------------------------------------------------ clients


def _ends(machines: Sequence[Machine], rows: Iterable[Correlation], events: EventsAnswer | None) -> Iterator[ClientEnd]:
    """How every product of every client stands: by its logs, and by its status files."""
    for client in () if events is None else events.clients:
        codes_shown = [code for code in client.failures if _is_of_kms(code)]
        if codes_shown and not (client.latest or client.by_directory):
            # What a user saw some time, without an attempt: that it is a client, and no more.
            words = f"event 8198 has {codes_shown[0]}"
            yield ClientEnd(client.machine, State.UNKNOWN, "on_screen", words)
    known = ByName((machine.name, machine) for machine in machines)
    by_machine: dict[str, list[Correlation]] = {}
    strangers = []
    for row in rows:
        machine = known.get(row.client)
        if machine is None:
            strangers.append(row)
        else:
            by_machine.setdefault(machine.name, []).append(row)
    for machine in machines:
        yield from _of_machine(machine, by_machine.get(machine.name, ()))
    for row in strangers:
        yield _of_row(row, row.client, "", None)


def _is_of_kms(code: str) -> bool:
    known = codes.find(code)
    return known is not None and known.layer is not Layer.NOT_KMS


def _of_machine(machine: Machine, rows: Sequence[Correlation]) -> Iterator[ClientEnd]:
    """The products of a machine, then those that only its logs tell of."""
    left = list(rows)
    every = [product for product, _part in machine.products()]
    ids = {one.activation_id.lower() for one in every if one.in_use is not None or one.status > 0}
    for product, part, channel in products.with_key(machine):
        row = _row_of(product, left)
        if row is not None:
            left.remove(row)
        end = _of_product(machine, product, part, channel, row)
        if end is not None:
            yield end
    for row in left:
        # A licence without a key, or with one that never asks, is known by its ID: what it asked is of the past.
        if not row.activation_id or row.activation_id not in ids:
            yield _of_row(row, machine.name, "", None)


def _row_of(product: ProductState, rows: Sequence[Correlation]) -> Correlation | None:
    """What the logs say of a product: by its activation ID; where one of both lacks that, by what it can only be."""
    own = product.activation_id.lower()
    for row in rows:
        if row.activation_id == own:
            return row
    office = products.is_office(product)
    near = [row for row in rows if _may_be_of(row, own, office=office)]
    return near[0] if len(near) == 1 else None


def _may_be_of(row: Correlation, activation_id: str, *, office: bool) -> bool:
    """Only Windows clients need 25, and a machine has one Windows, whatever its edition was at the time."""
    if row.required == limits.CLIENT_THRESHOLD:
        return not office
    return not (activation_id and row.activation_id)


def _of_product(
    machine: Machine, product: ProductState, part: Part, channel: Channel, row: Correlation | None
) -> ClientEnd | None:
    name = product.name or product.activation_id
    if channel is Channel.HOST or product.host is not None:
        return None
    if channel not in (Channel.CLIENT, Channel.UNKNOWN):
        if product.status not in (licences.UNLICENSED, licences.NOTIFICATION) or product.permanent:
            return None
        return ClientEnd(
            machine.name,
            State.FAIL,
            "other_channel",
            "its key never asks a KMS host",
            name,
            status=licences.status_words(product.status),
            channel=product.channel or channel.name.lower(),
            kind=channel.value,
            activation_id=product.activation_id,
        )
    if product.ad_object or product.activation_type == "ad":
        return None
    if row is None and any(one.state.activation_type == "ad" for one in machine.parts):
        return None
    host = _host_of(product)
    end = _of_status(machine, product, name, host)
    if row is not None and row.fate not in (Fate.OPEN, Fate.ANSWERED) and not _is_newer(end, product, part, row):
        end = _of_row(row, machine.name, name, host)
    if end is None:
        return None
    return end._replace(activation_id=product.activation_id, licensed=product.status == licences.LICENSED)


def _is_newer(end: ClientEnd | None, product: ProductState, part: Part, row: Correlation) -> bool:
    """Whether a file tells of a time after the last attempt in the logs, and something else."""
    if end is None or end.state in (State.UNKNOWN, row.fate.state) or part.at is None or row.at is None:
        return False
    if end.state is State.OK and product.status == licences.LICENSED and not product.result:
        begun = products.begun(product, part)
        return begun is not None and row.at <= begun
    return row.at <= part.at


def _of_status(machine: Machine, product: ProductState, name: str, host: tuple[str, int] | None) -> ClientEnd | None:
    """A client of which no attempt is logged: by what an attempt in the same text showed, else by its licence state."""
    words = licences.status_words(product.status)
    if codes.is_failure(product.result):
        meaning = codes.meaning(product.result)
        return ClientEnd(
            machine.name, State.FAIL, "attempt_failed", meaning, name, product.result, "the tool's output", host
        )
    if product.status == licences.LICENSED or product.result:
        words = "activated there and then" if product.result else words
        return ClientEnd(machine.name, State.OK, "licensed", words, name, host=host)
    if product.status in licences.GRACE:
        return ClientEnd(machine.name, State.UNKNOWN, "grace", words, name, host=host)
    if product.status < 0:
        return None
    reason = f"{words}, {product.reason}" if product.reason else words
    outcome, tool = _why(machine, product, host)
    return ClientEnd(machine.name, State.FAIL, outcome, reason, name, host=host, status=reason, tool=tool)


def _why(machine: Machine, product: ProductState, host: tuple[str, int] | None) -> tuple[str, str]:
    """What else its files show of why it is not activated, and the tool that does; no attempt of it is known."""
    if host is not None:
        target, port = host
        tests = [one for one in machine.port_tests() if one.port == port and _is_at(one, target)]
        if tests and not any(one.succeeded for one in tests):
            return "port_closed", tests[0].tool
    elif product.no_host:
        return "no_name", product.source
    return "no_attempt", ""


def _is_at(test: PortTest, target: str) -> bool:
    return target in (test.target.lower().removesuffix("."), test.address)


def _of_row(row: Correlation, client: str, product: str, host: tuple[str, int] | None) -> ClientEnd:
    where = "event 12289" if row.fate in (Fate.COUNT_TOO_LOW, Fate.NOT_ACTIVATED) and row.count is not None else ""
    return ClientEnd(
        client,
        row.fate.state,
        row.fate.value,
        row.fate.words,
        product,
        next(filter(codes.is_failure, (row.hresult, row.host_hresult)), ""),
        where or "event 12288",
        _parsed(row.host) or host,
        row,
        activation_id=row.activation_id,
    )


def _host_of(product: ProductState) -> tuple[str, int] | None:
    if product.override_host:
        return _parsed(product.override_host, product.override_port)
    return _parsed(product.discovered_host, product.discovered_port) if product.discovered_host else None


def _parsed(text: str, port: int = 0) -> tuple[str, int] | None:
    """A host and port as logs and tools write them; None for what is none."""
    try:
        spec = parse_host(text)
    except TargetError:
        return None
    return (spec.host, port or spec.port)


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
    try:
        machines = collected.machines(seen)
    except Missing:
        machines = ()
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
    try:
        machines = collected.machines(seen)
    except Missing:
        return {}
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
    faults = [*_host_faults(key, ends, views, events), *_client_faults(key, ends, told)]
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
    found: dict[tuple[str, State], list[str]] = {}
    for end in ends:
        own = found.setdefault((end.outcome, end.state), [])
        if end.client not in own:
            own.append(end.client)
    return tuple(
        ClientGroup(outcome, state, len(own), tuple(own[:3])) for (outcome, state), own in sorted(found.items())
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


def _client_faults(key: tuple[str, str, int], ends: Sequence[ClientEnd], told: Container[str]) -> Iterator[Fault]:
    """One fault for each way in which clients of a path ended badly, but for what a host's own account has ``told``."""
    groups: dict[tuple[str, str, str], list[ClientEnd]] = {}
    for end in ends:
        if end.state is State.FAIL:
            code = _cause_of(end)
            if code in told:
                continue
            groups.setdefault((code, end.code, _kept_apart(code, end)), []).append(end)
    for (code, hresult, _apart), own in sorted(groups.items()):
        yield _fault(key, code, hresult, own)


def _kept_apart(code: str, end: ClientEnd) -> str:
    if code == "client.not_activated":
        return end.status
    return f"{end.channel} {end.status}" if code == "client.other_channel" else ""


def _cause_of(end: ClientEnd) -> str:
    """The cause that a client's end stands for."""
    match end.outcome:
        case "other_channel":
            return "client.other_channel"
        case "no_attempt":
            return "client.not_activated"
        case "port_closed":
            return "tcp.tool_says"
        case "no_name":
            return "srv.tool_says"
        case Fate.LOST_THERE if (known := codes.find(end.code)) is not None and known.layer is Layer.PATH:
            return "tcp.client_says"
        case Fate.LOST_THERE | Fate.LOST_BACK:
            return f"request.{end.outcome}"
        case Fate.NOT_REACHED if not end.code:
            return "request.not_answered"
        case Fate.NOT_ACTIVATED if not end.code:
            return "answer.not_accepted"
        case Fate.COUNT_TOO_LOW:
            return "answer.below_threshold"
    known = codes.find(end.code)
    layer = known.layer if known is not None else Layer.PATH if end.code else Layer.UMBRELLA
    if layer is Layer.HOST and end.code in REFUSALS:
        return f"answer.{REFUSALS[end.code].name}"
    if end.code == _NO_ADDRESS:
        return "name.client_says"
    return _BY_LAYER[layer]


_NO_ADDRESS: Final = "0x80072AF9"
_BY_LAYER: Final = {
    Layer.NAME: "srv.client_says",
    Layer.DNS: "srv.client_says",
    Layer.PATH: "tcp.client_says",
    Layer.UMBRELLA: "client.contacted_none",
    Layer.HOST: "answer.refused",
    Layer.COUNT: "answer.below_threshold",
    Layer.CLIENT_KEY: "client.key",
    Layer.HOST_KEY: "client.key",
    Layer.PUBLISHING: "srv.client_says",
    Layer.NOT_KMS: "client.key",
    Layer.INFORMATION: "client.not_activated",
}


def _fault(key: tuple[str, str, int], code: str, hresult: str, ends: Sequence[ClientEnd]) -> Fault:
    domain, target, port = key
    first = ends[0]
    known = codes.find(hresult)
    stage = Stage(code.partition(".")[0])
    args: dict[str, Scalar] = {
        "target": "the host" if target == NOWHERE else target,
        "address": "the host" if target == NOWHERE else target,
        "port": port or KMS_PORT,
        "code": hresult or "no code",
        "hresult": hresult or "no code",
        "decoded": codes.decode(hresult) or "not decoded",
        "meaning": codes.meaning(hresult) if hresult else first.words,
        "where": f"says {first.where}",
        "cause": _sentence(known.causes) if known is not None else "",
        "status": first.status,
        "channel": first.channel,
        "kind": first.kind,
        "product": first.product or "The product",
        "tool": first.tool,
    }
    if domain != NOWHERE:
        args.update(zone=domain, name=f"_vlmcs._tcp.{domain}")
    count, required = (None, None) if first.row is None else (first.row.count, first.row.required)
    args["count"] = "an unknown number" if count is None else count
    args["required"] = "25 (5 for servers and Office)" if required is None else required
    clients = tuple(dict.fromkeys(end.client for end in ends))
    shown = ClientCode(hresult, Basis.OBSERVED) if hresult else None
    on_screen = code.startswith("client.") or first.where == "the tool's output"
    fixes: tuple[Fix, ...] = ()
    if known is not None and not code.startswith("request."):
        fixes = tuple(_aimed(one, target) for one in known.fixes)
    if code.startswith("answer.") and hresult in REFUSALS:
        # A host that is not known can't stand in a command.
        fixes = tuple(one for one in REFUSALS[hresult].fixes if target != NOWHERE or "{target}" not in one.command)
    return Fault(
        code,
        stage,
        f"{target} {hresult} {_kept_apart(code, first)}".strip(),
        args,
        key,
        domain,
        clients=clients,
        attempts=sum(1 if end.row is None else end.row.attempts for end in ends),
        reported=True,
        screen=shown if on_screen else None,
        event=None if on_screen else shown,
        fixes=fixes,
    )


def _aimed(fix: Fix, target: str) -> Fix:
    """A command for any host as one for this host, where it is known."""
    if target == NOWHERE:
        return fix
    command = fix.command.replace("<kms-host> -Port 1688", "{target} -Port {port}").replace("<kms-host>", "{target}")
    return msgspec.structs.replace(fix, command=command)


def _sentence(causes: Sequence[str]) -> str:
    """The likeliest causes as a sentence."""
    return f"Likely: {'; or '.join(causes[:2])}." if causes else ""


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
