"""What the machines in the files can learn from DNS, and whether they get through to TCP 1688.

What it looks at: suffixes and DNS servers (ipconfig /all, a collector), questions put with nslookup or
Resolve-DnsName, and connections tried with Test-NetConnection and the like, all from the machine itself.
Why it matters: an administrator's own machine may see another DNS and another path than the client. A client without a
suffix asks nothing at all (0x8007007B); one without a DNS server neither (0x8007267C); one whose suffix has no record
shows 0x8007232B; and where ping works and TCP 1688 does not, a firewall drops it.
What to do: publish the record in the client's suffix, set the suffix or the search list, open TCP 1688 on the way.
"""

from collections.abc import Iterator
from typing import Any

from kmsdiag import check, collected, products, published
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.collected import Machine, Part
from kmsdiag.grouping import Groups, some
from kmsdiag.model.collected import NetworkState, PortTest, ToolLookup
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request
from kmsdiag.model.target import KMS_PORT, Subject, join_host_port
from kmsdiag.published import Published

_PREFIX = "_vlmcs._tcp."
_SUFFIX = Fix(
    Where.CLIENT,
    "see its suffixes; a domain, DHCP or a policy sets them",
    "Get-DnsClientGlobalSetting; Get-DnsClient | Format-Table InterfaceAlias, ConnectionSpecificSuffix",
)
_PUBLISH = Fix(
    Where.KMS_HOST,
    "have the host publish itself there too: a line for each domain, its own among them, then restart the service",
    "Set-ItemProperty 'HKLM:\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\SoftwareProtectionPlatform'"
    " DnsDomainPublishList -Type MultiString -Value <own-domain>, {suffix}; Restart-Service sppsvc",
)
_RULE = Fix(
    Where.KMS_HOST,
    "let clients in",
    "Enable-NetFirewallRule -DisplayGroup 'Key Management Service'",
)
_AGAIN = Fix(Where.CLIENT, "try again", "Test-NetConnection {target} -Port {port}")

