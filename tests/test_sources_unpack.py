import gzip
import io
import random
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.sources import unpack
from kmsdiag.sources.unpack import Gzip, UnpackError, Zstd

Kind = type[Gzip] | type[Zstd]
PACKERS: dict[Kind, Callable[[bytes], bytes]] = {Gzip: gzip.compress, Zstd: zstandard.compress}
kinds = pytest.mark.parametrize("kind", PACKERS)


def unpacked(kind: Kind, packed: bytes, size: int = 5000) -> tuple[bytes, str]:
    """What can be unpacked, and why there is no more."""
    stream, found, buffer = kind(io.BytesIO(packed)), b"", bytearray(size)
    try:
        while count := stream.readinto(memoryview(buffer)):
            found += buffer[:count]
    except UnpackError as error:
        return found, str(error)
    assert stream.readinto(memoryview(buffer)) == 0
    return found, ""


@kinds
@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 200)), min_size=1, max_size=4), st.integers(1, 20_000)
)
def test_members_one_after_the_other(kind: Kind, members: list[tuple[bytes, int]], size: int) -> None:
    contents = [data * count for data, count in members]
    packed = b"".join(PACKERS[kind](content) for content in contents)
    assert unpacked(kind, packed, size) == (b"".join(contents), "")


@kinds
def test_much_of_it(kind: Kind) -> None:
    data = random.Random(1).randbytes(300_000) * 5
    assert unpacked(kind, PACKERS[kind](data), 1 << 20) == (data, "")


@kinds
def test_cut_at_every_byte(kind: Kind) -> None:
    data = random.Random(2).randbytes(3000)
    packed = PACKERS[kind](data[:1500]) + PACKERS[kind](data[1500:])
    first = len(PACKERS[kind](data[:1500]))
    name = "gzip" if kind is Gzip else "zstd"
    for size in range(1, len(packed)):
        found, problem = unpacked(kind, packed[:size])
        assert data.startswith(found)
        assert problem == ("" if size == first else f"the {name} file is cut"), size
        if size >= first:
            assert len(found) >= 1500


def test_what_stands_before_a_cut_is_given() -> None:
    data = random.Random(3).randbytes(1 << 20)
    for kind, least in ((Gzip, 400_000), (Zstd, 380_000)):
        packed = PACKERS[kind](data)
        found, problem = unpacked(kind, packed[: len(packed) // 2])
        assert data.startswith(found)
        assert len(found) > least
        assert problem.endswith("is cut")


def test_what_stands_before_damage_in_gzip_is_given() -> None:
    data = " ".join(map(str, range(400_000))).encode()
    packed = bytearray(gzip.compress(data))
    place = len(packed) * 6 // 10
    packed[place : place + 64] = b"\xff" * 64
    for size in (5000, 1 << 20):
        found, problem = unpacked(Gzip, bytes(packed), size)
        assert problem.startswith("the gzip file is damaged")
        assert data[: len(data) * 55 // 100] == found[: len(data) * 55 // 100]


def test_a_wrong_checksum_of_gzip_takes_nothing_away() -> None:
    packed = bytearray(gzip.compress(b"content" * 50))
    packed[-6] ^= 1
    assert unpacked(Gzip, bytes(packed)) == (
        b"content" * 50,
        "the gzip file is damaged (Error -3 while decompressing data: incorrect data check)",
    )


@kinds
@settings(max_examples=80)
@given(st.data())
def test_damage_is_named(kind: Kind, data: st.DataObject) -> None:
    content = bytes(range(256)) * 20
    packed = bytearray(PACKERS[kind](content))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    found, problem = unpacked(kind, bytes(packed))
    assert found == content or problem or kind is Zstd


@kinds
@given(st.binary(max_size=200))
def test_any_bytes(kind: Kind, data: bytes) -> None:
    unpacked(kind, data)


def test_padding_and_something_else_behind_gzip() -> None:
    packed = gzip.compress(b"content")
    assert unpacked(Gzip, packed + bytes(700_000)) == (b"content", "")
    assert unpacked(Gzip, packed + bytes(600_000) + packed) == (b"content" * 2, "")
    assert unpacked(Gzip, packed + b"\0more") == (b"content", "something that is not gzip follows the packed data")


def test_skippable_frames_of_zstd() -> None:
    skippable = b"\x50\x2a\x4d\x18\x05\0\0\0hello"
    packed = zstandard.compress(b"content")
    assert unpacked(Zstd, skippable + packed + skippable) == (b"content", "")


def test_a_window_that_is_too_large() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    found, problem = unpacked(Zstd, packer.compress(b"x" * 100_000) + packer.flush())
    assert found == b""
    assert "memory" in problem


@kinds
def test_a_bomb_ends(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_BEFORE", 8 << 20)
    bomb = PACKERS[kind](bytes(64 << 20))
    stream, buffer = kind(io.BytesIO(bomb)), memoryview(bytearray(1 << 20))
    total = 0
    problem = ""
    while not problem:
        try:
            total += stream.readinto(buffer)
        except UnpackError as error:
            problem = str(error)
    assert "no capture shrinks so far" in problem
    assert total <= 40 << 20


def test_what_packs_well_is_no_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_BEFORE", 1 << 20)
    chance = random.Random(4)
    data = b"".join(chance.randbytes(30) + bytes(1200) for _ in range(3000))
    for kind, pack in PACKERS.items():
        assert unpacked(kind, pack(data), 1 << 20) == (data, "")


def test_gzip_as_zlib_does_it() -> None:
    """A header with a name and a comment (RFC 1952)."""
    body = zlib.compress(b"content")[2:-4]
    trailer = zlib.crc32(b"content").to_bytes(4, "little") + (7).to_bytes(4, "little")
    packed = b"\x1f\x8b\x08\x18\0\0\0\0\0\x03name\0comment\0" + body + trailer
    assert unpacked(Gzip, packed) == (b"content", "")
