"""What each DNS server says: who is asked, once, and which copy the others are held against."""

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag import agreement
from kmsdiag.agreement import MAX_NAME_SERVERS, Role, ServerView
from kmsdiag.model.answer import Answer, SrvAnswer, SrvRecord
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.report import Cell
from kmsdiag.model.request import AddressQuery, NsQuery, Request, SoaQuery, SrvQuery, Transport
from kmsdiag.model.target import SYSTEM, Family, Subject, SubjectKind
from tests.conftest import AT, DOMAIN, World, record

SUBJECT = Subject(SubjectKind.DOMAIN, DOMAIN)
NAME = f"_vlmcs._tcp.{DOMAIN}"
NS1, NS2, RESOLVER = "10.1.0.2", "10.1.0.3", "10.1.0.53"

serials = st.integers(0, 2**32 - 1)


def questions(world: World) -> list[Request[object]]:  # type: ignore[type-var]
    """What is asked for this world, with what is known of it."""
    return list(agreement.ask(SUBJECT, world.evidence()))


def say_zone(world: World, server: str, said: str) -> None:
    """What one server says of the zone, and of its name servers; what is "open" is never answered."""
    zone = f"_tcp.{DOMAIN}" if said == "below" else DOMAIN
    if said in ("zone", "below"):
        world.soa(NAME, zone, outcome=DnsOutcome.NODATA, server=server)
    elif said in ("domain", "nothing", "half"):
        world.soa(NAME, "", outcome=DnsOutcome.NODATA, server=server)
        if said != "half":
            world.soa(DOMAIN, DOMAIN if said == "domain" else "", outcome=DnsOutcome.NODATA, server=server)
    elif said == "fails":
        world.soa(NAME, outcome=DnsOutcome.TIMEOUT, server=server)
    elif said == "alias":
        world.soa(NAME, "example", outcome=DnsOutcome.NODATA, server=server, chain=("kms.fabrikam.example",))
    world.ns(zone, "ns1", server=server).name("ns1", NS1, server=server)


def asked_of(world: World, next_answers: Callable[[list[Request[Any]]], list[Request[Any]]]) -> set[Request[Any]]:
    """All questions of a run in which the world answers some of the open questions at a time, until none is left."""
    known: dict[Request[Any], Answer] = {}
    asked: dict[Request[Any], None] = {}
    while True:
        asked.update(dict.fromkeys(agreement.ask(SUBJECT, Evidence(world.target, known))))
        waiting = [question for question in asked if question in world.facts and question not in known]
        if not waiting:
            return set(asked)
        known.update({question: world.facts[question] for question in next_answers(waiting)})


def zoned(*servers: str, resolvers: tuple[str, ...] = ()) -> World:
    """A world in which the first server tells the zone and its two name servers, and every server the same record."""
    world = World(DOMAIN, servers=servers or (NS1,), resolvers=resolvers)
    first = agreement.configured(world.evidence())[0]
    world.soa(NAME, outcome=DnsOutcome.NODATA, server=first).ns(DOMAIN, "ns1", "ns2", server=first)
    world.name("ns1", NS1, server=first).name("ns2", NS2, server=first)
    for server in agreement.configured(world.evidence()):
        world.srv(record("kms1"), server=server)
    for server in (NS1, NS2):
        own(world, server, record("kms1"))
    return world


def own(world: World, server: str, *records: SrvRecord, serial: int = 1, primary: str = "ns1") -> World:
    """What an authoritative server says of its own."""
    for transport in Transport:
        world.srv(*records, server=server, recursion=False, transport=transport)
    return world.soa(DOMAIN, DOMAIN, serial, server=server, recursion=False, primary=primary)


def view(
    *hosts: str,
    serial: int | None = None,
    role: Role = Role.AUTHORITATIVE,
    outcome: DnsOutcome | None = None,
    primary: str = "ns1.contoso.example",
    authoritative: bool = True,
    asked: bool = True,
) -> ServerView:
    """One server's view in a few words."""
    answer = SrvAnswer(
        at=AT,
        outcome=outcome or (DnsOutcome.ANSWERED if hosts else DnsOutcome.NXDOMAIN),
        authoritative=authoritative,
        records=tuple(record(host) for host in hosts),
    )
    query = SrvQuery(name=NAME, server=NS1)
    told = serial is not None
    return ServerView(NS1, "ns1", role, query, answer if asked else None, None, serial, primary if told else "")


