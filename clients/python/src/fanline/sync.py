"""The client without asyncio: the same calls, which block.

A thread reads and answers the server; handlers run in another one, so that commands are allowed inside them. All
methods may be called from any thread.
"""

import asyncio
import concurrent.futures
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ._client import Client as AsyncClient
from ._client import EventName, Topics
from ._core.attempt import State
from ._core.errors import AskError, Closed
from ._core.frame import Frame
from ._core.options import OptionNames, Options
from ._core.queue import Block, FrameQueue, QueuePolicy, queue_of
from ._core.subscription import Subscription as CoreSubscription
from ._core.subscription import SubscriptionChange, SubscriptionState
from ._driver import Token, Url
from ._log import LOG

if TYPE_CHECKING:
    from typing_extensions import Unpack

# How long a program that ends waits for connections to close.
CLOSE_S = 0.8
# Events that wait for their handlers; frames wait in the queues of their subscriptions.
EVENTS_MAX = 10_000

Result = TypeVar("Result")


def connect(url: Url, *, token: "Token | None" = None, tls: "ssl.SSLContext | None" = None, **options: "Unpack[OptionNames]") -> "Client":
    """A client of the server at `url`, for `with`. The arguments are those of `fanline.connect`."""
    return Client(url, token=token, tls=tls, options=Options(**options))


