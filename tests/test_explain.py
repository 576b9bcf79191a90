"""``kmsdiag explain``: what was meant, everything that is known of it, in every format, and what is no word at all."""

import json
from importlib.resources import files
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.cli import main
from kmsdiag.explain import NothingKnownError, explain, index
from kmsdiag.knowledge.causes import CAUSES
from kmsdiag.knowledge.codes import CODES
from kmsdiag.knowledge.events import EVENTS
from kmsdiag.knowledge.topics import TOPICS
from kmsdiag.model.explanation import Explained, Explanation, Kind
from kmsdiag.registry import Registry, discover
from kmsdiag.report import explained
from kmsdiag.report import json as as_json
from kmsdiag.report.lines import plain

Capture = pytest.CaptureFixture[str]

SCHEMA: Any = json.loads((files("kmsdiag") / "schemas" / "explanation.schema.json").read_text(encoding="utf-8"))
CHECKS = discover()


def known(word: str) -> Explained:
    return explain(word, lambda: CHECKS)


def not_asked() -> Registry:
    raise AssertionError("the checks are not needed for this")


def every_word() -> list[str]:
    said = [f"{one.id}.{code}" for one in CHECKS.checks for code in one.module.META.codes]
    return [*CODES, *map(str, EVENTS), *TOPICS, *CAUSES, *(one.id for one in CHECKS.checks), *said, "0xC004D104"]


# ------------------------------------------------------------------------------------------------- what is meant


@pytest.mark.parametrize(
    ("word", "kind", "name"),
    [
        ("0xC004F074", Kind.CODE, "0xC004F074"),
        ("c004f074", Kind.CODE, "0xC004F074"),
        ("-1073418124", Kind.CODE, "0xC004F074"),
        ("3221549172", Kind.CODE, "0xC004F074"),
        ("sl_e_vl_not_enough_count", Kind.CODE, "0xC004F038"),
        ("1722", Kind.CODE, "0x800706BA"),
        ("53", Kind.UNKNOWN_CODE, "0x80070035"),
        ("0xC004D104", Kind.UNKNOWN_CODE, "0xC004D104"),
        ("12288", Kind.EVENT, "event 12288"),
        ("event 12290", Kind.EVENT, "event 12290"),
        ("Event ID 8198", Kind.EVENT, "event 8198"),
        ("1058", Kind.EVENT, "event 1058"),
        ("1688", Kind.TOPIC, "ports"),
        ("Is this AWS KMS?", Kind.TOPIC, "aws-kms"),
        ("multiple hosts", Kind.TOPIC, "multiple-hosts"),
        ("tcp.timeout", Kind.CAUSE, "tcp.timeout"),
    ],
)
def test_a_word_is_found_without_the_checks(word: str, kind: Kind, name: str) -> None:
    found = explain(word, not_asked)
    assert (found.kind, found.name, found.asked) == (kind, name, word)


def test_a_check_and_what_it_says_are_found() -> None:
    check, finding = known("tcp_reachable"), known("tcp_reachable.timed_out")
    assert (check.kind, check.name) == (Kind.CHECK, "tcp_reachable")
    assert "tcp_reachable.timed_out" in {entry.name for listing in check.listings for entry in listing.entries}
    assert (finding.kind, finding.name, finding.see) == (Kind.FINDING, "tcp_reachable.timed_out", ("tcp_reachable",))
    assert finding.fixes


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("tresholds", "thresholds"),
        ("tcp_reachble", "tcp_reachable"),
        ("tcp_reachable.timed_uot", "tcp_reachable.timed_out"),
        ("SL_E_VL_NOT_ENOUGH_CONT", "SL_E_VL_NOT_ENOUGH_COUNT"),
    ],
)
def test_what_is_spelt_wrong_is_suggested(word: str, near: str) -> None:
    with pytest.raises(NothingKnownError, match=f"did you mean .*'{near}'") as raised:
        known(word)
    assert near in raised.value.near


@pytest.mark.parametrize("word", ["", "qqqqzzzz", "65432", "tcp_reachable."[:-1] + "x.y.z", "-"])
def test_nonsense_is_nothing(word: str) -> None:
    with pytest.raises(NothingKnownError, match="nothing is known of"):
        known(word)


# ---------------------------------------------------------------------------------------------- what is said of it


@pytest.mark.parametrize("word", every_word())
def test_everything_that_can_be_asked_about_is_explained(word: str) -> None:
    found = known(word)
    assert found.title
    assert found.text or found.causes
    assert all(known(name).kind is not Kind.UNKNOWN_CODE for name in found.see), "what it points to is known"
    assert not any("{" in fix.text or "{target" in fix.command for fix in found.fixes)


def test_a_code_has_its_causes_with_proof_and_commands() -> None:
    found = known("0xC004F038")
    facts = {fact.name: fact.text for fact in found.facts}
    assert facts["layer"].startswith("the count")
    assert facts["parts"] == "licensing service error 0xF038; as a number -1073418184"
    assert all(cause.evidence for cause in found.causes)
    assert "slmgr /dlv" in {fix.command for fix in found.fixes}
    assert "thresholds" in found.see
    assert found.sources


def test_an_unknown_code_is_taken_apart() -> None:
    found = known("0xC004F043")
    assert {fact.name: fact.text for fact in found.facts}["parts"].startswith("licensing service error 0xF043")
    assert [entry.name for entry in found.listings[0].entries] == ["0xC004F042", "0xC004F041", "0xC004F039"]
    assert [fix.command for fix in found.fixes] == ["slui 0x2a 0xC004F043"]
    named = known("0x80070035")
    assert {fact.name: fact.text for fact in named.facts}["name"] == "ERROR_BAD_NETPATH"


