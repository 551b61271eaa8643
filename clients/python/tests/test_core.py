"""What a client decides, without sockets and without a clock."""

import json
import random
from typing import Any

import pytest

from fanline._core.attempt import Answer, Attempt, Loss
from fanline._core.backoff import Backoff
from fanline._core.errors import ProtocolError
from fanline._core.event_stream import EventStream
from fanline._core.frame import Frame
from fanline._core.ladder import Ladder
from fanline._core.machine import Machine
from fanline._core.options import OptionNames, Options
from fanline._core.pattern import check_pattern, matches
from fanline._core.queue import All, Block, queue_of
from fanline._core.server_clock import ServerClock
from fanline._core.subscription import Subscription
from fanline._core.token import Tokens

EPOCH = "00f3a1c29b7d4e58"


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        (">", "a.b", True),
        ("a.>", "a", False),
        ("a.>", "a.b.c", True),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("btc*@trade", "btcusdt@trade", True),
        ("*a*b*", "xaybz", True),
        ("*a*b*", "xbya", False),
        ("a**", "a", True),
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
    ],
)
def test_a_pattern_matches_as_in_the_server(pattern: str, topic: str, expected: bool) -> None:
    assert matches(pattern, topic) is expected


@pytest.mark.parametrize("text", ["", "a..b", ".", "a b", "a,b", "a\x00", "a.>.b", "a>", "x" * 257, "\u00a0"])
def test_what_is_no_pattern_is_refused_with_a_reason(text: str) -> None:
    assert "expected" in (check_pattern(text) or "")


@pytest.mark.parametrize("text", ["a", "a.>", ">", "*", "a@b.*c*", "ünï.#1", "x" * 256])
def test_a_pattern_is_accepted(text: str) -> None:
    assert check_pattern(text) is None


def test_delays_are_a_random_part_of_a_bound_that_doubles() -> None:
    backoff = Backoff(500, 15_000, lambda: 1.0)
    assert [backoff.next_ms() for _ in range(7)] == [500, 1000, 2000, 4000, 8000, 15_000, 15_000]
    backoff.reset()
    assert backoff.next_ms() == 500
    half = Backoff(500, 15_000, lambda: 0.5)
    assert half.next_ms() == 250


def test_the_ladder_descends_by_failures_and_at_once_when_mute() -> None:
    ladder = Ladder(("websocket", "sse", "poll"), 1000, 5000)
    ladder.failed(mute=False)
    assert ladder.transport == "websocket"
    ladder.failed(mute=False)
    assert ladder.transport == "sse"
    ladder.failed(mute=True)
    assert ladder.transport == "poll" and ladder.deadline_ms == 1000
    ladder.failed(mute=True)
    assert ladder.transport == "websocket" and ladder.deadline_ms == 2000
    for _ in range(3):
        ladder.cut()
    assert ladder.transport == "sse"
    ladder.cut()
    ladder.lasted()
    ladder.cut()
    ladder.cut()
    assert ladder.transport == "sse", "a connection that lasted makes the count start over"
    pauses = [ladder.reprobe_ms() for _ in range(6)]
    assert pauses == [5000, 10_000, 20_000, 40_000, 45_000, 45_000]


def test_the_best_transport_is_left_again_for_the_one_that_worked() -> None:
    ladder = Ladder(("websocket", "sse", "poll"), 1000, 5000)
    for _ in range(2):
        ladder.failed(mute=True)
    for fails in (ladder.cut, lambda: ladder.failed(mute=False)):
        ladder.promote()
        assert ladder.transport == "websocket"
        fails()
        assert ladder.transport == "poll"
    ladder.promote()
    ladder.lasted()
    ladder.cut()
    assert ladder.transport == "websocket"


def test_the_clock_believes_the_shortest_round_trip() -> None:
    clock = ServerClock()
    clock.asked(1, 1000)
    assert clock.answered(1, 500, 1100)
    assert (clock.offset, clock.round_trip) == (550, 100)
    clock.asked(2, 2000)
    clock.answered(2, 1505, 2010)
    assert (clock.offset, clock.round_trip) == (500, 10)
    assert not clock.answered(2, 0, 0)


def frame(topic: str, offset: int, kind: "str | None" = None) -> Frame:
    return Frame(topic, offset, 0, None, kind)


def read(queue: Any) -> "list[tuple[int, int]]":
    found = []
    while item := queue.get():
        found.append((item.offset, item.skipped))
    return found