def keys(*hosts: str) -> frozenset[agreement.Key]:
    return frozenset((0, 0, 1688, f"{host}.{DOMAIN}") for host in hosts)


# ---------------------------------------------------------------------------------------------------- who is asked


class TestConfigured:
    @pytest.mark.parametrize(
        ("servers", "resolvers", "expected"),
        [
            ((NS1,), (), [NS1]),
            ((SYSTEM,), (NS1, RESOLVER), [NS1, RESOLVER]),
            ((SYSTEM,), (), [SYSTEM]),
            ((NS2, SYSTEM), (NS1, NS2), [NS2, NS1]),
            (("10.1.0.2:5353", NS1), (), ["10.1.0.2:5353", NS1]),
        ],
    )
    def test_servers(self, servers: tuple[str, ...], resolvers: tuple[str, ...], expected: list[str]) -> None:
        assert agreement.configured(World(DOMAIN, servers=servers, resolvers=resolvers).evidence()) == expected

    @pytest.mark.parametrize("server", [NS1, f"{NS1}:53", "fd00::2", "[fd00::2]:53", f"{NS2}:5353"])
    def test_a_server_is_known_in_whichever_way_it_is_written(self, server: str) -> None:
        seen = World(DOMAIN, servers=(SYSTEM, "fd00::2"), resolvers=(NS1, f"{NS2}:5353")).evidence()
        assert agreement.is_configured(server, seen)
        for other in (NS2, RESOLVER, f"{NS1}:5353"):
            assert not agreement.is_configured(other, seen)


