"""Milliseconds since the Unix epoch that only go forward, also while the machine sleeps."""

import time


def _steady() -> float:
    # On Linux the monotonic clock stands still while the machine sleeps; this one does not.
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


_BEGUN = time.time() - _steady()


def now_ms() -> float:
    """The time."""
    return (_BEGUN + _steady()) * 1000
