"""Paths, faults and the verdict from what clients and hosts report, alone and joined with all else."""

import datetime
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kmsdiag.knowledge.codes import CODES, is_failure
from kmsdiag.knowledge.reported_causes import REPORTED
from kmsdiag.model.collected import HostState, MachineState, NetworkState, PortTest, ToolLookup
from kmsdiag.model.events import AttemptEnd, ClientEvents
from kmsdiag.model.outcome import DnsOutcome, Stage, State, TcpOutcome
from kmsdiag.model.path import Basis, PathState, VerdictState
from kmsdiag.model.report import Report
from kmsdiag.registry import Registry
from tests.conftest import AT, World, record
from tests.states import (
    CMID,
    KMS1,
    OTHER,
    attempt,
    client,
    client_log,
    host,
    host_log,
    logs,
    product,
    request,
    requester,
)

FAILED, SENT = AttemptEnd.FAILED, AttemptEnd.NOT_ANSWERED
NO_CHECKS = Registry(())


def report(world: World) -> Report:
    """What paths alone make of a world."""
    return world.report(NO_CHECKS)


def reported_worlds() -> Iterator[tuple[str, World]]:
    """For each cause that clients and hosts report, a world that has it and no other."""

    def failed(hresult: str, **fields: Any) -> World:
        return World().events(logs(client_log(attempt(FAILED, hresult=hresult, **fields))))

    yield "srv.client_says", failed("0x8007232B", host="")
    yield "srv.client_says", failed("0x8007007B", host="")
    yield "name.client_says", failed("0x80072AF9")
    yield "tcp.client_says", failed("0x800706BA")
    yield "request.not_answered", World().events(logs(client_log(attempt(SENT))))
    yield "answer.not_accepted", World().events(logs(client_log(attempt(AttemptEnd.NOT_ACTIVATED))))
    yield "client.contacted_none", failed("0xC004F074")
    yield "client.contacted_none", World().status("a.txt", client(status=5, result="0xC004F074"))
    yield "client.key", failed("0xC004F069")
    yield "client.not_activated", World().status("a.txt", client(status=5, reason="0xC004F056", never_asked=True))
    retail = client(status=5, description="Windows(R) Operating System, RETAIL channel", discovered_host="")
    yield "client.other_channel", World().status("a.txt", retail)
    tested = NetworkState(ports=(PortTest(tool="PsPing", target=KMS1, port=1688, succeeded=False),))
    closed = msgspec.structs.replace(client(status=5), network=tested)
    yield "tcp.tool_says", World().status("a.txt", closed)
    yield "srv.tool_says", World().status("a.txt", client(status=5, discovered_host="", no_host=True))
    yield "host.not_activated", World().status("a.txt", host(status=5))
    yield "host.count_low", World().status("a.txt", host(count=2))
    yield "request.lost_there", World().events(logs(client_log(attempt(SENT)), hosts=(host_log(),)))
    found = requester(request())
    yield "request.lost_back", World().events(logs(client_log(attempt(SENT)), hosts=(host_log(),), requesters=(found,)))


WORLDS = list(reported_worlds())


def test_every_cause_that_is_reported_has_a_world() -> None:
    assert {code for code, _world in WORLDS} == set(REPORTED)


@pytest.mark.parametrize(("code", "world"), WORLDS, ids=[f"{code}-{n}" for n, (code, _world) in enumerate(WORLDS)])
def test_each_cause_is_said_in_words_that_can_be_read(code: str, world: World) -> None:
    found = report(world)
    (cause,) = found.verdict.causes
    assert (cause.code, cause.stage) == (code, Stage(code.partition(".")[0]))
    assert found.verdict.state is VerdictState.BROKEN
    for text in (cause.headline, cause.text, *(fix.text for fix in cause.fixes)):
        assert "{" not in text
        assert "  " not in text
        assert text == text.strip()
    assert cause.fixes
    assert not cause.headline.endswith(".")
    assert cause.text.endswith(".")


