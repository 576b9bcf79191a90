"""Tables about files that others collected, the same for text and Markdown: both sides of requests, clients, hosts."""

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence

from kmsdiag.captured import span
from kmsdiag.model.correlation import Correlation
from kmsdiag.model.events import EventFile
from kmsdiag.model.outcome import State
from kmsdiag.model.report import CollectedView, HostRow, ProductRow, StatusFileRow
from kmsdiag.report.tables import Table

MOST_NOTES = 2
"""Notes that one cell holds; JSON has them all."""

_RANK = {State.FAIL: 0, State.UNKNOWN: 1, State.OK: 2, None: 3}


def tables(view: CollectedView) -> Iterator[Table]:
    """All tables that have a row, in the order in which a reader wants them: what fails first."""
    rows = sorted(view.correlations, key=lambda row: _RANK[row.fate.state])
    products = sorted(view.products, key=lambda row: _RANK[row.state])
    for title, headers, cells in (
        ("Both sides of each client's last request", _CORRELATED, _correlations(rows)),
        ("Products on the machines", _PRODUCTS, map(_product, products)),
        ("KMS hosts by their own account", _HOSTS, map(_host, view.hosts)),
        ("Files about machines", _FILES, map(_file, view.files)),
        ("Event logs", _LOGS, map(_log, view.logs)),
    ):
        found = list(cells)
        if found:
            yield Table(title, headers, found)


_CORRELATED = (
    "client",
    "what became of it",
    "at (UTC)",
    "host",
    "client says",
    "host says",
    "count",
    "attempts",
    "at the host",
    "in captures",
    "to note",
)
_PRODUCTS = ("machine", "product", "key", "state", "left", "until (UTC)", "host", "how it stands", "code", "files")
_HOSTS = (
    "host",
    "product",
    "state",
    "count",
    "port",
    "publishes",
    "requests",
    "failed",
    "logged",
    "IDs in 30 d",
    "files",
)
_FILES = ("file", "what it is", "machine", "to note")
_LOGS = ("log", "format", "records", "used", "from (UTC)", "until (UTC)", "to note")


def _correlations(rows: Sequence[Correlation]) -> Iterator[tuple[str, ...]]:
    """One row a client, or one a product where it has several."""
    several = Counter(row.client for row in rows)
    for row in rows:
        product = f" ({row.activation_id})" if several[row.client] > 1 and row.activation_id else ""
        yield (row.client + product, *_correlated(row))


def _correlated(row: Correlation) -> tuple[str, ...]:
    count = "" if row.count is None else f"{row.count}"
    return (
        row.fate.words,
        _time(row.at),
        row.host,
        row.hresult,
        row.host_hresult,
        f"{count} of {row.required}" if count and row.required is not None else count,
        f"{row.attempts:,}" if row.attempts else "",
        f"{row.requests:,}" if row.requests else "",
        row.captured,
        "; ".join(row.gaps if row.since is None else (f"activated since ({_time(row.since)})", *row.gaps)),
    )


def _time(at: datetime.datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def _product(row: ProductRow) -> tuple[str, ...]:
    return (
        row.machine + (" (assumed)" if row.assumed else ""),
        row.product,
        row.channel,
        row.status,
        span(row.remaining_min * 60) if row.remaining_min else "",
        "" if row.expires is None else f"{row.expires:%Y-%m-%d %H:%M}",
        f"{row.host} (by hand)" if row.by_hand else row.host,
        "" if row.words == row.status else row.words,
        row.code,
        ", ".join(row.files),
    )


def _host(row: HostRow) -> tuple[str, ...]:
    publishes = "" if row.publishing is None else "yes" if row.publishing else "no"
    numbers = (row.requests, row.failed, row.logged, row.clients_30_days)
    return (
        row.machine,
        row.product,
        row.status,
        "" if row.count is None else f"{row.count}",
        str(row.port or ""),
        publishes,
        *("" if number is None else f"{number:,}" for number in numbers),
        ", ".join(row.files),
    )


def _file(row: StatusFileRow) -> tuple[str, ...]:
    return (row.label, row.format, _some(row.machines), _some(row.notes))


def _some(texts: tuple[str, ...]) -> str:
    more = f" and {len(texts) - MOST_NOTES} more" if len(texts) > MOST_NOTES else ""
    return "; ".join(texts[:MOST_NOTES]) + more


def _log(row: EventFile) -> tuple[str, ...]:
    return (
        row.label,
        row.format,
        f"{row.records:,}",
        f"{row.used:,}",
        _time(row.first),
        _time(row.last),
        _some(row.notes),
    )
