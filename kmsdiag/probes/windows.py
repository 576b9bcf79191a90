"""What Windows knows about activation and name resolution on this machine: one read-only PowerShell call.

The script and its parser are shared with the collector: ``script`` and ``state`` of :mod:`kmsdiag.evidence.powershell`.
It has NOT been run on Windows yet: its syntax and the commands it uses are tested, what Windows 10, Server 2016 and
later answer is taken from Microsoft's documents, and the parser expects surprises: whatever does not fit becomes a line
in ``problems``.
"""

import asyncio
import base64
import datetime
import os
from collections.abc import Sequence
from typing import Final

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.names import suffix, suffixes
from kmsdiag.evidence.powershell.script import PROBE
from kmsdiag.evidence.powershell.state import WindowsFormatError, parse
from kmsdiag.model.answer import KmsClient, MachineAnswer
from kmsdiag.probes.settings import system_dns

SECONDS: Final = 20.0
"""Time limit of the PowerShell call: starting it takes one or two, the licensing service may take several."""

_NO_WINDOW: Final = 0x0800_0000
"""CREATE_NO_WINDOW of CreateProcess."""


class PowerShellError(RuntimeError):
    """PowerShell could not be run to its end; the text says why."""


def powershell() -> Sequence[str]:
    """The command line. An encoded command needs no file, no quoting and no execution policy."""
    root = os.environ.get("SYSTEMROOT", r"C:\Windows")
    program = rf"{root}\System32\WindowsPowerShell\v1.0\powershell.exe"
    encoded = base64.b64encode(PROBE.encode("utf-16-le")).decode("ascii")
    return (program, "-NoLogo", "-NoProfile", "-NonInteractive", "-EncodedCommand", encoded)


async def run(command: Sequence[str], seconds: float = SECONDS, flags: int = 0) -> str:
    """What a command prints. It is ended when the time is over, or when nobody waits for it any more.

    Raises:
        PowerShellError: it could not be started, took too long, or printed nothing.
    """
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, creationflags=flags
        )
    except (OSError, NotImplementedError) as error:
        raise PowerShellError(f"PowerShell could not be started ({type(error).__name__})") from None
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError:
        raise PowerShellError(f"PowerShell took longer than {seconds:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = out.decode("utf-8", "backslashreplace")
    if not text.strip():
        complaint = ascii_text(" ".join(err.decode("utf-8", "backslashreplace").split()))
        raise PowerShellError(f"PowerShell printed nothing and ended with {process.returncode}: {complaint}")
    return text


async def settings(name: str) -> MachineAnswer:
    """The settings of this Windows machine; what could not be learned is in ``problems``."""
    at = datetime.datetime.now(datetime.UTC)
    try:
        parts = parse(await run(powershell(), flags=_NO_WINDOW))
    except (PowerShellError, WindowsFormatError) as error:
        dns = system_dns()
        return MachineAnswer(
            at=at,
            system="",
            name=name,
            primary_suffix=suffix(dns.suffixes[0]) if dns.suffixes else "",
            search=suffixes(dns.suffixes),
            resolvers=dns.servers,
            kms=KmsClient(problems=(str(error),)),
            problems=("primary suffix: the first suffix that Windows has; which one is primary is not known",)
            if dns.suffixes
            else (),
        )
    return MachineAnswer(at=at, system="", name=name, **parts._asdict())
