"""Event logs made for tests: the events, and the formats in which programs of Windows write them."""

import datetime
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from kmsdiag.evidence.events.run import EventAnalysis, analyse_events
from kmsdiag.sources.files import Source
from kmsdiag.sources.recognise import Format, Kind

SPP = "Microsoft-Windows-Security-SPP"
START = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)
OFFICE = "0ff1ce00-1111-4222-8333-444444444444"
WINDOWS = "11111111-2222-4333-8444-555555555555"
MESSAGES = {
    12288: "The client has sent an activation request to the key management service machine.\nInfo:\n",
    12289: "The client has processed an activation response from the key management service machine.\nInfo:\n",
    12290: "An activation request has been processed.\nInfo:\n",
}


def cmid(number: int) -> str:
    """A client machine ID."""
    return f"{number:08x}-0000-4000-8000-{number:012x}"


class Event(NamedTuple):
    """An event; ``values`` are its insertion strings, ``message`` its English text where it is no list."""

    number: int
    minute: float
    values: tuple[str, ...]
    machine: str = "pc1.corp.example"
    provider: str = SPP
    channel: str = "Application"
    message: str = ""

    @property
    def at(self) -> datetime.datetime:
        """Its time."""
        return START + datetime.timedelta(minutes=self.minute)

    @property
    def text(self) -> str:
        """The message as Windows renders it."""
        return self.message or MESSAGES.get(self.number, "") + "\n".join(self.values)


def asked(
    minute: float,
    hresult: str = "0x0",
    *,
    host: str = "kms1.corp.example:1688",
    number: int = 1,
    machine: str = "pc1.corp.example",
    need: int = 25,
    left: int = 43_200,
    product: str = WINDOWS,
) -> Event:
    """12288."""
    at = START + datetime.timedelta(minutes=minute)
    info = f"{hresult}, 0x0, {host}, {cmid(number)}, {at:%Y/%m/%d %H:%M}, 0, 2, {left}, {product}, {need}"
    return Event(12288, minute, (info,), machine)


def answered(minute: float, *, activated: int = 1, count: int = 50, machine: str = "pc1.corp.example") -> Event:
    """12289."""
    at = START + datetime.timedelta(minutes=minute)
    flags = "0x0" if activated else "0x04000000"
    return Event(12289, minute, (f"0x0, {flags}, {activated}, 0, {count}, 120, 10080, {at:%Y/%m/%d %H:%M}",), machine)


def served(
    minute: float,
    number: int = 1,
    hresult: str = "0x0",
    *,
    machine: str = "pc1.corp.example",
    host: str = "kms1.corp.example",
    status: int = 2,
) -> Event:
    """12290."""
    at = START + datetime.timedelta(minutes=minute)
    info = f"{hresult}, 25, {machine}, {cmid(number)}, {at:%Y/%m/%d %H:%M}, 1, {status}, 43200, {WINDOWS}"
    return Event(12290, minute, (info,), host, SPP, "Key Management Service")


# ------------------------------------------------------------------------------------------------------- formats


def as_xml(events: Iterable[Event], *, rendered: bool = False) -> str:
    """As ``wevtutil qe`` writes them: no root."""
    found = []
    for record, event in enumerate(events, 1):
        data = "".join(f"<Data>{escape(value)}</Data>" for value in event.values)
        message = f"<RenderingInfo Culture='en-US'><Message>{escape(event.text)}</Message></RenderingInfo>"
        found.append(
            "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>"
            f"<Provider Name={quoteattr(event.provider)} Guid='{{E23B33B0-C8C9-472C-A5F9-F2BDFEA0F156}}'/>"
            f"<EventID Qualifiers='16384'>{event.number}</EventID><Version>0</Version><Level>4</Level>"
            f"<TimeCreated SystemTime='{event.at:%Y-%m-%dT%H:%M:%S.%f}0Z'/><EventRecordID>{record}</EventRecordID>"
            f"<Channel>{event.channel}</Channel><Computer>{escape(event.machine)}</Computer><Security/></System>"
            f"<EventData>{data}</EventData>{message if rendered else ''}</Event>"
        )
    return "\r\n".join(found)


