"""How old what is known of the server is, by the server's own clock.

A program that cannot keep up reads messages long after they were said. One that was stopped, or whose network is gone,
reads none. Either way the newest thing known is old, and no value is current.
"""

import math

# The server answers a ping within a round trip, and is asked after 2 s to 3 s of silence: beyond this it is out of reach.
SILENT_MS_MAX = 4_000


class Freshness:
    """When the server said the newest message, and when it was read."""

    def __init__(self, late_ms: float) -> None:
        self.lateness = 0.0
        self._late_ms = late_ms
        self._silent_ms: float = SILENT_MS_MAX
        self._said_at = math.nan
        self._heard_at = math.nan

    def set_bounds(self, late_ms: float, silent_ms: float) -> None:
        """A message read this late is late, and a server silent for this long is out of reach."""
        self._late_ms, self._silent_ms = late_ms, silent_ms

    def heard(self, now: float, said_at: float) -> None:
        """A message was read that the server said at `said_at`, by this side's clock."""
        self._said_at, self._heard_at = said_at, now
        self.lateness = max(now - said_at, 0.0)

    def age(self, now: float) -> float:
        """Milliseconds since the server said the newest thing that is known; NaN before the first."""
        return now - self._said_at if math.isnan(self._said_at) else max(now - self._said_at, 0.0)

    def is_silent(self, now: float) -> bool:
        """Whether the server is out of reach, as far as can be known."""
        return now - self._heard_at > self._silent_ms

    def is_late(self, now: float) -> bool:
        """Whether values cannot be called current."""
        return self.lateness > self._late_ms or self.is_silent(now)
