"""Reports and other documents as JSON, and the JSON Schemas of all files."""

import inspect
import json
from typing import Any

import msgspec

from kmsdiag.bundle import Bundle
from kmsdiag.expected import ExpectedFile
from kmsdiag.model.difference import Difference
from kmsdiag.model.explanation import Explanation
from kmsdiag.model.forecast import Forecast
from kmsdiag.model.merged import Merged
from kmsdiag.model.report import Report
from kmsdiag.report.words import visible


def render(document: Report | Merged | Difference | Explanation | Forecast) -> str:
    """The whole document, indented; the same document gives the same text.

    What acts in a terminal (JSON itself escapes only a part of it) is escaped as JSON does: no value changes.
    """
    text = msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=2).decode()
    return "\n".join(map(_inert, text.split("\n"))) + "\n"


def _inert(line: str) -> str:
    if visible(line) == line:
        return line
    return "".join(one if visible(one) == one else json.dumps(one)[1:-1] for one in line)


def schemas() -> dict[str, str]:
    """JSON Schema (draft 2020-12) of each kind of file, by name."""
    made = {}
    kinds = {
        "report": Report,
        "bundle": Bundle,
        "merged": Merged,
        "diff": Difference,
        "expected": ExpectedFile,
        "explanation": Explanation,
        "forecast": Forecast,
    }
    for name, kind in kinds.items():
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"kmsdiag {name}",
            **_undented(msgspec.json.schema(kind)),
        }
        made[name] = msgspec.json.format(msgspec.json.encode(schema, order="deterministic"), indent=2).decode() + "\n"
    return made


def _undented(schema: dict[str, Any]) -> dict[str, Any]:
    """The same with docstrings as a reader wants them, whichever msgspec and Python made it."""
    for part in (schema, *schema.get("$defs", {}).values()):
        if "description" in part:
            part["description"] = inspect.cleandoc(part["description"])
    return schema
