import logging
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dcerpc import DceRpc5
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from kmsdiag.wire import rpc
from kmsdiag.wire.pdus import JOINED_MAX, PDUS_MAX, Message, Pdu, Reading, messages, read
from kmsdiag.wire.streams import Mark, Run, walk
from tests import kmsbytes as make

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)

CONVERSATION = (make.bind(), make.alter(), make.v6_request(), make.v6_request(call=3))
KINDS = sorted(rpc.TYPES)


def run(data: bytes, offset: int = 0, ends: Iterable[int] = ()) -> Run:
    """Bytes in frames 1, 2, … that end at ``ends`` (places in the data), and the rest in one more."""
    places = [*(end for end in ends if end < len(data)), len(data)]
    return Run(offset, data, tuple(Mark(offset + end, number, 10 * number) for number, end in enumerate(places, 1)))


def of(*data: bytes) -> Reading:
    """What is read from bytes without a gap."""
    return read([run(b"".join(data))])


def kinds(reading: Reading) -> list[str]:
    return [pdu.name for pdu in reading.pdus]


@st.composite
def some_pdus(draw: st.DrawFn) -> list[bytes]:
    """PDUs of all types, orders and flags, with and without authentication."""
    return draw(
        st.lists(
            st.builds(
                lambda kind, body, order, flags, call, auth, pad: make.pdu(
                    kind, body, order=order, flags=flags, call=call, auth=auth, pad=pad
                ),
                st.sampled_from(KINDS),
                st.binary(min_size=8, max_size=80),
                st.sampled_from("<>"),
                st.integers(0, 0x7F),
                st.integers(0, 2**32 - 1),
                st.sampled_from([b"", b"", b"token-of-12b"]),
                st.integers(0, 15),
            ),
            min_size=1,
            max_size=8,
        )
    )


def runs_of(data: bytes, cuts: Sequence[tuple[int, int]]) -> Iterator[Run]:
    """The bytes without some stretches (start, end), which do not overlap."""
    at = 0
    for start, end in [*sorted(cuts), (len(data), len(data))]:
        if start > at:
            yield run(data[at:start], at)
        at = max(at, end)


class TestPdus:
    def test_each_has_its_fields_and_the_frame_that_completed_it(self) -> None:
        data = b"".join(CONVERSATION)
        found = read([run(data, ends=(100, 200, 400))]).pdus
        assert [pdu.name for pdu in found] == ["bind", "alter_context", "request", "request"]
        assert [pdu.length for pdu in found] == [160, 72, 292, 292]
        assert [pdu.call_id for pdu in found] == [2, 2, 2, 3]
        assert [pdu.start for pdu in found] == [0, 160, 232, 524]
        assert [pdu.ref for pdu in found] == [2, 3, 4, 4]
        assert [pdu.at for pdu in found] == [20, 30, 40, 40]
        assert b"".join(pdu.data for pdu in found) == data
        assert all(pdu.whole for pdu in found)

    @given(some_pdus(), st.lists(st.integers(1, 40), max_size=12))
    def test_segments_do_not_matter(self, pdus: list[bytes], sizes: list[int]) -> None:
        stream = walk(make.as_stream(b"".join(pdus), sizes))
        assert [pdu.data for pdu in read(stream.from_client.runs).pdus] == pdus

    @given(some_pdus())
    def test_they_are_scapys(self, pdus: list[bytes]) -> None:
        for ours, data in zip(of(*pdus).pdus, pdus, strict=True):
            theirs: Any = DceRpc5(data[:16])
            assert (ours.type, ours.flags, ours.call_id) == (theirs.ptype, int(theirs.pfc_flags), theirs.call_id)
            assert (ours.length, ours.auth_length) == (theirs.frag_len, theirs.auth_len)
            assert ours.little == (theirs.endian == 1)

    @pytest.mark.parametrize("length", [0, 15, 5841, 65_535])
    def test_a_length_no_fragment_can_have_is_no_pdu(self, length: int) -> None:
        assert of(make.pdu(rpc.BIND, bytes(20), length=length)).pdus == ()

    def test_a_token_that_is_longer_than_its_pdu_is_no_pdu(self) -> None:
        data = bytearray(make.bind())
        struct.pack_into("<H", data, 10, 145)
        assert of(bytes(data)).pdus == ()

    def test_an_unfinished_header_is_counted(self) -> None:
        found = of(make.bind(), make.v6_request()[:10])
        assert kinds(found) == ["bind"]
        assert found.unfinished == 10

    def test_there_is_an_end_to_it(self) -> None:
        found = of(make.pdu(rpc.AUTH3, b"") * (PDUS_MAX + 1))
        assert len(found.pdus) == PDUS_MAX
        assert found.full


