"""The collector's file. Its shape is that of the script; the script itself was not run on Windows."""

import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.evidence.powershell.collection import Event, events, read
from kmsdiag.evidence.powershell.script import COLLECTOR
from kmsdiag.evidence.powershell.state import parse
from kmsdiag.model.answer import HostsEntry, KmsOverride, SrvRecord
from kmsdiag.model.collected import (
    CachedHost,
    HostSettings,
    HostState,
    MachineState,
    PortTest,
    PublishDomain,
    ToolLookup,
)
from kmsdiag.model.outcome import DnsOutcome
from tests.test_evidence_powershell_json_files import (
    CMID,
    HOSTING,
    OFFICE,
    SKU,
    WIN,
    check,
    json_values,
    product,
    service,
)
from tests.test_evidence_powershell_state import answer

AT = datetime.datetime(2026, 1, 5, 7, 30, 0, 123456, datetime.UTC)
REQUEST = f"0x0,25,pc17.contoso.example,{CMID},2026/01/05 07:30,1,1,259180,{SKU}"


def key(values: dict[str, Any], **where: str) -> dict[str, Any]:
    return {
        "view": "64",
        "hive": "LocalMachine",
        "root": "SoftwareProtectionPlatform",
        "app": "",
        "sku": "",
        "values": values,
    } | where


def collection(**parts: Any) -> dict[str, Any]:
    """A whole file as Windows PowerShell 5.1 writes it, with some parts replaced."""
    dns = answer()["dns"]
    dns["interfaces"][0]["addresses"] = ["10.2.0.17", "fe80::1%5"]
    without_key = {name: value for name, value in product().items() if name != "PartialProductKey"}
    return {
        "format": 1,
        "dns": dns,
        "hosts": "10.1.0.8 kms1.contoso.example",
        "kms": [
            key({"KeyManagementServiceName": "KMS1.contoso.example", "KeyManagementServicePort": "1689"}),
            key({"KeyManagementServiceName": "kms2"}, app="{" + OFFICE.upper() + "}", view="32"),
        ],
        "service": service(),
        "products": [without_key],
        "events": [
            {
                "id": 12290,
                "at": "2026-01-05T07:30:00.1234567Z",
                "computer": "kms1.contoso.example",
                "log": "Key Management Service",
                "strings": [REQUEST],
            }
        ],
        "problems": [],
        "kmsdiag_collection": 1,
        "collected": "2026-01-05T07:30:00.1234567Z",
        "machine": {
            "name": "PC17",
            "domain": "contoso.example",
            "joined": True,
            "caption": "Microsoft Windows 10 Enterprise",
            "version": "10.0.19045",
            "build": "19045",
            "computer": "PC17",
            "zone": "W. Europe Standard Time",
        },
        "services": [
            {"Name": "sppsvc", "State": "Stopped", "StartMode": "Auto"},
            {"Name": "osppsvc", "State": "Stopped", "StartMode": "Disabled"},
        ],
        "lookups": [],
        "ports": [],
        **parts,
    }


def state(**parts: Any) -> MachineState:
    found = read(json.loads(json.dumps(collection(**parts))))
    assert len(found) == 1
    return found[0]


def test_a_client() -> None:
    found = state()
    assert found.name == "pc17.contoso.example"
    assert found.sources == ("kmsdiag collection",)
    assert found.system == "Microsoft Windows 10 Enterprise (10.0.19045)"
    assert found.collected_at == AT
    assert found.services == {"sppsvc": "stopped", "osppsvc": "stopped (disabled)"}
    assert found.client_machine_id == CMID
    assert (found.caching, found.activation_type) == (True, "kms")
    assert found.overrides == (
        KmsOverride("global", "kms1.contoso.example", 1689),
        KmsOverride("application", "kms2", 0, OFFICE, "32"),
    )
    assert [(one.activation_id, one.status, one.in_use, one.windows_rearms) for one in found.products] == [
        (SKU, 1, True, 1000)
    ]
    assert found.settings is None
    assert found.notes == ()


