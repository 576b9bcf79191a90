import html.parser
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from kmsdiag.report.markdown import escape, render
from kmsdiag.report.words import visible
from tests.labruns import NAMES, NASTY, hostile_report, runs

OURS = {
    *("h1", "h2", "p", "ol", "ul", "li", "strong", "code", "pre", "br"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: its tags, and the text that is seen."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.comments: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name) for name, _value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def page(markdown: str) -> Page:
    """As a ticket system shows it: GitHub's Markdown, with HTML allowed and links made of addresses in brackets."""
    return Page(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_comes_first(name: str) -> None:
    report = runs()[name].report
    shown = render(report)
    assert shown.startswith("# ")
    assert shown.endswith("\n")
    made = page(shown)
    assert made.tags[0] == "h1"
    assert set(made.tags) <= OURS
    assert report.verdict.headline in made.text
    for cause in report.verdict.causes:
        assert cause.headline in made.text
        for fix in cause.fixes:
            assert fix.command in made.text


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_paths_is_a_table(name: str) -> None:
    report = runs()[name].report
    made = page(render(report))
    rows = sum(max(1, len(path.routes)) for path in report.paths)
    servers = sum(len(matrix.rows) + 1 for matrix in report.dns)
    assert made.tags.count("tr") == rows + 1 + servers


def test_nothing_hostile_acts() -> None:
    shown = render(hostile_report())
    made = page(shown)
    assert set(made.tags) <= OURS
    assert set(made.attributes) <= {("ol", "start")}
    assert made.comments == []
    # h1 is the verdict; only our own headings follow.
    assert made.tags.count("h1") == 1
    assert re.findall(r"^#.*", shown, re.MULTILINE)[1:] == ["## Paths", "## Findings", "## Not checked"]
    assert "<script>alert(1)</script>" in made.text


def test_the_page_sees_what_acts() -> None:
    """The guard of the test above: unescaped, the strings do act."""
    made = [page(f"x{one}x") for one in NASTY]
    assert {"script", "img", "strong", "s", "code", "h1"} <= {tag for one in made for tag in one.tags}
    assert ("img", "src") in {attribute for one in made for attribute in one.attributes}


@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(NASTY), max_size=3).map(" ".join)))
def test_escaped_text_reads_as_it_is(text: str) -> None:
    made = page(f"- x{escape(text)}x")
    assert [tag for tag in made.tags if tag not in ("ul", "li", "p")] == []
    # Runs of blanks are one blank to a browser.
    assert made.text.split() == f"x{visible(text)}x".split()
