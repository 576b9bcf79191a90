"""Many places in one picture: what is known from where, and the smallest cause that what fails has in common."""

import datetime
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag import compare
from kmsdiag.merge import Merger
from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.audit import Audit, Requirement, RequirementState
from kmsdiag.model.finding import Severity
from kmsdiag.model.merged import CauseKind, CommonCause, Merged, Outcome
from kmsdiag.model.outcome import DnsOutcome, RpcOutcome, Stage, State, TcpOutcome
from kmsdiag.model.path import Basis, ClientCode, PathState, VerdictState
from kmsdiag.model.report import FILES, Report
from kmsdiag.model.request import SrvQuery
from kmsdiag.model.target import HostSpec
from kmsdiag.report import json as rendered
from kmsdiag.report import views
from tests.conftest import AT, DOMAIN, World, record
from tests.labruns import NAMES, hostile_report, runs
from tests.places import (
    BRANCH,
    CLIENTS,
    DEPOT,
    GOOD,
    HQ,
    KMS1,
    KMS2,
    OLD,
    STALE,
    asking,
    blocked,
    captured,
    healthy,
    no_dns,
    seen,
    stale,
)
from tests.test_reports import CAPTURED, IN_CAPTURES, JSON_VALUES, PLACES, captured_report, changed, read
from tests.traffic import Traffic

KMS = f"kms1.{DOMAIN}:1688"
GONE = f"kms-old.{DOMAIN}:1688"


def merged(*reports: Report, missing: Iterable[str] = ()) -> Merged:
    merger = Merger()
    for report in reports:
        merger.add(report, f"{report.vantage.label}.json")
    for source in missing:
        merger.miss(source, f"{source} can't be used: it is empty")
    return merger.picture()


def causes(picture: Merged) -> list[tuple[CauseKind, str, tuple[str, ...]]]:
    return [(cause.kind, cause.name, cause.vantages) for cause in picture.causes]


def only(picture: Merged) -> CommonCause:
    (cause,) = picture.causes
    return cause


def outcomes(picture: Merged, host: str) -> dict[str, Outcome]:
    """Outcomes of the way to a host by place."""
    (way,) = (way for way in picture.ways if f"{way.target}:{way.port}" == host)
    return {label: outcome for outcome in way.outcomes for label in outcome.vantages}


# ------------------------------------------------------------------------------------------------ what is the cause


def test_nothing_fails() -> None:
    picture = merged(seen(healthy(), "hq", HQ), seen(healthy(STALE), "branch", BRANCH))
    assert (picture.state, picture.causes, picture.notes) == (VerdictState.HEALTHY, (), ())
    assert picture.headline == "2 of 2 places healthy."


def test_a_blocked_place_and_one_with_a_stale_server_are_two_causes() -> None:
    picture = merged(seen(healthy(), "hq", HQ), seen(blocked(), "branch", BRANCH), seen(stale(), "depot", DEPOT))
    assert picture.state is VerdictState.DEGRADED
    assert causes(picture) == [
        (CauseKind.SERVER, STALE, ("depot",)),
        (CauseKind.VANTAGE, "branch", ("branch",)),
    ]
    server, place = picture.causes
    assert server.headline == (
        f"DNS server {STALE} does not name {KMS}, which works elsewhere;"
        f" leads to {GONE} ({OLD}), which fails at tcp (silent)"
    )
    assert server.works_at == ("hq", "branch")
    assert place.headline == f"Only from branch: {KMS} ({KMS1}) fails at tcp (silent)"
    assert place.text == f"The trouble is at branch ({BRANCH}) alone, or on the way from there. The same works from hq."
    assert place.screen is not None
    assert place.screen.code == "0xC004F074"


def test_all_failing_places_share_a_network() -> None:
    inside = [seen(blocked(), f"b{number}", f"10.30.1.{number}") for number in (5, 6, 200)]
    picture = merged(seen(healthy(), "hq", HQ), *inside, seen(healthy(), "depot", DEPOT))
    cause = only(picture)
    assert (cause.kind, cause.name, cause.vantages) == (CauseKind.NETWORK, "10.30.1.0/24", ("b5", "b6", "b200"))
    assert cause.works_at == ("hq", "depot")
    assert "The same works from hq, depot." in cause.text
    assert [fix.command for fix in cause.fixes if fix.command] == [f"Test-NetConnection kms1.{DOMAIN} -Port 1688"]


