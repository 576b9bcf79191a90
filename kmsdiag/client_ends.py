"""How each client stands with KMS: what its logs say of its last attempt, else what its status files show.

What a client says of the last attempt of each product (its events, else the output of a tool) decides, and where that
is nothing, or older than what a tool shows, its licence state does.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kmsdiag import products
from kmsdiag.collected import Machine, Part
from kmsdiag.knowledge import codes, licences, limits
from kmsdiag.knowledge.codes import Layer
from kmsdiag.knowledge.licences import Channel
from kmsdiag.model.collected import PortTest, ProductState
from kmsdiag.model.correlation import Correlation, Fate
from kmsdiag.model.events import EventsAnswer, greatest
from kmsdiag.model.machine_name import ByName
from kmsdiag.model.outcome import State
from kmsdiag.model.target import TargetError, parse_host


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


def client_ends(
    machines: Sequence[Machine], rows: Iterable[Correlation], events: EventsAnswer | None
) -> Iterator[ClientEnd]:
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
    if events is not None:
        yield from _of_requests(machines, events)


def _of_requests(machines: Sequence[Machine], events: EventsAnswer) -> Iterator[ClientEnd]:
    """Clients of which only a host's log tells: by the last answer that their ID got there."""
    told = ByName((name, name) for name in (*(one.name for one in machines), *(one.machine for one in events.clients)))
    ids = {one for machine in machines for one in machine.client_machine_ids}
    ids |= {one for client in events.clients for one in client.client_machine_ids}
    counts = ByName((host.host, host.clients_30_days) for host in events.hosts)
    stated = ByName(
        (machine.name, product.host.count or 0) for machine, product in _host_keys(machines) if product.host
    )
    for one in events.requesters:
        if one.client_machine_id in ids or any(told.get(name) is not None for name in one.machines):
            continue
        refused = codes.is_failure(one.last_hresult)
        # A host that too few ask answers with success as well, and nobody activates by that.
        enough = max(counts.get(one.host) or 0, stated.get(one.host) or 0) >= (greatest(one.required) or 0)
        yield ClientEnd(
            one.machines[0] if one.machines else one.client_machine_id,
            State.FAIL if refused else State.OK if enough else State.UNKNOWN,
            (Fate.REFUSED if refused else Fate.ANSWERED).value,
            (Fate.REFUSED if refused else Fate.ANSWERED).words,
            code=one.last_hresult if refused else "",
            where="event 12290",
            host=_parsed(one.host),
        )


def _host_keys(machines: Iterable[Machine]) -> Iterator[tuple[Machine, ProductState]]:
    for machine in machines:
        for product, _part in machine.products():
            if product.host is not None:
                yield machine, product


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


@functools.lru_cache(maxsize=1024)
def _parsed(text: str, port: int = 0) -> tuple[str, int] | None:
    """A host and port as logs and tools write them; None for what is none."""
    try:
        spec = parse_host(text)
    except TargetError:
        return None
    return (spec.host, port or spec.port)
