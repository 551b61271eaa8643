"""A client of a venue from its registry, unchanged but for the URL, that does what lines on its stdin say.

Usage: venue_client.py CLIENT BASE-URL ITEM...

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
    await until_closed()


async def binance_sdk(base, streams):
    from binance_sdk_spot.spot import ConfigurationWebSocketStreams, Spot

    configuration = ConfigurationWebSocketStreams(stream_url=base.rstrip("/"))
    connection = await Spot(config_ws_streams=configuration).websocket_streams.create_connection()
    await connection.subscribe(streams)
    for stream in streams:
        connection.on("message", lambda event: show(event["stream"], event["data"]), stream)
    await until_closed()


async def massive(base, items):
    from massive import WebSocketClient

    async def take(events):
        for event in events:
            show(type(event).__name__, {name: value for name, value in vars(event).items() if value is not None})

    feed = base.removeprefix("ws://").rstrip("/")
    client = WebSocketClient("a key", feed=feed, market="stocks", secure=False, subscriptions=items)
    await asyncio.gather(client.connect(take), until_closed())


async def kraken(base, items):
    from kraken.spot import Market, SpotOrderBookClient

    # Asked for at the venue, which is not there: how many digits prices and sizes have.
    Market.get_asset_pairs = lambda self, pair: {pair: {"pair_decimals": 1, "lot_decimals": 8}}
    SpotOrderBookClient.WS_URL = base.rstrip("/")

    def take(pair, message):
        # It checks each book against the venue's checksum, and says so if one is wrong.
        show(pair, {"message": message, "book": {side: books.get(pair)[side] for side in ("bid", "ask")}})

    books = SpotOrderBookClient(depth=10, callback=take)
    await books.start()
    await books.add_book(items)
    await until_closed()


CLIENTS = {
    "python-binance": python_binance,
    "unicorn": unicorn,
    "binance-sdk": binance_sdk,
    "massive": massive,
    "kraken": kraken,
}

if __name__ == "__main__":
    print("started", flush=True)
    asyncio.run(CLIENTS[sys.argv[1]](sys.argv[2], sys.argv[3:]))