@pytest.mark.parametrize("hresult", sorted(CODES))
def test_every_code_on_a_screen_and_in_a_log_becomes_a_cause(hresult: str) -> None:
    """With nothing else given: slmgr /ato in a file, 12288 in a log."""
    if is_failure(hresult):
        for world in (
            World().status("a.txt", client(status=5, result=hresult, override_host="")),
            World().events(logs(client_log(attempt(FAILED, hresult=hresult)))),
        ):
            (cause,) = report(world).verdict.causes
            assert "{" not in cause.headline + cause.text


def test_too_low_a_count_on_the_screen_alone() -> None:
    (cause,) = report(World().status("a.txt", client(status=5, result="0xC004F038"))).verdict.causes
    assert cause.headline == (
        "kms1.contoso.example has too low a count: an unknown number of 25 (5 for servers and Office)"
    )


def test_a_refusal_is_the_same_cause_as_in_captures() -> None:
    found = report(World().events(logs(client_log(attempt(FAILED, hresult="0xC004F042")))))
    (cause,) = found.verdict.causes
    assert cause.code == "answer.other_product"
    assert cause.headline == "kms1.contoso.example refuses (0xC004F042): its key is for other products"
    assert "1 client (pc17.contoso.example)" in cause.text
    assert (cause.event, cause.screen) != (None, None)
    assert cause.event is not None
    assert (cause.event.code, cause.event.basis) == ("0xC004F042", Basis.OBSERVED)


