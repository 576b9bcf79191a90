"""The events of one client: requests (12288) and answers (12289) paired to attempts, and what else its log says.

Up to :data:`KEPT` events of a machine are kept as they came, so that those of several files are put in order before
they are paired. Beyond that the half is paired and counted that lies away from where reading is.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.events.choice import Choice
from kmsdiag.evidence.events.times import SECOND, moment
from kmsdiag.evidence.events.unread import Unread, tally
from kmsdiag.knowledge import event_fields
from kmsdiag.knowledge.event_fields import CLIENT_ANSWER, CLIENT_REQUEST, AnswerFields, RequestFields
from kmsdiag.model.events import Attempt, AttemptEnd, ClientEvents

KEPT: Final = 256
LATEST: Final = 50
IDS: Final = 64
"""IDs of each kind that are listed for a machine."""


class Logged(NamedTuple):
    """A 12288 or 12289: time in µs, place in its file, number, list of values. The place rises with time."""

    at: int
    place: int
    number: int
    info: str


class ClientLog:
    """What the logs of one machine say of it as a client. ``files`` are its kept events, by number of the file."""

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.files: dict[int, list[Logged]] = {}
        self.failures: Counter[str] = Counter()
        self.by_directory = 0
        self.by_directory_last: int | None = None
        self.ids: set[str] = set()
        self.first: int | None = None
        self.last: int | None = None
        self.folded = 0
        self.folded_last: int | None = None
        self.ends: Counter[str] = Counter()
        self.hresults: Counter[str] = Counter()
        self.hosts: Counter[str] = Counter()
        self.products: set[str] = set()
        self.latest: list[Attempt] = []
        self.orphans = 0

    def add(self, file: int, event: Logged, choice: Choice, unread: Unread) -> None:
        """Take down an event, and make room where there are too many."""
        own = self.files.setdefault(file, [])
        own.append(event)
        if len(own) > KEPT:
            self._make_room(file, choice, unread)

    def note_directory(self, at: int | None) -> None:
        """Activation by Active Directory (12308)."""
        self.by_directory += 1
        if at is not None:
            self.by_directory_last = max(at, self.by_directory_last or at)

    def _make_room(self, file: int, choice: Choice, unread: Unread) -> None:
        own = self.files[file]
        newest = own[-1]
        own.sort()
        falling = newest.at < own[len(own) // 2].at
        # Cut before a request, so that no attempt is torn apart.
        cut = next((place for place in range(len(own) // 2, len(own)) if own[place].number == CLIENT_REQUEST), None)
        if cut is None or cut == 0:
            cut = len(own) // 2
        old, new = own[:cut], own[cut:]
        if falling:
            self.files[file] = old
            self._fold(new, choice, unread, ended=self.folded_last is not None)
        else:
            begun = next((place for place, one in enumerate(old) if one.number == CLIENT_REQUEST), 0)
            # Answers before the first request may belong to one in another file.
            self.files[file] = old[:begun][-KEPT // 4 :] + new
            self._fold(old[begun:], choice, unread, ended=True)

    def _fold(self, events: Sequence[Logged], choice: Choice, unread: Unread, *, ended: bool) -> None:
        """Pair events and count them; ``ended``: another request is known to follow them."""
        for request, answer in _pairs(events):
            if request is None:
                self.orphans += 1
                continue
            self._count(self._attempt(request, answer, unread, last=not ended and request is events[-1]), choice)
        if events:
            self.folded_last = max(events[-1].at, self.folded_last or events[-1].at)
        self.latest = _latest(self.latest)

    def _attempt(self, request: Logged, answer: Logged | None, unread: Unread, *, last: bool) -> Attempt | None:
        asked = event_fields.request(request.info)
        said = event_fields.answer(answer.info) if answer is not None else None
        for event, fields in ((request, asked), (answer, said)):
            if event is not None:
                missing = ("its list of values",) if fields is None else fields.unread
                if missing:
                    unread.add(event.number, self.machine, missing, event.info)
        if asked is None:
            return None
        return attempt_of(request, asked, answer, said, last=last)

    def _count(self, attempt: Attempt | None, choice: Choice) -> None:
        if attempt is None:
            return
        if not (choice.client(self.machine, attempt.client_machine_id) and choice.host(attempt.host)):
            return
        self.folded += 1
        tally(self.ends, attempt.end)
        tally(self.hresults, attempt.hresult or "unreadable")
        tally(self.hosts, attempt.host or "unknown")
        for found, one in ((self.ids, attempt.client_machine_id), (self.products, attempt.activation_id)):
            if one and len(found) < IDS:
                found.add(one)
        self.latest.append(attempt)

    def join(self, other: "ClientLog") -> None:
        """Add what other files say of the same machine."""
        self.machine = min(self.machine, other.machine)
        for file, events in other.files.items():
            self.files.setdefault(file, []).extend(events)
        for mine, theirs in (
            (self.failures, other.failures),
            (self.ends, other.ends),
            (self.hresults, other.hresults),
            (self.hosts, other.hosts),
        ):
            mine.update(theirs)
        self.ids |= other.ids
        self.products |= other.products
        self.latest = _latest([*self.latest, *other.latest])
        self.orphans += other.orphans
        self.folded += other.folded
        self.folded_last = _newest(self.folded_last, other.folded_last)
        self.by_directory += other.by_directory
        self.by_directory_last = _newest(self.by_directory_last, other.by_directory_last)
        self.first = min((one for one in (self.first, other.first) if one is not None), default=None)
        self.last = _newest(self.last, other.last)

    def finish(self, choice: Choice, unread: Unread) -> ClientEvents | None:
        """The digest; None where the selection leaves nothing of this machine."""
        events = sorted(_each_once(self.files))
        ended = self.folded_last is not None and bool(events) and self.folded_last > events[-1].at
        self._fold(events, choice, unread, ended=ended)
        own = choice.client(self.machine) and not choice.hosts
        if not (self.folded or own):
            return None
        return ClientEvents(
            machine=self.machine,
            attempts=self.folded,
            first=None if self.first is None else moment(self.first),
            last=None if self.last is None else moment(self.last),
            ends=dict(sorted(self.ends.items())),
            hresults=dict(sorted(self.hresults.items())),
            hosts=dict(sorted(self.hosts.items())),
            client_machine_ids=tuple(sorted(self.ids)),
            activation_ids=tuple(sorted(self.products)),
            latest=tuple(self.latest),
            failures=dict(sorted(self.failures.items())),
            by_directory=self.by_directory,
            by_directory_last=None if self.by_directory_last is None else moment(self.by_directory_last),
            orphans=self.orphans,
        )


def _latest(attempts: Iterable[Attempt]) -> list[Attempt]:
    """The newest attempts, oldest first, and the last one of each product.

    One product that fails asks often, and would push out another that renews once a week.
    """
    ordered = sorted(attempts, key=_in_time)
    products: dict[str, Attempt] = {attempt.activation_id: attempt for attempt in ordered[:-LATEST]}
    for attempt in ordered[-LATEST:]:
        products.pop(attempt.activation_id, None)
    return [*sorted(products.values(), key=_in_time)[-IDS:], *ordered[-LATEST:]]


def _newest(*times: int | None) -> int | None:
    return max((one for one in times if one is not None), default=None)


def _in_time(attempt: Attempt) -> tuple[object, ...]:
    return (attempt.at, attempt.answered_at is None, attempt.host, attempt.hresult, attempt.remaining_min or 0)


def _each_once(files: dict[int, list[Logged]]) -> Iterable[Logged]:
    """Events that are in several files count once: as often as in the file that has them most often."""
    if len(files) < 2:
        return next(iter(files.values()), [])
    best: dict[tuple[int, str], list[Logged]] = {}
    for _file, events in sorted(files.items()):
        own: dict[tuple[int, str], list[Logged]] = {}
        for event in events:
            own.setdefault((event.number, event.info), []).append(event)
        for key, found in own.items():
            if len(found) > len(best.get(key, ())):
                best[key] = found
    return [event for found in best.values() for event in found]


TOGETHER: Final = 10 * SECOND
"""Requests of two products that are closer are waiting for answers at the same time."""


def _pairs(events: Sequence[Logged]) -> Iterable[tuple[Logged | None, Logged | None]]:
    """Each request with the answer before the next request; an answer without one alone. A failed one has none.

    An answer does not tell its product. Where Windows and Office ask at once and two answers come after both requests,
    they are taken in the order of the requests.
    """
    request: Logged | None = None
    answer: Logged | None = None
    before: Logged | None = None
    """A request of another product, just before this one, that waits for its answer too."""
    for event in events:
        if event.number == CLIENT_REQUEST:
            if before is not None:
                yield before, None
            before = None
            if request is not None and answer is None and _waits_beside(request, event):
                before = request
            elif request is not None:
                yield request, answer
            request, answer = event, None
        elif before is not None and answer is not None:
            yield before, answer
            before, answer = None, event
        elif request is None or answer is not None or _failed(request):
            yield None, event
        else:
            answer = event
    if before is not None:
        yield before, None
    if request is not None:
        yield request, answer


def _waits_beside(request: Logged, later: Logged) -> bool:
    """Whether a request waits for its answer while another product's is sent."""
    if later.at - request.at > TOGETHER or _failed(request):
        return False
    own, other = event_fields.request(request.info), event_fields.request(later.info)
    return own is not None and other is not None and own.activation_id != other.activation_id


