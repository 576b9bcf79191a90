r"""What a registry export says about a machine: hosts set by hand or remembered, a host's settings, its DNS.

Sources: Microsoft, "Registry settings for volume activation"; slmgr.vbs and ospp.vbs (paths). Product keys, also in the
forms ``DigitalProductId`` and ``BackupProductKeyDefault``, are never kept.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from kmsdiag.evidence.escape import ascii_text, notes, quoted
from kmsdiag.evidence.registry.file import Entry, entries
from kmsdiag.evidence.registry.network import Network
from kmsdiag.model.answer import KmsOverride
from kmsdiag.model.collected import CachedHost, HostSettings, MachineState, PublishDomain

OFFICE: Final = "OfficeSoftwareProtectionPlatform"

_GUID: Final = r"\{?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?"
_PLATFORM: Final = re.compile(
    r".*?\\(?P<wow>wow6432node\\)?microsoft\\(?:windowsnt\\currentversion\\(?P<key>softwareprotectionplatform|sl)"
    rf"|(?P<office>officesoftwareprotectionplatform))(?:\\(?P<app>{_GUID})(?:\\(?P<sku>{_GUID}))?)?$"
)
"""Keys of the licensing service, in lower case, without white space: a path may have been broken at "Windows NT"."""

_SECRET: Final = frozenset({"customerpid", "digitalproductid", "digitalproductid4", "backupproductkeydefault"})

_HOST: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+)")

_TYPES: Final = {0: "all", 1: "ad", 2: "kms", 3: "token"}

_MINUTES: Final = range(15, 43_201)
"""Intervals that the licensing service accepts."""

_HOST_VALUES: Final = frozenset(
    {
        "keymanagementservicelisteningport",
        "disablednspublishing",
        "dnsdomainpublishlist",
        "enablekmslowpriority",
        "vlactivationinterval",
        "vlrenewalinterval",
    }
)
_CLIENT_VALUES: Final = frozenset(
    {
        "keymanagementservicename",
        "keymanagementserviceport",
        "keymanagementservicelookupdomain",
        "vlactivationtype",
        "disablekeymanagementservicehostcaching",
    }
)


def read(text: str) -> list[MachineState]:
    """What the keys of a text say about one machine; [] where none of them matters here. Never raises."""
    if "HKEY_" not in text and "hkey_" not in text:
        return []
    export = _Export()
    for entry in entries(text):
        export.take(entry)
    return [export.state()] if export.seen else []


class _Place:
    """A key of the licensing service: where it lies, and the values that are collected from it."""

    __slots__ = ("level", "network_service", "old", "scope", "view")

    def __init__(self, path: str, found: re.Match[str]) -> None:
        app, sku = (found["app"] or "").strip("{}"), (found["sku"] or "").strip("{}")
        self.level = "product" if sku else "application" if app else "global"
        self.scope = sku or app
        if found["office"] and not self.scope:
            self.level, self.scope = "application", OFFICE
        self.view = "32" if found["wow"] else "64"
        self.old = found["key"] == "sl"
        self.network_service = "s-1-5-20" in path

    @property
    def id(self) -> tuple[str, str, str]:
        return (self.view, self.level, self.scope)


class _Export:
    """Takes values, one after the other."""

    def __init__(self) -> None:
        self.seen = False
        self.key = self.path = ""
        self.notes: list[str] = []
        self.network = Network(self.notes)
        self.hosts: dict[tuple[str, str, str], str] = {}
        self.ports: dict[tuple[str, str, str], int] = {}
        self.cached_hosts: dict[str, str] = {}
        self.cached_ports: dict[str, int] = {}
        self.domains: list[str] = []
        self.caching: bool | None = None
        self.types: dict[str, str] = {}
        self.settings: dict[str, object] = {}
        self.misplaced: list[str] = []

    def take(self, entry: Entry) -> None:
        """One key or value."""
        if entry.key != self.key:
            self.key, self.path = entry.key, "".join(entry.key.split()).lower()
        path = self.path
        platform = None if "\\policies\\" in path else _PLATFORM.match(path)
        if platform is None:
            self.seen = self.network.take(path, entry) or self.seen
            return
        self.seen = True
        if entry.name is None:
            if entry.problem:
                self.note(entry, "")
            return
        name = entry.name.lower()
        if name in _SECRET:
            return
        place = _Place(path, platform)
        if place.old and not place.network_service:
            if name in _HOST_VALUES or name in _CLIENT_VALUES:
                self.misplaced.append(ascii_text(entry.name))
            return
        handler = _HANDLERS.get(name)
        if handler is None:
            return
        if entry.data is None:
            self.note(entry, entry.name)
        elif name in _HOST_VALUES and place.view == "32":
            self.notes.append(f"{entry.name} is set in the 32-bit view of the registry, which a KMS host does not read")
        else:
            handler(self, place, entry)

    def note(self, entry: Entry, name: str) -> None:
        """Something that could not be read."""
        what = f"{name} in " if name else ""
        self.notes.append(f"line {entry.line}: {what}{quoted(entry.key, 110)}: {entry.problem}")

    def odd(self, entry: Entry, expected: str) -> None:
        """A value that does not fit."""
        shown = "bytes" if isinstance(entry.data, bytes) else quoted(str(entry.data), 60)
        self.notes.append(f"line {entry.line}: {ascii_text(str(entry.name))} is {shown}, not {expected}")

    # ------------------------------------------------------------------------------------------------- values

    def number(self, entry: Entry, least: int, most: int, expected: str) -> int | None:
        """A number, also where it is kept as text."""
        data = entry.data
        if isinstance(data, str) and re.fullmatch(r"\s*[0-9]{1,10}\s*", data, re.ASCII):
            data = int(data)
        if isinstance(data, int) and least <= data <= most:
            return data
        if data != "":
            self.odd(entry, expected)
        return None

    def host_name(self, entry: Entry) -> str:
        """A host's name or address in lower case, "" where it is neither."""
        data = entry.data.strip() if isinstance(entry.data, str) else None
        if data == "":
            return ""
        if data is None or not _HOST.fullmatch(data):
            self.odd(entry, "the name of a host")
            return "" if data is None or data.startswith("<") or not data.isprintable() else ascii_text(data.lower())
        return ascii_text(data.lower().rstrip("."))

    def port(self, entry: Entry) -> int:
        """A port, 0 where there is none."""
        if isinstance(entry.data, int):
            self.notes.append(f"{ascii_text(str(entry.name))} is a DWORD; the licensing service expects text (REG_SZ)")
        return self.number(entry, 1, 65_535, "a port") or 0

    def override_host(self, place: _Place, entry: Entry) -> None:
        """KeyManagementServiceName."""
        host = self.host_name(entry)
        if host:
            self.hosts[place.id] = host

    def override_port(self, place: _Place, entry: Entry) -> None:
        """KeyManagementServicePort."""
        port = self.port(entry)
        if port:
            self.ports[place.id] = port

    def cached_host(self, place: _Place, entry: Entry) -> None:
        """DiscoveredKeyManagementServiceName."""
        host = self.host_name(entry)
        if host:
            self.cached_hosts[place.scope] = host

    def cached_port(self, place: _Place, entry: Entry) -> None:
        """DiscoveredKeyManagementServicePort."""
        port = self.port(entry)
        if port:
            self.cached_ports[place.scope] = port

    def lookup_domain(self, _place: _Place, entry: Entry) -> None:
        """KeyManagementServiceLookupDomain."""
        domain = self.host_name(entry)
        if domain:
            self.domains.append(domain)

    def host_caching(self, place: _Place, entry: Entry) -> None:
        """DisableKeyManagementServiceHostCaching."""
        value = self.number(entry, 0, 0xFFFF_FFFF, "0 or 1")
        if value is not None and (self.caching is None or place.view == "64"):
            self.caching = not value

    def activation_type(self, place: _Place, entry: Entry) -> None:
        """VLActivationType; Microsoft: 0, blank or anything else means all."""
        value = self.number(entry, 0, 3, "0, 1, 2 or 3")
        if value is not None:
            self.types[place.scope] = _TYPES[value]

    def listening_port(self, _place: _Place, entry: Entry) -> None:
        """KeyManagementServiceListeningPort."""
        self.settings["listening_port"] = self.port(entry)

    def publishing(self, _place: _Place, entry: Entry) -> None:
        """DisableDnsPublishing."""
        value = self.number(entry, 0, 0xFFFF_FFFF, "0 or 1")
        if value is not None:
            self.settings["publishing"] = not value

    def low_priority(self, _place: _Place, entry: Entry) -> None:
        """EnableKmsLowPriority."""
        value = self.number(entry, 0, 0xFFFF_FFFF, "0 or 1")
        if value is not None:
            self.settings["low_priority"] = bool(value)

    def publish_domains(self, _place: _Place, entry: Entry) -> None:
        """DnsDomainPublishList: a line a domain, with priority and weight where they are not 0."""
        lines = entry.data if isinstance(entry.data, tuple) else (entry.data,)
        if not isinstance(entry.data, tuple):
            self.odd(entry, "a list of texts (REG_MULTI_SZ)")
        found = [one for line in lines if isinstance(line, str) and (one := self._publish_domain(line)) is not None]
        self.settings["publish_domains"] = tuple(found)

    def _publish_domain(self, line: str) -> PublishDomain | None:
        domain, *numbers = (part.strip() for part in line.split(","))
        if not domain:
            return None
        fits = len(numbers) <= 2 and all(re.fullmatch("[0-9]{0,5}", one, re.ASCII) for one in numbers)
        values = [int(one or 0) for one in numbers] if fits else []
        if not fits or any(one > 65_535 for one in values) or not _HOST.fullmatch(domain):
            self.notes.append(f"DnsDomainPublishList has {quoted(line)}, which is not domain, priority, weight")
            values = []
        priority, weight = (*values, 0, 0)[:2]
        return PublishDomain(ascii_text(domain.lower().rstrip(".")), priority, weight)

    def activation_interval(self, _place: _Place, entry: Entry) -> None:
        """VLActivationInterval."""
        self._interval("activation_interval_min", entry)

    def renewal_interval(self, _place: _Place, entry: Entry) -> None:
        """VLRenewalInterval."""
        self._interval("renewal_interval_min", entry)

    def _interval(self, field: str, entry: Entry) -> None:
        value = self.number(entry, 0, 0xFFFF_FFFF, "minutes")
        if value is not None:
            self.settings[field] = value
            if value not in _MINUTES:
                self.odd(entry, "between 15 and 43200 minutes")

    def registered_domain(self, _place: _Place, entry: Entry) -> None:
        """KeyManagementServiceRegisteredDomainName."""
        self.settings["registered_domain"] = self.host_name(entry)

    def registered_port(self, _place: _Place, entry: Entry) -> None:
        """KeyManagementServiceRegisteredPortNumber."""
        self.settings["registered_port"] = self.port(entry)

    def skip_rearm(self, _place: _Place, entry: Entry) -> None:
        """SkipRearm: machines made from one image keep its client machine ID."""
        if self.number(entry, 0, 0xFFFF_FFFF, "0 or 1"):
            self.notes.append("SkipRearm is set: sysprep does not give this machine a client machine ID of its own")

    # ------------------------------------------------------------------------------------------------- the whole

    def state(self) -> MachineState:
        """All that was taken, as a value."""
        places = dict.fromkeys([*self.hosts, *self.ports])
        overrides = [
            KmsOverride(place[1], self.hosts.get(place, ""), self.ports.get(place, 0), place[2], place[0])
            for place in sorted(places, key=lambda one: (one[0] != "64", one))
        ]
        scopes = sorted({*self.cached_hosts, *self.cached_ports})
        cached = [
            CachedHost(self.cached_hosts[scope], self.cached_ports.get(scope, 0), scope)
            for scope in scopes
            if scope in self.cached_hosts
        ]
        name, network = self.network.name, self.network.state()
        own = list(self.notes)
        domains = list(dict.fromkeys(self.domains))
        if len(domains) > 1:
            own.append(f"several lookup domains are set: {', '.join(domains)}")
        kinds = list(dict.fromkeys(self.types.values()))
        if len(kinds) > 1:
            told = ", ".join(f"{scope or 'all'}: {kind}" for scope, kind in self.types.items())
            own.append(f"the ways of activation differ: {told}")
        settings: HostSettings | None = None
        if self.settings or self.misplaced:
            known = {field: value for field, value in self.settings.items() if value not in ("", 0) or value is False}
            settings = HostSettings(**known, misplaced=tuple(dict.fromkeys(self.misplaced)))  # type: ignore[arg-type]
        return MachineState(
            name=name,
            sources=("registry export",),
            system=self.network.system,
            overrides=tuple(overrides),
            lookup_domain=domains[0] if domains else "",
            caching=self.caching,
            activation_type=kinds[0] if kinds else "",
            cached=tuple(cached),
            settings=settings,
            network=network,
            notes=notes(own),
        )


_Handler = Callable[[_Export, _Place, Entry], None]

_HANDLERS: Final[Mapping[str, _Handler]] = {
    "keymanagementservicename": _Export.override_host,
    "keymanagementserviceport": _Export.override_port,
    "discoveredkeymanagementservicename": _Export.cached_host,
    "discoveredkeymanagementserviceport": _Export.cached_port,
    "keymanagementservicelookupdomain": _Export.lookup_domain,
    "disablekeymanagementservicehostcaching": _Export.host_caching,
    "vlactivationtype": _Export.activation_type,
    "keymanagementservicelisteningport": _Export.listening_port,
    "disablednspublishing": _Export.publishing,
    "enablekmslowpriority": _Export.low_priority,
    "dnsdomainpublishlist": _Export.publish_domains,
    "vlactivationinterval": _Export.activation_interval,
    "vlrenewalinterval": _Export.renewal_interval,
    "keymanagementserviceregistereddomainname": _Export.registered_domain,
    "keymanagementserviceregisteredportnumber": _Export.registered_port,
    "skiprearm": _Export.skip_rearm,
}
