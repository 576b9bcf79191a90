"""DNS suffixes, addresses and the hosts file, as machines and files write them."""

from collections.abc import Iterable
from typing import Final

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.model.answer import HostsEntry
from kmsdiag.model.target import as_address

ENTRY_LIMIT: Final = 1000
"""Entries kept of a hosts file; lists that block advertisements have hundreds of thousands."""

LIST_LIMIT: Final = 64
"""Entries kept of any other list."""


def suffix(text: str) -> str:
    """A DNS suffix as it is compared: lower-case, without dots at either end."""
    return ascii_text(text.strip().strip(".").lower())


def suffixes(texts: Iterable[str]) -> tuple[str, ...]:
    """Suffixes in their order, each once, without empty ones."""
    return tuple(dict.fromkeys(name for text in texts if (name := suffix(text))))[:LIST_LIMIT]


def addresses(texts: Iterable[str]) -> tuple[str, ...]:
    """Those of the texts that are addresses, in their order, each once."""
    found = (as_address(text.strip()) for text in texts)
    return tuple(dict.fromkeys(ascii_text(address) for address in found if address is not None))[:LIST_LIMIT]


def parse_hosts(text: str) -> tuple[tuple[HostsEntry, ...], tuple[str, ...]]:
    """Entries of a hosts file in their order, and what is wrong with it."""
    entries: list[HostsEntry] = []
    wrong = left_out = 0
    for line in text.removeprefix("\ufeff").splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        address = as_address(words[0])
        names = tuple(dict.fromkeys(name for word in words[1:] if (name := suffix(word))))
        if address is None or not names:
            wrong += 1
        elif len(entries) < ENTRY_LIMIT:
            entries.append(HostsEntry(ascii_text(address), names[:LIST_LIMIT]))
            left_out += len(names) > LIST_LIMIT
        else:
            left_out += 1
    problems = []
    if wrong:
        problems.append(f"hosts file: {wrong} line{'s' if wrong > 1 else ''} without an address and a name")
    if left_out:
        problems.append(f"hosts file: {left_out} lines were left out (the limit is {ENTRY_LIMIT} entries)")
    return tuple(entries), tuple(problems)
