"""What a file is, by its first bytes: something that is read here, or what else, and how to convert it.

A further format is a further line of :data:`FORMATS`; a file is of the first one that its bytes match.
"""

import re
import struct
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from kmsdiag.sources.recognise_events import is_event_csv, is_event_json, is_event_xml, is_evtx
from kmsdiag.wire.magic import is_pcap, is_pcapng

HEAD: Final = 4096
"""Bytes that are looked at."""


class Kind(StrEnum):
    """What a file can be used for."""

    CAPTURE = "capture"
    BUNDLE = "bundle"
    ZEEK = "zeek"
    SURICATA = "suricata"
    EVENTS = "events"
    """An event log, in one of the formats that Windows' tools write."""
    TEXT = "text"
    """What is in it is found by reading it all."""
    JSON = "json"
    """Likewise."""
    GZIP = "gzip"
    ZSTD = "zstd"
    ZIP = "zip"
    OTHER = "other"
    """Nothing that is read here."""


class Format(NamedTuple):
    """What a person calls a format, how it is known, and what to do with it where it is not read here.

    Event logs and captures go to other processes with theirs, so that of those ``matches`` has a name of its own.
    """

    kind: Kind
    name: str
    matches: Callable[[bytes], bool]
    remedy: str = ""


def starts(*beginnings: bytes) -> Callable[[bytes], bool]:
    """A test for these first bytes."""
    return lambda head: head.startswith(beginnings)


def looks_like(pattern: bytes) -> Callable[[bytes], bool]:
    """A test for a regular expression at the first byte."""
    compiled = re.compile(pattern, re.DOTALL)
    return lambda head: compiled.match(head) is not None


def is_zeek(log: str) -> Callable[[bytes], bool]:
    """A test for one of Zeek's logs: a table whose header names it, or JSON lines with the fields that it alone has."""
    table = re.compile(rb"#separator [^\n]*\n(?:#[^\n]*\n)*?#path[^A-Za-z0-9\n]*" + log.encode() + rb"\r?\n")
    fields = _ZEEK_FIELDS[log]

    def matches(head: bytes) -> bool:
        line = head.partition(b"\n")[0]
        is_json = line.startswith(b"{") and b'"id.orig_h"' in line and any(field in line for field in fields)
        return is_json or table.match(head) is not None

    return matches


_ZEEK_FIELDS: Final = {
    "dce_rpc": (b'"endpoint":', b'"operation":'),
    "conn": (b'"conn_state":',),
    "dns": (b'"qtype_name":', b'"trans_id":'),
}


def _is_event_trace(head: bytes) -> bool:
    """Event Tracing for Windows: a buffer header of 72 bytes, then the log file's own header as a system event.

    Its marker is version 2, type 1 or 2 (32, 64 bits), flags 0xC0; the buffer's size is in both headers.
    """
    return head[0x48:0x4C] in (b"\x02\x00\x01\xc0", b"\x02\x00\x02\xc0") and head[:4] == head[0x68:0x6C]


def _is_erf(head: bytes) -> bool:
    """Endace's records have no magic number: three plausible ones after each other, their times rising."""
    position, before = 0, 0
    for _ in range(3):
        if position + 16 > len(head):
            return False
        at, kind, _flags, size, _lost, length = struct.unpack_from("<QBB", head, position) + struct.unpack_from(
            ">HHH", head, position + 10
        )
        if not 1 <= kind & 0x7F <= 48 or size <= 16 or not length or at >> 32 < 1 << 29 or at < before:
            return False
        position, before = position + size, at
    return True


def _is_text(head: bytes) -> bool:
    """No control characters but white space and escape, in UTF-8 or another 8-bit encoding, or UTF-16 with a mark."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _is_wide(head):
        return True
    return not re.search(rb"[^\t\n\r\f\x1b\x20-\x7e\x80-\xff]", head)


def _is_wide(head: bytes) -> bool:
    """UTF-16 without a mark, as PowerShell 5 writes it in places: nearly every second byte is zero."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    return max(even, odd) > len(head) * 0.35 and min(even, odd) == 0


_JSON: Final = re.compile(rb'\s*[\[{]\s*(["{}\[\]])')


def _is_json(head: bytes) -> bool:
    """JSON in UTF-8 or UTF-16, with a mark or without: Windows PowerShell's ``>`` and Out-File write the latter."""
    plain = head.removeprefix(b"\xef\xbb\xbf")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _is_wide(head):
        plain = head.removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff").replace(b"\0", b"")
    return _JSON.match(plain) is not None and _is_text(plain)


def _is_event_csv(head: bytes) -> bool:
    return _is_text(head) and is_event_csv(head)


_UNPACK: Final = "unpack it and give what is in it"
_EDITCAP: Final = "convert it: editcap -F pcapng FILE FILE.pcapng"
_SAVE: Final = "give the capture itself, saved as pcap or pcapng"

