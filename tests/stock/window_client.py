"""A stock client as a puppet: Python's `websockets`, unchanged, on a running fanline.

Usage: window_client.py URL window|no_takeover|bits10

Hands back the extensions that were agreed on, then every message as decoded, one line each. Orders on stdin: `send TEXT`,
`pause` (read nothing more), `resume`, `close`.
"""

import asyncio
import sys

from window_puppet import Puppet
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

# What differs from the library's own offer, which is all that a shared window needs.
OFFERS = {
    "no_takeover": {"client_max_window_bits": True, "server_no_context_takeover": True},
    "bits10": {"client_max_window_bits": True, "server_max_window_bits": 10},
}


async def main(url, mode):
    offer = OFFERS.get(mode)
    options = {"compression": "deflate"}
    if offer:
        options = {"compression": None, "extensions": [ClientPerMessageDeflateFactory(**offer)]}
    async with connect(url, subprotocols=["fanline.v1"], proxy=None, **options) as ws:
        puppet = Puppet(ws.response.headers.get("Sec-WebSocket-Extensions", ""))
        await puppet.perform(receive=ws.recv, send=ws.send)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
