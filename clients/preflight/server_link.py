"""One connection to the server, by the same way that Flower's SuperNode takes: straight, or through a proxy."""

from __future__ import annotations

import base64
import http.client
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

SECONDS = 10.0
"""To wait for an answer."""
_LONGEST_ANSWER = 65536


@dataclass(frozen=True)
class Answer:
    """What the server said.

    Attributes:
        date: its clock, as it wrote it; None where it did not.
    """

    status: int
    date: str | None
    content: bytes


@dataclass(frozen=True)
class ServerLink:
    """The way to ``host``, port ``port``.

    Attributes:
        proxy: that the environment names for it; None: straight.
    """

    host: str
    port: int
    proxy: SplitResult | None = field(default=None, repr=False)

    @classmethod
    def to(cls, address: str) -> ServerLink:
        """The server at ``host:port``, with the proxy of this environment."""
        host, _, port = address.rpartition(":")
        return cls(host, int(port), proxy_for(host))

    @property
    def first_stop(self) -> tuple[str, int]:
        """Where the TCP connection goes."""
        if self.proxy is None:
            return self.host, self.port
        return self.proxy.hostname or "", self.proxy.port or 80

    def open(self, authority: Path) -> http.client.HTTPSConnection:
        """A connection whose other end is who ``authority`` (PEM) says.

        Raises:
            OSError: it cannot be reached (ssl.SSLError: it is not whom it should be).
        """
        # Made as Flower makes it, so that both take or refuse the same certificates.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=authority.read_text(encoding="ascii"))
        connection = http.client.HTTPSConnection(*self.first_stop, timeout=SECONDS, context=context)
        if self.proxy is not None:
            connection.set_tunnel(self.host, self.port, _login(self.proxy))
        connection.connect()
        return connection

    def ask(
        self, authority: Path, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """One request. Raises OSError, or http.client.HTTPException where what answers does not speak HTTP."""
        connection = self.open(authority)
        try:
            connection.request(method, path, body or None, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.getheader("date"), response.read(_LONGEST_ANSWER))
        finally:
            connection.close()


def proxy_for(host: str) -> SplitResult | None:
    """The proxy that HTTPS_PROXY or ALL_PROXY names for ``host``, unless NO_PROXY excepts it."""
    proxies = getproxies()
    text = proxies.get("https") or proxies.get("all")
    if not text or proxy_bypass(host):
        return None
    return urlsplit(text if "//" in text else f"http://{text}")


def _login(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    plain = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(plain.encode()).decode()}
