"""Whether the KMS hosts in the files publish themselves in DNS, and whether DNS says the same as they do.

What it looks at: the publishing switch, listening port, priority and DnsDomainPublishList of each host, values that lie
where nothing reads them, what the host registered last; against SRV records that were seen live, in captures, or in
lookups of the files.
Why it matters: a host that does not publish itself is found only by hand-made records; one that listens on another port
than its record says is published and can't be reached.
What to do: slmgr /sdns and a restart of the service; a line for each domain in DnsDomainPublishList, the home domain
among them; for hand-made records the port that slmgr /dlv shows.
"""

from collections.abc import Iterator
from typing import Any

from kmsdiag import check, collected, products, published
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.collected import Machine
from kmsdiag.model.collected import HostSettings
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request
from kmsdiag.model.target import KMS_PORT, Subject
from kmsdiag.published import Published

_PATH = "'HKLM:\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\SoftwareProtectionPlatform'"
_LIST = Fix(
    Where.KMS_HOST, "see the list: a line is domain, priority, weight", f"Get-ItemProperty {_PATH} DnsDomainPublishList"
)
_ON = Fix(Where.KMS_HOST, "have it publish itself", "slmgr /sdns; Restart-Service sppsvc")
_EVENTS = Fix(
    Where.KMS_HOST,
    "see whether publishing works: 12294 did, 12293 failed",
    "Get-WinEvent -MaxEvents 10 -FilterHashtable @{{ LogName = 'Application'; Id = 12293, 12294 }}",
)

META = CheckMeta(
    title="Publishing of the KMS hosts in the files",
    codes={
        "publishes": Code(Severity.OK, "{host}: it publishes itself in DNS, with port {port}."),
        "off": Code(
            Severity.WARNING,
            "{host}: publishing in DNS is switched off.",
            "Clients find it only where somebody made its SRV record by hand, or set it by slmgr /skms.",
            (_ON,),
        ),
        "off_by_hand": Code(
            Severity.INFO,
            "{host}: publishing in DNS is switched off; DNS has a record for it all the same ({domains}).",
            "The record was made by hand, or is left over; it does not follow when the host's name or port changes.",
        ),
        "not_in_dns": Code(
            Severity.WARNING,
            "{host}: it publishes itself, and DNS has no record for it in {domain}{others}.",
            "The update fails, or has not reached that DNS server. Of several hosts the first owns the record set, and"
            " the others need a permission on it.",
            (_EVENTS, _ON),
        ),
        "port_differs": Code(
            Severity.ERROR,
            "{host}: it listens on port {port}, and its SRV record in {domain} says {published}.",
            "Clients that DNS sends there knock at the wrong port: 0xC004F074.",
            (
                Fix(
                    Where.KMS_HOST,
                    "have it register itself anew, where it publishes itself (else correct the record by hand)",
                    "Restart-Service sppsvc",
                ),
                Fix(Where.KMS_HOST, "or listen on the published port", "slmgr /sprt {number}; Restart-Service sppsvc"),
            ),
        ),
        "other_port": Code(
            Severity.INFO,
            "{host}: it listens on port {port} instead of 1688.",
            "Firewalls have to let that one through, a record made by hand has to name it, and clients that are set by"
            " slmgr /skms need it behind the name.",
        ),
        "low_priority": Code(
            Severity.INFO,
            "{host}: the service runs with low priority.",
            "On a busy machine requests may be lost, and the count stays too low.",
            (Fix(Where.KMS_HOST, "give it the normal one", "slmgr /cpri"),),
        ),
        "list": Code(
            Severity.INFO,
            "{host}: it publishes itself in the domains of a list: {domains}.",
            "Each line is domain, priority, weight.",
            (_LIST,),
        ),
        "home_not_listed": Code(
            Severity.WARNING,
            "{host}: its own domain {home} is not in its list of domains ({domains}).",
            "Microsoft's documents contradict each other about whether it is published there all the same: see the"
            " record, or put the domain on the list.",
            (_LIST, Fix(Where.DNS_SERVER, "see the record", "Resolve-DnsName -Type SRV _vlmcs._tcp.{home}")),
        ),
        "misplaced": Code(
            Severity.WARNING,
            "{host}: values under the registry key SL, which only Vista and Server 2008 read: {values}.",
            "They do nothing. One Microsoft page still names that key; Windows 7, Server 2008 R2 and later read"
            " SoftwareProtectionPlatform.",
            (Fix(Where.KMS_HOST, "see what counts", f"Get-ItemProperty {_PATH}"),),
        ),
        "registered_otherwise": Code(
            Severity.WARNING,
            "{host}: what it registered last, {registered}, is not what it is set to now ({now}).",
            "The old record may still stand: a host does not always take it back.",
            (
                _ON,
                Fix(
                    Where.DNS_SERVER,
                    "see all records of that domain",
                    "Resolve-DnsName -Type SRV _vlmcs._tcp.{domain}",
                ),
            ),
        ),
        "unknown": Code(Severity.NOT_ASSESSED, "{host}: whether it publishes itself is not told."),
        "nothing": Code(Severity.NOT_ASSESSED, "None of the machines in the files is a KMS host."),
    },
    tags=frozenset({"dns", "files", "host"}),
    since="0.1",
    references=(
        "Microsoft: Registry settings for volume activation",
        "Microsoft: Deploy KMS activation",
        "Microsoft: Event 12293 with error 0x80072338 (KB 2553863)",
    ),
)

