"""What captures say about clients and hosts, drawn together once: checks and activation paths read the same.

Everything here is a pure function of one :class:`CaptureAnswer`.
"""

import datetime
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.capture import (
    CaptureAnswer,
    CapturedClient,
    CapturedHost,
    CapturedLookup,
    Channel,
    Conversation,
    FoundBy,
    Use,
)
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.outcome import ConversationOutcome, DnsOutcome, Stage, State
from kmsdiag.model.request import Captures
from kmsdiag.model.same import Same
from kmsdiag.model.target import Subject, Target, as_address, join_host_port

SCAN_HOSTS = 8
"""Addresses at which a client knocks without ever speaking KMS before it counts as a port scanner (own limit)."""

ATTEMPT = datetime.timedelta(minutes=1)
"""Conversations that begin within this time of each other are one attempt, at several hosts where one fails."""

_PREFIX = "_vlmcs._tcp."
_EXAMPLES = 3

Port = tuple[str, int]
"""Address and port of a host."""


def request(target: Target) -> Captures:
    """The question that all captures of a run answer together."""
    return Captures(files=target.captures, selection=target.selection)


def answer_of(seen: Evidence) -> CaptureAnswer | None:
    """What the captures of a run say, None where it has none or they were not read."""
    return seen.get(request(seen.target)) if seen.target.captures else None


def ask(_subject: Subject, seen: Evidence) -> Iterator[Captures]:
    """The captures of the run: all that a check about them needs."""
    yield request(seen.target)


# ------------------------------------------------------------------------------------------------------- words


def count(number: int, word: str) -> str:
    """A number and its noun: "1 client", "2,000 clients"."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def who(clients: Sequence[str], most: int = _EXAMPLES) -> str:
    """Clients as a reader wants them: how many, and the first few addresses."""
    listed = ", ".join(clients[:most])
    more = f" and {len(clients) - most:,} more" if len(clients) > most else ""
    return f"{count(len(clients), 'client')} ({listed}{more})" if clients else "0 clients"


def span(seconds: float) -> str:
    """A duration in the two units that matter: "7 d", "2 h 5 min", "45 s"."""
    whole = round(seconds)
    if 0 < seconds < 0.05:
        return "under 0.1 s"
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 and whole != seconds else f"{whole} s"
    for unit, size, next_unit, next_size in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {unit}" + (f" {rest} {next_unit}" if rest else "")
    raise AssertionError(seconds)


def called(host: CapturedHost) -> str:
    """A host by its name where DNS answers gave it one, with address and port."""
    place = join_host_port(host.address, host.port)
    return f"{host.names[0]} ({place})" if host.names and host.names[0] != host.address else place


def domain_of(lookup: CapturedLookup) -> str:
    """The domain whose KMS record was asked for; "" for another name."""
    name = lookup.name.lower()
    return name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else ""


def outcomes_in_words(outcomes: Mapping[str, int], *, most: int = 3) -> str:
    """Conversations by how they ended, the most frequent first."""
    ranked = sorted(outcomes.items(), key=lambda item: (-item[1], _RANK[ConversationOutcome(item[0])]))
    words = [f"{number:,} x {ConversationOutcome(outcome).words}" for outcome, number in ranked[:most]]
    return "; ".join([*words, f"{len(ranked) - most} other ends"] if len(ranked) > most else words)


_RANK = {outcome: number for number, outcome in enumerate(ConversationOutcome)}
_BY_NAME = {outcome.value: outcome for outcome in ConversationOutcome}
_FAILING = frozenset(outcome.value for outcome in ConversationOutcome if outcome.state is State.FAIL)
# Of several ends the worst that is known tells most: the failure met first, else a success, else what is not known.
_TELLING = {
    outcome.value: ([State.FAIL, State.OK, State.UNKNOWN].index(outcome.state), number)
    for outcome, number in _RANK.items()
}


# ----------------------------------------------------------------------------------------------------- clients


class Contact(NamedTuple):
    """A client's dealings with one host, and how the last of them ended, as far as that is known."""

    client: CapturedClient
    use: Use
    outcome: ConversationOutcome


