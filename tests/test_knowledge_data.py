"""Codes, events and topics: complete, in one spelling, each with its sources, and no key among them."""

import inspect
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.evidence.events.kinds import NOISE, READ
from kmsdiag.knowledge import codes, data, events, topics
from kmsdiag.knowledge.causes import CAUSES
from kmsdiag.knowledge.codes import CODES, ErrorCode, Layer
from kmsdiag.knowledge.events import EVENTS, FLAGS, VERDICTS, Event
from kmsdiag.knowledge.topics import TOPICS, Topic
from kmsdiag.registry import discover

ROOT = Path(__file__).parent.parent
FOLDER = files(data.__name__)
FILES = sorted(one.name for one in FOLDER.iterdir() if one.name.endswith(".json"))
WRITTEN = re.compile(r"\b0x[0-9A-Fa-f]{8}\b")
LIKE_A_CODE = re.compile(r"0x(8007|8009|8004|C002|C004|4004)[0-9A-F]{4}")


def text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_written_one_way(name: str) -> None:
    """So that a change by hand shows as the change it is."""
    text = text_of(name)
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", FILES)
def test_no_file_holds_a_key(name: str) -> None:
    """Not a setup key either: nothing that is even three of its five groups."""
    assert not re.search(r"\b([A-Z0-9]{5}-){2}[A-Z0-9]{5}\b", text_of(name).upper())


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read(name: str) -> None:
    sources = "".join(map(inspect.getsource, (codes, data, events, topics)))
    assert f'"{name.removesuffix(".json")}"' in sources


@pytest.mark.parametrize("shared", ["fixes", "sources"])
def test_a_label_is_used_and_stands_for_something(shared: str) -> None:
    used = set()

    def collect(value: object) -> None:
        if isinstance(value, dict):
            used.update(value.get(shared, ()))
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(one)

    for name in ("codes.json", "events.json", "topics.json"):
        collect(json.loads(text_of(name)))
    assert used == set(json.loads(text_of(f"{shared}.json")))


def test_texts_are_plain() -> None:
    """ASCII, so that any terminal shows them and every one is searched with any keyboard."""
    for name in FILES:
        assert text_of(name).isascii(), name


# ------------------------------------------------------------------------------------------------------ codes


@pytest.mark.parametrize("one", CODES.values(), ids=CODES)
def test_a_code_is_complete(one: ErrorCode) -> None:
    assert re.fullmatch(r"0x[0-9A-F]{8}", one.code)
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*|", one.name)
    assert one.meaning
    assert not one.meaning.endswith("."), "a clause"
    assert set(one.sides) <= {"client", "host"}
    assert one.sides
    assert one.causes
    assert len(one.causes) == len(one.evidence), "each cause has what would prove it"
    assert not any(text.endswith(".") for text in (*one.causes, *one.evidence)), "clauses"
    assert one.fixes
    assert one.sources
    assert one.doubtful == "" or one.doubtful.endswith("."), "sentences"


@pytest.mark.parametrize("one", CODES.values(), ids=CODES)
def test_a_doubt_is_owned_up_to(one: ErrorCode) -> None:
    """What no text of Microsoft or of its scripts says is marked as such."""
    own = [text for text in one.sources if text.startswith(("Microsoft", "slmgr.vbs", "ospp.vbs"))]
    assert own or one.doubtful


@pytest.mark.parametrize(
    "one", [one for one in CODES.values() if one.code.startswith("0x8007")], ids=lambda one: one.code
)
def test_a_win32_code_has_the_name_of_its_number(one: ErrorCode) -> None:
    """The table of names is winerror.h's; the records are held to it."""
    number = int(one.code[6:], 16)
    assert one.name == codes.win32_name(one.code) != ""
    assert codes.decode(one.code) == f"Win32 error {number} {one.name}"


