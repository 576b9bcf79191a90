import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag import plan
from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.evidence import Missing
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.target import Expected, ExpectedHost, Product, Site
from kmsdiag.plan import Kind
from tests.conftest import DOMAIN, World, record

KMS1, KMS2 = f"kms1.{DOMAIN}", f"kms2.{DOMAIN}"
HOSTS = (ExpectedHost(KMS1, domains=(DOMAIN,)), ExpectedHost(KMS2, domains=(DOMAIN,)))
SERVERS = ("10.1.0.2", "10.1.0.3")


def world(*sites: Site, hosts: tuple[ExpectedHost, ...] = HOSTS, servers: tuple[str, ...] = SERVERS) -> World:
    return World(DOMAIN, servers=servers, expected=Expected(hosts=hosts, planned=True, sites=sites))


def site(name: str = "hq", servers: tuple[str, ...] = (), client: int = 0, server: int = 0, office: int = 0) -> Site:
    return Site(name=name, domain=DOMAIN, servers=servers, client=client, server=server, office=office)


class TestShares:
    def test_a_host_that_does_not_serve_a_product_passes_its_clients_on(self) -> None:
        hosts = (ExpectedHost(KMS1, serves=(Product.WINDOWS,)), ExpectedHost(KMS2))
        records = (record("kms1"), record("kms2"))
        assert plan.shares(records, Product.WINDOWS, hosts) == {KMS1: 0.5, KMS2: 0.5}
        assert plan.shares(records, Product.OFFICE, hosts) == {KMS2: 1.0}

    def test_nobody_serves_it(self) -> None:
        hosts = (ExpectedHost(KMS1, serves=(Product.WINDOWS,)),)
        assert plan.shares((record("kms1"),), Product.OFFICE, hosts) == {}

    def test_a_host_that_nobody_expects_takes_its_part(self) -> None:
        assert plan.shares((record("kms1"), record("desktop-17")), Product.OFFICE, HOSTS)[KMS1] == 0.5

    def test_two_records_of_one_host_are_one_share(self) -> None:
        assert plan.shares((record("kms1"), record("kms1", port=1689)), Product.WINDOWS, HOSTS) == {KMS1: 1.0}

    @settings(max_examples=50)
    @given(
        st.lists(
            st.builds(
                SrvRecord,
                st.integers(0, 2),
                st.integers(0, 65_535),
                st.just(1688),
                st.sampled_from((KMS1, KMS2, ".", f"kms3.{DOMAIN}")),
                st.just(60),
            ),
            max_size=6,
        )
    )
    def test_shares_are_of_a_whole(self, records: list[SrvRecord]) -> None:
        found = plan.shares(records, Product.WINDOWS, HOSTS)
        assert "." not in found
        assert not found or sum(found.values()) == pytest.approx(1.0)


class TestLoad:
    def test_windows_clients_and_servers_are_counted_together_and_office_apart(self) -> None:
        seen = world(site(client=40, server=10, office=12)).srv(record("kms1"), server=SERVERS[0])
        seen.srv(record("kms1"), server=SERVERS[1])
        load = plan.load(seen.evidence())
        assert load is not None
        assert load.counts == {(KMS1, Product.WINDOWS): 50, (KMS1, Product.OFFICE): 12}
        assert [dict(load.hosts(kind)) for kind in Kind] == [{KMS1: 50}, {KMS1: 50}, {KMS1: 12}]

    def test_each_site_is_told_by_its_own_server(self) -> None:
        sites = (site("hq", (SERVERS[0],), client=30), site("branch", (SERVERS[1],), client=20))
        seen = world(*sites).srv(record("kms1"), server=SERVERS[0])
        seen.srv(record("kms1"), record("kms2"), server=SERVERS[1])
        load = plan.load(seen.evidence())
        assert load is not None
        assert dict(load.hosts(Kind.CLIENT)) == {KMS1: 40, KMS2: 10}
        assert not load.assumed

    def test_where_other_servers_are_asked_those_speak_for_the_site(self) -> None:
        seen = world(site("hq", ("10.9.9.9",), client=30), servers=SERVERS[:1]).srv(record("kms1"), server=SERVERS[0])
        load = plan.load(seen.evidence())
        assert load is not None
        assert dict(load.hosts(Kind.CLIENT)) == {KMS1: 30}

    def test_without_any_record_those_of_the_plan_are_assumed(self) -> None:
        hosts = (HOSTS[0], ExpectedHost(KMS2, domains=(DOMAIN,), priority=10))
        seen = world(site(client=30), hosts=hosts, servers=SERVERS[:1]).srv(server=SERVERS[0])
        load = plan.load(seen.evidence())
        assert load is not None
        assert load.assumed
        assert dict(load.hosts(Kind.CLIENT)) == {KMS1: 30, KMS2: 0}

    def test_a_failing_server_is_no_absence(self) -> None:
        seen = world(site(client=30), servers=SERVERS[:1]).srv(outcome=DnsOutcome.SERVFAIL, server=SERVERS[0])
        assert plan.load(seen.evidence()) is None

    def test_a_question_never_put_is_a_gap(self) -> None:
        with pytest.raises(Missing):
            plan.load(world(site(client=30)).evidence())


@pytest.mark.parametrize(
    ("kind", "product", "threshold"),
    [(Kind.CLIENT, Product.WINDOWS, 25), (Kind.SERVER, Product.WINDOWS, 5), (Kind.OFFICE, Product.OFFICE, 5)],
)
def test_thresholds(kind: Kind, product: Product, threshold: int) -> None:
    assert (kind.product, kind.threshold) == (product, threshold)
