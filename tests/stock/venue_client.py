"""A client of a venue from its registry, unchanged but for the URL, that does what lines on its stdin say.

Usage: venue_client.py CLIENT BASE-URL ITEM...

Prints `started`, then an event a line, as JSON with sorted names, and `lost` when its connection ends. `close` on stdin
ends it.
"""

import asyncio
import collections
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
    # It says the one before it comes back, and the other if it does not.
    for event in ("reconnect", "close"):
        connection.on_connection(event, lambda: print("lost", flush=True))
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


async def ccxt(name, base, items):
    import venue_ccxt

    await asyncio.gather(venue_ccxt.run(name.removeprefix("ccxt-"), base, items, show), until_closed())


async def pybit(base, items):
    from pybit import unified_trading

    unified_trading.PUBLIC_WSS = base + "v5/public/{CHANNEL_TYPE}"
    client = unified_trading.WebSocket(channel_type="spot", testnet=False, retries=0)
    # It notes a request only after it has sent it, and ends if the answer is quicker, as no venue's is.
    client.subscriptions = collections.defaultdict(str)
    lose = client._on_error

    def lost(error):
        print("lost", flush=True)
        lose(error)

    client._on_error = lost
    for item in items:
        channel, *depth, symbol = item.split(".")
        streams = {"orderbook": client.orderbook_stream, "publicTrade": client.trade_stream}
        stream = streams.get(channel, client.ticker_stream)
        stream(*map(int, depth), symbol, lambda message: show(message["topic"], message))
    await until_closed()


async def okx(base, items):
    from okx.websocket.WsPublicAsync import WsPublicAsync

    def take(text):
        message = json.loads(text)
        if "data" in message:
            show(message["arg"]["channel"], message)

    async def connect():
        client = WsPublicAsync(url=base + "ws/v5/public")
        reading = await client.start()
        if client.websocket:
            await client.subscribe([dict(zip(("channel", "instId"), item.split("."))) for item in items], take)
        await asyncio.wait([reading])

    async def stay():
        # It does not come back by itself: its users do this.
        while True:
            await connect()
            print("lost", flush=True)
            await asyncio.sleep(0.2)

    await asyncio.gather(stay(), until_closed())


async def coinbase(base, items):
    from coinbase.websocket import WSClient, WSClientException

    def take(text):
        message = json.loads(text)
        for event in message["events"]:
            # What is around them differs: through fanline each ticker and each trade has a message of its own.
            # A list of trades is newest first.
            parts = event.get("tickers", event["trades"][::-1] if "trades" in event else None)
            for part in [event] if parts is None else parts:
                if message["channel"] == "heartbeats":
                    print("heartbeat", part["heartbeat_counter"], flush=True)
                elif message["channel"] != "subscriptions":
                    show(message["channel"], part)

    def begin():
        client = WSClient(base_url=base, on_message=take)
        client.open()
        for item in items:
            channel, *products = item.split(".")
            client.subscribe(products, [channel])
        connect = client.open_async

        async def come_back():
            print("lost", flush=True)
            await connect()

        client.open_async = come_back
        return client

    async def stay():
        # It comes back by itself, unless the end came right behind a message: then it has stopped reading.
        client = None
        while True:
            try:
                client = client or begin()
            except WSClientException:
                pass
            await asyncio.sleep(0.2)
            if client and client._task.done():
                print("lost", flush=True)
                client = None

    await asyncio.gather(stay(), until_closed())


CLIENTS = {
    "python-binance": python_binance,
    "unicorn": unicorn,
    "binance-sdk": binance_sdk,
    "massive": massive,
    "kraken": kraken,
    "pybit": pybit,
    "okx": okx,
    "coinbase": coinbase,
}

if __name__ == "__main__":
    print("started", flush=True)
    name, base, items = sys.argv[1], sys.argv[2], sys.argv[3:]
    asyncio.run(ccxt(name, base, items) if name.startswith("ccxt-") else CLIENTS[name](base, items))
