"""What is made of the script's answers. Their shapes are from Microsoft's documents: nothing here ran on Windows."""

import datetime
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.evidence.powershell.state import WindowsFormatError, WindowsParts, parse
from kmsdiag.model.answer import HostsEntry, KmsEvent, KmsOverride, LicensedProduct, MachineAnswer

WIN = "55c92734-d682-4d71-983e-d6ec3f16059f"
OFFICE = "0ff1ce15-a989-479d-af46-f275c6370663"
SKU = "73111121-5638-40f6-bc11-f1d7b0d64300"
INFO = f"0x0, 0x0, kms1.contoso.example:1688, cmid, 2026/01/05 07:30, 0, 1, 259180, {SKU}, 25"
EVENT = datetime.datetime(2026, 1, 5, 7, 30, 0, 123456, datetime.UTC)


def answer(**parts: Any) -> dict[str, Any]:
    """A whole answer as Windows PowerShell 5.1 gives it, with some parts replaced."""
    return {
        "format": 1,
        "dns": {
            "parameters": {"Domain": "Contoso.Example", "SearchList": "", "UseDomainNameDevolution": 1},
            "policy": {},
            "interfaces": [
                {
                    "suffix": "branch.example",
                    "servers": ["10.1.0.2", "10.1.0.3", "2001:db8::2"],
                    "values": {"DhcpDomain": "branch.example", "Domain": ""},
                }
            ],
        },
        "hosts": "# comment\n10.1.0.8\tKMS1.contoso.example kms1",
        "kms": [
            {
                "view": "64",
                "root": "SoftwareProtectionPlatform",
                "app": "",
                "sku": "",
                "values": {"KeyManagementServiceName": "KMS1.contoso.example", "KeyManagementServicePort": "1689"},
            },
            {
                "view": "64",
                "root": "SoftwareProtectionPlatform",
                "app": OFFICE,
                "sku": "{" + SKU.upper() + "}",
                "values": {"KeyManagementServiceName": "kms2.contoso.example"},
            },
            {
                "view": "32",
                "root": "OfficeSoftwareProtectionPlatform",
                "app": "",
                "sku": "",
                "values": {"KeyManagementServicePort": 1690},
            },
        ],
        "service": {
            "ClientMachineID": "36F27B39-2fd5-440b-be67-a09996d27a38",
            "IsKeyManagementServiceMachine": 0,
            "KeyManagementServiceHostCaching": True,
            "KeyManagementServiceLookupDomain": "",
            "KeyManagementServiceMachine": "kms1.contoso.example",
            "KeyManagementServicePort": 1689,
            "VLActivationTypeEnabled": 0,
        },
        "products": [
            {
                "ID": SKU.upper(),
                "Name": "Windows(R), Professional edition",
                "Description": "Windows(R) Operating System, VOLUME_KMSCLIENT channel",
                "ApplicationID": WIN,
                "LicenseStatus": 5,
                "LicenseStatusReason": 3221549142,
                "GracePeriodRemaining": 0,
                "ProductKeyChannel": "Volume:GVLK",
                "DiscoveredKeyManagementServiceMachineName": None,
                "DiscoveredKeyManagementServiceMachinePort": 0,
                "IsKeyManagementServiceMachine": 0,
            }
        ],
        "events": [
            {"id": 12289, "at": "2026-01-05T07:30:00.1234567Z", "strings": ["0x0, 0x0, 1, 0, 50, 120, 10080, x"]},
            {"id": 12288, "at": "2026-01-05T07:30:00.1234567Z", "strings": [INFO]},
        ],
        "problems": [],
        **parts,
    }


def read(**parts: Any) -> WindowsParts:
    return parse(json.dumps(answer(**parts)))


# ----------------------------------------------------------------------------------------------- recorded shapes


