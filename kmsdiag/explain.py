"""What kmsdiag knows of one word: a code, an event, a topic, a check, a finding or a cause. Pure.

The knowledge is that of :mod:`kmsdiag.knowledge` and of the checks themselves; nothing is added here but the choice
of what was meant.
"""

import difflib
import re
import string
from collections.abc import Callable, Iterable, Sequence

from kmsdiag.knowledge import codes, events, topics
from kmsdiag.knowledge.cause_text import CauseText
from kmsdiag.knowledge.causes import CAUSES
from kmsdiag.knowledge.codes import CODES, ErrorCode
from kmsdiag.knowledge.events import Event
from kmsdiag.knowledge.topics import TOPICS, Topic
from kmsdiag.model.explanation import Entry, Explained, Kind, Listing, PossibleCause
from kmsdiag.model.fix import Fix, Where
from kmsdiag.model.path import FixView
from kmsdiag.registry import LoadedCheck, Registry

_EVENT = re.compile(r"(?:event)?\s*(?:id)?\s*([0-9]{1,5})", re.IGNORECASE)
_HOW = (
    "Ask about an error code in any spelling (0xC004F074, C004F074, -1073418124), an event ID (12288), a check, one of"
    " its codes or a cause (tcp_reachable, tcp_reachable.timed_out, tcp.timeout), or a topic:"
)
_UNNAMED = "Windows has its own words for it, and the code stands in the events 12288 and 12289 of the client."


class NothingKnownError(LookupError):
    """The word is nothing that kmsdiag knows; ``near`` are names that are spelt like it."""

    def __init__(self, asked: str, near: Sequence[str]) -> None:
        self.near = tuple(near)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        super().__init__(f"nothing is known of {asked!r}{hint}")


def separate(words: Sequence[str]) -> list[str]:
    """What is asked about, one thing an item: words that together name a topic are one."""
    whole = " ".join(words)
    return [whole] if topics.find_topic(whole) is not None else list(words)


def explain(asked: str, checks: Callable[[], Registry]) -> Explained:
    """What is known of a word; ``checks`` is called only where it is no code, event, topic or cause.

    A number of up to five digits is an event of the licensing service, else a Win32 error.

    Raises:
        NothingKnownError: it is nothing.
    """
    word = asked.strip()
    if (code := codes.find(word)) is not None:
        return _code(word, code)
    number = _EVENT.fullmatch(word)
    if number is not None and (event := events.find_event(int(number[1]))) is not None:
        return _event(word, event)
    if (topic := topics.find_topic(word)) is not None:
        return _topic(word, topic)
    if number is not None and codes.win32_name(win32 := f"0x8007{int(number[1]) & 0xFFFF:04X}"):
        known = codes.find(win32)
        return _unknown_code(word, win32) if known is None else _code(word, known)
    if (unknown := codes.canonical(word)) is not None:
        return _unknown_code(word, unknown)
    if word in CAUSES:
        return _cause(word, CAUSES[word])
    return _of_a_check(word, checks())


def index(asked: str = "") -> Explained:
    """All topics, and how to ask."""
    rows = tuple(Entry(one.id, one.title) for one in TOPICS.values())
    return Explained(
        asked=asked,
        kind=Kind.INDEX,
        name="kmsdiag explain",
        title="what can be asked about",
        text=(_HOW,),
        listings=(Listing("topics", rows),),
    )


# ------------------------------------------------------------------------------------------------------- codes


def _code(asked: str, one: ErrorCode) -> Explained:
    return Explained(
        asked=asked,
        kind=Kind.CODE,
        name=one.code,
        title=one.meaning,
        facts=(
            *_named("name", one.name),
            Entry("layer", one.layer.words),
            Entry("shown on", " and ".join(f"the {side}" for side in one.sides)),
            Entry("parts", _parts(one.code)),
        ),
        causes=tuple(map(PossibleCause, one.causes, one.evidence)),
        fixes=_views(one.fixes, one.code),
        see=tuple(topic.id for topic in TOPICS.values() if one.code in topic.see),
        doubtful=one.doubtful,
        sources=one.sources,
    )


def _unknown_code(asked: str, code: str) -> Explained:
    flags = events.flags_in(int(code, 16))
    rows = tuple(Entry(one.code, one.meaning) for one in codes.nearest(code))
    listings = [Listing("near it", rows)] if rows else []
    if flags and int(code, 16) == sum(int(flag.value, 16) for flag in flags):
        entries = tuple(Entry(flag.value, f"{flag.name}: {flag.meaning}") for flag in flags)
        listings.insert(0, Listing("as status flags of 12288 and 12289", entries))
    return Explained(
        asked=asked,
        kind=Kind.UNKNOWN_CODE,
        name=code,
        title="kmsdiag has no text for this code",
        facts=(*_named("name", codes.win32_name(code)), Entry("parts", _parts(code))),
        text=(_UNNAMED,),
        listings=tuple(listings),
        fixes=_views((Fix(Where.CLIENT, "have Windows explain the code", "slui 0x2a <code>"),), code),
        see=("events",),
    )


def _parts(code: str) -> str:
    value = int(code, 16)
    signed = value - (1 << 32) if value >> 31 else value
    return f"{codes.decode(code)}; as a number {signed}"


def _named(label: str, text: str) -> tuple[Entry, ...]:
    return (Entry(label, text),) if text else ()


