"""What proposed records would do: who moves to which host, who stays, and what is lost.

Whom a change of records does not reach is documented: a client keeps the host it last activated with until that stops
answering, and one whose host is set by hand asks no DNS ("KMS activation timing and discovery").
"""

import datetime
from collections.abc import Mapping, Sequence

from kmsdiag import choice, compare, discovery, plan
from kmsdiag.model.answer import SrvAnswer, SrvRecord
from kmsdiag.model.audit import DomainShift, Effect, Removed, Share, WhatIf
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.path import PathState
from kmsdiag.model.proposal import Proposal
from kmsdiag.model.report import Report
from kmsdiag.model.target import Product, Subject, SubjectKind, join_host_port


def compile_what_if(proposal: Proposal, before: Report, after: Report, seen: Evidence, at: datetime.datetime) -> WhatIf:
    """Compare the world as it is (``before``, ``seen``) with the one in which the records are there (``after``)."""
    shifts = []
    for name in seen.target.domains:
        subject = Subject(SubjectKind.DOMAIN, name)
        supposed = _supposed(subject, proposal, seen, at)
        if supposed is not None:
            shifts.append(_shift(subject, supposed, before, seen))
    changes = sorted(compare.changes(before, after), key=lambda change: _ORDER.index(change.better))
    effects = tuple(Effect(what=change.what, better=change.better) for change in changes)
    return WhatIf(records=_listed(proposal), domains=tuple(shifts), effects=effects)


_ORDER = (False, True, None)
"""What is lost comes first."""


def _listed(proposal: Proposal) -> tuple[str, ...]:
    """The proposal in the words of a zone file."""
    lines = [
        f"{one.name}. {record.ttl} IN SRV {record.priority} {record.weight} {record.port} {_dotted(record.target)}"
        for one in proposal.srv
        for record in one.records
    ]
    lines += [
        f"{one.name}. IN {'AAAA' if ':' in address else 'A'} {address}"
        for one in proposal.addresses
        for address in one.addresses
    ]
    return (*lines, *(f"{zone}. as a whole: what is not listed is gone" for zone in proposal.zones))


def _dotted(target: str) -> str:
    return target if target == discovery.ROOT else f"{target}."


def _shift(subject: Subject, supposed: Sequence[SrvRecord], before: Report, seen: Evidence) -> DomainShift:
    old, new = _now(subject, seen), _offered(supposed)
    was, will = _names(old), _names(new)
    states = {(path.target, path.port): path.state for path in before.paths if path.domain == subject.name}
    ranked, by_chance = (
        _moves(_by_target(old, choose(old)), _by_target(new, choose(new)))
        for choose in (choice.first_pick_ranked, choice.first_pick_random)
    )
    return DomainShift(
        domain=subject.name,
        before=_shares(subject, old, seen),
        after=_shares(subject, new, seen),
        moves=ranked,
        moves_random=by_chance,
        ttl=max((record.ttl for record in old), default=0),
        added=tuple(join_host_port(*host) for host in sorted(will - was)),
        removed=tuple(
            Removed(host=join_host_port(*host), answers=_ANSWERS.get(states.get(host, PathState.UNKNOWN)))
            for host in sorted(was - will)
        ),
    )


_ANSWERS = {PathState.OK: True, PathState.PARTIAL: True, PathState.FAIL: False}


def _now(subject: Subject, seen: Evidence) -> tuple[SrvRecord, ...]:
    """The records of the first server that gives any."""
    found = (answer.records for _query, answer in discovery.srv_answers(subject, seen) if answer.records)
    return _offered(next(found, ()))


def _supposed(
    subject: Subject, proposal: Proposal, seen: Evidence, at: datetime.datetime
) -> tuple[SrvRecord, ...] | None:
    """The records that the domain would have; None where the proposal does not speak of it."""
    for query in discovery.srv_queries(subject, seen):
        answer = proposal.answer(query, seen.get(query), at)
        if isinstance(answer, SrvAnswer):
            return answer.records
    return None


def _offered(records: Sequence[SrvRecord]) -> tuple[SrvRecord, ...]:
    return tuple(record for record in records if record.target != discovery.ROOT)


def _names(records: Sequence[SrvRecord]) -> set[tuple[str, int]]:
    return {(record.target, record.port) for record in records}


def _by_target(records: Sequence[SrvRecord], chances: Sequence[float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for record, chance in zip(records, chances, strict=True):
        found[record.target] = found.get(record.target, 0.0) + chance
    return found


def _moves(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """The part of first picks that goes to another host, where each client moves only if it must."""
    return round(sum(max(0.0, share - before.get(host, 0.0)) for host, share in after.items()), 4)


def _shares(subject: Subject, records: Sequence[SrvRecord], seen: Evidence) -> tuple[Share, ...]:
    ranked = _by_target(records, choice.first_pick_ranked(records))
    by_chance = _by_target(records, choice.first_pick_random(records))
    machines = {product: _machines(subject, records, product, seen) for product in Product}
    return tuple(
        Share(
            host=host,
            ranked=round(ranked[host], 4),
            random=round(by_chance[host], 4),
            windows=machines[Product.WINDOWS].get(host),
            office=machines[Product.OFFICE].get(host),
        )
        for host in sorted(ranked, key=lambda host: (-ranked[host], host))
    )


def _machines(subject: Subject, records: Sequence[SrvRecord], product: Product, seen: Evidence) -> dict[str, int]:
    """Planned machines in the count of a product that end at each host; empty where none are planned."""
    expected = seen.target.expected
    planned = sum(plan.counted(product, site) for site in expected.sites if site.domain == subject.name)
    shares = plan.shares(records, product, expected.hosts) if planned else {}
    return {host: round(share * planned) for host, share in shares.items()}
