"""Fixtures for pytest, which finds them by the entry point. Loads nothing until one is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tocsin.testing import FrozenClock, ListSink


@pytest.fixture
def tocsin_clock() -> FrozenClock:
    """The clock of ``tocsin_events``; it stands still until ``advance(seconds)``."""
    from tocsin.testing import FrozenClock

    return FrozenClock()


@pytest.fixture
def tocsin_events(tocsin_clock: FrozenClock) -> Iterator[ListSink]:
    """What the test emits: ``tocsin_events.fields("job.completed")``, ``.events``, ``.lines``."""
    from tocsin.testing import capture_events

    with capture_events(clock=tocsin_clock) as captured:
        yield captured
