import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.encoding import as_text


@given(st.text())
def test_text_comes_back_however_it_was_saved(text: str) -> None:
    text = text.removeprefix("\ufeff")
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert as_text(text.encode(encoding)) == text


@given(st.binary())
def test_bytes_are_text_or_refused(data: bytes) -> None:
    try:
        assert isinstance(as_text(data), str)
    except UnicodeDecodeError as error:
        assert error.reason  # noqa: PT017  # both are fine


@pytest.mark.parametrize("data", [b"\xff", b"\xff\xfea", b"\xef\xbb\xbf\xff"])
def test_what_is_no_text(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        as_text(data)
