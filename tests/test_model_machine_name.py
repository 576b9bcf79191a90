"""Names of machines: which mean the same one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.model.machine_name import ByName, bare, is_same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("PC17", "pc17.contoso.example", True),
        ("pc17.contoso.example.", "PC17.contoso.example:1688", True),
        ("pc17.a.example", "pc17.b.example", False),
        ("10.1.0.7", "10.1.0.8", False),
        ("10.1.0.7:1688", "10.1.0.7", True),
        ("[fd00::1]:1688", "fd00:0::1", True),
        ("10", "10.1.0.7", False),
        ("pc1", "pc17", False),
        ("", "", False),
        ("", "pc17", False),
    ],
)
def test_same(one: str, other: str, same: bool) -> None:
    assert is_same(one, other) is is_same(other, one) is same


@given(st.text(max_size=20))
def test_any_text_is_the_same_as_itself_or_none(name: str) -> None:
    assert is_same(name, name) is bool(bare(name))
    assert ByName([(name, 1)]).get(name) == (1 if bare(name) else None)


def test_a_short_name_of_two_machines_is_neither() -> None:
    names = ByName([("pc1.a.example", 1), ("pc1.b.example", 2), ("pc2", 3)])
    assert [names.get(one) for one in ("pc1", "PC1.B.example", "pc2.a.example", "pc3", "")] == [None, 2, 3, None, None]
