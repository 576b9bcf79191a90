"""Writes what is generated: docs/checks.md, docs/cli.md, the JSON Schemas, and outputs shown in other pages.

``--check`` only compares.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from kmsdiag import registry
from kmsdiag.cli import app
from kmsdiag.report import json

ROOT = Path(__file__).parent.parent
HOW = "make docs"
WITH_OUTPUTS = (ROOT / "docs/captures.md", ROOT / "docs/explain.md")
"""Pages written by hand that show what commands print."""


def checks_page() -> str:
    """docs/checks.md: every check with all it may say."""
    out = [
        "# Checks",
        "",
        f"<!-- generated from checks/*.py by '{HOW}'; do not edit -->",
        "",
        "Severity is the default; `kmsdiag.toml` may change it by code (`[severity]`) or leave codes out (`ignore`).",
        "",
    ]
    for check in registry.discover().checks:
        meta = check.module.META
        out += [f"## {check.id}", "", f"**{meta.title}** ({', '.join(sorted(meta.tags))}; since {meta.since})", ""]
        out += [check.docstring, "", "| code | severity | says | consequence |", "| --- | --- | --- | --- |"]
        for name, code in meta.codes.items():
            cells = (f"`{name}`", code.severity.value, code.text, code.consequence)
            out.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
        out += ["", f"Sources: {'; '.join(meta.references)}.", ""]
    return "\n".join(out)


def cli_page() -> str:
    """docs/cli.md: the help of every command."""
    out = ["# Command line", "", f"<!-- generated from the program's own help by '{HOW}'; do not edit -->", ""]
    for path, text in _helps():
        out += [f"## {path}", "", "```text", text.rstrip(), "```", ""]
    return "\n".join(out)


def _helps() -> Iterator[tuple[str, str]]:
    root = typer.main.get_command(app)
    pending: list[tuple[str, Any, Any]] = [("kmsdiag", root, None)]
    while pending:
        path, command, parent = pending.pop(0)
        context = command.context_class(
            command, info_name=path.rpartition(" ")[2], parent=parent, terminal_width=100, max_content_width=100
        )
        yield path, command.get_help(context)
        for name, child in getattr(command, "commands", {}).items():
            pending.append((f"{path} {name}", child, context))


def with_outputs(page: str) -> str:
    """A page with what its ``console`` blocks print now: a line ``$ kmsdiag …``, run from the repository."""

    def run(block: re.Match[str]) -> str:
        words = shlex.split(block[1])
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=ROOT, check=False)  # noqa: S603
        if done.returncode not in (0, 1, 3):
            raise SystemExit(f"{block[1]}: {done.stderr}")
        return f"```console\n$ {block[1]}\n{done.stdout}```\n"

    return re.sub(r"^```console\n\$ (kmsdiag .*)\n(?:.*\n)*?```\n", run, page, flags=re.MULTILINE)


def pages() -> dict[Path, str]:
    """All generated files and what they should hold."""
    made = {ROOT / "docs/checks.md": checks_page(), ROOT / "docs/cli.md": cli_page()}
    for name, text in json.schemas().items():
        made[ROOT / f"kmsdiag/schemas/{name}.schema.json"] = text
    for path in WITH_OUTPUTS:
        made[path] = with_outputs(path.read_text(encoding="utf-8"))
    return made


def main() -> int:
    """Write, or with ``--check`` name the files that are out of date."""
    stale = []
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
    if "--check" in sys.argv and stale:
        print(f"out of date: {names}; run '{HOW}'")
        return 1
    print(f"wrote {names}" if stale else "generated files are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
