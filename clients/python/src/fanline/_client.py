"""The asyncio client."""

import asyncio
import inspect
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from ._clock import now_ms
from ._core.attempt import State
from ._core.errors import AskError, Closed
from ._core.frame import Frame
from ._core.options import OptionNames, Options
from ._core.queue import Block, FrameQueue, QueuePolicy, queue_of
from ._core.subscription import Subscription, patterns_of
from ._driver import Driver, Token, Url
from ._log import LOG

if TYPE_CHECKING:
    from typing_extensions import Unpack

Topics = str | list[str] | tuple[str, ...]
EventName = Literal["state", "subscription", "late", "view", "stale", "live", "gap", "refused", "skipped", "error", "goodbye", "closed"]
Handler = Callable[[Frame], "Awaitable[None] | None"]


def connect(url: Url, *, token: "Token | None" = None, tls: "ssl.SSLContext | None" = None, **options: "Unpack[OptionNames]") -> "Client":
    """A client of the server at `url`, for `async with`. It keeps itself connected until it is closed.

    `url` is that of `/v1/ws`, or a function that returns it and is asked before each attempt. `token` is a token or a
    function that is asked for one before it is needed; the function may raise `Unauthorized`, which ends the client.
    A function that is not a coroutine function is called in a thread. `options` are the members of `Options`.
    """
    return Client(url, token=token, tls=tls, options=Options(**options))