def test_its_network() -> None:
    network = state().network
    assert network is not None
    assert (network.complete, network.domain_joined, network.primary_suffix) == (True, True, "contoso.example")
    assert (network.search, network.adapter_suffixes) == ((), ("branch.example",))
    assert network.resolvers == ("10.1.0.2", "10.1.0.3", "2001:db8::2")
    assert network.addresses == ("10.2.0.17",)
    assert network.hosts_file == (HostsEntry("10.1.0.8", ("kms1.contoso.example",)),)


def test_a_workgroup_machine_has_no_domain() -> None:
    dns = {"parameters": {"Domain": ""}, "policy": {}, "interfaces": []}
    machine = {"name": "PC17", "domain": "WORKGROUP", "joined": False}
    found = state(machine=machine, dns=dns)
    assert found.name == "pc17"
    assert found.network is not None
    assert (found.network.complete, found.network.domain_joined) == (True, False)
    assert state(dns=dns, problems=["DNS settings: access is denied"]).network == found.network.__class__(
        domain_joined=True, hosts_file=(HostsEntry("10.1.0.8", ("kms1.contoso.example",)),)
    )


def test_a_kms_host() -> None:
    values = {
        "KeyManagementServiceListeningPort": "1689",
        "DisableDnsPublishing": 1,
        "DnsDomainPublishList": ["contoso.example, 10, 5", "branch.example", "odd, 1, 2, 3", ""],
        "EnableKmsLowPriority": 0,
        "VLActivationInterval": 60,
        "VLRenewalInterval": 1440,
    }
    registered = {
        "KeyManagementServiceRegisteredDomainName": "old.example",
        "KeyManagementServiceRegisteredPortNumber": "1688",
    }
    found = state(
        service=service(**HOSTING),
        products=product(ProductKeyChannel="Volume:CSVLK"),
        kms=[
            key(values),
            key({"DisableDnsPublishing": 1, "DnsDomainPublishList": "x.example"}, root="SL"),
            key(registered, hive="Users"),
        ],
    )
    assert found.settings == HostSettings(
        listening_port=1689,
        publishing=False,
        publish_domains=(
            PublishDomain("contoso.example", 10, 5),
            PublishDomain("branch.example"),
            PublishDomain("odd"),
        ),
        low_priority=False,
        activation_interval_min=60,
        renewal_interval_min=1440,
        registered_domain="old.example",
        registered_port=1688,
        misplaced=("DisableDnsPublishing", "DnsDomainPublishList"),
    )
    assert isinstance(found.products[0].host, HostState)
    assert found.products[0].host.count == 27
    assert found.notes == ("values: DnsDomainPublishList is 'odd, 1, 2, 3'",)


def test_remembered_hosts_are_no_overrides() -> None:
    remembered = {
        "DiscoveredKeyManagementServiceName": "KMS1.contoso.example",
        "DiscoveredKeyManagementServicePort": "1688",
    }
    found = state(kms=[key(remembered, hive="Users", app=WIN, sku=SKU, view=view) for view in ("64", "32")])
    assert found.cached == (CachedHost("kms1.contoso.example", 1688, SKU),)
    assert found.overrides == ()


def test_names_that_it_looked_up() -> None:
    record = {"type": "SRV", "name": "_vlmcs._tcp.contoso.example", "ttl": 600, "target": "KMS1.contoso.example"}
    found = state(
        lookups=[
            {
                "name": "_vlmcs._tcp.contoso.example",
                "type": "SRV",
                "error": None,
                "code": 0,
                "records": [
                    {**record, "priority": 0, "weight": 0, "port": 1688},
                    {"type": "A", "name": "kms1.contoso.example", "address": "10.1.0.8", "ttl": 60},
                ],
            },
            {
                "name": "_vlmcs._tcp.branch.example",
                "type": "SRV",
                "error": "DNS_ERROR_RCODE_NAME_ERROR,Microsoft.DnsClient.Commands.ResolveDnsName: Name existiert nicht",
                "code": 9003,
                "records": [],
            },
            {"name": "kms1", "type": "AAAA", "error": None, "code": 0, "records": {"type": "SOA", "name": "x"}},
            {"name": "kms1", "type": "A", "error": "X: odd \x1b[2J", "code": 5, "records": None},
        ]
    )
    tool = "Resolve-DnsName"
    assert found.network is not None
    assert found.network.lookups == (
        ToolLookup(
            tool=tool,
            name="_vlmcs._tcp.contoso.example",
            kind="SRV",
            outcome=DnsOutcome.ANSWERED,
            records=(SrvRecord(0, 0, 1688, "kms1.contoso.example", 600),),
            addresses=("10.1.0.8",),
        ),
        ToolLookup(tool=tool, name="_vlmcs._tcp.branch.example", kind="SRV", outcome=DnsOutcome.NXDOMAIN),
        ToolLookup(tool=tool, name="kms1", kind="AAAA", outcome=DnsOutcome.NODATA),
        ToolLookup(tool=tool, name="kms1", kind="A", outcome=DnsOutcome.ERROR_RCODE),
    )
    assert found.notes == ("A of kms1: X: odd \\x1b[2J",)


