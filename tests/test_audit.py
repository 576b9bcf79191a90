import datetime
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from kmsdiag import audit, compare, diagnosis
from kmsdiag.bundle import Bundle
from kmsdiag.model.audit import Requirement, RequirementState, WaiverUse
from kmsdiag.model.finding import Severity
from kmsdiag.model.outcome import DnsOutcome, TcpOutcome
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.request import SrvQuery
from kmsdiag.model.target import Expected, ExpectedHost, Network, Product, Site
from kmsdiag.policy import ExitCode, FailOn, Policy, Waiver, exit_code
from kmsdiag.registry import Registry, discover
from kmsdiag.report import junit
from tests.conftest import AT, DOMAIN, World, record

PASS, FAIL, NOT_KNOWN = RequirementState.PASS, RequirementState.FAIL, RequirementState.NOT_KNOWN
DNS, BRANCH_DNS = "10.1.0.2", "10.7.0.2"
KMS1, KMS2 = f"kms1.{DOMAIN}", f"kms2.{DOMAIN}"
HQ = Site(name="hq", domain=DOMAIN, servers=(DNS,), client=50, server=6)
BRANCH = Site(name="branch", domain=DOMAIN, servers=(BRANCH_DNS,))
DESKS = Network(name="desks", address="10.1.0.0/16", site="hq")
FAR = Network(name="far", address="10.7.0.0/16", site="branch")


def host(name: str, **fields: Any) -> ExpectedHost:
    return ExpectedHost(f"{name}.{DOMAIN}", **{"domains": (DOMAIN,), **fields})


def plan(*hosts: ExpectedHost, **fields: Any) -> Expected:
    return Expected(**{"hosts": hosts or (host("kms1"),), "planned": True, "sites": (HQ,), **fields})


def asked(expected: Expected, *servers: str) -> World:
    """A world in which clocks, ways and zones are nobody's business."""
    world = World(DOMAIN, servers=servers or (DNS,), expected=expected)
    world.target = msgspec.structs.replace(world.target, clock=False, trace=False)
    return world


def works(world: World, *records: Any, server: str = DNS) -> World:
    """Records at one server, and hosts that answer as KMS."""
    world.srv(*(records or (record("kms1"),)), server=server)
    for one in records or (record("kms1"),):
        number = "8" if one.target == KMS1 else "9"
        world.name(one.target, f"10.1.0.{number}", server=server)
        world.tcp(f"10.1.0.{number}", port=one.port).rpc(f"10.1.0.{number}", port=one.port)
    return world


def judged(world: World, *others: Report, label: str = "here", policy: Policy | None = None, **vantage: Any) -> Report:
    bundle = msgspec.structs.replace(world.bundle(), vantage=Vantage(label=label, **vantage))
    return judge(bundle, *others, policy=policy)


def judge(bundle: Bundle, *others: Report, policy: Policy | None = None) -> Report:
    checks = discover().select(
        ["hosts_expected", "plan_domains", "plan_hosts", "plan_thresholds", "hosts_public", "rpc_service"]
    )
    return diagnosis.judge(bundle, checks, policy, others)


def requirements(report: Report) -> dict[str, Requirement]:
    assert report.audit is not None
    return {one.what: one for one in report.audit.requirements}


def states(report: Report) -> dict[str, RequirementState]:
    return {what: one.state for what, one in requirements(report).items()}


