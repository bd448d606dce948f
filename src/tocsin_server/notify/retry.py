"""What an attempt to deliver came to, and when the next one is.

Rows E2 and E3 of the reliability bar: what may pass is tried again with growing pauses, a receiver that says
when to come back is obeyed, what is refused for good is dead at once, everything else after seven days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Literal

from tocsin_server.clock import SECOND_US

FIRST_PAUSE_US = SECOND_US
LONGEST_PAUSE_US = 300 * SECOND_US
#: A receiver may ask for a longer pause, up to this.
LONGEST_RETRY_AFTER_US = 3600 * SECOND_US
DEAD_LETTER_US = 7 * 86_400 * SECOND_US

#: Statuses below 500 that may pass: request timeout, too many requests.
_MAY_PASS = {408, 429}

Outcome = Literal["accepted", "retry", "refused"]
#: Returns a number from 0 up to, not including, 1.
Random = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt, in one line for people; the receiver may have asked for a pause."""

    outcome: Outcome
    text: str
    retry_after_us: int | None = None


def http_outcome(status: int) -> Outcome:
    """2xx is accepted; 408, 429 and 5xx may pass; all else, redirects too, is refused for good."""
    if 200 <= status < 300:
        return "accepted"
    return "retry" if status >= 500 or status in _MAY_PASS else "refused"


def retry_after_us(value: str | None, now_us: int) -> int | None:
    """The pause that a ``Retry-After`` header asks for: seconds, or an HTTP date. None: nothing readable."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return int(text[:9]) * SECOND_US
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(0, round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * SECOND_US) - now_us)


def pause_us(attempt: int, asked_us: int | None, random: Random) -> int:
    """How long to wait after attempt number ``attempt`` (from 1): doubling from 1 s to 5 min, shortened by up
    to a half at random so that many senders do not come back at once, or what the receiver asked for.
    """
    if asked_us is not None:
        return min(max(asked_us, FIRST_PAUSE_US), LONGEST_RETRY_AFTER_US)
    longest = min(FIRST_PAUSE_US << min(attempt - 1, 32), LONGEST_PAUSE_US)
    return max(FIRST_PAUSE_US, round(longest * (1 + random()) / 2))


def next_try_at(answer: Answer, attempt: int, created_at: int, now_us: int, random: Random) -> int | None:
    """When to try again (µs); None when it is delivered, refused, or seven days old."""
    if answer.outcome != "retry" or now_us - created_at >= DEAD_LETTER_US:
        return None
    return now_us + pause_us(attempt, answer.retry_after_us, random)
