"""Alerts fire and resolve in an installation whose process is killed again and again, at moments that matter.

    python -m tests.chaos.cycles FOLDER PLAN [FAULT]

The steps of the flow run by hand on a clock that stands still meanwhile: an instant every thirty seconds,
with the events before it. A moment is just before or just after a transaction of the state or the manifest is
durable, or a message is sent. A process that is killed is followed by one that goes on at the same instant,
or, where the plan says so, some instants later, with all events in between. PLAN is JSON: ``instants``,
``kills``, ``seed``, ``away`` (instant -> how many instants nobody is there). Prints the kills as JSON.

Processes are forked from this one, which has imported everything and started nothing.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nanoarrow  # noqa: F401 - imported once for all processes

from tests.chaos import sabotage
from tests.tocsin_server.crashing import in_child
from tocsin_server.app import Installation, opened
from tocsin_server.clock import SECOND_US, iso
from tocsin_server.config import Settings, load_settings
from tocsin_server.live import INGEST_DELAY_US
from tocsin_server.notify import outbox
from tocsin_server.query import STEP_US
from tocsin_server.state import State
from tocsin_server.store.manifest import Manifest

START_US = 1_795_392_000_000_000  # 2026-11-23T00:00:00Z
SERVICES = ("billing", "grades", "mail", "search")

#: A service fails for so many instants, and is well for the rest of its period.
_FAILS, _PERIODS = 3, (9, 10, 11, 13)
_STEPS = ("sources", "evaluate", "incidents", "investigate", "notify", "housekeeping")


def instant(number: int) -> int:
    """When an instant is (µs)."""
    return START_US + number * STEP_US


def main(folder: Path, plan: dict[str, Any]) -> None:
    """Runs the plan to its end."""
    settings, chance = load_settings(folder / "tocsin.yaml"), random.Random(plan["seed"])
    away = {int(at): length for at, length in plan.get("away", {}).items()}
    at, kills = 0, list[int]()
    while at < plan["instants"]:
        moments = chance.randint(1, 60) if len(kills) < plan["kills"] else sys.maxsize
        stop = min((n for n in away if n > at), default=plan["instants"])
        last = stop == plan["instants"]
        status = in_child(lambda o=(at, stop, moments, last): run(folder, settings, *o))
        at = int((folder / "done").read_text() or at)
        if os.WIFSIGNALED(status):
            kills.append(at)
        elif status:
            sys.exit("a process failed")
        elif stop in away:
            at += away[stop]
    print(json.dumps({"kills": kills}))


def run(folder: Path, settings: Settings, start: int, stop: int, moments: int, last: bool) -> None:
    """Instants until ``stop``, or until the moment at which the process kills itself. Only the ``last`` one
    ends as it should.
    """
    now = instant(start) + INGEST_DELAY_US
    strike_at(moments)
    done = os.open(folder / "done", os.O_CREAT | os.O_WRONLY)
    try:
        with opened(settings, folder / "data", lambda: now, START_US) as installation:
            installation._investigator.recover()
            for number in range(start, stop):
                now = instant(number) + INGEST_DELAY_US
                step(installation, number, now)
                os.pwrite(done, str(number + 1).encode(), 0)
            if not last:
                os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def step(installation: Installation, number: int, now: int) -> None:
    """One instant: its events come in, and every step of the flow runs until nothing is left to do."""
    for earlier in range(max(0, number - 30), number + 1):
        installation.collector.ingest(
            events(earlier), source="app", service=None, environment=None, key=f"instant-{earlier}"
        )
    for name in _STEPS:
        installation.loops[name]._step(now)
    installation._notifier.drain()


def events(number: int) -> bytes:
    """What the services said before an instant: ten logins each, which fail when it is their time."""
    lines = []
    for service, period in zip(SERVICES, _PERIODS, strict=True):
        status = "failure" if number % period < _FAILS else "success"
        fields = {"metric": "auth.login", "service": service, "environment": "test"}
        fields["timestamp"] = iso(instant(number) - 10 * SECOND_US)
        lines += [json.dumps(fields | {"tags": {"status": status, "attempt": n}}) for n in range(10)]
    return "\n".join(lines).encode()


def strike_at(moment: int) -> None:
    """Kills this process at a moment, counted from 1."""
    lock, passed = threading.Lock(), 0

    def tick() -> None:
        nonlocal passed
        with lock:
            passed += 1
            if passed == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    state_transaction, manifest_transaction, attempt = State.transaction, Manifest.transaction, outbox.attempt

    @contextmanager
    def of_the_state(state: State) -> Iterator[Any]:
        with state_transaction(state) as session:
            yield session
            session.flush()
            tick()
        tick()

    @contextmanager
    def of_the_manifest(manifest: Manifest) -> Iterator[None]:
        with manifest_transaction(manifest):
            yield
            tick()
        tick()

    def ticking(*arguments: Any) -> Any:
        tick()
        answer = attempt(*arguments)
        tick()
        return answer

    State.transaction = of_the_state  # type: ignore[method-assign]
    Manifest.transaction = of_the_manifest  # type: ignore[method-assign]
    outbox.attempt = ticking


if __name__ == "__main__":
    if len(sys.argv) > 3:
        sabotage.FAULTS[sys.argv[3]]()
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