class TestZone:
    def found(self, world: World) -> tuple[str, str]:
        zone = agreement.zone_of(SUBJECT, world.evidence())
        return zone.name, zone.server

    def test_not_asked_yet(self) -> None:
        world = World(DOMAIN, servers=(NS1, NS2))
        assert self.found(world) == ("", "")
        assert {one for one in questions(world) if isinstance(one, SoaQuery)} == {
            SoaQuery(name=NAME, server=NS1),
            SoaQuery(name=NAME, server=NS2),
        }

    def test_each_resolver_of_the_machine_is_asked(self) -> None:
        world = World(DOMAIN, resolvers=(NS1, RESOLVER)).soa(NAME, outcome=DnsOutcome.NODATA, server=RESOLVER)
        assert SoaQuery(name=NAME, server=NS1) in questions(world)
        assert self.found(world) == (DOMAIN, RESOLVER)

    @pytest.mark.parametrize("outcome", [DnsOutcome.NODATA, DnsOutcome.NXDOMAIN, DnsOutcome.ANSWERED])
    @pytest.mark.parametrize("zone", [DOMAIN, f"_tcp.{DOMAIN}", NAME])
    def test_of_the_record(self, outcome: DnsOutcome, zone: str) -> None:
        assert self.found(World(DOMAIN, servers=(NS1,)).soa(NAME, zone, outcome=outcome, server=NS1)) == (zone, NS1)

    @pytest.mark.parametrize("zone", ["", ".", "example", "fabrikam.example", "o.example", f"www.{DOMAIN}"])
    def test_no_zone_of_this_domain(self, zone: str) -> None:
        world = World(DOMAIN, servers=(NS1,))
        for name in (NAME, DOMAIN):
            world.soa(name, zone, outcome=DnsOutcome.NXDOMAIN, server=NS1)
        assert self.found(world) == ("", "")
        assert not [one for one in questions(world) if isinstance(one, NsQuery)]

    def test_a_domain_of_one_label_is_its_own_zone(self) -> None:
        subject = Subject(SubjectKind.DOMAIN, "corp")
        world = World("corp", servers=(NS1,)).soa("_vlmcs._tcp.corp", "corp", outcome=DnsOutcome.NODATA, server=NS1)
        assert agreement.zone_of(subject, world.evidence()).name == "corp"

    def test_the_domain_is_asked_where_the_record_tells_nothing(self) -> None:
        world = World(DOMAIN, servers=(NS1,)).soa(NAME, "", outcome=DnsOutcome.NODATA, server=NS1)
        assert SoaQuery(name=DOMAIN, server=NS1) in questions(world)
        assert self.found(world.soa(DOMAIN, server=NS1)) == (DOMAIN, NS1)

    @pytest.mark.parametrize("outcome", [DnsOutcome.TIMEOUT, DnsOutcome.REFUSED, DnsOutcome.NOT_LISTENING])
    def test_the_next_server_is_asked_where_one_fails(self, outcome: DnsOutcome) -> None:
        world = World(DOMAIN, servers=(NS1, NS2)).soa(NAME, outcome=outcome, server=NS1)
        assert SoaQuery(name=NAME, server=NS2) in questions(world)
        assert SoaQuery(name=DOMAIN, server=NS1) not in questions(world)
        assert self.found(world.soa(NAME, outcome=DnsOutcome.NODATA, server=NS2)) == (DOMAIN, NS2)

    def test_a_silent_server_keeps_nobody_waiting_and_stays_open(self) -> None:
        first = SoaQuery(name=NAME, server=NS1)
        world = World(DOMAIN, servers=(NS1, NS2)).soa(NAME, outcome=DnsOutcome.NODATA, server=NS2)
        assert self.found(world) == (DOMAIN, NS2)
        assert NsQuery(name=DOMAIN, server=NS2) in questions(world)
        assert first in set(agreement.basis(SUBJECT, world.evidence()))
        # What it says in the end counts more, because it comes first.
        world.soa(NAME, f"_tcp.{DOMAIN}", outcome=DnsOutcome.NODATA, server=NS1)
        assert self.found(world) == (f"_tcp.{DOMAIN}", NS1)

    def test_what_later_servers_say_decides_nothing(self) -> None:
        world = World(DOMAIN, servers=(NS1, NS2)).soa(NAME, outcome=DnsOutcome.NODATA, server=NS1)
        later = SoaQuery(name=NAME, server=NS2)
        assert later in questions(world)
        assert later not in set(agreement.basis(SUBJECT, world.evidence()))

    def test_a_server_that_answered_is_heard_out(self) -> None:
        world = World(DOMAIN, servers=(NS1, NS2)).soa(NAME, "", outcome=DnsOutcome.NODATA, server=NS1)
        assert self.found(world.soa(NAME, outcome=DnsOutcome.NODATA, server=NS2)) == ("", "")
        assert not [one for one in questions(world) if isinstance(one, NsQuery)]

    @given(
        st.lists(
            st.sampled_from(["zone", "below", "domain", "nothing", "fails", "alias", "half", "open"]),
            min_size=1,
            max_size=3,
        ),
        st.randoms(use_true_random=False),
    )
    def test_what_is_asked_in_the_end_does_not_depend_on_who_is_faster(
        self, words: list[str], shuffle: random.Random
    ) -> None:
        """A replay gives all answers of a round at once, a network one by one: nothing may be missing in the replay."""
        world = World(DOMAIN, servers=(NS1, NS2, RESOLVER)[: len(words)])
        for server, said in zip(world.target.servers, words, strict=True):
            say_zone(world, server, said)
        live = asked_of(world, lambda questions: [shuffle.choice(questions)])
        assert asked_of(world, lambda questions: questions) <= live

    def test_an_alias_has_no_zone(self) -> None:
        world = World(DOMAIN, servers=(NS1, NS2)).soa(NAME, outcome=DnsOutcome.NODATA, server=NS2)
        world.soa(NAME, "example", outcome=DnsOutcome.NODATA, server=NS1, chain=("_vlmcs._tcp.fabrikam.example",))
        assert self.found(world) == ("", "")
        assert not [one for one in questions(world) if isinstance(one, NsQuery)]


