"""One Hypothesis profile for all tests: shared machines are slow at times, which is no fault of a test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("tocsin", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tocsin")
