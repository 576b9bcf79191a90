"""Paths, faults and figures from captures, alone and beside what was asked live."""

import msgspec
import pytest

from kmsdiag.knowledge.causes import CAUSES
from kmsdiag.model.capture import FoundBy
from kmsdiag.model.outcome import DnsOutcome, RpcOutcome, Stage, State, TcpOutcome
from kmsdiag.model.path import Basis, ClientGroup, Impact, Path, PathState, VerdictState
from kmsdiag.model.report import Report
from kmsdiag.model.target import HostSpec, Selection
from kmsdiag.path import NOWHERE
from kmsdiag.registry import Registry
from tests.conftest import World, record
from tests.traffic import Traffic

K1, K2 = "10.1.0.8", "10.1.0.9"
CLIENTS = [f"10.2.0.{number}" for number in range(11, 21)]
A, B = CLIENTS[:2]
CONTOSO = "contoso.example"
NO_CHECKS = Registry(())


def report(traffic: Traffic, world: World | None = None, selection: Selection | None = None) -> Report:
    return (world or World()).captures(traffic.answer(), selection=selection).report(NO_CHECKS)


def only(traffic: Traffic) -> Path:
    (path,) = report(traffic).paths
    return path


def published(*clients: str) -> Traffic:
    """The clients are told of kms1."""
    return Traffic().srv(CONTOSO, record("kms1", priority=10), clients=clients).name("kms1.contoso.example", K1)


class TestPaths:
    def test_a_host_is_named_by_the_record_that_clients_were_told(self) -> None:
        path = only(published(A).talk(A, K1))
        assert path.key == (CONTOSO, "kms1.contoso.example", 1688)
        assert path.ranks == ((10, 0),)
        assert path.servers == ("10.1.0.2",)
        assert path.state is PathState.OK
        assert [stage.stage for stage in path.stages] == [Stage.SRV, Stage.NAME]
        assert [stage.stage for stage in path.routes[0].stages] == [Stage.TCP, Stage.RPC, Stage.ANSWER]

    def test_a_host_without_a_record_has_no_domain(self) -> None:
        assert only(Traffic().talk(A, K1)).key == (NOWHERE, K1, 1688)

    def test_nor_has_one_whose_record_names_another_port(self) -> None:
        keys = {path.key for path in report(published(A).talk(A, K1, port=1700)).paths}
        assert keys == {(NOWHERE, "kms1.contoso.example", 1700), (CONTOSO, "kms1.contoso.example", 1688)}

    def test_a_name_without_a_record_is_a_name_all_the_same(self) -> None:
        assert only(Traffic().name("kms9.contoso.example", K1).talk(A, K1)).target == "kms9.contoso.example"

    def test_a_client_without_lookups_is_on_the_path_of_the_record(self) -> None:
        path = only(published(A).talk(A, K1).talk(B, K1, found="nothing"))
        assert path.clients == (ClientGroup("activated", State.OK, 2, (A, B)),)

    def test_one_host_in_two_domains_is_two_paths_with_clients_of_each(self) -> None:
        traffic = published(A).srv("fabrikam.example", record("kms1"), clients=[B]).talk(A, K1).talk(B, K1, "refused")
        paths = {path.domain: path for path in report(traffic).paths}
        assert [group.examples for group in paths[CONTOSO].clients] == [(A,)]
        assert [group.examples for group in paths["fabrikam.example"].clients] == [(B,)]
        assert paths["fabrikam.example"].state is PathState.FAIL

    def test_some_fail_and_some_do_not(self) -> None:
        path = only(published(*CLIENTS).talks(CLIENTS[:8], K1).talks(CLIENTS[8:], K1, "unanswered"))
        assert path.state is PathState.PARTIAL
        assert path.fails_at is None
        tcp, rpc, answer = path.routes[0].stages
        assert (tcp.state, tcp.note) == (State.FAIL, "2/10 silent")
        assert (rpc.state, answer.state) == (State.OK, State.OK)

    def test_a_failure_that_was_repeated_with_success_harms_no_path(self) -> None:
        assert only(Traffic().talk(A, K1, "unanswered").talk(A, K1, at=7200)).state is PathState.OK

    def test_at_most_three_examples_of_a_group(self) -> None:
        (group,) = only(Traffic().talks(CLIENTS, K1)).clients
        assert (group.count, len(group.examples)) == (10, 3)

    def test_a_published_host_that_nobody_came_to_is_not_known(self) -> None:
        paths = report(published(A).talk(A, K2)).paths
        assert {path.target: path.state for path in paths} == {
            "kms1.contoso.example": PathState.UNKNOWN,
            K2: PathState.OK,
        }

    @pytest.mark.parametrize("outcome", ["connect_only", "not_kms", "not_known"])
    def test_what_was_only_tested_is_no_path(self, outcome: str) -> None:
        assert report(Traffic().talk(A, K1, outcome)).paths == ()

    def test_a_host_that_was_bound_and_not_asked_is_not_known(self) -> None:
        made = report(Traffic().talk(A, K1, "bound"))
        (path,) = made.paths
        assert (path.state, made.verdict.state) == (PathState.UNKNOWN, VerdictState.UNKNOWN)
        assert [stage.state for stage in path.routes[0].stages] == [State.OK, State.OK]
        assert path.clients == (ClientGroup("bound", State.UNKNOWN, 1, (A,)),)

    def test_told_no_host(self) -> None:
        path = only(Traffic().srv(CONTOSO, clients=[A, B]))
        assert (path.key, path.state, path.fails_at) == ((CONTOSO, NOWHERE, 0), PathState.FAIL, Stage.SRV)
        assert path.clients == (ClientGroup("nxdomain", State.FAIL, 2, (A, B)),)

    def test_a_suffix_without_a_record_harms_nobody_who_found_a_host_elsewhere(self) -> None:
        assert len(report(published(A).srv("corp.example", clients=[A]).talk(A, K1)).paths) == 1

    def test_a_port_scan_makes_no_path(self) -> None:
        traffic = Traffic()
        for number in range(20):
            traffic.talk(A, f"10.1.0.{number}", "unanswered")
        assert report(traffic).paths == ()
        assert report(traffic).verdict.state is VerdictState.UNKNOWN


