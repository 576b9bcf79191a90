"""Where the machines in the files take their KMS host from, and whether that host is still the right one.

What it looks at: hosts set by hand at each level and in both registry views, the lookup domain, the caching switch,
the host that is remembered; against what DNS publishes (live, in captures, in lookups of the files), and against
connections that were tried.
Why it matters: a host that is set by hand switches discovery off and outlives the host that it names; assume that the
client does not go on to DNS when it is dead. A host that is only remembered is asked first, too, but when it is dead
the client looks in DNS again.
What to do: slmgr /ckms returns a client to DNS discovery.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kmsdiag import check, collected, discovery, overrides, products, published
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.collected import Machine
from kmsdiag.grouping import Groups, some
from kmsdiag.model.answer import KmsOverride
from kmsdiag.model.collected import NetworkState
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import State
from kmsdiag.model.request import Request, TcpConnect
from kmsdiag.model.target import KMS_PORT, Subject, SubjectKind, as_address, join_host_port
from kmsdiag.published import Published, Zone

_FORGET = Fix(Where.CLIENT, "have it look in DNS at its next attempt (slmgr /ato makes one)", "slmgr /ckms")

META = CheckMeta(
    title="Where the machines in the files find their host",
    codes={
        "discovered": Code(Severity.OK, "{who}: KMS host {host}, found through DNS."),
        "override": Code(
            Severity.INFO,
            "{who}: the KMS host {host} is set by hand for {scope}; discovery through DNS is off.",
            "A client asks this host alone; assume that it does not go on to DNS when the host is dead.",
            (overrides.CLEAR,),
        ),
        "override_dead": Code(
            Severity.ERROR,
            "{who}: the KMS host set by hand, {host}, takes no connection ({proof}).",
            "No activation, no renewal: 0xC004F074. Assume that the client does not go on to DNS.",
            (overrides.CLEAR,),
        ),
        "against_dns": Code(
            Severity.WARNING,
            "{who}: DNS publishes {published}; the host set by hand, {host}, is not among them.",
            "That may be the host of former times, or one from the image that the machine was made of.",
            (overrides.CLEAR,),
        ),
        "port_against_dns": Code(
            Severity.WARNING,
            "{who}: the KMS host is set by hand as {host}; DNS publishes it with port {ports}.",
            "A host has one port: the record or the setting is out of date.",
            (overrides.CLEAR, Fix(Where.KMS_HOST, "see the port it listens on", "slmgr /dlv")),
        ),
        "no_host": Code(
            Severity.ERROR,
            "{who}: what is set by hand as KMS host for {scope}, {host}, is neither a name nor an address: {why}.",
            "Nothing can be reached by it; a client shows 0x8007007B or 0xC004F074.",
            (overrides.CLEAR,),
        ),
        "levels_differ": Code(
            Severity.WARNING,
            "{who}: different KMS hosts are set by hand: {hosts}.",
            "The narrowest level counts (product, application, machine), so products of one machine use different"
            " hosts.",
            (overrides.SEE, overrides.CLEAR),
        ),
        "views_differ": Code(
            Severity.WARNING,
            "{who}: the 32-bit view of the registry has {other} for {scope}, the 64-bit view {host}.",
            "The licensing service of 64-bit Windows is a 64-bit program; 32-bit tools and scripts show and change"
            " the other value.",
            (overrides.SEE_32_BIT,),
        ),
        "port_only": Code(
            Severity.WARNING,
            "{who}: port {port} is set by hand for {scope}, and no host.",
            "The host comes from DNS; which port counts when the record has another is not documented.",
            (overrides.CLEAR,),
        ),
        "ipv6_literal": Code(
            Severity.WARNING,
            "{who}: the KMS host set by hand for {scope} is an IPv6 address, {host}.",
            "Microsoft's documents disagree about whether that works: slmgr takes its colons for the port's. Use a"
            " name.",
            (overrides.CLEAR,),
        ),
        "lookup_domain": Code(
            Severity.INFO,
            "{who}: KMS hosts are looked for under {domain} alone (slmgr /skms-domain).",
            "The machine's suffixes and search list do not count; while a host is set by hand, this does not either.",
            (Fix(Where.CLIENT, "look under the machine's own suffixes again", "slmgr /ckms-domain"),),
        ),
        "caching_off": Code(
            Severity.INFO,
            "{who}: KMS host caching is off; DNS is asked for a host at every attempt.",
            "Such a client follows changes in DNS at once, and does not activate while DNS is down.",
            (Fix(Where.CLIENT, "switch it on again", "slmgr /skhc"),),
        ),
        "no_name": Code(
            Severity.WARNING,
            "{who}: DNS gave no KMS host (KMS name not available).",
            "The client looked and found none; with the next attempt it looks again, and the code of that tells why.",
            (Fix(Where.CLIENT, "try again (slmgr /ato) and see the code"),),
        ),
        "cache_dead": Code(
            Severity.WARNING,
            "{who}: the KMS host that is remembered, {host}, takes no connection ({proof}).",
            "At its next attempt a client tries that host in vain, then looks in DNS again: late, but not lost,"
            " where DNS names a live one.",
            (_FORGET,),
        ),
        "cache_unpublished": Code(
            Severity.WARNING,
            "{who}: DNS publishes {published}; the host that is remembered, {host}, is not among them.",
            "A client stays with that host while it answers. When it is switched off, the client looks in DNS again.",
            (_FORGET,),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The files do not tell where any machine takes its KMS host from."),
    },
    tags=frozenset({"client", "dns", "files"}),
    since="0.1",
    references=(
        "Microsoft: KMS activation timing and discovery",
        "Microsoft: Registry settings for volume activation",
        "Microsoft: Slmgr.vbs options for obtaining volume activation information",
    ),
)

subjects = check.collected


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """The files, what DNS publishes, and connections to those of its hosts that a machine names."""
    yield from collected.ask(subject, seen)
    yield from published.ask(seen)
    machines = collected.machines(seen)
    dns = published.known(seen, machines)
    named = {name for machine in machines for host in products.uses(machine) for name in dns.names(host)}
    for endpoint in _endpoints(seen):
        if named & {endpoint.service.target, endpoint.address}:
            yield from discovery.connects(endpoint.address, endpoint.service.port, seen)


def _endpoints(seen: Evidence) -> list[discovery.Endpoint]:
    domains = [Subject(SubjectKind.DOMAIN, name) for name in seen.target.domains]
    return [endpoint for domain in domains for endpoint in discovery.endpoints(domain, seen)]


class _World(NamedTuple):
    """What is known besides the files."""

    seen: Evidence
    dns: Published

    def published_for(self, machine: Machine, host: str) -> list[Zone]:
        """Domains with records in which this machine looks, or to which this host belongs.

        What other domains publish says nothing about them. Where neither has a domain that is told, all count.
        """
        name = host.strip("[]").lower().removesuffix(".")
        own = set() if as_address(name) is not None else {name.partition(".")[2]}
        own |= {machine.name.lower().removesuffix(".").partition(".")[2]} if not machine.named_by.assumed else set()
        own |= {suffix.lower().removesuffix(".") for network in machine.networks() for suffix in _suffixes(network)}
        own.discard("")
        return [zone for zone in self.dns.with_records() if not own or zone.domain in own]


def _suffixes(network: NetworkState) -> tuple[str, ...]:
    return (network.primary_suffix, *network.search, *network.adapter_suffixes)


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """What is set and remembered, and what is odd about it."""
    machines = collected.machines(seen)
    dns = published.known(seen, machines)
    world = _World(seen, dns)
    groups = Groups()
    for machine in machines:
        found = machine.overrides()
        for override in overrides.in_force(found):
            _judge_override(override, machine, world, groups)
        _judge_levels(found, machine, groups)
        if not any(one.host for one in found):
            _judge_cached(machine, world, groups)
        _judge_switches(machine, groups)
    yield from groups.findings() if groups else [say("nothing", collected.questions(seen.target))]


def _scope(override: KmsOverride, machine: Machine) -> str:
    """What it is set for, a product by its name where the files have it."""
    names = {product.activation_id: product.name for product, _part in machine.products() if product.name}
    if override.level == "product" and override.scope in {*names, *names.values()}:
        return names.get(override.scope, override.scope)
    return overrides.scope(override)


def _judge_override(override: KmsOverride, machine: Machine, world: _World, groups: Groups) -> None:
    scope, host, because = _scope(override, machine), overrides.shown(override), machine.because
    if not override.host:
        groups.add("port_only", machine, because, port=override.port, scope=scope)
        return
    why = overrides.why_no_host(override.host)
    if why:
        groups.add("no_host", machine, because, host=override.host, scope=scope, why=why)
        return
    groups.add("override", machine, because, host=host, scope=scope)
    if ":" in override.host:
        groups.add("ipv6_literal", machine, because, host=override.host.strip("[]"), scope=scope)
    _judge_alive("override_dead", override.host, override.port or KMS_PORT, machine, world, groups)
    _judge_published("against_dns", override.host, host, machine, world, groups)
    names = world.dns.names(override.host)
    ports = {port for zone in world.dns.with_records() for port in zone.ports(names)}
    if ports and (override.port or KMS_PORT) not in ports:
        reasons = dict.fromkeys([*because, *world.dns.because])
        groups.add("port_against_dns", machine, reasons, host=host, ports=tuple(map(str, sorted(ports))))


def _judge_levels(found: Sequence[KmsOverride], machine: Machine, groups: Groups) -> None:
    named = [one for one in overrides.in_force(found) if one.host]
    if len({overrides.shown(one) for one in named}) > 1:
        hosts = tuple(f"{overrides.shown(one)} ({_scope(one, machine)})" for one in named)
        groups.add("levels_differ", machine, machine.because, hosts=hosts)
    for one, other in overrides.differing_views(found):
        host, scope = "nothing" if other is None else overrides.shown(other), _scope(one, machine)
        groups.add("views_differ", machine, machine.because, other=overrides.shown(one), host=host, scope=scope)


def _judge_cached(machine: Machine, world: _World, groups: Groups) -> None:
    remembered = {(one.host, one.port or KMS_PORT): None for one in machine.cached()}
    for host, port in remembered:
        place = join_host_port(host, port)
        dead = _judge_alive("cache_dead", host, port, machine, world, groups)
        odd = _judge_published("cache_unpublished", host, place, machine, world, groups)
        if not dead and not odd:
            groups.add("discovered", machine, machine.because, host=place)
    asked = [part for product, part in products.clients(machine) if product.no_host]
    if asked and not remembered:
        groups.add("no_name", machine, [part.question for part in asked])


def _judge_switches(machine: Machine, groups: Groups) -> None:
    told = [(part.state.lookup_domain, part.state.caching) for part in machine.parts]
    told += [(product.lookup_domain, product.caching) for product, _part in products.clients(machine)]
    for domain in sorted({domain for domain, _caching in told if domain}):
        groups.add("lookup_domain", machine, machine.because, domain=domain)
    if any(caching is False for _domain, caching in told):
        groups.add("caching_off", machine, machine.because)


def _judge_published(code: str, host: str, place: str, machine: Machine, world: _World, groups: Groups) -> bool:
    """Whether DNS names other hosts and not this one; an address proves that only where those of all are known."""
    zones = world.published_for(machine, host)
    if not zones or world.dns.publishes(host):
        return False
    if as_address(host.strip("[]")) is not None and not world.dns.resolved():
        return False
    because = dict.fromkeys([*machine.because, *world.dns.because])
    others = some(other for zone in zones for other in zone.hosts())
    groups.add(code, machine, because, host=place, published=others)
    return True


def _judge_alive(code: str, host: str, port: int, machine: Machine, world: _World, groups: Groups) -> bool:
    """Whether something shows that a host takes no connection: a test from the machine itself, or connections live."""
    names = world.dns.names(host)
    place = join_host_port(host.strip("[]"), port)
    tests = [one for one in machine.port_tests() if one.port == port and names & world.dns.names(one.target)]
    if tests and not any(one.succeeded for one in tests):
        proof = f"{tests[0].tool} on the machine itself"
        groups.add(code, machine, machine.because, host=place, proof=proof)
        return True
    connects: list[TcpConnect] = []
    for endpoint in _endpoints(world.seen):
        if endpoint.service.port == port and names & {endpoint.service.target, endpoint.address}:
            connects += discovery.connects(endpoint.address, port, world.seen)
    if tests or not connects:
        return False
    answers = [world.seen.get(connect) for connect in connects]
    if any(answer is None or answer.outcome.state is not State.FAIL for answer in answers):
        return False
    because = dict.fromkeys([*machine.because, *connects])
    groups.add(code, machine, because, host=place, proof="connections from here failed")
    return True
