"""The three ways to a server: a WebSocket, a stream of events, and single requests.

Each is a coroutine for one connection, which is cancelled to end it.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from ._core.attempt import Answer, Loss, loss_of
from ._core.errors import ProtocolError
from ._core.event_stream import EventStream
from ._http import Connection
from ._log import LOG
from ._url import Address

# The server answers a close frame at once; a program that ends does not wait longer for it.
CLOSE_S = 0.3
UNAUTHENTICATED = 4401


async def run_socket(
    url: str,
    tls: "ssl.SSLContext | None",
    bytes_max: int,
    opened: "Callable[[ClientConnection], None]",
    received: Callable[[str], None],
) -> Loss:
    """Returns when the WebSocket has ended."""
    connection: "ClientConnection | None" = None
    try:
        # The queue of the library need not be bounded: what it holds is taken before it reads on.
        connection = await connect(
            url,
            ssl=tls,
            max_size=bytes_max,
            max_queue=None,
            open_timeout=None,
            ping_interval=None,
            close_timeout=CLOSE_S,
            logger=LOG.getChild("websocket"),
        )
        opened(connection)
        with suppress(ConnectionClosed):  # The connection knows its code and reason.
            async for message in connection:
                if isinstance(message, str):
                    received(message)
        return _closed(connection)
    except InvalidStatus as error:
        response = error.response
        headers = {name.lower(): value for name, value in response.headers.raw_items()}
        return loss_of(Answer(response.status_code, headers, bytes(response.body or b"")))
    except (OSError, WebSocketException, EOFError, ValueError) as error:
        return _failed(error)
    finally:
        if connection:
            await connection.close()


def _closed(connection: ClientConnection) -> Loss:
    code, reason = connection.close_code, connection.close_reason
    if reason:
        return Loss(reason, code)
    if code is None or code == 1006:
        return Loss("the connection failed or was cut", 1006)
    return Loss(f"the connection was closed with code {code}", code)


async def run_stream(
    address: Address,
    path: str,
    headers: "Mapping[str, str]",
    *,
    tls: "ssl.SSLContext | None",
    bytes_max: int,
    opened: Callable[[], None],
    received: Callable[[str, str], None],
) -> Loss:
    """Returns when the stream of events has ended."""
    unfit = _unfit(headers)
    if unfit:
        return unfit
    connection = Connection(address, tls, bytes_max)
    try:
        answer = await connection.open(path, {**headers, "accept": "text/event-stream"})
        if answer.status != 200:
            # Of an answer that refuses, as much is read as comes at once.
            body = b""
            async for piece in connection.pieces(answer):
                body += piece
                if len(body) > 64 << 10:
                    break
            return loss_of(Answer(answer.status, answer.headers, body))
        kind = answer.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() != "text/event-stream":
            return Loss(f"expected text/event-stream, found {kind[:60]!a}")
        opened()
        events = EventStream(bytes_max)
        async for piece in connection.pieces(answer):
            for event in events.feed(piece):
                # The id of an event without one is that of an earlier one: it moves the cursor to where it is.
                received(event.data, event.id)
        return Loss("the stream was cut")
    except (OSError, EOFError, ProtocolError) as error:
        return _failed(error)
    finally:
        connection.close()


async def run_fetch(connection: Connection, path: str, headers: "Mapping[str, str]") -> "Answer | Loss":
    """One request."""
    unfit = _unfit(headers)
    if unfit:
        return unfit
    try:
        return await connection.fetch(path, headers)
    except (OSError, EOFError, ProtocolError) as error:
        connection.close()
        return _failed(error)


def _unfit(headers: "Mapping[str, str]") -> "Loss | None":
    """A token that no header can hold is refused before the server sees it."""
    authorization = headers.get("authorization", "")
    if authorization.isascii() and authorization.isprintable():
        return None
    return Loss("expected a token of ASCII characters, found others", UNAUTHENTICATED)


def _failed(error: Exception) -> Loss:
    is_cut = isinstance(error, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError))
    # Without a server, or with a wrong certificate, every transport fails alike.
    is_away = isinstance(error, OSError) and not is_cut and not isinstance(error, EOFError)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLCertVerificationError):
        is_away = False
    if isinstance(error, asyncio.IncompleteReadError):
        return Loss("the connection was cut")
    if isinstance(error, socket.gaierror):
        return Loss(f"the name of the server is not known: {error.strerror}", is_away=True)
    return Loss(str(error) or type(error).__name__, is_away=is_away)
