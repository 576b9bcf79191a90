"""Machines as the collected files of a run describe them: each machine once, from all its files.

Checks and activation paths read the same list. Everything here is a pure function of the evidence: neither the order of
the files nor how many were read at once matters.
"""

import datetime
import functools
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from kmsdiag.model.answer import KmsOverride
from kmsdiag.model.collected import (
    CachedHost,
    HostSettings,
    MachineState,
    NetworkState,
    PortTest,
    ProductState,
    StatusAnswer,
    ToolLookup,
)
from kmsdiag.model.events import EventsAnswer
from kmsdiag.model.evidence import Evidence, Missing
from kmsdiag.model.request import EventLogs, Status
from kmsdiag.model.same import Same
from kmsdiag.model.target import Subject, Target


class NamedBy(StrEnum):
    """How it is known whose a file is. From ``folder`` on it is assumed, and shown so."""

    GIVEN = "given"
    """Somebody said so: NAME=FILE."""
    INSIDE = "inside"
    """The file has the machine's own name."""
    FOLDER = "folder"
    CMID = "cmid"
    FILE = "file"

    @property
    def assumed(self) -> bool:
        """Whether it is a guess."""
        return self not in (NamedBy.GIVEN, NamedBy.INSIDE)


class Part(NamedTuple):
    """What one file says about one machine. ``at`` is when the file was made, None where nothing tells."""

    question: Status
    state: MachineState
    at: datetime.datetime | None


class Machine(NamedTuple):
    """One machine, and what its files say, in the order of their labels.

    ``client_machine_ids`` are all that the files show for it: one, unless something is odd.
    """

    name: str
    named_by: NamedBy
    parts: tuple[Part, ...]
    client_machine_ids: tuple[str, ...]

    @property
    def label(self) -> str:
        """Its name, marked where it is assumed."""
        return f"{self.name} (assumed from the {_SOURCES[self.named_by]})" if self.named_by.assumed else self.name

    @property
    def because(self) -> tuple[Status, ...]:
        """The questions whose answers speak of it."""
        return tuple(dict.fromkeys(part.question for part in self.parts))

    def products(self) -> list[tuple[ProductState, Part]]:
        """Its products, each once, as the file says that tells most of it; licences without a key come last."""
        found: dict[tuple[str, str], tuple[ProductState, Part]] = {}
        for part in self.parts:
            for product in part.state.products:
                key = (product.activation_id, "" if product.activation_id else product.name)
                known = found.get(key)
                if known is None or _worth(product) > _worth(known[0]):
                    found[key] = (product, part)
        return sorted(found.values(), key=lambda pair: (pair[0].in_use is False, pair[0].name, pair[0].activation_id))

    def overrides(self) -> list[KmsOverride]:
        """KMS hosts that are set by hand: in the registry, else as tools show them for a product."""
        found = {one: None for part in self.parts for one in part.state.overrides}
        if not any(one.host for one in found):
            for product, _part in self.products():
                if product.override_host:
                    scope = product.activation_id or product.name
                    one = KmsOverride("product", product.override_host, product.override_port, scope)
                    found[one] = None
        return sorted(found, key=lambda one: (one.view, one.level, one.scope, one.host, one.port))

    def cached(self) -> list[CachedHost]:
        """Hosts that it remembers: from the registry, and as tools show them for a product."""
        found = {one: None for part in self.parts for one in part.state.cached}
        for product, _part in self.products():
            if product.discovered_host:
                scope = product.activation_id or product.name
                found[CachedHost(product.discovered_host, product.discovered_port, scope)] = None
        return sorted(found, key=lambda one: (one.host, one.port, one.scope))

    def networks(self) -> list[NetworkState]:
        """What its files say about its network."""
        return [part.state.network for part in self.parts if part.state.network is not None]

    def lookups(self) -> list[ToolLookup]:
        """DNS questions that somebody put there."""
        return [one for network in self.networks() for one in network.lookups]

    def port_tests(self) -> list[PortTest]:
        """TCP connections that somebody tried from there."""
        return [one for network in self.networks() for one in network.ports]

    def settings(self) -> list[HostSettings]:
        """A KMS host's registry values."""
        return [part.state.settings for part in self.parts if part.state.settings is not None]

    @property
    def is_host(self) -> bool:
        """Whether a product on it says that the Key Management Service is enabled there."""
        return any(product.host is not None for product, _part in self.products())


_SOURCES = {NamedBy.FOLDER: "folder", NamedBy.CMID: "client machine ID", NamedBy.FILE: "file name"}


def _worth(product: ProductState) -> tuple[int, int]:
    """How much an account of a product tells: the status first, then everything else."""
    told = sum(value not in ("", 0, None, False, -1) for value in (getattr(product, name) for name in _FIELDS))
    return (product.status >= 0, told)


_FIELDS = ProductState.__struct_fields__


# --------------------------------------------------------------------------------------------------- questions


def questions(target: Target) -> tuple[Status, ...]:
    """One question a file about the state of machines."""
    return tuple(Status(file=file) for file in target.status)


def ask(_subject: Subject, seen: Evidence) -> Iterator[Status]:
    """All files about the state of machines: what a check about them needs."""
    yield from questions(seen.target)


def logs(target: Target) -> EventLogs:
    """The question that all event logs of a run answer together."""
    return EventLogs(files=target.events, selection=target.selection)


def ask_logs(_subject: Subject, seen: Evidence) -> Iterator[EventLogs]:
    """The event logs of the run: all that a check about them needs."""
    yield logs(seen.target)


def events_of(seen: Evidence) -> EventsAnswer | None:
    """The digest of the event logs, None where the run has none or they were not read."""
    return seen.get(logs(seen.target)) if seen.target.events else None


