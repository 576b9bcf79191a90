"""Text of files and of the network as answers keep it: printable ASCII, bounded."""

from typing import Final

TEXT_LIMIT: Final = 255
"""Characters kept of a text: what the longest DNS name needs."""


def ascii_text(text: str, limit: int = TEXT_LIMIT) -> str:
    r"""The text in printable ASCII, anything else written as ``\xNN`` or ``\u{N}``, cut at ``limit`` characters."""
    if len(text) > limit:
        text = text[:limit]
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_escaped, text))
    return text if len(text) <= limit else text[:limit]


def _escaped(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{{{number:x}}}"
