"""What a user has subscribed to, and how it is doing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from .frame import Frame
from .pattern import check_pattern

SubscriptionState = Literal["pending", "live", "delayed", "stale", "refused", "ended"]


class Subscription:
    """Patterns and who receives their frames. `state` is one of

    * `pending`: asked for, and not in force yet;
    * `live`, `delayed`: in force; `delayed` if the server sends its topics later than received;
    * `stale`: what it brought may be outdated: the connection was lost, the feed is stale, or its only topic is;
    * `refused`: not in force; `reason` says why;
    * `ended`: by `unsubscribe`, or with the client.
    """

    def __init__(self, patterns: "tuple[str, ...]", deliver: Callable[[Frame], None], leave: "Callable[[Subscription], None]") -> None:
        self.patterns = patterns
        self.state: SubscriptionState = "pending"
        self.reason = ""
        self.deliver = deliver
        self.was_in_force = False
        self._leave = leave

    def unsubscribe(self) -> None:
        """Ends it. Patterns that nobody else uses are given back to the server."""
        self._leave(self)


@dataclass(frozen=True)
class SubscriptionChange:
    """A subscription is doing better or worse."""

    subscription: Any
    """The `Subscription`."""
    state: SubscriptionState
    reason: str


def patterns_of(topics: "str | list[str] | tuple[str, ...]") -> "tuple[str, ...]":
    """Checks patterns; raises a `ValueError` that names the first one that is none."""
    patterns = tuple(dict.fromkeys([topics] if isinstance(topics, str) else topics))
    if not patterns:
        raise ValueError("expected at least one topic or pattern, found none")
    for pattern in patterns:
        wrong = check_pattern(pattern)
        if wrong:
            raise ValueError(wrong)
    return patterns
