"""The lists of values that Windows puts into its activation events, field by field.

Order and meaning are Microsoft's ("Windows Event Log", table 11; "Volume Activation 2.0 Operations Guide"). How the
values are written varies: with or without a blank after the comma, ``0x0`` or ``0x00000000``, and dates year first
(``2010/09/29 17:52``) or month first (``1/14/2006 2:30``). A value that can't be read, such as a masked GUID, gives
None or "" and is named in ``unread``; the others count. Times are the client's own clock, UTC.
"""

import datetime
import functools
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

CLIENT_REQUEST: Final = 12288
"""Client: a request was sent, or making it failed."""
CLIENT_ANSWER: Final = 12289
"""Client: an answer was processed."""
HOST_REQUEST: Final = 12290
"""Host: a request was processed."""

FIELDS: Final = {CLIENT_REQUEST: 10, CLIENT_ANSWER: 8, HOST_REQUEST: 9}
"""How many values each list has."""

_GUID: Final = re.compile(r"\{?([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\}?\Z")
_DATE: Final = re.compile(
    r"([0-9]{1,4})([/.-])([0-9]{1,2})\2([0-9]{1,4})[T ]+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]+)?)?Z?\Z"
)


class RequestFields(NamedTuple):
    """Event 12288. ``host`` is ``name:port`` as logged, ``required`` N, the count that the client needs."""

    hresult: str
    flags: str
    host: str
    client_machine_id: str
    client_time: datetime.datetime | None
    virtual: bool | None
    license_status: int | None
    remaining_min: int | None
    activation_id: str
    required: int | None
    unread: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the HRESULT is a failure; one that can't be read is none."""
        return is_failure(self.hresult)


class AnswerFields(NamedTuple):
    """Event 12289. ``activated`` is the flag 1 or 0, ``current_count`` the host's current count."""

    hresult: str
    flags: str
    activated: bool | None
    current_count: int | None
    activation_interval_min: int | None
    renewal_interval_min: int | None
    client_time: datetime.datetime | None
    unread: tuple[str, ...] = ()


class HostFields(NamedTuple):
    """Event 12290. ``machine`` is the client's name as it gave it."""

    hresult: str
    required: int | None
    machine: str
    client_machine_id: str
    client_time: datetime.datetime | None
    virtual: bool | None
    license_status: int | None
    remaining_min: int | None
    activation_id: str
    unread: tuple[str, ...] = ()


def is_failure(hresult: str) -> bool:
    """Whether an HRESULT, written as "0x" and eight hexadecimal digits, is a failure (its first bit is set)."""
    return len(hresult) == 10 and hresult[2] in "89ABCDEF"


def hexadecimal(text: str) -> str:
    """A number such as ``0x0``, ``C004F074`` or ``-1073418124`` as "0x" and eight capital digits; "" for none."""
    text = text.strip()
    try:
        number = int(text, 16) if text[:2] in ("0x", "0X") or len(text) == 8 else int(text)
    except ValueError:
        return ""
    return f"0x{number & 0xFFFFFFFF:08X}" if -(1 << 31) <= number < 1 << 32 else ""


def guid(text: str) -> str:
    """A GUID in lower case without braces; "" for none."""
    found = _GUID.match(text.strip())
    return found[1].lower() if found else ""


@functools.lru_cache(maxsize=4096)
def client_time(text: str) -> datetime.datetime | None:
    """The client's time (UTC), year first or month first; None where it is no such time."""
    found = _DATE.match(text.strip())
    if found is None:
        return None
    first, second, third = int(found[1]), int(found[3]), int(found[4])
    year, month, day = (first, second, third) if len(found[1]) == 4 else (third, first, second)
    hour, minute, seconds = int(found[5]), int(found[6]), int(found[7] or 0)
    try:
        return datetime.datetime(year, month, day, hour, minute, seconds, tzinfo=datetime.UTC)
    except ValueError:
        return None


def values(info: str) -> list[str]:
    """The values of a list, without white space around them."""
    return [field.strip() for field in info.split(",")]