class TestClients:
    def test_a_licensed_client_works(self) -> None:
        found = report(World().status("a.txt", client()))
        assert found.verdict.state is VerdictState.HEALTHY
        assert found.verdict.headline == "The only client is activated."
        (path,) = found.paths
        assert (path.domain, path.target, path.port, path.state) == ("–", KMS1, 1688, PathState.OK)
        (group,) = path.clients
        assert (group.state, group.count, group.examples) == (State.OK, 1, ("pc17.contoso.example",))

    @pytest.mark.parametrize(
        "fields",
        [
            {"ad_object": "contoso activation"},
            {"description": "Windows(R) Operating System, VOLUME_MAK channel"},
            {"description": "Windows(R) Operating System, OEM_DM channel", "permanent": True},
            {"in_use": False, "status": 0},
        ],
    )
    def test_what_never_asks_a_host_has_no_path(self, fields: dict[str, Any]) -> None:
        found = report(World().status("a.txt", client(**fields)))
        assert (found.paths, found.verdict.causes, found.verdict.state) == ((), (), VerdictState.UNKNOWN)
        assert found.verdict.headline == "No machine that activates by KMS is seen."

    def test_a_grace_period_tells_neither(self) -> None:
        found = report(World().status("a.txt", client(status=2)))
        assert found.verdict.state is VerdictState.UNKNOWN
        assert found.verdict.headline == "Of 1 client nothing tells whether it activates."

    def test_its_last_attempt_counts_more_than_its_licence(self) -> None:
        world = World().status("a.txt", client()).events(logs(client_log(attempt(FAILED, hresult="0x800706BA"))))
        assert [cause.code for cause in report(world).verdict.causes] == ["tcp.client_says"]

    def test_a_success_after_the_attempt_counts_more(self) -> None:
        """The licence was had (259,200 - 250,000 minutes before) after the attempt that failed."""
        old = attempt(FAILED, hresult="0x800706BA", at=AT - datetime.timedelta(minutes=9_300))
        found = report(World().status("a.txt", client()).events(logs(client_log(old))))
        assert (found.verdict.state, found.verdict.causes) == (VerdictState.HEALTHY, ())

    def test_a_renewal_that_fails_is_no_lapse(self) -> None:
        failed = attempt(FAILED, hresult="0x800706BA")
        found = report(World().status("a.txt", client()).events(logs(client_log(failed))))
        assert found.verdict.headline == "The only client could not renew, and is activated still."
        lapsed = client_log(attempt(FAILED, hresult="0x800706BA", client_machine_id=OTHER), machine="pc18")
        found = report(World().status("a.txt", client()).events(logs(client_log(failed), lapsed)))
        assert found.verdict.headline == (
            "1 of 2 clients is not activated (1 more could not renew, and is activated still)."
        )

    def test_a_code_on_the_screen_alone_shows_a_client(self) -> None:
        """8198 without 12288: how it stands is not known. 0x80072EE7 is not about KMS."""
        seen = ClientEvents(machine="pc17", failures={"0xC004F074": 4})
        assert report(World().events(logs(seen))).verdict.headline == "Of 1 client nothing tells whether it activates."
        other = ClientEvents(machine="pc17", failures={"0x80072EE7": 4, "unreadable": 1})
        assert report(World().events(logs(other))).paths == ()
        found = report(World().status("a.txt", client("pc17")).events(logs(seen)))
        assert found.verdict.headline == "The only client is activated."

    def test_a_licence_that_is_lost_counts_more_than_an_old_success(self) -> None:
        old = client_log(attempt(at=AT - datetime.timedelta(days=200)))
        found = report(World().status("a.txt", client(status=5, grace_minutes=0)).events(logs(old)))
        assert [cause.code for cause in found.verdict.causes] == ["client.not_activated"]

    def test_office_that_fails_leaves_windows_alone(self) -> None:
        """A host for Windows alone refuses Office: the commonest case of 0xC004F042."""
        office = attempt(FAILED, hresult="0xC004F042", activation_id=OTHER, required=5)
        found = report(World().status("a.txt", client()).events(logs(client_log(attempt(), office))))
        assert found.verdict.headline == "The only client is not activated (1 with another product that is)."
        (path,) = found.paths
        assert path.state is PathState.PARTIAL
        assert [(group.outcome, group.state) for group in path.clients] == [
            ("refused", State.FAIL),
            ("succeeded", State.OK),
        ]
        (row,) = found.collected.products if found.collected is not None else ()
        assert (row.product, row.state) == ("Windows(R), Enterprise edition", State.OK)

    def test_a_client_of_active_directory_that_once_asked_is_no_failure(self) -> None:
        asked = attempt(FAILED, hresult="0x8007232B", host="")
        log = client_log(asked, by_directory=3, by_directory_last=AT + datetime.timedelta(days=7))
        assert report(World().events(logs(log))).paths == ()

    @pytest.mark.parametrize(
        "fields",
        [
            {"description": "Windows(R) Operating System, VOLUME_MAK channel", "status": 2},
            {"vm_host": "hv1", "description": "Windows(R) Operating System, VOLUME_KMSCLIENT channel"},
            {"in_use": None, "status": 0},
        ],
    )
    def test_what_is_no_kms_failure(self, fields: dict[str, Any]) -> None:
        found = report(World().status("a.txt", client(**fields)))
        assert (found.paths, found.verdict.causes) == ((), ())

    def test_a_code_of_the_way_is_said_where_the_host_s_log_lacks_the_request(self) -> None:
        failed = client_log(attempt(FAILED, hresult="0x800706BA"))
        found = report(World().events(logs(failed, hosts=(host_log(),))))
        assert [cause.code for cause in found.verdict.causes] == ["tcp.client_says"]

    def test_one_of_two_products(self) -> None:
        office = product(name="Office 16", activation_id="office", status=5, reason="0xC004F056", discovered_host="")
        state = client()
        machine = MachineState(name=state.name, products=(*state.products, office), collected_at=AT)
        found = report(World().status("a.txt", machine))
        assert found.verdict.state is VerdictState.DEGRADED
        assert found.verdict.headline == "The only client is not activated (1 with another product that is)."

    def test_many_clients_are_one_cause(self) -> None:
        clients = [client(f"pc{n}", status=5, reason="0xC004F056") for n in range(5)]
        world = World()
        for number, one in enumerate((*clients, client("pc9"))):
            world.status(f"{number}.txt", one)
        found = report(world)
        assert found.verdict.headline == "5 of 6 clients are not activated."
        (cause,) = found.verdict.causes
        assert cause.headline.startswith("5 clients (pc0 and 4 more): not activated")
        (impact,) = found.verdict.impact
        assert (impact.fails, impact.clients, impact.basis) == (0.8333, 6, Basis.OBSERVED)

    def test_a_folder_called_as_a_machine_is_that_machine(self) -> None:
        world = World().status("a.txt", client()).status("b.txt", client(""), folder="PC17")
        found = world.report()
        assert found.verdict.headline == "The only client is activated."
        assert "client_identity.shared" not in {one.code for view in found.results for one in view.findings}

    def test_an_edition_that_was_changed_is_the_same_windows(self) -> None:
        """The log is of the time before; only Windows clients need 25, and a machine has one."""
        failed = attempt(FAILED, hresult="0x800706BA", activation_id=OTHER)
        found = report(World().status("a.txt", client(status=5, grace_minutes=0)).events(logs(client_log(failed))))
        assert [cause.code for cause in found.verdict.causes] == ["tcp.client_says"]

    def test_licences_without_a_key_are_no_products(self) -> None:
        """ospp.vbs /dstatusall lists dozens of them."""
        listed = [product(name=f"Office {n}", activation_id=f"{n}", status=0, in_use=None) for n in range(30)]
        machine = MachineState(name="pc17", products=(product(), *listed), collected_at=AT)
        found = report(World().status("a.txt", machine))
        assert found.verdict.headline == "The only client is activated."
        assert found.collected is not None
        assert len(found.collected.products) == 1

    def test_an_override_leads_to_its_host(self) -> None:
        state = client(override_host="kms-old.contoso.example", override_port=1689, discovered_host="")
        (path,) = report(World().status("a.txt", state)).paths
        assert (path.target, path.port) == ("kms-old.contoso.example", 1689)


