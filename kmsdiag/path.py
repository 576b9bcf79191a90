"""Builds every activation path from the evidence, and from the paths the state, the causes and who is hit.

Nothing here reads what checks said: paths and checks look at the same answers, independently.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from kmsdiag import captured, choice, clocks, discovery, joining, observed, reported
from kmsdiag.captured import Port
from kmsdiag.client_ends import ClientEnd
from kmsdiag.discovery import Service
from kmsdiag.fault import NOWHERE as NOWHERE
from kmsdiag.fault import Fault as Fault
from kmsdiag.knowledge import icmp
from kmsdiag.model.answer import Answer, RpcAnswer, SrvAnswer, TcpAnswer
from kmsdiag.model.capture import CaptureAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Args, Scalar
from kmsdiag.model.outcome import ConversationOutcome, DnsOutcome, RpcOutcome, Stage, State, TcpOutcome
from kmsdiag.model.path import Impact, Path, PathState, Route, StageResult, VerdictState
from kmsdiag.model.request import ClockQuery, ClockSource, RpcBind, SrvQuery, TcpConnect
from kmsdiag.model.target import KMS_PORT, Subject, SubjectKind, as_address


class Diagnosis(NamedTuple):
    """What the evidence says about activation: all paths, the state, merged faults, who is hit, how clients stand."""

    state: VerdictState
    paths: tuple[Path, ...]
    faults: tuple[tuple[Fault, tuple[Fault, ...]], ...]
    impact: tuple[Impact, ...]
    ends: tuple[ClientEnd, ...] = ()


def diagnose(seen: Evidence, subjects: Sequence[Subject]) -> Diagnosis:
    """Build the paths of all subjects and draw the conclusions. Pure: the same evidence gives the same result."""
    paths: list[Path] = []
    faults: list[Fault] = []
    impact: list[Impact] = []
    for subject in subjects:
        own = list(_subject_paths(subject, seen, faults))
        paths.extend(own)
        if subject.kind is SubjectKind.DOMAIN:
            hit = _impact(subject, seen, own)
            if hit is not None:
                impact.append(hit)
    answer = captured.answer_of(seen)
    if answer is not None:
        found = observed.observe(answer, {**reported.places(seen), **_names(subjects, seen)})
        paths = joining.with_captured(paths, found.paths)
        faults.extend(found.faults)
        impact.extend(found.impact)
    ends: tuple[ClientEnd, ...] = ()
    if seen.target.status or seen.target.events:
        told = reported.report(seen, _domains(paths))
        broken = {path.key for path in paths if path.state is PathState.FAIL}
        paths = joining.with_reported(paths, told.paths)
        new = [fault for fault in told.faults if not (fault.path in broken and fault.code in _SAME_SILENCE)]
        faults.extend(reported.with_captured(new, faults, seen))
        impact.extend(told.impact if answer is None else ())
        ends = told.ends
    state = _state(paths)
    if state is VerdictState.BROKEN and answer is not None and captured.answers_unread(answer):
        state = VerdictState.DEGRADED
    return Diagnosis(state, tuple(paths), _merge(faults, seen), tuple(impact), ends)


_SAME_SILENCE = frozenset({"tcp.client_says", "client.contacted_none"})
"""What clients report of a host that they could not reach: where something else says why, that counts."""


def _domains(paths: Iterable[Path]) -> dict[tuple[str, int], list[str]]:
    """Domains whose records name a target and port."""
    found: dict[tuple[str, int], list[str]] = {}
    for path in paths:
        if path.domain != NOWHERE and path.target != NOWHERE:
            found.setdefault((path.target, path.port), []).append(path.domain)
    return found


def _names(subjects: Iterable[Subject], seen: Evidence) -> dict[Port, list[tuple[str, str]]]:
    """Domain and target of each address and port, as live questions found them."""
    found: dict[Port, list[tuple[str, str]]] = {}
    for subject in subjects:
        for service in discovery.services(subject, seen):
            for address in discovery.addresses(service, seen):
                found.setdefault((address, service.port), []).append((_domain_of(subject), service.target))
    return found


def _state(paths: Iterable[Path]) -> VerdictState:
    states = [path.state for path in paths]
    works = any(state in (PathState.OK, PathState.PARTIAL) for state in states)
    breaks = any(state in (PathState.FAIL, PathState.PARTIAL) for state in states)
    if works:
        return VerdictState.DEGRADED if breaks else VerdictState.HEALTHY
    return VerdictState.BROKEN if breaks else VerdictState.UNKNOWN


def _domain_of(subject: Subject) -> str:
    return subject.name if subject.kind is SubjectKind.DOMAIN else NOWHERE


def _subject_paths(subject: Subject, seen: Evidence, faults: list[Fault]) -> Iterable[Path]:
    domain = _domain_of(subject)
    for query in discovery.srv_queries(subject, seen):
        answer = seen.get(query)
        if answer is None:
            stage = StageResult(stage=Stage.SRV, state=State.UNKNOWN, outcome="not_asked", questions=(str(query),))
            yield Path(
                domain=domain,
                target=NOWHERE,
                port=0,
                state=PathState.UNKNOWN,
                servers=(query.server,),
                stages=(stage,),
            )
        elif answer.outcome.state is State.FAIL:
            stage = _srv_stage(query, answer)
            path = Path(
                domain=domain,
                target=NOWHERE,
                port=0,
                state=PathState.FAIL,
                servers=(query.server,),
                stages=(stage,),
                fails_at=Stage.SRV,
            )
            faults.append(_srv_fault(subject, query, answer, path))
            yield path
    refusing = clocks.refusing(subject, seen) if seen.target.clock else {}
    for service in discovery.services(subject, seen):
        yield _service_path(subject, service, seen, faults, refusing)


def _srv_stage(query: SrvQuery, answer: SrvAnswer) -> StageResult:
    return StageResult(
        stage=Stage.SRV,
        state=answer.outcome.state,
        outcome=answer.outcome.value,
        elapsed_ms=answer.elapsed_ms,
        note=_NOTES.get(answer.outcome, ""),
        questions=(str(query),),
        server=answer.server,
    )


def _srv_fault(subject: Subject, query: SrvQuery, answer: SrvAnswer, path: Path) -> Fault:
    server = answer.server or query.server
    args: dict[str, Scalar] = {
        "name": query.name,
        "zone": subject.name,
        "server": server,
        "at": discovery.at(query.server),
        "detail": answer.detail or answer.rcode,
        "waited": seconds(answer.elapsed_ms),
    }
    # Absence is about the domain; everything else is about the server that was asked.
    thing = "" if answer.outcome.is_absence else server
    return Fault(f"srv.{answer.outcome}", Stage.SRV, thing, args, path.key, subject.name)


def _service_path(
    subject: Subject, service: Service, seen: Evidence, faults: list[Fault], refusing: Mapping[str, float]
) -> Path:
    domain = _domain_of(subject)
    key = (domain, service.target, service.port)
    base: dict[str, Scalar] = {"target": service.target, "port": service.port}
    stages = []
    if subject.kind is SubjectKind.DOMAIN:
        name = f"_vlmcs._tcp.{subject.name}"
        base.update(name=name, zone=subject.name)
        if service.records:
            first = service.records[0]
            base.update(priority=first.priority, weight=first.weight)
        for query, answer in discovery.srv_answers(subject, seen):
            if query.server in service.servers:
                stages.append(_srv_stage(query, answer))
                break
    named = _name_stage(service, seen)
    stages.append(named)
    routes: tuple[Route, ...] = ()
    if named.state is State.FAIL:
        faults.append(_name_fault(subject, service, seen, base, key))
    else:
        routes = tuple(
            _with_clock(_route(service, address, seen, base, key, faults), refusing, base, key, faults)
            for address in discovery.addresses(service, seen)
        )
    state, fails_at = _path_state(named, routes)
    return Path(
        domain=domain,
        target=service.target,
        port=service.port,
        state=state,
        ranks=tuple((record.priority, record.weight) for record in service.records),
        servers=service.servers,
        stages=tuple(stages),
        routes=routes,
        fails_at=fails_at,
    )


def _path_state(named: StageResult, routes: Sequence[Route]) -> tuple[PathState, Stage | None]:
    if named.state is State.FAIL:
        return PathState.FAIL, Stage.NAME
    states = [route.state for route in routes]
    if State.OK in states:
        return (PathState.PARTIAL if State.FAIL in states else PathState.OK), None
    if State.FAIL in states:
        failing = routes[states.index(State.FAIL)]
        stage = next(stage.stage for stage in failing.stages if stage.state is State.FAIL)
        return PathState.FAIL, stage
    return PathState.UNKNOWN, None


def _name_stage(service: Service, seen: Evidence) -> StageResult:
    if service.target == discovery.ROOT:
        return StageResult(stage=Stage.NAME, state=State.FAIL, outcome="root", note="not offered")
    if as_address(service.target) is not None:
        return StageResult(stage=Stage.NAME, state=State.OK, outcome="literal", note="address")
    queries = list(discovery.address_queries(service, seen))
    answers = [answer for query in queries if (answer := seen.get(query)) is not None]
    found = [answer for answer in answers if answer.addresses]
    questions = tuple(str(query) for query in queries)
    if found:
        return StageResult(
            stage=Stage.NAME,
            state=State.OK,
            outcome=DnsOutcome.ANSWERED.value,
            elapsed_ms=max(answer.elapsed_ms for answer in found),
            questions=questions,
            server=found[0].server,
        )
    if len(answers) < len(queries):
        return StageResult(stage=Stage.NAME, state=State.UNKNOWN, outcome="not_asked", questions=questions)
    failed = [answer for answer in answers if not answer.outcome.is_absence]
    worst = (failed or answers)[0]
    return StageResult(
        stage=Stage.NAME,
        state=State.FAIL,
        outcome=worst.outcome.value,
        elapsed_ms=max(answer.elapsed_ms for answer in answers),
        note=_NOTES.get(worst.outcome, "no address"),
        questions=questions,
        server=worst.server,
    )


def _name_fault(subject: Subject, service: Service, seen: Evidence, base: Args, key: tuple[str, str, int]) -> Fault:
    domain = _domain_of(subject)
    if service.target == discovery.ROOT:
        return Fault("name.root", Stage.NAME, domain, base, key, domain)
    answered = list(discovery.address_answers(service, seen))
    failed = [pair for pair in answered if not pair[1].outcome.is_absence]
    query, answer = (failed or answered)[0]
    args = {
        **base,
        "server": answer.server or query.server,
        "at": discovery.at(query.server),
        "outcome": answer.outcome.words,
        "what": "SRV target",
    }
    if subject.kind is SubjectKind.HOST:
        args.update(name="--host", what="host")
    code = "name.lookup_failed" if failed else "name.no_address"
    return Fault(code, Stage.NAME, service.target, args, key, domain)


def connects(address: str, port: int, seen: Evidence) -> list[TcpAnswer]:
    """What is known of all connection attempts to one address and port."""
    requests = discovery.connects(address, port, seen)
    return [answer for request in requests if (answer := seen.get(request)) is not None]


def telling(tries: list[TcpAnswer]) -> TcpAnswer:
    """The try that says most: one that came about, else one that got a word from somebody, else a silent one."""
    return min(tries, key=lambda answer: (answer.outcome is not TcpOutcome.OPEN, answer.outcome is TcpOutcome.TIMEOUT))


def _route(
    service: Service, address: str, seen: Evidence, base: Args, key: tuple[str, str, int], faults: list[Fault]
) -> Route:
    tries = connects(address, service.port, seen)
    if not tries:
        return Route(address=address)
    best = telling(tries)
    tcp = StageResult(
        stage=Stage.TCP,
        state=best.outcome.state,
        outcome=best.outcome.value,
        elapsed_ms=best.elapsed_ms if best.rtt_ms is None else best.rtt_ms,
        note=_TCP_NOTES[best.outcome] if best.outcome is not TcpOutcome.OPEN else "",
        questions=(str(TcpConnect(address=address, port=service.port)),),
    )
    if tcp.state is not State.OK:
        if tcp.state is State.FAIL:
            faults.append(_tcp_fault(service, address, tries, seen, base, key))
        return Route(address=address, stages=(tcp,))
    bind = RpcBind(address=address, port=service.port)
    answer = seen.get(bind)
    if answer is None:
        rpc = StageResult(stage=Stage.RPC, state=State.UNKNOWN, outcome="not_asked", questions=(str(bind),))
        return Route(address=address, stages=(tcp, rpc))
    rpc = StageResult(
        stage=Stage.RPC,
        state=answer.outcome.state,
        outcome=answer.outcome.value,
        elapsed_ms=answer.elapsed_ms,
        note=_rpc_note(answer.outcome, answer.detail),
        questions=(str(bind),),
    )
    if rpc.state is State.FAIL:
        args = {
            **base,
            "address": address,
            "detail": answer.detail,
            "excerpt": answer.excerpt,
            "waited": seconds(answer.elapsed_ms),
        }
        code = f"rpc.{answer.outcome}"
        faults.append(Fault(code, Stage.RPC, f"{address}:{service.port}", args, key, key[0]))
    return Route(address=address, stages=(tcp, rpc))


def _with_clock(
    route: Route, refusing: Mapping[str, float], base: Args, key: tuple[str, str, int], faults: list[Fault]
) -> Route:
    """Add the clock where it breaks a way that works otherwise: such a host answers, and refuses its clients."""
    offset = refusing.get(route.address)
    if offset is None or route.state is not State.OK:
        return route
    questions = tuple(str(ClockQuery(address=route.address, source=source)) for source in ClockSource)
    words = clocks.in_words(offset)
    stage = StageResult(stage=Stage.CLOCK, state=State.FAIL, outcome="beyond", note=words, questions=questions)
    args = {**base, "address": route.address, "offset": words}
    faults.append(Fault("clock.beyond", Stage.CLOCK, route.address, args, key, key[0]))
    return Route(address=route.address, stages=(*route.stages, stage))


def _tcp_fault(
    service: Service, address: str, tries: list[TcpAnswer], seen: Evidence, base: Args, key: tuple[str, str, int]
) -> Fault:
    first = telling(tries)
    args: dict[str, Scalar | tuple[str, ...]] = {
        **base,
        "address": address,
        "attempts": "1 attempt" if len(tries) == 1 else f"{len(tries)} attempts",
        "waited": seconds(sum(answer.elapsed_ms for answer in tries)),
    }
    code = f"tcp.{first.outcome}"
    if first.icmp is not None:
        args.update(icmp=first.icmp.name, sender=first.icmp.sender, meaning=icmp.meaning(first.icmp, address))
    elif first.outcome is TcpOutcome.UNREACHABLE:
        args.update(icmp=first.errno, sender="This machine", meaning="the kind of ICMP error is not known here")
    other = seen.get(RpcBind(address=address, port=KMS_PORT)) if service.port != KMS_PORT else None
    if other is not None and other.outcome is RpcOutcome.ACCEPTED:
        code = "tcp.wrong_port"
        args.update(open_port=KMS_PORT, outcome=_TCP_NOTES[first.outcome])
    return Fault(code, Stage.TCP, f"{address}:{service.port}", args, key, key[0])


_LISTED = 8
"""Addresses that one sentence names."""


def _merge(faults: list[Fault], seen: Evidence) -> tuple[tuple[Fault, tuple[Fault, ...]], ...]:
    """Group faults that are one thing. The first of a group speaks for it; many silent hosts may be one firewall."""
    groups: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        groups.setdefault((fault.code, fault.thing), []).append(fault)
    silent = [key for key in groups if key[0] == "tcp.timeout"]
    addresses = sorted({str(groups[key][0].args["address"]) for key in silent})
    targets = {fault.args["target"] for key in silent for fault in groups[key]}
    # Two addresses of one host are one dead host, not a sign of a firewall.
    if len(addresses) > 1 and len(targets) > 1 and not any(map(_is_sign_of_life, seen.facts.values())):
        together = [fault for key in silent for fault in groups.pop(key)]
        args: dict[str, Scalar | tuple[str, ...]] = {
            **together[0].args,
            "count": len(addresses),
            "addresses": tuple(addresses[:_LISTED])
            + ((f"{len(addresses) - _LISTED} more",) if addresses[_LISTED:] else ()),
        }
        groups["tcp.timeout_everywhere", ""] = [
            together[0]._replace(code="tcp.timeout_everywhere", args=args),
            *together[1:],
        ]
    # What clients met counts by how many of them it hits; from here, all that is known is how early a way ends.
    by_clients = all(fault.captured or fault.reported for group in groups.values() for fault in group)

    def rank(group: list[Fault]) -> tuple[int, int, int]:
        clients = {client for fault in group for client in fault.clients} if by_clients else ()
        return (-len(clients), list(Stage).index(group[0].stage), -len(group))

    ranked = sorted(groups.values(), key=rank)
    return tuple((group[0], tuple(group)) for group in ranked)


def _is_sign_of_life(answer: Answer) -> bool:
    """Something out there sent a packet back; what never left this machine says nothing either way."""
    if isinstance(answer, CaptureAnswer):
        silence = {ConversationOutcome.UNANSWERED.value, ConversationOutcome.NOT_KNOWN.value}
        return any(host.outcomes.keys() - silence for host in answer.hosts)
    if isinstance(answer, TcpAnswer):
        return answer.outcome.state is not State.UNKNOWN and answer.outcome is not TcpOutcome.TIMEOUT
    return isinstance(answer, RpcAnswer) and answer.outcome is not RpcOutcome.NO_CONNECTION


def _impact(subject: Subject, seen: Evidence, paths: Sequence[Path]) -> Impact | None:
    """Simulate the first pick over the records of the first server that answered.

    None where a domain has no records to choose from and that is known to be the server's doing, or nothing is known.
    """
    answered = [answer for _query, answer in discovery.srv_answers(subject, seen) if answer.records]
    if not answered:
        failing = paths and all(path.state is PathState.FAIL for path in paths)
        return Impact(domain=subject.name, hosts=0, first_pick_dead=1, delayed=0, fails=1) if failing else None
    records = answered[0].records
    state = {(path.target, path.port): path.state for path in paths}
    if any(state.get((record.target, record.port)) in (None, PathState.UNKNOWN) for record in records):
        return None
    dead = [state[record.target, record.port] is PathState.FAIL for record in records]
    ranked = sum(p for p, is_dead in zip(choice.first_pick_ranked(records), dead, strict=True) if is_dead)
    by_chance = sum(p for p, is_dead in zip(choice.first_pick_random(records), dead, strict=True) if is_dead)
    fails = 1.0 if all(dead) else 0.0
    return Impact(
        domain=subject.name,
        hosts=len({(record.target, record.port) for record in records}),
        first_pick_dead=round(ranked, 4),
        delayed=0.0 if fails else round(ranked, 4),
        fails=fails,
        first_pick_dead_random=round(by_chance, 4) if abs(by_chance - ranked) > 0.005 else None,
    )


def seconds(milliseconds: float) -> str:
    """Milliseconds as seconds, with one decimal."""
    return f"{milliseconds / 1000:.1f}"


def _rpc_note(outcome: RpcOutcome, detail: str) -> str:
    if outcome is RpcOutcome.ACCEPTED:
        return "KMS"
    if outcome is RpcOutcome.OTHER_PROTOCOL:
        return detail
    return _RPC_NOTES[outcome]


_NOTES = {
    DnsOutcome.NODATA: "no record",
    DnsOutcome.NXDOMAIN: "NXDOMAIN",
    DnsOutcome.SERVFAIL: "SERVFAIL",
    DnsOutcome.REFUSED: "REFUSED",
    DnsOutcome.ERROR_RCODE: "error",
    DnsOutcome.REFERRAL: "referral",
    DnsOutcome.CHAIN: "CNAME loop",
    DnsOutcome.TRUNCATED: "TCP 53 blocked",
    DnsOutcome.MALFORMED: "malformed",
    DnsOutcome.TIMEOUT: "silent",
    DnsOutcome.NOT_LISTENING: "not listening",
    DnsOutcome.UNREACHABLE: "unreachable",
    DnsOutcome.NO_SERVER: "no server",
}
_TCP_NOTES = {
    TcpOutcome.OPEN: "open",
    TcpOutcome.REFUSED: "refused",
    TcpOutcome.TIMEOUT: "silent",
    TcpOutcome.UNREACHABLE: "unreachable",
    TcpOutcome.RESET: "reset",
    TcpOutcome.NO_ROUTE: "no route from here",
    TcpOutcome.LOCAL_ERROR: "not possible from here",
}
_RPC_NOTES = {
    RpcOutcome.REJECTED: "not KMS",
    RpcOutcome.NAK: "bind_nak",
    RpcOutcome.FAULT: "fault",
    RpcOutcome.SILENT: "silent",
    RpcOutcome.CLOSED: "closed",
    RpcOutcome.RESET: "reset",
    RpcOutcome.INCOMPLETE: "cut short",
    RpcOutcome.MALFORMED: "garbage",
    RpcOutcome.NO_CONNECTION: "no 2nd connection",
}
