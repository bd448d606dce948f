"""Health checks against real local servers: each way to fail has its own reason (row A4.9)."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tocsin_server.clock import frozen_clock, real_clock
from tocsin_server.config import Probe
from tocsin_server.outbound import Answer, RequestFailed, request
from tocsin_server.probes import check
from tocsin_server.probes.http import judge

AT_US = 1_795_420_794_123_456
OK = b'{"status": "ok", "version": "1.4.2"}'


class Target(ThreadingHTTPServer):
    """Answers every request alike, and keeps the headers that it was sent."""

    daemon_threads = True

    def __init__(self, status: int, body: bytes, headers: dict[str, str], release: threading.Event) -> None:
        self.answer, self.release, self.seen = (status, body, headers), release, list[dict[str, str]]()
        super().__init__(("127.0.0.1", 0), _Answer)


class _Answer(BaseHTTPRequestHandler):
    server: Target

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))
        self.server.release.wait(10)
        status, body, headers = self.server.answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def target(
    status: int = 200, body: bytes = OK, headers: dict[str, str] | None = None, *, hangs: bool = False
) -> Iterator[Target]:
    release = threading.Event()
    if not hangs:
        release.set()
    with Target(status, body, headers or {}, release) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        release.set()
        server.shutdown()
        thread.join()


def probe_of(port: int, **settings: Any) -> Probe:
    settings = {"expect": {"status": 200, "json": {"status": "ok"}}, **settings}
    return Probe.model_validate(
        {"http": f"http://127.0.0.1:{port}/v1/health", "target": "ai-gateway", **settings}
    )


def result(probe: Probe, **arguments: Any) -> dict[str, Any]:
    line = json.loads(check(probe, real_clock, **arguments))
    assert line["metric"] == "health.check"
    tags: dict[str, Any] = line["tags"]
    return tags


ANSWERS = {
    "ok": (200, OK, {}),
    "degraded": (200, b'{"status": "degraded"}', {}),
    "body_mismatch": (200, b'{"status": "on fire"}', {}),
    "redirect": (302, b"", {"Location": "https://login.example.org/"}),
    "http_401": (401, b'{"status": "ok"}', {}),
    "http_503": (503, b'{"status": "degraded"}', {}),
}


@pytest.mark.parametrize("reason", ANSWERS)
def test_A4_4_A4_5_A4_9_what_a_target_answers(reason: str) -> None:
    with target(*ANSWERS[reason]) as server:
        tags = result(probe_of(server.server_port))
    assert tags["reason"] == reason
    assert tags["status"] == ("success" if reason == "ok" else "failure")
    assert tags["http_status"] == ANSWERS[reason][0]
    assert tags["latency_ms"] >= 0
    assert len(server.seen) == 1, "nothing is tried twice, and no redirect is followed"


@pytest.mark.parametrize("body", [b"<html>ok</html>", b"", b"[1]", b'"ok"', b"[" * 50_000, b"\xff\xfe"])
def test_A4_9_an_answer_that_is_no_json_object(body: bytes) -> None:
    with target(200, body) as server:
        assert result(probe_of(server.server_port))["reason"] == "body_mismatch"


def test_A4_9_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        tags = result(probe_of(free.getsockname()[1]))
    assert (tags["status"], tags["reason"]) == ("failure", "connection")
    assert "http_status" not in tags


def test_A4_9_a_target_that_hangs() -> None:
    with target(hangs=True) as server:
        tags = result(probe_of(server.server_port), request=_hurried)
    assert (tags["status"], tags["reason"]) == ("failure", "timeout")


def test_A4_9_a_target_that_speaks_no_tls() -> None:
    with target() as server:
        probe = probe_of(server.server_port, http=f"https://127.0.0.1:{server.server_port}/v1/health")
        assert result(probe)["reason"] == "tls"


@pytest.mark.parametrize("failure", ["dns", "refused_address", "protocol"])
def test_A4_9_the_word_of_the_client_is_the_reason(failure: Any) -> None:
    assert result(probe_of(1), request=_failing(failure))["reason"] == failure


def _hurried(method: str, url: str, **arguments: Any) -> Answer:
    return request(method, url, **{**arguments, "timeout_s": 0.2})


def _failing(failure: Any) -> Callable[..., Answer]:
    def fail(*_args: object, **_arguments: object) -> Answer:
        raise RequestFailed(failure, "no answer")

    return fail


def _answering(status: int, body: bytes) -> Callable[..., Answer]:
    return lambda *_args, **_arguments: Answer(status, {}, body, False, 1.0)


def test_a_secret_header_is_sent_and_never_printed() -> None:
    headers = {"Authorization": {"env": "GATEWAY_TOKEN"}, "Accept": "application/json"}
    with target() as server:
        probe = probe_of(server.server_port, headers=headers)
        line = check(probe, real_clock, environ={"GATEWAY_TOKEN": "Bearer hush"})
    assert server.seen[0]["Authorization"] == "Bearer hush"
    assert b"hush" not in line


def test_a_missing_secret_is_a_failure_with_its_own_reason() -> None:
    probe = probe_of(1, headers={"Authorization": {"env": "GATEWAY_TOKEN"}})
    assert result(probe, environ={})["reason"] == "secret"


def test_the_line_is_canonical() -> None:
    line = check(probe_of(1), frozen_clock(AT_US), request=_answering(200, OK))
    assert line == (
        b'{"metric":"health.check","tags":{"target":"ai-gateway","status":"success","reason":"ok",'
        b'"http_status":200,"latency_ms":0.0},"timestamp":"2026-11-23T07:59:54.123Z",'
        b'"service":"ai-gateway"}\n'
    )


@pytest.mark.parametrize(
    ("members", "body", "reason"),
    [
        ({}, b"not json at all", "ok"),
        ({"ready": True}, b'{"ready": 1}', "body_mismatch"),
        ({"ready": 1}, b'{"ready": true}', "body_mismatch"),
        ({"workers": 3}, b'{"workers": 3.0}', "ok"),
        ({"error": None}, b'{"error": null}', "ok"),
        ({"error": None}, b"{}", "body_mismatch"),
        ({"a": "ok", "b": "ok"}, b'{"a": "ok", "b": "degraded"}', "degraded"),
    ],
)
def test_members_are_compared_as_json(members: dict[str, Any], body: bytes, reason: str) -> None:
    expected = probe_of(1, expect={"status": 200, "json": members}).expect
    assert judge(expected, Answer(200, {}, body, False, 1.0)) == reason


def test_an_expected_redirect_is_healthy() -> None:
    expected = probe_of(1, expect={"status": 302}).expect
    assert judge(expected, Answer(302, {}, b"", False, 1.0)) == "ok"
