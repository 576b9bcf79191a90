"""Text of other people's files, made fit to be shown: printable ASCII, of bounded length, without product keys."""

import re
from collections.abc import Iterable
from typing import Final

TEXT_LIMIT: Final = 255
"""Characters kept of a text: what the longest DNS name needs."""

NOTE_LIMIT: Final = 200
MOST_NOTES: Final = 20

_KEY: Final = re.compile(r"(?<![0-9A-Za-z])[0-9A-Za-z]{5}(?:\s*-\s*[0-9A-Za-z]{5}){4}(?![0-9A-Za-z])")


def ascii_text(text: str, limit: int = TEXT_LIMIT) -> str:
    r"""The text in printable ASCII, anything else written as ``\xNN`` or ``\u{N}``, cut at ``limit`` characters."""
    if len(text) > limit:
        text = text[:limit]
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_escaped, text))
    return text if len(text) <= limit else text[:limit]


def _escaped(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{{{number:x}}}"


def without_keys(text: str) -> str:
    """The text without anything that has the form of a product key."""
    return _KEY.sub("(product key)", text) if "-" in text else text


def quoted(text: str, limit: int = 80) -> str:
    """A piece of a file as a note quotes it."""
    words = without_keys(" ".join(text.split()))
    return f'"{ascii_text(words, limit)}{" ..." if len(words) > limit else ""}"'


def notes(sentences: Iterable[str]) -> tuple[str, ...]:
    """Notes, each once and of bounded length; the last one says how many more there were."""
    every = list(dict.fromkeys(ascii_text(without_keys(one), NOTE_LIMIT) for one in sentences))
    if len(every) > MOST_NOTES:
        every[MOST_NOTES - 1 :] = [f"{len(every) - MOST_NOTES + 1:,} more oddities are not listed"]
    return tuple(every)
