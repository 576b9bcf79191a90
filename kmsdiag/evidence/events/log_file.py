"""Windows event logs (.evtx), by the Rust parser of the package ``evtx``."""

import io
from collections.abc import Iterator
from typing import Any, Final, cast

import msgspec

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.events.digest import EventDigest
from kmsdiag.evidence.events.json_export import event_of
from kmsdiag.evidence.events.kinds import READ, Event
from kmsdiag.evidence.events.times import iso_time

_ERRORS: Final = 1000
"""Errors after which a file is given up."""


class _Name(msgspec.Struct, frozen=True):
    name: str = msgspec.field(name="Name", default="")
    source: str = msgspec.field(name="EventSourceName", default="")


class _When(msgspec.Struct, frozen=True):
    time: str = msgspec.field(name="SystemTime", default="")


class _Provider(msgspec.Struct, frozen=True):
    attributes: _Name = msgspec.field(name="#attributes", default=_Name())


class _Created(msgspec.Struct, frozen=True):
    attributes: _When = msgspec.field(name="#attributes", default=_When())


class _Qualified(msgspec.Struct, frozen=True):
    number: int | str = msgspec.field(name="#text", default=0)


class _System(msgspec.Struct, frozen=True):
    number: int | str | _Qualified = msgspec.field(name="EventID", default=0)
    provider: _Provider = msgspec.field(name="Provider", default=_Provider())
    created: _Created = msgspec.field(name="TimeCreated", default=_Created())
    computer: str | None = msgspec.field(name="Computer", default="")


class _Text(msgspec.Struct, frozen=True):
    text: str | list[str] = msgspec.field(name="#text", default="")


class _Data(msgspec.Struct, frozen=True):
    data: str | list[str] | _Text | None = msgspec.field(name="Data", default=None)


class _Event(msgspec.Struct, frozen=True):
    system: _System = msgspec.field(name="System", default=_System())
    data: _Data | None = msgspec.field(name="EventData", default=None)


class _Record(msgspec.Struct, frozen=True):
    event: _Event = msgspec.field(name="Event")


_RECORD: Final = msgspec.json.Decoder(_Record)
_ANY: Final = msgspec.json.Decoder()


def read_evtx(path: str | io.BytesIO, digest: EventDigest) -> Iterator[int]:
    """Read a log into a digest, and yield now and then how many records were read. Damage is noted.

    Raises:
        ValueError: it is no event log.
    """
    # Heavy, and needed for this format alone.
    import evtx

    try:
        parser = evtx.PyEvtxParser(path)
        records = parser.records_json()
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(ascii_text(f"it is no event log that can be read: {error}", 200)) from None
    yield from _records(cast("Iterator[dict[str, Any]]", records), digest)


def _records(records: Iterator[dict[str, Any]], digest: EventDigest) -> Iterator[int]:
    """All records; one that can't be parsed is noted and passed over."""
    errors = count = 0
    while True:
        try:
            for record in records:
                count += 1
                take_record(record, digest)
                if not count & 0x3FFF:
                    yield count
            break
        except (RuntimeError, OSError, ValueError) as error:
            errors += 1
            digest.note(f"after record {count:,}: {error}")
            if errors >= _ERRORS:
                digest.note(f"reading ended after {errors:,} errors")
                break


def take_record(record: dict[str, Any], digest: EventDigest) -> None:
    """Take a record as the parser gives it: ``data`` is its JSON, ``event_record_id`` its number."""
    try:
        event = _RECORD.decode(record["data"]).event
    except msgspec.DecodeError:
        _take_any(record, digest)
        return
    system = event.system
    number = system.number
    if isinstance(number, _Qualified):
        number = number.number
    if isinstance(number, str):
        number = int(number) if number.isascii() and number.isdecimal() and len(number) < 11 else 0
    provider = system.provider.attributes
    at = iso_time(system.created.attributes.time)
    text = _text(event.data)
    if not text and number in READ:
        # Its values have names.
        _take_any(record, digest)
        return
    name, computer = provider.name or provider.source, system.computer or ""
    if number == Event.HOST_REQUEST and text[:2] == "0x" and digest.is_licensing(name):
        digest.records += 1
        digest.requests.take(at, computer or digest.machine, text)
    else:
        digest.take(number & 0xFFFF, at, computer, name, text)


def _text(found: _Data | None) -> str:
    """The values, a line each."""
    data = found.data if isinstance(found, _Data) else None
    if isinstance(data, _Text):
        data = data.text
    if isinstance(data, list):
        return "\n".join(data)
    return data or ""


def _take_any(record: dict[str, Any], digest: EventDigest) -> None:
    """An event whose parts have another shape than those of the licensing service."""
    try:
        found = event_of(_ANY.decode(record["data"]))
    except msgspec.DecodeError as error:
        digest.note(f"record {record['event_record_id']}: {error}")
        return
    if found is None:
        digest.note(f"record {record['event_record_id']}: it has no number")
    else:
        digest.take(found.number, iso_time(found.time), found.machine, found.provider, found.text)
