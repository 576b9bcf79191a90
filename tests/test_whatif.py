import asyncio
from typing import Any

import msgspec
import pytest

from kmsdiag import bundle as bundles
from kmsdiag import diagnosis
from kmsdiag.engine import Budget, NoAnswer
from kmsdiag.model.answer import Answer
from kmsdiag.model.audit import DomainShift, Removed, Share, WhatIf
from kmsdiag.model.outcome import DnsOutcome, TcpOutcome
from kmsdiag.model.path import VerdictState
from kmsdiag.model.proposal import Proposal
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.request import Request, SrvQuery, TcpConnect
from kmsdiag.model.target import Expected, ExpectedHost, Product, Site
from kmsdiag.registry import discover
from kmsdiag.wire.zone import read
from tests.conftest import DOMAIN, World, record

KMS1, KMS2, KMS3 = (f"kms{number}.{DOMAIN}" for number in (1, 2, 3))


def proposal(text: str) -> Proposal:
    return read(text, DOMAIN)


def report(world: World, text: str) -> Report:
    return diagnosis.judge(msgspec.structs.replace(world.bundle(), proposed=proposal(text)), discover())


def what_if(world: World, text: str) -> WhatIf:
    found = report(world, text).what_if
    assert found is not None
    return found


def shift(world: World, text: str) -> DomainShift:
    (only,) = what_if(world, text).domains
    return only


def two_hosts(**fields: Any) -> World:
    world = World(DOMAIN, **fields).srv(record("kms1", ttl=600), record("kms2", ttl=600))
    return world.host("kms1", "10.1.0.8").host("kms2", "10.1.0.9")


class TestShares:
    def test_priority_counts_for_some_and_not_for_others(self) -> None:
        found = shift(two_hosts(), "_vlmcs._tcp SRV 0 0 1688 kms1\n_vlmcs._tcp SRV 10 0 1688 kms2\n")
        assert found.before == (
            Share(host=KMS1, ranked=0.5, random=0.5),
            Share(host=KMS2, ranked=0.5, random=0.5),
        )
        assert found.after == (Share(host=KMS1, ranked=1.0, random=0.5), Share(host=KMS2, ranked=0.0, random=0.5))
        assert (found.moves, found.moves_random) == (0.5, 0.0)
        assert found.ttl == 600

    def test_planned_machines_follow_what_a_host_serves(self) -> None:
        hosts = (
            ExpectedHost(KMS1, domains=(DOMAIN,), serves=(Product.WINDOWS,)),
            ExpectedHost(KMS2, domains=(DOMAIN,)),
        )
        site = Site(name="hq", domain=DOMAIN, client=90, server=10, office=40)
        world = two_hosts(expected=Expected(hosts=hosts, planned=True, sites=(site,)))
        found = shift(world, "_vlmcs._tcp SRV 0 0 1688 kms2\n")
        assert [(share.host, share.windows, share.office) for share in found.before] == [
            (KMS1, 50, None),
            (KMS2, 50, 40),
        ]
        assert [(share.host, share.windows, share.office) for share in found.after] == [(KMS2, 100, 40)]

    def test_a_host_in_place_of_another(self) -> None:
        world = two_hosts().host("kms3", "10.1.0.10").tcp("10.1.0.9", TcpOutcome.TIMEOUT)
        found = shift(world, "_vlmcs._tcp SRV 0 0 1688 kms1\n_vlmcs._tcp SRV 0 0 1688 kms3\n")
        assert found.added == (f"{KMS3}:1688",)
        assert found.removed == (Removed(host=f"{KMS2}:1688", answers=False),)
        assert found.moves == 0.5

    @pytest.mark.parametrize(
        ("outcome", "answers"), [(TcpOutcome.OPEN, True), (TcpOutcome.TIMEOUT, False), (TcpOutcome.NO_ROUTE, None)]
    )
    def test_whether_a_removed_host_answers(self, outcome: TcpOutcome, *, answers: bool | None) -> None:
        found = shift(two_hosts().tcp("10.1.0.9", outcome), "_vlmcs._tcp SRV 0 0 1688 kms1\n")
        assert found.removed == (Removed(host=f"{KMS2}:1688", answers=answers),)

    def test_a_first_record(self) -> None:
        found = shift(World(DOMAIN).srv().host("kms1", "10.1.0.8"), "_vlmcs._tcp SRV 0 0 1688 kms1\n")
        assert (found.before, found.moves, found.ttl) == ((), 1.0, 0)

    @pytest.mark.parametrize("text", ["_vlmcs._tcp SRV 0 0 0 .\n", "@ SOA ns h 1 2 3 4 5\n@ NS ns\n"])
    def test_no_record_any_more(self, text: str) -> None:
        found = shift(two_hosts(), text)
        assert found.after == ()
        assert [one.host for one in found.removed] == [f"{KMS1}:1688", f"{KMS2}:1688"]

    def test_a_domain_that_the_proposal_does_not_name(self) -> None:
        world = World(DOMAIN, "fabrikam.example").srv(record("kms1")).srv(domain="fabrikam.example")
        found = what_if(world.host("kms1", "10.1.0.8"), "_vlmcs._tcp SRV 0 0 1688 kms1\n")
        assert [one.domain for one in found.domains] == [DOMAIN]


