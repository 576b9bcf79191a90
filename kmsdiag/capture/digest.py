"""Conversations added up, in any order and in any number of pieces.

A conversation is kept as one row of 88 bytes and an exchange as one of 56, whatever it took on the wire; everything
else grows with clients, hosts and outcomes. Pieces from several workers are put behind each other, and what they say is
computed from the sorted rows at the end (:mod:`kmsdiag.capture.tables`), so that the pieces don't matter.
"""

import datetime
import math
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kmsdiag.capture.packets import Mask, text_words
from kmsdiag.capture.rows import pick, stack
from kmsdiag.capture.selection import Chooser
from kmsdiag.model.capture import Conversation, Frame, Lack
from kmsdiag.model.outcome import ConversationOutcome, Stage
from kmsdiag.wire.frames import number_of, part_of, ref_of

OUTCOMES: Final = tuple(ConversationOutcome)
CODE: Final = {outcome: code for code, outcome in enumerate(OUTCOMES)}
LACKS: Final = tuple(Lack)

ROW: Final = np.dtype(
    [
        ("ref", "<i8"),
        ("started", "<i8"),
        ("client_hi", "<u8"),
        ("client_lo", "<u8"),
        ("host_hi", "<u8"),
        ("host_lo", "<u8"),
        ("connect", "<i8"),
        ("isn_client", "<i8"),
        ("isn_host", "<i8"),
        ("client_port", "<u2"),
        ("host_port", "<u2"),
        ("exchanges", "<u2"),
        ("retransmissions", "<u2"),
        ("outcome", "u1"),
        ("lacks", "u1"),
        ("speaks", "?"),
    ],
    align=True,
)
"""One conversation: ``started`` in µs since 1970, ``connect`` in µs; -1 is not known, of the ISNs too.

``lacks`` has a bit for each of :data:`LACKS`; ``speaks``: the KMS interface was bound or requested.
"""

EXCHANGE: Final = np.dtype(
    [
        ("ref", "<i8"),
        ("elapsed", "<i8"),
        ("skew", "<f8"),
        ("hresult", "<i8"),
        ("required", "<i8"),
        ("count", "<i8"),
        ("version", "<i8"),
    ],
    align=True,
)
"""One exchange of the conversation whose first frame is ``ref``: ``elapsed`` in µs, ``skew`` in s (NaN: not known).

``version`` is major << 16 | minor. -1 is not known.
"""

EXAMPLES: Final = 3
"""Conversations of one outcome that are kept whole."""

NAMES: Final = 8
"""Machine names, and machine ids, of one client that are kept."""

Words = tuple[int, int]
"""An address as :mod:`kmsdiag.capture.packets` holds it."""

_SPEAKS: Final = frozenset({Stage.REQUEST, Stage.ANSWER})


