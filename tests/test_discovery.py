import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag import discovery
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.request import AddressQuery, SrvQuery
from kmsdiag.model.target import Family, HostSpec, Subject, SubjectKind
from tests.conftest import World, record

CONTOSO = Subject(SubjectKind.DOMAIN, "contoso.example")
KMS1, KMS2 = "kms1.contoso.example", "kms2.contoso.example"
SERVERS = ("10.1.0.2", "10.1.0.3")


def host(name: str, port: int = 1688) -> Subject:
    return Subject(SubjectKind.HOST, name, port)


def questions(subject: Subject, world: World) -> list[str]:
    return [str(request) for request in discovery.ask(subject, world.evidence())]


# ---------------------------------------------------------------------------------------------------- asking


def test_a_domain_begins_with_its_srv_question_at_each_server() -> None:
    world = World("contoso.example", servers=SERVERS)
    assert questions(CONTOSO, world) == [
        "SRV _vlmcs._tcp.contoso.example @10.1.0.2",
        "SRV _vlmcs._tcp.contoso.example @10.1.0.3",
    ]


def test_targets_are_asked_of_the_servers_that_named_them() -> None:
    world = World("contoso.example", servers=SERVERS).srv(record("kms1"), record("kms2"), server="10.1.0.2")
    world.srv(record("kms2"), server="10.1.0.3")
    assert questions(CONTOSO, world)[2:] == [
        "A kms1.contoso.example @10.1.0.2",
        "AAAA kms1.contoso.example @10.1.0.2",
        "A kms2.contoso.example @10.1.0.2",
        "AAAA kms2.contoso.example @10.1.0.2",
        "A kms2.contoso.example @10.1.0.3",
        "AAAA kms2.contoso.example @10.1.0.3",
    ]


def test_only_wanted_families_are_asked() -> None:
    world = World("contoso.example", families=(Family.IPV6,)).srv(record("kms1"))
    assert questions(CONTOSO, world)[1:] == ["AAAA kms1.contoso.example @system"]


@pytest.mark.parametrize("target", [".", "10.1.0.8", "fd00:1::8"])
def test_the_root_and_literals_are_not_looked_up(target: str) -> None:
    world = World("contoso.example").srv(record(target))
    assert questions(CONTOSO, world) == ["SRV _vlmcs._tcp.contoso.example @system"]


def test_an_explicit_host_is_looked_up_at_every_server_and_has_no_srv_question() -> None:
    world = World(hosts=(HostSpec(KMS1),), servers=SERVERS, families=(Family.IPV4,))
    assert questions(host(KMS1), world) == [
        "A kms1.contoso.example @10.1.0.2",
        "A kms1.contoso.example @10.1.0.3",
    ]
    assert questions(host("10.1.0.8"), world) == []


def test_a_failed_srv_question_leads_nowhere() -> None:
    for outcome in DnsOutcome:
        world = World("contoso.example").srv(outcome=outcome)
        assert discovery.services(CONTOSO, world.evidence()) == []
        assert len(questions(CONTOSO, world)) == 1


FULL = (
    World("contoso.example", servers=SERVERS)
    .srv(record("kms1"), record("10.1.0.9"), server="10.1.0.2")
    .srv(record("kms2"), record("."), server="10.1.0.3")
    .name("kms1", "10.1.0.8", server="10.1.0.2")
    .name("kms2", "10.1.0.10", "fd00:1::8", server="10.1.0.3")
)


@given(st.sets(st.sampled_from(sorted(FULL.facts, key=str))), st.sampled_from(sorted(FULL.facts, key=str)))
def test_more_answers_never_mean_fewer_questions(known: set[SrvQuery | AddressQuery], one_more: SrvQuery) -> None:
    """The engine asks again with each answer; what was asked before stays asked."""
    before = Evidence(FULL.target, {request: FULL.facts[request] for request in known})
    after = Evidence(FULL.target, {request: FULL.facts[request] for request in {*known, one_more}})
    assert set(discovery.ask(CONTOSO, before)) <= set(discovery.ask(CONTOSO, after))
    assert set(discovery.endpoints(CONTOSO, before)) <= set(discovery.endpoints(CONTOSO, after))


def test_the_whole_of_discovery_is_asked_in_two_rounds() -> None:
    assert set(discovery.ask(CONTOSO, FULL.evidence())) == set(FULL.facts)
    first = Evidence(
        FULL.target, {request: fact for request, fact in FULL.facts.items() if isinstance(request, SrvQuery)}
    )
    assert set(discovery.ask(CONTOSO, first)) == set(FULL.facts)


# --------------------------------------------------------------------------------------------------- services


