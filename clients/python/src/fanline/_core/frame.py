"""One message of one topic, as a client gives it to its user."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame. `data` is the feed's payload: any JSON, or `bytes` if it is binary."""

    topic: str
    offset: int
    """Its number among all frames of the server."""
    ts: int
    """When the server received it, in ms since the Unix epoch."""
    data: Any
    kind: "str | None" = None
    """`snapshot` or `delta` for topics that are told as a whole value and changes to it."""
    live: bool = True
    """False for current values, and for what is replayed after a reconnect."""
    skipped: int = 0
    """Frames that this iterator left out before this one, because it was read too slowly."""
    text: str = ""
    """The message as received; empty if it came by a poll."""


def frame_of(message: Mapping[str, Any], live: bool, text: str) -> Frame:
    """Reads the envelope of a frame."""
    try:
        topic, offset, ts = message["topic"], message["offset"], message["ts"]
        binary = message.get("data_base64")
        data = message["data"] if binary is None else base64.b64decode(binary, validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise ProtocolError(f"expected a frame with `topic`, `offset`, `ts` and `data`, found {_short(message)}") from error
    if not isinstance(topic, str) or not _is_int(offset) or not _is_int(ts):
        raise ProtocolError(f"expected a topic and two integers in a frame, found {_short(message)}")
    kind = message.get("kind")
    return Frame(topic, offset, ts, data, kind if isinstance(kind, str) else None, live, 0, text)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(message: Mapping[str, Any]) -> str:
    return f"the members {sorted(str(key)[:20] for key in list(message)[:8])}"