class TestReport:
    def test_is_about_the_world_with_the_records_in_place(self) -> None:
        world = World(DOMAIN).srv(record("kms2")).name("kms2", "10.1.0.9").tcp("10.1.0.9", TcpOutcome.TIMEOUT)
        found = report(world.host("kms1", "10.1.0.8"), "_vlmcs._tcp SRV 0 0 1688 kms1\n")
        assert found.verdict.state is VerdictState.HEALTHY
        assert [path.target for path in found.paths] == [KMS1]
        assert found.what_if is not None
        effects = {effect.what: effect.better for effect in found.what_if.effects}
        assert effects["verdict: broken → healthy"] is True

    def test_what_is_lost_comes_first(self) -> None:
        world = two_hosts().name("kms3", absent=DnsOutcome.NXDOMAIN)
        effects = what_if(world, "_vlmcs._tcp SRV 0 0 1688 kms3\n").effects
        assert effects[0].better is False
        assert [effect.better for effect in effects] == sorted(
            (effect.better for effect in effects), key=(False, True, None).index
        )

    def test_proposed_addresses_are_knocked_at(self) -> None:
        world = World(DOMAIN).srv(record("kms1")).host("kms1", "10.1.0.8").tcp("10.1.0.18").rpc("10.1.0.18")
        found = report(world, "kms1 A 10.1.0.18\n_vlmcs._tcp SRV 0 0 1688 kms1\n")
        assert [route.address for path in found.paths for route in path.routes] == ["10.1.0.18"]

    def test_a_server_that_does_not_serve_does_not_serve_them_either(self) -> None:
        servers = ("10.1.0.2", "10.1.0.3")
        world = World(DOMAIN, servers=servers).srv(record("kms1"), server=servers[0])
        world.srv(outcome=DnsOutcome.TIMEOUT, server=servers[1]).name("kms1", "10.1.0.8", server=servers[0])
        found = report(world.tcp("10.1.0.8").rpc("10.1.0.8"), "_vlmcs._tcp SRV 5 0 1688 kms1\n")
        assert [(path.target, path.state.value) for path in found.paths] == [("–", "fail"), (KMS1, "ok")]

    def test_records_are_listed_as_in_a_zone_file(self) -> None:
        text = "_vlmcs._tcp 60 SRV 0 0 1688 kms1\nkms1 A 10.1.0.8\nkms1 AAAA fd00::8\n"
        assert what_if(two_hosts(), text).records == (
            f"_vlmcs._tcp.{DOMAIN}. 60 IN SRV 0 0 1688 {KMS1}.",
            f"{KMS1}. IN A 10.1.0.8",
            f"{KMS1}. IN AAAA fd00::8",
        )

    def test_the_recorded_run_says_the_same_again(self) -> None:
        bundle = msgspec.structs.replace(two_hosts().bundle(), proposed=proposal("_vlmcs._tcp SRV 0 0 1688 kms1\n"))
        again = bundles.decode(bundles.encode(bundle))
        assert again == bundle
        assert diagnosis.judge(again, discover()) == diagnosis.judge(bundle, discover())


class _Network:
    """Answers from a world, and keeps what it was asked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: list[Request[Any]] = []

    async def answer(self, request: Request[Any], /) -> Answer:
        self.asked.append(request)
        found = self.world.facts.get(request)
        if found is None:
            raise NoAnswer("nobody knows")
        return found


class TestGathering:
    def gather(self, text: str, seconds: float = 60.0) -> tuple[bundles.Bundle, _Network]:
        network = _Network(two_hosts().host("kms3", "10.1.0.10"))
        checks = discover().select(["rpc_service", "dns_srv_targets"])
        target = msgspec.structs.replace(network.world.target, clock=False, trace=False)
        run = diagnosis.gather(
            target, checks, network, Vantage(label="x"), budget=Budget(seconds=seconds), proposed=proposal(text)
        )
        return asyncio.run(run), network

    def test_the_world_is_asked_as_it_is_and_then_what_is_new(self) -> None:
        text = "_vlmcs._tcp SRV 0 0 1688 kms3\n"
        bundle, network = self.gather(text)
        assert len(set(network.asked)) == len(network.asked), "a question was put twice"
        answers = bundle.answers()
        live = answers[SrvQuery(name=f"_vlmcs._tcp.{DOMAIN}")]
        assert [one.target for one in live.records] == [KMS1, KMS2]  # type: ignore[attr-defined]
        reached = {request.address for request in answers if isinstance(request, TcpConnect)}
        assert reached >= {"10.1.0.8", "10.1.0.9", "10.1.0.10"}
        assert bundle.proposed == proposal(text)

    def test_what_only_the_proposal_knows_is_never_recorded_as_seen(self) -> None:
        bundle, network = self.gather("_vlmcs._tcp SRV 0 0 1688 kms4\nkms4 A 10.1.0.44\n")
        assert not [fact for fact in bundle.facts if "kms4" in str(fact.answer)]
        assert TcpConnect(address="10.1.0.44", port=1688) in network.asked

    def test_the_deadline_bounds_both_passes(self) -> None:
        bundle, _network = self.gather("_vlmcs._tcp SRV 0 0 1688 kms3\n", seconds=0.0)
        assert set(bundle.gaps().values()) == {"the deadline of 0 s was reached"}
