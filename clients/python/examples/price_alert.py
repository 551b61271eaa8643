"""A bot that says when a price leaves its band.

    python price_alert.py http://127.0.0.1:8080 quote.AAPL bid 0.5

It watches one number of a topic and speaks whenever the number is more than so many percent away from where it last
spoke. It acts only on values that are current, and says so when they are not.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import fanline


async def alerts(client: fanline.Client, topic: str, member: str, percent: float) -> AsyncIterator[str]:
    """A sentence for each move."""
    base: float | None = None
    async for frame in client.frames(topic):
        price = frame.data.get(member) if isinstance(frame.data, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if not isinstance(price, (int, float)) or not client.is_current(topic):
            continue
        if base is None:
            yield f"{topic}: watching {member} from {price}"
        elif abs(price - base) < base * percent / 100:
            continue
        else:
            yield f"{topic}: {member} moved {100 * (price - base) / base:+.2f} % to {price}"
        base = price


def announce(client: fanline.Client, say: Callable[[str], Any]) -> None:
    """Says when values cannot be relied on."""
    client.on("stale", lambda message: say(f"stale: {message.get('message')}"))
    client.on("live", lambda message: say("live again"))
    client.on("state", lambda change: say(f"{change.state}: {change.reason}") if change.state == "waiting" else None)


async def main() -> None:
    """Until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("topic")
    parser.add_argument("member")
    parser.add_argument("percent", type=float)
    options = parser.parse_args()
    async with fanline.connect(options.url) as client:
        announce(client, print)
        async for sentence in alerts(client, options.topic, options.member, options.percent):
            print(sentence, flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
