"""The search for the smallest common cause: it explains everything, contradicts nothing, and is near the smallest."""

import itertools
import math
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.common_cause import ABSENT, Found, Sightings, Suspect, cover, networks
from kmsdiag.model.merged import CauseKind
from kmsdiag.model.outcome import Stage, TcpOutcome
from kmsdiag.model.path import PathState
from kmsdiag.model.report import Report
from tests.conftest import DOMAIN, World, record
from tests.places import seen

HOSTS = ("k0", "k1", "k2")
ADDRESSES = {host: f"10.1.0.{number}" for number, host in enumerate(HOSTS, 1)}
SERVERS = ("10.0.0.53", "10.0.1.53")
SITES = (1, 2, 3)


class Truth(NamedTuple):
    """How it is: hosts that are gone, hosts that each server names, ways that a firewall cuts; who stands where."""

    dead: frozenset[str]
    named: tuple[tuple[str, ...], tuple[str, ...]]
    cut: frozenset[tuple[int, str]]
    places: tuple[tuple[int, int], ...]


TRUTHS = st.builds(
    Truth,
    dead=st.frozensets(st.sampled_from(HOSTS), max_size=2),
    named=st.tuples(*[st.sets(st.sampled_from(HOSTS), min_size=1).map(lambda some: tuple(sorted(some)))] * 2),
    cut=st.frozensets(st.tuples(st.sampled_from(SITES), st.sampled_from(HOSTS)), max_size=3),
    places=st.lists(
        st.tuples(st.sampled_from(SITES), st.sampled_from(range(len(SERVERS)))), min_size=1, max_size=6
    ).map(tuple),
)


def works(truth: Truth, site: int, host: str) -> bool:
    return host not in truth.dead and (site, host) not in truth.cut


def reports(truth: Truth) -> list[Report]:
    """What each place reports of the truth."""
    made = []
    for number, (site, which) in enumerate(truth.places):
        server = SERVERS[which]
        world = World(DOMAIN, servers=(server,)).srv(*map(record, truth.named[which]), server=server)
        for host in truth.named[which]:
            address = ADDRESSES[host]
            world.name(host, address, server=server)
            if works(truth, site, host):
                world.tcp(address).rpc(address)
            else:
                world.tcp(address, TcpOutcome.TIMEOUT)
        made.append(seen(world, f"p{number}", f"10.{site}.7.{number + 1}"))
    return made


def found(made: list[Report]) -> list[Found]:
    sightings = Sightings()
    for number, report in enumerate(made):
        sightings.add(number, report)
    return sightings.causes()


@settings(max_examples=200)
@given(TRUTHS)
def test_what_is_said_is_true(truth: Truth) -> None:
    made = reports(truth)
    causes = found(made)
    failing = {
        number for number, report in enumerate(made) if any(path.state is PathState.FAIL for path in report.paths)
    }
    assert failing <= {trouble.vantage for cause in causes for trouble in cause.troubles}
    if not failing:
        assert causes == []
    for cause in causes:
        for trouble in cause.troubles:
            host = trouble.way[1].partition(".")[0]
            site, which = truth.places[trouble.vantage]
            if trouble.outcome == ABSENT:
                assert host not in truth.named[which]
            else:
                assert trouble.stage is Stage.TCP
                assert not works(truth, site, host)
            match cause.suspect.kind:
                case CauseKind.SERVER:
                    assert SERVERS[which] == cause.suspect.name
                    if trouble.outcome != ABSENT:
                        # Nobody gets there, and some server does not name it.
                        assert not any(works(truth, one, host) for one, by in truth.places if host in truth.named[by])
                case CauseKind.HOST:
                    assert not any(works(truth, one, host) for one, by in truth.places if host in truth.named[by])
                case CauseKind.NETWORK:
                    inside = [
                        one
                        for one, report in zip(truth.places, made, strict=True)
                        if cause.suspect.name in networks(report.vantage.addresses)
                    ]
                    assert not any(works(truth, one, host) for one, by in inside if host in truth.named[by])
                    assert len({one.vantage for one in cause.troubles}) > 1


@settings(max_examples=100)
@given(TRUTHS)
def test_the_order_of_places_changes_no_cause(truth: Truth) -> None:
    forward = found(reports(truth))
    backward = found(reports(truth._replace(places=truth.places[::-1])))
    last = len(truth.places) - 1

    def names(causes: list[Found], *, turned: bool) -> set[tuple[str, str]]:
        return {
            (
                cause.suspect.kind.value,
                str(last - int(cause.suspect.name))
                if turned and cause.suspect.kind is CauseKind.VANTAGE
                else cause.suspect.name,
            )
            for cause in causes
        }

    assert names(forward, turned=False) == names(backward, turned=True)


SUSPECTS = [Suspect(kind, name) for kind in (CauseKind.SERVER, CauseKind.HOST, CauseKind.VANTAGE) for name in "ab"]


@settings(max_examples=200)
@given(st.lists(st.sets(st.sampled_from(SUSPECTS), min_size=1).map(lambda some: tuple(sorted(some))), max_size=12))
def test_a_cover_explains_each_trouble_once_and_is_near_the_smallest(troubles: list[tuple[Suspect, ...]]) -> None:
    chosen = cover(troubles)
    assert sorted(number for _suspect, numbers in chosen for number in numbers) == list(range(len(troubles)))
    assert all(suspect in troubles[number] for suspect, numbers in chosen for number in numbers)
    sizes = [len(numbers) for _suspect, numbers in chosen]
    assert sizes == sorted(sizes, reverse=True)
    smallest = next(
        size
        for size in range(len(SUSPECTS) + 1)
        if any(all(set(who) & set(some) for who in troubles) for some in itertools.combinations(SUSPECTS, size))
    )
    # Johnson 1974: greedy needs at most H(n) times as many, n being the most that one explains.
    assert len(chosen) <= smallest * (1 + math.log(max(sizes, default=1)))


def test_equals_are_preferred_by_kind_and_the_smaller_network() -> None:
    names = [
        Suspect(CauseKind.NETWORK, "10.1.0.0/16"),
        Suspect(CauseKind.NETWORK, "10.1.2.0/24"),
        Suspect(CauseKind.VANTAGE, "0"),
        Suspect(CauseKind.DOMAIN, "contoso.example"),
        Suspect(CauseKind.HOST, "kms1:1688"),
        Suspect(CauseKind.SERVER, "10.0.0.53"),
    ]
    for fewer in range(len(names)):
        ((chosen, _numbers),) = cover([tuple(names[: fewer + 1])])
        # The later in this list, the better; of the first two networks the second is the smaller one.
        assert chosen == names[fewer]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (("10.20.30.40",), ("10.20.30.0/24", "10.20.0.0/16")),
        (("2001:db8:1:2::3",), ("2001:db8:1:2::/64", "2001:db8:1::/48")),
        (("10.20.30.40", "nonsense", "::1", "fe80::1", "127.0.0.1"), ("10.20.30.0/24", "10.20.0.0/16")),
        ((), ()),
    ],
)
def test_networks(addresses: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert networks(addresses) == expected
