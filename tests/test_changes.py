import importlib
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.audit import View
from kmsdiag.changes import compile_changes
from kmsdiag.model.audit import Change, Step
from kmsdiag.model.outcome import DnsOutcome, TcpOutcome
from kmsdiag.model.report import Vantage
from kmsdiag.model.target import Expected, ExpectedHost, Family, Network, Site
from tests.conftest import DOMAIN, World, record

ZONE, POWERSHELL = "in the zone file", "on a DNS server (PowerShell)"
HOST, FIREWALL = "on the KMS host (PowerShell, elevated)", "on a Linux firewall between them (sh)"
LINE = f"_vlmcs._tcp.{DOMAIN}. 3600 IN SRV"
ADD = f"Add-DnsServerResourceRecord -Srv -ZoneName {DOMAIN} -Name _vlmcs._tcp"
REMOVE = f"Remove-DnsServerResourceRecord -ZoneName {DOMAIN} -Name _vlmcs._tcp -RRType Srv"
HQ = Site(name="hq", domain=DOMAIN)


def host(name: str, **fields: Any) -> ExpectedHost:
    return ExpectedHost(f"{name}.{DOMAIN}", **{"domains": (DOMAIN,), **fields})


def world(*hosts: ExpectedHost, **fields: Any) -> World:
    return World(DOMAIN, expected=Expected(hosts=hosts, planned=True, **fields))


def changes(seen: World, label: str = "here") -> tuple[Change, ...]:
    return compile_changes(seen.evidence(), [View(Vantage(label=label), seen.target, seen.diagnosis().paths)])


def step(change: Change, where: str) -> Step:
    return next(one for one in change.steps if one.where == where)


def lines(found: tuple[Change, ...]) -> Iterator[tuple[str, str]]:
    for change in found:
        for one in change.steps:
            yield from ((one.where, line) for line in (*one.do, *one.undo))


class TestRecords:
    def test_what_is_as_it_should_be_stays(self) -> None:
        assert changes(world(host("kms1", priority=0)).srv(record("kms1")).host("kms1", "10.1.0.8")) == ()

    def test_a_missing_one(self) -> None:
        found = changes(world(host("kms1"), host("kms2", port=1689, priority=10, weight=5)).srv(record("kms1")))
        (change,) = found
        assert change.what == f"kms2.{DOMAIN} is to be published in {DOMAIN}"
        line = f"{LINE} 10 5 1689 kms2.{DOMAIN}."
        assert step(change, ZONE) == Step(where=ZONE, do=(f"+ {line}",), undo=(f"- {line}",))
        assert step(change, POWERSHELL) == Step(
            where=POWERSHELL,
            do=(f"{ADD} -DomainName kms2.{DOMAIN} -Priority 10 -Weight 5 -Port 1689 -TimeToLive '01:00:00'",),
            undo=(f"{REMOVE} -RecordData 10,5,1689,'kms2.{DOMAIN}'",),
        )

    def test_one_too_many_can_come_back_as_it_was(self) -> None:
        (change,) = changes(world(host("kms1")).srv(record("kms1"), record("old", 1, 2, 1700, 90_061)))
        assert change.what == f"old.{DOMAIN} is not to be published in {DOMAIN}"
        assert step(change, POWERSHELL) == Step(
            where=POWERSHELL,
            do=(f"{REMOVE} -RecordData 1,2,1700,'old.{DOMAIN}'",),
            undo=(f"{ADD} -DomainName old.{DOMAIN} -Priority 1 -Weight 2 -Port 1700 -TimeToLive '1.01:01:01'",),
        )

    @pytest.mark.parametrize(
        ("expected", "then"),
        [
            (host("kms1", port=1689), "7 3 1689"),
            (host("kms1", priority=0), "0 3 1688"),
            (host("kms1", weight=0), "7 0 1688"),
            (host("kms1", port=1690, priority=1, weight=2), "1 2 1690"),
        ],
    )
    def test_one_that_drifted_is_there_in_its_new_form_before_the_old_one_goes(
        self, expected: ExpectedHost, then: str
    ) -> None:
        (change,) = changes(world(expected).srv(record("kms1", 7, 3)))
        old, new = f"{LINE} 7 3 1688 kms1.{DOMAIN}.", f"{LINE} {then} kms1.{DOMAIN}."
        assert step(change, ZONE) == Step(where=ZONE, do=(f"+ {new}", f"- {old}"), undo=(f"+ {old}", f"- {new}"))
        added, removed = step(change, POWERSHELL).do
        assert added.startswith(ADD)
        assert removed.startswith(REMOVE)

    def test_a_host_of_another_domain_leaves_this_one(self) -> None:
        other = "fabrikam.example"
        hosts = (host("kms1", domains=(other,)), host("kms2"))
        seen = World(DOMAIN, other, expected=Expected(hosts=hosts, planned=True))
        seen.srv(record("kms1"), record("kms2")).srv(record("kms1"), domain=other)
        (change,) = changes(seen)
        assert change.what == f"kms1.{DOMAIN} is not to be published in {DOMAIN}"

    def test_the_zone_that_holds_the_record_is_named(self) -> None:
        seen = World(f"branch.{DOMAIN}", expected=Expected(hosts=(host("kms1", domains=(f"branch.{DOMAIN}",)),)))
        seen.srv(domain=f"branch.{DOMAIN}").soa(f"_vlmcs._tcp.branch.{DOMAIN}", DOMAIN, outcome=DnsOutcome.NXDOMAIN)
        (change,) = changes(seen)
        assert f"-ZoneName {DOMAIN} -Name _vlmcs._tcp.branch -DomainName" in step(change, POWERSHELL).do[0]

    @pytest.mark.parametrize("outcome", [DnsOutcome.TIMEOUT, DnsOutcome.SERVFAIL])
    def test_what_could_not_be_asked_is_left_alone(self, outcome: DnsOutcome) -> None:
        assert changes(world(host("kms1")).srv(outcome=outcome)) == ()
        assert changes(world(host("kms1"))) == ()

    def test_a_domain_without_expected_hosts_is_left_alone(self) -> None:
        assert changes(world().srv(record("kms1"))) == ()

    def test_a_host_expected_by_address_can_not_be_published_by_it(self) -> None:
        assert changes(world(ExpectedHost("10.1.0.8", domains=(DOMAIN,))).srv()) == ()


