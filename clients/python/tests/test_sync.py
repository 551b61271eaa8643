"""The client without asyncio."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from fake_server import FakeServer, fake_server_apart

import fanline
import fanline.sync

DEADLINE_S = 60


def in_loop(loop: asyncio.AbstractEventLoop, work: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(work, loop).result(DEADLINE_S)


def eventually(is_true: Any) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := is_true()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def subscribed(server: FakeServer) -> bool:
    return bool(server.said("subscribe"))


def test_frames_come_without_asyncio() -> None:
    with fake_server_apart() as (server, loop), fanline.sync.connect(server.url) as client:
        in_loop(loop, server.publish("a", 1))
        frames = client.frames("a")
        first = next(frames)
        in_loop(loop, server.publish("a", 2))
        second = next(frames)
        assert [(it.data, it.live) for it in (first, second)] == [(1, False), (2, True)]
        assert client.latest("a") == second and client.is_current("a") and client.state == "open"
        assert frames.get(0.01) is None
        frames.close()
        assert list(frames) == []


def test_commands_that_block_are_allowed_in_handlers() -> None:
    with fake_server_apart() as (server, loop), fanline.sync.connect(server.url) as client:
        answers: "list[Any]" = []
        subscription = client.subscribe("a", lambda frame: answers.append(client.request({"about": frame.offset})))
        eventually(lambda: subscribed(server))
        for n in range(3):
            in_loop(loop, server.publish("a", n))
        eventually(lambda: len(answers) == 3)
        assert answers == [{"echo": {"about": n}} for n in (1, 2, 3)] and subscription.state == "live"
        with pytest.raises(fanline.AskError) as found:
            client.send("a", {})
        assert found.value.code == "forbidden"
        subscription.unsubscribe()
        assert subscription.state == "ended"


def test_what_the_server_ends_is_raised() -> None:
    with fake_server_apart() as (server, loop), fanline.sync.connect(server.url) as client:
        frames = client.frames("a")
        client.wait_open(DEADLINE_S)
        in_loop(loop, server.close_all(4509, "a newer session has taken the place"))
        with pytest.raises(fanline.Closed, match="a newer session"):
            next(frames)
        assert client.wait_closed(DEADLINE_S).code == 4509
        with pytest.raises(fanline.AskError):
            client.request({})
    with pytest.raises(fanline.AskError):
        client.request({})


def test_closing_ends_iterators_of_other_threads_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with fake_server_apart() as (server, _):
        client = fanline.sync.connect(server.url)
        client.start()
        client.wait_open(DEADLINE_S)
        frames, ended = client.frames("a"), threading.Event()
        reader = threading.Thread(target=lambda: (list(frames), ended.set()))
        reader.start()
        client.close()
        client.close()
        assert ended.wait(DEADLINE_S)
        reader.join()
    eventually(lambda: threading.active_count() == before)


def test_a_client_may_be_closed_in_a_handler_and_without_a_start() -> None:
    with fake_server_apart() as (server, loop):
        client = fanline.sync.connect(server.url)
        client.start()
        client.subscribe("a", lambda frame: client.close())
        eventually(lambda: subscribed(server))
        in_loop(loop, server.publish("a", 1))
        client.wait_closed(DEADLINE_S)
        fanline.sync.connect(server.url).close()


@pytest.mark.parametrize("module", ["fanline", "fanline.sync"])
def test_ctrl_c_ends_a_program_and_its_connection(module: str) -> None:
    read = "        print(frame.data, flush=True)"
    sync = ["import fanline.sync, sys", "with fanline.sync.connect(sys.argv[1]) as client:", "    for frame in client.frames('a'):", read]
    loop_lines = ["    async with fanline.connect(sys.argv[1]) as client:", "        async for frame in client.frames('a'):", "    " + read]
    apart = ["import asyncio, fanline, sys", "async def main():", *loop_lines, "asyncio.run(main())"]
    # Shells ignore the signal for what they run in the background.
    heeds = ["import signal", "signal.signal(signal.SIGINT, signal.default_int_handler)"]
    source = "\n".join([*heeds, *(sync if module == "fanline.sync" else apart)])
    with fake_server_apart() as (server, loop):
        in_loop(loop, server.publish("a", 1))
        program = [sys.executable, "-c", source, server.url]
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ)) as child:
            assert child.stdout and child.stdout.readline() == b"1\n"
            child.send_signal(signal.SIGINT)
            assert child.wait(DEADLINE_S) != 0
        eventually(lambda: server.connections[0].close_code is not None)


def test_the_terminal_shows_topics() -> None:
    with fake_server_apart() as (server, loop):
        in_loop(loop, server.publish("a", {"price": 1.10}))
        in_loop(loop, server.publish("b", "\x1b[31mred"))
        run = [sys.executable, "-m", "fanline"]
        tail = subprocess.run(
            [*run, "tail", server.url, ">", "--count", "2"], capture_output=True, text=True, timeout=DEADLINE_S, check=True
        )
        assert '{"price":1.1}' in tail.stdout and "\\x1b[31mred" in tail.stdout
        wrong = subprocess.run([*run, "tail", server.url, "a b"], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert wrong.returncode == 1 and "white space" in wrong.stderr


@pytest.mark.server
def test_the_terminal_shows_current_values(server_url: str) -> None:
    latest = [sys.executable, "-m", "fanline", "latest", server_url, "quote.*", "--json"]
    found = subprocess.run(latest, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    values = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(values) > 5 and all(value["topic"].startswith("quote.") for value in values)
