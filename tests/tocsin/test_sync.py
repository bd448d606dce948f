from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tocsin
import tocsin.sync
from tests.tocsin import snippets
from tocsin.testing import capture_events

counts = st.integers(0, 5)


def tags(captured: Any) -> dict[str, Any]:
    [event] = captured.events
    assert event["metric"] == "sync.run"
    return event["tags"]  # type: ignore[no-any-return]


def test_what_a_run_prints() -> None:
    moments = iter([0, 15_320_400_000])
    with (
        capture_events(monotonic=lambda: next(moments)) as captured,
        tocsin.bind(tenant_id=7, job_id="b7e2"),
        tocsin.sync.run(
            provider="oneroster", sync_type="oneroster_user_sync", direction="pull", run_id=981
        ) as run,
    ):
        run.succeeded(235)
        run.succeeded()
        run.failed()
        run.skipped(3)
        assert run.processed == 240
    assert tags(captured) == {
        "provider": "oneroster",
        "status": "partial",
        "records_processed": 240,
        "run_id": 981,
        "job_id": "b7e2",
        "sync_type": "oneroster_user_sync",
        "direction": "pull",
        "records_succeeded": 236,
        "records_failed": 1,
        "duration_ms": 15320.4,
        "tenant_id": 7,
        "records_skipped": 3,
    }


@given(succeeded=counts, failed=counts, skipped=counts)
def test_the_status_follows_from_the_counts(succeeded: int, failed: int, skipped: int) -> None:
    with capture_events() as captured, tocsin.sync.run(provider="oneroster") as run:
        run.succeeded(succeeded)
        run.failed(failed)
        run.skipped(skipped)
    expected = "success" if not failed else "partial" if succeeded else "error"
    seen = tags(captured)
    assert seen["status"] == expected
    assert seen["records_processed"] == succeeded + failed + skipped


def test_a_run_in_which_every_record_failed_is_an_error_though_nothing_was_raised() -> None:
    with capture_events() as captured, tocsin.sync.run(provider="google_classroom") as run:
        run.failed(12)
    assert tags(captured)["status"] == "error"


def test_a_run_without_records_is_a_success_with_0() -> None:
    with capture_events() as captured, tocsin.sync.run(provider="oneroster"):
        pass
    assert (tags(captured)["status"], tags(captured)["records_processed"]) == ("success", 0)


def test_an_exception_goes_on_and_its_text_stays() -> None:
    failure = PermissionError("token of theodora@students.example expired")
    run = tocsin.sync.run(provider="oneroster")
    run.succeeded(3)
    with capture_events() as captured, pytest.raises(PermissionError) as raised, run:
        raise failure
    assert raised.value is failure
    assert (tags(captured)["status"], tags(captured)["error"]) == ("error", "PermissionError")
    assert b"theodora" not in b"".join(captured.lines)


def test_async() -> None:
    async def main() -> None:
        async with tocsin.sync.run(provider="oneroster") as run:
            run.succeeded()

    with capture_events() as captured:
        asyncio.run(main())
    assert tags(captured)["records_succeeded"] == 1


def test_threads_count_together() -> None:
    run = tocsin.sync.run(provider="oneroster")
    with capture_events() as captured, run, ThreadPoolExecutor(8) as pool:
        for outcome in (run.succeeded, run.failed) * 500:
            pool.submit(outcome)
    assert (tags(captured)["records_succeeded"], tags(captured)["records_failed"]) == (500, 500)


def test_a_count_that_is_none_is_our_failure_and_not_the_applications(internal_failures: Any) -> None:
    with capture_events() as captured, tocsin.sync.run(provider="oneroster") as run:
        run.succeeded("many")  # type: ignore[arg-type]
        run.failed(-3)
    assert tags(captured)["records_processed"] == 0


def test_the_page() -> None:
    class RejectedError(Exception): ...

    def save(record: int) -> None:
        if record == 2:
            raise RejectedError

    with capture_events() as captured:
        names = {"roster": range(5), "save": save, "Rejected": RejectedError}
        snippets.run("instrumentation/sync.md", 0, **names)
        snippets.run("instrumentation/sync.md", 1, **names)
    seen = [(e["tags"]["status"], e["tags"]["records_processed"]) for e in captured.events]
    assert seen == [("partial", 5), ("partial", 5)]
