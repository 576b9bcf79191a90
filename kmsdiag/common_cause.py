"""The smallest common cause of failures that many places saw (docs/decisions/012-the-smallest-common-cause.md).

A *trouble* is one failure at one place. A *suspect* (a DNS server, a host, a domain's records, a network, one place)
may explain it unless somewhere the same thing works in spite of the suspect. The fewest suspects that explain all
troubles are the causes; a greedy cover is near enough to the fewest, and gives the same answer each time.
"""

import functools
import heapq
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from kmsdiag.model.merged import CauseKind
from kmsdiag.model.outcome import DnsOutcome, Stage, State
from kmsdiag.model.path import Path, PathState, Route
from kmsdiag.model.report import Report
from kmsdiag.model.target import SYSTEM, as_address, join_host_port
from kmsdiag.path import NOWHERE

ABSENT: Final = "absent"
"""Outcome of the SRV stage where a DNS server answers and leaves out a host that works elsewhere."""

MOST_HOSTS: Final = 1000
"""Working hosts of one domain up to which is looked who does not name them: more records fit no SRV answer."""

ABSENCE = frozenset({DnsOutcome.NXDOMAIN.value, DnsOutcome.NODATA.value, ABSENT})
"""Outcomes by which a server says that something does not exist."""

_CUT_OFF = frozenset(
    outcome.value
    for outcome in (
        DnsOutcome.TIMEOUT,
        DnsOutcome.NOT_LISTENING,
        DnsOutcome.UNREACHABLE,
        DnsOutcome.REFUSED,
        DnsOutcome.TRUNCATED,
    )
)
"""DNS outcomes that the network between, or a rule about who may ask, can bring about."""

_PREFIXES: Final = {4: (24, 16), 6: (64, 48)}
"""Lengths of the networks that a place is taken to be in: a subnet and a site, as they are usually cut."""

Servers = frozenset[str]
Way = tuple[str, str, int]
Thing = tuple[str, ...]
"""What is tested: a domain's records, a name, one stage at one address, or a host's presence in a domain's records."""


class Suspect(NamedTuple):
    """Something that may be the cause."""

    kind: CauseKind
    name: str


class Trouble(NamedTuple):
    """One failure at one place (a number). ``servers`` are the DNS servers that may have had a part in it.

    ``partly``: others at that place did not meet it.
    """

    vantage: int
    way: Way
    stage: Stage
    outcome: str
    note: str
    address: str
    servers: Servers
    partly: bool = False


class Found(NamedTuple):
    """A cause, what it explains, the places where the same works, and suspects that explain as much."""

    suspect: Suspect
    troubles: tuple[Trouble, ...]
    works_at: tuple[int, ...]
    instead: tuple[Suspect, ...]


