"""What a digest's rows say of hosts and clients: the tables of a :class:`CaptureAnswer`.

Twenty thousand clients are tables of their own size, so sorting and adding up is numpy's, over all rows at once; the
loops here run once a client and host.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kmsdiag.capture.digest import LACKS, OUTCOMES, Digest, Words, moment, version_text
from kmsdiag.capture.packets import V4, Indices, Mask, address_text, text_words
from kmsdiag.capture.rows import pick
from kmsdiag.model.capture import CapturedClient, CapturedHost, FoundBy, Spread, Use
from kmsdiag.model.outcome import ConversationOutcome, Stage, State

MINUTE: Final = 60_000_000
"""In µs: conversations whose starts are less apart are one attempt."""

CLIENTS: Final = 100_000
"""Clients that are listed, at a kilobyte each: a scan from made-up addresses has millions."""

NUMBERS: Final = 3
"""Examples of a host's or a client's conversations."""


class Finding(Protocol):
    """What DNS in the captures says; see :mod:`kmsdiag.capture.found`."""

    def names(self, address: str) -> tuple[str, ...]:
        """What DNS calls an address."""

    def published(self, address: str, port: int) -> bool:
        """Whether an SRV answer named this address and port."""

    def found_by(self, client: str, address: str, port: int, at: int) -> FoundBy:
        """How a client came to a host that it first talked to at ``at`` (µs since 1970)."""

    def asked(self, client: str) -> tuple[str, ...]:
        """Domains whose SRV the client asked for."""

    def told(self, client: str) -> tuple[str, ...]:
        """Targets that SRV answers gave the client."""

    def ignored(self, client: str, contacted: Iterable[tuple[str, int]], until: int) -> tuple[str, ...]:
        """Those of them that it never contacted, though the capture ran on for long enough."""

    def clients(self) -> Iterable[str]:
        """All who asked for SRV records."""


class Tables(NamedTuple):
    """Hosts and clients, sorted by address; how many conversations had which outcome, and lacked what.

    ``all_listed``: there are no more clients than can be listed. Hosts count all.
    """

    hosts: tuple[CapturedHost, ...]
    clients: tuple[CapturedClient, ...]
    outcomes: Mapping[str, int]
    lacking: Mapping[str, int]
    all_listed: bool = True


_FAILS: Final = np.array([outcome.state is State.FAIL for outcome in OUTCOMES])
_AT_TCP: Final = np.array([outcome.stage is Stage.TCP for outcome in OUTCOMES])


def tabulate(digest: Digest, finding: Finding, until: int, doubled: Mask | None = None) -> Tables:
    """All tables. ``until`` is the captures' last time in µs; ``doubled`` rows were seen at another tap as well."""
    rows, exchanges = digest.rows(), digest.exchanges()
    numbers = np.searchsorted(digest.first_frames(), rows["ref"]) + 1
    if doubled is not None and doubled.any():
        exchanges = pick(exchanges, ~np.isin(exchanges["ref"], rows["ref"][doubled]))
        rows, numbers = pick(rows, ~doubled), numbers[~doubled]
    view = some = _View(rows, numbers, exchanges)
    listed = _listed(rows)
    if not listed.all():
        own = pick(exchanges, np.isin(exchanges["ref"], rows["ref"][listed]))
        some = _View(pick(rows, listed), numbers[listed], own)
    uses = _uses(some, finding)
    return Tables(
        _hosts(view, finding, [use.found_by for use in uses] if some is view else _found_by(view, finding)),
        _clients(some, uses, finding, digest, until),
        _outcomes(rows["outcome"]),
        {lack.value: count for bit, lack in enumerate(LACKS) if (count := int(np.sum(rows["lacks"] >> bit & 1)))},
        all_listed=some is view,
    )


def _listed(rows: NDArray[Any]) -> Mask:
    """The conversations of the clients that are listed: all, or those that got beyond TCP and then the first ones."""
    order = np.lexsort((rows["client_lo"], rows["client_hi"]))
    starts = _borders(pick(rows, order), ("client_hi", "client_lo"))
    if len(starts) <= CLIENTS:
        return np.ones(len(rows), np.bool_)
    knocked = np.logical_and.reduceat(_AT_TCP[rows["outcome"]][order], starts)
    first = np.minimum.reduceat(rows["ref"][order], starts)
    chosen = np.zeros(len(starts), np.bool_)
    chosen[np.lexsort((first, knocked))[:CLIENTS]] = True
    listed = np.empty(len(rows), np.bool_)
    listed[order] = np.repeat(chosen, np.diff(starts, append=len(rows)))
    return listed


