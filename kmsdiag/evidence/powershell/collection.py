"""What the collector for Windows wrote (``kmsdiag collect-script``): one machine, and its events.

The layout is said in :mod:`kmsdiag.evidence.powershell.script`.
"""

import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.escape import notes as bounded
from kmsdiag.evidence.names import addresses, suffix
from kmsdiag.evidence.powershell import licensing
from kmsdiag.evidence.powershell import network as net_json
from kmsdiag.evidence.powershell import state as windows_state
from kmsdiag.evidence.powershell.fields import Fields, parse_time
from kmsdiag.evidence.tools import records
from kmsdiag.evidence.tools.records import Row
from kmsdiag.model.collected import (
    CachedHost,
    HostSettings,
    MachineState,
    NetworkState,
    PortTest,
    ProductState,
    PublishDomain,
    ToolLookup,
)
from kmsdiag.model.outcome import DnsOutcome

MARK: Final = "kmsdiag_collection"
FORMAT: Final = 1
"""The number of the only layout so far."""

SOURCE: Final = "kmsdiag collection"

STRING_LIMIT: Final = 4000
"""Characters kept of one insertion string of an event."""

MOST_ENTRIES: Final = 1000
"""Entries kept of lists that may be long."""

_SERVICE_KEY: Final = "SoftwareProtectionPlatform"
_HOST_VALUES: Final = (
    "KeyManagementServiceListeningPort",
    "DisableDnsPublishing",
    "DnsDomainPublishList",
    "EnableKmsLowPriority",
    "VLActivationInterval",
    "VLRenewalInterval",
)
_OUTCOMES: Final = {
    9501: DnsOutcome.NODATA,
    9002: DnsOutcome.SERVFAIL,
    9003: DnsOutcome.NXDOMAIN,
    9005: DnsOutcome.REFUSED,
    9852: DnsOutcome.NO_SERVER,
    1460: DnsOutcome.TIMEOUT,
}
"""Windows' codes for how a DNS question failed (winerror.h: DNS_ERROR_*, ERROR_TIMEOUT)."""


class Event(NamedTuple):
    """One event of the collection: whose log, which log, its ID, when (UTC), and its insertion strings as they were.

    Nothing is escaped here: the digest of event logs does that for all of them.
    """

    computer: str
    log: str
    id: int
    at: datetime.datetime
    strings: tuple[str, ...]


def is_collection(data: object) -> bool:
    """Whether a decoded document was written by the collector, whatever its format number."""
    return isinstance(data, dict) and MARK in data


def events(data: object) -> list[Event]:
    """The events of a collection in the order of the file; those that do not fit are counted by :func:`read`."""
    return [one for one in _events(data) if one is not None]


def _events(data: object) -> Iterator[Event | None]:
    found = data.get("events") if isinstance(data, dict) and data.get(MARK) == FORMAT else None
    if isinstance(found, dict):
        found = found["value"] if found.keys() == {"value", "Count"} else [found]
    for one in found if isinstance(found, list) else []:
        yield _event(one) if isinstance(one, dict) else None


def _event(one: Mapping[str, Any]) -> Event | None:
    at, number, strings = one.get("at"), one.get("id"), one.get("strings")
    when = parse_time(at) if isinstance(at, str) else None
    if isinstance(strings, dict) and strings.keys() == {"value", "Count"}:
        strings = strings["value"]
    if isinstance(strings, str):
        strings = [strings]
    if when is None or not isinstance(number, int) or not 0 <= number <= 0xFFFF or not isinstance(strings, list):
        return None
    computer, log = one.get("computer"), one.get("log")
    return Event(
        computer if isinstance(computer, str) else "",
        log if isinstance(log, str) else "",
        number,
        when,
        tuple(str(text)[:STRING_LIMIT] for text in strings),
    )


