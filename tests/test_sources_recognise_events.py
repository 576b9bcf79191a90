import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.sources.recognise_events import encoding_of, is_event_csv, is_event_json, is_event_xml, is_evtx
from tests.eventsamples import as_export, as_export_csv, as_json, as_text, as_viewer_csv, as_xml, asked, served
from tests.evtxfiles import evtx

EVENTS = [asked(0), served(1)]
TESTS = {"evtx": is_evtx, "xml": is_event_xml, "csv": is_event_csv, "json": is_event_json}


def kinds(head: bytes) -> list[str]:
    return [name for name, test in TESTS.items() if test(head[:4096])]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (as_export(EVENTS), ["xml"]),
        (as_xml(EVENTS), ["xml"]),
        (as_export_csv(EVENTS), ["csv"]),
        (as_export_csv(EVENTS, separator="\t").partition("\n")[2], ["csv"]),
        (as_viewer_csv(EVENTS), ["csv"]),
        (as_viewer_csv(EVENTS, header="Niveau|Date et heure|Source|ID|Catégorie", separator=";"), ["csv"]),
        (as_json(EVENTS), ["json"]),
        (as_json(EVENTS[:1], modern=True), ["json"]),
        ('{"Event": {"System": {"EventID": 1}}}', ["json"]),
        (as_text(EVENTS), []),
        ("Name,Id\r\nx,1\r\n", []),
        ('<?xml version="1.0"?><packet/>', []),
        ('{"kmsdiag_bundle": 1}', []),
        ("", []),
    ],
)
def test_exports_are_known_in_every_encoding(text: str, kind: list[str], encoding: str) -> None:
    assert kinds(text.encode(encoding)) == kind


def test_a_log_is_known_by_its_header() -> None:
    assert kinds(evtx(EVENTS)) == ["evtx"]


def test_an_old_code_page_is_taken_for_windows() -> None:
    assert encoding_of("Aufgabenkategorie für".encode("cp1252")) == "cp1252"
    assert encoding_of("für".encode()[:-2]) == "utf-8"


@given(st.binary(max_size=300))
def test_no_bytes_make_a_test_raise(head: bytes) -> None:
    kinds(head)
