"""What is asked about: domains, hosts, DNS servers, and what is expected of them.

Everything a person types is normalised here once, so that equal things compare equal later:
names are lower-case, in A-label form and without the final dot.
"""

import datetime
import ipaddress
import re
from enum import StrEnum
from typing import Annotated

import msgspec

Unsigned16 = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
"""A port, priority or weight; held to its range where a file is read."""

Utc = Annotated[datetime.datetime, msgspec.Meta(tz=True)]
"""A time; where a file is read, one without a zone is refused."""

KMS_PORT = 1688
"""Port of a KMS host unless configured otherwise (Microsoft, "KMS activation planning")."""

SYSTEM = "system"
"""The server name that stands for the resolvers of the machine kmsdiag runs on, used in their order."""

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class TargetError(ValueError):
    """Something typed by a person that cannot be used; the text names it and the remedy."""


class Family(StrEnum):
    """Address family of a question or of a path."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"


class SubjectKind(StrEnum):
    """What a check looks at, in the order of a report."""

    DOMAIN = "domain"
    HOST = "host"
    MACHINE = "machine"
    CAPTURES = "captures"
    FILES = "files"
    RUN = "run"


_KINDS = list(SubjectKind)


class Subject(msgspec.Struct, frozen=True):
    """One thing that a check is asked about: a domain, an explicit host, or the run as a whole.

    ``port`` is 0 where it has no meaning.
    """

    kind: SubjectKind
    name: str
    port: int = 0

    def __str__(self) -> str:
        return join_host_port(self.name, self.port) if self.kind is SubjectKind.HOST else self.name

    @property
    def order(self) -> tuple[int, str, int]:
        """Sort key: domains, then hosts, then the run."""
        return (_KINDS.index(self.kind), self.name, self.port)


MACHINE = Subject(SubjectKind.MACHINE, "this machine")
"""The subject of a check about the machine that kmsdiag runs on."""

CAPTURES = Subject(SubjectKind.CAPTURES, "captures")
"""The subject of a check about all packet captures of the run."""

FILES = Subject(SubjectKind.FILES, "files")
"""The subject of a check about what others collected: status files and event logs of the run."""

RUN = Subject(SubjectKind.RUN, "all")
"""The one subject of a check about everything together."""


class HostSpec(msgspec.Struct, frozen=True):
    """A host named by a person (``--host``, ``--expect-host``), the way ``slmgr /skms`` takes it."""

    host: str
    port: Unsigned16 = KMS_PORT

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


class Product(StrEnum):
    """What a KMS host activates; each has a host key and a count of its own."""

    WINDOWS = "windows"
    OFFICE = "office"


class ExpectedHost(HostSpec, frozen=True, omit_defaults=True):
    """A KMS host that should be published.

    ``domains`` are those that should name it (none: any of them); ``addresses``, ``priority`` and ``weight`` are what
    it should have there, where that is laid down.
    """

    # By a factory, so that it is never left out where it is written: what stands in a file need not be known by heart.
    port: Unsigned16 = msgspec.field(default_factory=lambda: KMS_PORT)
    serves: tuple[Product, ...] = tuple(Product)
    domains: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    priority: Unsigned16 | None = None
    weight: Unsigned16 | None = None


Machines = Annotated[int, msgspec.Meta(ge=0, le=100_000_000)]
"""How many machines are planned."""


class Site(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A place with machines that look for their host in one domain, at these DNS servers (none: any).

    ``client`` and ``server`` are Windows machines; ``office`` are those with a volume-licensed Office.
    """

    name: str
    domain: str
    servers: tuple[str, ...] = ()
    client: Machines = 0
    server: Machines = 0
    office: Machines = 0


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network (``10.1.0.0/16``) of a site from which activation must work; ``name`` may be a vantage's label."""

    name: str
    address: str
    site: str