class Fate(NamedTuple):
    """How a client ended: at which stage, with which outcome (of a conversation or of DNS), and at which host.

    ``retried`` is true where it activated after a conversation that failed. ``state`` is unknown where it did not try,
    or the captures lack the end; ``stage`` is then None.
    """

    client: CapturedClient
    state: State
    stage: Stage | None
    outcome: ConversationOutcome | DnsOutcome
    use: Use | None = None
    retried: bool = False


class People:
    """Clients of one answer, indexed by host, and names with their addresses; :func:`people_of` builds it once."""

    def __init__(self, answer: CaptureAnswer) -> None:
        self._addresses = _addresses(answer)
        self.scanners: dict[str, int] = {}
        """Clients that only knocked, at many addresses: a port scan says nothing about activation."""
        self.contacts: dict[Port, list[Contact]] = {}
        self._talkers: dict[Port, list[Contact]] = {}
        self.fates: list[Fate] = []
        srv = srv_lookups(answer)
        self._srv: dict[str, list[tuple[int, CapturedLookup]]] = {}
        for place, lookup in enumerate(srv):
            self._srv.setdefault(domain_of(lookup), []).append((place, lookup))
        self.unresolved = self._unresolved(answer, srv)
        """SRV targets for whose addresses clients asked in vain, each with the lookup that says most."""
        self._unserved: dict[str, list[str]] = {}
        self._told: dict[str, list[str]] = {}
        for client in answer.clients:
            for target in client.told:
                self._told.setdefault(target, []).append(client.address)
            if _scans(client):
                self.scanners[client.address] = len(client.uses)
            contacts = _contacts(client)
            for contact in contacts:
                self.contacts.setdefault((contact.use.address, contact.use.port), []).append(contact)
            fate = self._fate(client, contacts)
            self.fates.append(fate)
            if fate.stage is Stage.SRV:
                for domain in client.asked:
                    self._unserved.setdefault(domain, []).append(client.address)

    def at(self, host: CapturedHost) -> list[Contact]:
        """Those who talked, or tried to talk, to a host, scanners left out."""
        port = (host.address, host.port)
        if port not in self._talkers:
            every = self.contacts.get(port, [])
            self._talkers[port] = [contact for contact in every if contact.client.address not in self.scanners]
        return self._talkers[port]

    def of(self, host: CapturedHost, *outcomes: ConversationOutcome) -> list[str]:
        """Addresses of the clients that had at least one conversation with such an end."""
        wanted = {outcome.value for outcome in outcomes}
        return [contact.client.address for contact in self.at(host) if wanted & contact.use.outcomes.keys()]

    def addresses_of(self, target: str) -> list[str]:
        """Addresses of a name as the captures give them; of an address itself."""
        literal = as_address(target)
        return [literal] if literal is not None else self._addresses.get(target, [])

    def _unresolved(self, answer: CaptureAnswer, srv: Sequence[CapturedLookup]) -> dict[str, CapturedLookup]:
        asked: dict[str, list[CapturedLookup]] = {}
        for lookup in answer.lookups:
            if lookup.kind in ("A", "AAAA") and lookup.channel is Channel.DNS:
                asked.setdefault(lookup.name.lower(), []).append(lookup)
        found = {}
        for target in sorted({record.target for lookup in srv for record in lookup.records}):
            if target in asked and not self.addresses_of(target):
                failed = [lookup for lookup in asked[target] if not worst_of(lookup).is_absence]
                found[target] = (failed or asked[target])[0]
        return found

    def _fate(self, client: CapturedClient, contacts: Sequence[Contact]) -> Fate:
        if contacts and client.address not in self.scanners:
            _client, use, outcome = _last(contacts)
            if state_of(outcome) is State.UNKNOWN:
                return Fate(client, State.UNKNOWN, None, outcome, use)
            retried = outcome.state is State.OK and any(not _FAILING.isdisjoint(one.outcomes) for one in client.uses)
            return Fate(client, outcome.state, outcome.stage, outcome, use, retried)
        if client.told:
            names = [told.rpartition(":")[0] for told in client.told]
            if all(name in self.unresolved for name in names):
                return Fate(client, State.FAIL, Stage.NAME, worst_of(self.unresolved[names[0]]))
        elif client.asked and client.address not in self.scanners:
            ends_of_dns = [worst_of(one) for one in self.srv_of(*client.asked)]
            failed = [one for one in ends_of_dns if one is not DnsOutcome.ANSWERED]
            if failed:
                return Fate(client, State.FAIL, Stage.SRV, failed[0])
        return Fate(client, State.UNKNOWN, None, ConversationOutcome.NOT_KNOWN)

    def srv_of(self, *domains: str) -> list[CapturedLookup]:
        """The lookups of the KMS records of these domains, in the answer's order. There may be many thousands."""
        found = [one for domain in dict.fromkeys(domains) for one in self._srv.get(domain, ())]
        return [lookup for _place, lookup in sorted(found, key=itemgetter(0))]

    def told(self, target: str, port: int) -> list[str]:
        """Clients that an SRV answer told of this target."""
        return self._told.get(f"{target}:{port}", [])

    def unserved(self, domain: str) -> list[str]:
        """Clients that asked for a domain's KMS record, were told no host, and talked to none."""
        return self._unserved.get(domain, [])


