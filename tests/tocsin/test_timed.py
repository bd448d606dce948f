"""``timed`` as a context manager and as a decorator, for functions and coroutine functions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

import tocsin
from tocsin.testing import ListSink, capture_events


def every_look_takes(milliseconds: float) -> Callable[[], int]:
    """A monotonic clock that moves on by so much at every look."""
    looks = count()
    return lambda: int(next(looks) * milliseconds * 1e6)


@pytest.fixture
def captured() -> Iterator[ListSink]:
    with capture_events(monotonic=every_look_takes(12.5)) as sink:
        yield sink


def tags(captured: ListSink) -> list[dict[str, Any]]:
    return [event["tags"] for event in captured.events]


def test_a_block_that_ends_well(captured: ListSink) -> None:
    with tocsin.timed("sync.run", provider="oneroster") as fields:
        fields["records_processed"] = 240
    assert tags(captured) == [
        {"provider": "oneroster", "status": "success", "records_processed": 240, "duration_ms": 12.5}
    ]


def test_a_block_that_fails(captured: ListSink) -> None:
    with pytest.raises(LookupError, match="Maya"), tocsin.timed("job.completed", job_class="SyncJob"):
        raise LookupError("Maya")
    assert tags(captured) == [
        {"job_class": "SyncJob", "status": "error", "error": "LookupError", "duration_ms": 12.5}
    ]


def test_a_status_of_the_block_stays_unless_it_fails(captured: ListSink) -> None:
    with tocsin.timed("sync.run") as fields:
        fields["status"] = "partial"
    with pytest.raises(KeyError), tocsin.timed("sync.run", status="partial"):
        raise KeyError
    assert [line["status"] for line in tags(captured)] == ["partial", "error"]


@pytest.mark.parametrize(
    ("event", "ended_well", "failed"),
    [
        ("api.request", {"duration_ms": 12.5}, {"status": 500, "duration_ms": 12.5, "error": "OSError"}),
        (
            "health.check",
            {"status": "success", "latency_ms": 12.5},
            {"status": "failure", "latency_ms": 12.5, "error": "OSError"},
        ),
        (
            "custom",
            {"duration_ms": 12.5, "status": "success"},
            {"duration_ms": 12.5, "status": "error", "error": "OSError"},
        ),
    ],
)
def test_status_and_duration_are_those_of_the_catalogue(
    captured: ListSink, event: str, ended_well: dict[str, Any], failed: dict[str, Any]
) -> None:
    with tocsin.timed(event):
        pass
    with pytest.raises(OSError), tocsin.timed(event):
        raise OSError
    assert tags(captured) == [ended_well, failed]


def test_a_decorated_function(captured: ListSink) -> None:
    @tocsin.timed("job.completed", job_class="Double")
    def double(number: int) -> int:
        """Twice the number."""
        return 10 // number * 2

    assert double(5) == 4
    assert double(number=2) == 10
    with pytest.raises(ZeroDivisionError):
        double(0)
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice the number."
    assert [(line["status"], line.get("error")) for line in tags(captured)] == [
        ("success", None),
        ("success", None),
        ("error", "ZeroDivisionError"),
    ]


def test_a_decorated_coroutine_function(captured: ListSink) -> None:
    @tocsin.timed("ai.invocation", provider="openai")
    async def generate(fail: bool) -> str:
        await asyncio.sleep(0)
        if fail:
            raise TimeoutError
        return "done"

    assert inspect.iscoroutinefunction(generate)
    assert asyncio.run(generate(False)) == "done"
    with pytest.raises(TimeoutError):
        asyncio.run(generate(True))
    assert [(line["status"], line.get("error")) for line in tags(captured)] == [
        ("success", None),
        ("error", "TimeoutError"),
    ]


def test_calls_that_overlap_do_not_share_fields_or_clocks() -> None:
    @tocsin.timed("custom", a=1)
    async def work(first: asyncio.Event, second: asyncio.Event) -> None:
        first.set()
        await second.wait()

    async def overlap() -> None:
        one, two = asyncio.Event(), asyncio.Event()
        await asyncio.gather(work(one, two), work(two, one))

    with capture_events(monotonic=every_look_takes(1)) as captured:
        asyncio.run(overlap())
    assert [line["duration_ms"] for line in tags(captured)] == [1.0, 3.0]


def test_a_cancelled_task_is_an_error_and_stays_cancelled(captured: ListSink) -> None:
    async def cancel() -> None:
        async def work() -> None:
            with tocsin.timed("custom"):
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert tags(captured) == [{"status": "error", "error": "CancelledError", "duration_ms": 12.5}]


def test_a_recursive_function_times_each_call(captured: ListSink) -> None:
    @tocsin.timed("custom")
    def down(n: int) -> int:
        return 0 if n == 0 else down(n - 1)

    down(2)
    assert [line["duration_ms"] for line in tags(captured)] == [12.5, 37.5, 62.5]
