"""The connections of a client, one after the other: as long as it is not closed, someone is trying.

Invariants:
 - At most one attempt serves, and at most one probes a better transport. What others say is ignored.
 - A transport is left for a lower one only because of what it did; a server that is away condemns none.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .asks import Asks
from .attempt import Answer, Attempt, Hooks, Loss, State, StateChange, loss_of
from .backoff import Backoff
from .errors import Closed, ProtocolError
from .feed import Feed, Plan
from .ladder import Ladder
from .message import Message, is_message, number
from .options import Options, Transport
from .requests import Requests
from .server_clock import ServerClock
from .subscription import Subscription
from .token import TokenReason, Tokens
from .watch import BEAT_MS, HEARTBEAT_MS, Watch

# A program that wakes up so much later than it wanted has slept, or was busy.
LAG_MS = 500
# A stream or a poll is opened anew for all subscriptions of this time together.
GATHER_MS = 20
# The token was refused, or has expired.
UNAUTHENTICATED = (4401, 401)
FRESH_TOKEN = 4412
# How a middlebox ends a WebSocket that it does not understand; a stream ends without a code.
CUT = (None, 1002, 1006, 1007)
# Long polls that bring nothing new are put so often at most, whoever answers them at once.
CALM_MS = 1_000
# Messages whose `ts` is when the server sends them.
SAID_NOW = ("welcome", "view", "heartbeat", "pong")


@dataclass
class _Timers:
    """When something is due, in ms; infinity if nothing is."""

    dial_at: float = math.inf
    reprobe_at: float = math.inf
    restream_at: float = math.inf


class Machine:
    """Inputs are methods with the time in ms since the Unix epoch; outputs go to the hooks."""

    def __init__(self, options: Options, token: "str | None", asks_token: bool, hooks: Hooks, random: Callable[[], float]) -> None:
        self.options = options
        self.state: State = "idle"
        self.closed: "tuple[Closed, bool] | None" = None
        """Why the client has ended, and whether the server or the token function ended it."""
        self.bytes = 0
        self.clock = ServerClock()
        self.tokens = Tokens(token, asks_token)
        self.asks = Asks()
        self.feed = Feed(self._say, hooks.emit, self._take_id)
        self._hooks = hooks
        self._ladder = Ladder(options.transports, options.connect_deadline_ms, options.reprobe_ms)
        self._backoff = Backoff(options.backoff_ms, options.backoff_max_ms, random)
        self._timers = _Timers()
        self._watch = Watch(options)
        self._requests = Requests(options, self.tokens)
        self.freshness = self._watch.freshness
        self._current: "Attempt | None" = None
        self._probe: "Attempt | None" = None
        self._waits_for_token = False
        self._number = 0
        self._id = 0
        self._new_pace: "int | None" = None
        self._was_late = False
        self._is_goodbye_wait = False
        self._transport: "Transport | None" = None
        self._parse_float: "Callable[[str], Any] | None" = Decimal if options.numbers == "exact" else None

    # -- what the user does

    def start(self, now: float) -> None:
        """Begins; to be called once."""
        self._watch.beat_at = now + BEAT_MS
        self._dial(now)

    def subscribe(self, subscription: Subscription) -> None:
        """To be followed by `flush`."""
        self.feed.add(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """To be followed by `flush`."""
        if self.feed.remove(subscription) and self._current and self._current.transport != "websocket":
            self.feed.let_go()

    def set_pace(self, every_ms: int) -> None:
        """To be followed by `flush`."""
        self._requests.every_ms = self._new_pace = every_ms

    def flush(self, now: float) -> None:
        """Tells the server what has changed since the last time."""
        current = self._current
        if current is None or self.state not in ("open", "connecting"):
            return
        is_paced = self._new_pace is not None
        if current.transport == "websocket":
            if self.state == "open":
                self.feed.flush(self._new_pace)
                self._new_pace = None
        elif self.feed.is_to_flush or (is_paced and current.transport == "sse"):
            self._timers.restream_at = min(self._timers.restream_at, now + GATHER_MS)

    def ask(self, command: Mapping[str, Any], done: "Callable[[Any], None]") -> None:
        """Says a `send` or a `request`; `done` receives the answer or an `AskError`."""
        current = self._current
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
            self._dial(now)

    def wake(self, now: float) -> None:
        """The machine was asleep, or the network has changed: the server must show that it is there."""
        if self.state == "waiting" and not self._is_goodbye_wait:
            self._dial(now)
        elif self.state == "open":
            self._check(now)

    def close(self) -> None:
        """Ends everything."""
        self._end(Closed("closed by this client"), False)

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
            self._end(Closed(reason or "there is no token"), True)
            return
        pause = self._backoff.next_ms()
        self.tokens.failed(now, pause)
        if self._waits_for_token:
            self._waits_for_token = False
            self._wait(now, f"the token function failed: {reason}", pause)

    def opened(self, attempt: Attempt, now: float) -> None:
        """A socket or a stream is open."""
        if attempt not in (self._current, self._probe):
            return
        attempt.is_up = True
        if attempt.transport == "websocket" and self.tokens.token is not None:
            self._say_token(attempt)

    def received(self, attempt: Attempt, text: str, cursor: str, now: float) -> None:
        """A message has come by a socket or a stream; `cursor` is the id of an event."""
        if attempt not in (self._current, self._probe):
            return
        self.bytes += len(text)
        attempt.heard += 1
        try:
            message = json.loads(text, parse_float=self._parse_float)
            if not is_message(message) or not isinstance(message.get("op", ""), str):
                raise ValueError
        except (ValueError, RecursionError):
            self._hooks.emit("error", {"op": "error", "code": "bad_json", "message": "expected a JSON object, found something else"})
            return
        try:
            if attempt is self._probe:
                self._receive_probing(attempt, message, now)
            else:
                self._receive(attempt, message, text, cursor, now)
        except ProtocolError as error:
            self._hooks.emit("error", {"op": "error", "code": "bad_message", "message": str(error)})
        self._judge(now)

    def answered(self, attempt: Attempt, answer: Answer, now: float) -> None:
        """A fetch has been answered."""
        if attempt not in (self._current, self._probe):
            return
        try:
            self._answer(attempt, answer, now)
        except (ValueError, RecursionError, ProtocolError) as error:
            self.lost(attempt, Loss(f"expected JSON of fanline, found something else: {str(error)[:100]}"), now)
        self._judge(now)

    def lost(self, attempt: Attempt, loss: Loss, now: float) -> None:
        """A connection has ended, or could not be opened."""
        if attempt is self._probe:
            self._drop_probe(now)
        elif attempt is self._current:
            self._lose(attempt, loss, now)

    @property
    def wake_at(self) -> float:
        """When `tick` is to be called next; infinity once closed."""
        if self.state == "closed":
            return math.inf
        timers = self._timers
        due = [
            timers.dial_at,
            timers.reprobe_at,
            timers.restream_at,
            self._watch.beat_at,
            self._watch.deadline,
            self.tokens.deadline,
            self.tokens.renew_at,
        ]
        for attempt in (self._current, self._probe):
            if attempt:
                due += [attempt.deadline, attempt.next_poll_at]
        return min(due)

    def tick(self, now: float) -> None:
        """Does what is due."""
        timers = self._timers
        slept = now > self.wake_at + LAG_MS
        if self.state == "closed":
            return
        if now >= self.tokens.deadline:
            self.token_failed(f"no answer within {self.options.token_deadline_ms:g} ms", False, now)
        if now >= self.tokens.renew_at:
            self._ask_token(self.tokens.needed(now) or "expiring", now)
        if now >= timers.dial_at:
            self._dial(now)
        if now >= timers.reprobe_at:
            self._dial_probe(now)
        if now >= timers.restream_at:
            self._gathered(now)
        probe, current = self._probe, self._current
        if probe and now >= probe.deadline:
            self._drop_probe(now)
        if current and slept:
            # A program that slept has not listened: it must not conclude that nobody spoke.
            current.deadline = max(current.deadline, now + self.options.probe_deadline_ms)
            self._check(now)
        elif current and now >= min(current.deadline, self._watch.deadline):
            reason = "no message from the server in time" if current.heard == 0 else "the server has been silent for too long"
            self._lose(current, Loss(reason, is_mute=True), now)
        if current and current is self._current and now >= current.next_poll_at:
            self._fetch(current, now)
        if now >= self._watch.beat_at and self._watch.beat(now) and current and current.transport == "websocket":
            self._ping(now)
        self._judge(now)

    # -- connections

    def _dial(self, now: float) -> None:
        self._timers.dial_at = math.inf
        self._is_goodbye_wait = False
        transport = self._ladder.transport
        self._set_state(StateChange("connecting", transport=transport))
        if self.state != "connecting":
            return  # A handler has closed the client.
        reason = self.tokens.needed(now)
        if reason or self.tokens.asking:
            self._waits_for_token = True
            self._ask_token(reason or "expiring", now)
            return
        self._number += 1
        attempt = Attempt(self._number, transport, False, now + self._ladder.deadline_ms)
        self._current = attempt
        self._watch.dialled(transport, now)
        self._begin(attempt, now)

    def _dial_probe(self, now: float) -> None:
        """Tries the best transport beside the one that serves."""
        self._timers.reprobe_at = math.inf
        if self.state != "open" or self._ladder.is_best or self._probe:
            return
        self._number += 1
        attempt = Attempt(self._number, self._ladder.best, True, now + self.options.connect_deadline_ms)
        self._probe = attempt
        self._begin(attempt, now)

    def _begin(self, attempt: Attempt, now: float) -> None:
        if attempt.transport == "websocket":
            self._hooks.open_socket(attempt, self._requests.socket())
            return
        if not self.feed.wanted:  # A query without topics would ask for all.
            attempt.deadline = math.inf
            return
        if math.isinf(attempt.deadline):
            attempt.deadline = now + self._ladder.deadline_ms
        attempt.plan = plan = self.feed.plan()
        attempt.asked = tuple(sorted(plan.resumed + plan.fresh))
        if plan.resumed and plan.fresh and attempt.transport != "poll":
            attempt.filling = plan.fresh
            self._hooks.fetch(attempt, *self._requests.snapshot(plan.fresh))
        elif attempt.transport == "sse":
            self._open_stream(attempt)
        else:
            self._fetch(attempt, now)

    def _open_stream(self, attempt: Attempt) -> None:
        since = attempt.plan.since if attempt.plan else None
        self._hooks.open_stream(attempt, *self._requests.stream(attempt.asked, since))

    def _fetch(self, attempt: Attempt, now: float) -> None:
        attempt.next_poll_at = math.inf
        if attempt.transport == "poll":
            self._await_answer(attempt, now, 0)
            self._hooks.fetch(attempt, *self._requests.snapshot(attempt.asked, attempt.etag))
            return
        plan = attempt.plan
        since = plan.since if plan else None
        # While there is more, and for the first answer, nothing is to be waited for.
        wait_ms = self.options.wait_ms if since and self.feed.caught_up and attempt.heard else 0
        attempt.calm_at = now + (min(wait_ms, CALM_MS) if self.feed.caught_up else CALM_MS)
        self._await_answer(attempt, now, wait_ms)
        self._hooks.fetch(attempt, *self._requests.poll(attempt.asked, since, wait_ms))

    def _await_answer(self, attempt: Attempt, now: float, wait_ms: float) -> None:
        attempt.deadline = now + wait_ms + self._ladder.deadline_ms

    def _gathered(self, now: float) -> None:
        """What was subscribed to and given back in the last moment is told together."""
        self._timers.restream_at = math.inf
        current = self._current
        if current is None or current.transport == "websocket":
            return
        if not current.asked:
            self._begin(current, now)
        else:
            self._restream(current, now)

    def _restream(self, attempt: Attempt, now: float) -> None:
        """Opens the same transport anew, for other patterns, another pace or another token."""
        self._timers.restream_at = math.inf
        self._new_pace = None
        self._hooks.hang_up(attempt)
        self.feed.lost()
        self._number += 1
        fresh = Attempt(self._number, attempt.transport, False, now + self._ladder.deadline_ms)
        fresh.welcomed_at = attempt.welcomed_at
        self._current = fresh
        self._watch.deadline = math.inf
        self.feed.forget_unwanted()
        self._begin(fresh, now)

    def _lose(self, attempt: Attempt, loss: Loss, now: float) -> None:
        was_stable = self.state == "open" and now - attempt.welcomed_at > self.options.stable_ms
        self._drop(attempt)
        self.feed.lost()
        self.clock.lost()
        self.asks.lose()
        self.tokens.lost()
        if was_stable:
            self._backoff.reset()
            self.tokens.accepted()
            self._ladder.lasted()
        code = loss.code
        if code is not None and (4500 <= code <= 4999 or (code == 204 and attempt.transport == "sse")):
            return self._end(Closed(loss.reason, code), True)
        if code in UNAUTHENTICATED and self.tokens.refuse():
            return self._end(Closed(loss.reason, code), True)
        if loss.error == "bad_cursor" and attempt.plan and attempt.plan.since:
            self.feed.refuse_cursor(attempt.plan.since)
        if code == FRESH_TOKEN:
            self.tokens.spend()
        is_excused = (
            loss.error == "bad_cursor" or loss.is_away or attempt.goodbye or code in UNAUTHENTICATED or loss.retry_after_ms or was_stable
        )
        if not is_excused and attempt.heard < 2:
            self._ladder.failed(loss.is_mute)
        elif not is_excused and code in CUT:
            self._ladder.cut()
        delay = self._backoff.next_ms()
        goodbye = attempt.goodbye
        if goodbye:
            return self._wait(now, str(goodbye.get("message") or loss.reason), number(goodbye.get("reconnect_ms"), delay), True)
        self._wait(now, loss.reason, max(delay, loss.retry_after_ms), loss.retry_after_ms > 0)

    def _wait(self, now: float, reason: str, retry_ms: float, is_asked: bool = False) -> None:
        self._is_goodbye_wait = is_asked
        self._timers.dial_at = now + retry_ms
        self._set_state(StateChange("waiting", reason, retry_ms))
        self.feed.judge()

    def _end(self, closed: Closed, is_terminal: bool) -> None:
        if self.state == "closed":
            return
        if self._current:
            self._drop(self._current)
        self.asks.lose()
        for subscription in list(self.feed.subscriptions):
            self.feed.remove(subscription)
        self.closed = (closed, is_terminal)
        self._set_state(StateChange("closed", closed.reason))

    def _drop(self, attempt: Attempt) -> None:
        self._hooks.hang_up(attempt)
        if self._probe:
            self._hooks.hang_up(self._probe)
        self._current = self._probe = None
        self._watch.deadline = self._timers.reprobe_at = self._timers.restream_at = math.inf

    def _drop_probe(self, now: float) -> None:
        if self._probe:
            self._hooks.hang_up(self._probe)
            self._probe = None
            self._timers.reprobe_at = now + self._ladder.reprobe_ms()

    def _promote(self, attempt: Attempt, now: float) -> None:
        """What was probed serves from now on."""
        if self._current:
            self._hooks.hang_up(self._current)
        self.feed.lost()
        self._current, self._probe = attempt, None
        attempt.is_probe = False
        self._ladder.promote()
        self._watch.bound(attempt.transport)

    def _greeted(self, attempt: Attempt, now: float) -> None:
        """The server has said the first thing on a connection."""
        attempt.welcomed_at = now
        attempt.deadline = math.inf
        if self.state != "open" or self._transport != attempt.transport:
            self._transport = attempt.transport
            self._set_state(StateChange("open", transport=attempt.transport))
        if not self._ladder.is_best and math.isinf(self._timers.reprobe_at) and self._probe is None:
            self._timers.reprobe_at = now + self._ladder.reprobe_ms()

    # -- messages of sockets and streams

    def _receive_probing(self, attempt: Attempt, message: Message, now: float) -> None:
        op = message.get("op")
        if op == "welcome":
            self._promote(attempt, now)
            self._receive(attempt, message, "", "", now)
        elif op in {"goodbye", "close", "error"}:
            self._drop_probe(now)

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
                self._ask_token("expiring", now)
        elif op == "pong":
            self._ponged(message, now)
        elif op == "goodbye":
            attempt.goodbye = message
            self._hooks.emit("goodbye", message)
        elif op == "close":
            self._lose(attempt, Loss(str(message.get("reason", "")), int(number(message.get("code"), 1005))), now)
        if cursor and attempt is self._current:
            self.feed.at(cursor)
        if attempt is self._current and attempt.heard >= 2 and self.state == "open":
            self._ladder.proven()

    def _welcome(self, attempt: Attempt, message: Message, now: float) -> None:
        self._watch.welcomed(attempt.transport, max(number(message.get("heartbeat_ms"), HEARTBEAT_MS), 1), now)
        self.feed.connection = attempt.number
        if attempt.transport == "websocket":
            self._new_pace = None
            plan = self.feed.welcome(message)
            self._greeted(attempt, now)
            if attempt is not self._current:  # A handler has closed the client.
                return
            self.feed.begin(plan)
            self._ping(now)
        else:
            assert attempt.plan is not None
            self.feed.welcome_stream(message, attempt.plan)
            self._greeted(attempt, now)

    def _hear(self, message: Message, ts: int, now: float) -> None:
        """What was said long ago and is repeated, as a current value is, tells nothing of how late this side is."""
        self.clock.heard(now, ts)
        topic = message.get("topic", "")
        if message.get("op") in SAID_NOW:
            self.freshness.heard(now, ts + self.clock.offset)
        elif self.feed.is_live(message):
            self.freshness.heard(now, ts + self.feed.delay_of(topic if isinstance(topic, str) else "") + self.clock.offset)

    def _say(self, command: Message) -> None:
        if self._current and self._current.is_up and self._current.transport == "websocket":
            self._hooks.say(self._current, json.dumps(command, separators=(",", ":"), ensure_ascii=False))

    def _take_id(self) -> int:
        self._id += 1
        return self._id

    # -- polls

    def _answer(self, attempt: Attempt, answer: Answer, now: float) -> None:
        if answer.status in (200, 204, 304):
            self._watch.answered(now)
        if attempt.filling:
            self._fill(attempt, answer, now)
        elif answer.status in (200, 204 if attempt.transport == "longpoll" else 304):
            self._polled(attempt, answer, now)
        else:
            self.lost(attempt, loss_of(answer), now)

    def _fill(self, attempt: Attempt, answer: Answer, now: float) -> None:
        """The current values of new patterns have come: the stream continues where both they and the old patterns are."""
        attempt.filling = ()
        plan = attempt.plan
        assert plan is not None
        if answer.status == 200:
            since = self.feed.fill(self._json(answer), plan)
            everything = plan.resumed + plan.fresh
            attempt.plan = Plan(everything, (), since) if since else Plan((), everything, None)
        elif answer.status == 404:
            attempt.plan = Plan((), plan.resumed + plan.fresh, None)
        else:
            return self.lost(attempt, loss_of(answer), now)
        if attempt.transport == "sse":
            self._open_stream(attempt)
        else:
            self._fetch(attempt, now)

    def _polled(self, attempt: Attempt, answer: Answer, now: float) -> None:
        if attempt is self._probe:
            self._promote(attempt, now)
        is_first = attempt.heard == 0
        attempt.heard += 1
        attempt.deadline = math.inf
        self.bytes += len(answer.body)
        self.feed.connection = attempt.number
        said_at = now - 1000 * number(answer.headers.get("age"), 0)
        if is_first:
            self._greeted(attempt, now)
            if attempt is not self._current:
                return
        if answer.status == 200:
            body = self._json(answer)
            is_whole = attempt.transport == "poll" or attempt.plan is None or attempt.plan.since is None
            self.feed.poll(body, attempt.asked, is_live=self.feed.caught_up and not is_first, is_whole=is_whole)
            cursor = body.get("next") or f"{body.get('epoch')}:{body.get('offset')}"
        else:
            self.feed.confirm(attempt.asked)
            cursor = answer.headers.get("fanline-next", "")
            self.feed.feed_state(answer.headers.get("fanline-feed"), {})
        if attempt is not self._current:
            return
        is_new = cursor and not (attempt.plan and cursor == attempt.plan.since)
        if attempt.transport == "longpoll" and isinstance(cursor, str) and cursor:
            self.feed.move(cursor)
            attempt.plan = Plan(attempt.asked, (), cursor)
        attempt.etag = answer.headers.get("etag", attempt.etag)
        self.freshness.heard(now, said_at)
        if attempt.heard >= 2:
            self._ladder.proven()
            if now - attempt.welcomed_at > self.options.stable_ms:
                self._backoff.reset()
                self.tokens.accepted()
        if self.feed.is_to_flush:
            self._restream(attempt, now)
        elif attempt.transport == "poll":
            attempt.next_poll_at = now + max(self.options.poll_ms, self._requests.every_ms)
        else:
            attempt.next_poll_at = now + (self._requests.every_ms if self.feed.caught_up else 0)
            if not is_new:
                attempt.next_poll_at = max(attempt.next_poll_at, attempt.calm_at)

    def _json(self, answer: Answer) -> Message:
        body = json.loads(answer.body, parse_float=self._parse_float)
        if not is_message(body):
            raise ProtocolError("expected a JSON object")
        return body

    # -- tokens

    def _ask_token(self, reason: TokenReason, now: float) -> None:
        if self.tokens.asking:
            return
        self.tokens.ask(now + self.options.token_deadline_ms)
        self._hooks.ask_token(reason)

    def _token_got(self, token: str, now: float) -> None:
        if self.state == "closed":
            return
        self.tokens.got(token, now)
        current = self._current
        if self._waits_for_token:
            self._waits_for_token = False
            self._dial(now)
        elif current and current.is_up and current.transport == "websocket":
            self._say_token(current)
        elif current and current.transport == "sse" and (current.is_up or current.asked):
            self._restream(current, now)

    def _say_token(self, attempt: Attempt) -> None:
        command = {"op": "auth", "id": self._take_id(), "token": self.tokens.token}
        self._hooks.say(attempt, json.dumps(command, separators=(",", ":")))

    # -- time

    def _check(self, now: float) -> None:
        """The server must show soon that it is there."""
        current = self._current
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

    def _set_state(self, change: StateChange) -> None:
        self.state = change.state
        self._hooks.emit("state", change)
