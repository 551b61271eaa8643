"""A chat as a feed: rooms, their lines, and who is present. A line comes in as `{"room", "say": {"from", "text"}}`."""

import asyncio
import contextlib
import itertools
import json
import re
import sys
import time
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve

ROOM = re.compile(r"[a-z0-9-]{1,30}")
TEXT_MAX = 500
NAME_MAX = 30
# Who has said nothing for this long is no longer present.
PRESENT_S = 60
PRESENT_MAX = 1000
GREETINGS = ["Welcome to the lobby.", "Say something: everybody in this room sees it.", "Those who come later see it too."]


class Chat:
    """Everybody who is connected hears everything; fanline sorts it by room."""

    def __init__(self) -> None:
        self.listeners: set[ServerConnection] = set()
        self.seen: dict[tuple[str, str], float] = {}

    def tell(self, message: dict[str, Any]) -> None:
        broadcast(self.listeners, json.dumps(message))

    def say(self, room: str, name: str, text: str) -> None:
        self.tell({"room": room, "from": name, "text": text})
        is_new = (room, name) not in self.seen
        if is_new and len(self.seen) >= PRESENT_MAX:
            return
        self.seen[room, name] = time.monotonic()
        if is_new:
            self.tell_present(room)

    def tell_present(self, room: str) -> None:
        self.tell({"room": room, "present": sorted(name for where, name in self.seen if where == room)})

    def forget_absent(self) -> None:
        oldest = time.monotonic() - PRESENT_S
        gone = [who for who, at in self.seen.items() if at < oldest]
        for who in gone:
            del self.seen[who]
        for room in {room for room, _ in gone}:
            self.tell_present(room)

    async def listen(self, connection: ServerConnection) -> None:
        self.listeners.add(connection)
        for room in {room for room, _ in self.seen}:
            self.tell_present(room)
        try:
            async for text in connection:
                line = line_of(text)
                if line:
                    self.say(*line)
        finally:
            self.listeners.discard(connection)


def line_of(text: str | bytes) -> tuple[str, str, str] | None:
    """Room, name and text of what somebody says; None if it is no line of a chat."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        message = json.loads(text)
        room, name, said = message["room"], message["say"]["from"], message["say"]["text"]
        is_text = isinstance(name, str) and isinstance(said, str)
        if is_text and ROOM.fullmatch(room) and 0 < len(name) <= NAME_MAX and 0 < len(said) <= TEXT_MAX:
            return room, name, said
    return None


async def main(port: int) -> None:
    chat = Chat()
    async with serve(chat.listen, "127.0.0.1", port):
        for greeting in itertools.cycle(GREETINGS):
            chat.say("lobby", "host", greeting)
            chat.forget_absent()
            await asyncio.sleep(2)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1])))
