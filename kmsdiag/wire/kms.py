"""The stubs of KMS requests and responses: which version, how large, and what the host said.

The interface has one operation (MS-RPCE, NDR32 and NDR64)::

    int RequestActivation([in] int requestSize, [in, size_is(requestSize)] uchar* request,
                          [out] int* responseSize, [out, size_is(,*responseSize)] uchar** response)

Bodies of version 4 are in clear as a whole. Of versions 5 and 6 the version words and sizes are; the rest is opaque and
is not looked at or kept. The HRESULT stands at the end of the response stub, in clear in every version. Nothing here
raises: captures cut stubs anywhere, and what is there is read.
"""

import struct
from typing import Final, NamedTuple

NDR32: Final = "NDR32"
NDR64: Final = "NDR64"

REQUEST_SIZES: Final = {4: 252, 5: 260, 6: 260}
"""Bytes of a request's body by major version."""

RESPONSE_MAX: Final = 512
"""No host's response body is larger (seen: 160 in version 4, 228 in version 5, 260 in version 6; the ePID varies)."""

PID_MAX: Final = 256
"""Bytes of an extended PID; Microsoft's have 98 or 100 (49 UTF-16 characters and a NUL)."""

_OPAQUE_CLEAR: Final = 20
_BLOCK: Final = 16

_PREFIX: Final = {NDR32: 8, NDR64: 16}
_RESPONSE_PREFIX: Final = {NDR32: 12, NDR64: 24}
REFUSAL_STUBS: Final = {NDR32: 12, NDR64: 20}
"""Length of a response stub without a body: no success fits into it."""

_REQUEST_V4: Final = struct.Struct("<4xIII16s16s16s16sIQ16s128s")
_RESPONSE_V4: Final = struct.Struct("<16sQIII")
_EPOCH_GAP: Final = 116_444_736_000_000_000
"""FILETIME of 1970-01-01 (MS-DTYP 2.3.3), in units of 100 ns."""

_TIME_MAX: Final = 253_402_300_800_000_000_000
"""The year 10000 in ns since 1970: what no datetime holds is no time."""


class RequestV4(NamedTuple):
    """The fields of a version 4 request. ``client_time`` is in ns since 1970, None where it is no date at all.

    ``license_status``: 0 unlicensed, 1 licensed, 2 out-of-box grace, 3 out-of-tolerance grace, 4 non-genuine grace,
    5 notification, 6 extended grace. ``required`` is N, the count that the client needs. ``remaining_min`` are the
    minutes left of its state.
    """

    virtual: bool
    license_status: int
    remaining_min: int
    application_id: str
    activation_id: str
    kms_counted_id: str
    client_machine_id: str
    required: int
    client_time: int | None
    raw_time: int
    previous_machine_id: str
    machine: str


class Request(NamedTuple):
    """What a request stub shows. ``version`` is (major, minor), None where it was cut; ``size`` the body's bytes.

    ``problem`` says what is wrong with it, "" for nothing; ``trailing`` counts bytes behind the body (older py-kms
    clients send four).
    """

    syntax: str
    version: tuple[int, int] | None = None
    size: int | None = None
    fields: RequestV4 | None = None
    trailing: int = 0
    problem: str = ""


class ResponseV4(NamedTuple):
    """The fields of a version 4 response. ``pid`` is the host's extended PID; the intervals are in minutes."""

    pid: str
    client_machine_id: str
    raw_time: int
    current_count: int
    activation_interval_min: int
    renewal_interval_min: int


class Response(NamedTuple):
    """What a response stub shows. ``hresult`` is None where the end of the stub was not captured.

    ``size`` is that of the body, 0 for a refusal. ``problem`` says why the response can't be read, "" for nothing;
    ``note`` what is odd and does not matter to the verdict.
    """

    syntax: str
    hresult: int | None = None
    version: tuple[int, int] | None = None
    size: int | None = None
    fields: ResponseV4 | None = None
    problem: str = ""
    note: str = ""


