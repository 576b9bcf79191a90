"""Activation paths, faults and figures as captures show them; :mod:`kmsdiag.path` joins them with what was asked live.

A path's state is that of its clients, each by the end of its last conversation there: a conversation that failed and
was repeated with success harmed nobody.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from kmsdiag import captured, discovery
from kmsdiag.captured import Contact, Fate, People, Port
from kmsdiag.fault import NOWHERE, Fault
from kmsdiag.knowledge import icmp
from kmsdiag.knowledge.codes import REFUSALS, decode
from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.capture import NOT_LOGGED, CaptureAnswer, CapturedHost, CapturedLookup, Conversation
from kmsdiag.model.finding import Args, Scalar
from kmsdiag.model.outcome import ConversationOutcome, DnsOutcome, Stage, State
from kmsdiag.model.path import Basis, ClientGroup, Impact, Path, PathState, Route, StageResult
from kmsdiag.model.report import CaptureView, ClientRow, OutcomeRow
from kmsdiag.model.target import KMS_PORT, Selection, join_host_port

Names = Mapping[Port, Sequence[tuple[str, str]]]
"""Domain and target that DNS gives for an address and port, several where several domains name it."""

_O = ConversationOutcome
CODES = {
    _O.UNANSWERED: "tcp.timeout",
    _O.REFUSED: "tcp.refused",
    _O.UNREACHABLE: "tcp.unreachable",
    _O.HANDSHAKE_FAILED: "tcp.handshake_failed",
    _O.CLOSED_EARLY: "rpc.closed_early",
    _O.BIND_UNANSWERED: "rpc.silent",
    _O.BIND_CLOSED: "rpc.closed",
    _O.BIND_RESET: "rpc.reset",
    _O.BIND_NAK: "rpc.bind_nak",
    _O.BIND_REJECTED: "rpc.rejected",
    _O.BIND_FAULT: "rpc.fault",
    _O.OTHER_PROTOCOL: "rpc.other_protocol",
    _O.REQUEST_UNANSWERED: "request.unanswered",
    _O.REQUEST_CLOSED: "request.closed",
    _O.REQUEST_RESET: "request.reset",
    _O.REQUEST_FAULT: "request.fault",
    _O.REQUEST_ABORTED: "request.aborted",
    _O.MALFORMED: "answer.malformed",
    _O.HOST_REFUSED: "answer.refused",
    _O.BELOW_THRESHOLD: "answer.below_threshold",
}
"""The cause behind each end of a conversation that is a failure; a test holds the table to being complete."""

_NOTES = {
    _O.UNANSWERED: "silent",
    _O.REFUSED: "refused",
    _O.UNREACHABLE: "unreachable",
    _O.HANDSHAKE_FAILED: "handshake",
    _O.CLOSED_EARLY: "hangs up",
    _O.BIND_UNANSWERED: "silent",
    _O.BIND_CLOSED: "closed",
    _O.BIND_RESET: "reset",
    _O.BIND_NAK: "bind_nak",
    _O.BIND_REJECTED: "not KMS",
    _O.BIND_FAULT: "fault",
    _O.OTHER_PROTOCOL: "not RPC",
    _O.REQUEST_UNANSWERED: "silent",
    _O.REQUEST_CLOSED: "closed",
    _O.REQUEST_RESET: "reset",
    _O.REQUEST_FAULT: "fault",
    _O.REQUEST_ABORTED: "broken off",
    _O.MALFORMED: "garbage",
    _O.HOST_REFUSED: "refused",
    _O.BELOW_THRESHOLD: "count too low",
}
_STAGES = (Stage.TCP, Stage.RPC, Stage.REQUEST, Stage.ANSWER)
_DONE = {Stage.TCP: "open", Stage.RPC: "accepted", Stage.REQUEST: "sent", Stage.ANSWER: "activated"}


class Observed(NamedTuple):
    """What the captures add to a diagnosis."""

    paths: tuple[Path, ...]
    faults: tuple[Fault, ...]
    impact: tuple[Impact, ...]


class _Way(NamedTuple):
    """A path in the making: its key, the records behind it, and who used it at which host."""

    key: tuple[str, str, int]
    records: tuple[tuple[SrvRecord, tuple[str, ...]], ...]
    hosts: dict[Port, tuple[CapturedHost, list[Contact]]]


def observe(answer: CaptureAnswer, known: Names) -> Observed:
    """Paths, faults and figures of one answer; ``known`` are names that live questions found."""
    people = captured.people_of(answer)
    ways = _ways(answer, people, known)
    paths: list[Path] = []
    faults: list[Fault] = []
    for domain in captured.records(answer):
        for path, fault in _without_records(domain, people):
            paths.append(path)
            faults.append(fault)
    for way in ways:
        path, own = _path(way, answer, people)
        paths.append(path)
        faults.extend(own)
    return Observed(tuple(paths), tuple(faults), tuple(_impact(people, ways)))


def _ways(answer: CaptureAnswer, people: People, known: Names) -> list[_Way]:
    """Ways that DNS published, and hosts that clients turned to; the latter by their names in DNS where they have."""
    names: dict[Port, list[tuple[str, str]]] = {port: list(own) for port, own in known.items()}
    ways: dict[tuple[str, str, int], _Way] = {}
    for domain, published in captured.records(answer).items():
        records: dict[tuple[str, int], list[tuple[SrvRecord, tuple[str, ...]]]] = {}
        for record, servers in published:
            records.setdefault((record.target, record.port), []).append((record, servers))
        for (target, port), own in records.items():
            ways[domain, target, port] = _Way((domain, target, port), tuple(own), {})
            for address in people.addresses_of(target):
                named = names.setdefault((address, port), [])
                if (domain, target) not in named:
                    named.append((domain, target))
    for host in answer.hosts:
        contacts = people.at(host)
        tested = any(contact.outcome.state is not State.UNKNOWN for contact in contacts)
        if not tested and not host.published and not host.speaks_kms:
            continue
        own_names = names.get((host.address, host.port)) or [(NOWHERE, host.names[0] if host.names else host.address)]
        for contact in contacts:
            domain, target = _asked_for(contact, own_names)
            key = (domain, target, host.port)
            way = ways.setdefault(key, _Way(key, (), {}))
            way.hosts.setdefault((host.address, host.port), (host, []))[1].append(contact)
    return [ways[key] for key in sorted(ways)]


def _asked_for(contact: Contact, names: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The name by which a client came to a host: of the domain it asked for, else the first that there is."""
    return next((name for name in names if name[0] in contact.client.asked), names[0])


