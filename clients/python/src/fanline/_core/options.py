"""What a user can choose of a client."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

Transport = Literal["websocket", "sse", "longpoll", "poll"]
TRANSPORTS: "tuple[Transport, ...]" = ("websocket", "sse", "longpoll", "poll")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `connect`; all times in milliseconds."""

    transports: "Sequence[Transport]" = TRANSPORTS
    """Transports to use, best first."""
    policy: Literal["conflate", "lossless"] = "conflate"
    """What the server does when this client falls behind."""
    every_ms: int = 0
    """At most one update per topic in this time, the newest; 0 for every frame."""
    numbers: Literal["float", "exact"] = "float"
    """`exact` reads numbers with a point as `decimal.Decimal`. Integers are always exact."""
    backoff_ms: float = 500
    """Upper bound of the first delay before a reconnect; it doubles."""
    backoff_max_ms: float = 15_000
    """Upper bound of every delay."""
    connect_deadline_ms: float = 4_000
    """An attempt without a message from the server by then has failed. It doubles, up to four times, while none succeeds."""
    probe_deadline_ms: float = 5_000
    """A server that does not answer a probing ping by then is lost."""
    stable_ms: float = 5_000
    """A connection that lasted this long makes the backoff start over."""
    late_ms: "float | None" = None
    """A message read this long after the server sent it is late; default: 1000 and `every_ms`."""
    token_deadline_ms: float = 10_000
    """A token function without an answer by then has failed."""
    wait_ms: int = 25_000
    """How long the server holds a long poll."""
    poll_ms: float = 1_000
    """Pause between plain polls."""
    reprobe_ms: float = 15_000
    """How long a client waits on a lower transport before it tries the best one again; it doubles, up to 45 s."""
    message_bytes_max: int = 64 << 20
    """A longer message ends the connection."""

    def __post_init__(self) -> None:
        if not self.transports or len(set(self.transports)) < len(self.transports):
            raise ValueError(f"expected a list of different transports, found {list(self.transports)}")
        for transport in self.transports:
            _one_of("transports", transport, TRANSPORTS)
        _one_of("policy", self.policy, ("conflate", "lossless"))
        _one_of("numbers", self.numbers, ("float", "exact"))
        if self.every_ms != 0 and not 10 <= self.every_ms <= 60_000:
            raise ValueError(f"expected every_ms of 10 to 60000, or 0 for every frame, found {self.every_ms}")
        if not 0 <= self.wait_ms <= 30_000:
            raise ValueError(f"expected wait_ms of 0 to 30000, found {self.wait_ms}")
        for name in ("backoff_ms", "backoff_max_ms", "stable_ms"):
            _at_least(name, getattr(self, name), 0)
        for name in ("connect_deadline_ms", "probe_deadline_ms", "token_deadline_ms", "poll_ms", "reprobe_ms"):
            _at_least(name, getattr(self, name), 1)
        _at_least("message_bytes_max", self.message_bytes_max, 1024)


class OptionNames(TypedDict, total=False):
    """`Options` as keyword arguments."""

    transports: "Sequence[Transport]"
    policy: Literal["conflate", "lossless"]
    every_ms: int
    numbers: Literal["float", "exact"]
    backoff_ms: float
    backoff_max_ms: float
    connect_deadline_ms: float
    probe_deadline_ms: float
    stable_ms: float
    late_ms: "float | None"
    token_deadline_ms: float
    wait_ms: int
    poll_ms: float
    reprobe_ms: float
    message_bytes_max: int


def _one_of(name: str, value: str, values: "Sequence[str]") -> None:
    if value not in values:
        raise ValueError(f"expected {name} to be of {', '.join(values)}, found {value!r}")


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"expected {name} of at least {least:g}, found {value!r}")