class TestHosts:
    @pytest.mark.parametrize(
        ("count", "state"), [(50, State.OK), (5, State.OK), (4, State.FAIL), (0, State.UNKNOWN), (-1, State.UNKNOWN)]
    )
    def test_a_count(self, count: int, state: State) -> None:
        (path,) = report(World().status("a.txt", host(count=count))).paths
        (stage,) = path.stages
        assert (stage.stage, stage.state) == (Stage.HOST, state)

    def test_windows_clients_that_ask_need_25(self) -> None:
        world = World().status("a.txt", host(count=12)).events(logs(hosts=(host_log(needs={"5": 8, "25": 4}),)))
        (cause,) = report(world).verdict.causes
        assert (cause.code, cause.headline) == (
            "host.count_low",
            "KMS host kms1.contoso.example has counted 12, and 25 are needed",
        )

    def test_a_count_that_does_for_servers_is_half_a_fault(self) -> None:
        world = World().status("a.txt", host(count=12)).events(logs(hosts=(host_log(needs={"5": 8, "25": 1}),)))
        assert report(world).verdict.state is VerdictState.DEGRADED
        world = World().status("a.txt", host(count=10)).events(logs(hosts=(host_log(needs={"5": 10}),)))
        assert report(world).verdict.causes == ()

    @pytest.mark.parametrize("spelt", ["kms1", "KMS1.contoso.example", "10.1.0.8"])
    def test_a_host_by_any_of_its_names_is_one(self, spelt: str) -> None:
        state = msgspec.structs.replace(host(count=2), network=NetworkState(addresses=("10.1.0.8",)))
        asks = client(status=5, override_host=spelt, discovered_host="")
        found = report(World().status("a.txt", state).status("b.txt", asks))
        assert [path.target for path in found.paths] == [KMS1]
        assert [cause.code for cause in found.verdict.causes] == ["host.count_low"]

    def test_an_office_key_that_serves_nobody_leaves_windows_alone(self) -> None:
        windows = host(count=50)
        key = windows.products[0]
        office = type(key)(name="Office 21, KMSHost edition", activation_id="x", status=1, host=HostState(count=2))
        both = MachineState(name=KMS1, products=(key, office))
        found = report(World().status("a.txt", both))
        assert (found.verdict.state, found.paths[0].state) == (VerdictState.DEGRADED, PathState.PARTIAL)

    def test_a_count_that_rose_since_hides_no_client(self) -> None:
        low = attempt(AttemptEnd.NOT_ACTIVATED, count=12)
        world = World().status("a.txt", host(count=50)).events(logs(client_log(low)))
        assert [cause.code for cause in report(world).verdict.causes] == ["answer.below_threshold"]

    def test_a_low_count_is_why_its_clients_are_not_activated(self) -> None:
        world = World().status("a.txt", host(count=3)).status("b.txt", client(status=5))
        assert [cause.code for cause in report(world).verdict.causes] == ["host.count_low"]

    def test_a_host_s_success_is_no_code_of_a_client(self) -> None:
        """12289 with flag 0 and a count that would do, beside a 12290 with 0x0."""
        tried = client_log(attempt(AttemptEnd.NOT_ACTIVATED))
        events = logs(tried, hosts=(host_log(),), requesters=(requester(request()),))
        (cause,) = report(World().events(events)).verdict.causes
        assert cause.code == "answer.not_accepted"

    def test_what_the_client_says_of_the_count_is_said_once(self) -> None:
        low = attempt(AttemptEnd.NOT_ACTIVATED, count=12)
        world = World().status("a.txt", host(count=12)).events(logs(client_log(low)))
        assert [cause.code for cause in report(world).verdict.causes] == ["host.count_low"]
        alone = World().events(logs(client_log(low)))
        (cause,) = report(alone).verdict.causes
        assert (cause.code, cause.headline) == (
            "answer.below_threshold",
            "kms1.contoso.example has too low a count: 12 of 25",
        )

    def test_an_office_host_needs_5(self) -> None:
        state = host(count=7)
        key = state.products[0]
        office = MachineState(
            name=KMS1,
            products=(type(key)(name="Office 16, KMSHost edition", status=1, host=key.host),),
        )
        world = World().status("a.txt", office).events(logs(hosts=(host_log(needs={"25": 4}),)))
        assert report(world).verdict.causes == ()