class TestVerdict:
    def test_headlines(self) -> None:
        for traffic, headline in (
            (Traffic().talk(A, K1), "The only client was answered with success by 1 KMS host."),
            (Traffic().talk(A, K1).talk(B, K2), "All 2 clients were answered with success by 2 KMS hosts."),
            (Traffic().talk(A, K1, "refused"), "The only client failed to activate, at tcp."),
            (Traffic().talks([A, B], K1, "bind_nak"), "All 2 clients failed to activate, at rpc."),
            (
                Traffic().talks(CLIENTS, K1).talk(A, K1, "refused", at=7200).talk(B, K1, "host_refused", at=7200),
                "2 of 10 clients could not activate, 1 at tcp, 1 at answer.",
            ),
            (
                Traffic().talks(CLIENTS[1:], K1).talk(A, K1, "not_known"),
                "All 9 clients were answered with success by 1 KMS host (1 more: not known).",
            ),
            (
                Traffic().talk(A, K2, "refused").talks([A, B], K1, at=2),
                "All 2 clients were answered with success by 1 KMS host, 1 of them after an attempt that failed.",
            ),
            (Traffic(), "No attempt to activate is seen."),
            (
                Traffic().talk(A, K1, "not_known"),
                "No attempt to activate is seen to its end.",
            ),
        ):
            assert report(traffic).verdict.headline == headline

    def test_states(self) -> None:
        assert report(Traffic().talk(A, K1)).verdict.state is VerdictState.HEALTHY
        assert report(Traffic().talk(A, K1, "refused")).verdict.state is VerdictState.BROKEN
        assert report(Traffic().talk(A, K1).talk(B, K1, "refused")).verdict.state is VerdictState.DEGRADED
        assert report(Traffic()).verdict.state is VerdictState.UNKNOWN

    def test_who_is_hit(self) -> None:
        traffic = published(*CLIENTS[:8]).talks(CLIENTS[:8], K1).talks(CLIENTS[8:], K2, "unanswered")
        traffic.talk(A, K2, "refused", at=3).talk(A, K1, at=5)
        assert report(traffic).verdict.impact == (
            Impact(
                domain=f"{K2}:1688",
                hosts=1,
                first_pick_dead=1.0,
                delayed=0.0,
                fails=1.0,
                basis=Basis.OBSERVED,
                clients=2,
            ),
            Impact(
                domain=CONTOSO,
                hosts=1,
                first_pick_dead=0.125,
                delayed=0.125,
                fails=0.0,
                basis=Basis.OBSERVED,
                clients=8,
            ),
        )

    def test_one_host_in_two_domains_is_one_cause_with_all_clients(self) -> None:
        traffic = published(A).srv("fabrikam.example", record("kms1"), clients=[B]).talks([A, B], K1, "refused")
        (cause,) = report(traffic).verdict.causes
        assert "RST to 2 connection attempts of 2 clients (10.2.0.11 and 1 more)" in cause.text
        assert len(cause.paths) == 2

    def test_two_refusals_of_one_host_are_two_causes(self) -> None:
        traffic = Traffic().talk(A, K1, "host_refused").talk(B, K1, "host_refused", hresult="0xC004F06C")
        assert {cause.code for cause in report(traffic).verdict.causes} == {"answer.other_product", "answer.clock"}

    def test_an_address_is_not_said_twice(self) -> None:
        (cause,) = report(Traffic().talk(A, K1, "bind_nak")).verdict.causes
        assert cause.headline.count(K1) == 1

    def test_a_silent_host_beside_one_that_answers_is_no_firewall_near_here(self) -> None:
        traffic = Traffic().talk(A, K1, "unanswered").talk(A, K2, "unanswered").talk(A, "10.1.0.10", "refused")
        codes = [cause.code for cause in report(traffic).verdict.causes]
        assert codes.count("tcp.timeout") == 2

    def test_a_count_below_the_need_is_a_failure_though_the_host_says_success(self) -> None:
        traffic = Traffic().talk(A, K1, "below_threshold", version="4.0", count=3, required=25)
        (cause,) = report(traffic).verdict.causes
        assert cause.headline == f"{K1} has too low a count: 3 of 25"
        assert cause.screen == CAUSES["answer.below_threshold"].screen

    def test_what_captures_cannot_show_is_said(self) -> None:
        assert "what captures can't show" in [gap.what for gap in report(Traffic()).not_checked]


