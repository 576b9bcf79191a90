"""Checks over collected files, against any state of machines that a reader may make of foreign bytes."""

import datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag import engine
from kmsdiag.engine import Budget, Inquiry
from kmsdiag.knowledge.licences import OFFICE, WINDOWS
from kmsdiag.model.answer import Answer, KmsOverride, SrvRecord
from kmsdiag.model.collected import (
    CachedHost,
    HostSettings,
    HostState,
    MachineState,
    NetworkState,
    PortTest,
    ProductState,
    PublishDomain,
    Requests,
    ToolLookup,
)
from kmsdiag.model.finding import CheckResult, Severity
from kmsdiag.model.outcome import DnsOutcome, TcpOutcome
from kmsdiag.model.request import Request
from kmsdiag.model.target import Expected
from kmsdiag.registry import LoadedCheck, discover
from kmsdiag.report.words import fields
from tests.conftest import AT, World, record

CHECKS = [
    check
    for check in discover().checks
    if check.id.partition("_")[0] in ("client", "host") and list(check.module.subjects(World().status("a.txt").target))
]

ODD = st.sampled_from(
    ["", "x", "{who}", "a\nb", "'; rm", "[", "::", ":", "10.1.0.8", "[2001:db8::8]", "kms1:1688", "%"]
)
HOST = st.sampled_from(["kms1", "KMS1.contoso.example.", "kms-old.contoso.example"]) | ODD
NUMBER = st.sampled_from([-1, 0, 1, 5, 14, 25, 50, 1688, 43_201, 200_000, 259_200, 2**31, 10**15])
COUNT = st.none() | NUMBER
FLAG = st.none() | st.booleans()
ID = st.sampled_from(["", "36f27b39-2fd5-440b-be67-a09996d27a38", "36f27b39-2fd5-440b-be67-a09996d27a39"])

REQUESTS = st.builds(Requests, total=COUNT, failed=COUNT, expired=COUNT, notification=COUNT)
STATE = st.builds(
    HostState, count=COUNT, required=COUNT, port=NUMBER, publishing=FLAG, low_priority=FLAG, requests=REQUESTS
)
CHANNEL = st.sampled_from(
    ["Volume:GVLK", "", "Volume:CSVLK", "Volume:GVLK", "Volume:MAK", "Retail", "OEM:DM", "Whatever"]
)
NAME = st.sampled_from(["", "Windows(R), Enterprise edition", "Windows(R) 7, Server", "Office 21, Office21"]) | ODD
GROUP = st.sampled_from(["", "VOLUME_KMS_WS22 channel", "VOLUME_KMS_2012-R2 channel", "VOLUME_KMS_W10 channel"]) | ODD
PRODUCT = st.builds(
    ProductState,
    name=NAME,
    description=GROUP,
    application_id=st.sampled_from(["", WINDOWS, OFFICE]),
    activation_id=ID,
    channel=CHANNEL,
    status=st.sampled_from([1, -1, 0, 2, 5, 6, 9]),
    reason=st.sampled_from(["", "0xC004F056", "4004F00C", "-1073418124"]) | ODD,
    grace_minutes=NUMBER,
    discovered_host=HOST,
    discovered_port=NUMBER,
    in_use=FLAG,
    client_machine_id=ID,
    override_host=HOST,
    override_port=NUMBER,
    no_host=st.booleans(),
    extended_pid=st.sampled_from(["", "03612-03311-000-000001-03-1033-26200.0000-2232026"]) | ODD,
    activation_interval_min=NUMBER,
    renewal_interval_min=NUMBER,
    caching=FLAG,
    activation_type=st.sampled_from(["", "all", "ad", "kms", "token"]),
    permanent=st.booleans(),
    ad_object=ODD,
    vm_host=st.just("") | ODD,
    result=st.sampled_from(["", "0x00000000", "0xC004F074", "0xC004F0FF"]) | ODD,
    never_asked=st.booleans(),
    host=st.none() | STATE,
)
SETTINGS = st.builds(
    HostSettings,
    listening_port=NUMBER,
    publishing=FLAG,
    publish_domains=st.lists(st.builds(PublishDomain, domain=HOST, priority=NUMBER), max_size=2).map(tuple),
    low_priority=FLAG,
    activation_interval_min=NUMBER,
    renewal_interval_min=NUMBER,
    registered_domain=HOST,
    registered_port=NUMBER,
    misplaced=st.sampled_from([(), ("DisableDnsPublishing",)]),
)
SRV = st.sampled_from(["_vlmcs._tcp.contoso.example", "_VLMCS._TCP.corp.example.", "_vlmcs._tcp."]) | HOST
LOOKUP = st.builds(
    ToolLookup,
    tool=st.just("nslookup"),
    name=SRV,
    kind=st.sampled_from(["SRV", "A", "AAAA"]),
    outcome=st.sampled_from(DnsOutcome),
    records=st.lists(st.builds(SrvRecord, st.just(0), st.just(0), st.just(1688), HOST, st.just(60)), max_size=2).map(
        tuple
    ),
    addresses=st.sampled_from([(), ("10.1.0.8",)]),
)
TEST = st.builds(
    PortTest, tool=st.just("PsPing"), target=HOST, port=NUMBER, succeeded=st.booleans(), address=ODD, ping=FLAG
)
NAMES = st.lists(HOST, max_size=2).map(tuple)
NETWORK = st.builds(
    NetworkState,
    complete=st.booleans(),
    primary_suffix=HOST,
    search=NAMES,
    adapter_suffixes=NAMES,
    resolvers=NAMES,
    addresses=NAMES,
    lookups=st.lists(LOOKUP, max_size=3).map(tuple),
    ports=st.lists(TEST, max_size=2).map(tuple),
)
OVERRIDE = st.builds(
    KmsOverride,
    level=st.sampled_from(["global", "application", "product", "unheard of"]),
    host=HOST,
    port=NUMBER,
    scope=st.sampled_from(["", OFFICE]) | ODD,
    view=st.sampled_from(["64", "32"]),
)
MACHINE = st.builds(
    MachineState,
    name=st.sampled_from(["", "pc1", "pc2", "kms1.contoso.example"]) | ODD,
    sources=st.just(("slmgr /dlv",)),
    system=st.sampled_from(["", "Windows 11", "Windows Server 2008 Enterprise", "10.0.17763"]) | ODD,
    products=st.lists(PRODUCT, max_size=3).map(tuple),
    overrides=st.lists(OVERRIDE, max_size=3).map(tuple),
    lookup_domain=ODD,
    caching=FLAG,
    client_machine_id=ID,
    cached=st.lists(st.builds(CachedHost, host=HOST, port=NUMBER), max_size=2).map(tuple),
    settings=st.none() | SETTINGS,
    network=st.none() | NETWORK,
    collected_at=st.sampled_from([None, AT, AT + datetime.timedelta(days=3)]),
)
STATES = st.lists(st.lists(MACHINE, max_size=3), min_size=1, max_size=3)


