"""What is done with connections that have ended: counted by shape where they are alike, walked one by one otherwise."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kmsdiag.capture.conversation import converse
from kmsdiag.capture.digest import Digest, frame_of
from kmsdiag.capture.fast import Shapes, Walked
from kmsdiag.capture.flows import Ended, Flows
from kmsdiag.capture.lookups import Lookups
from kmsdiag.model.outcome import ConversationOutcome
from kmsdiag.wire.columns import DNS_PORT
from kmsdiag.wire.layers import IcmpError, Segment
from kmsdiag.wire.streams import KMS_PORTS, split_connections

_FOREIGN: Final = (ConversationOutcome.NOT_KMS, ConversationOutcome.OTHER_PROTOCOL)
_SYN: Final = 2
_ACK: Final = 16


class Walker:
    """Takes what :class:`Flows` has ended, and adds it to a digest and to lookups.

    ``ports`` are those on which KMS is expected. Without ``fast`` everything is walked. With ``framed``, ``frames`` are
    the refs of all frames of conversations that the digest accepts. ``copies`` counts what a mirror port doubled.
    """

    def __init__(
        self,
        flows: Flows,
        digest: Digest,
        lookups: Lookups,
        *,
        ports: Collection[int],
        fast: bool = True,
        framed: bool = False,
    ) -> None:
        self.flows = flows
        self.digest = digest
        self.lookups = lookups
        self.ports = ports
        self.frames: list[NDArray[np.int64]] = []
        self.framed = framed
        self.copies = 0
        self._shapes = Shapes() if fast else None

    def take(self, ended: Ended | None) -> None:
        """Judge connections that have ended."""
        if ended is None:
            return
        self.copies += int(np.count_nonzero(ended.copies))
        table, starts = ended.packets.table, ended.starts
        dns = (table["dport"][starts] == DNS_PORT) | (table["sport"][starts] == DNS_PORT)
        counted = np.zeros(ended.size, np.bool_)
        if self._shapes is not None:
            quoted = np.array(list(self.flows.icmp), np.uint64)
            plain = ended._replace(regular=ended.regular & ~dns & ~np.isin(ended.keys, quoted))
            counted = self._shapes.count(plain, lambda group: self._walked(ended, group), self.digest)
            if self.framed:
                accepted = counted & np.isin(table["ref"][starts], self.digest.rows()["ref"])
                self.frames.append(table["ref"][np.repeat(accepted, ended.counts)])
        for group in np.flatnonzero(~counted).tolist():
            if dns[group]:
                self._look_up(ended, group)
            else:
                self._add(ended, group)
        for key in set(self.flows.icmp).intersection(ended.keys.tolist()):
            del self.flows.icmp[key]

    def _add(self, ended: Ended, group: int) -> None:
        for segments, icmp in self._connections(ended, group):
            until = int(ended.until[group])
            conversation, isns = self._converse(segments, icmp, until, drawn=False)
            if conversation is None or not self.digest.add(conversation, isns):
                continue
            if self.digest.wants(conversation):
                whole = self._converse(segments, icmp, until).conversation
                self.digest.keep(whole or conversation)
            if self.framed:
                self.frames.append(np.array([one.ref for one in segments] + [one.ref for one in icmp], np.int64))

    def _walked(self, ended: Ended, group: int) -> list[Walked]:
        until = int(ended.until[group])
        return [self._converse(segments, icmp, until) for segments, icmp in self._connections(ended, group)]

    def _converse(
        self, segments: Sequence[Segment], icmp: Sequence[IcmpError], until: int, *, drawn: bool = True
    ) -> Walked:
        """The verdict; ``drawn`` with a ladder."""
        conversation = converse(segments, icmp, frame_of, until, ports=self.ports, with_ladder=drawn)
        if conversation is not None and conversation.outcome in _FOREIGN and conversation.host_port not in KMS_PORTS:
            # Other protocols on other ports are nobody's business, unless the client did ask for KMS there.
            conversation = converse(segments, icmp, frame_of, until, with_ladder=drawn)
        return Walked(conversation, _isns(segments))

    def _connections(self, ended: Ended, group: int) -> Iterator[tuple[list[Segment], list[IcmpError]]]:
        """The connections under one key, with the ICMP errors that quote each."""
        start = int(ended.starts[group])
        segments = ended.packets.segments(np.arange(start, start + int(ended.counts[group])))
        errors = self.flows.icmp.get(int(ended.keys[group]), [])
        for ends in _by_ends(segments) if ended.mixed[group] else [segments]:
            first = ends[0]
            pair = {(first.src, first.sport), (first.dst, first.dport)}
            own = [one for one in errors if {(one.src, one.sport), (one.dst, one.dport)} == pair]
            connections = split_connections(ends)
            for index, connection in enumerate(connections):
                last = index == len(connections) - 1
                numbers = {segment.seq for segment in connection}
                quoting = [one for one in own if one.seq in numbers or (last and one.seq is None)]
                yield connection, own if len(connections) == 1 else quoting

    def _look_up(self, ended: Ended, group: int) -> None:
        for segments, _icmp in self._connections(ended, group):
            self.lookups.feed_stream(segments)


def _by_ends(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Segments of connections whose keys are equal by chance."""
    groups: dict[frozenset[tuple[bytes, int]], list[Segment]] = {}
    for one in segments:
        groups.setdefault(frozenset({(one.src, one.sport), (one.dst, one.dport)}), []).append(one)
    return list(groups.values())


def _isns(segments: Sequence[Segment]) -> tuple[int, int]:
    """The initial sequence numbers of client and host, -1 where not captured."""
    client = host = -1
    for segment in segments:
        if segment.flags & _SYN:
            if not segment.flags & _ACK:
                client = segment.seq if client < 0 else client
            elif host < 0:
                host = segment.seq
    return client, host
