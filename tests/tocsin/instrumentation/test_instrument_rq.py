"""Real RQ workers on a real Redis: each attempt is reported once, whatever ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import rq
from rq.command import send_stop_job_command

import tocsin
from tests.tocsin.brokers import Program, fields, redis_server, running
from tests.tocsin.instrumentation import rq_tasks as tasks
from tests.tocsin.servers import wait_for
from tests.tocsin.snippets import run
from tocsin import jobs
from tocsin.context import bound, scope
from tocsin.guard import Guard
from tocsin.instrumentation.rq import Queue, SimpleWorker, queue_sampler
from tocsin.testing import capture_events

NAME = "tests.tocsin.instrumentation.rq_tasks."


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="module")
def connection(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as client:
        yield client


@pytest.fixture(scope="module")
def worker(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """``rq worker``, which forks a work horse for each job."""
    output = tmp_path_factory.mktemp("worker") / "worker"
    options = ("--url", url, "--worker-class", "tocsin.instrumentation.rq.Worker", "--quiet")
    with running(output, "rq.cli", "worker", "forks", *options) as program:
        yield program


@pytest.fixture
def forks(connection: redis.Redis, worker: Program) -> Queue:
    return Queue("forks", connection=connection)


def attempts(worker: Program, job: rq.job.Job, queue: Queue, count: int = 1) -> list[dict[str, Any]]:
    """The events of one job, once there are as many; a job after it proves that no more were printed."""
    worker.wait_for("job.completed", count, job_id=job.id)
    worker.wait_for("job.completed", job_id=queue.enqueue(tasks.add, 1, 1).id)
    return worker.events("job.completed", job_id=job.id)


def test_S4_every_job_enqueued_is_reported_as_the_client_knows_it(worker: Program, forks: Queue) -> None:
    sent: dict[str, tuple[str, str, str | None]] = {}
    for number in range(12):
        with scope(request_id=f"r{number}", tenant_id=number % 5, user_id=1000 + number, path="/secret"):
            if number % 4 == 0:
                job = forks.enqueue(tasks.fail, tasks.STUDENT)
                sent[job.id] = (f"r{number}", "error", "LookupError")
            else:
                job = forks.enqueue(tasks.add, number, right=1)
                sent[job.id] = (f"r{number}", "success", None)
    wait_for(lambda: sent.keys() <= {event["job_id"] for event in worker.events("job.completed")})
    seen = [event for event in worker.events("job.completed") if event["job_id"] in sent]
    assert {e["job_id"]: (e["request_id"], e["status"], e.get("error")) for e in seen} == sent
    assert len(seen) == len(sent)
    for event in seen:
        assert event["job_class"] in (NAME + "add", NAME + "fail")
        assert (event["queue"], event["attempt"]) == ("forks", 1)
        assert event["duration_ms"] > 0
        assert event["wait_ms"] > 0
        assert event["user_id"].startswith("u_")
        assert "path" not in event
    for secret in ("Ada", "ada@students", "no grades"):
        assert secret not in worker.output.read_text()


def test_each_failed_attempt_is_an_error(worker: Program, forks: Queue) -> None:
    with scope(request_id="r1"):
        job = forks.enqueue(tasks.fail, "x", retry=rq.Retry(max=2))
    seen = attempts(worker, job, forks, 3)
    assert [(event["attempt"], event["error"], event["request_id"]) for event in seen] == [
        (1, "LookupError", "r1"),
        (2, "LookupError", "r1"),
        (3, "LookupError", "r1"),
    ]


def test_a_job_may_ask_for_another_attempt(worker: Program, forks: Queue) -> None:
    seen = attempts(worker, forks.enqueue(tasks.asks_for_another), forks, 2)
    assert [(event["attempt"], event["error"]) for event in seen] == [(1, "Retry"), (2, "Retry")]


@pytest.mark.parametrize(
    ("function", "error"), [(tasks.killed, "WorkHorseKilled"), (tasks.leaves, "SystemExit")]
)
def test_a_work_horse_that_dies_is_reported_once(
    worker: Program, forks: Queue, function: Any, error: str
) -> None:
    with scope(request_id="r1"):
        job = forks.enqueue(function)
    (event,) = attempts(worker, job, forks)
    assert (event["status"], event["error"], event["request_id"]) == ("error", error, "r1")
    assert (event["job_class"], event["queue"], event["attempt"]) == (NAME + function.__name__, "forks", 1)
    assert event["duration_ms"] >= 0


def test_time_limit(worker: Program, forks: Queue) -> None:
    (event,) = attempts(worker, forks.enqueue(tasks.waits, job_timeout=1), forks)
    assert event["error"] == "JobTimeoutException"
    assert event["duration_ms"] >= 500


def test_a_stopped_job_is_an_error(worker: Program, forks: Queue, connection: redis.Redis) -> None:
    job = forks.enqueue(tasks.waits)
    worker.wait_for("waiting", job_id=job.id)
    send_stop_job_command(connection, job.id)
    (event,) = attempts(worker, job, forks)
    assert (event["status"], event["error"]) == ("error", "JobStopped")


# --- in this process ---


def work(queue: rq.Queue, *functions: Any) -> list[Any]:
    """Enqueues, lets a SimpleWorker do it all, and returns the results."""
    done = [queue.enqueue(function) for function in functions]
    worker = SimpleWorker([queue], connection=queue.connection)
    worker.work(burst=True, logging_level="CRITICAL")
    return [job.return_value() for job in done]


def test_S10_the_worker_restores_what_was_bound_and_forgets_it(connection: redis.Redis) -> None:
    queue = Queue("simple", connection=connection)
    with capture_events() as captured:
        with scope(request_id="r1", tenant_id=7, user_id="ada", action="show"):
            first = queue.enqueue(tasks.context)
        (second,) = work(queue, tasks.context)
    assert {"request_id": "r1", "tenant_id": 7, "user_id": "ada"}.items() <= first.return_value().items()
    assert set(first.return_value()) == {"request_id", "tenant_id", "user_id", "job_id"}
    assert set(second) == {"job_id"}
    assert dict(bound()) == {}
    assert [event["job_class"] for event in fields(captured)] == [NAME + "context"] * 2


def test_the_hosts_meta_stays_and_is_not_changed(connection: redis.Redis) -> None:
    meta = {"school": "north"}
    job = Queue("meta", connection=connection).enqueue(tasks.add, 1, 1, meta=meta)
    assert meta == {"school": "north"}
    stored = rq.job.Job.fetch(job.id, connection=connection).meta
    assert stored["school"] == "north"
    assert set(stored["tocsin"]) == {"enqueued_at"}


def test_many_at_once_carry_the_context(connection: redis.Redis) -> None:
    queue = Queue("many", connection=connection)
    with scope(request_id="r1"):
        queue.enqueue_many([Queue.prepare_data(tasks.add, (1, 1)) for _ in range(3)])
    with capture_events() as captured:
        work(queue)
    assert [event["request_id"] for event in fields(captured)] == ["r1"] * 3


def test_jobs_of_a_plain_queue_are_reported_too(connection: redis.Redis) -> None:
    queue = rq.Queue("plain", connection=connection)
    with capture_events() as captured:
        queue.enqueue(tasks.fail, "x", retry=rq.Retry(max=1))
        assert work(queue, tasks.context)[0].keys() == {"job_id"}
    seen = [(event["status"], event.get("attempt")) for event in fields(captured)]
    assert sorted(seen, key=str) == [("error", None), ("error", None), ("success", 1)]


def test_our_own_failure_does_not_reach_the_job(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch, internal_failures: Guard
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("tocsin.instrumentation.rq._attempt", broken)
    monkeypatch.setattr("tocsin.instrumentation.rq.carried", broken)
    monkeypatch.setattr("tocsin.instrumentation.rq.GUARD", internal_failures)
    assert work(Queue("ours", connection=connection), tasks.context) == [{}]
    assert internal_failures.counts == {"rq": 2}


# --- queues ---


def test_the_depth_is_right_without_any_worker(url: str, connection: redis.Redis) -> None:
    queue = Queue("dead", connection=connection)
    oldest, *_ = [queue.enqueue(tasks.add, 1, 1) for _ in range(4)]
    now_s = oldest.enqueued_at.timestamp() + 60
    with capture_events(clock=lambda: int(now_s * 1e9)) as captured:
        jobs.sample(queue_sampler(url, ["dead", "empty"]))
    dead, empty = fields(captured, "job.queue")
    assert (dead["queue"], dead["depth"]) == ("dead", 4)
    assert dead["oldest_age_s"] == pytest.approx(60, abs=0.01)
    assert empty == {"queue": "empty", "depth": 0}


def test_the_command_prints_the_depth(url: str, connection: redis.Redis, tmp_path: Path) -> None:
    Queue("shown", connection=connection).enqueue(tasks.add, 1, 1)
    arguments = ("tocsin.jobs", "rq", url, "--queue", "shown", "--queue", "none", "--every", "0.05")
    with running(tmp_path / "sampler", *arguments) as sampler:
        assert sampler.wait_for("job.queue", 2, queue="shown")[0]["depth"] == 1
        assert sampler.wait_for("job.queue", 2, queue="none")[0]["depth"] == 0
    assert sampler.output.with_suffix(".err").read_text() == ""


def test_the_page(connection: redis.Redis) -> None:
    with tocsin.bind(request_id="r1"):
        page = run("instrumentation/jobs.md", 1, connection=connection, grade_sync=tasks.context)
    with capture_events() as captured:
        work(page["queue"])
    assert fields(captured)[0]["request_id"] == "r1"