def test_a_whole_answer() -> None:
    found = read()
    assert found.primary_suffix == "contoso.example"
    assert found.search == ()
    assert found.dhcp_suffixes == ("branch.example",)
    assert found.resolvers == ("10.1.0.2", "10.1.0.3", "2001:db8::2")
    assert found.hosts_file == (HostsEntry("10.1.0.8", ("kms1.contoso.example", "kms1")),)
    assert found.devolution is True
    assert found.problems == ()
    kms = found.kms
    assert kms.overrides == (
        KmsOverride("global", "kms1.contoso.example", 1689),
        KmsOverride("product", "kms2.contoso.example", 0, SKU),
        KmsOverride("application", "", 1690, "OfficeSoftwareProtectionPlatform", "32"),
    )
    assert (kms.lookup_domain, kms.caching, kms.is_host) == ("", True, False)
    assert kms.client_machine_id == "36f27b39-2fd5-440b-be67-a09996d27a38"
    assert kms.products == (
        LicensedProduct(
            name="Windows(R), Professional edition",
            description="Windows(R) Operating System, VOLUME_KMSCLIENT channel",
            application_id=WIN,
            activation_id=SKU,
            channel="Volume:GVLK",
            status=5,
            reason="0xC004F056",
        ),
    )
    assert kms.events == (
        KmsEvent(id=12289, at=EVENT, info="0x0, 0x0, 1, 0, 50, 120, 10080, x"),
        KmsEvent(id=12288, at=EVENT, info=INFO),
    )
    assert kms.problems == ()


def test_single_objects_in_place_of_lists() -> None:
    """PowerShell writes a pipeline of one as the object itself."""
    whole = answer()
    single = {key: whole[key][0] for key in ("kms", "products", "events")}
    dns = {**whole["dns"], "interfaces": {**whole["dns"]["interfaces"][0], "servers": "10.1.0.2"}}
    found = read(**single, dns=dns, problems="only one")
    assert found.resolvers == ("10.1.0.2",)
    assert (len(found.kms.overrides), len(found.kms.products), len(found.kms.events)) == (1, 1, 1)
    assert found.kms.problems == ("only one",)


def test_lists_wrapped_in_value_and_count() -> None:
    """Windows PowerShell 5.1 does this to some arrays; 7 does not."""
    whole = answer()
    wrapped = {
        key: {"value": whole[key], "Count": len(whole[key])} for key in ("kms", "products", "events", "problems")
    }
    assert read(**wrapped) == read()


def test_nulls_and_missing_parts_are_no_problems() -> None:
    for empty in (
        dict.fromkeys(("dns", "hosts", "kms", "service", "products", "events", "problems")),
        {"kms": [], "products": [], "events": [], "dns": {"interfaces": None}, "service": {}, "hosts": ""},
    ):
        found = read(**empty)
        assert (found.primary_suffix, found.search, found.dhcp_suffixes, found.resolvers) == ("", (), (), ())
        assert found.problems == ()
        assert found.kms.problems == ()
        assert found.kms.overrides == ()
        assert found.kms.caching is None
        assert found.devolution is True
    assert parse('\ufeff{"format": 1}\r\n').kms.products == ()


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-01-05T07:30:00.1234567Z", EVENT),
        ("2026-01-05T08:30:00.123456+01:00", EVENT),
        ("2026-01-05T07:30:00.123456", EVENT),
        ("/Date(1767598200123)/", EVENT.replace(microsecond=123000)),
        ("/Date(1767598200123+0100)/", EVENT.replace(microsecond=123000)),
        ({"value": "/Date(1767598200123)/", "DateTime": "Montag, 5. Januar"}, EVENT.replace(microsecond=123000)),
        ({"DateTime": "Montag, 5. Januar"}, None),
        ("5.1.2026", None),
        ("/Date(999999999999999)/", None),
        ("0001-01-01T00:00:00+14:00", None),
        (1767598200123, None),
        (None, None),
    ],
)
def test_times_of_events(at: object, expected: datetime.datetime | None) -> None:
    found = read(events=[{"id": 12288, "at": at, "strings": [INFO]}]).kms
    assert [event.at for event in found.events] == ([] if expected is None else [expected])
    assert bool(found.problems) == (expected is None)


