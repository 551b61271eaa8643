"""Client of fanline for asyncio; `fanline.sync` is the same without asyncio."""

from ._client import Client, Frames, connect
from ._core.attempt import State, StateChange
from ._core.errors import AskError, Closed, FanlineError, ProtocolError, Unauthorized
from ._core.frame import Frame
from ._core.options import Options, Transport
from ._core.pattern import check_pattern, matches
from ._core.queue import All, Block
from ._core.subscription import Subscription, SubscriptionChange, SubscriptionState
from ._core.token import TokenReason

__version__ = "0.1.0"

__all__ = [
    "All",
    "AskError",
    "Block",
    "Client",
    "Closed",
    "FanlineError",
    "Frame",
    "Frames",
    "Options",
    "ProtocolError",
    "State",
    "StateChange",
    "Subscription",
    "SubscriptionChange",
    "SubscriptionState",
    "TokenReason",
    "Transport",
    "Unauthorized",
    "check_pattern",
    "connect",
    "matches",
]
