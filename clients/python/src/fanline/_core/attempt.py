"""One connection of a client, how it ends, and what a machine needs to have done for it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from .feed import Plan
from .message import Message, number
from .options import Transport
from .token import TokenReason

State = Literal["idle", "connecting", "open", "waiting", "closed"]


@dataclass(frozen=True)
class StateChange:
    """The client's state; `reason` in words and `retry_ms` with `waiting`, `transport` with `connecting` and `open`."""

    state: State
    reason: str = ""
    retry_ms: float = 0
    transport: "Transport | None" = None


@dataclass(eq=False)
class Attempt:
    """One connection, from dialling it to its end."""

    number: int
    transport: Transport
    is_probe: bool
    deadline: float
    plan: "Plan | None" = None
    heard: int = 0
    """Messages, or answers of polls."""
    welcomed_at: float = math.inf
    is_up: bool = False
    goodbye: "Message | None" = None
    etag: str = ""
    asked: "tuple[str, ...]" = ()
    filling: "tuple[str, ...]" = ()
    """Patterns whose current values are fetched before the stream continues."""
    next_poll_at: float = math.inf
    calm_at: float = 0
    """When to poll again, at the earliest, if the answer brings nothing new."""


@dataclass(frozen=True)
class Loss:
    """Why a connection ended."""

    reason: str
    code: "int | None" = None
    """The close code, or the status of HTTP."""
    retry_after_ms: float = 0
    is_away: bool = False
    """There is no server at all, by any transport: the name is not known, or nobody listens."""
    is_mute: bool = False
    """Nothing came in time."""
    error: str = ""
    """The server's word for it."""


@dataclass(frozen=True)
class Answer:
    """An answer of HTTP."""

    status: int
    headers: "Mapping[str, str]"
    """Names in lower case."""
    body: bytes = b""


class Hooks(Protocol):
    """What a machine needs of its owner. Everything about an attempt is ignored after `hang_up`."""

    def open_socket(self, attempt: Attempt, path: str) -> None: ...
    def open_stream(self, attempt: Attempt, path: str, headers: "Mapping[str, str]") -> None: ...
    def fetch(self, attempt: Attempt, path: str, headers: "Mapping[str, str]") -> None: ...
    def say(self, attempt: Attempt, text: str) -> None: ...
    def hang_up(self, attempt: Attempt) -> None: ...
    def ask_token(self, reason: TokenReason) -> None: ...
    def emit(self, name: str, event: Any) -> None: ...


def loss_of(answer: Answer) -> Loss:
    """What an answer of HTTP that refuses says."""
    retry_after_ms = 1000 * max(number(answer.headers.get("retry-after"), 0), 0)
    reason, error = f"the server answered with HTTP {answer.status}", ""
    try:
        said = json.loads(answer.body)
        reason, error = f"{str(said['message'])[:200]} (HTTP {answer.status})", str(said["code"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # Something in front of the server has answered.
    return Loss(reason, answer.status, retry_after_ms if answer.status in (429, 503) else 0, error=error)
