"""Events as XML: exported by Event Viewer, or written by ``wevtutil qe`` (``/f:xml``, ``/f:RenderedXml``).

The text is cut at the end of each event, and a few hundred events at a time are parsed below a root of our own. So no
file is held as a whole, a damaged event is one event less, and no document type can declare entities: there is none
inside of an element.
"""

import io
import re
from typing import Final
from xml.etree.ElementTree import Element, ParseError, fromstring

from kmsdiag.evidence.events.digest import EventDigest
from kmsdiag.evidence.events.json_export import RawEvent
from kmsdiag.evidence.events.times import Times

_PIECE: Final = 1 << 18
_LONGEST: Final = 1 << 20
_BEGIN: Final = re.compile(r"<Event(?=[\s>])")
_END: Final = "</Event>"
_ILLEGAL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


def read_xml(stream: io.TextIOBase, digest: EventDigest) -> None:
    """Read a whole file into a digest; events that can't be parsed are passed over, and noted."""
    reader = _XmlEvents(digest)
    rest = ""
    while piece := stream.read(_PIECE):
        rest += piece
        end = rest.rfind(_END)
        if end >= 0:
            reader.take(rest[: end + len(_END)])
            rest = rest[end + len(_END) :]
        elif len(rest) > _LONGEST:
            reader.bad("it is longer than 1 MiB")
            rest = rest[-len(_END) :]
    if _BEGIN.search(rest):
        digest.note(f"it ends within event {reader.number + 1:,}")
    reader.finish()


class _XmlEvents:
    """Parses whole events. ``number`` counts them."""

    def __init__(self, digest: EventDigest) -> None:
        self.number = 0
        self._digest = digest
        self._times = Times()
        self._bad = 0
        self._first_bad = ""

    def take(self, text: str) -> None:
        """Some events, and what is around them."""
        text = _ILLEGAL.sub("\ufffd", text)
        begin = _BEGIN.search(text)
        if begin is None:
            return
        found = _parsed(text[begin.start() :])
        if isinstance(found, str):
            for one in text.split(_END)[:-1]:
                self._alone(one)
        else:
            for event in found:
                if _name(event) == "Event":
                    self._event(event)

    def _alone(self, text: str) -> None:
        """One event of a piece in which something is wrong."""
        starts = [found.start() for found in _BEGIN.finditer(text)]
        # The start of an event that has no end may stand before.
        found = _parsed(text[starts[-1] :] + _END) if starts else "it has no beginning"
        if isinstance(found, str):
            self.number += 1
            self.bad(found)
        else:
            for event in found:
                self._event(event)

    def bad(self, why: str) -> None:
        """An event that can't be read."""
        self._bad += 1
        self._first_bad = self._first_bad or f"event {self.number:,}: {why}"

    def finish(self) -> None:
        """All is read."""
        if self._bad:
            self._digest.note(f"{self._bad:,} events could not be read, the first of them {self._first_bad}")
        if self._times.unread:
            self._digest.note(f"{self._times.unread:,} times are in no format that is read here", damaged=False)
        self._digest.zone_assumed = self._digest.zone_assumed or self._times.assumed

    def _event(self, element: Element) -> None:
        self.number += 1
        event = _event_of(element)
        if event is None:
            self.bad("it has no number")
        else:
            at = self._times.read(event.time)
            self._digest.take(event.number, at, event.machine, event.provider, event.text)


def events_in(text: str) -> list[RawEvent]:
    """The events in a piece of XML without a root; [] where it can't be parsed."""
    found = _parsed(_ILLEGAL.sub("\ufffd", text))
    return [] if isinstance(found, str) else [one for element in found if (one := _event_of(element)) is not None]


def _event_of(element: Element) -> RawEvent | None:
    """The event of an element; None where it has no number."""
    number, time, machine, provider, rendered = "", "", "", "", ""
    values: list[str] = []
    for part in element:
        name = _name(part)
        if name == "System":
            number, time, machine, provider = _system(part)
        elif name in ("EventData", "UserData"):
            values += [text for one in part.iter() if not len(one) and (text := (one.text or "").strip())]
        elif name == "RenderingInfo":
            rendered = next(((one.text or "") for one in part if _name(one) == "Message"), "")
    if not (number.isascii() and number.isdecimal()) or len(number) > 10:
        return None
    return RawEvent(int(number) & 0xFFFF, time, machine, provider, "\n".join(values) or rendered)


def _system(part: Element) -> tuple[str, str, str, str]:
    """Number, time, computer and provider."""
    number, time, machine, provider = "", "", "", ""
    for one in part:
        what = _name(one)
        if what == "EventID":
            number = (one.text or "").strip()
        elif what == "TimeCreated":
            time = one.get("SystemTime", "")
        elif what == "Computer":
            machine = (one.text or "").strip()
        elif what == "Provider":
            provider = one.get("Name") or one.get("EventSourceName") or ""
    return number, time, machine, provider


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _parsed(text: str) -> Element | str:
    """The element around these events, or what is wrong with them."""
    try:
        return fromstring(f"<all>{text}</all>")  # noqa: S314  # see above
    except ParseError as error:
        return str(error)
    except (ValueError, RecursionError, MemoryError) as error:
        return type(error).__name__
