import random
import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.wire import chain
from kmsdiag.wire.batch import CaptureError, Interface
from kmsdiag.wire.magic import is_pcap, is_pcapng
from kmsdiag.wire.pcapng import MAX_INTERFACES
from kmsdiag.wire.records import MAX_NOTES, CaptureReader
from tests.capturefile import VARIANTS, Found, Pcapng, Written, pcap, pieces, read
from tests.netlab import require_tools
from tests.samples import SAMPLES

AT = 1_760_000_000_123_456_000

frames = st.builds(
    lambda at, data, more: Written(at * 1000, data, len(data) + more),
    st.integers(0, (1 << 32) * 1_000_000 - 1),
    st.binary(max_size=80),
    st.integers(0, 2000),
)
variants = pytest.mark.parametrize("little", [True, False], ids=["le", "be"])


def expected(records: list[Written], link: int = 1) -> list[tuple[int, int, int, bytes, int]]:
    return [(number, link, *one) for number, one in enumerate(records, 1)]


def plain(found: list[Found]) -> list[tuple[int, int, int, bytes, int]]:
    return [tuple(one[:5]) for one in found]  # type: ignore[misc]


def some(count: int, seed: int = 1, most: int = 1514) -> list[Written]:
    """Records as of a busy link."""
    chance = random.Random(seed)
    at, records = AT, []
    for _ in range(count):
        at += chance.randrange(0, 2_000_000, 1000)
        data = chance.randbytes(chance.choice([60, 66, 1514, chance.randrange(1, most)]))
        records.append(Written(at, data, len(data) + chance.choice([0, 0, 0, 500])))
    return records


