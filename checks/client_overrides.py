"""Whether a KMS host was set by hand on this machine, and whether that host is still the right one.

What it looks at: the override at every level (machine, application, product) and in both registry views, the lookup
domain and the caching switch; connections to the host that is set; what DNS publishes under this machine's suffixes.
Why it matters: a host that is set by hand switches discovery off. Nobody sees it in DNS, it outlives the host that it
names, and images carry it along. Microsoft's documents contradict each other about whether a client goes on to DNS
when it is dead; assume that it does not.
What to do: clear it (slmgr /ckms) unless there is a reason for it; then keep it equal at all levels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from kmsdiag import discovery, overrides
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.model.answer import KmsClient, KmsOverride, MachineAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import TcpOutcome
from kmsdiag.model.request import MachineSettings, Request, RpcBind
from kmsdiag.model.target import Subject, SubjectKind, Target, TargetError, join_host_port, parse_domain

META = CheckMeta(
    title="KMS hosts set by hand on this machine",
    codes={
        "none": Code(Severity.OK, "No KMS host is set by hand: this machine looks for one in DNS."),
        "override": Code(
            Severity.INFO,
            "The KMS host {host} is set by hand for {scope}; discovery through DNS is off.",
            "It asks this host alone; assume that it does not go on to DNS when the host is dead.",
            (overrides.CLEAR,),
        ),
        "no_host": Code(
            Severity.ERROR,
            "What is set by hand as KMS host for {scope}, {host}, is neither a name nor an address: {why}.",
            "Nothing can be reached by it; a client shows 0x8007007B or 0xC004F074.",
            (overrides.CLEAR,),
        ),
        "levels_differ": Code(
            Severity.WARNING,
            "Different KMS hosts are set by hand: {hosts}.",
            "The narrowest level counts (product, application, machine), so products of one machine use different"
            " hosts.",
            (overrides.SEE, overrides.CLEAR),
        ),
        "views_differ": Code(
            Severity.WARNING,
            "The 32-bit view of the registry has {other} for {scope}, the 64-bit view {host}.",
            "The licensing service of 64-bit Windows is a 64-bit program; 32-bit tools and scripts show and change"
            " the other value.",
            (overrides.SEE_32_BIT,),
        ),
        "against_dns": Code(
            Severity.WARNING,
            "DNS publishes {published} under this machine's suffixes; the host set by hand, {host}, is not among them.",
            "It may be the host of former times, or one from the image that this machine was made of.",
            (overrides.CLEAR,),
        ),
        "port_only": Code(
            Severity.WARNING,
            "Port {port} is set by hand for {scope}, and no host.",
            "The host comes from DNS; which port counts when the record has another is not documented.",
            (overrides.CLEAR,),
        ),
        "ipv6_literal": Code(
            Severity.WARNING,
            "The KMS host set by hand for {scope} is an IPv6 address, {host}.",
            "Microsoft's documents disagree about whether that works: slmgr takes its colons for the port's. Use a"
            " name.",
            (overrides.CLEAR,),
        ),
        "itself": Code(
            Severity.WARNING,
            "The KMS host set by hand for {scope}, {host}, is this machine.",
            "Windows 8.1 and later refuse a host that is themselves (third-party report); set by somebody's tool, it"
            " is no KMS host of the company.",
            (overrides.CLEAR,),
        ),
        "lookup_domain": Code(
            Severity.INFO,
            "A lookup domain is set: this machine looks for KMS hosts under {domain} alone (slmgr /skms-domain).",
            "Its suffixes and search list do not count; while a host is set by hand, this does not either.",
            (Fix(Where.CLIENT, "look under the machine's own suffixes again", "slmgr /ckms-domain"),),
        ),
        "caching_off": Code(
            Severity.INFO,
            "KMS host caching is off: this machine asks DNS for a host at every attempt.",
            "It follows changes in DNS at once, and does not activate while DNS is down.",
            (Fix(Where.CLIENT, "switch it on again", "slmgr /skhc"),),
        ),
        "incomplete": Code(Severity.NOT_ASSESSED, "Windows did not tell everything: {problems}."),
        "not_windows": Code(Severity.NOT_ASSESSED, "This machine runs {system}: only Windows has such settings."),
    },
    tags=frozenset({"client", "machine"}),
    since="0.1",
    references=(
        "Microsoft: KMS activation timing and discovery",
        "Microsoft: Registry settings for volume activation",
        "Microsoft: Slmgr.vbs options for obtaining volume activation information",
    ),
)


def subjects(target: Target) -> Iterator[Subject]:
    """The machine, where its settings are part of the question."""
    if target.machine:
        yield Subject(SubjectKind.MACHINE, "this machine")


def _host(override: KmsOverride, settings: MachineAnswer) -> Subject:
    """The host as it is probed; to a bare name Windows appends the primary suffix."""
    return discovery.override_host(override.host, override.port, settings.primary_suffix)


def _usable(kms: KmsClient) -> list[KmsOverride]:
    return [one for one in overrides.in_force(kms.overrides) if one.host and not overrides.why_no_host(one.host)]


def _hosts(kms: KmsClient, settings: MachineAnswer) -> list[Subject]:
    return list(dict.fromkeys(_host(one, settings) for one in _usable(kms)))


def _domains(settings: MachineAnswer) -> list[Subject]:
    """The suffixes in which a client would look without the override."""
    named = dict.fromkeys((settings.primary_suffix, *settings.search, *settings.dhcp_suffixes))
    return [Subject(SubjectKind.DOMAIN, name) for name in named if _is_domain(name)]


def _is_domain(name: str) -> bool:
    try:
        return parse_domain(name) == name
    except TargetError:
        return False


def ask(_subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """The settings; the way to each host that is set; what DNS publishes instead."""
    yield MachineSettings()
    settings = seen[MachineSettings()]
    if settings.kms is None:
        return
    hosts = _hosts(settings.kms, settings)
    for host in hosts:
        yield from discovery.ask(host, seen)
        for endpoint in discovery.endpoints(host, seen):
            yield from _probes(endpoint, seen)
    for domain in _domains(settings) if hosts else ():
        yield from discovery.ask(domain, seen)


def _probes(endpoint: discovery.Endpoint, seen: Evidence) -> Iterator[Request[Any]]:
    address, port = endpoint.address, endpoint.service.port
    connects = discovery.connects(address, port, seen)
    yield from connects
    answers = (seen.get(connect) for connect in connects)
    if any(answer is not None and answer.outcome is TcpOutcome.OPEN for answer in answers):
        yield RpcBind(address=address, port=port)


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """What is set, and what is odd about it."""
    settings = seen[MachineSettings()]
    kms, because = settings.kms, (MachineSettings(),)
    if kms is None:
        yield say("not_windows", because, system=settings.system)
        return
    in_force = overrides.in_force(kms.overrides)
    if not kms.overrides and not kms.problems:
        yield say("none", because)
    if kms.problems:
        yield say("incomplete", because, problems=kms.problems)
    if kms.lookup_domain:
        yield say("lookup_domain", because, domain=kms.lookup_domain)
    if kms.caching is False:
        yield say("caching_off", because)
    for override in in_force:
        yield from _judge_override(override, settings)
    yield from _judge_levels(in_force)
    yield from _judge_views(kms)
    yield from _judge_against_dns(settings, kms, seen)


def _judge_override(override: KmsOverride, settings: MachineAnswer) -> Iterator[Finding]:
    because, scope = (MachineSettings(),), overrides.scope(override)
    if not override.host:
        yield say("port_only", because, port=override.port, scope=scope)
        return
    why = overrides.why_no_host(override.host)
    if why:
        yield say("no_host", because, host=override.host, scope=scope, why=why)
        return
    yield say("override", because, host=overrides.shown(override), scope=scope)
    host = _host(override, settings).name
    if ":" in host:
        yield say("ipv6_literal", because, host=host, scope=scope)
    if _is_itself(host, settings):
        yield say("itself", because, host=host, scope=scope)


def _is_itself(host: str, settings: MachineAnswer) -> bool:
    name = settings.name.lower()
    own = {name, "localhost", f"localhost.{settings.primary_suffix}", "::1"}
    if settings.primary_suffix:
        own.add(f"{name.partition('.')[0]}.{settings.primary_suffix}")
    return host in own or (discovery.literal(host) is not None and host.startswith("127."))


def _judge_levels(in_force: Sequence[KmsOverride]) -> Iterator[Finding]:
    named = [one for one in in_force if one.host]
    if len({overrides.shown(one) for one in named}) > 1:
        hosts = tuple(f"{overrides.shown(one)} ({overrides.scope(one)})" for one in named)
        yield say("levels_differ", (MachineSettings(),), hosts=hosts)


def _judge_views(kms: KmsClient) -> Iterator[Finding]:
    for one, other in overrides.differing_views(kms.overrides):
        host, scope = "nothing" if other is None else overrides.shown(other), overrides.scope(one)
        yield say("views_differ", (MachineSettings(),), other=overrides.shown(one), host=host, scope=scope)


def _judge_against_dns(settings: MachineAnswer, kms: KmsClient, seen: Evidence) -> Iterator[Finding]:
    """Each host that is set and that no suffix publishes, by name or by address; silent where nothing is published."""
    domains = _domains(settings)
    hosts = _hosts(kms, settings)
    if not hosts:
        return
    published: dict[str, discovery.Service] = {}
    because: list[Request[Any]] = [MachineSettings()]
    for domain in domains:
        for query in discovery.srv_queries(domain, seen):
            answer = seen[query]
            because.append(query)
            if not answer.records and not answer.outcome.is_absence:
                # It may well publish the host.
                return
        for service in discovery.services(domain, seen):
            if service.target != discovery.ROOT:
                published[service.target] = service
    addresses = {address for service in published.values() for address in _settled(service, seen)}
    for host in hosts:
        own = {
            host.name,
            *(address for service in discovery.services(host, seen) for address in _settled(service, seen)),
        }
        if published and not own & (addresses | published.keys()):
            shown = tuple(join_host_port(one.target, one.port) for one in published.values())
            yield say("against_dns", tuple(dict.fromkeys(because)), host=str(host), published=shown)


def _settled(service: discovery.Service, seen: Evidence) -> list[str]:
    """Addresses of a service once all its address questions have answers."""
    for query in discovery.address_queries(service, seen):
        seen[query]
    return discovery.addresses(service, seen)
