"""Large event logs of a KMS host: ``python -m benchmarks.makeevents csv|evtx FILE ROWS MACHINES``.

The log of one host with 20,000 clients, each of which asks again and again; every value but the times is made up from
the client's number.
"""

import datetime
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.evtxfiles import FILE_HEAD, pieces

HOST: Final = "kms01.bench.test"
PROVIDER: Final = "Microsoft-Windows-Security-SPP"
CHANNEL: Final = "Key Management Service"
BEGIN: Final = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Row(NamedTuple):
    """One request: its time, and the list of values of event 12290."""

    at: datetime.datetime
    info: str
    number: int = 12290
    provider: str = PROVIDER
    channel: str = CHANNEL
    machine: str = HOST

    @property
    def values(self) -> tuple[str, ...]:
        """Its insertion strings."""
        return (self.info,)


def rows(count: int, machines: int) -> Iterator[Row]:
    """Requests in the order of time, every 15 seconds one; one in 50 has a clock that is wrong."""
    for number in range(count):
        client = number * 7919 % machines
        at = BEGIN + datetime.timedelta(seconds=15 * number, milliseconds=number % 1000)
        hresult = "0xC004F06C" if client % 50 == 0 else "0x0"
        need, product = ("5", "f1") if client % 4 == 0 else ("25", "f2")
        yield Row(
            at,
            f"{hresult}, {need}, pc{client:05}.bench.test, {client:08x}-0000-4000-8000-{client:012x},"
            f" {at:%Y/%m/%d %H:%M}, {client % 2}, 1, {259_200 - number % 10_080},"
            f" {product * 4}-{product * 2}-{product * 2}-{product * 2}-{product * 6}",
        )


def write_csv(path: Path, count: int, machines: int) -> None:
    """``Get-WinEvent | Export-Csv`` of PowerShell 5.1, without the columns that say nothing."""
    rest = f'"12290","0","4","{PROVIDER}","{CHANNEL}","{HOST}"'
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("#TYPE System.Diagnostics.Eventing.Reader.EventLogRecord\r\n")
        file.write('"Message","Id","Version","Level","ProviderName","LogName","MachineName","TimeCreated"\r\n')
        for row in rows(count, machines):
            time = f"{row.at.month}/{row.at.day}/{row.at:%Y %I:%M:%S %p}"
            file.write(f'"An activation request has been processed.\nInfo:\n{row.info}",{rest},"{time}"\r\n')


def write_evtx(path: Path, count: int, machines: int) -> None:
    """The host's own log."""
    with path.open("wb") as file:
        file.write(bytes(FILE_HEAD))
        for piece in pieces(rows(count, machines)):
            if len(piece) == FILE_HEAD:
                file.seek(0)
            file.write(piece)


if __name__ == "__main__":
    {"csv": write_csv, "evtx": write_evtx}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
