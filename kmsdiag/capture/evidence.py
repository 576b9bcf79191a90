"""What the packets of one connection prove about questions without an answer, and what they lack."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from kmsdiag.capture.exchanges import Dialogue, dialogue
from kmsdiag.model.answer import Icmp
from kmsdiag.model.capture import Lack
from kmsdiag.model.outcome import ConversationOutcome as Outcome
from kmsdiag.wire import rpc
from kmsdiag.wire.addresses import address_text
from kmsdiag.wire.icmp import error_name
from kmsdiag.wire.layers import IcmpError, Segment
from kmsdiag.wire.pdus import Message, Pdu, Reading, read
from kmsdiag.wire.streams import Direction, Event, Stream, What, walk

PATIENCE: Final = 2_000_000_000
"""Time without an answer (ns) after which there will be none: hosts answer within milliseconds, and a TCP that hears
nothing sends again within a second (RFC 6298 2.1)."""

_TRIES: Final = 3
"""Data that was sent as often as this and not answered is not on its way any more."""

_ACK, _RST = 0x10, 0x04
_ERRORS: Final = {False: (3, 11, 12), True: (1, 2, 3, 4)}
_OF_HOST: Final = (rpc.BIND_ACK, rpc.BIND_NAK, rpc.ALTER_CONTEXT_RESP, rpc.RESPONSE, rpc.FAULT)
_OF_CLIENT: Final = (rpc.BIND, rpc.ALTER_CONTEXT, rpc.REQUEST)


class End(NamedTuple):
    """How something ended, in one clause, and the number of a reason where there is one."""

    outcome: Outcome
    detail: str = ""
    reason: int | None = None


class Evidence:
    """One connection: both streams of bytes, what is said in them, and what the capture lacks.

    ``last`` is the time of its last frame and ``end`` of the capture's, in ns since 1970. ``close`` is the FIN or RST
    that ended it; ``errors`` are the ICMP errors that say that something did not arrive. ``lacks`` grows while the
    verdict is looked for.
    """

    def __init__(
        self, segments: Sequence[Segment], icmp: Sequence[IcmpError], end: int, ports: Collection[int]
    ) -> None:
        stream = walk(segments, ports=ports)
        client, host = read(stream.from_client.runs), read(stream.from_host.runs)
        if not stream.roles_known and _reversed(client, host):
            stream = walk(segments, client=stream.host, ports=ports)
            client, host = read(stream.from_client.runs), read(stream.from_host.runs)
        self.stream: Stream = stream
        self.client: Reading = client
        self.host: Reading = host
        self.kms_port = stream.host[1] in ports
        self.said: Dialogue = dialogue(client, host, kms_port=self.kms_port)
        self.first = segments[0].at
        self.last = max(segment.at for segment in segments)
        self.end = max(end, self.last)
        self.errors: list[Icmp] = [_icmp(error) for error in icmp if error.type in _ERRORS[error.v6]]
        self._repeats: dict[bool, tuple[list[int], Counter[int]]] = {}
        self.close: Event | None = _close(stream)
        self.lacks: set[Lack] = _lacks(self, segments)

    def event(self, what: What, *, client: bool) -> Event | None:
        """The first mark of a kind that a side set."""
        return next((event for event in self.stream.events if event.what is what and event.client == client), None)

    def count(self, what: What) -> int:
        """How often a mark was set."""
        return sum(event.what is what for event in self.stream.events)

    def passed_elsewhere(self) -> int:
        """Bytes that the client's FIN or RST shows to have been sent, but neither came by nor were acknowledged."""
        sent = self.stream.from_client
        reached = max((event.offset for event in self.stream.events if event.client), default=0)
        return 0 if Lack.HOST in self.lacks else max(0, reached - max(sent.extent, sent.acknowledged))

    def too_early(self) -> End:
        """The capture ends before the host had its time to answer."""
        self.lacks.add(Lack.END)
        return End(Outcome.NOT_KNOWN)

    def unanswered(self, question: Pdu | Message | None) -> End:
        """How a question without a captured answer ended, in outcomes of the request stage.

        ``question`` is None where the client's bytes were not captured and only their time is known.
        """
        if missing_bytes(self.stream.from_host) or Lack.HOST in self.lacks:
            return End(Outcome.NOT_KNOWN)
        asked = question.at if question is not None else self._last_word()
        close = self.close
        if close is not None and not close.client:
            return self.hung_up()
        waited = max(0, (self.end if close is None else close.at) - asked)
        tries = 1 if question is None else 1 + self._again(question, client=True)
        if waited >= PATIENCE or tries >= _TRIES:
            return End(Outcome.REQUEST_UNANSWERED, self._silence(question, tries, waited))
        if close is not None:
            return End(Outcome.REQUEST_ABORTED, f"by {self.closing()} after {seconds(waited)}")
        return self.too_early()

    def hung_up(self) -> End:
        """The host closed or reset the connection instead of answering (in full)."""
        last = self.host.pdus[-1] if self.host.pdus else None
        part = "" if last is None or last.whole else f"after {len(last.data)} of {last.length} bytes of the {last.name}"
        # A FIN that meets data becomes a reset: what counts is the FIN.
        reset = self.close is not None and self.close.what is What.RST
        return End(Outcome.REQUEST_RESET if reset else Outcome.REQUEST_CLOSED, part)

    def closing(self) -> str:
        """How the connection was closed, as a word."""
        return "a reset" if self.close is not None and self.close.what is What.RST else "hanging up"

    def undelivered(self, answer: Pdu | Message) -> str:
        """Why an answer that was captured did not reach the client; "" where it did, or that can't be said."""
        sent = self.stream.from_host
        if sent.acknowledged > answer.start or not sent.repeats or not self.stream.from_client.segments:
            return ""
        tries = 1 + self._again(answer, client=False)
        if tries < _TRIES:
            return ""
        return f"the host answered {tries} times and was never acknowledged: its answer does not reach the client"

    def _again(self, said: Pdu | Message, *, client: bool) -> int:
        """How often a PDU, or the piece of it that was sent most often, was sent again."""
        if client not in self._repeats:
            sent = self.stream.from_client if client else self.stream.from_host
            counts = Counter(repeat.offset for repeat in sent.repeats)
            self._repeats[client] = sorted(counts), counts
        places, counts = self._repeats[client]
        pieces = places[bisect_left(places, said.start) : bisect_left(places, said.end)]
        return max((counts[place] for place in pieces), default=0)

    def _silence(self, question: Pdu | Message | None, tries: int, waited: int) -> str:
        sent = self.stream.from_client
        said = f"; {self.errors[0].name}, says {self.errors[0].sender}" if self.errors else ""
        if question is not None and sent.acknowledged <= question.start and tries > 1:
            size = question.end - question.start
            return f"{size} bytes, sent {tries} times and never acknowledged: they do not get through (path MTU?){said}"
        if question is not None and sent.acknowledged >= question.end:
            return f"acknowledged, and then nothing for {seconds(waited)}{said}"
        return f"nothing for {seconds(waited)}{said}"

    def _last_word(self) -> int:
        """When the client sent data for the last time; else when the connection began."""
        runs = self.stream.from_client.runs
        return runs[-1].marks[-1].at if runs else self.first