class Client:
    """One connection after the other to one server."""

    def __init__(self, url: Url, *, token: "Token | None", tls: "ssl.SSLContext | None", options: Options) -> None:
        self._driver = Driver(url, token, tls, options, self._emit)
        self._machine = self._driver.machine
        self._events: dict[str, list[Callable[[Any], Any]]] = {}
        self._mailboxes: set[_Mailbox] = set()
        self._waiters: set[asyncio.Future[None]] = set()

    # -- life

    async def __aenter__(self) -> "Client":
        self.start()
        return self

    async def __aexit__(self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None") -> None:
        await self.close()

    def start(self) -> None:
        """Begins to connect; `async with` does it."""
        self._driver.start()

    async def wait_open(self) -> None:
        """Returns once the client is open; raises `Closed` if it has ended."""
        while self.state != "open":
            if self._machine.closed:
                raise self._machine.closed[0]
            await self._next_state()

    async def wait_closed(self) -> Closed:
        """Returns why the client has ended, once it has."""
        while not self._machine.closed:
            await self._next_state()
        return self._machine.closed[0]

    async def close(self) -> None:
        """Ends everything; may be called again."""
        await self._driver.close()

    def reconnect(self) -> None:
        """Ends a wait for the next attempt at once."""
        self._machine.reconnect(now_ms())
        self._driver.arm()

    def wake(self) -> None:
        """Says that the network has changed or the machine was asleep: the server is asked whether it is there."""
        self._machine.wake(now_ms())
        self._driver.arm()

    # -- what is wanted

    def frames(self, topics: Topics, *, queue: QueuePolicy = "latest") -> "Frames":
        """Frames of the topics, for `async for`: first the current values, then what follows.

        The iteration ends with `close()`, and raises `Closed` if the server ends the client.
        """
        mailbox = _Mailbox(queue_of(queue))
        self._mailboxes.add(mailbox)
        subscription = self._add(Subscription(patterns_of(topics), mailbox.put, self._leave))

        def leave() -> None:
            if mailbox in self._mailboxes:
                self._mailboxes.discard(mailbox)
                self._leave(subscription)
                mailbox.end((Closed("the iteration was closed"), False))

        return Frames(subscription, mailbox, leave)

    def subscribe(self, topics: Topics, handler: Handler, *, queue: QueuePolicy = Block()) -> Subscription:  # noqa: B008
        """Calls `handler` with each frame. Commands are allowed inside.

        A coroutine function is awaited for one frame after the other; `queue` holds what comes meanwhile.
        """
        if not inspect.iscoroutinefunction(handler):
            return self._add(Subscription(patterns_of(topics), lambda frame: _guard(handler, frame), self._leave))
        frames = self.frames(topics, queue=queue)

        async def drive() -> None:
            with suppress(Closed):
                async for frame in frames:
                    try:
                        await handler(frame)
                    except Exception:
                        LOG.exception("a handler has failed")

        self._driver.spawn(drive())
        return frames.subscription

    def on(self, event: EventName, handler: Callable[[Any], Any]) -> Callable[[], None]:
        """Calls `handler` with each event; returns a function that ends it. docs/client/python.md lists the events."""
        handlers = self._events.setdefault(event, [])
        handlers.append(handler)

        def end() -> None:
            with suppress(ValueError):
                handlers.remove(handler)

        return end

    def set_pace(self, every_ms: int) -> None:
        """At most one update per topic in this time; 0 for every frame."""
        if every_ms != 0 and not 10 <= every_ms <= 60_000:
            raise ValueError(f"expected every_ms of 10 to 60000, or 0 for every frame, found {every_ms}")
        self._machine.set_pace(every_ms)
        self._driver.flush_soon()

    def set_token(self, token: str) -> None:
        """Shows a new token of the same user."""
        self._machine.set_token(token, now_ms())
        self._driver.arm()

    async def send(self, topic: str, data: Any) -> None:
        """Passes a message to the feed; raises an `AskError` if that cannot be done."""
        await self._ask({"op": "send", "topic": topic, "data": data})

    async def request(self, data: "Mapping[str, Any]", *, timeout_ms: int = 5000) -> Any:
        """Asks the feed; raises an `AskError` if there is no answer."""
        return await self._ask({"op": "request", "data": dict(data), "timeout_ms": timeout_ms})

    # -- what is known

    @property
    def state(self) -> State:
        """`idle`, `connecting`, `open`, `waiting` or `closed`."""
        return self._machine.state

    @property
    def closed(self) -> "Closed | None":
        """Why the client has ended."""
        return self._machine.closed[0] if self._machine.closed else None

    @property
    def is_terminal(self) -> bool:
        """Whether the server or the token function has ended the client for good."""
        return self._machine.closed is not None and self._machine.closed[1]

    @property
    def topics(self) -> "list[str]":
        """Topics of which a value is known."""
        return self._machine.feed.values.names()

    def latest(self, topic: str) -> "Frame | None":
        """The newest frame received of a topic that is subscribed to."""
        known = self._machine.feed.values.get(topic)
        return known.frame if known else None

    def is_current(self, topic: str) -> bool:
        """Whether the newest value received of the topic is what the feed says now."""
        machine = self._machine
        return machine.state == "open" and not machine.is_late(now_ms()) and machine.feed.is_confirmed(topic)

    def is_stale(self, topic: str) -> bool:
        """Whether the server has reported the topic as stale or refused."""
        return self._machine.feed.staleness.covers(topic)

    def delay_of(self, topic: str) -> float:
        """How much later than received the server sends messages of the topic, in ms; 0 if they are live."""
        return self._machine.feed.delay_of(topic)

    def is_delayed(self, topic: str) -> bool:
        """Whether values of the topic are older than the feed's by intention."""
        return self.delay_of(topic) > 0

    @property
    def is_late(self) -> bool:
        """Whether everything known is too old to be called current."""
        return self._machine.is_late(now_ms())

    @property
    def is_silent(self) -> bool:
        """Whether the server has been silent for too long."""
        return self._machine.freshness.is_silent(now_ms())

    @property
    def caught_up(self) -> bool:
        """Whether everything that was missed has arrived."""
        return self._machine.feed.caught_up

    @property
    def simulated(self) -> bool:
        """Whether the server has said that its prices are invented."""
        return self._machine.feed.simulated

    @property
    def messages(self) -> int:
        """Frames received so far."""
        return self._machine.feed.messages

    @property
    def clock_offset(self) -> float:
        """This clock minus the server's in ms; NaN while unknown."""
        return self._machine.clock.offset

    @property
    def round_trip(self) -> float:
        """The shortest recent round trip in ms; NaN while unknown."""
        return self._machine.clock.round_trip

    @property
    def lateness(self) -> float:
        """How late the newest message was when it was read, in ms by the server's clock."""
        return self._machine.freshness.lateness

    @property
    def age(self) -> float:
        """Milliseconds since the server said the newest thing that is known; NaN before the first."""
        return self._machine.freshness.age(now_ms())

    def latency(self, frame: Frame) -> float:
        """Milliseconds from the server's receiving a frame to now."""
        return now_ms() - (frame.ts + self.clock_offset)

    # -- inside

    def _add(self, subscription: Subscription) -> Subscription:
        if self._machine.closed:
            raise self._machine.closed[0]
        self._machine.subscribe(subscription)
        self._driver.flush_soon()
        return subscription

    def _leave(self, subscription: Subscription) -> None:
        # A forgotten iterator is collected in any thread.
        self._driver.in_loop(self._unsubscribe, subscription)

    def _unsubscribe(self, subscription: Subscription) -> None:
        self._machine.unsubscribe(subscription)
        self._driver.flush_soon()

    async def _ask(self, command: "Mapping[str, Any]") -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(result: Any) -> None:
            if answer.done():
                return
            if isinstance(result, AskError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        self._machine.ask(command, done)
        return await answer

    async def _next_state(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _emit(self, name: str, event: Any) -> None:
        if name == "state":
            LOG.debug("state %s %s", event.state, event.reason)
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
        elif name == "error":
            LOG.warning("the server refuses: %s", event.get("message"))
        for handler in list(self._events.get(name, ())):
            result = _guard(handler, event)
            if inspect.iscoroutine(result):
                self._driver.spawn(_guarded(result))
        if name == "state" and self._machine.closed:
            for mailbox in list(self._mailboxes):
                mailbox.end(self._machine.closed)
            self._emit("closed", self._machine.closed[0])


class _Mailbox:
    """Frames for one iterator, and the iterator if it waits for one."""

    def __init__(self, queue: FrameQueue) -> None:
        self.queue = queue
        self.ended: "tuple[Closed, bool] | None" = None
        self._waiter: "asyncio.Future[None] | None" = None

    def put(self, frame: Frame) -> None:
        self.queue.put(frame)
        self._ring()

    def end(self, closed: "tuple[Closed, bool]") -> None:
        self.ended = closed
        self._ring()

    def _ring(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Frame:
        """The next frame; after the last one `StopAsyncIteration`, or why the server has ended the client."""
        while True:
            frame = self.queue.get()
            if frame:
                return frame
            if self.ended:
                closed, is_terminal = self.ended
                if is_terminal:
                    raise closed
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


class Frames(AsyncIterator[Frame]):
    """Frames of a subscription, for one `async for`."""

    def __init__(self, subscription: Subscription, mailbox: _Mailbox, leave: Callable[[], None]) -> None:
        self.subscription = subscription
        self._mailbox = mailbox
        self._leave = leave

    async def __anext__(self) -> Frame:
        return await self._mailbox.get()

    def __len__(self) -> int:
        """Frames that were received and not yet read."""
        return len(self._mailbox.queue)

    def close(self) -> None:
        """Ends the subscription; what was received may still be read."""
        self._leave()

    async def __aenter__(self) -> "Frames":
        return self

    async def __aexit__(self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None") -> None:
        self.close()

    def __del__(self) -> None:
        self._leave()


def _guard(handler: Callable[[Any], Any], argument: Any) -> Any:
    """A handler that fails is its author's to see, and must not stop the others."""
    try:
        return handler(argument)
    except Exception:
        LOG.exception("a handler has failed")


async def _guarded(work: "Coroutine[Any, Any, Any]") -> None:
    try:
        await work
    except Exception:
        LOG.exception("a handler has failed")
