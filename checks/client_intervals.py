"""How often the machines in the files ask a KMS host.

What it looks at: activation and renewal interval of each KMS client, as its tools show them or its registry has them,
and those that a KMS host is set to.
Why it matters: until the first answer a client goes by its own registry, from then on by what its host said: the
client's own renewal interval is never used. Long intervals make a client notice late; short ones load the host; and
clients of one host that differ have not all been answered since its intervals were changed.
What to do: set the intervals on the host (slmgr /sai, /sri), 120 and 10,080 minutes unless there is a reason.
"""

from collections.abc import Iterator, Sequence

from kmsdiag import check, collected, products
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.collected import Machine, Part
from kmsdiag.grouping import Groups, who
from kmsdiag.knowledge.licences import LICENSED
from kmsdiag.knowledge.limits import ACTIVATION_INTERVAL, LEAST_INTERVAL, MOST_INTERVAL, RENEWAL_INTERVAL
from kmsdiag.model.collected import ProductState
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Status
from kmsdiag.model.target import Subject

_USUAL = (ACTIVATION_INTERVAL // 60, RENEWAL_INTERVAL // 60)
_LEAST, _MOST = LEAST_INTERVAL // 60, MOST_INTERVAL // 60
_DEFAULTS = Fix(
    Where.KMS_HOST,
    "set the usual intervals again (minutes), and restart the service",
    "slmgr /sai 120; slmgr /sri 10080",
)

META = CheckMeta(
    title="Intervals in the files",
    codes={
        "usual": Code(
            Severity.OK,
            "{who}: {intervals}.",
        ),
        "unusual": Code(
            Severity.INFO,
            "{who}: {intervals}; usual are 120 and 10,080.",
            "A host said so in its answer, or, before the first one, the client's own registry.",
            (_DEFAULTS,),
        ),
        "out_of_range": Code(
            Severity.WARNING,
            "{who}: an interval of {interval} min; from 15 to 43,200 (30 days) are allowed.",
            "What Windows makes of such a value is not documented.",
            (_DEFAULTS,),
        ),
        "differ": Code(
            Severity.INFO,
            "Clients of {host} have different intervals: {intervals}.",
            "A host gives all its clients the same: some have not been answered since it was changed, or several hosts"
            " answer under that name.",
            (
                Fix(
                    Where.KMS_HOST,
                    "see what the host gives out (registry; nothing there means the usual)",
                    "slmgr /dlv",
                ),
            ),
        ),
        "not_used": Code(
            Severity.INFO,
            "{who}: the machine's own registry says: {own}. That is not what counts.",
            "From the first answer on a client goes by its host's intervals, and its own renewal interval is never"
            " used.",
            (Fix(Where.KMS_HOST, "to change them for all clients, change them on the host", "slmgr /sai <minutes>"),),
        ),
        "set_on_host": Code(
            Severity.INFO,
            "{who}: the KMS host sets for its clients: {own}; usual are 120 and 10,080 min.",
            "They take these intervals over with its next answer.",
            (_DEFAULTS,),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The files tell no interval of a KMS client."),
    },
    tags=frozenset({"client", "files"}),
    since="0.1",
    references=(
        "Microsoft: Registry settings for volume activation",
        "Microsoft: KMS activation timing and discovery",
        "Microsoft: Slmgr.vbs options for obtaining volume activation information",
    ),
)

subjects = check.collected
ask = collected.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a pair of intervals; then hosts whose clients differ."""
    groups = Groups()
    by_host: dict[str, dict[tuple[int, int], list[tuple[Machine, Part]]]] = {}
    for machine in collected.machines(seen):
        for product, part in products.clients(machine):
            pair = (product.activation_interval_min, product.renewal_interval_min)
            if pair == (0, 0):
                continue
            _judge_pair(pair, machine, part, groups)
            host = _answering(product, machine)
            if host and all(pair):
                by_host.setdefault(host, {}).setdefault(pair, []).append((machine, part))
        for part in machine.parts:
            _judge_registry(machine, part, groups)
    if not groups:
        yield say("nothing", collected.questions(seen.target))
    yield from groups.findings()
    for host, pairs in sorted(by_host.items()):
        if len(pairs) > 1:
            yield _differ(host, pairs)


def _allowed(pair: Sequence[int]) -> bool:
    return all(not minutes or _LEAST <= minutes <= _MOST for minutes in pair)


def _usual(pair: tuple[int, int]) -> bool:
    """Whether both are as they come, as far as they are told."""
    return all(minutes in (0, usual) for minutes, usual in zip(pair, _USUAL, strict=True))


def _judge_pair(pair: tuple[int, int], machine: Machine, part: Part, groups: Groups) -> None:
    for minutes in pair:
        if not _allowed((minutes,)):
            groups.add("out_of_range", machine, (part.question,), interval=f"{minutes:,}")
    if _allowed(pair):
        groups.add("usual" if _usual(pair) else "unusual", machine, (part.question,), intervals=_words(pair))


def _words(pair: tuple[int, int]) -> str:
    """Both intervals, as far as they are told."""
    told = zip(("asks every {} min until activated", "renews every {} min"), pair, strict=True)
    return ", ".join(words.format(f"{minutes:,}") for words, minutes in told if minutes)


def _judge_registry(machine: Machine, part: Part, groups: Groups) -> None:
    """Values of its own registry: a host hands them out, a client hardly goes by them."""
    settings = part.state.settings
    pair = (settings.activation_interval_min, settings.renewal_interval_min) if settings is not None else (0, 0)
    if pair == (0, 0):
        return
    if not _allowed(pair):
        _judge_pair(pair, machine, part, groups)
        return
    own = _words(pair)
    if machine.is_host or products.hosts(machine):
        if not _usual(pair):
            groups.add("set_on_host", machine, (part.question,), own=own)
    else:
        groups.add("not_used", machine, (part.question,), own=own)


def _answering(product: ProductState, machine: Machine) -> str:
    """The host whose intervals a licensed product has; "" where that is not told."""
    named = product.override_host or product.discovered_host or next(iter(products.uses(machine)), "")
    return named.lower().removesuffix(".") if product.status == LICENSED else ""


def _differ(host: str, pairs: dict[tuple[int, int], list[tuple[Machine, Part]]]) -> Finding:
    intervals = []
    because: dict[Status, None] = {}
    for (activation, renewal), owners in sorted(pairs.items()):
        machines = list({machine.name: machine for machine, _part in owners}.values())
        intervals.append(f"{activation:,} and {renewal:,} min on {who(machines)}")
        because.update({part.question: None for _machine, part in owners})
    return say("differ", tuple(because), host=host, intervals=tuple(intervals))
