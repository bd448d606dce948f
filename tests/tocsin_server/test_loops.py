"""Loops: a step runs when it is due or woken, and never dies."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tocsin_server.clock import real_clock
from tocsin_server.loops import Loop

PATIENCE_S = 20


def ran(step: Callable[[int], int | None], enough: threading.Event) -> Loop:
    loop = Loop("test", real_clock, step)
    loop.start()
    assert enough.wait(PATIENCE_S)
    return loop


def test_a_step_that_is_due_at_once_runs_again() -> None:
    enough, count = threading.Event(), 0

    def step(now: int) -> int:
        nonlocal count
        count += 1
        if count == 5:
            enough.set()
        return now

    ran(step, enough).stop(PATIENCE_S)
    assert count >= 5


def test_waking_brings_a_step_that_waits() -> None:
    first, second = threading.Event(), threading.Event()

    def step(_now: int) -> None:
        (second if first.is_set() else first).set()

    loop = ran(step, first)
    loop.wake()
    assert second.wait(PATIENCE_S)
    loop.stop(PATIENCE_S)


def test_E8_a_step_that_fails_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    failed, worked = threading.Event(), threading.Event()

    def step(_now: int) -> None:
        if not failed.is_set():
            failed.set()
            raise ValueError("broken")
        worked.set()

    loop = ran(step, failed)
    assert worked.wait(PATIENCE_S)
    loop.stop(PATIENCE_S)
    assert loop.status()["error"] is None
    assert "test failed" in caplog.text


def test_a_failing_step_is_not_ok(caplog: pytest.LogCaptureFixture) -> None:
    failed = threading.Event()

    def step(_now: int) -> None:
        failed.set()
        raise ValueError("broken\nbadly")

    loop = ran(step, failed)
    while loop.status()["error"] is None:
        failed.wait(0.01)
    assert loop.status()["error"] == "ValueError: broken badly"
    assert loop.status()["ok"] is False
    loop.stop(PATIENCE_S)


def test_E8_a_step_that_fails_all_night_is_still_tried(caplog: pytest.LogCaptureFixture) -> None:
    def step(_now: int) -> None:
        raise OSError("the disk is full")

    loop = Loop("test", real_clock, step)
    caplog.set_level(100)
    assert max(loop._once() for _ in range(1100)) == 30.0
