"""What kmsdiag knows about codes, events and topics, as files; and their only reader.

The files are part of the program and the same in every run. Each is UTF-8 JSON, made to be read and changed by hand:
``sources.json`` and ``fixes.json`` hold by a label what the records of the other files share.
"""

from importlib.resources import files
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")


def read(name: str, shape: type[_T]) -> _T:
    """One file, its labels replaced by what they stand for, in the shape that its reader wants.

    Raises:
        msgspec.ValidationError: the file does not have that shape.
        KeyError: a label stands for nothing.
    """
    return msgspec.convert(_resolved(_decoded(name)), shape)


def _decoded(name: str) -> Any:
    return msgspec.json.decode((files(__name__) / f"{name}.json").read_bytes())


_SHARED = {name: _decoded(name) for name in ("fixes", "sources")}


def _resolved(value: Any) -> Any:
    if isinstance(value, list):
        return [_resolved(one) for one in value]
    if isinstance(value, dict):
        return {
            key: [_SHARED[key][label] for label in one] if key in _SHARED else _resolved(one)
            for key, one in value.items()
        }
    return value
