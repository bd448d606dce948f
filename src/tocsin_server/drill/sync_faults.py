"""Faults of the integrations: what SyncFailures finds. Odd tenants use Google, even ones OneRoster."""

from __future__ import annotations

from random import Random

from tocsin_server.drill.fault import Adds, Change, Fault, becomes, more, unchanged
from tocsin_server.drill.traffic import CORE, TENANTS, Fields, Stream

_GOOGLE_TENANTS = (1, 3, 5, 7)
_ONEROSTER_TENANTS = (2, 4, 6, 8)


def _failing_runs(error: str, tenants: tuple[int, ...], google: bool) -> Adds:
    """A failing sync run every 40 s, and the job that ran it, for these tenants in turn."""

    def run(_rng: Random, index: int) -> Fields:
        tenant = tenants[index % len(tenants)]
        return {
            "provider": "google_classroom" if google else "oneroster",
            "status": "error",
            "error": error,
            "records_processed": 0,
            "run_id": str(200_000 + index),
            "sync_type": "roster_sync" if google else "oneroster_user_sync",
            "tenant_id": tenant,
            "integration_id": 30 + tenant,
        }

    def attempt(_rng: Random, index: int) -> Fields:
        job_class = "ClassroomRosterSyncJob" if google else "OneRosterUserSyncJob"
        fields = {"job_class": job_class, "status": "error", "error": error, "duration_ms": 800.0}
        return {**fields, "queue": "default", "attempt": 1 + index % 3}

    return more(Stream("sync.run", CORE, 40, run), Stream("job.completed", CORE, 40, attempt))


def _fault(
    name: str,
    cause: str | None,
    error: str,
    tenants: tuple[int, ...],
    google: bool = True,
    change: Change = unchanged,
) -> Fault:
    adds = _failing_runs(error, tenants, google)
    return Fault(name, "SyncFailures", "sync-failure", cause, change, adds, tail_s=3900)


SYNC_FAULTS = (
    _fault("google-token", "google-token-revoked", "Signet::AuthorizationError", (7,)),
    _fault(
        "oneroster-credentials",
        "oneroster-credentials-rejected",
        "OneRoster::AuthenticationError",
        (4,),
        google=False,
    ),
    _fault("google-outage", "provider-outage", "Google::Apis::ServerError", _GOOGLE_TENANTS),
    _fault("google-rate-limit", "provider-rate-limit", "Integrations::RateLimitError", _GOOGLE_TENANTS),
    _fault("mapping-missing", "missing-mapping", "Integrations::MappingMissing", (3,)),
    _fault(
        "oneroster-schema", "provider-schema-changed", "JSON::ParserError", _ONEROSTER_TENANTS, google=False
    ),
    _fault(
        "jobs-without-database",
        "database-or-redis-trouble",
        "PG::ConnectionBad",
        tuple(TENANTS),
        change=becomes("job.completed", status="error", error="PG::ConnectionBad"),
    ),
    _fault("sync-errors-of-no-kind", None, "Integrations::ApiError", _GOOGLE_TENANTS),
)