@pytest.mark.parametrize(
    ("code", "number", "name"),
    [
        ("0x8007007B", 123, "ERROR_INVALID_NAME"),
        ("0x8007232A", 9002, "DNS_ERROR_RCODE_SERVER_FAILURE"),
        ("0x8007232B", 9003, "DNS_ERROR_RCODE_NAME_ERROR"),
        ("0x8007232D", 9005, "DNS_ERROR_RCODE_REFUSED"),
        ("0x80072338", 9016, "DNS_ERROR_RCODE_BADSIG"),
        ("0x8007251D", 9501, "DNS_INFO_NO_RECORDS"),
        ("0x8007267C", 9852, "DNS_ERROR_NO_DNS_SERVERS"),
        ("0x80072AF9", 11001, "WSAHOST_NOT_FOUND"),
        ("0x8007274C", 10060, "WSAETIMEDOUT"),
        ("0x8007274D", 10061, "WSAECONNREFUSED"),
        ("0x800706B5", 1717, "RPC_S_UNKNOWN_IF"),
        ("0x800706BA", 1722, "RPC_S_SERVER_UNAVAILABLE"),
        ("0x800706BE", 1726, "RPC_S_CALL_FAILED"),
        ("0x800706BF", 1727, "RPC_S_CALL_FAILED_DNE"),
        ("0x80070422", 1058, "ERROR_SERVICE_DISABLED"),
        ("0x80070426", 1062, "ERROR_SERVICE_NOT_ACTIVE"),
        ("0x80070490", 1168, "ERROR_NOT_FOUND"),
        ("0x800704CF", 1231, "ERROR_NETWORK_UNREACHABLE"),
        ("0x800705B4", 1460, "ERROR_TIMEOUT"),
        ("0x8007139F", 5023, "ERROR_INVALID_STATE"),
        ("0x80072EE2", 12002, "ERROR_INTERNET_TIMEOUT"),
        ("0x80072EE7", 12007, "ERROR_INTERNET_NAME_NOT_RESOLVED"),
    ],
)
def test_numbers_are_those_of_winerror(code: str, number: int, name: str) -> None:
    assert int(code, 16) == 0x80070000 | number
    assert codes.win32_name(code) == name
    assert CODES[code].name == name


def test_what_is_noise_is_noise_to_the_readers() -> None:
    assert {one.id for one in EVENTS.values() if one.noise} <= NOISE
    assert not NOISE & READ
    assert EVENTS.keys() >= READ


def test_codes_events_and_topics_are_sorted() -> None:
    assert list(CODES) == sorted(CODES)
    assert list(EVENTS) == sorted(EVENTS)
    assert list(TOPICS) == sorted(TOPICS)


def test_names_are_unique() -> None:
    names = [one.name for one in CODES.values() if one.name]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("layer", "members"),
    [
        (Layer.NAME, {"0x8007007B", "0x8007267C"}),
        (Layer.DNS, {"0x8007232B", "0x80092328", "0x8007251D", "0x8007232A", "0x8007232D", "0x80072AF9"}),
        (Layer.PATH, {"0x800706BA", "0xC0020017", "0x8007274C", "0x8007274D", "0xC004F039"}),
        (Layer.UMBRELLA, {"0xC004F074"}),
        (Layer.HOST, {"0xC004F06C", "0xC004F041", "0xC004F042", "0xC004F015"}),
        (Layer.COUNT, {"0xC004F038"}),
        (Layer.CLIENT_KEY, {"0xC004F014", "0xC004F050", "0xC004F069", "0xC004F056", "0xC004F034"}),
        (Layer.HOST_KEY, {"0xC004C008"}),
        (Layer.PUBLISHING, {"0x80072338"}),
        (Layer.NOT_KMS, {"0x80072EE7", "0x80072EE2", "0xC004C001", "0xC004C003", "0xC004F200"}),
        (Layer.INFORMATION, {"0x4004F040"}),
    ],
)
def test_each_layer_has_its_codes(layer: Layer, members: set[str]) -> None:
    assert members <= {code for code, one in CODES.items() if one.layer is layer}
    assert layer.words


