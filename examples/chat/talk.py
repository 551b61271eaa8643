"""Talks in a room: `python talk.py http://127.0.0.1:8080 lobby ann`. Shows what was said before, who is present, and new lines."""

import asyncio
import contextlib
import sys

import fanline


def show(frame: fanline.Frame) -> None:
    data = frame.data
    if "present" in data:
        print(f"-- present: {', '.join(data['present'])}", flush=True)
    else:
        print(f"{data['from']}: {data['text']}", flush=True)


async def talk(client: fanline.Client, room: str, name: str) -> None:
    """Says each line of the terminal until it ends."""
    is_open = asyncio.Event()
    client.on("state", lambda change: is_open.set() if change.state == "open" else is_open.clear())
    await is_open.wait()
    while line := await asyncio.to_thread(sys.stdin.readline):
        if text := line.strip():
            await say(client, room, {"from": name, "text": text})


async def say(client: fanline.Client, room: str, line: dict[str, str]) -> None:
    try:
        await client.send(f"chat.{room}", line)
    except fanline.AskError as error:
        print(f"-- not said: {error}", flush=True)


async def main(url: str, room: str, name: str) -> None:
    async with fanline.connect(url) as client:
        client.subscribe([f"chat.{room}", f"present.{room}"], show)
        await talk(client, room, name)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:4]))
