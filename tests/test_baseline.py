import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag import baseline, diagnosis
from kmsdiag.expected import ExpectedState, read
from kmsdiag.model.audit import RequirementState
from kmsdiag.model.outcome import DnsOutcome, TcpOutcome
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.target import ExpectedHost, Product, Site
from kmsdiag.registry import discover
from kmsdiag.report.words import visible
from tests.conftest import DOMAIN, World, record
from tests.labruns import NAMES, hostile_report, runs

BOTH = tuple(Product)


def report(world: World) -> Report:
    return diagnosis.judge(msgspec.structs.replace(world.bundle(), vantage=Vantage(label="pc-17")), discover())


def written(world: World) -> ExpectedState:
    return read(baseline.render(report(world)).encode(), "expected.toml")


class TestWhatWasSeen:
    def test_a_domain(self) -> None:
        found = written(World(DOMAIN, servers=("10.1.0.2",)).srv(record("kms1", 1, 2, 1689), server="10.1.0.2"))
        assert (found.domains, found.servers) == ((DOMAIN,), ("10.1.0.2",))
        (host,) = found.expected.hosts
        assert host == ExpectedHost(f"kms1.{DOMAIN}", 1689, BOTH, (DOMAIN,), (), 1, 2)
        assert found.expected.max_hosts == 1
        assert found.expected.sites == (Site(name=DOMAIN, domain=DOMAIN, servers=("10.1.0.2",)),)

    def test_addresses_and_domains(self) -> None:
        other = "fabrikam.example"
        world = World(DOMAIN, other).srv(record("kms1")).srv(record("kms1"), record(f"kms.{other}"), domain=other)
        found = written(world.host("kms1", "10.1.0.8").host(f"kms.{other}", "10.2.0.8"))
        assert found.expected.hosts == (
            ExpectedHost(f"kms.{other}", 1688, BOTH, (other,), ("10.2.0.8",), 0, 0),
            ExpectedHost(f"kms1.{DOMAIN}", 1688, BOTH, (DOMAIN, other), ("10.1.0.8",), 0, 0),
        )
        assert found.expected.max_hosts == 2

    def test_several_ranks_are_left_to_a_person(self) -> None:
        (host,) = written(World(DOMAIN).srv(record("kms1", 1), record("kms1", 2))).expected.hosts
        assert (host.priority, host.weight) == (None, None)

    def test_the_machines_own_resolvers_stand_for_system(self) -> None:
        assert written(World(DOMAIN, resolvers=("10.1.0.2",)).srv()).servers == ("10.1.0.2",)
        assert written(World(DOMAIN).srv()).servers == ("system",)

    def test_nothing_is_published(self) -> None:
        found = written(World(DOMAIN, suffixes=("corp.example",)).srv())
        assert (found.expected.hosts, found.expected.max_hosts) == ((), None)
        assert found.suffixes == ("corp.example",)

    @pytest.mark.parametrize("target", ["."])
    def test_what_is_not_offered_is_no_host(self, target: str) -> None:
        assert written(World(DOMAIN).srv(record(target, port=0))).expected.hosts == ()

    @pytest.mark.parametrize("target", ["a b.contoso.example", "kms1-", "con\x1b[2Jtoso.example", "bare"])
    def test_what_is_no_host_is_a_remark(self, target: str) -> None:
        world = World(DOMAIN).srv(record("kms1"))
        records = (record("kms1"), msgspec.structs.replace(record("kms1"), target=target))
        text = baseline.render(report(world.srv(*records)))
        assert [host.host for host in read(text.encode(), "x").expected.hosts] == [f"kms1.{DOMAIN}"]
        assert "which is no host: it is left out" in text
        assert "\x1b" not in text

    @pytest.mark.parametrize(
        ("outcome", "words"),
        [
            (TcpOutcome.OPEN, "# answered as KMS\n"),
            (TcpOutcome.TIMEOUT, "# DID NOT ANSWER (stage tcp): leave it out if it is retired\n"),
            (TcpOutcome.NO_ROUTE, "# could not be tested: is it a KMS host?\n"),
        ],
    )
    def test_remarks_say_how_it_was(self, outcome: TcpOutcome, words: str) -> None:
        world = World(DOMAIN).srv(record("kms1")).host("kms1", "10.1.0.8").tcp("10.1.0.8", outcome)
        assert words in baseline.render(report(world))

    def test_the_same_report_gives_the_same_text(self) -> None:
        found = report(World(DOMAIN).srv(record("kms1")).host("kms1", "10.1.0.8"))
        assert baseline.render(found) == baseline.render(found)


@pytest.mark.parametrize("name", NAMES)
def test_every_lab_is_a_sound_file(name: str) -> None:
    found = runs()[name].report
    assert read(baseline.render(found).encode(), "x").domains == found.target.domains


def test_reality_meets_its_own_baseline() -> None:
    """What was just written down is found again."""
    world = World(DOMAIN).srv(record("kms1"), record("kms2", 10)).host("kms1", "10.1.0.8").host("kms2", "10.1.0.9")
    state = written(world)
    world.target = msgspec.structs.replace(world.target, expected=state.expected)
    audit = report(world).audit
    assert audit is not None
    failed = [one.what for one in audit.requirements if one.state is RequirementState.FAIL]
    assert failed == []


@settings(max_examples=100)
@given(st.lists(st.text(min_size=1, max_size=12), max_size=4), st.sampled_from(list(DnsOutcome)))
def test_whatever_dns_names_the_file_is_sound(names: list[str], outcome: DnsOutcome) -> None:
    world = World(DOMAIN)
    records = [msgspec.structs.replace(record("kms1"), target=f"{name}.example") for name in names]
    world.srv(*records, outcome=None if records else outcome)
    text = baseline.render(report(world))
    assert read(text.encode(), "x").domains == (DOMAIN,)
    assert all(visible(line) == line for line in text.split("\n"))


def test_hostile_reports_are_made_visible() -> None:
    """Domains in a report come from the command line; everything else may be hostile."""
    text = baseline.render(msgspec.structs.replace(hostile_report(), target=World(DOMAIN).target))
    assert read(text.encode(), "x").domains == (DOMAIN,)
    assert "\x1b" not in text
