"""Tables about packet captures, the same for text and Markdown: hosts, clients, lookups, examples, files."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from kmsdiag.model.capture import (
    CapturedHost,
    CapturedLookup,
    Channel,
    Conversation,
    FileFacts,
    FoundBy,
    Frame,
    PairedPath,
    Spread,
)
from kmsdiag.model.outcome import State
from kmsdiag.model.report import CaptureView, ClientRow
from kmsdiag.model.target import join_host_port
from kmsdiag.report.tables import Table

MOST_NAMES = 2
"""Records, notes and outcomes that one cell holds; JSON has them all."""


def tables(view: CaptureView) -> Iterator[Table]:
    """All tables that have a row, in the order in which a reader wants them."""
    selected = any(row.state is not State.FAIL for row in view.clients)
    for title, headers, rows in (
        ("Clients of the selected hosts" if selected else "Clients that failed", _CLIENTS, map(_client, view.clients)),
        ("KMS hosts in the captures", _HOSTS, map(_host, view.hosts)),
        ("How conversations ended", _OUTCOMES, _outcomes(view)),
        ("DNS lookups", _LOOKUPS, (_lookup(one, view.source) for one in view.lookups)),
        ("Examples, and the display filter to paste into Wireshark", _EXAMPLES, _examples(view)),
        ("Both ends of a path", _PAIRS, map(_pair, view.pairs)),
        ("Files", _FILES if view.source == "packets" else _LOGS, map(_file, view.files)),
    ):
        cells = list(rows)
        if cells:
            yield Table(title, headers, cells)


_CLIENTS = ("client", "name", "stage", "how it ended", "host", "found", "attempts", "last seen", "examples")
_HOSTS = ("host", "name", "clients", "conversations", "found", "connect", "answer", "KMS")
_OUTCOMES = ("stage", "how it ended", "conversations", "clients", "examples")
_LOOKUPS = ("name", "type", "server", "clients", "questions", "answers", "records", "time")
_EXAMPLES = ("#", "how it ended", "frames", "filter")
_PAIRS = ("host", "taps", "conversations", "packets at both", "lost there", "lost back", "altered", "clocks", "delay")
_FILES = ("file", "format", "packets", "kept", "from (UTC)", "until (UTC)", "tap", "notes")

_LOGS = ("file", "format", "lines", *_FILES[3:])

_FOUND = {
    FoundBy.SRV: "by SRV",
    FoundBy.NAME: "by name",
    FoundBy.NOTHING: "no lookup",
    FoundBy.NOT_KNOWN: "not known",
}


def _client(row: ClientRow) -> tuple[str, ...]:
    codes = f" {', '.join(row.hresults)}" if row.hresults else ""
    return (
        row.address,
        row.name,
        "" if row.stage is None else row.stage.value,
        row.words + codes,
        row.host or ", ".join(row.domains),
        _FOUND[row.found_by] if row.host else "",
        f"{row.attempts:,}" if row.attempts else "",
        "" if row.last is None else f"{row.last:%Y-%m-%d %H:%M:%S}",
        _numbers(row.numbers),
    )


def _numbers(numbers: Iterable[int]) -> str:
    return ", ".join(f"#{number}" for number in numbers)


def _host(host: CapturedHost) -> tuple[str, ...]:
    return (
        join_host_port(host.address, host.port),
        _some(host.names),
        f"{host.clients:,}",
        _ends(host.outcomes),
        ", ".join(f"{number:,} {_FOUND[FoundBy(by)]}" for by, number in sorted(host.found_by.items())),
        _spread(host.connect_ms),
        _spread(host.answer_ms),
        ", ".join(version.removesuffix(".0") for version in sorted(host.versions)),
    )


def _ends(ends: Mapping[str, int]) -> str:
    """Outcomes by number, the most frequent first."""
    ranked = sorted(ends.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{number:,} {name.replace('_', ' ')}" for name, number in ranked[:MOST_NAMES]]
    rest = sum(number for _name, number in ranked[MOST_NAMES:])
    return ", ".join([*words, f"{rest:,} others"] if rest else words)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _spread(spread: Spread | None) -> str:
    """Median and 95th percentile."""
    if spread is None:
        return ""
    return f"{_ms(spread.median)} ms" + (f" (p95 {_ms(spread.p95)})" if spread.values > 1 else "")


def _ms(value: float) -> str:
    return "<0.1" if 0 <= value < 0.05 else f"{value:,.1f}"


def _outcomes(view: CaptureView) -> Iterator[tuple[str, ...]]:
    for row in view.outcomes:
        yield (row.stage.value, row.words, f"{row.conversations:,}", f"{row.clients:,}", _numbers(row.numbers))


def _lookup(lookup: CapturedLookup, source: str) -> tuple[str, ...]:
    records = tuple(
        # Zeek logs no ranks.
        ("" if source == "zeek" else f"{record.priority}/{record.weight} ") + f"{record.target}:{record.port}"
        for record in lookup.records
    )
    channel = "" if lookup.channel is Channel.DNS else f" ({lookup.channel})"
    again = f" (+{lookup.repeated:,} repeated)" if lookup.repeated else ""
    return (
        lookup.name + channel,
        lookup.kind,
        lookup.server,
        f"{lookup.clients:,}",
        f"{lookup.questions:,}{again}",
        _ends(lookup.outcomes),
        _some(records or lookup.addresses),
        _spread(lookup.elapsed_ms),
    )


def _examples(view: CaptureView) -> Iterator[tuple[str, ...]]:
    met: Counter[str] = Counter()
    ranked = []
    for one in view.examples:
        # One of each end first, and those that failed before those that did not.
        ranked.append(((met[one.outcome], one.outcome.state is not State.FAIL, one.number), one))
        met[one.outcome] += 1
    for _rank, one in sorted(ranked, key=lambda pair: pair[0]):
        yield (f"#{one.number}", one.words, _frames(one, view.files), display_filter(one))


def _frames(one: Conversation, files: tuple[FileFacts, ...]) -> str:
    first = frame(one.first, files)
    if one.last.file == one.first.file:
        return f"{first}-{one.last.number}" if one.last.number > one.first.number else first
    return f"{first} to {frame(one.last, files)}"


def frame(one: Frame, files: tuple[FileFacts, ...]) -> str:
    """A frame as a reader finds it: its number, and its file where there are several."""
    if len(files) == 1 or one.file >= len(files):
        return str(one.number)
    return f"{files[one.file].label}: {one.number}"


def display_filter(one: Conversation) -> str:
    """What Wireshark shows a conversation with. The four values of a connection hold through NAT-free tunnels, too."""
    family = "ipv6" if ":" in one.host else "ip"
    return (
        f"{family}.addr == {one.client} && tcp.port == {one.client_port}"
        f" && {family}.addr == {one.host} && tcp.port == {one.host_port}"
    )


def _pair(pair: PairedPath) -> tuple[str, ...]:
    return (
        join_host_port(pair.host, pair.port),
        f"{pair.a} to {pair.b}",
        f"{pair.conversations:,}",
        f"{pair.matched:,}",
        f"{pair.lost_ab:,}",
        f"{pair.lost_ba:,}",
        f"{pair.altered:,}",
        f"{pair.offset_ms:+.1f} ms",
        _spread(pair.delay_ms),
    )


def _file(facts: FileFacts) -> tuple[str, ...]:
    return (
        facts.label,
        facts.format,
        f"{facts.packets:,}",
        f"{facts.kept:,}",
        "" if facts.first is None else f"{facts.first:%Y-%m-%d %H:%M:%S}",
        "" if facts.last is None else f"{facts.last:%Y-%m-%d %H:%M:%S}",
        str(facts.tap) if facts.tap else "",
        "; ".join(facts.notes[:MOST_NAMES]) + (f" and {len(facts.notes) - MOST_NAMES} more" if facts.notes[2:] else ""),
    )
