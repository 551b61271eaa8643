"""What was said to the feed and waits for its answer."""

from collections.abc import Callable, Mapping
from typing import Any

from .errors import AskError

Done = Callable[[Any], None]


class Asks:
    """Answers may come in another order than the commands."""

    def __init__(self) -> None:
        self._waiting: dict[int, Done] = {}

    def add(self, id: int, done: Done) -> None:
        self._waiting[id] = done

    def refuse(self, done: Done, code: str, message: str) -> None:
        done(AskError(code, message))

    def answer(self, message: "Mapping[str, Any]") -> bool:
        """Whether the message answers an ask."""
        id = message.get("id")
        done = self._waiting.pop(id, None) if isinstance(id, int) else None
        if done is None:
            return False
        if message.get("op") == "error":
            done(AskError(str(message.get("code")), str(message.get("message"))))
        else:
            done(message.get("data"))
        return True

    def lose(self) -> None:
        """The connection has ended: whether the feed received what was said is not known."""
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            done(AskError("connection_lost", "the connection ended before the answer came"))
