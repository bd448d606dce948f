"""Exceptions as fields, from the exception and from somebody's text of it."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.tracebacks import (
    CAUSES,
    INNER_FRAMES,
    OUTER_FRAMES,
    exception_fields,
    frame,
    frames_in_text,
    without_traceback,
)


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_class_message_and_frames() -> None:
    fields = exception_fields(raised(KeyError("term")))
    assert fields["exception"] == "KeyError"
    assert fields["exception_message"] == "'term'"
    (where,) = fields["stacktrace"]
    assert where.startswith("test_tracebacks.py:")
    assert where.endswith(" raised")
    assert "causes" not in fields


def test_an_exception_that_was_never_raised_has_no_frames() -> None:
    assert exception_fields(ValueError())["stacktrace"] is None


def test_causes_are_told_nearest_first_and_bounded() -> None:
    error: BaseException | None = None
    for number in range(CAUSES + 3):
        error = raised(ValueError(number), error)
    assert error is not None
    causes = exception_fields(error)["causes"]
    assert [cause["exception_message"] for cause in causes] == [str(CAUSES + 1 - n) for n in range(CAUSES)]


def test_a_cycle_of_causes_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert [cause["exception_message"] for cause in exception_fields(first)["causes"]] == ["second"]


def test_the_context_is_a_cause_unless_it_is_suppressed() -> None:
    error = ValueError()
    error.__context__ = KeyError()
    assert exception_fields(error)["causes"][0]["exception"] == "KeyError"
    assert "causes" not in exception_fields(raised(error, None))


def test_the_members_of_a_group_are_causes() -> None:
    group = ExceptionGroup("two", [ValueError("a"), KeyError("b")])
    assert [cause["exception"] for cause in exception_fields(group)["causes"]] == ["ValueError", "KeyError"]


def test_of_a_deep_stack_both_ends_are_kept() -> None:
    def sink(depth: int) -> None:
        if depth:
            sink(depth - 1)
        raise ValueError

    with pytest.raises(ValueError) as caught:
        sink(200)
    frames = exception_fields(caught.value)["stacktrace"]
    assert len(frames) == OUTER_FRAMES + INNER_FRAMES + 1
    assert frames[OUTER_FRAMES] == f"<{202 - OUTER_FRAMES - INNER_FRAMES} more>"


def test_S8_an_exception_whose_text_raises() -> None:
    class HostileError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("maya.lind@example.org")

    assert exception_fields(HostileError())["exception_message"] == "<unrepr: HostileError>"


def test_a_frame_hides_the_folders_above_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", "/srv/maya", "/srv/maya/lib/site-packages", "/", Path("/srv")])
    assert frame("/srv/maya/lib/site-packages/rosters/sync.py", 3, "run") == "rosters/sync.py:3 run"
    assert frame("/srv/maya/app/views.py", 3, "run") == "app/views.py:3 run"
    assert frame("/home/maya/scratch.py", 3, "run") == "scratch.py:3 run"


def test_a_traceback_in_a_message_becomes_fields() -> None:
    error = raised(ValueError("no term"))
    message, fields = without_traceback(f"sync failed\n{text_of(error)}")
    assert message == "sync failed"
    assert fields == exception_fields(error)


def test_of_a_chain_in_a_message_the_last_error_is_told() -> None:
    error = raised(ValueError("no term"), raised(KeyError("term")))
    message, fields = without_traceback(text_of(error))
    assert message == "ValueError"
    assert (fields["exception"], fields["exception_message"]) == ("ValueError", "no term")
    assert len(fields["stacktrace"]) == 1


def test_a_group_in_a_message_is_told_not_its_members() -> None:
    group = raised(ExceptionGroup("two", [raised(ValueError("a")), raised(KeyError("b"))]))
    message, fields = without_traceback(text_of(group))
    assert message == "ExceptionGroup"
    assert fields["exception_message"] == "two (2 sub-exceptions)"


def test_the_frames_of_a_stack() -> None:
    frames = frames_in_text("Stack (most recent call last):\n" + "".join(traceback.format_stack()))
    assert frames[-1].endswith(" test_the_frames_of_a_stack")
    assert not any("format_stack" in item for item in frames)


@given(st.text(alphabet='Traceback (most recent call last):\n File "x", line 1, in f|+', max_size=300))
def test_S8_any_text_is_taken(text: str) -> None:
    message, fields = without_traceback(f"Traceback (most recent call last):\n{text}")
    assert isinstance(message, str)
    assert message
    assert "exception" in fields or message == "exception"
