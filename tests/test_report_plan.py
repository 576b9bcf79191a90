import json
import re
import unicodedata
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from kmsdiag import diagnosis
from kmsdiag.model.audit import (
    Audit,
    Change,
    DomainShift,
    Effect,
    Removed,
    Requirement,
    RequirementState,
    Share,
    Step,
    WaiverUse,
    WaiverView,
    WhatIf,
)
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.target import Expected, ExpectedHost, Network, Site
from kmsdiag.registry import discover
from kmsdiag.report import json as json_report
from kmsdiag.report import markdown, plan
from kmsdiag.report.lines import plain
from kmsdiag.report.text import render
from kmsdiag.wire.zone import read
from tests.conftest import AT, DOMAIN, World, record
from tests.labruns import NASTY, hostile_report
from tests.test_report_markdown import OURS, page
from tests.test_report_text import joined


def text(report: Report, verbosity: int = 0, width: int = 100) -> str:
    return plain(render(report, verbosity=verbosity, width=width))


def requirement(what: str, state: RequirementState, why: str = "", waived: str = "") -> Requirement:
    return Requirement(code="plan_hosts", what=what, state=state, why=why, waived=waived)


AUDIT = Audit(
    requirements=(
        requirement("a is so", RequirementState.PASS),
        requirement("b is so", RequirementState.NOT_KNOWN, "nobody looked"),
        requirement("c is so", RequirementState.FAIL, "it is not", "waived until 2026-01-06: known"),
        requirement("d is so", RequirementState.FAIL, "it is not either"),
    ),
    waivers=(
        WaiverView(code="x.y", reason="known", until=AT.date(), use=WaiverUse.USED, about="kms1"),
        WaiverView(code="x.z", reason="old", until=AT.date(), use=WaiverUse.EXPIRED),
        WaiverView(code="x.w", reason="unused", until=AT.date(), use=WaiverUse.NOT_NEEDED),
    ),
)


def with_parts(report: Report | None = None, **parts: Any) -> Report:
    return msgspec.structs.replace(report or World(DOMAIN).srv(record("kms1")).report(), **parts)


class TestAudit:
    def test_what_counts_comes_first_and_what_is_well_is_counted(self) -> None:
        lines = text(with_parts(audit=AUDIT)).splitlines()
        start = lines.index("expected  1 of 4 requirements met, 2 failed, 1 not known (1 waived)")
        assert lines[start + 1 : start + 9] == [
            "  ✖ FAIL  d is so",
            "           it is not either",
            "  ✖ FAIL (waived)  c is so",
            "           waived until 2026-01-06: known; it is not",
            "  ? not known  b is so",
            "           nobody looked",
            "  waiver   x.y about kms1: waived until 2026-01-05 (known)",
            "  waiver   x.z: expired on 2026-01-05: it counts again (old)",
        ]

    def test_all_with_v(self) -> None:
        shown = text(with_parts(audit=AUDIT), verbosity=1)
        assert "  ✔ pass  a is so\n" in shown
        assert "x.w: not needed (until 2026-01-05): nothing is waived by it (unused)" in shown

    def test_markdown_has_every_requirement(self) -> None:
        shown = markdown.render(with_parts(audit=AUDIT))
        assert "## Expected state\n\n1 of 4 requirements met, 2 failed, 1 not known (1 waived).\n" in shown
        rows = re.findall(r"^\| (. \w.*) \| (.) is so \| (.*) \|$", shown, re.MULTILINE)
        assert [row[:2] for row in rows] == [
            ("✖ FAIL", "d"),
            ("✖ FAIL (waived)", "c"),
            ("? not known", "b"),
            ("✔ pass", "a"),
        ]

    def test_a_report_without_a_plan_says_nothing_of_it(self) -> None:
        assert "requirements met" not in text(with_parts())
        assert "## Expected" not in markdown.render(with_parts())

    def test_waived_findings_are_not_shown_as_findings(self) -> None:
        report = with_parts()
        views = tuple(
            msgspec.structs.replace(
                one, findings=tuple(msgspec.structs.replace(finding, waived="for now") for finding in one.findings)
            )
            for one in report.results
        )
        assert "dns_srv_hosts.one" in text(report, verbosity=1)
        assert "dns_srv_hosts.one" not in text(msgspec.structs.replace(report, results=views), verbosity=1)


SHIFT = DomainShift(
    domain=DOMAIN,
    before=(Share(host="kms1", ranked=0.5, random=0.5, windows=50), Share(host="kms2", ranked=0.5, random=0.5)),
    after=(Share(host="kms1", ranked=1.0, random=0.5, windows=100), Share(host="kms3", ranked=0.0, random=0.5)),
    moves=0.5,
    moves_random=0.25,
    ttl=3600,
    added=("kms3:1688",),
    removed=(Removed(host="kms2:1688", answers=True),),
)
WHAT_IF = WhatIf(
    records=("_vlmcs._tcp.contoso.example. 60 IN SRV 0 0 1688 kms1.",),
    domains=(SHIFT,),
    effects=(Effect(what="verdict: a → b", better=False), Effect(what="gone: x", better=True), Effect(what="y")),
)


