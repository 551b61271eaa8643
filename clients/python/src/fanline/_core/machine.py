"""A client without its sockets and its clock: what the user does and what comes, and what follows from it.

What others than the attempt that serves, and the one that probes, say is ignored.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from .asks import Asks
from .attempt import Answer, Attempt, Hooks, Loss, State
from .connections import Connections
from .errors import Closed, ProtocolError
from .feed import Feed
from .message import Message, is_message, number, reader
from .options import Options
from .polls import Polls
from .server_clock import ServerClock
from .subscription import Subscription
from .token import Tokens
from .watch import BEAT_MS, HEARTBEAT_MS, Watch

# A program that wakes up so much later than it wanted has slept, or was busy.
LAG_MS = 500
# A stream or a poll is opened anew for all subscriptions of this time together.
GATHER_MS = 20
# Messages whose `ts` is when the server sends them.
SAID_NOW = ("welcome", "view", "heartbeat", "pong")


class Machine:
    """Inputs are methods with the time in ms since the Unix epoch; outputs go to the hooks."""

    def __init__(self, options: Options, token: "str | None", asks_token: bool, hooks: Hooks, random: Callable[[], float]) -> None:
        self.options = options
        self.bytes = 0
        self.clock = ServerClock()
        self.tokens = Tokens(token, asks_token)
        self.asks = Asks()
        self.feed = Feed(self._say, hooks.emit, self._take_id)
        self._hooks = hooks
        self._watch = Watch(options)
        self.freshness = self._watch.freshness
        self._connections = Connections(options, self.tokens, self.feed, watch=self._watch, hooks=hooks, random=random, on_lost=self._lost)
        self._polls = Polls(options, self._connections, self.feed, self.tokens, self._watch)
        self._id = 0
        self._was_late = False
        self._read = reader(options.numbers)

    @property
    def state(self) -> State:
        return self._connections.state

    @property
    def closed(self) -> "tuple[Closed, bool] | None":
        """Why the client has ended, and whether the server or the token function ended it."""
        return self._connections.closed

    # -- what the user does

    def start(self, now: float) -> None:
        """Begins; to be called once."""
        self._watch.beat_at = now + BEAT_MS
        self._connections.dial(now)

    def subscribe(self, subscription: Subscription) -> None:
        """To be followed by `flush`."""
        self.feed.add(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """To be followed by `flush`."""
        current = self._connections.current
        if self.feed.remove(subscription) and current and current.transport != "websocket":
            self.feed.let_go()

    def set_pace(self, every_ms: int) -> None:
        """To be followed by `flush`."""
        self._connections.requests.every_ms = self._connections.new_pace = every_ms

    def flush(self, now: float) -> None:
        """Tells the server what has changed since the last time."""
        current = self._connections.current
        if current is None or self.state not in ("open", "connecting"):
            return
        is_paced = self._connections.new_pace is not None
        if current.transport == "websocket":
            if self.state == "open":
                self.feed.flush(self._connections.new_pace)
                self._connections.new_pace = None
        elif self.feed.is_to_flush or (is_paced and current.transport == "sse"):
            self._connections.restream_at = min(self._connections.restream_at, now + GATHER_MS)

    def ask(self, command: Mapping[str, Any], done: "Callable[[Any], None]") -> None:
        """Says a `send` or a `request`; `done` receives the answer or an `AskError`."""
        current = self._connections.current
        if self.state != "open" or current is None:
            self.asks.refuse(done, "not_connected", f"expected an open connection, found it {self.state}")
        elif current.transport != "websocket":
            self.asks.refuse(done, "not_connected", f"expected a WebSocket to say something to the feed, found {current.transport}")
        else:
            id = self._take_id()
            self.asks.add(id, done)
            self._say({**command, "id": id})

    def set_token(self, token: str, now: float) -> None:
        """The user has a new token."""
        self._token_got(token, now)

    def reconnect(self, now: float) -> None:
        """Ends a wait for the next attempt."""
        if self.state == "waiting":
            self._connections.dial(now)

    def wake(self, now: float) -> None:
        """The machine was asleep, or the network has changed: the server must show that it is there."""
        if self.state == "waiting" and not self._connections.is_goodbye_wait:
            self._connections.dial(now)
        elif self.state == "open":
            self._check(now)

    def close(self) -> None:
        """Ends everything."""
        self._connections.end(Closed("closed by this client"), False)

    # -- what the owner reports

    def token(self, token: str, now: float) -> None:
        """The token function has returned."""
        if self.tokens.asking:
            self._token_got(token, now)

    def token_failed(self, reason: str, is_final: bool, now: float) -> None:
        """The token function has failed; `is_final` if there will be no token."""
        if not self.tokens.asking or self.state == "closed":
            return
        if is_final:
            self._connections.end(Closed(reason or "there is no token"), True)
            return
        pause = self._connections.backoff.next_ms()
        self.tokens.failed(now, pause)
        if self._connections.waits_for_token:
            self._connections.waits_for_token = False
            self._connections.wait(now, f"the token function failed: {reason}", pause)

    def opened(self, attempt: Attempt, now: float) -> None:
        """A socket or a stream is open."""
        if attempt not in (self._connections.current, self._connections.probe):
            return
        attempt.is_up = True
        if attempt.transport == "websocket" and self.tokens.token is not None:
            self._say_token(attempt)

    def received(self, attempt: Attempt, text: str, cursor: str, now: float) -> None:
        """A message has come by a socket or a stream; `cursor` is the id of an event."""
        if attempt not in (self._connections.current, self._connections.probe):
            return
        self.bytes += len(text)
        attempt.heard += 1
        try:
            message = self._read(text)
            if not is_message(message) or not isinstance(message.get("op", ""), str):
                raise ValueError
        except (ValueError, RecursionError):
            self._hooks.emit("error", {"op": "error", "code": "bad_json", "message": "expected a JSON object, found something else"})
            return
        try:
            if attempt is self._connections.probe:
                self._receive_probing(attempt, message, now)
            else:
                self._receive(attempt, message, text, cursor, now)
        except ProtocolError as error:
            self._hooks.emit("error", {"op": "error", "code": "bad_message", "message": str(error)})
        self._judge(now)

    def answered(self, attempt: Attempt, answer: Answer, now: float) -> None:
        """A fetch has been answered."""
        if attempt not in (self._connections.current, self._connections.probe):
            return
        self.bytes += len(answer.body)
        try:
            self._polls.answered(attempt, answer, now)
        except (ValueError, RecursionError, ProtocolError) as error:
            self.lost(attempt, Loss(f"expected JSON of fanline, found something else: {str(error)[:100]}"), now)
        self._judge(now)

    def lost(self, attempt: Attempt, loss: Loss, now: float) -> None:
        """A connection has ended, or could not be opened."""
        self._connections.lost(attempt, loss, now)

    @property
    def wake_at(self) -> float:
        """When `tick` is to be called next; infinity once closed."""
        if self.state == "closed":
            return math.inf
        connections = self._connections
        due = [
            connections.dial_at,
            connections.reprobe_at,
            connections.restream_at,
            self._watch.beat_at,
            self._watch.deadline,
            self.tokens.deadline,
            self.tokens.renew_at,
        ]
        for attempt in (connections.current, connections.probe):
            if attempt:
                due += [attempt.deadline, attempt.next_poll_at]
        return min(due)

    def tick(self, now: float) -> None:
        """Does what is due."""
        connections = self._connections
        late = now - self.wake_at
        if self.state == "closed":
            return
        if now >= self.tokens.deadline:
            self.token_failed(f"no answer within {self.options.token_deadline_ms:g} ms", False, now)
        if now >= self.tokens.renew_at:
            connections.ask_token(self.tokens.needed(now) or "expiring", now)
        if now >= connections.dial_at:
            connections.dial(now)
        if now >= connections.reprobe_at:
            connections.dial_probe(now)
        if now >= connections.restream_at:
            connections.gathered(now)
        probe, current = connections.probe, connections.current
        if probe and now >= probe.deadline:
            connections.drop_probe(now)
        if current and late > LAG_MS:
            # A program that slept has not listened: it must not conclude that nobody spoke.
            current.deadline += late
            self._check(now)
        elif current and now >= min(current.deadline, self._watch.deadline):
            reason = "no message from the server in time" if current.heard == 0 else "the server has been silent for too long"
            connections.lose(current, Loss(reason, is_mute=True), now)
        if current and current is connections.current and now >= current.next_poll_at:
            connections.fetch(current, now)
        if now >= self._watch.beat_at and self._watch.beat(now) and current and current.transport == "websocket":
            self._ping(now)
        self._judge(now)

    # -- messages of sockets and streams

    def _receive_probing(self, attempt: Attempt, message: Message, now: float) -> None:
        op = message.get("op")
        if op == "welcome":
            self._connections.promote(attempt, now)
            self._receive(attempt, message, "", "", now)
        elif op in {"goodbye", "close", "error"}:
            self._connections.drop_probe(now)

    def _receive(self, attempt: Attempt, message: Message, text: str, cursor: str, now: float) -> None:
        self._watch.heard(self.state == "open", now)
        ts = message.get("ts")
        if isinstance(ts, int):
            self._hear(message, ts, now)
        op = message.get("op")
        if op is None:
            self.feed.frame(message, text)
        elif self.asks.answer(message):
            pass
        elif op == "welcome":
            self._welcome(attempt, message, now)
        elif op in ("subscribed", "unsubscribed", "skipped", "gap", "view", "heartbeat", "error"):
            getattr(self.feed, op)(message)
        elif op in ("stale", "live", "refused"):
            self.feed.notice(message)
        elif op in ("authenticated", "token_expiring"):
            self.tokens.lives(now, number(message.get("expires_ms"), math.inf), op == "token_expiring")
            if now >= self.tokens.renew_at:
                self._connections.ask_token("expiring", now)
        elif op == "pong":
            self._ponged(message, now)
        elif op == "goodbye":
            attempt.goodbye = message
            self._hooks.emit("goodbye", message)
        elif op == "close":
            self._connections.lose(attempt, Loss(str(message.get("reason", "")), int(number(message.get("code"), 1005))), now)
        if cursor and attempt is self._connections.current:
            self.feed.at(cursor)
        if attempt is self._connections.current and attempt.heard >= 2 and self.state == "open":
            self._connections.ladder.proven()

    def _welcome(self, attempt: Attempt, message: Message, now: float) -> None:
        self._watch.welcomed(attempt.transport, max(number(message.get("heartbeat_ms"), HEARTBEAT_MS), 1), now)
        self.feed.connection = attempt.number
        if attempt.transport == "websocket":
            self._connections.new_pace = None
            plan = self.feed.welcome(message)
            self._connections.greeted(attempt, now)
            if attempt is not self._connections.current:  # A handler has closed the client.
                return
            self.feed.begin(plan)
            self._ping(now)
        else:
            assert attempt.plan is not None
            self.feed.welcome_stream(message, attempt.plan)
            self._connections.greeted(attempt, now)

    def _hear(self, message: Message, ts: int, now: float) -> None:
        """What was said long ago and is repeated, as a current value is, tells nothing of how late this side is."""
        self.clock.heard(now, ts)
        topic = message.get("topic", "")
        if message.get("op") in SAID_NOW:
            self.freshness.heard(now, ts + self.clock.offset)
        elif self.feed.is_live(message):
            self.freshness.heard(now, ts + self.feed.delay_of(topic if isinstance(topic, str) else "") + self.clock.offset)

    def _say(self, command: Message) -> None:
        self._connections.say(command)

    def _take_id(self) -> int:
        self._id += 1
        return self._id

    def _lost(self) -> None:
        """The connection is over: what was asked on it is not answered any more."""
        self.clock.lost()
        self.asks.lose()

    # -- tokens

    def _token_got(self, token: str, now: float) -> None:
        if self.state == "closed":
            return
        self.tokens.got(token, now)
        current = self._connections.current
        if self._connections.waits_for_token:
            self._connections.waits_for_token = False
            self._connections.dial(now)
        elif current and current.is_up and current.transport == "websocket":
            self._say_token(current)
        elif current and current.transport == "sse" and (current.is_up or current.asked):
            self._connections.restream(current, now)

    def _say_token(self, attempt: Attempt) -> None:
        command = {"op": "auth", "id": self._take_id(), "token": self.tokens.token}
        self._hooks.say(attempt, json.dumps(command, separators=(",", ":")))

    # -- time

    def _check(self, now: float) -> None:
        """The server must show soon that it is there."""
        current = self._connections.current
        if current and self.state == "open" and self._watch.probe(current.transport, now):
            self._ping(now)

    def _ping(self, now: float) -> None:
        if self.state != "open":
            return
        id = self._take_id()
        self.clock.asked(id, now)
        self._say({"op": "ping", "id": id})

    def _ponged(self, message: Message, now: float) -> None:
        if self.clock.answered(message.get("id"), number(message.get("ts"), now), now):
            self._ping(now)

    def is_late(self, now: float) -> bool:
        """Whether what is known is too old to be called current."""
        return self.freshness.is_late(now)

    def _judge(self, now: float) -> None:
        late = self.state == "open" and self.is_late(now)
        if late != self._was_late:
            self._was_late = late
            self._hooks.emit("late", {"late": late, "age_ms": self.freshness.age(now)})
