"""A server of the protocol in the process of a test, as far as the tests need it."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

EPOCH = "00f3a1c29b7d4e58"


class FakeServer:
    """Numbers what is published, and sends it to the connections that have subscribed; patterns are `>` or a topic."""

    def __init__(self) -> None:
        self.commands: "list[dict[str, Any]]" = []
        self.connections: "list[ServerConnection]" = []
        self.patterns: "dict[ServerConnection, set[str]]" = {}
        self.attempts = 0
        self.offset = 0
        self.values: "dict[str, dict[str, Any]]" = {}
        self.heartbeat_ms = 15_000
        self.url = ""

    async def serve(self, connection: ServerConnection) -> None:
        self.attempts += 1
        self.connections.append(connection)
        welcome = {"protocol": "fanline.v1", "epoch": EPOCH, "offset": self.offset, "ts": 1, "heartbeat_ms": self.heartbeat_ms}
        await self.say(connection, op="welcome", **welcome)
        async for text in connection:
            command = json.loads(text)
            self.commands.append(command)
            await self.answer(connection, command)

    async def answer(self, connection: ServerConnection, command: "dict[str, Any]") -> None:
        op, id = command["op"], command.get("id")
        if op == "subscribe":
            topics = command["topics"]
            self.patterns.setdefault(connection, set()).update(topics)
            since = int(command["since"].partition(":")[2]) if "since" in command else 0
            values = [value for value in self.values.values() if value["offset"] > since]
            await self.say(connection, op="subscribed", id=id, topics=topics, offset=self.offset)
            for value in values:
                if ">" in topics or value["topic"] in topics:
                    await self.say(connection, **value)
        elif op == "request":
            await self.say(connection, op="response", id=id, data={"echo": command["data"]})
        elif op == "send":
            await self.say(connection, op="error", id=id, code="forbidden", message="expected less")
        elif op == "auth":
            await self.say(connection, op="authenticated", id=id, sub="a", tier="t", expires_ms=3_600_000)

    async def say(self, connection: ServerConnection, **message: Any) -> None:
        await connection.send(json.dumps(message))

    async def publish(self, topic: str, data: Any, **members: Any) -> int:
        """Returns the offset."""
        self.offset += 1
        frame = {"topic": topic, "offset": self.offset, "ts": 1, "data": data, **members}
        self.values[topic] = frame
        for connection in list(self.connections):
            if self.patterns.get(connection, set()).isdisjoint((topic, ">")):
                continue
            with contextlib.suppress(OSError, Exception):
                await self.say(connection, **frame)
        return self.offset

    async def close_all(self, code: int, reason: str = "") -> None:
        connections, self.connections = self.connections, []
        for connection in connections:
            await connection.close(code, reason)

    def said(self, op: str) -> "list[dict[str, Any]]":
        """Commands of one kind."""
        return [command for command in self.commands if command["op"] == op]


@contextlib.asynccontextmanager
async def fake_server() -> "AsyncIterator[FakeServer]":
    """A server in this loop."""
    server = FakeServer()
    async with serve(server.serve, "127.0.0.1", 0) as listener:
        port = next(iter(listener.sockets)).getsockname()[1]
        server.url = f"http://127.0.0.1:{port}/v1/ws"
        yield server


@contextlib.contextmanager
def fake_server_apart() -> "Iterator[tuple[FakeServer, asyncio.AbstractEventLoop]]":
    """A server in a thread, for clients that block."""
    loop = asyncio.new_event_loop()
    ready: "asyncio.Future[FakeServer]" = loop.create_future()
    done = asyncio.Event()

    async def run() -> None:
        async with fake_server() as server:
            ready.set_result(server)
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()

    async def wait() -> FakeServer:
        return await ready

    try:
        yield asyncio.run_coroutine_threadsafe(wait(), loop).result(10), loop
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()