def world_of(files: list[list[MachineState]]) -> World:
    world = World("contoso.example", expected=Expected(machines=30))
    world.srv(record("kms1")).name("kms1", "10.1.0.8").tcp("10.1.0.8", TcpOutcome.TIMEOUT)
    for number, states in enumerate(files):
        world.status(f"{number}.txt", *states)
    return world


def results(check: LoadedCheck, world: World, left_out: Request[Answer] | None = None) -> list[CheckResult]:
    inquiry = Inquiry([check], world.target, Budget())

    def answer(request: Request[Answer]) -> Answer | str:
        return "left out" if request == left_out else world.facts.get(request) or "not recorded"

    engine.replay(inquiry, answer)
    return engine.judge(inquiry)


def test_all_checks_over_files_are_here() -> None:
    assert len(CHECKS) == 10


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
@settings(max_examples=40)
@given(files=STATES)
def test_whatever_files_hold_is_judged(check: LoadedCheck, files: list[list[MachineState]]) -> None:
    """No crash, no silence, and every template has its values."""
    (result,) = results(check, world_of(files))
    assert not result.crash
    assert result.findings
    for finding in result.findings:
        code = check.module.META.codes[finding.code]
        texts = [code.text, code.consequence, *(text for fix in code.fixes for text in (fix.text, fix.command))]
        assert set().union(*map(fields, texts)) == finding.args.keys()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
@settings(max_examples=12)
@given(files=STATES)
def test_an_answer_less_never_adds_an_error(check: LoadedCheck, files: list[list[MachineState]]) -> None:
    world = world_of(files)

    def errors(left_out: Request[Answer] | None) -> int:
        (result,) = results(check, world, left_out)
        codes = check.module.META.codes
        return sum(codes[finding.code].severity is Severity.ERROR for finding in result.findings)

    before = errors(None)
    assert all(errors(request) <= before for request in world.facts)


@given(files=STATES)
@settings(max_examples=12)
def test_neither_the_order_of_files_nor_that_of_machines_matters(files: list[list[MachineState]]) -> None:
    turned = world_of(files)
    turned.facts = dict(reversed(turned.facts.items()))
    turned.target = msgspec.structs.replace(turned.target, status=tuple(reversed(turned.target.status)))
    for check in CHECKS:
        assert _said(results(check, world_of(files))) == _said(results(check, turned))


def _said(found: list[CheckResult]) -> list[str]:
    return sorted(f"{finding.code} {sorted(finding.args.items())}" for result in found for finding in result.findings)
