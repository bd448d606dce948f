"""Receivers for tests, drills and the demo: they take what the channels send, as the real ones would.

Both listen on a free port of 127.0.0.1, keep a ledger of what arrived, and can be told how to answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tocsin_server.clock import Clock, real_clock
from tocsin_server.notify.channels.webhook import verify

_MAX_BODY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Reply:
    """How to answer one request: after ``delay_s``, or never (``drop``: taken, but the answer is lost)."""

    status: int = 200
    retry_after: str | None = None
    delay_s: float = 0.0
    drop: bool = False
    body: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """One request that arrived. ``verified``: its signature holds; ``accepted``: the receiver took it."""

    key: str
    attempt: int
    body: dict[str, Any]
    headers: dict[str, str]
    verified: bool
    accepted: bool


@dataclass
class WebhookReceiver:
    """An HTTP server that takes webhooks. Answers with ``script``, one reply per request, then with 200.

    ``on_message`` is called with each one that is accepted (the demo prints it).
    """

    secret: str = ""
    clock: Clock = real_clock
    on_message: Callable[[Received], None] = lambda _received: None
    script: deque[Reply] = field(default_factory=deque)
    ledger: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        receiver = self

        class Handler(_Handler):
            owner = receiver

        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address to put into the settings."""
        return f"http://127.0.0.1:{self._server.server_port}/alerts"

    @property
    def accepted(self) -> list[Received]:
        """What was taken, in order; repeats included."""
        return [received for received in list(self.ledger) if received.accepted]

    def take(self, headers: dict[str, str], raw: bytes) -> Reply:
        """Notes one request and says how to answer it."""
        reply = self.script.popleft() if self.script else Reply()
        self._closing.wait(reply.delay_s)
        body = json.loads(raw)
        received = Received(
            key=headers.get("idempotency-key", ""),
            attempt=body["tocsin"]["attempt"],
            body=body,
            headers=headers,
            verified=bool(self.secret) and verify(self.secret, headers, raw, self.clock()),
            accepted=200 <= reply.status < 300,
        )
        self.ledger.append(received)
        if received.accepted:
            self.on_message(received)
        return reply

    def close(self) -> None:
        """Stops listening."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class _Handler(BaseHTTPRequestHandler):
    owner: WebhookReceiver
    timeout = 10

    def do_POST(self) -> None:
        """Takes one webhook."""
        length = min(int(self.headers.get("content-length", "0")), _MAX_BODY_BYTES)
        raw = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            reply = self.owner.take(headers, raw)
        except (ValueError, KeyError, TypeError):
            reply = Reply(400, body="not a notification of Tocsin")
        self.close_connection = True
        if not reply.drop:
            self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        content = reply.body.encode()
        self.send_response(reply.status)
        if reply.retry_after is not None:
            self.send_header("Retry-After", reply.retry_after)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: Any) -> None:
        """Says nothing: the ledger is the log."""


class MailReceiver:
    """An SMTP server that takes mail (needs ``aiosmtpd``). Answers with ``script``, then with 250.

    ``mails``: what was accepted, parsed; ``envelopes``: (sender, recipients) beside it.
    """

    def __init__(self) -> None:
        self.script: deque[str] = deque()
        self.mails: list[EmailMessage] = []
        self.envelopes: list[tuple[str, list[str]]] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def url(self) -> str:
        """The SMTP URL to put into a secret."""
        host, port = self._socket.getsockname()
        return f"smtp://{host}:{port}?from=tocsin@example.org"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd
        """Takes one mail; a reply of the script that is not 2xx refuses it."""
        reply = self.script.popleft() if self.script else "250 taken"
        if reply.startswith("2"):
            mail = message_from_bytes(envelope.content, policy=policy.default)
            self.mails.append(mail)
            self.envelopes.append((envelope.mail_from, list(envelope.rcpt_tos)))
        return reply

    def close(self) -> None:
        """Stops listening."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        from aiosmtpd.smtp import SMTP

        loop = self._loop

        def protocol() -> SMTP:
            return SMTP(self, hostname="localhost", ident="Tocsin", loop=loop)

        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(loop.create_server(protocol, sock=self._socket))
        self._ready.set()
        loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(server.wait_closed())
        loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
