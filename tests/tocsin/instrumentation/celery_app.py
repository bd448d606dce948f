"""A Celery application with tasks that end in every way there is."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

import tocsin
from tocsin.context import bound

BROKER = os.environ.get("CELERY_BROKER", "redis://127.0.0.1:1/0")
app = Celery("school", broker=BROKER, backend=BROKER)
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_expires=60,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
)
tocsin.instrument("celery")

STUDENT = "Ada Example <ada@students.example>"


@app.task
def add(left: int, right: int) -> int:
    return left + right


@app.task
def fail(student: str) -> None:
    raise LookupError(f"no grades of {student}")


@app.task
def context() -> dict[str, Any]:
    return dict(bound())


@app.task(bind=True, max_retries=2)
def flaky(self: Any, student: str) -> str:
    if self.request.retries < 2:
        try:
            raise TimeoutError(student)
        except TimeoutError as error:
            raise self.retry(exc=error, countdown=0) from error
    return student


@app.task(bind=True)
def retry_without_cause(self: Any) -> None:
    if not self.request.retries:
        raise self.retry(countdown=0)


@app.task
def ignored() -> None:
    raise Ignore


@app.task
def rejected() -> None:
    raise Reject("no", requeue=False)


@app.task
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=True)
def killed_late() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def leaves() -> None:
    sys.exit(3)


@app.task(time_limit=1)
def too_long() -> None:
    time.sleep(60)


@app.task(soft_time_limit=1)
def softly_too_long() -> None:
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        tocsin.emit("cleaned.up")
        raise


@app.task
def waits() -> None:
    tocsin.emit("waiting")
    time.sleep(60)


@app.task
def unserialisable() -> object:
    return object()


@app.task
def outer() -> list[dict[str, Any]]:
    before = dict(bound())
    inner = context.apply().result
    return [before, inner, dict(bound())]