class TestAHostsLogAlone:
    """Clients of which nothing but a host's event 12290 tells."""

    def found(self, *hresults: str, clients_30_days: int = 30, machines: tuple[MachineState, ...] = ()) -> Report:
        requesters = tuple(
            requester(
                request(hresult=hresult, machine=f"pc{number}.contoso.example"),
                machine_id=f"{number:08x}-0000-4000-8000-000000000000",
            )
            for number, hresult in enumerate(hresults)
        )
        log = host_log(clients_30_days=clients_30_days, needs={"25": len(hresults)})
        world = World().events(logs(hosts=(log,), requesters=requesters))
        for number, machine in enumerate(machines):
            world.status(f"{number}.txt", machine)
        return report(world)

    def test_whom_it_refused_is_known(self) -> None:
        found = self.found("0x00000000", "0x00000000", "0xC004F06C")
        assert found.verdict.headline == "1 of 3 clients is not activated."
        (cause,) = found.verdict.causes
        assert cause.code == "answer.clock"
        assert "1 client (pc2.contoso.example)" in cause.text
        assert cause.event is not None
        assert cause.event.basis is Basis.DOCUMENTED
        (path,) = found.paths
        assert (path.target, path.state) == (KMS1, PathState.PARTIAL)

    def test_its_success_activates_nobody_where_too_few_ask(self) -> None:
        found = self.found("0x00000000", clients_30_days=3)
        assert found.verdict.state is VerdictState.UNKNOWN
        assert self.found("0x00000000", clients_30_days=3, machines=(host(count=50),)).verdict.state is (
            VerdictState.HEALTHY
        )

    def test_who_speaks_for_itself_is_not_counted_twice(self) -> None:
        own = client("pc0.contoso.example", client_machine_id="00000000-0000-4000-8000-000000000000")
        assert (
            self.found("0x00000000", "0x00000000", machines=(own,)).verdict.headline == "All 2 clients are activated."
        )