def missing_bytes(direction: Direction) -> bool:
    """Whether bytes that a side sent, and the other got, are missing from the capture."""
    return direction.limited or any(gap.acknowledged or gap.cut for gap in direction.gaps)


def seconds(nanoseconds: int) -> str:
    """A duration for readers."""
    return f"{nanoseconds / 1e9:.1f} s" if nanoseconds >= 1e9 else f"{nanoseconds / 1e6:.1f} ms"


def _icmp(error: IcmpError) -> Icmp:
    name = error_name(error.type, error.code, ipv6=error.v6)
    return Icmp(error.type, error.code, address_text(error.sender), name)


def _reversed(client: Reading, host: Reading) -> bool:
    """Whether the PDUs show that who was taken for the client is the host."""
    return any(pdu.type in _OF_HOST for pdu in client.pdus[:4]) or any(pdu.type in _OF_CLIENT for pdu in host.pdus[:4])


def _close(stream: Stream) -> Event | None:
    """The FIN or RST that ended the connection; before a SYN-ACK, resets only refuse one of several attempts."""
    events = stream.events
    ends = [at for at, event in enumerate(events) if event.what in (What.FIN, What.RST)]
    opened = next((at for at, event in enumerate(events) if event.what is What.SYN_ACK), 0)
    # In an unordered capture all of them may stand before it.
    at = next((end for end in ends if end > opened), ends[0] if ends else None)
    return None if at is None else events[at]


def _lacks(case: Evidence, segments: Sequence[Segment]) -> set[Lack]:
    """What the capture lacks, but for its end."""
    stream = case.stream
    sides = [side for side in (stream.from_client, stream.from_host) if side.segments]
    found = set()
    if not stream.roles_known:
        found.add(Lack.START)
    if not stream.from_client.segments:
        found.add(Lack.CLIENT)
    if not stream.from_host.segments and any(segment.flags & (_ACK | _RST) == _ACK for segment in segments):
        found.add(Lack.HOST)
    if any(gap.acknowledged and not gap.cut for side in sides for gap in side.gaps) or any(
        side.limited for side in sides
    ):
        found.add(Lack.BYTES)
    if any(side.cut for side in sides):
        found.add(Lack.CUT)
    # A client that never sent a bind lacks it, not the capture.
    if found and case.said.calls and not any(bind.question.type == rpc.BIND for bind in case.said.binds):
        found.add(Lack.BIND)
    return found