# -------------------------------------------------------------------------------------------------------- paths


def _without_records(domain: str, people: People) -> Iterator[tuple[Path, Fault]]:
    """A path without a target for each server that left clients of a domain without any host."""
    clients = people.unserved(domain)
    if not clients:
        return
    for lookup in people.srv_of(domain):
        outcome = captured.worst_of(lookup)
        if outcome is DnsOutcome.ANSWERED:
            continue
        path = Path(
            domain=domain,
            target=NOWHERE,
            port=0,
            state=PathState.FAIL,
            servers=(lookup.server,),
            stages=(_dns_stage(Stage.SRV, lookup),),
            fails_at=Stage.SRV,
            clients=(ClientGroup(outcome.value, State.FAIL, len(clients), tuple(clients[:3])),),
        )
        args = {**_dns_args(lookup), "zone": domain}
        thing = "" if outcome.is_absence else lookup.server
        yield path, Fault(f"srv.{outcome}", Stage.SRV, thing, args, path.key, domain, True, tuple(clients))


def _dns_stage(stage: Stage, lookup: CapturedLookup) -> StageResult:
    outcome = captured.worst_of(lookup)
    words = {DnsOutcome.NODATA: "no record", DnsOutcome.TIMEOUT: "silent", DnsOutcome.ANSWERED: ""}
    return StageResult(
        stage=stage,
        state=outcome.state,
        outcome=outcome.value,
        elapsed_ms=None if lookup.elapsed_ms is None else lookup.elapsed_ms.median,
        note=words.get(outcome, outcome.value.upper()),
        server=lookup.server,
    )


def _dns_args(lookup: CapturedLookup) -> dict[str, Scalar]:
    rcodes = ", ".join(lookup.rcodes)
    return {
        "name": lookup.name.lower(),
        "server": lookup.server,
        "at": discovery.at(lookup.server),
        "outcome": captured.worst_of(lookup).words,
        "detail": lookup.icmp.name if lookup.icmp is not None else rcodes or captured.worst_of(lookup).words,
        "what": "SRV target",
    }


