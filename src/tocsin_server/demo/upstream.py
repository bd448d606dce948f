"""A stand-in for the platform that the demo's runbooks ask: the core, the AI gateway, status pages.

One HTTP server on a free port of 127.0.0.1 plays them all, since their paths differ. It is well, but for
what the outage breaks.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self


class Reply(NamedTuple):
    """What is answered to a GET of one path."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = {}


_GOOGLE = "https://accounts.google.com/o/oauth2/auth?client_id=demo&response_type=code"
_COOKIE = "_k12_lms_session=demo; Path=/; HttpOnly; Secure; SameSite=None"
_HEALTHY = {"database": "connected", "redis": "connected", "rails_env": "production"}
_NO_INCIDENT = {"status": {"indicator": "none", "description": "All Systems Operational"}}

#: What a platform without an outage answers, by path.
HEALTHY: dict[str, Reply] = {
    "/": Reply(body="<!doctype html><title>K-12</title>"),
    "/up": Reply(body="up"),
    "/api/v1/health": Reply(body={"status": "ok", **_HEALTHY}),
    "/api/v1/csrf": Reply(body={"token": "demo"}, headers={"Set-Cookie": _COOKIE}),
    "/auth/google_oauth2": Reply(302, headers={"Location": _GOOGLE}),
    "/api/v1/saml/metadata": Reply(body="<EntityDescriptor/>", headers={"Content-Type": "application/xml"}),
    "/internal/ops/integrations/check": Reply(body={"ok": 12, "invalid_grant": 0, "unreachable": 0}),
    "/internal/ops/saml/check": Reply(body={"valid": 9, "expired": 0}),
    "/internal/ops/pool": Reply(body={"size": 20, "busy": 6, "idle": 14, "waiting": 0}),
    "/internal/ops/queues": Reply(body={"processes": 2, "enqueued": 3, "retries": 4, "dead": 0}),
    "/v1/health": Reply(body={"status": "ok", "version": "1.4.2", "providers_configured": 2}),
    "/appsstatus/dashboard/incidents.json": Reply(body=[]),
    "/api/v2/status.json": Reply(body=_NO_INCIDENT),
}

#: Outage -> what it answers instead.
BROKEN: dict[str, dict[str, Reply]] = {
    "sync": {
        "/internal/ops/integrations/check": Reply(body={"ok": 11, "invalid_grant": 1, "unreachable": 0})
    },
    "auth": {"/internal/ops/saml/check": Reply(body={"valid": 8, "expired": 1})},
}

#: Connections of the settings that lead here.
CONNECTIONS = ("core", "web", "ai_gateway", "ops", "google_status", "openai_status", "anthropic_status")


class Upstream:
    """The running stand-in; ``url`` is its address."""

    def __init__(self, outage: str) -> None:
        replies = HEALTHY | BROKEN.get(outage, {})

        class Handler(_Handler):
            table = replies

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class _Handler(BaseHTTPRequestHandler):
    table: Mapping[str, Reply]
    timeout = 10

    def do_GET(self) -> None:
        """Answers from the table."""
        self._answer(self.table.get(self.path.partition("?")[0], Reply(404, {"error": "not found"})))

    def _answer(self, reply: Reply) -> None:
        is_text = isinstance(reply.body, str)
        body = reply.body if is_text else "" if reply.body is None else json.dumps(reply.body)
        content = body.encode()
        kind = "text/html; charset=utf-8" if is_text else "application/json"
        self.send_response(reply.status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            **reply.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: Any) -> None:
        """Says nothing."""