class TestJoined:
    def live(self, outcome: TcpOutcome) -> World:
        world = World("contoso.example").srv(record("kms1")).name("kms1", "10.1.0.8").tcp("10.1.0.8", outcome)
        return world.rpc("10.1.0.8") if outcome is TcpOutcome.OPEN else world

    def test_a_client_explains_and_is_explained_by_a_live_question(self) -> None:
        """0xC004F074 on the client, and the silent host behind it: one cause."""
        world = self.live(TcpOutcome.TIMEOUT).events(logs(client_log(attempt(FAILED, hresult="0xC004F074"))))
        found = report(world)
        (path,) = found.paths
        assert (path.domain, path.target, path.state) == ("contoso.example", KMS1, PathState.FAIL)
        assert [group.count for group in path.clients] == [1]
        assert [cause.code for cause in found.verdict.causes] == ["tcp.timeout"]

    def test_what_a_client_meets_later_is_no_contradiction(self) -> None:
        found = report(self.live(TcpOutcome.OPEN).events(logs(client_log(attempt(FAILED, hresult="0xC004F06C")))))
        (path,) = found.paths
        assert (path.state, path.fails_at, path.note) == (PathState.FAIL, Stage.ANSWER, "")
        assert [cause.code for cause in found.verdict.causes] == ["answer.clock"]

    def test_works_from_here_and_not_for_the_client(self) -> None:
        found = report(self.live(TcpOutcome.OPEN).events(logs(client_log(attempt(FAILED, hresult="0x800706BA")))))
        assert found.verdict.state is VerdictState.DEGRADED
        assert found.paths[0].state is PathState.PARTIAL
        assert found.paths[0].note == "it works from here; by their own account 1 of 1 client did not get there"
        assert found.verdict.headline.endswith("; by their own account the only client is not activated.")

    def test_a_client_s_own_fault_is_not_the_way_s(self) -> None:
        found = report(self.live(TcpOutcome.OPEN).events(logs(client_log(attempt(FAILED, hresult="0xC004F069")))))
        assert (found.paths[0].state, found.verdict.state) == (PathState.PARTIAL, VerdictState.DEGRADED)
        assert [cause.code for cause in found.verdict.causes] == ["client.key"]

    def test_fails_from_here_and_activated_the_client(self) -> None:
        found = report(self.live(TcpOutcome.TIMEOUT).status("a.txt", client()))
        assert found.paths[0].state is PathState.PARTIAL
        assert found.paths[0].note == "it fails at stage tcp; by their own account 1 of 1 client got activated by it"

    def test_a_host_by_its_short_name(self) -> None:
        found = report(self.live(TcpOutcome.OPEN).status("a.txt", host("KMS1", count=2)))
        (path,) = found.paths
        assert [stage.note for stage in path.stages if stage.stage is Stage.HOST] == ["2 of 5"]

    def test_lookups_of_tools_name_the_domain(self) -> None:
        lookup = ToolLookup(
            tool="nslookup",
            name="_vlmcs._tcp.contoso.example",
            kind="SRV",
            outcome=DnsOutcome.ANSWERED,
            records=(record("kms1"),),
        )
        network = MachineState(name="pc17.contoso.example", network=NetworkState(lookups=(lookup,)))
        (path,) = report(World().status("a.txt", client()).status("b.txt", network)).paths
        assert path.domain == "contoso.example"


def test_gaps_leave_the_rest() -> None:
    """A file that was not read takes nothing from what the others say of their own attempts."""
    world = World().status("a.txt", client()).status("b.txt", reason="not read").events(logs(client_log(attempt())))
    found = report(world)
    assert found.verdict.state is VerdictState.HEALTHY
    assert found.collected is not None
    assert found.collected.products == ()


def test_an_id_that_two_machines_share_names_neither() -> None:
    world = World().status("a.txt", client("pc1")).status("b.txt", client("pc2", client_machine_id=CMID))
    world.status("c.txt", client("", client_machine_id=OTHER)).status("d.txt", client("", client_machine_id=CMID))
    found = report(world)
    assert found.collected is not None
    assert sorted(row.machine for row in found.collected.products) == [CMID, OTHER, "pc1", "pc2"]
    assert [row.assumed for row in found.collected.products].count(True) == 2
