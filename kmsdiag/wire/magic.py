"""How capture files begin. Apart from their readers, so that a file is recognised without loading them."""

from typing import Final

PCAP: Final = 0xA1B2C3D4
PCAP_NANOSECONDS: Final = 0xA1B23C4D
PCAP_MODIFIED: Final = 0xA1B2CD34
"""Alexey Kuznetzov's patches to libpcap: interface, protocol and packet type follow the two lengths of a record."""
PCAP_IXIA: Final = (0x1C0001AC, 0x1C0001AB)
"""Ixia's hardware and software captures (Wireshark): the size of all records follows the file's header."""

PCAP_NUMBERS: Final = (PCAP, PCAP_NANOSECONDS, PCAP_MODIFIED, *PCAP_IXIA)

PCAPNG: Final = b"\x0a\x0d\x0d\x0a"
"""The block type of a section header, the same in both byte orders."""

PCAPNG_ORDER: Final = 0x1A2B3C4D
"""Number at byte 8 of a section header that shows its byte order."""


def is_pcap(head: bytes) -> bool:
    """Whether these are the first bytes of a pcap file, in either byte order."""
    return any(int.from_bytes(head[:4], order) in PCAP_NUMBERS for order in ("little", "big"))


def is_pcapng(head: bytes) -> bool:
    """Whether these are the first bytes of a pcapng file."""
    return head.startswith(PCAPNG)
