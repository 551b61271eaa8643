"""Subscriptions, and what the server says of them: the part of a client that does not care how messages come.

Invariants:
 - Per topic a subscription sees each frame at most once and in order; what is left out is announced by `skipped`.
 - A cursor is used only for patterns of which everything up to it has arrived.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ProtocolError
from .frame import Frame, frame_of
from .message import Message, delays_of, id_of, is_message, messages, offset_of, texts
from .pattern import covers, matches
from .staleness import Staleness
from .subscription import Subscription, SubscriptionChange
from .values import Values


@dataclass(frozen=True)
class Plan:
    """How a new connection subscribes."""

    resumed: "tuple[str, ...]"
    """Patterns that continue after `since`."""
    fresh: "tuple[str, ...]"
    """Patterns that start with their current values."""
    since: "str | None"


@dataclass(frozen=True)
class _Asked:
    patterns: "tuple[str, ...]"
    since: "str | None"


class Feed:
    """What is wanted, what is in force, and what has arrived."""

    def __init__(self, say: Callable[[Message], None], emit: Callable[[str, Any], None], next_id: Callable[[], int]) -> None:
        self.values = Values()
        self.staleness = Staleness()
        self.subscriptions: dict[Subscription, None] = {}
        self.simulated = False
        self.delays: "float | Mapping[str, float]" = 0
        self.messages = 0
        self.caught_up = False
        self.connection = 0
        """Number of the connection that speaks; set by the owner."""
        self._say = say
        self._emit = emit
        self._next_id = next_id
        self._wanted: Counter[str] = Counter()
        self._routes: dict[str, list[Subscription]] = {}  # a memo, emptied whenever a subscription comes or goes
        self._asked: "dict[int | None, _Asked]" = {}  # subscribe commands without an answer, by id; None is the query's
        self._sent: set[str] = set()  # patterns named on this connection
        self._in_force: set[str] = set()
        self._let_go: set[str] = set()
        self._refused: dict[str, str] = {}  # patterns that the server does not grant, and why
        self._epoch = ""
        self._head = 0
        self._offset = 0  # the greatest offset seen, or by streams with ids the newest
        self._held: frozenset[str] = frozenset()  # patterns for which the cursor is valid
        self._live_after = 0
        self._settled_by = 0  # a frame from this offset on says that all current values have arrived
        self._answered = False
        self._answers = 0
        self._notes: dict[str, Message] = {}  # what the last snapshot said of topics
        self._settled = False
        self._replaying = False
        self._has_ids = False
        self._id_seen = False

    # -- what the user wants

    def add(self, subscription: Subscription) -> None:
        """The new subscription receives what is known at once."""
        self.subscriptions[subscription] = None
        self._routes.clear()
        self._wanted.update(subscription.patterns)
        for told in self.values.told():
            if told and covers(subscription.patterns, told[0].topic):
                for frame in list(told):
                    subscription.deliver(frame if not frame.live else _not_live(frame))
        self.judge()

    def remove(self, subscription: Subscription) -> bool:
        """Whether it was there."""
        if subscription not in self.subscriptions:
            return False
        del self.subscriptions[subscription]
        self._routes.clear()
        self._wanted.subtract(subscription.patterns)
        self._wanted += Counter()
        self._tell(subscription, "ended", "")
        return True

    @property
    def wanted(self) -> "tuple[str, ...]":
        return tuple(self._wanted)

    @property
    def is_to_flush(self) -> bool:
        """Whether the connection does not hold what is wanted."""
        return bool(self._let_go) or self._sent != self._wanted.keys()

    def forget_unwanted(self) -> None:
        """Nothing is kept of topics that no subscription covers."""
        wanted = self.wanted
        self.values.retain(lambda topic: covers(wanted, topic))
        self.staleness.retain(lambda topic: covers(wanted, topic))

    def let_go(self) -> None:
        """On a stream or a poll: what nobody wants any more has to be asked for as new if somebody wants it again."""
        unused = {pattern for pattern in self._sent if pattern not in self._wanted}
        self._let_go |= unused
        self._sent -= unused
        self._in_force -= unused
        self.forget_unwanted()

    def flush(self, every_ms: "int | None") -> None:
        """Tells a connection with commands what has changed; `every_ms` is a new pace."""
        unused = [pattern for pattern in self._sent if pattern not in self._wanted]
        # A topic that the feed refuses is in force all the same.
        given_back = [pattern for pattern in unused if pattern in self._in_force or pattern not in self._refused]
        self._sent.difference_update(unused)
        self._in_force.difference_update(unused)
        if given_back:
            self._say({"op": "unsubscribe", "id": self._next_id(), "topics": given_back})
        if unused:
            self.forget_unwanted()
        for pattern in unused:
            self._refused.pop(pattern, None)
        # A command for each subscription: what the server refuses of one does not hold up another.
        for subscription in self.subscriptions:
            fresh = tuple(pattern for pattern in subscription.patterns if pattern not in self._sent)
            if fresh:
                self._subscribe(fresh, None, every_ms)
                every_ms = None
        if every_ms is not None and self._in_force:  # A pace is a member of `subscribe`.
            self._subscribe((next(iter(self._in_force)),), None, every_ms)

    def _subscribe(self, patterns: "tuple[str, ...]", since: "str | None", every_ms: "int | None" = None) -> None:
        if not patterns:
            return
        id = self._next_id()
        self._asked[id] = _Asked(patterns, since)
        self._sent.update(patterns)
        command: dict[str, Any] = {"op": "subscribe", "id": id, "topics": list(patterns)}
        if since:
            command["since"] = since
        if every_ms is not None:
            command["every_ms"] = every_ms
        self._say(command)

    # -- connections

    def plan(self) -> Plan:
        """How the next connection subscribes."""
        self._let_go.clear()
        resumed = tuple(pattern for pattern in self._wanted if pattern in self._held) if self._epoch else ()
        fresh = tuple(pattern for pattern in self._wanted if pattern not in resumed)
        return Plan(resumed, fresh, f"{self._epoch}:{self._offset}" if resumed else None)

    def welcome(self, message: Message) -> Plan:
        """A connection with commands has begun; `begin` follows."""
        plan = self.plan()
        self._greet(message, plan)
        return plan

    def begin(self, plan: Plan) -> None:
        """Subscribes on a connection with commands."""
        self._subscribe(plan.resumed, plan.since)
        self._subscribe(plan.fresh, None)

    def welcome_stream(self, message: Message, plan: Plan) -> None:
        """A stream of events has begun, whose query asked for the plan."""
        self._greet(message, plan)
        self._has_ids = True
        self._asked[None] = _Asked(plan.resumed + plan.fresh, plan.since)
        self._sent = {*plan.resumed, *plan.fresh}

    def _greet(self, message: Message, plan: Plan) -> None:
        self._has_ids = self._id_seen = False
        self._answers = 0
        self._head = offset_of(message)
        self.simulated = message.get("simulated") is True
        self.delays = delays_of(message)
        self.staleness.clear()
        self._refused.clear()
        self._enter(message)
        self._live_after, self._replaying = 0, bool(plan.resumed)

    def _enter(self, message: Message) -> None:
        """Values of another epoch are another server's."""
        epoch = message.get("epoch")
        if not isinstance(epoch, str):
            raise ProtocolError("expected an `epoch`, found none")
        if epoch != self._epoch:
            self._start_over(epoch)

    def _start_over(self, epoch: str) -> None:
        self._epoch, self._offset = epoch, 0
        self._held = frozenset()
        self.values.clear()
        self.staleness.retain(lambda _: False)

    def lost(self) -> None:
        """Current values that were still to come are not covered by the cursor: then the next connection starts over."""
        if self._has_ids:
            asked = self._asked.get(None)
            is_resumed = asked is not None and asked.since is not None
            self._held = frozenset(self._sent) if self._id_seen or is_resumed or self._settled else frozenset()
        elif self._answered:
            # A replay comes in order, so it can continue where it was cut.
            is_known = self._settled or (self._replaying and self._answers == 1)
            self._held = frozenset(self._sent) if is_known and not self._asked else frozenset()
        self._answered = self._settled = self.caught_up = self._has_ids = False
        self._sent.clear()
        self._in_force.clear()
        self._asked.clear()

    # -- messages

    def frame(self, message: Message, text: str) -> None:
        """A frame has come in its place of a stream."""
        frame = frame_of(message, offset_of(message) > self._live_after, text)
        self.messages += 1
        self._advance(frame.offset, frame.offset >= self._settled_by)
        self._deliver(frame)

    def _deliver(self, frame: Frame) -> None:
        route = self._routes.get(frame.topic)
        if route is None:
            route = [it for it in self.subscriptions if covers(it.patterns, frame.topic)]
            self._routes[frame.topic] = route
        # Without a route it was on its way while its pattern was given back.
        if not route or not self.values.take(frame, self.connection):
            return
        if self.staleness.covers(frame.topic):
            self.staleness.tell(frame.topic, False)
            self.judge()
        for subscription in list(route):
            subscription.deliver(frame)

    def at(self, cursor: str) -> None:
        """A stream says where it is."""
        self.move(cursor)
        self._id_seen = True

    def _advance(self, offset: int, settles: bool) -> None:
        if offset > self._offset and not self._has_ids:
            self._offset = offset
        if settles and self._answered and not self._settled:
            self._settle()

    def _settle(self) -> None:
        self._settled = self.caught_up = True
        self._replaying = False

    def heartbeat(self, message: Message) -> None:
        self._advance(offset_of(message), offset_of(message) >= self._live_after)

    def view(self, message: Message) -> None:
        """In the same log it continues, unless the view is behind what this client has."""
        self.delays = delays_of(message)
        epoch, offset = message.get("epoch"), offset_of(message)
        anew = epoch != self._epoch or offset < self._offset
        if anew and isinstance(epoch, str):
            self._start_over(epoch)
        self.staleness.clear()  # The state of the view follows.
        self._head, self._live_after, self._replaying = offset, 0, not anew
        self._answered = self._settled = self.caught_up = False
        self.judge()
        self._emit("view", message)

    def subscribed(self, message: Message) -> None:
        """Patterns are in force."""
        offset = offset_of(message)
        asked = self._asked.pop(id_of(message), None)
        if "delay_ms" in message:
            self.delays = delays_of(message)
        for pattern in texts(message.get("forbidden")):
            self._refused[pattern] = "forbidden"
        if asked is None:  # Rights have changed, or a view has: all that is wanted and not forbidden is in force.
            for pattern in texts(message.get("topics")):
                self._refused.pop(pattern, None)
            self._in_force = {pattern for pattern in self._sent if pattern not in self._refused}
        else:
            self._in_force.update(pattern for pattern in asked.patterns if pattern not in self._refused)
        self._live_after = max(self._live_after, offset)
        # What follows the first answer comes in order; what follows another is told from the live stream by a later one.
        self._settled_by = self._live_after + 1 if self._answered else self._live_after
        self._answered, self._settled = True, False
        self._answers += 1
        if offset == 0 or (asked is not None and asked.since is not None and offset <= self._offset):
            self._settle()
        self.judge()

    def unsubscribed(self, message: Message) -> None:
        """By command, or because rights were withdrawn."""
        for pattern in texts(message.get("forbidden")):
            self._refused[pattern] = "forbidden"
            self._in_force.discard(pattern)
        self.judge()

    def skipped(self, message: Message) -> None:
        self._replaying = False  # Latest values follow.
        self._emit("skipped", message)

    def gap(self, message: Message) -> None:
        offset = offset_of(message)
        self._advance(offset, offset >= self._settled_by)
        topic = message.get("topic")
        if message.get("reason") == "overflow" and isinstance(topic, str):
            self.staleness.tell(topic, False)
            self.values.overflow(topic, offset)
        self._emit("gap", message)

    def notice(self, message: Message) -> None:
        """`stale`, `live` or `refused`: about one topic, or about the feed."""
        op, has_offset = message["op"], "offset" in message
        topics = texts([message.get("topic")] if op == "refused" else message.get("topics"))
        if has_offset:
            self._advance(offset_of(message), offset_of(message) >= self._settled_by)
        if has_offset or op == "refused" or message.get("reason") == "nothing_yet":
            for topic in topics:
                self.staleness.tell(topic, op != "live")
                if op == "refused":
                    self._refused[topic] = str(message.get("message", "refused"))
                else:
                    self._refused.pop(topic, None)
        else:
            self.staleness.note(topics, op == "stale")
        self.judge()
        self._emit(op, message)

    def error(self, message: Message) -> None:
        """A command was refused."""
        asked = self._asked.pop(id_of(message), None)
        patterns = asked.patterns if asked else ()
        if asked and asked.since and message.get("code") == "bad_cursor":
            self.refuse_cursor(asked.since)
            self._subscribe(tuple(pattern for pattern in patterns if pattern in self._wanted), None)
            return
        for pattern in patterns:  # They stay named, or each flush would ask for them again.
            self._refused[pattern] = str(message.get("code", "refused"))
        self.judge()
        self._emit("error", {**message, "topics": list(patterns)} if patterns else message)

    def refuse_cursor(self, since: str) -> None:
        """The server does not know the cursor: the client starts over from current values."""
        self._offset, self._replaying, self._held = 0, False, frozenset()
        from_ = min(int(since.partition(":")[2]), self._head) + 1
        self._emit("skipped", {"op": "skipped", "from": from_, "to": self._head, "reason": "bad_cursor"})

    # -- polls

    def poll(self, answer: Message, patterns: "tuple[str, ...]", *, is_live: bool, is_whole: bool) -> None:
        """An answer of `/v1/poll` or `/v1/snapshot` about the patterns.

        With `is_live` its frames are news. One that `is_whole` has what is known of each topic, and nothing else holds.
        """
        was_of = self._epoch
        self._enter(answer)
        self.delays = delays_of(answer)
        skipped = answer.get("skipped")
        if is_message(skipped):
            self._emit("skipped", {"op": "skipped", **skipped})
        feed = answer.get("feed")
        if is_message(feed):
            self.simulated = feed.get("simulated") is True
            self.feed_state(feed.get("state"), feed)
        is_live = is_live and not skipped and was_of == self._epoch
        notes = messages(answer.get("notes"))
        if is_whole:
            notes = self._new_notes(notes)
        for message in sorted(messages(answer.get("frames")) + notes, key=offset_of):
            if "op" not in message:
                self.messages += 1
                self._deliver(frame_of(message, is_live, ""))
            elif message["op"] == "gap":
                self.gap(message)
            elif message["op"] in ("stale", "live", "refused"):
                self.notice(message)
        self._head = self._offset = offset_of(answer)
        self.confirm(patterns)
        self.caught_up = answer.get("caught_up", True) is True

    def confirm(self, patterns: "tuple[str, ...]") -> None:
        """Everything up to the cursor is known."""
        self._sent = set(patterns) - self._let_go
        self._in_force = set(self._sent)
        self._held = frozenset(self._sent)
        self._answered = self._settled = self.caught_up = True
        self._replaying = False
        self.judge()

    def _new_notes(self, notes: "list[Message]") -> "list[Message]":
        """Of what a whole answer says of topics, what the one before did not say; and `live` for what it says no more."""
        before, self._notes = self._notes, {f"{note.get('op')} {note.get('topic') or note.get('topics')}": note for note in notes}
        ended = [note for name, note in before.items() if name not in self._notes and note.get("op") in ("stale", "refused")]
        topics = [note.get("topics") or [note.get("topic")] for note in ended]
        news = [note for name, note in self._notes.items() if offset_of(note) != offset_of(before.get(name, {}))]
        return [{"op": "live", "topics": it, "offset": 0} for it in topics] + news

    def feed_state(self, state: object, said: Message) -> None:
        """Polls tell the state of the feed each time; users are told when it changes."""
        is_stale = state in ("down", "silent")
        if not isinstance(state, str) or is_stale == self.staleness.is_feed_stale:
            return
        op = "stale" if is_stale else "live"
        self.notice({**{name: said[name] for name in said if name != "state"}, "op": op, "topics": [">"]})

    def fill(self, answer: Message, plan: Plan) -> "str | None":
        """Takes current values of new patterns. Returns from where all patterns continue; None if all must start over."""
        if plan.since is None or answer.get("epoch") != self._epoch:
            return None
        since = f"{self._epoch}:{min(self._offset, offset_of(answer))}"
        for message in messages(answer.get("frames")):
            self._deliver(frame_of(message, False, ""))
        for message in messages(answer.get("notes")):
            if message.get("op") in ("stale", "refused"):
                self.notice(message)
        return since

    def move(self, cursor: str) -> None:
        """Polls say where the next one continues."""
        epoch, _, offset = cursor.partition(":")
        if epoch == self._epoch and offset.isascii() and offset.isdigit():
            self._offset = int(offset[:20])

    def is_live(self, message: Message) -> bool:
        """Whether a message belongs to what happens now."""
        return offset_of(message) > self._live_after

    # -- how topics and subscriptions are doing

    def delay_of(self, topic: str) -> float:
        if isinstance(self.delays, Mapping):
            return next((delay for pattern, delay in self.delays.items() if matches(pattern, topic)), 0)
        return self.delays

    def is_confirmed(self, topic: str) -> bool:
        """Whether the newest value received is the newest there is, if the connection stands."""
        known = self.values.get(topic)
        if known is None or self.staleness.covers(topic):
            return False
        return self.caught_up or (known.connection == self.connection and not self._replaying)

    def judge(self) -> None:
        """Tells subscriptions whose state has changed."""
        for subscription in list(self.subscriptions):
            self._tell(subscription, *self._state_of(subscription))

    def _state_of(self, subscription: Subscription) -> "tuple[Any, str]":
        refused = [self._refused[pattern] for pattern in subscription.patterns if pattern in self._refused]
        if len(refused) == len(subscription.patterns):
            return "refused", refused[0]
        if not all(pattern in self._in_force or pattern in self._refused for pattern in subscription.patterns):
            return ("stale", "not connected") if subscription.was_in_force else ("pending", "")
        subscription.was_in_force = True
        if all(self.staleness.covers(pattern) for pattern in subscription.patterns):
            return "stale", "the server says so"
        return ("delayed" if any(self.delay_of(pattern) for pattern in subscription.patterns) else "live"), ""

    def _tell(self, subscription: Subscription, state: Any, reason: str) -> None:
        if (subscription.state, subscription.reason) != (state, reason):
            subscription.state, subscription.reason = state, reason
            self._emit("subscription", SubscriptionChange(subscription, state, reason))


def _not_live(frame: Frame) -> Frame:
    return Frame(frame.topic, frame.offset, frame.ts, frame.data, frame.kind, False, 0, frame.text)