class TestAuthoritative:
    def found(self, world: World) -> list[tuple[str, str]]:
        return list(agreement.authoritative(SUBJECT, world.evidence()))

    def world(self, *names: str) -> World:
        return (
            World(DOMAIN, servers=(NS1,))
            .soa(NAME, outcome=DnsOutcome.NODATA, server=NS1)
            .ns(DOMAIN, *names, server=NS1)
        )

    def test_one_address_a_name(self) -> None:
        world = self.world("ns1", "ns2").name("ns1", NS1, "10.1.0.22", "fd00::2", server=NS1)
        assert self.found(world.name("ns2", "fd00::3", server=NS1)) == [
            (f"ns1.{DOMAIN}", NS1),
            (f"ns2.{DOMAIN}", "fd00::3"),
        ]

    def test_each_address_once(self) -> None:
        world = self.world("ns1", "ns2").name("ns1", NS1, server=NS1).name("ns2", NS1, server=NS1)
        assert self.found(world) == [(f"ns1.{DOMAIN}", NS1)]

    def test_ipv6_waits_for_ipv4(self) -> None:
        world = self.world("ns1").name("ns1", "fd00::2", server=NS1, families=(Family.IPV6,))
        assert self.found(world) == []
        world.gap(AddressQuery(name=f"ns1.{DOMAIN}", family=Family.IPV4, server=NS1))
        assert self.found(world) == []

    def test_ipv6_is_not_asked_for_where_there_is_ipv4(self) -> None:
        world = self.world("ns1").name("ns1", NS1, server=NS1, families=(Family.IPV4,))
        wanted = AddressQuery(name=f"ns1.{DOMAIN}", family=Family.IPV6, server=NS1)
        assert wanted not in questions(world)
        assert wanted in questions(self.world("ns1").name("ns1", server=NS1, families=(Family.IPV4,)))

    @pytest.mark.parametrize("outcome", [one for one in DnsOutcome if one is not DnsOutcome.ANSWERED])
    def test_silence_about_one_family_is_not_waited_for_twice(self, outcome: DnsOutcome) -> None:
        world = self.world("ns1").name("ns1", server=NS1, families=(Family.IPV4,), absent=outcome)
        other = AddressQuery(name=f"ns1.{DOMAIN}", family=Family.IPV6, server=NS1)
        assert (other in questions(world)) is (outcome is not DnsOutcome.TIMEOUT)

    def test_without_an_address(self) -> None:
        world = self.world("ns1").name("ns1", server=NS1)
        assert self.found(world) == []
        (server,) = agreement.name_servers(SUBJECT, world.evidence())
        assert (server.name, server.address) == (f"ns1.{DOMAIN}", "")
        assert [query.family for query in server.queries] == [Family.IPV4, Family.IPV6]

    @pytest.mark.parametrize("more", [0, 1, 180])
    def test_no_more_than_the_limit(self, more: int) -> None:
        names = [f"dc{number:03}" for number in range(MAX_NAME_SERVERS + more)]
        world = self.world(*names)
        for number, name in enumerate(names):
            world.name(name, f"10.2.0.{number}", server=NS1)
        assert [name for name, _address in self.found(world)] == [
            f"{name}.{DOMAIN}" for name in names[:MAX_NAME_SERVERS]
        ]
        asked = {one.name for one in questions(world) if isinstance(one, AddressQuery)}
        assert asked == {f"{name}.{DOMAIN}" for name in names[:MAX_NAME_SERVERS]}
        assert agreement.left_out(SUBJECT, world.evidence()) == more

    def test_nobody_is_left_out_of_a_zone_that_is_not_known(self) -> None:
        assert agreement.left_out(SUBJECT, World(DOMAIN, servers=(NS1,)).evidence()) == 0


