"""Whether the counts of the KMS hosts in the files are high enough to activate anybody.

What it looks at: the current count of each host key, at one time or at several, against what clients need (25 Windows
clients, 5 servers, 5 Office), the counts of other hosts in the files, shared client machine IDs, and the number of
machines that are expected.
Why it matters: a host counts the machines that asked it in the last 30 days. Below their need it answers with success
and the client does not activate all the same: 0xC004F038. It remembers twice the highest need at most, so 50 (10 where
only servers or Office ask) means "50 or more".
What to do: bring machines to one host: remove superfluous hosts, give clones an ID of their own, open the way.
"""

import datetime
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kmsdiag import check, collected, products
from kmsdiag.captured import count
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.collected import Machine, Part
from kmsdiag.grouping import who
from kmsdiag.knowledge.limits import CLIENT_THRESHOLD, SERVER_THRESHOLD
from kmsdiag.model.collected import HostState, ProductState
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Status
from kmsdiag.model.target import Subject

_SEE = Fix(Where.KMS_HOST, "see its count now", "slmgr /dlv all")
_WHO = Fix(
    Where.KMS_HOST,
    "see who asked: the same client machine ID under many names is a cloned image",
    "Get-WinEvent -MaxEvents 50 -FilterHashtable @{{ LogName = 'Key Management Service'; Id = 12290 }}",
)
_REARM = Fix(
    Where.CLIENT, "see the client machine ID; each clone gets its own by slmgr /rearm and a restart", "slmgr /dlv"
)

META = CheckMeta(
    title="Counts of the KMS hosts in the files",
    codes={
        "enough": Code(Severity.OK, "{host}: the count is {count}, {needed} are needed ({product})."),
        "clients_below": Code(
            Severity.WARNING,
            "{host}: the count is {count} ({product}): enough for servers (5), too low for Windows clients (25).",
            "Windows clients that ask it show 0xC004F038. Where only servers ask, it never goes above 10, and all is"
            " well.",
            (_SEE, _WHO),
        ),
        "below": Code(
            Severity.ERROR,
            "{host}: the count is {count} ({product}), and {needed} are needed at least.",
            "It activates nobody: clients show 0xC004F038.",
            (_SEE, _WHO),
        ),
        "nobody": Code(
            Severity.WARNING,
            "{host}: the count is {count} ({product}): nobody asked in the last 30 days.",
            "It is new, or no client reaches it, or Active Directory activates all of them. Such a count is 0, or -1 in"
            " WMI.",
            (
                Fix(
                    Where.DNS_SERVER,
                    "see whether clients are sent to it",
                    "Resolve-DnsName -Type SRV _vlmcs._tcp.<domain>",
                ),
                Fix(Where.KMS_HOST, "let clients in", "Enable-NetFirewallRule -DisplayGroup 'Key Management Service'"),
            ),
        ),
        "stuck": Code(
            Severity.WARNING,
            "{host}: the count stays at {count} ({product}), while {requests} more came in {time}.",
            "The same few machines ask again and again, or many with the same client machine ID: clones.",
            (_WHO, _REARM),
        ),
        "clones": Code(
            Severity.WARNING,
            "{host}: the count is {count} ({product}), and machines in the files share a client machine ID: {clones}.",
            "They count as one. Each with an ID of its own would raise the count.",
            (_REARM, _WHO),
        ),
        "spread": Code(
            Severity.WARNING,
            "No KMS host in the files has {needed}, and their counts add up to {total}: {hosts}.",
            "The machines would be enough for one host; they are spread over several.",
            (_SEE,),
        ),
        "fewer_than_expected": Code(
            Severity.WARNING,
            "The hosts in the files count {total} together, and {expected} Windows clients are expected.",
            "The others have not asked in 30 days, ask a host whose files are not here, share an ID, or are activated"
            " by Active Directory.",
            (_WHO,),
        ),
        "unknown": Code(Severity.NOT_ASSESSED, "{host}: the count is not told ({product}).", fixes=(_SEE,)),
        "nothing": Code(Severity.NOT_ASSESSED, "None of the machines in the files is a KMS host."),
    },
    tags=frozenset({"files", "host", "path"}),
    since="0.1",
    references=(
        "Microsoft: KMS activation planning",
        "Microsoft: Guidelines for troubleshooting KMS",
        "Microsoft: The KMS current count does not increase (KB 929829)",
    ),
)

subjects = check.collected
ask = collected.ask


