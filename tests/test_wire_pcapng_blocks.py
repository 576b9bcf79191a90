"""The blocks that kmsdiag writes, read back by Wireshark's own reader and by kmsdiag's."""

import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.wire import pcapng_blocks as blocks

AT = 1_780_000_000_123_456_789
FRAME = bytes(range(60))


def fields(file: Path, *names: str) -> list[list[str]]:
    command = ["tshark", "-n", "-r", str(file), "-T", "fields"]
    for name in names:
        command += ["-e", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_wireshark_reads_what_is_written(tmp_path: Path) -> None:
    file = tmp_path / "written.pcapng"
    file.write_bytes(
        blocks.section("made by a test")
        + blocks.interface(1, "eth0", "tcp port 1688")
        + blocks.interface(101, "tun0")
        + blocks.packet(0, AT, FRAME, 60, "frame 17 of ring.pcap")
        + blocks.packet(1, AT + 1, FRAME[:33], 1_500)
        + blocks.statistics(0, AT + 2, 12, 3)
    )
    found = fields(file, "frame.time_epoch", "frame.cap_len", "frame.len", "frame.interface_name", "frame.comment")
    assert found == [
        ["1780000000.123456789", "60", "60", "eth0", "frame 17 of ring.pcap"],
        ["1780000000.123456790", "33", "1500", "tun0", ""],
    ]
    said = subprocess.run(["capinfos", str(file)], check=True, capture_output=True, text=True, timeout=60).stdout
    assert "made by a test" in said
    assert "tcp port 1688" in said
    assert "Number of packets = 1" in said


@settings(max_examples=50)
@given(st.text(max_size=6_000), st.binary(max_size=100))
def test_any_comment_and_frame_make_whole_blocks(comment: str, data: bytes) -> None:
    written = blocks.packet(0, AT, data, len(data), comment)
    size = int.from_bytes(written[4:8], "little")
    assert len(written) == size == int.from_bytes(written[-4:], "little")
    assert size % 4 == 0
    assert written[28 : 28 + len(data)] == data


def test_no_option_without_a_text() -> None:
    assert blocks.packet(0, 0, b"", 0).hex() == ("0600000020000000" + "00" * 20 + "20000000")
