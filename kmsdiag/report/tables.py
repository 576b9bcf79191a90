"""A table as the renderers share it."""

from typing import NamedTuple


class Table(NamedTuple):
    """A table with its title; ``rows`` are cells as text, not yet made visible."""

    title: str
    headers: tuple[str, ...]
    rows: list[tuple[str, ...]]
