"""Lines of what people paste: output of tools with prompts, mail quoting, lost indents and blank lines."""

import re
from typing import Final

MOST_LINES: Final = 200_000
"""Lines that are looked at; what people paste has some hundred."""

LINE_LIMIT: Final = 2000
"""Characters of a line that are looked at."""

_QUOTING: Final = re.compile(r"^[>|\s]*(?:[>|](?:\s|$)|\s)")
_PROMPT: Final = re.compile(r"^(?:PS )?[A-Za-z]:\\[^<>|]*>\s*|^PS>\s*|^\S+@\S+[:~][^$#]*[$#]\s+|^[$#]\s+")


def lines(text: str) -> list[str]:
    """Lines without quoting, prompt, indent and a stray ``|`` at the end; those that are empty then are left out."""
    found = []
    for number, line in enumerate(text.splitlines()):
        if number >= MOST_LINES:
            break
        line = _QUOTING.sub("", line[:LINE_LIMIT]).strip().removeprefix("> ").lstrip(">").strip()
        line = _PROMPT.sub("", line).removesuffix("|").rstrip()
        if line:
            found.append(line)
    return found


def pairs(line: str) -> tuple[str, str] | None:
    """Label and value of a line ``Label : value`` as PowerShell's lists have it; None for another line."""
    label, colon, value = line.partition(":")
    label = label.strip()
    if not colon or not label or len(label) > 40 or not label[0].isalpha():
        return None
    return label, value.strip()