def as_export(events: Iterable[Event]) -> str:
    """As Event Viewer exports XML."""
    return f'<?xml version="1.0" encoding="utf-8" standalone="yes"?>\n<Events>{as_xml(events)}</Events>'


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def as_viewer_csv(events: Sequence[Event], *, header: str = "", separator: str = ",", newest_first: bool = True) -> str:
    """As Event Viewer exports CSV: newest first, no computer, the message without a name."""
    names = header.split("|") if header else ["Level", "Date and Time", "Source", "Event ID", "Task Category"]
    lines = [separator.join(names)]
    for event in reversed(events) if newest_first else events:
        time = f"{event.at.month}/{event.at.day}/{event.at:%Y %I:%M:%S %p}"
        lines.append(
            separator.join(["Information", time, event.provider, str(event.number), "None", _quoted(event.text)])
        )
    return "\r\n".join(lines) + "\r\n"


def as_export_csv(events: Sequence[Event], *, separator: str = ",", time: str = "%d.%m.%Y %H:%M:%S") -> str:
    """As ``Get-WinEvent | Export-Csv`` of Windows PowerShell."""
    names = ["Message", "Id", "ProviderName", "LogName", "MachineName", "TimeCreated"]
    lines = ["#TYPE System.Diagnostics.Eventing.Reader.EventLogRecord", separator.join(map(_quoted, names))]
    for event in events:
        values = (event.text, str(event.number), event.provider, event.channel, event.machine, f"{event.at:{time}}")
        lines.append(separator.join(map(_quoted, values)))
    return "\r\n".join(lines) + "\r\n"


def as_json(events: Iterable[Event], *, modern: bool = False) -> str:
    """As ``Get-WinEvent | ConvertTo-Json`` of PowerShell 5.1, or 7."""
    found = []
    for event in events:
        stamp = event.at.isoformat() if modern else f"/Date({int(event.at.timestamp() * 1000)})/"
        found.append(
            {
                "Id": event.number,
                "ProviderName": event.provider,
                "LogName": event.channel,
                "MachineName": event.machine,
                "TimeCreated": stamp,
                "Message": event.text,
                "Properties": [{"Value": value} for value in event.values],
            }
        )
    return json.dumps(found[0] if len(found) == 1 else found, indent=2)


def as_text(events: Iterable[Event]) -> str:
    """As ``wevtutil qe /f:text`` writes them."""
    found = []
    for number, event in enumerate(events):
        found.append(
            f"Event[{number}]:\n  Log Name: {event.channel}\n  Source: {event.provider}\n"
            f"  Date: {event.at:%Y-%m-%dT%H:%M:%S.%f}0Z\n  Event ID: {event.number}\n  Task: N/A\n"
            "  Level: Information\n"
            f"  Keyword: Classic\n  User: N/A\n  User Name: N/A\n  Computer: {event.machine}\n  Description: \n"
            f"{event.text}\n"
        )
    return "\n".join(found)


def as_list(events: Iterable[Event], width: int = 80) -> str:
    """As ``Get-WinEvent | Format-List`` shows them, wrapped at the console's width."""
    found = []
    for event in events:
        shown = []
        for line in event.text.splitlines():
            shown += [line[place : place + width - 15] for place in range(0, len(line), width - 15)] or [""]
        message = f"\n{' ' * 15}".join(shown)
        found.append(
            f"TimeCreated  : {event.at.month}/{event.at.day}/{event.at:%Y %I:%M:%S %p}\n"
            f"ProviderName : {event.provider}\n"
            f"MachineName  : {event.machine}\nId           : {event.number}\nMessage      : {message}\n"
        )
    return "\n\n".join(found)


# --------------------------------------------------------------------------------------------------------- files


def source(path: Path) -> Source:
    """A file as a source, whatever it is recognised as."""
    return Source(str(path), path.name, path.stat().st_size, Format(Kind.OTHER, "an event log", bool))


def analyse(folder: Path, *texts: str | bytes, names: Sequence[str] = ()) -> EventAnalysis:
    """Write files and analyse them."""
    paths = []
    for number, text in enumerate(texts):
        path = folder / (names[number] if names else f"log{number}.txt")
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        paths.append(path)
    return analyse_events([source(path) for path in paths])
