"""Answers binds as a KMS host does, for thousands of connections: ``python -m benchmarks.responder ADDRESS PORT``."""

import asyncio
import functools
import sys

from kmsdiag.lab.rpc import bind_ack
from kmsdiag.model.request import KMS_INTERFACE
from kmsdiag.wire.rpc import HEADER, decode_header

# All binds of one run to one interface are the same bytes.
_answer = functools.lru_cache(maxsize=64)(functools.partial(bind_ack, port=1688, interfaces=frozenset({KMS_INTERFACE})))


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.heard = b""

    def data_received(self, data: bytes) -> None:
        self.heard += data
        if len(self.heard) >= HEADER and len(self.heard) >= (length := decode_header(self.heard).length):
            pdu, self.heard = self.heard[:length], self.heard[length:]
            if isinstance(self.transport, asyncio.Transport):
                self.transport.write(_answer(pdu))


async def main(address: str, port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(_Connection, address, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