def test_every_code_that_a_cause_names_is_known() -> None:
    named = {one.code for text in CAUSES.values() for one in (text.screen, text.event) if one is not None}
    assert named <= set(CODES)


def test_every_code_in_the_project_is_known() -> None:
    """In sources, checks' texts and the knowledge itself; NTSTATUS and file signatures are other numbers."""
    found = set()
    for folder in ("kmsdiag", "checks", "docs"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".json", ".md"} and file.name != "explain.md":
                found |= {f"0x{code[2:].upper()}" for code in WRITTEN.findall(file.read_text(encoding="utf-8"))}
    flags = {f"0x{bit:08X}" for bit in FLAGS}
    wanted = {code for code in found - flags if LIKE_A_CODE.fullmatch(code)}
    assert "0xC004F074" in wanted
    assert wanted <= set(CODES)


def test_every_code_of_the_collected_table_is_known() -> None:
    """The table that the data was made from lies beside a checkout of the project's own machine, and nowhere else."""
    table = ROOT.parent / "shared" / "reference" / "error-codes.json"
    collected = {one["code"] for one in json.loads(table.read_text(encoding="utf-8"))} if table.exists() else set()
    assert collected <= set(CODES)
    assert len(CODES) > 80


# ------------------------------------------------------------------------------------------- spelling of codes


@pytest.mark.parametrize(
    "text",
    [
        "0xC004F074",
        "0xc004f074",
        "0XC004F074",
        "C004F074",
        "c004f074",
        "-1073418124",
        "3221549172",
        " 0xC004F074 ",
        "0x C004 F074",
        '"0xC004F074"',
        "0xC004F074.",
    ],
)
def test_one_code_has_many_spellings(text: str) -> None:
    assert codes.canonical(text) == "0xC004F074"
    found = codes.find(text)
    assert found is CODES["0xC004F074"]


@pytest.mark.parametrize(
    "text", ["", "x", "12288", "-1", "0x", "0xG", "0x123456789", "99999999999", "discovery", "120", "٣٢٢١٥٤٩١٧٢"]
)
def test_what_is_no_code(text: str) -> None:
    assert codes.canonical(text) is None


@given(st.integers(min_value=0, max_value=0xFFFFFFFF))
def test_every_spelling_of_a_number_is_one_code(value: int) -> None:
    code = f"0x{value:08X}"
    assert codes.canonical(code) == code
    assert codes.canonical(f"{value:08x}") == code
    signed = value - (1 << 32) if value >> 31 else value
    if abs(signed) >= 1 << 30:
        assert codes.canonical(str(value)) == code
        assert codes.canonical(str(signed)) == code


@given(st.text())
def test_any_text_is_a_code_or_none(text: str) -> None:
    code = codes.canonical(text)
    assert code is None or re.fullmatch(r"0x[0-9A-F]{8}", code)
    assert isinstance(codes.meaning(text), str)
    assert isinstance(codes.nearest(text), tuple)


def test_a_code_is_found_by_its_name() -> None:
    assert codes.find("sl_e_vl_not_enough_count") is CODES["0xC004F038"]
    assert codes.find("") is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("0xC004F038", "the host's count is too low"),
        ("-1073418124", "no KMS host could be contacted"),
        ("0x80070035", "Win32 error 53 ERROR_BAD_NETPATH"),
        ("0xC004D104", "licensing service error 0xD104"),
        ("garbage", "garbage"),
    ],
)
def test_a_meaning_fits_in_a_sentence(code: str, words: str) -> None:
    assert codes.meaning(code) == words


def test_the_nearest_are_of_the_same_kind() -> None:
    assert [one.code for one in codes.nearest("0xC004F043")] == ["0xC004F042", "0xC004F041", "0xC004F039"]
    assert [one.code for one in codes.nearest("0x800706BB", 1)] == ["0x800706BA"]
    assert codes.nearest("0x12345678") == ()
    assert codes.nearest("garbage") == ()


