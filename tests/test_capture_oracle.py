"""What is found in thousands of made-up connections, against those who made them, tshark, scapy, and a slow way.

``KMSDIAG_VARIANTS`` is how many connections each test makes (1000).
"""

import os
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from scapy.layers.dcerpc import DceRpc5

from kmsdiag.capture.conversation import converse
from kmsdiag.capture.scan import Analysis, Want, analyse
from kmsdiag.model.capture import Conversation, Frame
from kmsdiag.model.outcome import ConversationOutcome as Outcome
from kmsdiag.wire import rpc
from kmsdiag.wire.pdus import Pdu, messages, read
from kmsdiag.wire.streams import Mark, Run, walk
from tests import samples
from tests.netlab import require_tools
from tests.pcapgen import PORT
from tests.pcapvariants import Said, Variant, one_file, variants

COUNT = int(os.environ.get("KMSDIAG_VARIANTS", "1000"))
BATCH = 1000

UNREAD_BY_TSHARK = {
    "mpls-ethernet": "without being told, it does not look for Ethernet with a control word behind a label",
}
"""Frames that tshark leaves alone, and why."""

OUTCOMES = {
    -1: Outcome.REQUEST_FAULT,
    0: Outcome.ACTIVATED,
}


class Found(NamedTuple):
    """A PDU, and the number of the frame in which it was complete."""

    said: Said
    frame: int


class World(NamedTuple):
    """A file of variants, and what is found in it. All by the port of the client."""

    made: list[Variant]
    path: Path
    analysis: Analysis
    conversations: Mapping[int, Conversation]
    slow: Mapping[int, list[Conversation]]
    pdus: Mapping[int, list[tuple[bool, Pdu]]]


def look(path: Path, made: list[Variant]) -> World:
    """Analyse the file, and do it once more the slow way: all packets in memory, each connection for itself."""
    path.write_bytes(one_file(made))
    analysis = analyse([str(path)], want=Want.CONVERSATIONS)
    conversations = {one.client_port: one for one in analysis.conversations}
    assert len(conversations) == len(analysis.conversations)
    packets = samples.packets(path)
    slow: dict[int, list[Conversation]] = defaultdict(list)
    pdus: dict[int, list[tuple[bool, Pdu]]] = defaultdict(list)
    for segments, icmp in packets.connections():
        conversation = converse(segments, icmp, lambda ref: Frame(0, ref), packets.end)
        if conversation is not None:
            slow[conversation.client_port].append(conversation)
        stream = walk(segments)
        for client, direction in ((True, stream.from_client), (False, stream.from_host)):
            pdus[stream.client[1]] += [(client, one) for one in read(direction.runs).pdus]
    return World(made, path, analysis, conversations, slow, pdus)


def worlds(folder: Path, *, lossy: bool) -> Iterator[World]:
    for seed, first in enumerate(range(0, COUNT, BATCH)):
        yield look(folder / f"{seed}.pcapng", variants(seed, min(BATCH, COUNT - first), lossy=lossy))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[World]:
    return list(worlds(tmp_path_factory.mktemp("whole"), lossy=False))


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> list[World]:
    return list(worlds(tmp_path_factory.mktemp("lossy"), lossy=True))