class Sightings:
    """What was seen from all places. ``add`` them one after the other; nothing of a report is kept."""

    def __init__(self) -> None:
        self._fails: dict[Thing, list[Trouble]] = {}
        self._works: dict[Thing, dict[int, Servers]] = {}
        self._partly: dict[Thing, dict[int, Servers]] = {}
        self._names: dict[tuple[str, int], str] = {}
        self._named: dict[Way, dict[int, frozenset[Servers]]] = {}
        self._answered: dict[str, dict[int, frozenset[Servers]]] = {}
        self._usable: dict[str, set[Way]] = {}
        self._networks: dict[int, tuple[str, ...]] = {}
        self._left_out: dict[Way, Servers] = {}
        self._troubled: set[tuple[int, str]] = set()

    def add(self, vantage: int, report: Report) -> None:
        """What one report says of its paths."""
        self._networks[vantage] = networks(report.vantage.addresses)
        resolvers = frozenset(report.target.resolvers or report.vantage.resolvers)
        same: dict[frozenset[Servers], frozenset[Servers]] = {}
        for path in report.paths:
            # Most paths of a run have the same servers; one set of them is enough.
            asked = _servers(path, resolvers)
            asked = same.setdefault(asked, asked)
            if path.state is not PathState.OK:
                self._troubled.add((vantage, path.domain))
            if path.target == NOWHERE:
                self._nowhere(vantage, path, asked)
            else:
                self._path(vantage, path, asked)

    def _nowhere(self, vantage: int, path: Path, asked: frozenset[Servers]) -> None:
        servers = _together(asked)
        for stage in path.stages:
            if stage.state is State.FAIL:
                trouble = Trouble(vantage, path.key, stage.stage, stage.outcome, stage.note, "", servers)
                self._fails.setdefault(("srv", path.domain), []).append(trouble)

    def _path(self, vantage: int, path: Path, asked: frozenset[Servers]) -> None:
        servers = _together(asked)
        if path.domain != NOWHERE:
            self._named.setdefault(path.key, {})[vantage] = asked
            answered = self._answered.setdefault(path.domain, {})
            answered[vantage] = answered.get(vantage, frozenset()) | asked
            self._work(("srv", path.domain), vantage, servers)
        if path.state in (PathState.OK, PathState.PARTIAL):
            self._usable.setdefault(path.domain, set()).add(path.key)
        for stage in path.stages:
            if stage.stage is Stage.NAME:
                thing: Thing = ("name", path.target)
                own = frozenset({stage.server}) if stage.server else servers
                if stage.state is State.OK:
                    self._work(thing, vantage, own)
                elif stage.state is State.FAIL:
                    self._fail(thing, Trouble(vantage, path.key, Stage.NAME, stage.outcome, stage.note, "", own))
        for route in path.routes:
            self._route(vantage, path, route, servers)

    def _route(self, vantage: int, path: Path, route: Route, servers: Servers) -> None:
        if as_address(path.target) is None:
            known = self._names.setdefault((route.address, path.port), path.target)
            self._names[route.address, path.port] = min(known, path.target)
        for stage in route.stages:
            thing = (stage.stage.value, route.address, str(path.port))
            if stage.state is State.OK:
                self._work(thing, vantage, servers)
            elif stage.state is State.FAIL:
                seen = Trouble(vantage, path.key, stage.stage, stage.outcome, stage.note, route.address, servers)
                self._fail(thing, seen._replace(partly=stage.partly))
            if stage.partly:
                self._partly.setdefault(thing, {})[vantage] = servers
        if route.state is State.OK:
            self._work((Stage.CLOCK.value, route.address, str(path.port)), vantage, servers)

    def _work(self, thing: Thing, vantage: int, servers: Servers) -> None:
        known = self._works.setdefault(thing, {})
        known[vantage] = known[vantage] | servers if vantage in known else servers

    def _fail(self, thing: Thing, trouble: Trouble) -> None:
        self._fails.setdefault(thing, []).append(trouble)

    def absences(self) -> Iterator[tuple[Way, int, Servers, bool]]:
        """Ways that a DNS server leaves out though others name them: the way, who asked whom, whether it works."""
        for way, named in sorted(self._named.items()):
            usable = self._usable.get(way[0], set())
            if len(usable) > MOST_HOSTS:
                continue
            for vantage, sets in self._answered[way[0]].items():
                for servers in sorted(sets - named.get(vantage, frozenset()), key=sorted):
                    yield way, vantage, servers, way in usable

    def differences(self) -> dict[Way, dict[int, Servers]]:
        """Working ways that are left out by DNS servers of places where every way of the domain works: no trouble."""
        found: dict[Way, dict[int, Servers]] = {}
        for way, vantage, servers, usable in self.absences():
            if usable and (vantage, way[0]) not in self._troubled:
                found.setdefault(way, {})[vantage] = servers
        return found

    def causes(self) -> list[Found]:
        """The fewest suspects that explain all troubles, those that explain most first."""
        fails, works = dict(self._fails), dict(self._works)
        for way, vantage, servers, usable in self.absences():
            self._left_out[way] = self._left_out.get(way, frozenset()) | servers
            if usable and (vantage, way[0]) in self._troubled:
                thing: Thing = ("absent", way[0], way[1], str(way[2]))
                trouble = Trouble(vantage, way, Stage.SRV, ABSENT, "not named", "", servers)
                fails.setdefault(thing, []).append(trouble)
                works[thing] = {one: frozenset().union(*sets) for one, sets in self._named[way].items()}
        troubles: list[Trouble] = []
        suspects: list[tuple[Suspect, ...]] = []
        working: list[Mapping[int, Servers]] = []
        for thing, same in sorted(fails.items()):
            whole = works.get(thing, {})
            # A host that serves some clients of a place is cleared of what hits all of another, not of what hits some.
            for partly, known in ((False, self._partly.get(thing, {}) | whole), (True, whole)):
                own = [trouble for trouble in same if trouble.partly is partly]
                troubles += own
                suspects += self._suspects(own, known)
                working += [known] * len(own)
        found = []
        for suspect, numbers in cover(suspects):
            explained = tuple(troubles[number] for number in numbers)
            failing = {trouble.vantage for trouble in explained}
            elsewhere = {vantage for number in numbers for vantage in working[number]} - failing
            also = set(suspects[numbers[0]]).intersection(*(suspects[number] for number in numbers))
            found.append(Found(suspect, explained, tuple(sorted(elsewhere)), _others(suspect, also)))
        return found

    def _suspects(self, same: Sequence[Trouble], works: Mapping[int, Servers]) -> Iterator[tuple[Suspect, ...]]:
        """For each trouble with one thing, all that may explain it."""
        serving = frozenset().union(*works.values()) if works else frozenset()
        open_networks = {network for vantage in works for network in self._networks[vantage]}
        for trouble in same:
            found = [Suspect(CauseKind.SERVER, server) for server in self._suspect_servers(trouble, works, serving)]
            if not works:
                found.append(self._itself(trouble))
            elif trouble.vantage not in works and (not found or trouble.outcome in _CUT_OFF):
                found.append(Suspect(CauseKind.VANTAGE, str(trouble.vantage)))
                found += [
                    Suspect(CauseKind.NETWORK, network)
                    for network in self._networks[trouble.vantage]
                    if network not in open_networks
                ]
            yield tuple(found) or (Suspect(CauseKind.VANTAGE, str(trouble.vantage)),)

    def _itself(self, trouble: Trouble) -> Suspect:
        """What is tested, as the cause: where it works for nobody. A bare address is called by its name, if known."""
        domain, target, port = trouble.way
        if target == NOWHERE:
            return Suspect(CauseKind.DOMAIN, domain)
        return Suspect(CauseKind.HOST, join_host_port(self._names.get((target, port), target), port))

    def _suspect_servers(self, trouble: Trouble, works: Mapping[int, Servers], serving: Servers) -> list[str]:
        if trouble.stage in (Stage.SRV, Stage.NAME) and (works or trouble.outcome not in ABSENCE):
            return sorted(trouble.servers - serving)
        if works or trouble.partly or trouble.stage is Stage.SRV:
            return []
        # Nobody gets through to the host, and this server is alone in naming it: the record may be what is wrong.
        others = self._left_out.get(trouble.way, frozenset())
        return sorted(trouble.servers - others) if others else []


