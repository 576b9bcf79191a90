"""Whether a planned domain publishes enough hosts for what its machines need, and not too many.

What it looks at: the hosts that the SRV records of the domain name, against the largest number allowed and against
what each expected host serves.
Why it matters: hosts beyond the plan are often nobody's, and every one takes clients from the count of the others;
where no published host serves Office, its machines get 0xC004F042 from all of them.
What to do: delete the records of hosts that are not wanted; install the missing host key, or publish a host with it.
"""

from collections.abc import Iterator
from typing import Any

from kmsdiag import discovery, plan
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains, say
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request
from kmsdiag.model.target import Expected, Product, Subject, Target

META = CheckMeta(
    title="Enough hosts, and not too many",
    codes={
        "enough": Code(Severity.OK, "{domain} publishes {hosts}: enough, and not too many."),
        "too_many": Code(
            Severity.ERROR,
            "{domain} publishes {count} KMS hosts, more than the {allowed} allowed: {hosts}.",
            "Each takes clients from the count of the others; one that nobody planned may be a workstation with a key.",
            (Fix(Where.KMS_HOST, "see whether a machine is a KMS host, and with which key", "slmgr /dlv"),),
        ),
        "not_served": Code(
            Severity.ERROR,
            "{machines} machines in {domain} need a host for {product}, and none of {hosts} serves it.",
            "They get 0xC004F042 from every host: it can't be used for this product.",
            (Fix(Where.KMS_HOST, "see which host keys are installed", "slmgr /dlv all"),),
        ),
        "absent": Code(
            Severity.WARNING,
            "{machines} machines in {domain} need a host for {product}, and it publishes none at all.",
            "They find no host at all.",
            (Fix(Where.KMS_HOST, "have a host publish itself there", "slmgr /sdns; Restart-Service sppsvc"),),
        ),
        "empty": Code(Severity.OK, "{domain} publishes no KMS host: not too many, and no machines are planned there."),
        "nothing": Code(Severity.NOT_ASSESSED, "No published KMS host of {domain} is known."),
    },
    tags=frozenset({"plan", "hosts"}),
    since="0.1",
    references=("Microsoft: KMS activation planning", "Microsoft: Configure a KMS host computer for Office"),
)


def subjects(target: Target) -> Iterator[Subject]:
    """Each domain, where there is a plan."""
    if target.expected.planned:
        yield from domains(target)


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """The SRV question, at each server."""
    yield from discovery.srv_queries(subject, seen)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """All servers' hosts together: each of them has clients somewhere."""
    expected = seen.target.expected
    because = tuple(discovery.srv_queries(subject, seen))
    answers = [seen[query] for query in because]
    records = [record for answer in answers for record in answer.records if record.target != discovery.ROOT]
    hosts = tuple(sorted({record.target for record in records}))
    if not hosts:
        settled = all(answer.records or answer.outcome.is_absence for answer in answers)
        yield from _none(subject, expected, because) if settled else [say("nothing", because, domain=subject.name)]
        return
    content = True
    if expected.max_hosts is not None and len(hosts) > expected.max_hosts:
        content = False
        yield say("too_many", because, domain=subject.name, count=len(hosts), allowed=expected.max_hosts, hosts=hosts)
    for product, machines in _planned(subject, expected):
        if not any(plan.serves(host, product, expected.hosts) for host in hosts):
            content = False
            yield say(
                "not_served",
                because,
                domain=subject.name,
                machines=machines,
                product=product.value.capitalize(),
                hosts=hosts,
            )
    if content:
        yield say("enough", because, domain=subject.name, hosts=hosts)


def _planned(subject: Subject, expected: Expected) -> Iterator[tuple[Product, int]]:
    """Products that are planned in the domain, each with its machines."""
    for product in Product:
        machines = sum(plan.counted(product, site) for site in expected.sites if site.domain == subject.name)
        if machines:
            yield product, machines


def _none(subject: Subject, expected: Expected, because: tuple[Request[Any], ...]) -> Iterator[Finding]:
    """Nothing is published, as every server says: that is known, and as bad as the plan is large."""
    planned = list(_planned(subject, expected))
    for product, machines in planned:
        yield say("absent", because, domain=subject.name, machines=machines, product=product.value.capitalize())
    if not planned:
        yield say("empty", because, domain=subject.name)
