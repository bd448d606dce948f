"""The guard keeps our failures from the host; here each one fails the test, unless the test expects it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tocsin import emitter
from tocsin.config import SETTINGS
from tocsin.guard import Guard


@pytest.fixture(autouse=True)
def _no_internal_failures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    failures: list[str] = []
    original = Guard.failed

    def failed(self: Guard, reason: str, error: BaseException | None = None, lines: int = 1) -> None:
        failures.append(f"{reason}: {error!r}")
        original(self, reason, error, lines)

    monkeypatch.setattr(Guard, "failed", failed)
    yield
    if "internal_failures" not in request.fixturenames:
        assert failures == [], "the guard caught internal failures"


@pytest.fixture
def internal_failures(monkeypatch: pytest.MonkeyPatch) -> Guard:
    """For tests that expect internal failures: the fresh guard that counts them."""
    guard = Guard(complain=lambda text: None)
    monkeypatch.setattr(emitter, "GUARD", guard)
    return guard


@pytest.fixture(autouse=True)
def _unconfigured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts as a process that has not called ``configure`` yet, and without settings around it."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    before = emitter.use(None)
    yield
    if used := emitter.use(before):
        used.close()