def test_latest_keeps_the_newest_of_each_topic_and_counts_the_others() -> None:
    queue = queue_of("latest")
    for offset, topic in enumerate("abaab", 1):
        queue.put(frame(topic, offset))
    assert read(queue) == [(4, 2), (5, 1)]
    assert len(queue) == 0


def test_latest_keeps_a_snapshot_with_its_deltas() -> None:
    queue = queue_of("latest")
    for offset, kind in enumerate(["snapshot", "delta", "snapshot", "delta", "delta"], 1):
        queue.put(frame("a", offset, kind))
    assert read(queue) == [(3, 2), (4, 0), (5, 0)]
    queue.put(frame("a", 6, "snapshot"))
    for offset in range(7, 1100):
        queue.put(frame("a", offset, "delta"))
    assert read(queue) == [], "with deltas left out, only a snapshot helps"
    queue.put(frame("a", 1100, "snapshot"))
    assert read(queue) == [(1100, 1094)]


def test_all_leaves_out_the_oldest_and_counts_them() -> None:
    queue = queue_of(All(3))
    for offset in range(1, 6):
        queue.put(frame("a", offset))
    assert read(queue) == [(3, 2), (4, 0), (5, 0)]


def test_block_keeps_all_and_then_the_latest() -> None:
    queue = queue_of(Block(2))
    for offset in range(1, 7):
        queue.put(frame("a", offset))
    assert read(queue) == [(1, 0), (2, 0), (6, 3)]


@pytest.mark.parametrize("seed", range(20))
def test_queues_account_for_every_frame(seed: int) -> None:
    chance = random.Random(seed)
    for policy in ("latest", All(7), Block(7)):
        queue, told, put = queue_of(policy), 0, 0  # type: ignore[arg-type]
        for _ in range(300):
            if chance.random() < 0.6:
                put += 1
                queue.put(frame(chance.choice("abc"), put))
            elif item := queue.get():
                told += 1 + item.skipped
        while item := queue.get():
            told += 1 + item.skipped
        assert told == put, f"{policy}, seed {seed}"


