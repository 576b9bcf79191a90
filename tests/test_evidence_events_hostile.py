"""Damaged, hostile and random event logs: never an exception, one line that says what and where."""

import contextlib
import gzip
import io
import itertools
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.evidence.events.choice import Choice
from kmsdiag.evidence.events.csv_export import read_csv
from kmsdiag.evidence.events.digest import EventDigest
from kmsdiag.evidence.events.json_export import read_json
from kmsdiag.evidence.events.log_file import read_evtx, take_record
from kmsdiag.evidence.events.pasted_text import read_text
from kmsdiag.evidence.events.run import analyse_events
from kmsdiag.evidence.events.xml_export import read_xml
from kmsdiag.sources.files import Source
from kmsdiag.sources.recognise import Format, Kind
from tests.eventsamples import (
    SPP,
    Event,
    analyse,
    answered,
    as_export,
    as_export_csv,
    as_json,
    as_list,
    as_text,
    as_viewer_csv,
    as_xml,
    asked,
    served,
    source,
)
from tests.evtxfiles import CHUNK, FILE_HEAD, evtx

EVENTS = [asked(0), answered(1), served(2), asked(3, "0xC004F074")]
READERS: list[tuple[Callable[[io.TextIOBase, EventDigest], None], str]] = [
    (read_xml, as_export(EVENTS)),
    (read_xml, as_xml(EVENTS, rendered=True)),
    (read_csv, as_export_csv(EVENTS)),
    (read_csv, as_viewer_csv(EVENTS)),
    (read_json, as_json(EVENTS)),
]


def fresh() -> EventDigest:
    return EventDigest(0, "pc", Choice())


def finished(digest: EventDigest) -> None:
    """What may happen to a digest at the end of any file."""
    digest.finish()
    for client in digest.clients.values():
        client.finish(Choice(), digest.unread)
    for host in digest.hosts.values():
        host.finish()
        host.requesters()


def bent(text: str) -> st.SearchStrategy[str]:
    """The text with a stretch replaced by something else."""
    places = st.integers(0, len(text))
    noise = st.one_of(st.text(max_size=20), st.sampled_from(['"', "\n", ",", "<", ">", "&x;", "{", "[", "\0", "]]>"]))
    return st.tuples(places, places, noise).map(lambda cut: text[: min(cut[:2])] + cut[2] + text[max(cut[:2]) :])


@pytest.mark.parametrize("place", range(len(READERS)))
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_text_makes_a_reader_raise(place: int, data: st.DataObject) -> None:
    read, text = READERS[place]
    digest = fresh()
    read(io.StringIO(data.draw(st.one_of(bent(text), st.text(max_size=200)))), digest)
    finished(digest)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_no_text_makes_the_search_for_events_raise(data: st.DataObject) -> None:
    texts = [as_text(EVENTS), as_list(EVENTS), "12288: " + asked(0).values[0], as_json(EVENTS), as_xml(EVENTS)]
    text = data.draw(st.one_of(st.text(max_size=300), *map(bent, texts)))
    digest = fresh()
    for event in read_text(text):
        digest.take(event.number, None, event.machine, event.provider, event.text)
    finished(digest)


@given(number=st.sampled_from([12288, 12289, 12290, 12291, 12293, 12294, 12308, 8198, 8233, 8200, 7]), text=st.text())
@settings(max_examples=200, deadline=None)
def test_no_values_make_a_digest_raise(number: int, text: str) -> None:
    digest = fresh()
    digest.take(number, 0, "", SPP, text)
    digest.take(number, None, "pc", "", "0x0, " + text)
    finished(digest)


LOG = evtx([asked(n) for n in range(200)])


