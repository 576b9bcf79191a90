"""Events in text: ``wevtutil qe /f:text``, ``Get-WinEvent | Format-List``, ``Get-EventLog``, and what people paste.

A text may hold anything else around them: prompts, output of other tools, the quoting of mails. Labels are English;
lists of values are known by their shape, and messages without a number by their English words.
"""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Final

from kmsdiag.evidence.events.json_export import RawEvent, event_of
from kmsdiag.evidence.events.kinds import NOISE, READ, TEXT, Event, by_text, domain_in, is_licensing
from kmsdiag.evidence.events.xml_export import events_in
from kmsdiag.knowledge import event_fields
from kmsdiag.knowledge.event_fields import FIELDS

_QUOTE: Final = re.compile(r"\A(?:[>|][ \t]?)+")
_EVENT: Final = re.compile(r"\s*Event\[[0-9]+\]:?\s*\Z")
_LABEL: Final = re.compile(
    r"\s*(?P<label>Log ?Name|Source|Provider ?Name|Provider|Date|Date and Time|Time ?Created|Time ?Generated|Event ?ID"
    r"|Id|InstanceId|Computer|Machine ?Name|Description|Message|Event|Info)\s*:(?:\s+(?P<value>.*))?\Z",
    re.IGNORECASE,
)
_OTHER_LABEL: Final = re.compile(
    r"\s*(?:Task(?: ?Category)?|TaskDisplayName|Level|LevelDisplayName|Keywords?|KeywordsDisplayNames|User(?: ?Name)?"
    r"|UserId|Opcode|OpcodeDisplayName|OpCode|Version|Qualifiers|RecordId|ProcessId|ThreadId|ProviderId|ContainerLog"
    r"|MatchedQueryIds|Bookmark|Properties|ActivityId|RelatedActivityId|Index|EntryType|Category|CategoryNumber"
    r"|ReplacementStrings|TimeWritten|UserName|Site|Container|Data|Event Xml|PS [^>]*>)\s*:.*\Z"
)
_SHORT: Final = re.compile(
    r"\s*(?:Event(?: ID)?\s+)?(?P<number>[0-9]{3,5})\s*[:=|-]\s*(?P<info>0[xX][0-9a-fA-F]{1,8}\s*,.*)\Z"
)
_PIPES: Final = re.compile(
    r"\s*(?P<log>[^|\n]{1,80}?)\s*\|\s*(?P<provider>[^|\n]{1,120}?)\s*\|\s*(?P<number>[0-9]{1,5})\s*\|\s*(?P<text>.*)\Z"
)
_DIGITS: Final = re.compile(r"[0-9]{1,2}\Z")
_LIST: Final = re.compile(r"\s*(0[xX][0-9a-fA-F]{1,8}\s*,.*)\Z")
_EMBEDDED: Final = re.compile(r"<Event(?=[\s>])|^[ \t]*\{(?=\s*\")", re.MULTILINE)
_LONGEST_EMBEDDED: Final = 1 << 16
_MOST_EMBEDDED: Final = 2000
_LONGEST: Final = 4000
_MOST: Final = 200_000
_WHOLE_MESSAGES: Final = frozenset({"description", "message"})
_MESSAGES: Final = _WHOLE_MESSAGES | {"info", "event"}
_STARTS: Final = frozenset({"logname", "timecreated"})


def read_text(text: str) -> list[RawEvent]:
    """All activation events in a text, in its order; [] where there are none. Never raises.

    Events as XML or JSON among other text are read too. Event Viewer copies an event as text with its XML below: it
    counts once. Noise is read only where its provider is told: three digits after "Id:" are in every second text.
    """
    found, rest = _embedded(text)
    known = {(event.number, event.text.strip()) for event in found}
    for block in _blocks(rest):
        found += (event for event in block.events() if (event.number, event.text) not in known)
        if len(found) >= _MOST:
            break
    return found


def _embedded(text: str) -> tuple[list[RawEvent], str]:
    """Activation events that stand in a text as XML or JSON, and the text without them."""
    found: list[RawEvent] = []
    kept: list[str] = []
    place = 0
    for begin in itertools.islice(_EMBEDDED.finditer(text), _MOST_EMBEDDED):
        if begin.start() < place:
            continue
        event, end = _xml_at(text, begin.start()) if begin[0].startswith("<") else _json_at(text, begin.end() - 1)
        if event is not None and (event.number in READ or event.number in NOISE) and is_licensing(event.provider):
            found.append(event)
            kept.append(text[place : begin.start()])
            place = end
    return found, "".join([*kept, text[place:]])


def _xml_at(text: str, begin: int) -> tuple[RawEvent | None, int]:
    end = text.find("</Event>", begin, begin + _LONGEST_EMBEDDED)
    events = events_in(text[begin : end + len("</Event>")]) if end > 0 else []
    return (events[0] if events else None), end + len("</Event>")


def _json_at(text: str, begin: int) -> tuple[RawEvent | None, int]:
    try:
        value, length = json.JSONDecoder().raw_decode(text[begin : begin + _LONGEST_EMBEDDED])
    except (ValueError, RecursionError):
        return None, begin
    return (event_of(value) if isinstance(value, dict) else None), begin + length