def test_ports_that_it_tried() -> None:
    found = state(ports={"target": "KMS1.contoso.example", "port": 1688, "address": "10.1.0.8", "open": False})
    assert found.network is not None
    assert found.network.ports == (
        PortTest(
            tool="kmsdiag collection", target="kms1.contoso.example", port=1688, succeeded=False, address="10.1.0.8"
        ),
    )


def test_what_the_script_could_not_read_is_a_note() -> None:
    found = state(problems=["SoftwareLicensingService: Zugriff verweigert"], service=None)
    assert found.notes == ("SoftwareLicensingService: Zugriff verweigert",)
    assert found.client_machine_id == ""


def test_another_format_is_named() -> None:
    found = read({"kmsdiag_collection": 2})
    assert "another format" in found[0].notes[0]
    assert events({"kmsdiag_collection": 2, "events": collection()["events"]}) == []
    assert read({"format": 1}) == []
    assert read([]) == []


# --------------------------------------------------------------------------------------------------------- events


def test_events_are_as_they_were_logged() -> None:
    assert events(collection()) == [Event("kms1.contoso.example", "Key Management Service", 12290, AT, (REQUEST,))]


@pytest.mark.parametrize("wrapped", [False, True])
def test_one_event_without_its_list(wrapped: bool) -> None:
    data = collection()
    event = data["events"][0]
    event["strings"] = {"value": ["0x0", "contoso.example"], "Count": 2} if wrapped else "0x0"
    data["events"] = {"value": [event], "Count": 1} if wrapped else event
    assert [one.strings for one in events(data)] == [("0x0", "contoso.example") if wrapped else ("0x0",)]


def test_events_that_do_not_fit_are_counted() -> None:
    good = collection()["events"][0]
    bad = [5, {**good, "at": "soon"}, {**good, "id": "12290"}, {**good, "strings": 5}]
    data = collection(events=[good, *bad])
    assert len(events(data)) == 1
    assert read(data)[0].notes == ("4 events could not be read",)


def test_many_events_are_no_burden_of_the_state() -> None:
    data = collection(events=collection()["events"] * 5000)
    assert len(events(data)) == 5000
    assert read(data)[0].notes == ()


# ---------------------------------------------------------------------------------------------- with the live probe


def test_the_probe_reads_what_the_collector_wrote() -> None:
    """The collector's object is the probe's and more."""
    found = parse(json.dumps(collection(events=[])))
    assert found.kms.client_machine_id == CMID
    assert found.kms.problems == ()


def test_the_script_writes_what_is_read_here() -> None:
    for name in collection():
        assert f"{name} = " in COLLECTOR or f"$all.{name} = " in COLLECTOR, name


# -------------------------------------------------------------------------------------------------------- fuzzing


@given(st.sampled_from(sorted(collection())), json_values)
def test_any_value_in_any_part_is_read(part: str, value: object) -> None:
    data = collection(**{part: value})
    check(read(data))
    for one in events(data):
        assert one.at.tzinfo is datetime.UTC


@given(st.dictionaries(st.sampled_from(sorted(collection())), json_values))
def test_any_object_with_the_mark_is_read(data: dict[str, Any]) -> None:
    check(read({"kmsdiag_collection": 1, **data}))
    events({"kmsdiag_collection": 1, **data})
