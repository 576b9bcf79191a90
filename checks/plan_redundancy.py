"""What activation in the plan depends on alone: one machine, or one DNS server.

What it looks at: for each site and product, the published hosts that serve it, by their addresses; and the DNS servers
that the plan names for the site.
Why it matters: while the one host is down, no new machine activates and none renews (they stay activated for 180 days
after their last success); while the one DNS server is down, none finds a host for the first time.
What to do: decide whether that is acceptable. A second host needs 25 clients (5 servers, 5 Office) of its own.
"""

from collections.abc import Iterator
from typing import Any

from kmsdiag import discovery, plan
from kmsdiag.check import CheckMeta, Code, Severity, say, whole_run
from kmsdiag.discovery import Service
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request
from kmsdiag.model.target import Product, Site, Subject, Target

META = CheckMeta(
    title="Single points of failure",
    codes={
        "redundant": Code(Severity.OK, "Every site has several hosts for its machines, and several DNS servers."),
        "one_host": Code(
            Severity.INFO,
            "{sites}: activation of {product} depends on one machine ({hosts}).",
            "While it is down, no machine there activates for the first time, and none renews.",
        ),
        "one_server": Code(
            Severity.INFO,
            "{sites}: the plan names one DNS server ({server}).",
            "While it is down, no machine there finds a host for the first time.",
        ),
        "nothing": Code(
            Severity.NOT_ASSESSED, "No site has machines and a published host: single points of failure are not known."
        ),
    },
    tags=frozenset({"plan", "hosts"}),
    since="0.1",
    references=("Microsoft: KMS activation planning",),
)


def subjects(target: Target) -> Iterator[Subject]:
    """The plan as a whole."""
    if target.expected.planned:
        yield from whole_run(target)


def ask(_subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """Discovery of every site's domain."""
    for domain in plan.planned_domains(seen.target.expected):
        yield from discovery.ask(domain, seen)


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Sites that depend on the same thing are named together."""
    sites = seen.target.expected.sites
    one_host: dict[tuple[Product, tuple[str, ...]], list[str]] = {}
    one_server: dict[str, list[str]] = {}
    known = False
    for site in sites:
        if len(site.servers) == 1:
            one_server.setdefault(site.servers[0], []).append(site.name)
        for product in Product:
            machines = _machines(site, product, seen)
            known = known or bool(machines)
            if len(machines) == 1:
                one_host.setdefault((product, machines[0]), []).append(site.name)
    because = tuple(dict.fromkeys(query for site in sites for query in plan.site_queries(site, seen)))
    for (product, hosts), names in sorted(one_host.items()):
        yield say("one_host", because, sites=tuple(names), product=product.value.capitalize(), hosts=hosts)
    for server, names in sorted(one_server.items()):
        yield say("one_server", (), sites=tuple(names), server=server)
    if not known:
        yield say("nothing", because)
    elif not one_host and not one_server:
        yield say("redundant", because)


def _machines(site: Site, product: Product, seen: Evidence) -> list[tuple[str, ...]]:
    """Published hosts that serve a product to a site's machines; names that share an address are one machine."""
    answer = plan.site_answer(site, seen) if plan.counted(product, site) else None
    if answer is None:
        return []
    query, records = answer[0], answer[1].records
    found: list[tuple[set[str], set[str]]] = []
    for target in sorted({one.target for one in records if one.target != discovery.ROOT}):
        if not plan.serves(target, product, seen.target.expected.hosts):
            continue
        service = Service(target, 0, (), (query.server,))
        addresses = {address for one in discovery.address_queries(service, seen) for address in seen[one].addresses}
        addresses.add(target)
        same = [group for group in found if group[1] & addresses]
        found = [group for group in found if group not in same]
        names = {target}.union(*(group[0] for group in same))
        found.append((names, addresses.union(*(group[1] for group in same))))
    return sorted(tuple(sorted(names)) for names, _addresses in found)
