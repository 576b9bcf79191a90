"""Values of labels into fields of products, as the readers of slmgr and ospp both need them."""

import re
from collections.abc import Callable
from typing import Any

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.tools.accounts import Account

Setter = Callable[[Account, str], None]


def host_and_port(value: str) -> tuple[str, int]:
    """A host as slmgr and ospp write it, in lower case, and its port; 0 where there is none."""
    host, colon, port = value.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = value, "0"
    number = int(port)
    return ascii_text(host.lower().rstrip(".").strip("[]")), number if number <= 65_535 else 0


def number(value: str) -> int:
    """The number that a value begins with; one that is absurdly long is cut."""
    found = re.match(r"-?\d{1,9}", value)
    return int(found[0]) if found else 0


def text_of(field: str) -> Setter:
    """The value as it is."""
    return lambda product, value: product.fields.__setitem__(field, ascii_text(value))


def lower(field: str) -> Setter:
    """The value in lower case, without braces."""
    return lambda product, value: product.fields.__setitem__(field, ascii_text(value.strip("{}").lower()))


def count(field: str) -> Setter:
    """The number that the value begins with."""
    return lambda product, value: product.fields.__setitem__(field, number(value))


def known(field: str, fact: Any) -> Setter:
    """What the label alone says."""
    return lambda product, _value: product.fields.__setitem__(field, fact)


def flag(field: str, yes: str) -> Setter:
    """Whether the value is this word."""
    return lambda product, value: product.fields.__setitem__(field, value.lower() == yes)


def host(kind: str) -> Setter:
    """A host and its port: ``override`` or ``discovered``."""

    def keep(product: Account, value: str) -> None:
        product.fields[f"{kind}_host"], product.fields[f"{kind}_port"] = host_and_port(value)

    return keep


def ignored(_product: Account, _value: str) -> None:
    """Known, and of no use here."""
