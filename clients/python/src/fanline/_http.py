"""HTTP/1.1 (RFC 9112) as far as a client of one server needs it: GET over asyncio's streams.

Everything is bounded: heads, lines, bodies. The proxies of the environment are used, as the standard library finds them.
"""

import asyncio
import ssl
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from ._core.attempt import Answer
from ._core.errors import ProtocolError
from ._url import Address

HEAD_BYTES_MAX = 64 << 10
PIECE_BYTES = 64 << 10


class Connection:
    """One connection to one server, for one request after the other."""

    def __init__(self, address: Address, tls: "ssl.SSLContext | None", bytes_max: int) -> None:
        self._address = address
        self._tls = tls
        self._bytes_max = bytes_max
        self._pair: "tuple[asyncio.StreamReader, asyncio.StreamWriter] | None" = None
        self._proxy = _proxy_of(address)

    async def fetch(self, path: str, headers: "Mapping[str, str]") -> Answer:
        """The whole answer."""
        if self._pair and (self._pair[0].at_eof() or self._pair[1].transport.is_closing()):
            self.close()  # A server may close what is idle at any time.
        answer = await self._send(path, headers)
        body = bytearray()
        async for piece in self.pieces(answer):
            body += piece
            if len(body) > self._bytes_max:
                raise ProtocolError(f"expected an answer of at most {self._bytes_max} bytes, found a longer one")
        if answer.headers.get("connection", "").lower() == "close" or not _is_delimited(answer):
            self.close()
        return Answer(answer.status, answer.headers, bytes(body))

    async def open(self, path: str, headers: "Mapping[str, str]") -> Answer:
        """The head of an answer whose body is read by `pieces`."""
        return await self._send(path, headers)

    def close(self) -> None:
        """Ends the connection at once."""
        if self._pair:
            with suppress(RuntimeError):  # The loop may be closed already.
                self._pair[1].transport.abort()
            self._pair = None

    async def _connect(self) -> "tuple[asyncio.StreamReader, asyncio.StreamWriter]":
        address, proxy = self._address, self._proxy
        tls = self._tls if address.is_tls else None
        if proxy is None:
            pair = await asyncio.open_connection(address.host, address.port, ssl=tls, limit=HEAD_BYTES_MAX)
        else:
            pair = await asyncio.open_connection(proxy.hostname, proxy.port or 80, limit=HEAD_BYTES_MAX)
            if tls:
                target = f"{address.host}:{address.port}"
                pair[1].write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{_proxy_login(proxy)}\r\n".encode("latin-1"))
                answer = await _read_head(pair[0])
                if answer.status != 200:
                    pair[1].transport.abort()
                    raise ProtocolError(f"the proxy answered with HTTP {answer.status}")
                await _start_tls(pair, tls, address.host)
        self._pair = pair
        return pair

    async def _send(self, path: str, headers: "Mapping[str, str]") -> Answer:
        reader, writer = self._pair or await self._connect()
        address, proxy = self._address, self._proxy
        is_absolute = proxy is not None and not address.is_tls
        target = address.url(path, is_socket=False) if is_absolute else address.path(path)
        lines = [f"GET {target} HTTP/1.1", f"Host: {address.authority}", "Accept-Encoding: gzip", "User-Agent: fanline-python"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        login = _proxy_login(proxy) if is_absolute and proxy else ""
        head = "\r\n".join(lines) + "\r\n" + login + "\r\n"
        writer.write(head.encode("latin-1"))
        await writer.drain()
        answer = await _read_head(reader)
        while answer.status in (100, 102, 103):
            answer = await _read_head(reader)
        return answer

    async def pieces(self, answer: Answer) -> AsyncIterator[bytes]:
        """The body, inflated, as it comes."""
        encoding = answer.headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            raise ProtocolError(f"expected the content-encoding gzip or none, found {encoding[:20]!a}")
        inflater = zlib.decompressobj(16 + zlib.MAX_WBITS) if encoding == "gzip" else None
        async for piece in self._raw_pieces(answer):
            if inflater is None:
                yield piece
                continue
            left = piece
            while left:
                try:
                    inflated = inflater.decompress(left, PIECE_BYTES)
                except zlib.error as error:
                    raise ProtocolError(f"expected gzip, found something else: {error}") from error
                left = inflater.unconsumed_tail
                if inflated:
                    yield inflated

    async def _raw_pieces(self, answer: Answer) -> AsyncIterator[bytes]:
        assert self._pair is not None
        reader = self._pair[0]
        if answer.status in (204, 304):
            return
        if answer.headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                left = _hex(await _read_line(reader))
                if left == 0:
                    break
                while left:
                    piece = await reader.read(min(left, PIECE_BYTES))
                    if not piece:
                        raise asyncio.IncompleteReadError(b"", left)
                    left -= len(piece)
                    yield piece
                await reader.readexactly(2)
            while await _read_line(reader):  # trailers
                pass
            return
        length = answer.headers.get("content-length")
        left = _decimal(length) if length is not None else None
        while left != 0:
            piece = await reader.read(PIECE_BYTES if left is None else min(left, PIECE_BYTES))
            if not piece:
                if left is None:
                    return
                raise asyncio.IncompleteReadError(b"", left)
            left = None if left is None else left - len(piece)
            yield piece


async def _start_tls(pair: "tuple[asyncio.StreamReader, asyncio.StreamWriter]", tls: ssl.SSLContext, host: str) -> None:
    """`StreamWriter.start_tls` of Python 3.11, for 3.10 as well."""
    reader, writer = pair
    transport = writer.transport
    protocol = transport.get_protocol()
    encrypted = await asyncio.get_running_loop().start_tls(transport, protocol, tls, server_hostname=host)
    if encrypted is None:
        raise ConnectionResetError("the connection ended before it was encrypted")
    reader._transport = encrypted  # pyright: ignore
    writer._transport = encrypted  # pyright: ignore


async def _read_head(reader: asyncio.StreamReader) -> Answer:
    first = (await _read_line(reader)).split(" ", 2)
    if len(first) < 2 or not first[0].startswith("HTTP/1.") or not first[1].isdigit():
        raise ProtocolError("expected an answer of HTTP/1.1, found something else")
    headers: dict[str, str] = {}
    size = 0
    while line := await _read_line(reader):
        size += len(line)
        if size > HEAD_BYTES_MAX:
            raise ProtocolError(f"expected a head of at most {HEAD_BYTES_MAX} bytes, found a longer one")
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return Answer(int(first[1]), headers)


async def _read_line(reader: asyncio.StreamReader) -> str:
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError as error:
        raise ProtocolError(f"expected a line of at most {HEAD_BYTES_MAX} bytes, found a longer one") from error
    return line.decode("latin-1").rstrip("\r\n")


def _is_delimited(answer: Answer) -> bool:
    is_chunked = answer.headers.get("transfer-encoding", "").lower() == "chunked"
    return answer.status in (204, 304) or is_chunked or "content-length" in answer.headers


def _hex(line: str) -> int:
    size = line.partition(";")[0].strip()
    if not 0 < len(size) <= 15 or any(char not in "0123456789abcdefABCDEF" for char in size):
        raise ProtocolError("expected the size of a chunk, found something else")
    return int(size, 16)


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ProtocolError("expected a number as `content-length`, found something else")
    return int(text)


def _proxy_of(address: Address) -> "SplitResult | None":
    """The proxy that the environment names for the server."""
    proxy = getproxies().get("https" if address.is_tls else "http")
    if not proxy or proxy_bypass(f"{address.host}:{address.port}"):
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts if parts.scheme == "http" and parts.hostname else None


def _proxy_login(proxy: SplitResult) -> str:
    if proxy.username is None:
        return ""
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return f"Proxy-Authorization: Basic {b64encode(login.encode()).decode()}\r\n"
