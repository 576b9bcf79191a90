"""Objects of the licensing service's classes, as JSON has them: SoftwareLicensingService and SoftwareLicensingProduct.

The PowerShell module OSLicense keeps the names of the classes' properties (but ``ActivationID``), joins product and
service in one object, and writes words for what is not set; its LicenseStatus is translated. Numbers may be texts,
enumerations may be names, missing properties mean that nothing is told. 4294967295 is how an unsigned property says -1:
not set. Sources: Microsoft, SoftwareLicensingProduct and SoftwareLicensingService classes, OSLicense module.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.names import suffix
from kmsdiag.evidence.powershell.fields import Fields, parse_time
from kmsdiag.knowledge.licences import STATUS, WINDOWS, Channel, channel_of
from kmsdiag.model.answer import KmsOverride
from kmsdiag.model.collected import HostState, ProductState, Requests

PRODUCT: Final = "SoftwareLicensingProduct"
SERVICE: Final = "SoftwareLicensingService"

_NOT_SET: Final = 0xFFFF_FFFF
_MINUTES: Final = 0x7FFF_FFFF
_COUNTS: Final = {
    "total": "KeyManagementServiceTotalRequests",
    "failed": "KeyManagementServiceFailedRequests",
    "unlicensed": "KeyManagementServiceUnlicensedRequests",
    "licensed": "KeyManagementServiceLicensedRequests",
    "initial_grace": "KeyManagementServiceOOBGraceRequests",
    "expired": "KeyManagementServiceOOTGraceRequests",
    "non_genuine": "KeyManagementServiceNonGenuineGraceRequests",
    "notification": "KeyManagementServiceNotificationRequests",
}

_STATUS_NAMES: Final = {
    **{words: number for number, words in enumerate(STATUS)},
    "initialgrace": 2,
    "oobgrace": 2,
    "oob_grace": 2,
    "additionalgrace": 3,
    "ootgrace": 3,
    "oot_grace": 3,
    "nongenuinegrace": 4,
    "non_genuine_grace": 4,
    "notifications": 5,
    "extendedgrace": 6,
}
"""Names that an enumeration may show in place of its number."""

_TYPES: Final = ("all", "ad", "kms", "token")
_TYPE_NAMES: Final = {"activedirectory": "ad", "active directory": "ad", "any": "all", "tokenbased": "token"}

_PROPERTIES: Final = (
    *_COUNTS.values(),
    "ADActivationObjectDN",
    "ADActivationObjectName",
    "ApplicationID",
    "AutomaticVMActivationHostMachineName",
    "ClientMachineID",
    "Description",
    "DiscoveredKeyManagementServiceMachineIpAddress",
    "DiscoveredKeyManagementServiceMachineName",
    "DiscoveredKeyManagementServiceMachinePort",
    "EvaluationEndDate",
    "GracePeriodRemaining",
    "ID",
    "IsKeyManagementServiceMachine",
    "KeyManagementServiceCurrentCount",
    "KeyManagementServiceDnsPublishing",
    "KeyManagementServiceHostCaching",
    "KeyManagementServiceListeningPort",
    "KeyManagementServiceLookupDomain",
    "KeyManagementServiceLowPriority",
    "KeyManagementServiceMachine",
    "KeyManagementServicePort",
    "KeyManagementServiceProductKeyID",
    "LicenseStatus",
    "LicenseStatusReason",
    "Name",
    "PartialProductKey",
    "ProductKeyChannel",
    "ProductKeyID",
    "RemainingSkuReArmCount",
    "RemainingWindowsReArmCount",
    "RequiredClientCount",
    "TrustedTime",
    "VLActivationInterval",
    "VLActivationTypeEnabled",
    "VLRenewalInterval",
    "Version",
)
_SPELLINGS: Final = {name.lower(): name for name in _PROPERTIES}
_SPELLINGS["activationid"] = "ID"
_NOTHING: Final = frozenset({"n/a", "not set", "unlimited", "no limit"})
"""What OSLicense writes where nothing is set."""

_OWN: Final = frozenset(_PROPERTIES) - {"ID", "Name", "Description", "Version"}
"""Properties that no other kind of object has."""

_OF_PRODUCT: Final = frozenset({"LicenseStatus", "PartialProductKey", "ProductKeyChannel", "ApplicationID"})


def known(data: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that are read here, as the classes spell them, without those that are not set."""
    return {
        name: value
        for key, value in data.items()
        if (name := _SPELLINGS.get(key.replace("_", "").replace(" ", "").lower())) is not None
        and not (isinstance(value, str) and value.strip().lower() in _NOTHING)
    }


def is_product(data: Mapping[str, Any]) -> bool:
    """Whether an object (of :func:`known`) is a product."""
    return bool(_OF_PRODUCT & data.keys())


