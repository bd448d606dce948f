"""One installation, running: the only place that knows all parts (``tocsin up``).

Every step of the flow is a loop on a thread of its own and hands over through what is on disk: a crash at any
point is a restart of the steps, not a loss. The web server answers on the main thread.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from tocsin_server import incident
from tocsin_server.check import runbooks_folder
from tocsin_server.client import Client
from tocsin_server.clock import SECOND_US, Clock, iso, real_clock
from tocsin_server.collector import Collector, Lines, StorageError
from tocsin_server.config import Settings, load_settings
from tocsin_server.definitions import Definitions
from tocsin_server.drill.run import Connect, Step, drill, end_unfinished
from tocsin_server.errors import TocsinError
from tocsin_server.impact import Affected, affected
from tocsin_server.investigate import Investigator
from tocsin_server.live import INGEST_DELAY_US, Evaluator
from tocsin_server.load import Options
from tocsin_server.loops import Loop
from tocsin_server.notify.outbox import Notifier, send_test
from tocsin_server.probes import Prober, check
from tocsin_server.query import STEP_US
from tocsin_server.resources import alert_rules
from tocsin_server.runbook import evidence
from tocsin_server.runbook.run import Tools
from tocsin_server.sources import load_file
from tocsin_server.sources.checkpoint import Checkpoint
from tocsin_server.sources.files import known_length
from tocsin_server.sources.tail import Tail, TailBatch
from tocsin_server.state import State
from tocsin_server.state.tables import EvaluatorProgress, Notification
from tocsin_server.store import Store
from tocsin_server.web import create_app
from tocsin_server.web.asgi import call_app
from tocsin_server.web.services import Services

#: Memory that SQL of a runbook step or a person may use.
_QUERY_BYTES = 256 << 20
_TAIL_BUSY_US, _TAIL_IDLE_US = SECOND_US // 4, SECOND_US
#: A log that was quiet for so long is looked at less often.
_QUIET_US = 10 * SECOND_US
#: How long an evaluation waits for lines that are being read, in general and after a start.
_LATEST_US, _START_US = 5 * SECOND_US, 120 * SECOND_US
_HOUSEKEEPING_US, _MAINTENANCE_US = 2 * SECOND_US, 60 * SECOND_US
#: Below this much free space the installation calls itself ill.
_LEAST_FREE_BYTES = 256 << 20
_STOP_S = 8.0


class Installation:
    """A data folder with all that works on it; :func:`opened` makes it, :meth:`start` sets it going."""

    def __init__(
        self, settings: Settings, folder: Path, clock: Clock, stack: ExitStack, start_at: int | None
    ) -> None:
        self.settings, self.folder, self.clock = settings, folder, clock
        self.operator_token = secrets.token_urlsafe(32)
        self._started_at = clock()
        self.store = stack.enter_context(closing(Store.create(folder)))
        stack.enter_context(self.store.writing())
        self.state = stack.enter_context(closing(_state(settings, folder)))
        self.definitions = Definitions(*_folders(settings))
        self.collector = stack.enter_context(closing(Collector(self.store, clock)))
        self._tail = stack.enter_context(closing(self._follow()))
        self._prober = stack.enter_context(closing(self._probe()))
        self._evaluator = Evaluator(
            self.state, self._catalogue, self.collector.connect, settings.expect, start_at
        )
        self._tools = Tools(
            lambda _as_of: self.collector.locked(_QUERY_BYTES),
            settings.connections,
            frozenset(settings.private_hosts),
        )
        self._investigator = Investigator(
            self.state, lambda: self.definitions.runbooks, self._tools, clock, self._affected
        )
        self._notifier = stack.enter_context(
            closing(Notifier(self.state, settings, clock, rules=lambda: self._catalogue().rules))
        )
        self._maintained_at = 0
        #: When every followed file was last read to its end; None: not since the start.
        self._delivered_at: int | None = None
        self.loops = {
            name: Loop(name, clock, step)
            for name, step in {
                "sources": self._read_sources,
                "probes": self._probe_targets,
                "evaluate": self._evaluate,
                "incidents": self._open_incidents,
                "investigate": self._investigate,
                "notify": self._notify,
                "housekeeping": self._keep_house,
            }.items()
        }
        self._loading = False

    # --- life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts every step of the flow."""
        self._investigator.recover()
        end_unfinished(self.state, self.clock())
        for loop in self.loops.values():
            loop.start()

    def stop(self) -> None:
        """Lets every step finish what it does."""
        until = time.monotonic() + _STOP_S
        for loop in self.loops.values():
            loop.ask_to_stop()
        for loop in self.loops.values():
            loop.stop(max(0.1, until - time.monotonic()))

    def wake(self) -> None:
        """There may be something to do for every step."""
        for loop in self.loops.values():
            loop.wake()

    # --- the steps --------------------------------------------------------------------------------------

    def _read_sources(self, now: int) -> int:
        if self._tail.poll(self._append_tail):
            return now
        self._delivered_at = now
        newest = max((row["last_read_at"] or 0 for row in self._tail.health()), default=0)
        return now + (_TAIL_BUSY_US if now - newest < _QUIET_US else _TAIL_IDLE_US)

    def _append_tail(self, batch: TailBatch) -> None:
        checkpoint = batch.checkpoint
        identity = f"{checkpoint.device}:{checkpoint.inode}"
        self.collector.append(
            [
                Lines(
                    batch.source,
                    batch.data,
                    batch.length,
                    batch.service,
                    batch.environment,
                    checkpoint=(identity, checkpoint.as_row()),
                )
            ]
        )

    def _probe_targets(self, now: int) -> int | None:
        self._prober.step(now)
        return self._prober.next_at(now)

    def _evaluate(self, now: int) -> int:
        """An instant is evaluated when every followed file has been read past it, or at the latest 5 s after
        it; after a start, when what was written meanwhile has been read.
        """
        due = self._evaluator.next_at(now)
        instant = (now - INGEST_DELAY_US) // STEP_US * STEP_US
        waits_until = self._started_at + _START_US if self._delivered_at is None else instant + _LATEST_US
        if now >= due and (self._delivered_at or 0) < instant and now < waits_until:
            return now + _TAIL_BUSY_US
        if now >= due and self._evaluator.step(now):
            self.loops["incidents"].wake()
        return self._evaluator.next_at(now)

    def _open_incidents(self, now: int) -> int | None:
        done = incident.step(self.state, self._catalogue(), self.settings.notify.routes, now)
        if done:
            self.loops["investigate"].wake()
            self.loops["notify"].wake()
        return now if done else None

    def _investigate(self, now: int) -> int | None:
        done = self._investigator.step(now)
        if done:
            self.loops["notify"].wake()
        return now if done else None

    def _notify(self, now: int) -> int | None:
        self._notifier.step(now)
        return self._notifier.next_at(now)

    def _keep_house(self, now: int) -> int:
        self.definitions.refresh()
        with suppress(StorageError):  # the status tells; retention, which frees space, must go on
            self.collector.tick(now)
        if now - self._maintained_at >= _MAINTENANCE_US:
            retention = self.settings.retention
            self.collector.maintain(now, retention.raw, retention.max_bytes)
            self._maintained_at = now
        return now + _HOUSEKEEPING_US

    # --- parts ------------------------------------------------------------------------------------------

    def _catalogue(self) -> Any:
        return self.definitions.catalogue

    def _follow(self) -> Tail:
        points = [Checkpoint.from_row(row) for row in self.store.manifest.checkpoints().values()]
        return Tail(self.settings.sources, points, self.clock, self._known)

    def _known(self, fd: int, length: int) -> int:
        """How much of a file that is followed for the first time `tocsin ingest` has loaded."""
        return known_length(self.store, fd, length)

    def _probe(self) -> Prober:
        hosts = frozenset(self.settings.private_hosts)
        return Prober(
            self.settings.probes,
            lambda line: self.collector.append([Lines("probes", line)]),
            self.clock,
            lambda probe: check(probe, self.clock, private_hosts=hosts),
        )

    def _affected(self, alert: str, labels: Mapping[str, str], from_us: int, to_us: int) -> Affected | None:
        rule = next((rule for rule in self._catalogue().rules if rule.alert == alert), None)
        if rule is None:
            return None
        from_us -= rule.condition.lookback_us or STEP_US
        with self.collector.connect(from_us) as connection:
            return affected(connection, rule, labels, from_us, to_us)

    # --- what the web asks ------------------------------------------------------------------------------

    def services(self) -> Services:
        """Everything that a page or the API may ask."""
        token = self.settings.listen.token
        return Services(
            settings=self.settings,
            clock=self.clock,
            state=self.state,
            connect=self.collector.connect,
            query=self.collector.query,
            catalogue=self._catalogue,
            runbooks=lambda: self.definitions.runbooks,
            faults=lambda: self.definitions.faults,
            sources=self.sources,
            status=self.status,
            wake=self.wake,
            ingest=self.collector.ingest,
            drill=self._drill,
            token=token.read() if token else None,
            operator_token=self.operator_token,
            run_runbook=self._run_runbook,
            test_channel=lambda channel: send_test(self.settings, channel, self.clock),
            load=self._load,
        )

    def sources(self) -> list[dict[str, Any]]:
        """One row a source: its books, how far behind it is, and what is wrong with it."""
        rows = {
            name: {
                "source": name,
                "kind": _kind(name),
                "state": "idle",
                "error": "",
                "lag_bytes": None,
                **about,
            }
            for name, about in self.collector.sources().items()
        }
        for file in self._tail.health():
            row = rows.setdefault(file["source"], {"books": {}, "newest_ts": None, "source": file["source"]})
            row |= {"kind": "file", "state": file["state"], "error": file["error"], "path": file["path"]}
            row |= {"lag_bytes": file["lag_bytes"], "last_read_at": file["last_read_at"]}
        for probe in self._prober.health():
            name = f"probe {probe['target']}"
            rows[name] = {"source": name, "kind": "probe", "books": {}, "newest_ts": probe["checked_at"]}
            rows[name] |= {"state": "failing" if probe["error"] else "probing", "error": probe["error"]}
            rows[name] |= {"lag_bytes": None}
        return [rows[name] for name in sorted(rows)]

    def status(self) -> dict[str, Any]:
        """Health of every part; ``healthy`` is false as soon as one is ill, and ``problems`` says what."""
        now = self.clock()
        loops = [loop.status() for loop in self.loops.values()]
        seen = [one | {"last_at": None if one["last_at"] is None else iso(one["last_at"])} for one in loops]
        with self.state.reading() as session:
            progress = session.get(EvaluatorProgress, 1)
            undelivered = session.scalar(
                select(func.count()).where(Notification.status.in_(("pending", "sending")))
            )
            dead = session.scalar(select(func.count()).where(Notification.status == "dead"))
        last_at = progress.last_at if progress else None
        running = any(loop["ok"] for loop in loops)
        problems = [f"{loop['step']}: {loop['error']}" for loop in loops if loop["error"]]
        problems += [f"storage: {self.collector.error}"] if self.collector.error else []
        problems += [str(fault) for fault in self.definitions.faults]
        if self.collector.free_bytes() < _LEAST_FREE_BYTES:
            problems.append(f"less than {_LEAST_FREE_BYTES >> 20} MiB are free where the data lies")
        if running and last_at is not None and now - last_at > 4 * STEP_US + INGEST_DELAY_US:
            problems.append(f"rules were last evaluated at {iso(last_at)}")
        if running:
            problems += [f"{row['source']}: {row['error']}" for row in self.sources() if row["error"]]
        return {
            "healthy": not problems,
            "problems": problems,
            "version": metadata.version("tocsin"),
            "running": running,
            "started_at": iso(self._started_at),
            "data": str(self.folder),
            "evaluated_at": None if last_at is None else iso(last_at),
            "steps": seen,
            "notifications": {"undelivered": undelivered, "dead": dead},
            "free_bytes": self.collector.free_bytes(),
            "spool": {
                "quarantined_bytes": self.collector.recovery.quarantined_bytes,
                "truncated_bytes": self.collector.recovery.truncated_bytes,
            },
            "tail": dict(self._tail.counters),
        }

    def _run_runbook(self, name: str, inputs: Mapping[str, str], dry_run: bool, who: str) -> dict[str, Any]:
        report = self._investigator.run_manual(name, inputs, who, dry_run=dry_run)
        return evidence.as_json(self.definitions.runbooks[name], report)

    def _load(self, paths: Sequence[Path], service: str | None, source: str | None) -> dict[str, Any]:
        if self._loading:
            raise TocsinError("another load runs: wait until it is done, and try again")
        self._loading = True
        try:
            options = Options(service=service, source=source)
            total = None
            for path in paths:
                books = load_file(self.store, path, self.clock, options)
                total = books if total is None else total
                if total is not books:
                    total.add(books)
            return total.as_json() if total else {}
        finally:
            self._loading = False

    def _drill(self, alert: str) -> dict[str, Any]:
        return drill(alert, self._catalogue().rules, self.state, self._drill_flow, self.clock)

    def _drill_flow(self, connect: Connect, marker: str) -> Sequence[Step]:
        """The real steps; only the investigator looks at the drill's events, and at no other runs."""
        tools = replace(self._tools, connect=connect)
        investigator = Investigator(
            self.state, lambda: self.definitions.runbooks, tools, self.clock, drill=marker
        )
        return (
            lambda now: incident.step(self.state, self._catalogue(), self.settings.notify.routes, now),
            investigator.step,
            self._notify_now,
        )

    def _notify_now(self, now: int) -> None:
        """By the loop that notifies, if it runs: a notifier has one master."""
        if self.loops["notify"].status()["ok"]:
            self.loops["notify"].wake()
        else:
            self._notifier.step(now)
            self._notifier.drain()


