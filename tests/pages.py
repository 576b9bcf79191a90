"""What the pages show of kmsdiag's output, held against what it really says."""

import difflib
import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"

_CHANGING = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?"), "TIME"),
    (re.compile(r"(\d+\.\d|<0\.1) ms"), "N ms"),
    # Columns are as wide as what stands in them.
    (re.compile(r"-{3,}"), "---"),
    (re.compile(r"\s+"), " "),
)


def lines(text: str) -> list[str]:
    """Lines with something in them, without what each run has anew: times, and with them the widths of columns."""
    found = []
    for line in text.splitlines():
        for pattern, word in _CHANGING:
            line = pattern.sub(word, line)
        found.append(line.strip())
    return [line for line in found if line]


def blocks(page: str, begin: str) -> list[str]:
    """The code blocks of a page in docs/ that begin with this."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [one for one in re.findall(r"^```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if one.startswith(begin)]


def assert_shown(part: str, whole: str) -> None:
    """One text stands in another, line by line; a page may leave out the beginning and the end."""
    wanted, real = lines(part), lines(whole)
    assert wanted
    start = real.index(wanted[0]) if wanted[0] in real else 0
    shown = real[start : start + len(wanted)]
    assert shown == wanted, "\n".join(difflib.unified_diff(wanted, shown, "the page", "said now", lineterm=""))
