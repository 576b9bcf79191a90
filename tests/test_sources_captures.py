import gzip
import random
from pathlib import Path

import pytest

from kmsdiag.sources import captures
from kmsdiag.sources.captures import CapturePart, plan
from kmsdiag.sources.files import Source, gather
from kmsdiag.wire.batch import WHOLE, Facts
from kmsdiag.wire.parts import follows, joined, rest
from tests.capturefile import Pcapng, Written, pcap


def written(count: int) -> list[Written]:
    chance = random.Random(1)
    return [
        Written(1_760_000_000_000_000_000 + number * 10**6, chance.randbytes(chance.randrange(40, 1500)), 1500)
        for number in range(count)
    ]


def source_of(file: Path, data: bytes) -> Source:
    file.write_bytes(data)
    (source,) = gather([str(file)]).sources
    return source


def rows(capture: CapturePart) -> list[tuple[int, int, bytes]]:
    return [
        (frame.at, frame.length, frame.data)
        for batch in capture
        for frame in batch.frames(range(len(batch.at)), 0, capture.reader.links)
    ]


def pcapng(records: list[Written]) -> bytes:
    head = Pcapng().section().interface(1, 0, Pcapng().option(9, b"\x09"))
    return head.data + b"".join(Pcapng().packet(one.data, one.at, 0, one.length).data for one in records)


@pytest.mark.parametrize("make", [pcap, pcapng])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object, count: int) -> None:
    monkeypatch.setattr(captures, "LEAST", 200_000)
    records = written(3000)
    source = source_of(tmp_path / "capture", make(records))  # type: ignore[operator]
    parts = plan(source, count)
    assert len(parts) == count
    found: list[tuple[int, int, bytes]] = []
    facts: list[Facts] = []
    for part in parts:
        assert not facts or follows(facts[-1], part)
        capture = CapturePart(source, part, ahead=True)
        found += rows(capture)
        facts.append(capture.facts)
    assert found == [(one.at, one.length, one.data) for one in records]
    whole = CapturePart(source)
    assert len(rows(whole)) == 3000
    assert joined(facts) == whole.facts
    assert whole.done == source.size


def test_what_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = written(300)
    small = source_of(tmp_path / "small", pcap(records))
    assert plan(small, 4) == [WHOLE]
    monkeypatch.setattr(captures, "LEAST", 1000)
    assert len(plan(small, 4)) == 4
    assert plan(source_of(tmp_path / "packed", gzip.compress(pcap(records))), 4) == [WHOLE]
    assert plan(source_of(tmp_path / "rubbish", pcap([]) + bytes(50_000)), 4) == [WHOLE]
    (tmp_path / "small").unlink()
    assert plan(small, 4) == [WHOLE]


def test_a_guess_that_is_wrong_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame but the last is a piece of another capture."""
    monkeypatch.setattr(captures, "LEAST", 10_000)
    inner = pcap(written(150))
    records = [Written(1_760_000_000_000_000_000, b"first", 5), Written(1_760_000_000_000_000_000, inner, len(inner))]
    source = source_of(tmp_path / "capture", pcap(records))
    first, second = plan(source, 2)
    one = CapturePart(source, first)
    assert len(rows(one)) == 2
    assert not follows(one.facts, second)
    other = CapturePart(source, rest(one.facts, second))
    assert rows(other) == []
    assert joined([one.facts, other.facts]) == one.facts._replace(first=one.facts.first)


def test_a_packed_capture_that_is_cut_is_damaged(tmp_path: Path) -> None:
    data = gzip.compress(pcap(written(200)))
    capture = CapturePart(source_of(tmp_path / "capture.gz", data[: len(data) * 2 // 3]))
    found = rows(capture)
    assert 80 < len(found) < 180
    assert capture.facts.damaged
    assert capture.facts.notes[0] == "the gzip file is cut"
    assert capture.facts.notes[1].startswith("at unpacked byte ")
