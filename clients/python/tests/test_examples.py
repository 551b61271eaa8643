"""The worked examples in `examples/`, each started by its one command with the real server."""

import asyncio
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from conftest import eventually

import fanline

EXAMPLES = Path(__file__).parents[3] / "examples"
SERVER = os.environ.get("SERVER_BINARY", "")

pytestmark = pytest.mark.skipif(not SERVER, reason="SERVER_BINARY names no fanline")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@asynccontextmanager
async def started(example: str) -> AsyncIterator[str]:
    """The example runs, with a feed and a server of its own; the URL of the server."""
    # What is set for these tests is unknown to a server.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FANLINE_")}
    settings = {"PYTHON": sys.executable, "FANLINE": SERVER, "FANLINE_LISTEN": "127.0.0.1:0", "FEED_PORT": str(free_port())}
    process = await asyncio.create_subprocess_exec(
        EXAMPLES / example / "start", env=inherited | settings, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout
        beginning = "fanline listening on "
        async for line in process.stdout:
            if line.decode().startswith(beginning):
                yield line.decode().removeprefix(beginning).split()[0]
                return
        pytest.fail(f"{example} has ended without a server")
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


async def talk(url: str, room: str, name: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, EXAMPLES / "chat/talk.py", url, room, name, stdin=pipe, stdout=pipe)


async def read_until(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdout
    async for line in process.stdout:
        if line.decode().strip() == text:
            return
    pytest.fail(f"expected the line: {text}")


async def test_a_line_reaches_who_is_in_the_room_and_who_comes_later() -> None:
    async with started("chat") as url:
        async with fanline.connect(url) as client:
            client.subscribe("chat.lobby", lambda frame: None)
            await eventually(lambda: client.latest("chat.lobby"))
        ann, ben = await talk(url, "garden", "ann"), await talk(url, "garden", "ben")
        late = None
        try:
            assert ann.stdin
            ann.stdin.write(b"hello\n")
            await read_until(ben, "ann: hello")
            late = await talk(url, "garden", "cat")
            await read_until(late, "ann: hello")
        finally:
            for process in filter(None, (ann, ben, late)):
                process.kill()
                await process.communicate()


def test_what_is_no_line_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "chat")
    feed = importlib.import_module("feed")
    line = {"room": "lobby", "say": {"from": "ann", "text": "hello"}}
    assert feed.line_of(json.dumps(line)) == ("lobby", "ann", "hello")
    for wrong in ("n" * 31, "", ["n" * 1000], {"n": 1}, 7, None):
        assert feed.line_of(json.dumps(line | {"say": {"from": wrong, "text": "hello"}})) is None
        assert wrong == "n" * 31 or feed.line_of(json.dumps(line | {"say": {"from": "ann", "text": wrong}})) is None
    assert feed.line_of(json.dumps(line | {"room": "a room"})) is None


async def test_scores_are_there_for_who_comes_late_and_clocks_run() -> None:
    async with started("pitches") as url, fanline.connect(url, every_ms=200) as client:
        minutes: dict[str, set[int]] = {}
        client.subscribe("pitch.*.clock", lambda frame: minutes.setdefault(frame.topic, set()).add(frame.data["minute"]))
        client.subscribe("pitch.*.score", lambda frame: None)
        clocks = {f"pitch.{pitch}.clock" for pitch in range(1, 9)}
        scores = {f"pitch.{pitch}.score" for pitch in range(1, 9)}
        await eventually(lambda: clocks == set(minutes) and all(len(seen) >= 2 for seen in minutes.values()))
        assert scores <= set(client.topics)
        assert all(client.is_current(topic) for topic in scores)
