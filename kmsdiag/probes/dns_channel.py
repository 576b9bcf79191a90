"""One connected UDP socket to one DNS server, and the questions on it: sent, sent again, answered or given up.

Only a *connected* socket learns that no DNS service listens (ICMP port unreachable), and a socket for each question
costs more than the question.
"""

import asyncio
import contextlib
import errno
import random
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.target import split_server
from kmsdiag.probes.settings import ProbeSettings
from kmsdiag.probes.tcp import open_socket, read_icmp
from kmsdiag.wire import dns as wire

SENDS: Final = 3
"""Datagrams a question may cost at one server, spread evenly over its time limit; the last goes without EDNS."""

BURST: Final = 64
"""Young questions in flight at one server: more only overflows its receive buffer (measured with BIND)."""

YOUNG: Final = 0.25
"""Seconds after which an open question no longer counts against BURST, so that a silent server delays nobody."""

# A Windows loop has a receive of its own under way on the socket; elsewhere the socket may be read until it is empty.
_DRAINS: Final = sys.platform != "win32"
_LARGEST: Final = 65_535

_REMEMBERED: Final = 32_768
"""Message ids that are remembered, so that a late answer is known for what it is: half of all there are."""


class Failure(Exception):
    """A question that ended without a usable message."""

    def __init__(self, outcome: DnsOutcome, detail: str = "", raw: bytes = b"") -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.detail = detail
        self.raw = raw