STREAM = (
    ": hello\r\nretry: 2417\n\nevent: welcome\ndata: 1\r\r"
    "id: e:2\ndata: two\ndata:  lines\n\nid: bad\0\ndata\n\nevent: nothing\n\ndata: é€😀\n\ndata: cut"
).encode()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_stream_is_read_the_same_however_it_is_divided(size: int) -> None:
    stream = EventStream(1000)
    found = [event for at in range(0, len(STREAM), size) for event in stream.feed(STREAM[at : at + size])]
    assert [(event.name, event.data, event.id) for event in found] == [
        ("welcome", "1", ""),
        ("message", "two\n lines", "e:2"),
        ("message", "", "e:2"),
        ("message", "é€😀", "e:2"),
    ]
    assert stream.retry_ms == 2417


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 2000, b"data: xxxxxxxxxx\n" * 200, b"x" * 2000])
def test_an_event_without_end_is_refused(piece: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(EventStream(1000).feed(piece))


def test_a_stream_of_many_small_events_is_not_one_large_event() -> None:
    stream = EventStream(1000)
    assert sum(1 for _ in range(1000) for _ in stream.feed(b"event: e\nid: 1\n: comment\ndata: x\n\n")) == 1000


def test_a_token_is_asked_for_before_it_is_needed() -> None:
    tokens = Tokens(None, asks=True)
    assert tokens.needed(0) == "first"
    tokens.got("opaque", 0)
    assert tokens.needed(1e12) is None, "nothing is known of the life of an opaque token"
    tokens.lives(0, 1_000_000, False)
    assert tokens.renew_at == 800_000
    assert [tokens.needed(at) for at in (969_999, 970_000)] == [None, "expiring"]
    tokens.got("opaque", 0)
    tokens.lives(0, 1_000_000, False)
    assert tokens.needed(1_000_000) == "expired"
    tokens.got("opaque", 0)
    assert [tokens.refuse(), tokens.refuse(), tokens.refuse()] == [False, False, True]


class Recorder:
    """Hooks that write down what a machine wants."""

    def __init__(self) -> None:
        self.attempts: "list[tuple[str, Attempt, str]]" = []
        self.said: "list[dict[str, Any]]" = []
        self.hung_up: "list[Attempt]" = []
        self.questions: "list[str]" = []
        self.events: "list[tuple[str, Any]]" = []

    def open_socket(self, attempt: Attempt, path: str) -> None:
        self.attempts.append(("socket", attempt, path))

    def open_stream(self, attempt: Attempt, path: str, headers: Any) -> None:
        self.attempts.append(("stream", attempt, path))

    def fetch(self, attempt: Attempt, path: str, headers: Any) -> None:
        self.attempts.append(("fetch", attempt, path))

    def say(self, attempt: Attempt, text: str) -> None:
        self.said.append(json.loads(text))

    def hang_up(self, attempt: Attempt) -> None:
        self.hung_up.append(attempt)

    def ask_token(self, reason: str) -> None:
        self.questions.append(reason)

    def emit(self, name: str, event: Any) -> None:
        self.events.append((name, event))

    @property
    def attempt(self) -> Attempt:
        return self.attempts[-1][1]

    def subscribes(self) -> "list[dict[str, Any]]":
        return [command for command in self.said if command["op"] == "subscribe"]


def machine(**options: Any) -> "tuple[Machine, Recorder, list[Frame], Subscription]":
    """A machine with one subscription, of `a.*`."""
    hooks, frames = Recorder(), []
    made = Machine(Options(**options), None, False, hooks, lambda: 1.0)
    subscription = Subscription(("a.*",), frames.append, made.unsubscribe)
    made.subscribe(subscription)
    made.start(0)
    return made, hooks, frames, subscription


def welcome(made: Machine, hooks: Recorder, now: float, offset: int = 0) -> None:
    made.opened(hooks.attempt, now)
    said = {"op": "welcome", "protocol": "fanline.v1", "epoch": EPOCH, "offset": offset, "ts": 1, "heartbeat_ms": 1000}
    made.received(hooks.attempt, json.dumps(said), "", now)


def say(made: Machine, hooks: Recorder, now: float, **message: Any) -> None:
    made.received(hooks.attempt, json.dumps(message), "", now)


CODES = [
    (1000, "waiting"),
    (1006, "waiting"),
    (1012, "waiting"),
    (4401, "waiting"),
    (4408, "waiting"),
    (4499, "waiting"),
    (4500, "closed"),
    (4503, "closed"),
    (4509, "closed"),
    (4999, "closed"),
    (3000, "waiting"),
]


@pytest.mark.parametrize(("code", "state"), CODES)
@pytest.mark.parametrize("is_open", [False, True])
def test_a_close_code_says_whether_to_come_back(code: int, state: str, is_open: bool) -> None:
    made, hooks, _, _ = machine()
    if is_open:
        welcome(made, hooks, 10)
        assert made.state == "open"
    made.lost(hooks.attempt, Loss("gone", code), 20)
    assert made.state == state
    assert (made.closed is not None) == (state == "closed")


def test_a_client_resumes_after_the_newest_offset_with_the_patterns_it_held() -> None:
    made, hooks, frames, _ = machine()
    welcome(made, hooks, 0)
    say(made, hooks, 1, op="subscribed", id=hooks.subscribes()[0]["id"], topics=["a.*"], offset=0)
    say(made, hooks, 2, topic="a.x", offset=7, ts=1, data=1)
    made.lost(hooks.attempt, Loss("cut", 1006), 3)
    assert hooks.events[-2][1].retry_ms == 500
    made.tick(503)
    welcome(made, hooks, 504, 9)
    assert hooks.subscribes()[-1]["since"] == f"{EPOCH}:7"
    say(made, hooks, 505, topic="a.x", offset=7, ts=1, data=1)
    say(made, hooks, 505, topic="a.x", offset=8, ts=1, data=2)
    assert [it.offset for it in frames] == [7, 8], "nothing twice"


def test_a_goodbye_is_kept_to_and_wake_does_not_shorten_it() -> None:
    made, hooks, _, _ = machine()
    welcome(made, hooks, 0)
    say(made, hooks, 1, op="goodbye", code="draining", message="the server is stopping", reconnect_ms=1800)
    made.lost(hooks.attempt, Loss("stopping", 1001), 2)
    made.wake(3)
    assert made.state == "waiting" and made.wake_at <= 1802
    made.tick(1801)
    assert made.state == "waiting"
    made.tick(1802)
    assert made.state == "connecting"


def test_silence_for_two_heartbeats_is_a_loss_but_not_after_sleep() -> None:
    made, hooks, _, _ = machine()
    welcome(made, hooks, 0)
    made.tick(1000)
    made.tick(2001)
    assert made.state == "waiting"

    made, hooks, _, _ = machine()
    welcome(made, hooks, 0)
    before = len(hooks.said)
    made.tick(3_600_000)
    assert made.state == "open" and hooks.said[before]["op"] == "ping", "a program that slept asks first"
    for at in range(3_600_500, 3_605_001, 500):
        made.tick(at)
    assert made.state == "waiting", "and leaves when nobody answers"


def test_a_server_that_is_away_condemns_no_transport() -> None:
    made, hooks, _, _ = machine()
    for at in range(20):
        made.lost(hooks.attempt, Loss("refused", is_away=True), at * 100_000)
        made.tick(at * 100_000 + 50_000)
    assert {kind for kind, _, _ in hooks.attempts} == {"socket"}


def test_a_lower_transport_serves_until_the_best_one_works_again() -> None:
    made, hooks, frames, _ = machine(transports=["websocket", "longpoll"], reprobe_ms=1000)
    made.lost(hooks.attempt, Loss("forbidden", 403), 0)
    made.tick(500)
    made.lost(hooks.attempt, Loss("forbidden", 403), 600)
    made.tick(1600)
    kind, attempt, path = hooks.attempts[-1]
    assert (kind, path) == ("fetch", "/poll?topics=a.*&max=10000")
    body = {"epoch": EPOCH, "offset": 5, "frames": [{"topic": "a.x", "offset": 5, "ts": 1, "data": 1}], "notes": [], "caught_up": True}
    made.answered(attempt, Answer(200, {}, json.dumps({**body, "next": f"{EPOCH}:5"}).encode()), 1700)
    assert made.state == "open"
    made.tick(1700)
    assert hooks.attempts[-1][2] == f"/poll?topics=a.*&max=10000&since={EPOCH}:5&wait_ms=25000"
    made.tick(2701)
    kind, probe, _ = hooks.attempts[-1]
    assert kind == "socket" and probe.is_probe
    welcome(made, hooks, 2800, 6)
    assert attempt in hooks.hung_up and hooks.subscribes()[-1]["since"] == f"{EPOCH}:5"
    say(made, hooks, 2801, topic="a.x", offset=6, ts=1, data=2)
    assert [it.offset for it in frames] == [5, 6]


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"op":5}', '{"topic":1}', '{"topic":"a.x","offset":"7"}', "[" * 100_000])
def test_what_the_server_should_not_say_is_told_and_survived(text: str) -> None:
    made, hooks, frames, _ = machine()
    welcome(made, hooks, 0)
    made.received(hooks.attempt, text, "", 1)
    assert made.state == "open" and frames == []


