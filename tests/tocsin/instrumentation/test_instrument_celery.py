"""Real Celery workers on a real Redis: each attempt is reported once, whatever ends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import chain, group
from kombu import Connection, Queue

import tocsin
from tests.tocsin.brokers import Program, fields, redis_server, running, ticking
from tests.tocsin.instrumentation import celery_app as tasks
from tests.tocsin.servers import PATIENCE_S, wait_for
from tests.tocsin.snippets import run
from tocsin import jobs
from tocsin.context import bound, scope
from tocsin.guard import Guard
from tocsin.instrumentation.celery import queue_sampler
from tocsin.testing import capture_events

POOLS = ("prefork", "threads", "solo")
NAME = "tests.tocsin.instrumentation.celery_app."


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        before = dict(tasks.app.conf.items())
        tasks.app.conf.update(broker_url=url, result_backend=url)
        yield url
        tasks.app.backend.result_consumer.stop()
        tasks.app.backend.client.close()
        tasks.app.pool.force_close_all()
        tasks.app.conf.update(broker_url=before["broker_url"])


@pytest.fixture(scope="module")
def workers(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Program]]:
    folder = tmp_path_factory.mktemp("workers")
    options = ["--concurrency", "2", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with ExitStack() as stack:
        started = {}
        for pool in POOLS:
            command = ("celery", "-A", f"{NAME.rstrip('.')}", "worker", "--pool", pool, "--queues", pool)
            arguments = (*command, "--hostname", f"{pool}@test", "--loglevel", "WARNING", *options)
            started[pool] = stack.enter_context(running(folder / pool, *arguments, CELERY_BROKER=broker))
        yield started


def send(pool: str, task: Any, *args: Any, **options: Any) -> str:
    """Sends a task to the worker of a pool; returns its id."""
    return str(task.apply_async(args, queue=pool, **options).id)


def attempts(worker: Program, job_id: str, count: int = 1) -> list[dict[str, Any]]:
    """The events of one task, once there are as many; then a marker proves that no more were printed."""
    worker.wait_for("job.completed", count, job_id=job_id)
    pool = worker.output.name
    marker = send(pool, tasks.add, 1, 1)
    worker.wait_for("job.completed", job_id=marker)
    return sorted(worker.events("job.completed", job_id=job_id), key=lambda event: event["attempt"])


@pytest.mark.parametrize("pool", POOLS)
def test_S4_every_task_sent_is_reported_as_the_client_knows_it(
    workers: dict[str, Program], pool: str
) -> None:
    sent: dict[str, tuple[str, str, str | None]] = {}
    for number in range(40):
        with scope(request_id=f"r{number}", tenant_id=number % 5, user_id=1000 + number, path="/secret"):
            task, outcome, error = (
                (tasks.fail, "error", "LookupError") if number % 4 == 0 else (tasks.add, "success", None)
            )
            arguments = (tasks.STUDENT,) if error else (number, 1)
            sent[send(pool, task, *arguments)] = (f"r{number}", outcome, error)

    worker = workers[pool]
    wait_for(lambda: sent.keys() <= {event["job_id"] for event in worker.events("job.completed")})
    seen = [event for event in worker.events("job.completed") if event["job_id"] in sent]
    assert {e["job_id"]: (e["request_id"], e["status"], e.get("error")) for e in seen} == sent
    assert len(seen) == len(sent)
    for event in seen:
        assert event["job_class"] in (NAME + "add", NAME + "fail")
        assert (event["queue"], event["attempt"]) == (pool, 1)
        assert event["duration_ms"] >= 0
        assert event["wait_ms"] >= 0
        assert event["tenant_id"] == int(event["request_id"][1:]) % 5
        assert event["user_id"].startswith("u_")
        assert "path" not in event


@pytest.mark.parametrize("pool", POOLS)
def test_each_failed_attempt_is_an_error_with_the_class_of_its_cause(
    workers: dict[str, Program], pool: str
) -> None:
    with scope(request_id="r-flaky"):
        flaky, bare = send(pool, tasks.flaky, tasks.STUDENT), send(pool, tasks.retry_without_cause)
    seen = attempts(workers[pool], flaky, 3)
    assert [(event["attempt"], event["status"], event.get("error")) for event in seen] == [
        (1, "error", "TimeoutError"),
        (2, "error", "TimeoutError"),
        (3, "success", None),
    ]
    assert {event["request_id"] for event in seen} == {"r-flaky"}
    assert [event.get("error") for event in attempts(workers[pool], bare, 2)] == ["Retry", None]


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_may_ignore_or_reject_itself(workers: dict[str, Program], pool: str) -> None:
    ignored, rejected = send(pool, tasks.ignored), send(pool, tasks.rejected)
    unserialisable = send(pool, tasks.unserialisable)
    assert [event["status"] for event in attempts(workers[pool], ignored)] == ["success"]
    assert [event["error"] for event in attempts(workers[pool], rejected)] == ["Reject"]
    assert [event["status"] for event in attempts(workers[pool], unserialisable)] == ["error"]


@pytest.mark.parametrize("pool", POOLS)
def test_S10_the_worker_restores_what_was_bound_and_forgets_it(
    workers: dict[str, Program], pool: str
) -> None:
    with scope(request_id="r1", tenant_id=7, user_id="ada", trace_id="0" * 31 + "1", action="show"):
        result = tasks.context.apply_async(queue=pool)
    carried = {"request_id": "r1", "tenant_id": 7, "user_id": "ada", "trace_id": "0" * 31 + "1"}
    assert result.get(PATIENCE_S) == {**carried, "job_id": result.id}
    bare = tasks.context.apply_async(queue=pool)
    assert bare.get(PATIENCE_S) == {"job_id": bare.id}


def test_S10_a_nested_eager_call_does_not_lose_the_outer_context(workers: dict[str, Program]) -> None:
    with scope(request_id="r-outer"):
        result = tasks.outer.apply_async(queue="prefork")
    before, inner, after = result.get(PATIENCE_S)
    assert before == after == {"request_id": "r-outer", "job_id": result.id}
    assert inner["request_id"] == "r-outer"
    assert inner["job_id"] != result.id


def test_chains_and_groups_keep_the_context(workers: dict[str, Program]) -> None:
    step = tasks.add.s(1).set(queue="prefork")
    with scope(request_id="r-canvas"):
        first = tasks.add.s(1, 1).set(queue="prefork")
        pipeline = chain(first, step, group(step, step), tasks.context.si().set(queue="threads"))
        result = pipeline.apply_async()
    assert result.get(PATIENCE_S)["request_id"] == "r-canvas"
    assert len(workers["prefork"].wait_for("job.completed", 4, request_id="r-canvas")) == 4


def test_a_killed_process_is_reported_once_by_its_parent(workers: dict[str, Program]) -> None:
    with scope(request_id="r-killed"):
        lost = {send("prefork", task): task for task in (tasks.killed, tasks.killed_late, tasks.leaves)}
    for job_id, task in lost.items():
        (event,) = attempts(workers["prefork"], job_id)
        assert (event["status"], event["error"], event["attempt"]) == ("error", "WorkerLostError", 1)
        assert (event["job_class"], event["queue"]) == (task.name, "prefork")
        assert event["request_id"] == "r-killed"
        assert event["duration_ms"] >= 0


def test_time_limits(workers: dict[str, Program]) -> None:
    hard, soft = send("prefork", tasks.too_long), send("prefork", tasks.softly_too_long)
    (event,) = attempts(workers["prefork"], hard)
    assert (event["status"], event["error"]) == ("error", "TimeLimitExceeded")
    assert event["duration_ms"] >= 500
    (event,) = attempts(workers["prefork"], soft)
    assert (event["status"], event["error"]) == ("error", "SoftTimeLimitExceeded")
    assert len(workers["prefork"].events("cleaned.up")) == 1


@pytest.mark.parametrize("pool", POOLS)
def test_a_revoked_or_expired_task_is_an_error_that_never_ran(workers: dict[str, Program], pool: str) -> None:
    tasks.app.control.revoke(
        f"revoked-{pool}", reply=True, timeout=PATIENCE_S, limit=1, destination=[f"{pool}@test"]
    )
    send(pool, tasks.add, 1, 1, task_id=f"revoked-{pool}")
    expired = send(pool, tasks.add, 1, 1, expires=datetime.now(UTC) - timedelta(minutes=1))
    for job_id in (f"revoked-{pool}", expired):
        (event,) = attempts(workers[pool], job_id)
        assert (event["status"], event["error"]) == ("error", "TaskRevokedError")
        assert "duration_ms" not in event


def test_a_task_that_is_terminated_is_reported_once(workers: dict[str, Program]) -> None:
    worker = workers["prefork"]
    job_id = send("prefork", tasks.waits)
    worker.wait_for("waiting", job_id=job_id)
    tasks.app.control.revoke(job_id, terminate=True)
    (event,) = attempts(worker, job_id)
    assert (event["status"], event["error"]) == ("error", "TaskRevokedError")
    assert event["duration_ms"] > 0


def test_a_countdown_is_no_wait(workers: dict[str, Program]) -> None:
    job_id = send("solo", tasks.add, 1, 1, countdown=1.5)
    (event,) = attempts(workers["solo"], job_id)
    assert event["wait_ms"] < 1500


def test_headers_are_plain_scalars_and_the_hosts_own_stay(broker: str) -> None:
    with scope(request_id="r1", tenant_id=7):
        send("nobody", tasks.add, 1, 1, headers={"school": "north", "tocsin_tenant_id": 1})
    with Connection(broker) as connection:
        message = Queue("nobody")(connection.default_channel).get()
        message.ack()
    assert message.headers["school"] == "north"
    ours = {name: value for name, value in message.headers.items() if name.startswith("tocsin_")}
    assert set(ours) == {"tocsin_request_id", "tocsin_tenant_id", "tocsin_enqueued_at"}
    assert (ours["tocsin_request_id"], ours["tocsin_tenant_id"]) == ("r1", 7)
    assert all(isinstance(value, str | int | float) for value in ours.values())


@pytest.mark.parametrize("pool", POOLS)
def test_S5_what_is_queued_at_the_workers_end_is_written(broker: str, tmp_path: Path, pool: str) -> None:
    sent = {send("last", tasks.add, number, 1) for number in range(6)}
    command = ("celery", "-A", NAME.rstrip("."), "worker", "--pool", pool, "--queues", "last")
    options = ("--concurrency", "2", "--without-gossip", "--without-mingle", "--loglevel", "WARNING")
    with running(
        tmp_path / pool, *command, *options, "--max-tasks-per-child", "2", CELERY_BROKER=broker
    ) as worker:
        wait_for(lambda: all(tasks.app.AsyncResult(job_id).ready() for job_id in sent))
        worker.stop()
        assert sorted(event["job_id"] for event in worker.events("job.completed")) == sorted(sent)


@pytest.mark.parametrize("pool", POOLS)
def test_S14_no_argument_result_or_exception_text_is_printed(workers: dict[str, Program], pool: str) -> None:
    with scope(request_id="r-canary", user_id="ada@students.example"):
        failed, retried = send(pool, tasks.fail, tasks.STUDENT), send(pool, tasks.flaky, tasks.STUDENT)
    attempts(workers[pool], failed)
    attempts(workers[pool], retried, 3)
    printed = "\n".join(
        line for line in workers[pool].output.read_text().splitlines() if line.startswith("{")
    )
    for secret in ("Ada", "ada@students.example", "no grades"):
        assert secret not in printed


# --- without a worker ---


@pytest.fixture
def eager() -> Iterator[Any]:
    tasks.app.conf.update(task_always_eager=True)
    yield tasks.app.conf
    tasks.app.conf.update(task_always_eager=False, task_eager_propagates=False)


def test_eager_tasks_are_reported_and_give_the_context_back(eager: Any) -> None:
    with capture_events(monotonic=ticking()) as captured, scope(request_id="r1"):
        assert tasks.add.delay(1, 2).get() == 3
        assert tasks.fail.delay(tasks.STUDENT).failed()
        assert tasks.flaky.delay("x").get() == "x"
        assert dict(bound()) == {"request_id": "r1"}
    seen = [(event["request_id"], event["attempt"], event.get("error")) for event in fields(captured)]
    assert seen[:2] == [("r1", 1, None), ("r1", 1, "LookupError")]
    assert sorted(seen[2:], key=lambda event: event[1]) == [
        ("r1", 1, "TimeoutError"),
        ("r1", 2, "TimeoutError"),
        ("r1", 3, None),
    ]


def test_an_eager_failure_reaches_the_caller_as_it_is(eager: Any) -> None:
    eager.update(task_eager_propagates=True)
    with capture_events() as captured:
        with pytest.raises(LookupError, match="Ada"):
            tasks.fail.delay(tasks.STUDENT)
        try:
            raise KeyError
        except KeyError:
            tasks.add.delay(1, 1)
    assert [event.get("error") for event in fields(captured)] == ["LookupError", None]


def test_to_instrument_twice_reports_once(eager: Any) -> None:
    tocsin.instrument("celery")
    with capture_events() as captured:
        tasks.add.delay(1, 1)
    assert len(fields(captured)) == 1


def test_S10_a_task_without_a_postrun_leaks_nothing_into_the_next(eager: Any) -> None:
    from celery import signals

    lost = tasks.add
    lost.push_request(id="lost", is_eager=False, tocsin_request_id="r-lost")
    try:
        signals.task_prerun.send(sender=lost, task_id="lost", task=lost)
    finally:
        lost.pop_request()
    lost.push_request(id="next", is_eager=False)
    try:
        with capture_events() as captured:
            signals.task_prerun.send(sender=lost, task_id="next", task=lost)
            assert dict(bound()) == {"job_id": "next"}
            signals.task_postrun.send(sender=lost, task_id="next", task=lost, state="SUCCESS")
    finally:
        lost.pop_request()
    assert dict(bound()) == {}
    assert [event["job_id"] for event in fields(captured)] == ["next"]


def test_our_own_failure_does_not_reach_the_task(
    eager: Any, monkeypatch: pytest.MonkeyPatch, internal_failures: Guard
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("tocsin.instrumentation.celery._job", broken)
    monkeypatch.setattr("tocsin.instrumentation.celery.GUARD", internal_failures)
    assert tasks.add.delay(1, 2).get() == 3
    assert internal_failures.counts == {"celery": 1}


# --- queues ---


def test_the_depth_is_right_without_any_worker(broker: str) -> None:
    for priority in (0, 0, 5, 9):
        send("dead", tasks.add, 1, 1, priority=priority)
    sample = queue_sampler(broker, ["dead", "empty"])
    dead, empty = sample()
    assert (dead.queue, dead.depth) == ("dead", 4)
    assert dead.oldest_age_s is not None
    assert 0 <= dead.oldest_age_s < PATIENCE_S
    assert empty == jobs.QueueState("empty", 0, None)
    assert [state.depth for state in queue_sampler(tasks.app, ["dead"])()] == [4]


def test_the_age_is_that_of_the_oldest_message_of_any_priority(broker: str) -> None:
    now = 1_700_000_000.0
    with redis.Redis.from_url(broker) as client:
        for key, age in (("aged", 5), ("aged", 1), ("aged\x06\x166", 60), ("aged\x06\x169", 30)):
            client.lpush(key, '{"headers":{"tocsin_enqueued_at":%s}}' % (now - age))
        client.lpush("foreign", "no JSON", '{"headers":null}', '{"body":""}')
    with capture_events(clock=lambda: int(now * 1e9)) as captured:
        jobs.sample(queue_sampler(broker, ["aged", "foreign"]))
    assert fields(captured, "job.queue") == [
        {"queue": "aged", "depth": 4, "oldest_age_s": 60.0},
        {"queue": "foreign", "depth": 3},
    ]


def test_the_command_prints_the_depth(broker: str, tmp_path: Path) -> None:
    send("shown", tasks.add, 1, 1)
    arguments = ("tocsin.jobs", "celery", broker, "--queue", "shown", "--queue", "none", "--every", "0.05")
    with running(tmp_path / "sampler", *arguments) as sampler:
        assert sampler.wait_for("job.queue", 2, queue="shown")[0]["depth"] == 1
        assert sampler.wait_for("job.queue", 2, queue="none")[0]["depth"] == 0
    assert sampler.output.with_suffix(".err").read_text() == ""


def test_the_page(broker: str) -> None:
    page = run("instrumentation/celery.md", 0)
    with capture_events() as captured:
        page["grade_sync"].apply(args=(7,))
    assert fields(captured)[0]["job_class"] == "snippet.grade_sync"


def test_the_pages_sampler(broker: str) -> None:
    send("default", tasks.add, 1, 1)
    page = run("instrumentation/celery.md", 1, app=tasks.app)
    page["sample_queues"] = lambda sampler, every_s: jobs.sample(sampler)
    with capture_events() as captured:
        page["main"]()
    assert [(event["queue"], event["depth"]) for event in fields(captured, "job.queue")] == [
        ("default", 1),
        ("low", 0),
    ]
