"""What machines say about themselves in files that others collected: output of tools, registry exports, JSON.

A file is one question with one answer. It may speak of one machine or of many, and several files may speak of the same
machine: :mod:`kmsdiag.collected` joins them. All text in here is printable ASCII: readers escape what a file holds.
Minutes and ports are 0, counts None, where a file does not say.
"""

from collections.abc import Mapping

import msgspec

from kmsdiag.model.answer import Answer, HostsEntry, KmsOverride, LicensedProduct, SrvRecord
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.target import Utc


class Requests(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Requests that a KMS host has received since it was installed: all, failed ones, and by the clients' status."""

    total: int | None = None
    failed: int | None = None
    unlicensed: int | None = None
    licensed: int | None = None
    initial_grace: int | None = None
    expired: int | None = None
    non_genuine: int | None = None
    notification: int | None = None


class HostState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A KMS host's account of itself, of one host key ("Key Management Service is enabled on this machine").

    ``count`` is the number of clients it remembers (at most twice the highest need; -1: none has asked yet, WMI);
    ``required`` the highest need that a client has stated; ``port`` is the one it listens on.
    """

    count: int | None = None
    required: int | None = None
    port: int = 0
    publishing: bool | None = None
    low_priority: bool | None = None
    requests: Requests = Requests()


class ProductState(LicensedProduct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One product as a tool or a class of Windows shows it; what it has of :class:`LicensedProduct` means the same.

    ``source`` is what showed it ("slmgr /dlv", "ospp /dstatus", "SoftwareLicensingProduct"). ``status`` is -1 where it
    is not told. ``in_use`` is False for a licence without a key. ``override_*`` are set by hand (slmgr /skms, ospp
    /sethst) and in force; ``discovered_*`` were found through DNS, ``no_host`` says that DNS gave none.
    ``host_address`` and ``host_pid`` are of the host that activated it. ``activation_type`` is ``all``, ``ad``, ``kms``
    or ``token``.
    ``expires``, ``trusted_time`` are texts in the machine's regional format. ``permanent``: slmgr /xpr says so.
    ``ad_object`` is the activation object, where Active Directory activated it, ``vm_host`` the Hyper-V host that did.
    ``result`` is the HRESULT of an attempt that the same text shows ("0x00000000" for success), "" where none is.
    ``never_asked``: slmgr wants /ato first, since the client has not talked to any host. Intervals are in minutes.
    """

    status: int = -1
    source: str = ""
    in_use: bool | None = None
    client_machine_id: str = ""
    override_host: str = ""
    override_port: int = 0
    lookup_domain: str = ""
    no_host: bool = False
    host_address: str = ""
    host_pid: str = ""
    extended_pid: str = ""
    activation_interval_min: int = 0
    renewal_interval_min: int = 0
    caching: bool | None = None
    activation_type: str = ""
    windows_rearms: int | None = None
    product_rearms: int | None = None
    trusted_time: str = ""
    expires: str = ""
    permanent: bool = False
    ad_object: str = ""
    vm_host: str = ""
    result: str = ""
    never_asked: bool = False
    host: HostState | None = None


class PublishDomain(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of ``DnsDomainPublishList``: a domain that the host publishes itself in, with priority and weight."""

    domain: str
    priority: int = 0
    weight: int = 0


class HostSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Registry values of a KMS host (Microsoft, "Registry settings for volume activation").

    ``misplaced`` are names of values under the key ``SL``, which only Vista and Server 2008 read.
    ``registered_domain`` and ``registered_port`` are what it published last.
    """

    listening_port: int = 0
    publishing: bool | None = None
    publish_domains: tuple[PublishDomain, ...] = ()
    low_priority: bool | None = None
    activation_interval_min: int = 0
    renewal_interval_min: int = 0
    registered_domain: str = ""
    registered_port: int = 0
    misplaced: tuple[str, ...] = ()


class CachedHost(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A host that a client remembers (``DiscoveredKeyManagementServiceName``), for an application or a product."""

    host: str
    port: int = 0
    scope: str = ""


class ToolLookup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A DNS question that somebody put with a tool on that machine, and how it ended.

    ``kind`` is "SRV", "A" or "AAAA"; ``server`` is what answered, as the tool shows it; ``tool`` is its name.
    """

    tool: str
    name: str
    kind: str
    outcome: DnsOutcome
    server: str = ""
    records: tuple[SrvRecord, ...] = ()
    addresses: tuple[str, ...] = ()


class PortTest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A TCP connection that somebody tried from that machine (Test-NetConnection, PsPing, telnet)."""

    tool: str
    target: str
    port: int
    succeeded: bool
    address: str = ""
    ping: bool | None = None


class NetworkState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Name resolution of a machine as ``ipconfig /all`` or a collector shows it, and what was tried from there.

    ``domain_joined`` is None where it is not told. ``complete``: all DNS settings were told, so that an empty suffix
    means that there is none.
    """

    complete: bool = False
    primary_suffix: str = ""
    search: tuple[str, ...] = ()
    adapter_suffixes: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    hosts_file: tuple[HostsEntry, ...] = ()
    lookups: tuple[ToolLookup, ...] = ()
    ports: tuple[PortTest, ...] = ()
    domain_joined: bool | None = None


class MachineState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one file says about one machine.

    ``name`` is the machine's own where the file has it. ``sources`` are the kinds of output that were found, each once.
    ``system`` is a version or caption of Windows. ``cached`` are hosts remembered in the registry. ``settings`` are a
    host's. ``collected_at`` is UTC, ``None`` where the file does not tell. ``notes`` are what could not be read, and
    what is odd.
    """

    name: str = ""
    sources: tuple[str, ...] = ()
    system: str = ""
    products: tuple[ProductState, ...] = ()
    overrides: tuple[KmsOverride, ...] = ()
    lookup_domain: str = ""
    caching: bool | None = None
    activation_type: str = ""
    client_machine_id: str = ""
    cached: tuple[CachedHost, ...] = ()
    settings: HostSettings | None = None
    network: NetworkState | None = None
    services: Mapping[str, str] = {}
    collected_at: Utc | None = None
    notes: tuple[str, ...] = ()


class StatusAnswer(Answer, frozen=True, kw_only=True, omit_defaults=True, tag="status"):
    """All that one file says about machines. ``at`` is the collection time, else the file's own time."""

    format: str
    machines: tuple[MachineState, ...] = ()
    notes: tuple[str, ...] = ()
