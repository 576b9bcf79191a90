"""Captures that are damaged, lying, endless, or none: what can be read is reported, in bounded time and memory."""

import gzip
import json
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.capture.scan import Analysis, Want, analyse
from kmsdiag.cli import main
from tests.netlab import require_tools
from tests.pcapfiles import Frame, Pcapng, ethernet, frames, gz, pcap, pcapng, zst
from tests.pcapgen import (
    ACK,
    CLIENT,
    HOST,
    PORT,
    RESOLVER,
    RST,
    Ends,
    Packet,
    Talk,
    alter,
    alter_response,
    answered,
    bind,
    bind_ack,
    called,
    datagram,
    ip,
    noise,
    packed,
    pdu,
    request,
    request_v4,
    response,
    transport,
)

Capture = pytest.CaptureFixture[str]

GOOD = frames(Talk().activation().packets())
FOLDER = Path(__file__).parent.parent / "fixtures/pcap"


def analysed(path: Path) -> Analysis:
    return analyse([str(path)], want=Want.CONVERSATIONS)


def run(capsys: Capture, *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["analyze", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.pcap"
    path.write_bytes(pcap(GOOD))
    return path


# cut and changed anywhere

PACKINGS: dict[str, Callable[[list[Frame]], bytes]] = {
    "pcap": pcap,
    "nano": lambda captured: pcap(captured, order=">", nano=True),
    "pcapng": pcapng,
    "sections": lambda captured: bytes(
        Pcapng()
        .interface(name="a")
        .packets(captured[:2])
        .section(">")
        .interface()
        .packets(captured[2:])
        .statistics(0, 3)
    ),
    "gz": lambda captured: gz(pcap(captured)),
    "zst": lambda captured: zst(pcapng(captured)),
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_cut_at_every_byte(packing: str, tmp_path: Path) -> None:
    """More and more of the packets are there, never another one; what is wrong is in the notes."""
    captured = frames(Talk().syn().add(False, RST | ACK, seq=0).syn().add(False, RST | ACK, seq=0).packets())
    data = PACKINGS[packing](captured)
    path = tmp_path / "cut"
    before = 0
    for size in range(1, len(data) + 1):
        path.write_bytes(data[:size])
        analysis = analysed(path)
        if not analysis.answer.files:
            ((_label, why),) = analysis.unusable
            assert why
            assert before == 0
            continue
        facts = analysis.answer.files[0]
        assert before <= facts.packets <= 4
        before = facts.packets
        assert facts.damaged == bool(facts.notes)
        assert len(analysis.conversations) == (facts.packets > 0)
    assert before == 4


@settings(max_examples=150)
@given(st.data())
def test_any_bytes_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A few bytes of a capture, whole or packed, have any other value."""
    name = data.draw(st.sampled_from(sorted(path.name for path in FOLDER.iterdir() if ".pcap" in path.name)))
    content = bytearray((FOLDER / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(content)
    analysis = analysed(path)
    assert bool(analysis.unusable) != bool(analysis.answer.files)


@settings(max_examples=100)
@given(st.binary(max_size=400))
def test_any_bytes_behind_a_header(tmp_path_factory: pytest.TempPathFactory, rest: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    for head in (pcap([]), bytes(Pcapng().interface())):
        path.write_bytes(head + rest)
        assert analysed(path).unusable == ()


@settings(max_examples=100)
@given(st.binary(max_size=300), st.sampled_from([0, 1, 9, 12, 50, 101, 104, 108, 113, 228, 229, 276]))
def test_any_bytes_as_a_frame(tmp_path_factory: pytest.TempPathFactory, content: bytes, link: int) -> None:
    path = tmp_path_factory.getbasetemp() / "frame"
    path.write_bytes(pcap([Frame(0, content)] * 3, link))
    assert analysed(path).answer.files[0].packets == 3


@settings(max_examples=100)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=80)), max_size=8))
def test_any_bytes_on_the_port(tmp_path_factory: pytest.TempPathFactory, words: list[tuple[bool, bytes]]) -> None:
    talk = Talk().bound()
    for client, word in words:
        talk.add(client, 24, word)
    path = tmp_path_factory.getbasetemp() / "words"
    path.write_bytes(pcap(frames(talk.close().packets())))
    (conversation,) = analysed(path).conversations
    assert conversation.outcome


# lies


def _tcp(data: bytes, offset: int = 5) -> bytes:
    tcp = struct.pack(">HHIIBBHHH", 50_000, 1688, 1, 1, offset << 4, 24, 64_000, 0, 0) + data
    return transport(packed(CLIENT), packed(HOST), 6, tcp, 16)


def _total(value: int) -> bytes:
    return ethernet(ip(CLIENT, HOST, 6, _tcp(bind()), total=value))


def _patched(data: bytes, place: int, value: bytes) -> bytes:
    return data[:place] + value + data[place + len(value) :]


def _dns(payload: bytes) -> bytes:
    return ethernet(datagram(0, RESOLVER, 53, CLIENT, 53_000, payload).data)


_HEAD = struct.pack(">HHHHHH", 7, 0x8180, 1, 1, 0, 0)
_SRV = b"\x06_vlmcs\x04_tcp\x04corp\x07example\0\0\x21\0\x01"

FRAMES = {
    "IP total length 65535": _total(65_535),
    "IP total length 21": _total(21),
    "IP header of 60 bytes that is not there": _patched(ethernet(ip(CLIENT, HOST, 6, b"")), 14, b"\x4f"),
    "IP header of 0 bytes": _patched(_total(200), 14, b"\x40"),
    "TCP header of 60 bytes that is not there": ethernet(ip(CLIENT, HOST, 6, _tcp(b"", 15))),
    "TCP header of 4 bytes": ethernet(ip(CLIENT, HOST, 6, _tcp(bind(), 1))),
    "UDP length 65535": _patched(_dns(_HEAD + _SRV), 38, b"\xff\xff"),
    "UDP length 3": _patched(_dns(_HEAD + _SRV), 38, b"\0\3"),
    "DNS: a name that points at itself": _dns(_HEAD + b"\xc0\x0c\0\x21\0\x01"),
    "DNS: 65535 answers": _dns(_patched(_HEAD, 6, b"\xff\xff") + _SRV + (b"\xc0\x0c\0\x21\0\x01\0\0\0\0\0\0") * 100),
    "DNS: a record of 65535 bytes": _dns(_HEAD + _SRV + b"\xc0\x0c\0\x21\0\x01\0\0\0\0\xff\xff"),
    "DNS: a name of 300 bytes": _dns(_HEAD + (b"\x3f" + b"a" * 63) * 5 + b"\0\0\x21\0\x01"),
    "an IPv6 chain of headers without end": ethernet(
        bytes.fromhex("60000000ffff3c40") + bytes(32) + b"\x3c\0\0\0\0\0\0\0" * 150
    ),
    "tunnels in tunnels": ethernet(b"".join(ip(CLIENT, HOST, 4, b"", total=0) for _ in range(60))),
    "1500 VLAN tags": bytes(12) + b"\x81\0\0\1" * 1500,
    "labels without end": bytes(12) + b"\x88\x47" + bytes(4000),
    "a fragment beyond the end": ethernet(_patched(ip(CLIENT, HOST, 6, bytes(8)), 6, b"\x1f\xff")),
}


@pytest.mark.parametrize("lie", FRAMES)
def test_a_frame_that_lies(lie: str, tmp_path: Path) -> None:
    """The connection around it is found all the same."""
    path = tmp_path / "lie.pcap"
    odd = [Frame(GOOD[0].at + place, FRAMES[lie]) for place in range(3)]
    path.write_bytes(pcap([*GOOD[:4], *odd, *GOOD[4:]]))
    analysis = analysed(path)
    assert analysis.answer.files[0].packets == 13
    assert [one.outcome for one in analysis.conversations if one.client_port == 49_200] == ["activated"]


SIZE = struct.pack("<I", 0xFFFF_FFFC)

PDUS = {
    "a fragment of 65535 bytes": _patched(request(), 8, b"\xff\xff"),
    "a fragment of 3 bytes": _patched(request(), 8, b"\3\0"),
    "255 contexts": _patched(bind(), 24, b"\xff"),
    "255 transfer syntaxes": _patched(bind(), 30, b"\xff"),
    "an authentication of 65535 bytes": _patched(request(), 10, b"\xff\xff"),
    "a stub of 4 GB": _patched(request(), 24, SIZE * 2),
    "no stub": called(b""),
    "a version that nobody knows": request(body=b"\xff" * 260),
    "first fragments without end": pdu(0, bytes(40), flags=1) * 200,
}


@pytest.mark.parametrize("lie", PDUS)
def test_a_pdu_that_lies(lie: str, tmp_path: Path) -> None:
    path = tmp_path / "lie.pcap"
    for talk in (
        Talk().open().client(PDUS[lie]).host(bind_ack()),
        Talk().bound().client(PDUS[lie]).host(response(hresult=0xC004F042)),
        Talk().bound().client(request()).host(PDUS[lie]),
    ):
        path.write_bytes(pcap(frames(talk.wait(5).close().packets())))
        (conversation,) = analysed(path).conversations
        assert conversation.outcome != "activated"


ANSWERS = {
    "65535 bytes of address": _patched(bind_ack(), 24, b"\xff\xff"),
    "255 results": _patched(bind_ack(), 32, b"\xff"),
    "a body of 4 GB": _patched(response(), 24, SIZE),
    "a refusal without a code": answered(bytes(12)),
}


@pytest.mark.parametrize("lie", ANSWERS)
def test_an_answer_that_lies(lie: str, tmp_path: Path) -> None:
    path = tmp_path / "lie.pcap"
    for talk in (Talk().open().client(bind()).host(ANSWERS[lie]), Talk().bound().client(request()).host(ANSWERS[lie])):
        path.write_bytes(pcap(frames(talk.wait(5).close().packets())))
        (conversation,) = analysed(path).conversations
        assert conversation.outcome in {"malformed", "bind_unanswered", "request_unanswered", "request_aborted"}


def test_options_of_65535_bytes(tmp_path: Path) -> None:
    file = Pcapng().interface()
    for one in GOOD:
        file.packet(one, 0, (1, b"x" * 65_535), (2, bytes(65_535)))
    (tmp_path / "long.pcapng").write_bytes(bytes(file))
    (conversation,) = analysed(tmp_path / "long.pcapng").conversations
    assert conversation.outcome == "activated"


@pytest.mark.parametrize("length", [0, 8, 13, 0x7FFF_FFFC, 0xFFFF_FFFF])
def test_blocks_with_impossible_lengths(length: int, tmp_path: Path) -> None:
    file = Pcapng().interface().packets(GOOD).block(6, bytes(20), length=length)
    path = tmp_path / "block.pcapng"
    path.write_bytes(bytes(file) + noise(100))
    analysis = analysed(path)
    facts = analysis.answer.files[0]
    assert (facts.packets, facts.damaged) == (10, True)
    assert re.search("byte [0-9]+", facts.notes[0])
    assert [one.outcome for one in analysis.conversations] == ["activated"]


ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e=cmd"


def test_nothing_of_a_capture_reaches_the_terminal_unescaped(tmp_path: Path, capsys: Capture) -> None:
    """Machine names, banners, secondary addresses, interface names, DNS names, file names."""
    evil = request_v4(machine=ESCAPES)
    label = ESCAPES.encode()[:20]
    question = (
        _HEAD[:2] + b"\1\0\0\1\0\0\0\0\0\0" + b"\x06_vlmcs\x04_tcp" + bytes([len(label)]) + label + b"\0\0\x21\0\1"
    )
    banner = Talk(Ends(sport=50_001), at=1).open().host(ESCAPES.encode() + b"\r\n").client(bind()).wait(3).close(False)
    named = Talk().open().client(bind()).host(bind_ack(secondary="\x1b[2J\x07")).client(alter()).host(alter_response())
    named.client(request(4, body=evil)).host(response(hresult=0xC004F042)).rst()
    packets = [*named.packets(), *banner.packets(), datagram(9, CLIENT, 53_000, RESOLVER, 53, question)]
    file = Pcapng().interface(name=ESCAPES)
    path = tmp_path / "a\x1b[2J.pcapng"
    path.write_bytes(bytes(file.packets(frames(packets))))
    for options in (
        ["-vv"],
        ["--format", "markdown"],
        ["--conversations", "table"],
        ["--conversations", "csv"],
        ["--show", "1"],
    ):
        code, out, err = run(capsys, path, *options)
        assert code in (0, 1)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", out + err), options


# what is no capture


def test_one_line_says_what_it_is_instead(good: Path, tmp_path: Path, capsys: Capture) -> None:
    require_tools("editcap")
    others = {
        "empty.pcap": b"",
        "noise.pcap": noise(5000),
        "text.pcap": b"no capture\n" * 20,
        "trace.etl": _event_trace(),
    }
    for form, name in (("netmon2", "netmon.cap"), ("snoop", "sun.snoop")):
        subprocess.run(["editcap", "-F", form, str(good), str(tmp_path / name)], check=True, capture_output=True)
        others[name] = (tmp_path / name).read_bytes()
    says = {
        "empty.pcap": "empty",
        "text.pcap": "text",
        "trace.etl": "etl2pcap",
        "netmon.cap": "Network Monitor.*editcap",
        "sun.snoop": "snoop.*editcap",
    }
    for name, content in others.items():
        path = tmp_path / name
        path.write_bytes(content)
        code, out, err = run(capsys, path)
        assert (code, out, err.count("\n")) == (2, "", 1), name
        assert name in err
        assert re.search(says.get(name, ""), err), name
        code, out, err = run(capsys, good, path)
        assert (code, err.count("\n")) == (3, 1), name
        assert out.startswith("✔ HEALTHY"), name


def _event_trace() -> bytes:
    head = bytearray(256)
    head[:4] = head[0x68:0x6C] = (0x10000).to_bytes(4, "little")
    head[0x48:0x4C] = b"\x02\x00\x02\xc0"
    return bytes(head)


def test_files_that_are_not_there(good: Path, tmp_path: Path, capsys: Capture) -> None:
    code, out, err = run(capsys, tmp_path / "no-such-file")
    assert (code, out, err.count("\n")) == (2, "", 1)
    code, out, err = run(capsys, tmp_path / "no-such-file", good)
    assert (code, err.count("\n")) == (3, 1)
    (tmp_path / "nothing").mkdir()
    code, out, err = run(capsys, tmp_path / "nothing")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_damage_is_said_and_the_rest_is_judged(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap([*GOOD, GOOD[0]])[:-20])
    _code, out, err = run(capsys, path, "-v")
    assert err == ""
    assert "HEALTHY" in out
    assert re.search(r"at byte \d+: the file is cut within this record", " ".join(out.split()))


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    """It would end the process, were it mapped."""
    path = tmp_path / "big.pcap"
    rows = pcap([Frame(GOOD[0].at, ethernet(datagram(0, CLIENT, 9, HOST, 9, bytes(1400)).data))])[24:]
    path.write_bytes(pcap(GOOD) + rows * 40_000)
    calls: list[int] = []

    def progress(done: int, _whole: int) -> None:
        if not calls:
            os.truncate(path, done + 1000)
        calls.append(done)

    analysis = analyse([str(path)], want=Want.CONVERSATIONS, progress=progress)
    assert [one.outcome for one in analysis.conversations] == ["activated"]
    assert 10 < analysis.answer.files[0].packets < 40_010


# without end


class Used:
    """What a run of the program took: wall seconds, MB at the most, exit code, JSON."""

    def __init__(self, *arguments: str | Path, jobs: int = 1) -> None:
        command = [sys.executable, "-m", "kmsdiag", "analyze", *map(str, arguments), "--jobs", str(jobs)]
        script = (
            "import resource, subprocess, sys; run = subprocess.run(sys.argv[1:], capture_output=True);"
            "sys.stdout.buffer.write(run.stdout); sys.stderr.buffer.write(run.stderr);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(run.returncode)"
        )
        started = time.monotonic()
        run = subprocess.run(
            [sys.executable, "-c", script, *command, "--format", "json"], capture_output=True, timeout=115
        )
        self.seconds = time.monotonic() - started
        *errors, peak = run.stderr.decode().splitlines()
        self.errors = errors
        self.megabytes = int(peak) / 1024
        self.code = run.returncode
        self.report: dict[str, Any] = json.loads(run.stdout) if run.stdout else {}


def scan(count: int, *, clients: int) -> bytes:
    """SYNs of connections that nobody answers, a row each."""
    first = pcap(frames([Talk().syn().packets()[0]]))
    rows = np.tile(np.frombuffer(first[24:], np.uint8), (count, 1))
    number = np.arange(count)
    client = 0x0A000001 + number % clients
    times = np.empty((count, 2), "<u4")
    times[:, 0], times[:, 1] = 1_780_000_000 + number // 10_000, number % 10_000 * 100
    rows[:, :8] = times.view(np.uint8)
    for at in range(4):
        rows[:, 16 + 26 + at] = client >> 8 * (3 - at) & 0xFF
    port = 1024 + number // clients
    rows[:, 16 + 34], rows[:, 16 + 35] = port >> 8, port & 0xFF
    return first[:24] + rows.tobytes()


@pytest.mark.parametrize(("clients", "megabytes"), [(1000, 700), (1_000_000, 1000)])
def test_a_million_connections_of_one_packet(clients: int, megabytes: int, tmp_path: Path) -> None:
    """Conversations cost some hundred bytes each, and clients as much again; nothing else is kept of them."""
    path = tmp_path / "scan.pcap"
    path.write_bytes(scan(1_000_000, clients=clients))
    used = Used(path)
    assert (used.code, used.errors) == (1, [])
    assert used.report["captures"]["conversations"] == 1_000_000
    assert used.megabytes < megabytes
    assert used.seconds < 100


def asked_for(number: int, *, answered: bool) -> list[Packet]:
    """A client's questions for a KMS record of its own, and for the address of its target, which is not there."""
    client, port = f"10.1.{number >> 8}.{number & 255}", 1024 + number

    def said(at: float, name: bytes, kind: int, rcode: int = 0, record: bytes = b"") -> list[Packet]:
        question = name + struct.pack(">HH", kind, 1)
        asks = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + question
        answers = struct.pack(">HHHHHH", 7, 0x8180 | rcode, 1, bool(record), 0, 0) + question + record
        return [
            datagram(at, client, port, RESOLVER, 53, asks),
            datagram(at + 1e-5, RESOLVER, 53, client, port, answers),
        ]

    target = b"\x05k%04d\0" % number
    name = b"\x06_vlmcs\x04_tcp\x05d%04d\0" % number
    if not answered:
        return said(number / 1000, name, 33, 3)
    srv = b"\xc0\x0c" + struct.pack(">HHIHHHH", 33, 1, 60, 6 + len(target), 0, 0, PORT) + target
    return said(number / 1000, name, 33, record=srv) + said(number / 1000 + 1e-4, target, 1, 3)


@pytest.mark.parametrize("answered", [True, False])
def test_thousands_of_domains(answered: bool, tmp_path: Path) -> None:
    """Twice as many take twice as long: the square of 6,000 would take minutes."""
    path = tmp_path / "names.pcap"
    path.write_bytes(pcap(frames(one for number in range(6000) for one in asked_for(number, answered=answered))))
    used = Used(path)
    assert (used.code, used.errors) == (1, [])
    assert len(used.report["captures"]["lookups"]) == 6000 * (2 if answered else 1)
    assert used.megabytes < 500
    assert used.seconds < 60


@pytest.mark.parametrize("pack", ["gz", "zst"])
def test_a_compression_bomb(pack: str, good: Path, tmp_path: Path) -> None:
    """Empty records without end in a small file: some are read, the rest is left, and that is said."""
    path = tmp_path / f"bomb.pcap.{pack}"
    with gzip.open(path, "wb") if pack == "gz" else zstandard.open(path, "wb") as file:
        file.write(pcap(GOOD))
        for _ in range(300):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 400_000
    used = Used(path, good)
    assert used.errors == []
    notes = [note for one in used.report["captures"]["files"] for note in one.get("notes", ())]
    assert any("no capture shrinks so far" in note for note in notes), notes
    assert used.megabytes < 250
    assert used.seconds < 100