META = CheckMeta(
    title="DNS and path of the machines in the files",
    codes={
        "found": Code(Severity.OK, "{who}: DNS has a KMS record for {domains}."),
        "only_some": Code(
            Severity.INFO,
            "{who}: DNS has a KMS record for {domains}, and none for {others}.",
            "nslookup asks what it is told to; a client asks for its own suffixes only.",
        ),
        "no_record": Code(
            Severity.WARNING,
            "{who}: DNS has no KMS record for {others}: {outcome}.",
            "A client with this suffix alone finds no host: 0x8007232B (the name does not exist) or 0x8007251D (it"
            " has no such record).",
        ),
        "lookup_failed": Code(
            Severity.WARNING,
            "{who}: the question for {kind} {name} failed: {outcome}.",
            "This is no absence: the machine's DNS server did not answer as it should.",
            (Fix(Where.CLIENT, "ask again", "Resolve-DnsName {name} -Type {kind}"),),
        ),
        "unresolved": Code(
            Severity.WARNING,
            "{who}: the KMS host's name {name} has no address: {outcome}.",
            "A client that is sent there shows 0xC004F074, its event 12288 0x80072AF9.",
            (Fix(Where.CLIENT, "ask again", "Resolve-DnsName {name}"),),
        ),
        "open": Code(Severity.OK, "{who}: {target} port {port} takes connections."),
        "blocked": Code(
            Severity.ERROR,
            "{who}: {target} answers ping, and its port {port} takes no connection.",
            "A firewall on the way or on the host drops it, or the service does not run: 0xC004F074 on the screen.",
            (_RULE, _AGAIN),
        ),
        "unreachable": Code(
            Severity.ERROR,
            "{who}: {target} port {port} takes no connection.",
            "Whether the host is up is not told; the client shows 0xC004F074.",
            (_AGAIN, _RULE),
        ),
        "no_dns_server": Code(
            Severity.ERROR,
            "{who}: no DNS server is set.",
            "Such a machine can't ask for a KMS host: 0x8007267C.",
            (Fix(Where.CLIENT, "see its DNS servers", "Get-DnsClientServerAddress"),),
        ),
        "no_suffix": Code(
            Severity.ERROR,
            "{who}: no DNS suffix at all, neither of its own nor from DHCP nor in a search list.",
            "Such a machine does not even ask for a KMS host: 0x8007007B. Setting the host by hand would work.",
            (_SUFFIX,),
        ),
        "no_primary_suffix": Code(
            Severity.INFO,
            "{who}: no primary DNS suffix, only {suffixes} of a connection.",
            "Documents contradict each other about whether a workgroup machine asks in a suffix that DHCP gave it.",
            (_SUFFIX,),
        ),
        "suffix_without_record": Code(
            Severity.WARNING,
            "{who}: none of the machine's suffixes has a KMS record ({suffix}); hosts are published in {elsewhere}.",
            "Such a machine finds no host through DNS.",
            (_PUBLISH, _SUFFIX),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The files tell nothing about DNS or the path of a machine."),
    },
    tags=frozenset({"client", "dns", "files", "network"}),
    since="0.1",
    references=(
        "Microsoft: Common troubleshooting procedures for KMS and DNS issues",
        "Microsoft: Error 0xC004F074 when you activate Windows (KB 974998)",
        "Microsoft: Windows activation fails with error 0x8007267C (KB 2009462)",
    ),
)

subjects = check.collected


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """The files, and what DNS says besides."""
    yield from collected.ask(subject, seen)
    yield from published.ask(seen)


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """What each machine was told, and where it got through."""
    machines = collected.machines(seen)
    dns = published.known(seen, machines)
    groups = Groups()
    for machine in machines:
        _judge_lookups(machine, dns, groups)
        for part in machine.parts:
            if part.state.network is not None:
                for test in part.state.network.ports:
                    _judge_port(test, machine, part, dns, groups)
                _judge_settings(part.state.network, machine, part, groups)
        _judge_suffixes(machine, dns, groups)
    yield from groups.findings() if groups else [say("nothing", collected.questions(seen.target))]


def _lookups(machine: Machine) -> Iterator[tuple[ToolLookup, Part]]:
    for part in machine.parts:
        for lookup in part.state.network.lookups if part.state.network is not None else ():
            yield lookup, part


def _judge_lookups(machine: Machine, dns: Published, groups: Groups) -> None:
    """Its questions for KMS records together, the others one by one."""
    given: dict[str, Part] = {}
    lacking: dict[str, tuple[str, Part]] = {}
    for lookup, part in _lookups(machine):
        name, because = lookup.name.lower().removesuffix("."), (part.question,)
        is_kms = lookup.kind == "SRV" and name.startswith(_PREFIX)
        if lookup.outcome.state.value == "ok":
            if is_kms:
                given[name.removeprefix(_PREFIX)] = part
        elif is_kms and lookup.outcome.is_absence:
            lacking[name.removeprefix(_PREFIX)] = (lookup.outcome.words, part)
        elif is_kms or (lookup.kind != "SRV" and _is_kms_host(name, machine, dns)):
            words = lookup.outcome.words
            if not lookup.outcome.is_absence:
                groups.add("lookup_failed", machine, because, kind=lookup.kind, name=name, outcome=words)
            elif not dns.addresses.get(name):
                # A host needs an address of one family only.
                groups.add("unresolved", machine, because, name=name, outcome=words)
    for domain in given:
        lacking.pop(domain, None)
    answered = tuple(part.question for part in given.values())
    told = tuple(part.question for _words, part in lacking.values())
    if given and lacking:
        groups.add("only_some", machine, answered + told, domains=tuple(sorted(given)), others=tuple(sorted(lacking)))
    elif given:
        groups.add("found", machine, answered, domains=tuple(sorted(given)))
    elif lacking:
        outcomes = tuple(sorted({words for words, _part in lacking.values()}))
        groups.add("no_record", machine, told, others=tuple(sorted(lacking)), outcome=outcomes)


def _is_kms_host(name: str, machine: Machine, dns: Published) -> bool:
    own = {host.strip("[]").lower().removesuffix(".") for host in products.uses(machine)}
    return name in own or dns.publishes(name)


def _judge_port(test: PortTest, machine: Machine, part: Part, dns: Published, groups: Groups) -> None:
    """A test of the KMS port, or of another one that a KMS host is known to have."""
    place = join_host_port(test.target.lower().removesuffix("."), test.port)
    known = {place for zone in dns.zones.values() for place in zone.hosts()}
    known |= {join_host_port(one.host.lower(), one.port or KMS_PORT) for one in machine.overrides() if one.host}
    known |= {join_host_port(one.host.lower(), one.port or KMS_PORT) for one in machine.cached()}
    if test.port != KMS_PORT and place not in known:
        return
    code = "open" if test.succeeded else "blocked" if test.ping else "unreachable"
    groups.add(code, machine, (part.question,), target=test.target, port=test.port)


def _judge_settings(network: NetworkState, machine: Machine, part: Part, groups: Groups) -> None:
    """What is not set, where all settings were told; with a host set by hand no suffix is needed."""
    if not network.complete:
        return
    by_hand = any(one.host for one in machine.overrides())
    if not network.resolvers:
        groups.add("no_dns_server", machine, (part.question,))
    if by_hand or network.primary_suffix or _lookup_domain(machine):
        return
    if not network.search and not network.adapter_suffixes:
        groups.add("no_suffix", machine, (part.question,))
    elif not network.search:
        suffixes = tuple(sorted(set(network.adapter_suffixes)))
        groups.add("no_primary_suffix", machine, (part.question,), suffixes=suffixes)


def _lookup_domain(machine: Machine) -> str:
    return next((part.state.lookup_domain for part in machine.parts if part.state.lookup_domain), "")


def _judge_suffixes(machine: Machine, dns: Published, groups: Groups) -> None:
    """Whether DNS is known to have no record in any of its suffixes, and to have one elsewhere."""
    if any(one.host for one in machine.overrides()) or _lookup_domain(machine):
        return
    suffixes: dict[str, Part] = {}
    for part in machine.parts:
        network = part.state.network
        if network is not None:
            for name in (network.primary_suffix, *network.search, *network.adapter_suffixes):
                if name:
                    suffixes.setdefault(name.lower().removesuffix("."), part)
    zones = [dns.zones.get(name) for name in suffixes]
    elsewhere = some(zone.domain for zone in dns.with_records() if zone.domain not in suffixes)
    if not zones or not elsewhere or any(zone is None or zone.records or not zone.absent for zone in zones):
        return
    because = dict.fromkeys([*(part.question for part in suffixes.values()), *dns.because])
    groups.add("suffix_without_record", machine, because, suffix=tuple(sorted(suffixes)), elsewhere=elsewhere)
