"""DNS records as tools show them, put together to the questions that were asked."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from kmsdiag.evidence.names import LIST_LIMIT, suffix
from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.collected import ToolLookup
from kmsdiag.model.outcome import DnsOutcome

MOST_RECORDS: Final = 256
"""Records kept of one answer."""


_LONGEST_TTL: Final = 0xFFFF_FFFF
_T = TypeVar("_T")


class Row(NamedTuple):
    """One record: ``kind`` is its type; ``target`` of an SRV record or an alias; ``section`` "" where it is not told.

    ``name`` and ``target`` are lower-case without the final dot.
    """

    name: str
    kind: str
    section: str = ""
    target: str = ""
    address: str = ""
    srv: SrvRecord | None = None


def srv(priority: str, weight: str, port: str, target: str, ttl: int = 0) -> SrvRecord | None:
    """An SRV record of a tool's texts; None where a number is none."""
    texts = (priority, weight, port)
    if not all(text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65_535 for text in texts):
        return None
    return SrvRecord(int(priority), int(weight), int(port), suffix(target) or ".", min(ttl, _LONGEST_TTL))


def lookups(rows: Sequence[Row], tool: str, server: str = "") -> tuple[list[ToolLookup], list[str]]:
    """Questions that had an answer, and notes. Addresses of an SRV record's target belong to its question."""
    notes: list[str] = []
    aliases = {row.target: row.name for row in rows if row.kind == "CNAME" and row.target}
    notes += [f"{tool}: {row.name} is an alias of {row.target}" for row in rows if row.kind == "CNAME" and row.target]
    targets = {row.srv.target for row in rows if row.srv is not None}
    found: dict[tuple[str, str], ToolLookup] = {}
    for row in rows:
        if row.kind == "SRV" and row.srv is not None:
            key = (_asked(row.name, aliases), "SRV")
            known = found.get(key) or _answered(tool, *key, server)
            found[key] = msgspec.structs.replace(known, records=_added(known.records, row.srv))
        elif row.address and row.section != "additional" and (row.section or row.name not in targets):
            key = (_asked(row.name, aliases), row.kind)
            known = found.get(key) or _answered(tool, *key, server)
            found[key] = msgspec.structs.replace(known, addresses=_added(known.addresses, row.address))
    for key, lookup in found.items():
        if key[1] == "SRV":
            own = {one.target for one in lookup.records}
            extra = [
                row.address for row in rows if row.address and row.name in own and row.section in ("", "additional")
            ]
            found[key] = msgspec.structs.replace(
                lookup,
                records=tuple(sorted(lookup.records)),
                addresses=tuple(dict.fromkeys(extra))[:LIST_LIMIT],
            )
    if not found:
        notes += [
            f"{tool}: {row.name} has no such record (only the zone's SOA came back); the question is not in the file"
            for row in rows
            if row.kind == "SOA"
        ]
    return list(found.values()), notes


def _answered(tool: str, name: str, kind: str, server: str) -> ToolLookup:
    return ToolLookup(tool=tool, name=name, kind=kind, outcome=DnsOutcome.ANSWERED, server=server)


def _asked(name: str, aliases: dict[str, str]) -> str:
    """The name at the head of a chain of aliases."""
    for _step in range(len(aliases)):
        if name not in aliases:
            break
        name = aliases[name]
    return name


def _added(known: tuple[_T, ...], one: _T) -> tuple[_T, ...]:
    return known if one in known or len(known) >= MOST_RECORDS else (*known, one)


def merged(found: Iterable[ToolLookup]) -> tuple[ToolLookup, ...]:
    """Questions in their order, the same result once."""
    return tuple(dict.fromkeys(found))[:MOST_RECORDS]
