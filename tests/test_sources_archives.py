"""Zip archives: members by content; paths that lead out, bombs, damage and encryption."""

import io
import random
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.model.target import GivenFile
from kmsdiag.sources.archives import ArchiveError, last_names, members
from kmsdiag.sources.files import Reading, Refused, Source, describe, gather
from kmsdiag.sources.recognise import Kind
from tests.capturefile import Written, pcap

CAPTURE = pcap([Written(1, bytes(60), 60)])


def archive(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """An archive of these files."""
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return path


def content(source: Source) -> bytes:
    return b"".join(bytes(chunk.buffer[chunk.start : chunk.end]) for chunk in Reading(source))


def refused(path: Path) -> list[Refused]:
    found = gather([str(path)])
    assert found.sources == ()
    return list(found.refused)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_are_files(tmp_path: Path, compression: int) -> None:
    file = archive(
        tmp_path / "a.zip",
        {"pc17/slmgr": b"Name: Windows", "kms": CAPTURE, "picture": b"\x89PNG\0\x01"},
        compression,
    )
    found = gather([str(file)])
    assert (found.refused, found.passed_over) == ((), 1)
    text, capture = found.sources
    assert (text.label, text.folder, text.member, text.found) == ("a.zip/slmgr", "pc17", "pc17/slmgr", True)
    assert (text.format.kind, text.again, text.seekable) == (Kind.TEXT, True, False)
    assert (capture.format.kind, capture.size, content(capture)) == (Kind.CAPTURE, len(CAPTURE), CAPTURE)
    assert content(text) == content(text) == b"Name: Windows"
    assert describe(text) == GivenFile(label="a.zip/slmgr", size=13, hash=f"{zlib.crc32(b'Name: Windows'):08x}")


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("../../etc/passwd", ("passwd", "etc")),
        ("/etc/passwd", ("passwd", "etc")),
        (r"C:\Users\me\slmgr.txt", ("slmgr.txt", "me")),
        (r"..\slmgr.txt", ("slmgr.txt", "")),
        ("slmgr.txt", ("slmgr.txt", "")),
        ("..", ("member", "")),
    ],
)
def test_a_path_is_a_name_and_no_more(name: str, names: tuple[str, str]) -> None:
    assert last_names(name) == names


def test_a_path_that_leads_out_leads_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    file = archive(folder / "a.zip", {"../../out.txt": b"Name: Windows"})
    (source,) = gather([str(file)]).sources
    assert source.label == "a.zip/out.txt"
    assert content(source) == b"Name: Windows"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "deep", "er"]


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as made, made.open("zeros", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    (one,) = refused(tmp_path / "bomb.zip")
    assert one.reason.endswith("unpack to 314,572,800: no evidence shrinks so far")


def overlapping() -> bytes:
    """An archive whose directory names the same bytes twice."""
    data = zlib.compress(bytes(1000))[2:-4]
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, zlib.crc32(bytes(1000)), len(data), 1000, 1, 0)
    entry = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, zlib.crc32(bytes(1000)), len(data), 1000, 1, 0, 0, 0, 0, 0, 0
    )
    body = local + b"a" + data
    directory = entry + b"a" + entry + b"b"
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, len(directory), len(body), 0)
    return body + directory + end


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    (tmp_path / "overlap.zip").write_bytes(overlapping())
    (one,) = refused(tmp_path / "overlap.zip")
    assert one.reason == "its members overlap: no program that packs evidence makes such an archive"


def test_what_can_not_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as made:
        made.writestr("a", "b")
    archive(tmp_path / "nested.zip", {"inner.zip": inner.getvalue()})
    archive(tmp_path / "empty.zip", {})
    archive(tmp_path / "pictures.zip", {"picture": b"\x89PNG\0\x01"})
    (tmp_path / "cut.zip").write_bytes(archive(tmp_path / "whole.zip", {"a": b"Name: Windows"}).read_bytes()[:-10])
    encrypted = bytearray(archive(tmp_path / "encrypted.zip", {"a": b"Name: Windows"}).read_bytes())
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "encrypted.zip").write_bytes(encrypted)
    reasons = {
        name: [(one.label, one.reason) for one in refused(tmp_path / name)]
        for name in ("nested.zip", "empty.zip", "pictures.zip", "cut.zip", "encrypted.zip")
    }
    assert reasons == {
        "nested.zip": [("nested.zip/inner.zip", "it is an archive in an archive: unpack one of them")],
        "empty.zip": [("empty.zip", "a zip archive that holds nothing that is read here")],
        "pictures.zip": [("pictures.zip", "a zip archive that holds nothing that is read here")],
        "cut.zip": [("cut.zip", "it is a zip archive that can't be read (File is not a zip file)")],
        "encrypted.zip": [("encrypted.zip/a", "it can't be used: it is encrypted: unpack it, and give what is in it")],
    }


def test_a_damaged_member_does_not_stop_the_others(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(9000)
    data = bytearray(
        archive(
            tmp_path / "a.zip", {"a": b"Name: a", "b": b"x" + noise, "c": b"Name: c"}, zipfile.ZIP_STORED
        ).read_bytes()
    )
    data[data.index(noise) + 5000] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    found = gather([str(tmp_path / "a.zip")])
    assert [one.label for one in found.sources] == ["a.zip/a", "a.zip/c"]


@given(st.data())
def test_a_damaged_archive_gives_no_exception(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    file = tmp_path_factory.mktemp("zip") / "a.zip"
    whole = bytearray(archive(file, {"pc17/slmgr": b"Name: Windows" * 50, "kms": CAPTURE}).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(whole[: data.draw(st.integers(4, len(whole)))])
    for source in gather([str(file)]).sources:
        reading = Reading(source)
        assert sum(chunk.end - chunk.start for chunk in reading) <= 10_000 or reading.notes


def test_members_of_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"PK\3\4 and nothing else")
    with pytest.raises(ArchiveError, match="can't be read"):
        members(str(tmp_path / "a"))