class _Count(NamedTuple):
    """One host key's count, what its clients need at least, and where it is told."""

    machine: Machine
    product: ProductState
    part: Part
    number: int
    needed: int
    office: bool

    @property
    def words(self) -> str:
        """The count; at twice the need it stands still."""
        return f"{self.number} or more" if self.number >= 2 * self.needed else str(self.number)


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Each count, then what hosts and clients say together."""
    machines = collected.machines(seen)
    counts = []
    silent = True
    for machine in machines:
        for product, part in products.hosts(machine):
            silent = False
            if product.host is None or product.host.count is None:
                yield say("unknown", (part.question,), host=machine.label, product=products.label(product))
            else:
                counts.append(_counted(machine, product, part, product.host))
    if silent:
        yield say("nothing", collected.questions(seen.target))
    for one in counts:
        yield _judge_count(one)
        yield from _judge_stuck(one)
        yield from _judge_clones(one, counts, machines)
    for office in (False, True):
        yield from _judge_spread([one for one in counts if one.office is office])
    yield from _judge_expected(counts, seen)


def _counted(machine: Machine, product: ProductState, part: Part, host: HostState) -> _Count:
    office = products.is_office(product)
    servers_only = host.required is not None and 0 < host.required < CLIENT_THRESHOLD
    needed = SERVER_THRESHOLD if office or servers_only else CLIENT_THRESHOLD
    return _Count(machine, product, part, host.count if host.count is not None else 0, needed, office)


def _judge_count(one: _Count) -> Finding:
    because = (one.part.question,)
    host, product = one.machine.label, products.label(one.product)
    if one.number <= 0:
        return say("nobody", because, host=host, product=product, count=one.number)
    if one.number >= one.needed:
        return say("enough", because, host=host, product=product, count=one.words, needed=one.needed)
    if one.number >= SERVER_THRESHOLD:
        return say("clients_below", because, host=host, product=product, count=one.number)
    return say("below", because, host=host, product=product, count=one.number, needed=SERVER_THRESHOLD)


def _judge_stuck(one: _Count) -> Iterator[Finding]:
    """The same key in several files, the first and the last of which have the same count and not the same requests."""
    told: list[tuple[datetime.datetime, Part, HostState, int]] = []
    for part in one.machine.parts:
        for product in part.state.products:
            same = (product.activation_id, product.name) == (one.product.activation_id, one.product.name)
            host = product.host
            if same and part.at is not None and host is not None and host.requests.total is not None:
                told.append((part.at, part, host, host.requests.total))
    if len(told) < 2 or not 0 < one.number < one.needed:
        return
    (began, first, before, old), (ended, last, after, new) = (
        min(told, key=lambda each: (each[0], each[3])),
        max(told, key=lambda each: (each[0], each[3])),
    )
    if before.count == after.count and new > old and ended > began:
        because = tuple(dict.fromkeys((first.question, last.question)))
        words = {"requests": count(new - old, "request"), "time": count((ended - began).days, "day")}
        yield say(
            "stuck", because, host=one.machine.label, product=products.label(one.product), count=one.number, **words
        )


def _judge_clones(one: _Count, counts: Sequence[_Count], machines: Sequence[Machine]) -> Iterator[Finding]:
    """Machines that share an ID and ask this host, or any machine where there is no other host."""
    if not 0 <= one.number < one.needed:
        return
    only = len({each.machine.name for each in counts}) == 1
    asking = machines if only else products.asking(one.machine, machines)
    owners: dict[str, list[Machine]] = {}
    for machine in asking:
        for each in machine.client_machine_ids:
            owners.setdefault(each, []).append(machine)
    shared = [group for _id, group in sorted(owners.items()) if len(group) > 1]
    if shared:
        because = dict.fromkeys((one.part.question, *_because([each for group in shared for each in group])))
        clones = tuple(who(group) for group in shared[:3])
        host, product = one.machine.label, products.label(one.product)
        yield say("clones", tuple(because), host=host, product=product, count=one.number, clones=clones)


def _judge_spread(counts: Sequence[_Count]) -> Iterator[Finding]:
    """Several hosts, each below the need, that would have enough together."""
    asked = [one for one in counts if one.number > 0]
    if len({one.machine.name for one in asked}) < 2 or any(one.number >= one.needed for one in asked):
        return
    needed, total = max(one.needed for one in asked), sum(one.number for one in asked)
    if total >= needed:
        hosts = tuple(f"{one.machine.label} {one.number}" for one in asked)
        because = tuple(dict.fromkeys(one.part.question for one in asked))
        yield say("spread", because, needed=needed, total=total, hosts=hosts)


def _judge_expected(counts: Sequence[_Count], seen: Evidence) -> Iterator[Finding]:
    """Windows clients that should be there; a count that stands at twice the need says nothing about the rest."""
    windows = [one for one in counts if not one.office]
    expected, total = seen.target.expected.machines, sum(max(one.number, 0) for one in windows)
    if expected is None or not windows or any(one.number >= 2 * one.needed for one in windows):
        return
    if total < expected:
        because = tuple(dict.fromkeys(one.part.question for one in windows))
        yield say("fewer_than_expected", because, total=total, expected=expected)


def _because(machines: Sequence[Machine]) -> tuple[Status, ...]:
    return tuple(dict.fromkeys(question for machine in machines for question in machine.because))