# ------------------------------------------------------------------------------------------- events and topics


def _event(asked: str, one: Event) -> Explained:
    number = f"event {one.id}"
    fields = tuple(Entry(str(place), events.FIELDS[name]) for place, name in enumerate(one.fields, 1))
    listings = [Listing('values after "Info:", separated by commas', fields)] if fields else []
    if "flags" in one.fields:
        flags = tuple(Entry(flag.value, f"{flag.name}: {flag.meaning}") for flag in events.FLAGS.values())
        listings.append(Listing("status flags", flags))
    if fields:
        both = tuple(Entry(f"{verdict.client}; {verdict.host}", verdict.meaning) for verdict in events.VERDICTS)
        listings.append(Listing("client's log; host's log", both))
    win32 = f"0x8007{one.id:04X}"
    return Explained(
        asked=asked,
        kind=Kind.EVENT,
        name=number,
        title=one.title,
        facts=(
            Entry("log", one.log),
            Entry("logged on", "client and host" if one.side == "both" else f"the {one.side}"),
            *_named("counts", "no: it says nothing about KMS" if one.noise else ""),
        ),
        text=(one.meaning,),
        causes=tuple(map(PossibleCause, one.causes)),
        listings=tuple(listings),
        fixes=_views(one.fixes),
        see=("events", *([win32] if win32 in CODES else [])),
        doubtful=one.doubtful,
        sources=one.sources,
    )


def _topic(asked: str, one: Topic) -> Explained:
    return Explained(
        asked=asked,
        kind=Kind.TOPIC,
        name=one.id,
        title=one.title,
        text=one.text,
        fixes=_views(one.fixes),
        see=one.see,
        doubtful=one.doubtful,
        sources=one.sources,
    )


# -------------------------------------------------------------------------------------------- checks and causes


def _cause(asked: str, one: CauseText) -> Explained:
    shown = ((one.screen, "on the screen"), (one.event, "in event 12288"))
    return Explained(
        asked=asked,
        kind=Kind.CAUSE,
        name=asked,
        title=_plain(one.headline),
        facts=tuple(
            Entry(label, f"{code.code} ({code.basis}): {codes.meaning(code.code)}")
            for code, label in shown
            if code is not None
        ),
        text=tuple(dict.fromkeys(_plain(text) for text in (one.text, one.captured) if text)),
        fixes=_views(one.fixes),
        see=tuple(code.code for code, _label in shown if code is not None),
    )


def _of_a_check(asked: str, registry: Registry) -> Explained:
    by_id = {check.id: check for check in registry.checks}
    name, _dot, code = asked.partition(".")
    check = by_id.get(name)
    if check is not None and not code:
        return _check(asked, check)
    if check is not None and code in check.module.META.codes:
        return _finding(asked, check, code)
    said = (f"{one.id}.{code}" for one in registry.checks for code in one.module.META.codes)
    raise NothingKnownError(asked, _near(asked, [*by_id, *CAUSES, *said]))


def _check(asked: str, check: LoadedCheck) -> Explained:
    meta = check.module.META
    rows = tuple(
        Entry(f"{check.id}.{name}", f"{code.severity}: {_plain(code.text)}") for name, code in meta.codes.items()
    )
    return Explained(
        asked=asked,
        kind=Kind.CHECK,
        name=check.id,
        title=meta.title,
        facts=(Entry("tags", ", ".join(sorted(meta.tags))), Entry("from", check.origin)),
        text=_manual(check),
        listings=(Listing("what it may say", rows),),
        sources=meta.references,
    )


def _manual(check: LoadedCheck) -> tuple[str, ...]:
    """The paragraphs of a check's manual page; the first is its title in a sentence."""
    return tuple(" ".join(part.split()) for part in re.split(r"\n\s*\n", check.docstring))


def _finding(asked: str, check: LoadedCheck, name: str) -> Explained:
    meta = check.module.META
    code = meta.codes[name]
    return Explained(
        asked=asked,
        kind=Kind.FINDING,
        name=f"{check.id}.{name}",
        title=_plain(code.text),
        facts=(Entry("severity", code.severity), Entry("check", meta.title)),
        text=(*([_plain(code.consequence)] if code.consequence else []), *_manual(check)[1:]),
        fixes=_views(code.fixes),
        see=(check.id,),
        sources=meta.references,
    )


def _near(asked: str, names: Iterable[str]) -> list[str]:
    """Names that are spelt like the word: topics first, since they are what a person guesses at."""
    close = [topic.id for topic in topics.close_topics(asked)]
    every = [*names, *(one.name for one in CODES.values() if one.name)]
    close += difflib.get_close_matches(asked, every, n=2, cutoff=0.75)
    return list(dict.fromkeys(close))[:3]


def _views(fixes: Iterable[Fix], code: str = "") -> tuple[FixView, ...]:
    """Fixes as they are: what would be filled in stands in angle brackets."""
    return tuple(
        FixView(fix.where.words, _plain(fix.text), _plain(fix.command).replace("<code>", code or "<code>"))
        for fix in fixes
    )


def _plain(template: str) -> str:
    """A template with the names of its values instead of them."""
    pieces = []
    for text, name, _spec, _conversion in string.Formatter().parse(template):
        pieces.append(text)
        if name is not None:
            pieces.append(f"<{name.replace('_', ' ')}>")
    return "".join(pieces)