def test_a_site_of_several_networks() -> None:
    inside = [seen(blocked(), f"b{number}", f"10.30.{number}.5") for number in (1, 2, 3)]
    cause = only(merged(seen(healthy(), "hq", HQ), *inside))
    assert (cause.kind, cause.name) == (CauseKind.NETWORK, "10.30.0.0/16")


def test_a_network_in_which_it_works_for_one_is_not_the_cause() -> None:
    picture = merged(
        seen(blocked(), "b1", "10.30.1.1"), seen(healthy(), "b2", "10.30.1.2"), seen(blocked(), "b3", "10.30.1.3")
    )
    assert causes(picture) == [(CauseKind.VANTAGE, "b1", ("b1",)), (CauseKind.VANTAGE, "b3", ("b3",))]


def test_the_smaller_network_is_named_where_both_fit() -> None:
    cause = only(
        merged(seen(healthy(), "hq", HQ), seen(blocked(), "b1", "10.30.1.1"), seen(blocked(), "b2", "10.30.1.2"))
    )
    assert cause.name == "10.30.1.0/24"


def test_networks_of_ipv6() -> None:
    inside = [seen(blocked(), f"b{number}", f"2001:db8:30:1::{number}") for number in (1, 2)]
    cause = only(merged(seen(healthy(), "hq", "2001:db8:20:1::1"), *inside))
    assert (cause.kind, cause.name) == (CauseKind.NETWORK, "2001:db8:30:1::/64")


@pytest.mark.parametrize("addresses", [(), ("127.0.0.1",), ("169.254.7.7", "fe80::1"), ("here",)])
def test_places_without_a_network_of_their_own(addresses: tuple[str, ...]) -> None:
    picture = merged(seen(healthy(), "hq", HQ), seen(blocked(), "b1", *addresses), seen(blocked(), "b2", *addresses))
    assert [cause.kind for cause in picture.causes] == [CauseKind.VANTAGE, CauseKind.VANTAGE]


def test_a_host_that_works_from_nowhere() -> None:
    picture = merged(seen(blocked(), "hq", HQ), seen(blocked(outcome=TcpOutcome.REFUSED), "branch", BRANCH))
    assert picture.state is VerdictState.BROKEN
    cause = only(picture)
    assert (cause.kind, cause.name, cause.vantages, cause.works_at) == (CauseKind.HOST, KMS, ("hq", "branch"), ())
    assert "fails at tcp (refused)" in cause.headline
    assert "fails at tcp (silent)" in cause.headline


def test_both_addresses_of_a_dead_host_are_one_cause() -> None:
    world = asking(GOOD, "kms1").name("kms1", KMS1, "fd00::8", server=GOOD)
    world.tcp(KMS1, TcpOutcome.TIMEOUT).tcp("fd00::8", TcpOutcome.TIMEOUT)
    assert causes(merged(seen(world, "hq", HQ))) == [(CauseKind.HOST, KMS, ("hq",))]


def test_a_host_that_answers_and_is_no_kms_host() -> None:
    def world() -> World:
        return asking(GOOD, "kms1").name("kms1", KMS1, server=GOOD).tcp(KMS1).rpc(KMS1, RpcOutcome.REJECTED)

    picture = merged(seen(world(), "hq", HQ), seen(world(), "branch", BRANCH), seen(blocked(), "depot", DEPOT))
    # That TCP is cut off from the depot is another thing: elsewhere the connection comes about.
    assert causes(picture) == [
        (CauseKind.HOST, KMS, ("hq", "branch")),
        (CauseKind.VANTAGE, "depot", ("depot",)),
    ]


def test_a_domain_without_records() -> None:
    picture = merged(
        seen(no_dns(GOOD, DnsOutcome.NXDOMAIN), "hq", HQ), seen(no_dns(STALE, DnsOutcome.NXDOMAIN), "branch", BRANCH)
    )
    assert picture.state is VerdictState.BROKEN
    assert causes(picture) == [(CauseKind.DOMAIN, DOMAIN, ("hq", "branch"))]
    assert "slmgr /sdns" in only(picture).fixes[0].command


