"""A parser of `text/event-stream` (HTML Living Standard, section 9.2.6), fed with pieces of any size."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import ProtocolError


@dataclass(frozen=True)
class StreamEvent:
    """One event: its name, its data and the last id of the stream."""

    name: str
    data: str
    id: str


class EventStream:
    """Holds at most one event that is not yet complete, of at most `bytes_max`."""

    def __init__(self, bytes_max: int) -> None:
        self.retry_ms: "int | None" = None
        self._bytes_max = bytes_max
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest: list[str] = []  # pieces of the line that has not ended
        self._size = 0
        self._after_cr = False
        self._name = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, piece: bytes) -> Iterator[StreamEvent]:
        """The events that the piece completes."""
        text = self._decoder.decode(piece)
        if self._after_cr and text:
            text = text.removeprefix("\n")
            self._after_cr = False
        if text.endswith("\r"):
            self._after_cr = True
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        lines = text.split("\n")
        for line in lines[:-1]:
            self._grow(len(line))
            event = self._line("".join([*self._rest, line]))
            self._rest = []
            if event:
                yield event
        if lines[-1]:
            self._grow(len(lines[-1]))
            self._rest.append(lines[-1])

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._bytes_max:
            raise ProtocolError(f"expected an event of at most {self._bytes_max} bytes, found a longer one")

    def _line(self, line: str) -> "StreamEvent | None":
        if line == "":
            event = StreamEvent(self._name or "message", "\n".join(self._data), self._id) if self._data else None
            self._name, self._data, self._size = "", [], 0
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
            return None
        self._size -= len(line)
        if field == "event":
            self._name = value
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value[:9])
        return None
