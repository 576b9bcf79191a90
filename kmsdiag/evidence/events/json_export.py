"""Events as JSON: ``Get-WinEvent`` or ``Get-EventLog`` through ``ConvertTo-Json``, and tools that keep the XML's parts.

Objects are decoded one by one, so that a large array is never held as a whole.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from kmsdiag.evidence.events.digest import EventDigest
from kmsdiag.evidence.events.times import Times

_PIECE: Final = 1 << 18
_LONGEST: Final = 4 << 20
_DAMAGES: Final = 100
"""Damaged objects after which a file is given up: each costs a look at all that was read."""
_OBJECT: Final = re.compile(r"\{")
_FOLLOWING: Final = re.compile(r"\n\s*\{|\},\s*\{")
_DECODER: Final = json.JSONDecoder()


class RawEvent(NamedTuple):
    """An event as it was found: number, time as written, computer, provider, and message or values, a line each."""

    number: int
    time: str
    machine: str
    provider: str
    text: str


def read_json(stream: io.TextIOBase, digest: EventDigest) -> None:
    """Read a whole file into a digest; what is no event is passed over, and noted."""
    times, bad, count = Times(), 0, 0
    for found in _objects(stream, digest):
        count += 1
        event = event_of(found)
        if event is None:
            bad += 1
        else:
            digest.take(event.number, times.read(event.time), event.machine, event.provider, event.text)
    if bad:
        digest.note(f"{bad:,} of {count:,} objects are no events", damaged=False)
    if times.unread:
        digest.note(f"{times.unread:,} times are in no format that is read here", damaged=False)
    digest.zone_assumed = digest.zone_assumed or times.assumed


def _objects(stream: io.TextIOBase, digest: EventDigest) -> Iterator[Mapping[str, Any]]:
    """The objects of an array, of lines, or one after the other."""
    rest, place, damages = "", 0, 0
    more = True
    while True:
        found = _OBJECT.search(rest, place)
        if found is None:
            rest, place = "", 0
            if not more:
                return
        else:
            try:
                value, place = _DECODER.raw_decode(rest, found.start())
            except (ValueError, RecursionError):
                place = found.start()
                if not more or len(rest) - place > _LONGEST:
                    digest.note("it holds something that is no JSON, or ends within an object")
                    # What stands inside of a damaged object is no event of its own, but the next one may be whole.
                    following = _FOLLOWING.search(rest, place + 1)
                    damages += 1
                    if following is None or damages >= _DAMAGES:
                        return
                    place = following.end() - 1
                    continue
            else:
                yield value
                continue
        piece = stream.read(max(_PIECE, len(rest) - place))
        more = bool(piece)
        rest, place = rest[place:] + piece, 0


def event_of(found: Mapping[str, Any]) -> RawEvent | None:
    """The event in an object; None where it is none. Names of fields may be in any case."""
    fields = _lower(found)
    whole = fields.get("event")
    if isinstance(whole, Mapping):
        fields = _lower(whole)
    system = fields.get("system")
    if isinstance(system, Mapping):
        return _by_parts(_lower(system), fields)
    number = _number(fields, "id", "eventid", "instanceid")
    if number is None:
        return None
    text = _text(fields.get("message")) or "\n".join(
        _values(fields.get("properties")) or _values(fields.get("replacementstrings"))
    )
    time = _time(fields.get("timecreated") or fields.get("timegenerated") or fields.get("timewritten"))
    machine = _text(fields.get("machinename")) or _text(fields.get("computer"))
    return RawEvent(number, time, machine, _text(fields.get("providername")) or _text(fields.get("source")), text)


def _by_parts(system: Mapping[str, Any], fields: Mapping[str, Any]) -> RawEvent | None:
    number = _number(system, "eventid", "event_id")
    if number is None:
        return None
    provider = system.get("provider")
    if isinstance(provider, Mapping):
        provider = _lower(_lower(provider).get("#attributes") or provider).get("name")
    time = system.get("timecreated") or system.get("time_created")
    if isinstance(time, Mapping):
        time = _lower(_lower(time).get("#attributes") or time).get("systemtime")
    data = fields.get("eventdata") or fields.get("event_data") or fields.get("userdata")
    text = "\n".join(_values(data)) or _text(fields.get("message"))
    return RawEvent(number, _time(time), _text(system.get("computer")), _text(provider), text)


def _lower(found: Any) -> Mapping[str, Any]:
    return {str(key).lower(): value for key, value in found.items()} if isinstance(found, Mapping) else {}


def _number(fields: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = fields.get(name)
        if isinstance(value, Mapping):
            value = value.get("#text")
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 10:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32:
            # Event log entries of older interfaces carry severity and qualifiers above the number.
            return value & 0xFFFF
    return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> str:
    if isinstance(value, Mapping):
        # PowerShell 5.1 adds properties to a date: {"value": "/Date(...)/", "DateTime": "..."}
        value = _lower(value).get("value")
    return _text(value)


def _values(value: object, depth: int = 0) -> list[str]:
    """All texts and numbers in there, in their order; names of fields don't matter."""
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, bool) or value is None or depth > 5:
        return []
    if isinstance(value, int | float):
        return [str(value)]
    if isinstance(value, Mapping):
        return [one for key, inner in value.items() if key != "#attributes" for one in _values(inner, depth + 1)]
    if isinstance(value, list):
        return [one for inner in value for one in _values(inner, depth + 1)]
    return []
