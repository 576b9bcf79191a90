"""JSON from PowerShell about machines: shapes of Windows PowerShell 5.1 and 7, written by hand after the documents."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.evidence.powershell import collection
from kmsdiag.evidence.powershell.json_files import DEEPEST, JsonError, decode, read
from kmsdiag.model.answer import KmsOverride, SrvRecord
from kmsdiag.model.collected import HostState, MachineState, PortTest, ProductState, Requests
from kmsdiag.model.outcome import DnsOutcome

WIN = "55c92734-d682-4d71-983e-d6ec3f16059f"
OFFICE = "0ff1ce15-a989-479d-af46-f275c6370663"
SKU = "73111121-5638-40f6-bc11-f1d7b0d64300"
CMID = "36f27b39-2fd5-440b-be67-a09996d27a38"


def product(**values: Any) -> dict[str, Any]:
    return {
        "ID": SKU.upper(),
        "Name": "Windows(R), Enterprise edition",
        "Description": "Windows(R) Operating System, VOLUME_KMSCLIENT channel",
        "ApplicationID": WIN,
        "LicenseStatus": 1,
        "LicenseStatusReason": 1074066433,
        "GracePeriodRemaining": 258_120,
        "PartialProductKey": "ABCDE",
        "ProductKeyChannel": "Volume:GVLK",
        "ProductKeyID": "03612-03311-000-000001-03-1033-19045.0000-0012026",
        "DiscoveredKeyManagementServiceMachineName": "KMS1.contoso.example",
        "DiscoveredKeyManagementServiceMachinePort": 1688,
        "DiscoveredKeyManagementServiceMachineIpAddress": "10.1.0.8",
        "KeyManagementServiceMachine": "",
        "KeyManagementServicePort": 0,
        "KeyManagementServiceProductKeyID": "03612-00206-471-456789-03-1033-14393.0000-0012026",
        "IsKeyManagementServiceMachine": 0,
        "KeyManagementServiceCurrentCount": 4294967295,
        "VLActivationInterval": 120,
        "VLRenewalInterval": 10_080,
        "VLActivationTypeEnabled": 0,
        "TrustedTime": "/Date(1767598200000)/",
        "EvaluationEndDate": "/Date(-11644473600000)/",
        "RemainingSkuReArmCount": 1001,
        "ADActivationObjectName": None,
        **values,
    }


def service(**values: Any) -> dict[str, Any]:
    return {
        "Version": "10.0.19041.3996",
        "ClientMachineID": CMID,
        "IsKeyManagementServiceMachine": 0,
        "KeyManagementServiceHostCaching": True,
        "KeyManagementServiceMachine": "",
        "KeyManagementServicePort": 0,
        "KeyManagementServiceLookupDomain": None,
        "VLActivationTypeEnabled": 2,
        "RemainingWindowsReArmCount": 1000,
        **values,
    }


HOSTING = {
    "IsKeyManagementServiceMachine": 1,
    "KeyManagementServiceCurrentCount": 27,
    "KeyManagementServiceListeningPort": 1688,
    "KeyManagementServiceDnsPublishing": True,
    "KeyManagementServiceLowPriority": False,
    "KeyManagementServiceTotalRequests": 512,
    "KeyManagementServiceFailedRequests": 3,
    "RequiredClientCount": 25,
}


def noise(kind: str, server: str = "PC17") -> dict[str, Any]:
    """What CIM adds to an object."""
    return {
        "PSComputerName": None,
        "CimClass": {"CimSuperClassName": None, "CimClassName": kind, "CimClassProperties": ['Name = "x"']},
        "CimInstanceProperties": [{"Name": "LicenseStatus", "Value": 5, "Flags": "Property"}],
        "CimSystemProperties": {"Namespace": "root/cimv2", "ServerName": server, "ClassName": kind, "Path": None},
    }


def one(data: object) -> MachineState:
    states = read(decode(json.dumps(data)))
    assert len(states) == 1
    return states[0]


EXPECTED = ProductState(
    name="Windows(R), Enterprise edition",
    description="Windows(R) Operating System, VOLUME_KMSCLIENT channel",
    application_id=WIN,
    activation_id=SKU,
    channel="Volume:GVLK",
    status=1,
    reason="0x4004F401",
    grace_minutes=258_120,
    discovered_host="kms1.contoso.example",
    discovered_port=1688,
    source="SoftwareLicensingProduct",
    in_use=True,
    host_address="10.1.0.8",
    host_pid="03612-00206-471-456789-03-1033-14393.0000-0012026",
    extended_pid="03612-03311-000-000001-03-1033-19045.0000-0012026",
    activation_interval_min=120,
    renewal_interval_min=10_080,
    activation_type="all",
    trusted_time="2026-01-05 07:30:00Z",
    product_rearms=1001,
)


# ------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    "shape",
    [
        product(),
        [product()],
        {"value": [product()], "Count": 1},
        {"products": product()},
        {"service": {}, "products": [product()]},
        [[product()]],
        {"value": {"Products": {"value": [product()], "Count": 1}}},
    ],
)
def test_lists_single_objects_and_wrappers_are_the_same(shape: object) -> None:
    found = one(shape)
    assert found.products == (EXPECTED,)
    assert (found.sources, found.name, found.notes) == (("CIM",), "", ())


def test_numbers_as_texts_names_of_enumerations_and_other_spellings() -> None:
    told = product(
        LicenseStatus="Licensed",
        LicenseStatusReason="1074066433",
        GracePeriodRemaining="258120",
        DiscoveredKeyManagementServiceMachinePort="1688",
        VLActivationTypeEnabled="All",
        TrustedTime={"value": "/Date(1767598200000)/", "DateTime": "Montag, 5. Januar 2026 07:30:00"},
    )
    assert one({key[0].lower() + key[1:]: value for key, value in told.items()}).products == (EXPECTED,)


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (0, 0),
        ("Unlicensed", 0),
        ("OOBGrace", 2),
        ("OOTGrace", 3),
        ("NonGenuineGrace", 4),
        ("Notification", 5),
        ("5", 5),
        ("ExtendedGrace", 6),
        (None, -1),
        ("Lizenziert", -1),
        (7, -1),
    ],
)
def test_licence_status(value: object, status: int) -> None:
    found = one(product(LicenseStatus=value))
    assert found.products[0].status == status
    assert bool(found.notes) == (value in ("Lizenziert", 7))


@pytest.mark.parametrize("value", [3221549142, -1073418154, "0xC004F056", "-1073418154", "3221549142"])
def test_reason_signed_and_unsigned(value: object) -> None:
    assert one(product(LicenseStatusReason=value)).products[0].reason == "0xC004F056"


def test_the_noise_of_cim_is_left_out_and_names_the_machine() -> None:
    found = one([product(**noise("SoftwareLicensingProduct")), service(**noise("SoftwareLicensingService"))])
    assert found.name == "PC17"
    assert found.sources == ("CIM",)
    assert found.client_machine_id == CMID
    assert found.caching is True
    assert found.activation_type == "kms"
    assert found.system == "10.0.19041.3996"
    assert found.products[0].windows_rearms == 1000
    assert found.notes == ()


def test_objects_of_wmi_and_of_office() -> None:
    found = one(product(__CLASS="OfficeSoftwareProtectionProduct", __SERVER="PC17", ApplicationID=OFFICE))
    assert (found.name, found.products[0].source) == ("PC17", "OfficeSoftwareProtectionProduct")


def test_many_machines_in_one_array() -> None:
    data = [
        {**service(ClientMachineID=f"0000000{number}-2fd5-440b-be67-a09996d27a38"), "PSComputerName": name}
        for number, name in enumerate(("pc1.contoso.example", "PC2"))
    ]
    data.append({**product(), "PSComputerName": "pc2"})
    first, second = read(data)
    assert (first.name, second.name) == ("pc1.contoso.example", "PC2")
    assert (len(first.products), len(second.products)) == (0, 1)
    assert first.client_machine_id != second.client_machine_id


def test_objects_without_a_name_belong_to_the_only_machine_that_has_one() -> None:
    found = one([{**service(), "PSComputerName": "pc1"}, product()])
    assert (found.name, len(found.products)) == ("pc1", 1)
    assert len(read([{**service(), "PSComputerName": "pc1"}, {**service(), "PSComputerName": "pc2"}, product()])) == 3


def test_a_name_around_the_objects() -> None:
    data = [{"ComputerName": name, "service": service(), "products": [product()]} for name in ("pc1", "pc2")]
    assert [(state.name, len(state.products)) for state in read(data)] == [("pc1", 1), ("pc2", 1)]


@pytest.mark.parametrize("name", ["localhost", ".", "127.0.0.1", "", None])
def test_a_local_name_is_none(name: object) -> None:
    assert one({**service(), "PSComputerName": name}).name == ""


def test_overrides_of_the_service_and_of_a_product() -> None:
    found = one(
        {
            "service": service(KeyManagementServiceMachine="KMS9.contoso.example", KeyManagementServicePort=1689),
            "products": product(KeyManagementServiceMachine="KMS8", KeyManagementServicePort=0),
        }
    )
    assert found.overrides == (KmsOverride("global", "kms9.contoso.example", 1689),)
    assert (found.products[0].override_host, found.products[0].override_port) == ("kms8", 0)


# --------------------------------------------------------------------------------------------------------- hosts

STATE = HostState(
    count=27, required=25, port=1688, publishing=True, low_priority=False, requests=Requests(total=512, failed=3)
)


def test_counters_of_the_service_go_to_the_product_with_the_host_key() -> None:
    key = product(ProductKeyChannel="Volume:CSVLK", Description="VOLUME_KMS_WS22 channel")
    found = one([service(**HOSTING), product(ID="other"), key])
    assert [one.host for one in found.products] == [None, STATE]


def test_counters_of_several_host_keys_are_their_own() -> None:
    office = product(
        ApplicationID=OFFICE, ID="office", IsKeyManagementServiceMachine=1, KeyManagementServiceCurrentCount=11
    )
    windows = product(IsKeyManagementServiceMachine=True)
    found = one([office, windows, service(**HOSTING)])
    first, second = (one.host for one in found.products)
    assert first == HostState(count=11, port=1688, publishing=True, low_priority=False)
    assert second == STATE


def test_a_host_without_a_product_is_kept() -> None:
    found = one(service(**HOSTING))
    assert found.products == (
        ProductState(name="", source="SoftwareLicensingService", windows_rearms=1000, host=STATE),
    )


@pytest.mark.parametrize("count", [-1, 4294967295, "-1"])
def test_a_count_of_minus_one_means_that_nobody_has_asked(count: object) -> None:
    found = one(service(**{**HOSTING, "KeyManagementServiceCurrentCount": count, "RequiredClientCount": count}))
    host = found.products[0].host
    assert host is not None
    assert (host.count, host.required) == (-1, None)


# ------------------------------------------------------------------------------------------------------- OSLicense


def test_get_kmslicenseinfo_of_a_client() -> None:
    counters = [name for name in HOSTING if name.endswith(("Requests", "Count"))]
    found = one(
        {
            "KeyManagementServiceMachine": None,
            "KeyManagementServicePort": 0,
            "KeyManagementServiceLookupDomain": "branch.example",
            "KeyManagementServiceHostCaching": True,
            "IsKeyManagementServiceMachine": 0,
            "VLActivationInterval": 120,
            "VLRenewalInterval": 10_080,
            "DiscoveredKeyManagementServiceMachineName": "KMS1.contoso.example",
            "DiscoveredKeyManagementServiceMachinePort": 1688,
            **dict.fromkeys(counters, "N/A"),
        }
    )
    assert (found.sources, found.lookup_domain, found.caching) == (("OSLicense",), "branch.example", True)
    assert found.products == (
        ProductState(
            name="",
            source="SoftwareLicensingService",
            discovered_host="kms1.contoso.example",
            discovered_port=1688,
            activation_interval_min=120,
            renewal_interval_min=10_080,
        ),
    )
    assert found.notes == ()


def test_get_kmslicenseinfo_of_a_host() -> None:
    found = one({name: value for name, value in HOSTING.items() if name != "RequiredClientCount"})
    assert found.sources == ("OSLicense",)
    assert [one.host for one in found.products] == [msgspec.structs.replace(STATE, required=None)]


def test_get_oslicenseinfo() -> None:
    data = product(
        LicenseStatus="Lizenziert",
        LicenseStatusReason="0x4004F401",
        EvaluationEndDate=None,
        GracePeriodRemaining="Unlimited",
        RemainingSkuReArmCount="N/A",
        Version="10.0.26100.1",
        ClientMachineID=CMID,
        RemainingWindowsReArmCount=1000,
    )
    data["ActivationID"] = data.pop("ID")
    found = one(data)
    assert found.sources == ("OSLicense",)
    assert (found.client_machine_id, found.system, found.overrides) == (CMID, "10.0.26100.1", ())
    (shown,) = found.products
    assert (shown.activation_id, shown.status, shown.reason, shown.grace_minutes) == (SKU, -1, "0x4004F401", 0)
    assert (shown.product_rearms, shown.windows_rearms) == (None, 1000)
    assert found.notes == ("the document: LicenseStatus is 'Lizenziert'",)


def test_what_the_service_says_completes_the_only_product_of_windows() -> None:
    bare = product(DiscoveredKeyManagementServiceMachineName=None, VLActivationInterval=None)
    told = service(DiscoveredKeyManagementServiceMachineName="kms2", VLActivationInterval=60, VLRenewalInterval=70)
    (shown,) = one([bare, told]).products
    assert (shown.discovered_host, shown.activation_interval_min, shown.renewal_interval_min) == ("kms2", 60, 10_080)
    first, _second = one([bare, {**bare, "ID": "other"}, told]).products
    assert (first.discovered_host, first.activation_interval_min) == ("", 0)


# ------------------------------------------------------------------------------------------------ what is not told


def test_values_that_do_not_fit_are_named() -> None:
    found = one(
        product(GracePeriodRemaining="soon", LicenseStatusReason=[], DiscoveredKeyManagementServiceMachinePort=70_000)
    )
    assert len(found.notes) == 3
    assert any("GracePeriodRemaining is 'soon'" in note for note in found.notes)
    assert found.products[0].grace_minutes == 0


def test_intervals_that_are_not_set_are_none() -> None:
    found = one(product(VLActivationInterval=4294967295, VLRenewalInterval=None))
    assert (found.products[0].activation_interval_min, found.products[0].renewal_interval_min) == (0, 0)
    assert found.notes == ()


@pytest.mark.parametrize(
    "cut", ["System.Object[]", "@{ID=7311; Name=Windows}", 'SoftwareLicensingProduct: Windows (ID = "7311")']
)
def test_what_depth_cut_off_is_named(cut: str) -> None:
    found = one({"service": service(), "products": [cut]})
    assert len(found.notes) == 1
    assert "is cut off" in found.notes[0]
    alone = one({"products": cut})
    assert (alone.products, len(alone.notes)) == ((), 1)


def test_keys_are_nowhere() -> None:
    whole = product(PartialProductKey="QWERT", OfflineInstallationId="123456")
    assert "QWERT" not in repr(one([whole]))
    assert one(product(PartialProductKey=None)).products[0].in_use is False
    assert one({name: value for name, value in whole.items() if name != "PartialProductKey"}).products[0].in_use is None


@pytest.mark.parametrize(
    "data", [None, 5, "text", [], {}, [1, "a", None], {"Name": "x", "ID": 5}, {"is": "report", "verdict": {}}, [[]]]
)
def test_other_documents_say_nothing(data: object) -> None:
    assert read(data) == []


# ------------------------------------------------------------------------------------------- DNS and tests of ports


def test_resolve_dnsname() -> None:
    data = [
        {
            "Name": "_vlmcs._tcp.Contoso.example",
            "Type": 33,
            "Section": 1,
            "TTL": 600,
            "NameTarget": "KMS1.contoso.example",
            "Priority": 0,
            "Weight": 5,
            "Port": 1688,
            "QueryType": 33,
        },
        {"Name": "kms1.contoso.example", "Type": 1, "Section": 3, "TTL": 60, "IPAddress": "10.1.0.8", "QueryType": 1},
        {"Name": "kms2.contoso.example", "Type": "AAAA", "Section": "Answer", "TTL": 60, "IP6Address": "2001:db8::9"},
    ]
    found = one(data)
    assert found.sources == ("Resolve-DnsName",)
    assert found.network is not None
    first, second = found.network.lookups
    assert (first.name, first.kind, first.outcome) == ("_vlmcs._tcp.contoso.example", "SRV", DnsOutcome.ANSWERED)
    assert first.records == (SrvRecord(0, 5, 1688, "kms1.contoso.example", 600),)
    assert first.addresses == ("10.1.0.8",)
    assert (second.name, second.kind, second.addresses) == ("kms2.contoso.example", "AAAA", ("2001:db8::9",))


def test_a_soa_alone_is_named() -> None:
    found = one({"Name": "contoso.example", "Type": 6, "Section": 2, "TTL": 60, "PrimaryServer": "dc1"})
    assert found.network is None
    assert "only the zone's SOA" in found.notes[0]


def test_test_netconnection() -> None:
    data = {
        "ComputerName": "KMS1.contoso.example",
        "RemoteAddress": {"Address": 134349066, "AddressFamily": 2, "IPAddressToString": "10.1.0.8"},
        "PingSucceeded": True,
        "PingReplyDetails": {"Status": 0, "Address": "System.Net.IPAddress"},
        "TcpTestSucceeded": False,
        "RemotePort": 1688,
        "BasicNameResolution": "Microsoft.DnsClient.Commands.DnsRecord_A",
    }
    found = one(data)
    assert found.network is not None
    assert found.network.ports == (
        PortTest(
            tool="Test-NetConnection",
            target="kms1.contoso.example",
            port=1688,
            succeeded=False,
            address="10.1.0.8",
            ping=True,
        ),
    )
    assert (found.name, found.notes) == ("", ())


# ------------------------------------------------------------------------------------------------------ decoding


def test_several_documents_after_each_other_are_a_list() -> None:
    assert decode('\ufeff {"a": 1}\r\n{"b": 2}\n\n[3]') == [{"a": 1}, {"b": 2}, [3]]
    assert decode("[1]\x00") == [1]
    assert len(read(decode("\n".join(json.dumps(product(ID=str(number))) for number in range(3))))[0].products) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1, column 1: no JSON"),
        ("PS C:\\> Get-CimInstance", "line 1, column 1: no JSON"),
        ('{"a": 1,\n "b": }', "line 2, column 7: no JSON"),
        ('{"a": 1} rest', "line 1, column 10: no JSON"),
        ('{"a": 1, "a": 2}', "an object has the name 'a' twice"),
        ('{"\\u001b[2J": 1, "\\u001b[2J": 2}', "twice"),
        ("[NaN]", "NaN is no JSON number"),
        ("[-Infinity]", "-Infinity is no JSON number"),
        ("1" * 5000, "no JSON that is read here"),
        ("[" * 200 + "]" * 200, "nested more than 100 deep"),
        ("[" * 100_000, "nested more than 100 deep"),
    ],
)
def test_what_is_no_json_is_one_line(text: str, words: str) -> None:
    with pytest.raises(JsonError) as error:
        decode(text)
    assert words in str(error.value)
    assert str(error.value).isascii()
    assert str(error.value).isprintable()


def test_the_deepest_document_that_is_read() -> None:
    assert decode("[" * DEEPEST + "]" * DEEPEST)


# -------------------------------------------------------------------------------------------------------- fuzzing

KEYS = sorted({*product(), *service(), *HOSTING, *noise("x"), "Type", "QueryType", "TTL", "Section", "RemotePort"})
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.sampled_from(KEYS),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), children, max_size=6)
    ),
    max_leaves=20,
)


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from texts(key)
            yield from texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts(part)


def check(states: list[MachineState]) -> None:
    """Bounded notes, printable ASCII, and what a bundle can keep."""
    for state in states:
        assert state.sources
        assert len(state.notes) <= 20
        assert all(len(note) <= 200 for note in state.notes)
        data = msgspec.json.encode(state)
        assert msgspec.json.decode(data, type=MachineState) == state
        assert all(text.isascii() and text.isprintable() for text in texts(msgspec.to_builtins(state)))


@given(json_values)
def test_any_document_is_read(value: object) -> None:
    check(read(value))


@given(st.sampled_from(sorted(product())), json_values)
def test_any_value_of_a_product_is_read(key: str, value: object) -> None:
    check(read(product(**{key: value})))


@given(st.sampled_from(sorted({*service(), *HOSTING})), json_values)
def test_any_value_of_a_service_is_read(key: str, value: object) -> None:
    check(read({"service": {**service(), **HOSTING, key: value}, "products": value}))


@given(st.text() | st.text(alphabet='{}[]",:0123456789eE.-+\\untrfals \n'))
def test_any_text_is_decoded_or_refused(text: str) -> None:
    problem = ""
    value: object = None
    try:
        value = decode(text)
    except JsonError as error:
        problem = str(error)
    assert problem.isascii()
    assert problem.isprintable()
    check(read(value))


def test_a_collection_among_others_is_read_as_one() -> None:
    assert collection.is_collection({"kmsdiag_collection": 1})
    states = read([{"kmsdiag_collection": 1}, product()])
    assert [state.sources for state in states] == [("kmsdiag collection",), ("CIM",)]