class Digest:
    """What is known so far of the conversations that a chooser lets pass; of the others, only that they were.

    Frames count in their part here: :meth:`moved` gives the parts their places. ``sought`` are the first frames of
    conversations that are kept whole besides the examples; ``everything`` keeps all.
    """

    def __init__(
        self, chooser: Chooser | None = None, *, sought: frozenset[int] = frozenset(), everything: bool = False
    ) -> None:
        self.chooser = chooser or Chooser()
        self.sought = sought
        self.everything = everything
        self.examples: dict[ConversationOutcome, dict[int, Conversation]] = {}
        self.kept: dict[int, Conversation] = {}
        self.machines: dict[Words, dict[str, int]] = {}
        self.machine_ids: dict[Words, dict[str, int]] = {}
        self._rows: list[NDArray[Any]] = []
        self._exchanges: list[NDArray[Any]] = []
        self._sorted = True
        self._others: list[NDArray[np.int64]] = []
        self._new: list[tuple[Any, ...]] = []
        self._new_exchanges: list[tuple[Any, ...]] = []

    def add(self, conversation: Conversation, isns: tuple[int, int] = (-1, -1)) -> bool:
        """Add one conversation, with the initial sequence numbers of client and host (-1 where not captured).

        Says whether it was accepted. Whether it is kept whole besides is for the caller (``wants``, ``keep``).
        """
        row = row_of(conversation, isns)
        ref = row[0]
        client, host = row[2:4], row[4:6]
        if not self.chooser.accepts(client, host, conversation.host_port, row[1]):
            self._others.append(np.array([ref]))
            return False
        self._new.append(row)
        self._new_exchanges += exchanges_of(conversation, ref)
        for one in conversation.exchanges:
            _note(self.machines, client, one.machine, ref)
            _note(self.machine_ids, client, one.client_machine_id, ref)
        return True

    def add_rows(self, rows: NDArray[Any], exchanges: NDArray[Any]) -> Mask:
        """Add many conversations and their exchanges; says which of them were accepted."""
        accepted = self.chooser.mask(rows)
        self._others.append(rows["ref"][~accepted])
        self._sorted = False
        if not accepted.all():
            exchanges = exchanges[np.isin(exchanges["ref"], rows["ref"][accepted])]
        self._rows.append(pick(rows, accepted))
        self._exchanges.append(exchanges)
        return accepted

    def keep(self, conversation: Conversation) -> None:
        """Keep a conversation whole where it is an example, or sought."""
        ref = ref_of(conversation.first.file, conversation.first.number)
        if self.everything or ref in self.sought:
            self.kept[ref] = conversation
        examples = self.examples.setdefault(conversation.outcome, {})
        examples[ref] = conversation
        if len(examples) > EXAMPLES:
            del examples[max(examples)]

    def wants(self, conversation: Conversation) -> bool:
        """Whether an accepted conversation is an example so far, or sought."""
        ref = ref_of(conversation.first.file, conversation.first.number)
        examples = self.examples.get(conversation.outcome, {})
        return self.everything or ref in self.sought or len(examples) < EXAMPLES or ref < max(examples)

    def wanted(self, rows: NDArray[Any]) -> list[int]:
        """The same for accepted rows: the indices of those that have to be walked."""
        if self.everything:
            return list(range(len(rows)))
        wanted = set(np.flatnonzero(np.isin(rows["ref"], list(self.sought))).tolist()) if self.sought else set()
        for code in np.unique(rows["outcome"]).tolist():
            own = np.flatnonzero(rows["outcome"] == code)
            own = own[np.argsort(rows["ref"][own], kind="stable")[:EXAMPLES]]
            known = sorted(self.examples.get(OUTCOMES[code], {}))
            bound = known[EXAMPLES - 1] if len(known) >= EXAMPLES else math.inf
            wanted.update(index for index in own.tolist() if rows["ref"][index] < bound)
        return sorted(wanted)

    def merge(self, other: "Digest") -> None:
        """Add what another digest knows."""
        self._rows.append(other.rows())
        self._sorted = False
        self._exchanges.append(other.exchanges())
        self._others += other._others  # noqa: SLF001 (of the same class)
        self.kept |= other.kept
        for examples in other.examples.values():
            for conversation in examples.values():
                self.keep(conversation)
        for mine, theirs in ((self.machines, other.machines), (self.machine_ids, other.machine_ids)):
            for client, names in theirs.items():
                for name, ref in names.items():
                    _note(mine, client, name, ref)

    def rows(self) -> NDArray[Any]:
        """All accepted conversations, in the order of their first frames."""
        if self._new:
            self._rows.append(np.array(self._new, ROW))
            self._new = []
            self._sorted = False
        if len(self._rows) != 1 or not self._sorted:
            self._rows = [_by_ref(self._rows, ROW)]
            self._sorted = True
        return self._rows[0]

    def exchanges(self) -> NDArray[Any]:
        """All exchanges of accepted conversations, in the order of these; those of one in their own order."""
        if self._new_exchanges:
            self._exchanges.append(np.array(self._new_exchanges, EXCHANGE))
            self._new_exchanges = []
        self._exchanges = [_by_ref(self._exchanges, EXCHANGE)]
        return self._exchanges[0]

    def drop(self, which: Mask, *, numbered: bool) -> None:
        """Take conversations out, given by a mask over :meth:`rows`; ``numbered`` ones still count in the numbers."""
        if not which.any():
            return
        rows, exchanges = self.rows(), self.exchanges()
        gone = rows["ref"][which]
        self._rows = [pick(rows, ~which)]
        self._exchanges = [pick(exchanges, ~np.isin(exchanges["ref"], gone))]
        if numbered:
            self._others.append(gone)
        lost = set(gone.tolist())
        self.kept = {ref: one for ref, one in self.kept.items() if ref not in lost}
        for outcome, examples in self.examples.items():
            self.examples[outcome] = {ref: one for ref, one in examples.items() if ref not in lost}

    def missing_examples(self) -> frozenset[int]:
        """First frames of conversations that are examples, and were not walked as such."""
        rows = self.rows()
        missing: set[int] = set()
        for code in np.unique(rows["outcome"]).tolist():
            first = rows["ref"][rows["outcome"] == code][:EXAMPLES].tolist()
            missing.update(ref for ref in first if ref not in self.examples.get(OUTCOMES[code], {}))
        return frozenset(missing)

    def first_frames(self) -> NDArray[np.int64]:
        """First frames of all conversations, accepted or not, ascending: a conversation's number is its place here."""
        return np.sort(np.concatenate([self.rows()["ref"], *self._others]))

    def moved(self, by: int) -> "Digest":
        """The same with all frames renamed by adding a number: what a part is of is known later than its name."""

        def rename(frame: Frame) -> Frame:
            return frame_of(ref_of(frame.file, frame.number) + by)

        new = Digest(self.chooser, sought=self.sought, everything=self.everything)
        rows, exchanges = self.rows().copy(), self.exchanges().copy()
        rows["ref"] += by
        exchanges["ref"] += by
        new._rows, new._exchanges = [rows], [exchanges]
        new._others = [refs + by for refs in self._others]
        new.kept = {ref + by: renamed(conversation, rename) for ref, conversation in self.kept.items()}
        new.examples = {
            outcome: {ref + by: renamed(conversation, rename) for ref, conversation in examples.items()}
            for outcome, examples in self.examples.items()
        }
        for mine, theirs in ((self.machines, new.machines), (self.machine_ids, new.machine_ids)):
            for client, names in mine.items():
                theirs[client] = {name: ref + by for name, ref in names.items()}
        return new


