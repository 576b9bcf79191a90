from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.evidence.escape import MOST_NOTES, NOTE_LIMIT, ascii_text, notes, quoted, without_keys

KEY = "-".join(["AB12C"] * 5)


class TestText:
    @given(st.text(max_size=400))
    def test_is_printable_ascii_of_bounded_length(self, text: str) -> None:
        found = ascii_text(text)
        assert found.isascii()
        assert len(found) <= 255
        assert found.isprintable()

    def test_escapes(self) -> None:
        assert ascii_text("a\x1b\xfc\u3042") == "a\\x1b\\xfc\\u{3042}"

    def test_quotes_are_short(self) -> None:
        assert quoted("a\n  b") == '"a b"'
        assert quoted("x" * 100, 10) == '"xxxxxxxxxx ..."'


class TestKeys:
    def test_are_taken_out(self) -> None:
        assert without_keys(f"key {KEY}, {KEY.lower()}.") == "key (product key), (product key)."
        assert KEY not in notes([f"line 1: {KEY}"])[0]

    def test_identifiers_are_none(self) -> None:
        pid = "09999-00206-491-411285-03-1033-17763.0000-0802024"
        guid = "0a1b2c3d-1111-4222-8333-444455556666"
        assert without_keys(f"{pid} {guid}") == f"{pid} {guid}"


class TestNotes:
    def test_each_once_and_bounded(self) -> None:
        found = notes(["b", "a", "b", "x" * 500])
        assert found[:2] == ("b", "a")
        assert len(found[2]) == NOTE_LIMIT

    def test_too_many_are_counted(self) -> None:
        found = notes(f"note {number}" for number in range(1000))
        assert len(found) == MOST_NOTES
        assert found[-1] == f"{1000 - MOST_NOTES + 1:,} more oddities are not listed"
