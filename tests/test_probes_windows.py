"""One PowerShell call, played by Python: nothing here ran on Windows."""

import asyncio
import base64
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kmsdiag.evidence.powershell.script import PROBE
from kmsdiag.evidence.powershell.state import parse
from kmsdiag.model.answer import MachineAnswer
from kmsdiag.probes import windows
from kmsdiag.probes.settings import SystemDns
from kmsdiag.probes.windows import PowerShellError
from tests.netlab import require, until
from tests.test_evidence_powershell_state import answer


def test_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMROOT", r"D:\Windows")
    program, *options, encoded = windows.powershell()
    assert program == r"D:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"
    assert options == ["-NoLogo", "-NoProfile", "-NonInteractive", "-EncodedCommand"]
    assert base64.b64decode(encoded).decode("utf-16-le") == PROBE
    assert len(encoded) < 30_000, "CreateProcess takes 32,767 characters"


# -------------------------------------------------------------------------------------------------------- running


def python(code: str) -> list[str]:
    """A program that plays PowerShell."""
    return [sys.executable, "-c", code]


def test_what_it_prints_is_read() -> None:
    assert asyncio.run(windows.run(python("print('{}')"))) == "{}\n"
    assert asyncio.run(windows.run(python("import sys; sys.stdout.buffer.write(b'\\xff')"))) == "\\xff"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("pass", "PowerShell printed nothing and ended with 0: "),
        (
            "import sys; sys.exit('no\\n\\x1b[2J access')",
            "PowerShell printed nothing and ended with 1: no \\x1b[2J access",
        ),
    ],
)
def test_a_run_without_output_is_an_error(code: str, words: str) -> None:
    with pytest.raises(PowerShellError) as error:
        asyncio.run(windows.run(python(code)))
    assert str(error.value) == words


def test_a_machine_without_powershell(tmp_path: Path) -> None:
    with pytest.raises(PowerShellError, match=r"could not be started \(FileNotFoundError\)"):
        asyncio.run(windows.run([str(tmp_path / "powershell.exe")]))


SLEEPS = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"


def is_gone(file: Path) -> bool:
    number = file.read_text(encoding="utf-8")
    return subprocess.run(["ps", "-p", number], capture_output=True, check=False).returncode != 0


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    require(sys.platform != "win32", "looks with ps")
    file = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(PowerShellError, match="PowerShell took longer than 1 s"):
        asyncio.run(windows.run([*python(SLEEPS), str(file)], seconds=1))
    assert time.monotonic() - started < 10
    assert is_gone(file)


def test_a_run_that_nobody_waits_for_is_ended(tmp_path: Path) -> None:
    require(sys.platform != "win32", "looks with ps")
    file = tmp_path / "pid"

    async def cancelled() -> None:
        task = asyncio.create_task(windows.run([*python(SLEEPS), str(file)]))
        await asyncio.to_thread(until, lambda: file.exists() and file.read_text(encoding="utf-8"), "it runs")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert is_gone(file)


def settings(monkeypatch: pytest.MonkeyPatch, code: str) -> MachineAnswer:
    """The settings of a Windows machine whose PowerShell is this Python code."""
    monkeypatch.setattr(windows, "powershell", lambda: python(code))
    monkeypatch.setattr(windows, "_NO_WINDOW", 0)
    return asyncio.run(windows.settings("desktop-17"))


def test_settings_of_a_windows_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch, f"print({json.dumps(answer())!r})")
    assert (found.name, found.primary_suffix) == ("desktop-17", "contoso.example")
    assert found.kms == parse(json.dumps(answer())).kms


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("pass", "PowerShell printed nothing and ended with 0: "),
        ("print('hello')", "PowerShell printed no JSON (JSONDecodeError): hello"),
    ],
)
def test_without_powershell_dns_settings_are_still_known(
    monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    known = SystemDns(("10.1.0.2",), ("contoso.example", "corp.example"))
    monkeypatch.setattr(windows, "system_dns", lambda: known)
    found = settings(monkeypatch, code)
    assert found.kms is not None
    assert found.kms.problems == (problem,)
    assert (found.primary_suffix, found.search) == ("contoso.example", ("contoso.example", "corp.example"))
    assert found.resolvers == ("10.1.0.2",)
    assert len(found.problems) == 1
    monkeypatch.setattr(windows, "system_dns", lambda: SystemDns((), ()))
    assert settings(monkeypatch, code).problems == ()
