"""Two reports side by side on a screen, in Markdown and in JSON: what got worse first, nothing that acts."""

import json
from importlib.resources import files
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from kmsdiag.model.difference import Difference
from kmsdiag.report import difference as pages
from kmsdiag.report import json as rendered
from kmsdiag.report.lines import STYLES, plain
from kmsdiag.report.words import visible
from tests.labruns import NAMES, hostile_report, runs
from tests.places import BRANCH, HQ, blocked, healthy, no_dns, seen
from tests.test_compare import difference_of

SCHEMA: Any = json.loads((files("kmsdiag") / "schemas" / "diff.schema.json").read_text(encoding="utf-8"))
GOOD, BAD = seen(healthy(), "hq", HQ), seen(blocked(), "hq", HQ)


def screen(found: Difference, **options: Any) -> list[str]:
    return plain(pages.lines(found, **options)).splitlines()


def test_worse() -> None:
    assert screen(difference_of(GOOD, BAD)) == [
        "✖ WORSE  2 got worse.",
        "  old      ✔ HEALTHY, hq, 2026-01-05 08:00:00 UTC, old.json",
        "  new      ✖ BROKEN, hq, 2026-01-05 08:00:00 UTC, new.json",
        "",
        "  worse      verdict: healthy → broken",
        "             contoso.example → kms1.contoso.example:1688: ok → fails at tcp (silent)",
    ]


def test_better() -> None:
    lines = screen(difference_of(BAD, seen(healthy(), "branch", BRANCH)))
    assert lines[0] == "✔ NO WORSE  2 got better."
    assert lines[3].startswith("  note     seen from two places, hq and branch")
    assert "  better     verdict: broken → healthy" in lines


def test_not_comparable() -> None:
    lines = screen(difference_of(GOOD, hostile_report()))
    assert lines[0] == "? NOT COMPARABLE  the two can't be compared."
    assert "  why      no domain and no host is in both" in lines


def test_many_changes_stay_readable() -> None:
    names = [f"d{number}.example" for number in range(40)]
    target = msgspec.structs.replace(GOOD.target, domains=tuple(names))
    paths = [msgspec.structs.replace(GOOD.paths[0], domain=name) for name in names]
    lost = [msgspec.structs.replace(no_dns_path, domain=name) for name in names for no_dns_path in _no_dns()]
    before = msgspec.structs.replace(GOOD, target=target, paths=tuple(paths))
    after = msgspec.structs.replace(BAD, target=target, paths=tuple(lost))
    found = difference_of(before, after)
    assert "             and 29 more (-v shows them all)" in screen(found)
    assert len(screen(found, verbosity=1)) > 80


def _no_dns() -> Any:
    return seen(no_dns(), "hq", HQ).paths


CASES = [(GOOD, BAD), (BAD, GOOD), (GOOD, GOOD), (GOOD, hostile_report()), (hostile_report(), hostile_report())]


@pytest.mark.parametrize(("before", "after"), CASES)
def test_every_format_is_inert_and_json_is_as_the_schema_says(before: Any, after: Any) -> None:
    found = difference_of(before, after)
    text = rendered.render(found)
    jsonschema.validate(json.loads(text), SCHEMA)
    assert msgspec.json.decode(text, type=Difference) == found
    for page in ("\n".join(screen(found, verbosity=1)), pages.markdown(found), text):
        assert all(visible(line) == line for line in page.split("\n"))
    assert "\n".join(screen(found, unicode=False)).isascii()
    assert {piece.style for line in pages.lines(found) for piece in line} - {""} <= STYLES.keys()


@pytest.mark.parametrize("name", NAMES)
def test_scenarios(name: str) -> None:
    found = difference_of(runs()["healthy"].report, runs()[name].report)
    jsonschema.validate(json.loads(rendered.render(found)), SCHEMA)
    for change in (*found.worse, *found.better, *found.changed, *found.not_known):
        assert change.what in pages.markdown(found).replace("\\", "").replace("&gt;", ">")
