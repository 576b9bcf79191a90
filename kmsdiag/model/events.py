"""What event logs say about activation: one digest for all logs of a run, and the attempts behind it.

It grows with machines, never with rows. All text is printable ASCII. Machines are called as their logs call them
(``Computer``), client machine IDs (CMID) are lower-case GUIDs, HRESULTs are "0x" and eight capital hexadecimal digits,
times are UTC. Fields follow Microsoft's "Windows Event Log", table 11, for volume activation.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from kmsdiag.model.answer import Answer
from kmsdiag.model.target import Utc


class AttemptEnd(StrEnum):
    """How an activation attempt of a client ended, as far as its own log tells."""

    ACTIVATED = "activated"
    """12289 with flag 1."""
    NOT_ACTIVATED = "not_activated"
    """12289 with flag 0: the host answered, and the client was not content (mostly: the count is too low)."""
    FAILED = "failed"
    """12288 with an HRESULT that is a failure."""
    NOT_ANSWERED = "not_answered"
    """12288 without failure, and no 12289 before the next one."""
    OPEN = "open"
    """The log ends right after it."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A request of a client (12288), and the answer it processed (12289) before its next request.

    ``host`` is ``name:port`` as it was logged; ``client_time`` the client's own clock in the event, where it parses.
    ``required`` is N, the count that the client needs; ``count`` what the host said. Minutes are the remaining ones.
    """

    at: Utc
    end: AttemptEnd
    host: str = ""
    hresult: str = ""
    flags: str = ""
    client_machine_id: str = ""
    activation_id: str = ""
    client_time: Utc | None = None
    required: int | None = None
    license_status: int | None = None
    remaining_min: int | None = None
    answered_at: Utc | None = None
    answer: str = ""
    answer_flags: str = ""
    count: int | None = None
    activation_interval_min: int | None = None
    renewal_interval_min: int | None = None


class ClientEvents(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The licensing events of one client's log.

    ``ends`` counts attempts by :class:`AttemptEnd`, ``hresults`` the requests' codes, ``hosts`` requests by
    ``name:port``, ``failures`` events 8198 and failed attempts of the rules engine (8233) by their HRESULT. ``latest``
    are the newest attempts, at most 50, and the last one of each product (at most 64), oldest first. ``by_directory``
    counts activations by Active Directory (12308), ``orphans`` answers (12289) without request.
    """

    machine: str
    attempts: int = 0
    first: Utc | None = None
    last: Utc | None = None
    ends: Mapping[str, int] = {}
    hresults: Mapping[str, int] = {}
    hosts: Mapping[str, int] = {}
    client_machine_ids: tuple[str, ...] = ()
    activation_ids: tuple[str, ...] = ()
    latest: tuple[Attempt, ...] = ()
    failures: Mapping[str, int] = {}
    by_directory: int = 0
    by_directory_last: Utc | None = None
    orphans: int = 0


class HostRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One request that a host processed (12290)."""

    at: Utc
    hresult: str
    machine: str = ""
    client_time: Utc | None = None
    required: int | None = None
    license_status: int | None = None
    remaining_min: int | None = None
    activation_id: str = ""


class Requester(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One client machine ID in one host's log: all its requests together.

    ``machines`` are the names that it came with, at most eight, ``names`` how many there are; ``required`` N by number
    of requests. ``requests_in_detail`` are the newest ones (at most 200, oldest first) where the ID is one of those
    that client files of the same run have.
    """

    host: str
    client_machine_id: str
    requests: int
    first: Utc
    last: Utc
    machines: tuple[str, ...] = ()
    names: int = 0
    hresults: Mapping[str, int] = {}
    required: Mapping[str, int] = {}
    activation_ids: tuple[str, ...] = ()
    virtual: bool | None = None
    last_hresult: str = ""
    requests_in_detail: tuple[HostRequest, ...] = ()


def greatest(needs: Mapping[str, int]) -> int | None:
    """The greatest N of counts by N; None where none is a number (what is too much to count is under "others")."""
    return max((int(need) for need in needs if need.isdecimal()), default=None)


class Publishing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a host logged about publishing itself in one domain: 12294 (success), 12293 (failure), the last of each."""

    domain: str
    published: int = 0
    published_last: Utc | None = None
    failed: int = 0
    failed_last: Utc | None = None
    hresult: str = ""


class HostEvents(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The KMS events of one host's log. ``clients`` counts client machine IDs, ``start_failures`` 12291 and 12292.

    ``clients_30_days`` counts those seen in the last 30 days of the log, which is what the host itself counts;
    ``needs`` is how many IDs stated which N.
    """

    host: str
    requests: int = 0
    clients: int = 0
    clients_30_days: int = 0
    first: Utc | None = None
    last: Utc | None = None
    hresults: Mapping[str, int] = {}
    needs: Mapping[str, int] = {}
    publishing: tuple[Publishing, ...] = ()
    start_failures: Mapping[str, int] = {}


class EventFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One log: its name without folders, what it is, how many records it holds and how many of them matter here.

    ``first`` and ``last`` are times of those. ``notes`` are damages and what could not be read, with line, record or
    offset; what was read before counts.
    """

    label: str
    format: str
    size: int = 0
    records: int = 0
    used: int = 0
    first: Utc | None = None
    last: Utc | None = None
    notes: tuple[str, ...] = ()
    damaged: bool = False


class EventsAnswer(Answer, frozen=True, kw_only=True, omit_defaults=True, tag="events"):
    """All event logs of a run, digested.

    ``at`` is the first event's time (1970 where none has one), ``elapsed_ms`` the time to the last one. ``clients`` and
    ``hosts`` are sorted by name, ``requesters`` by host and ID. ``noise`` counts events, by ID, that look like
    activation and say nothing about KMS (8200, 8208, 900 ...), ``others`` those that nothing here reads. ``unread``
    counts events whose values do not parse; ``unread_examples`` keep the first few as they were.
    ``zone_assumed`` says that times without a zone were taken for UTC.
    """

    files: tuple[EventFile, ...]
    clients: tuple[ClientEvents, ...] = ()
    hosts: tuple[HostEvents, ...] = ()
    requesters: tuple[Requester, ...] = ()
    noise: Mapping[str, int] = {}
    others: Mapping[str, int] = {}
    unread: int = 0
    unread_examples: tuple[str, ...] = ()
    zone_assumed: bool = False
