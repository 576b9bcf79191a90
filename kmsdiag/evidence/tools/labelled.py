"""Labels and values in the text of a tool, however the text was wrapped, quoted or indented on its way here.

A console cuts lines at its width, inside words; mail programs break them at blanks and put "> " before each; pages add
blank lines and lose indents. So labels are looked for in the text without any white space, at the beginnings of lines,
and a value goes on in the next lines as long as its form says so.
"""

import bisect
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

LONGEST_LINE: Final = 2_000
"""Characters of a line that are looked at."""

MOST_PIECES: Final = 24
"""Lines that one value may be spread over."""

_NEWLINE: Final = re.compile("\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_QUOTE: Final = re.compile(r"\s*(?:[>|]\s*)+")
_INVISIBLE: Final = re.compile("[\x00\u200b-\u200f\u2060\ufeff]")
_GLUED: Final = re.compile(
    r"(?<=\w|\))(?=(?:edition|channel)$)"
    r"|(?<=[./-](?:19|20)\d\d)\.?(?=\d{1,2}:\d\d)|(?<=\d\d\d\d-\d\d-\d\d)(?=\d\d:)|(?<=:\d\d)(?=[AP]M$)"
)
_OTHER_LABEL: Final = re.compile(r"[^\W\d][^:]{2,60}:(?:\s|$)")

STOP: Final = re.compile(
    r"-{5,}|-{3}(?:Processing|Exiting)-|={3,}|\*{5,}|```|OK$"
    r"|Microsoft\(R\)WindowsScriptHost|Copyright\(C\)|WindowsScriptHost$"
    r"|(?:PS)?[A-Za-z]:[\\/][^>]*>|PS[^>]{0,200}>|\[[^\]]*\]:PS"
    r"|WindowsPowerShelltranscript|(?:Start|End)time:|Username:|RunAsUser:|Machine:|HostApplication:|ProcessID:",
    re.IGNORECASE,
)
"""What ends a value, without white space: rules, banners, prompts, the head of a transcript."""


_DASHES: Final = re.compile("-+$")


class Line(NamedTuple):
    """A line that is not empty. ``number`` counts from 1, ``width`` is its length before anything was taken off."""

    number: int
    text: str
    solid: str
    width: int


class Label(NamedTuple):
    """One label of a tool.

    ``pattern`` is a regular expression of the label without white space. ``value`` is that of the value, likewise;
    ``None`` where the value has words, ``""`` where the label is the whole message. ``ends`` is how a value of words
    ends, where that is known. ``words``: a value that has a form has blanks in it too.
    """

    key: str
    pattern: str
    value: str | None = None
    ends: str = ""
    words: bool = False


class Item(NamedTuple):
    """A label that was found, its value and the lines that both take up.

    ``fits`` is False where the value has not the form that it should have. The value of a message is what stands
    behind it.
    """

    key: str
    value: str
    first: int
    last: int
    fits: bool = True


class Vocabulary:
    """The labels of a tool, and the words of its values that tell where a broken word goes on."""

    def __init__(self, labels: Sequence[Label], words: Iterable[str] = ()) -> None:
        ordered = sorted(labels, key=lambda one: -len(one.pattern))
        self._labels = {one.key: one for one in ordered}
        self._pattern = re.compile("|".join(f"(?P<{one.key}>{one.pattern})" for one in ordered), re.IGNORECASE)
        self._values = {one.key: re.compile(one.value, re.IGNORECASE | re.ASCII) for one in ordered if one.value}
        self._ends = {one.key: re.compile(f"(?:{one.ends})$", re.IGNORECASE) for one in ordered if one.ends}
        self._words = frozenset(word.lower() for word in words)

    def items(self, lines: Sequence[Line]) -> list[Item]:
        """All labels, in the order of the text; ``first`` and ``last`` count from 0 in ``lines``."""
        return _Reading(self, lines).items()

    def find(self, text: str, start: int) -> re.Match[str] | None:
        """The label that begins there."""
        return self._pattern.match(text, start)

    def label(self, key: str) -> Label:
        """The label of that name."""
        return self._labels[key]

    def form(self, key: str) -> re.Pattern[str]:
        """The form of its value."""
        return self._values[key]

    def complete(self, key: str, text: str) -> bool:
        """Whether nothing can follow a value of words."""
        pattern = self._ends.get(key)
        return pattern is not None and pattern.search(text) is not None

    @staticmethod
    def spaced(text: str) -> str:
        """Blanks that a line's end took away, put back where they must have been: before last words, in times."""
        if _GLUED.search(text):
            text = _GLUED.sub(" ", text)
        return text

    def joined(self, left: str, right: str, *, full: bool) -> str:
        """Two pieces of a value of words. ``full``: the first one filled its line, so that a word may be broken."""
        head, tail = left.rpartition(" ")[2], right.partition(" ")[0]
        if self._known(head + tail):
            return left + right
        if self._known(head) and self._known(tail):
            return f"{left} {right}"
        return left + right if full and not head.endswith(",") else f"{left} {right}"

    def _known(self, word: str) -> bool:
        return word.lower().rstrip(",.:") in self._words


def lines_of(text: str) -> list[Line]:
    """The lines that are not empty, without marks of quoting, invisible characters, and colons of other widths."""
    found = []
    for number, raw in enumerate(_NEWLINE.split(text), 1):
        if not raw or raw.isspace():
            continue
        line = raw[:LONGEST_LINE]
        width = len(line.rstrip())
        if not line.isascii():
            line = _INVISIBLE.sub("", line).replace("\uff1a", ":")
        elif "\x00" in line:
            line = line.replace("\x00", "")
        quote = _QUOTE.match(line) if line.lstrip()[:1] in (">", "|") else None
        line = (line[quote.end() :] if quote is not None else line).strip()
        solid = "".join(line.split())
        if solid:
            found.append(Line(number, line, solid, width))
    return found


def after(line: str, count: int) -> str:
    """What follows the first ``count`` characters that are not white space."""
    for position, character in enumerate(line):
        if not character.isspace():
            if count == 0:
                return line[position:]
            count -= 1
    return ""


class _Reading:
    """One text on its way to items."""

    def __init__(self, words: Vocabulary, lines: Sequence[Line]) -> None:
        self.words = words
        self.lines = lines
        self.text = "".join(line.solid for line in lines)
        self.starts: list[int] = []
        at = 0
        for line in lines:
            self.starts.append(at)
            at += len(line.solid)
        self._ends: dict[int, bool] = {}
        self._found: dict[int, re.Match[str] | None] = {}

    def items(self) -> list[Item]:
        found = []
        at = 0
        while at < len(self.lines):
            match = self._label(at)
            if match is None:
                at += 1
                continue
            item = self._item(at, match)
            found.append(item)
            at = item.last + 1
        return found

    def _label(self, at: int) -> re.Match[str] | None:
        if at not in self._found:
            self._found[at] = self._look(at)
        return self._found[at]

    def _look(self, at: int) -> re.Match[str] | None:
        match = self.words.find(self.text, self.starts[at])
        if match is None or self.text[match.end() - 1] != ":":
            return match
        # "Name   : value" is the list of another tool.
        line, offset = self._place(match.end() - 1)
        before = self.lines[line].text
        if " :" not in before and "\t:" not in before:
            return match
        head = before[: len(before) - len(after(before, offset))] if offset else ""
        return None if head[-1:].isspace() else match

    def _place(self, position: int) -> tuple[int, int]:
        """Line and offset in it of a position in the text without white space."""
        line = bisect.bisect_right(self.starts, position) - 1
        return line, position - self.starts[line]

    def _item(self, at: int, match: re.Match[str]) -> Item:
        key = match.lastgroup or ""
        if match.end() <= self.starts[at] + len(self.lines[at].solid) and match.group().find(":") == len(match[0]) - 1:
            # Most labels: in one line, with one colon, at their end.
            line, head = at, self.lines[at].text.partition(":")[2].lstrip()
        else:
            line, offset = self._place(match.end() - 1)
            head = after(self.lines[line].text, offset + 1)
        kind = self.words.label(key).value
        if kind == "":
            return Item(key, head, at, line)
        if kind is None:
            value, last = self._words(key, head, line)
            return Item(key, value if last == line else self.words.spaced(value), at, last)
        return self._solid(key, head, at, line)

    # ------------------------------------------------------------------------------------------------- values

    def _following(self, line: int) -> list[int]:
        """The next lines that are not labels, rules, banners or prompts."""
        found = []
        for number in range(line + 1, min(line + 1 + MOST_PIECES, len(self.lines))):
            if self._stops(number):
                break
            found.append(number)
        return found

    def _stops(self, number: int) -> bool:
        if number not in self._ends:
            solid = self.lines[number].solid
            self._ends[number] = STOP.match(solid) is not None or self._label(number) is not None
        return self._ends[number]

    def _between(self, following: Sequence[int]) -> bool:
        """Whether a label comes right after these lines, so that they belong to what is before them."""
        after_them = following[-1] + 1 if following else len(self.lines)
        return after_them < len(self.lines) and self._label(after_them) is not None

    def _full(self, line: int) -> bool:
        """Whether a line was probably cut by a console: it is about as long as the longest around it."""
        near = self.lines[max(0, line - 40) : line + 41]
        # Lost indents make lines shorter than the console was wide.
        return self.lines[line].width >= max(one.width for one in near) - 8

    def _solid(self, key: str, head: str, at: int, line: int) -> Item:
        form = self.words.form(key)
        value = "".join(head.split())
        best: tuple[str, int] | None = (value, line) if form.fullmatch(value) else None
        following = self._following(line)
        belongs: bool | None = None
        for number in following:
            if best is not None and value and best[1] == number - 1:
                if belongs is None:
                    belongs = self._between(following)
                # A value without blanks goes on without blanks.
                one = self.words.label(key).words or " " not in self.lines[number].text
                if not one or not (belongs or self._full(number - 1)):
                    break
            value += self.lines[number].solid
            if form.fullmatch(value):
                best = (value, number)
        if best is not None:
            return Item(key, best[0], at, best[1])
        return Item(key, head, at, line, fits=False)

    def _words(self, key: str, head: str, line: int) -> tuple[str, int]:
        value, last = head.strip(), line
        if self.words.complete(key, value):
            return value, last
        following = self._following(line)
        belongs = self._between(following)
        for number in following:
            text, full = self.lines[number].text, self._full(number - 1)
            if value and not (full or (belongs and not _OTHER_LABEL.match(text))):
                break
            if _DASHES.match(text) or (not value and _OTHER_LABEL.match(text)):
                break
            if not value and not belongs and not full:
                break
            value = self.words.joined(value, text, full=full) if value else text
            last = number
            if self.words.complete(key, value):
                break
        return value, last
