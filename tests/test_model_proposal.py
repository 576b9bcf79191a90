from typing import Any

import pytest

from kmsdiag.model.answer import AddressAnswer, Answer, LookupAnswer, SrvAnswer
from kmsdiag.model.outcome import DnsOutcome, LookupOutcome
from kmsdiag.model.proposal import Proposal, ProposedAddresses, ProposedSrv
from kmsdiag.model.request import AddressQuery, Request, RpcBind, SoaQuery, SrvQuery, SystemLookup
from kmsdiag.model.target import Family
from tests.conftest import AT, DOMAIN, World, record

NAME = f"_vlmcs._tcp.{DOMAIN}"
KMS1 = f"kms1.{DOMAIN}"
SRV = SrvQuery(name=NAME, server="10.1.0.2")
A = AddressQuery(name=KMS1, family=Family.IPV4)
AAAA = AddressQuery(name=KMS1, family=Family.IPV6)
PROPOSAL = Proposal(
    srv=(ProposedSrv(NAME, (record("kms1"),)),), addresses=(ProposedAddresses(KMS1, Family.IPV4, ("10.1.0.8",)),)
)
ZONE = Proposal(srv=PROPOSAL.srv, addresses=PROPOSAL.addresses, zones=(DOMAIN,), cuts=(f"branch.{DOMAIN}",))


def answer(request: Request[Any], live: Answer | None = None, proposal: Proposal = PROPOSAL) -> Any:
    return proposal.answer(request, live, AT)


class TestRecords:
    def test_srv_at_every_server(self) -> None:
        for server in ("10.1.0.2", "system"):
            found = answer(SrvQuery(name=NAME, server=server))
            assert isinstance(found, SrvAnswer)
            assert (found.outcome, found.records, found.server) == (DnsOutcome.ANSWERED, (record("kms1"),), server)
            assert not found.authoritative
        assert answer(SrvQuery(name=NAME, server="10.1.0.2", recursion=False)).authoritative

    def test_addresses_of_one_type(self) -> None:
        found = answer(A)
        assert isinstance(found, AddressAnswer)
        assert found.addresses == ("10.1.0.8",)
        assert answer(AAAA) is None

    def test_the_operating_system_finds_them(self) -> None:
        found = answer(SystemLookup(name=KMS1))
        assert isinstance(found, LookupAnswer)
        assert (found.outcome, found.addresses) == (LookupOutcome.FOUND, ("10.1.0.8",))
        assert answer(SystemLookup(name=f"kms2.{DOMAIN}")) is None

    @pytest.mark.parametrize(
        "request_",
        [
            SrvQuery(name="_vlmcs._tcp.fabrikam.example"),
            AddressQuery(name=f"kms2.{DOMAIN}", family=Family.IPV4),
            SoaQuery(name=NAME),
            RpcBind(address="10.1.0.8", port=1688),
        ],
    )
    def test_of_all_else_nothing_is_said(self, request_: Request[Any]) -> None:
        assert answer(request_) is None


class TestServersThatDoNotServe:
    @pytest.mark.parametrize("outcome", [DnsOutcome.TIMEOUT, DnsOutcome.REFUSED, DnsOutcome.SERVFAIL])
    def test_will_not_serve_new_records_either(self, outcome: DnsOutcome) -> None:
        live = World(DOMAIN, servers=("10.1.0.2",)).srv(outcome=outcome, server="10.1.0.2").facts[SRV]
        assert answer(SRV, live) is None

    @pytest.mark.parametrize("outcome", [DnsOutcome.NXDOMAIN, DnsOutcome.NODATA])
    def test_one_that_has_none_yet_will(self, outcome: DnsOutcome) -> None:
        live = World(DOMAIN, servers=("10.1.0.2",)).srv(outcome=outcome, server="10.1.0.2").facts[SRV]
        assert answer(SRV, live).records == (record("kms1"),)


class TestWholeZone:
    @pytest.mark.parametrize(
        ("name", "outcome"),
        [
            (f"_vlmcs._tcp.sub.{DOMAIN}", DnsOutcome.NXDOMAIN),
            (f"_tcp.{DOMAIN}", DnsOutcome.NODATA),
            (KMS1, DnsOutcome.NODATA),
        ],
    )
    def test_what_is_not_listed_is_not_there(self, name: str, outcome: DnsOutcome) -> None:
        found = answer(SrvQuery(name=name), proposal=ZONE)
        assert (found.outcome, found.records) == (outcome, ())

    def test_nor_are_addresses(self) -> None:
        assert answer(AAAA, proposal=ZONE).outcome is DnsOutcome.NODATA
        gone = answer(AddressQuery(name=f"kms2.{DOMAIN}", family=Family.IPV4), proposal=ZONE)
        assert gone.outcome is DnsOutcome.NXDOMAIN
        assert answer(SystemLookup(name=f"kms2.{DOMAIN}"), proposal=ZONE).outcome is LookupOutcome.NOT_FOUND

    @pytest.mark.parametrize("name", [f"_vlmcs._tcp.branch.{DOMAIN}", f"branch.{DOMAIN}", f"_vlmcs._tcp.x{DOMAIN}"])
    def test_what_it_delegates_and_what_lies_outside_is_as_it_was(self, name: str) -> None:
        assert answer(SrvQuery(name=name), proposal=ZONE) is None
