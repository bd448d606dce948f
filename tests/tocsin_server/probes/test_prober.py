"""When checks run: aligned to the clock, each for itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_server.clock import SECOND_US, frozen_clock
from tocsin_server.config import Probe
from tocsin_server.probes import Prober
from tocsin_server.probes.prober import LEAD_US, due_at

NOON_US = 1_795_435_200 * SECOND_US
AT = NOON_US - LEAD_US  # a planned start of every interval that divides a minute


def probe(target: str, every: str = "30s") -> Probe:
    return Probe.model_validate({"http": "http://127.0.0.1:1/", "target": target, "every": every})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.002)


class Checks:
    """Counts the checks of each target; ``hold`` makes a target hang until it is released."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.held: dict[str, threading.Event] = {}
        self.begun: list[str] = []

    def hold(self, target: str) -> threading.Event:
        return self.held.setdefault(target, threading.Event())

    def __call__(self, probe: Probe) -> bytes:
        self.begun.append(probe.target)
        if probe.target in self.held:
            assert self.held[probe.target].wait(10)
        return probe.target.encode()


@pytest.fixture
def checks() -> Iterator[Checks]:
    found = Checks()
    yield found
    for held in found.held.values():
        held.set()


def prober(checks: Checks, *probes: Probe, now_us: int = AT - 1) -> Prober:
    return Prober(probes, checks.lines.append, frozen_clock(now_us), checks)


def test_checks_start_on_time_and_only_once(checks: Checks) -> None:
    with closing(prober(checks, probe("a"))) as running:
        assert running.next_at(AT - 1) == AT
        assert running.step(AT - 1) == 0
        assert running.step(AT) == 1
        assert running.step(AT + 29 * SECOND_US) == 0
        until(lambda: checks.lines == [b"a"])
        until(lambda: running.health()[0]["checked_at"] is not None)
        assert running.step(AT + 30 * SECOND_US) == 1


def test_a_late_step_makes_up_for_one_check_not_for_all(checks: Checks) -> None:
    with closing(prober(checks, probe("a"))) as running:
        assert running.step(AT + 95 * SECOND_US) == 1
        assert running.next_at(AT + 95 * SECOND_US) == AT + 120 * SECOND_US


def test_a_slow_target_delays_no_other_and_is_not_asked_twice(checks: Checks) -> None:
    slow = checks.hold("slow")
    with closing(prober(checks, probe("slow"), *(probe(f"fast-{n}") for n in range(6)))) as running:
        assert running.step(AT) == 7
        until(lambda: len(checks.lines) == 6)
        until(lambda: all(one["checked_at"] for one in running.health()[1:]))
        assert running.step(AT + 30 * SECOND_US) == 6
        assert checks.begun.count("slow") == 1
        slow.set()
        until(lambda: b"slow" in checks.lines)


def test_a_result_that_cannot_be_stored_is_said_and_the_next_check_comes(checks: Checks) -> None:
    def full(_line: bytes) -> None:
        raise OSError(28, "No space left on device")

    with closing(Prober([probe("a")], full, frozen_clock(AT - 1), checks)) as running:
        running.step(AT)
        until(lambda: running.health()[0]["checked_at"] is not None)
        assert "No space left" in running.health()[0]["error"]
        assert running.step(AT + 30 * SECOND_US) == 1


def test_no_probes_no_work(checks: Checks) -> None:
    with closing(prober(checks)) as running:
        assert running.next_at(AT) is None
        assert running.step(AT) == 0


@given(st.integers(1, 3600), st.integers(0, 4 * 10**15))
def test_planned_starts_do_not_drift(every_s: int, now_us: int) -> None:
    every_us = every_s * SECOND_US
    planned = due_at(every_us, now_us)
    assert planned <= now_us < planned + every_us
    assert (planned + LEAD_US) % every_us == 0
