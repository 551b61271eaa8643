"""The asyncio client on a server in this process."""

import asyncio
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from conftest import eventually
from fake_server import EPOCH, fake_server, fake_server_apart

import fanline


async def test_frames_are_current_values_and_then_what_follows() -> None:
    async with fake_server() as server, fanline.connect(server.url) as client:
        await server.publish("a", {"n": 1})
        frames = client.frames("a")
        first = await anext_of(frames)
        await server.publish("a", {"n": 2})
        second = await anext_of(frames)
        assert [(it.topic, it.offset, it.data, it.live) for it in (first, second)] == [("a", 1, {"n": 1}, False), ("a", 2, {"n": 2}, True)]
        assert client.latest("a") == second and client.topics == ["a"] and client.is_current("a")


async def anext_of(frames: fanline.Frames) -> fanline.Frame:
    return await frames.__anext__()


async def test_commands_are_allowed_in_handlers_of_both_kinds() -> None:
    async with fake_server() as server, fanline.connect(server.url) as client:
        answers: "list[Any]" = []
        codes: "list[str]" = []
        more: "list[int]" = []

        async def on_frame(frame: fanline.Frame) -> None:
            answers.append(await client.request({"about": frame.offset}))
            try:
                await client.send("a", {})
            except fanline.AskError as error:
                codes.append(error.code)

        def on_other(frame: fanline.Frame) -> None:
            client.subscribe("b", lambda it: more.append(it.offset))
            client.set_pace(100)

        client.subscribe("a", on_frame)
        client.subscribe("a", on_other)
        await eventually(lambda: len(server.said("subscribe")) >= 1)
        await server.publish("a", 1)
        await eventually(lambda: codes)
        assert answers == [{"echo": {"about": 1}}] and codes == ["forbidden"]
        await eventually(lambda: any(it.get("every_ms") == 100 for it in server.said("subscribe")))
        await server.publish("b", 1)
        await eventually(lambda: more)


async def test_a_slow_iterator_has_the_newest_and_holds_nobody_up() -> None:
    async with fake_server() as server, fanline.connect(server.url) as client:
        newest, every = client.frames("a"), client.frames("a", queue=fanline.All(10))
        seen: "list[int]" = []
        client.subscribe("a", lambda frame: seen.append(frame.offset))
        await eventually(lambda: server.said("subscribe"))
        for n in range(100):
            await server.publish("a", n)
        await eventually(lambda: len(seen) == 100)
        frame = await anext_of(newest)
        assert (frame.offset, frame.skipped, len(newest)) == (100, 99, 0)
        kept = [await anext_of(every) for _ in range(10)]
        assert [(it.offset, it.skipped) for it in kept[:2]] == [(91, 90), (92, 0)]


async def test_a_lost_connection_is_resumed_without_loss_or_repeat() -> None:
    async with fake_server() as server, fanline.connect(server.url, backoff_ms=5, backoff_max_ms=20) as client:
        offsets: "list[int]" = []
        client.subscribe("a", lambda frame: offsets.append(frame.offset))
        await eventually(lambda: server.said("subscribe"))
        for n in range(5):
            await server.publish("a", n)
            await eventually(lambda n=n: len(offsets) == n + 1)
            await server.close_all(1012)
            await eventually(lambda n=n: len(server.said("subscribe")) == n + 2)
        assert offsets == [1, 2, 3, 4, 5]
        assert server.said("subscribe")[-1]["since"] == f"{EPOCH}:5"


async def test_a_busy_program_reads_what_waits_before_it_concludes_that_nobody_spoke() -> None:
    with fake_server_apart() as (server, loop):
        server.heartbeat_ms = 250
        async with fanline.connect(server.url) as client:
            states: "list[str]" = []
            offsets: "list[int]" = []

            def publish() -> None:
                asyncio.run_coroutine_threadsafe(server.publish("a", 1), loop).result()

            def on_frame(frame: fanline.Frame) -> None:
                offsets.append(frame.offset)
                if frame.offset == 1:
                    client.on("state", lambda event: states.append(event.state))
                    publish()
                    time.sleep(0.6)  # longer than twice the heartbeat

            client.subscribe("a", on_frame)
            await eventually(lambda: server.said("subscribe"))
            publish()
            await eventually(lambda: len(offsets) == 2)
            assert states == []


async def test_what_the_server_ends_is_raised_where_frames_are_read() -> None:
    async with fake_server() as server, fanline.connect(server.url) as client:
        frames = client.frames("a")
        await eventually(lambda: client.state == "open")
        await server.close_all(4503, "access was withdrawn")
        with pytest.raises(fanline.Closed, match="access was withdrawn") as found:
            await anext_of(frames)
        assert found.value.code == 4503 and client.is_terminal
        with pytest.raises(fanline.Closed):
            client.frames("b")
        with pytest.raises(fanline.Closed):
            await client.wait_open()


