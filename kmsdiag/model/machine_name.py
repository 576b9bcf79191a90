"""Names of machines as files, logs and packets spell them: in full, short, with a port, or an address.

Two names mean the same machine where they are equal without regard to case; a short name means any machine whose full
name begins with it. Addresses and full names that differ are two machines.
"""

import functools
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from kmsdiag.model.target import as_address

T = TypeVar("T")

_ONE_COLON: Final = 1


@functools.lru_cache(maxsize=1 << 16)
def bare(name: str) -> str:
    """A name in lower case, without port, brackets and final dot; an address in its usual spelling."""
    name = name.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == _ONE_COLON:
        name = name.partition(":")[0]
    return as_address(name) or name.removesuffix(".")


@functools.lru_cache(maxsize=1 << 16)
def short(name: str) -> str:
    """The first label of a name; an address whole."""
    own = bare(name)
    return own if as_address(own) is not None else own.partition(".")[0]


def is_same(one: str, other: str) -> bool:
    """Whether both can mean the same machine; an empty name means none."""
    first, second = bare(one), bare(other)
    if first == second or "" in (first, second):
        return first == second != ""
    # A short name of any length; two names with a dot each are full names or addresses.
    return ("." not in first or "." not in second) and short(first) == short(second)


class ByName(Generic[T]):
    """Things by the names of machines; of two with the same name the last counts."""

    def __init__(self, things: Iterable[tuple[str, T]]) -> None:
        self._whole: dict[str, T] = {}
        self._names: dict[str, list[str]] = {}
        for name, thing in things:
            own = bare(name)
            if own not in self._whole:
                self._names.setdefault(short(own), []).append(own)
            self._whole[own] = thing

    def name_of(self, name: str) -> str | None:
        """The spelling here of the one machine that a name means; None where it is none, or may be one of several."""
        own = bare(name)
        if own in self._whole:
            return own or None
        alike = [known for known in self._names.get(short(own), ()) if is_same(known, own)]
        return alike[0] if len(alike) == 1 else None

    def get(self, name: str) -> T | None:
        """What belongs to the one machine that a name means."""
        own = self.name_of(name)
        return None if own is None else self._whole[own]