class TestPcap:
    @settings(max_examples=60)
    @given(st.lists(frames, max_size=12), st.sampled_from(list(VARIANTS)), st.booleans(), st.integers(1, 300))
    def test_what_was_written(self, records: list[Written], variant: str, little: bool, size: int) -> None:
        data = pcap(records, variant, little=little)
        found, reader = read(data, size)
        assert plain(found) == expected(records)
        facts = reader.facts
        assert (facts.packets, facts.reached, facts.damaged, facts.notes) == (len(records), len(data), False, ())
        times = [one.at for one in records if one.at]
        assert (facts.first, facts.last) == ((min(times), max(times)) if times else (None, None))
        for one in found:
            assert data[one.position + VARIANTS[variant].header :].startswith(one.data)

    @variants
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_many_records_in_lanes(self, variant: str, little: bool) -> None:
        records = some(3500)
        data = pcap(records, variant, little=little)
        assert len(data) > chain.LANE * chain.FEWEST * 1.5
        assert plain(read(data)[0]) == expected(records)
        assert plain(read(data, 1_500_001)[0]) == expected(records)

    @pytest.mark.parametrize(
        ("variant", "little", "format_"),
        [
            ("micro", True, "pcap"),
            ("micro", False, "pcap, big-endian"),
            ("nano", False, "pcap, nanoseconds, big-endian"),
            ("modified", True, "pcap, modified"),
            ("ixia-software", True, "pcap, Ixia"),
        ],
    )
    def test_its_format_has_a_name(self, variant: str, little: bool, format_: str) -> None:
        assert read(pcap([], variant, little=little))[1].format == format_

    @variants
    def test_link_type_and_snap_length(self, little: bool) -> None:
        # Upper bits: four bytes of FCS, and the flag that says so
        _, reader = read(pcap([], link=276 | 0x2400_0000, snap=96, little=little))
        assert reader.interfaces == (Interface(276, 96),)

    @variants
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_cut_at_every_byte(self, variant: str, little: bool) -> None:
        records = [Written(AT, b"first frame", 11), Written(AT, b"", 9), Written(AT, b"the third", 900)]
        data = pcap(records, variant, little=little)
        kind = VARIANTS[variant]
        ends = [kind.file]
        for one in records:
            ends.append(ends[-1] + kind.header + len(one.data))
        for size in range(len(data)):
            if size < kind.file:
                with pytest.raises(CaptureError):
                    read(data[:size])
                continue
            whole = sum(end <= size for end in ends) - 1
            found, reader = read(data[:size], 7)
            assert plain(found) == expected(records)[:whole]
            assert reader.damaged == (size not in ends)
            if reader.damaged:
                assert reader.notes == (f"at byte {ends[whole]}: the file is cut within this record",)
                assert reader.facts.reached == ends[whole]

    @variants
    @pytest.mark.parametrize("size", [20, 1 << 23])
    def test_an_implausible_length_ends_it(self, little: bool, size: int) -> None:
        records = some(5)
        sound = pcap(records, little=little)
        for claim in (262_145, 0xFFFFFFF0):
            bad = struct.pack("<IIII" if little else ">IIII", 1_760_000_001, 0, claim, claim)
            found, reader = read(sound + bad + sound[24:], size)
            assert plain(found) == expected(records)
            assert reader.damaged
            assert reader.notes == (
                f"at byte {len(sound)}: a record claims {claim} bytes, and no frame is longer than 262144",
            )

    def test_damage_in_the_middle_of_lanes(self) -> None:
        records = some(5000)
        sound = pcap(records)
        place = read(sound)[0][2345].position
        data = sound[: place + 8] + b"\xff\xff\xff\x7f" + sound[place + 12 :]
        found, reader = read(data)
        assert plain(found) == expected(records)[:2345]
        assert (reader.damaged, reader.facts.reached) == (True, place)

    def test_the_longest_frame(self) -> None:
        records = [Written(AT, bytes(262_144), 300_000), Written(AT, b"x", 1)]
        assert plain(read(pcap(records), 100_000)[0]) == expected(records)

    def test_more_captured_than_there_was(self) -> None:
        records = [Written(AT, b"sixty", 3)]
        assert plain(read(pcap(records))[0]) == expected(records)

    def test_frames_that_hold_captures(self) -> None:
        """A capture that was sent through the network: each lane's guess may fall into it, and nothing changes."""
        inner = pcap(some(80, seed=5, most=100))
        records = [
            Written(AT + number * 1000, inner[number % 4000 : number % 4000 + 9000], 9000) for number in range(400)
        ]
        assert plain(read(pcap(records))[0]) == expected(records)

    def test_frames_in_one_direction_of_time(self) -> None:
        """Time may go back, by more than the 18 hours that a lane's guess relies on."""
        records = [one._replace(at=AT - number * 10**12) for number, one in enumerate(some(3000))]
        found, reader = read(pcap(records))
        assert plain(found) == expected(records)
        assert (reader.facts.first, reader.facts.last) == (AT - 2999 * 10**12, AT)


def four(*, little: bool) -> tuple[bytes, list[tuple[int, int, int, bytes, int]], list[int]]:
    """A file with everything in it; its records, and where its blocks end."""
    file = Pcapng(little=little)
    ends: list[int] = []

    def written(_: Pcapng) -> None:
        ends.append(len(file.data))

    written(file.section())
    written(file.interface(1, 0, file.option(2, b"eth0")))
    written(file.packet(b"ethernet", 1_000_000, 0, 70))
    written(file.interface(101, 64, file.option(9, b"\x09") + file.option(14, file.pack("q", 5))))
    written(file.block(0x1234, b"unknown"))
    written(file.packet(b"raw", 2_000_000_000, 1))
    written(file.old(b"old", 3_000_000, 0))
    written(file.block(0xBAD, file.pack("I", 1) + b"custom"))
    written(file.simple(b"simple"))
    written(file.statistics(1, 12))
    seconds = 1_000_000_000
    return (
        file.data,
        [
            (1, 1, seconds, b"ethernet", 70),
            (2, 101, 7 * seconds, b"raw", 3),
            (3, 1, 3 * seconds, b"old", 3),
            (4, 1, 3 * seconds, b"", 0),
            (5, 1, 3 * seconds, b"simple", 6),
        ],
        ends,
    )


