"""Topics of volume activation for ``kmsdiag explain``: intervals, thresholds, discovery, Office, Azure and their like.

The texts are in ``data/topics.json``; each names its sources, and what its sources do not agree on.
"""

import difflib
from typing import Final

import msgspec

from kmsdiag.knowledge import data
from kmsdiag.model.fix import Fix


class Topic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One topic. ``aliases`` are other words for it, ``text`` paragraphs, ``see`` further topics and codes."""

    id: str
    title: str
    aliases: tuple[str, ...]
    text: tuple[str, ...]
    fixes: tuple[Fix, ...]
    see: tuple[str, ...]
    sources: tuple[str, ...]
    doubtful: str = ""


TOPICS: Final = {one.id: one for one in data.read("topics", tuple[Topic, ...])}
"""By id, sorted."""


def words_of(text: str) -> str:
    """A question reduced to what is compared: small letters and digits, words separated by one space."""
    return " ".join("".join(sign if sign.isalnum() else " " for sign in text.casefold()).split())


_NAMES: Final = {words_of(name): one for one in TOPICS.values() for name in (one.id, one.title, *one.aliases)}


def find_topic(text: str) -> Topic | None:
    """The topic of that id, title or other word, however it is spelt in case, dashes and spaces."""
    return _NAMES.get(words_of(text))


def close_topics(text: str, most: int = 3) -> tuple[Topic, ...]:
    """Topics with a name that is spelt much like the text, or holds one of its words; the closest first."""
    wanted = words_of(text)
    close = difflib.get_close_matches(wanted, _NAMES, n=most, cutoff=0.7)
    own = {word for word in wanted.split() if len(word) > 3}
    close += [name for name in _NAMES if own & set(name.split())]
    return tuple(dict.fromkeys(_NAMES[name] for name in close))[:most]
