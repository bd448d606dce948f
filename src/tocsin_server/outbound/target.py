"""What is asked: a URL and headers, checked before anything is looked up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httpcore

from tocsin_server.outbound.addresses import literal
from tocsin_server.outbound.failures import RequestFailed, refused

_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"))
#: Headers that frame a request or say where it goes: they follow from the URL and the body.
_OURS = frozenset(("host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "te"))
_URL = re.compile(r"[\x21-\x5b\x5d-\x7e\u00a1-\U0010ffff]{1,8192}")
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_])?\.?")


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL: ``host`` in ASCII, ``path`` with the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """As the Host header has it: brackets around IPv6, no default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _default_port(self.scheme) else f"{host}:{self.port}"

    @property
    def where(self) -> str:
        """For messages: without path and query."""
        return f"{self.scheme}://{self.authority}"

    def as_httpcore(self) -> httpcore.URL:
        """For the request line and the connection."""
        return httpcore.URL(scheme=self.scheme, host=self.host, port=self.port, target=self.path)


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def read_target(method: str, url: str) -> Target:
    """The URL of a request, in parts. Raises RequestFailed when it is none that may be asked."""
    if method not in _METHODS:
        raise RequestFailed("protocol", f"`{method[:20]!a}` is not a method that is sent; use GET or POST")
    if not _URL.fullmatch(url):
        raise refused("the address has spaces, control characters or backslashes, or is longer than 8192")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise refused(f"the address cannot be read ({error})") from None
    if parts.scheme not in ("http", "https"):
        raise refused(f"`{parts.scheme[:20]}:` is not http or https")
    if "@" in parts.netloc:
        raise refused("the address holds a user name or password; send them in a header")
    host = _ascii_host(parts)
    if port == 0:
        raise refused("port 0 does not exist")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii():
        raise refused("the path has characters beyond ASCII; percent-encode them")
    return Target(parts.scheme, host, port or _default_port(parts.scheme), path)


def _ascii_host(parts: SplitResult) -> str:
    written = (parts.hostname or "").lower()
    if ":" in written or literal(written):
        if literal(written) and "%" not in written:
            return written
        raise refused(f"`{written[:80]!a}` is not an address")
    try:
        host = written.encode("idna").decode().lower() if written else ""
    except UnicodeError:
        host = ""
    disguised = not written.isascii() and "xn--" not in host  # ①②⑦.⓪.⓪.① is 127.0.0.1 to a resolver
    if disguised or not _NAME.fullmatch(host):
        raise refused(f"{written[:80]!a} is not the name of a host")
    return host


def framed(target: Target, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers to send: those given, and ours. h11 refuses names that are no tokens and line ends.

    Raises RequestFailed.
    """
    ours = sorted(name for name in headers if name.lower() in _OURS)
    if ours:
        raise RequestFailed("protocol", f"the header {ours[0]} is set by Tocsin; remove it")
    defaults = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "tocsin"}
    given = {name.lower() for name in headers}
    sent = {
        "Host": target.authority,
        "Connection": "close",
        **{name: value for name, value in defaults.items() if name not in given},
        **headers,
    }
    try:
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in sent.items()]
    except UnicodeEncodeError:
        raise RequestFailed(
            "protocol", "a header holds characters that headers cannot carry; use ASCII"
        ) from None
