"""Suffixes, addresses and hosts files, as machines and files write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.evidence.escape import TEXT_LIMIT, ascii_text
from kmsdiag.evidence.names import ENTRY_LIMIT, LIST_LIMIT, parse_hosts
from kmsdiag.model.answer import HostsEntry


def is_ascii(*texts: str) -> bool:
    return all(text.isascii() and text.isprintable() for text in texts)


def test_hosts_file_as_it_stands_on_most_machines() -> None:
    text = (
        "# made by hand\r\n127.0.0.1\tlocalhost\n127.0.1.1 Admin.Contoso.Example. admin\r\n\n"
        "2001:DB8:0::8   KMS1.contoso.example kms1  # until May\n::1 localhost ip6-localhost ip6-localhost\n"
    )
    assert parse_hosts(text) == (
        (
            HostsEntry("127.0.0.1", ("localhost",)),
            HostsEntry("127.0.1.1", ("admin.contoso.example", "admin")),
            HostsEntry("2001:db8::8", ("kms1.contoso.example", "kms1")),
            HostsEntry("::1", ("localhost", "ip6-localhost")),
        ),
        (),
    )


@pytest.mark.parametrize(
    ("text", "entries", "problems"),
    [
        ("", (), ()),
        ("\ufeff10.1.0.8 kms1", (HostsEntry("10.1.0.8", ("kms1",)),), ()),
        ("10.1.0.8", (), ("hosts file: 1 line without an address and a name",)),
        ("10.1.0.8 .\nkms1 10.1.0.8", (), ("hosts file: 2 lines without an address and a name",)),
        ("10.1.0.8 k\x1b[2Jms1\u202e", (HostsEntry("10.1.0.8", ("k\\x1b[2jms1\\u{202e}",)),), ()),
        ("fe80::1%\x1b[0m kms1", (HostsEntry("fe80::1%\\x1b[0m", ("kms1",)),), ()),
        ("10.1.0.8 " + "a" * 300, (HostsEntry("10.1.0.8", ("a" * 255,)),), ()),
    ],
)
def test_odd_hosts_files(text: str, entries: tuple[HostsEntry, ...], problems: tuple[str, ...]) -> None:
    assert parse_hosts(text) == (entries, problems)


def test_a_long_hosts_file_is_cut_and_says_so() -> None:
    text = "".join(f"0.0.0.0 ads{number}.example\n" for number in range(3000))
    entries, problems = parse_hosts(text + "10.1.0.8 " + " ".join(f"alias{number}" for number in range(100)))
    assert len(entries) == ENTRY_LIMIT
    assert problems == ("hosts file: 2001 lines were left out (the limit is 1000 entries)",)
    entries, problems = parse_hosts("10.1.0.8 " + " ".join(f"alias{number}" for number in range(100)))
    assert len(entries[0].names) == LIST_LIMIT
    assert problems


@given(st.text(), st.sampled_from(["10.1.0.8 ", "::1 ", "", "fe80::1%"]))
def test_any_hosts_file_gives_printable_entries(text: str, start: str) -> None:
    entries, problems = parse_hosts(start + text)
    assert is_ascii(*problems)
    for entry in entries:
        assert is_ascii(entry.address, *entry.names)
        assert entry.names == tuple(name.lower() for name in entry.names)
        assert all(len(name) <= TEXT_LIMIT for name in entry.names)


@given(st.text())
def test_any_text_becomes_printable_and_stays_short(text: str) -> None:
    assert is_ascii(ascii_text(text, 20))
    assert len(ascii_text(text, 20)) <= 20
    assert ascii_text("kms1.contoso.example") == "kms1.contoso.example"