class TestAddresses:
    def test_one_instead_of_another(self) -> None:
        seen = world(host("kms1", addresses=("10.1.0.8", "fd00::8"))).srv(record("kms1")).host("kms1", "10.1.0.9")
        wanted, second, gone = changes(seen)
        assert wanted.what == f"kms1.{DOMAIN} is to have the address 10.1.0.8"
        assert second.what == f"kms1.{DOMAIN} is to have the address fd00::8"
        assert gone.what == f"kms1.{DOMAIN} is not to have the address 10.1.0.9"
        add = f"Add-DnsServerResourceRecordAAAA -ZoneName {DOMAIN} -Name kms1 -IPv6Address 'fd00::8'"
        assert step(second, POWERSHELL).do == (f"{add} -TimeToLive '01:00:00'",)
        remove = f"Remove-DnsServerResourceRecord -ZoneName {DOMAIN} -Name kms1 -RRType A -RecordData '10.1.0.9'"
        assert step(gone, POWERSHELL).do == (remove,)
        assert step(gone, ZONE) == Step(
            where=ZONE,
            do=(f"- kms1.{DOMAIN}. 3600 IN A 10.1.0.9",),
            undo=(f"+ kms1.{DOMAIN}. 3600 IN A 10.1.0.9",),
        )

    def test_a_family_that_is_not_looked_at(self) -> None:
        expected = Expected(hosts=(host("kms1", addresses=("10.1.0.8", "fd00::8")),))
        seen = World(DOMAIN, families=(Family.IPV4,), expected=expected).srv(record("kms1")).host("kms1", "10.1.0.8")
        assert changes(seen) == ()

    def test_names_that_could_not_be_looked_up(self) -> None:
        seen = world(host("kms1", addresses=("10.1.0.8",))).srv(record("kms1"))
        assert changes(seen) == ()
        assert changes(seen.name("kms1", absent=DnsOutcome.SERVFAIL)) == ()