@pytest.mark.parametrize(
    ("outcome", "commands"),
    [
        (DnsOutcome.NXDOMAIN, ["slmgr /sdns; Restart-Service sppsvc"]),
        (DnsOutcome.REFUSED, [f"dig @{GOOD} _vlmcs._tcp.{DOMAIN} SRV"]),
    ],
)
def test_what_to_do_fits_what_the_servers_say(outcome: DnsOutcome, commands: list[str]) -> None:
    """Two servers that refuse, each asked by everybody: that no host publishes itself is not known then."""
    world = World(DOMAIN, servers=(GOOD, STALE)).srv(outcome=outcome, server=GOOD).srv(outcome=outcome, server=STALE)
    cause = only(merged(seen(world, "hq", HQ), seen(world, "branch", BRANCH)))
    assert cause.kind is CauseKind.DOMAIN
    assert [fix.command for fix in cause.fixes] == [
        *commands,
        f"Resolve-DnsName -Type SRV -DnsOnly _vlmcs._tcp.{DOMAIN}",
    ]


def test_a_server_that_alone_has_no_records() -> None:
    picture = merged(seen(healthy(), "hq", HQ), seen(no_dns(STALE, DnsOutcome.NXDOMAIN), "branch", BRANCH))
    assert causes(picture) == [(CauseKind.SERVER, STALE, ("branch",))]
    assert only(picture).fixes[0].command == f"dig @{STALE} _vlmcs._tcp.{DOMAIN} SRV"


def test_all_failing_places_use_a_server_that_is_down() -> None:
    picture = merged(
        seen(healthy(), "hq", HQ), seen(no_dns(STALE), "branch", BRANCH), seen(no_dns(STALE), "depot", DEPOT)
    )
    assert causes(picture) == [(CauseKind.SERVER, STALE, ("branch", "depot"))]
    assert only(picture).text.startswith("Both places with this trouble asked this server: branch, depot.")


def test_a_server_that_is_silent_to_one_network_alone() -> None:
    picture = merged(
        seen(healthy(), "hq", HQ), seen(no_dns(GOOD), "b1", "10.30.1.1"), seen(no_dns(GOOD), "b2", "10.30.1.2")
    )
    assert causes(picture) == [(CauseKind.NETWORK, "10.30.1.0/24", ("b1", "b2"))]


def test_a_server_with_two_faces() -> None:
    """One server, other records for one network: it can't be the server's copy, so it is the network's view."""
    picture = merged(
        seen(healthy(), "hq", HQ),
        seen(no_dns(GOOD, DnsOutcome.NXDOMAIN), "b1", "10.30.1.1"),
        seen(no_dns(GOOD, DnsOutcome.NXDOMAIN), "b2", "10.30.1.2"),
    )
    assert causes(picture) == [(CauseKind.NETWORK, "10.30.1.0/24", ("b1", "b2"))]


def test_a_server_that_leads_to_a_name_without_address() -> None:
    world = asking(STALE, "kms-old").name("kms-old", server=STALE, absent=DnsOutcome.NXDOMAIN)
    picture = merged(seen(healthy(), "hq", HQ), seen(world, "depot", DEPOT))
    cause = only(picture)
    assert (cause.kind, cause.name) == (CauseKind.SERVER, STALE)
    assert f"has no address of {GONE} (NXDOMAIN)" in cause.headline


def test_the_machines_own_resolvers_are_told_apart_by_who_answered() -> None:
    """With ``system`` the answer itself says which server gave it."""

    def world(server: str, host: str, address: str, outcome: TcpOutcome) -> World:
        made = World(DOMAIN, resolvers=(GOOD, STALE)).srv(record(host)).name(host, address).tcp(address, outcome)
        if outcome is TcpOutcome.OPEN:
            made.rpc(address)
        for question, answer in made.facts.items():
            if hasattr(answer, "server"):
                made.facts[question] = msgspec.structs.replace(answer, server=server)
        return made

    picture = merged(
        seen(world(GOOD, "kms1", KMS1, TcpOutcome.OPEN), "hq", HQ),
        seen(world(STALE, "kms-old", OLD, TcpOutcome.TIMEOUT), "depot", DEPOT),
    )
    assert causes(picture) == [(CauseKind.SERVER, STALE, ("depot",))]


