"""A stock client as a puppet: Python's `websockets`, unchanged, on a running fanline.

Usage: window_client.py URL window|no_takeover|bits10|strictN

With `strictN`, N from 9 to 15, the window has N bits, and zlib takes nothing from outside it.

Hands back the extensions that were agreed on, then every message as decoded, one line each. Orders on stdin: `send TEXT`,
`pause` (read nothing more), `resume`, `close`.
"""

import asyncio
import random
import sys
import zlib

from window_puppet import Puppet
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

# What differs from the library's own offer, which is all that a shared window needs.
OFFERS = {
    "no_takeover": {"client_max_window_bits": True, "server_no_context_takeover": True},
    "bits10": {"client_max_window_bits": True, "server_max_window_bits": 10},
}


class StrictInflater:
    """zlib as strict as can be: it also looks up in what it has put out since it was called, so it is asked for one
    byte at a time. Stands in for a decompression object."""

    unconsumed_tail = b""

    def __init__(self, bits):
        self.inflater = zlib.decompressobj(wbits=-bits)

    def decompress(self, data, max_length=0):
        text = bytearray()
        while True:
            byte = self.inflater.decompress(data, 1)
            data = self.inflater.unconsumed_tail
            if not byte and not data:
                return bytes(text)
            text += byte


def check_strictness(bits):
    """A reference a single byte too far must be an error. zlib itself makes none that reach 32 KiB."""
    text, noise = b"a text that occurs twice, and far apart", random.Random(1)
    for apart in (1 << bits, (1 << bits) + 1) if bits < 15 else ():
        deflater = zlib.compressobj(wbits=-15)
        # Of 64 different bytes, or the whole would be stored.
        whole = text + bytes(noise.choices(range(64), k=apart - len(text))) + text
        packed = deflater.compress(whole) + deflater.flush(zlib.Z_SYNC_FLUSH)
        try:
            fits = StrictInflater(bits).decompress(packed) == whole
        except zlib.error:
            fits = False
        assert fits == (apart == 1 << bits), f"{apart} bytes apart in a window of {bits} bits"


async def main(url, mode):
    strict_bits = int(mode.removeprefix("strict")) if mode.startswith("strict") else None
    offer = {"server_max_window_bits": strict_bits} if strict_bits else OFFERS.get(mode)
    options = {"compression": "deflate"}
    if offer:
        options = {"compression": None, "extensions": [ClientPerMessageDeflateFactory(**offer)]}
    async with connect(url, subprotocols=["fanline.v1"], proxy=None, **options) as ws:
        if strict_bits:
            check_strictness(strict_bits)
            [extension] = ws.protocol.extensions
            assert extension.remote_max_window_bits == strict_bits, extension
            extension.decoder = StrictInflater(strict_bits)
        puppet = Puppet(ws.response.headers.get("Sec-WebSocket-Extensions", ""))
        await puppet.perform(receive=ws.recv, send=ws.send)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
