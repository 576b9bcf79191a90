"""The whole way from files to an answer, and that it does not matter in which pieces they are read."""

import random
import re
import subprocess
import sys
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kmsdiag.capture.scan import Analysis, Want, analyse
from kmsdiag.model.capture import CaptureAnswer, FoundBy, Frame, Lack
from kmsdiag.model.outcome import ConversationOutcome as Outcome
from kmsdiag.model.target import Selection
from kmsdiag.sources import captures
from tests.capturerun import as_json, everything, population, run, write
from tests.pcapfiles import fragments, frames, gz, pcap, pcapng
from tests.pcapgen import ACK, CLIENT, HOST, OLD, RST, START, Ends, Packet, Talk, bind, bind_ack, icmp, merged
from tests.pcapscenes.lookups import NAME, SRV, asked, found, replied

MICROSECONDS = 1_000_000


def outcomes(analysis: Analysis) -> dict[str, int]:
    return dict(analysis.answer.outcomes)


def without_files(answer: CaptureAnswer) -> bytes:
    """An answer without what depends on how its packets lie in files."""
    text = as_json(msgspec.structs.replace(answer, files=(), lookups=()))
    return re.sub(rb'"(first|last|request|response|frame)":\[\d+,\d+\]', b"", text)


class TestPieces:
    """However the input is cut, the answer is the same."""

    @pytest.mark.parametrize("seed", range(12))
    def test_two_parts_are_as_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        file = write(tmp_path / "all.pcap", population(seed))
        whole = everything(file)
        monkeypatch.setattr(captures, "LEAST", 2_000)
        halves = everything(file, executor=Here())
        assert as_json(halves.answer) == as_json(whole.answer)
        assert halves.conversations == whole.conversations

    def test_two_processes_are_as_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        packets = population(99)
        file = tmp_path / "all.pcapng"
        file.write_bytes(pcapng(frames(packets)))
        whole = run(file)
        monkeypatch.setattr(captures, "LEAST", 2_000)
        assert as_json(run(file, jobs=2).answer) == as_json(whole.answer)
        with ProcessPoolExecutor(2) as pool:
            assert as_json(run(file, executor=pool).answer) == as_json(whole.answer)

    @pytest.mark.parametrize("seed", range(6))
    def test_a_ring_of_files_is_as_one_file(self, tmp_path: Path, seed: int) -> None:
        packets = population(seed)
        chance = random.Random(seed)
        cuts = sorted(chance.sample(range(1, len(packets)), 3))
        ring = [
            write(tmp_path / f"ring_{number}.pcap", packets[begin:end])
            for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, None], strict=True))
        ]
        whole = run(write(tmp_path / "whole.pcap", packets)).answer
        chance.shuffle(ring)
        several = run(*ring).answer
        assert {file.tap for file in several.files} == {0}
        assert [file.label for file in several.files] == [f"ring_{number}.pcap" for number in range(4)]
        assert without_files(several) == without_files(whole)

    def test_a_guess_that_is_wrong_does_no_harm(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A frame in the middle holds what looks like records."""
        talk = Talk().bound()
        inner = pcap(frames(Talk(at=0.01).activation().packets() * 8))[24:]
        decoy = Talk(Ends(sport=40_000, port=9), at=0.002).open().client(inner[:60_000]).packets()
        file = write(tmp_path / "decoy.pcap", merged(talk.exchange().rst().packets(), decoy))
        whole = run(file).answer
        monkeypatch.setattr(captures, "LEAST", 1_000)
        assert as_json(run(file, executor=Here()).answer) == as_json(whole)
        assert whole.outcomes == {"activated": 1}

    def test_the_order_of_arguments_does_not_matter(self, tmp_path: Path) -> None:
        files = [
            write(tmp_path / f"{name}.pcap", Talk(Ends(sport=port), at=at).activation().packets())
            for name, port, at in (("late", 50_001, 90), ("early", 50_002, 5), ("middle", 50_003, 40))
        ]
        answers = {as_json(run(*chosen).answer) for chosen in (files, files[::-1], files[1:] + files[:1])}
        assert len(answers) == 1
        assert [file.label for file in run(*files).answer.files] == ["early.pcap", "middle.pcap", "late.pcap"]

    def test_a_syn_lost_before_a_border_is_found(self, tmp_path: Path) -> None:
        """The first SYN is all that the first file has; the second file has the rest, and must not count it alone."""
        late = Talk().syn().wait(3).syn().syn_ack().ack().client(bind()).host(bind_ack(OLD)).exchange().rst()
        packets = late.packets()
        other = Talk(Ends(sport=60_000), at=-1).activation().packets()
        ring = [
            write(tmp_path / "r1.pcap", [*other, packets[0]]),
            write(tmp_path / "r2.pcap", [*packets[1:], *Talk(Ends(sport=60_001), at=60).activation().packets()]),
        ]
        analysis = everything(*ring)
        assert outcomes(analysis) == {"activated": 3}
        found_late = next(one for one in analysis.conversations if one.client_port == 49_200)
        assert (found_late.syns, found_late.first, found_late.last.file) == (2, Frame(0, len(other) + 1), 1)


class Here(Executor):
    """Runs everything at once, in this process."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class TestOtherPorts:
    def packets(self) -> list[Packet]:
        return merged(
            Talk(Ends(CLIENT, 50_000, HOST, 1689), at=1).activation().packets(),
            Talk(Ends("192.0.2.11", 50_000, HOST, 1689), at=2).syn().add(False, RST | ACK, seq=0).packets(),
            Talk(Ends("192.0.2.12", 50_000, "198.51.100.77", 443), at=3)
            .open()
            .client(b"\x16\x03\x01")
            .close()
            .packets(),
        )

    def test_all_of_a_service_is_collected_once_it_is_known(self, tmp_path: Path) -> None:
        analysis = everything(write(tmp_path / "x.pcap", self.packets()))
        assert outcomes(analysis) == {"activated": 1, "refused": 1}
        assert analysis.conversations[0].syns == 1
        assert [(host.port, host.speaks_kms) for host in analysis.answer.hosts] == [(1689, True)]
        assert analysis.answer.quality.late_flows == 0

    def test_a_port_that_srv_names_counts_though_it_never_opens(self, tmp_path: Path) -> None:
        refused = Talk(Ends(CLIENT, 50_000, HOST, 1700), at=1).syn().add(False, RST | ACK, seq=0).packets()
        srv, name = asked(0, SRV, "SRV"), asked(0.1, NAME, "A")
        answers = [replied(0.05, srv, f"{SRV}. 60 SRV 0 0 1700 {NAME}."), replied(0.15, name, f"{NAME}. 60 A {HOST}")]
        packets = merged([srv[1], name[1], *answers], refused)
        answer = run(write(tmp_path / "x.pcap", packets)).answer
        assert answer.outcomes == {"refused": 1}
        assert (answer.hosts[0].port, answer.hosts[0].published) == (1700, True)

    def test_a_bind_that_nobody_answered_makes_no_service(self, tmp_path: Path) -> None:
        """A scanner tries KMS on a web server: what others do there is nothing to us."""
        web = "198.51.100.80"
        packets = merged(
            Talk(Ends(CLIENT, 50_000, web, 443), at=1)
            .open()
            .client(bind())
            .host(b"HTTP/1.1 400\r\n")
            .close()
            .packets(),
            Talk(Ends("192.0.2.11", 50_000, web, 443), at=2).syn().add(False, RST | ACK, seq=0).packets(),
            Talk(Ends("192.0.2.12", 50_000, web, 443), at=3).open().client(b"GET /").close().packets(),
        )
        answer = run(write(tmp_path / "x.pcap", packets)).answer
        assert answer.outcomes == {"other_protocol": 1}

    def test_from_standard_input_the_bind_is_the_beginning(self, tmp_path: Path) -> None:
        file = write(tmp_path / "x.pcap", self.packets())
        code = (
            "from kmsdiag.capture.scan import analyse; a = analyse(['-']).answer;"
            "print(dict(a.outcomes), a.quality.late_flows, dict(a.quality.conversations_lacking), a.files[0].label)"
        )
        with file.open("rb") as stdin:
            ran = subprocess.run([sys.executable, "-c", code], stdin=stdin, capture_output=True, text=True, check=True)
        assert ran.stdout == "{'refused': 1, 'activated': 1} 1 {} standard input\n"


class TestSelection:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return write(
            tmp_path / "x.pcap",
            merged(
                found(0),
                Talk(at=1).activation().packets(),
                Talk(Ends("192.0.2.99", host="198.51.100.9"), at=60).activation(6, 0xC004F042).packets(),
                Talk(Ends("2001:db8::5", host="2001:db8::6"), at=120).activation().packets(),
            ),
        )

    @pytest.mark.parametrize(
        ("selection", "numbers"),
        [
            (Selection(), [1, 2, 3]),
            (Selection(clients=("192.0.2.99",)), [2]),
            (Selection(clients=("192.0.2.0/26",)), [1]),
            (Selection(clients=("2001:db8::/64", "192.0.2.10")), [1, 3]),
            (Selection(hosts=("198.51.100.9",)), [2]),
            (Selection(hosts=("198.51.100.9:1689",)), []),
            (Selection(hosts=("[2001:db8::6]:1688",)), [3]),
            (Selection(hosts=("kms1.corp.example",)), [1]),
            (Selection(hosts=("kms1.corp.example:1688", "2001:db8::6")), [1, 3]),
            (Selection(hosts=("nobody.corp.example",)), []),
            (Selection(clients=("192.0.2.10",), hosts=("198.51.100.9",)), []),
        ],
    )
    def test_conversations_keep_their_numbers(self, file: Path, selection: Selection, numbers: list[int]) -> None:
        analysis = everything(file, selection=selection)
        assert [one.number for one in analysis.conversations] == numbers
        answer = run(file, selection=selection).answer
        assert answer.conversations == len(numbers)
        assert sorted(one.number for one in answer.examples) == numbers

    def test_a_time_is_that_of_the_first_frame(self, file: Path) -> None:
        moment = run(file).answer.examples[1].started
        assert run(file, selection=Selection(since=moment)).answer.conversations == 2
        assert run(file, selection=Selection(until=moment)).answer.conversations == 2

    def test_lookups_of_other_clients_are_left_out(self, file: Path) -> None:
        assert run(file, selection=Selection(clients=("192.0.2.99",))).answer.lookups == ()
        assert run(file, selection=Selection(clients=("192.0.2.10",))).answer.lookups != ()

    def test_examples_are_found_again_after_names_are_known(self, tmp_path: Path) -> None:
        """The first activations are with another host: those with the named one are walked in a pass of their own."""
        packets = merged(
            *(Talk(Ends(sport=50_000 + at, host="198.51.100.9"), at=at).activation().packets() for at in range(8)),
            found(20),
            *(Talk(Ends(sport=51_000 + at), at=30 + at).activation().packets() for at in range(8)),
        )
        file = write(tmp_path / "x.pcap", packets)
        answer = run(file, selection=Selection(hosts=("kms1.corp.example",))).answer
        assert [one.number for one in answer.examples] == [9, 10, 11]
        assert all(one.ladder for one in answer.examples)


class TestWants:
    def test_one_conversation_by_its_number(self, tmp_path: Path) -> None:
        packets = merged(*(Talk(Ends(sport=50_000 + at), at=at).activation().packets() for at in range(20)))
        file = write(tmp_path / "x.pcap", packets)
        (shown,) = run(file, show=(17,)).conversations
        assert (shown.number, shown.client_port) == (17, 50_016)
        assert shown.ladder
        assert run(file, show=(21,)).conversations == ()
        assert shown == everything(file).conversations[16]

    def test_frames_that_matter(self, tmp_path: Path) -> None:
        noise = Talk(Ends(sport=40_000, port=80), at=0.0005).open().client(b"GET /").close().packets()
        syn = Talk(Ends("192.0.2.77"), at=5).syn().packets()
        packets = merged(found(0), noise, Talk(at=1).activation().packets(), syn, [icmp(5.1, "203.0.113.7", syn[0])])
        file = write(tmp_path / "x.pcap", packets)
        analysis = run(file, want=Want.FRAMES)
        (origin,) = analysis.frames
        kept = [packets[number - 1] for number in origin.numbers]
        assert kept == [packet for packet in packets if packet not in noise]
        assert (origin.file, origin.path) == (0, str(file))
        only = run(file, want=Want.FRAMES, selection=Selection(clients=("192.0.2.77",)))
        assert list(only.frames[0].numbers) == [len(packets) - 1, len(packets)]

    def test_all_fragments_and_repeated_questions_are_among_them(self, tmp_path: Path) -> None:
        whole = Talk(at=1).activation().packets()
        broken = [
            packet._replace(data=piece) for packet in whole for piece in (fragments(packet.data) or [packet.data])
        ]
        questions = [asked(number / 10, SRV, "SRV")[1] for number in range(3)]
        file = write(tmp_path / "x.pcap", merged(questions, broken))
        analysis = run(file, want=Want.FRAMES)
        assert analysis.answer.outcomes == {"activated": 1}
        assert len(broken) > len(whole)
        assert list(analysis.frames[0].numbers) == list(range(1, 4 + len(broken)))


class TestInputs:
    def test_what_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "text.txt").write_text("hello")
        good = write(tmp_path / "good.pcap", Talk().activation().packets())
        analysis = analyse([str(good), str(tmp_path / "text.txt"), str(tmp_path / "missing.pcap")])
        assert [label for label, _why in analysis.unusable] == ["missing.pcap", "text.txt"]
        assert outcomes(analysis) == {"activated": 1}

    def test_nothing_at_all(self) -> None:
        analysis = analyse([])
        assert (analysis.answer.files, analysis.answer.conversations, analysis.captures) == ((), 0, ())

    def test_damage_is_noted_and_what_was_before_counts(self, tmp_path: Path) -> None:
        data = pcap(frames(Talk().activation().packets()))
        cut = tmp_path / "cut.pcap"
        cut.write_bytes(data[:-7])
        packed = tmp_path / "packed.pcap.gz"
        packed.write_bytes(gz(data)[:-9])
        for path in (cut, packed):
            answer = run(path).answer
            assert answer.files[0].damaged
            assert answer.files[0].notes
            assert answer.conversations == 1

    def test_progress_reaches_the_end(self, tmp_path: Path) -> None:
        file = write(tmp_path / "x.pcap", Talk().activation().packets())
        seen: list[tuple[int, int]] = []
        run(file, progress=lambda done, whole: seen.append((done, whole)))
        assert seen[-1] == (file.stat().st_size, file.stat().st_size)

    def test_ctrl_c_reports_what_is_known(self, tmp_path: Path) -> None:
        def interrupt(_done: int, _whole: int) -> None:
            raise KeyboardInterrupt

        files = [write(tmp_path / f"{n}.pcap", Talk(Ends(sport=n), at=n).activation().packets()) for n in (1, 2)]
        analysis = run(*files, progress=interrupt)
        assert analysis.interrupted
        assert outcomes(analysis) == {"activated": 1}
        assert [label for label, _why in analysis.unusable] == ["2.pcap"]


