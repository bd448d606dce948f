"""Dramatiq actors that end in every way there is, for the broker at DRAMATIQ_BROKER."""

from __future__ import annotations

import os
import time
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

import tocsin
from tocsin.context import bound
from tocsin.instrumentation.dramatiq import JobMiddleware

STUDENT = "Ada Example <ada@students.example>"

broker = RedisBroker(url=os.environ.get("DRAMATIQ_BROKER", "redis://127.0.0.1:1/0"))
broker.add_middleware(JobMiddleware())
dramatiq.set_broker(broker)
seen: list[dict[str, Any]] = []


@dramatiq.actor
def note() -> None:
    seen.append(dict(bound()))


@dramatiq.actor(max_retries=0)
def fail(student: str) -> None:
    raise LookupError(f"no grades of {student}")


@dramatiq.actor(min_backoff=1, max_backoff=1, max_retries=2)
def flaky(student: str) -> None:
    tocsin.emit("trying")
    raise TimeoutError(student)


@dramatiq.actor(max_retries=0, time_limit=200)
def too_long() -> None:
    for _ in range(6000):
        time.sleep(0.01)


@dramatiq.actor(max_age=1)
def too_old() -> None:
    raise AssertionError("never runs")


@dramatiq.actor
async def on_a_loop() -> None:
    seen.append(dict(bound()))