def test_what_can_not_be_told_apart_is_said() -> None:
    """Only the stale server names the host that is silent: the record may be wrong, or the host down."""
    world = asking(STALE, "kms1", "kms-old").name("kms1", KMS1, server=STALE).name("kms-old", OLD, server=STALE)
    world.tcp(KMS1).rpc(KMS1).tcp(OLD, TcpOutcome.TIMEOUT)
    cause = only(merged(seen(healthy(), "hq", HQ), seen(world, "depot", DEPOT)))
    assert (cause.kind, cause.name, cause.instead) == (CauseKind.SERVER, STALE, (f"host {GONE}",))
    assert f"It may be host {GONE} instead" in cause.text


def test_a_host_set_by_hand() -> None:
    def world(outcome: TcpOutcome) -> World:
        made = World(hosts=(HostSpec(KMS1),)).tcp(KMS1, outcome)
        return made.rpc(KMS1) if outcome is TcpOutcome.OPEN else made

    picture = merged(seen(world(TcpOutcome.OPEN), "hq", HQ), seen(world(TcpOutcome.TIMEOUT), "branch", BRANCH))
    assert causes(picture) == [(CauseKind.VANTAGE, "branch", ("branch",))]
    assert [way.domain for way in picture.ways] == ["–"]


def test_the_fewest_causes_win() -> None:
    """Three hosts are silent from one network: one cause and not three."""

    def world(outcome: TcpOutcome) -> World:
        made = asking(GOOD, "kms1", "kms2").name("kms1", KMS1, server=GOOD).name("kms2", KMS2, server=GOOD)
        for address in (KMS1, KMS2):
            made.tcp(address, outcome)
            if outcome is TcpOutcome.OPEN:
                made.rpc(address)
        return made

    picture = merged(
        seen(world(TcpOutcome.OPEN), "hq", HQ),
        seen(world(TcpOutcome.TIMEOUT), "b1", "10.30.1.1"),
        seen(world(TcpOutcome.TIMEOUT), "b2", "10.30.1.2"),
    )
    cause = only(picture)
    assert cause.kind is CauseKind.NETWORK
    assert KMS1 in cause.headline
    assert KMS2 in cause.headline


def test_a_host_left_out_where_all_else_works_is_a_note_and_no_cause() -> None:
    """Sites may have hosts of their own on purpose."""
    other = asking(STALE, "kms2").name("kms2", KMS2, server=STALE).tcp(KMS2).rpc(KMS2)
    picture = merged(seen(healthy(), "hq", HQ), seen(other, "depot", DEPOT))
    assert (picture.state, picture.causes) == (VerdictState.HEALTHY, ())
    assert [note for note in picture.notes if KMS in note and STALE in note and "depot" in note]


def test_a_dead_host_that_a_server_leaves_out_is_no_trouble() -> None:
    picture = merged(seen(healthy(), "hq", HQ), seen(stale(), "depot", DEPOT))
    assert outcomes(picture, GONE)["hq"].state is PathState.UNKNOWN
    assert "hq" not in {label for cause in picture.causes for label in cause.vantages}


# --------------------------------------------------------------------------------------------------- what is known


def test_a_place_without_data_is_never_healthy() -> None:
    picture = merged(seen(healthy(), "hq", HQ), missing=["far/branch.json"])
    assert (picture.state, picture.headline) == (VerdictState.UNKNOWN, "1 of 2 places healthy, 1 without data.")
    (place,) = (view for view in picture.vantages if view.problem)
    assert (place.label, place.source, place.state) == ("branch", "far/branch.json", VerdictState.UNKNOWN)
    assert [way.not_known for way in picture.ways] == [1]
    assert outcomes(picture, KMS).keys() == {"hq"}


def test_a_run_that_tested_nothing_is_no_data_either() -> None:
    untested = World(DOMAIN, servers=(GOOD,)).gap(SrvQuery(name=f"_vlmcs._tcp.{DOMAIN}", server=GOOD))
    picture = merged(seen(healthy(), "hq", HQ), seen(untested, "branch", BRANCH))
    assert picture.state is VerdictState.UNKNOWN
    assert any(note.startswith("branch: nothing was tested") for note in picture.notes)


