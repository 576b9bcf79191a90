"""Products of collected machines: whose key, Windows or Office, and which machine a host's name means."""

import datetime
from typing import Any

import pytest

from kmsdiag import collected, products
from kmsdiag.collected import Machine, NamedBy, Part
from kmsdiag.knowledge.licences import OFFICE, Channel
from kmsdiag.model.answer import KmsOverride
from kmsdiag.model.collected import HostState, MachineState, NetworkState, ProductState
from kmsdiag.model.request import Status
from kmsdiag.model.target import StatusFile
from tests.conftest import AT, World


def product(**fields: Any) -> ProductState:
    return ProductState(**{"name": "Windows(R), Enterprise edition", **fields})


def machine(name: str, *of: ProductState, **fields: Any) -> Machine:
    world = World().status("a.txt", MachineState(name=name, products=of, **fields))
    (found,) = collected.machines(world.evidence())
    return found


@pytest.mark.parametrize(
    ("found", "channel"),
    [
        (product(channel="Volume:GVLK"), Channel.CLIENT),
        (product(channel="Volume:GVLK", vm_host="hyperv1"), Channel.AVMA),
        (product(description="Windows(R) Operating System, VOLUME_KMS_WS22 channel"), Channel.HOST),
        (product(host=HostState(count=3)), Channel.HOST),
        (product(never_asked=True), Channel.CLIENT),
        (product(no_host=True), Channel.CLIENT),
        (product(ad_object="contoso"), Channel.CLIENT),
        (product(), Channel.UNKNOWN),
    ],
)
def test_whose_key_a_product_has(found: ProductState, channel: Channel) -> None:
    assert products.whose(found) is channel


@pytest.mark.parametrize(
    ("found", "has_key"),
    [
        (product(status=0, in_use=True), True),
        (product(status=0), False),
        (product(status=5), True),
        (product(status=-1), True),
        (product(status=1, in_use=False), False),
    ],
)
def test_an_unlicensed_product_of_which_no_key_is_shown_has_none(found: ProductState, has_key: bool) -> None:
    assert bool(list(products.with_key(machine("pc1", found)))) is has_key


@pytest.mark.parametrize(
    ("minutes", "at", "days"), [(2880, AT, 2), (0, AT, None), (2880, None, None), (10**15, AT, None), (-1, AT, None)]
)
def test_an_end_is_known_where_the_time_of_the_file_is(minutes: int, at: datetime.datetime | None, days: int) -> None:
    question = Status(file=StatusFile(label="a.txt"))
    found = products.end(product(grace_minutes=minutes), Part(question, MachineState(), at))
    assert found == (None if days is None else AT + datetime.timedelta(days=days))


def test_office_is_told_by_its_application_or_its_name() -> None:
    assert products.is_office(product(application_id=OFFICE))
    assert products.is_office(ProductState(name="Office 16, Office16ProPlusVL_KMS_Client edition"))
    assert not products.is_office(product())


@pytest.mark.parametrize(
    ("name", "host", "same"),
    [
        ("kms1.contoso.example", "KMS1.contoso.example.", True),
        ("kms1.contoso.example", "kms1", True),
        ("KMS1", "kms1.contoso.example", True),
        ("kms1.contoso.example", "kms1.fabrikam.example", False),
        ("kms1.contoso.example", "kms10", False),
        ("kms1.contoso.example", "10.1.0.8", True),
        ("kms1.contoso.example", "[2001:db8::8]", True),
        ("kms1.contoso.example", "10.1.0.9", False),
    ],
)
def test_a_name_or_an_address_means_a_machine(name: str, host: str, same: bool) -> None:
    found = machine(name, network=NetworkState(addresses=("10.1.0.8", "2001:db8:0::8")))
    assert products.is_named(found, host) is same


def test_what_is_set_by_hand_hides_what_is_remembered() -> None:
    remembers = product(discovered_host="kms1")
    assert products.uses(machine("pc1", remembers)) == ["kms1"]
    set_by_hand = (KmsOverride("global", "kms2"),)
    assert products.uses(machine("pc1", remembers, overrides=set_by_hand)) == ["kms2"]


def test_clients_of_a_host_are_those_that_name_it() -> None:
    world = World()
    for name, found in (("pc1", "kms1"), ("pc2", "kms2"), ("kms1", "kms1")):
        world.status(f"{name}.txt", MachineState(name=name, products=(product(discovered_host=found),)))
    machines = collected.machines(world.evidence())
    host = next(one for one in machines if one.name == "kms1")
    assert [one.name for one in products.asking(host, machines)] == ["pc1"]


def test_a_product_without_a_name_is_called_something() -> None:
    assert products.label(ProductState(name="", activation_id="x")) == "x"
    assert products.label(ProductState(name="")) == "a product without a name"
    assert Machine("pc1", NamedBy.GIVEN, (), ()).label == "pc1"