def read(data: object) -> list[MachineState]:
    """The machine of a collection; [] where the document is none. Never raises."""
    if not is_collection(data) or not isinstance(data, dict):
        return []
    if data[MARK] != FORMAT or isinstance(data[MARK], bool):
        note = "a collection of another format than this version reads: use the script of this version"
        return [MachineState(sources=(SOURCE,), notes=(note,))]
    top = Fields(data, "the collection", [])
    # Events are many and no part of the state.
    common = windows_state.state({**data, "events": None, "products": None})
    identity = top.object("machine")
    notes: list[str] = []
    service = licensing.service(licensing.known(top.object("service").data), "service", top.problems)
    products = _products(top)
    unread = sum(one is None for one in _events(data))
    if unread:
        notes.append(f"{unread:,} events could not be read")
    collected = top.data.get("collected")
    return [
        MachineState(
            name=_name(identity, common.primary_suffix),
            sources=(SOURCE,),
            system=_system(identity),
            products=licensing.with_service(products, service),
            overrides=tuple(dict.fromkeys(common.kms.overrides)),
            lookup_domain=common.kms.lookup_domain,
            caching=common.kms.caching,
            activation_type=service.activation_type,
            client_machine_id=common.kms.client_machine_id,
            cached=_cached(top),
            settings=_settings(top),
            network=_network(top, common, joined=identity.flag("joined")),
            services=_services(top),
            collected_at=parse_time(collected) if isinstance(collected, str) else None,
            notes=bounded([*notes, *top.problems, *common.problems, *common.kms.problems]),
        )
    ]


def _name(identity: Fields, primary: str) -> str:
    """The machine's full name, as far as it has one."""
    name = suffix(identity.text("name")) or suffix(identity.text("computer"))
    domain = primary or (suffix(identity.text("domain")) if identity.flag("joined") else "")
    return f"{name}.{domain}" if name and domain and "." not in name else name


def _system(identity: Fields) -> str:
    caption, version = identity.text("caption"), identity.text("version")
    return f"{caption} ({version})" if caption and version else caption or version


def _products(top: Fields) -> list[ProductState]:
    found = []
    for number, one in enumerate(top.objects("products", "product", MOST_ENTRIES), 1):
        data = licensing.known(one.data)
        # The script asks for products that have a key.
        product = licensing.product(data, f"product {number}", top.problems)
        found.append(msgspec.structs.replace(product, in_use=True))
    return found


def _services(top: Fields) -> dict[str, str]:
    """States of services by name, lower-case: "running", "stopped (disabled)"."""
    found = {}
    for one in top.objects("services", "service"):
        name, state, start = one.text("Name").lower(), one.text("State").lower(), one.text("StartMode").lower()
        if name and state:
            found[name] = f"{state} ({start})" if start == "disabled" else state
    return found


def _keys(top: Fields, hive: str) -> Iterator[tuple[Fields, Fields]]:
    """Registry keys of a hive, and their values."""
    for entry in top.objects("kms", "registry key", windows_state.MOST_KEYS):
        if (entry.text("hive") or "LocalMachine") == hive:
            yield entry, entry.object("values")


def _cached(top: Fields) -> tuple[CachedHost, ...]:
    found: dict[CachedHost, None] = {}
    for entry, values in (*_keys(top, "Users"), *_keys(top, "LocalMachine")):
        host = values.text("DiscoveredKeyManagementServiceName").lower()
        if host:
            scope = (entry.text("sku") or entry.text("app")).strip("{}").lower()
            found[CachedHost(host, values.number("DiscoveredKeyManagementServicePort", 65_535), scope)] = None
    return tuple(found)


def _settings(top: Fields) -> HostSettings | None:
    """A host's registry values, from the licensing service's own key."""
    found = HostSettings()
    misplaced: dict[str, None] = {}
    for entry, values in _keys(top, "LocalMachine"):
        names = [name for name in _HOST_VALUES if name in values.data]
        if entry.text("root") == "SL":
            misplaced.update(dict.fromkeys(ascii_text(name) for name in values.data))
        elif names and (entry.text("root"), entry.text("app"), entry.text("view")) == (_SERVICE_KEY, "", "64"):
            disabled = values.flag("DisableDnsPublishing")
            found = HostSettings(
                listening_port=values.number("KeyManagementServiceListeningPort", 65_535),
                publishing=None if disabled is None else not disabled,
                publish_domains=_publish_list(values),
                low_priority=values.flag("EnableKmsLowPriority"),
                activation_interval_min=values.number("VLActivationInterval", 0x7FFF_FFFF),
                renewal_interval_min=values.number("VLRenewalInterval", 0x7FFF_FFFF),
            )
    registered, port = "", 0
    for _entry, values in _keys(top, "Users"):
        registered = registered or suffix(values.text("KeyManagementServiceRegisteredDomainName"))
        port = port or values.number("KeyManagementServiceRegisteredPortNumber", 65_535)
    found = msgspec.structs.replace(
        found, registered_domain=registered, registered_port=port, misplaced=tuple(misplaced)
    )
    return None if found == HostSettings() else found