def live(state: TcpOutcome = TcpOutcome.OPEN) -> World:
    """contoso.example with kms1, asked from here."""
    world = World(CONTOSO).srv(record("kms1", priority=10)).name("kms1", K1).tcp(K1, state)
    return world.rpc(K1) if state is TcpOutcome.OPEN else world


class TestBoth:
    def test_the_same_path_is_one(self) -> None:
        made = report(published(A).talk(A, K1), live())
        (path,) = made.paths
        assert (path.state, path.note) == (PathState.OK, "")
        assert [stage.stage for stage in path.routes[0].stages] == [Stage.TCP, Stage.RPC, Stage.ANSWER]
        assert path.clients[0].count == 1

    def test_a_capture_without_dns_is_named_by_live_answers(self) -> None:
        (path,) = report(Traffic().talk(A, K1), live()).paths
        assert path.key == (CONTOSO, "kms1.contoso.example", 1688)

    def test_works_from_here_and_not_for_clients(self) -> None:
        made = report(published(A, B).talk(A, K1).talk(B, K1, "unanswered"), live())
        (path,) = made.paths
        assert path.state is PathState.PARTIAL
        assert path.note == "it works from here; in the captures 1 of 2 clients failed there (no answer to the SYN)"
        (remark,) = [one for one in made.verdict.remarks if one.code == "path.captures_differ"]
        assert remark.text == f"contoso.example → kms1.contoso.example:1688: {path.note}"

    def test_fails_from_here_and_works_for_clients(self) -> None:
        (path,) = report(published(A).talk(A, K1), live(TcpOutcome.TIMEOUT)).paths
        assert path.state is PathState.PARTIAL
        assert path.note == "it fails from here at stage tcp; in the captures it answered 1 of 1 client"

    def test_both_fail_alike(self) -> None:
        made = report(published(A).talk(A, K1, "unanswered"), live(TcpOutcome.TIMEOUT))
        (path,) = made.paths
        assert (path.state, path.fails_at, path.note) == (PathState.FAIL, Stage.TCP, "")
        (cause,) = made.verdict.causes
        assert "No answer to 1 attempt in 3.0 s" in cause.text
        assert "No answer to 1 connection attempt of 1 client" in cause.text

    def test_a_refused_request_is_no_contradiction_to_an_open_port(self) -> None:
        (path,) = report(published(A).talk(A, K1, "host_refused"), live()).paths
        assert (path.state, path.fails_at, path.note) == (PathState.FAIL, Stage.ANSWER, "")

    def test_dns_answers_from_here_and_not_for_clients(self) -> None:
        made = report(Traffic().srv(CONTOSO, clients=[A]), live())
        differing = [path for path in made.paths if path.note]
        assert [path.key for path in differing] == [(CONTOSO, NOWHERE, 0)]
        assert made.verdict.state is VerdictState.DEGRADED

    def test_not_tested_from_here_is_what_the_capture_says(self) -> None:
        world = World(CONTOSO).srv(record("kms1", priority=10)).name("kms1", K1)
        (path,) = report(published(A).talk(A, K1), world).paths
        assert path.state is PathState.OK

    def test_an_address_that_only_clients_use_is_a_route_of_its_own(self) -> None:
        traffic = Traffic().srv(CONTOSO, record("kms1", priority=10), clients=[A])
        traffic.name("kms1.contoso.example", K1, K2).talk(A, K2)
        (path,) = report(traffic, live()).paths
        assert [route.address for route in path.routes] == [K1, K2]

    def test_the_headline_speaks_of_both(self) -> None:
        made = report(published(A).talk(A, K1, "bind_nak"), live(TcpOutcome.REFUSED))
        assert made.verdict.headline == (
            "contoso.example: no way to a KMS host works from here; in the captures the only client failed to"
            " activate, at rpc."
        )

    def test_an_explicit_host_is_met_by_its_address(self) -> None:
        world = World(hosts=(HostSpec("kms9.contoso.example"),)).host("kms9", K1)
        (path,) = report(Traffic().talk(A, K1), world).paths
        assert path.key == (NOWHERE, "kms9.contoso.example", 1688)
        assert path.clients

    def test_rpc_that_is_closed_here_and_open_there(self) -> None:
        world = World(CONTOSO).srv(record("kms1", priority=10)).name("kms1", K1).tcp(K1).rpc(K1, RpcOutcome.CLOSED)
        (path,) = report(published(A).talk(A, K1), world).paths
        assert "fails from here at stage rpc" in path.note


