"""The seed of a run: printed when a test fails, so that the same schedule can be had again."""

from __future__ import annotations

import os
import random

import pytest


@pytest.fixture
def seed() -> int:
    """``CHAOS_SEED``, or a new one."""
    chosen = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"CHAOS_SEED={chosen}")
    return chosen