def test_newest_events_come_first_and_no_more_than_ten() -> None:
    events = [{"id": 12288, "at": f"2026-01-05T07:{minute:02}:00Z", "strings": [str(minute)]} for minute in range(20)]
    assert [event.info for event in read(events=events).kms.events] == [str(minute) for minute in range(19, 9, -1)]


@pytest.mark.parametrize(
    ("reason", "shown"),
    [(0, ""), (None, ""), (1074065420, "0x4004F00C"), (-1073418154, "0xC004F056"), ("0xc004f056", "0xC004F056")],
)
def test_reasons_are_hresults(reason: object, shown: str) -> None:
    product = {**answer()["products"][0], "LicenseStatusReason": reason}
    assert read(products=[product]).kms.products[0].reason == shown


# ---------------------------------------------------------------------------------------------------------- DNS


def dns(parameters: Any = None, policy: Any = None, *interfaces: Any) -> WindowsParts:
    return read(dns={"parameters": parameters, "policy": policy, "interfaces": list(interfaces)})


@pytest.mark.parametrize(
    ("parameters", "policy", "primary", "search", "devolution"),
    [
        ({"Domain": "contoso.example"}, {}, "contoso.example", (), True),
        ({"Domain": ""}, {"NV PrimaryDnsSuffix": "contoso.example"}, "contoso.example", (), True),
        ({"SearchList": "A.example, b.example b.example,,"}, {}, "", ("a.example", "b.example"), False),
        ({"SearchList": "a.example"}, {"SearchList": "b.example"}, "", ("b.example",), False),
        ({"UseDomainNameDevolution": 0}, {}, "", (), False),
        ({"UseDomainNameDevolution": 0}, {"UseDomainNameDevolution": 1}, "", (), True),
        ({"SearchList": "a.example", "UseDomainNameDevolution": 1}, {}, "", ("a.example",), False),
    ],
)
def test_suffixes(parameters: object, policy: object, primary: str, search: tuple[str, ...], devolution: bool) -> None:
    found = dns(parameters, policy)
    assert (found.primary_suffix, found.search, found.devolution) == (primary, search, devolution)
    assert found.problems == ()


def test_servers_of_several_interfaces() -> None:
    found = dns(
        {},
        {},
        {"suffix": "", "servers": ["10.1.0.2"], "values": {}},
        {"suffix": "vpn.example", "servers": ["fec0:0:0:ffff::1%1", "10.1.0.2", "fe80::1%12"], "values": None},
        {"suffix": None, "servers": [], "values": {"Domain": "Static.example", "DhcpDomain": "vpn.example"}},
    )
    assert found.resolvers == ("10.1.0.2", "fe80::1%12")
    assert found.dhcp_suffixes == ("vpn.example", "static.example")
    assert found.problems == ()


# ------------------------------------------------------------------------------------------------ KMS client state


def key(
    view: object = "64", app: object = "", sku: object = "", root: object = "SoftwareProtectionPlatform", **values: Any
) -> Any:
    names = {"name": "KeyManagementServiceName", "port": "KeyManagementServicePort"}
    return {
        "view": view,
        "root": root,
        "app": app,
        "sku": sku,
        "values": {names.get(k, k): v for k, v in values.items()},
    }


def test_the_override_of_the_service_counts_where_the_registry_has_none() -> None:
    service = {"KeyManagementServiceMachine": "KMS1.contoso.example", "KeyManagementServicePort": 1688}
    found = read(kms=[key("32", name="kms-old")], service=service).kms
    assert found.overrides == (
        KmsOverride("global", "kms1.contoso.example", 1688),
        KmsOverride("global", "kms-old", 0, "", "32"),
    )
    assert found.problems == ()


def test_an_override_of_which_service_and_registry_disagree() -> None:
    found = read(kms=[key(name="kms-old")], service={"KeyManagementServiceMachine": "kms1"}).kms
    assert found.overrides == (KmsOverride("global", "kms-old"),)
    assert found.problems == ("the licensing service uses the override kms1, the registry has kms-old",)


