"""DNS questions to BIND 9: every way in which an answer can be wrong, by the probe alone and through a whole run."""

from typing import NamedTuple

import pytest

from kmsdiag.model.answer import ServerTry, SrvRecord
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.path import VerdictState
from kmsdiag.model.request import AddressQuery, SrvQuery
from kmsdiag.model.target import SYSTEM, Family, Target
from tests.integration.world import ask, causes, codes, diagnose, text_of
from tests.netlab import Lab, require_tools


class Case(NamedTuple):
    """What is asked of the authoritative server, what the probe makes of it, and what a run says."""

    domain: str
    outcome: DnsOutcome
    says: set[str]
    causes: list[str]
    state: VerdictState = VerdictState.BROKEN
    rcode: str = "NOERROR"


CASES = [
    Case("one.test", DnsOutcome.ANSWERED, {"dns_srv_hosts.one"}, [], VerdictState.HEALTHY),
    Case(
        "corp.test",
        DnsOutcome.ANSWERED,
        {"dns_srv_hosts.several", "hosts_several.ranked", "dns_srv_fields.ranked", "tcp_reachable.refused"},
        ["tcp.refused"],
        VerdictState.DEGRADED,
    ),
    Case(
        "big.test",
        DnsOutcome.ANSWERED,
        {"dns_srv_hosts.several", "hosts_several.too_many"},
        [],
        VerdictState.HEALTHY,
    ),
    Case("port.test", DnsOutcome.ANSWERED, {"tcp_reachable.wrong_port"}, ["tcp.wrong_port"]),
    Case("cname.test", DnsOutcome.ANSWERED, {"dns_srv_targets.cname", "rpc_service.kms"}, [], VerdictState.HEALTHY),
    Case("srvcname.test", DnsOutcome.ANSWERED, {"dns_srv_hosts.one", "rpc_service.kms"}, [], VerdictState.HEALTHY),
    Case("literal.test", DnsOutcome.ANSWERED, {"dns_srv_targets.address_literal"}, [], VerdictState.HEALTHY),
    Case(
        "root.test",
        DnsOutcome.ANSWERED,
        {"dns_srv_targets.root_target", "dns_srv_hosts.none"},
        ["name.root"],
    ),
    Case("gone.test", DnsOutcome.ANSWERED, {"dns_srv_targets.no_address"}, ["name.no_address"]),
    Case("bare.test", DnsOutcome.ANSWERED, {"dns_srv_targets.no_address"}, ["name.no_address"]),
    Case("outside.test", DnsOutcome.ANSWERED, {"dns_srv_targets.lookup_failed"}, ["name.lookup_failed"]),
    Case("nxdomain.test", DnsOutcome.NXDOMAIN, {"dns_srv_hosts.none"}, ["srv.nxdomain"], rcode="NXDOMAIN"),
    Case("empty.test", DnsOutcome.NODATA, {"dns_srv_hosts.none"}, ["srv.nodata"]),
    Case("nodata.test", DnsOutcome.NODATA, {"dns_srv_hosts.none"}, ["srv.nodata"]),
    Case("refused.test", DnsOutcome.REFUSED, {"dns_srv_hosts.unreachable"}, ["srv.refused"], rcode="REFUSED"),
    Case("notserved.example", DnsOutcome.REFUSED, {"dns_srv_hosts.unreachable"}, ["srv.refused"], rcode="REFUSED"),
    Case("srvcnameout.test", DnsOutcome.REFUSED, {"dns_srv_hosts.unreachable"}, ["srv.refused"], rcode="REFUSED"),
    Case("broken.test", DnsOutcome.SERVFAIL, {"dns_srv_hosts.unreachable"}, ["srv.servfail"], rcode="SERVFAIL"),
    Case("child.parent.test", DnsOutcome.REFERRAL, {"dns_srv_hosts.unreachable"}, ["srv.referral"]),
]
by_domain = pytest.mark.parametrize("case", CASES, ids=lambda case: case.domain)


def srv(domain: str, server: str) -> SrvQuery:
    return SrvQuery(name=f"_vlmcs._tcp.{domain}", server=server)


@by_domain
def test_the_probe_tells_each_answer_apart(lab: Lab, named: str, case: Case) -> None:
    answer = ask(lab, srv(case.domain, named))
    assert (answer.outcome, answer.rcode, answer.server) == (case.outcome, case.rcode, named)
    assert answer.edns
    assert answer.wire
    assert answer.tried == ()


@pytest.mark.usefixtures("kms")
@by_domain
def test_a_run_names_the_fault(lab: Lab, named: str, case: Case) -> None:
    report = diagnose(lab, Target(domains=(case.domain,), servers=(named,)))
    assert case.says <= codes(report)
    assert causes(report) == case.causes
    assert report.verdict.state is case.state
    assert report.counts.unanswered == 0