class TestForeign:
    def test_what_comes_instead_of_pdus(self) -> None:
        page = b"HTTP/1.1 400 Bad Request\r\n" + b"x" * 100
        found = of(page)
        assert found.pdus == ()
        assert found.foreign is not None
        assert found.foreign.data == page[:64]
        assert found.foreign.size == len(page)
        assert found.foreign.ref == 1

    def test_what_comes_before_the_first(self) -> None:
        found = of(b"hello", make.bind())
        assert kinds(found) == ["bind"]
        assert found.foreign is not None
        assert found.foreign.data == b"hello"
        assert found.stray == 0

    def test_what_comes_between_them(self) -> None:
        found = of(make.bind(), b"\5\0hello\5", make.v6_request())
        assert kinds(found) == ["bind", "request"]
        assert found.foreign is None
        assert found.stray == 8


class TestGaps:
    def test_a_pdu_whose_end_is_missing_says_where_the_next_one_is(self) -> None:
        data = b"".join(CONVERSATION)
        found = read(runs_of(data, [(200, 232), (260, 524)]))
        assert kinds(found) == ["bind", "alter_context", "request", "request"]
        assert [len(pdu.data) for pdu in found.pdus] == [160, 40, 28, 292]
        assert [pdu.whole for pdu in found.pdus] == [True, False, False, True]
        assert not any(pdu.after_gap for pdu in found.pdus)

    def test_a_gap_over_several_ends_at_the_next_plausible_header(self) -> None:
        data = b"".join(CONVERSATION)
        found = read(runs_of(data, [(0, 250)]))
        assert kinds(found) == ["request"]
        assert found.pdus[0].start == 524
        assert found.pdus[0].after_gap

    def test_bytes_within_a_cut_pdu_are_passed_over(self) -> None:
        data = b"".join(CONVERSATION)
        found = read(runs_of(data, [(300, 310), (320, 330), (500, 510)]))
        assert kinds(found) == ["bind", "alter_context", "request", "request"]
        assert len(found.pdus[2].data) == 300 - 232

    @given(some_pdus(), st.data())
    def test_nothing_is_made_up(self, pdus: list[bytes], data: st.DataObject) -> None:
        """Whatever is missing, what is read in full is there, in its place."""
        stream = b"".join(pdus)
        cuts = data.draw(st.lists(st.tuples(st.integers(0, len(stream)), st.integers(0, 60)), max_size=3))
        places: dict[int, bytes] = {}
        at = 0
        for one in pdus:
            places[at] = one
            at += len(one)
        for pdu in read(runs_of(stream, [(start, start + size) for start, size in cuts])).pdus:
            assert stream[pdu.start : pdu.start + len(pdu.data)] == pdu.data
            if pdu.start in places:
                assert places[pdu.start].startswith(pdu.data)


class TestMessages:
    def test_a_request_in_one_piece(self) -> None:
        (found,) = messages(of(make.v4_request(call=7)).pdus)
        assert found == Message(
            rpc.REQUEST,
            7,
            True,
            0,
            0,
            make.request_stub(make.body_v4()),
            260,
            True,
            True,
            False,
            284,
            1,
            0,
            284,
            1,
            10,
        )

    def test_fragments_are_joined_per_call(self) -> None:
        stubs = make.request_stub(make.body_v4()), make.request_stub(make.body_opaque())
        parts = [
            make.request(stubs[0][:100], call=2, flags=1),
            make.request(stubs[1][:50], call=3, flags=1),
            make.request(stubs[0][100:200], call=2, flags=0),
            make.request(stubs[1][50:], call=3, flags=2),
            make.request(stubs[0][200:], call=2, flags=2),
        ]
        first, second = messages(of(*parts).pdus)
        assert (first.call_id, first.stub, first.fragments) == (2, stubs[0], 3)
        assert (second.call_id, second.stub, second.fragments) == (3, stubs[1], 2)
        assert first.size == sum(len(parts[index]) for index in (0, 2, 4))
        assert first.end == sum(map(len, parts))
        assert (first.begun, first.ended, first.cut) == (True, True, False)

    def test_a_call_that_begins_anew_leaves_one_that_did_not_end(self) -> None:
        first, second = messages(of(make.request(b"a" * 8, flags=1), make.request(b"b" * 8)).pdus)
        assert not first.ended
        assert (second.ended, second.stub) == (True, b"b" * 8)

    def test_a_last_fragment_without_the_first(self) -> None:
        (found,) = messages(of(make.response(b"c" * 8, flags=2)).pdus)
        assert not found.begun
        assert found.ended

    def test_nothing_is_joined_across_a_gap(self) -> None:
        data = b"".join(make.response(bytes([65 + part]) * 40, flags=flags) for part, flags in enumerate((1, 0, 2)))
        first, second = messages(read(runs_of(data, [(64, 128)])).pdus)
        assert (first.stub, first.begun, first.ended) == (b"A" * 40, True, False)
        assert (second.stub, second.begun, second.ended) == (b"C" * 40, False, True)

    def test_a_cut_fragment_counts_and_is_not_joined(self) -> None:
        data = make.response(b"A" * 40, flags=1) + make.response(b"B" * 40, flags=2)
        (found,) = messages(read(runs_of(data, [(50, 64)])).pdus)
        assert found.stub == b"A" * 26
        assert found.stub_length == 80
        assert (found.cut, found.ended) == (True, False)

    @pytest.mark.parametrize("pad", [0, 4, 12])
    @pytest.mark.parametrize("order", "<>")
    def test_the_authentication_trailer_is_no_stub(self, order: str, pad: int) -> None:
        stub = make.request_stub(make.body_v4(), order=order)
        (found,) = messages(of(make.request(stub, order=order, auth=b"0123456789abcdef", pad=pad)).pdus)
        assert found.stub == stub
        assert found.stub_length == len(stub)
        assert found.ended

    def test_an_object_uuid_comes_before_the_stub(self) -> None:
        (found,) = messages(of(make.request(bytes(16) + b"the stub", flags=0x83)).pdus)
        assert found.stub == b"the stub"

    def test_there_is_an_end_to_joining(self) -> None:
        part = make.request(bytes(5800), flags=0)
        first = make.request(bytes(5800), flags=1)
        (found,) = messages(of(first, *[part] * 20).pdus)
        assert JOINED_MAX <= len(found.stub) <= JOINED_MAX + 5800
        assert found.stub_length == 21 * 5800
        assert found.cut

    def test_other_types_are_none(self) -> None:
        assert messages(of(*(make.pdu(kind, bytes(20)) for kind in KINDS if kind not in (0, 2))).pdus) == []

    @given(st.lists(st.tuples(st.sampled_from([0, 2]), st.integers(0, 3), st.integers(1, 2), st.binary(max_size=30))))
    def test_every_fragment_is_in_one_message(self, parts: list[tuple[int, int, int, bytes]]) -> None:
        data = [
            make.pdu(kind, struct.pack("<IHH", 0, 0, 0) + stub, flags=flags, call=call)
            for kind, flags, call, stub in parts
        ]
        found = messages(of(*data).pdus)
        assert sum(one.fragments for one in found) == len(parts)
        assert sum(len(one.stub) for one in found) == sum(len(stub) for *_, stub in parts)


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 50))
def test_no_bytes_are_too_strange(first: bytes, second: bytes, gap: int) -> None:
    runs = [run(part, offset) for part, offset in ((first, 0), (second, len(first) + gap)) if part]
    check(read(runs))