@given(
    changes=st.lists(st.tuples(st.integers(0, FILE_HEAD + 20_000), st.binary(max_size=8)), max_size=6),
    length=st.integers(0, len(LOG)),
)
@settings(max_examples=60, deadline=None)
def test_no_bytes_make_the_reader_of_evtx_raise(changes: list[tuple[int, bytes]], length: int) -> None:
    content = bytearray(LOG)
    for place, new in changes:
        content[place : place + len(new)] = new
    digest = fresh()
    # What it may raise is caught by its caller, and shown.
    with contextlib.suppress(ValueError):
        for _ in read_evtx(io.BytesIO(bytes(content[:length])), digest):
            pass
    finished(digest)


@given(content=st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_any_file_is_an_answer_or_one_line(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(content)
    found = analyse_events([source(path)])
    assert len(found.files) + len(found.unusable) == 1


# -------------------------------------------------------------------------------------------------- damaged


def test_a_record_that_is_damaged_is_named_and_the_others_count(tmp_path: Path) -> None:
    content = bytearray(evtx([asked(n) for n in range(300)]))
    for place in (FILE_HEAD + 9000, FILE_HEAD + CHUNK + 5000):
        content[place : place + 60] = b"\xff" * 60
    found = analyse(tmp_path, bytes(content))
    (file,) = found.answer.files
    assert file.damaged
    assert 150 < file.records < 300
    assert all("record" in note for note in file.notes)


def test_values_with_names_are_values() -> None:
    system = {"EventID": 12288, "Provider": {"#attributes": {"Name": SPP}}, "Computer": "pc1"}
    event = {"System": system, "EventData": {"param1": asked(0).values[0]}}
    digest = fresh()
    take_record({"event_record_id": 1, "data": json.dumps({"Event": event})}, digest)
    digest.finish()
    assert (digest.used, list(digest.clients)) == (1, ["pc1"])


def test_a_chunk_that_is_damaged_is_named(tmp_path: Path) -> None:
    content = bytearray(evtx([asked(n) for n in range(400)]))
    assert len(content) > FILE_HEAD + 2 * CHUNK
    content[FILE_HEAD + CHUNK : FILE_HEAD + CHUNK + 8] = bytes(8)
    (file,) = analyse(tmp_path, bytes(content)).answer.files
    assert 0 < file.records < 400
    assert file.damaged


@pytest.mark.parametrize("cut", [10, 3000, 30_000])
def test_a_log_that_is_cut_is_read_to_the_cut(cut: int, tmp_path: Path) -> None:
    content = evtx([asked(n) for n in range(400)])
    (file,) = analyse(tmp_path, content[:-cut]).answer.files
    whole = analyse(tmp_path, content).answer.files[0].records
    assert whole == 400
    assert 100 < file.records <= whole
    assert file.damaged
    assert f"cut at offset {len(content) - cut:,}" in file.notes[-1]


@pytest.mark.parametrize(
    "content", [b"", b"ElfFile\0", b"ElfFile\0" + bytes(5000), b"\x00" * 100, b"\x89PNG\r\n", b"{"]
)
def test_what_is_no_log_is_one_line(content: bytes, tmp_path: Path) -> None:
    found = analyse(tmp_path, content, as_xml([asked(0)]))
    ((label, reason),) = found.unusable
    assert label == "log0.txt"
    assert "\n" not in reason
    assert found.answer.clients[0].attempts == 1


def test_a_file_that_is_gone_is_one_line(tmp_path: Path) -> None:
    gone = Source(str(tmp_path / "gone.evtx"), "gone.evtx", 9, Format(Kind.OTHER, "an event log", bool))
    assert analyse_events([gone]).unusable == (("gone.evtx", "it can't be read: No such file or directory"),)


def test_an_event_that_is_damaged_is_one_event_less(tmp_path: Path) -> None:
    parts = as_xml([asked(n) for n in range(9)]).split("\r\n")
    parts[4] = parts[4].replace("</System>", "</Sistem>")
    (file,) = analyse(tmp_path, "\n".join(parts) + parts[0][:300]).answer.files
    assert file.records == 8
    assert file.notes[0] == "it ends within event 10"
    assert file.notes[1].startswith("1 events could not be read, the first of them event 5: mismatched tag")


def test_entities_are_never_expanded(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    bomb = f'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{entities}'
    text = f"<?xml version='1.0'?>{bomb}]><Events>{as_xml([asked(0, host='&j;:1688')])}{as_xml([asked(1)])}</Events>"
    found = analyse(tmp_path, text.replace("&amp;j;", "&j;"))
    assert [attempt.host for client in found.answer.clients for attempt in client.latest] == ["kms1.corp.example:1688"]
    assert found.answer.files[0].damaged


def test_deep_xml_and_json_are_passed_over(tmp_path: Path) -> None:
    deep = "<Event>" + "<a>" * 20_000 + "</a>" * 20_000 + "</Event>"
    assert analyse(tmp_path, deep + as_xml([asked(0)])).answer.clients[0].attempts == 1
    nested = '{"Id": 1, "ProviderName": ' + '{"a":' * 50_000 + "\n" + as_json([asked(0)])
    analyse(tmp_path, nested)


def test_a_quote_that_is_never_closed_ends_in_a_note(tmp_path: Path) -> None:
    text = as_export_csv([asked(0)]) + '"' + "x" * 200_000 + "\r\n" + as_export_csv([asked(1)]).split("\r\n", 2)[2]
    (file,) = analyse(tmp_path, text).answer.files
    assert file.records == 2
    assert "rows could not be read" in file.notes[0]


def test_texts_of_files_are_ascii_and_bounded(tmp_path: Path) -> None:
    event = served(0, machine="e\u0301vil\x1b[31m" + "x" * 500)
    found = analyse(tmp_path, as_json([event]), names=["na\u202eme.json"])
    (name,) = found.answer.requesters[0].machines
    assert name.isascii()
    assert name.isprintable()
    assert len(name) <= 255
    assert found.answer.files[0].label.isascii()


@pytest.mark.parametrize(
    "text", ['{"a":\n', '{ "\n', "<Event ", "<Event>\n", "in the 'a", "0x1, ", "Id: 12288\n", "Message: x\n"]
)
def test_hostile_texts_take_no_more_time_than_their_length(text: str, tmp_path: Path) -> None:
    started = time.process_time()
    analyse(tmp_path, text * (400_000 // len(text)), as_json([asked(0)]) + text * (400_000 // len(text)))
    assert time.process_time() - started < 20


def test_a_packed_log_is_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.evtx.gz"
    path.write_bytes(gzip.compress(evtx(EVENTS)))
    packed = source(path)._replace(packing=Kind.GZIP)
    assert analyse_events([packed]).answer.files[0].records == 4


# --------------------------------------------------------------------------------------------------- memory


def peak(path: Path) -> float:
    tracemalloc.start()
    try:
        analyse_events([source(path)])
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["served", "asked"])
def test_memory_grows_with_machines_and_not_with_rows(kind: str, tmp_path: Path) -> None:
    def rows(count: int) -> list[Event]:
        if kind == "served":
            return [served(n % 400 / 10, n % 20) for n in range(count)]
        return list(itertools.chain(*((asked(n % 400), answered(n % 400 + 0.5)) for n in range(count // 2))))

    few, many = tmp_path / "few.csv", tmp_path / "many.csv"
    few.write_text(as_export_csv(rows(4_000)))
    many.write_text(as_export_csv(rows(24_000)))
    peak(few)
    small, large = peak(few), peak(many)
    # What reading takes is the buffer of a chunk, which is as large as the file up to a bound.
    assert large - small < (many.stat().st_size - few.stat().st_size) / 2**20 + 1


def test_rows_that_all_differ_are_counted_into_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmsdiag.evidence.events.hosts._VARIANTS", 50)
    events = [served(n, n % 7, f"0xC004F{n % 100:03X}", status=n % 5) for n in range(1000)]
    (host,) = analyse(tmp_path, as_xml(events)).answer.hosts
    assert (host.requests, host.clients, sum(host.hresults.values())) == (1000, 7, 1000)
