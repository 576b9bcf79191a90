"""What ``ipconfig /all`` prints. Labels are translated: what is not English is read by its place and by its shape."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from kmsdiag.evidence.names import LIST_LIMIT, addresses, suffix, suffixes
from kmsdiag.model.collected import NetworkState

_LONG_LABEL: Final = re.compile(r"^[^:]*\bDNS\b[^:]{0,60}:(?:\s|$)")
"""A label that left no room for dots; the connection's suffix is one in many languages."""

_LABEL_LIMIT: Final = 60
_ADAPTER: Final = re.compile(r"^[^.:]{3,120}:$")
_NAME: Final = re.compile(r"^[\w-]+(?:\.[\w-]+)*\.?$")
_HOST: Final = re.compile(r"^[\w-]{1,63}$")
_SITE_LOCAL: Final = re.compile(r"^fec0:0:0:ffff::[123]", re.IGNORECASE)

_KNOWN: Final = {
    "host name": "host",
    "primary dns suffix": "primary",
    "dns suffix search list": "search",
    "connection-specific dns suffix": "suffix",
    "connection-specific dns suffix search list": "adapter search",
    "dns servers": "servers",
    "ipv4 address": "address",
    "ip address": "address",
    "autoconfiguration ipv4 address": "address",
    "ipv6 address": "address",
    "temporary ipv6 address": "other",
    "media state": "media",
    "node type": "other",
    "description": "other",
}
_PLACES: Final = ("host", "primary")
"""What the first two entries of the output are in every language."""


class Settings(NamedTuple):
    """One output: the machine's name, its network, and what could not be read."""

    name: str
    network: NetworkState
    notes: tuple[str, ...]


class _Block:
    """The lines of the machine, or of one adapter, in order: label and values."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.entries: list[tuple[str, list[str]]] = []


def read(rows: Sequence[str]) -> list[Settings]:
    """Outputs in cleaned lines (:func:`kmsdiag.evidence.pasted.lines`). Never raises."""
    found: list[Settings] = []
    blocks: list[_Block] = []
    for line in rows:
        head, _colon, value = line.partition(":")
        label = head.rstrip(" .")
        if _is_entry(head, label) or (blocks and blocks[-1].title and _LONG_LABEL.match(line)):
            if _is_host(label) or not blocks:
                found += _settings(blocks)
                blocks = [_Block("")]
            blocks[-1].entries.append((label, [value.strip()]))
        elif blocks and _ADAPTER.match(line):
            blocks.append(_Block(line))
        elif blocks and blocks[-1].entries and _goes_on(line):
            blocks[-1].entries[-1][1].append(line)
    return found + _settings(blocks)


def _is_entry(head: str, label: str) -> bool:
    """Whether what stands before a colon is a label with dots up to it."""
    return ". ." in head[len(label) :] and head.rstrip().endswith(".") and 0 < len(label) <= _LABEL_LIMIT


def _is_host(label: str) -> bool:
    return label.lower() in ("host name", "hostname")


def _goes_on(line: str) -> bool:
    """Whether a line without a label can be one more value: an address or a suffix."""
    if "." not in line and ":" not in line:
        return False
    return _NAME.match(line) is not None or bool(addresses([_bare(line)]))


def _bare(text: str) -> str:
    """A value without what Windows says about it: 10.1.0.5(Preferred)."""
    return text.partition("(")[0].strip()


def _settings(blocks: Sequence[_Block]) -> list[Settings]:
    entries = [one for block in blocks for one in block.entries]
    known = {_KNOWN.get(label.lower(), "") for label, _values in entries}
    english = bool(known & {"host", "primary", "search", "suffix", "servers"})
    if len(entries) < 2 or not (english or any("DNS" in label.upper() for label, _values in entries)):
        return []
    reader = _Reader(english=english)
    for number, block in enumerate(blocks):
        reader.take(block, first=number == 0)
    return [reader.settings()]


class _Reader:
    """Gathers what the blocks say."""

    def __init__(self, *, english: bool) -> None:
        self.english = english
        self.seen: set[str] = set()
        self.host = self.primary = ""
        self.search: list[str] = []
        self.own: list[str] = []
        self.servers: list[str] = []
        self.addresses: list[str] = []
        self.notes: list[str] = [] if english else ["ipconfig: the labels are not English; read by place and shape"]

    def take(self, block: _Block, *, first: bool) -> None:
        """Read a block; an adapter without a link has no suffix and no servers in force."""
        meanings = [self._meaning(label, place, first=first) for place, (label, _values) in enumerate(block.entries)]
        if "media" in meanings:
            return
        for meaning, (label, values) in zip(meanings, block.entries, strict=True):
            self.seen.add(meaning)
            self._value(meaning, label, [value for value in values if value])

    def _meaning(self, label: str, place: int, *, first: bool) -> str:
        known = _KNOWN.get(label.lower())
        if known is not None or self.english:
            return known or "other"
        if first:
            return _PLACES[place] if place < len(_PLACES) else "search" if "DNS" in label.upper() else "other"
        if place == 0 and "DNS" in label.upper():
            return "suffix"
        if "DNS" in label.upper():
            return "servers"
        return "address" if re.search(r"IPv[46]|\bIP\b", label) else "other"

    def _value(self, meaning: str, label: str, values: Sequence[str]) -> None:
        match meaning:
            case "host" if values and not self.host:
                self.host = self._named(label, values[0])
            case "primary" if values:
                self.primary = self._named(label, values[0])
            case "search" | "adapter search":
                names = [name for value in values for name in re.split(r"[,\s]+", value)]
                (self.search if meaning == "search" else self.own).extend(self._named(label, name) for name in names)
            case "suffix" if values:
                self.own.append(self._named(label, values[0]))
            case "servers":
                for value in values:
                    self._server(label, value)
            case "address":
                self.addresses += [_bare(value) for value in values]

    def _named(self, label: str, value: str) -> str:
        if _NAME.match(value):
            return suffix(value)
        self.notes.append(f"ipconfig: {label} is no name: {value}")
        return ""

    def _server(self, label: str, value: str) -> None:
        found = addresses([_bare(value)])
        if found:
            self.servers += [one for one in found if not _SITE_LOCAL.match(one)]
        elif self.english:
            self.notes.append(f"ipconfig: {label}: {value} is no address")

    def settings(self) -> Settings:
        """All of it."""
        name = f"{self.host}.{self.primary}" if self.host and self.primary and "." not in self.host else self.host
        own = [one for one in addresses(self.addresses) if not one.lower().startswith("fe80:")]
        network = NetworkState(
            complete={"host", "primary"} <= self.seen,
            primary_suffix=self.primary,
            search=suffixes(self.search),
            adapter_suffixes=suffixes(self.own),
            resolvers=tuple(dict.fromkeys(self.servers))[:LIST_LIMIT],
            addresses=tuple(own),
        )
        return Settings(name, network, tuple(self.notes))
