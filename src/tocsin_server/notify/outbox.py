"""The step of the flow that tells people: due groups into the outbox, the outbox out to the receivers.

Sending happens outside of transactions, on a few threads, one message per channel at a time: a slow receiver
delays no other. Before a message is sent it is marked as being sent; what a crash leaves marked so goes again
with the same key and the next attempt number (rows E1 and E3 of the reliability bar).
"""

from __future__ import annotations

import random as randomness
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from sqlalchemy import exists, func, select

from tocsin_server.clock import SECOND_US, Clock
from tocsin_server.config import Settings
from tocsin_server.errors import TocsinError
from tocsin_server.notify import failing, ledger
from tocsin_server.notify.channels import CHANNELS, Sender, kind_of
from tocsin_server.notify.flush import enqueue_due
from tocsin_server.notify.ledger import deliveries
from tocsin_server.notify.message import Delivery, base_url, trial_notice
from tocsin_server.notify.retry import Answer, Random
from tocsin_server.notify.wording import shown
from tocsin_server.rules import Rule
from tocsin_server.state import State
from tocsin_server.state.tables import DeliveryAttempt, Notification, NotificationGroup
from tocsin_server.yamlfile import did_you_mean

__all__ = ["Notifier", "deliveries", "send_test"]

#: How soon to look again at what waits for evidence or for an answer.
LOOK_AGAIN_US = SECOND_US // 5
PARALLEL_CHANNELS = 4


class Notifier:
    """Drives groups and outbox; one thread calls :meth:`step`. ``rules`` give messages titles and words."""

    def __init__(
        self,
        state: State,
        settings: Settings,
        clock: Clock,
        *,
        rules: Callable[[], Sequence[Rule]] = tuple,
        senders: Mapping[str, Sender] = CHANNELS,
        random: Random = randomness.random,
    ) -> None:
        self._state, self._settings, self._clock = state, settings, clock
        self._rules, self._senders, self._random = rules, senders, random
        self._url = base_url(settings)
        self._pool = ThreadPoolExecutor(PARALLEL_CHANNELS, thread_name_prefix="notify")
        self._jobs: dict[str, Future[None]] = {}
        self._looked_at = 0
        self._closing = False

    def step(self, now_us: int) -> int:
        """Does what is due and starts sending; how many messages were written or channels started.

        Raises what went wrong in the state database, also on a sending thread.
        """
        self._looked_at = now_us
        self._collect_jobs()
        done = self.recover(now_us) + self._enqueue(now_us) + self._tell_of_failing(now_us)
        return done + self._start_sending(now_us)

    def next_at(self, now_us: int) -> int | None:
        """When to call :meth:`step` next (µs); None: not before something else happens."""
        with self._state.reading() as session:
            recent = Notification.created_at > self._looked_at - failing.OVERDUE_US
            oldest = session.scalar(
                select(func.min(Notification.created_at)).where(ledger.UNDELIVERED, recent)
            )
            instants = [
                session.scalar(select(func.min(NotificationGroup.due_at))),
                session.scalar(
                    ledger.first_of_each_group().with_only_columns(func.min(Notification.next_try_at))
                ),
                None if oldest is None else oldest + failing.OVERDUE_US,
                self._looked_at if self._in_flight() else None,
            ]
        soonest = min((at for at in instants if at is not None), default=None)
        if soonest is None or soonest > now_us:
            return soonest
        return max(soonest, self._looked_at + LOOK_AGAIN_US)

    def recover(self, now_us: int) -> int:
        """Puts back what an earlier process was sending when it ended; :meth:`step` does it, too."""
        in_flight = self._in_flight()
        with self._state.reading() as session:
            if session.scalars(ledger.interrupted(in_flight).limit(1)).first() is None:
                return 0
        with self._state.transaction() as session:
            return ledger.recover(session, in_flight, now_us)

    def drain(self) -> None:
        """Waits until nothing is being sent. Raises what went wrong on a sending thread."""
        wait(self._jobs.values())
        self._collect_jobs()

    def close(self) -> None:
        """Lets messages in flight finish (at most the senders' time limits), starts no new ones."""
        self._closing = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    # --- into the outbox ------------------------------------------------------------------------------

    def _enqueue(self, now_us: int) -> int:
        with self._state.reading() as session:
            if not session.scalar(select(exists().where(NotificationGroup.due_at <= now_us))):
                return 0
        rules = {rule.alert: rule for rule in self._rules()}
        with self._state.transaction() as session:
            return enqueue_due(session, rules, self._url, now_us)

    def _tell_of_failing(self, now_us: int) -> int:
        with self._state.reading() as session:
            if not failing.to_tell(session, now_us):
                return 0
        with self._state.transaction() as session:
            names = failing.to_tell(session, now_us)
            return sum(failing.tell(session, self._settings.notify.channels, name, now_us) for name in names)

    # --- out to the receivers -------------------------------------------------------------------------

    def _in_flight(self) -> list[str]:
        return [channel for channel, job in self._jobs.items() if not job.done()]

    def _collect_jobs(self) -> None:
        finished = [channel for channel, job in self._jobs.items() if job.done()]
        for job in [self._jobs.pop(channel) for channel in finished]:
            if not job.cancelled():
                job.result()

    def _start_sending(self, now_us: int) -> int:
        with self._state.reading() as session:
            ready = ledger.ready_channels(session, now_us)
        idle = [channel for channel in ready if channel not in self._jobs]
        for channel in idle:
            self._jobs[channel] = self._pool.submit(self._drain_channel, channel)
        return len(idle)

    def _drain_channel(self, channel: str) -> None:
        while not self._closing and self._send_next(channel):
            pass

    def _send_next(self, channel: str) -> bool:
        """One attempt for the next message of a channel; False when there is none."""
        with self._state.transaction() as session:
            taken = ledger.take(session, channel, self._url, self._clock())
        if taken is None:
            return False
        answer, duration_ms = attempt(self._settings, self._senders, taken.delivery)
        with self._state.transaction() as session:
            status = ledger.record(session, taken, answer, duration_ms, self._clock(), self._random)
            if status == "dead":
                failing.tell(session, self._settings.notify.channels, channel, self._clock())
        return True