def test_a_machine_that_can_not_send_says_nothing_of_the_host() -> None:
    picture = merged(seen(healthy(), "hq", HQ), seen(blocked(outcome=TcpOutcome.NO_ROUTE), "branch", BRANCH))
    assert picture.causes == ()
    assert outcomes(picture, KMS)["branch"].state is PathState.UNKNOWN
    assert picture.state is VerdictState.UNKNOWN


def test_places_that_were_asked_about_another_domain_know_nothing_of_this_one() -> None:
    other = asking(GOOD, "kms9", domain="fabrikam.example").name("kms9", KMS2, server=GOOD).tcp(KMS2).rpc(KMS2)
    picture = merged(seen(healthy(), "hq", HQ), seen(other, "branch", BRANCH))
    assert picture.state is VerdictState.HEALTHY
    assert [(way.target, way.not_known) for way in picture.ways] == [(f"kms1.{DOMAIN}", 1), (f"kms9.{DOMAIN}", 1)]


def test_cells_are_works_fails_and_not_known() -> None:
    picture = merged(seen(healthy(), "hq", HQ), seen(blocked(), "branch", BRANCH), seen(stale(), "depot", DEPOT))
    cells = {
        label: [(cell.stage, cell.state, cell.note) for cell in outcome.stages]
        for label, outcome in outcomes(picture, KMS).items()
    }
    assert cells == {
        "hq": [
            (Stage.SRV, State.OK, ""),
            (Stage.NAME, State.OK, ""),
            (Stage.TCP, State.OK, ""),
            (Stage.RPC, State.OK, "KMS"),
        ],
        "branch": [(Stage.SRV, State.OK, ""), (Stage.NAME, State.OK, ""), (Stage.TCP, State.FAIL, "silent")],
        "depot": [(Stage.SRV, State.FAIL, "not named")],
    }


def test_equal_places_stand_together_whatever_their_server() -> None:
    places = [seen(healthy(f"10.0.{number}.53"), f"p{number}", f"10.{number}.0.5") for number in range(20)]
    (way,) = merged(*places).ways
    (outcome,) = way.outcomes
    assert outcome.vantages == tuple(f"p{number}" for number in range(20))


def test_two_silent_servers_are_both_shown() -> None:
    world = World(DOMAIN, servers=(GOOD, STALE))
    for server in (GOOD, STALE):
        world.srv(outcome=DnsOutcome.TIMEOUT, server=server)
    (way,) = merged(seen(world, "hq", HQ)).ways
    (outcome,) = way.outcomes
    assert [(cell.at, cell.note) for cell in outcome.stages] == [(GOOD, "silent"), (STALE, "silent")]


# ---------------------------------------------------------------------------------------------------------- labels


def test_the_same_label_twice() -> None:
    picture = merged(
        seen(healthy(), "hq", HQ), seen(healthy(), "hq", BRANCH), seen(healthy(), "hq#2", DEPOT), missing=["hq.json"]
    )
    labels = [view.label for view in picture.vantages]
    assert labels == ["hq", "hq#2", "hq#2#2", "hq#3"]
    assert [note for note in picture.notes if note.startswith("the label hq is given more than once; hq#2 is hq.json")]


def test_runs_that_lie_far_apart_are_noted() -> None:
    late = msgspec.structs.replace(seen(healthy(), "branch", BRANCH), started=AT + datetime.timedelta(hours=30))
    assert merged(seen(healthy(), "hq", HQ), late).notes == (
        "the runs lie 30 h apart; what changed meanwhile looks like a difference between places",
    )


def test_an_interrupted_run_is_noted() -> None:
    cut = msgspec.structs.replace(seen(healthy(), "branch", BRANCH), interrupted=True)
    assert any(note.startswith("branch: the run was interrupted") for note in merged(cut).notes)


def test_findings_of_a_place_are_counted() -> None:
    report = runs()["mixed"].report
    severities = [finding.severity for result in report.results for finding in result.findings]
    (view,) = merged(report).vantages
    assert (view.errors, view.warnings) == (severities.count(Severity.ERROR), severities.count(Severity.WARNING))
    assert view.worst is max(severities, key=lambda severity: severity.rank)


def test_a_failed_requirement_counts_and_a_waived_one_does_not() -> None:
    def audited(waived: str) -> Report:
        one = Requirement(code="audit.network", what="the lab activates", state=RequirementState.FAIL, waived=waived)
        return msgspec.structs.replace(seen(healthy(), "hq", HQ), audit=Audit(requirements=(one,)))

    worst = [view.worst for view in merged(audited(""), audited("until the move")).vantages]
    assert worst == [Severity.ERROR, Severity.OK]


