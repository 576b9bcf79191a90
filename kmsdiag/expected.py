"""``expected.toml``: how KMS activation should be, as a person writes it down, read and checked.

Syntax faults are named by line, faults of meaning by the path of the key (``sites[1].domain``, counted from 0).
"""

import datetime
import difflib
import ipaddress
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Final, Literal, TypeVar, get_args

import msgspec

from kmsdiag.encoding import as_text
from kmsdiag.model.target import (
    KMS_PORT,
    Expected,
    ExpectedHost,
    Machines,
    Network,
    Product,
    Site,
    TargetError,
    Unsigned16,
    as_address,
    parse_domain,
    parse_host,
    parse_server,
)
from kmsdiag.policy import Waiver

EXPECTED_FORMAT: Final = 1
"""Number of the file's format; a file that says none is of this one."""

Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
Grade = Literal["ok", "info", "warning", "error"]
T = TypeVar("T")


class ExpectedError(ValueError):
    """A file that can't be used; the text says where in it and why."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of the file: a misspelt key is an error."""


class HostEntry(_Table, frozen=True, kw_only=True):
    """``[[hosts]]``: a KMS host that should be published.

    ``domains`` are those that should name it, all where none is given. ``addresses``, ``priority`` and ``weight`` are
    compared where they are given.
    """

    host: str
    port: Port = KMS_PORT
    serves: tuple[Product, ...] = tuple(Product)
    domains: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    priority: Unsigned16 | None = None
    weight: Unsigned16 | None = None


class MachineCounts(_Table, frozen=True, kw_only=True):
    """``machines`` of a site: Windows clients, Windows servers, and machines with a volume-licensed Office."""

    client: Machines = 0
    server: Machines = 0
    office: Machines = 0


class SiteEntry(_Table, frozen=True, kw_only=True):
    """``[[sites]]``: machines that look for their host in one domain at the same DNS servers.

    ``domain`` may be left out where the file has one domain. ``dns`` are the addresses of the site's DNS servers.
    """

    name: str
    domain: str = ""
    dns: tuple[str, ...] = ()
    machines: MachineCounts = MachineCounts()


class NetworkEntry(_Table, frozen=True, kw_only=True):
    """``[[networks]]``: a network (``10.1.0.0/16``) of a site from which activation must work."""

    name: str
    address: str
    site: str


class WaiverEntry(_Table, frozen=True, kw_only=True):
    """``[[waivers]]``: a code that does not count until the end of a day (UTC), and why.

    ``about`` limits it to one thing that the finding names: a host, a domain, an address, a network.
    """

    code: str
    reason: str
    until: datetime.date
    about: str = ""


class ExpectedFile(_Table, frozen=True, kw_only=True):
    """The whole file. ``max_hosts`` is how many hosts a domain may publish; ``severity`` re-maps codes."""

    domains: tuple[str, ...]
    format: int = EXPECTED_FORMAT
    suffixes: tuple[str, ...] = ()
    max_hosts: Annotated[int, msgspec.Meta(ge=1)] | None = None
    hosts: tuple[HostEntry, ...] = ()
    sites: tuple[SiteEntry, ...] = ()
    networks: tuple[NetworkEntry, ...] = ()
    severity: dict[str, Grade] = {}
    waivers: tuple[WaiverEntry, ...] = ()


