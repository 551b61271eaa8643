"""What the server says, as JSON whose types are not known."""

import json
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeGuard
from urllib.parse import quote

Message = Mapping[str, Any]


def is_message(value: object) -> "TypeGuard[dict[str, Any]]":
    """Whether a value of JSON is an object."""
    return isinstance(value, dict)


def messages(value: object) -> "list[Message]":
    """The objects of a list; nothing if it is none."""
    return [it for it in value if is_message(it)] if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def texts(value: object) -> "list[str]":
    """The strings of a list; nothing if it is none."""
    return [it for it in value if isinstance(it, str)] if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def id_of(message: Message) -> "int | None":
    """The id of the command that is answered; those of this client are integers."""
    id = message.get("id")
    return id if isinstance(id, int) else None


def offset_of(message: Message) -> int:
    """The offset, or 0."""
    offset = message.get("offset", 0)
    return offset if isinstance(offset, int) else 0


def delays_of(message: Message) -> "float | Mapping[str, float]":
    """How late messages are: for all topics, or by pattern."""
    delays = message.get("delay_ms", 0)
    if is_message(delays):
        return {pattern: number(delay, 0) for pattern, delay in delays.items()}
    return number(delays, 0)


def number(value: object, default: float) -> float:
    """A finite number, or the default."""
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        return default
    return number if math.isfinite(number) else default


def query(parameters: "Mapping[str, str | int | tuple[str, ...]]") -> str:
    """A query with its question mark; a tuple is a list with commas."""
    parts: list[str] = []
    for name, value in parameters.items():
        values = value if isinstance(value, tuple) else (str(value),)
        parts.append(name + "=" + ",".join(quote(it, safe="*:@$!~") for it in values))
    return "?" + "&".join(parts) if parts else ""


def reader(numbers: str) -> "Callable[[str | bytes], Any]":
    """Reads JSON; with `exact` numbers with a fraction as `Decimal`."""
    parse_float = Decimal if numbers == "exact" else None
    return lambda text: json.loads(text, parse_float=parse_float)
