"""KMS hosts that are set by hand, in words, and what is wrong with one."""

import pytest

from kmsdiag import overrides
from kmsdiag.knowledge.licences import OFFICE
from kmsdiag.model.answer import KmsOverride

HOST = "kms1.contoso.example"


@pytest.mark.parametrize(
    ("override", "scope", "shown"),
    [
        (KmsOverride("global", HOST), "the whole machine", f"{HOST}:1688"),
        (KmsOverride("application", HOST, 1690, OFFICE), "application Office 2013 and later", f"{HOST}:1690"),
        (KmsOverride("product", "[2001:db8::8]", scope="x"), "product x", "[2001:db8::8]:1688"),
        (KmsOverride("global", "", 1690), "the whole machine", "port 1690"),
    ],
)
def test_an_override_in_words(override: KmsOverride, scope: str, shown: str) -> None:
    assert (overrides.scope(override), overrides.shown(override)) == (scope, shown)


@pytest.mark.parametrize(
    ("host", "bad"), [(HOST, ""), ("10.1.0.8", ""), ("[::1]", ""), (f"{HOST}:1688", "colon"), ("a b", "label")]
)
def test_what_is_no_host_has_a_reason(host: str, bad: str) -> None:
    why = overrides.why_no_host(host)
    assert bad in why
    assert bool(why) is bool(bad)


def test_the_widest_level_comes_first_and_other_views_do_not_count() -> None:
    product, machine = KmsOverride("product", "b", scope="x"), KmsOverride("global", "a")
    found = (product, machine, KmsOverride("global", "c", view="32"), KmsOverride("unheard of", "d"))
    assert overrides.in_force(found) == [machine, product]


def test_the_32_bit_view_counts_where_it_differs() -> None:
    same, other = KmsOverride("global", "a"), KmsOverride("global", "b", view="32")
    assert overrides.differing_views((same, KmsOverride("global", "a", view="32"))) == []
    assert overrides.differing_views((same, other)) == [(other, same)]
    assert overrides.differing_views((other,)) == [(other, None)]
