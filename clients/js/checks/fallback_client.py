"""Clients of all topics that tell what they see, in lines of JSON; those on stdin name a server, and options of the client."""

import asyncio
import json
import sys
import time
from typing import Any

import fanline

NOTICES = ("gap", "stale", "live", "refused", "skipped")


async def follow(name: str, url: str, options: "dict[str, Any]") -> None:
    transport = "websocket"

    def say(**event: Any) -> None:
        print(json.dumps({"name": name, "event": {"at": time.monotonic() * 1000, **event}}), flush=True)

    def on_state(change: Any) -> None:
        nonlocal transport
        transport = change.transport or transport
        say(state=change.state, transport=transport, reason=change.reason)

    def on_notice(op: str, message: "dict[str, Any]") -> None:
        say(op=op, **{key: message[key] for key in ("offset", "from", "to") if key in message})

    client = fanline.connect(f"{url}/v1/ws", **options)
    client.on("state", on_state)
    for op in NOTICES:
        client.on(op, lambda message, op=op: on_notice(op, message))
    client.subscribe(">", lambda frame: say(op="frame", offset=frame.offset, live=frame.live, transport=transport))
    async with client:
        await client.wait_closed()


async def main() -> None:
    lines, running = asyncio.StreamReader(), []
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async for line in lines:
        running.append(asyncio.create_task(follow(**json.loads(line))))


asyncio.run(main())
