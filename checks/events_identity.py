"""Client machine IDs that several machines share, by the hosts' event logs.

What it looks at: the machine names that came with each client machine ID (CMID) in events 12290.
Why it matters: a host counts IDs, not machines. Machines that were cloned without sysprep /generalize (or with
SkipRearm) share one, so that a hundred of them count as one, and the count never reaches what they need.
What to do: give each its own ID (slmgr /rearm and a restart), and mend the image.
"""

from collections.abc import Iterator

from kmsdiag import check, collected
from kmsdiag.captured import count as number_of
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.target import Subject

META = CheckMeta(
    title="Client machine IDs in the hosts' event logs",
    codes={
        "distinct": Code(Severity.OK, "Each of {ids} at {host} came with one machine name."),
        "shared": Code(
            Severity.WARNING,
            "The client machine ID {machine_id} came to {host} with {names} names ({machines}), in {requests}.",
            "They count as one machine. A machine that was renamed, or came with and without its domain, does so too.",
            (
                Fix(
                    Where.CLIENT,
                    "compare the ID on two of them; a new one comes with slmgr.vbs and its option rearm, and a restart",
                    "slmgr /dlv",
                ),
            ),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The event logs hold no request that a KMS host processed (12290)."),
    },
    tags=frozenset({"events", "host"}),
    since="0.1",
    references=(
        "Microsoft: The KMS current count does not increase (KB 929829)",
        "Microsoft: Windows activation, duplicate client machine ID",
    ),
)

subjects = check.event_logs
ask = collected.ask_logs


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a shared ID, the one with most names first; one a host without any."""
    question = collected.logs(seen.target)
    answer = seen[question]
    shared = [one for one in answer.requesters if one.names > 1]
    for one in sorted(shared, key=lambda item: (-item.names, item.host, item.client_machine_id)):
        more = (f"{one.names - 3:,} more",) if one.names > 3 else ()
        yield say(
            "shared",
            (question,),
            machine_id=one.client_machine_id,
            host=one.host,
            names=one.names,
            machines=(*one.machines[:3], *more),
            requests=number_of(one.requests, "request"),
        )
    for host in answer.hosts:
        if host.clients and not any(one.host == host.host for one in shared):
            yield say("distinct", (question,), ids=number_of(host.clients, "ID"), host=host.host)
    if not any(host.clients for host in answer.hosts):
        yield say("nothing", (question,))
