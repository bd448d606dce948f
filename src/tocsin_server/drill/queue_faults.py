"""Faults of background jobs: what JobQueueDepth and JobMissing find."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

from tocsin_server.clock import SECOND_US
from tocsin_server.drill.fault import Adds, Fault, When, all_of, becomes, grows, more, vanishes
from tocsin_server.drill.traffic import CORE, Emission, Fields, Stream

_HOUR_S = 3600
_backlog = partial(Fault, alert="JobQueueDepth", runbook="job-queue", lasts_s=960)
#: The queue grows although workers take from it: the oldest job waits not long.
_GROWS = grows("default", 60, ages=False)


def _attempts(every_s: float, **fields: Any) -> Adds:
    """Further attempts of jobs."""

    def job(_rng: Random, _index: int) -> Fields:
        return {"queue": "default", "attempt": 1, "duration_ms": 2500.0, "status": "success", **fields}

    return more(Stream("job.completed", CORE, every_s, job))


def _of(job_class: str, is_it: bool = True) -> When:
    return lambda fields: (fields["job_class"] == job_class) is is_it


def _daily_jobs(outbreak_us: int, repair_us: int, _rng: Random) -> Iterator[Emission]:
    """One of two daily jobs runs on; the other only after the repair."""
    runs = [(outbreak_us + hours * _HOUR_S * SECOND_US, "DueDateReminderJob") for hours in (1, 13, 25)]
    for at_us, job_class in (*runs, (repair_us + 60 * SECOND_US, "NotificationDigestJob")):
        fields = {"job_class": job_class, "status": "success", "queue": "default", "duration_ms": 9000.0}
        yield Emission(at_us, "job.completed", CORE, fields)


QUEUE_FAULTS = (
    _backlog(
        "queue-without-worker",
        cause="queue-without-worker",
        change=all_of(grows("low", 60), vanishes("job.completed", when=lambda f: f["queue"] == "low")),
    ),
    _backlog("workers-down", cause="workers-down", change=all_of(grows("", 40), vanishes("job.completed"))),
    _backlog(
        "slow-jobs",
        cause="slow-jobs",
        change=all_of(
            _GROWS,
            becomes("job.completed", when=_of("ClassroomRosterSyncJob"), duration_ms=95_000.0),
            vanishes("job.completed", 0.5, when=_of("ClassroomRosterSyncJob", False)),
        ),
    ),
    _backlog(
        "surge",
        cause="surge-of-jobs",
        change=_GROWS,
        adds=_attempts(2, job_class="DistributeAssignmentJob"),
    ),
    _backlog(
        "retries",
        cause="failing-job-retried",
        change=_GROWS,
        adds=_attempts(6, job_class="AiGenerationJob", status="error", error="KeyError", attempt=4),
    ),
    _backlog("depth-of-no-kind", cause=None, change=_GROWS),
    Fault(
        "scheduler-stopped",
        "JobMissing",
        "job-queue",
        "scheduler-stopped",
        adds=_daily_jobs,
        lasts_s=36 * _HOUR_S,
        thinned=30.0,
    ),
)
