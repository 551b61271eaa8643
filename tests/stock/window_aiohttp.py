"""A stock client as a puppet: Python's `aiohttp`, unchanged, on a running fanline. Its WebSocket is its own.

Usage: window_aiohttp.py URL window|no_takeover|bits10

Hands back the extensions that were agreed on, then every message as decoded, one line each. Orders on stdin: `send TEXT`,
`pause` (read nothing more), `resume`, `close`.
"""

import asyncio
import sys

import aiohttp
from window_puppet import Puppet

# Bits of the server's window; 15 is what the protocol assumes, so the library does not mention it.
BITS = {"window": 15, "bits10": 10}


async def main(url, mode):
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url, protocols=["fanline.v1"], compress=BITS[mode], autoping=True) as ws:
            puppet = Puppet(ws._response.headers.get("Sec-WebSocket-Extensions", ""))
            await puppet.perform(receive=ws.receive_str, send=ws.send_str)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
