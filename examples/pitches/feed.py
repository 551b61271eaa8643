"""Invented football: the scores and the clocks of eight pitches, and the page that shows them."""

import asyncio
import contextlib
import http
import itertools
import json
import random
import sys
from pathlib import Path

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.http11 import Request, Response

PITCHES = 8
MATCH_MINUTES = 90
# A minute of a match; each pitch kicks off at another time.
MINUTE_S = 0.5
GOALS_PER_MINUTE = 0.06
PAGE = Path(__file__).with_name("page.html")


def show_page(connection: ServerConnection, request: Request) -> Response | None:
    """What is no WebSocket is a browser that wants the page."""
    if "Upgrade" in request.headers:
        return None
    response = connection.respond(http.HTTPStatus.OK, PAGE.read_text())
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "text/html; charset=utf-8"
    return response


class Pitches:
    """What is said once, fanline keeps for those who come later; fanline itself may come later too."""

    def __init__(self) -> None:
        self.listeners: set[ServerConnection] = set()
        self.scores = [{"home": 0, "away": 0} for _ in range(PITCHES)]

    def tell(self, pitch: int, kind: str, facts: dict[str, int]) -> None:
        broadcast(self.listeners, json.dumps({"pitch": str(pitch + 1), "kind": kind, **facts}))

    async def play(self, pitch: int) -> None:
        """One match after the other."""
        for minute in itertools.count(pitch * MATCH_MINUTES // PITCHES):
            score = self.scores[pitch]
            if minute % MATCH_MINUTES == 0:
                score.update(home=0, away=0)
                self.tell(pitch, "score", score)
            if random.random() < GOALS_PER_MINUTE:
                score[random.choice(["home", "away"])] += 1
                self.tell(pitch, "score", score)
            self.tell(pitch, "clock", {"minute": minute % MATCH_MINUTES})
            await asyncio.sleep(MINUTE_S)

    async def listen(self, connection: ServerConnection) -> None:
        self.listeners.add(connection)
        for pitch, score in enumerate(self.scores):
            self.tell(pitch, "score", score)
        await connection.wait_closed()
        self.listeners.discard(connection)


async def main(port: int) -> None:
    pitches = Pitches()
    async with serve(pitches.listen, "127.0.0.1", port, process_request=show_page):
        await asyncio.gather(*map(pitches.play, range(PITCHES)))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1])))
