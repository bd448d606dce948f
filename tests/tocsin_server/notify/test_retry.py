"""When a delivery is tried again (row E2)."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notifying import START_US

from tocsin_server.clock import SECOND_US
from tocsin_server.notify.retry import (
    DEAD_LETTER_US,
    FIRST_PAUSE_US,
    LONGEST_PAUSE_US,
    LONGEST_RETRY_AFTER_US,
    Answer,
    http_outcome,
    next_try_at,
    pause_us,
    retry_after_us,
)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "accepted"),
        (202, "accepted"),
        (204, "accepted"),
        (301, "refused"),
        (400, "refused"),
        (401, "refused"),
        (404, "refused"),
        (408, "retry"),
        (410, "refused"),
        (429, "retry"),
        (500, "retry"),
        (503, "retry"),
    ],
)
def test_E2_what_may_pass_and_what_is_refused_for_good(status: int, outcome: str) -> None:
    assert http_outcome(status) == outcome


def test_E2_retry_after_in_seconds_and_as_a_date() -> None:
    date = formatdate(START_US / SECOND_US + 90, usegmt=True)
    assert retry_after_us("120", START_US) == 120 * SECOND_US
    assert retry_after_us(date, START_US) == 90 * SECOND_US
    assert retry_after_us(formatdate(0, usegmt=True), START_US) == 0


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "soon",
        "-5",
        "1.5",
        "Mon, 99 Foo 2026",
        "Mon, 01 Jan 99999999999999 00:00:00 GMT",
        "\x00",
        "٣",
    ],
)
def test_a_retry_after_that_says_nothing(value: str | None) -> None:
    assert retry_after_us(value, START_US) is None


@given(st.text(max_size=40))
def test_a_retry_after_never_breaks_anything(value: str) -> None:
    pause = retry_after_us(value, START_US)
    assert pause is None or pause >= 0


@given(st.integers(1, 5000), st.floats(0, 1, exclude_max=True))
def test_E2_pauses_grow_from_one_second_to_five_minutes(attempt: int, random: float) -> None:
    pause = pause_us(attempt, None, lambda: random)
    assert FIRST_PAUSE_US <= pause <= LONGEST_PAUSE_US
    assert pause_us(attempt + 1, None, lambda: random) >= pause
    if attempt >= 10:
        assert pause >= LONGEST_PAUSE_US / 2


@given(st.integers(0, 10**12))
def test_E2_a_receiver_is_obeyed_up_to_an_hour(asked: int) -> None:
    pause = pause_us(1, asked, lambda: 0.0)
    assert pause == min(max(asked, FIRST_PAUSE_US), LONGEST_RETRY_AFTER_US)


def test_E2_nothing_is_given_up_before_seven_days() -> None:
    failing = Answer("retry", "HTTP 503")
    just_before = START_US + DEAD_LETTER_US - 1
    assert next_try_at(failing, 2000, START_US, just_before, lambda: 0.5) is not None
    assert next_try_at(failing, 2000, START_US, just_before + 1, lambda: 0.5) is None
    assert next_try_at(Answer("refused", "HTTP 404"), 1, START_US, START_US, lambda: 0.5) is None
