"""What is to come: of clients whose licence is known, and of hosts whose machines are planned."""

import datetime
from enum import StrEnum
from typing import Final

import msgspec

FORECAST_FORMAT: Final = 1
"""Number of the format of a forecast; it grows when a reader of the old one would misread the new one."""


class Reading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was read about one product at one moment: all that a client's forecast rests on.

    ``status`` is a LicenseStatus (0 to 6; -1 not told). ``remaining`` are minutes until that status ends, None where
    they are not told; below 1 it ended that long ago. Intervals are minutes, 0 where they are not told.
    ``collected_at`` is UTC; without it nothing has a date. ``directory``: Active Directory activated it.
    """

    name: str = ""
    product: str = ""
    status: int = 1
    remaining: int | None = None
    activation_interval: int = 0
    renewal_interval: int = 0
    collected_at: datetime.datetime | None = None
    directory: bool = False


class StepKind(StrEnum):
    """Things that happen to a client."""

    ACTIVATED = "activated"
    TRY = "try"
    RENEWAL = "renewal"
    WARNING = "warning"
    END = "end"


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of them. ``minutes`` count from the reading, negative for what lies before it; ``at`` is UTC where known.

    ``latest``: it comes within that time, when exactly is not known. ``past``: it lies before the moment of the
    forecast.
    """

    kind: StepKind
    minutes: int
    text: str
    at: datetime.datetime | None = None
    latest: bool = False
    past: bool = False


class ClientForecast(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One product of one client, if its host stays as it is. ``steps`` are in the order of time.

    ``elapsed`` are the minutes since its last success where they follow from what is left. ``late``: minutes by which
    its renewal is overdue. ``tries`` is how often it can still ask before the end.
    """

    reading: Reading
    status: str
    steps: tuple[Step, ...] = ()
    elapsed: int | None = None
    late: int = 0
    tries: int = 0
    notes: tuple[str, ...] = ()


class CountState(StrEnum):
    """What a planned count means for machines that meet it."""

    MET = "met"
    TOO_FEW = "too few"
    RESERVE = "reserve"
    NO_HOST = "no host"


class HostCount(msgspec.Struct, frozen=True, kw_only=True):
    """Planned machines of one kind at hosts that get equally many. ``count`` is what each of ``hosts`` will show."""

    kind: str
    planned: int
    needed: int
    hosts: tuple[str, ...]
    count: float
    state: CountState


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Clients and planned counts. ``notes`` say what the figures rest on, and what is not sure."""

    tool: str
    clients: tuple[ClientForecast, ...] = ()
    counts: tuple[HostCount, ...] = ()
    notes: tuple[str, ...] = ()
    format: int = FORECAST_FORMAT
