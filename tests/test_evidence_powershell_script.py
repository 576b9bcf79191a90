"""The scripts for Windows: their syntax, and that they only read. Neither was run on Windows."""

import importlib
import importlib.util
import re
from typing import Any

import pytest

from kmsdiag.evidence.powershell.script import COLLECTOR, PROBE
from tests.netlab import require

COMMANDS = {
    "ConvertTo-Json",
    "ForEach-Object",
    "Get-CimClass",
    "Get-CimInstance",
    "Get-Content",
    "Get-WinEvent",
    "Select-Object",
    "Test-Path",
    "Where-Object",
}
"""Commands that change nothing."""

METHODS = {
    "Add",  # to a list of the script's own
    "Dispose",
    "GetAllNetworkInterfaces",
    "GetIPProperties",
    "GetSubKeyNames",
    "GetValue",
    "OpenBaseKey",
    "OpenSubKey",
    "Replace",
    "Split",
    "ToString",
    "ToUniversalTime",
    "Trim",
    "Write",
    "new",
}
TYPES = {
    "Console",
    "Microsoft.Win32.RegistryKey",
    "System.Collections.Generic.List[object]",
    "System.Collections.Generic.List[string]",
    "System.Net.NetworkInformation.NetworkInterface",
    "char",
    "int",
    "object",
    "ordered",
    "regex",
    "string",
}

MORE_COMMANDS = {
    "Add-Type",  # loads .NET's own zip
    "Get-Command",
    "Resolve-DnsName",
}
MORE_METHODS = {
    "Close",
    "ConnectAsync",
    "ContainsKey",
    "CreateEntry",  # of the zip being written
    "GetHostAddresses",
    "GetUnresolvedProviderPathFromPSPath",
    "Open",
    "ToLowerInvariant",
    "Wait",
    "WriteLine",
}
MORE_TYPES = {
    "DateTime",
    "Environment",
    "System.IO.Compression.ZipArchive",
    "System.IO.File",
    "System.IO.StreamWriter",
    "System.Net.Dns",
    "System.Net.Sockets.TcpClient",
    "TimeZoneInfo",
    "ValidateRange",
    "switch",
}
"""What the collector alone needs: it asks DNS, opens a connection where it is told to, and writes its file."""


def nodes(script: str) -> list[Any]:
    """All nodes of the script's syntax tree."""
    for module in ("tree_sitter", "tree_sitter_powershell"):
        require(importlib.util.find_spec(module), f"{module} is not installed")
    sitter = importlib.import_module("tree_sitter")
    language = sitter.Language(importlib.import_module("tree_sitter_powershell").language())
    found, todo = [], [sitter.Parser(language).parse(script.encode()).root_node]
    while todo:
        node = todo.pop()
        found.append(node)
        todo.extend(node.children)
    return found


def script_problems(script: str, *, collector: bool = False) -> list[str]:
    """Syntax errors, and whatever could change something."""
    commands = COMMANDS | MORE_COMMANDS if collector else COMMANDS
    methods = METHODS | MORE_METHODS if collector else METHODS
    types = TYPES | MORE_TYPES if collector else TYPES
    tree = nodes(script)
    own = {node.text.decode() for node in tree if node.type == "function_name"}
    problems = [f"syntax: {node.text[:40]!r}" for node in tree if node.is_error or node.is_missing]
    for node in tree:
        text = node.text.decode()
        match node.type:
            case "command_name" if text not in commands | own:
                problems.append(f"command {text}")
            case "command_invokation_operator" | "command_name_expr" | "redirection" | "file_redirection_operator":
                problems.append(f"{node.type} {text}")
            case "invokation_expression":
                names = [child.text.decode() for child in node.children if child.type == "member_name"]
                problems += [f"method {name}" for name in names if name not in methods]
                problems += [] if names else [f"method {text}"]
            case "type_spec" if text not in types:
                problems.append(f"type {text}")
            case "left_assignment_expression" if not re.fullmatch(r"\$\w+(\.\w+|\[\$\w+\])?", text):
                problems.append(f"assignment to {text}")
    return problems


