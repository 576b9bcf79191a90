"""What to record so that nothing about activation is missed, and what to type where kmsdiag itself may not record."""

from typing import Final

PLAIN: Final = "tcp port 1688 or port 53 or port 5353 or port 5355"
"""KMS and name look-ups in plain Ethernet and IP: misses everything inside tags and tunnels."""

WIDE: Final = (
    f"{PLAIN} or icmp or icmp6"
    # IPv4 fragments, and IPv6 with extension headers: the port is not where the filter looks for it.
    " or (ip[6:2] & 0x3fff != 0) or (ip6 and ip6[6] != 6 and ip6[6] != 17)"
    # GRE and ERSPAN, IP in IP, IPv6 in IPv4, VXLAN, Geneve.
    " or ip proto 47 or ip proto 4 or ip proto 41 or udp port 4789 or udp port 6081"
    # VLAN, QinQ, PPPoE, MPLS: neither IPv4 nor IPv6 to the filter.
    " or (not ip and not ip6)"
)
"""A superset that misses none of the encapsulations that kmsdiag reads (measured on a capture of each)."""


def with_port(expression: str, port: int) -> str:
    """The filter for a KMS host on another port than 1688."""
    return expression.replace("tcp port 1688", f"tcp port 1688 or tcp port {port}")


TCPDUMP: Final = f"sudo tcpdump -i any -s 0 -w kms.pcap '{PLAIN} or icmp or icmp6'"
"""On Linux and macOS, as somebody who may."""

WINDOWS: Final = (
    "pktmon filter remove; pktmon filter add KMS -p 1688; pktmon filter add DNS -p 53;"
    " pktmon start --capture --pkt-size 0 --file-name kms.etl; slmgr /ato; pktmon stop;"
    " pktmon etl2pcap kms.etl --out kms.pcapng"
)
"""On Windows 10 2004, Server 2022 and later, as administrator; slmgr /ato is one attempt of that very machine."""

WIRESHARK: Final = "tcp port 1688 or port 53 or icmp or icmp6"
"""For the box "capture filter" of Wireshark's start page."""