def _state(settings: Settings, folder: Path) -> State:
    if settings.state is None:
        return State.in_folder(folder)
    return State.at_url(settings.state.postgresql.read())


def _folders(settings: Settings) -> tuple[Path, Path]:
    """Where rules and runbooks are: as set, else beside the working folder, else the shipped ones."""
    local = Path("ops/alerts")
    rules = settings.rules or (local if local.is_dir() else alert_rules())
    return rules, settings.runbooks or runbooks_folder()


def _kind(source: str) -> str:
    return "probe" if source == "probes" else "http" if source in ("http", "cli") else "stream"


@contextmanager
def opened(
    settings: Settings, folder: Path, clock: Clock, start_at: int | None = None
) -> Iterator[Installation]:
    """An installation that is not running yet; holds the folder against other writers.

    ``start_at`` is the first instant that is evaluated (µs), if none ever was.
    """
    with ExitStack() as stack:
        yield Installation(settings, folder, clock, stack, start_at)


@contextmanager
def offline(folder: Path) -> Iterator[Client]:
    """The API of a folder that no server runs on, without a socket."""
    if not (folder / "manifest.db").exists():
        raise TocsinError(f"no data in {folder}: start `tocsin up --data {folder}`, or name another folder")
    with opened(load_settings(), folder, real_clock) as installation:
        app = create_app(installation.services())
        yield Client(call_app(app, installation.operator_token))
