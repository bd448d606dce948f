"""The recipes of the page about jobs, each with the real library that it is for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Retry, Worker, func
from huey import MemoryHuey
from procrastinate import App
from procrastinate.testing import InMemoryConnector

from tests.tocsin.brokers import fields, redis_server
from tests.tocsin.snippets import run
from tocsin.context import bound, scope
from tocsin.jobs import sample
from tocsin.testing import ListSink, capture_events

PAGE = "instrumentation/jobs.md"
STUDENT = "Ada Example <ada@students.example>"


class Sync:
    """The work: fails as often as it is told, and notes what is bound."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.seen: list[dict[str, Any]] = []

    def __call__(self, course_id: int) -> str:
        self.seen.append(dict(bound()))
        if len(self.seen) <= self.failures:
            raise LookupError(STUDENT)
        return STUDENT

    async def on_a_loop(self, course_id: int) -> str:
        return self(course_id)


def check(captured: ListSink, sync: Sync, job_class: str, **known: Any) -> list[dict[str, Any]]:
    """Three attempts of one job, the last of which succeeds, all of the request that enqueued it."""
    seen = fields(captured)
    assert [(event["attempt"], event["status"], event.get("error")) for event in seen] == [
        (1, "error", "LookupError"),
        (2, "error", "LookupError"),
        (3, "success", None),
    ]
    for event in seen:
        assert event["job_class"] == job_class
        assert (event["request_id"], event["tenant_id"]) == ("r1", 7)
        assert event["duration_ms"] >= 0
        assert event["wait_ms"] >= 0
        assert {name: event.get(name) for name in known} == known
    assert len({event["job_id"] for event in seen}) == 1
    for fields_bound in sync.seen:
        assert set(fields_bound) == {"request_id", "tenant_id", "job_id"}
    assert b"Ada" not in b"".join(captured.lines)
    assert b"ada@" not in b"".join(captured.lines)
    return seen


def test_any_job() -> None:
    queue: list[dict[str, Any]] = []
    sync = Sync(failures=1)
    page = run(PAGE, 0, queue=queue, sync=sync)
    with capture_events() as captured:
        with scope(request_id="r1", tenant_id=7):
            page["enqueue"](1)
            page["enqueue"](2)
        with pytest.raises(LookupError):
            page["work"]()
        page["work"]()
        page["clean_up"]()
    assert [(event["job_class"], event["status"], event["queue"]) for event in fields(captured)] == [
        ("GradeSync", "error", "grades"),
        ("GradeSync", "success", "grades"),
        ("NightlyCleanup", "success", "cron"),
    ]
    assert [event.get("request_id") for event in fields(captured)] == ["r1", "r1", None]


def test_huey() -> None:
    huey = MemoryHuey("school")
    sync = Sync(failures=2)
    page = run(PAGE, 3, huey=huey, sync=sync)
    with capture_events() as captured:
        with scope(request_id="r1", tenant_id=7):
            page["enqueue"](1)
        while (task := huey.dequeue()) is not None:
            huey.execute(task)
    check(captured, sync, "grade_sync", queue="school")


def test_arq(tmp_path: Path) -> None:
    sync = Sync(failures=2)
    page = run(PAGE, 4, sync=sync.on_a_loop)

    async def both(url: str) -> None:
        pool = await create_pool(RedisSettings.from_dsn(url))
        worker = Worker(
            [func(retrying(page["grade_sync"]), name="grade_sync")],
            redis_pool=pool,
            burst=True,
            poll_delay=0.01,
            handle_signals=False,
        )
        with scope(request_id="r1", tenant_id=7):
            await page["enqueue"](pool, 1)
        await worker.async_run()
        await pool.aclose(close_connection_pool=True)

    with redis_server(tmp_path) as url, capture_events() as captured:
        asyncio.run(both(url))
    check(captured, sync, "grade_sync")


def retrying(coroutine: Callable[..., Any]) -> Callable[..., Any]:
    """arq runs a job again if it raises ``Retry``."""

    async def retried(*args: Any, **kwargs: Any) -> Any:
        try:
            return await coroutine(*args, **kwargs)
        except LookupError as error:
            raise Retry from error

    return retried


def test_procrastinate() -> None:
    sync = Sync(failures=2)
    app = App(connector=InMemoryConnector())
    page = run(PAGE, 5, app=app, sync=sync.on_a_loop)

    async def both() -> None:
        async with app.open_async():
            with scope(request_id="r1", tenant_id=7):
                await page["enqueue"](1)
            for _ in range(3):
                await app.run_worker_async(wait=False, install_signal_handlers=False)

    with capture_events() as captured:
        asyncio.run(both())
    check(captured, sync, "grade_sync", queue="default")


def test_the_sampler_of_another_library() -> None:
    page = run(PAGE, 6, queue=["waits"])
    with capture_events() as captured:
        sample(page["states"])
    assert fields(captured, "job.queue") == [{"queue": "grades", "depth": 1}]
