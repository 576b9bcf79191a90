"""Name servers that agree, and all the ways in which they do not: BIND 9 as primary, secondary and resolver."""

from collections.abc import Iterator

import pytest

from kmsdiag.model.finding import Severity
from kmsdiag.model.path import VerdictState
from kmsdiag.model.report import Cell, Report
from kmsdiag.model.target import SYSTEM
from tests.integration.nameservers import Bind, check, errors, said, words
from tests.integration.world import listening
from tests.netlab import Lab, require_lab, require_tools

AGREE = "dns_servers_agree"
KMS = "kms1 A 10.77.0.16\nkms2 A 10.77.0.16\nkms3 A 10.77.0.16\n"
TWO = "_vlmcs._tcp SRV 0 0 1688 kms1\n_vlmcs._tcp SRV 10 50 1688 kms2\n" + KMS
BOTH = ("primary", "secondary")
DROP = "meta l4proto { tcp, udp } th dport 53 drop"


def srv(host: str, rank: str = "0 0") -> str:
    return f"_vlmcs._tcp SRV {rank} 1688 {host}\n"


# What the secondary copied, and what the primary has by now.
VERSIONS = {
    "same.test": (TWO, TWO),
    "changed.test": (TWO, srv("kms1") + srv("kms3", "10 50") + KMS),
    "rank.test": (TWO, srv("kms1") + srv("kms2", "0 50") + KMS),
    "new.test": (KMS, TWO),
    "gone.test": (TWO, KMS),
    "serial.test": (TWO, TWO + "unrelated A 10.77.0.99\n"),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A network with five name servers; "nobody" has none."""
    require_lab()
    require_tools("named")
    with Lab(client=11, primary=12, secondary=13, other=14, resolver=15, kms=16, nobody=17) as made:
        yield made


@pytest.fixture(scope="module")
def primary(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """All zones on BINDs, and a KMS host; the address of the primary, which knows only its zones."""
    folder = tmp_path_factory.mktemp("consistency")
    first, second = Bind(lab, "primary", folder), Bind(lab, "secondary", folder)
    for zone, (before, _now) in VERSIONS.items():
        first.primary(zone, 1, BOTH, before)
        second.secondary(zone, "primary", 1)
    first.primary("lame.test", 1, ("primary", "other"), TWO)
    first.primary("unloaded.test", 1, ("primary", "other"), TWO)
    first.primary("down.test", 1, ("primary", "nobody"), TWO)
    first.primary("alone.test", 1, ("primary",), TWO)
    first.primary("two.down.test", 1, ("primary", "secondary", "other"), TWO)
    # A name of another zone: BIND loads no zone whose own name server has no address.
    first.primary("retired.test", 1, BOTH, "@ NS retired.same.test.\n" + TWO)
    second.secondary("retired.test", "primary", 1)
    many = "".join(f"@ NS dc{number}\ndc{number} A {lab.v4('primary')}\n" for number in range(10, 50))
    first.primary("many.test", 1, ("primary",), many + TWO)
    first.primary("wild.test", 1, ("primary",), "* SRV 0 0 1688 kms1\n* A 10.77.0.16\n" + KMS)
    first.primary("wild-and-real.test", 1, ("primary",), "* SRV 0 0 1688 kms1\n" + TWO)
    first.primary("rewritten.test", 1, ("primary",), "* A 10.77.0.16\n" + TWO)
    first.primary("misspelt.test", 1, ("primary",), "_vmlcs._tcp SRV 0 0 1688 kms1\n" + KMS)
    first.primary("beside.test", 1, ("primary",), "@ SRV 0 0 1688 kms2\n" + TWO)
    second.primary("two.down.test", 1, ("primary", "secondary", "other"), TWO)
    other = Bind(lab, "other", folder)
    other.primary("two.down.test", 1, ("primary", "secondary", "other"), TWO)
    other.add('zone "unloaded.test" { type secondary; primaries { 10.77.0.17; }; };')
    first.start()
    second.start()
    other.start()
    for zone, (before, now) in VERSIONS.items():
        if before != now:
            first.primary(zone, 2, BOTH, now)
    first.reload()
    forwarding = f"forward only; forwarders {{ {lab.v4('primary')}; }};"
    resolver = Bind(lab, "resolver", folder, "recursion yes; allow-recursion { any; }; " + forwarding)
    resolver.start()
    with listening(lab, "kms", lab.v4("kms")):
        yield lab.v4("primary")


def only(report: Report, code: str) -> str:
    """The one thing that is said about the servers, and nothing beside."""
    found = words(report, AGREE)
    assert list(found) == [code]
    (text,) = found[code]
    return text


def test_two_servers_agree(lab: Lab, primary: str) -> None:
    report = check(lab, "same.test", servers=[primary])
    assert only(report, "agree") == (
        "All 2 servers asked about same.test give the same records:"
        " primary.same.test (10.77.0.12), secondary.same.test (10.77.0.13)."
    )
    assert report.verdict.state is VerdictState.HEALTHY
    assert report.dns == ()


def test_a_resolver_counts_ttls_down_and_agrees_all_the_same(lab: Lab, primary: str) -> None:
    resolver = lab.v4("resolver")
    lab.sh("client", "dig", f"@{resolver}", "_vlmcs._tcp.same.test", "SRV")
    report = check(lab, "same.test", servers=[resolver, primary])
    text = only(report, "agree")
    # The primary is configured and authoritative; it is one server.
    assert text.startswith("All 3 servers asked about same.test give the same records: ")
    assert text.endswith("10.77.0.15.")


def test_a_zone_with_one_server(lab: Lab, primary: str) -> None:
    text = only(check(lab, "alone.test", servers=[primary]), "single")
    assert text == "alone.test is answered by one server only (primary.alone.test (10.77.0.12)): nothing to compare."


@pytest.mark.parametrize(
    ("domain", "difference"),
    [
        ("changed.test", "kms3.changed.test:1688 is missing, kms2.changed.test:1688 is extra"),
        ("rank.test", "kms2.rank.test:1688 should have rank 0/50"),
        ("new.test", "kms1.new.test:1688 is missing, kms2.new.test:1688 is missing"),
        ("gone.test", "kms1.gone.test:1688 is extra, kms2.gone.test:1688 is extra"),
    ],
)
@pytest.mark.parametrize("asked", ["primary", "secondary"])
def test_a_stale_secondary_is_named_whichever_server_is_asked(
    lab: Lab, primary: str, asked: str, domain: str, difference: str
) -> None:
    assert primary == lab.v4("primary")
    report = check(lab, domain, servers=[lab.v4(asked)])
    assert only(report, "differ") == (
        f"secondary.{domain} (10.77.0.13) gives other records for {domain} than the newest copy: {difference}."
    )
    (finding,) = said(report, AGREE)
    assert next(fix.command for fix in finding.fixes) == f"dig +norecurse @10.77.0.13 _vlmcs._tcp.{domain} SRV"


def test_the_matrix_holds_both_copies_with_their_serials(lab: Lab, primary: str) -> None:
    report = check(lab, "changed.test", servers=[primary])
    (matrix,) = report.dns
    assert matrix.records == ("kms1.changed.test:1688", "kms2.changed.test:1688", "kms3.changed.test:1688")
    assert [(row.server, row.serial, row.cells) for row in matrix.rows] == [
        ("primary.changed.test (10.77.0.12)", 2, (Cell.PRESENT, Cell.ABSENT, Cell.PRESENT)),
        ("secondary.changed.test (10.77.0.13)", 1, (Cell.PRESENT, Cell.PRESENT, Cell.ABSENT)),
    ]


def test_both_copies_asked_is_each_named_once(lab: Lab, primary: str) -> None:
    report = check(lab, "changed.test", servers=[primary, lab.v4("secondary")])
    assert "secondary.changed.test (10.77.0.13)" in only(report, "differ")


def test_absent_and_not_reached_are_not_the_same(lab: Lab, primary: str) -> None:
    # The same secondary, which has no KMS record in its copy: heard, and not heard.
    heard = check(lab, "new.test", servers=[primary])
    with lab.nft("secondary", DROP):
        unheard = check(lab, "new.test", servers=[primary], timeout=0.6)
    assert list(words(heard, AGREE)) == ["differ"]
    assert errors(heard) == {"dns_servers_agree.differ"}
    assert words(unheard, AGREE)["not_reached"] == [
        "secondary.new.test (10.77.0.13), a name server of zone new.test, could not be asked from here: no answer."
    ]
    assert "differ" not in words(unheard, AGREE)
    assert errors(unheard) == set()
    cells = [{cell for row in report.dns[0].rows[1:] for cell in row.cells} for report in (heard, unheard)]
    assert cells == [{Cell.ABSENT}, {Cell.NOT_KNOWN}]


def test_an_older_serial_with_the_same_records(lab: Lab, primary: str) -> None:
    report = check(lab, "serial.test", servers=[primary])
    assert only(report, "stale_serial") == (
        "secondary.serial.test (10.77.0.13) has serial 1 of zone serial.test; the newest is 2."
    )
    assert errors(report) == set()


@pytest.mark.parametrize(
    ("domain", "server", "outcome"),
    [
        ("lame.test", "other.lame.test (10.77.0.14)", "REFUSED"),
        ("unloaded.test", "other.unloaded.test (10.77.0.14)", "SERVFAIL"),
    ],
)
def test_a_lame_delegation(lab: Lab, primary: str, domain: str, server: str, outcome: str) -> None:
    report = check(lab, domain, servers=[primary])
    found = words(report, AGREE)
    (text,) = found["lame"]
    assert text.startswith(f"{server} is named as a server of zone {domain} and does not serve it (")
    assert outcome in text
    assert set(found) == {"lame", "single"}


def test_a_server_that_is_down(lab: Lab, primary: str) -> None:
    report = check(lab, "down.test", servers=[primary])
    found = words(report, AGREE)
    (text,) = found["not_reached"]
    assert text.startswith(
        "nobody.down.test (10.77.0.17), a name server of zone down.test, could not be asked from here: "
    )
    assert set(found) == {"not_reached", "single"}
    # ICMP says so at once.
    assert report.counts.seconds < 1


def test_a_silent_server_is_a_warning_where_clients_ask_it(lab: Lab, primary: str) -> None:
    servers = [primary, lab.v4("secondary")]
    with lab.nft("secondary", DROP):
        mine = check(lab, "same.test", servers=servers, timeout=0.6)
        others = check(lab, "same.test", servers=[primary], timeout=0.6)
    severities = [
        {one.code.partition(".")[2]: one.severity for one in said(report, AGREE)} for report in (mine, others)
    ]
    assert severities == [
        {"could_not_ask": Severity.WARNING, "single": Severity.OK},
        {"not_reached": Severity.INFO, "single": Severity.OK},
    ]


def test_a_name_server_that_is_gone(lab: Lab, primary: str) -> None:
    found = words(check(lab, "retired.test", servers=[primary]), AGREE)
    (text,) = found["no_address"]
    assert text == (
        "retired.same.test is named as a server of zone retired.test and has no address:"
        " the name does not exist (NXDOMAIN)."
    )
    assert set(found) == {"no_address", "agree"}


def test_of_many_name_servers_twenty_are_asked(lab: Lab, primary: str) -> None:
    report = check(lab, "many.test", servers=[primary])
    found = words(report, AGREE)
    assert found["left_out"] == ["Zone many.test has 41 name servers; the first 20 by name were asked, 21 were not."]
    # All are names of one machine.
    assert set(found) == {"left_out", "single"}
    assert report.counts.questions < 60


def test_filtered_servers_cost_one_time_limit_and_not_the_sum(lab: Lab, primary: str) -> None:
    before = check(lab, "two.down.test", servers=[primary])
    with lab.nft("secondary", DROP), lab.nft("other", DROP):
        report = check(lab, "two.down.test", servers=[primary], timeout=1.5)
    assert list(words(before, AGREE)) == ["agree"]
    assert len(words(report, AGREE)["not_reached"]) == 2
    assert 1.5 <= report.counts.seconds < before.counts.seconds + 1.5 + 0.5
    assert report.verdict.state is VerdictState.HEALTHY


@pytest.mark.parametrize("given", ["servers", "resolvers of the machine"])
def test_a_silent_resolver_and_a_silent_name_server_cost_one_time_limit_and_not_the_sum(
    lab: Lab, primary: str, given: str
) -> None:
    # The name servers are told by the second configured server; the first one's silence must not keep them waiting.
    both, limit = (lab.v4("resolver"), primary), 2.0
    servers = both if given == "servers" else (SYSTEM,)
    before = check(lab, "same.test", servers=servers, resolvers=both, timeout=limit)
    with lab.nft("resolver", DROP), lab.nft("secondary", DROP):
        report = check(lab, "same.test", servers=servers, resolvers=both, timeout=limit)
    assert list(words(before, AGREE)) == ["agree"]
    assert before.counts.seconds < limit / 2
    assert limit <= report.counts.seconds < 1.75 * limit
    found = words(report, AGREE)
    assert set(found) == {"could_not_ask", "not_reached", "single"}
    assert found["could_not_ask"] == ["10.77.0.15 could not be asked about same.test: no answer."]
    (text,) = found["not_reached"]
    assert text.startswith("secondary.same.test (10.77.0.13)")


@pytest.mark.parametrize("given", ["servers", "resolvers of the machine"])
def test_a_silent_resolver_and_a_silent_host_cost_one_time_limit_and_not_the_sum(
    lab: Lab, primary: str, given: str
) -> None:
    both, limit = (lab.v4("resolver"), primary), 2.0
    servers = both if given == "servers" else (SYSTEM,)
    with lab.nft("resolver", DROP), lab.nft("kms", "tcp dport 1688 drop"):
        report = check(lab, "same.test", servers=servers, resolvers=both, timeout=limit)
    assert report.verdict.state is VerdictState.BROKEN
    assert "tcp.timeout" in [cause.code for cause in report.verdict.causes]
    assert limit <= report.counts.seconds < 1.75 * limit


def test_the_first_configured_server_is_silent_and_the_zone_is_compared_all_the_same(lab: Lab, primary: str) -> None:
    with lab.nft("other", DROP):
        report = check(lab, "changed.test", servers=[lab.v4("other"), primary], timeout=0.6)
    found = words(report, AGREE)
    assert set(found) == {"differ", "could_not_ask"}
    assert found["differ"][0].startswith("secondary.changed.test (10.77.0.13)")


@pytest.mark.parametrize(
    "rule", ["drop", "reject with tcp reset", "reject with icmp type admin-prohibited"], ids=lambda rule: rule[-10:]
)
def test_tcp_53_blocked_at_one_server(lab: Lab, primary: str, rule: str) -> None:
    with lab.nft("secondary", f"tcp dport 53 {rule}"):
        report = check(lab, "same.test", servers=[primary], timeout=0.6)
    text = only(report, "tcp_blocked")
    assert text.startswith("secondary.same.test (10.77.0.13) answers about same.test over UDP but not over TCP 53 (")


def test_tcp_53_blocked_at_a_resolver(lab: Lab, primary: str) -> None:
    """Its clients lose the answers that do not fit into a datagram, whatever the zone's own servers can do."""
    with lab.nft("resolver", "tcp dport 53 drop"):
        report = check(lab, "same.test", "alone.test", servers=[lab.v4("resolver"), primary], timeout=0.6)
    assert words(report, AGREE)["tcp_blocked"] == [
        "10.77.0.15 answers about same.test over UDP but not over TCP 53 (no answer)."
    ]
    # Beside all other silence: no time limit more.
    assert report.counts.seconds < 1


def test_a_wildcard_zone(lab: Lab, primary: str) -> None:
    report = check(lab, "wild.test", servers=[primary])
    assert set(words(report, "dns_wildcard")) == {"wildcard", "rewritten"}
    assert list(words(report, "dns_misspelt")) == ["wildcard"]


def test_a_wildcard_of_addresses_only(lab: Lab, primary: str) -> None:
    report = check(lab, "rewritten.test", servers=[primary])
    assert list(words(report, "dns_wildcard")) == ["rewritten"]
    assert list(words(report, "dns_misspelt")) == ["none"]


def test_a_wildcard_beside_the_real_record_is_no_misspelt_one(lab: Lab, primary: str) -> None:
    # _tcp exists here, so the wildcard does not reach below it (RFC 4592 section 2.2.2); it reaches _udp and others.
    report = check(lab, "wild-and-real.test", servers=[primary])
    assert list(words(report, "dns_misspelt")) == ["wildcard"]
    assert list(words(report, "dns_wildcard")) == ["wildcard"]


def test_misspelt_records(lab: Lab, primary: str) -> None:
    report = check(lab, "misspelt.test", "beside.test", "same.test", servers=[primary])
    found = words(report, "dns_misspelt")
    assert sorted(found["found"]) == [
        (
            "_vmlcs._tcp.misspelt.test holds an SRV record (kms1.misspelt.test:1688);"
            " clients ask for _vlmcs._tcp.misspelt.test only."
        ),
        "beside.test holds an SRV record (kms2.beside.test:1688); clients ask for _vlmcs._tcp.beside.test only.",
    ]
    assert found["none"] == ["same.test has no KMS record under a near-miss name (8 names tried)."]
    assert "srv.nxdomain" in {cause.code for cause in report.verdict.causes}
