import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from kmsdiag.sources import files
from kmsdiag.sources.files import Gathered, Reading, Source, describe, gather, read_whole
from kmsdiag.sources.recognise import Kind
from kmsdiag.sources.unpack import UnpackError
from kmsdiag.wire.chunks import HEADROOM, SLACK
from tests.capturefile import Pcapng, Written, pcap

ROOT = Path(__file__).parent.parent
CAPTURE = pcap([Written(1_760_000_000_000_000_000 + number, bytes([number]) * 60, 60) for number in range(20)])
BUNDLE = b'{\n "kmsdiag_bundle": 1\n}\n'


def only(found: Gathered) -> Source:
    assert found.refused == ()
    (source,) = found.sources
    return source


def content(reading: Reading) -> bytes:
    found = b""
    for chunk in reading:
        assert chunk.start >= HEADROOM
        assert len(chunk.buffer) - chunk.end >= SLACK
        assert chunk.end > chunk.start
        found += chunk.buffer[chunk.start : chunk.end]
    return found


class TestGather:
    @pytest.mark.parametrize(
        ("data", "packing"),
        [(CAPTURE, None), (gzip.compress(CAPTURE), Kind.GZIP), (zstandard.compress(CAPTURE), Kind.ZSTD)],
    )
    def test_a_capture_by_its_content(self, tmp_path: Path, data: bytes, packing: Kind | None) -> None:
        file = tmp_path / "no.clue"
        file.write_bytes(data)
        source = only(gather([str(file)]))
        assert (source.label, source.size, source.packing) == ("no.clue", len(data), packing)
        assert source.format.kind is Kind.CAPTURE
        assert (source.again, source.seekable) == (True, packing is None)
        assert content(Reading(source)) == CAPTURE

    def test_what_is_refused_is_said_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_bytes(b"")
        (tmp_path / "old.cap").write_bytes(b"GMBU" + bytes(100))
        (tmp_path / "notes.gz").write_bytes(gzip.compress(b"%PDF-1.7"))
        (tmp_path / "twice.gz").write_bytes(gzip.compress(gzip.compress(CAPTURE)))
        (tmp_path / "cut.gz").write_bytes(gzip.compress(CAPTURE)[:12])
        names = ["empty", "old.cap", "notes.gz", "twice.gz", "cut.gz", "missing", "nul\0"]
        found = gather([str(tmp_path / name) for name in names])
        assert found.sources == ()
        assert [one.label for one in found.refused] == names
        assert [one.reason for one in found.refused] == [
            "it is empty: nothing was written to it, or copying it failed",
            "it is a Network Monitor capture: convert it: editcap -F pcapng FILE FILE.pcapng",
            "it is a PDF document, packed with gzip",
            "it is packed twice, with gzip inside: unpack it once",
            "it can't be used: the gzip file is cut",
            "it can't be read: No such file or directory",
            "it can't be opened: embedded null byte",
        ]

    def test_folders_at_any_depth_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        for name in ("ring_10.pcap", "ring_9.pcap", "deep/er/a.pcapng"):
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(CAPTURE if name.endswith("pcap") else Pcapng().section().data)
        (tmp_path / "bundle.json").write_bytes(BUNDLE)
        (tmp_path / "picture").write_bytes(b"\x89PNG\r\n\x1a\n")
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "loop").symlink_to(tmp_path)
        found = gather([str(tmp_path)])
        assert [one.label for one in found.sources] == ["bundle.json", "a.pcapng", "ring_9.pcap", "ring_10.pcap"]
        assert [one.format.kind for one in found.sources] == [Kind.BUNDLE, *[Kind.CAPTURE] * 3]
        assert (found.refused, found.passed_over) == ((), 1)

    def test_folders_without_anything(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        found = gather([str(tmp_path / "empty"), str(tmp_path / "pictures") + "/"])
        assert [(one.label, one.reason) for one in found.refused] == [
            ("empty", "a folder that holds nothing that is read here"),
            ("pictures", "a folder that holds nothing that is read here"),
        ]
        assert found.passed_over == 1

    def test_whose_a_file_is(self, tmp_path: Path) -> None:
        for name in ("pc17/slmgr.txt", "pc18/slmgr.txt", "kms1.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(f"Name: {name}")
        names = [str(tmp_path / "pc17"), str(tmp_path / "pc18" / "slmgr.txt"), str(tmp_path / "kms1.txt")]
        sources = gather(names, ["PC17", "", "KMS1"]).sources
        assert [(one.label, one.folder, one.machine, one.found) for one in sources] == [
            ("pc17/slmgr.txt", "pc17", "PC17", True),
            ("pc18/slmgr.txt", "pc18", "", False),
            ("kms1.txt", tmp_path.name, "KMS1", False),
        ]

    def test_a_file_that_is_named_twice_is_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "a.pcap"
        file.write_bytes(CAPTURE)
        (tmp_path / "same").symlink_to(file)
        monkeypatch.chdir(tmp_path)
        found = gather([str(file), "a.pcap", "./same", str(tmp_path), "."])
        assert [one.label for one in found.sources] == ["a.pcap"]
        assert (found.refused, found.passed_over) == ((), 0)

    def test_what_is_no_regular_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        found = gather([str(tmp_path / "pipe"), "/dev/zero"])
        assert {one.reason for one in found.refused} == {
            "it is no regular file: give what it holds as standard input, with -"
        }

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        file = tmp_path / os.fsdecode(b"caf\xe9.pcap")
        file.write_bytes(CAPTURE)
        source = only(gather([str(file)]))
        assert source.label == "caf\\udce9.pcap"
        assert content(Reading(source)) == CAPTURE

    def test_a_file_that_may_not_be_read(self, tmp_path: Path) -> None:
        if os.geteuid() == 0:
            # Nothing is forbidden to root: a file of /proc that cannot be read stands in.
            found = gather(["/proc/self/mem"])
            assert found.refused[0].reason == "it can't be used: reading failed: Input/output error"
            return
        file = tmp_path / "secret"
        file.write_bytes(CAPTURE)
        file.chmod(0)
        assert gather([str(file)]).refused[0].reason == "it can't be read: Permission denied"

    @pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
    def test_standard_input(self, pack: object) -> None:
        code = (
            "import sys; from kmsdiag.sources.files import gather, Reading\n"
            "found = gather(['-', '-']); (source,) = found.sources\n"
            "print(source.label, source.format.name, source.packing, source.again, source.seekable, source.size)\n"
            "print(sum(chunk.end - chunk.start for chunk in Reading(source, ahead=True)))"
        )
        data = pcap([Written(number, bytes(1000), 1000) for number in range(20_000)])
        packed = pack(data)  # type: ignore[operator]
        run = subprocess.run([sys.executable, "-c", code], input=packed, capture_output=True, check=True, cwd=ROOT)
        packing = {bytes: "None", gzip.compress: "gzip"}.get(pack, "zstd")
        assert run.stdout.decode().split("\n") == [
            f"standard input a pcap capture {packing} False False 0",
            str(len(data)),
            "",
        ]

    def test_nothing_on_standard_input(self) -> None:
        code = "from kmsdiag.sources.files import gather; print(gather(['-']).refused)"
        run = subprocess.run([sys.executable, "-c", code], input=b"", capture_output=True, check=True, cwd=ROOT)
        assert b"label='standard input', reason='it is empty" in run.stdout

    def test_recognising_loads_nothing_heavy(self, tmp_path: Path) -> None:
        (tmp_path / "a.pcap").write_bytes(CAPTURE)
        code = (
            f"import sys; from kmsdiag.sources.files import gather; gather([{str(tmp_path / 'a.pcap')!r}]);"
            "print(*[name for name in ('numpy', 'zstandard', 'scapy') if name in sys.modules])"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert run.stdout.split() == []


class TestReading:
    @pytest.mark.parametrize("ahead", [False, True])
    @pytest.mark.parametrize("size", [100, 1688, 1 << 20])
    @pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
    def test_chunks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: object, size: int, ahead: bool
    ) -> None:
        monkeypatch.setattr(files, "CHUNK", size)
        file = tmp_path / "capture"
        file.write_bytes(pack(CAPTURE))  # type: ignore[operator]
        reading = Reading(only(gather([str(file)])), ahead=ahead)
        assert content(reading) == CAPTURE
        assert (reading.notes, reading.done) == ((), file.stat().st_size)

    @pytest.mark.parametrize("ahead", [False, True])
    def test_a_stretch(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: bool) -> None:
        monkeypatch.setattr(files, "CHUNK", 10_000)
        monkeypatch.setattr(files, "HEADROOM", HEADROOM)
        file = tmp_path / "capture"
        data = CAPTURE + bytes(3 << 20)
        file.write_bytes(data)
        source = only(gather([str(file)]))
        assert content(Reading(source, 1000, ahead=ahead)) == data[1000:]
        # A record that begins before the end may go on for as long as a record can.
        assert content(Reading(source, 1000, 5000, ahead=ahead)) == data[1000 : 5000 + HEADROOM]

    def test_a_file_that_is_cut_meanwhile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "CHUNK", 4096)
        file = tmp_path / "capture"
        file.write_bytes(CAPTURE + bytes(100_000))
        reading = Reading(only(gather([str(file)])))
        chunks = iter(reading)
        next(chunks)
        os.truncate(file, 6000)
        assert sum(chunk.end - chunk.start for chunk in chunks) == 6000 - 4096
        assert reading.notes == ()

    def test_a_packed_file_that_is_cut(self, tmp_path: Path) -> None:
        file = tmp_path / "capture.gz"
        file.write_bytes(gzip.compress(CAPTURE)[:-9])
        reading = Reading(only(gather([str(file)])))
        assert CAPTURE.startswith(content(reading))
        assert reading.notes == ("the gzip file is cut",)

    def test_a_file_that_is_gone(self, tmp_path: Path) -> None:
        file = tmp_path / "capture"
        file.write_bytes(CAPTURE)
        source = only(gather([str(file)]))
        file.unlink()
        with pytest.raises(FileNotFoundError):
            next(iter(Reading(source)))

    def test_reading_that_is_given_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The thread that reads ahead ends with it, and the file is closed."""
        monkeypatch.setattr(files, "CHUNK", 512)
        file = tmp_path / "capture"
        file.write_bytes(CAPTURE)
        chunks = iter(Reading(only(gather([str(file)])), ahead=True))
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]

    def test_a_source_is_a_value(self, tmp_path: Path) -> None:
        file = tmp_path / "capture"
        file.write_bytes(CAPTURE)
        source = only(gather([str(file)]))
        assert content(Reading(pickle.loads(pickle.dumps(source)))) == CAPTURE


class TestWhole:
    def test_up_to_a_limit(self, tmp_path: Path) -> None:
        file = tmp_path / "bundle.gz"
        file.write_bytes(gzip.compress(BUNDLE))
        source = only(gather([str(file)]))
        assert read_whole(source, 1000) == BUNDLE
        assert read_whole(source, 10) == BUNDLE[:11]

    def test_one_that_is_cut(self, tmp_path: Path) -> None:
        file = tmp_path / "bundle.gz"
        file.write_bytes(gzip.compress(BUNDLE)[:-5])
        with pytest.raises(UnpackError, match="is cut"):
            read_whole(only(gather([str(file)])), 1000)


class TestDescription:
    def test_it_tells_files_apart(self, tmp_path: Path) -> None:
        seen = set()
        for number, data in enumerate(
            (CAPTURE, CAPTURE + b"x", CAPTURE[:-1] + b"x", CAPTURE[:30] + b"\1" + CAPTURE[31:])
        ):
            file = tmp_path / str(number)
            file.write_bytes(data)
            one = describe(only(gather([str(file)])))
            assert (one.label, one.size, len(one.hash)) == (str(number), len(data), 16)
            seen.add(one.hash)
        assert len(seen) == 4
        (tmp_path / "same").write_bytes(CAPTURE)
        assert describe(only(gather([str(tmp_path / "same")]))).hash in seen
