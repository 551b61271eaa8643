"""The client, driven by the conformance suite (clients/conformance/README.md): JSON lines on stdin and stdout.

With `--sync` it is the client of `fanline.sync`.
"""

import asyncio
import base64
import decimal
import itertools
import json
import pathlib
import platform
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "src"))

import fanline
import fanline.sync

EVENTS = ("stale", "live", "gap", "refused", "skipped", "view", "goodbye", "error")
FEATURES = ["tokens", "pace", "ask", "wake", "numbers", "url", "calm", "ladder"]


def say(event: "dict[str, Any]") -> None:
    """One line."""
    line = json.dumps({name: value for name, value in event.items() if value is not None}, default=str) + "\n"
    with LOCK:
        sys.stdout.write(line)
        sys.stdout.flush()


LOCK = threading.Lock()


def hello(name: str) -> None:
    """The first event."""
    say(
        {
            "event": "hello",
            "protocol": 1,
            "name": name,
            "version": fanline.__version__,
            "runtime": f"python {platform.python_version()}",
            "transports": ["websocket", "sse", "longpoll", "poll"],
            "features": FEATURES,
        }
    )


def exact(value: Any) -> Any:
    """Integers that a double does not hold are marked."""
    if isinstance(value, dict):
        return {name: exact(it) for name, it in value.items()}
    if isinstance(value, list):
        return [exact(it) for it in value]
    if isinstance(value, decimal.Decimal):
        return float(value)
    is_large = isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53
    return {"$int": str(value)} if is_large else value


class Questions:
    """What the client's functions have asked the runner."""

    def __init__(self) -> None:
        self.answers: "dict[str, Callable[[dict[str, Any]], None]]" = {}
        self.numbers = itertools.count(1)

    def ask(self, client: str, about: str, reason: "str | None", take: "Callable[[dict[str, Any]], None]") -> None:
        question = f"q{next(self.numbers)}"
        self.answers[question] = take
        say({"event": "question", "client": client, "question": question, "about": about, "reason": reason})


def value_of(answer: "dict[str, Any]") -> str:
    """What a function returns, or raises, for an answer of the runner."""
    if answer.get("unauthorized"):
        raise fanline.Unauthorized("no token")
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["value"]


class Adapter:
    """What both clients have in common: a command is a method, an event is a line."""

    def __init__(self, questions: Questions) -> None:
        self.questions = questions
        self.clients: dict[str, Any] = {}
        self.subscriptions: dict[tuple[str, str], Any] = {}
        self.names: dict[int, str] = {}

    def connect(self, command: "dict[str, Any]", connect: "Callable[..., Any]", asks: "Callable[[str, str], Any]") -> None:
        """`asks` makes the functions that a client calls for its URL and its token."""
        name, url, token = command["client"], command["url"], command.get("options", {}).get("token")
        client = connect(
            asks(name, "url") if isinstance(url, dict) else url,
            token=asks(name, "token") if isinstance(token, dict) else token,
            **options_of(command),
        )
        self.clients[name] = client
        self.watch(name, client)
        client.on("closed", lambda closed: self.on_closed(name, closed, client.is_terminal))
        client.start()

    def watch(self, name: str, client: Any) -> None:
        client.on("state", lambda change: self.on_state(name, client, change))
        client.on("subscription", lambda change: self.on_subscription(name, change))
        for event in EVENTS:
            client.on(event, lambda message: say({**message, "event": "notice", "client": name}))

    def on_state(self, name: str, client: Any, change: fanline.StateChange) -> None:
        retry_ms = change.retry_ms if change.state == "waiting" else None
        event = {"event": "state", "client": name, "state": change.state, "reason": change.reason or None}
        say({**event, "retry_ms": retry_ms, "transport": change.transport})

    def on_closed(self, name: str, closed: fanline.Closed, is_terminal: bool) -> None:
        code = closed.code if closed.code is not None else ("unauthorized" if is_terminal else "closed")
        say({"event": "closed", "client": name, "code": code, "reason": closed.reason, "terminal": is_terminal})

    def on_subscription(self, client: str, change: Any) -> None:
        name = self.names.get(id(getattr(change, "subscription", change)))
        if name:
            event = {"event": "subscription", "client": client, "subscription": name}
            say({**event, "state": change.state, "reason": change.reason or None})

    def on_frame(self, client: str, subscription: str, frame: fanline.Frame) -> None:
        event = {"event": "frame", "client": client, "subscription": subscription, **self.frame(frame), "live": frame.live}
        say(event)

    def frame(self, frame: fanline.Frame) -> "dict[str, Any]":
        envelope = {"topic": frame.topic, "offset": frame.offset, "ts": frame.ts, "kind": frame.kind}
        if isinstance(frame.data, bytes):
            return {**envelope, "data_base64": base64.b64encode(frame.data).decode()}
        return {**envelope, "data": exact(frame.data)}

    def looked(self, command: "dict[str, Any]", client: Any) -> None:
        topic = command["topic"]
        frame = client.latest(topic)
        say(
            {
                "event": "looked",
                "client": command["client"],
                "look": command["look"],
                "topic": topic,
                "frame": self.frame(frame) if frame else None,
                "current": client.is_current(topic),
                "stale": client.is_stale(topic),
                "delay_ms": client.delay_of(topic),
            }
        )

    def subscribe(self, command: "dict[str, Any]", client: Any) -> None:
        name, subscription = command["client"], command["subscription"]
        made = client.subscribe(command["topics"], lambda frame: self.on_frame(name, subscription, frame))
        self.subscriptions[name, subscription] = made
        self.names[id(made)] = subscription
        self.on_subscription(name, made)

    def command(self, command: "dict[str, Any]", client: Any) -> None:
        """Commands that are the same for both clients."""
        op = command["op"]
        if op == "subscribe":
            self.subscribe(command, client)
        elif op == "unsubscribe":
            self.subscriptions[command["client"], command["subscription"]].unsubscribe()
        elif op == "set_pace":
            client.set_pace(command["every_ms"])
        elif op == "set_token":
            client.set_token(command["token"])
        elif op == "look":
            self.looked(command, client)
        elif op == "reconnect":
            client.reconnect()
        elif op == "wake":
            client.wake()
        else:
            raise ValueError(f"unknown command {op}")


