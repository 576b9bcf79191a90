"""What a selection lets pass, one by one and in rows."""

import datetime
import ipaddress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.capture.digest import ROW
from kmsdiag.capture.packets import address_bytes, address_text, address_words, text_words
from kmsdiag.capture.selection import Chooser
from kmsdiag.model.target import Selection

AT = datetime.datetime(2026, 5, 28, tzinfo=datetime.UTC)
MICROSECONDS = int(AT.timestamp()) * 1_000_000

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
near = st.sampled_from(
    ["10.0.0.1", "10.0.0.255", "10.0.1.0", "2001:db8::1", "2001:db8::ffff", "::1", "255.255.255.255"]
)


def accepts(chooser: Chooser, client: str, host: str, port: int = 1688, started: int = MICROSECONDS) -> bool:
    """Both ways of asking, which must agree."""
    row = np.zeros(1, ROW)
    row["client_hi"], row["client_lo"] = text_words(client)
    row["host_hi"], row["host_lo"] = text_words(host)
    row["host_port"], row["started"] = port, started
    one = chooser.accepts(text_words(client), text_words(host), port, started)
    assert chooser.mask(row).tolist() == [one]
    return one


@pytest.mark.parametrize(
    ("selection", "yes", "no"),
    [
        (Selection(clients=("10.0.0.0/24",)), ("10.0.0.255", "192.0.2.1"), ("10.0.1.0", "10.0.0.1")),
        (Selection(clients=("10.0.0.7/24",)), ("10.0.0.255", "192.0.2.1"), ("10.0.1.0", "10.0.0.1")),
        (Selection(clients=("2001:db8::/32",)), ("2001:db8:ffff::1", "::1"), ("2001:db9::", "::1")),
        (Selection(hosts=("0.0.0.0/0",)), ("::1", "255.255.255.255"), ("10.0.0.1", "::1")),
        (Selection(hosts=("::/0",)), ("10.0.0.1", "::1"), ("10.0.0.1", "10.0.0.1")),
        (Selection(hosts=("10.0.0.1:1688", "10.0.0.2")), ("::1", "10.0.0.2"), ("::1", "10.0.0.3")),
    ],
)
def test_addresses_and_networks(selection: Selection, yes: tuple[str, str], no: tuple[str, str]) -> None:
    chooser = Chooser(selection)
    assert accepts(chooser, *yes)
    assert not accepts(chooser, *no)


def test_ports() -> None:
    chooser = Chooser(Selection(hosts=("[2001:db8::1]:1689", "10.0.0.1:1700")))
    assert accepts(chooser, "::1", "2001:db8::1", 1689)
    assert accepts(chooser, "::1", "10.0.0.1", 1700)
    assert not accepts(chooser, "::1", "10.0.0.1", 1689)


def test_times() -> None:
    chooser = Chooser(Selection(since=AT, until=AT + datetime.timedelta(seconds=1)))
    answers = [accepts(chooser, "::1", "::1", started=MICROSECONDS + add) for add in (-1, 0, 1_000_000, 1_000_001)]
    assert answers == [False, True, True, False]


def test_times_without_zone_are_utc() -> None:
    assert Chooser(Selection(since=AT.replace(tzinfo=None))).since == MICROSECONDS


def test_names_wait_until_they_are_known() -> None:
    chooser = Chooser(Selection(hosts=("KMS1.corp.example:1689", "10.0.0.9"), clients=("pc1",), since=AT))
    assert chooser.names == {"kms1.corp.example", "pc1"}
    assert accepts(chooser.before_names(), "::5", "::6")
    assert not accepts(chooser.before_names(), "::5", "::6", started=0)
    known = {"kms1.corp.example": ("10.0.0.1", "2001:db8::1"), "pc1": ("10.9.9.9",)}
    resolved = chooser.resolved(lambda name: known.get(name, ()))
    assert accepts(resolved, "10.9.9.9", "2001:db8::1", 1689)
    assert accepts(resolved, "10.9.9.9", "10.0.0.9", 1688)
    assert not accepts(resolved, "10.9.9.9", "10.0.0.1", 1688)
    nobody = chooser.resolved(lambda _name: ())
    assert not accepts(nobody, "10.9.9.9", "10.0.0.9")


@given(st.lists(near, max_size=3), st.lists(near, max_size=3), addresses | near, addresses | near)
def test_rows_and_single_ones_agree(clients: list[str], hosts: list[str], client: str, host: str) -> None:
    chooser = Chooser(Selection(clients=tuple(clients), hosts=tuple(hosts)))
    expected = (not clients or client in clients) and (not hosts or host in hosts)
    assert accepts(chooser, client, host) == expected
    assert chooser.accepts_client(client) == (not clients or client in clients)


@given(addresses)
def test_addresses_as_words(address: str) -> None:
    packed = ipaddress.ip_address(address).packed
    assert address_bytes(*address_words(packed)) == packed
    assert address_text(*text_words(address)) == address
