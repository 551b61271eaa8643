"""When a token must be asked for: before it is needed, never twice at a time, and not with a dead one."""

import base64
import json
import math
from typing import Any, Literal

TokenReason = Literal["first", "expiring", "expired", "refused"]

# A token with less than this left is not used to connect.
LEFT_MS_MIN = 30_000
# A token is renewed when this part of its life is over.
RENEW_AT = 0.8
# The token was refused, or has expired; this many times in a row is for ever.
REFUSED_MAX = 3


class Tokens:
    """The token in use, and what is known of its life."""

    def __init__(self, token: "str | None", asks: bool) -> None:
        self.token = token
        self.asking = False
        self.deadline = math.inf
        """When who was asked must have answered."""
        self._asks = asks
        self._reason: "TokenReason | None" = "first" if asks else None
        self._expires_at = math.inf
        self._renew_at = math.inf
        self._refused = 0

    @property
    def renew_at(self) -> float:
        """When the token should be renewed in band."""
        return math.inf if self.asking else self._renew_at

    def needed(self, now: float) -> "TokenReason | None":
        """Why a token must be asked for before an attempt; None if there is a good one, or nobody to ask."""
        if not self._asks:
            return None
        if self._reason is None and now >= self._expires_at:
            self._reason = "expired"
        elif self._reason is None and now >= self._expires_at - self._left_min:
            self._reason = "expiring"
        return self._reason

    def ask(self, deadline: float) -> None:
        """Somebody is asked for a token."""
        self.asking, self.deadline = True, deadline

    def got(self, token: str, now: float) -> None:
        """A token has come."""
        self._answered()
        self.token = token
        self._reason = None
        self._live(now, _life_ms(token, now))

    def failed(self, now: float, again_ms: float) -> None:
        """No token has come; while the old one serves, it is asked for again later."""
        self._answered()
        if self._renew_at < math.inf:
            self._renew_at = now + again_ms

    def lives(self, now: float, expires_ms: float, is_expiring: bool) -> None:
        """The server has said how long the token is good; with `is_expiring` it asks for a new one."""
        self._refused = 0
        self._live(now, expires_ms)
        if is_expiring and self._asks:
            self._renew_at = now

    def refuse(self) -> bool:
        """The server does not take the token. Returns whether that is for ever."""
        self._refused += 1
        if self._asks:
            self._reason = "refused"
        return self._refused >= REFUSED_MAX

    def spend(self) -> None:
        """The server wants a fresh token with the next connection."""
        if self._asks:
            self._reason = "expiring"

    def accepted(self) -> None:
        """A connection was a good one."""
        self._refused = 0

    def lost(self) -> None:
        """The connection is over: the next attempt asks, if it must."""
        self._renew_at = math.inf

    def _answered(self) -> None:
        self.asking, self.deadline = False, math.inf

    def _live(self, now: float, life_ms: float) -> None:
        self._expires_at = now + life_ms
        # A life so short that every attempt would ask again is used to its end.
        self._left_min = min(LEFT_MS_MIN, life_ms * (1 - RENEW_AT))
        self._renew_at = now + life_ms * RENEW_AT if self._asks else math.inf

    _left_min = 0.0


def _life_ms(token: str, now: float) -> float:
    """What a JWT says of its own end, by this clock; unverified, as only the server can verify it."""
    try:
        body = token.split(".")[1]
        claims: Any = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return max(float(claims["exp"]) * 1000 - now, 0.0)
    except (IndexError, KeyError, TypeError, ValueError):
        return math.inf
