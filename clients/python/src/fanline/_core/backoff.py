"""Delays before the next attempt: exponential with full jitter, so that many clients do not return together."""

from collections.abc import Callable


class Backoff:
    """A random part of a bound that doubles from `first_ms` up to `max_ms`."""

    def __init__(self, first_ms: float, max_ms: float, random: Callable[[], float]) -> None:
        self._first_ms = first_ms
        self._max_ms = max_ms
        self._random = random
        self._attempts = 0

    def next_ms(self) -> float:
        """The delay before the next attempt."""
        bound = min(self._max_ms, self._first_ms * 2.0 ** min(self._attempts, 60))
        self._attempts += 1
        return self._random() * bound

    def reset(self) -> None:
        """A connection was a good one: the next loss starts with a short delay again."""
        self._attempts = 0
