"""The smallest fan-out with Python's websockets: each line of stdin goes to every client. Arguments: PORT, `deflate` or nothing.

With uvloop, as its documentation recommends, where it is installed.
"""

import asyncio
import sys

from websockets.asyncio.server import broadcast, serve

try:
    from uvloop import run
except ImportError:
    from asyncio import run


async def main():
    clients = set()

    async def handler(client):
        clients.add(client)
        try:
            await client.wait_closed()
        finally:
            clients.discard(client)

    compression = "deflate" if sys.argv[2:] == ["deflate"] else None
    async with serve(handler, "127.0.0.1", int(sys.argv[1]), compression=compression, ping_interval=None):
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            broadcast(clients, line.decode().rstrip("\n"))


run(main())