# ------------------------------------------------------------------------------------------------------ everything


def test_every_scenario_merges() -> None:
    picture = merged(*(runs()[name].report for name in NAMES))
    assert len(picture.vantages) == len(NAMES)
    failing = {path.key for name in NAMES for path in runs()[name].report.paths if path.state is PathState.FAIL}
    explained = {cause.name for cause in picture.causes}
    assert failing
    assert explained


def test_the_hostile_one_merges() -> None:
    picture = merged(hostile_report(), seen(healthy(), "hq", HQ))
    assert picture.causes
    assert all("\x1b" not in cause.headline + cause.text for cause in picture.causes)


def test_the_picture_is_the_same_each_time() -> None:
    reports = (seen(healthy(), "hq", HQ), seen(blocked(), "branch", BRANCH), seen(stale(), "depot", DEPOT))
    merger = Merger()
    for report in reports:
        merger.add(report, f"{report.vantage.label}.json")
    assert merger.picture() == merger.picture() == merged(*reports)


# -------------------------------------------------------------------------------------------------------- captures


def busy(*ends: str) -> World:
    """Captured clients of one host that they know without DNS, each with its end."""
    traffic = Traffic()
    for client, end in zip(CLIENTS, ends, strict=False):
        traffic.talk(client, KMS1, end, found="nothing", count=3, required=25)
    return captured(traffic)


