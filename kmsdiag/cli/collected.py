"""Reading what others collected from the command line: files about machines, and event logs."""

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kmsdiag.cli.bundles import Addition
    from kmsdiag.evidence.events.run import EventAnalysis
    from kmsdiag.evidence.powershell.collection import Event
    from kmsdiag.model.collected import StatusAnswer
    from kmsdiag.model.request import Status
    from kmsdiag.model.target import GivenFile, Selection, StatusFile
    from kmsdiag.sources.files import Source

MOST_BYTES = 64 << 20
"""Bytes of a text or JSON file that are read: the output of tools is small, and logs have formats of their own."""


class Collected(NamedTuple):
    """What the files came to: evidence, and (label, reason) of those that can't be used.

    ``passed_over`` are those in folders and archives, which nobody named: they matter where nothing else was of use.
    """

    additions: "tuple[Addition, ...]"
    unusable: tuple[tuple[str, str], ...]
    passed_over: tuple[tuple[str, str], ...] = ()


class _Texts(NamedTuple):
    """Files about machines, and the events that stand in them."""

    answers: "dict[Status, StatusAnswer]"
    texts: "list[tuple[GivenFile, str]]"
    events: "list[tuple[GivenFile, Sequence[Event]]]"
    unusable: list[tuple[str, str]]
    passed_over: list[tuple[str, str]]
    interrupted: bool = False


def named(argument: str) -> tuple[str, str]:
    """The machine and the file of ``NAME=FILE``; a file that is really called so is meant as it is."""
    name, equals, path = argument.partition("=")
    if equals and name and path and not set(name) & set("/\\") and not Path(argument).exists():
        return name, path
    return "", argument


def read_collected(
    texts: "Sequence[Source]",
    logs: "Sequence[Source]",
    selection: "Selection",
    *,
    collected_at: datetime.datetime | None = None,
    jobs: int = 1,
) -> Collected:
    """Read files about machines, then event logs, whose requests are kept one by one for the machines of the former."""
    from kmsdiag.cli.bundles import Addition

    found = _texts(texts, collected_at)
    additions = []
    if found.answers:
        files = tuple(sorted((one.file for one in found.answers), key=_order))
        additions.append(Addition(found.answers, {"status": files}, found.interrupted))
    unusable = found.unusable
    # Who pressed Ctrl-C wants to see what there is.
    logs = () if found.interrupted else logs
    if logs or found.texts or found.events:
        analysis = _events(_named_by_folder(logs, found.answers), selection, found, jobs)
        unusable += analysis.unusable
        if analysis.files:
            additions.append(_as_addition(analysis, selection))
    return Collected(tuple(additions), tuple(unusable), tuple(found.passed_over))


def _events(logs: "Sequence[Source]", selection: "Selection", found: _Texts, jobs: int) -> "EventAnalysis":
    """Read event logs, with progress on stderr, and the events that stand in texts."""
    from kmsdiag.cli.captured import reading_progress
    from kmsdiag.evidence.events.run import analyse_events

    with reading_progress() as progress:
        return analyse_events(
            logs,
            selection,
            details=_ids(found.answers.values()),
            texts=found.texts,
            collections=found.events,
            jobs=jobs,
            progress=progress,
        )


def _as_addition(analysis: "EventAnalysis", selection: "Selection") -> "Addition":
    from kmsdiag.cli.bundles import Addition
    from kmsdiag.model.request import EventLogs

    question = EventLogs(files=analysis.files, selection=selection)
    return Addition({question: analysis.answer}, {"events": analysis.files}, analysis.interrupted)


def _named_by_folder(logs: "Sequence[Source]", answers: "dict[Status, StatusAnswer]") -> "list[Source]":
    """Logs with the machine that their folder stands for, where neither records nor anybody may say whose they are.

    A folder is a machine's where its other files say nothing else, or where it was searched and holds a single log.
    """
    from collections import Counter

    from kmsdiag.collected import machine_folders

    states = [(question.file.folder, state) for question, answer in answers.items() for state in answer.machines]
    described = {folder for folder, _state in states}
    single = Counter(log.folder for log in logs)
    usable = machine_folders(states) | {
        log.folder for log in logs if log.found and single[log.folder] == 1 and log.folder not in described
    }
    return [log._replace(machine=log.folder) if not log.machine and log.folder in usable else log for log in logs]


def _order(file: "StatusFile") -> tuple[str, str, str, str]:
    return (file.label, file.machine, file.folder, file.hash)


def _ids(answers: "Iterable[StatusAnswer]") -> frozenset[str]:
    """Client machine IDs of the machines that files tell of."""
    return frozenset(
        one.lower()
        for answer in answers
        for state in answer.machines
        for one in (state.client_machine_id, *(product.client_machine_id for product in state.products))
        if one
    )


def _texts(sources: "Sequence[Source]", collected_at: datetime.datetime | None) -> _Texts:
    found = _Texts({}, [], [], [], [])
    try:
        for source in sources:
            _take(source, collected_at, found)
    except KeyboardInterrupt:
        return found._replace(interrupted=True)
    return found


def _take(source: "Source", collected_at: datetime.datetime | None, found: _Texts) -> None:
    import msgspec

    from kmsdiag.evidence.status import read_status
    from kmsdiag.model.request import Status
    from kmsdiag.sources.files import describe, read_whole
    from kmsdiag.sources.unpack import UnpackError

    try:
        data = read_whole(source, MOST_BYTES)
    except OSError as error:
        found.unusable.append((source.label, f"it can't be read: {error.strerror or error}"))
        return
    except UnpackError as error:
        found.unusable.append((source.label, f"it can't be used: {error}"))
        return
    if len(data) > MOST_BYTES:
        why = f"it is larger than {MOST_BYTES >> 20} MiB: give event logs as .evtx, XML or CSV"
        found.unusable.append((source.label, why))
        return
    status = read_status(data, json=source.format.kind.value == "json")
    if status.answer is not None:
        found.answers[Status(file=_file(source, data, collected_at))] = status.answer
    if status.text:
        file = _file(source, data, collected_at)
        names = {state.name for state in status.answer.machines} if status.answer is not None else set()
        if not file.machine and len(names) == 1:
            file = msgspec.structs.replace(file, machine=names.pop())
        found.texts.append((file, status.text))
    if status.events:
        found.events.append((describe(source), status.events))
    if status.problem:
        (found.passed_over if source.found else found.unusable).append((source.label, status.problem))


def _file(source: "Source", data: bytes, collected_at: datetime.datetime | None) -> "StatusFile":
    """A file as a run names it. What was read whole is told apart by all of its bytes."""
    import hashlib

    from kmsdiag.model.target import StatusFile

    return StatusFile(
        label=source.label,
        size=len(data),
        hash=hashlib.sha256(data).hexdigest()[:16],
        machine=source.machine,
        folder=source.folder,
        collected_at=collected_at,
    )
