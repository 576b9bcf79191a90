import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.wire import kms
from tests import kmsbytes as make

ORDERS = pytest.mark.parametrize("order", "<>")
SYNTAXES = pytest.mark.parametrize("syntax", [kms.NDR32, kms.NDR64])


class TestRequest:
    @ORDERS
    @SYNTAXES
    def test_every_field_of_version_4(self, syntax: str, order: str) -> None:
        body = make.body_v4(required=5, name="pc.example", at=make.START, virtual=True, status=5, remaining=77)
        stub = make.request_stub(body, syntax=syntax, order=order)
        found = kms.decode_request(stub, len(stub), little=order == "<")
        assert found == kms.Request(
            syntax,
            (4, 0),
            252,
            kms.RequestV4(
                virtual=True,
                license_status=5,
                remaining_min=77,
                application_id=str(uuid.UUID(int=1 << 96 | 1)),
                activation_id=str(uuid.UUID(int=2 << 96 | 2)),
                kms_counted_id=str(uuid.UUID(int=3 << 96 | 3)),
                client_machine_id=str(make.MACHINE),
                required=5,
                client_time=make.START,
                raw_time=make.START // 100 + make.FILETIME_1970,
                previous_machine_id=str(uuid.UUID(int=9)),
                machine="pc.example",
            ),
        )

    @pytest.mark.parametrize("major", [5, 6])
    @SYNTAXES
    def test_of_versions_5_and_6_the_envelope_is_read_and_nothing_else(self, syntax: str, major: int) -> None:
        stub = make.request_stub(make.body_opaque(major), syntax=syntax)
        assert kms.decode_request(stub, len(stub)) == kms.Request(syntax, (major, 0), 260)

    def test_the_length_fields_decide_even_against_the_context(self) -> None:
        stub = make.request_stub(make.body_v4(), syntax=kms.NDR64)
        assert kms.decode_request(stub, len(stub), kms.NDR32).syntax == kms.NDR64

    def test_where_they_say_nothing_the_context_does(self) -> None:
        assert kms.decode_request(b"\xfc\0\0\0", 268, kms.NDR64) == kms.Request(kms.NDR64, None, 252)
        assert kms.decode_request(b"\xfc\0\0\0", 260) == kms.Request(kms.NDR32, None, 252)

    @pytest.mark.parametrize(
        ("kept", "version", "fields"), [(6, None, False), (12, (4, 0), False), (260, (4, 0), True)]
    )
    def test_a_cut_one_shows_what_is_there(self, kept: int, version: tuple[int, int] | None, fields: bool) -> None:
        stub = make.request_stub(make.body_v4())
        found = kms.decode_request(stub[:kept], len(stub))
        assert found.version == version
        assert (found.fields is not None) == fields
        assert found.problem == ""

    def test_older_py_kms_clients_send_four_bytes_too_many(self) -> None:
        stub = make.request_stub(make.body_v4()) + bytes(4)
        found = kms.decode_request(stub, len(stub))
        assert (found.trailing, found.problem) == (4, "")
        assert found.fields is not None

    @pytest.mark.parametrize(
        ("stub", "problem"),
        [
            (make.request_stub(bytes([0, 0, 4, 0]) + bytes(300)), "a request of version 4 has 252 bytes, not 304"),
            (make.request_stub(make.body_opaque(7)), "version 7.0 is not known"),
            (make.request_stub(make.body_v4())[:100], "a body of 252 bytes does not fit into a stub of 100"),
            (b"ab", "the stub is too short for a request"),
        ],
    )
    def test_what_is_wrong(self, stub: bytes, problem: str) -> None:
        assert kms.decode_request(stub, len(stub)).problem == problem

    @pytest.mark.parametrize(
        ("name", "shown"),
        [("pc\x1b[31m", "pc\\x1b[31m"), ("büro", "b\\xfcro"), ("\ud800"[:0] + "a\0b", "a"), ("", "")],
    )
    def test_a_name_is_printable_ascii(self, name: str, shown: str) -> None:
        stub = make.request_stub(make.body_v4(name=name))
        fields = kms.decode_request(stub, len(stub)).fields
        assert fields is not None
        assert fields.machine == shown

    @pytest.mark.parametrize("raw", [0, 2**64 - 1])
    def test_what_is_no_time(self, raw: int) -> None:
        body = bytearray(make.body_v4())
        struct.pack_into("<Q", body, 84, raw)
        stub = make.request_stub(bytes(body))
        fields = kms.decode_request(stub, len(stub)).fields
        assert fields is not None
        assert (fields.client_time, fields.raw_time) == (None, raw)


class TestLooksLikeRequest:
    @ORDERS
    @SYNTAXES
    @pytest.mark.parametrize("body", [make.body_v4(), make.body_opaque(5), make.body_opaque(6)])
    def test_one_is_known_without_its_bind(self, body: bytes, syntax: str, order: str) -> None:
        stub = make.request_stub(body, syntax=syntax, order=order)
        assert kms.looks_like_request(stub, len(stub), little=order == "<")

    @pytest.mark.parametrize(
        "stub",
        [
            b"",
            bytes(268),
            make.request_stub(make.body_opaque(7)),
            make.request_stub(make.body_opaque(6, 200)),
            struct.pack("<II", 252, 251) + make.body_v4(),
            struct.pack("<I4xQ", 252, 251) + make.body_v4(),
        ],
    )
    def test_another_interfaces_call_is_none(self, stub: bytes) -> None:
        assert not kms.looks_like_request(stub, len(stub))


