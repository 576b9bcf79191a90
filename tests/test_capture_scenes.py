"""The captures of ``fixtures/pcap``: what is said of each, however it is read."""

import gzip
import itertools
import json
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from kmsdiag.capture.scan import Analysis, Want, analyse, analyse_sources
from kmsdiag.model.capture import Conversation, Frame
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
def test_each_conversation_walked_for_itself_says_the_same(name: str) -> None:
    def said(*, fast: bool) -> Analysis:
        return analyse_sources(files.gather(names(name)).sources, want=Want.CONVERSATIONS, fast=fast)

    assert said(fast=False) == said(fast=True)


@every_scene
def test_other_processes_say_the_same(name: str, pool: Executor) -> None:
    assert analysed(names(name), executor=pool, jobs=2) == analysed(names(name))


@every_scene
def test_without_conversations_the_answer_is_the_same(name: str) -> None:
    assert analyse(names(name)).answer == analysed(names(name)).answer
