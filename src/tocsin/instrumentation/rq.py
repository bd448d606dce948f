"""``job.completed`` of RQ jobs: a queue that carries the context, and workers that report each attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import rq
from rq.cli.helpers import get_redis_from_config
from rq.utils import utcparse

from tocsin.emitter import flush
from tocsin.guard import GUARD
from tocsin.jobs import QueueState, Sampler, age_s, carried, job

_META = "tocsin"

#: Redis answers within this time (seconds), or a sample fails.
_TIMEOUT_S = 5.0


class Queue(rq.Queue):
    """An RQ queue whose jobs know, in ``job.meta["tocsin"]``, which request they come from."""

    def create_job(self, *args: Any, **kwargs: Any) -> Any:
        """The job, with the context of here."""
        created = super().create_job(*args, **kwargs)
        try:
            fields = carried()
            if created.retries_left is not None:
                fields["retries"] = created.retries_left
            created.meta = {**(created.meta or {}), _META: fields}
        except Exception as error:
            GUARD.failed("rq", error)
        return created


class JobEvents:
    """What makes a worker report: put it before a worker's class, ``class W(JobEvents, rq.SpawnWorker)``."""

    _performing = False
    _failure: Any = None

    def perform_job(self, job: Any, queue: Any, *args: Any, **kwargs: Any) -> Any:
        """Runs the job as one attempt; in a work horse, which ends by ``os._exit``, its lines are written."""
        self._performing, self._failure = True, None
        attempt = _guarded(_opened, job, queue)
        try:
            return super().perform_job(job, queue, *args, **kwargs)  # type: ignore[misc]
        except BaseException as error:
            self._failure = type(error)
            raise
        finally:
            self._performing = False
            if attempt is not None:
                _guarded(attempt.__exit__, self._failure, None, None)
            if getattr(self, "is_horse", False):
                flush()

    def handle_exception(self, job: Any, *exc_info: Any) -> Any:
        """Notes why the job failed."""
        self._failure = exc_info[0]
        return super().handle_exception(job, *exc_info)  # type: ignore[misc]

    def handle_job_retry(self, *args: Any, **kwargs: Any) -> Any:
        """Notes that the job asked for another attempt."""
        self._failure = rq.Retry
        return super().handle_job_retry(*args, **kwargs)  # type: ignore[misc]

    def handle_job_failure(self, job: Any, queue: Any, *args: Any, **kwargs: Any) -> Any:
        """Reports, in the parent process, a work horse that could not report itself."""
        if not self._performing:
            stopped = getattr(self, "_stopped_job_id", None) == job.id
            _guarded(_report_lost, job, queue, "JobStopped" if stopped else "WorkHorseKilled")
        return super().handle_job_failure(job, queue, *args, **kwargs)  # type: ignore[misc]


class Worker(JobEvents, rq.Worker):
    """:class:`rq.Worker` that reports each attempt."""


class SimpleWorker(JobEvents, rq.SimpleWorker):
    """:class:`rq.SimpleWorker` that reports each attempt."""


def _guarded(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:
        GUARD.failed("rq", error)
        return None


def _opened(rq_job: Any, queue: Any) -> job:
    attempt = _attempt(rq_job, queue)
    attempt.__enter__()
    return attempt


def _report_lost(rq_job: Any, queue: Any, error: str) -> None:
    _attempt(rq_job, queue).lost(error, started_at=rq_job.started_at)


def _attempt(rq_job: Any, queue: Any) -> job:
    meta = (rq_job.meta or {}).get(_META)
    return job(
        rq_job.func_name,
        queue=queue.name,
        job_id=rq_job.id,
        attempt=_attempt_number(rq_job, meta if isinstance(meta, dict) else {}),
        enqueued_at=rq_job.enqueued_at,
        context=meta,
    )


def _attempt_number(rq_job: Any, meta: dict[str, Any]) -> int | None:
    """RQ counts down the retries after an exception, from a number that only our queue has noted."""
    left, asked_for = rq_job.retries_left, rq_job.number_of_retries or 0
    if left is None:
        return int(asked_for) + 1
    allowed = meta.get("retries")
    return int(allowed) - int(left) + int(asked_for) + 1 if allowed is not None else None


# --- queues ---


def queue_sampler(broker: str, queues: Iterable[str]) -> Sampler:
    """For :func:`tocsin.jobs.sample_queues`: how many jobs wait in ``queues`` at the URL ``broker``."""
    connection: Any = get_redis_from_config({"REDIS_URL": broker})  # type: ignore[no-untyped-call]
    options = connection.connection_pool.connection_kwargs
    options.update(socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
    watched = [rq.Queue(name, connection=connection) for name in queues]

    def sample() -> Iterator[QueueState]:
        for queue in watched:
            yield QueueState(queue.name, queue.count, _oldest_age_s(queue))

    return sample


def _oldest_age_s(queue: Any) -> float | None:
    for job_id in queue.get_job_ids(0, 1):
        enqueued_at = queue.connection.hget(queue.job_class.key_for(job_id), "enqueued_at")
        return age_s(utcparse(enqueued_at.decode())) if enqueued_at else None
    return None