class TestResponse:
    @ORDERS
    @SYNTAXES
    def test_every_field_of_version_4(self, syntax: str, order: str) -> None:
        stub = make.response_stub(make.answer_v4(count=31, pid="a-pid"), syntax=syntax, order=order)
        found = kms.decode_response(stub, len(stub), little=order == "<")
        assert found == kms.Response(
            syntax,
            0,
            (4, 0),
            72,
            kms.ResponseV4("a-pid", str(make.MACHINE), make.START // 100 + make.FILETIME_1970, 31, 120, 10_080),
        )

    @SYNTAXES
    @pytest.mark.parametrize(("major", "size"), [(5, 228), (6, 260)])
    def test_of_versions_5_and_6_the_envelope_and_the_hresult(self, major: int, size: int, syntax: str) -> None:
        stub = make.response_stub(make.body_opaque(major, size), syntax=syntax)
        assert kms.decode_response(stub, len(stub)) == kms.Response(syntax, 0, (major, 0), size)

    @ORDERS
    @SYNTAXES
    @pytest.mark.parametrize("hresult", [0xC004F042, 0xC004F06C, 0x8007000D])
    def test_a_refusal_is_readable_in_every_version(self, hresult: int, syntax: str, order: str) -> None:
        stub = make.response_stub(b"", hresult, syntax=syntax, order=order)
        assert len(stub) == kms.REFUSAL_STUBS[syntax]
        assert kms.decode_response(stub, len(stub), little=order == "<") == kms.Response(syntax, hresult, size=0)

    @pytest.mark.parametrize("size", [157, 158, 159, 160])
    @pytest.mark.parametrize("aligned", [True, False])
    def test_the_hresult_is_last_wherever_the_padding_is(self, size: int, aligned: bool) -> None:
        """NDR pads before it; an open-source host behind it, which shows on success alone."""
        body = make.body_opaque(9, size)
        pad, hresult = bytes(-size % 4), bytes(4)
        stub = struct.pack("<III", size, 0x20000, size) + body + (pad + hresult if aligned else hresult + pad)
        found = kms.decode_response(stub, len(stub))
        assert found.hresult == 0
        assert found.note == "version 9.0 is not known"

    @pytest.mark.parametrize(("kept", "version"), [(10, None), (16, (6, 0)), (275, (6, 0))])
    def test_where_the_end_is_cut_there_is_no_hresult(self, kept: int, version: tuple[int, int] | None) -> None:
        stub = make.response_stub(make.body_opaque())
        found = kms.decode_response(stub[:kept], len(stub))
        assert (found.hresult, found.version, found.problem) == (None, version, "")

    def test_where_more_was_to_come_the_last_bytes_are_not_the_hresult(self) -> None:
        stub = make.response_stub(make.body_opaque())[:200]
        assert kms.decode_response(stub, len(stub), ended=False).hresult is None

    def test_where_the_beginning_is_missing_the_hresult_is_all(self) -> None:
        stub = make.response_stub(make.body_opaque(), 0)[100:]
        assert kms.decode_response(stub, len(stub), begun=False) == kms.Response(kms.NDR32, 0)

    def test_stray_zeros_behind_a_refusal(self) -> None:
        stub = make.response_stub(b"", 0xC004F042) + bytes(4)
        found = kms.decode_response(stub, len(stub))
        assert (found.hresult, found.note) == (0xC004F042, "4 bytes follow the HRESULT")

    @pytest.mark.parametrize(
        ("stub", "problem"),
        [
            (bytes(12), "neither a body nor an error code"),
            (bytes(8), "a stub of 8 bytes holds no KMS response"),
            (make.response_stub(make.body_opaque())[:200], "a body of 260 bytes does not fit into a stub of 200"),
            (
                make.response_stub(bytes([0, 0, 4, 0, 255]) + bytes(100)),
                "the fields of this version 4 response do not fit its size",
            ),
            (make.response_stub(bytes([0, 0, 4, 0])), "the fields of this version 4 response do not fit its size"),
        ],
    )
    def test_what_is_wrong(self, stub: bytes, problem: str) -> None:
        assert kms.decode_response(stub, len(stub)).problem == problem

    @pytest.mark.parametrize(
        ("stub", "note"),
        [
            (make.response_stub(make.body_opaque(6, 250)), "a body of 250 bytes is no whole number of blocks"),
            (make.response_stub(make.body_opaque(6, 500) + bytes(32)), "a body of 532 bytes is larger than any known"),
            (
                make.response_stub(make.body_opaque()) + bytes(8),
                "the HRESULT is expected at byte 272 of the stub, which has 284",
            ),
        ],
    )
    def test_what_is_odd(self, stub: bytes, note: str) -> None:
        assert kms.decode_response(stub, len(stub)).note == note


stubs = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda stub, at, value: stub[:at] + value + stub[at + len(value) :],
        st.sampled_from(
            [
                make.request_stub(make.body_v4()),
                make.request_stub(make.body_opaque(), syntax=kms.NDR64),
                make.response_stub(make.answer_v4()),
                make.response_stub(b"", 1, syntax=kms.NDR64),
            ]
        ),
        st.integers(0, 290),
        st.binary(min_size=1, max_size=8),
    ),
)


@given(stubs, st.integers(0, 400), st.sampled_from(["", kms.NDR32, kms.NDR64, "other"]), st.booleans(), st.booleans())
def test_no_stub_is_too_strange(stub: bytes, length: int, syntax: str, little: bool, flag: bool) -> None:
    stub = stub[:length]
    request = kms.decode_request(stub, length, syntax, little=little)
    assert request.syntax in (kms.NDR32, kms.NDR64)
    kms.looks_like_request(stub, length, little=little)
    response = kms.decode_response(stub, length, syntax, little=little, begun=flag, ended=not flag)
    texts = [request.problem, response.problem, response.note]
    texts += [request.fields.machine] if request.fields else []
    texts += [response.fields.pid] if response.fields else []
    assert all(text.isascii() and text.isprintable() for text in texts)
