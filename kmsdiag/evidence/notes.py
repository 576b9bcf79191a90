"""Notes about what a file holds and nobody could read: each once, short, and not too many."""

from collections.abc import Iterable
from typing import Final

from kmsdiag.evidence.escape import ascii_text

MOST_NOTES: Final = 20
NOTE_LIMIT: Final = 199
"""Characters of a note."""


def bounded(notes: Iterable[str]) -> tuple[str, ...]:
    """The notes as an answer keeps them; what is too much is counted in the last one."""
    found = list(dict.fromkeys(ascii_text(" ".join(note.split()), NOTE_LIMIT) for note in notes if note.strip()))
    if len(found) <= MOST_NOTES:
        return tuple(found)
    return (*found[: MOST_NOTES - 1], f"and {len(found) - MOST_NOTES + 1:,} more notes like these")
