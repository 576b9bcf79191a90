"""Whether every host will meet the number of machines that it needs before it activates any.

What it looks at: planned machines by kind and site, spread over the records that each site's DNS servers give, as
Windows chooses among them (priority and weight honoured). Without records, over those of the plan.
Why it matters: a host activates Windows clients from 25 machines on, servers from 5, Office from 5 (its own count).
Machines that are enough together may be too few at each of several hosts: then they get 0xC004F038.
What to do: publish fewer hosts, or rank them so that one gets the clients; below the threshold in all, use MAK keys or
activation by Active Directory.
"""

from collections.abc import Iterator
from typing import Any

from kmsdiag import plan
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say, whole_run
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Request
from kmsdiag.model.target import Subject, Target
from kmsdiag.plan import Kind

_COUNT = Fix(Where.KMS_HOST, "see a host's current count", "slmgr /dlv all")

META = CheckMeta(
    title="Thresholds of the plan",
    codes={
        "met": Code(Severity.OK, "{kind}: every host will meet the {needed} that they need (about {counts}; {basis})."),
        "too_few": Code(
            Severity.ERROR,
            "{kind}: {planned} machines are planned in their count, and a host activates none of them below {needed}.",
            "They get 0xC004F038 from every host.",
            (_COUNT,),
        ),
        "never": Code(
            Severity.ERROR,
            "{kind}: they spread so that no host meets the {needed} that they need (about {counts}; {basis}).",
            "They get 0xC004F038 from every host, though they are enough in all.",
            (_COUNT,),
        ),
        "spread": Code(
            Severity.WARNING,
            "{kind}: {hosts} will meet fewer than the {needed} that they need (about {counts}; {basis}).",
            "Those that pick such a host get 0xC004F038.",
            (_COUNT,),
        ),
        "reserve": Code(
            Severity.INFO,
            "{kind}: {hosts} will meet none while better-ranked hosts answer ({basis}).",
            "When it is needed, it activates none of them before {needed} machines have asked it.",
            (_COUNT,),
        ),
        "nobody": Code(
            Severity.NOT_ASSESSED, "{kind}: no host is published or planned that serves them, so none can be counted."
        ),
        "unknown": Code(
            Severity.NOT_ASSESSED, "DNS did not answer for every site: how its machines spread over hosts is not known."
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The plan names no machines (sites.machines), so none can be counted."),
    },
    tags=frozenset({"plan", "hosts"}),
    since="0.1",
    references=("Microsoft: KMS activation planning", "Microsoft: Configure a KMS host computer for Office"),
)


def subjects(target: Target) -> Iterator[Subject]:
    """The plan as a whole."""
    if target.expected.planned:
        yield from whole_run(target)


def ask(_subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """The SRV questions of each site that has machines."""
    for site in seen.target.expected.sites:
        yield from plan.site_queries(site, seen)


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One verdict a kind of machine."""
    kinds = [kind for kind in Kind if any(kind.planned(site) for site in seen.target.expected.sites)]
    if not kinds:
        yield say("nothing", ())
        return
    spread = plan.load(seen)
    if spread is None:
        queries = (query for site in seen.target.expected.sites for query in plan.site_queries(site, seen))
        yield say("unknown", tuple(dict.fromkeys(queries)))
        return
    for kind in kinds:
        yield from _judge(kind, spread, seen)


def _judge(kind: Kind, spread: plan.Load, seen: Evidence) -> Iterator[Finding]:
    sites = seen.target.expected.sites
    planned = sum(plan.counted(kind.product, site) for site in sites)
    if planned < kind.threshold:
        yield say("too_few", spread.because, kind=kind.words, planned=planned, needed=kind.threshold)
        return
    counts = dict(spread.hosts(kind))
    if not counts:
        yield say("nobody", spread.because, kind=kind.words)
        return
    basis = "simulated from the plan, nothing is published" if spread.assumed else "simulated from the records"
    meeting = {host: count for host, count in counts.items() if count > 0}
    low = [host for host, count in meeting.items() if count < kind.threshold]
    code = "met" if not low else "never" if len(low) == len(meeting) else "spread"
    hosts = {"hosts": tuple(low)} if code == "spread" else {}
    listed = tuple(f"{host} {count:.0f}" for host, count in meeting.items())
    yield say(code, spread.because, kind=kind.words, needed=kind.threshold, counts=listed, basis=basis, **hosts)
    idle = tuple(host for host, count in counts.items() if count == 0)
    if idle:
        yield say("reserve", spread.because, kind=kind.words, hosts=idle, needed=kind.threshold, basis=basis)
