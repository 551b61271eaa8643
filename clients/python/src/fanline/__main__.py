"""`python -m fanline`: topics on the terminal."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from . import Client, __version__, connect
from ._core.errors import FanlineError
from ._core.frame import Frame
from ._core.message import is_message
from ._core.options import TRANSPORTS
from ._core.queue import Block

# How long `latest` waits for current values that do not come.
LATEST_S = 10.0


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Runs a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.ERROR, format="%(name)s: %(message)s")
    try:
        return asyncio.run(_run(options))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # Such as `head`, which has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, FanlineError) as error:
        print(f"fanline: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fanline", description="Topics of a fanline server on the terminal.")
    parser.add_argument("--version", action="version", version=f"fanline for Python {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    tail = commands.add_parser("tail", help="print messages as they come, until Ctrl-C")
    tail.add_argument("--count", type=_count, help="stop after so many messages")
    tail.add_argument("--transport", action="append", choices=TRANSPORTS, help="use only this one; may be given again")
    tail.add_argument("--every", type=_count, default=0, metavar="MS", help="at most one update per topic in so many ms")
    latest = commands.add_parser("latest", help="print the current values, and stop")
    for command in (tail, latest):
        command.add_argument("url", metavar="URL", help="of the server, such as https://feed.example.com")
        command.add_argument("patterns", metavar="PATTERN", nargs="+", help="a topic, or a wildcard such as 'ticker.*' or '>'")
        command.add_argument("--json", action="store_true", help="print each message as a line of JSON")
        command.add_argument("--token-file", type=Path, help="a file with a token; or set FANLINE_TOKEN")
        command.add_argument("--verbose", action="store_true", help="log to stderr")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError
    return count


async def _run(options: argparse.Namespace) -> int:
    token = options.token_file.read_text().strip() if options.token_file else os.environ.get("FANLINE_TOKEN")
    every_ms: int = options.every if options.command == "tail" else 0
    # One request has all current values, and knows that it has.
    transports = ("poll",) if options.command == "latest" else options.transport or TRANSPORTS
    async with connect(options.url, token=token, transports=transports, every_ms=every_ms, numbers="exact") as client:
        output = _Output(client, options.json)
        if options.command == "latest":
            return await _latest(client, options.patterns, output)
        return await _tail(client, options.patterns, output, options.count)


async def _tail(client: Client, patterns: "list[str]", output: "_Output", count: "int | None") -> int:
    output.watch()
    left = count
    async for frame in client.frames(patterns, queue=Block()):
        output.frame(frame)
        if left is not None:
            left -= 1
            if left <= 0:
                break
    return 0


async def _latest(client: Client, patterns: "list[str]", output: "_Output") -> int:
    client.on("state", output.on_state)
    with contextlib.closing(client.frames(patterns)):
        deadline = time.monotonic() + LATEST_S
        while not client.caught_up and time.monotonic() < deadline:
            ended = asyncio.ensure_future(client.wait_closed())
            done, _ = await asyncio.wait((ended,), timeout=0.05)
            ended.cancel()
            if done:
                raise ended.result()
        is_complete = client.caught_up
        for topic in sorted(client.topics):
            frame = client.latest(topic)
            if frame:
                output.frame(frame, is_current=client.is_current(topic))
    if not is_complete:
        print(f"fanline: not every value came within {LATEST_S:g} s; the client is {client.state}", file=sys.stderr)
    return 0 if is_complete else 1


class _Output:
    """Lines on stdout; what is not a value goes to stderr."""

    def __init__(self, client: Client, is_json: bool) -> None:
        self._client = client
        self._is_json = is_json
        self._width = 0

    def watch(self) -> None:
        """Tells what is not a value."""
        self._client.on("state", self.on_state)
        for event in ("stale", "live", "gap", "refused", "skipped", "view", "error", "goodbye"):
            self._client.on(event, lambda message, event=event: self._notice(event, message))

    def on_state(self, change: Any) -> None:
        """Waiting needs a word; the rest is as it should be."""
        if change.state == "waiting":
            self._note(f"waiting: {change.reason}")
        elif change.state == "open" and self._client.simulated:
            self._note("the prices are simulated")

    def frame(self, frame: Frame, is_current: "bool | None" = None) -> None:
        """One value."""
        if self._is_json:
            self._print_json(frame, is_current)
            return
        self._width = max(self._width, len(frame.topic))
        moment = datetime.fromtimestamp(frame.ts / 1000).strftime("%H:%M:%S.%f")[:-3]
        marks = [frame.kind] if frame.kind else []
        if frame.skipped:
            marks.append(f"{frame.skipped} skipped")
        delay = self._client.delay_of(frame.topic)
        if delay:
            marks.append(f"delayed {delay / 1000:g} s")
        if self._client.is_stale(frame.topic):
            marks.append("stale")
        elif is_current is False:
            marks.append("not current")
        mark = f" [{', '.join(marks)}]" if marks else ""
        print(f"{moment} {frame.topic:<{self._width}}{mark} {_short(frame.data)}", flush=True)

    def _print_json(self, frame: Frame, is_current: "bool | None") -> None:
        line: dict[str, Any] = {"topic": frame.topic, "offset": frame.offset, "ts": frame.ts, "live": frame.live}
        if frame.kind:
            line["kind"] = frame.kind
        if frame.skipped:
            line["skipped"] = frame.skipped
        if is_current is not None:
            line["current"] = is_current
        line["data"] = frame.data.hex() if isinstance(frame.data, bytes) else frame.data
        print(_dump(line), flush=True)

    def _notice(self, event: str, message: "Mapping[str, Any]") -> None:
        about = message.get("topic") or ", ".join(map(str, message.get("topics") or []))
        said = message.get("message") or message.get("reason") or ""
        if event == "skipped":
            said = f"{message.get('from')} to {message.get('to')} ({said})"
        self._note(" ".join(part for part in (event, about, str(said)) if part))

    def _note(self, text: str) -> None:
        print(f"# {text}", file=sys.stderr, flush=True)


def _short(data: Any) -> str:
    """One line, without characters that a terminal would obey."""
    text = data.hex() if isinstance(data, bytes) else data if isinstance(data, str) else _dump(data)
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _dump(value: Any) -> str:
    """JSON with its numbers as they came."""
    if isinstance(value, Decimal):
        return str(value)
    if is_message(value):
        return "{" + ",".join(f"{json.dumps(name)}:{_dump(it)}" for name, it in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dump, value)) + "]"  # pyright: ignore[reportUnknownArgumentType]
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