def _path(way: _Way, answer: CaptureAnswer, people: People) -> tuple[Path, list[Fault]]:
    domain, target, port = way.key
    base: dict[str, Scalar] = {"target": target, "port": port}
    if domain != NOWHERE:
        base.update(name=f"_vlmcs._tcp.{domain}", zone=domain)
    if way.records and captured.ranked(answer):
        base.update(priority=way.records[0][0].priority, weight=way.records[0][0].weight)
    stages, faults = _dns_stages(way, people, base)
    contacts = [contact for _host, own in way.hosts.values() for contact in own]
    routes = tuple(Route(address=host.address, stages=_stages(host, own)) for host, own in way.hosts.values())
    for host, own in way.hosts.values():
        faults.extend(_faults(way.key, host, own, answer, base))
    state, fails_at = _state(contacts, stages)
    servers = tuple(dict.fromkeys(server for _record, own_servers in way.records for server in own_servers))
    path = Path(
        domain=domain,
        target=target,
        port=port,
        state=state,
        ranks=tuple((record.priority, record.weight) for record, _servers in way.records if captured.ranked(answer)),
        servers=servers,
        stages=stages,
        routes=routes,
        fails_at=fails_at,
        clients=_groups(contacts),
    )
    return path, faults


def _dns_stages(way: _Way, people: People, base: Args) -> tuple[tuple[StageResult, ...], list[Fault]]:
    """The stages before an address is known, and what fails there. Whoever reached the host had its address."""
    domain, target, _port = way.key
    answered = [lookup for lookup in people.srv_of(domain) if any(record.target == target for record in lookup.records)]
    stages = [_dns_stage(Stage.SRV, answered[0])] if answered else []
    if way.hosts:
        named = StageResult(stage=Stage.NAME, state=State.OK, outcome="used")
        return (*stages, named) if stages else (), []
    if target == discovery.ROOT:
        named = StageResult(stage=Stage.NAME, state=State.FAIL, outcome="root", note="not offered")
        return (*stages, named), [
            Fault("name.root", Stage.NAME, domain, base, way.key, domain, True, _told(way, people))
        ]
    lookup = people.unresolved.get(target)
    if lookup is None:
        return tuple(stages), []
    outcome = captured.worst_of(lookup)
    args = {**_dns_args(lookup), **base}
    code = "name.no_address" if outcome.is_absence else "name.lookup_failed"
    fault = Fault(code, Stage.NAME, target, args, way.key, domain, True, _told(way, people))
    return (*stages, _dns_stage(Stage.NAME, lookup)), [fault]


def _told(way: _Way, people: People) -> tuple[str, ...]:
    _domain, target, port = way.key
    return tuple(people.told(target, port))


def _stages(host: CapturedHost, contacts: Sequence[Contact]) -> tuple[StageResult, ...]:
    """Each stage up to the last that anybody came to: how many failed there, of those whose end is known."""
    known = [contact.outcome for contact in contacts if contact.outcome.state is not State.UNKNOWN]
    timing = {Stage.TCP: host.connect_ms, Stage.ANSWER: host.answer_ms}
    found = []
    for number, stage in enumerate(_STAGES):
        failed = [outcome for outcome in known if outcome.stage is stage and outcome.state is State.FAIL]
        ends = set(failed)
        beyond = any(outcome.stage in _STAGES[number:] and outcome not in ends for outcome in known)
        spread = timing.get(stage)
        if failed:
            worst = Counter(failed).most_common(1)[0][0]
            share = f"{len(failed)}/{len(known)} " if len(failed) < len(known) else ""
            found.append(
                StageResult(
                    stage=stage,
                    state=State.FAIL,
                    outcome=worst.value,
                    note=f"{share}{_NOTES[worst]}",
                    failing=(len(failed), len(known)),
                )
            )
        elif beyond and stage is not Stage.REQUEST:
            ms = None if spread is None else spread.median
            note = "KMS" if stage is Stage.RPC else "success" if stage is Stage.ANSWER else ""
            found.append(StageResult(stage=stage, state=State.OK, outcome=_DONE[stage], elapsed_ms=ms, note=note))
        if not beyond:
            break
    return tuple(found)