def _publish_list(values: Fields) -> tuple[PublishDomain, ...]:
    """Lines ``domain, priority, weight``; both numbers may be missing."""
    found = []
    for line in values.texts("DnsDomainPublishList"):
        parts = [part.strip() for part in line.split(",")]
        numbers = [int(part) if re.fullmatch(r"[0-9]{1,5}", part, re.ASCII) else -1 for part in parts[1:] if part]
        if not parts[0]:
            continue
        if len(numbers) > 2 or any(not 0 <= number <= 65_535 for number in numbers):
            values.wrong("DnsDomainPublishList", line)
            numbers = []
        found.append(PublishDomain(suffix(parts[0]), *numbers))
    return tuple(found)


def _network(top: Fields, common: windows_state.WindowsParts, *, joined: bool | None) -> NetworkState:
    own = [text for one in top.object("dns").objects("interfaces", "interface") for text in one.texts("addresses")]
    return NetworkState(
        complete=bool(top.object("dns").data) and not any("DNS settings" in text for text in common.kms.problems),
        primary_suffix=common.primary_suffix,
        search=common.search,
        adapter_suffixes=common.dhcp_suffixes,
        resolvers=common.resolvers,
        addresses=tuple(one for one in addresses(own) if not one.lower().startswith("fe80:")),
        hosts_file=common.hosts_file,
        lookups=_lookups(top),
        ports=_ports(top),
        domain_joined=joined,
    )


def _lookups(top: Fields) -> tuple[ToolLookup, ...]:
    found: list[ToolLookup] = []
    for number, one in enumerate(top.objects("lookups", "lookup", MOST_ENTRIES), 1):
        name, kind = suffix(one.text("name")), one.text("type").upper()
        if not name or kind not in ("SRV", "A", "AAAA"):
            one.wrong("type", kind)
            continue
        rows: list[Row] = []
        for record in one.objects("records", "record"):
            lower = {key.lower(): value for key, value in record.data.items()}
            row = net_json.row(lower, f"lookup {number}", top.problems)
            rows += [] if row is None else [row]
        answered, _notes = records.lookups(rows, "Resolve-DnsName")
        own = next((lookup for lookup in answered if lookup.kind == kind), None)
        if own is not None:
            found.append(msgspec.structs.replace(own, name=name))
            continue
        outcome = DnsOutcome.NODATA
        if one.text("error", 1000):
            code = one.number("code", 0x7FFF_FFFF)
            outcome = _OUTCOMES.get(code, DnsOutcome.ERROR_RCODE)
            if code not in _OUTCOMES:
                top.problems.append(f"{kind} of {name}: {one.text('error', 1000)}")
        found.append(ToolLookup(tool="Resolve-DnsName", name=name, kind=kind, outcome=outcome))
    return records.merged(found)


def _ports(top: Fields) -> tuple[PortTest, ...]:
    found: dict[PortTest, None] = {}
    for one in top.objects("ports", "port test", MOST_ENTRIES):
        target, port, succeeded = suffix(one.text("target")), one.number("port", 65_535), one.flag("open")
        address = addresses([one.text("address")])
        if target and port and succeeded is not None:
            test = PortTest(
                tool=SOURCE, target=target, port=port, succeeded=succeeded, address=address[0] if address else ""
            )
            found[test] = None
        else:
            one.wrong("port test", one.data)
    return tuple(found)
