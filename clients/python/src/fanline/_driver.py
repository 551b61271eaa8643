"""What turns a machine's wishes into sockets, requests, timers and tasks of asyncio."""

import asyncio
import inspect
import math
import random
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ._clock import now_ms
from ._core.attempt import Attempt, Loss
from ._core.errors import Unauthorized
from ._core.machine import Machine
from ._core.options import Options
from ._core.token import TokenReason
from ._http import Connection
from ._log import LOG
from ._transports import CLOSE_S, run_fetch, run_socket, run_stream
from ._url import Address, address_of

# What waits in a socket when the timer rings is heard of within these turns of the loop: one reads it, the next wakes the
# task, which hears it. Only then may the machine conclude that nobody spoke.
READ_TURNS = 3

Token = str | Callable[[TokenReason], "str | Awaitable[str]"]
Url = str | Callable[[], "str | Awaitable[str]"]


@dataclass(eq=False)
class _Link:
    """What runs for one attempt."""

    outbox: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue[str])
    tasks: "set[asyncio.Task[None]]" = field(default_factory=set[asyncio.Task[None]])
    address: "Address | None" = None
    connection: "Connection | None" = None


class Driver:
    """One machine in one event loop."""

    def __init__(
        self, url: Url, token: "Token | None", tls: "ssl.SSLContext | None", options: Options, emit: Callable[[str, Any], None]
    ) -> None:
        self._url = url
        self._address = address_of(url) if isinstance(url, str) else None
        self._token = token
        self._tls = tls
        self._options = options
        self._loop: "asyncio.AbstractEventLoop | None" = None
        self._timer: "asyncio.TimerHandle | None" = None
        self._is_flushing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: dict[Attempt, _Link] = {}
        self._question: "asyncio.Task[None] | None" = None
        self._emit = emit
        own = token if isinstance(token, str) else None
        self.machine = Machine(options, own, callable(token), self, random.random)

    def start(self) -> None:
        """Begins to connect, once."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self.machine.start(now_ms())
            self.arm()

    async def close(self) -> None:
        """Ends everything, and waits a little for connections to close."""
        self.machine.close()
        if self._question:
            self._question.cancel()
        self.arm()
        waiting = [task for task in self._tasks if task is not asyncio.current_task()]
        if waiting:
            await asyncio.wait(waiting, timeout=2 * CLOSE_S)

    def arm(self) -> None:
        """Sets the timer. It may ring early; nothing is due then."""
        if self._loop is None:
            return
        wake_at = self.machine.wake_at
        timer = self._timer
        if math.isinf(wake_at):
            if timer:
                timer.cancel()
            self._timer = None
            return
        when = self._loop.time() + max(wake_at - now_ms(), 0) / 1000
        if timer is None or timer.when() > when:
            if timer:
                timer.cancel()
            self._timer = self._loop.call_at(when, self._ring)

    def flush_soon(self) -> None:
        """Tells the server what is wanted, once for all changes of this turn of the loop."""
        if not self._is_flushing and self._loop is not None and not self._loop.is_closed():
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def in_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        """Calls a function in the loop: at once if this is its thread."""
        loop = self._loop
        if loop is None:
            return function(*arguments)
        if loop.is_closed():
            return None
        try:
            is_here = asyncio.get_running_loop() is loop
        except RuntimeError:
            is_here = False
        if is_here:
            return function(*arguments)
        with suppress(RuntimeError):  # The loop was closed meanwhile.
            loop.call_soon_threadsafe(function, *arguments)

    def spawn(self, work: "Coroutine[Any, Any, None]") -> "asyncio.Task[None]":
        """A task that ends with the client at the latest."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _ring(self, turns: int = READ_TURNS) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._ring, turns - 1)
            return
        self._timer = None
        self.machine.tick(now_ms())
        self.arm()

    def _flush(self) -> None:
        self._is_flushing = False
        self.machine.flush(now_ms())
        self.arm()

    # -- hooks of the machine

    def open_socket(self, attempt: Attempt, path: str) -> None:
        """Opens a WebSocket."""
        self._run(attempt, lambda link, address: self._socket(attempt, link, address, path))

    def open_stream(self, attempt: Attempt, path: str, headers: "Mapping[str, str]") -> None:
        """Opens a stream of events."""
        self._run(attempt, lambda _, address: self._stream(attempt, address, path, headers))

    def fetch(self, attempt: Attempt, path: str, headers: "Mapping[str, str]") -> None:
        """Makes one request."""
        self._run(attempt, lambda link, address: self._fetch(attempt, link, address, path, headers))

    def say(self, attempt: Attempt, text: str) -> None:
        """Sends on a WebSocket."""
        link = self._links.get(attempt)
        if link:
            link.outbox.put_nowait(text)

    def hang_up(self, attempt: Attempt) -> None:
        """Ends what runs for an attempt."""
        link = self._links.pop(attempt, None)
        if link:
            for task in link.tasks:
                task.cancel()
            if link.connection:
                link.connection.close()

    def emit(self, name: str, event: Any) -> None:
        """Tells the user."""
        self._emit(name, event)

    def ask_token(self, reason: TokenReason) -> None:
        """Calls the token function."""
        if self._question:
            self._question.cancel()
        self._question = self.spawn(self._ask_token(reason))

    # -- what runs

    def _run(self, attempt: Attempt, work: "Callable[[_Link, Address], Coroutine[Any, Any, None]]") -> None:
        link = self._links.setdefault(attempt, _Link())

        async def run() -> None:
            if link.address is None:
                link.address = await self._where(attempt)
            if link.address is not None:
                await work(link, link.address)
            self.arm()

        task = self.spawn(run())
        link.tasks.add(task)
        task.add_done_callback(link.tasks.discard)

    async def _where(self, attempt: Attempt) -> "Address | None":
        if not callable(self._url):
            return self._address
        try:
            return address_of(await _call(self._url))
        except Exception as error:  # A function of the user may raise anything.
            self._lost(attempt, Loss(f"the URL function failed: {error}", is_away=True))
            return None

    async def _socket(self, attempt: Attempt, link: _Link, address: Address, path: str) -> None:
        def opened(connection: ClientConnection) -> None:
            task = self.spawn(_write(connection, link.outbox))
            link.tasks.add(task)
            task.add_done_callback(link.tasks.discard)
            self.machine.opened(attempt, now_ms())

        def received(text: str) -> None:
            self.machine.received(attempt, text, "", now_ms())
            self.arm()

        url = address.url(path, is_socket=True)
        self._lost(attempt, await run_socket(url, self._tls_of(address), self._options.message_bytes_max, opened, received))

    async def _stream(self, attempt: Attempt, address: Address, path: str, headers: "Mapping[str, str]") -> None:
        def received(text: str, cursor: str) -> None:
            self.machine.received(attempt, text, cursor, now_ms())
            self.arm()

        loss = await run_stream(
            address,
            path,
            headers,
            tls=self._tls_of(address),
            bytes_max=self._options.message_bytes_max,
            opened=lambda: self.machine.opened(attempt, now_ms()),
            received=received,
        )
        self._lost(attempt, loss)

    async def _fetch(self, attempt: Attempt, link: _Link, address: Address, path: str, headers: "Mapping[str, str]") -> None:
        if link.connection is None:
            link.connection = Connection(address, self._tls_of(address), self._options.message_bytes_max)
        found = await run_fetch(link.connection, path, headers)
        if isinstance(found, Loss):
            self._lost(attempt, found)
        else:
            self.machine.answered(attempt, found, now_ms())

    def _lost(self, attempt: Attempt, loss: Loss) -> None:
        LOG.debug("connection %s (%s) has ended: %s", attempt.number, attempt.transport, loss.reason)
        self.machine.lost(attempt, loss, now_ms())
        self.arm()

    async def _ask_token(self, reason: TokenReason) -> None:
        assert callable(self._token)
        try:
            token = await _call(self._token, reason)
            if not isinstance(token, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"expected a string from the token function, found {type(token).__name__}")
        except Unauthorized as error:
            self.machine.token_failed(str(error), True, now_ms())
        except Exception as error:  # A function of the user may raise anything.
            LOG.warning("the token function failed: %s", error)
            self.machine.token_failed(str(error), False, now_ms())
        else:
            self.machine.token(token, now_ms())
        self.arm()

    def _tls_of(self, address: Address) -> "ssl.SSLContext | None":
        if address.is_tls and self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls if address.is_tls else None


async def _write(connection: ClientConnection, outbox: "asyncio.Queue[str]") -> None:
    with suppress(ConnectionClosed):  # Who reads is told.
        while True:
            await connection.send(await outbox.get())


async def _call(function: "Callable[..., str | Awaitable[str]]", *arguments: Any) -> str:
    """Calls a function of the user; one that may block runs in a thread, which does not hold up the end of the program."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    loop = asyncio.get_running_loop()
    answer: "asyncio.Future[str | Awaitable[str]]" = loop.create_future()

    def settle(result: Any, error: "BaseException | None") -> None:
        if answer.done():
            return
        if error:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def run() -> None:
        result: Any = None
        failure: "BaseException | None" = None
        try:
            result = function(*arguments)
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # The loop has ended meanwhile.
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="fanline-function", daemon=True).start()
    result = await answer
    return result if isinstance(result, str) else await result
