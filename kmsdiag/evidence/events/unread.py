"""What could not be read in events, and counters that stay small whatever a file holds."""

from collections.abc import Sequence
from typing import Final

from kmsdiag.evidence.escape import ascii_text

EXAMPLES: Final = 10
_LONGEST: Final = 300

OTHERS: Final = "others"
_DISTINCT: Final = 256


class Unread:
    """How many events have values that do not parse, and the first few as they were."""

    def __init__(self) -> None:
        self.count = 0
        self.examples: list[str] = []

    def add(self, number: int, machine: str, missing: Sequence[str], text: str, times: int = 1) -> None:
        """Take down an event of a machine, what of it can't be read, and its text."""
        self.count += times
        if len(self.examples) < EXAMPLES:
            where = f" of {machine}" if machine else ""
            what = ascii_text(f"{number}{where}: {', '.join(missing)} in: {' '.join(text.split())}", _LONGEST)
            if what not in self.examples:
                self.examples.append(what)

    def join(self, other: "Unread") -> None:
        """Add those of another file."""
        self.count += other.count
        new = [one for one in other.examples if one not in self.examples]
        self.examples = [*self.examples, *new][:EXAMPLES]


def tally(counter: dict[str, int], key: str, times: int = 1) -> None:
    """Count under a key, or under "others" where there are too many already."""
    if key in counter or len(counter) < _DISTINCT:
        counter[key] = counter.get(key, 0) + times
    else:
        counter[OTHERS] = counter.get(OTHERS, 0) + times
