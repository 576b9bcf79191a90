"""What the counters of the KMS hosts in the files say about the requests that they got.

What it looks at: requests in all, failed ones, and those of clients that were not licensed any more.
Why it matters: a request fails where the host's key does not cover the product. One from a client in notification or
additional grace comes after months without a host: something kept that client away. The counters never go down, and
begin anew when the host is reinstalled: a low number alone says little.
What to do: read event 12290 on the host, which has name, product and code of each request.
"""

from collections.abc import Iterator

from kmsdiag import check, collected, products
from kmsdiag.captured import count as number_of
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.collected import Machine, Part
from kmsdiag.knowledge.limits import FAILED_SHARE
from kmsdiag.model.collected import HostState, ProductState, Requests
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.target import Subject

_LOG = Fix(
    Where.KMS_HOST,
    "see the last requests: who asked, for which product, with which code",
    "Get-WinEvent -MaxEvents 20 -FilterHashtable @{{ LogName = 'Key Management Service'; Id = 12290 }}",
)

META = CheckMeta(
    title="Requests at the KMS hosts in the files",
    codes={
        "served": Code(
            Severity.OK,
            "{host}: {requests} so far, {failed} of them failed ({product}).",
            "The counters begin anew when the host is reinstalled; a low number means little.",
        ),
        "failing": Code(
            Severity.WARNING,
            "{host}: {failed} of {requests} failed, {share} ({product}).",
            "Usually its key does not cover a product that asks it: newer Windows, or Office at a host for Windows.",
            (_LOG, Fix(Where.KMS_HOST, "see what its keys are for", "slmgr /dlv all")),
        ),
        "late_clients": Code(
            Severity.INFO,
            "{host}: {requests} so far came from clients whose activation had run out ({product}).",
            "They had not reached a host for 180 days, or never before: look for what keeps them away. Clients that"
            " were off for long count here too.",
            (_LOG,),
        ),
        "idle": Code(
            Severity.WARNING,
            "{host}: no request so far ({product}).",
            "It is new, or no client reaches or looks for it, or Active Directory activates all of them.",
            (
                Fix(
                    Where.DNS_SERVER,
                    "see whether clients are sent to it",
                    "Resolve-DnsName -Type SRV _vlmcs._tcp.<domain>",
                ),
            ),
        ),
        "set_back": Code(
            Severity.INFO,
            "{host}: {requests} so far, fewer than its count of {count} ({product}).",
            "Its counters were set back after those clients had asked: the numbers say nothing about the time before.",
        ),
        "unknown": Code(Severity.NOT_ASSESSED, "{host}: the number of requests is not told ({product})."),
        "nothing": Code(Severity.NOT_ASSESSED, "None of the machines in the files is a KMS host."),
    },
    tags=frozenset({"files", "host"}),
    since="0.1",
    references=(
        "Microsoft: Guidelines for troubleshooting KMS",
        "Microsoft: Slmgr.vbs options for obtaining volume activation information",
    ),
)

subjects = check.collected
ask = collected.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """The counters of each host key."""
    silent = True
    for machine in collected.machines(seen):
        for product, part in products.hosts(machine):
            silent = False
            yield from _judge(product, machine, part)
    if silent:
        yield say("nothing", collected.questions(seen.target))


def _judge(product: ProductState, machine: Machine, part: Part) -> Iterator[Finding]:
    host, label, because = machine.label, products.label(product), (part.question,)
    state = product.host or HostState()
    total, failed = state.requests.total, state.requests.failed or 0
    if total is None:
        yield say("unknown", because, host=host, product=label)
        return
    requests = number_of(total, "request")
    if not total:
        yield say("idle", because, host=host, product=label)
    elif failed > FAILED_SHARE * total:
        share = f"{100 * failed / total:.0f} %"
        yield say("failing", because, host=host, product=label, requests=requests, failed=failed, share=share)
    else:
        yield say("served", because, host=host, product=label, requests=requests, failed=failed)
    if state.count is not None and 0 < total < state.count:
        yield say("set_back", because, host=host, product=label, requests=requests, count=state.count)
    late = _late(state.requests)
    if late:
        yield say("late_clients", because, host=host, product=label, requests=number_of(late, "request"))


def _late(requests: Requests) -> int:
    """Requests of clients in additional grace (expired, or hardware changed) or in notification."""
    return (requests.expired or 0) + (requests.notification or 0)
