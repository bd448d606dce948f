"""One health check over HTTP -> one ``health.check`` line.

Healthy means: the expected status, and every expected member of the answer's JSON object; anything else is a
failure with its own reason. A redirect is a failure too, and nothing is tried twice: three failures in a row
make the alert, and a retry inside of a check would hide the first of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from tocsin.line import encode
from tocsin_server import outbound
from tocsin_server.clock import SECOND_US, Clock
from tocsin_server.config import Probe, ProbeAnswer, Secret
from tocsin_server.errors import TocsinError
from tocsin_server.outbound import Answer, RequestFailed

#: How long a target may take to answer, in seconds.
TIMEOUT_S = 5.0
#: What a target may answer for its state instead of what is expected, and still be told apart.
_DEGRADED = "degraded"


def check(
    probe: Probe,
    clock: Clock,
    *,
    request: Callable[..., Answer] = outbound.request,
    private_hosts: frozenset[str] = frozenset(),
    environ: Mapping[str, str] = os.environ,
) -> bytes:
    """Asks the target once; a canonical ``health.check`` line that ends in a newline, whatever happens.

    ``service`` of the line is the target, and its time is when the check began. Reasons: ``ok``,
    ``degraded``, ``body_mismatch``, ``redirect``, ``http_<status>``, ``secret`` (a header's secret cannot be
    read), or the word of :data:`tocsin_server.outbound.Failure`.
    """
    started = clock()
    status, reason = _ask(probe, request, private_hosts, environ)
    took_us = max(0, clock() - started)  # the wall clock may have been set back
    fields: dict[str, Any] = {
        "target": probe.target,
        "status": "success" if reason == "ok" else "failure",
        "reason": reason,
        "http_status": status,
        "latency_ms": took_us / 1000,
    }
    return encode(
        {
            "metric": "health.check",
            "fields": {name: value for name, value in fields.items() if value is not None},
            "timestamp": _timestamp(started),
            "service": probe.target,
        }
    )


def _ask(
    probe: Probe,
    request: Callable[..., Answer],
    private_hosts: frozenset[str],
    environ: Mapping[str, str],
) -> tuple[int | None, str]:
    """(HTTP status, reason)."""
    try:
        headers = {name: _header(value, environ) for name, value in probe.headers.items()}
    except TocsinError:
        return None, "secret"
    try:
        answer = request("GET", probe.http, headers=headers, timeout_s=TIMEOUT_S, private_hosts=private_hosts)
    except RequestFailed as error:
        return None, error.failure
    return answer.status, judge(probe.expect, answer)


def judge(expected: ProbeAnswer, answer: Answer) -> str:
    """``ok``, or why the answer is not what a healthy target says."""
    if answer.status != expected.status:
        redirect = HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST
        return "redirect" if redirect else f"http_{answer.status}"
    body = _json_object(answer.body) if expected.json_members else {}
    members = expected.json_members.items()
    wrong = [name for name, value in members if name not in body or not _same(body[name], value)]
    if not wrong:
        return "ok"
    return _DEGRADED if any(body.get(name) == _DEGRADED for name in wrong) else "body_mismatch"


def _header(value: str | Secret, environ: Mapping[str, str]) -> str:
    return value.read(environ) if isinstance(value, Secret) else value


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _same(value: object, expected: object) -> bool:
    """Equal as JSON values: ``true`` is not 1."""
    return isinstance(value, bool) == isinstance(expected, bool) and value == expected


def _timestamp(at_us: int) -> str:
    moment = datetime.fromtimestamp(at_us // SECOND_US, UTC).replace(microsecond=at_us % SECOND_US)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
