"""Asks the web application without a socket: the command line on a folder that no server runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI

Call = Callable[[str, str, Mapping[str, str], bytes], tuple[int, bytes]]


def call_app(app: FastAPI, token: str) -> Call:
    """A caller for :class:`tocsin_server.client.Client`, with the operator's rights."""

    def call(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        sent = {**headers, "Host": "localhost", "Authorization": f"Bearer {token}"}
        return asyncio.run(_ask(app, method, path, sent, body))

    return call


async def _ask(
    app: FastAPI, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, bytes]:
    plain, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": plain,
        "raw_path": plain.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 0),
        "server": ("localhost", 80),
    }
    status, answer = 500, bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            answer.extend(message.get("body", b""))

    await app(scope, receive, send)
    return status, bytes(answer)
