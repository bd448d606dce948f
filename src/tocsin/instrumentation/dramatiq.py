"""``job.completed`` of Dramatiq messages: a middleware that carries the context and reports each attempt."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any

from dramatiq import Middleware
from dramatiq.middleware import SkipMessage

from tocsin.emitter import current, flush
from tocsin.guard import GUARD
from tocsin.jobs import QueueState, Sampler, age_s, carried, job

_OPTION = "tocsin"

#: Redis answers within this time (seconds), or a sample fails.
_TIMEOUT_S = 5.0


class _Process(threading.local):
    """The message that this thread works on, and its job. Not the middleware's: it may be added twice."""

    message: Any = None
    job: job | None = None


_thread = _Process()


def _guarded(hook: Callable[..., None]) -> Callable[..., None]:
    @wraps(hook)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            hook(*args, **kwargs)
        except Exception as error:
            GUARD.failed("dramatiq", error)

    return guarded


class JobMiddleware(Middleware):
    """Add it to the broker of the processes that send messages and of the workers: last, to measure least."""

    @_guarded
    def before_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
        """The message takes the context along; one that is sent again keeps its own."""
        due = None if delay is None else current().clock() / 1e9 + delay / 1e3
        message.options[_OPTION] = carried(due=due, inherited=message.options.get(_OPTION))

    @_guarded
    def before_process_message(self, broker: Any, message: Any) -> None:
        """An attempt begins."""
        if _thread.message is message:
            return
        _take(_thread.message)  # one before it has had no end
        opened = _job(message)
        opened.__enter__()
        _thread.message, _thread.job = message, opened

    @_guarded
    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """An attempt ends. A message that failed without an exception was never run."""
        opened = _take(message)
        if opened is None:
            return
        skipped = SkipMessage if message.failed else None
        opened.__exit__(skipped if exception is None else type(exception), None, None)

    @_guarded
    def after_skip_message(self, broker: Any, message: Any) -> None:
        """Another middleware wants it not to run: an error if the message is lost by that."""
        opened = _take(message)
        if opened is not None:
            opened.discard()
        if message.failed:
            (opened or _job(message)).lost(SkipMessage.__name__)

    @_guarded
    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Writes what is left."""
        flush()


def _take(message: Any) -> job | None:
    """The open job of ``message``, which is not open any more."""
    if message is None or _thread.message is not message:
        return None
    opened = _thread.job
    _thread.message = _thread.job = None
    return opened


def _job(message: Any) -> job:
    context = message.options.get(_OPTION)
    return job(
        message.actor_name,
        queue=message.queue_name,
        job_id=message.message_id,
        attempt=message.options.get("retries", 0) + 1,
        enqueued_at=None if context else message.message_timestamp / 1e3,
        context=context,
    )


# --- queues ---


def queue_sampler(broker: str, queues: Iterable[str], *, namespace: str = "dramatiq") -> Sampler:
    """For :func:`tocsin.jobs.sample_queues`: how many messages wait in ``queues`` on Redis.

    ``broker`` is its URL, ``namespace`` that of the ``RedisBroker``. What a worker has already fetched does
    not wait, nor does a message whose delay has not passed.
    """
    from dramatiq.brokers.redis import RedisBroker  # loads redis, which not every broker needs

    redis: Any = RedisBroker(url=broker, middleware=[]).client  # type: ignore[no-untyped-call]
    options = redis.connection_pool.connection_kwargs
    options.update(socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
    names = tuple(queues)

    def sample() -> Iterator[QueueState]:
        for name in names:
            key = f"{namespace}:{name}"
            yield QueueState(name, redis.llen(key), _oldest_age_s(redis, key))

    return sample


def _oldest_age_s(redis: Any, key: str) -> float | None:
    oldest = redis.lindex(key, 0)
    return None if oldest is None else _message_age_s(redis.hget(f"{key}.msgs", oldest))


def _message_age_s(encoded: bytes | None) -> float | None:
    """Not known with another encoder than JSON: a pickle is not opened here."""
    try:
        message = json.loads(encoded or b"{}")
        enqueued_at = message["options"].get(_OPTION, {}).get("enqueued_at")
        return age_s(enqueued_at or message["message_timestamp"] / 1e3)
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
