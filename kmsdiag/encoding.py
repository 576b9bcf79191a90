"""Text as programs on Windows save it: in UTF-8, which may begin with a byte order mark, or in UTF-16, which has to."""

import codecs


def as_text(data: bytes) -> str:
    """The text of a file, without its byte order mark.

    Raises:
        UnicodeDecodeError: it is no such text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")