async def test_closing_is_quick_and_may_be_repeated() -> None:
    async with fake_server() as server:
        client = fanline.connect(server.url)
        client.start()
        frames = client.frames("a")
        await client.wait_open()
        await client.close()
        await client.close()
        assert [frame async for frame in frames] == [] and not client.is_terminal
        with pytest.raises(fanline.AskError) as found:
            await client.request({})
        assert found.value.code == "not_connected"
        await eventually(lambda: server.connections[0].close_code == 1000)


async def test_an_iterator_that_is_forgotten_gives_its_topic_back() -> None:
    async with fake_server() as server, fanline.connect(server.url) as client:
        client.subscribe("b", lambda frame: None)
        await eventually(lambda: client.state == "open")
        await server.publish("a", 1)
        async for frame in client.frames("a"):
            assert frame.data == 1
            break
        await eventually(lambda: server.said("unsubscribe"))
        assert server.said("unsubscribe")[0]["topics"] == ["a"]


async def test_a_token_function_is_asked_once_and_its_refusal_is_final() -> None:
    questions: "list[str]" = []

    async def token(reason: str) -> str:
        questions.append(reason)
        await asyncio.sleep(0)
        return "secret-token"

    async with fake_server() as server, fanline.connect(server.url, token=token) as client:
        client.subscribe("a", lambda frame: None)
        await eventually(lambda: server.said("subscribe"))
        assert server.commands[0]["op"] == "auth" and server.commands[0]["token"] == "secret-token"
        assert questions == ["first"]

    def refuses(reason: str) -> str:
        raise fanline.Unauthorized("the user has signed out")

    async with fake_server() as server, fanline.connect(server.url, token=refuses) as client:
        closed = await client.wait_closed()
        assert closed.reason == "the user has signed out" and client.is_terminal and server.attempts == 0


async def test_a_token_function_that_blocks_holds_up_neither_the_loop_nor_the_end() -> None:
    begun, go_on = threading.Event(), threading.Event()
    finished: "list[str]" = []

    def token(reason: str) -> str:
        begun.set()
        go_on.wait()
        finished.append(reason)
        return "late"

    async with fake_server() as server:
        async with fanline.connect(server.url, token=token) as client:
            await eventually(begun.is_set)
            assert client.state == "connecting"
        assert client.state == "closed" and not finished
        go_on.set()


async def test_a_handler_that_fails_is_logged_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with fake_server() as server, fanline.connect(server.url) as client:
        seen: "list[int]" = []

        def fails(frame: fanline.Frame) -> None:
            raise ValueError("mine")

        client.subscribe("a", fails)
        client.subscribe("a", lambda frame: seen.append(frame.offset))
        await eventually(lambda: client.state == "open")
        await server.publish("a", 1)
        await eventually(lambda: seen)
        assert any(record.name == "fanline" and record.exc_info for record in caplog.records)


@pytest.mark.parametrize("url", ["ftp://x/v1/ws", "feed.example.com", "ws://", "wss://user:secret@x/", "ws://x:99999/"])
async def test_a_wrong_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError) as found:
        fanline.connect(url)
    assert "secret" not in str(found.value)


@pytest.mark.parametrize("topics", ["", "a b", [], ["a", "b..c"]])
async def test_a_wrong_pattern_is_refused_at_once(topics: Any) -> None:
    async with fake_server() as server, fanline.connect(server.url) as client:
        with pytest.raises(ValueError, match="expected"):
            client.frames(topics)


async def test_exact_numbers_keep_every_digit() -> None:
    async with fake_server() as server, fanline.connect(server.url, numbers="exact") as client:
        frames = client.frames("a")
        await eventually(lambda: client.state == "open")
        text = '{"topic":"a","offset":1,"ts":1,"data":{"id":9007199254740993,"price":0.10}}'
        await eventually(lambda: server.said("subscribe"))
        await server.connections[0].send(text)
        frame = await anext_of(frames)
        assert (frame.data["id"], str(frame.data["price"]), frame.text) == (9007199254740993, "0.10", text)


def has(url: str, path: str) -> bool:
    """Whether the server answers at the path, if only to refuse a request without topics."""
    try:
        urllib.request.urlopen(f"{url}{path}?wrong=1").close()
    except urllib.error.HTTPError as error:
        return error.code != 404
    return True


@pytest.mark.server
@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll", "poll"])
async def test_the_real_server_speaks_every_transport(server_url: str, transport: Any) -> None:
    if transport in ("sse", "longpoll") and not has(server_url, {"sse": "/v1/sse", "longpoll": "/v1/poll"}[transport]):
        pytest.skip(f"the server has no {transport}")
    async with fanline.connect(server_url, transports=[transport], poll_ms=50) as client:
        offsets: "dict[str, int]" = {}
        frames = client.frames("quote.*")
        async for frame in frames:
            assert frame.offset > offsets.get(frame.topic, 0)
            offsets[frame.topic] = frame.offset
            if len(offsets) >= 5 and frame.live and client.caught_up:
                break
        assert client.simulated and any(client.is_current(topic) for topic in offsets)
