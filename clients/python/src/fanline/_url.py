"""Where a server is: the address of `/v1/ws`, beside which its other paths stand."""

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

SCHEMES = {"ws": False, "http": False, "wss": True, "https": True}


@dataclass(frozen=True)
class Address:
    """One server."""

    host: str
    port: int
    is_tls: bool
    folder: str
    """The path of `/v1`, below which the server may stand anywhere."""
    query: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    def path(self, path: str) -> str:
        """The path and query of a request; `path` is like `/ws?topics=a`."""
        name, _, query = path.partition("?")
        queries = "&".join(part for part in (self.query, query) if part)
        return f"{self.folder}{name}" + (f"?{queries}" if queries else "")

    def url(self, path: str, *, is_socket: bool) -> str:
        """The whole URL."""
        scheme = ("ws" if is_socket else "http") + ("s" if self.is_tls else "")
        return f"{scheme}://{self.authority}{self.path(path)}"


def address_of(url: str) -> Address:
    """Reads a URL; raises a `ValueError` that says what is wrong with it."""
    parts: SplitResult = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"expected a URL such as wss://feed.example.com/v1/ws, found {url!r}")
    if not parts.hostname:
        raise ValueError(f"expected a host in the URL, found {url!r}")
    if parts.username is not None:
        raise ValueError("expected no user in the URL; pass a token instead")
    is_tls = SCHEMES[parts.scheme]
    path = parts.path if parts.path not in ("", "/") else "/v1/ws"
    folder = path.rpartition("/")[0]
    return Address(parts.hostname, parts.port or (443 if is_tls else 80), is_tls, folder, parts.query)
