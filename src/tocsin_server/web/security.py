"""The gate before every route: Host header, credentials, same origin; and the headers of every answer.

Reliability section 5 and rows O1, O3, O8, O9. A route cannot forget a check, because the checks are not in
the routes: what is not listed as open here is closed, also what does not exist.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tocsin_server.config import Listen
from tocsin_server.web.services import Services
from tocsin_server.web.sessions import COOKIE, Sessions

#: Reliability section 5.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "vary": "Cookie",
}
#: What a client without credentials may see when there is a token: health, the login form and its looks.
OPEN_PATHS = frozenset({"/healthz", "/login", "/static/tocsin.css"})
#: Any value of it says that a program, not a form on some other site, sent the request.
REQUEST_HEADER = "x-tocsin-request"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
#: Types that a form on another site cannot send without asking first.
_PROGRAM_TYPES = frozenset({"application/json", "application/x-ndjson"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Gate:
    """ASGI middleware: refuses, or lets through with ``scope["state"]["who"]`` set."""

    def __init__(self, app: ASGIApp, services: Services, sessions: Sessions) -> None:
        self._app = app
        self._services = services
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; there are no websockets here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        else:
            refusal = self._refusal(scope, Headers(scope=scope))
            await (refusal or self._app)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not host_allowed(headers.get("host", ""), self._services.settings.listen):
            return _plain(
                421, "This server does not answer to that name. Use the address it was started with."
            )
        who = self.who(headers)
        scope.setdefault("state", {})["who"] = who or ""
        if who is None and scope["path"] not in OPEN_PATHS:
            return _login_first(scope, headers)
        if scope["method"] not in _SAFE_METHODS and not (
            self._has_token(headers) or from_here(scope, headers)
        ):
            return _not_from_here(scope)
        return None

    def who(self, headers: Headers) -> str | None:
        """Who asks, None for a stranger. Without a token everybody who reaches the loopback is ``local``."""
        if self._has_token(headers) or self._services.token is None:
            return "local"
        secret = session_secret(headers)
        return self._sessions.who(secret) if secret else None

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and token_fits(given.strip(), self._services)


def token_fits(given: str, services: Services) -> bool:
    """Whether it is one of the tokens; takes the same time for every wrong one (row O5)."""
    tokens = [token for token in (services.token, services.operator_token) if token]
    fits = [hmac.compare_digest(given.encode(), token.encode()) for token in tokens]
    return any(fits)


def host_allowed(host: str, listen: Listen) -> bool:
    """Whether the Host header names this server: no foreign name can be pointed at it (DNS rebinding).

    Ports are not compared: people forward them. An address cannot be re-pointed, so a server that listens on
    all addresses answers to each.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    known = {listen.host.lower(), *LOOPBACK_NAMES}
    if listen.url:
        known.add((urlsplit(listen.url).hostname or "").lower())
    return name in known or (listen.host in ("0.0.0.0", "::") and _is_address(name))  # noqa: S104  # compared


def from_here(scope: Scope, headers: Headers) -> bool:
    """Same origin, as the browser says; and for programs, a header that no foreign form can send."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None and urlsplit(origin).netloc != headers.get("host", ""):
        return False
    if scope["path"].startswith("/api/"):
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        return REQUEST_HEADER in headers or kind in _PROGRAM_TYPES
    return site is not None or origin is not None


def session_secret(headers: Headers) -> str:
    """The session cookie's value; empty when there is none."""
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""


def safe_next(path: str) -> str:
    """Where to go after the login: a path of this site, else the overview (row O8: relative only)."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if plain and "\\" not in path else "/"


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return guarded


def _login_first(scope: Scope, headers: Headers) -> Response:
    if scope["method"] in ("GET", "HEAD") and "text/html" in headers.get("accept", ""):
        query = scope["query_string"].decode("latin-1")
        path = scope["path"] + (f"?{query}" if query else "")
        return RedirectResponse(f"/login?next={quote(path)}", 303)
    how = "send `Authorization: Bearer TOKEN` (the command line: set TOCSIN_TOKEN), or log in at /login"
    problem = {"error": f"unauthorized: {how}"}
    return JSONResponse(problem, 401, {"www-authenticate": "Bearer"})


def _not_from_here(scope: Scope) -> Response:
    if scope["path"].startswith("/api/"):
        said = (
            "refused: send `Content-Type: application/json` or `application/x-ndjson`, which no form can send"
        )
        return JSONResponse({"error": said}, 403)
    return _plain(403, "Refused: the request does not come from this site. Open the page again and retry.")


def _plain(status: int, text: str) -> Response:
    return PlainTextResponse(text + "\n", status)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
