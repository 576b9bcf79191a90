"""Bytes of a text file to text, whatever wrote them: Notepad, PowerShell, cmd, a transcript, a mail.

Windows tools write UTF-16 with and without a mark, UTF-8 with and without one, and the code pages of console and
system. What matters here is ASCII; the rest is decoded as well as can be guessed, and a guess is told.
"""

import re
from typing import Final, NamedTuple

_MARKS: Final = (
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)

_SAMPLE: Final = 65_536
"""Bytes that a guess is made from."""

_ISLAND: Final = re.compile(rb"[\t\r\n\x20-\x7e]{24,}")
"""Text of one byte a character within UTF-16: cmd added to a file of PowerShell."""

_WIDE: Final = re.compile(rb"(?:[^\x00]\x00){6,}")
"""UTF-16 within text of one byte a character: PowerShell added to a file of cmd."""

_HIGH: Final = re.compile(rb"[\x80-\xff]+")
_WORD_BYTE: Final = re.compile(rb"(?<=[A-Za-z])[\x80-\xff]|[\x80-\xff](?=[a-z])")

_ESCAPES: Final = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    "|\x1b\\][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\\\)"  # OSC: titles, links
    "|\x1b[ -/]*[0-~]"
)
_NEWLINES: Final = re.compile("\r+\n|\r|\u2028|\u2029")


class Decoded(NamedTuple):
    r"""The text with ``\n`` between lines, without NULs and terminal escapes. ``notes`` say what was assumed."""

    text: str
    encoding: str
    notes: tuple[str, ...]


def decode(data: bytes) -> Decoded:
    """The text that bytes stand for. Never raises: what cannot be decoded becomes U+FFFD."""
    text, encoding, notes = _text(data)
    if "\ufffd" in text:
        notes.append(f"{text.count(chr(0xFFFD)):,} characters could not be decoded as {encoding}")
    if "\x1b" in text:
        text = _ESCAPES.sub("", text).replace("\x1b", "")
        notes.append("escapes of a terminal were taken out")
    if "\x00" in text:
        notes.append(f"{text.count(chr(0)):,} NUL characters were taken out")
        text = text.replace("\x00", "")
    return Decoded(_NEWLINES.sub("\n", text).removeprefix("\ufeff"), encoding, tuple(notes))


def _text(data: bytes) -> tuple[str, str, list[str]]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            rest = data[len(mark) :]
            if encoding.startswith("utf-16"):
                text, notes = _wide(rest, encoding)
                return text, encoding, notes
            if encoding == "utf-8":
                return _eight_bit(rest, marked=True)
            return rest.decode(encoding, "replace"), encoding, []
    guess = _unmarked_utf16(data[:_SAMPLE])
    if guess:
        text, notes = _wide(data, guess)
        return text, guess, [f"no byte order mark: taken as {guess}", *notes]
    return _eight_bit(data, marked=False)


def _unmarked_utf16(sample: bytes) -> str:
    """UTF-16 by its zeros: those of ASCII characters stand all on one side."""
    half = len(sample) // 2
    if half < 2:
        return ""
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if odd > 0.25 * half and even < 0.02 * half + 1 and odd > 8 * even:
        return "utf-16-le"
    if even > 0.25 * half and odd < 0.02 * half + 1 and even > 8 * odd:
        return "utf-16-be"
    return ""


def _wide(data: bytes, encoding: str) -> tuple[str, list[str]]:
    """UTF-16, with parts of one byte a character where cmd added some."""
    parts, at, islands = [], 0, 0
    for island in _ISLAND.finditer(data):
        start, end = island.span()
        if b" " not in island[0]:
            continue
        # A character of UTF-16 before it may end with a byte that looks like text.
        start += (start - at) % 2
        if end < len(data) and data[end] == 0 and encoding == "utf-16-le":
            end -= 1
        parts += [data[at:start].decode(encoding, "replace"), data[start:end].decode("ascii", "replace")]
        at, islands = end, islands + 1
    rest = data[at:]
    cut = len(rest) % 2
    parts.append(rest[: len(rest) - cut].decode(encoding, "replace"))
    notes = [f"{islands:,} parts of one byte a character were found within {encoding}"] if islands else []
    if cut and rest[-1:] not in (b"\n", b"\x00"):
        notes.append("the file ends within a character")
    return "".join(parts), notes


