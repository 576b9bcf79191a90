"""One thing that breaks a path: the unit that live questions and captures share, and that becomes a cause."""

from typing import NamedTuple

from kmsdiag.model.finding import Args
from kmsdiag.model.outcome import Stage

NOWHERE = "–"
"""Stands for a domain or a target that a path has none of."""


class Fault(NamedTuple):
    """One thing that breaks at least one path; faults with the same code and thing are the same thing.

    ``captured`` says that it was seen in captures, and not met by a question put from here; ``clients`` are then the
    addresses of those that it hit, in ``attempts`` conversations.
    """

    code: str
    stage: Stage
    thing: str
    args: Args
    path: tuple[str, str, int]
    domain: str
    captured: bool = False
    clients: tuple[str, ...] = ()
    attempts: int = 0