class TestPcapng:
    @variants
    @pytest.mark.parametrize("size", [1, 13, 1 << 23])
    def test_all_kinds_of_blocks(self, little: bool, size: int) -> None:
        data, records, _ = four(little=little)
        found, reader = read(data, size)
        assert plain(found) == records
        assert reader.interfaces == (
            Interface(1, 0, "eth0"),
            Interface(101, 64, "", 12, 9, False, 5),
        )
        assert (reader.format, reader.damaged, reader.notes) == ("pcapng", False, ())

    @variants
    def test_cut_at_every_byte(self, little: bool) -> None:
        data, records, ends = four(little=little)
        for size in range(1, len(data)):
            if size < 4:
                with pytest.raises(CaptureError):
                    read(data[:size])
                continue
            found, reader = read(data[:size], 50)
            whole = max((end for end in ends if end <= size), default=0)
            assert plain(found) == [
                one for one, place in zip(records, ends_of(records, ends), strict=True) if place <= size
            ]
            assert reader.damaged == (size != whole)
            if reader.damaged:
                assert reader.notes == (f"at byte {whole}: the file is cut within this record",)

    @settings(max_examples=300)
    @given(st.data(), st.booleans(), st.sampled_from([9, 64, 1 << 23]))
    def test_any_change_is_survived(self, data: st.DataObject, little: bool, size: int) -> None:
        sound, records, ends = four(little=little)
        place = data.draw(st.integers(0, len(sound) - 1))
        change = data.draw(st.binary(min_size=1, max_size=8))
        bad = sound[:place] + change + sound[place + len(change) :]
        try:
            found, _ = read(bad, size)
        except CaptureError:
            assert place < 4
            return
        # What ends before the change is as it was.
        before = sum(end <= place for end in ends_of(records, ends))
        assert plain(found)[:before] == records[:before]
        for one in found:
            assert 0 <= one.position < len(bad)
            assert one.data in bad

    @pytest.mark.parametrize(
        ("power", "ticks", "at"),
        [
            (0, 7, 7_000_000_000),
            (6, 1_500_000, 1_500_000_000),
            (9, 15, 15),
            (12, 15_999, 15),
            (28, 2**64 - 1, 1),
            (40, 2**64 - 1, 0),
            (127, 2**64 - 1, 0),
            (0, 2**64 - 1, 2**63 // 10**9 * 10**9),
            (6, 2**64 - 1, 2**63 // 1000 * 1000),
            (0x80, 7, 7_000_000_000),
            (0x80 | 10, 1536, 1_500_000_000),
            (0x80 | 40, 3 << 39, 1_500_000_000),
            (0x80 | 63, 3 << 62, 1_500_000_000),
            (0x80 | 64, 1 << 63, 500_000_000),
            (0x80 | 127, 2**64 - 1, 0),
            (0x80, 2**64 - 1, None),
        ],
    )
    def test_resolutions(self, power: int, ticks: int, at: int | None) -> None:
        file = Pcapng().section()
        file.interface(options=file.option(9, bytes([power]))).packet(b"x", ticks)
        (found,), _ = read(file.data)
        if at is None:
            assert found.at == pytest.approx(2**63, rel=1e-8)
        else:
            assert found.at == at

    @pytest.mark.parametrize("shift", [-(2**63), -1, 0, 1, 2**63 - 1])
    @pytest.mark.parametrize("ticks", [0, 1_000_000, 2**64 - 1])
    def test_an_offset_never_leaves_what_a_date_can_be(self, shift: int, ticks: int) -> None:
        file = Pcapng().section()
        file.interface(options=file.option(14, file.pack("q", shift))).packet(b"x", ticks)
        (found,), _ = read(file.data)
        exact = ticks * 1000 + shift * 10**9
        if abs(exact) < 2**62:
            assert found.at == exact
        assert -(2**63) <= found.at < 2**63

    @variants
    def test_a_section_of_the_other_byte_order(self, little: bool) -> None:
        one, other = Pcapng(little=little), Pcapng(little=not little)
        one.section().interface(1).interface(101).packet(b"one", 1, 1)
        other.section().interface(113, 0, other.option(9, b"\x09")).packet(b"two", 1, 0).packet(b"lost", 1, 1)
        data = one.data + other.data + one.data
        for size in (5, 1 << 23):
            found, reader = read(data, size)
            assert [(one.number, one.link, one.at, one.data) for one in found] == [
                (1, 101, 1000, b"one"),
                (2, 113, 1, b"two"),
                (3, 101, 1000, b"one"),
            ]
            assert [one.link for one in reader.interfaces] == [1, 101, 113, 1, 101]
            place = len(one.data) + len(other.data) - 36
            what = "a packet of interface 1, which is not described, is left out"
            assert reader.notes == (f"at byte {place}: {what}",)

    def test_many_small_sections(self) -> None:
        one = Pcapng().section().interface(1).packet(b"x" * 60, 5)
        found, reader = read(one.data * 3000)
        assert (len(found), len(reader.interfaces)) == (3000, 3000)

    def test_too_many_sections(self) -> None:
        _, reader = read(Pcapng().section().data * (MAX_INTERFACES + 1))
        assert reader.notes[0].endswith(f"more than {MAX_INTERFACES} sections")

    def test_many_blocks_in_lanes(self) -> None:
        file = Pcapng().section().interface(1, 0, Pcapng().option(9, b"\x09"))
        parts, records = [file.data], []
        for number, one in enumerate(some(4000)):
            block = Pcapng()
            if number % 50 == 7:
                block.block(0x1234, bytes(number % 900))
            block.packet(one.data, one.at, 0, one.length)
            records.append((number + 1, 1, *one))
            parts.append(block.data)
        data = b"".join(parts)
        for size in (1_700_003, 1 << 23):
            found, reader = read(data, size)
            assert plain(found) == records
            assert (reader.damaged, reader.facts.reached) == (False, len(data))

    @pytest.mark.parametrize(
        ("tail", "problem"),
        [
            (struct.pack("<II", 6, 8), "a block has the impossible length 8"),
            (struct.pack("<III", 6, 0, 0), "a block has the impossible length 0"),
            (struct.pack("<II", 6, 33) + bytes(40), "a block has the impossible length 33"),
            (struct.pack("<IIII", 99, 16, 0, 20), "a block gives its length as 16 and then as 20"),
            (
                Pcapng().block(6, struct.pack("<IIIII", 0, 0, 0, 61, 61) + bytes(60)).data,
                "a block of 92 bytes claims a packet of 61",
            ),
            (Pcapng().block(6, bytes(8)).data, "a block of 20 bytes claims a packet of "),
            (Pcapng().block(3, struct.pack("<I", 61) + bytes(60)).data, "a block of 76 bytes claims a packet of 61"),
            (struct.pack("<II", 6, 0x7FFFFFF0) + bytes(40), "a block of type 6 claims 2147483632 bytes"),
            (struct.pack("<III", 0x0A0D0D0A, 28, 0x12345678) + bytes(40), "a section header without a byte order"),
            (
                struct.pack("<III", 0x0A0D0D0A, 24, 0x1A2B3C4D) + bytes(40),
                "a section header has the impossible length 24",
            ),
            (struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 2, 0, -1, 28), "a section of pcapng version 2"),
            (
                struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 32),
                "a section header gives its length as 28",
            ),
        ],
    )
    def test_damage_ends_it(self, tail: bytes, problem: str) -> None:
        sound = Pcapng().section().interface().packet(b"one").packet(b"two").data
        after = Pcapng().packet(b"lost").data
        for size in (11, 1 << 23):
            found, reader = read(sound + tail + after, size)
            assert [one.data for one in found] == [b"one", b"two"]
            assert reader.damaged
            assert reader.facts.reached == len(sound)
            (note,) = reader.notes
            assert note.startswith(f"at byte {len(sound)}: {problem}")

    def test_a_huge_block_of_no_use_is_passed_over(self) -> None:
        file = Pcapng().section().interface().packet(b"one")
        file.block(10, bytes(5_000_000)).packet(b"two")
        for size in (60_000, 1 << 23):
            assert [one.data for one in read(file.data, size)[0]] == [b"one", b"two"]
        _, reader = read(file.data[:1_000_000], 60_000)
        assert (reader.damaged, reader.packets) == (True, 1)

    def test_a_packet_before_any_interface(self) -> None:
        found, reader = read(Pcapng().section().packet(b"early").interface().packet(b"late").data)
        assert [(one.number, one.data) for one in found] == [(1, b"late")]
        assert not reader.damaged

    def test_notes_are_bounded(self) -> None:
        file = Pcapng().section().interface()
        for _ in range(50):
            file.packet(b"x", number=3)
        _, reader = read(file.data)
        assert len(reader.notes) == MAX_NOTES + 1
        assert reader.notes[-1] == f"{50 - MAX_NOTES} more notes like these"

    def test_simple_packets_are_cut_by_the_snap_length(self) -> None:
        file = Pcapng().section().interface(1, 20).simple(b"y" * 20, 70).simple(b"y" * 12)
        found, _ = read(file.data)
        assert [(len(one.data), one.length, one.at) for one in found] == [(20, 70, 0), (12, 12, 0)]

    def test_options_that_lie(self) -> None:
        for options in (b"\x02\x00\xff\xff", b"\x09\x00\x00\x00", b"\x0e\x00\x03\x00abc\0", b"\x02\x00"):
            found, reader = read(Pcapng().section().interface(1, 0, options).packet(b"x").data)
            assert (len(found), reader.interfaces) == (1, (Interface(1, 0),))

    def test_names_are_shown_as_printable_ascii(self) -> None:
        file = Pcapng().section()
        file.interface(1, 0, file.option(2, b"\x1b[31mred\xff"))
        assert read(file.data)[1].interfaces[0].name == "\\x1b[31mred\\xff"

    def test_statistics_of_an_interface_that_is_none(self) -> None:
        _, reader = read(Pcapng().section().interface().statistics(9, 4).block(5, b"").data)
        assert (reader.damaged, reader.interfaces[0].dropped) == (False, None)