@given(st.sampled_from(CONVERSATION), st.integers(0, 291), st.binary(min_size=1, max_size=8), st.integers(0, 300))
def test_no_change_and_no_cut_is_too_strange(base: bytes, at: int, change: bytes, end: int) -> None:
    data = (base[:at] + change + base[at + len(change) :])[: end or 1]
    check(read([run(data)] if data else []))


def check(reading: Reading) -> None:
    for pdu in reading.pdus:
        assert pdu.type in rpc.TYPES
        assert 0 < len(pdu.data) <= pdu.length
    for message in messages(reading.pdus):
        assert len(message.stub) <= message.stub_length


@pytest.mark.skipif(not Path("/usr/bin/tshark").exists(), reason="tshark is not installed")
def test_they_are_tsharks(tmp_path: Path) -> None:
    """The same PDUs in the same frames, for some conversations in segments of many sizes."""
    frames: list[Any] = []
    wanted: list[tuple[int, ...]] = []
    pdus = [*CONVERSATION, make.v4_request(call=4), make.request(bytes(40), flags=1), make.request(bytes(4), flags=2)]
    for port, size in enumerate((24, 47, 100, 160, 500, 2000), 40_000):
        talk = make.Talk(port=port, number=len(frames) + 1).open()
        data = b"".join(pdus)
        for at in range(0, len(data), size):
            talk.say(data[at : at + size], client=True)
        talk.close()
        for one in talk.segments:
            packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(
                src=".".join(map(str, one.src)), dst=".".join(map(str, one.dst)), id=one.ip_id
            )
            packet /= TCP(sport=one.sport, dport=one.dport, seq=one.seq, ack=one.ack, flags=one.flags)
            frames.append(packet / one.payload)
        found = read(walk(talk.segments).from_client.runs).pdus
        wanted += [(pdu.ref, pdu.type, pdu.call_id, pdu.length) for pdu in found]
    capture = tmp_path / "streams.pcap"
    wrpcap(str(capture), frames)
    fields = ["frame.number", "dcerpc.pkt_type", "dcerpc.cn_call_id", "dcerpc.cn_frag_len"]
    command = ["tshark", "-r", str(capture), "-d", "tcp.port==1688,dcerpc", "-o", "tcp.reassemble_out_of_order:TRUE"]
    command += ["-Y", "dcerpc", "-T", "fields", "-E", "separator=;", *(f"-e{field}" for field in fields)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    theirs: list[tuple[int, ...]] = []
    for line in lines:
        number, *columns = line.split(";")
        theirs += [
            (int(number), *map(int, values)) for values in zip(*(one.split(",") for one in columns), strict=True)
        ]
    assert sorted(theirs) == sorted(wanted)


def test_a_pdu_is_found_by_its_name() -> None:
    assert Pdu(17, 3, 1, True, 16, 0, bytes(16), 0, 1, 1).name == "shutdown"
