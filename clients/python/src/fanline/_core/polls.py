"""Answers of polls, which are connections of many requests: what each brings, and when the next is put."""

import math

from .attempt import Answer, Attempt, loss_of
from .connections import Connections
from .errors import ProtocolError
from .feed import Feed, Plan
from .message import Message, is_message, number, reader
from .options import Options
from .token import Tokens
from .watch import Watch


class Polls:
    """Takes answers for the feed, and goes on with the connection."""

    def __init__(self, options: Options, connections: Connections, feed: Feed, tokens: Tokens, watch: Watch) -> None:
        self._read = reader(options.numbers)
        self._options = options
        self._connections = connections
        self._feed = feed
        self._tokens = tokens
        self._watch = watch

    def answered(self, attempt: Attempt, answer: Answer, now: float) -> None:
        """A fetch has been answered."""
        if answer.status in (200, 204, 304):
            self._watch.answered(now)
        if attempt.filling:
            self._fill(attempt, answer, now)
        elif answer.status in (200, 204 if attempt.transport == "longpoll" else 304):
            self._polled(attempt, answer, now)
        else:
            self._connections.lost(attempt, loss_of(answer), now)

    def _fill(self, attempt: Attempt, answer: Answer, now: float) -> None:
        """The current values of new patterns have come: the stream continues where both they and the old patterns are."""
        attempt.filling = ()
        plan = attempt.plan
        assert plan is not None
        if answer.status == 200:
            since = self._feed.fill(self._json(answer), plan)
            everything = plan.resumed + plan.fresh
            attempt.plan = Plan(everything, (), since) if since else Plan((), everything, None)
        elif answer.status == 404:
            attempt.plan = Plan((), plan.resumed + plan.fresh, None)
        else:
            return self._connections.lost(attempt, loss_of(answer), now)
        if attempt.transport == "sse":
            self._connections.open_stream(attempt)
        else:
            self._connections.fetch(attempt, now)

    def _polled(self, attempt: Attempt, answer: Answer, now: float) -> None:
        if attempt is self._connections.probe:
            self._connections.promote(attempt, now)
        is_first = attempt.heard == 0
        attempt.heard += 1
        attempt.deadline = math.inf
        self._feed.connection = attempt.number
        said_at = now - 1000 * number(answer.headers.get("age"), 0)
        if is_first:
            self._connections.greeted(attempt, now)
            if attempt is not self._connections.current:
                return
        if answer.status == 200:
            body = self._json(answer)
            is_whole = attempt.transport == "poll" or attempt.plan is None or attempt.plan.since is None
            self._feed.poll(body, attempt.asked, is_live=self._feed.caught_up and not is_first, is_whole=is_whole)
            cursor = body.get("next") or f"{body.get('epoch')}:{body.get('offset')}"
        else:
            self._feed.confirm(attempt.asked)
            cursor = answer.headers.get("fanline-next", "")
            self._feed.feed_state(answer.headers.get("fanline-feed"), {})
        if attempt is not self._connections.current:
            return
        is_new = cursor and not (attempt.plan and cursor == attempt.plan.since)
        if attempt.transport == "longpoll" and isinstance(cursor, str) and cursor:
            self._feed.move(cursor)
            attempt.plan = Plan(attempt.asked, (), cursor)
        attempt.etag = answer.headers.get("etag", attempt.etag)
        self._watch.freshness.heard(now, said_at)
        if attempt.heard >= 2:
            self._connections.ladder.proven()
            if now - attempt.welcomed_at > self._options.stable_ms:
                self._connections.backoff.reset()
                self._tokens.accepted()
        if self._feed.is_to_flush:
            self._connections.restream(attempt, now)
        elif attempt.transport == "poll":
            attempt.next_poll_at = now + max(self._options.poll_ms, self._connections.requests.every_ms)
        else:
            attempt.next_poll_at = now + (self._connections.requests.every_ms if self._feed.caught_up else 0)
            if not is_new:
                attempt.next_poll_at = max(attempt.next_poll_at, attempt.calm_at)

    def _json(self, answer: Answer) -> Message:
        body = self._read(answer.body)
        if not is_message(body):
            raise ProtocolError("expected a JSON object")
        return body