def is_service(data: Mapping[str, Any]) -> bool:
    """Whether an object (of :func:`known`) is the licensing service, or a part of it."""
    return not is_product(data) and bool(_OWN & data.keys())


class ServiceState(NamedTuple):
    """What the licensing service says of the machine as a whole; ``host`` where it is a KMS host."""

    version: str
    client_machine_id: str
    override: KmsOverride | None
    lookup_domain: str
    caching: bool | None
    activation_type: str
    windows_rearms: int | None
    discovered_host: str
    discovered_port: int
    activation_interval_min: int
    renewal_interval_min: int
    host: HostState | None


def service(data: Mapping[str, Any], where: str, problems: list[str]) -> ServiceState:
    """Read a service (of :func:`known`); what does not fit goes to ``problems``."""
    one = _Properties(data, where, problems)
    named, port = one.text("KeyManagementServiceMachine").lower(), one.number("KeyManagementServicePort", 65_535)
    return ServiceState(
        version=one.text("Version"),
        client_machine_id=one.text("ClientMachineID").strip("{}").lower(),
        override=KmsOverride("global", named, port) if named else None,
        lookup_domain=suffix(one.text("KeyManagementServiceLookupDomain")),
        caching=one.flag("KeyManagementServiceHostCaching"),
        activation_type=one.activation_type(),
        windows_rearms=one.count("RemainingWindowsReArmCount"),
        discovered_host=one.text("DiscoveredKeyManagementServiceMachineName").lower(),
        discovered_port=one.number("DiscoveredKeyManagementServiceMachinePort", 65_535),
        activation_interval_min=one.minutes("VLActivationInterval"),
        renewal_interval_min=one.minutes("VLRenewalInterval"),
        host=_host(one),
    )


def product(data: Mapping[str, Any], where: str, problems: list[str], source: str = PRODUCT) -> ProductState:
    """Read a product (of :func:`known`); what does not fit goes to ``problems``."""
    one = _Properties(data, where, problems)
    return ProductState(
        name=one.text("Name"),
        description=one.text("Description"),
        application_id=one.text("ApplicationID").strip("{}").lower(),
        activation_id=one.text("ID").strip("{}").lower(),
        channel=one.text("ProductKeyChannel"),
        status=one.status(),
        reason=one.code("LicenseStatusReason"),
        grace_minutes=one.minutes("GracePeriodRemaining"),
        discovered_host=one.text("DiscoveredKeyManagementServiceMachineName").lower(),
        discovered_port=one.number("DiscoveredKeyManagementServiceMachinePort", 65_535),
        source=source,
        # Only whether there is one: the characters themselves are kept nowhere.
        in_use=bool(data["PartialProductKey"]) if "PartialProductKey" in data else None,
        client_machine_id=one.text("ClientMachineID").strip("{}").lower(),
        override_host=one.text("KeyManagementServiceMachine").lower(),
        override_port=one.number("KeyManagementServicePort", 65_535),
        lookup_domain=suffix(one.text("KeyManagementServiceLookupDomain")),
        host_address=one.text("DiscoveredKeyManagementServiceMachineIpAddress"),
        host_pid=one.text("KeyManagementServiceProductKeyID"),
        extended_pid=one.text("ProductKeyID"),
        activation_interval_min=one.minutes("VLActivationInterval"),
        renewal_interval_min=one.minutes("VLRenewalInterval"),
        caching=one.flag("KeyManagementServiceHostCaching"),
        activation_type=one.activation_type(),
        product_rearms=one.count("RemainingSkuReArmCount"),
        trusted_time=one.date("TrustedTime"),
        expires=one.date("EvaluationEndDate"),
        ad_object=one.text("ADActivationObjectName") or one.text("ADActivationObjectDN"),
        vm_host=one.text("AutomaticVMActivationHostMachineName"),
        host=_host(one),
    )


def with_service(products: Sequence[ProductState], service: ServiceState) -> tuple[ProductState, ...]:
    """Products with what the service says of Windows and of the KMS host; of one without a name where there are none.

    The service's counters are those of Windows; another product keeps its own, and of the service's only what is
    common to all: port, publishing, priority.
    """
    found = list(products) if service.host is None else _with_host(products, service.host)
    if not found and service.discovered_host:
        found = [ProductState(name="", source=SERVICE)]
    windows = [number for number, one in enumerate(found) if one.application_id == WINDOWS and one.in_use is not False]
    for number in windows or [number for number, one in enumerate(found) if one.source == SERVICE]:
        one = found[number]
        if service.windows_rearms is not None:
            one = msgspec.structs.replace(one, windows_rearms=service.windows_rearms)
        if len(windows) < 2:
            one = _with_discovery(one, service)
        found[number] = one
    return tuple(found)


