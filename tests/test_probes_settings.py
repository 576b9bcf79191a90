"""What this machine is: its own addresses, whoever it asks."""

import pytest

from kmsdiag import api
from kmsdiag.model.report import Vantage
from kmsdiag.model.target import HostSpec, Target
from kmsdiag.probes.settings import own_addresses


@pytest.mark.parametrize("source", ["10.9.8.7", "fd00::7"])
def test_the_chosen_source_stands_for_its_family(source: str) -> None:
    same = [own for own in own_addresses(("10.0.0.1", "fd00::1"), source) if (":" in own) == (":" in source)]
    assert same == [source]


def test_loopback_is_no_place() -> None:
    assert not {"127.0.0.1", "::1"} & set(own_addresses(("127.0.0.1", "::1")))
    assert not {"127.0.0.1", "::1"} & set(own_addresses((), "127.0.0.1"))


def test_a_destination_without_a_way_tells_nothing() -> None:
    """Class E and a scope that no machine has: neither is an error."""
    assert own_addresses(("255.255.255.255", "fe80::1%none0")) == own_addresses()


def test_the_vantage_of_a_run_knows_what_it_asks_from() -> None:
    target = Target(domains=("contoso.example",), servers=("system", "127.0.0.1:5353"), hosts=(HostSpec("127.0.0.1"),))
    where = api.here("branch", target, "10.9.8.7")
    assert isinstance(where, Vantage)
    assert where.label == "branch"
    assert where.addresses[0] == "10.9.8.7"
    assert not any(address.startswith("127.") for address in where.addresses)
