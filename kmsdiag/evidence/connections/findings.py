"""What the logs of one run say, gathered line by line: connections to KMS hosts, and DNS."""

import datetime
import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from kmsdiag.capture.found import Discovery
from kmsdiag.capture.lookups import OVER_TCP, PORTS, SERVICE, Key, Lookups, Said, Transaction
from kmsdiag.evidence.connections.judged import Call, Connection, Life
from kmsdiag.model.capture import Channel, FoundBy
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.wire import dns
from kmsdiag.wire.streams import KMS_PORTS

LATEST: Final = (1 << 63) - 1
"""The last time (ns since 1970) that is kept: 64 bits reach into the year 2262."""

KINDS: Final = frozenset({"SRV", "A", "AAAA"})
"""Types of questions that count."""

_OUTCOMES: Final = {
    "NOERROR": DnsOutcome.ANSWERED,
    "NXDOMAIN": DnsOutcome.NXDOMAIN,
    "SERVFAIL": DnsOutcome.SERVFAIL,
    "REFUSED": DnsOutcome.REFUSED,
}
_PLAIN: Final = re.compile(r"[ -~]*")


class Pass(StrEnum):
    """Which lines of a log count. Addresses that somebody asked for are most of DNS, and few have to do with KMS."""

    ALL = "all"
    """All of them: it can be read only once."""
    FIRST = "first"
    """All but questions for addresses."""
    ADDRESSES = "addresses"
    """Questions for addresses that are :class:`Wanted`."""


class Wanted(NamedTuple):
    """Questions for addresses that count: a pattern for what their lines hold; None where all may count."""

    pattern: re.Pattern[bytes] | None

    def may_be(self, line: bytes) -> bool:
        """Whether a line may be about one of them."""
        return self.pattern is None or self.pattern.search(line.lower()) is not None


EVERYTHING: Final = Wanted(None)

_MOST_WANTED: Final = 200
"""Texts in a pattern; to look for more takes longer than to read the lines."""


class LineError(ValueError):
    """A line that does not say what it should; the text says why."""


class Gathered:
    """Connections by the log's own name for them, and lookups. ``flows`` says whether connections were logged as such.

    ``begins`` and ``ends`` are the first and the last time in the logs, ns since 1970, None before there is one.
    """

    def __init__(self) -> None:
        self.connections: dict[str | int, Connection] = {}
        self.elsewhere: set[str | int] = set()
        """Names of those on other ports than that of KMS: their other lines count, too."""
        self.lookups = Lookups()
        self.flows = False
        self.begins: int | None = None
        self.ends: int | None = None

    def wanted(self, names: Iterable[str]) -> Wanted:
        """What to look for among questions for addresses: targets of SRV records, KMS hosts, and further names."""
        texts = {name.lower() for name in names} | self.lookups.targets()
        for host in {link.host for link in self.connections.values() if link.kms}:
            texts |= {host, ipaddress.ip_address(host).exploded}
        if len(texts) > _MOST_WANTED:
            return EVERYTHING
        return Wanted(re.compile(b"|".join(re.escape(text.encode()) for text in sorted(texts)) or b"(?!)"))

    def saw(self, at: int) -> None:
        """Take down a time."""
        self.begins = at if self.begins is None else min(at, self.begins)
        self.ends = at if self.ends is None else max(at, self.ends)

    def add(
        self,
        name: str | int,
        client: tuple[str, int],
        host: tuple[str, int],
        what: Call | Life,
        *,
        kms: bool = False,
    ) -> None:
        """Add a line about a connection; ``kms`` where it names the KMS interface."""
        link = self.connections.get(name)
        if link is None:
            link = self.connections[name] = Connection(client, host)
        link.kms = link.kms or kms
        if link.host_port not in KMS_PORTS:
            self.elsewhere.add(name)
        link.add(what)


@functools.lru_cache(maxsize=65_536)
def address(text: str) -> str:
    """An address in its canonical form.

    Raises:
        LineError: it is none.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise LineError(f"'{plain(text)[:40]}' is no address") from None


def plain(text: str) -> str:
    r"""Printable ASCII, everything else as ``\xNN`` or ``\uNNNN``."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(one if " " <= one <= "~" else one.encode("unicode_escape").decode() for one in text)


def name_of(text: str) -> str:
    """A DNS name as it is compared: lower-case, without the final dot, "." for the root."""
    return plain(text).lower().removesuffix(".") or "."


