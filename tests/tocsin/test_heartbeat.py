"""The emitter's sign of life: when it is printed, and what it says."""

from __future__ import annotations

import pytest

from tocsin import emitter
from tocsin.config import Settings
from tocsin.emitter import Emitter
from tocsin.guard import Guard
from tocsin.testing import FrozenClock, ListSink


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


def made(clock: FrozenClock, heartbeat_s: float) -> tuple[Emitter, ListSink]:
    sink = ListSink()
    settings = Settings(service="k12-core", heartbeat_s=heartbeat_s)
    return Emitter(settings, sink, background=False, clock=clock, monotonic=clock), sink


@pytest.fixture(autouse=True)
def guard(monkeypatch: pytest.MonkeyPatch) -> Guard:
    fresh = Guard(complain=lambda text: None)
    monkeypatch.setattr(emitter, "GUARD", fresh)
    return fresh


def test_nobody_asked_and_nothing_was_lost(clock: FrozenClock) -> None:
    emitting, sink = made(clock, 0)
    clock.advance(3600)
    assert emitting._tick() is None
    assert sink.lines == []


def test_it_beats_as_often_as_asked(clock: FrozenClock) -> None:
    emitting, sink = made(clock, 60)
    assert emitting._tick() == 60
    clock.advance(59)
    assert emitting._tick() == 1
    assert sink.lines == []
    clock.advance(1)
    assert emitting._tick() == 60
    clock.advance(60)
    assert emitting._tick() == 60
    assert [beat["dropped"] for beat in sink.fields("log.heartbeat")] == [0, 0]


@pytest.mark.usefixtures("internal_failures")
@pytest.mark.parametrize("asked_s", [0, 3600])
def test_lost_lines_are_told_within_a_minute_and_once(
    clock: FrozenClock, guard: Guard, asked_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emitter, "GUARD", guard)
    emitting, sink = made(clock, asked_s)
    guard.failed("queue full", lines=3)
    assert emitting._tick() == 60
    clock.advance(30)
    assert emitting._tick() == 30
    clock.advance(30)
    assert emitting._tick() == (asked_s or None)
    assert emitting._tick() == (asked_s or None)
    (beat,) = sink.fields("log.heartbeat")
    assert (beat["dropped"], beat["dropped_by_reason"]) == (3, {"queue full": 3})