def test_every_field_of_the_records_is_read(lab: Lab, named: str) -> None:
    answer = ask(lab, srv("corp.test", named))
    assert answer.records == (
        SrvRecord(0, 100, 1688, "kms1.corp.test", 60),
        SrvRecord(10, 50, 1688, "kms2.corp.test", 60),
    )
    assert answer.authoritative
    assert answer.queries == 1


@pytest.mark.parametrize("domain", ["corp.test", "big.test", "one.test", "root.test"])
def test_dig_reads_the_same(lab: Lab, named: str, domain: str) -> None:
    require_tools("dig")
    lines = lab.sh("client", "dig", "+short", "+norecurse", f"@{named}", f"_vlmcs._tcp.{domain}", "SRV").splitlines()
    found = ask(lab, srv(domain, named)).records
    ours = [f"{one.priority} {one.weight} {one.port} {one.target.removesuffix('.')}." for one in found]
    assert sorted(lines) == sorted(ours) != []


def test_the_server_is_asked_over_ipv6_too(lab: Lab, named: str) -> None:
    assert named == lab.v4("dns")
    answer = ask(lab, srv("corp.test", lab.v6("dns")))
    assert (answer.outcome, len(answer.records)) == (DnsOutcome.ANSWERED, 2)


def test_addresses_of_both_families(lab: Lab, named: str) -> None:
    found = {
        family: ask(lab, AddressQuery(name="kms1.corp.test", family=family, server=named)).addresses
        for family in Family
    }
    assert found == {Family.IPV4: ("10.77.0.13",), Family.IPV6: ("fd77::13",)}


def test_a_host_without_ipv6_has_no_data_not_no_name(lab: Lab, named: str) -> None:
    answer = ask(lab, AddressQuery(name="kms2.corp.test", family=Family.IPV6, server=named))
    assert (answer.outcome, answer.addresses) == (DnsOutcome.NODATA, ())


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        ("gone.gone.test", DnsOutcome.NXDOMAIN),
        ("bare.bare.test", DnsOutcome.NODATA),
        ("kms.elsewhere.example", DnsOutcome.REFUSED),
    ],
)
def test_no_address_and_could_not_ask_are_not_the_same(lab: Lab, named: str, target: str, outcome: DnsOutcome) -> None:
    assert ask(lab, AddressQuery(name=target, family=Family.IPV4, server=named)).outcome is outcome


def test_a_target_that_is_an_alias_is_followed_and_named(lab: Lab, named: str) -> None:
    answer = ask(lab, AddressQuery(name="alias.cname.test", family=Family.IPV4, server=named))
    assert (answer.addresses, answer.chain) == (("10.77.0.13",), ("real.cname.test",))
    report = diagnose(lab, Target(domains=("cname.test",), servers=(named,)), only=("dns_srv_targets",))
    assert "alias.cname.test is an alias (CNAME) of real.cname.test" in text_of(report, "dns_srv_targets.cname")


def test_an_owner_that_is_an_alias_is_followed_by_asking_again(lab: Lab, named: str) -> None:
    # Without recursion the answer holds the CNAME alone.
    answer = ask(lab, srv("srvcname.test", named))
    assert (answer.chain, answer.queries) == (("_vlmcs._tcp.one.test",), 2)
    assert [record.target for record in answer.records] == ["kms1.one.test"]


def test_a_loop_of_aliases_ends(lab: Lab, named: str) -> None:
    # BIND itself gives up on it and says SERVFAIL, with the loop in the answer.
    answer = ask(lab, srv("loop.test", named))
    assert answer.outcome is DnsOutcome.CHAIN
    assert answer.chain[:2] == ("round.loop.test", "_vlmcs._tcp.loop.test")
    assert len(answer.chain) <= 9


def test_a_cut_answer_is_asked_for_again_over_tcp(lab: Lab, named: str) -> None:
    answer = ask(lab, srv("big.test", named))
    assert (answer.transport, answer.queries, len(answer.records)) == ("tcp", 2, 60)
    assert {record.target for record in answer.records} == {f"kms-with-a-long-name-{n:02}.big.test" for n in range(60)}


@pytest.mark.parametrize(
    ("rule", "detail"),
    [
        ("tcp dport 53 drop", "TCP: timeout"),
        ("tcp dport 53 reject with tcp reset", "TCP: ECONNREFUSED"),
        ("tcp dport 53 reject with icmp type admin-prohibited", "TCP: EHOSTUNREACH"),
    ],
)
def test_tcp_53_blocked_behind_a_cut_answer(lab: Lab, named: str, rule: str, detail: str) -> None:
    with lab.nft("dns", rule):
        answer = ask(lab, srv("big.test", named), timeout=0.6)
        report = diagnose(lab, Target(domains=("big.test",), servers=(named,)), timeout=0.6)
        small = ask(lab, srv("one.test", named), timeout=0.6)
    assert (answer.outcome, answer.detail) == (DnsOutcome.TRUNCATED, detail)
    assert causes(report) == ["srv.truncated"]
    assert "dns_srv_hosts.unreachable" in codes(report)
    # The block shows only where the answer is large.
    assert small.outcome is DnsOutcome.ANSWERED