def _by_ref(tables: list[NDArray[Any]], kind: np.dtype[Any]) -> NDArray[Any]:
    """Tables as one, in the order of their refs."""
    if not tables:
        return np.empty(0, kind)
    table = stack(tables)
    return pick(table, np.argsort(table["ref"], kind="stable"))


def row_of(conversation: Conversation, isns: tuple[int, int] = (-1, -1)) -> tuple[Any, ...]:
    """A conversation as a :data:`ROW`."""
    connect = conversation.connect_ms
    lacks = sum(1 << LACKS.index(lack) for lack in conversation.lacks)
    return (
        ref_of(conversation.first.file, conversation.first.number),
        microseconds(conversation.started),
        *text_words(conversation.client),
        *text_words(conversation.host),
        -1 if connect is None else round(connect * 1000),
        *isns,
        conversation.client_port,
        conversation.host_port,
        min(len(conversation.exchanges), 0xFFFF),
        min(conversation.retransmissions, 0xFFFF),
        CODE[conversation.outcome],
        lacks,
        speaks_kms(conversation),
    )


def exchanges_of(conversation: Conversation, ref: int) -> list[tuple[Any, ...]]:
    """The exchanges of a conversation as :data:`EXCHANGE` rows."""
    return [
        (
            ref,
            -1 if one.elapsed_ms is None else round(one.elapsed_ms * 1000),
            math.nan if one.skew_s is None else one.skew_s,
            int(one.hresult, 16) if one.hresult else -1,
            -1 if one.required is None else min(one.required, 0x7FFFFFFF),
            -1 if one.count is None else min(one.count, 0x7FFFFFFF),
            version_code(one.version),
        )
        for one in conversation.exchanges
    ]


def speaks_kms(conversation: Conversation) -> bool:
    """Whether the host took a bind of the KMS interface, or answered a request."""
    return conversation.outcome is ConversationOutcome.BOUND or any(one.hresult for one in conversation.exchanges)


def version_code(version: str) -> int:
    """A protocol version such as "6.0" as a number, -1 for none."""
    major, dot, minor = version.partition(".")
    return int(major) << 16 | int(minor) if dot else -1


def version_text(code: int) -> str:
    """The version that a code stands for, "" for -1."""
    return "" if code < 0 else f"{code >> 16}.{code & 0xFFFF}"


EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
"""The time that all others here count from."""

_MICROSECOND: Final = datetime.timedelta(microseconds=1)


def microseconds(at: datetime.datetime) -> int:
    """µs since 1970."""
    return (at - EPOCH) // _MICROSECOND


def moment(at: int) -> datetime.datetime:
    """The time of so many µs since 1970."""
    return EPOCH + at * _MICROSECOND


def frame_of(ref: int) -> Frame:
    """A frame by its name: the file is the index of its part."""
    return Frame(part_of(ref), number_of(ref))


def renamed(conversation: Conversation, rename: Callable[[Frame], Frame]) -> Conversation:
    """A conversation with other frames in all places."""
    replace = msgspec.structs.replace
    return replace(
        conversation,
        first=rename(conversation.first),
        last=rename(conversation.last),
        exchanges=tuple(
            replace(
                one,
                request=None if one.request is None else rename(one.request),
                response=None if one.response is None else rename(one.response),
            )
            for one in conversation.exchanges
        ),
        ladder=tuple(replace(rung, frame=rename(rung.frame)) for rung in conversation.ladder),
    )


def _note(known: dict[Words, dict[str, int]], client: Words, name: str, ref: int) -> None:
    """Remember a name of a client, with the first frame it was seen in; the first few alone."""
    if not name:
        return
    names = known.setdefault(client, {})
    names[name] = min(ref, names.get(name, ref))
    if len(names) > NAMES:
        del names[max(names, key=lambda one: (names[one], one))]