def decode_request(stub: bytes, length: int, syntax: str = "", *, little: bool = True) -> Request:
    """Read a request stub of ``length`` bytes, of which ``stub`` was captured.

    ``syntax`` is the transfer syntax of its context, "" where that is not known: then the length fields tell.
    """
    syntax = _request_syntax(stub, syntax, little=little)
    start = _PREFIX[syntax]
    if len(stub) < 4:
        return Request(syntax, problem="" if length >= start + 4 else "the stub is too short for a request")
    (size,) = struct.unpack_from("<I" if little else ">I", stub)
    body = stub[start : start + size]
    version = _version(body)
    trailing = max(0, length - start - size)
    problem = ""
    if start + size > length:
        problem = f"a body of {size} bytes does not fit into a stub of {length}"
    elif version is not None and version[0] not in REQUEST_SIZES:
        problem = f"version {version[0]}.{version[1]} is not known"
    elif version is not None and size != REQUEST_SIZES[version[0]]:
        problem = f"a request of version {version[0]} has {REQUEST_SIZES[version[0]]} bytes, not {size}"
    fields = None
    if version is not None and version[0] == 4 and len(body) >= _REQUEST_V4.size:
        fields = _request_v4(body)
    return Request(syntax, version, size, fields, trailing, problem)


def looks_like_request(stub: bytes, length: int, *, little: bool = True) -> bool:
    """Whether a stub of an unknown interface is a KMS request: sizes that agree, and a version that exists."""
    request = decode_request(stub, length, little=little)
    return not request.problem and request.version is not None and _count_agrees(stub, request, little=little)


def _count_agrees(stub: bytes, request: Request, *, little: bool) -> bool:
    """Whether max_count equals the size, as it must."""
    if request.syntax == NDR32:
        return len(stub) >= 8 and struct.unpack_from("<I" if little else ">I", stub, 4)[0] == request.size
    return len(stub) >= 16 and struct.unpack_from("<Q" if little else ">Q", stub, 8)[0] == request.size


def _request_syntax(stub: bytes, syntax: str, *, little: bool) -> str:
    """The syntax that the length fields show, where they do; else the one that the context has."""
    if len(stub) >= 8:
        size, second = struct.unpack_from("<II" if little else ">II", stub)
        if size and second == size:
            return NDR32
        if size and second == 0:
            return NDR64
    return syntax if syntax in _PREFIX else NDR32


def _request_v4(body: bytes) -> RequestV4:
    (virtual, status, remaining, application, activation, counted, machine_id, required, time, previous, name) = (
        _REQUEST_V4.unpack_from(body)
    )
    return RequestV4(
        bool(virtual),
        status,
        remaining,
        _guid(application),
        _guid(activation),
        _guid(counted),
        _guid(machine_id),
        required,
        _time(time),
        time,
        _guid(previous),
        _text(name),
    )


def decode_response(
    stub: bytes, length: int, syntax: str = "", *, little: bool = True, begun: bool = True, ended: bool = True
) -> Response:
    """Read a response stub of ``length`` bytes, of which ``stub`` was captured.

    ``syntax`` is the transfer syntax of its context, "" where that is not known. With ``begun`` false, ``stub`` is the
    end of a stub whose beginning was not captured: then the HRESULT is all that can be read. With ``ended`` false, more
    of it was to come.
    """
    order = "<" if little else ">"
    complete = ended and len(stub) >= length
    last = struct.unpack_from(order + "I", stub, length - 4)[0] if complete and length >= 4 else None
    syntax = _response_syntax(stub, length, syntax, little=little)
    if not begun:
        return Response(syntax, last)
    start = _RESPONSE_PREFIX[syntax]
    refusal = REFUSAL_STUBS[syntax]
    if length < refusal:
        return Response(syntax, problem=f"a stub of {length} bytes holds no KMS response")
    if len(stub) < 4:
        return Response(syntax)
    (size,) = struct.unpack_from(order + "I", stub)
    referent = stub[4:8] if syntax == NDR32 else stub[8:16]
    if size == 0 and not any(referent):
        return _refusal(stub, length, syntax, last, order)
    if start + size + 4 > length:
        return Response(syntax, last, size=size, problem=f"a body of {size} bytes does not fit into a stub of {length}")
    body = stub[start : start + size]
    version = _version(body)
    fields = None
    problem = ""
    if version is not None and version[0] == 4 and len(body) == size:
        fields = _response_v4(body)
        problem = "" if fields else "the fields of this version 4 response do not fit its size"
    return Response(syntax, last, version, size, fields, problem, _where(size, length, start, version))


