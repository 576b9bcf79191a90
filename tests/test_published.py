"""What DNS publishes, from live answers, captures and lookups in files."""

import pytest

from kmsdiag import collected, published
from kmsdiag.model.collected import MachineState, NetworkState, ToolLookup
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.request import Captures, SrvQuery
from kmsdiag.published import Published
from tests.conftest import DOMAIN, World, record
from tests.traffic import Traffic

SRV = f"_vlmcs._tcp.{DOMAIN}"


def known(world: World) -> Published:
    seen = world.evidence()
    return published.known(seen, collected.machines(seen))


def asked(*lookups: ToolLookup) -> MachineState:
    return MachineState(name="pc1", network=NetworkState(lookups=lookups))


def lookup(
    name: str = SRV, kind: str = "SRV", outcome: DnsOutcome = DnsOutcome.ANSWERED, **given: object
) -> ToolLookup:
    return ToolLookup(tool="nslookup", name=name, kind=kind, outcome=outcome, **given)  # type: ignore[arg-type]


WORLDS = {
    "live": World(DOMAIN).srv(record("kms1")).name("kms1", "10.1.0.8"),
    "captured": World().captures(
        Traffic(dns=4)
        .srv(DOMAIN, record("kms1"), clients=["10.2.0.11"])
        .name("kms1.contoso.example", "10.1.0.8")
        .answer()
    ),
    "looked up": World().status(
        "a.txt",
        asked(
            lookup(SRV.upper() + ".", records=(record("kms1"),)),
            lookup("KMS1.contoso.example", "A", addresses=("10.1.0.8",)),
        ),
    ),
}


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_each_kind_of_evidence_tells_the_same(world: World) -> None:
    dns = known(world)
    (zone,) = dns.with_records()
    assert (zone.domain, zone.hosts(), zone.absent) == (DOMAIN, ("kms1.contoso.example:1688",), False)
    assert dns.addresses["kms1.contoso.example"] == {"10.1.0.8"}
    assert dns.because
    assert dns.resolved()


@pytest.mark.parametrize(
    ("host", "is_published"),
    [
        ("kms1.contoso.example", True),
        ("KMS1.Contoso.example.", True),
        ("kms1", True),
        ("10.1.0.8", True),
        ("kms2", False),
        ("kms1.fabrikam.example", False),
        ("10.1.0.9", False),
        ("2001:db8::1", False),
    ],
)
def test_a_host_is_published_by_name_by_address_or_by_its_first_label(host: str, is_published: bool) -> None:
    assert known(WORLDS["live"]).publishes(host) is is_published


def test_another_name_with_the_same_address_is_the_same_host() -> None:
    alias = lookup("kms.contoso.example", "A", addresses=("10.1.0.8",))
    world = World(DOMAIN).srv(record("kms1")).name("kms1", "10.1.0.8").status("a.txt", asked(alias))
    assert known(world).publishes("kms.contoso.example")


def test_an_absence_is_told_apart_from_no_answer() -> None:
    assert known(World(DOMAIN).srv()).zones[DOMAIN].absent
    failed = known(World(DOMAIN).srv(outcome=DnsOutcome.SERVFAIL))
    assert not failed.zones[DOMAIN].absent
    assert not failed.because


def test_what_has_no_answer_adds_nothing() -> None:
    world = World(DOMAIN).gap(SrvQuery(name=SRV)).captures("cut off")
    assert not known(world).with_records()


def test_the_root_is_no_host() -> None:
    assert not known(World(DOMAIN).srv(record("."))).with_records()


def test_hosts_whose_address_is_not_known_are_not_resolved() -> None:
    assert not known(World(DOMAIN).srv(record("kms1"))).resolved()


def test_all_domains_and_the_captures_are_asked_about() -> None:
    world = World(DOMAIN).captures("cut off")
    questions = list(published.ask(world.evidence()))
    assert SrvQuery(name=SRV) in questions
    assert any(isinstance(one, Captures) for one in questions)
