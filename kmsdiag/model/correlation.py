"""What client and host say about the same request, side by side: one row a product of a client."""

import datetime
from enum import StrEnum

import msgspec

from kmsdiag.model.outcome import State


class Fate(StrEnum):
    """What became of a client's last attempt, by the logs of both sides."""

    SUCCEEDED = "succeeded"
    COUNT_TOO_LOW = "count_too_low"
    REFUSED = "refused"
    LOST_THERE = "lost_there"
    """The client sent it, and the host's log of that time does not have it."""
    LOST_BACK = "lost_back"
    """The host processed it, and the client never got (or never took) the answer."""
    NOT_REACHED = "not_reached"
    """No connection came about, or no answer; no host's log tells which way it was lost."""
    NO_HOST = "no_host"
    """The client found no host to ask: DNS, or its own settings."""
    NOT_ACTIVATED = "not_activated"
    """The host answered, and the client was not content for another reason than the count."""
    ANSWERED = "answered"
    """Only the host's log has it: it answered with success, and whether that reached the client is not known."""
    OPEN = "open"
    """The logs end too early."""

    @property
    def state(self) -> State:
        """What it means for the client."""
        if self is Fate.SUCCEEDED:
            return State.OK
        return State.UNKNOWN if self in (Fate.ANSWERED, Fate.OPEN) else State.FAIL

    @property
    def words(self) -> str:
        """As a reader would say it."""
        return _WORDS[self]


_WORDS = {
    Fate.SUCCEEDED: "activated",
    Fate.COUNT_TOO_LOW: "the host's count is too low",
    Fate.REFUSED: "the host refused",
    Fate.LOST_THERE: "lost on the way to the host",
    Fate.LOST_BACK: "lost on the way back",
    Fate.NOT_REACHED: "no host reached",
    Fate.NO_HOST: "no host found",
    Fate.NOT_ACTIVATED: "answered, and not activated",
    Fate.ANSWERED: "answered by the host",
    Fate.OPEN: "the log ends",
}


class Correlation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One product of a client, and what both sides say about its last attempt.

    ``client`` is the machine's name, else its client machine ID; ``activation_id`` the product, "" where it is not
    told. ``host`` is as the client logged it, else the host's own name.
    ``hresult`` is the client's (12288, or 12289 where it was not content), ``host_hresult`` the host's (12290).
    ``attempts`` counts the client's in its log, ``requests`` those of its ID in the hosts' logs. ``captured`` says how
    the same client ended in packet captures, ``since`` when it was activated after that, by a file of its own.
    ``gaps`` are what makes this less than certain: logs that do not cover the
    time, an ID that several machines share.
    """

    client: str
    fate: Fate
    at: datetime.datetime | None = None
    client_machine_id: str = ""
    activation_id: str = ""
    host: str = ""
    hresult: str = ""
    host_hresult: str = ""
    count: int | None = None
    required: int | None = None
    attempts: int = 0
    requests: int = 0
    captured: str = ""
    since: datetime.datetime | None = None
    gaps: tuple[str, ...] = ()