def _refusal(stub: bytes, length: int, syntax: str, last: int | None, order: str) -> Response:
    """A response without a body: the HRESULT follows at once."""
    at = REFUSAL_STUBS[syntax] - 4
    if len(stub) < at + 4:
        return Response(syntax, size=0)
    (here,) = struct.unpack_from(order + "I", stub, at)
    note = "" if length == at + 4 else f"{length - at - 4} bytes follow the HRESULT"
    # Behind stray zero bytes (py-kms), the HRESULT is where the sizes say; else the last four bytes are right.
    value = last or here
    problem = "" if value else "neither a body nor an error code"
    return Response(syntax, value, None, 0, None, problem, note)


def _where(size: int, length: int, start: int, version: tuple[int, int] | None) -> str:
    """What is odd about a response's sizes."""
    end = start + size
    # NDR aligns the HRESULT; an open-source host puts it right behind the body and pads behind it.
    if length not in (end + -end % 4 + 4, end + 4 + -end % 4):
        return f"the HRESULT is expected at byte {end + -end % 4} of the stub, which has {length}"
    if version is not None and version[0] not in REQUEST_SIZES:
        return f"version {version[0]}.{version[1]} is not known"
    if version is not None and version[0] in (5, 6) and (size - _OPAQUE_CLEAR) % _BLOCK:
        return f"a body of {size} bytes is no whole number of blocks"
    if size > RESPONSE_MAX:
        return f"a body of {size} bytes is larger than any known"
    return ""


def _response_syntax(stub: bytes, length: int, syntax: str, *, little: bool) -> str:
    """The context's syntax where it fits; else what the length fields show."""
    guess = syntax
    if len(stub) >= 8:
        size, second = struct.unpack_from("<II" if little else ">II", stub)
        if size == 0 and second == 0:
            guess = NDR64 if length >= REFUSAL_STUBS[NDR64] and not any(stub[8:16]) else NDR32
        elif size:
            guess = NDR32 if second else NDR64
    return guess if guess in _PREFIX else NDR32


def _response_v4(body: bytes) -> ResponseV4 | None:
    """Version, PID size, PID, CMID, time, count, intervals and 16 opaque bytes; None where they don't fit."""
    if len(body) < 60:
        return None
    (size,) = struct.unpack_from("<I", body, 4)
    if size > PID_MAX or 60 + size > len(body):
        return None
    machine_id, time, count, activation, renewal = _RESPONSE_V4.unpack_from(body, 8 + size)
    return ResponseV4(_text(body[8 : 8 + size]), _guid(machine_id), time, count, activation, renewal)


def _version(body: bytes) -> tuple[int, int] | None:
    """Major and minor version, the first four bytes of a body; little-endian, whatever the PDU's byte order is."""
    if len(body) < 4:
        return None
    minor, major = struct.unpack_from("<HH", body)
    return major, minor


def _guid(raw: bytes) -> str:
    text = raw[3::-1].hex() + raw[5:3:-1].hex() + raw[7:5:-1].hex() + raw[8:].hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _text(raw: bytes) -> str:
    """UTF-16LE up to the first NUL, as printable ASCII with everything else escaped."""
    text = raw[: len(raw) & ~1].decode("utf-16-le", "replace").split("\0", 1)[0]
    return text if text.isascii() and text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _time(value: int) -> int | None:
    """A FILETIME in ns since 1970; None where no calendar has it."""
    since = (value - _EPOCH_GAP) * 100
    return since if value and -_TIME_MAX < since < _TIME_MAX else None
