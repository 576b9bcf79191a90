"""All conversations of a run as a table, CSV or JSON, and one of them as a ladder. Pure."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from kmsdiag.model.capture import Conversation, Exchange, FileFacts, Frame, Rung
from kmsdiag.model.target import join_host_port
from kmsdiag.report.captures import display_filter, frame
from kmsdiag.report.words import visible

FORMAT: Final = 1
"""Number of the JSON format; it grows when a reader of the old one would misread the new one."""

Value = str | int | float | None

COLUMNS: Final = (
    "number",
    "started",
    "seconds",
    "tap",
    "file",
    "first_frame",
    "last_frame",
    "client",
    "client_port",
    "host",
    "host_port",
    "found_by",
    "stage",
    "outcome",
    "hresult",
    "version",
    "exchanges",
    "syns",
    "connect_ms",
    "bind_ms",
    "answer_ms",
    "retransmissions",
    "machine",
    "required",
    "count",
    "skew_s",
    "lacks",
    "detail",
)
"""Columns of the CSV. Times are UTC; of several exchanges, the worst one's or else the last one's values are given."""


class ConversationList(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON: ``files`` are the labels that a frame's first number counts, from 0."""

    kmsdiag_conversations: int
    files: tuple[str, ...]
    conversations: tuple[Conversation, ...]


def as_json(conversations: Sequence[Conversation], files: Sequence[FileFacts]) -> str:
    """All that is known of each conversation, ladders included."""
    whole = ConversationList(
        kmsdiag_conversations=FORMAT,
        files=tuple(one.label for one in files),
        conversations=tuple(conversations),
    )
    return msgspec.json.format(msgspec.json.encode(whole), indent=1).decode() + "\n"


def as_csv(conversations: Sequence[Conversation], files: Sequence[FileFacts]) -> str:
    """One line a conversation. A text that a spreadsheet would take for a formula has an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in conversations:
        writer.writerow([_harmless(value) for value in _values(one, files)])
    return out.getvalue()


def _harmless(value: Value) -> Value:
    if not isinstance(value, str):
        return "" if value is None else value
    text = visible(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def telling(one: Conversation) -> Exchange | None:
    """The exchange that the conversation's outcome comes from, else its last one."""
    same = (exchange for exchange in one.exchanges if exchange.outcome is one.outcome)
    return next(same, one.exchanges[-1] if one.exchanges else None)


def _values(one: Conversation, files: Sequence[FileFacts]) -> list[Value]:
    exchange = telling(one)
    return [
        one.number,
        one.started.isoformat().replace("+00:00", "Z"),
        round((one.ended - one.started).total_seconds(), 6),
        one.tap,
        _file_of(one.first, files),
        one.first.number,
        one.last.number,
        one.client,
        one.client_port,
        one.host,
        one.host_port,
        one.found_by.value,
        one.outcome.stage.value,
        one.outcome.value,
        exchange.hresult if exchange else "",
        exchange.version if exchange else "",
        len(one.exchanges),
        one.syns,
        one.connect_ms,
        one.bind_ms,
        exchange.elapsed_ms if exchange else None,
        one.retransmissions,
        exchange.machine if exchange else "",
        exchange.required if exchange else None,
        exchange.count if exchange else None,
        exchange.skew_s if exchange else None,
        " ".join(lack.value for lack in one.lacks),
        one.detail,
    ]


def _file_of(place: Frame, files: Sequence[FileFacts]) -> str:
    return files[place.file].label if place.file < len(files) else str(place.file)


def as_table(conversations: Sequence[Conversation], files: Sequence[FileFacts]) -> str:
    """One line a conversation, for a screen."""
    from tabulate import tabulate

    headers = ("#", "started (UTC)", "client", "host", "found", "stage", "how it ended", "HRESULT", "frames")
    rows = [
        [
            f"{one.number}",
            f"{one.started:%Y-%m-%d %H:%M:%S.%f}"[:-3],
            visible(join_host_port(one.client, one.client_port)),
            visible(join_host_port(one.host, one.host_port)),
            one.found_by.value,
            one.outcome.stage.value,
            visible(one.words + (f": {one.detail}" if one.detail else "")),
            exchange.hresult if (exchange := telling(one)) else "",
            visible(_frames(one, files)),
        ]
        for one in conversations
    ]
    return tabulate(rows, headers=headers, disable_numparse=True) + "\n"