class TestAsking:
    def test_everything_about_an_authoritative_server(self) -> None:
        asked = questions(zoned(RESOLVER))
        for server in (NS1, NS2):
            assert SrvQuery(name=NAME, server=server, recursion=False) in asked
            assert SrvQuery(name=NAME, server=server, recursion=False, transport=Transport.TCP) in asked
            assert SoaQuery(name=DOMAIN, server=server, recursion=False) in asked

    def test_a_server_that_is_both_has_one_view_and_no_question_more(self) -> None:
        world = zoned(NS1, NS2)
        views = agreement.views(SUBJECT, world.evidence())
        assert [(one.server, one.role) for one in views] == [(NS1, Role.AUTHORITATIVE), (NS2, Role.AUTHORITATIVE)]
        assert [one.label for one in views] == [f"ns1.{DOMAIN} ({NS1})", f"ns2.{DOMAIN} ({NS2})"]
        # The client's own question is the one that discovery puts anyway.
        srv = [one for one in set(questions(world)) if isinstance(one, SrvQuery)]
        for server in (NS1, NS2):
            mine = [one for one in srv if one.server == server]
            assert sorted((one.recursion, one.transport) for one in mine) == [
                (False, Transport.UDP),
                (True, Transport.TCP),
                (True, Transport.UDP),
            ]

    @pytest.mark.parametrize("outcome", DnsOutcome)
    def test_a_resolver_that_tells_over_udp_is_asked_over_tcp(self, outcome: DnsOutcome) -> None:
        world = World(DOMAIN, servers=(RESOLVER,)).srv(server=RESOLVER, outcome=outcome)
        wanted = SrvQuery(name=NAME, server=RESOLVER, transport=Transport.TCP)
        assert (wanted in questions(world)) is (outcome is DnsOutcome.ANSWERED or outcome.is_absence)

    def test_one_domain_is_enough_to_know_it(self) -> None:
        world = World(DOMAIN, "fabrikam.example", servers=(RESOLVER,))
        world.srv(server=RESOLVER).srv(server=RESOLVER, domain="fabrikam.example")
        other = Subject(SubjectKind.DOMAIN, "fabrikam.example")
        asked = [*questions(world), *agreement.ask(other, world.evidence())]
        over_tcp = [one for one in asked if isinstance(one, SrvQuery) and one.transport is Transport.TCP]
        assert over_tcp == [SrvQuery(name=NAME, server=RESOLVER, transport=Transport.TCP)]

    def test_resolvers_that_are_not_known_by_address_are_not(self) -> None:
        asked = questions(World(DOMAIN).srv())
        assert not [one for one in asked if isinstance(one, SrvQuery) and one.transport is Transport.TCP]

    def test_a_resolver_beside(self) -> None:
        views = agreement.views(SUBJECT, zoned(SYSTEM, resolvers=(NS1, RESOLVER)).evidence())
        assert [(one.server, one.role, one.label) for one in views][2:] == [(RESOLVER, Role.CONFIGURED, RESOLVER)]

    def test_another_port_is_another_server(self) -> None:
        views = agreement.views(SUBJECT, zoned(f"{NS1}:5353").evidence())
        assert [one.server for one in views] == [NS1, NS2, f"{NS1}:5353"]

    def test_what_the_copy_rests_on_is_asked(self) -> None:
        for world in (World(DOMAIN), World(DOMAIN, servers=(NS1, NS2)), zoned(), zoned(RESOLVER, NS1)):
            seen = world.evidence()
            assert set(agreement.basis(SUBJECT, seen)) <= set(agreement.ask(SUBJECT, seen))

    def test_resolvers_decide_only_where_nobody_else_does(self) -> None:
        world = zoned(RESOLVER)
        asked = SrvQuery(name=NAME, server=RESOLVER)
        assert asked not in set(agreement.basis(SUBJECT, world.evidence()))
        for server in (NS1, NS2):
            world.srv(server=server, recursion=False, outcome=DnsOutcome.TIMEOUT)
        assert asked in set(agreement.basis(SUBJECT, world.evidence()))


# --------------------------------------------------------------------------------------------------------- views


class TestViews:
    @pytest.mark.parametrize("role", Role)
    @pytest.mark.parametrize("outcome", DnsOutcome)
    @pytest.mark.parametrize("authoritative", [True, False])
    def test_who_knows(self, role: Role, outcome: DnsOutcome, *, authoritative: bool) -> None:
        usable = outcome in (DnsOutcome.ANSWERED, DnsOutcome.NODATA, DnsOutcome.NXDOMAIN)
        one = view(role=role, outcome=outcome, authoritative=authoritative)
        assert one.knows is (usable and (authoritative or role is Role.CONFIGURED))

    def test_not_asked_is_not_absent(self) -> None:
        silent = view(asked=False)
        assert not silent.knows
        assert silent.records == frozenset()
        assert view().knows

    def test_ttl_makes_no_difference(self) -> None:
        one, other = World(DOMAIN), World(DOMAIN)
        one.srv(record("kms1", ttl=3600))
        other.srv(record("kms1", ttl=17))
        (first,), (second,) = (agreement.views(SUBJECT, world.evidence()) for world in (one, other))
        assert first.records == second.records == keys("kms1")

    @pytest.mark.parametrize("outcome", [DnsOutcome.TIMEOUT, DnsOutcome.REFUSED, DnsOutcome.NODATA])
    def test_a_serial_is_told_with_authority_or_not_at_all(self, outcome: DnsOutcome) -> None:
        world = zoned().soa(DOMAIN, server=NS2, recursion=False, outcome=outcome)
        assert [one.serial for one in agreement.views(SUBJECT, world.evidence())] == [1, None]
        world.soa(DOMAIN, server=NS2, recursion=False, authoritative=False)
        assert [one.serial for one in agreement.views(SUBJECT, world.evidence())] == [1, None]

    def test_over_tcp(self) -> None:
        world = zoned(RESOLVER).srv(server=RESOLVER)
        world.srv(server=RESOLVER, transport=Transport.TCP, outcome=DnsOutcome.NOT_LISTENING)
        world.srv(server=NS2, recursion=False, transport=Transport.TCP, outcome=DnsOutcome.TIMEOUT, authoritative=False)
        first, second, third = agreement.views(SUBJECT, world.evidence())
        assert first.tcp is not None
        assert first.tcp.outcome is DnsOutcome.ANSWERED
        assert second.tcp is not None
        assert second.tcp.outcome is DnsOutcome.TIMEOUT
        assert second.knows
        assert third.tcp is not None
        assert third.tcp.outcome is DnsOutcome.NOT_LISTENING


