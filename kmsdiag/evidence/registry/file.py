"""Keys and values of a registry export (regedit, ``reg export``) or of what ``reg query`` prints.

Formats: "Windows Registry Editor Version 5.00" (text is UTF-16 in hex forms) and REGEDIT4 (one byte a character).
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from kmsdiag.evidence.escape import quoted

MOST_BYTES: Final = 1 << 20
"""Bytes of one value that are read."""

_NEWLINE: Final = re.compile(r"\r\n|[\n\r\x0b\x0c\u2028\u2029]")
_KEY: Final = re.compile(r"\[(-?)(HK[A-Z_]+(?:\\.*)?)\]\s*$", re.IGNORECASE)
_KEY_BEGINS: Final = re.compile(r"\[-?HK[A-Z_]+", re.IGNORECASE)
_QUERY_KEY: Final = re.compile(r"(HKEY_(?:LOCAL_MACHINE|USERS|CURRENT_USER|CLASSES_ROOT)(?:\\.*)?)$", re.IGNORECASE)
_VALUE: Final = re.compile(r'(?:@|"((?:[^"\\]|\\.)*)")\s*=\s*(.*)$', re.DOTALL)
_QUERY_TYPE: Final = re.compile(r"(?:\s{2}|\t)(REG_[A-Z_]+)(?:(?:\s{2,}|\t)\s*(.*))?$")
_HEX: Final = re.compile(r"hex(?:\(([0-9a-f]{1,8})\))?:(.*)$", re.IGNORECASE | re.DOTALL)
_TEXT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*$', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_QUOTE: Final = re.compile(r"(?:[>|]\s?)+")

Data = str | int | tuple[str, ...] | bytes


class Entry(NamedTuple):
    """A key (``name`` is None), or a value in it; "" is the name of the default value.

    ``data`` is None where the file deletes it, or where it could not be read: ``problem`` says so. ``kind`` is "text",
    "number", "texts" or "bytes".
    """

    key: str
    name: str | None
    data: Data | None
    line: int
    kind: str = ""
    problem: str = ""


def entries(text: str) -> Iterator[Entry]:
    """All keys and values in the order of the text; what is neither is passed over."""
    lines = [_plain(line) for line in _NEWLINE.split(text)]
    wide = not any(line.startswith("REGEDIT4") for line in lines[:50])
    key, at = "", 0
    while at < len(lines):
        line, number = lines[at], at + 1
        at += 1
        if not line or line[0] in ";#":
            continue
        if line[0] == "[":
            if not line.endswith("]") and _KEY_BEGINS.match(line):
                line, at = _until(lines, at, line, "]")
            found = _KEY.match(line)
            if found is not None:
                deleted = bool(found[1])
                key = "" if deleted else found[2]
                yield Entry(found[2], None, None, number, problem="the file deletes this key" if deleted else "")
        elif _QUERY_KEY.match(line):
            key = line
            yield Entry(key, None, None, number)
        elif key and line[0] in '"@':
            line, at = _whole(lines, at, line)
            value = _VALUE.match(line)
            if value is not None:
                yield _entry(key, value, number, wide=wide)
        elif key and (" REG_" in line or "\tREG_" in line):
            queried = _QUERY_TYPE.search(line)
            if queried is not None:
                yield _queried(key, line[: queried.start()].strip(), queried, number)


def _plain(line: str) -> str:
    line = line.strip().lstrip("\ufeff")
    if line[:1] in (">", "|"):
        line = line[_QUOTE.match(line).end() :].strip()  # type: ignore[union-attr]
    return line


def _until(lines: list[str], at: int, line: str, end: str) -> tuple[str, int]:
    """A line that was broken, up to the one that ends it."""
    for more in range(at, min(at + 8, len(lines))):
        line += lines[more]
        if line.endswith(end):
            return line, more + 1
    return line, at


def _whole(lines: list[str], at: int, line: str) -> tuple[str, int]:
    """A value with all lines that it goes on in: as exports break bytes, and as a console or a mail breaks anything."""
    for _ in range(12):
        if _HEX_BEGINS.search(line):
            return _bytes(lines, at, line)
        if at >= len(lines) or _complete(line) or _NEXT.match(lines[at]):
            break
        line += lines[at]
        at += 1
    return line, at


def _complete(line: str) -> bool:
    """Whether a value that is no list of bytes is there as a whole."""
    value = _VALUE.match(line)
    if value is None:
        return False
    told = value[2].rstrip()
    if told.startswith('"'):
        return _TEXT.match(told) is not None
    return told == "-" or _DWORD.fullmatch(told) is not None


def _bytes(lines: list[str], at: int, line: str) -> tuple[str, int]:
    parts, size = [line], len(line)
    while at < len(lines) and size < 4 * MOST_BYTES:
        goes_on = parts[-1].endswith(("\\", ","))
        more = lines[at]
        if more and (_NEXT.match(more) or _NEXT_NAME.match(more)):
            break
        if not (goes_on or _HEX_LINE.match(more)):
            break
        if more:
            parts.append(more)
        size += len(more) + 1
        at += 1
    return "".join(part.rstrip("\\").strip() for part in parts), at


_DWORD: Final = re.compile(r"dword:\s*[0-9a-f]{8}", re.IGNORECASE)
_NEXT: Final = re.compile(r'$|[\[;]|(?:@|"(?:[^"\\]|\\.)+")\s*=')
"""A line that begins something else."""

_NEXT_NAME: Final = re.compile('"[A-Za-z]')
"""The same, after bytes: a name that may be broken."""

_HEX_BEGINS: Final = re.compile(r"=\s*hex(?:\([0-9a-f]+\))?:", re.IGNORECASE)
_HEX_LINE: Final = re.compile(r",|[0-9a-f]{1,2}(?:,|\\|$)", re.IGNORECASE)


def _entry(key: str, value: re.Match[str], number: int, *, wide: bool) -> Entry:
    name = _ESCAPED.sub(r"\1", value[1] or "")
    told = value[2].strip()
    text, binary = _TEXT.match(told), _HEX.match(told)
    if told == "-":
        return Entry(key, name, None, number, problem="the file deletes this value")
    if text is not None:
        return Entry(key, name, _ESCAPED.sub(r"\1", text[1]), number, "text")
    if told.lower().startswith("dword:"):
        digits = re.fullmatch(r"[0-9a-f]{1,8}", told[6:].strip(), re.IGNORECASE)
        if digits is not None:
            return Entry(key, name, int(digits[0], 16), number, "number")
    elif binary is not None:
        return _hex(key, name, binary, number, wide=wide)
    return Entry(key, name, None, number, problem=f"its value is not understood: {quoted(told, 40)}")


def _hex(key: str, name: str, found: re.Match[str], number: int, *, wide: bool) -> Entry:
    kind = int(found[1] or "3", 16)
    digits = re.sub(r"[\s,\\]+", "", found[2])[: 2 * MOST_BYTES]
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        return Entry(key, name, None, number, problem="its bytes are not understood")
    if kind in (1, 2, 7):
        text = data.decode("utf-16-le" if wide else "latin-1", "replace")
        if kind == 7:
            return Entry(key, name, tuple(part for part in text.split("\x00") if part), number, "texts")
        return Entry(key, name, text.partition("\x00")[0], number, "text")
    if kind in (4, 5, 11):
        return Entry(key, name, int.from_bytes(data, "big" if kind == 5 else "little"), number, "number")
    return Entry(key, name, data, number, "bytes")


def _queried(key: str, name: str, value: re.Match[str], number: int) -> Entry:
    kind, told = value[1], (value[2] or "").strip()
    name = "" if re.fullmatch(r"[(<][^()<>]{3,20}[)>]", name) else name
    if kind in ("REG_SZ", "REG_EXPAND_SZ"):
        return Entry(key, name, told, number, "text")
    if kind == "REG_MULTI_SZ":
        return Entry(key, name, tuple(part.strip() for part in told.split("\\0") if part.strip()), number, "texts")
    digits = re.fullmatch(r"0x([0-9a-f]{1,16})", told, re.IGNORECASE)
    if kind in ("REG_DWORD", "REG_QWORD") and digits is not None:
        return Entry(key, name, int(digits[1], 16), number, "number")
    if kind in ("REG_BINARY", "REG_NONE"):
        return Entry(key, name, b"", number, "bytes")
    return Entry(key, name, None, number, problem=f"its value is not understood: {quoted(told, 40)}")
