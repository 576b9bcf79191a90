"""Report and bundle as JSON, and the JSON Schemas of both."""

import msgspec

from kmsdiag.bundle import Bundle
from kmsdiag.model.report import Report


def render(report: Report) -> str:
    """The whole report, indented; the same report gives the same text."""
    return msgspec.json.format(msgspec.json.encode(report, order="deterministic"), indent=2).decode() + "\n"


def schemas() -> dict[str, str]:
    """JSON Schema (draft 2020-12) of each kind of file, by name."""
    made = {}
    for name, kind in (("report", Report), ("bundle", Bundle)):
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"kmsdiag {name}",
            **msgspec.json.schema(kind),
        }
        made[name] = msgspec.json.format(msgspec.json.encode(schema, order="deterministic"), indent=2).decode() + "\n"
    return made
