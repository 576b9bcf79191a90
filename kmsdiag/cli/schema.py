"""``kmsdiag schema``: the JSON Schemas."""

from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """Files that have a schema."""

    REPORT = "report"
    BUNDLE = "bundle"
    MERGED = "merged"
    DIFF = "diff"
    EXPECTED = "expected"
    EXPLANATION = "explanation"
    FORECAST = "forecast"


def command(
    kind: Annotated[Kind, typer.Argument(help="Which file's schema.")] = Kind.REPORT,
) -> int:
    """Print the JSON Schema (draft 2020-12) of a kind of file."""
    from importlib.resources import files

    file = files("kmsdiag.schemas") / f"{kind.value}.schema.json"
    typer.echo(file.read_text(encoding="utf-8"), nl=False)
    return 0