# ------------------------------------------------------------------------------------------------------- serials


class TestSerials:
    @given(serials, st.integers(1, 2**31 - 1))
    def test_newer_wraps_around(self, serial: int, ahead: int) -> None:
        later = (serial + ahead) % 2**32
        assert agreement.is_newer(later, serial)
        assert not agreement.is_newer(serial, later)

    @given(serials)
    def test_nothing_is_newer_than_itself_or_its_antipode(self, serial: int) -> None:
        assert not agreement.is_newer(serial, serial)
        assert not agreement.is_newer((serial + 2**31) % 2**32, serial)

    @given(serials, st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
    def test_the_newest_is_the_furthest_ahead_whatever_the_order(
        self, start: int, steps: list[int], shuffle: random.Random
    ) -> None:
        found = [view("kms1", serial=(start + step) % 2**32) for step in steps]
        shuffle.shuffle(found)
        assert agreement.newest_serial(found) == (start + max(steps)) % 2**32

    def test_none_told(self) -> None:
        assert agreement.newest_serial([]) is None
        assert agreement.newest_serial([view("kms1"), view("kms2")]) is None
        assert agreement.newest_serial([view("kms1", role=Role.CONFIGURED)]) is None

    def test_one_that_is_not_told_may_be_the_newest(self) -> None:
        assert agreement.newest_serial([view("kms1", serial=7), view("kms2")]) is None

    def test_that_of_a_server_whose_records_are_not_known_counts(self) -> None:
        silent = view(outcome=DnsOutcome.TIMEOUT)
        assert agreement.newest_serial([view("kms1", serial=7), silent]) == 7
        assert agreement.newest_serial([view("kms1", serial=7), silent._replace(serial=8, primary=PRIMARY)]) == 8

    def test_domain_controllers_count_their_own(self) -> None:
        found = [view("kms1", serial=7, primary=f"dc{number}.contoso.example") for number in (1, 2)]
        assert agreement.newest_serial(found) is None


PRIMARY = "ns1.contoso.example"


# ----------------------------------------------------------------------------------------------------- reference


class TestReference:
    @pytest.mark.parametrize(
        ("views", "expected"),
        [
            ([], None),
            ([view(outcome=DnsOutcome.TIMEOUT)], None),
            ([view(asked=False)], None),
            ([view()], ()),
            ([view("kms1")], ("kms1",)),
            # The newest copy, even against many.
            ([view("kms1", serial=2), view("old", serial=1), view("old", serial=1)], ("kms1",)),
            ([view(serial=2), view("old", serial=1)], ()),
            ([view("kms1", serial=2), view("old", role=Role.CONFIGURED)], ("kms1",)),
            # Two copies of one serial that are not one.
            ([view("kms1", serial=2), view("old", serial=2)], None),
            ([view("kms1", serial=2), view("old", serial=2), view("kms1", serial=2)], ("kms1",)),
            # The newest can't be read: the others may all be old.
            ([view(outcome=DnsOutcome.TIMEOUT, serial=3), view("old", serial=2)], None),
            # Serials that can't be compared: most of the authoritative servers.
            ([view("kms1", serial=2), view("old"), view("old")], ("old",)),
            ([view("kms1", serial=2), view("old")], None),
            ([view("kms1", serial=9), view("old", serial=1, primary="dc2")], None),
            ([view("kms1"), *[view("old", role=Role.CONFIGURED)] * 3], ("kms1",)),
            # Nobody of the zone: most servers.
            ([view("kms1", role=Role.CONFIGURED), view("old", role=Role.CONFIGURED)], None),
            ([view("kms1", role=Role.CONFIGURED)] * 2 + [view("old", role=Role.CONFIGURED)], ("kms1",)),
            ([view("lame", authoritative=False), view("kms1", role=Role.CONFIGURED)], ("kms1",)),
        ],
    )
    def test_set(self, views: list[ServerView], expected: tuple[str, ...] | None) -> None:
        wanted = None if expected is None else keys(*expected)
        assert agreement.reference(views) == wanted
        assert agreement.reference(views[::-1]) == wanted

    @given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(list(Role)), serials), max_size=6))
    def test_is_somebodys_and_does_not_depend_on_the_order_of_equals(self, told: list[tuple[str, Role, int]]) -> None:
        found = [
            view(host, role=role, serial=serial % 4 if role is Role.AUTHORITATIVE else None)
            for host, role, serial in told
        ]
        best = agreement.reference(found)
        assert best is None or best in {one.records for one in found}
        assert agreement.reference(found[::-1]) == best


