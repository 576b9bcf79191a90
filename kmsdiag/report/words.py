"""Templates and their values: filled in, made visible, and quoted for the shell that a command is meant for.

Names and banners come from the network. Nothing of them may act: not in a terminal, not in a file, and least of all
in a command that a tired person pastes.
"""

import functools
import re
import shlex
import string
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from kmsdiag.model.finding import Args
from kmsdiag.model.fix import Fix
from kmsdiag.model.path import FixView

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:@%-]*")
_OPTION = ("-", "+", "@")
"""How words begin that a program reads as an option and PowerShell as a splatted variable, quoted or not."""
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that move the cursor, reorder text or show nothing."""


def visible(text: str) -> str:
    r"""The text with everything that can't be seen, or acts, written as ``\xNN`` or ``\u{N}``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character == " " or unicodedata.category(character) not in _UNSEEN:
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{{{number:x}}}"


class _CommandFormatter(string.Formatter):
    """Quotes each value for one shell.

    Spec ``quoted``: always quote. Spec ``words``: several words that kmsdiag made itself. A value that can't be quoted
    safely becomes a placeholder that the shell refuses.
    """

    def __init__(self, shell: str) -> None:
        self._shell = shell

    def format_field(self, value: Any, format_spec: str) -> str:
        text = str(value)
        if format_spec == "words":
            words = text.split()
            return " ".join(words) if all(_SAFE.fullmatch(word.lstrip("-@+")) for word in words) else "<…>"
        if _SAFE.fullmatch(text) and format_spec != "quoted":
            return text
        # An option stays one however it is quoted; what can't be seen has no place in a command.
        if text.startswith(_OPTION) or visible(text) != text or not text:
            return "<…>"
        return shlex.quote(text) if self._shell == "sh" else "'" + re.sub("(['‘’‚‛])", r"\1\1", text) + "'"


_COMMANDS = {shell: _CommandFormatter(shell) for shell in ("sh", "powershell")}


def fields(template: str) -> set[str]:
    """Names of the values that a template needs."""
    return {name for _text, name, _spec, _conversion in _parsed(template) if name}


def fill(template: str, args: Args) -> str:
    """A sentence. Lists become comma-separated, values are made visible."""
    pieces = []
    for text, name, _spec, _conversion in _parsed(template):
        pieces.append(text)
        if name is not None:
            value = args[name]
            pieces.append(
                ", ".join(visible(str(part)) for part in value) if isinstance(value, tuple) else visible(str(value))
            )
    return "".join(pieces)


@functools.lru_cache(maxsize=1024)
def _parsed(template: str) -> tuple[tuple[str, str | None, str | None, str | None], ...]:
    """A template in its pieces; a thousand domains fill the same few."""
    return tuple(string.Formatter().parse(template))


def fill_command(template: str, args: Args, shell: str) -> str:
    """A command for ``sh`` or ``powershell``, values quoted."""
    formatter = _COMMANDS[shell]
    # Word by word of the template, so that one whose value is empty leaves no gap.
    words = (formatter.vformat(word, (), args) for word in template.split(" "))
    return " ".join(word for word in words if word)


def fill_fixes(fixes: Sequence[Fix], args: Mapping[str, Any]) -> tuple[FixView, ...]:
    """The fixes that apply: those whose templates need nothing that is not there."""
    return tuple(
        FixView(fix.where.words, fill(fix.text, args), fill_command(fix.command, args, fix.where.shell))
        for fix in fixes
        if fields(fix.text + fix.command) <= args.keys()
    )
