"""The server's clock, as told by its answers to pings.

An answer that this side was too busy to read at once makes the offset look too great. But nothing is heard before it
was said: no message may seem to come from the future, and the offset is lowered until none does.
"""

import math
from dataclasses import dataclass

# Of the recent round trips the best one counts.
SAMPLES = 8
# How fast two clocks may drift apart, in ms per ms: twice what a poor quartz does. What is known becomes worse by that.
DRIFT = 2e-4
# This many pings in a row at the start, so that the first estimate is a good one.
SAMPLES_AT_ONCE = 4


@dataclass(frozen=True)
class _Sample:
    at: float
    round_trip: float
    offset: float

    def doubt(self, now: float) -> float:
        return self.round_trip / 2 + (now - self.at) * DRIFT


class ServerClock:
    """Estimates this clock minus the server's."""

    def __init__(self) -> None:
        self.round_trip = math.nan
        self._sent: dict[int, float] = {}
        self._samples: list[_Sample] = []
        self._estimate = math.inf
        self._bound = math.inf
        self._bound_before = math.inf

    @property
    def offset(self) -> float:
        """This clock minus the server's in ms; NaN before the first message."""
        offset = min(self._estimate, self._bound, self._bound_before)
        return math.nan if offset == math.inf else offset

    def heard(self, now: float, ts: float) -> None:
        """A message that says the server's time, or an earlier one."""
        self._bound = min(self._bound, now - ts)

    def asked(self, id: int, now: float) -> None:
        """A ping is sent."""
        self._sent[id] = now

    def answered(self, id: object, ts: float, now: float) -> bool:
        """An answer has come. Returns whether another ping should follow at once."""
        sent = self._sent.pop(id, None) if isinstance(id, int) else None
        if sent is None:
            return False
        self._samples.append(_Sample(now, now - sent, (now + sent) / 2 - ts))
        best = min(self._samples, key=lambda sample: sample.doubt(now))
        if len(self._samples) > SAMPLES:  # The best one stays, however old it is.
            del self._samples[1 if self._samples[0] is best else 0]
        self._estimate, self.round_trip = best.offset, best.round_trip
        self._bound_before, self._bound = self._bound, now - ts
        return len(self._samples) < SAMPLES_AT_ONCE

    def lost(self) -> None:
        """The connection is lost: what was asked is not answered any more."""
        self._sent.clear()
