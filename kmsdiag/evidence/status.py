"""All that a text or JSON file says about machines: the output of any tools, in any order, and what stands around it.

A file may hold the output of several tools, as a transcript does. What says nothing of whose it is belongs to the one
machine that is named in the file.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from kmsdiag.evidence import decode
from kmsdiag.evidence.escape import ascii_text, notes
from kmsdiag.evidence.events.pasted_text import read_text
from kmsdiag.evidence.powershell import collection
from kmsdiag.evidence.powershell import json_files as kms_json
from kmsdiag.evidence.registry import export as registry
from kmsdiag.evidence.tools import network as nettools
from kmsdiag.evidence.tools import ospp, slmgr
from kmsdiag.model.answer import EPOCH
from kmsdiag.model.collected import MachineState, NetworkState, StatusAnswer

S = TypeVar("S", bound=MachineState | NetworkState)

_READERS: Final[Sequence[Callable[[str], list[MachineState]]]] = (
    slmgr.read,
    ospp.read,
    registry.read,
    nettools.read,
)

NOTHING: Final = (
    "it is text in which nothing about activation is known: the output of slmgr, ospp.vbs, ipconfig, nslookup,"
    " Resolve-DnsName or Test-NetConnection, a registry export, and events are read"
)


class StatusFound(NamedTuple):
    """What a file came to: an answer, its text where events stand in it, or those of a collection as they are.

    ``problem`` says in one line why it came to nothing; it is "" otherwise.
    """

    answer: StatusAnswer | None = None
    text: str = ""
    events: tuple[collection.Event, ...] = ()
    problem: str = ""


def read_status(data: bytes, *, json: bool) -> StatusFound:
    """Read a whole file. Nothing is raised, whatever its bytes are."""
    decoded = decode.decode(data)
    return (_from_json if json else _from_text)(decoded.text, decoded.notes)


_JSON_BEGINS: Final = re.compile(r"^[ \t]*[\[{](?=[ \t]*(?:[\"{\[]|\r?$))", re.MULTILINE)
_JSON_ENDS: Final = re.compile(r"[\]}][ \t]*\r?$", re.MULTILINE)
"""A document on lines of its own, as a shell prints it between its prompts and warnings."""


def _from_json(text: str, decoding: Sequence[str]) -> StatusFound:
    try:
        data = kms_json.decode(text)
    except kms_json.JsonError as error:
        # A transcript may begin with a bracket.
        found = _from_text(text, decoding)
        return found._replace(problem=str(error)) if found.problem else found
    if collection.is_collection(data):
        states = collection.read(data)
        return _found("JSON of the collector", states, decoding, events=tuple(collection.events(data)))
    states = kms_json.read(data)
    if not states:
        return StatusFound(problem="it is JSON in which nothing about activation is known")
    return _found("JSON", states, decoding)


def _from_text(text: str, decoding: Sequence[str]) -> StatusFound:
    begin = _JSON_BEGINS.search(text)
    ends = [one.start() + 1 for one in _JSON_ENDS.finditer(text)] if begin is not None else []
    found = None
    if begin is not None and ends and begin.start() < ends[-1]:
        found = _around(text, begin.start(), ends[-1], decoding)
    return found if found is not None else _from_plain(text, decoding)


def _around(text: str, start: int, end: int, decoding: Sequence[str]) -> StatusFound | None:
    """JSON with text around it; None where that is none about activation."""
    try:
        data = kms_json.decode(text[start:end])
    except kms_json.JsonError:
        return None
    is_collection = collection.is_collection(data)
    states = collection.read(data) if is_collection else kms_json.read(data)
    if not states:
        return None
    rest = _from_plain(f"{text[:start]}\n{text[end:]}", ())
    more = rest.answer.machines if rest.answer is not None else ()
    events = tuple(collection.events(data)) if is_collection else ()
    return _found("JSON", joined([*states, *more]), decoding, text=rest.text, events=events)


def _from_plain(text: str, decoding: Sequence[str]) -> StatusFound:
    states = [state for reader in _READERS for state in reader(text)]
    has_events = bool(read_text(text))
    if not states and not has_events:
        return StatusFound(problem=NOTHING)
    return _found("text", joined(states), decoding, text=text if has_events else "")


def _found(
    kind: str,
    states: Sequence[MachineState],
    decoding: Iterable[str],
    *,
    text: str = "",
    events: tuple[collection.Event, ...] = (),
) -> StatusFound:
    """What was read. The time of an answer is that of its newest part, the epoch where no part has one."""
    if not states:
        return StatusFound(None, text, events)
    sources = list(dict.fromkeys(source for state in states for source in state.sources))
    answer = StatusAnswer(
        at=max((state.collected_at for state in states if state.collected_at is not None), default=EPOCH),
        format=ascii_text(", ".join(sources) or kind),
        machines=tuple(states),
        notes=notes(decoding),
    )
    return StatusFound(answer, text, events)


def joined(states: Sequence[MachineState]) -> list[MachineState]:
    """States of one file, those of the same machine as one. A state without a name is of the only one that has one."""
    names = list(dict.fromkeys(state.name.lower() for state in states if state.name))
    groups: dict[str, list[MachineState]] = {}
    for state in states:
        name = state.name.lower()
        groups.setdefault(names[0] if not name and len(names) == 1 else name, []).append(state)
    return [_one(own) for own in groups.values()]


def _one(states: Sequence[MachineState]) -> MachineState:
    """One state from several: lists are added up, of everything else the first that is told counts."""
    networks = [state.network for state in states if state.network is not None]
    network = _added(networks) if networks else None
    return msgspec.structs.replace(_added(states), network=network)


def _added(values: Sequence[S]) -> S:
    """One value from several of a kind: tuples are added up, of all else the first that is told counts."""
    told: dict[str, Any] = {}
    for name in values[0].__struct_fields__:
        fields = [getattr(value, name) for value in values]
        if isinstance(fields[0], tuple):
            told[name] = tuple(dict.fromkeys(item for field in fields for item in field))
        else:
            # A no is worth more than nothing, and a yes more than a no.
            known = [field for field in fields if field is not None] or fields
            told[name] = next((field for field in known if field), known[0])
    return msgspec.structs.replace(values[0], **told)
