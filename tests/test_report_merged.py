"""The merged picture on a screen, in Markdown and in JSON: causes first, every place, nothing that acts."""

import html.parser
import json
from importlib.resources import files
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from markdown_it import MarkdownIt

from kmsdiag.model.merged import Merged
from kmsdiag.model.outcome import TcpOutcome
from kmsdiag.report import json as rendered
from kmsdiag.report import merged as pages
from kmsdiag.report.lines import STYLES, plain
from kmsdiag.report.words import visible
from tests.conftest import DOMAIN
from tests.labruns import NAMES, hostile_report, runs
from tests.places import BRANCH, DEPOT, GOOD, HQ, KMS1, STALE, asking, blocked, healthy, seen, stale
from tests.test_merge import KMS, merged

SCHEMA: Any = json.loads((files("kmsdiag") / "schemas" / "merged.schema.json").read_text(encoding="utf-8"))


def three() -> Merged:
    return merged(
        seen(healthy(), "hq", HQ),
        seen(blocked(), "branch", BRANCH),
        seen(stale(), "depot", DEPOT),
        missing=["far.json"],
    )


def screen(picture: Merged, **options: Any) -> str:
    return plain(pages.lines(picture, **options))


def test_the_first_screen() -> None:
    assert screen(three()).splitlines()[:9] == [
        "▲ DEGRADED  1 of 4 places healthy, 2 broken, 1 without data; 2 common causes.",
        "  why      [1] DNS server 10.0.1.53 does not name kms1.contoso.example:1688, which works elsewhere;",
        "           leads to kms-old.contoso.example:1688 (10.1.0.99), which fails at tcp (silent)",
        "           The one place with this trouble asked this server: depot. Places that use another one do",
        "           not have it: hq, branch.",
        "           [2] Only from branch: kms1.contoso.example:1688 (10.1.0.8) fails at tcp (silent)",
        "           The trouble is at branch (10.30.1.5) alone, or on the way from there. The same works from",
        "           hq.",
        "  shows    0xC004F074 on a client's screen (documented)",
    ]


def table_of(text: str, header: str) -> list[list[str]]:
    """Rows of a table, split where its columns begin."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"  {header}"))
    at = [number for number, one in enumerate(lines[start + 1]) if one == "-" and lines[start + 1][number - 1] == " "]
    rows = []
    for line in lines[start + 2 :]:
        if not line.strip():
            break
        rows.append([line[begin:end].strip() for begin, end in zip(at, [*at[1:], None], strict=True)])
    return rows


def test_places_and_ways() -> None:
    text = screen(three())
    assert [row[:3] for row in table_of(text, "place")] == [
        ["branch", "✖ BROKEN", BRANCH],
        ["depot", "✖ BROKEN", DEPOT],
        ["far", "? NO DATA", ""],
        ["hq", "✔ HEALTHY", HQ],
    ]
    assert table_of(text, "domain") == [
        [DOMAIN, f"kms-old.{DOMAIN}:1688", "depot", "✔", "✔", "✖ silent", ""],
        ["", "", "hq, branch", "? not named", "", "", ""],
        ["", "", "1 other place", "? no data", "", "", ""],
        [DOMAIN, KMS, "branch", "✔", "✔", "✖ silent", ""],
        ["", "", "depot", "✖ not named", "", "", ""],
        ["", "", "hq", "✔", "✔", "✔", "✔ KMS"],
        ["", "", "1 other place", "? no data", "", "", ""],
    ]


def test_addresses_that_differ_are_told_apart() -> None:
    world = asking(GOOD, "kms1").name("kms1", KMS1, "fd00::8", server=GOOD)
    world.tcp(KMS1).rpc(KMS1).tcp("fd00::8", TcpOutcome.REFUSED)
    ((row),) = table_of(screen(merged(seen(world, "hq", HQ))), "domain")
    assert row[5] == f"✔ {KMS1}, ✖ refused fd00::8"


def test_many_places_stay_readable() -> None:
    reports = [seen(healthy(), f"p{number}", f"10.{number}.0.5") for number in range(50)]
    reports += [seen(blocked(), f"q{number}", f"172.16.{number}.5") for number in range(30)]
    short, long = screen(merged(*reports)), screen(merged(*reports), verbosity=1)
    assert len(short.splitlines()) < 40
    assert "… and 65 more places (-v shows them all)" in short
    assert "p0, p1, p2 and 47 more" in short
    assert all(f"q{number}" in long for number in range(30))
    assert "more" not in long.split("domain")[1]


def test_ascii() -> None:
    assert screen(three(), unicode=False).isascii()


def test_styles_are_known() -> None:
    assert {piece.style for line in pages.lines(three()) for piece in line} - {""} <= STYLES.keys()


@pytest.mark.parametrize("picture", [three(), merged(*(runs()[name].report for name in NAMES)), merged()])
def test_json_is_as_the_schema_says(picture: Merged) -> None:
    text = rendered.render(picture)
    jsonschema.validate(json.loads(text), SCHEMA)
    assert msgspec.json.decode(text, type=Merged) == picture


def test_hostile_text_does_nothing() -> None:
    picture = merged(hostile_report(), missing=["\x1b[2J\n| x |.json"])
    for text in (screen(picture), screen(picture, verbosity=2), pages.markdown(picture), rendered.render(picture)):
        assert all(visible(line) == line for line in text.split("\n"))


class Tags(html.parser.HTMLParser):
    """The tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not attrs or tag in ("ol", "code"), (tag, attrs)


def test_markdown_has_no_tags_of_others() -> None:
    own = {*("h1", "h2", "p", "ol", "ul", "li", "strong", "code", "pre", "br")}
    own |= {"table", "thead", "tbody", "tr", "th", "td"}
    for picture in (three(), merged(hostile_report(), missing=["<script>alert(1)</script>.json"])):
        page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(pages.markdown(picture))
        assert Tags(page).seen <= own


def test_markdown_is_whole() -> None:
    text = pages.markdown(three()).replace("\\", "")
    for part in ("# ▲ DEGRADED", f"dig @{STALE} _vlmcs._tcp.{DOMAIN} SRV", "## Places", "| far | ? NO DATA", "## Ways"):
        assert part in text


def test_nothing_to_show() -> None:
    assert screen(merged()).splitlines() == ["? UNKNOWN  0 of 0 places healthy."]