def test_one_target_and_port_is_one_service_with_all_its_records() -> None:
    one, other = record("kms1", 10, 5), record("kms1", 0, 5)
    world = World("contoso.example").srv(one, other, record("kms1", port=1689))
    found = discovery.services(CONTOSO, world.evidence())
    assert [(service.target, service.port) for service in found] == [(KMS1, 1688), (KMS1, 1689)]
    assert found[0].records == (other, one)
    assert found[0].servers == ("system",)


def test_services_are_sorted_whatever_the_order_of_the_records() -> None:
    records = [record("kms2"), record("kms1"), record("kms10")]
    found = {
        tuple(
            service.target for service in discovery.services(CONTOSO, World("contoso.example").srv(*order).evidence())
        )
        for order in itertools.permutations(records)
    }
    assert found == {(KMS1, "kms10.contoso.example", KMS2)}


def test_a_record_that_two_servers_give_counts_once_and_a_duplicate_at_one_twice() -> None:
    same = record("kms1")
    both = World("contoso.example", servers=SERVERS).srv(same, server="10.1.0.2").srv(same, server="10.1.0.3")
    assert [service.records for service in discovery.services(CONTOSO, both.evidence())] == [(same,)]
    assert [service.servers for service in discovery.services(CONTOSO, both.evidence())] == [SERVERS]
    twice = World("contoso.example").srv(same, same)
    assert [service.records for service in discovery.services(CONTOSO, twice.evidence())] == [(same, same)]


def test_an_explicit_host_is_its_own_service() -> None:
    found = discovery.services(host(KMS1, 1689), World().evidence())
    assert found == [discovery.Service(KMS1, 1689, (), ())]


# -------------------------------------------------------------------------------------------------- addresses


def test_addresses_are_ipv4_first_and_each_once() -> None:
    world = World("contoso.example", servers=SERVERS).srv(record("kms1"), server="10.1.0.2")
    world.srv(record("kms1"), server="10.1.0.3")
    world.name("kms1", "10.1.0.9", "fd00:1::8", server="10.1.0.2")
    world.name("kms1", "10.1.0.8", "10.1.0.9", server="10.1.0.3")
    found = discovery.endpoints(CONTOSO, world.evidence())
    assert [endpoint.address for endpoint in found] == ["10.1.0.8", "10.1.0.9", "fd00:1::8"]
    assert [endpoint.family for endpoint in found] == [Family.IPV4, Family.IPV4, Family.IPV6]


@pytest.mark.parametrize(
    ("target", "families", "expected"),
    [
        ("10.1.0.8", (Family.IPV4, Family.IPV6), ["10.1.0.8"]),
        ("10.1.0.8", (Family.IPV6,), []),
        ("fd00:1::8", (Family.IPV4,), []),
        ("fd00:0001:0:0::0008", (Family.IPV6,), ["fd00:1::8"]),
        (".", (Family.IPV4,), []),
    ],
)
def test_literals_are_addresses_of_their_own_family(
    target: str, families: tuple[Family, ...], expected: list[str]
) -> None:
    world = World("contoso.example", families=families).srv(record(target))
    assert [endpoint.address for endpoint in discovery.endpoints(CONTOSO, world.evidence())] == expected


def test_each_port_of_a_target_is_an_endpoint() -> None:
    world = World("contoso.example").srv(record("kms1"), record("kms1", port=1689)).name("kms1", "10.1.0.8")
    found = discovery.endpoints(CONTOSO, world.evidence())
    assert [(endpoint.address, endpoint.service.port) for endpoint in found] == [("10.1.0.8", 1688), ("10.1.0.8", 1689)]


# --------------------------------------------------------------------------------------------------- reasons


def test_reasons_are_the_questions_that_led_there_and_no_others() -> None:
    seen = FULL.evidence()
    reasons = {
        endpoint.address: [str(request) for request in discovery.reasons(endpoint, CONTOSO, seen)]
        for endpoint in discovery.endpoints(CONTOSO, seen)
    }
    assert reasons == {
        "10.1.0.9": ["SRV _vlmcs._tcp.contoso.example @10.1.0.2"],
        "10.1.0.8": ["SRV _vlmcs._tcp.contoso.example @10.1.0.2", "A kms1.contoso.example @10.1.0.2"],
        "10.1.0.10": ["SRV _vlmcs._tcp.contoso.example @10.1.0.3", "A kms2.contoso.example @10.1.0.3"],
        "fd00:1::8": ["SRV _vlmcs._tcp.contoso.example @10.1.0.3", "AAAA kms2.contoso.example @10.1.0.3"],
    }


def test_an_explicit_address_has_no_reasons() -> None:
    subject = host("10.1.0.8")
    (endpoint,) = discovery.endpoints(subject, World().evidence())
    assert discovery.reasons(endpoint, subject, World().evidence()) == ()
