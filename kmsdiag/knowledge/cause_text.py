"""What a cause is called, what a Windows client shows for it, and what to do next: the shape of each text.

Texts are templates over the args that :mod:`kmsdiag.path`, :mod:`kmsdiag.observed` and :mod:`kmsdiag.reported` give; a
fix whose template needs an arg that is not there (no DNS record behind an explicit host) does not apply, and is left
out.
"""

import msgspec

from kmsdiag.model.fix import Fix
from kmsdiag.model.path import Basis, ClientCode


class CauseText(msgspec.Struct, frozen=True, kw_only=True):
    """Headline (a clause), text (a sentence or two), the code on screen and in event 12288, and fixes in order.

    ``captured`` is the text for captures, where it is another one.
    """

    headline: str
    text: str
    captured: str = ""
    screen: ClientCode | None = None
    event: ClientCode | None = None
    fixes: tuple[Fix, ...] = ()


def documented(code: str) -> ClientCode:
    """A code that a Microsoft text ties to the failure."""
    return ClientCode(code, Basis.DOCUMENTED)


def inferred(code: str) -> ClientCode:
    """A code whose Win32 number says so, and nothing else."""
    return ClientCode(code, Basis.INFERRED)