def tshark(path: Path, *, in_order: bool = False) -> dict[int, list[Found]]:
    """PDUs by client port."""
    fields = (
        "frame.number",
        "tcp.srcport",
        "tcp.dstport",
        "dcerpc.pkt_type",
        "dcerpc.cn_call_id",
        "dcerpc.cn_frag_len",
    )
    command = ["tshark", "-r", str(path), "-d", f"tcp.port=={PORT},dcerpc", "-T", "fields", "-Y", "dcerpc"]
    command += ["-o", f"tcp.reassemble_out_of_order:{'FALSE' if in_order else 'TRUE'}"]
    command += [word for field in fields for word in ("-e", field)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found = defaultdict(list)
    for line in run.stdout.splitlines():
        number, source, target, *columns = line.split("\t")
        ends = int(source.split(",")[-1]), int(target.split(",")[-1])
        client = ends[1] == PORT
        for kind, call, size in zip(*(column.split(",") for column in columns), strict=True):
            said = Said(client, int(kind), int(call), int(size))
            found[min(ends) if ends[0] == PORT and ends[1] == PORT else ends[not client]].append(
                Found(said, int(number))
            )
    return found


def ours(pdus: Sequence[tuple[bool, Pdu]]) -> list[Found]:
    return [Found(Said(client, one.type, one.call_id, one.length), one.ref) for client, one in pdus if one.whole]


def saids(found: Sequence[Found]) -> Counter[Said]:
    return Counter(one.said for one in found)


def without_numbers(conversation: Conversation) -> Conversation:
    return msgspec.structs.replace(conversation, number=0)


class TestNothingIsMissing:
    """Segments in any size, order and number of copies, in any frames."""

    def test_every_pdu_is_found_where_tshark_finds_it(self, whole: list[World]) -> None:
        require_tools("tshark")
        for world in whole:
            theirs = tshark(world.path)
            for one in world.made:
                mine = ours(world.pdus[one.port])
                assert saids(mine) == Counter(one.said), one.changes
                if UNREAD_BY_TSHARK.keys().isdisjoint(one.changes):
                    assert sorted(mine) == sorted(theirs[one.port]), (one.port, one.changes)

    def test_exchanges_are_those_that_were_made(self, whole: list[World]) -> None:
        for world in whole:
            assert len(world.analysis.conversations) == len(world.made)
            for one in world.made:
                found = world.conversations[one.port]
                expected = [f"0x{code:08X}" if code >= 0 else "" for code in one.codes]
                assert [exchange.hresult for exchange in found.exchanges] == expected, one.changes
                assert [bool(exchange.fault) for exchange in found.exchanges] == [code < 0 for code in one.codes]
                assert found.outcome in ends_of(one), one.changes
                assert found.lacks == (), one.changes

    def test_nothing_is_a_retransmission_that_was_sent_once(self, whole: list[World]) -> None:
        harmless = {"cut", "joined", "mixed up", "mirrored"}
        for world in whole:
            for one in world.made:
                if set(one.changes[:-1]) <= harmless:
                    assert world.conversations[one.port].retransmissions == 0, one.changes
                elif one.changes[:-1] == ("repeated",) and ":" not in one.ends.client:
                    # Of IPv6, without an identification, a repetition within milliseconds may be a mirror's copy.
                    assert world.conversations[one.port].retransmissions > 0, one.changes

    def test_the_slow_way_says_the_same(self, whole: list[World]) -> None:
        compare(whole)


class TestSomethingIsMissing:
    """One or two segments of each connection were not captured."""

    def test_no_pdu_is_invented_and_none_missed_that_tshark_finds(self, lossy: list[World]) -> None:
        require_tools("tshark")
        for world in lossy:
            theirs = tshark(world.path), tshark(world.path, in_order=True)
            for one in world.made:
                mine = saids(ours(world.pdus[one.port]))
                assert mine <= Counter(one.said), one.changes
                for found in theirs:
                    there = saids(found[one.port]) & Counter(one.said)
                    assert there <= mine, (one.port, one.changes)

    def test_no_verdict_is_wrong(self, lossy: list[World]) -> None:
        for world in lossy:
            for one in world.made:
                found = world.conversations[one.port]
                codes = Counter(f"0x{code:08X}" for code in one.codes if code >= 0)
                assert Counter(one.hresult for one in found.exchanges if one.hresult) <= codes, one.changes
                assert found.outcome in {*ends_of(one), Outcome.NOT_KNOWN}, (one.port, one.changes, found.detail)

    def test_the_slow_way_says_the_same(self, lossy: list[World]) -> None:
        compare(lossy)


def ends_of(one: Variant) -> set[Outcome]:
    """How it ended; of several exchanges any."""
    kinds = {said.kind for said in one.said}
    if not one.codes:
        return {Outcome.BIND_NAK if 13 in kinds else Outcome.BIND_REJECTED}
    return {OUTCOMES.get(code, Outcome.HOST_REFUSED) for code in one.codes}


def compare(made: list[World]) -> None:
    for world in made:
        for port, conversation in world.conversations.items():
            assert [without_numbers(conversation)] == world.slow[port]


def test_scapy_reads_the_same_pdus() -> None:
    """Every PDU that occurs, by scapy's dissector."""
    made = {data for one in variants(7, 400) for _client, data in one.pdus}
    assert {data[2] for data in made} == {0, 2, 3, 11, 12, 13, 14, 15, 18}
    for data in made:
        theirs = DceRpc5(data)
        (mine,) = read([Run(0, data, (Mark(len(data), 1, 0),))]).pdus
        head = theirs.ptype, int(theirs.pfc_flags), theirs.call_id, theirs.frag_len, theirs.auth_len or 0
        assert head == (mine.type, mine.flags, mine.call_id, mine.length, mine.auth_length)
        assert DETAILS.get(mine.type, no_details)(theirs.payload, mine)


def no_details(_theirs: Any, _mine: Pdu) -> bool:
    return True


def same_offers(theirs: Any, mine: Pdu) -> bool:
    found = [
        (one.cont_id, str(one.abstract_syntax.if_uuid), tuple(str(syntax.if_uuid) for syntax in one.transfer_syntaxes))
        for one in theirs.context_elem
    ]
    return found == [tuple(offer) for offer in rpc.decode_bind(mine.data)]


def same_results(theirs: Any, mine: Pdu) -> bool:
    ack = rpc.decode_bind_ack(mine.data)
    secondary = theirs.sec_addr.port_spec.rstrip(b"\0").decode()
    found = [one.result for one in theirs.results]
    return (secondary, found) == (ack.secondary_address, [one.result for one in ack.contexts])


def same_stub(theirs: Any, mine: Pdu) -> bool:
    """Of whole messages; scapy does not join fragments."""
    if mine.flags & 3 != 3:
        return True
    (message,) = messages([mine])
    return (theirs.cont_id, message.stub) == (message.context, bytes(theirs.payload)[: message.stub_length])


DETAILS: dict[int, Callable[[Any, Pdu], bool]] = {
    rpc.REQUEST: same_stub,
    rpc.RESPONSE: same_stub,
    rpc.BIND: same_offers,
    rpc.ALTER_CONTEXT: same_offers,
    rpc.BIND_ACK: same_results,
    rpc.ALTER_CONTEXT_RESP: same_results,
    rpc.BIND_NAK: lambda theirs, mine: bool(theirs.provider_reject_reason == rpc.decode_bind_nak(mine.data)),
    rpc.FAULT: lambda theirs, mine: bool(theirs.status == rpc.decode_fault(mine.data)),
}