class TestCaptures:
    def test_a_way_without_a_domain_with_its_stages(self) -> None:
        picture = merged(seen(busy("activated"), "a"), seen(busy("request_reset"), "b"))
        (way,) = picture.ways
        assert (way.domain, way.target, way.port) == ("–", KMS1, 1688)
        cells = {
            label: [(cell.stage, cell.state) for cell in one.stages]
            for label, one in outcomes(picture, f"{KMS1}:1688").items()
        }
        assert cells == {
            "a": [(Stage.TCP, State.OK), (Stage.RPC, State.OK), (Stage.ANSWER, State.OK)],
            "b": [(Stage.TCP, State.OK), (Stage.RPC, State.OK), (Stage.REQUEST, State.FAIL)],
        }

    def test_a_host_that_activates_nobody(self) -> None:
        cause = only(merged(seen(busy("below_threshold"), "a"), seen(busy("below_threshold"), "b")))
        assert (cause.kind, cause.name, cause.vantages) == (CauseKind.HOST, f"{KMS1}:1688", ("a", "b"))
        assert cause.headline == (
            f"KMS host {KMS1}:1688 is reached and activates nobody: {KMS1}:1688 fails at answer (count too low)"
        )
        assert cause.screen == ClientCode("0xC004F038", Basis.DOCUMENTED)
        assert cause.fixes[0].command == "slmgr /dlv"
        assert not any("Test-NetConnection" in fix.command for fix in cause.fixes), "the port is open"

    def test_the_code_of_a_captured_failure_is_that_of_its_cause(self) -> None:
        cause = only(merged(seen(busy("unanswered"), "a")))
        assert cause.screen == ClientCode("0xC004F074", Basis.DOCUMENTED)
        assert cause.headline == f"KMS host {KMS1}:1688 works from nowhere: {KMS1}:1688 fails at tcp (silent)"

    def test_a_host_that_fails_some_clients_of_each_place_is_one_cause(self) -> None:
        cause = only(
            merged(seen(busy("activated", "host_refused"), "a"), seen(busy("host_refused", *["activated"] * 3), "b"))
        )
        assert (cause.kind, cause.vantages, cause.works_at) == (CauseKind.HOST, ("a", "b"), ())
        assert cause.headline.startswith(f"KMS host {KMS1}:1688 works for some of its clients only: ")
        assert "fails at answer (1/2 refused); " in cause.headline
        assert cause.text == "Seen from a, b. Other clients there do not have it."

    def test_some_clients_of_one_place_where_all_of_another_succeed(self) -> None:
        cause = only(merged(seen(busy("activated", "host_refused"), "a"), seen(busy("activated"), "b")))
        assert (cause.kind, cause.name, cause.works_at) == (CauseKind.VANTAGE, "a", ("b",))
        assert cause.text.startswith("The trouble is with the clients at a, or on the way from there. ")
        assert cause.fixes[0].command == "slmgr /dlv"

    def test_a_host_that_some_clients_reach_is_not_why_another_place_is_cut_off(self) -> None:
        picture = merged(seen(busy("activated", "unanswered"), "a"), seen(busy("unanswered"), "b", BRANCH))
        assert causes(picture) == [
            (CauseKind.HOST, f"{KMS1}:1688", ("a",)),
            (CauseKind.VANTAGE, "b", ("b",)),
        ]
        assert picture.causes[1].works_at == ("a",)

    def test_an_address_is_called_by_the_name_that_another_place_knows(self) -> None:
        cause = only(merged(seen(blocked(), "hq", HQ), seen(busy("unanswered"), "a")))
        assert (cause.kind, cause.name, cause.vantages) == (CauseKind.HOST, KMS, ("hq", "a"))

    def test_an_open_port_asked_from_here_clears_the_host_of_what_captured_clients_lack(self) -> None:
        cause = only(merged(seen(healthy(), "hq", HQ), seen(busy("unanswered"), "a")))
        assert (cause.kind, cause.name, cause.works_at) == (CauseKind.VANTAGE, "a", ("hq",))

    def test_a_dns_server_that_failed_captured_clients(self) -> None:
        def told(server: str, *records: SrvRecord) -> World:
            return captured(Traffic().srv(DOMAIN, *records, clients=CLIENTS[:2], server=server))

        picture = merged(seen(told(STALE), "a"), seen(healthy(), "hq", HQ))
        cause = only(picture)
        assert (cause.kind, cause.name, cause.vantages) == (CauseKind.SERVER, STALE, ("a",))
        assert cause.headline == f"DNS server {STALE} fails the SRV question for {DOMAIN} (NXDOMAIN)"
        assert [view.servers for view in picture.vantages] == [(STALE,), (GOOD,)]

    def test_places_known_by_their_files_are_called_by_them(self) -> None:
        merger = Merger()
        for source in ("/srv/hq.json", "branch.json"):
            merger.add(seen(busy("activated"), FILES), source)
        picture = merger.picture()
        assert [view.label for view in picture.vantages] == ["hq", "branch"]
        assert picture.notes == ()

    def test_captures_beside_live_questions_in_one_run(self) -> None:
        world = healthy().captures(Traffic().talk(CLIENTS[0], KMS1, "below_threshold", count=3, required=25).answer())
        cause = only(merged(seen(world, "hq", HQ), seen(healthy(), "branch", BRANCH)))
        assert (cause.kind, cause.name, cause.stage) == (CauseKind.HOST, KMS, Stage.ANSWER)


@settings(max_examples=80)
@given(st.lists(st.tuples(st.sampled_from(IN_CAPTURES), JSON_VALUES), min_size=1, max_size=3))
def test_whatever_of_captures_can_be_read_can_be_merged_and_compared(
    changes: list[tuple[tuple[str | int, ...], object]],
) -> None:
    good = captured_report()
    reports = [report for path, value in changes if (report := read(changed(path, value, CAPTURED))) is not None]
    picture = merged(good, *reports)
    for report in reports:
        for document in (picture, compare.difference(good, report, ("old.json", "new.json")), report):
            views.as_lines(document, verbosity=2, width=80, unicode=False)
            views.as_markdown(document)
            views.as_junit(document, Severity.ERROR)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(PLACES), JSON_VALUES), min_size=1, max_size=3))
def test_whatever_can_be_read_can_be_merged_and_compared(changes: list[tuple[tuple[str | int, ...], object]]) -> None:
    """Readers refuse what they can't stand for; what they let through ends no command."""
    good = runs()["mixed"].report
    reports = [report for path, value in changes if (report := read(changed(path, value))) is not None]
    picture = merged(good, *reports)
    assert rendered.render(picture)
    for report in reports:
        for one, other in ((good, report), (report, good)):
            found = compare.difference(one, other, ("old.json", "new.json"))
            for document in (picture, found, report):
                views.as_lines(document, verbosity=2, width=80, unicode=False)
                views.as_markdown(document)
                views.as_junit(document, Severity.ERROR)