FORMATS: list[Format] = [
    Format(Kind.OTHER, "empty", lambda head: not head, "nothing was written to it, or copying it failed"),
    Format(Kind.CAPTURE, "a pcap capture", is_pcap),
    Format(Kind.CAPTURE, "a pcapng capture", is_pcapng),
    Format(Kind.GZIP, "gzip", starts(b"\x1f\x8b")),
    # A skippable frame may come first (RFC 8878 section 3.1.2).
    Format(Kind.ZSTD, "zstd", lambda head: head.startswith(b"\x28\xb5\x2f\xfd") or _is_skippable(head)),
    Format(Kind.BUNDLE, "a bundle of kmsdiag", looks_like(rb'\s*\{\s*"kmsdiag_bundle"')),
    *(Format(Kind.ZEEK, f"a Zeek {log}.log", is_zeek(log)) for log in _ZEEK_FIELDS),
    Format(
        Kind.OTHER,
        "a Zeek log other than conn, dns and dce_rpc",
        looks_like(rb"#separator [^\n]*\n#|\{[^\n]*\"uid\":[^\n]*\"id\.orig_h\":"),
    ),
    Format(Kind.SURICATA, "an EVE log of Suricata", looks_like(rb'\{"timestamp":[^\n]{1,400}?"event_type":')),
    Format(
        Kind.OTHER,
        "a report of kmsdiag, which holds no evidence",
        looks_like(rb'\s*\{\s*"kmsdiag_report"'),
        "give the bundle that 'kmsdiag check --record FILE' writes",
    ),
    Format(
        Kind.OTHER,
        "a Windows event trace (.etl)",
        _is_event_trace,
        "convert it on Windows: pktmon etl2pcap FILE --out FILE.pcapng (of 'netsh trace': etl2pcapng FILE FILE.pcapng)",
    ),
    Format(Kind.OTHER, "a Network Monitor capture", starts(b"GMBU", b"RTSS"), _EDITCAP),
    Format(Kind.OTHER, "a snoop capture", starts(b"snoop\0\0\0"), _EDITCAP),
    Format(Kind.OTHER, "a Sniffer capture", starts(b"TRSNIFF data    \x1a", b"XCP\0"), _EDITCAP),
    Format(Kind.OTHER, "an OmniPeek or EtherPeek capture", starts(b"\x7fver"), _EDITCAP),
    Format(Kind.OTHER, "an Observer capture", starts(b"ObserverPktBuffe"), _EDITCAP),
    Format(Kind.OTHER, "an AIX iptrace capture", starts(b"iptrace "), _EDITCAP),
    Format(Kind.OTHER, "an HP-UX nettl trace", starts(b"\x54\x52\x00\x64\x00"), _EDITCAP),
    Format(Kind.OTHER, "a Visual Networks capture", starts(b"\x05VNF"), _EDITCAP),
    Format(Kind.OTHER, "an Endace ERF capture", _is_erf, _EDITCAP),
    Format(Kind.ZIP, "a zip archive", starts(b"PK\x03\x04", b"PK\x05\x06")),
    Format(Kind.OTHER, "compressed with bzip2", looks_like(rb"BZh[1-9]"), _UNPACK),
    Format(Kind.OTHER, "compressed with xz", starts(b"\xfd7zXZ\0"), _UNPACK),
    Format(Kind.OTHER, "compressed with lz4", starts(b"\x04\x22\x4d\x18"), _UNPACK),
    Format(Kind.OTHER, "a 7-Zip archive", starts(b"7z\xbc\xaf\x27\x1c"), _UNPACK),
    Format(Kind.OTHER, "a RAR archive", starts(b"Rar!\x1a\x07"), _UNPACK),
    Format(Kind.OTHER, "a cabinet archive", starts(b"MSCF\0\0\0\0"), _UNPACK),
    Format(Kind.OTHER, "a tar archive", lambda head: head[257:262] == b"ustar", _UNPACK),
    Format(Kind.EVENTS, "a Windows event log (.evtx)", is_evtx),
    Format(Kind.OTHER, "a Windows registry hive", starts(b"regf")),
    Format(Kind.OTHER, "a Windows program", starts(b"MZ")),
    Format(Kind.OTHER, "a program", starts(b"\x7fELF")),
    Format(Kind.OTHER, "a PDF document", starts(b"%PDF-")),
    Format(Kind.OTHER, "an SQLite database", starts(b"SQLite format 3\0")),
    Format(Kind.OTHER, "packets exported as XML", looks_like(rb"\s*<\?xml[^>]*>.{0,400}?<(pdml|psml)\b"), _SAVE),
    Format(Kind.OTHER, "packets exported as JSON", looks_like(rb'\s*\[\s*\{\s*"_index"'), _SAVE),
    Format(
        Kind.OTHER, "nothing but zeros", lambda head: not head.strip(b"\0"), "the disk was full, or the copy failed"
    ),
    Format(Kind.EVENTS, "an event log as JSON", is_event_json),
    Format(Kind.JSON, "JSON", _is_json),
    Format(Kind.EVENTS, "an event log as XML", is_event_xml),
    Format(Kind.OTHER, "XML", looks_like(rb"\s*<\?xml")),
    Format(Kind.EVENTS, "an event log as CSV", _is_event_csv),
    Format(Kind.TEXT, "text", _is_text),
    Format(Kind.OTHER, "in no format that is known here", lambda _head: True),
]
"""All formats, in the order in which they are tried; the last one matches anything."""


def _is_skippable(head: bytes) -> bool:
    return len(head) >= 4 and int.from_bytes(head[:4], "little") & 0xFFFFFFF0 == 0x184D2A50


def recognise(head: bytes) -> Format:
    """The format of a file that begins with these bytes; the first :data:`HEAD` are enough."""
    return next(one for one in FORMATS if one.matches(head))