# ----------------------------------------------------------------------------------------------------- events


@pytest.mark.parametrize("one", EVENTS.values(), ids=map(str, EVENTS))
def test_an_event_is_complete(one: Event) -> None:
    assert one.side in {"client", "host", "both"}
    assert one.log in {"Application", "Key Management Service"}
    assert one.title
    assert not one.title.endswith("."), "a clause"
    assert one.meaning.endswith("."), "sentences"
    assert one.causes
    assert one.fixes
    assert one.sources
    assert len(set(one.fields)) == len(one.fields)
    assert set(one.fields) <= set(events.FIELDS)


def test_the_three_lists_have_their_fields() -> None:
    """Table 11: the client asks with ten values, reads eight, and the host logs nine."""
    assert {one.id: len(one.fields) for one in EVENTS.values() if one.fields} == {12288: 10, 12289: 8, 12290: 9}
    assert all(EVENTS[number].fields[0] == "hresult" for number in (12288, 12289, 12290))
    assert [one.id for one in EVENTS.values() if one.log == "Key Management Service"] == [12290]
    assert (EVENTS[12288].fields[9], EVENTS[12289].fields[4], EVENTS[12290].fields[1]) == (
        "n_policy",
        "count",
        "n_policy",
    )


def test_every_event_that_a_check_or_fix_names_is_known() -> None:
    texts = [fix.text + fix.command for cause in CAUSES.values() for fix in cause.fixes]
    texts += [check.docstring for check in discover().checks]
    named = {int(number) for text in texts for number in re.findall(r"\b122\d\d\b|\b123\d\d\b", text)}
    assert 12290 in named
    assert named <= set(EVENTS)


def test_flags_are_single_bits() -> None:
    assert all(bit.bit_count() == 1 for bit in FLAGS)
    assert FLAGS[0x04000000].name == "NOT_ENOUGH_COUNT"
    assert [flag.name for flag in events.flags_in(0x04000008)] == ["OTHER_PC", "NOT_ENOUGH_COUNT"]
    assert events.flags_in(0) == ()
    assert events.find_event(12288) is EVENTS[12288]
    assert events.find_event(1) is None
    assert all(verdict.sources for verdict in VERDICTS)


# ----------------------------------------------------------------------------------------------------- topics


@pytest.mark.parametrize("one", TOPICS.values(), ids=TOPICS)
def test_a_topic_is_complete(one: Topic) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", one.id)
    assert one.text
    assert all(text.endswith(".") for text in one.text)
    assert one.fixes
    assert one.sources
    assert all(name in TOPICS or name in CODES for name in one.see)
    assert all(topics.find_topic(name) is one for name in (one.id, one.title, *one.aliases))
    hidden = [name for name in one.aliases if codes.canonical(name) or (name.isdigit() and int(name) in EVENTS)]
    assert hidden == [], "a code or an event of that name is found first"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("intervals", "intervals"),
        ("Thresholds", "thresholds"),
        ("PORTS", "ports"),
        ("multiple hosts", "multiple-hosts"),
        ("Is this AWS KMS?", "aws-kms"),
        ("adba", "adba"),
        ("duplicate_cmids", "duplicate-cmids"),
        ("KMS or MAK", "mak"),
    ],
)
def test_a_topic_is_found_however_it_is_spelt(text: str, found: str) -> None:
    topic = topics.find_topic(text)
    assert topic is not None
    assert topic.id == found


@pytest.mark.parametrize(
    ("text", "first"), [("intervalls", "intervals"), ("treshold", "thresholds"), ("discovry", "discovery")]
)
def test_a_topic_that_is_spelt_wrong_is_suggested(text: str, first: str) -> None:
    assert topics.find_topic(text) is None
    assert topics.close_topics(text)[0].id == first


def test_nothing_is_suggested_for_nonsense() -> None:
    assert topics.close_topics("qqqqzzzz") == ()
    assert topics.close_topics("") == ()