def _eight_bit(data: bytes, *, marked: bool) -> tuple[str, str, list[str]]:
    """UTF-8, else a code page; parts in UTF-16 where PowerShell added some."""
    notes = []
    if b"\x00" in data:
        narrowed = _WIDE.sub(lambda match: match[0].decode("utf-16-le", "replace").encode("utf-8", "replace"), data)
        if narrowed != data:
            data = narrowed
            notes.append("parts in UTF-16 were found within text of one byte a character")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if marked or (error.start >= len(data) - 3 and error.start > 0 and error.reason == "unexpected end of data"):
            return data.decode("utf-8", "replace"), "utf-8", notes
    else:
        return text, "ascii" if text.isascii() else "utf-8", notes
    page = _code_page(data[:_SAMPLE])
    notes.append(f"not UTF-8: taken as code page {page.removeprefix('cp')}")
    return data.decode(page, "replace"), page, notes


# -------------------------------------------------------------------------------------------------- code pages


def _code_page(sample: bytes) -> str:
    """The code page that bytes beyond ASCII fit best."""
    runs = [match[0] for match in _HIGH.finditer(sample)]
    total = sum(map(len, runs))
    if total and sum(len(run) for run in runs if len(run) > 1) >= 0.8 * total:
        found = _double_bytes(sample, runs)
        if found:
            return found
        if total >= 3 * len(runs):
            # Whole words beyond ASCII: Cyrillic, of the system or of the console.
            high = sum(1 for run in runs for byte in run if byte >= 0xC0)
            return "cp1251" if high >= 0.9 * total else "cp866"
    inside = b"".join(_WORD_BYTE.findall(sample))
    # Letters of Western Europe are below 0xA6 in a console, above 0xBF elsewhere.
    console = sum(byte < 0xA6 for byte in inside)
    return "cp850" if console > len(inside) - console else "cp1252"


def _double_bytes(sample: bytes, runs: list[bytes]) -> str:
    """The East Asian code page that a text fits, "" where it fits none."""
    scores = []
    for page in ("cp932", "cp949", "cp936", "cp950"):
        text = _strict(sample, page)
        if text is not None:
            scores.append((_likeness(text, page, runs), page))
    best = max(scores, default=(0.0, ""))
    return best[1] if best[0] >= 0.3 else ""


def _strict(sample: bytes, page: str) -> str | None:
    for cut in (0, 1):
        try:
            return sample[: len(sample) - cut].decode(page)
        except UnicodeDecodeError:
            continue
    return None


def _likeness(text: str, page: str, runs: list[bytes]) -> float:
    """How much of what is beyond ASCII is what that language is written with."""
    beyond = [character for character in text if character > "\x7f"]
    if not beyond:
        return 0.0
    count = len(beyond)
    kana = sum("\u3041" <= one <= "\u30fe" for one in beyond) / count
    hangul = sum("\uac00" <= one <= "\ud7a3" for one in beyond) / count
    han = sum("\u4e00" <= one <= "\u9fff" for one in beyond) / count
    halves = sum("\uff61" <= one <= "\uff9f" for one in beyond) / count
    if page == "cp932":
        return min(1.0, kana * 2 + han * 0.5) - halves if kana > 0.1 else 0.0
    if page == "cp949":
        return hangul
    leads = {run[at] for run in runs for at in range(0, len(run) - 1, 2)}
    if page == "cp936":
        common = sum(0xB0 <= lead <= 0xD7 for lead in leads) / max(1, len(leads))
        return han * common * (0.99 if all(len(run) % 2 == 0 for run in runs) else 0.5)
    common = sum(0xA4 <= lead <= 0xC6 for lead in leads) / max(1, len(leads))
    return han * common * (0.6 if all(len(run) % 2 == 0 for run in runs) else 1.0)
