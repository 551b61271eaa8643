"""The connections of a client, one after the other: as long as it is not closed, someone is trying.

Invariants:
 - At most one attempt serves, and at most one probes a better transport.
 - A transport is left for a lower one only because of what it did; a server that is away condemns none.
"""

import json
import math
from collections.abc import Callable

from .attempt import Attempt, Hooks, Loss, State, StateChange
from .backoff import Backoff
from .errors import Closed
from .feed import Feed
from .ladder import Ladder
from .message import Message, number
from .options import Options, Transport
from .requests import Requests
from .token import TokenReason, Tokens
from .watch import Watch

# The token was refused, or has expired.
UNAUTHENTICATED = (4401, 401)
FRESH_TOKEN = 4412
# How a middlebox ends a WebSocket that it does not understand; a stream ends without a code.
CUT = (None, 1002, 1006, 1007)
# Long polls that bring nothing new are put so often at most, whoever answers them at once.
CALM_MS = 1_000


class Connections:
    """Begins, ends and changes them; what comes by them is the machine's."""

    def __init__(
        self,
        options: Options,
        tokens: Tokens,
        feed: Feed,
        *,
        watch: Watch,
        hooks: Hooks,
        random: Callable[[], float],
        on_lost: Callable[[], None],
    ) -> None:
        self.state: State = "idle"
        self.closed: "tuple[Closed, bool] | None" = None
        """Why the client has ended, and whether the server or the token function ended it."""
        self.current: "Attempt | None" = None
        self.probe: "Attempt | None" = None
        self.dial_at = self.reprobe_at = self.restream_at = math.inf
        self.waits_for_token = False
        self.is_goodbye_wait = False
        """The server has said when to come back."""
        self.new_pace: "int | None" = None
        self.requests = Requests(options, tokens)
        self.ladder = Ladder(options.transports, options.connect_deadline_ms, options.reprobe_ms)
        self.backoff = Backoff(options.backoff_ms, options.backoff_max_ms, random)
        self._options = options
        self._tokens = tokens
        self._feed = feed
        self._watch = watch
        self._hooks = hooks
        self._on_lost = on_lost
        self._number = 0
        self._transport: "Transport | None" = None

    def dial(self, now: float) -> None:
        """Begins an attempt, once there is a token."""
        self.dial_at = math.inf
        self.is_goodbye_wait = False
        transport = self.ladder.transport
        self._set_state(StateChange("connecting", transport=transport))
        if self.state != "connecting":
            return  # A handler has closed the client.
        reason = self._tokens.needed(now)
        if reason or self._tokens.asking:
            self.waits_for_token = True
            self.ask_token(reason or "expiring", now)
            return
        self._number += 1
        attempt = Attempt(self._number, transport, False, now + self.ladder.deadline_ms)
        self.current = attempt
        self._watch.dialled(transport, now)
        self.begin(attempt, now)

    def dial_probe(self, now: float) -> None:
        """Tries the best transport beside the one that serves."""
        self.reprobe_at = math.inf
        if self.state != "open" or self.ladder.is_best or self.probe:
            return
        self._number += 1
        attempt = Attempt(self._number, self.ladder.best, True, now + self._options.connect_deadline_ms)
        self.probe = attempt
        self.begin(attempt, now)

    def begin(self, attempt: Attempt, now: float) -> None:
        """Opens it, or asks first for what it lacks."""
        if attempt.transport == "websocket":
            self._hooks.open_socket(attempt, self.requests.socket())
            return
        if not self._feed.wanted:  # A query without topics would ask for all.
            attempt.deadline = math.inf
            return
        if math.isinf(attempt.deadline):
            attempt.deadline = now + self.ladder.deadline_ms
        attempt.plan = plan = self._feed.plan()
        attempt.asked = tuple(sorted(plan.resumed + plan.fresh))
        if plan.resumed and plan.fresh and attempt.transport != "poll":
            attempt.filling = plan.fresh
            self._hooks.fetch(attempt, *self.requests.snapshot(plan.fresh))
        elif attempt.transport == "sse":
            self.open_stream(attempt)
        else:
            self.fetch(attempt, now)

    def open_stream(self, attempt: Attempt) -> None:
        """Opens a stream of events where its plan says."""
        since = attempt.plan.since if attempt.plan else None
        self._hooks.open_stream(attempt, *self.requests.stream(attempt.asked, since))

    def fetch(self, attempt: Attempt, now: float) -> None:
        """Puts a poll."""
        attempt.next_poll_at = math.inf
        if attempt.transport == "poll":
            self._await_answer(attempt, now, 0)
            self._hooks.fetch(attempt, *self.requests.snapshot(attempt.asked, attempt.etag))
            return
        plan = attempt.plan
        since = plan.since if plan else None
        # While there is more, and for the first answer, nothing is to be waited for.
        wait_ms = self._options.wait_ms if since and self._feed.caught_up and attempt.heard else 0
        attempt.calm_at = now + (min(wait_ms, CALM_MS) if self._feed.caught_up else CALM_MS)
        self._await_answer(attempt, now, wait_ms)
        self._hooks.fetch(attempt, *self.requests.poll(attempt.asked, since, wait_ms))

    def _await_answer(self, attempt: Attempt, now: float, wait_ms: float) -> None:
        attempt.deadline = now + wait_ms + self.ladder.deadline_ms

    def gathered(self, now: float) -> None:
        """What was subscribed to and given back in the last moment is told together."""
        self.restream_at = math.inf
        current = self.current
        if current is None or current.transport == "websocket":
            return
        if not current.asked:
            self.begin(current, now)
        else:
            self.restream(current, now)

    def restream(self, attempt: Attempt, now: float) -> None:
        """Opens the same transport anew, for other patterns, another pace or another token."""
        self.restream_at = math.inf
        self.new_pace = None
        self._hooks.hang_up(attempt)
        self._feed.lost()
        self._number += 1
        fresh = Attempt(self._number, attempt.transport, False, now + self.ladder.deadline_ms)
        fresh.welcomed_at = attempt.welcomed_at
        self.current = fresh
        self._watch.deadline = math.inf
        self._feed.forget_unwanted()
        self.begin(fresh, now)

    def lost(self, attempt: Attempt, loss: Loss, now: float) -> None:
        """An attempt has ended, or could not be opened."""
        if attempt is self.probe:
            self.drop_probe(now)
        elif attempt is self.current:
            self.lose(attempt, loss, now)

    def lose(self, attempt: Attempt, loss: Loss, now: float) -> None:
        """The attempt that serves is over: the next one follows, or the client has ended."""
        was_stable = self.state == "open" and now - attempt.welcomed_at > self._options.stable_ms
        self._drop(attempt)
        self._feed.lost()
        self._tokens.lost()
        self._on_lost()
        if was_stable:
            self.backoff.reset()
            self._tokens.accepted()
            self.ladder.lasted()
        code = loss.code
        if code is not None and (4500 <= code <= 4999 or (code == 204 and attempt.transport == "sse")):
            return self.end(Closed(loss.reason, code), True)
        if code in UNAUTHENTICATED and self._tokens.refuse():
            return self.end(Closed(loss.reason, code), True)
        if loss.error == "bad_cursor" and attempt.plan and attempt.plan.since:
            self._feed.refuse_cursor(attempt.plan.since)
        if code == FRESH_TOKEN:
            self._tokens.spend()
        is_excused = (
            loss.error == "bad_cursor" or loss.is_away or attempt.goodbye or code in UNAUTHENTICATED or loss.retry_after_ms or was_stable
        )
        if not is_excused and attempt.heard < 2:
            self.ladder.failed(loss.is_mute)
        elif not is_excused and code in CUT:
            self.ladder.cut()
        # The next transport is tried at once; a new round waits.
        is_lower = self.ladder.transport != attempt.transport and not self.ladder.is_best
        delay = 0 if is_lower else self.backoff.next_ms()
        goodbye = attempt.goodbye
        if goodbye:
            return self.wait(now, str(goodbye.get("message") or loss.reason), number(goodbye.get("reconnect_ms"), delay), True)
        self.wait(now, loss.reason, max(delay, loss.retry_after_ms), loss.retry_after_ms > 0)

    def wait(self, now: float, reason: str, retry_ms: float, is_asked: bool = False) -> None:
        """The next attempt comes later."""
        self.is_goodbye_wait = is_asked
        self.dial_at = now + retry_ms
        self._set_state(StateChange("waiting", reason, retry_ms))
        self._feed.judge()

    def end(self, closed: Closed, is_terminal: bool) -> None:
        """For good."""
        if self.state == "closed":
            return
        if self.current:
            self._drop(self.current)
        self._on_lost()
        for subscription in list(self._feed.subscriptions):
            self._feed.remove(subscription)
        self.closed = (closed, is_terminal)
        self._set_state(StateChange("closed", closed.reason))

    def _drop(self, attempt: Attempt) -> None:
        self._hooks.hang_up(attempt)
        if self.probe:
            self._hooks.hang_up(self.probe)
        self.current = self.probe = None
        self._watch.deadline = self.reprobe_at = self.restream_at = math.inf

    def drop_probe(self, now: float) -> None:
        """What was probed does not work: it is tried again later."""
        if self.probe:
            self._hooks.hang_up(self.probe)
            self.probe = None
            self.reprobe_at = now + self.ladder.reprobe_ms()

    def promote(self, attempt: Attempt, now: float) -> None:
        """What was probed serves from now on."""
        if self.current:
            self._hooks.hang_up(self.current)
        self._feed.lost()
        self.current, self.probe = attempt, None
        attempt.is_probe = False
        self.ladder.promote()
        self._watch.bound(attempt.transport)

    def greeted(self, attempt: Attempt, now: float) -> None:
        """The server has said the first thing on a connection."""
        attempt.welcomed_at = now
        attempt.deadline = math.inf
        if self.state != "open" or self._transport != attempt.transport:
            self._transport = attempt.transport
            self._set_state(StateChange("open", transport=attempt.transport))
        if not self.ladder.is_best and math.isinf(self.reprobe_at) and self.probe is None:
            self.reprobe_at = now + self.ladder.reprobe_ms()

    def ask_token(self, reason: TokenReason, now: float) -> None:
        """Asks for a token, unless somebody has."""
        if self._tokens.asking:
            return
        self._tokens.ask(now + self._options.token_deadline_ms)
        self._hooks.ask_token(reason)

    def say(self, command: Message) -> None:
        """Says it to a server that takes commands."""
        if self.current and self.current.is_up and self.current.transport == "websocket":
            self._hooks.say(self.current, json.dumps(command, separators=(",", ":"), ensure_ascii=False))

    def _set_state(self, change: StateChange) -> None:
        self.state = change.state
        self._hooks.emit("state", change)
