"""impacket's RPC server with the KMS interface, as a program of its own: ADDRESS PORT. It answers binds; no calls."""

import sys
import time

from impacket.dcerpc.v5.rpcrt import DCERPCServer

from kmsdiag.model.request import KMS_INTERFACE


def main() -> None:
    address, port = sys.argv[1:]
    server = DCERPCServer()
    server.daemon = True
    server.addCallbacks((KMS_INTERFACE, "1.0"), port, {})
    server.setListenAddress(address)
    server.setListenPort(int(port))
    server.start()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