class TestByChecks:
    def test_all_is_well(self) -> None:
        expected = plan(host("kms1", priority=0, addresses=("10.1.0.8",)), max_hosts=1)
        assert states(judged(works(asked(expected)))) == {
            f"{DOMAIN} publishes a KMS host, at every DNS server asked": PASS,
            # That check was not run here.
            f"the DNS servers of {DOMAIN} give the same records": NOT_KNOWN,
            f"{DOMAIN} publishes at most 1 host": PASS,
            f"{DOMAIN} publishes a host for Windows": PASS,
            f"{KMS1}:1688 (priority 0, 10.1.0.8) is published in {DOMAIN}": PASS,
            "no other host is published": PASS,
            "Windows clients meet the 25 that they need at every host they pick": PASS,
            "Windows servers meet the 5 that they need at every host they pick": PASS,
        }

    def test_what_did_not_run_is_not_known(self) -> None:
        found = requirements(judged(works(asked(plan()))))[f"the DNS servers of {DOMAIN} give the same records"]
        assert found.why == "the check dns_servers_agree did not run"

    @pytest.mark.parametrize(
        ("records", "expected", "what"),
        [
            ((record("kms1", port=1689),), plan(), f"{KMS1}:1688 is published in {DOMAIN}"),
            (
                (record("kms1", 5),),
                plan(host("kms1", priority=0)),
                f"{KMS1}:1688 (priority 0) is published in {DOMAIN}",
            ),
            (
                (record("kms1"),),
                plan(host("kms1", addresses=("10.1.0.7",))),
                f"{KMS1}:1688 (10.1.0.7) is published in {DOMAIN}",
            ),
            ((record("kms1"),), plan(host("kms1"), host("kms2")), f"{KMS2}:1688 is published in {DOMAIN}"),
            ((record("kms1"), record("kms2")), plan(), "no other host is published"),
            ((record("kms1"), record("kms2")), plan(max_hosts=1), f"{DOMAIN} publishes at most 1 host"),
            (
                (record("kms1"), record("kms2")),
                plan(host("kms1"), host("kms2"), sites=(Site(name="hq", domain=DOMAIN, client=30),)),
                "Windows clients meet the 25 that they need at every host they pick",
            ),
            (
                (record("kms1"),),
                plan(
                    host("kms1", serves=(Product.WINDOWS,)),
                    host("kms2"),
                    sites=(Site(name="hq", domain=DOMAIN, office=30),),
                ),
                f"{DOMAIN} publishes a host for Office",
            ),
        ],
    )
    def test_each_difference_fails_its_own_requirement(
        self, records: tuple[Any, ...], expected: Expected, what: str
    ) -> None:
        report = judged(works(asked(expected), *records))
        found = requirements(report)[what]
        assert (found.state, found.severity, found.seen_from) == (FAIL, Severity.ERROR, ("here",))
        assert found.why
        assert exit_code(report, FailOn.ERROR) is ExitCode.FINDINGS
        assert exit_code(report, FailOn.NEVER) is not ExitCode.FINDINGS

    def test_one_record_that_changed_is_one_failure(self) -> None:
        before = states(judged(works(asked(plan(host("kms1"), host("kms2"))), record("kms1"), record("kms2"))))
        after = states(
            judged(works(asked(plan(host("kms1"), host("kms2"))), record("kms1"), record("kms2", port=1689)))
        )
        assert {what for what in before if before[what] is not after[what]} == {f"{KMS2}:1688 is published in {DOMAIN}"}

    def test_of_many_failures_the_first_are_told(self) -> None:
        world = works(asked(plan()), record("kms1"), *(record(f"x{number:02}") for number in range(25)))
        why = requirements(judged(world))["no other host is published"].why
        assert f"x00.{DOMAIN}:1688 is published" in why
        assert why.count(" is not expected.") == 10
        assert why.endswith(" And 15 more.")

    def test_a_host_that_is_expected_by_its_address(self) -> None:
        expected = plan(ExpectedHost("10.1.0.8", 1688, domains=(DOMAIN,)))
        what = f"10.1.0.8:1688 is published in {DOMAIN}"
        assert states(judged(works(asked(expected))))[what] is PASS
        assert states(judged(works(asked(expected), record("kms1", port=1689))))[what] is FAIL

    def test_of_two_domains_only_the_one_that_lacks_the_host_fails(self) -> None:
        other = "fabrikam.example"
        world = World(DOMAIN, other, servers=(DNS,), expected=plan(host("kms1", domains=(DOMAIN, other))))
        works(world).srv(server=DNS, domain=other)
        found = states(judged(world))
        assert found[f"{KMS1}:1688 is published in {DOMAIN}"] is PASS
        assert found[f"{KMS1}:1688 is published in {other}"] is FAIL

    @pytest.mark.parametrize("outcome", [DnsOutcome.TIMEOUT, DnsOutcome.SERVFAIL])
    def test_what_dns_does_not_tell_is_not_known(self, outcome: DnsOutcome) -> None:
        found = states(judged(asked(plan(max_hosts=1)).srv(outcome=outcome, server=DNS)))
        assert set(found.values()) == {NOT_KNOWN}

    def test_a_domain_that_can_not_be_asked_hides_nothing_of_another(self) -> None:
        other = "fabrikam.example"
        both = {"domains": (DOMAIN, other)}
        world = World(DOMAIN, other, servers=(DNS,), expected=plan(host("kms1", **both), host("kms2", **both)))
        works(world).srv(outcome=DnsOutcome.SERVFAIL, server=DNS, domain=other)
        found = states(judged(world))
        assert found[f"{KMS1}:1688 is published in {DOMAIN}"] is PASS
        assert found[f"{KMS2}:1688 is published in {DOMAIN}"] is FAIL
        assert found[f"{KMS1}:1688 is published in {other}"] is NOT_KNOWN
        assert found[f"{KMS2}:1688 is published in {other}"] is NOT_KNOWN
        assert found["no other host is published"] is NOT_KNOWN

    def test_that_nothing_is_published_is_known(self) -> None:
        world = asked(plan(max_hosts=1)).srv(outcome=DnsOutcome.NXDOMAIN, server=DNS)
        found = states(judged(world))
        assert found[f"{DOMAIN} publishes at most 1 host"] is PASS
        assert found[f"{DOMAIN} publishes a host for Windows"] is FAIL

    def test_nor_is_what_was_never_asked(self) -> None:
        report = judged(asked(plan()).gap(SrvQuery(name=f"_vlmcs._tcp.{DOMAIN}", server=DNS)))
        assert set(states(report).values()) == {NOT_KNOWN}
        assert "the deadline of 60 s" in requirements(report)["no other host is published"].why
        assert exit_code(report, FailOn.ERROR) is ExitCode.UNKNOWN

    def test_a_check_that_crashes_leaves_it_not_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = works(asked(plan()))
        checks = discover().select(["hosts_expected"])

        class Crashing:
            META = checks.checks[0].module.META
            subjects = staticmethod(checks.checks[0].module.subjects)
            ask = staticmethod(checks.checks[0].module.ask)

            def judge(self, *_: Any) -> Any:
                raise RuntimeError("boom")

        broken = Registry((msgspec.structs.replace(checks.checks[0], module=Crashing()),))
        found = requirements(diagnosis.judge(world.bundle(), broken))["no other host is published"]
        assert found.state is NOT_KNOWN
        assert "boom" in found.why

    def test_without_a_plan_there_is_no_audit(self) -> None:
        world = works(World(DOMAIN, servers=(DNS,), expected=Expected(hosts=(host("kms1"),))))
        assert judged(world).audit is None


