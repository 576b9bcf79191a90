"""What kmsdiag knows of things that somebody asked about: codes, events, checks, causes, topics."""

from enum import StrEnum
from typing import Final

import msgspec

from kmsdiag.model.path import FixView

EXPLANATION_FORMAT: Final = 1
"""Number of the format of an explanation; it grows when a reader of the old one would misread the new one."""


class Kind(StrEnum):
    """What the thing is."""

    CODE = "code"
    UNKNOWN_CODE = "unknown code"
    EVENT = "event"
    TOPIC = "topic"
    CHECK = "check"
    FINDING = "finding"
    CAUSE = "cause"
    INDEX = "index"


class PossibleCause(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cause, and the evidence that would prove it ("" where it proves itself)."""

    text: str
    evidence: str = ""


class Entry(msgspec.Struct, frozen=True):
    """A name and what it stands for."""

    name: str
    text: str


class Listing(msgspec.Struct, frozen=True):
    """Entries under a title."""

    title: str
    entries: tuple[Entry, ...]


class Explained(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing. ``asked`` is how it was typed, ``name`` its own spelling; ``text`` holds paragraphs.

    ``facts`` are short values by label (layer, parts of a code, log). ``causes`` come likeliest first. ``see`` names
    what else can be asked about. ``doubtful`` says what of it is not sure.
    """

    asked: str
    kind: Kind
    name: str
    title: str
    facts: tuple[Entry, ...] = ()
    text: tuple[str, ...] = ()
    causes: tuple[PossibleCause, ...] = ()
    listings: tuple[Listing, ...] = ()
    fixes: tuple[FixView, ...] = ()
    see: tuple[str, ...] = ()
    doubtful: str = ""
    sources: tuple[str, ...] = ()


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """All that was asked about, in the order in which it was asked."""

    tool: str
    things: tuple[Explained, ...]
    format: int = EXPLANATION_FORMAT