subjects = check.collected


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """The files, and what DNS publishes."""
    yield from collected.ask(subject, seen)
    yield from published.ask(seen)


class _Host:
    """A KMS host's settings from all that its files say; registry values count before a tool's words."""

    def __init__(self, machine: Machine) -> None:
        states = [product.host for product, _part in products.hosts(machine) if product.host is not None]
        settings = machine.settings()
        self.machine = machine
        self.label = machine.label
        self.because = machine.because
        self.home = machine.name.partition(".")[2].lower().removesuffix(".") if not machine.named_by.assumed else ""
        ports = [one.listening_port for one in settings] + [one.port for one in states]
        self.port = next((port for port in ports if port), 0)
        switches = [one.publishing for one in settings] + [one.publishing for one in states]
        self.publishing = next((told for told in switches if told is not None), None)
        self.low_priority = any(one.low_priority for one in settings) or any(one.low_priority for one in states)
        self.settings = settings
        self.domains = tuple(sorted({line.domain.lower() for one in settings for line in one.publish_domains}))


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Each host's own words, then against DNS."""
    machines = collected.machines(seen)
    dns = published.known(seen, machines)
    hosts = [_Host(machine) for machine in machines if _is_host(machine)]
    if not hosts:
        yield say("nothing", collected.questions(seen.target))
    for host in hosts:
        found = [*_judge_dns(host, dns), *_judge_switches(host), *_judge_list(host), *_judge_registry(host)]
        if host.publishing and not any(one.code in ("not_in_dns", "port_differs") for one in found):
            yield say("publishes", host.because, host=host.label, port=host.port or KMS_PORT)
        elif host.publishing is None and not found:
            yield say("unknown", host.because, host=host.label)
        yield from found


def _is_host(machine: Machine) -> bool:
    """Whether it has a host key, or registry values that only a host has."""
    return bool(products.hosts(machine)) or any(_of_host(one) for one in machine.settings())


def _of_host(settings: HostSettings) -> bool:
    told = (settings.listening_port, settings.publish_domains, settings.registered_domain, settings.registered_port)
    return any(told) or settings.publishing is not None or bool(settings.misplaced)


def _judge_dns(host: _Host, dns: Published) -> Iterator[Finding]:
    """Its records: whether they are there, and with its port."""
    own = [(zone, zone.ports(dns.names(host.machine.name))) for zone in dns.with_records()]
    named = [(zone, ports) for zone, ports in own if ports]
    for zone, ports in named:
        wrong = [port for port in ports if port != host.port]
        if host.port and wrong:
            because = tuple(dict.fromkeys([*host.because, *zone.because]))
            listed = tuple(map(str, wrong))
            place = {"host": host.label, "domain": zone.domain}
            yield say("port_differs", because, **place, port=host.port, published=listed, number=wrong[0])
    if host.publishing is False:
        if named:
            because = tuple(dict.fromkeys([*host.because, *(one for zone, _ports in named for one in zone.because)]))
            yield say("off_by_hand", because, host=host.label, domains=tuple(zone.domain for zone, _ports in named))
        else:
            yield say("off", host.because, host=host.label)
    elif host.publishing:
        for domain in host.domains or ((host.home,) if host.home else ()):
            known = dns.zones.get(domain)
            if known is not None and known.because and all(zone is not known for zone, _ports in named):
                others = f", which names {', '.join(known.hosts())}" if known.records else ""
                because = tuple(dict.fromkeys([*host.because, *known.because]))
                yield say("not_in_dns", because, host=host.label, domain=domain, others=others)


def _judge_switches(host: _Host) -> Iterator[Finding]:
    if host.port not in (0, KMS_PORT):
        yield say("other_port", host.because, host=host.label, port=host.port)
    if host.low_priority:
        yield say("low_priority", host.because, host=host.label)


def _judge_list(host: _Host) -> Iterator[Finding]:
    if not host.domains:
        return
    lines = tuple(
        sorted(f"{line.domain} {line.priority} {line.weight}" for one in host.settings for line in one.publish_domains)
    )
    yield say("list", host.because, host=host.label, domains=tuple(dict.fromkeys(lines)))
    if host.home and host.home not in host.domains:
        yield say("home_not_listed", host.because, host=host.label, home=host.home, domains=host.domains)


def _judge_registry(host: _Host) -> Iterator[Finding]:
    """Values that nothing reads, and what it registered last."""
    system = next((part.state.system for part in host.machine.parts if part.state.system), "")
    misplaced = tuple(sorted({value for one in host.settings for value in one.misplaced}))
    reads_them = "vista" in system.lower() or ("2008" in system and "R2" not in system) or "6.0." in system
    if misplaced and not reads_them:
        yield say("misplaced", host.because, host=host.label, values=misplaced)
    for one in host.settings:
        port = one.registered_port not in (0, host.port or KMS_PORT)
        domain = one.registered_domain.lower().removesuffix(".")
        moved = bool(domain) and bool(host.home) and domain not in (host.home, *host.domains)
        if port or moved:
            registered = f"{domain or 'an unknown domain'} port {one.registered_port or KMS_PORT}"
            now = f"{host.home or 'its domain'} port {host.port or KMS_PORT}"
            where = domain or host.home or "<domain>"
            yield say(
                "registered_otherwise", host.because, host=host.label, registered=registered, now=now, domain=where
            )