def _with_discovery(one: ProductState, service: ServiceState) -> ProductState:
    """A product with the service's discovered host and intervals, where its own are missing."""
    if not one.discovered_host and not one.ad_object:
        one = msgspec.structs.replace(
            one, discovered_host=service.discovered_host, discovered_port=service.discovered_port
        )
    return msgspec.structs.replace(
        one,
        activation_interval_min=one.activation_interval_min or service.activation_interval_min,
        renewal_interval_min=one.renewal_interval_min or service.renewal_interval_min,
    )


def _with_host(products: Sequence[ProductState], host: HostState) -> list[ProductState]:
    found = list(products)
    places = [number for number, one in enumerate(found) if one.host is not None]
    places = places or [number for number, one in enumerate(found) if _has_host_key(one)]
    if not places:
        return [*found, ProductState(name="", source=SERVICE, host=host)]
    first = next((number for number in places if found[number].application_id == WINDOWS), places[0])
    common = msgspec.structs.replace(host, count=None, required=None, requests=Requests())
    for number in places:
        given = host if number == first else common
        found[number] = msgspec.structs.replace(found[number], host=_filled(found[number].host, given))
    return found


def _has_host_key(one: ProductState) -> bool:
    return channel_of(one.channel, one.description) is Channel.HOST and one.in_use is not False


def _filled(own: HostState | None, other: HostState) -> HostState:
    """A host's state, with the other's values where its own are missing."""
    if own is None:
        return other
    return HostState(
        # A product that keeps no count of its own says -1.
        count=other.count if own.count in (None, -1) and other.count is not None else own.count,
        required=other.required if own.required is None else own.required,
        port=own.port or other.port,
        publishing=other.publishing if own.publishing is None else own.publishing,
        low_priority=other.low_priority if own.low_priority is None else own.low_priority,
        requests=other.requests if own.requests == Requests() else own.requests,
    )


def _host(one: "_Properties") -> HostState | None:
    if not one.flag("IsKeyManagementServiceMachine"):
        return None
    return HostState(
        count=one.count("KeyManagementServiceCurrentCount", least=-1),
        required=one.count("RequiredClientCount"),
        port=one.number("KeyManagementServiceListeningPort", 65_535),
        publishing=one.flag("KeyManagementServiceDnsPublishing"),
        low_priority=one.flag("KeyManagementServiceLowPriority"),
        requests=Requests(**{name: one.count(key) for name, key in _COUNTS.items()}),
    )


class _Properties(Fields):
    """Properties of the classes: numbers that are not set, enumerations by name."""

    def count(self, key: str, least: int = 0) -> int | None:
        """A number, None where it is not told; -1 only where it has a meaning."""
        value = self.data.get(key)
        if value is None or value == "":
            return None
        if str(value).strip() in ("-1", str(_NOT_SET)):
            return -1 if least < 0 else None
        found = self.number(key, _NOT_SET, missing=-1)
        return None if found < 0 else found

    def minutes(self, key: str) -> int:
        """Minutes, 0 where they are not told or not set."""
        return self.count(key) or 0

    def status(self) -> int:
        """LicenseStatus, -1 where it is not told."""
        value = self.data.get("LicenseStatus")
        if isinstance(value, str):
            found = _STATUS_NAMES.get(value.strip().lower())
            if found is not None:
                return found
        # 0 would say that it is not licensed.
        return self.number("LicenseStatus", len(STATUS) - 1, missing=-1)

    def activation_type(self) -> str:
        """VLActivationTypeEnabled, "" where it is not told."""
        value = self.data.get("VLActivationTypeEnabled")
        if isinstance(value, str) and not value.strip().lstrip("-").isdigit():
            name = value.strip().lower()
            name = _TYPE_NAMES.get(name, name)
            if name and name not in _TYPES:
                self.wrong("VLActivationTypeEnabled", value)
            return name if name in _TYPES else ""
        found = self.count("VLActivationTypeEnabled")
        # Microsoft: 1 Active Directory, 2 KMS, 3 tokens; anything else allows all.
        return "" if found is None else _TYPES[found] if found < len(_TYPES) else "all"

    def date(self, key: str) -> str:
        """A time as UTC text, another text as it is; "" where it is not told, or stands for never (the year 1601)."""
        value = self.data.get(key)
        if isinstance(value, dict):
            value = value.get("value", value.get("DateTime"))
        if value is None or value == "":
            return ""
        if not isinstance(value, str):
            self.wrong(key, value)
            return ""
        at = parse_time(value)
        if at is None:
            return ascii_text(value.strip())
        return "" if at.year <= 1601 else at.strftime("%Y-%m-%d %H:%M:%SZ")
