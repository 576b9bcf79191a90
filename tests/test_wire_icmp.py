import pytest

from kmsdiag.wire.icmp import UNREACHABLE4, UNREACHABLE6, error_name


@pytest.mark.parametrize(
    ("kind", "code", "ipv6", "name"),
    [
        (3, 1, False, "host unreachable"),
        (3, 4, False, "fragmentation needed"),
        (3, 99, False, "code 99"),
        (1, 1, True, "communication administratively prohibited"),
        (1, 99, True, "code 99"),
        (2, 0, True, "packet too big"),
        (11, 0, False, "time to live exceeded"),
        (3, 0, True, "time to live exceeded"),
        (11, 1, False, "type 11 code 1"),
        (4, 1, True, "type 4 code 1"),
    ],
)
def test_an_error_has_a_name(kind: int, code: int, ipv6: bool, name: str) -> None:
    assert error_name(kind, code, ipv6=ipv6) == name


def test_names_are_one_line_of_ascii() -> None:
    assert all(name.isascii() and name.isprintable() for name in (*UNREACHABLE4.values(), *UNREACHABLE6.values()))
