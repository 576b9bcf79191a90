import json
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.sources.recognise import FORMATS, HEAD, Kind, recognise
from tests.capturefile import VARIANTS, Pcapng, pcap

EVENT_TRACE = (
    struct.pack("<III", 65_536, 0x220, 0x220)
    + bytes(0x48 - 12)
    + b"\x02\x00\x02\xc0"
    + bytes(0x68 - 0x4C)
    + struct.pack("<I", 65_536)
    + bytes(200)
)


def erf(count: int) -> bytes:
    """Records of Ethernet frames, 64 bytes each."""
    return b"".join(
        struct.pack("<QBB", (1_700_000_000 << 32) + number, 2, 4) + struct.pack(">HHH", 82, 0, 64) + bytes(66)
        for number in range(count)
    )


class TestWhatIsRead:
    @pytest.mark.parametrize("little", [True, False])
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_pcap(self, variant: str, little: bool) -> None:
        assert recognise(pcap([], variant, little=little)).kind is Kind.CAPTURE

    @pytest.mark.parametrize("little", [True, False])
    def test_pcapng(self, little: bool) -> None:
        assert recognise(Pcapng(little=little).section().data).name == "a pcapng capture"

    def test_bundle(self) -> None:
        for indent in (None, 1):
            assert recognise(json.dumps({"kmsdiag_bundle": 1}, indent=indent).encode()).kind is Kind.BUNDLE

    @pytest.mark.parametrize(
        ("head", "kind"),
        [(b"\x1f\x8b\x08\0", Kind.GZIP), (b"\x28\xb5\x2f\xfd", Kind.ZSTD), (b"\x5a\x2a\x4d\x18", Kind.ZSTD)],
    )
    def test_packed(self, head: bytes, kind: Kind) -> None:
        assert recognise(head).kind is kind


class TestWhatIsNot:
    @pytest.mark.parametrize(
        ("head", "name", "remedy"),
        [
            (b"", "empty", ""),
            (EVENT_TRACE, "a Windows event trace (.etl)", "pktmon etl2pcap"),
            (
                EVENT_TRACE.replace(b"\x02\x00\x02\xc0", b"\x02\x00\x01\xc0"),
                "a Windows event trace (.etl)",
                "etl2pcapng",
            ),
            (b"GMBU\0\x02", "a Network Monitor capture", "editcap"),
            (b"snoop\0\0\0\0\0\0\x02", "a snoop capture", "editcap"),
            (erf(3), "an Endace ERF capture", "editcap"),
            (b"\xfd7zXZ\0", "compressed with xz", "unpack"),
            (b"BZh91AY", "compressed with bzip2", "unpack"),
            (bytes(257) + b"ustar", "a tar archive", "unpack"),
            (b'{"kmsdiag_report": 1}', "a report of kmsdiag, which holds no evidence", "--record"),
            (b'[\n {"_index": "packets"', "packets exported as JSON", "the capture itself"),
            (b'<?xml version="1.0"?>\n<pdml version="0">', "packets exported as XML", "the capture itself"),
            (b"<?xml version='1.0'?><Events>", "XML", ""),
            (b"MZ\x90\0", "a Windows program", ""),
            (b"regf\1\0\0\0", "a Windows registry hive", ""),
            (bytes(4096), "nothing but zeros", ""),
            (b"\x00\x01\x02\x03", "in no format that is known here", ""),
            (erf(2), "in no format that is known here", ""),
        ],
    )
    def test_it_is_named(self, head: bytes, name: str, remedy: str) -> None:
        found = recognise(head)
        assert (found.kind, found.name) == (Kind.OTHER, name)
        assert remedy in found.remedy

    @pytest.mark.parametrize(
        ("head", "kind"),
        [
            (b"PK\x03\x04\x14", Kind.ZIP),
            (b"PK\x05\x06", Kind.ZIP),
            (b"ElfFile\0", Kind.EVENTS),
            (b"<?xml version='1.0'?><Events><Event>", Kind.EVENTS),
            (b'{"a": 1}', Kind.JSON),
            (b"[]", Kind.JSON),
            (b"\xef\xbb\xbf[\r\n    {", Kind.JSON),
            ('{\r\n    "a": 1'.encode("utf-16"), Kind.JSON),
            ('{\r\n    "a": 1'.encode("utf-16-le"), Kind.JSON),
            (b"12:00:00 IP 10.0.0.1 > 10.0.0.2\n", Kind.TEXT),
            (b"[fe80::1]: a text", Kind.TEXT),
            ("Größe\n".encode("latin-1"), Kind.TEXT),
            ("Name: kms\r\n".encode("utf-16"), Kind.TEXT),
            ("Name: kms\r\n".encode("utf-16-be"), Kind.TEXT),
        ],
    )
    def test_what_is_known_when_all_of_it_is_read(self, head: bytes, kind: Kind) -> None:
        assert recognise(head).kind is kind

    def test_what_is_read_needs_no_remedy(self) -> None:
        assert not [one.name for one in FORMATS if one.remedy and one.kind is not Kind.OTHER]

    @given(st.binary(max_size=HEAD))
    def test_any_bytes_are_something(self, head: bytes) -> None:
        assert recognise(head) in FORMATS

    def test_noise_is_no_capture(self) -> None:
        chance = random.Random(1)
        kinds = {recognise(chance.randbytes(HEAD)).kind for _ in range(500)}
        assert kinds == {Kind.OTHER}
