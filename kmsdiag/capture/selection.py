"""Which conversations and lookups count: a :class:`Selection`, with its names turned into addresses."""

import datetime
import ipaddress
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kmsdiag.capture.packets import V4, Mask, address_words
from kmsdiag.model.target import Selection, TargetError, parse_host

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LAST6: Final = (V4 - 1, V4)
"""The last address that is not taken for one of IPv4."""

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class _Range(NamedTuple):
    """Addresses from first to last, as words, and a port (0: any)."""

    first: tuple[int, int]
    last: tuple[int, int]
    port: int


class Chooser:
    """What a selection lets pass. Immutable and small, so that workers get a copy.

    ``names`` are the selection's clients and hosts that are neither addresses nor networks; they match nothing before
    they are :meth:`resolved`.
    """

    def __init__(self, selection: Selection | None = None) -> None:
        selection = selection or Selection()
        self.clients, client_names = _ranges(selection.clients)
        self.hosts, host_names = _ranges(selection.hosts)
        self.names = frozenset(client_names) | frozenset(host_names)
        self.since = -(1 << 62) if selection.since is None else _microseconds(selection.since)
        self.until = (1 << 62) if selection.until is None else _microseconds(selection.until)
        self._selection = selection

    def before_names(self) -> "Chooser":
        """What is to pass while it isn't known which addresses the names have: everything, where there are any."""
        if not self.names:
            return self
        return Chooser(Selection(since=self._selection.since, until=self._selection.until))

    def resolved(self, addresses_of: Callable[[str], Iterable[str]]) -> "Chooser":
        """The same with each name replaced by its addresses; a name without any lets nothing pass."""

        def replace(texts: tuple[str, ...]) -> tuple[str, ...]:
            plain: list[str] = []
            for text in texts:
                if _network(text) is None and (name := _name(text)) is not None:
                    port = _port(text)
                    plain += [_joined(address, port) for address in sorted(addresses_of(name))]
                else:
                    plain.append(text)
            return tuple(plain) if plain or not texts else _NOBODY

        clients, hosts = replace(self._selection.clients), replace(self._selection.hosts)
        return Chooser(
            Selection(clients=clients, hosts=hosts, since=self._selection.since, until=self._selection.until)
        )

    def accepts(self, client: tuple[int, int], host: tuple[int, int], port: int, started: int) -> bool:
        """Whether a conversation counts; addresses as words, ``started`` in µs since 1970."""
        return (
            self.since <= started <= self.until
            and (not self.clients or any(one.first <= client <= one.last for one in self.clients))
            and (not self.hosts or any(one.first <= host <= one.last and one.port in (0, port) for one in self.hosts))
        )

    def mask(self, rows: NDArray[Any]) -> Mask:
        """The same for rows of a digest."""
        chosen = (rows["started"] >= self.since) & (rows["started"] <= self.until)
        if self.clients:
            chosen &= _within(rows, "client", self.clients)
        if self.hosts:
            chosen &= _within(rows, "host", self.hosts)
        return np.asarray(chosen)

    def accepts_client(self, client: str) -> bool:
        """Whether what a client (an address) asks for counts."""
        if not self.clients:
            return True
        words = address_words(ipaddress.ip_address(client).packed)
        return any(one.first <= words <= one.last for one in self.clients)


# What nothing matches: the unspecified address speaks to nobody.
_NOBODY: Final = ("0.0.0.0",)  # noqa: S104 (not bound to)


def _ranges(texts: tuple[str, ...]) -> tuple[tuple[_Range, ...], list[str]]:
    ranges, names = [], []
    for text in texts:
        network = _network(text)
        if network is None:
            name = _name(text)
            if name is not None:
                names.append(name)
            continue
        first, last = (address_words(end.packed) for end in (network[0], network[-1]))
        if network.version == 6:
            last = min(last, _LAST6)
        ranges.append(_Range(first, last, _port(text)))
    return tuple(ranges), names


def _network(text: str) -> Network | None:
    """The network that an address (with or without port) or a network in text means; None for a name."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        pass
    try:
        return ipaddress.ip_network(parse_host(text).host)
    except ValueError:
        return None


def _name(text: str) -> str | None:
    try:
        return parse_host(text).host
    except TargetError:
        return None


def _port(text: str) -> int:
    """The port in ``address:port``; 0 where none is given."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return parse_host(text).port if text.rpartition("]")[2].count(":") == 1 else 0
    return 0


def _joined(address: str, port: int) -> str:
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _microseconds(at: datetime.datetime) -> int:
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.UTC)
    return (at - _EPOCH) // datetime.timedelta(microseconds=1)


def _within(rows: NDArray[Any], side: str, ranges: tuple[_Range, ...]) -> Mask:
    high, low, port = rows[f"{side}_hi"], rows[f"{side}_lo"], rows[f"{side}_port"]
    inside = np.zeros(len(rows), np.bool_)
    for one in ranges:
        above = (high > one.first[0]) | ((high == one.first[0]) & (low >= one.first[1]))
        below = (high < one.last[0]) | ((high == one.last[0]) & (low <= one.last[1]))
        inside |= above & below & ((port == one.port) | (one.port == 0))
    return inside
