"""Whether the server is there: when it must have said something, and when it is asked.

A WebSocket is asked by pings. The other transports cannot ask: there the server speaks at its own times.
"""

import math

from .freshness import SILENT_MS_MAX, Freshness
from .options import Options, Transport

BEAT_MS = 1_000
BEATS_PER_PING = 5
# A server that was silent for this long is asked whether it is there.
SILENT_MS = 2_000
# The server's default; its welcome says the true one.
HEARTBEAT_MS = 15_000
# A second is seen by a person; a network and a busy program that are well need less.
LATE_MS = 1_000


class Watch:
    """What was heard when, on the connection in use."""

    def __init__(self, options: Options) -> None:
        self.deadline = math.inf
        """When silence is a loss."""
        self.beat_at = math.inf
        self.freshness = Freshness(self._late_ms(options, "websocket"))
        self._options = options
        self._heartbeat_ms: float = HEARTBEAT_MS
        self._heard_at = 0.0
        self._beats = 0

    def dialled(self, transport: Transport, now: float) -> None:
        """There is a new attempt, which has a deadline of its own."""
        self.deadline = math.inf
        self._heard_at = now
        self.bound(transport)

    def bound(self, transport: Transport) -> None:
        """A transport serves: how late its messages may be, and how long it may be silent."""
        silent_ms = {
            "websocket": SILENT_MS_MAX,
            "sse": 2 * self._heartbeat_ms,
            "longpoll": self._options.wait_ms + SILENT_MS_MAX,
            "poll": self._options.poll_ms + SILENT_MS_MAX,
        }[transport]
        self.freshness.set_bounds(self._late_ms(self._options, transport), silent_ms)

    def welcomed(self, transport: Transport, heartbeat_ms: float, now: float) -> None:
        """The server has greeted, and said how often it speaks."""
        self._heartbeat_ms = heartbeat_ms
        self.deadline = now + 2 * heartbeat_ms
        self.bound(transport)

    def heard(self, is_open: bool, now: float) -> None:
        """A message has come."""
        self._heard_at = now
        if is_open:
            self.deadline = now + 2 * self._heartbeat_ms

    def answered(self, now: float) -> None:
        """A poll was answered; the next one has a deadline of its own."""
        self._heard_at = now

    def probe(self, transport: Transport, now: float) -> bool:
        """The server must show soon that it is there. Returns whether it is to be asked."""
        if transport == "websocket":
            self.deadline = now + self._options.probe_deadline_ms
        elif transport == "sse":
            self.deadline = now + max(self._options.probe_deadline_ms, self._heartbeat_ms)
        return transport == "websocket"

    def beat(self, now: float) -> bool:
        """A second has passed. Returns whether a server that can be asked is to be asked."""
        self.beat_at = now + BEAT_MS
        self._beats += 1
        return self._beats % BEATS_PER_PING == 0 or now - self._heard_at >= SILENT_MS

    @staticmethod
    def _late_ms(options: Options, transport: Transport) -> float:
        own = options.late_ms if options.late_ms is not None else LATE_MS + options.every_ms
        return own + {"websocket": 0, "sse": 0, "longpoll": LATE_MS, "poll": options.poll_ms + LATE_MS}[transport]
