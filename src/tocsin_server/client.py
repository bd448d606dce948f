"""The command line's way to an installation: the server that runs on its folder, or a URL.

A running server writes its address and an operator's token to ``run.json`` (mode 0600) in the data folder:
whoever owns the folder may do everything, without setting anything up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tocsin_server.errors import TocsinError
from tocsin_server.outbound import RequestFailed, request
from tocsin_server.store import writer

RUN_FILE = "run.json"
_MOST_BYTES = 256 << 20
_TIMEOUT_S = 600.0


#: Sends one request (method, path with its query, headers, body); answers status and body.
Caller = Callable[[str, str, Mapping[str, str], bytes], tuple[int, bytes]]


class Client:
    """Speaks the API of one installation."""

    def __init__(self, call: Caller) -> None:
        self._call = call

    def get(self, path: str, **query: object) -> Any:
        """The JSON answer. Raises TocsinError with what the server says is wrong."""
        asked = {name: value for name, value in query.items() if value is not None}
        return json.loads(self.text("GET", path + ("?" + urlencode(asked) if asked else "")))

    def post(self, path: str, body: object) -> Any:
        """The JSON answer to a JSON body."""
        return json.loads(self.text("POST", path, json.dumps(body).encode(), "application/json"))

    def post_lines(self, path: str, body: bytes, key: str | None = None) -> Any:
        """The JSON answer to lines; with a ``key`` they are taken once, however often they are sent."""
        return json.loads(self.text("POST", path, body, "application/x-ndjson", key))

    def text(self, method: str, path: str, body: bytes = b"", kind: str = "", key: str | None = None) -> str:
        """The answer as text."""
        headers = {"Content-Type": kind} if kind else {}
        status, answer = self._call(method, path, headers | ({"Idempotency-Key": key} if key else {}), body)
        text = answer.decode("utf-8", "replace")
        if status >= 400:
            raise TocsinError(_sentence(status, text))
        return text


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def at_url(url: str, token: str | None) -> Client:
    """The installation at a URL, which its operator trusts: it may lie in a private network."""
    host = urlsplit(url).hostname or ""

    def call(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        sent = {**headers, "X-Tocsin-Request": "cli"}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        try:
            answer = request(
                method,
                url.rstrip("/") + path,
                headers=sent,
                body=body,
                timeout_s=_TIMEOUT_S,
                max_bytes=_MOST_BYTES,
                private_hosts=frozenset({host}),
            )
        except RequestFailed as error:
            raise TocsinError(f"{url} does not answer ({error}); is `tocsin up` running there?") from None
        return answer.status, answer.body

    return Client(call)


def running(folder: Path) -> Client | None:
    """The server that runs on a data folder, if one does and answers."""
    try:
        about = json.loads((folder / RUN_FILE).read_text())
        if writer(folder) != about["pid"]:  # of a killed process: its address may be another server's by now
            return None
        client = at_url(about["url"], about["token"])
        client.text("GET", "/healthz")
    except (OSError, ValueError, LookupError, TypeError, TocsinError):
        return None
    return client


def _sentence(status: int, text: str) -> str:
    """What is wrong, as the server says it."""
    try:
        said = json.loads(text)
        return str(said["error"])
    except (ValueError, LookupError, TypeError):
        return f"the server answered {status}: {' '.join(text.split())[:300]}; look at its log"