@pytest.mark.parametrize(
    ("service", "values", "caching"),
    [
        ({"KeyManagementServiceHostCaching": False}, {}, False),
        ({"KeyManagementServiceHostCaching": True}, {"DisableKeyManagementServiceHostCaching": 1}, True),
        ({}, {"DisableKeyManagementServiceHostCaching": 1}, False),
        ({}, {"DisableKeyManagementServiceHostCaching": "0"}, True),
        ({}, {}, None),
    ],
)
def test_caching(service: object, values: dict[str, Any], caching: bool | None) -> None:
    assert read(kms=[key(**values)], service=service).kms.caching is caching


def test_lookup_domains() -> None:
    service = {"KeyManagementServiceLookupDomain": "KMS.example"}
    product = {"Name": "Office", "LicenseStatus": 1, "KeyManagementServiceLookupDomain": "office.example"}
    found = read(kms=[key(KeyManagementServiceLookupDomain="kms.example")], service=service, products=[product]).kms
    assert found.lookup_domain == "kms.example"
    assert found.problems == ("several lookup domains are set: kms.example, office.example",)
    assert read(kms=[], service={}, products=[product]).kms.lookup_domain == "office.example"


@pytest.mark.parametrize(("where", "says"), [("service", "service"), ("product", "product 1"), ("registry", "values")])
def test_an_activation_type_that_excludes_kms_is_not_lost(where: str, says: str) -> None:
    parts: dict[str, Any] = {"kms": [], "service": {}, "products": []}
    if where == "service":
        parts["service"] = {"VLActivationTypeEnabled": 1}
    elif where == "product":
        parts["products"] = [{"Name": "Windows", "LicenseStatus": 1, "VLActivationTypeEnabled": 3}]
    else:
        parts["kms"] = [key(app=WIN, sku=SKU, VLActivationType=1)]
    (problem,) = read(**parts).kms.problems
    assert problem.startswith(f"{says}: VLActivationType")
    assert problem.endswith("may activate, never KMS")


def test_a_kms_host_is_known_by_the_service_or_a_product() -> None:
    assert read(service={"IsKeyManagementServiceMachine": 1}).kms.is_host
    assert read(products=[{"LicenseStatus": 1, "IsKeyManagementServiceMachine": 1}]).kms.is_host


# -------------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"kms": [key(name=["a", 1])]}, "values: KeyManagementServiceName is a list"),
        ({"kms": [key(port="sixteen")]}, "values: KeyManagementServicePort is 'sixteen'"),
        ({"kms": [key(port=70000)]}, "values: KeyManagementServicePort is 70000"),
        ({"kms": [key(port=1688.5)]}, "values: KeyManagementServicePort is 1688.5"),
        ({"kms": [key("16", name="kms1")]}, "registry key 1: view is '16'"),
        ({"kms": ["text"]}, "the answer: registry key 1 is 'text'"),
        ({"kms": [{**key(), "values": 5}]}, "registry key 1: values is 5"),
        ({"kms": [key(name="k" * 300)]}, "values: KeyManagementServiceName has 300 characters, 255 are kept"),
        ({"service": "text"}, "the answer: service is 'text'"),
        ({"service": [1, 2]}, "the answer: service is a list"),
        (
            {"service": {"KeyManagementServiceHostCaching": "maybe"}},
            "service: KeyManagementServiceHostCaching is 'maybe'",
        ),
        ({"products": [5]}, "the answer: product 1 is 5"),
        ({"products": [{"Name": {}, "LicenseStatus": 1}]}, "product 1: Name is an object"),
        ({"products": [{"LicenseStatus": 7}]}, "product 1: LicenseStatus is 7"),
        (
            {"products": [{"LicenseStatus": 1, "LicenseStatusReason": "0xZZ"}]},
            "product 1: LicenseStatusReason is '0xZZ'",
        ),
        ({"products": [{"LicenseStatus": 1}] * 65}, "the answer: products has 65 entries, 64 are kept"),
        ({"events": [{"id": 1, "at": "2026-01-05T07:30:00Z", "strings": [""]}]}, "event 1: id is 1"),
        ({"events": [{"id": 12288, "at": "soon", "strings": [""]}]}, "event 1: at is 'soon'"),
        ({"problems": ["access \x1b[2J denied", 5]}, "the answer: problems is 5"),
        ({"problems": ["access \x1b[2J denied"]}, "access \\x1b[2J denied"),
    ],
)
def test_what_does_not_fit_is_a_problem_of_the_kms_part(parts: dict[str, Any], problem: str) -> None:
    assert problem in read(**{"kms": [], "service": {}, "products": [], "events": [], **parts}).kms.problems


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"dns": 5}, "the answer: dns is 5"),
        ({"dns": {"parameters": "text"}}, "dns: parameters is 'text'"),
        ({"dns": {"interfaces": [{"servers": ["10.1.0.2", "dns"]}]}}, "interface 1: servers is '10.1.0.2, dns'"),
        ({"dns": {"interfaces": [{"servers": [5]}]}}, "interface 1: servers is 5"),
        ({"dns": {"parameters": {"UseDomainNameDevolution": "x"}}}, "parameters: UseDomainNameDevolution is 'x'"),
        ({"hosts": 5}, "the answer: hosts is 5"),
        ({"hosts": "kms1"}, "hosts file: 1 line without an address and a name"),
    ],
)
def test_what_does_not_fit_is_a_problem_of_the_machine(parts: dict[str, Any], problem: str) -> None:
    found = read(**parts)
    assert problem in found.problems
    assert problem not in found.kms.problems