class TestByNetworks:
    what = "activation works from desks (10.1.0.0/16, hq)"

    def found(self, *others: Report, own: str = "here", **vantage: Any) -> Requirement:
        report = judged(works(asked(plan(networks=(DESKS,)))), *others, label=own, **vantage)
        return requirements(report)[self.what]

    def test_nobody_was_there(self) -> None:
        found = self.found(addresses=("192.0.2.1",))
        assert (found.state, found.seen_from) == (NOT_KNOWN, ())
        assert "'kmsdiag check contoso.example --vantage desks'" in found.why

    @pytest.mark.parametrize("vantage", [{"own": "desks"}, {"addresses": ("10.1.5.5",)}])
    def test_this_run_was_made_there(self, vantage: dict[str, Any]) -> None:
        found = self.found(**vantage)
        assert found.state is PASS
        assert f"{KMS1}:1688 found, reached and answering" in found.why

    def other(self, world: World, label: str = "desks", **vantage: Any) -> Report:
        return judged(world, label=label, **vantage)

    def silent(self) -> World:
        world = works(World(DOMAIN, servers=(DNS,)))
        return world.tcp("10.1.0.8", TcpOutcome.TIMEOUT)

    def test_another_report_passes_it(self) -> None:
        found = self.found(self.other(works(World(DOMAIN, servers=(DNS,)))))
        assert (found.state, found.seen_from) == (PASS, ("desks",))

    def test_another_report_fails_it_by_its_address(self) -> None:
        found = self.found(self.other(self.silent(), "pc-17", addresses=("10.1.9.9",)))
        assert (found.state, found.seen_from) == (FAIL, ("pc-17",))
        assert found.why == f"pc-17: {KMS1}:1688 fails at tcp (silent)"

    def test_one_failure_outweighs_what_works_for_others(self) -> None:
        good = self.other(works(World(DOMAIN, servers=(DNS,))))
        assert self.found(good, self.other(self.silent())).state is FAIL
        assert self.found(self.other(self.silent()), good, own="desks").state is FAIL

    def test_places_that_say_the_same_stand_together_and_a_fleet_fits_a_line(self) -> None:
        found = self.found(
            *(self.other(self.silent(), f"pc-{number:03}", addresses=("10.1.9.9",)) for number in range(200))
        )
        assert found.why == f"pc-000, pc-001, pc-002 and 197 more: {KMS1}:1688 fails at tcp (silent)"
        assert len(found.seen_from) == 200

    def test_many_ways_are_cut(self) -> None:
        world = works(World(DOMAIN, servers=(DNS,)), *(record(f"x{number}") for number in range(9)))
        found = self.found(self.other(world.tcp("10.1.0.9", TcpOutcome.TIMEOUT)))
        assert found.why == (
            "desks: "
            + ", ".join(f"x{number}.{DOMAIN}:1688 fails at tcp (silent)" for number in range(3))
            + " and 6 more"
        )

    @pytest.mark.parametrize(("hours", "says"), [(23, ""), (25, " (as of 2026-01-04)"), (-48, "")])
    def test_an_old_report_says_of_which_day_it_is(self, hours: int, says: str) -> None:
        started = AT - datetime.timedelta(hours=hours)
        old = msgspec.structs.replace(self.other(works(World(DOMAIN, servers=(DNS,)))), started=started)
        found = self.found(old)
        assert (found.state, found.why) == (PASS, f"desks: {KMS1}:1688 found, reached and answering{says}")

    def test_a_report_about_something_else_decides_nothing(self) -> None:
        other = self.other(World("fabrikam.example", servers=(DNS,)).srv(server=DNS, domain="fabrikam.example"))
        found = self.found(other)
        assert found.state is NOT_KNOWN
        assert found.why == "desks: the report is not about contoso.example"

    def test_clients_that_are_sent_to_a_strange_host_are_not_well(self) -> None:
        found = self.found(self.other(works(World(DOMAIN, servers=(DNS,)), record("kms2"))))
        assert found.state is FAIL
        assert "kms2.contoso.example:1688, which is not expected" in found.why

    def test_what_was_not_tested_to_its_end(self) -> None:
        world = World(DOMAIN, servers=(DNS,)).srv(record("kms1"), server=DNS).name(KMS1, "10.1.0.8", server=DNS)
        assert self.found(self.other(world)).state is NOT_KNOWN

    def test_a_site_is_judged_by_its_own_dns_servers(self) -> None:
        expected = plan(sites=(HQ, BRANCH), networks=(DESKS, FAR))
        world = works(asked(expected, DNS, BRANCH_DNS)).srv(outcome=DnsOutcome.TIMEOUT, server=BRANCH_DNS)
        found = states(judged(world, label="desks"))
        assert found[self.what] is PASS
        found = states(judged(world, label="far"))
        assert found["activation works from far (10.7.0.0/16, branch)"] is FAIL

    def test_addresses_that_are_none_belong_nowhere(self) -> None:
        assert self.found(self.other(self.silent(), "x", addresses=("nonsense", "fe80::1"))).state is NOT_KNOWN