class Patience:
    """How long a question waits for one server: from its first datagram on, not while it waits for its turn."""

    __slots__ = ("_limit", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._limit: float | None = None

    def left(self) -> float:
        """Seconds from now to the end."""
        now = time.monotonic()
        if self._limit is None:
            self._limit = now + self._seconds
        return max(0.05, self._limit - now)


class Question:
    """One question: what it waits for, and one clock for all that is due while it waits."""

    __slots__ = (
        "answer", "asked", "channel", "due", "edns", "facts", "kind", "name", "number", "patience", "put_at",
        "recursion", "sent_at", "timer", "young",
    )  # fmt: skip

    def __init__(
        self,
        channel: "Channel",
        name: str,
        kind: int,
        facts: dict[str, Any],
        patience: Patience,
        *,
        edns: bool,
        recursion: bool,
    ) -> None:
        self.channel = channel
        self.asked = name
        self.name = name.lower().removesuffix(".") or "."
        self.kind = kind
        self.recursion = recursion
        self.facts = facts
        self.patience = patience
        self.edns = edns
        self.answer: asyncio.Future[tuple[wire.Message, bytes]] = channel.loop.create_future()
        self.number = -1
        self.young = False
        self.put_at = self.sent_at = time.monotonic()
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Its turn has come: send, and send again until its time is over; the last one goes without EDNS."""
        channel = self.channel
        self.young = True
        self.sent_at = time.monotonic()
        self.facts["queued"] += self.sent_at - self.put_at
        self.number = channel.free_number()
        channel.pending[self.number] = self
        now, left = channel.loop.time(), self.patience.left()
        self.due = [
            (now + left, self._give_up),
            (now + left * 2 / SENDS, self._send_last),
            (now + left / SENDS, self._send),
            (now + YOUNG, self.release),
        ]
        self.due.sort(key=lambda one: -one[0])
        try:
            self._send()
        except wire.DnsFormatError as error:
            # A target that the network sent and that no one can ask for: the name is at fault, not the server.
            self.fail(Failure(DnsOutcome.MALFORMED, str(error)))
        else:
            self._wind()

    def stop(self) -> None:
        """Wait no longer."""
        if self.timer is not None:
            self.timer.cancel()
        if self.number >= 0:
            self.channel.pending.pop(self.number, None)
        self.release()

    def release(self) -> None:
        """Count against the burst no longer."""
        if self.young:
            self.young = False
            self.channel.release()

    def fail(self, failure: Failure) -> None:
        """End without an answer."""
        if not self.answer.done():
            self.answer.set_exception(failure)

    def _wind(self) -> None:
        self.timer = self.channel.loop.call_at(self.due[-1][0], self._ring)

    def _ring(self) -> None:
        _when, action = self.due.pop()
        action()
        if self.due:
            self._wind()

    def _send(self) -> None:
        data = wire.encode_question(self.asked, self.kind, self.number, edns=self.edns, recursion=self.recursion)
        self.facts["queries"] += 1
        if self.channel.transport is not None:
            self.channel.transport.sendto(data)

    def _send_last(self) -> None:
        self.facts["edns"] = self.edns = False
        self._send()

    def _give_up(self) -> None:
        at, data = self.channel.garbage
        if at > self.sent_at:
            self.fail(Failure(DnsOutcome.MALFORMED, "datagrams that are no answer to the question", data))
        else:
            self.fail(Failure(DnsOutcome.TIMEOUT))


class Channel(asyncio.DatagramProtocol):
    """One connected UDP socket, the questions in flight on it by message id, and those that wait for their turn."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.pending: dict[int, Question] = {}
        self.sock: socket.socket | None = None
        self.transport: asyncio.DatagramTransport | None = None
        self.garbage: tuple[float, bytes] = (0.0, b"")
        self._used: set[int] = set()
        self._young = 0
        self._queue: deque[Question] = deque()

    def put(self, question: Question) -> None:
        """Begin a question now, or as soon as there is room for it."""
        self._queue.append(question)
        self._fill()

    def release(self) -> None:
        """One question in flight is not young any more."""
        self._young -= 1
        self._fill()

    def _fill(self) -> None:
        while self._queue and self._young < BURST:
            question = self._queue.popleft()
            # A question that was cancelled while it waited is not sent.
            if not question.answer.done():
                self._young += 1
                question.begin()

    def free_number(self) -> int:
        """A message id that no question had lately: a late answer must not be taken for that of another question."""
        if len(self._used) > _REMEMBERED:
            self._used = set(self.pending)
        number = random.getrandbits(16)
        while number in self._used:
            number = random.getrandbits(16)
        self._used.add(number)
        return number

    def datagram_received(self, data: bytes, _address: Any) -> None:
        """Take this datagram and those behind it: asyncio would go through its whole loop for each."""
        self._take(data)
        if not _DRAINS or self.sock is None:
            return
        for _ in range(BURST):
            try:
                data = self.sock.recv(_LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.error_received(error)
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        asked = self.pending.get(int.from_bytes(data[:2], "big")) if len(data) >= 12 else None
        if asked is None:
            # An answer that comes late, or twice, is none of it. It only counts where nothing better comes.
            if int.from_bytes(data[:2], "big") not in self._used:
                self.garbage = (time.monotonic(), data)
            return
        if asked.answer.done():
            return
        try:
            message = wire.decode(data, asked.name)
        except wire.DnsFormatError as error:
            asked.fail(Failure(DnsOutcome.MALFORMED, str(error), data))
            return
        # Some servers leave the question out of an error; any other question is not ours.
        if message.response and message.question in ((asked.name, asked.kind), ("", 0)):
            asked.answer.set_result((message, data))
        else:
            asked.fail(Failure(DnsOutcome.MALFORMED, "the answer is to another question", data))

    def error_received(self, error: Exception) -> None:
        """Take an error of the socket: what ICMP said of the server."""
        icmp = None
        server = ""
        if self.sock is not None:
            # An error left in the queue would wake the event loop for ever.
            while (found := read_icmp(self.sock)) is not None:
                icmp = found
            with contextlib.suppress(OSError):
                server = self.sock.getpeername()[0].partition("%")[0]
        number = getattr(error, "errno", None) or 0
        # Port unreachable said by anyone but the server is a firewall's doing.
        refused = number == errno.ECONNREFUSED and (icmp is None or icmp.sender == server)
        outcome = DnsOutcome.NOT_LISTENING if refused else DnsOutcome.UNREACHABLE
        detail = errno.errorcode.get(number, type(error).__name__)
        if icmp is not None and outcome is DnsOutcome.UNREACHABLE:
            detail = f"{icmp.name}, said by {icmp.sender}"
        self.fail_all(outcome, detail)

    def fail_all(self, outcome: DnsOutcome, detail: str) -> None:
        """End all open questions: an ICMP error is about the server, whichever datagram caused it."""
        for asked in self.pending.values():
            asked.fail(Failure(outcome, detail))


async def open_channel(server: str, settings: ProbeSettings) -> Channel:
    """Open the socket to a server.

    Raises:
        Failure: the machine can't send there at all.
    """
    address, port = split_server(server)
    where = settings.place(address, port)
    channel = Channel()
    sock = None
    try:
        sock = channel.sock = open_socket(where[0], socket.SOCK_DGRAM, settings.source)
        info = socket.getaddrinfo(where[0], where[1], type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        sock.connect(info[0][4])
        transport, _protocol = await asyncio.get_running_loop().create_datagram_endpoint(lambda: channel, sock=sock)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise Failure(DnsOutcome.UNREACHABLE, errno.errorcode.get(error.errno or 0, "")) from None
    channel.transport = transport
    return channel