def networks(addresses: Iterable[str]) -> tuple[str, ...]:
    """The networks of a place by its own addresses, smallest first; none for addresses that say nothing of a place."""
    found = []
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if not (address.is_loopback or address.is_link_local):
            found += [
                (length, str(ipaddress.ip_network(f"{address}/{length}", strict=False)))
                for length in _PREFIXES[address.version]
            ]
    return tuple(network for _length, network in sorted(found, key=lambda pair: -pair[0]))


def _servers(path: Path, resolvers: Servers) -> frozenset[Servers]:
    """For each server entry that was asked, the servers that may have given the answer."""
    told = next((frozenset({stage.server}) for stage in path.stages if stage.server), resolvers)
    return frozenset(told if server == SYSTEM else frozenset({server}) for server in path.servers)


@functools.lru_cache(maxsize=64)
def _together(asked: frozenset[Servers]) -> Servers:
    return frozenset().union(*asked)


_ORDER = {kind: number for number, kind in enumerate(CauseKind)}


def _rank(suspect: Suspect) -> tuple[int, int, str]:
    """Preference among suspects that explain as much: by kind, then the smaller network."""
    length = int(suspect.name.rpartition("/")[2]) if suspect.kind is CauseKind.NETWORK else 0
    return _ORDER[suspect.kind], -length, suspect.name


def cover(suspects: Sequence[tuple[Suspect, ...]]) -> list[tuple[Suspect, list[int]]]:
    """Suspects that together explain all troubles, each with the numbers of those it is needed for.

    Greedy: again and again the one that explains most of what is left (Johnson 1974).
    """
    explains: dict[Suspect, set[int]] = {}
    for number, who in enumerate(suspects):
        for suspect in who:
            explains.setdefault(suspect, set()).add(number)
    heap = [(-len(numbers), _rank(suspect), suspect) for suspect, numbers in explains.items()]
    heapq.heapify(heap)
    left = set(range(len(suspects)))
    chosen = []
    while left:
        size, rank, suspect = heapq.heappop(heap)
        numbers = explains[suspect] & left
        if not numbers:
            continue
        if len(numbers) < -size:
            explains[suspect] = numbers
            heapq.heappush(heap, (-len(numbers), rank, suspect))
            continue
        chosen.append((suspect, sorted(numbers)))
        left -= numbers
    return chosen


def _others(chosen: Suspect, also: Iterable[Suspect]) -> tuple[Suspect, ...]:
    """What can't be told apart from the chosen suspect; a network is no other word for its only place."""
    places = (CauseKind.VANTAGE, CauseKind.NETWORK)
    return tuple(
        suspect
        for suspect in sorted(also, key=_rank)
        if suspect != chosen and (suspect.kind not in places or chosen.kind not in places)
    )
