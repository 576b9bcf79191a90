"""One thing that breaks a path: the unit that live questions and captures share, and that becomes a cause."""

from typing import NamedTuple

from kmsdiag.model.finding import Args
from kmsdiag.model.fix import Fix
from kmsdiag.model.outcome import Stage
from kmsdiag.model.path import ClientCode

NOWHERE = "–"
"""Stands for a domain or a target that a path has none of."""


class Fault(NamedTuple):
    """One thing that breaks at least one path; faults with the same code and thing are the same thing.

    ``captured`` says that it was seen in captures, ``reported`` that files say so which others collected; else a
    question put from here met it. ``clients`` are then those that it hit, by address or name, in ``attempts``
    conversations. ``screen`` and ``event`` are codes that were reported, ``fixes`` what to do about them; where there
    are none, those of the cause's text count.
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
    reported: bool = False
    screen: ClientCode | None = None
    event: ClientCode | None = None
    fixes: tuple[Fix, ...] = ()
