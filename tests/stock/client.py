"""A stock client: Python's `websockets`, unchanged, on a running fanline.

Usage: client.py URL deflate|plain PATTERN[,PATTERN...] COUNT

Receives COUNT frames in each of three ways (subscribed in the query, by command, raw), decodes them all and prints one JSON
object: per way what it found, and the messages as received.
"""

import asyncio
import json
import sys
from urllib.parse import quote

from websockets.asyncio.client import connect

DEADLINE_S = 60


def is_notice(text):
    return "op" in json.loads(text)


def summarise(ws, texts):
    """Decodes `texts`; an error in one of them ends the program, and so the test."""
    frames = [json.loads(text) for text in texts]
    offsets = [frame["offset"] for frame in frames if "offset" in frame and "data" in frame]
    return {
        "extensions": ws.response.headers.get("Sec-WebSocket-Extensions", ""),
        "subprotocol": ws.subprotocol,
        "increasing": all(a < b for a, b in zip(offsets, offsets[1:])),
        "offsets": len(offsets),
        "texts": texts,
    }


async def receive(url, compression, count, command=None, raw=False):
    # With a bounded queue the library stops reading when it is full, and then overlooks the server's close frame for 10 s.
    bounds = {"max_queue": None, "proxy": None}
    async with connect(url, compression=compression, subprotocols=["fanline.v1"], **bounds) as ws:
        if command:
            await ws.send(json.dumps(command))
        texts = []
        while len(texts) < count:
            text = await ws.recv()
            if raw or not is_notice(text):
                texts.append(text)
        return summarise(ws, texts)


async def main(url, mode, patterns, count):
    compression = "deflate" if mode == "deflate" else None
    query = f"{url}?topics={quote(patterns)}"
    command = {"op": "subscribe", "id": 1, "topics": patterns.split(",")}
    async with asyncio.timeout(DEADLINE_S):
        return {
            "query": await receive(query, compression, count),
            "command": await receive(url, compression, count, command=command),
            "raw": await receive(f"{query}&format=raw", compression, count, raw=True),
        }


if __name__ == "__main__":
    found = asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
    print(json.dumps(found))