def _found_by(view: "_View", finding: Finding) -> list[FoundBy]:
    """How each client found each host."""
    heads = pick(view.rows, view.starts)
    ends = zip(
        _addresses(heads, "client"),
        _addresses(heads, "host"),
        heads["host_port"].tolist(),
        heads["started"].tolist(),
        strict=True,
    )
    return [finding.found_by(client, host, port, at) for client, host, port, at in ends]


class _View:
    """Rows by client, host and time, the borders between uses, and the exchanges in the order of their rows.

    ``owner`` is the row of each exchange.
    """

    def __init__(self, rows: NDArray[Any], numbers: Indices, exchanges: NDArray[Any]) -> None:
        names = ("client_hi", "client_lo", "host_hi", "host_lo", "host_port", "started", "ref")
        # The last key of lexsort is the first one that counts.
        order = np.lexsort([rows[name] for name in reversed(names)])
        self.rows, self.numbers = pick(rows, order), numbers[order]
        self.starts = _borders(self.rows, names[:5])
        self.counts = np.diff(self.starts, append=len(rows))
        place = np.empty(len(rows), np.int64)
        place[order] = np.arange(len(rows))
        owner = place[np.searchsorted(rows["ref"], exchanges["ref"])]
        order = np.argsort(owner, kind="stable")
        self.owner = owner[order]
        self.exchanges = pick(exchanges, order)


def _borders(rows: NDArray[Any], names: Sequence[str]) -> Indices:
    """Where another combination of fields begins."""
    if not len(rows):
        return np.empty(0, np.int64)
    new = np.zeros(len(rows), np.bool_)
    new[0] = True
    for name in names:
        new[1:] |= rows[name][1:] != rows[name][:-1]
    return np.flatnonzero(new)


def _uses(view: _View, finding: Finding) -> list[Use]:
    """All uses, by client and host."""
    rows, starts, counts = view.rows, view.starts, view.counts
    if not len(rows):
        return []
    started = rows["started"]
    attempt = np.diff(started, prepend=started[:1]) >= MINUTE
    attempt[starts] = True
    attempts = np.add.reduceat(attempt, starts, dtype=np.int64).tolist()
    spacings = _spacings(started, attempt, starts, counts)
    places = np.searchsorted(view.owner, np.append(starts, len(rows))).tolist()
    outcomes, hresults = rows["outcome"].tolist(), view.exchanges["hresult"].tolist()
    failing = _FAILS[rows["outcome"]].tolist()
    first, last = started[starts].tolist(), started[starts + counts - 1].tolist()
    numbers = view.numbers.tolist()
    heads = pick(rows, starts)
    clients, hosts, ports = _addresses(heads, "client"), _addresses(heads, "host"), heads["host_port"].tolist()

    uses = []
    for index, (start, count) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True)):
        stop = start + count
        uses.append(
            Use(
                address=hosts[index],
                port=ports[index],
                conversations=count,
                attempts=attempts[index],
                outcomes=_named_outcomes(tuple(outcomes[start:stop])),
                first=moment(first[index]),
                last=moment(last[index]),
                found_by=finding.found_by(clients[index], hosts[index], ports[index], first[index]),
                spacing_s=spacings[index],
                hresults=_hresults(tuple(hresults[places[index] : places[index + 1]])),
                numbers=_examples(numbers[start:stop], failing[start:stop]),
            )
        )
    return uses


def _addresses(rows: NDArray[Any], side: str) -> list[str]:
    """Addresses of one side as text; the same one is written once."""
    texts: dict[Words, str] = {}
    found = []
    for words in zip(rows[f"{side}_hi"].tolist(), rows[f"{side}_lo"].tolist(), strict=True):
        text = texts.get(words)
        if text is None:
            text = texts[words] = address_text(*words)
        found.append(text)
    return found


