"""Planned machines over published hosts: who serves what, and how many machines meet at each host.

Pure figures from the plan and the records, by the simulation of :mod:`kmsdiag.choice`.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from kmsdiag import choice, discovery
from kmsdiag.discovery import Service
from kmsdiag.knowledge.limits import CLIENT_THRESHOLD, SERVER_THRESHOLD
from kmsdiag.model.answer import SrvAnswer, SrvRecord
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.request import SrvQuery
from kmsdiag.model.target import Expected, ExpectedHost, Product, Site, Subject, SubjectKind


class Kind(StrEnum):
    """Machines that need a certain number of their like at a host before it activates them."""

    CLIENT = "client"
    SERVER = "server"
    OFFICE = "office"

    @property
    def product(self) -> Product:
        """Whose count they are in: Windows clients and servers are counted together, Office apart."""
        return Product.OFFICE if self is Kind.OFFICE else Product.WINDOWS

    @property
    def threshold(self) -> int:
        """The count that they need (Microsoft, "KMS activation planning")."""
        return CLIENT_THRESHOLD if self is Kind.CLIENT else SERVER_THRESHOLD

    @property
    def words(self) -> str:
        """Such machines, for a reader."""
        return {Kind.CLIENT: "Windows clients", Kind.SERVER: "Windows servers", Kind.OFFICE: "Office machines"}[self]

    def planned(self, site: Site) -> int:
        """How many of them a site has."""
        return {Kind.CLIENT: site.client, Kind.SERVER: site.server, Kind.OFFICE: site.office}[self]


def counted(product: Product, site: Site) -> int:
    """Machines of a site in the count of a product."""
    return site.office if product is Product.OFFICE else site.client + site.server


def domain_of(site: Site) -> Subject:
    """The domain in which a site's machines look for their host."""
    return Subject(SubjectKind.DOMAIN, site.domain)


def planned_domains(expected: Expected) -> list[Subject]:
    """Domains of the sites, sorted, each once."""
    return sorted({domain_of(site) for site in expected.sites}, key=lambda subject: subject.order)


def site_queries(site: Site, seen: Evidence) -> list[SrvQuery]:
    """The SRV questions of a site's machines: to its own DNS servers, or to all where none of those is asked."""
    queries = list(discovery.srv_queries(domain_of(site), seen))
    return [query for query in queries if query.server in site.servers] or queries


def site_answer(site: Site, seen: Evidence) -> tuple[SrvQuery, SrvAnswer] | None:
    """The first answer with records that a site's machines get; None where there is none.

    Raises:
        Missing: a question before it has no answer, so that this is not known.
    """
    for query in site_queries(site, seen):
        answer = seen[query]
        if answer.records:
            return query, answer
    return None


def same_host(service: Service, seen: Evidence) -> list[ExpectedHost]:
    """The expected hosts that a published one is, by name or by address."""
    own = {service.target, *discovery.addresses(service, seen)}
    return [host for host in seen.target.expected.hosts if host.host in own]


def serves(target: str, product: Product, hosts: Iterable[ExpectedHost]) -> bool:
    """Whether clients of a product stay at a published target; of one that nobody expects nothing else is known."""
    own = [host for host in hosts if host.host == target]
    return not own or any(product in host.serves for host in own)


def shares(records: Sequence[SrvRecord], product: Product, hosts: Sequence[ExpectedHost]) -> dict[str, float]:
    """Part of a product's clients, from 0 to 1, that end at each target; none of them where no target serves it.

    A host without the right key refuses (0xC004F042), and the client goes on to the next: what is left of the choice
    is that among the hosts which serve the product.
    """
    fitting = [one for one in records if one.target != discovery.ROOT and serves(one.target, product, hosts)]
    found: dict[str, float] = {}
    for record, chance in zip(fitting, choice.first_pick_ranked(fitting), strict=True):
        found[record.target] = found.get(record.target, 0.0) + chance
    return found


def as_planned(domain: str, hosts: Iterable[ExpectedHost]) -> tuple[SrvRecord, ...]:
    """The records that a domain should have; a host publishes itself with priority and weight 0."""
    return tuple(
        SrvRecord(host.priority or 0, host.weight or 0, host.port, host.host, 0)
        for host in hosts
        if domain in host.domains
    )


class Load(NamedTuple):
    """Machines that meet at each host: in the count of a product, and those among them of each kind.

    ``assumed``: no site got records, so they are those of the plan. ``because`` are the questions behind the figures.
    """

    counts: dict[tuple[str, Product], float]
    kinds: dict[tuple[str, Kind], float]
    assumed: bool
    because: tuple[SrvQuery, ...]

    def hosts(self, kind: Kind) -> Iterator[tuple[str, float]]:
        """Each host that such machines may pick, with the count that they will see there."""
        for host, _kind in sorted(key for key in self.kinds if key[1] is kind):
            yield host, self.counts[host, kind.product]


def spread(sites: Iterable[tuple[Site, Sequence[SrvRecord]]], hosts: Sequence[ExpectedHost]) -> Load:
    """Spread the machines of sites over the records that each gets."""
    counts: dict[tuple[str, Product], float] = {}
    kinds: dict[tuple[str, Kind], float] = {}
    for site, records in sites:
        for product in Product:
            for host, share in shares(records, product, hosts).items():
                counts[host, product] = counts.get((host, product), 0.0) + share * counted(product, site)
                for kind in (one for one in Kind if one.product is product and one.planned(site)):
                    kinds[host, kind] = kinds.get((host, kind), 0.0) + share * kind.planned(site)
    return Load(counts, kinds, assumed=True, because=())


def load(seen: Evidence) -> Load | None:
    """Spread all planned machines over the records that their own DNS servers give.

    None where a site got no records and one of its servers failed: what its machines would be told is not known.

    Raises:
        Missing: an answer that decides is not there.
    """
    expected = seen.target.expected
    answers = [(site, site_answer(site, seen)) for site in expected.sites]
    for site, answer in answers:
        if answer is None and not all(seen[query].outcome.is_absence for query in site_queries(site, seen)):
            return None
    assumed = all(answer is None for _site, answer in answers)
    found = [
        (site, answer[1].records if answer else as_planned(site.domain, expected.hosts) if assumed else ())
        for site, answer in answers
    ]
    because = tuple(dict.fromkeys(query for site in expected.sites for query in site_queries(site, seen)))
    return spread(found, expected.hosts)._replace(assumed=assumed, because=because)