class Expected(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What should be found. ``machines`` are Windows clients in all; ``planned``: the rest comes from a whole plan."""

    hosts: tuple[ExpectedHost, ...] = ()
    machines: int | None = None
    planned: bool = False
    max_hosts: int | None = None
    sites: tuple[Site, ...] = ()
    networks: tuple[Network, ...] = ()


class GivenFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One file: its name, its size in bytes and a cheap hash of its ends; never a path.

    Of files that are called the same the name has that of the folder: ``pc17/dlv.txt``. A member's begins with its
    archive: ``pc17.zip/dlv.txt``.
    """

    label: str
    size: int = 0
    hash: str = ""


class StatusFile(GivenFile, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A file about the state of machines. ``machine`` is whose it is, where somebody said so (``NAME=FILE``).

    ``folder`` is the name of the folder it lies in, which may be the machine's. ``collected_at`` is when it was made,
    where somebody said so (``--collected-at``). Times are UTC.
    """

    machine: str = ""
    folder: str = ""
    collected_at: Utc | None = None


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which conversations, lookups and events count: of these clients, with these hosts, in this time.

    Clients and hosts are addresses, networks or names, clients of event logs names or client machine IDs too; ``since``
    and ``until`` are UTC and hold for a conversation's first frame and an event's time. Empty means all.
    """

    clients: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    since: Utc | None = None
    until: Utc | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole question of one run.

    ``servers`` are DNS servers as ``address`` or ``address:port``, or ``system``, which stands for the machine's own
    ``resolvers``; ``tries`` is how many TCP connections each address gets; ``nonce`` seeds what must be unguessable but
    the same on replay (an interface UUID that nobody registered, a label that nobody made). ``suffixes`` are DNS
    suffixes of the clients besides those of the machine. ``clock``, ``trace`` and ``machine`` say whether clocks are
    compared, the way to silent hosts is followed, and the settings of this machine are part of the question.
    ``captures`` are the packet captures of the run, in the order of their first packets; ``status`` are files about the
    state of machines, ``events`` are event logs, both sorted; ``selection`` narrows what captures and logs show.
    """

    domains: tuple[str, ...] = ()
    hosts: tuple[HostSpec, ...] = ()
    servers: tuple[str, ...] = (SYSTEM,)
    families: tuple[Family, ...] = (Family.IPV4, Family.IPV6)
    tries: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    expected: Expected = Expected()
    nonce: str = ""
    resolvers: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    clock: bool = True
    trace: bool = True
    machine: bool = False
    captures: tuple[GivenFile, ...] = ()
    status: tuple[StatusFile, ...] = ()
    events: tuple[GivenFile, ...] = ()
    selection: Selection = Selection()


def join_host_port(host: str, port: int) -> str:
    """``host:port``, with brackets where the host is an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def as_address(text: str) -> str | None:
    """The address in its canonical form, or None where the text is no address."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def parse_domain(text: str) -> str:
    """Normalise a domain name.

    Raises:
        TargetError: not a domain name (an address, a URL, an impossible label).
    """
    name = text.strip().removesuffix(".").lower()
    name = name.removeprefix("_vlmcs._tcp.")
    if not name:
        raise TargetError(f"{text!r} is no domain: give the DNS suffix of the clients, such as contoso.example")
    if as_address(name.strip("[]")) is not None:
        raise TargetError(f"{text!r} is an address, not a domain: to probe it directly use --host {name}")
    if "/" in name or "@" in name or ":" in name:
        raise TargetError(f"{text!r} is no domain: give the bare DNS suffix, without scheme, user or port")
    return _dns_name(text, name)


def _dns_name(text: str, name: str) -> str:
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise TargetError(f"{text!r} is no DNS name: {error}") from None
        if re.fullmatch(r"[0-9.]+", name):
            raise TargetError(f"{text!r} is no DNS name: its digits read as {name}")
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            raise TargetError(f"{text!r} is no DNS name: {label!r} is no label (letters, digits, hyphens; at most 63)")
    if len(name) > 253:
        raise TargetError(f"{text[:40]!r}… is no DNS name: {len(name)} characters, and 253 are allowed")
    return name


def _split_port(text: str, default: int, what: str) -> tuple[str, int]:
    """Split ``host:port``, ``[v6]:port`` or a bare host; a bare IPv6 address has no port."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise TargetError(f"{text!r} is no {what}: write an IPv6 address with a port as [address]:port")
        port = rest[1:]
        if rest == ":":
            raise TargetError(f"{text!r} has an empty port: leave the colon out, or give a number from 1 to 65535")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        if not port:
            raise TargetError(f"{text!r} has an empty port: leave the colon out, or give a number from 1 to 65535")
    if not port:
        return host, default
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise TargetError(f"{port!r} in {text!r} is no port: give a number from 1 to 65535")
    return host, int(port)


def expected_host(text: str) -> ExpectedHost:
    """A host as :func:`parse_host` reads it, expected in any domain.

    Raises:
        TargetError: see there.
    """
    spec = parse_host(text)
    return ExpectedHost(spec.host, spec.port)


def parse_host(text: str) -> HostSpec:
    """``name``, ``name:port``, ``address``, ``address:port`` or ``[v6]:port``.

    Raises:
        TargetError: neither a name nor an address, or a port out of range.
    """
    host, port = _split_port(text.strip(), KMS_PORT, "host")
    if not host:
        raise TargetError(f"{text!r} names no host: give a name or an address, such as kms1.contoso.example:1688")
    address = as_address(host)
    if address is not None:
        return HostSpec(address, port)
    if ":" in host or "/" in host or "@" in host:
        raise TargetError(f"{text!r} is no host: give a name or an address, with :port where it is not 1688")
    if re.fullmatch(r"[0-9.]+", host):
        raise TargetError(f"{host!r} looks like an address but is none: four numbers from 0 to 255 are needed")
    return HostSpec(_dns_name(text, host.removesuffix(".").lower()), port)


def parse_server(text: str) -> str:
    """A DNS server: an address with an optional port, or ``system``.

    Raises:
        TargetError: a name, or no address at all.
    """
    text = text.strip()
    if text == SYSTEM:
        return SYSTEM
    host, port = _split_port(text, 53, "DNS server")
    address = as_address(host)
    if address is None:
        raise TargetError(f"{text!r} is no DNS server: give its address (and :port where it is not 53), or 'system'")
    return address if port == 53 else join_host_port(address, port)


def split_server(server: str) -> tuple[str, int]:
    """Address and port of a server that ``parse_server`` accepted (not ``system``)."""
    return _split_port(server, 53, "DNS server")