def _failed(request: Logged) -> bool:
    return event_fields.is_failure(event_fields.hexadecimal(request.info.partition(",")[0]))


def attempt_of(
    request: Logged, asked: RequestFields, answer: Logged | None, said: AnswerFields | None, *, last: bool
) -> Attempt:
    """An attempt from its events; ``last``: no request follows it in the log."""
    if asked.failed:
        end = AttemptEnd.FAILED
    elif answer is not None:
        end = AttemptEnd.ACTIVATED if said is not None and said.activated else AttemptEnd.NOT_ACTIVATED
    else:
        end = AttemptEnd.OPEN if last else AttemptEnd.NOT_ANSWERED
    return Attempt(
        at=moment(request.at),
        end=end,
        host=ascii_text(asked.host),
        hresult=asked.hresult,
        flags=asked.flags,
        client_machine_id=asked.client_machine_id,
        activation_id=asked.activation_id,
        client_time=asked.client_time,
        required=asked.required,
        license_status=asked.license_status,
        remaining_min=asked.remaining_min,
        answered_at=None if answer is None else moment(answer.at),
        answer="" if said is None else said.hresult,
        answer_flags="" if said is None else said.flags,
        count=None if said is None else said.current_count,
        activation_interval_min=None if said is None else said.activation_interval_min,
        renewal_interval_min=None if said is None else said.renewal_interval_min,
    )


NUMBERS: Final = (CLIENT_REQUEST, CLIENT_ANSWER)
