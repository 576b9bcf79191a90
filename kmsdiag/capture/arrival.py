"""Watching packets as they come for the first final KMS response, the end of ``capture --until-activation``."""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Final

from kmsdiag.capture.conversation import converse
from kmsdiag.model.capture import Conversation, Frame
from kmsdiag.wire.fragments import Fragments
from kmsdiag.wire.frames import RawFrame, number_of
from kmsdiag.wire.layers import Segment, dissect

CONNECTIONS: Final = 2_000
"""Connections that are watched at once; the one that was quiet longest is forgotten first."""

SEGMENTS: Final = 2_000
"""Segments of a connection that are kept; an activation has ten."""

_SYN, _ACK = 0x02, 0x10

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Key = frozenset[tuple[bytes, int]]


class FirstResponse:
    """Fed with all packets in order; :attr:`found` is the conversation of the first response, whatever it says.

    ``clients`` are networks: only the response to one of these machines counts, where any is given.
    """

    def __init__(self, clients: Sequence[Network] = ()) -> None:
        self.found: Conversation | None = None
        self._clients = clients
        self._fragments = Fragments()
        self._unread: Counter[str] = Counter()
        self._connections: OrderedDict[_Key, list[Segment]] = OrderedDict()
        self._frames = 0

    def feed(self, link: int, at: int, data: bytes) -> bool:
        """Take a frame (LINKTYPE_ number, ns since 1970, bytes); whether a response was found by now."""
        self._frames += 1
        if self.found is not None:
            return True
        packet = dissect(RawFrame(self._frames, at, link, data, len(data)), self._fragments, self._unread)
        if isinstance(packet, Segment):
            self._take(packet)
        return self.found is not None

    def _take(self, segment: Segment) -> None:
        key = frozenset(((segment.src, segment.sport), (segment.dst, segment.dport)))
        segments = self._connections.setdefault(key, [])
        self._connections.move_to_end(key)
        if len(segments) < SEGMENTS:
            segments.append(segment)
        if len(self._connections) > CONNECTIONS:
            self._connections.popitem(last=False)
        first = segments[0]
        from_client = first.flags & (_SYN | _ACK) == _SYN and (segment.src, segment.sport) == (first.src, first.sport)
        if from_client or not segment.payload:
            return
        conversation = converse(segments, (), _frame, segment.at, with_ladder=False)
        if conversation is not None and self._counts(conversation):
            self.found = conversation

    def _counts(self, conversation: Conversation) -> bool:
        answered = any(exchange.hresult for exchange in conversation.exchanges)
        client = ipaddress.ip_address(conversation.client)
        return answered and (not self._clients or any(client in network for network in self._clients))


def _frame(ref: int) -> Frame:
    return Frame(0, number_of(ref))
