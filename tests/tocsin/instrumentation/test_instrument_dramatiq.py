"""Real Dramatiq workers on a real Redis: each attempt is reported once, whatever ends it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import AsyncIO, SkipMessage

import tocsin
from tests.tocsin.brokers import fields, redis_server, running
from tests.tocsin.instrumentation import dramatiq_app as actors
from tests.tocsin.servers import wait_for
from tests.tocsin.snippets import run
from tocsin import jobs
from tocsin.context import bound, scope
from tocsin.guard import Guard
from tocsin.instrumentation.dramatiq import JobMiddleware, queue_sampler
from tocsin.testing import ListSink, capture_events


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        actors.broker.client.connection_pool = redis.ConnectionPool.from_url(url)
        actors.broker.emit_after("process_boot")  # starts what watches the time limits
        yield url
        actors.broker.close()
        actors.broker.client.connection_pool.disconnect()


@pytest.fixture
def captured(url: str) -> Iterator[ListSink]:
    """What is emitted here; a worker runs in a thread."""
    actors.seen.clear()
    with capture_events() as captured, at_work(actors.broker):
        yield captured


@contextmanager
def at_work(broker: Any) -> Iterator[None]:
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
    try:
        yield
    finally:
        worker.stop()


def attempts(captured: ListSink, message: Any, count: int = 1) -> list[dict[str, Any]]:
    """The events of one message, once there are as many; a message after it proves that no more came."""

    def of(job_id: str) -> list[dict[str, Any]]:
        return [event for event in fields(captured) if event["job_id"] == job_id]

    wait_for(lambda: len(of(message.message_id)) >= count)
    marker = actors.note.send()
    wait_for(lambda: of(marker.message_id))
    return of(message.message_id)


def test_every_message_sent_is_reported_as_the_client_knows_it(captured: ListSink) -> None:
    sent: dict[str, tuple[str, str, str | None]] = {}
    for number in range(20):
        with scope(request_id=f"r{number}", tenant_id=number % 5, user_id=1000 + number, path="/secret"):
            if number % 4 == 0:
                sent[actors.fail.send(actors.STUDENT).message_id] = (f"r{number}", "error", "LookupError")
            else:
                sent[actors.note.send().message_id] = (f"r{number}", "success", None)
    wait_for(lambda: len(fields(captured)) == len(sent))
    seen = fields(captured)
    assert {e["job_id"]: (e["request_id"], e["status"], e.get("error")) for e in seen} == sent
    for event in seen:
        assert event["job_class"] in ("note", "fail")
        assert (event["queue"], event["attempt"]) == ("default", 1)
        assert event["duration_ms"] >= 0
        assert event["wait_ms"] >= 0
        assert event["user_id"].startswith("u_")
    printed = b"".join(captured.lines)
    for secret in (b"Ada", b"ada@students", b"no grades", b"/secret"):
        assert secret not in printed


def test_each_failed_attempt_is_an_error_that_keeps_its_context(captured: ListSink) -> None:
    with scope(request_id="r1"):
        message = actors.flaky.send("x")
    seen = attempts(captured, message, 3)
    assert [(event["attempt"], event["error"], event["request_id"]) for event in seen] == [
        (1, "TimeoutError", "r1"),
        (2, "TimeoutError", "r1"),
        (3, "TimeoutError", "r1"),
    ]


def test_a_delay_is_no_wait(captured: ListSink) -> None:
    with scope(request_id="r1"):
        message = actors.note.send_with_options(delay=1000)
    (event,) = attempts(captured, message)
    assert event["wait_ms"] < 1000
    assert event["request_id"] == "r1"


def test_time_limit_and_age_limit(captured: ListSink) -> None:
    (event,) = attempts(captured, actors.too_long.send())
    assert event["error"] == "TimeLimitExceeded"
    old = actors.too_old.message()
    object.__setattr__(old, "message_timestamp", old.message_timestamp - 60_000)
    (event,) = attempts(captured, actors.broker.enqueue(old))
    assert (event["status"], event["error"]) == ("error", "SkipMessage")
    assert "duration_ms" not in event


def test_S10_the_worker_restores_what_was_bound_and_forgets_it(captured: ListSink) -> None:
    with scope(request_id="r1", tenant_id=7, user_id="ada", action="show"):
        attempts(captured, actors.note.send())
    first = actors.seen[0]
    assert {key: first[key] for key in first if key != "job_id"} == {
        "request_id": "r1",
        "tenant_id": 7,
        "user_id": "ada",
    }
    attempts(captured, actors.note.send())
    assert set(actors.seen[-1]) == {"job_id"}


def test_the_option_is_plain_scalars(url: str) -> None:
    with scope(request_id="r1"):
        message = actors.note.send_with_options(queue_name="nobody")
    stored = json.loads(message.encode())["options"]["tocsin"]
    assert set(stored) == {"request_id", "enqueued_at"}
    assert actors.broker.get_declared_queues()


@pytest.fixture
def stub() -> Iterator[StubBroker]:
    broker = StubBroker(middleware=[AsyncIO(), JobMiddleware()])
    yield broker
    broker.close()


def test_added_twice_it_reports_once(stub: StubBroker) -> None:
    stub.add_middleware(JobMiddleware())
    actor = dramatiq.actor(lambda: None, broker=stub, actor_name="once")
    with capture_events() as captured, at_work(stub):
        actor.send()
        stub.join("default")
    assert [event["job_class"] for event in fields(captured)] == ["once"]


def test_a_coroutine_sees_the_context_too(stub: StubBroker) -> None:
    seen: list[dict[str, Any]] = []

    async def coroutine() -> None:
        seen.append(dict(bound()))

    actor = dramatiq.actor(coroutine, broker=stub)
    with capture_events() as captured, at_work(stub):
        with scope(request_id="r1"):
            actor.send()
        stub.join("default")
    assert seen[0]["request_id"] == "r1"
    assert fields(captured)[0]["request_id"] == "r1"


def test_a_message_skipped_on_purpose_is_no_job(stub: StubBroker) -> None:
    class Skips(dramatiq.Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            raise SkipMessage

    stub.add_middleware(Skips())
    actor = dramatiq.actor(lambda: None, broker=stub, actor_name="skipped")
    with capture_events() as captured, at_work(stub):
        actor.send()
        stub.join("default")
    assert fields(captured) == []


def test_our_own_failure_does_not_reach_the_actor(
    stub: StubBroker, monkeypatch: pytest.MonkeyPatch, internal_failures: Guard
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("tocsin.instrumentation.dramatiq._job", broken)
    monkeypatch.setattr("tocsin.instrumentation.dramatiq.carried", broken)
    monkeypatch.setattr("tocsin.instrumentation.dramatiq.GUARD", internal_failures)
    ran: list[int] = []
    actor = dramatiq.actor(ran.append, broker=stub, actor_name="ours")
    with at_work(stub):
        actor.send(1)
        stub.join("default")
    assert ran == [1]
    assert internal_failures.counts == {"dramatiq": 2}


def test_S5_a_workers_last_lines_are_written(url: str, tmp_path: Path) -> None:
    actors.broker.flush_all()
    sent = {actors.note.send().message_id for _ in range(20)}
    arguments = ("dramatiq", actors.__name__, "--processes", "1", "--threads", "2")
    with running(tmp_path / "worker", *arguments, DRAMATIQ_BROKER=url) as worker:
        wait_for(lambda: not any(state.depth for state in queue_sampler(url, ["default"])()))
        worker.stop()
        assert sorted(event["job_id"] for event in worker.events("job.completed")) == sorted(sent)


# --- queues ---


def test_the_depth_is_right_without_any_worker(url: str) -> None:
    actors.broker.flush_all()
    for _ in range(3):
        actors.note.send()
    actors.note.send_with_options(delay=60_000)
    with capture_events(clock=lambda: time.time_ns() + 60 * 10**9) as captured:
        jobs.sample(queue_sampler(url, ["default", "empty"]))
    full, empty = fields(captured, "job.queue")
    assert (full["queue"], full["depth"]) == ("default", 3)
    assert 60 <= full["oldest_age_s"] < 90
    assert empty == {"queue": "empty", "depth": 0}


def test_a_message_that_cannot_be_read_has_no_age(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.rpush("dramatiq:odd", "1")
        client.hset("dramatiq:odd.msgs", "1", b"\x80\x05 a pickle")
    assert list(queue_sampler(url, ["odd"])()) == [jobs.QueueState("odd", 1)]


def test_the_command_prints_the_depth(url: str, tmp_path: Path) -> None:
    arguments = ("tocsin.jobs", "dramatiq", url, "--queue", "none", "--every", "0.05")
    with running(tmp_path / "sampler", *arguments) as sampler:
        assert sampler.wait_for("job.queue", 2, queue="none")[0]["depth"] == 0
    assert sampler.output.with_suffix(".err").read_text() == ""


def test_the_page() -> None:
    before = dramatiq.get_broker()
    try:
        page = run(
            "instrumentation/jobs.md",
            2,
            RedisBroker=lambda url: StubBroker(middleware=[]),
            sync=lambda course_id: None,
        )
    finally:
        dramatiq.set_broker(before)
    with capture_events() as captured, at_work(page["broker"]):
        with tocsin.bind(request_id="r1"):
            page["grade_sync"].send(7)
        page["broker"].join("default")
    page["broker"].close()
    assert fields(captured)[0]["request_id"] == "r1"