class TestFirewalls:
    networks = (
        Network(name="desks", address="10.1.0.0/16", site="hq"),
        Network(name="desks", address="10.2.0.0/16", site="hq"),
        Network(name="desks", address="fd00:1::/32", site="hq"),
    )

    def silent(self, outcome: TcpOutcome = TcpOutcome.TIMEOUT, address: str = "10.1.0.8", **fields: Any) -> World:
        return world(host("kms1"), **fields).srv(record("kms1")).name("kms1", address).tcp(address, outcome)

    def test_for_the_networks_of_the_plan_from_which_it_is_shut(self) -> None:
        (change,) = changes(self.silent(sites=(HQ,), networks=self.networks), "desks")
        assert change.what == f"TCP 1688 of kms1.{DOMAIN} (10.1.0.8) is to be open from 10.1.0.0/16, 10.2.0.0/16"
        rule = "New-NetFirewallRule -DisplayName 'KMS 1688 (kmsdiag)' -Direction Inbound -Protocol TCP -LocalPort 1688"
        assert step(change, HOST) == Step(
            where=HOST,
            do=(f"{rule} -RemoteAddress '10.1.0.0/16','10.2.0.0/16' -Action Allow",),
            undo=("Remove-NetFirewallRule -DisplayName 'KMS 1688 (kmsdiag)'",),
        )
        forward = "FORWARD -p tcp -s 10.1.0.0/16 -d 10.1.0.8 --dport 1688 -j ACCEPT"
        assert step(change, FIREWALL) == Step(
            where=FIREWALL, do=(f"iptables -I {forward}",), undo=(f"iptables -D {forward}",)
        )
        assert len(change.steps) == 3

    def test_for_ipv6(self) -> None:
        (change,) = changes(self.silent(address="fd00::8", sites=(HQ,), networks=self.networks), "desks")
        assert step(change, FIREWALL).do == (
            "ip6tables -I FORWARD -p tcp -s fd00:1::/32 -d fd00::8 --dport 1688 -j ACCEPT",
        )

    def test_from_a_place_that_the_plan_does_not_name(self) -> None:
        (change,) = changes(self.silent(sites=(HQ,), networks=self.networks), "elsewhere")
        (one,) = change.steps
        assert one == Step(
            where=HOST,
            do=("Enable-NetFirewallRule -DisplayGroup 'Key Management Service'",),
            undo=("Disable-NetFirewallRule -DisplayGroup 'Key Management Service'",),
        )

    def test_a_report_of_another_place_counts(self) -> None:
        seen = world(host("kms1"), sites=(HQ,), networks=self.networks).srv(record("kms1")).host("kms1", "10.1.0.8")
        there = self.silent()
        views = [
            View(Vantage(label="here"), seen.target, seen.diagnosis().paths),
            View(Vantage(label="desks"), there.target, there.diagnosis().paths),
        ]
        (change,) = compile_changes(seen.evidence(), views)
        assert change.what.endswith("is to be open from 10.1.0.0/16, 10.2.0.0/16")

    @pytest.mark.parametrize("outcome", [TcpOutcome.REFUSED, TcpOutcome.NO_ROUTE, TcpOutcome.OPEN])
    def test_what_is_no_firewalls_doing(self, outcome: TcpOutcome) -> None:
        assert changes(self.silent(outcome)) == ()

    def test_nobody_opens_the_way_to_a_host_that_is_not_expected(self) -> None:
        seen = world(host("kms2")).srv(record("kms1"), record("kms2")).host("kms2", "10.1.0.9")
        seen.name("kms1", "10.1.0.8").tcp("10.1.0.8", TcpOutcome.TIMEOUT)
        (change,) = changes(seen)
        assert change.what == f"kms1.{DOMAIN} is not to be published in {DOMAIN}"


class TestShells:
    def all(self) -> list[tuple[str, str]]:
        hosts = (host("kms1", priority=0, addresses=("10.1.0.18", "fd00::8")), host("kms2"))
        seen = world(*hosts, sites=(HQ,), networks=TestFirewalls.networks)
        seen.srv(record("kms1", 3), record("old")).name("old", "10.1.0.9")
        seen.name("kms1", "10.1.0.8").tcp("10.1.0.8", TcpOutcome.TIMEOUT)
        return list(lines(changes(seen, "desks")))

    def test_powershell_can_parse_every_command(self) -> None:
        for module in ("tree_sitter", "tree_sitter_powershell"):
            pytest.importorskip(module)
        sitter = importlib.import_module("tree_sitter")
        language = sitter.Language(importlib.import_module("tree_sitter_powershell").language())
        commands = [line for where, line in self.all() if "PowerShell" in where]
        assert len(commands) == 16
        for command in commands:
            # The grammar knows no digit in a parameter's name.
            text = re.sub(r"-IPv[46]Address", "-Address", command)
            assert not sitter.Parser(language).parse(text.encode()).root_node.has_error, command

    def test_every_way_back_undoes_its_step(self) -> None:
        opposite = {"+": "-", "-": "+", "Add": "Remove", "Remove": "Add", "New": "Remove", "iptables -I": "iptables -D"}
        for change in changes(TestFirewalls().silent(sites=(HQ,), networks=TestFirewalls.networks), "desks"):
            for one in change.steps:
                assert len(one.do) == len(one.undo)
                for do, undo in zip(one.do, one.undo, strict=True):
                    verb = next(verb for verb in opposite if do.startswith(verb))
                    assert undo.startswith(opposite[verb])

    @settings(max_examples=100)
    @given(st.text(min_size=1, max_size=12), st.sampled_from(["kms1", "x"]))
    def test_a_hostile_name_stays_one_word_or_is_left_out(self, text: str, prefix: str) -> None:
        name = f"{prefix}{text}.{DOMAIN}"
        seen = world(host("kms1")).srv(record("kms1"), record(name)).host("kms1", "10.1.0.8")
        for where, line in lines(changes(seen)):
            if "PowerShell" in where and line.startswith("Remove-DnsServerResourceRecord"):
                data = line.partition(" -RecordData ")[2]
                assert re.fullmatch(r"0,0,1688,([\w.:@%-]+|'([^'‘’‚‛]|(['‘’‚‛]){2})*'|<…>)", data), line

    def test_sh_commands_are_words(self) -> None:
        for where, line in self.all():
            if where == FIREWALL:
                assert shlex.join(shlex.split(line)) == line
