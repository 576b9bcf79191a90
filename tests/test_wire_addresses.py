import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.wire.addresses import address_text


@given(st.ip_addresses())
def test_an_address_is_written_as_the_standard_library_does(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert address_text(address.packed) == str(address)