# -------------------------------------------------------------------------------------------------------- matrix


def cells(world: World) -> Iterable[tuple[str, tuple[Cell, ...]]]:
    matrix = agreement.matrix(SUBJECT, world.evidence())
    assert matrix is not None
    assert [len(row.cells) for row in matrix.rows] == [len(matrix.records)] * len(matrix.rows)
    return [(row.server.split()[0].split(".")[0], row.cells) for row in matrix.rows]


class TestMatrix:
    def test_none_where_all_agree_or_only_one_is_asked(self) -> None:
        assert agreement.matrix(SUBJECT, zoned().evidence()) is None
        assert agreement.matrix(SUBJECT, World(DOMAIN, servers=(NS1,)).srv(record("a"), server=NS1).evidence()) is None

    def test_absent_and_could_not_ask(self) -> None:
        world = own(zoned(), NS1, record("kms1"), serial=2)
        assert cells(own(world, NS2)) == [("ns1", (Cell.PRESENT,)), ("ns2", (Cell.ABSENT,))]
        world.srv(server=NS2, recursion=False, outcome=DnsOutcome.SERVFAIL)
        assert cells(world) == [("ns1", (Cell.PRESENT,)), ("ns2", (Cell.NOT_KNOWN,))]
        del world.facts[SrvQuery(name=NAME, server=NS2, recursion=False)]
        assert cells(world) == [("ns1", (Cell.PRESENT,)), ("ns2", (Cell.NOT_KNOWN,))]
        matrix = agreement.matrix(SUBJECT, world.evidence())
        assert matrix is not None
        assert matrix.rows[1].note == "not asked"

    def test_another_rank(self) -> None:
        world = own(own(zoned(), NS1, record("kms1", 10), serial=2), NS2, record("kms1"), serial=1)
        assert cells(world) == [("ns1", (Cell.PRESENT,)), ("ns2", (Cell.OTHER_RANK,))]

    def test_another_rank_where_neither_is_newer(self) -> None:
        world = own(own(zoned(), NS1, record("kms1", 10)), NS2, record("kms1"))
        assert cells(world) == [("ns1", (Cell.OTHER_RANK,)), ("ns2", (Cell.OTHER_RANK,))]
        own(world, NS2, record("kms1", 10), record("kms2"))
        assert cells(world) == [("ns1", (Cell.PRESENT, Cell.ABSENT)), ("ns2", (Cell.PRESENT, Cell.PRESENT))]

    def test_two_ranks_of_one_host(self) -> None:
        both = (record("kms1"), record("kms1", 10))
        world = own(own(zoned(), NS1, *both, serial=2), NS2, *both[:1], serial=1)
        assert cells(world) == [("ns1", (Cell.PRESENT,)), ("ns2", (Cell.OTHER_RANK,))]