class ExpectedState(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says, in the terms of a run: what to ask about, what should be found, and what it is worth."""

    domains: tuple[str, ...]
    suffixes: tuple[str, ...]
    servers: tuple[str, ...]
    expected: Expected
    severity: Mapping[str, Grade]
    waivers: tuple[Waiver, ...]


def read(data: bytes, name: str) -> ExpectedState:
    """Read the file's bytes; ``name`` is what messages call it.

    Raises:
        ExpectedError: no TOML, an unknown key, a wrong type, or a plan that can't be met.
    """
    try:
        return _Reader(_decode(data)).state()
    except ExpectedError as error:
        raise ExpectedError(f"{name}: {error}") from None


def _decode(data: bytes) -> ExpectedFile:
    try:
        text = as_text(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ExpectedError(f"it is no text in UTF-8 (at line {line})") from None
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # The parser has no number for the last line.
        last = text.count("\n", 0, len(text.rstrip())) + 1
        where = str(error).replace("(at end of document)", f"(at line {last}, the end)")
        raise ExpectedError(f"it is no valid TOML: {where}") from None
    written = table.get("format", EXPECTED_FORMAT)
    if isinstance(written, int) and written > EXPECTED_FORMAT:
        raise ExpectedError(f"format: {written} is newer than {EXPECTED_FORMAT}, which this kmsdiag reads")
    try:
        _require_keys(table, ExpectedFile)
        _require_choices(table)
        return msgspec.convert(table, ExpectedFile, builtin_types=(datetime.date, datetime.datetime, datetime.time))
    except msgspec.ValidationError as error:
        what, _, at = str(error).partition(" - at `$")
        at = at.strip(".`")
        raise ExpectedError(f"{at}: {what}" if at else what) from None
    except RecursionError:
        raise ExpectedError("it is nested too deeply") from None


_TABLES: Final[Mapping[type[_Table], Mapping[str, type[_Table]]]] = {
    ExpectedFile: {"hosts": HostEntry, "sites": SiteEntry, "networks": NetworkEntry, "waivers": WaiverEntry},
    SiteEntry: {"machines": MachineCounts},
}
"""The tables in each table."""


def _require_keys(table: Mapping[str, object], kind: type[_Table], at: str = "") -> None:
    """Name the key that is misspelt or missing by its whole path: the decoder would name the table around it."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(fields)}"
            raise ExpectedError(f"{at}{key if key.isidentifier() else repr(key)}: there is no such key; {hint}")
    for name, field in fields.items():
        if field.required and name not in table:
            raise ExpectedError(f"{at}{name}: is missing")
    for name, inner in _TABLES.get(kind, {}).items():
        value = table.get(name)
        listed = [(f"{at}{name}.", value)]
        if isinstance(value, list):
            listed = [(f"{at}{name}[{number}].", one) for number, one in enumerate(value)]
        for path, one in listed:
            if isinstance(one, dict):
                _require_keys(one, inner, path)


def _require_choices(table: Mapping[str, object]) -> None:
    """Name the word that is none of those allowed, and these: the decoder would say neither."""
    severity, hosts = table.get("severity"), table.get("hosts")
    for code, grade in severity.items() if isinstance(severity, dict) else ():
        if isinstance(grade, dict):
            more = next(iter(grade), "…")
            raise ExpectedError(f"severity.{code!r}: write the code in quotes: {f'{code}.{more}'!r} = …")
        _require_choice(f"severity.{code!r}", grade, get_args(Grade), "severity")
    for number, host in enumerate(hosts if isinstance(hosts, list) else ()):
        serves = host.get("serves") if isinstance(host, dict) else None
        for place, product in enumerate(serves if isinstance(serves, list) else ()):
            _require_choice(f"hosts[{number}].serves[{place}]", product, tuple(map(str, Product)), "product")


def _require_choice(at: str, value: object, allowed: Sequence[str], what: str) -> None:
    if value not in allowed:
        raise ExpectedError(f"{at}: {value!r} is no {what} ({', '.join(allowed)})")


class _Reader:
    """Checks what the tables mean, each against the others."""

    def __init__(self, file: ExpectedFile) -> None:
        self._file = file
        self._domains: tuple[str, ...] = ()
        self._hosts: tuple[ExpectedHost, ...] = ()
        self._sites: tuple[Site, ...] = ()

    def state(self) -> ExpectedState:
        file = self._file
        if file.format < 1:
            raise ExpectedError(f"format: {file.format} never was one")
        self._domains = _each("domains", file.domains, parse_domain)
        if not self._domains:
            raise ExpectedError("domains: give at least one domain")
        self._hosts = tuple(self._host(f"hosts[{number}]", entry) for number, entry in enumerate(file.hosts))
        _require_unique("hosts", [str(host) for host in self._hosts])
        self._require_hosts_of_domains()
        self._sites = tuple(self._site(f"sites[{number}]", entry) for number, entry in enumerate(file.sites))
        _require_unique("sites", [site.name for site in self._sites])
        networks = tuple(self._network(f"networks[{number}]", one) for number, one in enumerate(file.networks))
        _require_unique("networks", [network.name for network in networks])
        return ExpectedState(
            domains=self._domains,
            suffixes=_each("suffixes", file.suffixes, parse_domain),
            servers=tuple(dict.fromkeys(server for site in self._sites for server in site.servers)),
            expected=Expected(
                hosts=self._hosts, planned=True, max_hosts=file.max_hosts, sites=self._sites, networks=networks
            ),
            severity=file.severity,
            waivers=tuple(_waiver(f"waivers[{number}]", entry) for number, entry in enumerate(file.waivers)),
        )

    def _host(self, at: str, entry: HostEntry) -> ExpectedHost:
        spec = _parsed(f"{at}.host", parse_host, entry.host)
        if spec.port != KMS_PORT:
            raise ExpectedError(f"{at}.host: write the port as port = {spec.port}")
        if as_address(spec.host) is None and "." not in spec.host:
            raise ExpectedError(f"{at}.host: SRV records name hosts in full: {spec.host!r} lacks its domain")
        if not entry.serves:
            raise ExpectedError(f"{at}.serves: a host that serves nothing has no place here")
        if as_address(spec.host) is not None and set(entry.serves) != set(Product):
            raise ExpectedError(f"{at}.serves: this is told by a host's name: give that in place of {spec.host}")
        return ExpectedHost(
            spec.host,
            entry.port,
            tuple(product for product in Product if product in entry.serves),
            tuple(self._known_domain(f"{at}.domains", name) for name in entry.domains) or self._domains,
            tuple(sorted({_parsed(f"{at}.addresses", _address, text) for text in entry.addresses})),
            entry.priority,
            entry.weight,
        )

    def _known_domain(self, at: str, name: str) -> str:
        domain = _parsed(at, parse_domain, name)
        if domain not in self._domains:
            raise ExpectedError(f"{at}: {domain!r} is none of domains ({', '.join(self._domains)})")
        return domain

    def _require_hosts_of_domains(self) -> None:
        """Every domain needs a host, and may not need more than are allowed."""
        most = self._file.max_hosts
        for domain in self._domains if self._hosts else ():
            names = sorted({host.host for host in self._hosts if domain in host.domains})
            if not names:
                raise ExpectedError(f"domains: none of hosts is to be published in {domain!r}")
            if most is not None and len(names) > most:
                raise ExpectedError(f"max_hosts: {most}, but {len(names)} of hosts are to be published in {domain!r}")

    def _site(self, at: str, entry: SiteEntry) -> Site:
        if not entry.name.strip():
            raise ExpectedError(f"{at}.name: give the site a name")
        if not entry.domain and len(self._domains) > 1:
            raise ExpectedError(f"{at}.domain: say which of domains ({', '.join(self._domains)}) its machines look in")
        domain = self._known_domain(f"{at}.domain", entry.domain) if entry.domain else self._domains[0]
        site = Site(
            name=entry.name,
            domain=domain,
            servers=_each(f"{at}.dns", entry.dns, parse_server),
            client=entry.machines.client,
            server=entry.machines.server,
            office=entry.machines.office,
        )
        served = {product for host in self._hosts if domain in host.domains for product in host.serves}
        planned = {Product.WINDOWS: site.client + site.server, Product.OFFICE: site.office}
        for product, count in planned.items():
            if count and self._hosts and product not in served:
                raise ExpectedError(f"{at}.machines: {count} for {product}, which no host of {domain!r} serves")
        return site

    def _network(self, at: str, entry: NetworkEntry) -> Network:
        if not entry.name.strip():
            raise ExpectedError(f"{at}.name: give the network a name")
        if entry.site not in {site.name for site in self._sites}:
            raise ExpectedError(f"{at}.site: there is no site {entry.site!r}")
        try:
            network = ipaddress.ip_network(entry.address)
        except ValueError as error:
            raise ExpectedError(f"{at}.address: {error}") from None
        return Network(name=entry.name, address=str(network), site=entry.site)


def _waiver(at: str, entry: WaiverEntry) -> Waiver:
    if not entry.reason.strip():
        raise ExpectedError(f"{at}.reason: say why it does not count")
    return Waiver(code=entry.code, reason=entry.reason, until=entry.until, about=entry.about.strip().lower())


def _address(text: str) -> str:
    address = as_address(text)
    if address is None:
        raise TargetError(f"{text!r} is no address")
    return address


def _parsed(at: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except TargetError as error:
        raise ExpectedError(f"{at}: {error}") from None


def _each(at: str, texts: Iterable[str], parse: Callable[[str], str]) -> tuple[str, ...]:
    """All of a list, normalised, each once."""
    return tuple(dict.fromkeys(_parsed(f"{at}[{number}]", parse, text) for number, text in enumerate(texts)))


def _require_unique(at: str, names: list[str]) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ExpectedError(f"{at}[{number}]: {name!r} is there twice")
