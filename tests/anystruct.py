"""Values of the model with anything in every field that its types allow."""

import datetime
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

# Names and codes of which the same come again, so that machines, logs and products meet.
WORDS = (
    "",
    "pc17",
    "PC17.contoso.example",
    "pc17.other.example",
    "kms1",
    "kms1.contoso.example:1688",
    "10.1.0.8",
    "[fd00::1]:1688",
    "36f27b39-2fd5-440b-be67-a09996d27a38",
    "73111121-5638-40f6-bc11-f1d7b0d64300",
    "55c92734-d682-4d71-983e-d6ec3f16059f",
    "0ff1ce15-a989-479d-af46-f275c6370663",
    "VOLUME_KMSCLIENT channel",
    "VOLUME_KMS_WS22 channel",
    "VOLUME_MAK channel",
    "slmgr /dlv",
    "_vlmcs._tcp.contoso.example",
    "SRV",
    "ad",
    "64",
    "global",
    "{target}",
    "\\x1b[31m",
    "x" * 300,
)
CODES = (
    "",
    "0x00000000",
    "0xC004F074",
    "0xC004F042",
    "0xC004F038",
    "0x800706BA",
    "0x8007232B",
    "0x4004F040",
    "0xFFFFFFFF",
)
TIMES = tuple(
    datetime.datetime(year, 1, 5, 8, minute, tzinfo=datetime.UTC) for year in (1, 1970, 2026, 9999) for minute in (0, 1)
)
NUMBERS = (-1, 0, 1, 5, 25, 259_200, 65_535, 2**31, 2**62)


def values(kind: type[msgspec.Struct], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of a Struct; ``given`` are strategies by the name of a field, wherever it is."""
    return _struct(kind, given)


def _struct(kind: type[msgspec.Struct], given: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    fields = {}
    for field in info.fields:
        own = given[field.name] if field.name in given else _of(field.type, given)
        if not field.required:
            default = field.default if field.default is not msgspec.NODEFAULT else None
            if field.default_factory is not msgspec.NODEFAULT:
                default = field.default_factory()
            own = st.one_of(st.just(default), own)
        fields[field.name] = own
    return st.builds(kind, **fields)


def _of(kind: inspect.Type, given: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.StructType():
            return _struct(kind.cls, given)
        case inspect.UnionType():
            return st.one_of([_of(one, given) for one in kind.types])
        case inspect.VarTupleType() | inspect.ListType() | inspect.CollectionType():
            return st.lists(_of(kind.item_type, given), max_size=3).map(tuple)
        case inspect.DictType():
            return st.dictionaries(_of(kind.key_type, given), _of(kind.value_type, given), max_size=3)
        case inspect.EnumType():
            return st.sampled_from(list(kind.cls))
        case inspect.IntType():
            least, most = kind.ge if kind.ge is not None else -(2**63), kind.le if kind.le is not None else 2**63 - 1
            return st.sampled_from([one for one in NUMBERS if least <= one <= most])
        case inspect.FloatType():
            return st.sampled_from((0.0, 1.5, 1e12))
        case inspect.StrType():
            return st.sampled_from(WORDS)
        case inspect.BoolType():
            return st.booleans()
        case inspect.DateTimeType():
            return st.sampled_from(TIMES)
        case inspect.NoneType():
            return st.none()
    raise NotImplementedError(kind)
