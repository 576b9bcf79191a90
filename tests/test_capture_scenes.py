"""The captures of ``fixtures/pcap``: what is said of each, however it is read."""

import gzip
import json
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from kmsdiag.capture.scan import Analysis, Want, analyse, analyse_sources
from kmsdiag.model.capture import Frame
from kmsdiag.sources import captures, files
from tests.pcapscenes import FOLDER, contents, differences

SCENES: dict[str, Any] = json.loads((FOLDER / "scenes.json").read_text())

every_scene = pytest.mark.parametrize("name", SCENES)


def unpacked(file: str, data: bytes) -> bytes:
    """Packed bytes depend on the version of the library that packs."""
    if file.endswith(".zst"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return gzip.decompress(data) if file.endswith(".gz") and "cut" not in file else data


def names(scene: str) -> list[str]:
    return [str(FOLDER / file) for file in SCENES[scene]["files"]]


def analysed(paths: Sequence[str], **options: Any) -> Analysis:
    return analyse(paths, want=Want.CONVERSATIONS, **options)


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, get_context("fork")) as executor:
        yield executor


def test_the_folder_is_what_the_scenes_make_of_it() -> None:
    made = contents()
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert there == set(made)
    for file, data in made.items():
        assert unpacked(file, (FOLDER / file).read_bytes()) == unpacked(file, data), file


@every_scene
def test_what_is_said(name: str) -> None:
    analysis = analysed(names(name))
    assert analysis.unusable == ()
    assert differences(SCENES[name]["conversations"], analysis.conversations) == []
    assert differences(SCENES[name]["answer"], analysis.answer) == []


@every_scene
def test_however_it_is_read_the_same_is_said(name: str, pool: Executor) -> None:
    analysis = analysed(names(name))
    assert analysed(names(name), executor=pool, jobs=2) == analysis
    each_walked = analyse_sources(files.gather(names(name)).sources, want=Want.CONVERSATIONS, fast=False)
    assert each_walked == analysis
    assert analyse(names(name)).answer == analysis.answer


def records(data: bytes) -> tuple[bytes, list[bytes]]:
    """Header and records of a plain pcap file."""
    at, found = 24, []
    while at < len(data):
        size = 16 + struct.unpack_from("<I", data, at + 8)[0]
        found.append(data[at : at + size])
        at += size
    return data[:24], found


def time_of(record: bytes) -> tuple[int, int]:
    return struct.unpack_from("<II", record)


def moved(value: Any, move: Callable[[Frame], Frame]) -> Any:
    """A value with other frames in it."""
    if isinstance(value, Frame):
        return move(value)
    if isinstance(value, tuple):
        return tuple(moved(one, move) for one in value)
    if isinstance(value, msgspec.Struct):
        return type(value)(**{field: moved(getattr(value, field), move) for field in value.__struct_fields__})
    return value


def plain_scenes() -> list[str]:
    found = []
    for name, scene in SCENES.items():
        one = FOLDER / scene["files"][0]
        plain = len(scene["files"]) == 1 and one.suffix == ".pcap"
        if (
            plain
            and name != "no-packets"
            and one.read_bytes()[:4] == b"\xd4\xc3\xb2\xa1"
            and not name.startswith("damage")
        ):
            found.append(name)
    return found


@pytest.mark.parametrize("name", plain_scenes())
def test_a_ring_cut_anywhere_says_what_one_file_says(name: str, tmp_path: Path) -> None:
    """Conversations, lookups, hosts and clients are the same, by other names of their frames."""
    (path,) = names(name)
    head, all_records = records(Path(path).read_bytes())
    whole = analysed([path])
    for cut in random.Random(name).sample(range(1, len(all_records)), min(2, len(all_records) - 1)):
        before, after = all_records[:cut], all_records[cut:]
        if max(map(time_of, before)) > min(map(time_of, after)):
            continue  # files are in the order of their times
        for number, part in enumerate((before, after), 1):
            (tmp_path / f"ring_{number:05}.pcap").write_bytes(head + b"".join(part))
        ring = analysed([str(tmp_path)])

        def in_ring(frame: Frame, cut: int = cut) -> Frame:
            return frame if frame.number <= cut else Frame(1, frame.number - cut)

        assert ring.conversations == moved(whole.conversations, in_ring), cut
        assert ring.answer.lookups == moved(whole.answer.lookups, in_ring), cut
        assert (ring.answer.hosts, ring.answer.clients) == (whole.answer.hosts, whole.answer.clients), cut


def test_a_large_file_read_in_two_parts_says_what_one_reader_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All plain scenes, one after the other with an hour between them, cut at whatever place the half is."""
    everything = []
    for turn, name in enumerate(plain_scenes()):
        head, found = records((FOLDER / SCENES[name]["files"][0]).read_bytes())
        if head[20:24] != b"\1\0\0\0":
            continue  # another link type
        for record in found:
            seconds, part = time_of(record)
            everything.append(struct.pack("<II", seconds + 3600 * turn, part) + record[8:])
    monkeypatch.setattr(captures, "LEAST", 4096)
    path = tmp_path / "all.pcap"
    for share in (1.0, 0.9, 0.62):
        path.write_bytes(head[:20] + b"\1\0\0\0" + b"".join(everything[: int(len(everything) * share)]))
        assert len(captures.plan(files.gather([str(path)]).sources[0], 2)) == 2
        with ProcessPoolExecutor(2, get_context("fork")) as executor:
            halves = analysed([str(path)], executor=executor, jobs=2)
        whole = analysed([str(path)])
        assert whole.answer.conversations > 80
        assert halves == whole


@pytest.mark.parametrize(
    "name", ["version-6", "another-port", "file-pcapng-sections", "file-pcapng-zst", "ways-to-the-host"]
)
def test_what_can_not_be_read_twice(name: str) -> None:
    """By standard input: the same, but that connections to another port are known from their bind on."""
    (path,) = names(name)
    command = [sys.executable, "-m", "kmsdiag", "analyze", "-", "--conversations", "json"]
    with Path(path).open("rb") as file:
        piped = subprocess.run(command, stdin=file, capture_output=True, timeout=60, check=True)
    found = [(one["client"], one["host"], one["outcome"]) for one in json.loads(piped.stdout)["conversations"]]
    assert found == [(one.client, one.host, one.outcome) for one in analysed([path]).conversations]