def waiver(code: str, about: str = "", days: int = 1) -> Waiver:
    return Waiver(code=code, reason="known", until=AT.date() + datetime.timedelta(days=days), about=about)


class TestWaivers:
    what = "no other host is published"

    def report(self, *waivers: Waiver, ignore: frozenset[str] = frozenset()) -> Report:
        world = works(asked(plan()), record("kms1"), record("kms2"))
        return judged(world, policy=Policy(ignore=ignore, waivers=waivers))

    def uses(self, report: Report) -> list[WaiverUse]:
        assert report.audit is not None
        return [one.use for one in report.audit.waivers]

    @pytest.mark.parametrize("about", ["", KMS2, f"{KMS2}:1688", DOMAIN, "all"])
    def test_a_finding_that_is_waived_does_not_count(self, about: str) -> None:
        report = self.report(waiver("hosts_expected.unexpected", about))
        assert requirements(report)[self.what].state is FAIL
        assert requirements(report)[self.what].waived.endswith(": known")
        (finding,) = (f for r in report.results for f in r.findings if f.code == "hosts_expected.unexpected")
        assert finding.waived.startswith("waived until 2026-01-06")
        assert self.uses(report) == [WaiverUse.USED]
        assert "hosts_expected.unexpected" not in {remark.code for remark in report.verdict.remarks}
        assert exit_code(report, FailOn.ERROR) is ExitCode.UNKNOWN  # the check of DNS servers did not run

    @pytest.mark.parametrize(
        ("given", "use"),
        [
            (waiver("hosts_expected.unexpected", KMS1), WaiverUse.NOT_NEEDED),
            (waiver("hosts_expected.unexpected", "kms2"), WaiverUse.NOT_NEEDED),
            (waiver("hosts_expected.missing"), WaiverUse.NOT_NEEDED),
            (waiver("hosts_expected.unexpected", days=-1), WaiverUse.EXPIRED),
        ],
    )
    def test_one_that_does_not_fit_changes_nothing(self, given: Waiver, use: WaiverUse) -> None:
        report = self.report(given)
        assert requirements(report)[self.what].waived == ""
        assert self.uses(report) == [use]
        assert exit_code(report, FailOn.ERROR) is ExitCode.FINDINGS

    def test_what_is_waived_fails_no_test_and_makes_nothing_worse(self) -> None:
        given, plain = self.report(waiver("hosts_expected.unexpected")), self.report()
        failures = [ElementTree.fromstring(junit.render(one)).findall(".//failure") for one in (given, plain)]
        assert ["hosts_expected.unexpected" in {one.get("type") for one in found} for found in failures] == [
            False,
            True,
        ]
        assert "waived until 2026-01-06: known" in junit.render(given)
        clean = judged(works(asked(plan())))
        codes = [{change.code for change in compare.changes(clean, one)} for one in (given, plain)]
        assert ["hosts_expected.unexpected" in found for found in codes] == [False, True]

    def test_it_holds_to_the_end_of_its_day(self) -> None:
        assert requirements(self.report(waiver("hosts_expected.unexpected", days=0)))[self.what].waived

    def test_one_host_of_two_is_not_enough(self) -> None:
        world = works(asked(plan()), record("kms1"), record("kms2"), record("desktop-17"))
        report = judged(world, policy=Policy(waivers=(waiver("hosts_expected.unexpected", KMS2),)))
        assert requirements(report)[self.what].waived == ""

    def test_what_the_configuration_ignores_fails_and_does_not_count(self) -> None:
        report = self.report(ignore=frozenset({"hosts_expected.unexpected"}))
        found = requirements(report)[self.what]
        assert (found.state, found.waived) == (FAIL, "left out by the configuration (ignore)")

    def test_a_severity_that_was_re_mapped_is_that_of_the_requirement(self) -> None:
        world = works(asked(plan()), record("kms1"), record("kms2"))
        report = judged(world, policy=Policy({"hosts_expected.unexpected": Severity.INFO}))
        assert requirements(report)[self.what].severity is Severity.INFO
        assert exit_code(report, FailOn.ERROR) is ExitCode.UNKNOWN

    @pytest.mark.parametrize(("about", "waived"), [("", True), ("desks", True), ("10.1.0.0/16", True), ("far", False)])
    def test_a_network(self, about: str, *, waived: bool) -> None:
        rules = Policy(waivers=(waiver(audit.NETWORK, about),))
        report = judged(works(asked(plan(networks=(DESKS,)))), policy=rules)
        found = requirements(report)[TestByNetworks.what]
        assert report.audit is not None
        alone = msgspec.structs.replace(
            report, audit=msgspec.structs.replace(report.audit, requirements=(found,)), results=()
        )
        assert exit_code(alone, FailOn.ERROR) is (ExitCode.OK if waived else ExitCode.UNKNOWN)
        assert (found.state, bool(found.waived)) == (NOT_KNOWN, waived)
        assert self.uses(report) == [WaiverUse.USED if waived else WaiverUse.NOT_NEEDED]