@pytest.mark.parametrize("seed", range(30))
def test_noise_ends_in_no_exception(seed: int) -> None:
    chance = random.Random(seed)
    ops = [
        "welcome",
        "subscribed",
        "skipped",
        "gap",
        "view",
        "heartbeat",
        "stale",
        "live",
        "refused",
        "pong",
        "goodbye",
        "close",
        "error",
        "authenticated",
    ]
    values: "list[Any]" = [None, 0, -1, 2**70, 0.5, "", "a.x", EPOCH, [], ["a.*"], [1], {}, {"a.*": 1}, True]
    names = [
        "op",
        "id",
        "epoch",
        "offset",
        "ts",
        "topics",
        "topic",
        "delay_ms",
        "reason",
        "code",
        "reconnect_ms",
        "expires_ms",
        "data",
        "forbidden",
    ]
    made, hooks, _, _ = machine()
    welcome(made, hooks, 0)
    for at in range(200):
        message = {name: chance.choice(values) for name in names if chance.random() < 0.5}
        message["op"] = chance.choice(ops)
        made.received(hooks.attempt, json.dumps(message), chance.choice(["", EPOCH + ":5", ":"]), at)
        made.tick(at)
        assert made.wake_at == made.wake_at


def test_options_are_one_list_and_wrong_ones_are_refused() -> None:
    assert set(OptionNames.__annotations__) == set(Options.__dataclass_fields__)
    for wrong in (
        {"every_ms": 5},
        {"transports": []},
        {"transports": ["carrier pigeon"]},
        {"policy": "x"},
        {"wait_ms": 60_000},
        {"poll_ms": 0},
    ):
        with pytest.raises(ValueError, match="expected"):
            Options(**wrong)  # type: ignore[arg-type]
