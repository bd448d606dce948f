"""Faults of the core and its database: what HighErrorRate, SlowResponses and the disk's alerts find."""

from __future__ import annotations

from functools import partial

from tocsin_server.drill.fault import Change, Fault, all_of, becomes, fills, once
from tocsin_server.drill.traffic import CORE, deploy

_DEPLOYED = deploy(CORE, "2026.11.8")
_errors = partial(Fault, alert="HighErrorRate", runbook="deployment-rollback")
_database_errors = partial(Fault, alert="HighErrorRate", runbook="database-issues")
_slowness = partial(Fault, alert="SlowResponses", runbook="database-issues")
_disk = partial(Fault, runbook="database-issues", lasts_s=1080)


def _fails(share: float, error: str) -> Change:
    """This share of the core's requests is answered with 500."""
    return becomes("api.request", share, status=500, error=error, duration_ms=900.0)


def _slow(share: float, *routes: str) -> Change:
    """This share of the requests to these routes (none: to all) takes 4.8 s."""
    return becomes("api.request", share, lambda f: not routes or f["route"] in routes, duration_ms=4800.0)


CORE_FAULTS = (
    _errors(
        "deploy-regression",
        cause="deploy-regression",
        change=becomes(
            "api.request",
            0.9,
            lambda f: f["controller"] == "api/v1/courses",
            status=500,
            error="NoMethodError",
        ),
        adds=once("deploy", CORE, _DEPLOYED),
    ),
    _errors(
        "deploy-failed",
        cause="deploy-failed-half-way",
        change=_fails(0.4, "LoadError"),
        adds=once("deploy", CORE, {**_DEPLOYED, "status": "error"}),
    ),
    _errors(
        "deploy-irreversible",
        cause="irreversible-migration",
        change=_fails(0.4, "NoMethodError"),
        adds=once("deploy", CORE, {**_DEPLOYED, "irreversible": True}),
    ),
    _errors("redis-down", cause="a-dependency-is-down", change=_fails(0.6, "Redis::CannotConnectError")),
    _errors("errors-without-a-deploy", cause=None, change=_fails(0.3, "RuntimeError")),
    _database_errors(
        "pool-exhausted",
        cause="connection-pool-exhausted",
        change=_fails(0.4, "ActiveRecord::ConnectionTimeoutError"),
    ),
    _database_errors(
        "database-unreachable",
        cause="database-unreachable",
        change=all_of(
            _fails(0.9, "PG::ConnectionBad"),
            becomes("job.completed", status="error", error="PG::ConnectionBad"),
        ),
        also=frozenset({"a-dependency-is-down"}),
    ),
    _database_errors("locks", cause="lock-contention", change=_fails(0.3, "ActiveRecord::LockWaitTimeout")),
    _database_errors(
        "statement-timeouts", cause="long-running-queries", change=_fails(0.3, "ActiveRecord::QueryCanceled")
    ),
    _database_errors(
        "migration-missing",
        cause="failed-migration",
        change=_fails(0.5, "PG::UndefinedColumn"),
        adds=once("deploy", CORE, _DEPLOYED),
        also=frozenset({"deploy-regression"}),
    ),
    _slowness("one-slow-route", cause="one-slow-route", change=_slow(1.0, "/api/v1/courses/:id")),
    _slowness("everything-is-slow", cause="everything-is-slow", change=_slow(0.5)),
    _slowness("two-slow-routes", cause=None, change=_slow(1.0, "/api/v1/courses", "/api/v1/assignments/:id")),
    _disk(
        "disk-fills-suddenly",
        alert="DiskUsage",
        cause="the-disk-fills-suddenly",
        change=fills(lambda s: min(90.0, 55.0 + s / 20)),
    ),
    _disk(
        "data-has-grown",
        alert="DiskUsage",
        cause="the-data-has-grown",
        change=fills(lambda s: 80.0 + s / 3600 if s < 1080 else 60.0),
        whole=True,
    ),
    _disk(
        "disk-almost-full",
        alert="DiskAlmostFull",
        cause="the-disk-fills-suddenly",
        change=fills(lambda s: min(97.0, 55.0 + s / 10)),
        others=frozenset({"DiskUsage"}),
    ),
)
