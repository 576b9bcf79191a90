"""Scapy's RPC server with the KMS interface, as a program of its own: PORT. It answers binds; no calls."""

import sys
import uuid

from scapy.layers.dcerpc import DCERPC_Transport, register_dcerpc_interface
from scapy.layers.msrpce.rpcserver import DCERPC_Server

from kmsdiag.model.request import KMS_INTERFACE


def main() -> None:
    (port,) = sys.argv[1:]
    register_dcerpc_interface("kms", uuid.UUID(KMS_INTERFACE), "1.0", {})
    DCERPC_Server.spawn(DCERPC_Transport.NCACN_IP_TCP, iface="eth0", port=int(port), verb=False)


if __name__ == "__main__":
    main()