def _state(contacts: Sequence[Contact], stages: Sequence[StageResult]) -> tuple[PathState, Stage | None]:
    states = {captured.state_of(contact.outcome) for contact in contacts} - {State.UNKNOWN}
    if states == {State.OK, State.FAIL}:
        return PathState.PARTIAL, None
    if states == {State.OK}:
        return PathState.OK, None
    if states == {State.FAIL}:
        ends = Counter(contact.outcome.stage for contact in contacts if contact.outcome.state is State.FAIL)
        return PathState.FAIL, max(ends, key=lambda stage: (ends[stage], -_STAGES.index(stage)))
    failing = next((stage.stage for stage in stages if stage.state is State.FAIL), None)
    return (PathState.UNKNOWN if failing is None else PathState.FAIL), failing


def _groups(contacts: Sequence[Contact]) -> tuple[ClientGroup, ...]:
    ends: dict[ConversationOutcome, list[str]] = {}
    for contact in contacts:
        ends.setdefault(contact.outcome, []).append(contact.client.address)
    return tuple(
        ClientGroup(outcome.value, captured.state_of(outcome), len(ends[outcome]), tuple(ends[outcome][:3]))
        for outcome in ConversationOutcome
        if outcome in ends
    )


# ------------------------------------------------------------------------------------------------------- faults


def _faults(
    key: tuple[str, str, int], host: CapturedHost, contacts: Sequence[Contact], answer: CaptureAnswer, base: Args
) -> Iterator[Fault]:
    """One fault for each way in which clients of a host ended badly."""
    failed: dict[tuple[ConversationOutcome, str], list[Contact]] = {}
    for contact in contacts:
        if contact.outcome.state is State.FAIL:
            code = _hresult(contact) if contact.outcome is _O.HOST_REFUSED else ""
            failed.setdefault((contact.outcome, code), []).append(contact)
    place = f"{host.address}:{host.port}"
    for (outcome, hresult), hit in sorted(failed.items(), key=lambda item: (item[0][0].stage, item[0])):
        seen = captured.example(answer, host, outcome)
        attempts = sum(contact.use.outcomes.get(outcome.value, 0) for contact in hit)
        args: dict[str, Scalar | tuple[str, ...]] = {
            **base,
            "address": host.address,
            **_details(outcome, host, seen),
        }
        code = CODES[outcome]
        if outcome is _O.HOST_REFUSED:
            code = f"answer.{REFUSALS[hresult].name}" if hresult in REFUSALS else code
            if hresult:
                args.update(hresult=hresult, decoded=decode(hresult) or "not decoded")
            else:
                code = "answer.refused_unread"
        thing = f"{place} {hresult}".strip()
        clients = tuple(contact.client.address for contact in hit)
        yield Fault(code, outcome.stage, thing, args, key, key[0], True, clients, attempts)


def _hresult(contact: Contact) -> str:
    """The refusal that a client met most often at a host."""
    codes = {code: number for code, number in contact.use.hresults.items() if int(code, 16) >> 31}
    return min(codes, key=lambda code: (-codes[code], code), default="")


def _details(outcome: ConversationOutcome, host: CapturedHost, seen: Conversation | None) -> dict[str, Scalar]:
    """What one conversation tells about all that ended like it."""
    if outcome is _O.UNREACHABLE:
        error = None if seen is None else seen.icmp
        if error is None:
            return {"icmp": "an ICMP error", "sender": "a router", "meaning": "its kind is not known here"}
        return {"icmp": error.name, "sender": error.sender, "meaning": icmp.meaning(error, host.address)}
    if outcome is _O.BELOW_THRESHOLD:
        count = "an unknown number" if host.count is None else f"{host.count.greatest:.0f}"
        return {"count": count, "required": " or ".join(map(str, host.required)) or "more"}
    if outcome is _O.REQUEST_FAULT:
        faults = [exchange.fault for exchange in seen.exchanges if exchange.fault] if seen is not None else []
        return {"detail": faults[0] if faults else "status not known"}
    detail = "" if seen is None else seen.detail
    reason = f"reason {seen.reason}" if seen is not None and seen.reason is not None else ""
    return {"detail": detail or reason or outcome.words}


# ------------------------------------------------------------------------------------------------------ figures