def moment_of(value: float | str) -> int:
    """A time as logs write it (seconds, milliseconds or ISO 8601; UTC where no zone is given), in ns since 1970.

    Raises:
        LineError: no time between 1970 and 2262.
    """
    try:
        number = float(value)
        # Seconds reach this far in the year 5138; milliseconds did in 1973.
        at = round(number * 1_000_000) * 1000 if number < 1e11 else round(number * 1000) * 1000
    except (ValueError, OverflowError):
        at = _iso(str(value))
    if not 0 <= at <= LATEST:
        raise LineError(f"'{plain(str(value))[:40]}' is no time")
    return at


def _iso(text: str) -> int:
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise LineError(f"'{plain(text)[:40]}' is no time") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return (when - _EPOCH) // _MICROSECOND * 1000


_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)


# ------------------------------------------------------------------------------------------------------- DNS


def question_of(client: str, server: str, port: int, name: str, kind: str) -> Key | None:
    """Who asked whom for what; None for what has nothing to do with KMS or addresses."""
    channel = PORTS.get(port)
    if channel is None or kind not in KINDS:
        return None
    name = name_of(name)
    if kind == "SRV" and name != SERVICE and not name.startswith(f"{SERVICE}."):
        return None
    return Key(channel, client, server if channel is Channel.DNS else "multicast", name, kind)


def tag_of(port: int, number: int, *, tcp: bool) -> int:
    """What tells questions of one key apart."""
    return (OVER_TCP if tcp else 0) | port << 16 | number & 0xFFFF


def said_of(
    rcode: str,
    kind: str,
    records: Sequence[dns.SrvData],
    addresses: Sequence[tuple[str, str]],
    *,
    truncated: bool = False,
) -> Said:
    """What an answer says; with neither records nor addresses of its kind it has no data."""
    outcome = _OUTCOMES.get(rcode, DnsOutcome.ERROR_RCODE)
    found = records if kind == "SRV" else [one for one in addresses if (":" in one[1]) == (kind == "AAAA")]
    if outcome is DnsOutcome.ANSWERED and truncated:
        outcome = DnsOutcome.TRUNCATED
    elif outcome is DnsOutcome.ANSWERED and not found:
        outcome = DnsOutcome.NODATA
    return Said(outcome, plain(rcode), tuple(sorted(set(records))), tuple(sorted(set(addresses))))


class LoggedDiscovery(Discovery):
    """What DNS in logs says. They may leave out addresses that came along with SRV records.

    A client that was told of a host whose address is not logged may have gone there: how it found another one, and
    whether it ignored that one, is not known. Without ``flows`` the latter never is.
    """

    def __init__(
        self,
        transactions: Sequence[Transaction],
        begins: int,
        *,
        has_dns: bool,
        chosen: Sequence[Transaction],
        flows: bool,
    ) -> None:
        super().__init__(transactions, begins, has_dns=has_dns, chosen=chosen)
        self._flows = flows

    def found_by(self, client: str, address: str, port: int, at: int) -> FoundBy:
        """How a client came to a host that it first talked to at ``at`` (µs since 1970)."""
        how = super().found_by(client, address, port, at)
        unknown = how is FoundBy.NOTHING and any(
            when <= at and not self.addresses(name) for (name, _port), when in self._told.get(client, {}).items()
        )
        return FoundBy.NOT_KNOWN if unknown else how

    def ignored(self, client: str, contacted: Iterable[tuple[str, int]], until: int) -> tuple[str, ...]:
        """Targets that it was told of and never contacted."""
        if not self._flows or any(not self.addresses(name) for name, _port in self._told.get(client, {})):
            return ()
        return super().ignored(client, contacted, until)


def ports_used(transactions: Sequence[Transaction], used: Mapping[str, set[int]]) -> list[Transaction]:
    """Transactions with the ports of SRV records filled in where the log does not tell them (0).

    ``used`` are the ports on which KMS hosts, by address, were contacted; the one of a target's addresses is taken
    where there is one alone, else KMS's own.
    """
    if not any(record.port == 0 for one in transactions for record in one.records):
        return list(transactions)
    addresses: dict[str, set[str]] = {}
    for one in transactions:
        for name, found in one.addresses:
            addresses.setdefault(name, set()).add(found)

    def port_of(target: str) -> int:
        ports = {port for found in addresses.get(target, ()) for port in used.get(found, ())}
        return ports.pop() if len(ports) == 1 else min(KMS_PORTS)

    filled = []
    for one in transactions:
        records = tuple(
            type(record)(
                record.priority, record.weight, record.port or port_of(record.target), record.target, record.ttl
            )
            for record in one.records
        )
        filled.append(one._replace(records=records))
    return filled
