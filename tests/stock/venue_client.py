"""A client of a venue from its registry, unchanged but for the URL, that does what lines on its stdin say.

Usage: venue_client.py CLIENT BASE-URL STREAM...

Prints `started`, then an event a line, as JSON with sorted names, and `lost` when its connection ends. `close` on stdin
ends it.
"""

import asyncio
import json
import os
import sys


def show(stream, data):
    print(json.dumps({"data": data, "stream": stream}, sort_keys=True, separators=(",", ":")), flush=True)


async def until_closed():
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    # Some clients have threads that do not end.
    sys.stdout.flush()
    os._exit(0)


async def python_binance(base, streams):
    from binance import AsyncClient, BinanceSocketManager

    BinanceSocketManager.STREAM_URL = base
    sockets = BinanceSocketManager(AsyncClient(), max_queue_size=1_000_000)
    async with sockets.multiplex_socket(streams) as socket:
        print("started", flush=True)

        async def read():
            while True:
                event = await socket.recv()
                if event.get("stream") in streams:
                    show(event["stream"], event["data"])
                elif event.get("e") == "error":
                    print("lost", flush=True)

        await asyncio.gather(read(), until_closed())


async def unicorn(base, streams):
    from unicorn_binance_websocket_api import BinanceWebSocketApiManager

    def take(text):
        event = json.loads(text)
        if event.get("stream") in streams:
            show(event["stream"], event["data"])

    def take_signal(signal_type=None, **_):
        if signal_type == "DISCONNECT":
            print("lost", flush=True)

    manager = BinanceWebSocketApiManager(
        exchange="binance.com",
        websocket_base_uri=base,
        warn_on_update=False,
        disable_colorama=True,
        process_stream_signals=take_signal,
    )
    markets = sorted({stream.split("@", 1)[0] for stream in streams})
    channels = sorted({stream.split("@", 1)[1] for stream in streams})
    manager.create_stream(channels, markets, process_stream_data=take)
    print("started", flush=True)
    await until_closed()


if __name__ == "__main__":
    client = {"python-binance": python_binance, "unicorn": unicorn}[sys.argv[1]]
    asyncio.run(client(sys.argv[2], sys.argv[3:]))
