"""Evidence as a key of a cache: it is large and not hashable, and checks, paths and report ask about the very same."""

from typing import Generic, TypeVarTuple

Things = TypeVarTuple("Things")


class Same(Generic[*Things]):
    """Things that are equal to themselves alone: two keys are one where each thing is the same object."""

    __slots__ = ("_ids", "things")

    def __init__(self, *things: *Things) -> None:
        self.things = things
        # These hold while the things do, and the key keeps them.
        self._ids = tuple(map(id, things))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self._ids == other._ids

    def __hash__(self) -> int:
        return hash(self._ids)