class _Reader:
    """Takes values by their place, and the names of those that can't be read."""

    def __init__(self, found: Sequence[str], count: int) -> None:
        self._values = [*found, *[""] * (count - len(found))]
        self.unread: list[str] = []

    def text(self, place: int) -> str:
        return self._values[place]

    def hexadecimal(self, place: int, name: str) -> str:
        return self._known(hexadecimal(self._values[place]), place, name)

    def guid(self, place: int, name: str) -> str:
        return self._known(guid(self._values[place]), place, name)

    def _known(self, found: str, place: int, name: str) -> str:
        if not found:
            self.unread.append(f"{name} '{self._values[place]}'")
        return found

    def number(self, place: int, name: str) -> int | None:
        value = self._values[place]
        if value.isascii() and value.isdecimal() and len(value) < 10:
            return int(value)
        self.unread.append(f"{name} '{value}'")
        return None

    def flag(self, place: int, name: str) -> bool | None:
        number = self.number(place, name)
        return None if number is None else number == 1

    def time(self, place: int) -> datetime.datetime | None:
        found = client_time(self._values[place])
        if found is None:
            self.unread.append(f"client time '{self._values[place]}'")
        return found


def is_list(info: str) -> bool:
    """Whether a text begins as such a list does: with a hexadecimal number and a comma."""
    first, comma, _rest = info.partition(",")
    return comma != "" and first[:2] in ("0x", "0X") and hexadecimal(first) != ""


def request(info: str) -> RequestFields | None:
    """The list of event 12288; None where it is none (fewer than nine values: the last one, N, came later)."""
    if not is_list(info) or info.count(",") < FIELDS[CLIENT_REQUEST] - 2:
        return None
    take = _Reader(values(info), FIELDS[CLIENT_REQUEST])
    has_need = info.count(",") >= FIELDS[CLIENT_REQUEST] - 1
    return RequestFields(
        hresult=take.hexadecimal(0, "HRESULT"),
        flags=take.hexadecimal(1, "flags"),
        host=take.text(2),
        client_machine_id=take.guid(3, "client machine ID"),
        client_time=take.time(4),
        virtual=take.flag(5, "VM information"),
        license_status=take.number(6, "licence status"),
        remaining_min=take.number(7, "minutes left"),
        activation_id=take.guid(8, "activation ID"),
        required=take.number(9, "N") if has_need else None,
        unread=tuple(take.unread),
    )


def answer(info: str) -> AnswerFields | None:
    """The list of event 12289; None where it is none (fewer than five values)."""
    if not is_list(info) or info.count(",") < 4:
        return None
    take = _Reader(values(info), FIELDS[CLIENT_ANSWER])
    return AnswerFields(
        hresult=take.hexadecimal(0, "HRESULT"),
        flags=take.hexadecimal(1, "flags"),
        activated=take.flag(2, "activated flag"),
        current_count=take.number(4, "count"),
        activation_interval_min=take.number(5, "activation interval"),
        renewal_interval_min=take.number(6, "renewal interval"),
        client_time=take.time(7),
        unread=tuple(take.unread),
    )


def host_request(info: str) -> HostFields | None:
    """The list of event 12290; None where it is none (fewer than nine values)."""
    if not is_list(info) or info.count(",") < FIELDS[HOST_REQUEST] - 1:
        return None
    return host_request_of(values(info))


def host_request_of(found: Sequence[str]) -> HostFields:
    """The values of event 12290, in their order and without white space around them."""
    take = _Reader(found, FIELDS[HOST_REQUEST])
    return HostFields(
        hresult=take.hexadecimal(0, "HRESULT"),
        required=take.number(1, "N"),
        machine=take.text(2),
        client_machine_id=take.guid(3, "client machine ID"),
        client_time=take.time(4),
        virtual=take.flag(5, "VM information"),
        license_status=take.number(6, "licence status"),
        remaining_min=take.number(7, "minutes left"),
        activation_id=take.guid(8, "activation ID"),
        unread=tuple(take.unread),
    )
