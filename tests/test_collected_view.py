"""The report's tables about collected files: what each row has from which file."""

import datetime
from typing import Any

import pytest

from kmsdiag.collected_view import view
from kmsdiag.model.collected import HostState, Requests
from kmsdiag.model.events import AttemptEnd
from kmsdiag.model.outcome import State
from kmsdiag.model.report import CollectedView
from tests.conftest import AT, World
from tests.states import attempt, client, client_log, host, host_log, logs, nameless_state, product, request, requester

FAILED = AttemptEnd.FAILED


def shown(world: World) -> CollectedView:
    found = view(world.evidence(), world.diagnosis().ends)
    assert found is not None
    return found


def test_no_files_no_tables() -> None:
    assert view(World().evidence(), ()) is None


class TestProducts:
    def test_a_client(self) -> None:
        (row,) = shown(World().status("a.txt", client(grace_minutes=1440))).products
        assert (row.machine, row.assumed, row.channel, row.status) == (
            "pc17.contoso.example",
            False,
            "KMS client",
            "licensed",
        )
        assert (row.host, row.by_hand, row.state) == ("kms1.contoso.example:1688", False, State.OK)
        assert (row.remaining_min, row.expires) == (1440, AT + datetime.timedelta(days=1))

    def test_a_host_set_by_hand_counts_before_one_that_was_found(self) -> None:
        (row,) = shown(World().status("a.txt", client(override_host="kms9", override_port=1700))).products
        assert (row.host, row.by_hand) == ("kms9:1700", True)

    def test_an_assumed_name_is_marked(self) -> None:
        (row,) = shown(World().status("a.txt", nameless_state(), folder="desk")).products
        assert (row.machine, row.assumed) == ("desk", True)

    def test_the_code_of_the_last_attempt_counts_before_the_licence_s_reason(self) -> None:
        world = World().status("a.txt", client(status=5, reason="0xC004F056"))
        assert shown(world).products[0].code == "0xC004F056"
        world.events(logs(client_log(attempt(FAILED, hresult="0xC004F042"))))
        assert shown(world).products[0].code == "0xC004F042"

    def test_a_success_has_no_code(self) -> None:
        world = World().status("a.txt", client()).events(logs(client_log(attempt())))
        (row,) = shown(world).products
        assert (row.words, row.code) == ("activated", "")

    @pytest.mark.parametrize(
        ("fields", "channel", "words"),
        [
            ({"ad_object": "contoso"}, "KMS client", "by Active Directory"),
            ({"description": "Windows, VOLUME_MAK channel", "permanent": True}, "multiple activation key", "permanent"),
        ],
    )
    def test_what_never_asks_a_host(self, fields: dict[str, Any], channel: str, words: str) -> None:
        (row,) = shown(World().status("a.txt", client(**fields))).products
        assert (row.channel, row.words, row.state) == (channel, words, None)

    def test_licences_without_a_key_and_host_keys_have_no_row(self) -> None:
        world = World().status("a.txt", client(in_use=False)).status("b.txt", host())
        assert shown(world).products == ()


class TestHosts:
    def test_by_its_own_account_and_its_log(self) -> None:
        state = host(requests=Requests(total=100, failed=3))
        (row,) = shown(World().status("a.txt", state).events(logs(hosts=(host_log(clients_30_days=7),)))).hosts
        assert (row.count, row.requests, row.failed, row.logged, row.clients_30_days) == (50, 100, 3, 10, 7)

    def test_of_its_log_alone(self) -> None:
        (row,) = shown(World().events(logs(hosts=(host_log(),)))).hosts
        assert (row.machine, row.product, row.count, row.logged) == ("kms1.contoso.example", "", None, 10)

    def test_two_hosts_of_one_short_name_are_two(self) -> None:
        world = World().status("a.txt", host("kms1.contoso.example"))
        world.events(logs(hosts=(host_log(), host_log("kms1.fabrikam.example", requests=20))))
        assert [(row.machine, row.logged) for row in shown(world).hosts] == [
            ("kms1.contoso.example", 10),
            ("kms1.fabrikam.example", 20),
        ]

    def test_a_host_key_of_which_only_the_state_is_known(self) -> None:
        (row,) = shown(World().status("a.txt", host(count=None, publishing=None))).hosts
        assert (row.count, row.publishing, row.requests) == (None, None, None)
        assert HostState().requests.total is None


class TestRequests:
    def test_two_clients_of_one_short_name_are_two(self) -> None:
        good = client_log(attempt(), machine="pc17.contoso.example")
        bad = client_log(attempt(FAILED, hresult="0x800706BA"), machine="pc17.fabrikam.example")
        world = World().status("a.txt", client("pc17.contoso.example")).events(logs(good, bad))
        found = shown(world)
        assert [(row.client, row.fate.state) for row in found.correlations] == [
            ("pc17.contoso.example", State.OK),
            ("pc17.fabrikam.example", State.FAIL),
        ]
        assert found.products[0].state is State.OK
        assert (found.activated, found.failed) == (1, 1)

    def test_a_client_without_a_log_by_its_id(self) -> None:
        world = World().status("a.txt", client()).events(logs(requesters=(requester(request()),)))
        (row,) = shown(world).correlations
        assert row.gaps == ("no log of the client",)


class TestFiles:
    def test_whose_and_what_could_not_be_read(self) -> None:
        state = client()
        world = World().status("b.txt", state).status("a.txt", nameless_state(notes=("line 1 is odd",)), folder="desk")
        rows = shown(world).files
        assert [(row.label, row.machines, row.notes) for row in rows] == [
            ("a.txt", ("desk (assumed from the folder)",), ("line 1 is odd",)),
            ("b.txt", ("pc17.contoso.example",), ()),
        ]

    def test_a_file_that_was_not_read_has_no_row(self) -> None:
        world = World().status("a.txt", reason="interrupted").status("b.txt", client())
        assert [row.label for row in shown(world).files] == ["b.txt"]

    def test_the_worst_of_a_machine_s_products_counts(self) -> None:
        state = client()
        other = product(activation_id="another", name="Office", status=5, reason="0xC004F056")
        both = type(state)(name=state.name, sources=state.sources, products=(*state.products, other))
        found = shown(World().status("a.txt", both))
        assert (found.activated, found.failed, found.not_known) == (0, 1, 0)
