"""Whether the machines in the files are different machines to a KMS host.

What it looks at: the client machine IDs (CMID) that the files show, and how many of them belong to whom.
Why it matters: a host counts client machine IDs, not machines. Machines cloned without sysprep /generalize (or from an
image with SkipRearm = 1) share one and are counted as one: the count stays low although dozens ask.
What to do: slmgr /rearm and a restart on each clone; sysprep /generalize, without SkipRearm, for the image.
"""

from collections.abc import Iterator

from kmsdiag import check, collected
from kmsdiag.captured import count
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.collected import Machine, NamedBy
from kmsdiag.grouping import Groups, some, who
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Status
from kmsdiag.model.target import Subject

_REARM = Fix(
    Where.CLIENT,
    "see the ID; each clone but one gets its own by slmgr /rearm and a restart, which spends a rearm (see how many"
    " are left)",
    "slmgr /dlv",
)

_MOST = 5
"""Shared IDs that are told one by one, those of the most machines first (kmsdiag's own limit)."""

META = CheckMeta(
    title="Client machine IDs in the files",
    codes={
        "unique": Code(Severity.OK, "{machines} in the files with a client machine ID each of their own."),
        "shared": Code(
            Severity.WARNING,
            "{who}: the same client machine ID {machine_id}.",
            "A KMS host counts these as one. They were cloned without sysprep /generalize, or from an image with"
            " SkipRearm = 1 (as Azure's server images have it).",
            (
                _REARM,
                Fix(
                    Where.CLIENT,
                    "see whether the image was generalized",
                    "Select-String -Path C:\\Windows\\Panther\\setupact.log -Pattern GENERALIZE",
                ),
            ),
        ),
        "more_shared": Code(
            Severity.WARNING,
            "{ids} with several machines each: {who}.",
            "They were cloned from several images, or on a platform that copies machines whole.",
            (_REARM,),
        ),
        "several": Code(
            Severity.INFO,
            "{who}: several client machine IDs ({machine_ids}).",
            "A machine was rearmed between two files, or two go by one name; Office on Windows 7 has an ID of its own.",
        ),
        "one_or_clones": Code(
            Severity.INFO,
            "{files} without a machine's name show the same client machine ID {machine_id}: {labels}.",
            "They count as one machine here. If they are of several, those are clones: name them (NAME=FILE).",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The files show the client machine ID of fewer than two machines."),
    },
    tags=frozenset({"client", "files"}),
    since="0.1",
    references=(
        "Microsoft: The KMS current count does not increase (KB 929829)",
        "Microsoft: Duplicate client machine ID on Azure virtual machines",
    ),
)

subjects = check.collected
ask = collected.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a shared ID; then what is odd about single machines."""
    owners: dict[str, list[Machine]] = {}
    groups = Groups()
    found: list[Finding] = []
    for machine in collected.machines(seen):
        for one in machine.client_machine_ids:
            owners.setdefault(one, []).append(machine)
        if len(machine.client_machine_ids) > 1:
            groups.add("several", machine, machine.because, machine_ids=some(machine.client_machine_ids))
        if machine.named_by is NamedBy.CMID:
            found += _nameless(machine)
    shared = sorted(
        ((one, machines) for one, machines in owners.items() if len(machines) > 1),
        key=lambda pair: (-len(pair[1]), pair[0]),
    )
    for one, machines in shared[:_MOST]:
        yield say("shared", _because(machines), who=who(machines), machine_id=one)
    rest = list({machine.name: machine for _one, machines in shared[_MOST:] for machine in machines}.values())
    if rest:
        yield say(
            "more_shared", _because(rest), ids=count(len(shared) - _MOST, "more client machine ID"), who=who(rest)
        )
    yield from groups.findings()
    yield from found
    known = {machine.name: machine for machines in owners.values() for machine in machines}
    if len(known) < 2 and not groups and not found:
        yield say("nothing", collected.questions(seen.target))
    elif len(known) > 1 and not shared:
        yield say("unique", _because(list(known.values())), machines=count(len(known), "machine"))


def _nameless(machine: Machine) -> Iterator[Finding]:
    """Several files of the same kind that only the ID brings together."""
    kinds: dict[str, dict[str, Status]] = {}
    for part in machine.parts:
        for source in part.state.sources:
            kinds.setdefault(source, {})[part.question.file.label] = part.question
    files = max(kinds.values(), key=len, default={})
    if len(files) > 1:
        labels = some(files)
        machine_id = machine.client_machine_ids[0]
        because = tuple(files.values())
        yield say("one_or_clones", because, files=count(len(files), "file"), machine_id=machine_id, labels=labels)


def _because(machines: list[Machine]) -> tuple[Status, ...]:
    return tuple(dict.fromkeys(question for machine in machines for question in machine.because))