def test_status_flags_are_read_as_flags() -> None:
    found = known("0x04000008")
    assert [entry.text.partition(":")[0] for entry in found.listings[0].entries] == ["OTHER_PC", "NOT_ENOUGH_COUNT"]
    assert not any("flags" in listing.title for listing in known("0x0400FFFF").listings)


def test_an_event_has_its_values_in_order() -> None:
    found = known("12290")
    values = found.listings[0].entries
    assert [entry.name for entry in values] == [str(number) for number in range(1, 10)]
    assert values[1].text == "the count that the client needs"
    noise = known("8200")
    assert {fact.name for fact in noise.facts} >= {"counts"}


def test_a_number_that_is_an_event_and_an_error_names_both() -> None:
    assert "0x80070422" in known("1058").see


# ----------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("word", ["0xC004F074", "0xC004D104", "12288", "office", "tcp_reachable", "tcp.timeout"])
def test_every_format_says_it(word: str) -> None:
    explanation = Explanation(tool="1", things=(known(word), index()))
    text = plain(explained.lines(explanation, width=90, unicode=False))
    assert text.isascii()
    # Commands and the name in front are not wrapped.
    assert all(len(line) <= 92 for line in text.splitlines() if line.startswith("  ") and not line.startswith(" " * 15))
    markdown = explained.markdown(explanation)
    found = explanation.things[0]
    for part in (found.name, *(cause.text.split()[0] for cause in found.causes)):
        assert part in text
        assert part in markdown
    data = json.loads(as_json.render(explanation))
    jsonschema.validate(data, SCHEMA)
    assert data["things"][0]["name"] == found.name


@given(st.text())
def test_any_word_is_explained_or_nothing_and_acts_nowhere(word: str) -> None:
    try:
        found = known(word)
    except NothingKnownError:
        return
    text = plain(explained.lines(Explanation(tool="1", things=(found,))))
    assert "\x1b" not in text


# ------------------------------------------------------------------------------------------------ command line


@pytest.mark.parametrize("word", ["-1073418124", "0xC004F074", "C004F074", "3221549172"])
def test_a_negative_number_is_an_argument(word: str, capsys: Capture) -> None:
    assert main(["explain", word]) == 0
    assert capsys.readouterr().out.startswith("0xC004F074  no KMS host could be contacted\n")


def test_options_stand_before_and_after(capsys: Capture) -> None:
    for words in (["--format", "json", "-1073418124"], ["-1073418124", "--format", "json"]):
        assert main(["explain", *words]) == 0
        assert json.loads(capsys.readouterr().out)["things"][0]["name"] == "0xC004F074"


def test_several_at_once_come_in_the_order_asked(capsys: Capture) -> None:
    assert main(["explain", "12288", "-1073418124", "office", "--format", "json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["things"]] == [
        "event 12288",
        "0xC004F074",
        "office",
    ]


def test_words_of_a_topic_need_no_quotes(capsys: Capture) -> None:
    assert main(["explain", "is", "this", "AWS", "KMS?"]) == 0
    assert capsys.readouterr().out.startswith("aws-kms  Is this AWS KMS?\n")


def test_without_a_word_the_topics_are_listed(capsys: Capture) -> None:
    assert main(["explain"]) == 0
    out = capsys.readouterr().out
    assert all(f"    {name} " in out for name in TOPICS)


def test_a_code_that_is_not_known_is_no_error(capsys: Capture) -> None:
    assert main(["explain", "0xC004D104"]) == 0
    assert "kmsdiag has no text for this code" in capsys.readouterr().out


def test_a_word_that_is_nothing_is_one_line_and_the_rest_is_said(capsys: Capture) -> None:
    assert main(["explain", "12288", "tresholds\x1b[2J"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("event 12288")
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert "'thresholds'" in err


@pytest.mark.parametrize("word", ["--frmat", "-x", "--1"])
def test_what_looks_like_an_option_is_none(word: str, capsys: Capture) -> None:
    assert main(["explain", word]) == 2
    assert f"No such option: {word}" in capsys.readouterr().err


def test_it_is_written_to_a_file_in_the_format_of_its_name(tmp_path: Any, capsys: Capture) -> None:
    page = tmp_path / "page.md"
    assert main(["explain", "0xC004F038", "-o", str(page)]) == 0
    assert page.read_text(encoding="utf-8").startswith("# `0xC004F038`: the host's count is too low\n")
    assert main(["explain", "0xC004F038", "-o", str(tmp_path / "page.xml")]) == 2
    assert "there is no JUnit form" in capsys.readouterr().err


def test_a_check_of_ones_own_is_explained(tmp_path: Any, capsys: Capture) -> None:
    source = (
        '"""What it looks at: nothing."""\n'
        "from kmsdiag.check import CheckMeta, Code, Severity, domains\n"
        "META = CheckMeta(title='Mine', codes={'fine': Code(Severity.OK, '{name} is fine.')},"
        " tags=frozenset({'dns'}), since='0.1', references=('me',))\n"
        "subjects = domains\n"
        "def ask(subject, seen):\n    yield from ()\n"
        "def judge(subject, seen):\n    yield from ()\n"
    )
    (tmp_path / "my_check.py").write_text(source, encoding="utf-8")
    assert main(["explain", "my_check", "--checks-dir", str(tmp_path)]) == 0
    assert "my_check.fine" in capsys.readouterr().out