def test_an_unknown_licence_status_is_not_taken_for_unlicensed() -> None:
    assert [one.status for one in read(products=[{"LicenseStatus": 7}, {"LicenseStatus": None}]).kms.products] == [
        -1,
        -1,
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "printed no JSON (JSONDecodeError): nothing"),
        ("Get-CimInstance : Zugriff verweigert\x1b[0m", "printed no JSON (JSONDecodeError): Get-CimInstance : Zugriff"),
        ("[" * 100_000, "printed no JSON (RecursionError): [["),
        ("[]", "printed no JSON object: []"),
        ("null", "printed no JSON object: null"),
        ("{}", "printed another JSON object than expected: {}"),
        ('{"format": 2}', "printed another JSON object than expected"),
        ("1" * 5000, "printed no JSON (ValueError): 111"),
    ],
)
def test_what_is_not_the_scripts_answer_is_an_error(text: str, words: str) -> None:
    with pytest.raises(WindowsFormatError) as error:
        parse(text)
    assert str(error.value).startswith(f"PowerShell {words}")
    assert str(error.value).isascii()
    assert str(error.value).isprintable()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)


def check_answer(found: WindowsParts) -> None:
    """Printable ASCII throughout, and a bundle can keep it."""
    whole = MachineAnswer(at=EVENT, system="Windows 10", **found._asdict())
    data = msgspec.json.encode(whole)
    assert msgspec.json.decode(data, type=MachineAnswer) == whole
    assert all(text.isascii() and text.isprintable() for text in texts(msgspec.to_builtins(whole)))


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts(part)


@given(json_values)
def test_any_json_gives_an_answer_or_the_documented_error(value: object) -> None:
    text = json.dumps(value)
    with pytest.raises(WindowsFormatError):
        parse(text)
    check_answer(parse(json.dumps({"format": 1, "dns": value, "kms": value, "service": value, "products": value})))
    check_answer(parse(json.dumps({"format": 1, "hosts": value, "events": value, "problems": value})))


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, part in items:
        yield from places(part, (*path, step))


PLACES = [path for path in places(answer()) if path and path != ("format",)]


@given(st.sampled_from(PLACES), json_values)
def test_any_value_in_any_place_gives_an_answer(path: tuple[Any, ...], value: object) -> None:
    whole: Any = answer()
    inner = whole
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    check_answer(parse(json.dumps(whole)))


@given(st.text())
def test_any_text_gives_an_answer_or_the_documented_error(text: str) -> None:
    with pytest.raises(WindowsFormatError):
        parse(text)