def options_of(command: "dict[str, Any]") -> "dict[str, Any]":
    """The options of a command that are the client's own."""
    known = fanline.Options.__dataclass_fields__
    options = {name: value for name, value in command.get("options", {}).items() if name in known}
    options.pop("token", None)
    if options.get("numbers") not in ("float", "exact", None):
        del options["numbers"]
    return options


def threw(command: "dict[str, Any]", error: Exception) -> None:
    names = {name: value for name, value in command.items() if name in ("client", "op", "subscription", "ask", "look")}
    say({"event": "threw", "message": str(error), **names})


async def run_async() -> None:
    """The asyncio client."""
    questions = Questions()
    adapter = Adapter(questions)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Any) -> None:
        task = loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def asks(client: str, about: str) -> "Callable[..., Any]":
        async def function(reason: "str | None" = None) -> str:
            answer: asyncio.Future[dict[str, Any]] = loop.create_future()
            questions.ask(client, about, reason, lambda it: None if answer.done() else answer.set_result(it))
            return value_of(await answer)

        return function

    async def tell(command: "dict[str, Any]", work: Any) -> None:
        name, ask = command["client"], command["ask"]
        try:
            data = await work
        except fanline.AskError as error:
            say({"event": "failed", "client": name, "ask": ask, "code": error.code, "message": error.message})
        else:
            say({"event": "answered", "client": name, "ask": ask, "data": exact(data)})

    def take(command: "dict[str, Any]") -> None:
        op, name = command["op"], command["client"]
        if op == "connect":
            adapter.connect(command, fanline.connect, asks)
            return
        if op == "answer":
            questions.answers[command["question"]](command)
            return
        client = adapter.clients[name]
        if op == "send":
            spawn(tell(command, client.send(command["topic"], command["data"])))
        elif op == "request":
            timeout = {"timeout_ms": command["timeout_ms"]} if "timeout_ms" in command else {}
            spawn(tell(command, client.request(command["data"], **timeout)))
        elif op == "close":
            spawn(client.close())
        elif op == "sync":
            loop.call_soon(lambda: loop.call_soon(say, {"event": "synced", "client": name, "sync": command["sync"]}))
        else:
            adapter.command(command, client)

    reader = asyncio.StreamReader(limit=64 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    hello("fanline for Python (asyncio)")
    while line := await reader.readline():
        command = json.loads(line)
        try:
            take(command)
        except Exception as error:  # The way of the language: whatever it raises.
            threw(command, error)
    await asyncio.gather(*(client.close() for client in adapter.clients.values()))


def run_sync() -> None:
    """The client of `fanline.sync`."""
    questions = Questions()
    adapter = Adapter(questions)

    def asks(client: str, about: str) -> "Callable[..., Any]":
        def function(reason: "str | None" = None) -> str:
            answers: "queue.SimpleQueue[dict[str, Any]]" = queue.SimpleQueue()
            questions.ask(client, about, reason, answers.put)
            return value_of(answers.get())

        return function

    def tell(command: "dict[str, Any]", work: "Callable[[], Any]", before: "threading.Thread | None") -> None:
        name, ask = command["client"], command["ask"]
        try:
            data = work()
        except fanline.AskError as error:
            if error.code == "connection_lost" and before:  # All asks fail at once, each in a thread of its own.
                before.join(1)
            say({"event": "failed", "client": name, "ask": ask, "code": error.code, "message": error.message})
        else:
            say({"event": "answered", "client": name, "ask": ask, "data": exact(data)})

    asking: "dict[str, threading.Thread]" = {}

    def ask(name: str, command: "dict[str, Any]", work: "Callable[[], Any]") -> None:
        thread = threading.Thread(target=tell, args=(command, work, asking.get(name)), daemon=True)
        asking[name] = thread
        thread.start()

    def take(command: "dict[str, Any]") -> None:
        op, name = command["op"], command["client"]
        if op == "connect":
            adapter.connect(command, fanline.sync.connect, asks)
            return
        if op == "answer":
            questions.answers[command["question"]](command)
            return
        client = adapter.clients[name]
        if op == "send":
            ask(name, command, lambda: client.send(command["topic"], command["data"]))
        elif op == "request":
            timeout = {"timeout_ms": command["timeout_ms"]} if "timeout_ms" in command else {}
            ask(name, command, lambda: client.request(command["data"], **timeout))
        elif op == "close":
            threading.Thread(target=client.close, daemon=True).start()
        elif op == "sync":
            assert client.topics is not None  # Everything that was said so far waits for its handler now.
            synced = {"event": "synced", "client": name, "sync": command["sync"]}
            if client._is_closed:
                client._dispatcher._thread.join(2)
                say(synced)
            else:
                client._dispatcher.put(lambda: say(synced))
        else:
            adapter.command(command, client)

    hello("fanline for Python (sync)")
    for line in sys.stdin:
        command = json.loads(line)
        try:
            take(command)
        except Exception as error:  # The way of the language: whatever it raises.
            threw(command, error)
    for client in adapter.clients.values():
        client.close()


if __name__ == "__main__":
    run_sync() if "--sync" in sys.argv else asyncio.run(run_async())