def state_of(outcome: ConversationOutcome) -> State:
    """What the end of its dealings with a host means for a client: one that bound and asked nothing did not try."""
    return State.UNKNOWN if outcome is ConversationOutcome.BOUND else outcome.state


@functools.lru_cache(maxsize=1)
def _people(answer: Same[CaptureAnswer]) -> People:
    return People(*answer.things)


def people_of(answer: CaptureAnswer) -> People:
    """The clients of an answer. A dozen checks and the paths ask for them, and there may be many thousands."""
    return _people(Same(answer))


def _scans(client: CapturedClient) -> bool:
    if len(client.uses) < SCAN_HOSTS or client.told:
        return False
    knocks = {ConversationOutcome.CONNECT_ONLY, ConversationOutcome.NOT_KMS, ConversationOutcome.NOT_KNOWN}
    ends = {ConversationOutcome(name) for use in client.uses for name in use.outcomes}
    return all(end.stage is Stage.TCP or end in knocks for end in ends)


def _contacts(client: CapturedClient) -> list[Contact]:
    """A client's dealings with each host, and how they ended: the last outcome of all, else the worst of each."""
    latest = _latest(client.uses)
    last_is_known = client.last is not None and client.last.state is not State.UNKNOWN
    return [
        Contact(client, use, client.last if last_is_known and use is latest and client.last else _worst(use))
        for use in client.uses
    ]


def _latest(uses: Sequence[Use]) -> Use | None:
    return max(uses, key=lambda use: use.last) if len(uses) > 1 else next(iter(uses), None)


def _worst(use: Use) -> ConversationOutcome:
    return _BY_NAME[min(use.outcomes, key=_TELLING.__getitem__, default=ConversationOutcome.NOT_KNOWN.value)]


def _last(contacts: Sequence[Contact]) -> Contact:
    """The end of a client's last attempt: where several hosts failed in it, that of the one it got furthest with."""
    if len(contacts) == 1:
        return contacts[0]
    latest = max(contacts, key=lambda contact: contact.use.last)
    if latest.outcome.state is not State.FAIL:
        return latest
    attempt = [one for one in contacts if latest.use.last - one.use.last < ATTEMPT]
    failed = [one for one in attempt if one.outcome.state is State.FAIL]
    return max(failed, key=lambda one: (_RANK[one.outcome], one is latest))


# ------------------------------------------------------------------------------------------------------ lookups


def srv_lookups(answer: CaptureAnswer, channel: Channel = Channel.DNS) -> list[CapturedLookup]:
    """Questions for KMS records, by unicast DNS (as Windows asks) or another channel."""
    return [
        lookup for lookup in answer.lookups if lookup.kind == "SRV" and lookup.channel is channel and domain_of(lookup)
    ]