def _spacings(started: Indices, attempt: Mask, starts: Indices, counts: Indices) -> list[Spread | None]:
    """For each use the times between the starts of its attempts, in s."""
    spreads: list[Spread | None] = [None] * len(starts)
    begun = np.flatnonzero(attempt)
    use = np.repeat(np.arange(len(starts)), counts)[begun]
    same = use[1:] == use[:-1]
    between, owner = np.diff(started[begun])[same], use[1:][same]
    if not len(owner):
        return spreads
    order = np.lexsort((between, owner))
    between, owner = between[order], owner[order]
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    sizes = np.diff(first, append=len(owner))
    places = (first, first + (sizes + 1) // 2 - 1, first - (-95 * sizes // 100) - 1, first + sizes - 1)
    chosen = [(between[place] / 1_000_000).tolist() for place in places]
    for index, size, *values in zip(owner[first].tolist(), sizes.tolist(), *chosen, strict=True):
        spreads[index] = Spread(values=size, least=values[0], median=values[1], p95=values[2], greatest=values[3])
    return spreads


def _spread(values: NDArray[Any], unit: int) -> Spread | None:
    """How sorted whole numbers are spread, in units; quantiles are values that occur (nearest rank)."""
    count = len(values)
    if not count:
        return None
    median, p95 = values[(count + 1) // 2 - 1], values[-(-95 * count // 100) - 1]
    return Spread(
        values=count,
        least=int(values[0]) / unit,
        median=int(median) / unit,
        p95=int(p95) / unit,
        greatest=int(values[-1]) / unit,
    )


def _examples(numbers: list[int], failing: list[bool]) -> tuple[int, ...]:
    """Numbers of the first failing conversations, else of the first ones."""
    bad = [number for number, fails in zip(numbers, failing, strict=True) if fails] if True in failing else numbers
    return tuple(sorted(bad)[:NUMBERS])


@functools.lru_cache(maxsize=4096)
def _named_outcomes(codes: tuple[int, ...]) -> Mapping[str, int]:
    return {OUTCOMES[code].value: codes.count(code) for code in sorted(set(codes))}


@functools.lru_cache(maxsize=4096)
def _hresults(codes: tuple[int, ...]) -> Mapping[str, int]:
    return {f"0x{code:08X}": codes.count(code) for code in sorted(set(codes)) if code >= 0}


def _outcomes(codes: NDArray[np.uint8]) -> dict[str, int]:
    counts = np.bincount(codes, minlength=len(OUTCOMES)).tolist()
    return {outcome.value: count for outcome, count in zip(OUTCOMES, counts, strict=True) if count}


def _counted(values: NDArray[Any], name: Any) -> dict[str, int]:
    found, counts = np.unique(values[values >= 0], return_counts=True)
    return {name(value): count for value, count in zip(found.tolist(), counts.tolist(), strict=True)}


def _hosts(view: _View, finding: Finding, found: list[FoundBy]) -> tuple[CapturedHost, ...]:
    rows = view.rows
    if not len(rows):
        return ()
    names = ("host_hi", "host_lo", "host_port")
    heads = pick(rows, view.starts)
    # IPv4 first, by number.
    order = np.lexsort((*(heads[name] for name in reversed(names)), heads["host_hi"] != np.uint64(V4)))
    first = _borders(pick(heads, order), names)
    # Which host each row, and each exchange, belongs to.
    host_of_use = np.empty(len(heads), np.int64)
    host_of_use[order] = np.repeat(np.arange(len(first)), np.diff(first, append=len(order)))
    host_of_row = np.repeat(host_of_use, view.counts)
    host_of_exchange = host_of_row[view.owner]
    hosts = []
    by_row, by_exchange = np.argsort(host_of_row, kind="stable"), np.argsort(host_of_exchange, kind="stable")
    row_borders = np.searchsorted(host_of_row[by_row], np.arange(len(first) + 1))
    exchange_borders = np.searchsorted(host_of_exchange[by_exchange], np.arange(len(first) + 1))
    for index in range(len(first)):
        own = by_row[row_borders[index] : row_borders[index + 1]]
        own_exchanges = by_exchange[exchange_borders[index] : exchange_borders[index + 1]]
        exchanges = pick(view.exchanges, own_exchanges)
        uses = order[first[index] : first[index + 1] if index + 1 < len(first) else len(order)]
        hosts.append(
            _host(pick(rows, own), view.numbers[own], exchanges, [found[use] for use in uses.tolist()], finding)
        )
    return tuple(hosts)


def _host(
    rows: NDArray[Any], numbers: Indices, exchanges: NDArray[Any], found: list[FoundBy], finding: Finding
) -> CapturedHost:
    address = address_text(int(rows["host_hi"][0]), int(rows["host_lo"][0]))
    port = int(rows["host_port"][0])
    counts, required = exchanges["count"], exchanges["required"]
    failing = _FAILS[rows["outcome"]]
    examples = np.sort(numbers[failing] if failing.any() else numbers)[:NUMBERS]
    return CapturedHost(
        address=address,
        port=port,
        clients=len(found),
        conversations=len(rows),
        exchanges=len(exchanges),
        outcomes=_outcomes(rows["outcome"]),
        first=moment(int(rows["started"].min())),
        last=moment(int(rows["started"].max())),
        names=finding.names(address),
        published=finding.published(address, port),
        speaks_kms=bool(rows["speaks"].any()),
        hresults=_counted(exchanges["hresult"], lambda code: f"0x{code:08X}"),
        versions=_counted(exchanges["version"], version_text),
        found_by={by.value: count for by in FoundBy if (count := found.count(by))},
        connect_ms=_spread(np.sort(rows["connect"][rows["connect"] >= 0]), 1000),
        answer_ms=_spread(np.sort(exchanges["elapsed"][exchanges["elapsed"] >= 0]), 1000),
        retransmissions=int(rows["retransmissions"].sum()),
        count=_spread(np.sort(counts[counts >= 0]), 1),
        required=tuple(np.unique(required[required >= 0]).tolist()),
        below=int(np.sum((counts >= 0) & (required >= 0) & (counts < required) & (exchanges["hresult"] == 0))),
        numbers=tuple(examples.tolist()),
    )


def _clients(
    view: _View, uses: Sequence[Use], finding: Finding, digest: Digest, until: int
) -> tuple[CapturedClient, ...]:
    """All clients: those that talked to a host, and those that only asked for one."""
    heads = pick(view.rows, view.starts)
    borders = _borders(heads, ("client_hi", "client_lo"))
    own = pick(heads, borders)
    texts = _addresses(own, "client")
    every = list(zip(own["client_hi"].tolist(), own["client_lo"].tolist(), strict=True))
    latest = _latest(view, borders)
    skews = _skews(view)
    clients: list[tuple[Words, CapturedClient]] = []
    bounds = [*borders.tolist(), len(uses)]
    for index, (words, text) in enumerate(zip(every, texts, strict=True)):
        mine = tuple(uses[bounds[index] : bounds[index + 1]])
        clients.append((words, _client(words, text, mine, latest[index], finding, digest, skews, until)))
    met = set(texts)
    for text in finding.clients():
        if text not in met:
            words = text_words(text)
            clients.append((words, _client(words, text, (), None, finding, digest, skews, until)))
    # IPv4 first, by number.
    clients.sort(key=lambda one: (one[0][0] != V4, one[0]))
    return tuple(client for _words, client in clients)


def _latest(view: _View, borders: Indices) -> list[ConversationOutcome]:
    """The outcome of each client's last conversation."""
    rows = view.rows
    first = view.starts[borders]
    client = np.repeat(np.arange(len(first)), np.diff(first, append=len(rows)))
    order = np.lexsort((rows["ref"], rows["started"], client))
    last = order[np.append(first[1:], len(rows)) - 1] if len(first) else order
    return [OUTCOMES[code] for code in rows["outcome"][last].tolist()]


def _client(
    words: Words,
    address: str,
    uses: tuple[Use, ...],
    last: ConversationOutcome | None,
    finding: Finding,
    digest: Digest,
    skews: Mapping[Words, float],
    until: int,
) -> CapturedClient:
    return CapturedClient(
        address=address,
        uses=uses,
        last=last,
        asked=finding.asked(address),
        told=finding.told(address),
        ignored=finding.ignored(address, [(use.address, use.port) for use in uses], until),
        machines=_in_order(digest.machines.get(words)),
        machine_ids=_in_order(digest.machine_ids.get(words)),
        skew_s=skews.get(words),
    )


def _in_order(names: Mapping[str, int] | None) -> tuple[str, ...]:
    """Names in the order in which they were met."""
    return tuple(sorted(names, key=lambda name: (names[name], name))) if names else ()


def _skews(view: _View) -> dict[Words, float]:
    """The median of each client's clock skews in s, where version 4 shows them."""
    known = np.flatnonzero(~np.isnan(view.exchanges["skew"]))
    skews: dict[Words, list[float]] = {}
    for row, skew in zip(view.owner[known].tolist(), view.exchanges["skew"][known].tolist(), strict=True):
        words = int(view.rows["client_hi"][row]), int(view.rows["client_lo"][row])
        skews.setdefault(words, []).append(skew)
    return {words: sorted(values)[(len(values) + 1) // 2 - 1] for words, values in skews.items()}