def attempt(settings: Settings, senders: Mapping[str, Sender], delivery: Delivery) -> tuple[Answer, float]:
    """One attempt, and how long it took (ms). A sender that fails is an answer: the notifier goes on."""
    started = time.perf_counter()
    channel = settings.notify.channels.get(delivery.channel)
    if channel is None:
        return Answer("refused", f"there is no channel `{delivery.channel}` in tocsin.yaml any more"), 0.0
    try:
        answer = senders[kind_of(channel)](channel, delivery, frozenset(settings.private_hosts))
    except TocsinError as error:
        answer = Answer("retry", shown(str(error)))
    except Exception as error:
        answer = Answer("retry", shown(f"the sender failed: {type(error).__name__}: {error}"))
    return answer, (time.perf_counter() - started) * 1000


def send_test(
    settings: Settings, channel: str, clock: Clock, senders: Mapping[str, Sender] = CHANNELS
) -> dict[str, Any]:
    """Really sends a message marked TEST, once; the answer in the shape of the ledger, ``id`` None.

    Raises TocsinError when there is no such channel.
    """
    channels = settings.notify.channels
    if channel not in channels:
        hint = did_you_mean(channel, channels) if channels else "add it under notify.channels in tocsin.yaml"
        raise TocsinError(f"there is no channel `{channel}`: {hint}")
    now_us, url = clock(), base_url(settings)
    test = Notification(
        key=f"test-{now_us:x}",
        channel=channel,
        group_key="test",
        reason="test",
        body=trial_notice(channel, now_us),
        created_at=now_us,
        drill="",
    )
    delivery = Delivery(test.key, 1, channel, test.group_key, test.body, now_us, url)
    answer, duration_ms = attempt(settings, senders, delivery)
    test.status = "delivered" if answer.outcome == "accepted" else "dead"
    test.delivered_at = clock() if answer.outcome == "accepted" else None
    line = DeliveryAttempt(
        number=1,
        started_at=now_us,
        duration_ms=duration_ms,
        outcome=answer.outcome,
        answer=answer.text,
    )
    return ledger.as_json(test, [line])