class _Block:
    """The lines of one event so far."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.lines: list[str] = []
        self.said = False
        """A message was begun."""
        self.listed = False
        """A list of values was met."""

    def add(self, line: str) -> None:
        """Add a line."""
        name, value = _label_of(line)
        if name in _MESSAGES:
            self.said = True
            if value:
                self._put(value)
        elif name:
            if not self.fields and not self.said:
                # What stood before is no part of it.
                self.lines.clear()
                self.listed = False
            self.fields[name] = value
        elif not _OTHER_LABEL.match(line) and not _EVENT.match(line):
            self.said = self.said or TEXT.search(line) is not None
            self._put(line.rstrip())

    def _put(self, line: str) -> None:
        self.listed = self.listed or _LIST.match(line) is not None
        self.lines.append(line)
        del self.lines[:-200]

    def events(self) -> Iterator[RawEvent]:
        """The event, where it is one that is read or known as noise."""
        number, provider = self._number(), self._first("source", "providername", "provider")
        message = self._message()
        known = by_text(message)
        if known and (number not in READ or not provider):
            number = known
        info = _list_in(self.lines, number)
        if not number:
            number = _by_list(info)
        certain = bool(provider) and is_licensing(provider)
        # The numbers stand for other things elsewhere, and in most texts for nothing.
        if number in NOISE and not certain:
            return
        if number in READ and not (certain or known or info or number == Event.ACTIVATION_FAILED):
            return
        if number in READ or number in NOISE:
            time = self._first("timecreated", "timegenerated", "date", "dateandtime")
            yield RawEvent(number, time, self._first("computer", "machinename"), provider, info or message)

    def _first(self, *names: str) -> str:
        return next((self.fields[name] for name in names if self.fields.get(name)), "")

    def _number(self) -> int:
        for name in ("eventid", "id", "instanceid"):
            value = self.fields.get(name, "").split(" ")[0]
            if value.isascii() and value.isdecimal() and len(value) <= 10:
                return int(value) & 0xFFFF
        return 0

    def _message(self) -> str:
        """The message; where a console wrapped it, in the way in which it makes sense."""
        lines = [line.strip() for line in self.lines]
        ways = ["\n".join(lines).strip(), " ".join(lines), "".join(lines)]
        return next((way for way in ways if domain_in(way) or by_text(way) in FIELDS), ways[0])


def _list_in(lines: Sequence[str], number: int) -> str:
    """The list of values, put together where it was wrapped; "" where there is none."""
    for place, line in enumerate(lines):
        found = _LIST.match(line)
        if found is not None:
            info = found[1].strip()
            for following in lines[place + 1 : place + 6]:
                more = following.strip()
                # A console cuts at blanks, or anywhere.
                best = min((info, f"{info}{more}", f"{info} {more}"), key=lambda one: _lacks(one, number))
                if not more or (best == info and not (number == Event.CLIENT_REQUEST and _DIGITS.match(more))):
                    break
                info = best if best != info else info + more
            return info
    return ""


def _by_list(info: str) -> int:
    """The number of the event that a list of values without any other words is of; 0 where it is of none."""
    values = event_fields.values(info)
    if len(values) == FIELDS[Event.CLIENT_ANSWER]:
        return Event.CLIENT_ANSWER if values[2] in ("0", "1") and event_fields.client_time(values[7]) else 0
    if len(values) < FIELDS[Event.HOST_REQUEST] or not event_fields.guid(values[3]):
        return 0
    if len(values) == FIELDS[Event.CLIENT_REQUEST] and event_fields.hexadecimal(values[1]):
        return Event.CLIENT_REQUEST
    return Event.HOST_REQUEST if len(values) == FIELDS[Event.HOST_REQUEST] and values[1].isdecimal() else 0


def _lacks(info: str, number: int) -> int:
    """How many values a list lacks, or has that can't be read."""
    read = {Event.CLIENT_ANSWER: event_fields.answer, Event.HOST_REQUEST: event_fields.host_request}.get(
        Event(number) if number in READ else Event.CLIENT_REQUEST, event_fields.request
    )
    fields = read(info)
    missing = max(FIELDS.get(number, 0) - info.count(",") - 1, 0)
    return 100 + missing if fields is None else len(fields.unread) + missing


def _blocks(text: str) -> Iterator[_Block]:
    """The text in blocks of which each may be an event."""
    block, blank = _Block(), False
    for raw in text.splitlines():
        line = _QUOTE.sub("", raw[:_LONGEST])
        alone = _alone(line)
        if alone is not None:
            yield block
            yield alone
            block = _Block()
        else:
            if _begins(line, block, blank=blank):
                yield block
                block = _Block()
            block.add(line)
        blank = not line.strip()
    yield block


def _alone(line: str) -> _Block | None:
    """An event that is one line: its number and list, or a row of a table."""
    short, block = _SHORT.match(line), _Block()
    if short is not None and int(short["number"]) in FIELDS:
        block.fields["eventid"] = short["number"]
        block.lines = [short["info"]]
        return block
    pipes = _PIPES.match(line.strip()) if line.count("|") >= 3 else None
    if pipes is None:
        return None
    block.fields = {"eventid": pipes["number"], "source": pipes["provider"]}
    block.lines = [pipes["text"]]
    return block


def _begins(line: str, block: _Block, *, blank: bool) -> bool:
    """Whether a line is the first one of another event than the block's; ``blank``: an empty line stands before."""
    if _EVENT.match(line):
        return True
    name, _value = _label_of(line)
    if not name:
        return (TEXT.search(line) is not None or _LIST.match(line) is not None) and block.listed
    if name in _MESSAGES:
        return name in _WHOLE_MESSAGES and block.listed
    # A label that comes again belongs to the next event.
    return name in block.fields or (blank and bool(block.lines) and (name in _STARTS or block.listed))


def _label_of(line: str) -> tuple[str, str]:
    """The label of a line in lower case and without blanks, and what follows it; "" where there is none."""
    found = _LABEL.match(line)
    return ("", "") if found is None else (re.sub(r"\s", "", found["label"]).lower(), (found["value"] or "").strip())
