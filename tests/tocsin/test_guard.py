"""Our failures never reach the host, are counted, and are not shouted about."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tocsin
from tocsin.config import Settings
from tocsin.emitter import Emitter, current, use
from tocsin.guard import COMPLAIN_EVERY_S, Guard, complain
from tocsin.testing import capture_events


def raising(lines: list[bytes]) -> None:
    raise OSError("disk full")


def test_a_raising_sink_is_counted(internal_failures: Guard) -> None:
    use(Emitter(Settings(), raising, background=False))
    for _ in range(3):
        tocsin.emit("custom")
    tocsin.log("INFO", "hello")
    assert internal_failures.counts == {"sink": 4}


def test_a_broken_step_is_counted(internal_failures: Guard) -> None:
    with capture_events() as captured:
        current()._finish = lambda captured: 1 / 0
        tocsin.emit("custom")
    assert captured.lines == []
    assert internal_failures.counts == {"line": 1}


def test_emitting_while_a_line_is_made_is_counted_and_does_not_recur(internal_failures: Guard) -> None:
    lines: list[bytes] = []

    def sink(given: list[bytes]) -> None:
        tocsin.emit("nested")
        lines.extend(given)

    use(Emitter(Settings(), sink, background=False))
    tocsin.emit("outer")
    tocsin.emit("outer")
    assert len(lines) == 2
    assert internal_failures.counts == {"reentrant": 2}


def test_an_exception_of_the_host_passes_through_the_sink_unharmed() -> None:
    def interrupted(lines: list[bytes]) -> None:
        raise KeyboardInterrupt

    use(Emitter(Settings(), interrupted, background=False))
    with pytest.raises(KeyboardInterrupt):
        tocsin.emit("custom")
    with capture_events() as captured:
        tocsin.emit("custom")
    assert len(captured.lines) == 1


def test_with_the_stack_nearly_exhausted_nothing_is_raised(internal_failures: Guard) -> None:
    def at_depth(frames_left: int) -> None:
        frame, depth = sys._getframe(), 0
        while frame.f_back is not None:
            frame, depth = frame.f_back, depth + 1
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(depth + frames_left)
        try:
            tocsin.emit("custom", a=[1, {"b": 2}])
        finally:
            sys.setrecursionlimit(limit)

    with capture_events() as captured:
        for frames_left in range(12, 60):
            at_depth(frames_left)
    assert len(captured.lines) + internal_failures.dropped == 48


class Strange(str):
    def __len__(self) -> int:
        raise RuntimeError


@pytest.mark.parametrize(
    "name",
    [None, 7, b"x", object(), "\ud800", "x" * 10_000, "", Strange("x")],
    ids=lambda name: type(name).__name__,
)
def test_strange_names_and_messages_still_give_a_line(name: Any) -> None:
    with capture_events() as captured:
        tocsin.emit(name)
        tocsin.log(name, name)
    assert len(captured.events) == 2


def test_levels_and_messages_of_other_types_are_printed_like_fields() -> None:
    with capture_events() as captured:
        tocsin.log(20, ValueError("Maya"))
    assert (captured.events[0]["level"], captured.events[0]["message"]) == ("20", "ValueError")


HOSTILE: tuple[Callable[[], Any], ...] = (
    lambda: {"x": object()},
    lambda: [float("nan"), 2**100, b"\xff", "\ud800"],
    lambda: type("Evil", (), {"__getattribute__": lambda self, name: 1 / 0})(),
    lambda: type("Evil", (), {"__class__": property(lambda self: 1 / 0)})(),
    lambda: type("Evil", (dict,), {"__len__": lambda self: 10**9})(),
    lambda: type("Evil", (list,), {"__iter__": lambda self: 1 / 0})([1]),
    lambda: type("Evil", (int,), {"__int__": lambda self: "x"})(3),
    lambda: type("Evil", (float,), {"__float__": lambda self: 1 / 0})(3),
    lambda: type("Evil", (str,), {"isascii": lambda self: 1 / 0})("x"),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(st.characters(), max_size=6), st.sampled_from(HOSTILE)), max_size=5))
def test_hostile_values_never_raise_and_give_one_line(fields: list[tuple[str, Callable[[], Any]]]) -> None:
    with capture_events() as captured:
        tocsin.emit("custom", **{name: make() for name, make in fields})
    assert len(captured.events) == 1


@pytest.mark.usefixtures("internal_failures")
def test_it_complains_once_a_minute() -> None:
    said: list[str] = []
    now = [0.0]
    guard = Guard(lambda: now[0], said.append)
    for second in range(121):
        now[0] = float(second)
        guard.failed("sink", OSError("quotes 'Maya'"))
    assert said == [
        "lines lost so far: 1 (last: sink, OSError); the application goes on",
        "lines lost so far: 61 (last: sink, OSError); the application goes on",
        "lines lost so far: 121 (last: sink, OSError); the application goes on",
    ]
    assert COMPLAIN_EVERY_S == 60
    assert guard.dropped == 121


@pytest.mark.parametrize("stderr", [None, object()])
def test_without_stderr_it_stays_silent(stderr: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    complain("nobody hears this")
