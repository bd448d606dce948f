"""``job.completed`` of Celery tasks, from Celery's signals alone.

An attempt reports itself in the process that runs it: ``task_prerun`` opens a job, ``task_postrun`` closes
it. What cannot report itself is reported by the worker's parent process: an attempt whose process was killed
(``WorkerLostError``, ``TimeLimitExceeded``) and a task that was revoked.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from celery import signals
from celery.exceptions import Ignore, Retry, TimeLimitExceeded, WorkerLostError
from kombu.connection import Connection
from kombu.exceptions import ChannelError

from tocsin.emitter import flush
from tocsin.guard import GUARD
from tocsin.jobs import CARRIED, QueueState, Sampler, age_s, carried, job

#: Each carried field is a message header of its own, so that no broker has to nest.
_PREFIX = "tocsin_"

#: Redis answers within five seconds, or a sample fails.
_OPTIONS = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0}


def instrument() -> None:
    """Connects to Celery's signals, in the process that sends tasks as in the one that runs them."""
    for signal, receiver in _RECEIVERS:
        signal.connect(receiver, weak=False, dispatch_uid=f"tocsin.{receiver.__name__}")


class _Running(NamedTuple):
    task_id: str
    job: job
    #: What the caller of an eager task is handling, and the task has not raised.
    handled: BaseException | None


class _Process(threading.local):
    """The tasks that this thread runs, the innermost last: an eager task may run inside another."""

    def __init__(self) -> None:
        self.running: list[_Running] = []
        self.ended: str | None = None


_thread = _Process()

#: What the parent process has received and not yet forgotten, by task id.
_requests: WeakValueDictionary[str, Any] = WeakValueDictionary()

_parent_pid: int | None = None


def _guarded(receiver: Callable[..., None]) -> Callable[..., None]:
    @wraps(receiver)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            receiver(*args, **kwargs)
        except Exception as error:
            GUARD.failed("celery", error)

    return guarded


# --- where a task is sent ---


@_guarded
def _publish(headers: Any = None, **_: Any) -> None:
    if not isinstance(headers, dict):
        return
    inherited = {field: headers.pop(_PREFIX + field, None) for field in CARRIED}
    fields = carried(due=_eta(headers), inherited=inherited)
    headers.update((_PREFIX + field, value) for field, value in fields.items())


def _eta(headers: Any) -> datetime | None:
    """A task with a countdown waits from its end on. A time without zone is the application's: not known."""
    try:
        eta = datetime.fromisoformat(headers.get("eta") or "")
    except (TypeError, ValueError):
        return None
    return eta if eta.tzinfo else None


# --- where a task runs ---


@_guarded
def _prerun(task_id: str, task: Any, **_: Any) -> None:
    request, running = task.request, _thread.running
    if not request.is_eager:
        _discard(running)  # a task before this one has had no task_postrun
    opened = _job(task.name, request)
    opened.__enter__()
    running.append(_Running(task_id, opened, sys.exc_info()[1]))


@_guarded
def _postrun(task_id: str, retval: Any = None, state: str | None = None, **_: Any) -> None:
    running = _thread.running
    index = next((i for i in reversed(range(len(running))) if running[i].task_id == task_id), None)
    if index is None:
        return
    _discard(running, index + 1)
    ran = running.pop()
    _thread.ended = task_id
    raised = sys.exc_info()[1]
    error = raised if raised is not ran.handled else _error(state, retval)
    if isinstance(error, SystemExit | KeyboardInterrupt) and _is_pool_child():
        ran.job.discard()  # the process ends, which the parent reports
    else:
        ran.job.__exit__(None if error is None else _cause(error), None, None)


@_guarded
def _internal_error(sender: Any, task_id: str, request: Any, exception: BaseException, **_: Any) -> None:
    """Celery itself failed; before the task ran, if that has not ended."""
    ended, _thread.ended = _thread.ended, None
    if ended != task_id:
        _job(sender.name, request or {"id": task_id}).lost(_cause(exception).__name__)


def _discard(running: list[_Running], keep: int = 0) -> None:
    while len(running) > keep:
        running.pop().job.discard()


def _error(state: str | None, retval: Any) -> BaseException | None:
    """Why the task has failed; to ignore a task is its own decision."""
    failed = state != "SUCCESS" and isinstance(retval, BaseException) and not isinstance(retval, Ignore)
    return retval if failed else None


def _cause(error: BaseException) -> type[BaseException]:
    """The class to report: of a retry, that of what made it necessary."""
    cause = getattr(error, "exc", None) if isinstance(error, Retry) else None
    return type(cause if isinstance(cause, BaseException) else error)


