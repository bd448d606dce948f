"""A whole day of a platform, for the backtest: every event that a rule reads, at a realistic rate.

Requests, jobs, AI and log lines come as on any school day. Beside them stand the samples: heartbeats, queues
and health checks every 30 s, the database's disk every minute. Each of the seven alerts has one bad hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge

from benchmarks.lines import HOUR_MS, SECOND_MS, Line, School, metric

_DAY_MS = 24 * HOUR_MS
_QUEUES = ("default", "ai", "sync", "exports", "imports")
_CAPACITY_BYTES = 50 << 30

#: Lines that do not grow with the size of the day: samples, logins, syncs.
FIXED_LINES = 29_670


def day(count: int, seed: int = 11) -> Iterator[Line]:
    """``count`` lines in the order of time (at least :data:`FIXED_LINES`)."""
    school = School(seed)
    streams = (_traffic(school, count), _samples(), _logins(school), _syncs())
    return merge(*streams, key=lambda line: str(line["timestamp"]))


def _bad(at_ms: int, hour: int, minutes: int = 30) -> bool:
    return 0 <= at_ms - hour * HOUR_MS < minutes * 60 * SECOND_MS


def _traffic(school: School, count: int) -> Iterator[Line]:
    """High Error Rate from 9:00, Slow Responses from 13:00."""
    random = school.random
    others = (school.log_line, school.job_completed, school.ai_request)
    times = sorted(int(random.triangular(0, _DAY_MS, 12 * HOUR_MS)) for _ in range(count - FIXED_LINES))
    for at_ms in times:
        if random.random() > 0.7:
            yield random.choices(others, (15, 10, 5))[0](at_ms)
        elif _bad(at_ms, 9) and random.random() < 0.12:
            yield school.api_request(at_ms, status=500)
        elif _bad(at_ms, 13) and random.random() < 0.15:
            yield school.api_request(at_ms, duration_ms=round(random.uniform(2100, 9000), 1))
        else:
            yield school.api_request(at_ms)


def _samples() -> Iterator[Line]:
    """Job Queue Depth from 10:00, AI Gateway Down from 11:00, Disk Usage from 20:00."""
    for at_ms in range(0, _DAY_MS, 30 * SECOND_MS):
        for queue in _QUEUES:
            depth = 60 if _bad(at_ms, 10) else 2
            yield metric("job.queue", {"queue": queue, "depth": depth, "oldest_age_s": 0.4}, at_ms)
        down = _bad(at_ms, 11, minutes=10)
        check = (
            {"status": "failure", "reason": "timeout"} if down else {"status": "success", "http_status": 200}
        )
        yield metric(
            "health.check", {"target": "ai-gateway", **check, "latency_ms": 31.7}, at_ms, "k12-probe"
        )
        for service in ("k12-core", "k12-ai-gateway"):
            yield metric("log.heartbeat", {"uptime_s": at_ms / SECOND_MS, "dropped": 0}, at_ms, service)
        if at_ms % (60 * SECOND_MS) == 0:
            used = int(_CAPACITY_BYTES * (0.85 if at_ms >= 20 * HOUR_MS else 0.6))
            tags = {"volume": "core-postgres", "used_bytes": used, "capacity_bytes": _CAPACITY_BYTES}
            yield metric("db.disk", tags, at_ms)


def _logins(school: School) -> Iterator[Line]:
    """One every 30 s; Auth Failures from 8:00, when one a second fails."""
    for at_ms in range(0, _DAY_MS, SECOND_MS):
        bad = _bad(at_ms, 8, minutes=15)
        if bad or at_ms % (30 * SECOND_MS) == 0:
            status = {"status": "failure", "reason": "invalid_grant"} if bad else {"status": "success"}
            tenant = school.random.choice(school.people).tenant_id
            yield metric("auth.login", {"provider": "google", **status, "tenant_id": tenant}, at_ms)


def _syncs() -> Iterator[Line]:
    """One a minute; Sync Failures from 15:00."""
    for number, at_ms in enumerate(range(0, _DAY_MS, 60 * SECOND_MS)):
        tags = {
            "provider": "oneroster",
            "status": "error" if _bad(at_ms, 15) else "success",
            "records_processed": 240,
            "run_id": str(number),
            "sync_type": "oneroster_user_sync",
            "duration_ms": 15320.4,
        }
        yield metric("sync.run", tags, at_ms)
