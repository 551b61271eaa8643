"""What the Python puppets share: orders come in by lines on stdin, what was received goes out by lines on stdout."""

import asyncio
import sys

FLUSH_S = 0.005


class Puppet:
    def __init__(self, extensions):
        self.reading = asyncio.Event()
        self.reading.set()
        self.say(extensions)
        sys.stdout.buffer.flush()

    async def perform(self, receive, send):
        """Does as it is told until it is told to close. An error in a message ends the program, and so the test."""
        tasks = [asyncio.create_task(task) for task in (self.receive(receive), self.flush(), self.obey(send))]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        sys.stdout.buffer.flush()
        for task in done:
            task.result()

    async def receive(self, receive):
        while True:
            await self.reading.wait()
            self.say(await receive())

    async def flush(self):
        while True:
            await asyncio.sleep(FLUSH_S)
            sys.stdout.buffer.flush()

    async def obey(self, send):
        orders = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        while line := (await orders.readline()).decode().rstrip("\n"):
            order, _, text = line.partition(" ")
            match order:
                case "send":
                    await send(text)
                case "pause":
                    self.reading.clear()
                case "resume":
                    self.reading.set()
                case "close":
                    return
                case _:
                    raise ValueError(f"expected `send TEXT`, `pause`, `resume` or `close`, found `{line}`")

    def say(self, text):
        sys.stdout.buffer.write(text.encode() + b"\n")
