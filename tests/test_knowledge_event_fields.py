import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.knowledge import event_fields

ID = "08c3bda0-c556-4b61-9e4e-7bf6d4df80be"
SKU = "cf67834d-db4a-402c-ab1f-2c134f02b700"
AT = datetime.datetime(2026, 1, 14, 2, 30, tzinfo=datetime.UTC)


@pytest.mark.parametrize("comma", [",", ", ", " , "])
@pytest.mark.parametrize("time", ["2026/1/14 2:30", "2026/01/14 02:30", "1/14/2026 2:30", "2026-01-14T02:30:00Z"])
def test_a_request_is_read_in_every_spelling(comma: str, time: str) -> None:
    info = comma.join(
        ["0xc004f074", "0x8", "kms1.corp.example:1688", "{" + ID.upper() + "}", time, "1", "2", "9", SKU, "25"]
    )
    found = event_fields.request(info)
    assert found == (
        "0xC004F074",
        "0x00000008",
        "kms1.corp.example:1688",
        ID,
        AT,
        True,
        2,
        9,
        SKU,
        25,
        (),
    )
    assert event_fields.is_failure("0xC004F074")


def test_an_answer_is_read() -> None:
    found = event_fields.answer("0x0, 0x4000008, 0, 0, 4, 120, 10080, 1/14/2026 2:30")
    assert found == ("0x00000000", "0x04000008", False, 4, 120, 10080, AT, ())


def test_a_hosts_request_is_read() -> None:
    found = event_fields.host_request(f"0x0, 25, pc.corp.example, {ID}, 2026/1/14 2:30, 1, 2, 40123, {SKU}")
    assert found == ("0x00000000", 25, "pc.corp.example", ID, AT, True, 2, 40123, SKU, ())


def test_what_can_not_be_read_is_named() -> None:
    found = event_fields.request(f"0x0, 0x0, <KMS Host FQDN>:1688, ....-c556, soon, x, 2, 9, {SKU}")
    assert found is not None
    assert (found.host, found.client_machine_id, found.client_time, found.required) == (
        "<KMS Host FQDN>:1688",
        "",
        None,
        None,
    )
    assert found.unread == ("client machine ID '....-c556'", "client time 'soon'", "VM information 'x'")


@pytest.mark.parametrize("info", ["", "x", "0x0", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10", "0x0, 25, pc"])
def test_what_is_no_list_is_none(info: str) -> None:
    assert event_fields.request(info) is None
    assert event_fields.answer(info) is None
    assert event_fields.host_request(info) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0x0", "0x00000000"),
        ("0xC004F074", "0xC004F074"),
        ("c004f074", "0xC004F074"),
        ("-1073418124", "0xC004F074"),
        ("3221549172", "0xC004F074"),
        ("0x123456789", ""),
        ("none", ""),
    ],
)
def test_hresults_are_read_in_every_spelling(text: str, number: str) -> None:
    assert event_fields.hexadecimal(text) == number
    assert event_fields.is_failure(number) is (number == "0xC004F074")


@given(st.text() | st.lists(st.sampled_from(["0x0", ID, "25", "2026/1/14 2:30", "", "x"]), max_size=12).map(", ".join))
def test_no_text_makes_it_raise(info: str) -> None:
    event_fields.request(info)
    event_fields.answer(info)
    event_fields.host_request(info)