def _job(name: str, request: Any) -> job:
    """``request`` is a task's ``Context`` or the dict that one is made of."""
    headers = request.get("headers") or {}
    context = {key: request.get(_PREFIX + key) or headers.get(_PREFIX + key) for key in _CONTEXT}
    if request.get("is_eager") and not any(context.values()):
        context = {**carried(), "enqueued_at": None}
    return job(
        name,
        queue=(request.get("delivery_info") or {}).get("routing_key"),
        job_id=request.get("id"),
        attempt=(request.get("retries") or 0) + 1,
        context=context,
    )


_CONTEXT = (*CARRIED, "enqueued_at")


# --- in the worker's parent process ---


@_guarded
def _worker_init(**_: Any) -> None:
    global _parent_pid
    _parent_pid = os.getpid()


def _is_pool_child() -> bool:
    return _parent_pid not in (None, os.getpid())


@_guarded
def _received(request: Any, **_: Any) -> None:
    _requests[request.id] = request


@_guarded
def _failed(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    """Celery may tell twice of one kill; the request is there the first time only."""
    if isinstance(exception, WorkerLostError | TimeLimitExceeded) and not _runs_here(task_id):
        request = _requests.get(task_id)
        if request is not None:
            _lost(sender, request.request_dict, exception)


@_guarded
def _retried(sender: Any, request: Any, reason: Any = None, **_: Any) -> None:
    if not _runs_here(request.id):
        _lost(sender, request, reason if isinstance(reason, Retry) else Retry())


@_guarded
def _revoked(sender: Any, request: Any, **_: Any) -> None:
    _lost(sender, request, "TaskRevokedError")


def _runs_here(task_id: str) -> bool:
    """Its end will be seen here: the pool has no processes, or this is one of them."""
    return any(running.task_id == task_id for running in _thread.running)


def _lost(task: Any, context: Any, error: BaseException | str) -> None:
    request = _requests.pop(context.get("id"), None)
    name = error if isinstance(error, str) else _cause(error).__name__
    _job(task.name, context).lost(name, started_at=getattr(request, "time_start", None))


@_guarded
def _process_shutdown(**_: Any) -> None:
    flush()  # a pool's process may end by os._exit


_RECEIVERS = (
    (signals.before_task_publish, _publish),
    (signals.task_prerun, _prerun),
    (signals.task_postrun, _postrun),
    (signals.task_internal_error, _internal_error),
    (signals.worker_init, _worker_init),
    (signals.task_received, _received),
    (signals.task_failure, _failed),
    (signals.task_retry, _retried),
    (signals.task_revoked, _revoked),
    (signals.worker_process_shutdown, _process_shutdown),
)


# --- queues ---


def queue_sampler(broker: Any, queues: Iterable[str]) -> Sampler:
    """For :func:`tocsin.jobs.sample_queues`: how many messages wait in ``queues`` of a broker.

    ``broker`` is a URL, or the Celery application if its broker has transport options. The age is known on
    Redis, for tasks sent by an instrumented process. What a worker has already fetched does not wait.
    """
    names = tuple(queues)

    def sample() -> Iterator[QueueState]:
        with _channel(broker) as channel:
            for name in names:
                yield QueueState(name, _depth(channel, name), _oldest_age_s(channel, name))

    return sample


@contextmanager
def _channel(broker: Any) -> Iterator[Any]:
    with _connection(broker) as connection:
        connection.connect()  # once: the next sample is the next try
        yield connection.channel()


def _connection(broker: Any) -> Any:
    if hasattr(broker, "connection_for_read"):
        return broker.connection_for_read()
    return Connection(broker, transport_options=_OPTIONS)  # type: ignore[no-untyped-call]


def _depth(channel: Any, queue: str) -> int:
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except ChannelError as error:
        if str(getattr(error, "reply_code", "")) != "404":
            raise
        return 0  # an empty queue does not exist on Redis


def _oldest_age_s(channel: Any, queue: str) -> float | None:
    if not hasattr(channel, "priority_steps"):
        return None  # not Redis: a message cannot be looked at without taking it
    keys = (f"{queue}{channel.sep}{step}" if step else queue for step in channel.priority_steps)
    ages = [_message_age_s(channel.client.lindex(key, -1)) for key in keys]
    return max((age for age in ages if age is not None), default=None)


def _message_age_s(message: bytes | None) -> float | None:
    try:
        return age_s(json.loads(message or b"{}")["headers"][_PREFIX + "enqueued_at"])
    except (ValueError, TypeError, LookupError):
        return None
