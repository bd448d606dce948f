"""The three outages of the demo: what is printed when they begin, and which recorded unit fails again and
again.

Each keeps the shape of what was recorded; what an outage must show and the recording lacks (a revoked token,
an expired certificate) is put into the recorded lines of the same kind of failure.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tocsin.line import encode
from tocsin_server.clock import SECOND_US
from tocsin_server.demo.recording import Unit, units

#: An outage began this long before the demo starts.
BEGAN_BEFORE_US = 12 * 60 * SECOND_US

_QUOTA = re.compile(rb'\{\\*"error\\*": \{\\*"code.*?EXHAUSTED\\*"\}\}')
_REVOKED = b"Authorization failed: invalid_grant, the token has been expired or revoked"
_JOB_ID = re.compile(rb"\[ActiveJob\] \[\w+\] \[([0-9a-f-]{36})\]")


@dataclass(frozen=True, slots=True)
class Outage:
    """``alert`` must fire; ``units`` are the broken units, of which one starts every ``every_us``.

    ``story`` is one sentence for people; ``tenant``: whose units they are (None: everybody's);
    ``first_line``: what is printed when it begins, given the time in microseconds.
    """

    name: str
    alert: str
    story: str
    units: Callable[[], tuple[Unit, ...]]
    every_us: int
    tenant: int | None = None
    first_line: Callable[[int], bytes] | None = None


# --- deploy ---------------------------------------------------------------------------------------------


def _deployed(at_us: int) -> bytes:
    """The line of ``tocsin deploy``."""
    moment = datetime.fromtimestamp(at_us / SECOND_US, UTC).isoformat(timespec="milliseconds")
    fields = {"service": "k12-core", "version": "2026.11.23-2", "git_sha": "8a38277", "status": "success"}
    return encode(
        {
            "metric": "deploy",
            "fields": fields,
            "timestamp": moment.replace("+00:00", "Z"),
            "service": "k12-core",
            "environment": "production",
        }
    ).rstrip(b"\n")


@functools.cache
def _quizzes_that_fail() -> tuple[Unit, ...]:
    found = (unit for unit in units() if unit.status == 500 and unit.error == "NoMethodError")
    return tuple(_with_tag(unit, rb"\"api.request\"", rb"\"error\":\"NoMethodError\"") for unit in found)


# --- sync -----------------------------------------------------------------------------------------------


@functools.cache
def _syncs_that_are_refused() -> tuple[Unit, ...]:
    return tuple(
        _refused(unit)
        for unit in units()
        if unit.failed("sync.run") and b"Integrations::RateLimitError" in unit.text
    )


def _refused(unit: Unit) -> Unit:
    """The recorded sync that Google refused for its quota, refused for its token."""
    error = b"Signet::AuthorizationError"
    lines = tuple(
        (at, _QUOTA.sub(_REVOKED, line).replace(b"Integrations::RateLimitError", error))
        for at, line in unit.lines
    )
    run = _JOB_ID.search(unit.text)
    tags = rb"\"error\":\"%s\",\"run_id\":\"%s\"" % (error, run[1] if run else b"unknown")
    tags += rb",\"sync_type\":\"course_sync\",\"tenant_id\":3,\"integration_id\":33"
    return _with_tag(replace(unit, lines=lines), rb"\"sync.run\"", tags)


# --- auth -----------------------------------------------------------------------------------------------


@functools.cache
def _logins_that_fail() -> tuple[Unit, ...]:
    found = (
        u for u in units() if u.status == 401 and u.controller == "api/v1/sessions" and b"saml" in u.text
    )
    tags = rb"\"reason\":\"invalid_ticket\",\"tenant_id\":4,\"client_network\":\"n_5d1c0b9e7a3f2468\""
    return tuple(_with_tag(unit, rb"\"auth.login\"", tags) for unit in found)


def _with_tag(unit: Unit, event: bytes, tags: bytes) -> Unit:
    """The unit with more tags on its events of this name."""
    lines = tuple(
        (at, line.replace(rb"\"tags\":{", rb"\"tags\":{" + tags + b",", 1) if event in line else line)
        for at, line in unit.lines
    )
    return replace(unit, lines=lines)


#: Name -> outage; the first is the default.
OUTAGES: dict[str, Outage] = {
    outage.name: outage
    for outage in (
        Outage(
            "deploy",
            "HighErrorRate",
            "a version of k12-core was deployed, and since then submitting a quiz ends in a NoMethodError",
            _quizzes_that_fail,
            every_us=2_400_000,
            first_line=_deployed,
        ),
        Outage(
            "sync",
            "SyncFailures",
            "tenant 3's Google token was revoked, and every sync of its classes is refused",
            _syncs_that_are_refused,
            every_us=45 * SECOND_US,
            tenant=3,
        ),
        Outage(
            "auth",
            "AuthFailures",
            "tenant 4's SAML certificate expired, and nobody of that district can log in",
            _logins_that_fail,
            every_us=5 * SECOND_US,
            tenant=4,
        ),
    )
}