def test_udp_53_dropped_is_silence(lab: Lab, named: str) -> None:
    with lab.nft("dns", "udp dport 53 counter drop"):
        answer = ask(lab, srv("one.test", named), timeout=0.6)
        arrived = lab.nft_packets("dns")
    assert answer.outcome is DnsOutcome.TIMEOUT
    assert 600 <= answer.elapsed_ms < 3000
    # Sent again, and each one counted.
    assert arrived == [answer.queries] == [3]


def test_one_lost_datagram_is_made_good(lab: Lab, named: str) -> None:
    with lab.nft("dns", "udp dport 53 numgen inc mod 2 == 0 drop"):
        answer = ask(lab, srv("one.test", named), timeout=0.9)
    assert (answer.outcome, answer.queries) == (DnsOutcome.ANSWERED, 2)


@pytest.mark.parametrize("family", list(Family))
def test_no_dns_service(lab: Lab, family: Family) -> None:
    nobody = lab.v4("kms") if family is Family.IPV4 else lab.v6("kms")
    answer = ask(lab, srv("one.test", nobody))
    assert answer.outcome is DnsOutcome.NOT_LISTENING
    # Known at once, not by waiting.
    assert answer.elapsed_ms < 1500
    report = diagnose(lab, Target(domains=("one.test",), servers=(nobody,)))
    assert causes(report) == ["srv.not_listening"]


@pytest.mark.parametrize(
    ("rule", "server", "detail"),
    [
        (
            "udp dport 53 reject with icmp type admin-prohibited",
            "10.77.0.12",
            "communication administratively prohibited, said by 10.77.0.12",
        ),
        (
            "udp dport 53 reject with icmpv6 type admin-prohibited",
            "fd77::12",
            "communication administratively prohibited, said by fd77::12",
        ),
        ("udp dport 53 reject with icmp type net-unreachable", "10.77.0.12", "network unreachable, said by 10.77.0.12"),
    ],
)
def test_a_firewall_that_says_so(lab: Lab, named: str, rule: str, server: str, detail: str) -> None:
    with lab.nft("dns", rule):
        answer = ask(lab, srv("one.test", server))
        report = diagnose(lab, Target(domains=("one.test",), servers=(server,)))
    assert (answer.outcome, answer.detail) == (DnsOutcome.UNREACHABLE, detail)
    assert answer.elapsed_ms < 1500
    assert causes(report) == ["srv.unreachable"]
    assert ask(lab, srv("one.test", server)).outcome is DnsOutcome.ANSWERED


def test_no_route_to_the_server(lab: Lab) -> None:
    answer = ask(lab, srv("one.test", "10.88.0.1"))
    assert (answer.outcome, answer.detail) == (DnsOutcome.UNREACHABLE, "ENETUNREACH")


def test_the_next_system_server_is_asked_and_the_first_is_remembered(lab: Lab, named: str) -> None:
    nobody = lab.v4("kms")
    answer = ask(lab, srv("one.test", SYSTEM), resolvers=(nobody, named))
    assert (answer.outcome, answer.server) == (DnsOutcome.ANSWERED, named)
    assert answer.tried == (ServerTry(nobody, DnsOutcome.NOT_LISTENING),)


@pytest.fixture
def two_servers(named: str, resolver: str) -> tuple[str, str]:
    """The authoritative server and the resolver in front of it."""
    return named, resolver


def test_a_resolver_gives_what_the_server_behind_it_has(lab: Lab, two_servers: tuple[str, str]) -> None:
    for domain in ("corp.test", "big.test", "srvcname.test"):
        direct, recursive = (ask(lab, srv(domain, server)) for server in two_servers)
        assert (recursive.outcome, recursive.records) == (direct.outcome, direct.records)
        assert not recursive.authoritative
    # A resolver follows the alias itself.
    assert recursive.queries == 1
    assert recursive.chain == ("_vlmcs._tcp.one.test",)


@pytest.mark.parametrize("domain", ["lame.test", "dead.test", "broken.test"])
def test_behind_a_resolver_a_broken_delegation_is_servfail(lab: Lab, resolver: str, domain: str) -> None:
    # "lame": the delegated server refuses the zone; "dead": there is no server; "broken": it has not loaded the zone.
    answer = ask(lab, srv(domain, resolver), timeout=5.0)
    assert (answer.outcome, answer.rcode) == (DnsOutcome.SERVFAIL, "SERVFAIL")


def test_two_servers_that_disagree_are_both_heard(lab: Lab, two_servers: tuple[str, str]) -> None:
    report = diagnose(lab, Target(domains=("lame.test",), servers=two_servers), timeout=5.0)
    assert sorted(causes(report)) == ["srv.refused", "srv.servfail"]
