"""ccxt.pro, unchanged but for the URL, for `venue_client.py`.

Each item has an exchange object and so a connection of its own: what one of them is sent, no other one sees.
"""

import asyncio

import ccxt.pro
from aiohttp import web

# Where a venue's URL is in `urls.api.ws`, and what follows the base there.
URLS = {
    "binance": (["spot"], "ws"),
    "kraken": (["publicV2"], "v2"),
    "okx": ([], "ws/v5"),
    "bybit": (["public", "spot"], "v5/public/spot"),
    "coinbase": ([], ""),
    "coinbaseexchange": ([], ""),
}

# How items of a channel are watched.
METHODS = {
    "watch_order_book": ("book", "books", "depth", "level2", "orderbook"),
    "watch_trades": ("trade", "trades", "publicTrade", "market_trades", "matches"),
    "watch_ticker": ("ticker", "tickers"),
    "watch_bids_asks": ("bookTicker",),
}

# What Binance answers at its REST API, which is not there: it fits the first change of a book.
SNAPSHOT = {"lastUpdateId": 3, "bids": [["0.1", "1.0"]], "asks": [["1000000.0", "1.0"]]}


def parts_of(name, item):
    """How an item is watched, and its market."""
    if name == "binance":
        symbol, channel = item.upper().split("@")[0], item.split("@")[1]
    else:
        channel, symbol = item.split(".", 1)
        symbol = symbol.removeprefix("50.")
    base, quote = symbol.replace("/", "-").split("-") if {"/", "-"} & set(symbol) else (symbol[:-4], symbol[-4:])
    method = next(method for method, channels in METHODS.items() if channel in channels)
    market = {"id": symbol, "lowercaseId": symbol.lower(), "symbol": f"{base}/{quote}", "base": base, "quote": quote}
    market |= {"baseId": base, "quoteId": quote, "type": "spot", "spot": True, "active": True}
    return method, market | {"precision": {"amount": 1e-8, "price": 1e-8}}


def exchange_at(name, base, rest, market):
    exchange = getattr(ccxt.pro, name)({"apiKey": "a key", "secret": "a2V5", "password": "any"})
    (path, tail), place, key = URLS[name], exchange.urls["api"], "ws"
    for step in path:
        place, key = place[key], step
    place[key] = (base + tail).rstrip("/")
    if name == "binance":
        exchange.urls["api"]["public"] = rest
    # Asked for at the venue, which is not there.
    exchange.set_markets([exchange.safe_market_structure(market)])
    return exchange


async def watch(name, base, rest, item, show):
    method, market = parts_of(name, item)
    exchange, symbol = exchange_at(name, base, rest, market), market["symbol"]
    shown = set()

    def show_result(result):
        if isinstance(result, list):
            # One list grows with all trades.
            new = [trade for trade in result if trade["id"] not in shown]
            shown.update(trade["id"] for trade in new)
            show(item, [trade["info"] for trade in new])
        elif "bids" in result:
            book = {side: [list(level) for level in list(result[side])[:10]] for side in ("bids", "asks")}
            show(item, book | {"nonce": result["nonce"], "timestamp": result["timestamp"]})
        elif name == "coinbase":
            # The time around a ticker is when fanline received it.
            show(item, {key: value for key, value in result.items() if key not in ("timestamp", "datetime")})
        else:
            show(item, result)

    # What `watch_…` gives is shown whenever it is new, also where the loop below would see two at once.
    if (name, method) == ("binance", "watch_order_book"):
        apply = exchange.handle_order_book_message

        def applied(client, message, book):
            result = apply(client, message, book)
            show_result(result)
            return result

        exchange.handle_order_book_message = applied
    else:
        asked, open_client = set(), exchange.client
        for ask in ("watch", "watch_multiple"):

            def recorded(url, hashes, *rest, ask=getattr(exchange, ask)):
                asked.update([hashes] if isinstance(hashes, str) else hashes)
                return ask(url, hashes, *rest)

            setattr(exchange, ask, recorded)

        def opened(url):
            client = open_client(url)
            if "resolve" not in vars(client):
                resolve = client.resolve

                def resolved(result, hash):
                    # A replay sends more than was asked for.
                    if hash in asked:
                        show_result(result)
                    return resolve(result, hash)

                client.resolve = resolved
            return client

        exchange.client = opened

    # Of Kraken's books there is one depth; a list of symbols is asked for best bids and asks.
    arguments = {"watch_bids_asks": [[symbol]]}.get(method, [symbol])
    if (name, method) == ("kraken", "watch_order_book"):
        arguments.append(10)
    while True:
        try:
            await getattr(exchange, method)(*arguments)
        except ccxt.NetworkError:
            print("lost", flush=True)


async def rest_api():
    """A server of Binance's snapshots; gives its base URL."""

    async def depth(_):
        return web.json_response(SNAPSHOT)

    app = web.Application()
    app.router.add_get("/depth", depth)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return "http://127.0.0.1:%d" % site._server.sockets[0].getsockname()[1]


async def run(name, base, items, show):
    rest = await rest_api()
    await asyncio.gather(*(watch(name, base, rest, item, show) for item in items))