def worst_of(lookup: CapturedLookup) -> DnsOutcome:
    """Answered, where it was ever answered; else the most frequent end."""
    if DnsOutcome.ANSWERED in lookup.outcomes:
        return DnsOutcome.ANSWERED
    ends = sorted(lookup.outcomes.items(), key=lambda item: (-item[1], item[0]))
    return DnsOutcome(ends[0][0]) if ends else DnsOutcome.TIMEOUT


def _addresses(answer: CaptureAnswer) -> dict[str, list[str]]:
    """Names with their addresses, from answers and from what hosts are called."""
    found: dict[str, set[str]] = {}
    for lookup in answer.lookups:
        if lookup.kind in ("A", "AAAA") and lookup.channel is Channel.DNS:
            found.setdefault(lookup.name.lower(), set()).update(lookup.addresses)
    for host in answer.hosts:
        for name in host.names:
            found.setdefault(name, set()).add(host.address)
    return {name: sorted(own, key=lambda address: (":" in address, address)) for name, own in found.items()}


def records(answer: CaptureAnswer) -> dict[str, list[tuple[SrvRecord, tuple[str, ...]]]]:
    """SRV records that captured answers hold for each domain, each with the servers that gave it.

    Records that differ in nothing but the TTL are one: it counts down in every cache.
    """
    found: dict[str, dict[tuple[int, int, int, str], tuple[SrvRecord, dict[str, None]]]] = {}
    for lookup in srv_lookups(answer):
        own = found.setdefault(domain_of(lookup), {})
        for record in lookup.records:
            key = (record.priority, record.weight, record.port, record.target)
            own.setdefault(key, (record, {}))[1][lookup.server] = None
    return {
        domain: [(record, tuple(servers)) for _key, (record, servers) in sorted(own.items())]
        for domain, own in sorted(found.items())
    }


def ranked(answer: CaptureAnswer) -> bool:
    """Whether priority and weight of SRV records are known: Zeek logs their targets alone."""
    return answer.source != "zeek"


def answers_unread(answer: CaptureAnswer) -> bool:
    """Whether hosts answered what may have been successes: logs of other programs never show one."""
    return answer.source != "packets" and any(
        host.speaks_kms and ConversationOutcome.NOT_KNOWN.value in host.outcomes for host in answer.hosts
    )


def saw_dns(answer: CaptureAnswer) -> bool:
    """Whether the captures hold any unicast DNS."""
    return answer.quality.dns_packets > 0 or any(lookup.channel is Channel.DNS for lookup in answer.lookups)


# ------------------------------------------------------------------------------------------------------- others


def example(answer: CaptureAnswer, host: CapturedHost, *outcomes: ConversationOutcome) -> Conversation | None:
    """A conversation with a host that ended in such a way, where one was kept."""
    return next(
        (
            one
            for one in answer.examples
            if (one.host, one.host_port) == (host.address, host.port) and one.outcome in outcomes
        ),
        None,
    )


def tried(hosts: Iterable[CapturedHost], people: People) -> list[CapturedHost]:
    """Hosts that somebody other than a port scanner turned to."""
    return [host for host in hosts if people.at(host)]


def number_of(host: CapturedHost, *outcomes: ConversationOutcome) -> int:
    """Conversations of a host with one of these ends."""
    return sum(host.outcomes.get(outcome.value, 0) for outcome in outcomes)


def found_in_words(found: Mapping[str, int]) -> str:
    """By which route clients found a host."""
    return ", ".join(f"{number:,} {_ROUTES[FoundBy(way)]}" for way, number in sorted(found.items()) if number)


_ROUTES = {
    FoundBy.SRV: "by its SRV record",
    FoundBy.NAME: "by its name alone (cached, or set by slmgr /skms)",
    FoundBy.NOTHING: "without any lookup (cached, or its address set by slmgr /skms)",
    FoundBy.NOT_KNOWN: "in a way the capture does not show",
}


def share(part: int, whole: int) -> float:
    """A part from 0 to 1, to four digits; 0 of nothing."""
    return 0.0 if whole == 0 else round(part / whole, 4)