def test_the_scripts_are_powershell_and_only_read() -> None:
    assert script_problems(PROBE) == []
    assert script_problems(COLLECTOR, collector=True) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("Get-CimInstance -Query", "Invoke-CimMethod -Query", "command Invoke-CimMethod"),
        ("Test-Path -LiteralPath $file", "Remove-Item $file", "command Remove-Item"),
        ("$key.GetValue($name)", "$key.SetValue($name, 1)", "method SetValue"),
        ("$key.GetValue($name)", "$key.$name()", "method"),
        ("[regex]::", "[System.IO.File]::", "type System.IO.File"),
        ("$json = ConvertTo-Json", "$env:X = ConvertTo-Json", "assignment to $env:X"),
        ("[Console]::Out.Write($ascii)", "$ascii > out.txt", "redirection"),
        ("[Console]::Out.Write($ascii)", "& $ascii", "command_invokation_operator"),
        ("[Console]::Out.Write($ascii)", "iex $ascii", "command iex"),
        ("[Console]::Out.Write($ascii)", "if (", "syntax"),
    ],
)
def test_a_script_that_does_more_is_seen(old: str, new: str, problem: str) -> None:
    assert old in PROBE
    assert any(one.startswith(problem) for one in script_problems(PROBE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("Resolve-DnsName -Name", "Clear-DnsClientCache -Name", "command Clear-DnsClientCache"),
        ("$key.GetValue($name)", "$key.DeleteValue($name)", "method DeleteValue"),
        ("[System.Net.Dns]::", "[System.Diagnostics.Process]::", "type System.Diagnostics.Process"),
        ("$client.Close()", "$client.GetStream()", "method GetStream"),
        ("$writer.Write($ascii)", "$ascii | Out-File x", "command Out-File"),
    ],
)
def test_a_collector_that_does_more_is_seen(old: str, new: str, problem: str) -> None:
    assert old in COLLECTOR
    assert any(one.startswith(problem) for one in script_problems(COLLECTOR.replace(old, new), collector=True))


def test_the_collector_writes_one_new_file() -> None:
    assert re.findall(r".*IO\.File\].*", COLLECTOR) == ["$stream = [System.IO.File]::Open($path, 'CreateNew')"]
    assert re.findall(r"Add-Type.*?\S+ +\S+", COLLECTOR) == ["Add-Type -AssemblyName System.IO.Compression"]
    assert re.findall(r"\S*\.Open\(.*", COLLECTOR) == [
        '[System.IO.StreamWriter]::new($archive.CreateEntry("$stem.json").Open())'
    ]


def test_the_collector_connects_only_where_it_is_told_to() -> None:
    before, _condition, after = COLLECTOR.partition("if ($TestPorts) {")
    assert "ConnectAsync" not in before
    assert "GetHostAddresses" not in before
    assert "ConnectAsync" in after
    before, _condition, after = COLLECTOR.partition("if (-not $NoDns) {")
    assert not re.search(r"(?<!function )Resolve-One", before)
    assert "Resolve-One" in after


def variables(script: str) -> set[str]:
    """Names of variables as they are spelt, without scope."""
    return {node.text.decode().lstrip("$") for node in nodes(script) if node.type == "variable"}


PARAMETERS = {"OutFile", "Zip", "NoDns", "TestPorts", "Newest"}
AUTOMATIC = {"args", "error", "event", "home", "host", "input", "matches", "pid", "profile", "sender", "this"}


def clashes(script: str) -> set[str]:
    """Variables that PowerShell would take for a parameter, or for one of its own: its names have no case."""
    own = {name.lower() for name in PARAMETERS} | AUTOMATIC
    return {name for name in variables(script) if name.lower() in own and name not in PARAMETERS}


def test_no_variable_is_another_one_by_chance() -> None:
    assert clashes(PROBE) == set()
    assert clashes(COLLECTOR) == set()
    assert clashes(COLLECTOR.replace("$events = $found", "$newest = $found")) == {"newest"}
    assert clashes(COLLECTOR.replace("$found", "$host")) == {"host"}


def test_the_scripts_ask_for_no_key() -> None:
    """The filter is the only place where a key is named: products without one say nothing of use."""
    for script in (PROBE, COLLECTOR):
        lines = re.findall(r".*ProductKey(?!Channel|ID\b).*", script)
        assert len(lines) == 1
        assert "(Read-Class $class $wanted 'WHERE PartialProductKey IS NOT NULL')" in lines[0]
        # All columns would have the key that the maker of the machine put into its firmware.
        assert not re.search(r"SELECT \* FROM Software", script)
        assert "DigitalProductId" not in script


def test_the_scripts_are_ascii() -> None:
    """Whatever code page a file or a console has."""
    assert PROBE.isascii()
    assert COLLECTOR.isascii()
    assert COLLECTOR.startswith("<#")
    assert COLLECTOR.partition("#>")[2].lstrip().startswith("param("), "only comments may stand before it"
