"""What the tests of notification share: a clock to set, changes, settings, and a notifier driven by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tocsin_server.clock import SECOND_US
from tocsin_server.config import Channel, Route, Settings
from tocsin_server.notify.channels import CHANNELS, Sender
from tocsin_server.notify.groups import Change, observe_all
from tocsin_server.notify.message import Delivery
from tocsin_server.notify.outbox import Notifier
from tocsin_server.notify.retry import Answer
from tocsin_server.resources import alert_rules
from tocsin_server.rules.load import load_rules
from tocsin_server.state import State

MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
#: 2026-11-23T07:55:00Z, a Monday.
START_US = 1_795_420_500 * SECOND_US
SECRET_NAME = "TOCSIN_TEST_WEBHOOK_SECRET"
SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cw=="
LABELS = {"service": "k12-core", "environment": "production"}
RULES = load_rules([alert_rules()])


class FakeClock:
    """A clock that says what it was set to."""

    def __init__(self, now_us: int = START_US) -> None:
        self.now = now_us

    def __call__(self) -> int:
        return self.now


def change(
    alert: str = "HighErrorRate",
    labels: Mapping[str, str] = LABELS,
    severity: str = "critical",
    fired_at: int = START_US,
    resolved_at: int | None = None,
    value: float | None = 0.124,
    incident_id: int | None = None,
    drill: str = "",
) -> Change:
    return Change(alert, labels, severity, fired_at, resolved_at, value, incident_id, drill)


def settings(**urls: str) -> Settings:
    """Settings with a signed webhook per name, and a route that tells everything to all of them."""
    channels = {
        name: Channel.model_validate({"webhook": {"url": url, "secret": {"env": SECRET_NAME}}})
        for name, url in urls.items()
    }
    routes = [{"to": list(urls)}] if urls else []
    return Settings.model_validate({"notify": {"channels": channels, "routes": routes}})


def fake_settings(*names: str) -> Settings:
    """Settings whose channels nobody listens at: for senders that tests hand in."""
    return settings(**dict.fromkeys(names, "http://127.0.0.1:9/alerts"))


class FakeSender:
    """Takes deliveries per channel; answers with what ``answer`` says, by default that it is accepted."""

    def __init__(self, answer: Callable[[Delivery], Answer] = lambda _: Answer("accepted", "ok")) -> None:
        self.answer = answer
        self.sent: list[Delivery] = []

    def __call__(self, channel: Channel, delivery: Delivery, private_hosts: frozenset[str]) -> Answer:
        self.sent.append(delivery)
        return self.answer(delivery)

    @property
    def titles(self) -> list[str]:
        return [delivery.body["title"] for delivery in self.sent]

    @property
    def reasons(self) -> list[str]:
        return [delivery.body["reason"] for delivery in self.sent]

    def to(self, channel: str) -> list[Delivery]:
        return [delivery for delivery in self.sent if delivery.channel == channel]


class Bench:
    """A state, a clock, settings and a notifier that is stepped by hand, never by waiting."""

    def __init__(self, state: State, told: Settings, senders: Mapping[str, Sender] = CHANNELS) -> None:
        self.state, self.settings, self.senders = state, told, senders
        self.clock = FakeClock()
        self.notifier = self.started()

    def started(self) -> Notifier:
        """A notifier as a new process has it."""
        return Notifier(
            self.state,
            self.settings,
            self.clock,
            rules=lambda: RULES,
            senders=self.senders,
            random=lambda: 0.5,
        )

    def observe(self, *changes: Change) -> None:
        with self.state.transaction() as session:
            observe_all(session, self.settings.notify.routes, changes, self.clock.now)

    def step(self) -> int:
        done = self.notifier.step(self.clock.now)
        self.notifier.drain()
        return done

    def run_for(self, duration_us: int, steps: int = 5000) -> int:
        """Steps whenever the notifier wants to, up to ``duration_us`` from now; how many steps it took."""
        until = self.clock.now + duration_us
        for count in range(1, steps + 1):
            self.step()
            at = self.notifier.next_at(self.clock.now)
            if at is None or at > until:
                self.clock.now = until
                return count
            self.clock.now = max(at, self.clock.now)
        raise AssertionError(f"the notifier did not come to rest in {steps} steps")

    def close(self) -> None:
        self.notifier.close()
        self.state.close()


@contextmanager
def bench(
    folder: Path, told: Settings, sender: Sender | None = None, senders: Mapping[str, Sender] | None = None
) -> Iterator[Bench]:
    """A bench on a new state database; ``sender`` takes everything instead of the real channels."""
    table = senders or (CHANNELS if sender is None else dict.fromkeys(CHANNELS, sender))
    made = Bench(State.in_folder(folder), told, table)
    try:
        yield made
    finally:
        made.close()


def text_of(things: Iterable[Any]) -> str:
    """Everything that leaves, as one text to search canaries in."""
    return json.dumps(list(things), ensure_ascii=False, default=str)


def with_routes(told: Settings, *routes: dict[str, Any]) -> Settings:
    notify = told.notify.model_copy(update={"routes": [Route.model_validate(route) for route in routes]})
    return told.model_copy(update={"notify": notify})