class TestView:
    def test_who_failed_with_stage_and_reason(self) -> None:
        traffic = published(A, B).talk(A, K1, "host_refused", found="srv", machine="PC17").talk(B, K1)
        view = report(traffic).captures
        assert view is not None
        (row,) = view.clients
        assert (row.address, row.stage, row.outcome, row.hresults) == (A, Stage.ANSWER, "host_refused", ("0xC004F042",))
        assert (row.host, row.found_by, row.name, row.numbers) == (f"{K1}:1688", FoundBy.SRV, "PC17", (1,))
        assert (view.activated, view.failed, view.not_known) == (1, 1, 0)

    def test_a_client_that_came_to_no_host(self) -> None:
        view = report(Traffic().srv(CONTOSO, clients=[A])).captures
        assert view is not None
        (row,) = view.clients
        assert (row.host, row.domains, row.words) == ("", (CONTOSO,), DnsOutcome.NXDOMAIN.words)

    def test_of_a_selected_host_all_clients_are_shown(self) -> None:
        view = report(published(A, B).talk(A, K1).talk(B, K1, "refused"), selection=Selection(hosts=(K1,))).captures
        assert view is not None
        assert [row.address for row in view.clients] == [B, A]

    def test_outcomes_and_filter(self) -> None:
        view = report(Traffic().talk(A, K1).talk(B, K2, "refused", port=1700)).captures
        assert view is not None
        assert [(row.outcome, row.conversations, row.clients, row.numbers) for row in view.outcomes] == [
            ("refused", 1, 1, (2,)),
            ("activated", 1, 1, (1,)),
        ]
        assert view.filter == 'tcp.port == 1688 || tcp.port == 1700 || lower(dns.qry.name) contains "_vlmcs._tcp"'

    def test_refusals_are_named_by_code(self) -> None:
        traffic = Traffic().talk(A, K1, "host_refused").talk(B, K2, "host_refused", hresult="0xC004F0FF")
        view = report(traffic).captures
        assert view is not None
        (row,) = view.outcomes
        assert row.words == (
            "the host refused (HRESULT): 0xC004F042 its key is for other products,"
            " 0xC004F0FF licensing service error 0xF0FF"
        )

    def test_a_run_without_captures_has_none(self) -> None:
        assert live().report(NO_CHECKS).captures is None

    def test_captures_that_could_not_be_read(self) -> None:
        made = World().captures("cut off").report(NO_CHECKS)
        assert made.captures is None
        assert made.verdict.state is VerdictState.UNKNOWN


def test_the_order_of_clients_and_hosts_in_the_answer_is_the_only_order() -> None:
    answer = published(*CLIENTS).talks(CLIENTS, K1, "refused").talks(CLIENTS, K2, at=3).answer()
    one, two = (World().captures(answer).report(NO_CHECKS) for _number in range(2))
    assert msgspec.json.encode(one) == msgspec.json.encode(two)
