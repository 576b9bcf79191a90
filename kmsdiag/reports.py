"""Reports read back from files: a report as it is, a bundle judged again. Whoever compares or joins runs reads here."""

import codecs
import contextlib
import datetime
import functools
import sys
from pathlib import Path
from typing import Final

import msgspec

from kmsdiag import bundle, diagnosis, registry
from kmsdiag.bundle import BundleError
from kmsdiag.encoding import as_text
from kmsdiag.model.capture import FoundBy
from kmsdiag.model.report import REPORT_FORMAT, Report
from kmsdiag.policy import Policy
from kmsdiag.registry import Registry

MAX_BYTES: Final = bundle.MAX_BYTES

_MARKS: Final = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class ReportError(ValueError):
    """A file that is no usable report; the text is one line that names the file, and says why."""


class _Kind(msgspec.Struct):
    """The format numbers by which files of kmsdiag are told apart."""

    kmsdiag_report: int | None = None
    kmsdiag_bundle: int | None = None
    kmsdiag_merged: int | None = None
    kmsdiag_diff: int | None = None


def read_report(path: str | Path, checks: Registry | None = None, policy: Policy | None = None) -> Report:
    """The report in a file (``-`` is stdin), or what is said now about the bundle in it.

    A bundle is judged by the checks it was recorded for and those that are newer than it, of ``checks`` (all built-in
    ones unless given), under ``policy``. A report stays as it was judged.

    Raises:
        ReportError: the file can't be read, or is neither, or of a newer format, or damaged.
    """
    name = "stdin" if str(path) == "-" else str(path)
    try:
        data = _read(path)
    except OSError as error:
        raise ReportError(f"{name} can't be read: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise ReportError(f"{name} is larger than {MAX_BYTES // 1024**2} MiB: no report of kmsdiag")
    try:
        return decode_report(data, checks, policy)
    except ReportError as error:
        raise ReportError(f"{name} can't be used: {error}") from None


def _read(path: str | Path) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with Path(path).open("rb") as file:
        return file.read(MAX_BYTES + 1)


def decode_report(data: bytes, checks: Registry | None = None, policy: Policy | None = None) -> Report:
    """The same for the bytes of a file.

    Raises:
        ReportError: why they are no report; no file is named.
    """
    if data.startswith(_MARKS):
        # What a shell of Windows redirected into a file.
        with contextlib.suppress(UnicodeDecodeError):
            data = as_text(data).encode()
    if not data.strip():
        raise ReportError("it is empty")
    try:
        kind = msgspec.json.decode(data, type=_Kind)
    except msgspec.ValidationError as error:
        raise ReportError(f"it is no report: {error}") from None
    except RecursionError:
        raise ReportError("it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"it is no JSON ({error}); a report is what --format json writes") from None
    if kind.kmsdiag_report is not None:
        return _report(data, kind.kmsdiag_report)
    if kind.kmsdiag_bundle is not None:
        return _judged(data, checks or _built_in(), policy)
    if kind.kmsdiag_merged is not None or kind.kmsdiag_diff is not None:
        made = "merge" if kind.kmsdiag_diff is None else "diff"
        raise ReportError(f"it is what 'kmsdiag {made}' wrote, no report: give the files it was made of")
    raise ReportError("it is JSON, but neither a report (--format json) nor a bundle (--record) of kmsdiag")


@functools.cache
def _built_in() -> Registry:
    """Checks are loaded once for any number of bundles."""
    return registry.discover()


def _judged(data: bytes, checks: Registry, policy: Policy | None) -> Report:
    try:
        recorded = bundle.decode(data)
    except BundleError as error:
        raise ReportError(str(error)) from None
    return diagnosis.judge(recorded, checks.recorded(recorded.checks, recorded.tool), policy)


def _report(data: bytes, number: int) -> Report:
    """A report of the format that this kmsdiag writes, or of an older one: fields that came later have defaults."""
    if number > REPORT_FORMAT:
        raise ReportError(
            f"it has report format {number}, newer than {REPORT_FORMAT}, which this kmsdiag reads: update kmsdiag"
        )
    if number < 1:
        raise ReportError(f"it has report format {number}, which there never was")
    try:
        report = msgspec.json.decode(data, type=Report)
    except (msgspec.ValidationError, ValueError) as error:
        raise ReportError(f"it is damaged: {error}") from None
    except RecursionError:
        raise ReportError("it is nested too deeply") from None
    _require_sound(report)
    return msgspec.structs.replace(
        report, started=_in_utc(report.started, "started"), ended=_in_utc(report.ended, "ended")
    )


def _in_utc(when: datetime.datetime, name: str) -> datetime.datetime:
    """A time whoever wrote it, as kmsdiag writes it.

    Raises:
        ReportError: it has no zone, or is beyond the calendar in UTC.
    """
    if when.tzinfo is None:
        raise ReportError(f"it is damaged: a time without a zone - at `$.{name}`")
    try:
        return when.astimezone(datetime.UTC)
    except OverflowError:
        raise ReportError(f"it is damaged: no such time - at `$.{name}`") from None


def _require_sound(report: Report) -> None:
    """Refuse what fits the types and could not have been written: readers rely on it.

    Raises:
        ReportError: with the path of the first such thing.
    """
    for number, matrix in enumerate(report.dns):
        if any(len(row.cells) != len(matrix.records) for row in matrix.rows):
            raise ReportError(f"it is damaged: a row that does not fit its records - at `$.dns[{number}]`")
    for number, host in enumerate(report.captures.hosts if report.captures is not None else ()):
        for way in host.found_by.keys() - set(FoundBy):
            raise ReportError(f"it is damaged: {way!r} is no FoundBy - at `$.captures.hosts[{number}]`")