class TestWhatIf:
    def test_shares_and_who_moves(self) -> None:
        shown = text(with_parts(what_if=WHAT_IF))
        assert "what if  1 proposed record, judged as if in place; nothing was changed" in shown
        assert re.search(r"^  kms1 +50% +100% +50% +50% +50 +100$", shown, re.MULTILINE)
        assert re.search(r"^  kms2 +50% +– +50% +–$", shown, re.MULTILINE)
        assert re.search(r"^  kms3 +– +0% +– +50%$", shown, re.MULTILINE)
        words = joined(shown.splitlines())
        assert "moves clients that keep no host yet: 50% of first picks go to another host (25% on Vista and" in words
        assert "at the latest 3600 s after the change" in words
        assert "stays a client that keeps a host which stays published (kms1) goes on using it" in words
        assert "clients that keep kms2:1688, which is published no more: it answers now, so they stay there" in words
        assert "worse verdict: a → b better gone: x changed y" in words

    @pytest.mark.parametrize(("answers", "words"), [(False, "it does not answer now"), (None, "is not known")])
    def test_a_removed_host_that_may_not_answer(self, answers: bool | None, words: str) -> None:
        shift = msgspec.structs.replace(SHIFT, removed=(Removed(host="kms2:1688", answers=answers),))
        assert any(words in line for _label, line in plan.shift_lines(shift))

    def test_nothing_is_left(self) -> None:
        lines = plan.shift_lines(msgspec.structs.replace(SHIFT, after=(), moves=0.0, moves_random=0.0))
        assert ("lost", "no host is published any more: new clients find none and show 0x8007232B") in lines
        assert "moves" not in dict(lines)

    def test_there_was_nothing(self) -> None:
        lines = dict(plan.shift_lines(msgspec.structs.replace(SHIFT, before=(), removed=())))
        assert lines["moves"] == "clients that keep no host yet: all, for none is published now"

    def test_markdown(self) -> None:
        shown = markdown.render(with_parts(what_if=WHAT_IF))
        assert "```\n_vlmcs._tcp.contoso.example. 60 IN SRV 0 0 1688 kms1.\n```" in shown
        assert "| kms1 | 50% | 100% | 50% | 50% | 50 | 100 |" in shown
        assert "- **worse**: verdict: a → b" in shown


CHANGE = Change(what="x is to be y", steps=(Step(where="on z", do=("one", "two"), undo=("three",)),))


class TestChanges:
    def test_each_has_its_way_back(self) -> None:
        lines = text(with_parts(changes=(CHANGE,))).splitlines()
        start = lines.index("changes  that would bring the expected state; kmsdiag makes none of them")
        assert [line.strip() for line in lines[start + 1 : start + 8]] == [
            "1        x is to be y",
            "on z:",
            "one",
            "two",
            "and back:",
            "three",
            "",
        ]

    def test_markdown_keeps_commands_in_blocks(self) -> None:
        shown = markdown.render(with_parts(changes=(CHANGE,) * 12))
        assert shown.count("```\none\ntwo\n```") == 12
        assert page(shown).tags.count("pre") == 24


HOSTILE = with_parts(
    hostile_report(),
    audit=Audit(
        requirements=tuple(
            requirement(one, state, one, one) for one, state in zip(NASTY, list(RequirementState) * 9, strict=False)
        ),
        waivers=tuple(
            WaiverView(code=one, reason=one, until=AT.date(), use=WaiverUse.USED, about=one) for one in NASTY
        ),
    ),
    what_if=WhatIf(
        records=NASTY,
        domains=tuple(
            DomainShift(
                domain=one,
                before=(Share(host=one, ranked=1.0, random=1.0),),
                after=(Share(host=one, ranked=1.0, random=1.0),),
                added=(one,),
                removed=(Removed(host=one),),
            )
            for one in NASTY
        ),
        effects=tuple(Effect(what=one) for one in NASTY),
    ),
    changes=tuple(Change(what=one, steps=(Step(where=one, do=(one,), undo=(one,)),)) for one in NASTY),
)


class TestHostileStrings:
    @pytest.mark.parametrize("verbosity", [0, 2])
    def test_in_text(self, verbosity: int) -> None:
        for character in text(HOSTILE, verbosity):
            assert character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        assert plain(render(HOSTILE, unicode=False)).isascii()

    def test_in_markdown(self) -> None:
        made = page(markdown.render(HOSTILE))
        assert set(made.tags) <= OURS
        assert set(made.attributes) <= {("ol", "start")}
        assert made.comments == []

    def test_in_json(self) -> None:
        shown = json_report.render(HOSTILE)
        assert msgspec.json.decode(shown.encode(), type=Report) == HOSTILE
        assert "\x1b" not in shown
        assert "\u202e" not in shown


def test_json_is_as_its_schema_says() -> None:
    schema = json.loads(json_report.schemas()["report"])
    for report in (HOSTILE, with_parts(audit=AUDIT, what_if=WHAT_IF, changes=(CHANGE,)), whole()):
        jsonschema.validate(json.loads(json_report.render(report)), schema)


def whole() -> Report:
    """A real one, with everything in it."""
    expected = Expected(
        hosts=(ExpectedHost(f"kms1.{DOMAIN}", domains=(DOMAIN,), priority=0),),
        planned=True,
        max_hosts=1,
        sites=(Site(name="hq", domain=DOMAIN, client=50, office=9),),
        networks=(Network(name="desks", address="10.1.0.0/16", site="hq"),),
    )
    world = World(DOMAIN, expected=expected).srv(record("kms1", 5), record("kms2")).host("kms1", "10.1.0.8")
    bundle = msgspec.structs.replace(
        world.host("kms2", "10.1.0.9").bundle(),
        proposed=read("_vlmcs._tcp SRV 0 0 1688 kms1\n", DOMAIN),
        vantage=Vantage(label="desks"),
    )
    report = diagnosis.judge(bundle, discover())
    return msgspec.structs.replace(report, changes=diagnosis.changes(bundle, report))


@pytest.mark.parametrize("width", [60, 100])
def test_prose_keeps_to_the_width(width: int) -> None:
    for line in render(whole(), width=width):
        shown = "".join(piece.text for piece in line)
        if len(line) > 1 and line[0].style == "label" and line[-1].style != "command" and shown.startswith("    "):
            assert len(shown) <= width or len(shown.split()) < 4, shown
