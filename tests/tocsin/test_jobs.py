"""``job`` for whatever runs jobs, ``carried`` for its headers, and the sampler of queues."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tocsin
from tests.tocsin.brokers import fields, running, ticking
from tests.tocsin.servers import wait_for
from tocsin.context import bound
from tocsin.guard import Guard
from tocsin.jobs import QueueState, age_s, carried, job, main, sample, sample_queues
from tocsin.testing import capture_events

NOW_S = 1_700_000_000.0
NOW = datetime.fromtimestamp(NOW_S, UTC)


def frozen() -> Any:
    return capture_events(clock=lambda: int(NOW_S * 1e9), monotonic=ticking())


def test_a_job_that_ends_is_a_success_with_its_duration() -> None:
    with frozen() as captured, job("PdfExport", queue="default", job_id="j1", attempt=2):
        pass
    assert fields(captured) == [
        {
            "job_class": "PdfExport",
            "status": "success",
            "duration_ms": 10.0,
            "job_id": "j1",
            "queue": "default",
            "attempt": 2,
        }
    ]


def test_a_job_that_fails_is_an_error_with_its_class_and_the_exception_goes_on() -> None:
    failure = LookupError("Ada Example")
    with frozen() as captured, pytest.raises(LookupError) as raised, job("PdfExport"):
        raise failure
    assert raised.value is failure
    assert fields(captured) == [
        {"job_class": "PdfExport", "status": "error", "error": "LookupError", "duration_ms": 10.0}
    ]


def test_the_block_may_add_what_it_learns() -> None:
    with capture_events() as captured, job("PdfExport") as known:
        known["pages"] = 3
    assert fields(captured)[0]["pages"] == 3


def test_S10_a_job_sees_what_was_carried_and_nothing_else() -> None:
    with tocsin.bind(request_id="r1", tenant_id=7, user_id=42, controller="Pages"):
        headers = carried()
    with capture_events() as captured, tocsin.bind(request_id="another", locale="de"):
        with job("PdfExport", job_id="j1", context=headers):
            assert dict(bound()) == {"request_id": "r1", "tenant_id": 7, "user_id": 42, "job_id": "j1"}
            tocsin.annotate(tenant_id=8)
        assert dict(bound()) == {"request_id": "another", "locale": "de"}
    event = fields(captured)[0]
    assert event["request_id"] == "r1"
    assert event["tenant_id"] == 8
    assert event["user_id"].startswith("u_")


def test_the_wait_is_the_time_since_the_job_was_enqueued() -> None:
    with frozen() as captured:
        with job("Export", enqueued_at=NOW_S - 1.5):
            pass
        with job("Export", enqueued_at=datetime.fromtimestamp(NOW_S - 2, UTC)):
            pass
        with job("Export", context={"enqueued_at": NOW_S - 3}):
            pass
    assert [event["wait_ms"] for event in fields(captured)] == [1500.0, 2000.0, 3000.0]


def test_two_clocks_that_differ_make_no_negative_wait() -> None:
    with frozen() as captured, job("Export", enqueued_at=NOW_S + 60):
        pass
    assert fields(captured)[0]["wait_ms"] == 0.0


def test_a_job_that_is_to_start_later_waits_from_then_on() -> None:
    with frozen():
        assert carried() == {"enqueued_at": NOW_S}
        assert carried(due=NOW_S + 60) == {"enqueued_at": NOW_S + 60}
        assert carried(due=NOW_S - 60) == {"enqueued_at": NOW_S}


def test_S10_what_is_bound_replaces_what_was_inherited_as_a_whole() -> None:
    old = {"request_id": "old", "tenant_id": 1, "enqueued_at": 1.0}
    with frozen():
        assert carried(inherited=old) == {"request_id": "old", "tenant_id": 1, "enqueued_at": NOW_S}
        with tocsin.bind(request_id="new"):
            assert carried(inherited=old) == {"request_id": "new", "enqueued_at": NOW_S}


@given(
    context=st.one_of(
        st.none(),
        st.text(),
        st.dictionaries(
            st.sampled_from(["request_id", "tenant_id", "enqueued_at", "self", "x"]),
            st.one_of(st.text(), st.floats(), st.lists(st.integers()), st.binary(), st.datetimes()),
        ),
    ),
    enqueued_at=st.one_of(st.none(), st.floats(), st.text(), st.datetimes()),
)
def test_S8_whatever_stands_in_the_headers_the_job_runs(context: Any, enqueued_at: Any) -> None:
    with capture_events() as captured:
        with job("Export", context=context, enqueued_at=enqueued_at):
            ran = True
        carried(inherited=context, due=enqueued_at)
    assert ran
    assert fields(captured)[0]["status"] == "success"
    assert fields(captured)[0].get("wait_ms", 0) >= 0


# --- as a decorator ---


def test_a_function_is_a_job_at_each_call() -> None:
    @job("Sum", queue="low")
    def add(left: int, right: int) -> int:
        """Adds."""
        return left + right

    with capture_events() as captured:
        assert [add(1, 2), add(3, right=4)] == [3, 7]
    assert [event["job_class"] for event in fields(captured)] == ["Sum", "Sum"]
    assert (add.__name__, add.__doc__) == ("add", "Adds.")


def test_S10_overlapping_calls_of_a_coroutine_function_do_not_mix() -> None:
    @job("Export")
    async def export(number: int) -> int:
        tocsin.annotate(tenant_id=number)
        await asyncio.sleep(0)
        assert bound()["tenant_id"] == number
        return number

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*map(export, range(50)))

    with capture_events() as captured:
        assert asyncio.run(all_of_them()) == list(range(50))
    assert sorted(event["tenant_id"] for event in fields(captured)) == list(range(50))


def test_a_cancelled_coroutine_is_an_error() -> None:
    @job("Export")
    async def export() -> None:
        await asyncio.sleep(60)

    async def cancelled() -> None:
        task = asyncio.create_task(export())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with capture_events() as captured:
        asyncio.run(cancelled())
    assert fields(captured)[0]["error"] == "CancelledError"


def test_a_generator_is_refused_where_it_is_decorated() -> None:
    def pages() -> Iterator[int]:
        yield 1

    async def lines() -> Any:
        yield 1

    for generator in (pages, lines):
        with pytest.raises(TypeError, match=f"@job: {generator.__name__} is a generator"):
            job("Export")(generator)


def test_threads_do_not_mix() -> None:
    decorated = job("Export")(lambda number: tocsin.annotate(tenant_id=number))
    with capture_events() as captured:
        threads = [threading.Thread(target=decorated, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(event["tenant_id"] for event in fields(captured)) == list(range(8))


# --- attempts that another reports ---


def test_a_lost_attempt_is_an_error_with_what_is_known() -> None:
    attempt = job("Export", job_id="j1", context={"request_id": "r1", "enqueued_at": NOW_S - 5})
    with frozen() as captured:
        attempt.lost("WorkerLostError", started_at=NOW_S - 3)
        attempt.lost("TaskRevokedError")
    known = {"job_class": "Export", "status": "error", "job_id": "j1", "request_id": "r1"}
    assert fields(captured) == [
        {**known, "error": "WorkerLostError", "duration_ms": 3000.0, "wait_ms": 2000.0},
        {**known, "error": "TaskRevokedError"},
    ]


# --- queues ---


def test_each_state_is_an_event_and_an_empty_queue_is_one_too() -> None:
    with capture_events() as captured:
        sample(lambda: [QueueState("default", 42, 3.2), QueueState("low", 0)])
    assert fields(captured, "job.queue") == [
        {"queue": "default", "depth": 42, "oldest_age_s": 3.2},
        {"queue": "low", "depth": 0},
    ]


def test_a_broker_that_is_down_is_counted_and_the_loop_goes_on(
    monkeypatch: pytest.MonkeyPatch, internal_failures: Guard
) -> None:
    monkeypatch.setattr("tocsin.jobs.GUARD", internal_failures)
    answers = iter([ConnectionError("redis://:secret@host"), [QueueState("default", 1)], KeyboardInterrupt()])
    waits: list[float] = []

    def sampler() -> list[QueueState]:
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    with capture_events() as captured, pytest.raises(KeyboardInterrupt):
        sample_queues(sampler, 5.0, wait=waits.append)
    assert fields(captured, "job.queue") == [{"queue": "default", "depth": 1}]
    assert internal_failures.counts == {"queue sampler": 1}
    assert waits == [5.0, 5.0]


def test_an_age_is_never_negative_and_unknown_for_what_is_no_time() -> None:
    with frozen():
        assert age_s(NOW_S - 2.5) == 2.5
        assert age_s(NOW) == 0.0
        assert age_s(NOW_S + 9) == 0.0
        assert age_s(None) is age_s("soon") is age_s(float("nan")) is None


@pytest.mark.parametrize("arguments", [[], ["sidekiq", "redis://x", "--queue", "q"], ["rq", "redis://x"]])
def test_the_command_says_what_is_missing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: python -m tocsin.jobs" in capsys.readouterr().err


def test_the_command_survives_a_broker_that_is_down(tmp_path: Path) -> None:
    arguments = ("tocsin.jobs", "celery", "redis://127.0.0.1:1/0", "--queue", "default", "--every", "0.05")
    with running(tmp_path / "sampler", *arguments) as sampler:
        wait_for(lambda: "queue sampler" in sampler.text)
    assert "Traceback" not in sampler.text
