"""What is asked of the server, by each transport: paths beside `/v1`, and headers."""

from collections.abc import Mapping

from .message import query
from .options import Options
from .token import Tokens

# Frames of one answer of a poll.
POLL_MAX = 10_000

Path = str
Headers = Mapping[str, str]


class Requests:
    """Paths and headers with what the user has chosen, and the token of the moment."""

    def __init__(self, options: Options, tokens: Tokens) -> None:
        self.every_ms = options.every_ms
        """The pace, which may change."""
        self._tokens = tokens
        self._policy = {"policy": options.policy} if options.policy != "conflate" else {}

    def socket(self) -> Path:
        """A WebSocket; subscriptions and tokens are messages."""
        return "/ws" + query(self._policy | self._pace())

    def stream(self, topics: "tuple[str, ...]", since: "str | None") -> "tuple[Path, Headers]":
        """A stream of events."""
        cursor = {"since": since} if since else {}
        return "/sse" + query({"topics": topics} | cursor | self._policy | self._pace()), self._headers()

    def poll(self, topics: "tuple[str, ...]", since: "str | None", wait_ms: int) -> "tuple[Path, Headers]":
        """What is new since the cursor, for which the server may wait."""
        cursor = {"since": since} if since else {}
        wait = {"wait_ms": str(wait_ms)} if wait_ms else {}
        return "/poll" + query({"topics": topics, "max": str(POLL_MAX)} | cursor | wait), self._headers()

    def snapshot(self, topics: "tuple[str, ...]", etag: str = "") -> "tuple[Path, Headers]":
        """The current values, unless they are those of the tag."""
        unless = {"if-none-match": etag} if etag else {}
        return "/snapshot" + query({"topics": topics}), self._headers() | unless

    def _headers(self) -> "dict[str, str]":
        token = self._tokens.token
        return {} if token is None else {"authorization": f"Bearer {token}"}

    def _pace(self) -> "dict[str, str]":
        return {"every": f"{self.every_ms}ms"} if self.every_ms else {}
