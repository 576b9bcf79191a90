"""Events of the licensing service: what each says, and the fields of those that are lists of values.

The records are in ``data/events.json``, from Microsoft's Table 11 ("Windows event log"), the Volume Activation 2.0
operations guide (pages 27 to 30) and articles on single events; each names its sources and its doubts.
"""

from typing import Final

import msgspec

from kmsdiag.knowledge import data
from kmsdiag.model.fix import Fix


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event ID. ``side`` is ``client``, ``host`` or ``both``; ``log`` the log that holds it.

    ``fields`` names the values after "Info:" in order, where there is such a list. ``noise``: it says nothing about
    KMS. ``causes`` are clauses: what stands behind it, or how to read its values.
    """

    id: int
    side: str
    log: str
    title: str
    meaning: str
    sources: tuple[str, ...]
    causes: tuple[str, ...] = ()
    fixes: tuple[Fix, ...] = ()
    fields: tuple[str, ...] = ()
    noise: bool = False
    doubtful: str = ""


class Flag(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One bit of the status flags in 12288 and 12289: its name, and a clause."""

    value: str
    name: str
    meaning: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client's log and the host's say together: three clauses."""

    client: str
    host: str
    meaning: str
    sources: tuple[str, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    events: tuple[Event, ...]
    flags: tuple[Flag, ...]
    verdicts: tuple[Verdict, ...]


_FILE: Final = data.read("events", _File)

EVENTS: Final = {one.id: one for one in _FILE.events}
"""By ID, sorted."""

FLAGS: Final = {int(one.value, 16): one for one in _FILE.flags}
"""Status flags of 12288 and 12289 by bit (operations guide, page 29)."""

VERDICTS: Final = _FILE.verdicts
"""How to read 12288 and 12289 of a client beside 12290 of its host."""


FIELDS: Final = {
    "hresult": "the code; 0x0 is no error",
    "flags": "status flags",
    "host": "host and port that were asked",
    "machine": "name of the client",
    "cmid": "client machine ID",
    "client_time": "the client's time, UTC",
    "vm": "1 in a virtual machine",
    "licence_status": "0 unlicensed, 1 licensed, 2 first grace, 3 additional grace, 4 non-genuine grace,"
    " 5 notification, 6 extended grace",
    "minutes_left": "minutes until that status ends",
    "activation_id": "the product",
    "n_policy": "the count that the client needs",
    "activated": "1 activated, 0 not",
    "unused": "unused",
    "count": "the host's count",
    "activation_interval": "minutes between attempts",
    "renewal_interval": "minutes between renewals",
}
"""What the values of 12288, 12289 and 12290 are (Table 11; operations guide, pages 27 to 29)."""


def find_event(number: int) -> Event | None:
    """What is known of an event ID of the licensing service."""
    return EVENTS.get(number)


def flags_in(value: int) -> tuple[Flag, ...]:
    """The known flags that are set in a value."""
    return tuple(flag for bit, flag in FLAGS.items() if value & bit)