class Client:
    """One connection after the other to one server."""

    def __init__(self, url: Url, *, token: "Token | None", tls: "ssl.SSLContext | None", options: Options) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(url, token=token, tls=tls, options=options)
        self._dispatcher = _Dispatcher()
        self._reader = threading.Thread(target=self._read, name="fanline-reader", daemon=True)
        self._mailboxes: set[_Mailbox] = set()
        self._subscriptions: dict[CoreSubscription, Subscription] = {}
        self._state = threading.Condition()
        self._lock = threading.RLock()  # A forgotten iterator is collected at any time.
        self._is_closed = False
        self._client.on("state", self._note_state)

    # -- life

    def __enter__(self) -> "Client":
        self.start()
        return self

    def __exit__(self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None") -> None:
        self.close()

    def start(self) -> None:
        """Begins to connect; `with` does it."""
        with self._lock:
            if not self._reader.ident:
                self._dispatcher.start()
                self._reader.start()

    def wait_open(self, timeout: "float | None" = None) -> None:
        """Returns once the client is open; raises `Closed` if it has ended, `TimeoutError` after `timeout` seconds."""
        self._wait(lambda: self.state == "open" or self.closed is not None, timeout)
        if self.closed:
            raise self.closed

    def wait_closed(self, timeout: "float | None" = None) -> Closed:
        """Returns why the client has ended, once it has; raises `TimeoutError` after `timeout` seconds."""
        self._wait(lambda: self.closed is not None, timeout)
        assert self.closed is not None
        return self.closed

    def close(self) -> None:
        """Ends everything within a second; may be called again."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
        if was_closed:
            return
        self.start()
        with suppress(concurrent.futures.TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(CLOSE_S)
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._reader:
            self._reader.join(CLOSE_S)
        self._dispatcher.stop()

    def reconnect(self) -> None:
        """Ends a wait for the next attempt at once."""
        self._do(self._client.reconnect)

    def wake(self) -> None:
        """Says that the network has changed or the machine was asleep: the server is asked whether it is there."""
        self._do(self._client.wake)

    # -- what is wanted

    def frames(self, topics: Topics, *, queue: QueuePolicy = "latest") -> "Frames":
        """Frames of the topics, for `for`: first the current values, then what follows.

        The iteration ends with `close()`, and raises `Closed` if the server ends the client.
        """
        mailbox = _Mailbox(queue_of(queue))
        subscription = self._do(lambda: self._client.subscribe(topics, mailbox.put))
        with self._lock:
            self._mailboxes.add(mailbox)
        if self.closed:
            self._end_mailboxes()

        def leave() -> None:
            with self._lock:
                self._mailboxes.discard(mailbox)
            subscription.unsubscribe()
            mailbox.end((Closed("the iteration was closed"), False))

        return Frames(mailbox, leave)

    def subscribe(self, topics: Topics, handler: "Callable[[Frame], object]", *, queue: QueuePolicy = Block()) -> "Subscription":  # noqa: B008
        """Calls `handler` with each frame, in a thread of its own. Commands are allowed inside."""
        waiting = queue_of(queue)
        lock = threading.Lock()

        def take() -> None:
            with lock:
                frame = waiting.get()
            if frame and made.state != "ended":
                handler(frame)

        def put(frame: Frame) -> None:
            with lock:
                before = len(waiting)
                waiting.put(frame)
                is_more = len(waiting) > before
            if is_more:
                self._dispatcher.put(take)

        # What is known already is delivered before `subscribe` returns.
        made = Subscription(self._do)

        def add() -> None:
            made.bind(self._client.subscribe(topics, put))
            self._subscriptions[made.core] = made

        self._do(add)
        return made

    def on(self, event: EventName, handler: "Callable[[Any], object]") -> "Callable[[], None]":
        """Calls `handler` with each event, in a thread of its own; returns a function that ends it."""

        def take(it: Any) -> None:
            said = self._own(it) if isinstance(it, SubscriptionChange) else it
            self._dispatcher.put_event(lambda: handler(said))

        end = self._do(lambda: self._client.on(event, take))
        return lambda: self._do(end)

    def set_pace(self, every_ms: int) -> None:
        """At most one update per topic in this time; 0 for every frame."""
        self._do(lambda: self._client.set_pace(every_ms))

    def set_token(self, token: str) -> None:
        """Shows a new token of the same user."""
        self._do(lambda: self._client.set_token(token))

    def send(self, topic: str, data: Any) -> None:
        """Passes a message to the feed; raises an `AskError` if that cannot be done."""
        self._await(self._client.send(topic, data))

    def request(self, data: "Mapping[str, Any]", *, timeout_ms: int = 5000) -> Any:
        """Asks the feed; raises an `AskError` if there is no answer."""
        return self._await(self._client.request(data, timeout_ms=timeout_ms))

    # -- what is known

    @property
    def state(self) -> State:
        """`idle`, `connecting`, `open`, `waiting` or `closed`."""
        return self._client.state

    @property
    def closed(self) -> "Closed | None":
        """Why the client has ended."""
        return self._client.closed

    @property
    def is_terminal(self) -> bool:
        """Whether the server or the token function has ended the client for good."""
        return self._client.is_terminal

    @property
    def topics(self) -> "list[str]":
        """Topics of which a value is known."""
        return self._do(lambda: self._client.topics)

    def latest(self, topic: str) -> "Frame | None":
        """The newest frame received of a topic that is subscribed to."""
        return self._do(lambda: self._client.latest(topic))

    def is_current(self, topic: str) -> bool:
        """Whether the newest value received of the topic is what the feed says now."""
        return self._do(lambda: self._client.is_current(topic))

    def is_stale(self, topic: str) -> bool:
        """Whether the server has reported the topic as stale or refused."""
        return self._do(lambda: self._client.is_stale(topic))

    def delay_of(self, topic: str) -> float:
        """How much later than received the server sends messages of the topic, in ms; 0 if they are live."""
        return self._do(lambda: self._client.delay_of(topic))

    def is_delayed(self, topic: str) -> bool:
        """Whether values of the topic are older than the feed's by intention."""
        return self.delay_of(topic) > 0

    @property
    def is_late(self) -> bool:
        """Whether everything known is too old to be called current."""
        return self._client.is_late

    @property
    def is_silent(self) -> bool:
        """Whether the server has been silent for too long."""
        return self._client.is_silent

    @property
    def caught_up(self) -> bool:
        """Whether everything that was missed has arrived."""
        return self._client.caught_up

    @property
    def simulated(self) -> bool:
        """Whether the server has said that its prices are invented."""
        return self._client.simulated

    @property
    def messages(self) -> int:
        """Frames received so far."""
        return self._client.messages

    @property
    def clock_offset(self) -> float:
        """This clock minus the server's in ms; NaN while unknown."""
        return self._client.clock_offset

    @property
    def round_trip(self) -> float:
        """The shortest recent round trip in ms; NaN while unknown."""
        return self._client.round_trip

    @property
    def lateness(self) -> float:
        """How late the newest message was when it was read, in ms by the server's clock."""
        return self._client.lateness

    @property
    def age(self) -> float:
        """Milliseconds since the server said the newest thing that is known; NaN before the first."""
        return self._client.age

    def latency(self, frame: Frame) -> float:
        """Milliseconds from the server's receiving a frame to now."""
        return self._client.latency(frame)

    # -- inside

    def _own(self, change: SubscriptionChange) -> SubscriptionChange:
        """Names this client's subscription in place of the asyncio client's."""
        core = change.subscription
        own = self._subscriptions.pop(core, None) if change.state == "ended" else self._subscriptions.get(core)
        return replace(change, subscription=own or core)

    def _read(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._client.start)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            self._loop.close()

    def _do(self, function: "Callable[[], Result]") -> Result:
        """Calls a function in the reader's thread."""
        if not self._reader.ident or not self._reader.is_alive() or threading.current_thread() is self._reader:
            return function()
        result: concurrent.futures.Future[Result] = concurrent.futures.Future()

        def call() -> None:
            try:
                result.set_result(function())
            except BaseException as error:
                result.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # The loop has ended meanwhile.
            return function()
        while not concurrent.futures.wait((result,), CLOSE_S).done:
            if not self._reader.is_alive():
                raise self.closed or Closed("closed by this client")
        return result.result()

    def _await(self, work: "Any") -> Any:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except (RuntimeError, concurrent.futures.CancelledError):
            work.close()
            raise AskError("not_connected", "expected an open connection, found the client closed") from None

    def _wait(self, is_true: Callable[[], bool], timeout: "float | None") -> None:
        with self._state:
            if not self._state.wait_for(is_true, timeout):
                raise TimeoutError(f"expected it within {timeout} s, found the client {self.state}")

    def _note_state(self, change: object) -> None:
        if self.closed:
            self._end_mailboxes()
        with self._state:
            self._state.notify_all()

    def _end_mailboxes(self) -> None:
        assert self.closed is not None
        with self._lock:
            mailboxes = list(self._mailboxes)
        for mailbox in mailboxes:
            mailbox.end((self.closed, self.is_terminal))


class Subscription:
    """Patterns and their handler. `state` and `reason` are those of `fanline.Subscription`."""

    def __init__(self, do: "Callable[[Callable[[], None]], None]") -> None:
        self._do = do
        self._core: "CoreSubscription | None" = None

    def bind(self, core: CoreSubscription) -> None:
        """What the asyncio client has made; before, nothing is delivered."""
        self._core = core

    @property
    def core(self) -> CoreSubscription:
        """The subscription of the asyncio client."""
        assert self._core is not None
        return self._core

    @property
    def patterns(self) -> "tuple[str, ...]":
        """What is subscribed to."""
        return self.core.patterns

    @property
    def state(self) -> SubscriptionState:
        """How it is doing."""
        return self._core.state if self._core else "pending"

    @property
    def reason(self) -> str:
        """Why, if it is not well."""
        return self._core.reason if self._core else ""

    def unsubscribe(self) -> None:
        """Ends it. Patterns that nobody else uses are given back to the server."""
        self._do(self.core.unsubscribe)


class _Mailbox:
    """Frames for one iterator."""

    def __init__(self, queue: FrameQueue) -> None:
        self._queue = queue
        self._ended: "tuple[Closed, bool] | None" = None
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, frame: Frame) -> None:
        with self._changed:
            self._queue.put(frame)
            self._changed.notify()

    def end(self, closed: "tuple[Closed, bool]") -> None:
        with self._changed:
            self._ended = self._ended or closed
            self._changed.notify_all()

    def get(self, timeout: "float | None") -> "Frame | None":
        """None after `timeout` seconds; `StopIteration` after the last one."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                frame = self._queue.get()
                if frame:
                    return frame
                if self._ended:
                    closed, is_terminal = self._ended
                    raise closed if is_terminal else StopIteration
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)


class Frames(Iterator[Frame]):
    """Frames of a subscription, for one `for`."""

    def __init__(self, mailbox: _Mailbox, leave: Callable[[], None]) -> None:
        self._mailbox = mailbox
        self._leave = leave

    def __iter__(self) -> "Frames":
        return self

    def __next__(self) -> Frame:
        frame = self._mailbox.get(None)
        assert frame is not None
        return frame

    def get(self, timeout: float) -> "Frame | None":
        """The next frame, or None if none comes within `timeout` seconds. Raises `StopIteration` after the last one."""
        return self._mailbox.get(timeout)

    def __len__(self) -> int:
        """Frames that were received and not yet read."""
        return len(self._mailbox)

    def close(self) -> None:
        """Ends the subscription; what was received may still be read."""
        self._leave()

    def __enter__(self) -> "Frames":
        return self

    def __exit__(self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None") -> None:
        self.close()

    def __del__(self) -> None:
        self._leave()


class _Dispatcher:
    """Calls handlers one after the other, in a thread that is not the reader's."""

    def __init__(self) -> None:
        self._work: deque[Callable[[], object]] = deque()
        self._events = 0
        self._changed = threading.Condition()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="fanline-handlers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What waits is still done, as far as that takes no longer than a client may take to close."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_S / 4)

    def put(self, work: "Callable[[], object]") -> None:
        with self._changed:
            self._work.append(work)
            self._changed.notify()

    def put_event(self, work: "Callable[[], object]") -> None:
        """Events are bounded in number."""
        with self._changed:
            is_full = self._events >= EVENTS_MAX
            self._events += 0 if is_full else 1
        if is_full:
            LOG.error("an event was dropped: %s wait for their handlers", EVENTS_MAX)
            return

        def call() -> None:
            with self._changed:
                self._events -= 1
            work()

        self.put(call)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work or self._is_stopped)
                if not self._work:
                    return
                work = self._work.popleft()
            try:
                work()
            except Exception:
                LOG.exception("a handler has failed")
