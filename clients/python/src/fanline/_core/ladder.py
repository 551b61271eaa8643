"""Which transport to use: a lower one when one does not work, and the best one again when it does.

A transport is proven by messages, not by an open connection: some proxies open a stream and hold its first bytes back.
"""

from collections.abc import Sequence

from .options import Transport

# Attempts that may fail before the next transport is tried. One on which nothing came at all fails at once.
ATTEMPTS_MAX = 2
# A transport whose connections are cut so often soon after they open is left, too.
CUTS_MAX = 3
# A client is back on the best transport within a minute after the way is free.
REPROBE_MS_MAX = 45_000
DEADLINE_DOUBLINGS_MAX = 2


class Ladder:
    """The transports, best first, and the one in use."""

    def __init__(self, transports: "Sequence[Transport]", deadline_ms: float, reprobe_ms: float) -> None:
        self._transports = tuple(transports)
        self._index = 0
        self._failures = 0
        self._cuts = 0
        self._proven: "int | None" = None
        """The one that works, while the best one has to show that it lasts."""
        self._laps = 0
        self._deadline_ms = deadline_ms
        self._reprobe_first_ms = self._reprobe_ms = reprobe_ms

    @property
    def transport(self) -> Transport:
        """The one in use."""
        return self._transports[self._index]

    @property
    def best(self) -> Transport:
        """The one that is tried again from time to time."""
        return self._transports[0]

    @property
    def is_best(self) -> bool:
        """Whether there is nothing better to try."""
        return self._index == 0

    @property
    def deadline_ms(self) -> float:
        """How long an attempt may take. On a slow network every transport would fail for ever if it stayed the same."""
        return self._deadline_ms * 2 ** min(self._laps, DEADLINE_DOUBLINGS_MAX)

    def proven(self) -> None:
        """Messages have come by the transport in use."""
        self._failures = self._laps = 0

    def failed(self, mute: bool) -> None:
        """An attempt ended before it was proven; `mute` if nothing came at all although the way seemed open."""
        self._failures += 1
        if self._failures >= ATTEMPTS_MAX or mute:
            self._descend()

    def cut(self) -> None:
        """A connection that had opened was cut soon after."""
        self._cuts += 1
        if self._cuts >= CUTS_MAX:
            self._descend()

    def lasted(self) -> None:
        """A connection was a good one."""
        self._cuts = 0
        self._proven = None
        if self.is_best:
            self._reprobe_ms = self._reprobe_first_ms

    def _descend(self) -> None:
        self._failures = self._cuts = 0
        if self._proven is not None:
            self._index, self._proven = self._proven, None
            return
        self._index += 1
        if self._index == len(self._transports):
            self._index = 0
            self._laps += 1

    def promote(self) -> None:
        """The best one greets again; whether it lasts is to be seen."""
        self._proven = self._index
        self._index = 0
        # One that has been left before is left again for less.
        self._failures, self._cuts = ATTEMPTS_MAX - 1, CUTS_MAX - 1

    def reprobe_ms(self) -> float:
        """The pause before the best one is tried again."""
        pause = self._reprobe_ms
        self._reprobe_ms = min(2 * pause, max(REPROBE_MS_MAX, self._reprobe_first_ms))
        return pause