class TestTaps:
    def test_a_conversation_seen_twice_counts_once(self, tmp_path: Path) -> None:
        packets = merged(*(Talk(Ends(sport=50_000 + at), at=at).activation().packets() for at in range(5)))
        near = write(tmp_path / "client.pcap", packets)
        far = write(tmp_path / "server.pcap", [packet._replace(at=packet.at + 300) for packet in packets])
        answer = run(near, far).answer
        assert [file.tap for file in answer.files] == [0, 1]
        assert answer.conversations == answer.hosts[0].conversations == 5
        (pair,) = answer.pairs
        assert (pair.conversations, pair.matched, pair.lost_ab, pair.lost_ba) == (5, len(packets), 0, 0)

    def test_the_tap_that_knows_the_end_counts(self, tmp_path: Path) -> None:
        """The first tap lacks what the host sent."""
        packets = Talk().activation().packets()
        half = [packet for packet in packets if packet.data[12:16] == bytes((192, 0, 2, 10))]
        near, far = write(tmp_path / "client.pcap", half), write(tmp_path / "server.pcap", packets)
        answer = run(near, far).answer
        assert answer.outcomes == {"activated": 1}
        assert [example.tap for example in answer.examples] == [1]


class TestAnswer:
    def test_times_are_those_of_the_packets(self, tmp_path: Path) -> None:
        packets = Talk().activation().packets()
        answer = run(write(tmp_path / "x.pcap", packets)).answer
        assert answer.at.timestamp() == pytest.approx((START + packets[0].at) / MICROSECONDS)
        assert answer.elapsed_ms == pytest.approx((packets[-1].at - packets[0].at) / 1000)

    def test_lacks_are_counted(self, tmp_path: Path) -> None:
        answer = run(write(tmp_path / "x.pcap", Talk().activation().packets()[3:])).answer
        assert answer.quality.conversations_lacking[Lack.START] == 1

    def test_copies_of_a_mirror_port_are_counted(self, tmp_path: Path) -> None:
        packets = Talk().activation().packets()
        answer = run(write(tmp_path / "x.pcap", [one for packet in packets for one in (packet, packet)])).answer
        assert answer.quality.duplicate_packets == len(packets)
        assert answer.hosts[0].retransmissions == 0

    def test_a_million_is_not_needed_to_see_that_memory_is_bounded(self, tmp_path: Path) -> None:
        """Connections of one packet each, to the KMS port: none is lost, however many there are."""
        packets = [
            Talk(Ends(f"10.0.{number >> 8}.{number & 255}", 40_000, HOST), at=number / 1000).syn().packets()[0]
            for number in range(3_000)
        ]
        answer = run(write(tmp_path / "x.pcap", packets)).answer
        assert answer.conversations == 3_000
        assert {Outcome(key) for key in answer.outcomes} <= {Outcome.UNANSWERED, Outcome.NOT_KNOWN}

    def test_how_the_host_was_found(self, tmp_path: Path) -> None:
        packets = merged(
            found(0),
            Talk(at=1).activation().packets(),
            Talk(Ends("192.0.2.30"), at=2).activation().packets(),
        )
        answer = run(write(tmp_path / "x.pcap", packets)).answer
        assert [client.uses[0].found_by for client in answer.clients] == [FoundBy.SRV, FoundBy.NOTHING]
        assert answer.hosts[0].found_by == {"srv": 1, "nothing": 1}


def test_the_answer_fits_its_schema_type(tmp_path: Path) -> None:
    answer = run(write(tmp_path / "x.pcap", population(3))).answer
    assert msgspec.json.decode(as_json(answer), type=CaptureAnswer) == answer