def _impact(people: People, ways: Iterable[_Way]) -> Iterator[Impact]:
    """Clients by how they ended, for each domain, and for each host that no domain names."""
    labels: dict[tuple[str, Port], str] = {}
    for way in ways:
        domain, target, port = way.key
        for place, (_host, contacts) in way.hosts.items():
            for contact in contacts:
                labels[contact.client.address, place] = f"{target}:{port}" if domain == NOWHERE else domain
    ends: dict[str, list[Fate]] = {}
    for fate in people.fates:
        if fate.state is State.UNKNOWN:
            continue
        if fate.use is None:
            label = fate.client.asked[0] if fate.client.asked else NOWHERE
        else:
            label = labels.get((fate.client.address, (fate.use.address, fate.use.port)), NOWHERE)
        ends.setdefault(label, []).append(fate)
    for label, fates in sorted(ends.items(), key=lambda item: (-_failed(item[1]), item[0])):
        fails = captured.share(_failed(fates), len(fates))
        delayed = captured.share(sum(fate.retried for fate in fates), len(fates))
        yield Impact(
            domain=label,
            hosts=len({(fate.use.address, fate.use.port) for fate in fates if fate.use is not None}),
            first_pick_dead=round(fails + delayed, 4),
            delayed=delayed,
            fails=fails,
            basis=Basis.OBSERVED,
            clients=len(fates),
        )


def _failed(fates: Iterable[Fate]) -> int:
    return sum(fate.state is State.FAIL for fate in fates)


# ------------------------------------------------------------------------------------------------------- tables


def view(answer: CaptureAnswer, selection: Selection) -> CaptureView:
    """What a report shows of the captures: the digest's tables, and who failed (of a selection by host: everybody)."""
    people = captured.people_of(answer)
    ends = Counter(fate.state for fate in people.fates if fate.client.address not in people.scanners)
    shown = (fate for fate in people.fates if selection.hosts or fate.state is State.FAIL)
    return CaptureView(
        files=answer.files,
        conversations=answer.conversations,
        exchanges=answer.exchanges,
        activated=ends[State.OK],
        failed=ends[State.FAIL],
        not_known=ends[State.UNKNOWN],
        filter=_filter(answer),
        outcomes=tuple(_outcome_rows(answer)),
        hosts=answer.hosts,
        lookups=answer.lookups,
        clients=tuple(sorted(map(_client_row, shown), key=lambda row: row.state is not State.FAIL)),
        examples=answer.examples,
        quality=answer.quality,
        pairs=answer.pairs,
        source=answer.source,
    )


def _filter(answer: CaptureAnswer) -> str:
    ports = sorted({host.port for host in answer.hosts} | {KMS_PORT})
    return " || ".join([*(f"tcp.port == {port}" for port in ports), 'lower(dns.qry.name) contains "_vlmcs._tcp"'])


def _outcome_rows(answer: CaptureAnswer) -> Iterator[OutcomeRow]:
    clients: Counter[str] = Counter()
    for client in answer.clients:
        clients.update({outcome for use in client.uses for outcome in use.outcomes})
    for outcome in ConversationOutcome:
        if outcome.value in answer.outcomes:
            yield OutcomeRow(
                stage=outcome.stage,
                outcome=outcome.value,
                state=outcome.state,
                words=_words(outcome, answer),
                conversations=answer.outcomes[outcome.value],
                clients=clients[outcome.value],
                numbers=tuple(one.number for one in answer.examples if one.outcome is outcome),
            )


def _words(outcome: ConversationOutcome, answer: CaptureAnswer) -> str:
    if outcome is _O.NOT_KNOWN and answer.source != "packets":
        return NOT_LOGGED
    return outcome.words + (_codes_in_words(answer) if outcome is _O.HOST_REFUSED else "")


def _codes_in_words(answer: CaptureAnswer) -> str:
    """All refusals of a run, by code."""
    codes = sorted({code for host in answer.hosts for code in host.hresults if int(code, 16) >> 31})
    words = (f"{code} {REFUSALS[code].meaning if code in REFUSALS else decode(code)}" for code in codes)
    return ": " + ", ".join(words) if codes else ""


def _client_row(fate: Fate) -> ClientRow:
    client, use = fate.client, fate.use
    row = ClientRow(
        address=client.address,
        state=fate.state,
        stage=fate.stage,
        outcome=fate.outcome.value,
        words=fate.outcome.words,
        name=client.machines[0] if client.machines else "",
        domains=client.asked,
    )
    if use is None:
        return row
    return msgspec.structs.replace(
        row,
        host=join_host_port(use.address, use.port),
        found_by=use.found_by,
        hresults=tuple(sorted(code for code in use.hresults if int(code, 16) >> 31)),
        attempts=use.attempts,
        last=use.last,
        numbers=use.numbers,
    )