# ---------------------------------------------------------------------------------------------------- machines


def machines(seen: Evidence) -> tuple[Machine, ...]:
    """All machines that the status files of a run describe, sorted by name.

    Raises:
        Missing: a file was not read; what one file less says about machines would be wrong about absences.
    """
    asked = questions(seen.target)
    return _machines(asked, Same(*(seen[question] for question in asked)))


def known_machines(seen: Evidence) -> tuple[Machine, ...]:
    """The same, and none where a file was not read: the rest of the run is still shown."""
    try:
        return machines(seen)
    except Missing:
        return ()


@functools.lru_cache(maxsize=1)
def _machines(asked: tuple[Status, ...], answers: Same[*tuple[StatusAnswer, ...]]) -> tuple[Machine, ...]:
    parts = [
        Part(question, state, _made(question, state))
        for question, answer in sorted(zip(asked, answers.things, strict=True), key=lambda pair: _order(pair[0]))
        for state in answer.machines
    ]
    usable = machine_folders((part.question.file.folder, part.state) for part in parts)
    groups: _Groups = {}
    for part in parts:
        name, by = _name(part, usable)
        groups.setdefault(_same(name), []).append((part, name, by))
    found = [_machine(own) for own in _ids_joined(_short_names_joined(_folders_joined(groups))).values()]
    return tuple(sorted(found, key=lambda machine: (machine.name.lower(), machine.named_by)))


def _order(question: Status) -> tuple[str, str, str, str]:
    file = question.file
    return (file.label, file.machine, file.folder, file.hash)


def _made(question: Status, state: MachineState) -> datetime.datetime | None:
    return state.collected_at or question.file.collected_at


def machine_folders(states: Iterable[tuple[str, MachineState]]) -> frozenset[str]:
    """Folders that may stand for a machine: what their files say is not of two."""
    names: dict[str, set[str]] = {}
    sources: dict[str, list[str]] = {}
    for folder, state in states:
        if folder:
            names.setdefault(folder, set()).update(_ids(state))
            sources.setdefault(folder, []).extend(state.sources)
    return frozenset(
        folder for folder, ids in names.items() if len(ids) < 2 and len(sources[folder]) == len(set(sources[folder]))
    )


def _name(part: Part, folders: frozenset[str]) -> tuple[str, NamedBy]:
    file, ids = part.question.file, _ids(part.state)
    if file.machine:
        return file.machine, NamedBy.GIVEN
    if part.state.name:
        return part.state.name, NamedBy.INSIDE
    if file.folder in folders:
        return file.folder, NamedBy.FOLDER
    if ids:
        return ids[0], NamedBy.CMID
    return file.label, NamedBy.FILE


def _ids(state: MachineState) -> list[str]:
    """Client machine IDs, each once."""
    every = [state.client_machine_id, *(product.client_machine_id for product in state.products)]
    return list(dict.fromkeys(one.lower() for one in every if one))


def _same(name: str) -> str:
    return name.lower().removesuffix(".")


_Groups = dict[str, list[tuple[Part, str, NamedBy]]]
"""Parts by machine, each with the name that it goes by and how that is known."""


def _folders_joined(groups: _Groups) -> _Groups:
    """A folder that is called like the one machine that is known by that name, short or full, is that machine's."""
    known: dict[str, set[str]] = {}
    for name, own in groups.items():
        if any(not by.assumed for _part, _name, by in own):
            for spelling in {name, name.partition(".")[0]}:
                known.setdefault(spelling, set()).add(name)
    joined: _Groups = {}
    for name, own in groups.items():
        called = known.get(name, set()) - {name} if all(by is NamedBy.FOLDER for _part, _name, by in own) else set()
        joined.setdefault(next(iter(called)) if len(called) == 1 else name, []).extend(own)
    return joined


def _short_names_joined(groups: _Groups) -> _Groups:
    """A short name is that of the one full name that begins with it; of two such names it is neither."""
    whole: dict[str, list[str]] = {}
    for name in groups:
        short, dot, _rest = name.partition(".")
        if dot:
            whole.setdefault(short, []).append(name)
    joined: _Groups = {}
    for name, own in groups.items():
        full = whole.get(name, [])
        # A file's name is no host name; a folder is often called as the machine whose files it holds.
        known = any(not by.assumed or by is NamedBy.FOLDER for _part, _name, by in own)
        joined.setdefault(full[0] if len(full) == 1 and known else name, []).extend(own)
    return joined


def _ids_joined(groups: _Groups) -> _Groups:
    """A file without a name is of the one machine that has its client machine ID; an ID of two machines names none."""
    owners: dict[str, set[str]] = {}
    for name, own in groups.items():
        if any(not by.assumed for _part, _name, by in own):
            for part, _name, _by in own:
                for one in _ids(part.state):
                    owners.setdefault(one, set()).add(name)
    joined: _Groups = {}
    for name, own in groups.items():
        by_id = all(by is NamedBy.CMID for _part, _name, by in own)
        known = owners.get(name, set()) if by_id else set()
        joined.setdefault(next(iter(known)) if len(known) == 1 else name, []).extend(own)
    return joined


def _machine(own: Sequence[tuple[Part, str, NamedBy]]) -> Machine:
    by = min((by for _part, _name, by in own), key=list(NamedBy).index)
    # The longest spelling is the full name.
    name = max((name for _part, name, named in own if named is by), key=lambda one: (len(one), one))
    parts = tuple(sorted((part for part, _name, _by in own), key=lambda part: _order(part.question)))
    ids = dict.fromkeys(one for part in parts for one in _ids(part.state))
    return Machine(name, by, parts, tuple(sorted(ids)))
