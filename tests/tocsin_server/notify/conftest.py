"""Receivers and a bench per test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from notifying import SECRET, SECRET_NAME, FakeClock

from tocsin_server.notify.receivers import MailReceiver, WebhookReceiver


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_NAME, SECRET)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def receiver(clock: FakeClock) -> Iterator[WebhookReceiver]:
    with WebhookReceiver(secret=SECRET, clock=clock) as started:
        yield started


@pytest.fixture
def mailbox() -> Iterator[MailReceiver]:
    with MailReceiver() as started:
        yield started
