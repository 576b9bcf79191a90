"""What a report shows of the files that others collected: products, hosts, both sides of requests, files."""

from collections.abc import Iterator, Mapping, Sequence

from kmsdiag import captured, collected, correlation, products
from kmsdiag.client_ends import ClientEnd
from kmsdiag.collected import Machine, Part
from kmsdiag.knowledge import licences
from kmsdiag.knowledge.licences import Channel
from kmsdiag.model.collected import ProductState
from kmsdiag.model.events import EventsAnswer, HostEvents
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.machine_name import ByName
from kmsdiag.model.outcome import State
from kmsdiag.model.report import CollectedView, HostRow, ProductRow, StatusFileRow
from kmsdiag.model.request import Status
from kmsdiag.model.target import KMS_PORT, join_host_port


def view(seen: Evidence, ends: Sequence[ClientEnd]) -> CollectedView | None:
    """The tables of a run; None where it has no such files. ``ends`` are how its clients stand."""
    if not seen.target.status and not seen.target.events:
        return None
    machines = collected.known_machines(seen)
    events = collected.events_of(seen)
    captures = captured.answer_of(seen)
    states = _states(ends)
    served = {end.client for end in ends if end.state is State.OK}
    lapsed = {end.client for end in ends if end.state is State.FAIL and not end.licensed}
    return CollectedView(
        activated=sum(state is State.OK for state in states.values()),
        failed=sum(state is State.FAIL for state in states.values()),
        partly=sum(state is State.FAIL and client in served for client, state in states.items()),
        renewing=sum(state is State.FAIL and client not in lapsed for client, state in states.items()),
        not_known=sum(state is State.UNKNOWN for state in states.values()),
        products=tuple(_product_rows(machines, ends)),
        hosts=tuple(_hosts(machines, events)),
        correlations=correlation.rows(machines, events, captures),
        files=tuple(_files(seen, machines)),
        logs=() if events is None else events.files,
        noise={} if events is None else events.noise,
        unread=0 if events is None else events.unread,
    )


def _states(ends: Sequence[ClientEnd]) -> Mapping[str, State]:
    """Client machines by how they stand: the worst of their products counts."""
    rank = (State.FAIL, State.OK, State.UNKNOWN)
    found: dict[str, State] = {}
    for end in ends:
        found[end.client] = min(end.state, found.get(end.client, State.UNKNOWN), key=rank.index)
    return found


def _product_rows(machines: Sequence[Machine], ends: Sequence[ClientEnd]) -> Iterator[ProductRow]:
    by_product = {(end.client, end.activation_id, end.product): end for end in ends}
    for machine in machines:
        for product, part, channel in products.with_key(machine):
            if product.host is None:
                end = by_product.get((machine.name, product.activation_id, product.name or product.activation_id))
                yield _product(machine, product, part, channel, end)


def _product(
    machine: Machine, product: ProductState, part: Part, channel: Channel, end: ClientEnd | None
) -> ProductRow:
    host, port = product.override_host or product.discovered_host, product.override_port or product.discovered_port
    kms = "KMS client" if channel is Channel.CLIENT else channel.value.removeprefix("a ").removeprefix("an ")
    return ProductRow(
        machine=machine.name,
        product=product.name or product.activation_id,
        channel=kms or product.channel,
        status="" if product.status < 0 else licences.status_words(product.status),
        assumed=machine.named_by.assumed,
        remaining_min=product.grace_minutes,
        expires=None if product.permanent else products.end(product, part),
        host=join_host_port(host, port or KMS_PORT) if host else "",
        by_hand=bool(product.override_host),
        state=None if end is None else end.state,
        words=_words(product, end),
        code=product.reason if end is None or not end.code or end.state is State.OK else end.code,
        files=(part.question.file.label,),
    )


def _words(product: ProductState, end: ClientEnd | None) -> str:
    if end is not None:
        return end.words
    return "by Active Directory" if product.ad_object else "permanent" if product.permanent else ""


def _hosts(machines: Sequence[Machine], events: EventsAnswer | None) -> Iterator[HostRow]:
    every = () if events is None else events.hosts
    logs = ByName((one.host, one) for one in every)
    told: set[str] = set()
    for machine in machines:
        for product, part in machine.products():
            if product.host is not None:
                log = logs.get(machine.name)
                if log is not None and log.host in told:
                    log = None
                if log is not None:
                    told.add(log.host)
                yield HostRow(
                    machine=machine.name,
                    product=product.name or product.activation_id,
                    status="" if product.status < 0 else licences.status_words(product.status),
                    count=product.host.count,
                    port=product.host.port,
                    publishing=product.host.publishing,
                    requests=product.host.requests.total,
                    failed=product.host.requests.failed,
                    logged=None if log is None else log.requests,
                    clients_30_days=None if log is None else log.clients_30_days,
                    files=(part.question.file.label,),
                )
    for log in every:
        if log.requests and log.host not in told:
            yield _logged(log)


def _logged(log: HostEvents) -> HostRow:
    """A host of which only the event log was given."""
    return HostRow(machine=log.host, product="", logged=log.requests, clients_30_days=log.clients_30_days)


def _files(seen: Evidence, machines: Sequence[Machine]) -> Iterator[StatusFileRow]:
    owners: dict[Status, list[str]] = {}
    for machine in machines:
        for question in machine.because:
            owners.setdefault(question, []).append(machine.label)
    for question in collected.questions(seen.target):
        answer = seen.get(question)
        if answer is not None:
            notes = [*answer.notes, *(note for state in answer.machines for note in state.notes)]
            yield StatusFileRow(
                label=question.file.label,
                format=answer.format,
                machines=tuple(owners.get(question, ())),
                notes=tuple(dict.fromkeys(notes)),
            )