LARGE = {
    False: pcap(some(2000, seed=11)),
    True: Pcapng().section().interface().data
    + b"".join(Pcapng().packet(one.data, one.at // 1000, 0, one.length).data for one in some(2000, seed=12)),
}


def ends_of(records: list[tuple[int, int, int, bytes, int]], ends: list[int]) -> list[int]:
    """Where the blocks of the records of :func:`four` end."""
    assert len(records) == 5
    return [ends[step] for step in (2, 5, 6, 7, 8)]


class TestReader:
    @settings(max_examples=25)
    @given(st.data(), st.booleans())
    def test_lanes_change_nothing_in_damaged_files(self, data: st.DataObject, ng: bool) -> None:
        sound = LARGE[ng]
        place = data.draw(st.integers(24, len(sound) - 8))
        change = data.draw(st.binary(min_size=1, max_size=8))
        bad = sound[:place] + change + sound[place + len(change) :]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chain, "FEWEST", 1 << 30)
            expected_records, serial = read(bad)
        found, reader = read(bad)
        assert found == expected_records
        assert reader.facts == serial.facts

    @given(st.binary(max_size=300), st.integers(1, 50))
    def test_any_bytes(self, data: bytes, size: int) -> None:
        try:
            found, reader = read(data, size)
        except CaptureError:
            return
        assert reader.damaged or not found

    @pytest.mark.parametrize(("data", "what"), [(b"", "an empty file"), (b"GIF89a", "no capture file")])
    def test_no_capture(self, data: bytes, what: str) -> None:
        with pytest.raises(CaptureError, match=what):
            read(data)

    def test_nothing_is_said_before_anything_was_read(self) -> None:
        reader = CaptureReader(pieces(b""))
        assert (reader.format, tuple(reader.links), reader.notes) == ("", (), ())
        with pytest.raises(CaptureError):
            _ = reader.facts


def tshark(file: Path) -> list[tuple[int, int, int, int]]:
    """Number, time, captured and whole length of all frames, as Wireshark sees them."""
    fields = ["frame.number", "frame.time_epoch", "frame.cap_len", "frame.len"]
    command = ["tshark", "-n", "-r", str(file), "-T", "fields", *(word for field in fields for word in ("-e", field))]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = []
    for line in run.stdout.splitlines():
        number, at, caplen, length = line.split("\t")
        seconds, _, rest = at.partition(".")
        found.append((int(number), int(seconds or 0) * 10**9 + int(rest or 0), int(caplen), int(length)))
    return found


def seen(data: bytes) -> list[tuple[int, int, int, int]]:
    return [(one.number, one.at, len(one.data), one.length) for one in read(data)[0]]


class TestWireshark:
    @variants
    @pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "old"])
    def test_pcap(self, variant: str, little: bool, tmp_path: Path) -> None:
        require_tools("tshark")
        data = pcap(some(3000, seed=9), variant, little=little)
        for part in (data, data[:-7]):
            (tmp_path / "file").write_bytes(part)
            assert seen(part) == tshark(tmp_path / "file")

    @variants
    def test_pcapng(self, little: bool, tmp_path: Path) -> None:
        """All but the times of blocks that have none, and the bytes of those that are no packets."""
        require_tools("tshark")
        data = four(little=little)[0] * 2
        (tmp_path / "file").write_bytes(data)
        theirs = tshark(tmp_path / "file")
        ours = seen(data)
        assert [one[0] for one in ours] == [one[0] for one in theirs] == list(range(1, 11))
        for mine, other in zip(ours, theirs, strict=True):
            assert mine == other or (other[1] == 0 and mine[2:] in (other[2:], (0, 0)))

    def test_files_at_hand(self) -> None:
        """Where the collection of captures is on this machine, one in eight; of those all that are told frames of."""
        if not SAMPLES.is_dir():
            return
        require_tools("tshark")
        files = sorted(file for file in SAMPLES.rglob("*") if is_a_capture(file))
        for file in files[::8]:
            ours, theirs = seen(file.read_bytes()), tshark(file)
            assert len(ours) == len(theirs), file
            for mine, other in zip(ours, theirs, strict=True):
                assert mine == other or (other[1] == 0 and mine[2:] in (other[2:], (0, 0))), file

    def test_the_counts_that_are_told_of_files_at_hand(self) -> None:
        if not SAMPLES.is_dir():
            return
        told = (SAMPLES / "SOURCES.md").read_text(encoding="utf-8")
        counts = re.findall(r"\*\*(\S+)\*\* \((\d+) fr", told)
        counts += re.findall(r"^\| (\S+) \|.*packets=(\d+)", told, re.MULTILINE)
        places = {file.name: file for file in SAMPLES.rglob("*")}
        compared = 0
        for name, count in counts:
            if is_a_capture(places.get(name)):
                compared += 1
                _, reader = read(places[name].read_bytes())
                assert reader.packets == int(count), name
                assert reader.damaged == (name in DAMAGED), name
        assert compared > 100


DAMAGED = {
    "derived-cut-mid-record.pcap",
    "derived-garbage-record-at-end.pcap",
    "ndpi--fuzz-2021-10-13.pcap",
    "sv--tls_DER-incomplete-header.pcap",
}


def is_a_capture(file: Path | None) -> bool:
    """Whether it is a capture that is not packed."""
    if file is None or not file.is_file():
        return False
    with file.open("rb") as opened:
        head = opened.read(4)
    return is_pcap(head) or is_pcapng(head)
