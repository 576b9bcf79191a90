"""What the scripts for Windows print (:mod:`kmsdiag.evidence.powershell.script`), read back.

The same parser serves the live probe and the files of the collector. Whatever does not fit becomes a line in
``problems``.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.names import LIST_LIMIT, addresses, parse_hosts, suffix, suffixes
from kmsdiag.evidence.powershell.fields import Fields
from kmsdiag.evidence.powershell.script import EVENT_IDS, MOST_EVENTS
from kmsdiag.model.answer import HostsEntry, KmsClient, KmsEvent, KmsOverride, LicensedProduct

INFO_LIMIT: Final = 1000

MOST_KEYS: Final = 1000
"""Registry keys that are read."""

_SITE_LOCAL: Final = ("fec0:0:0:ffff::1", "fec0:0:0:ffff::2", "fec0:0:0:ffff::3")
"""DNS servers that Windows names where an interface has none for IPv6."""

_OFFICE: Final = "OfficeSoftwareProtectionPlatform"


class WindowsFormatError(ValueError):
    """What PowerShell printed is not the JSON object that the script makes; the text says how."""


class WindowsParts(NamedTuple):
    """The parts of a MachineAnswer that come from the script."""

    primary_suffix: str
    search: tuple[str, ...]
    dhcp_suffixes: tuple[str, ...]
    resolvers: tuple[str, ...]
    hosts_file: tuple[HostsEntry, ...]
    devolution: bool | None
    kms: KmsClient
    problems: tuple[str, ...]


def parse(text: str) -> WindowsParts:
    """Read what the script printed, in the shapes of Windows PowerShell 5.1 and of PowerShell 7.

    Raises:
        WindowsFormatError: no JSON, or no object, or another format.
    """
    try:
        data = json.loads(text.strip().removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise WindowsFormatError(f"PowerShell printed no JSON ({type(error).__name__}): {_excerpt(text)}") from None
    if not isinstance(data, dict):
        raise WindowsFormatError(f"PowerShell printed no JSON object: {_excerpt(text)}")
    if data.get("format") != 1:
        raise WindowsFormatError(f"PowerShell printed another JSON object than expected: {_excerpt(text)}")
    return state(data)


def state(data: Mapping[str, Any]) -> WindowsParts:
    """Read the decoded object; what does not fit is in the problems of the part that it belongs to."""
    machine = Fields(data, "the answer", [])
    hosts, problems = parse_hosts(machine.raw_text("hosts"))
    return WindowsParts(
        **_dns(machine),
        hosts_file=hosts,
        kms=_kms(Fields(data, "the answer", [])),
        problems=(*machine.problems, *problems),
    )


def _excerpt(text: str) -> str:
    return ascii_text(" ".join(text.split()), 60) or "nothing"


def _dns(top: Fields) -> dict[str, Any]:
    dns = top.object("dns")
    parameters, policy = dns.object("parameters"), dns.object("policy")
    servers: list[str] = []
    own_suffixes: list[str] = []
    for interface in dns.objects("interfaces", "interface"):
        texts = interface.texts("servers")
        found = addresses(texts)
        if len(found) < len({text.strip() for text in texts}):
            interface.wrong("servers", ", ".join(texts))
        servers += [server for server in found if server.partition("%")[0] not in _SITE_LOCAL]
        values = interface.object("values")
        own_suffixes += [interface.text("suffix"), values.text("Domain"), values.text("DhcpDomain")]
    search = policy.text("SearchList", 4096) or parameters.text("SearchList", 4096)
    listed = suffixes(search.replace(" ", ",").split(","))
    allowed = [flag for one in (policy, parameters) if (flag := one.flag("UseDomainNameDevolution")) is not None]
    return {
        "primary_suffix": suffix(parameters.text("Domain")) or suffix(policy.text("NV PrimaryDnsSuffix")),
        "search": listed,
        "dhcp_suffixes": suffixes(own_suffixes),
        "resolvers": tuple(dict.fromkeys(servers))[:LIST_LIMIT],
        # Windows appends no parents where a search list is set; without a setting it does.
        "devolution": False if listed else allowed[0] if allowed else True,
    }


def _kms(top: Fields) -> KmsClient:
    told = [ascii_text(text) for text in top.texts("problems")]
    service = top.object("service")
    overrides, domains, caching = _registry(top)
    named = service.text("KeyManagementServiceMachine").lower()
    if named:
        own = [one for one in overrides if (one.level, one.view) == ("global", "64") and one.host]
        if not own:
            overrides.insert(0, KmsOverride("global", named, service.number("KeyManagementServicePort", 65_535)))
        elif own[0].host != named:
            top.problems.append(f"the licensing service uses the override {named}, the registry has {own[0].host}")
    products, hosting, lookups = _products(top)
    domains = [name for name in (service.text("KeyManagementServiceLookupDomain"), *lookups, *domains) if name]
    lookup = [suffix(name) for name in dict.fromkeys(map(str.lower, domains))]
    if len(lookup) > 1:
        top.problems.append(f"several lookup domains are set: {', '.join(lookup)}")
    _activation_type(service, "VLActivationTypeEnabled")
    enabled = service.flag("KeyManagementServiceHostCaching")
    events = tuple(found for one in top.objects("events", "event") if (found := _event(one)) is not None)
    return KmsClient(
        overrides=tuple(overrides),
        lookup_domain=lookup[0] if lookup else "",
        caching=enabled if enabled is not None else caching,
        client_machine_id=service.text("ClientMachineID").lower(),
        is_host=bool(service.flag("IsKeyManagementServiceMachine")) or hosting,
        products=products,
        events=tuple(sorted(events, key=lambda one: (one.at, one.id, one.info), reverse=True))[:MOST_EVENTS],
        problems=(*told, *top.problems),
    )


def _registry(top: Fields) -> tuple[list[KmsOverride], list[str], bool | None]:
    """Overrides, lookup domains, and whether hosts are cached where the registry says so."""
    overrides, domains = [], []
    caching: bool | None = None
    for entry in top.objects("kms", "registry key", MOST_KEYS):
        app, sku = entry.text("app").strip("{}").lower(), entry.text("sku").strip("{}").lower()
        view = entry.text("view")
        if view not in ("64", "32"):
            entry.wrong("view", view)
            continue
        if entry.text("hive") == "Users" or entry.text("root") == "SL":
            # What the service remembers, and a key that only Vista and Server 2008 read: no overrides.
            continue
        level = "product" if sku else "application" if app else "global"
        scope = sku or app
        if not scope and entry.text("root") == _OFFICE:
            level, scope = "application", _OFFICE
        values = entry.object("values")
        host, port = values.text("KeyManagementServiceName").lower(), values.number("KeyManagementServicePort", 65_535)
        if host or port:
            overrides.append(KmsOverride(level, host, port, scope, view))
        domains.append(values.text("KeyManagementServiceLookupDomain"))
        disabled = values.flag("DisableKeyManagementServiceHostCaching")
        if disabled is not None and view == "64":
            caching = not disabled if caching is None else caching
        _activation_type(values, "VLActivationType")
    return overrides, domains, caching


_TYPES: Final = {1: "Active Directory", 2: "KMS", 3: "tokens"}


def _activation_type(values: Fields, key: str) -> None:
    """Other ways of activation may be switched off; a way that is not KMS must not be lost."""
    found = values.number(key, 0xFFFF_FFFF)
    if found in (1, 3):
        values.problems.append(f"{values.where}: {key} is {found}: only {_TYPES[found]} may activate, never KMS")


def _products(top: Fields) -> tuple[tuple[LicensedProduct, ...], bool, list[str]]:
    """Products with a key, whether one of them is a KMS host, and lookup domains of products."""
    found, hosting, lookups = [], False, []
    for one in top.objects("products", "product"):
        hosting |= bool(one.flag("IsKeyManagementServiceMachine"))
        lookups.append(one.text("KeyManagementServiceLookupDomain"))
        _activation_type(one, "VLActivationTypeEnabled")
        found.append(
            LicensedProduct(
                name=one.text("Name"),
                description=one.text("Description"),
                application_id=one.text("ApplicationID").lower(),
                activation_id=one.text("ID").lower(),
                channel=one.text("ProductKeyChannel"),
                # 0 would say that it is not licensed.
                status=one.number("LicenseStatus", 6, missing=-1),
                reason=one.code("LicenseStatusReason"),
                grace_minutes=one.number("GracePeriodRemaining", 0xFFFF_FFFF),
                discovered_host=one.text("DiscoveredKeyManagementServiceMachineName").lower(),
                discovered_port=one.number("DiscoveredKeyManagementServiceMachinePort", 65_535),
            )
        )
    return tuple(found), hosting, lookups


def _event(one: Fields) -> KmsEvent | None:
    number, at = one.number("id", 0xFFFF), one.time("at")
    if number not in EVENT_IDS:
        one.wrong("id", number)
        return None
    return (
        None if at is None else KmsEvent(id=number, at=at, info=ascii_text(", ".join(one.texts("strings")), INFO_LIMIT))
    )