def _frames(one: Conversation, files: Sequence[FileFacts]) -> str:
    if one.first.file == one.last.file:
        last = f"–{one.last.number}" if one.last.number > one.first.number else ""
        return f"{frame(one.first, tuple(files))}{last}"
    return f"{frame(one.first, tuple(files))} – {frame(one.last, tuple(files))}"


def as_ladder(one: Conversation, files: Sequence[FileFacts]) -> str:
    """One conversation from first to last frame, with the filter that shows the same in Wireshark."""
    return "\n".join(_ladder(one, tuple(files))) + "\n"


def _ladder(one: Conversation, files: tuple[FileFacts, ...]) -> Iterator[str]:
    client = visible(join_host_port(one.client, one.client_port))
    host = visible(join_host_port(one.host, one.host_port))
    yield f"conversation {one.number}: {client} → {host}, {one.started:%Y-%m-%d %H:%M:%S.%f} UTC"
    detail = f": {visible(one.detail)}" if one.detail else ""
    yield f"{one.outcome.stage}: {one.words}{detail}"
    for lack in one.lacks:
        yield f"the capture lacks: {_LACKS[lack.value]}"
    yield ""
    width = max(len(frame(rung.frame, files)) for rung in one.ladder) if one.ladder else 0
    for rung in one.ladder:
        yield _rung(rung, files, width).rstrip()
    for number, exchange in enumerate(one.exchanges, 1):
        yield from _exchange(exchange, number, one.words_of(exchange.outcome))
    yield ""
    yield f"Wireshark display filter: {display_filter(one)}"


def _rung(rung: Rung, files: tuple[FileFacts, ...], width: int) -> str:
    arrow = {"client": "──▶", "host": "◀──"}.get(rung.sender, " ─✖")
    sender = "" if rung.sender in ("client", "host") else f"{visible(rung.sender)} "
    size = f" {rung.size} B" if rung.size else ""
    detail = f"  {visible(rung.detail)}" if rung.detail else ""
    place = visible(frame(rung.frame, files))
    return f"{place:>{width}}  {rung.after_ms:>12,.3f} ms  {arrow} {sender}{visible(rung.what)}{size}{detail}"


_LACKS: Final = {
    "start": "its beginning",
    "bind": "its bind",
    "client": "what the client sent",
    "host": "what the host sent",
    "bytes": "bytes in the middle (a gap)",
    "cut": "the end of frames (snap length)",
    "end": "its end",
    "summary": "its packets (known from a log alone)",
}


def _exchange(exchange: Exchange, number: int, words: str) -> Iterator[str]:
    yield ""
    version = f", KMS {exchange.version}" if exchange.version else ""
    syntax = f" ({exchange.syntax})" if exchange.syntax else ""
    code = exchange.hresult or exchange.fault
    took = f" after {exchange.elapsed_ms:,.1f} ms" if exchange.elapsed_ms is not None else ""
    yield f"request {number}{version}{syntax}: {words}{f' {code}' if code else ''}{took}"
    clear: tuple[tuple[str, Value], ...] = (
        ("machine", exchange.machine),
        ("client machine id", exchange.client_machine_id),
        ("application", exchange.application_id),
        ("activation id", exchange.activation_id),
        ("KMS counted id", exchange.kms_counted_id),
        ("needs a count of", exchange.required),
        ("host's count", exchange.count),
        ("activation interval, min", exchange.activation_interval_min),
        ("renewal interval, min", exchange.renewal_interval_min),
        ("client's clock minus the capture's, s", exchange.skew_s),
    )
    for name, value in clear:
        if value not in (None, ""):
            yield f"  {name}: {visible(str(value))}"
