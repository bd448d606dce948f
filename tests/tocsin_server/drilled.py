"""What the tests of drills and of the shipped runbooks share: a fault, played, and what came of it.

A fault is loaded once, through the real parser and store, whichever test asks first.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from tocsin_server.backtest import Episode, backtest
from tocsin_server.clock import SECOND_US, frozen_clock
from tocsin_server.drill import FAULTS, Fault
from tocsin_server.drill.fault import LEAD_US
from tocsin_server.history import temporary_store
from tocsin_server.load import Books
from tocsin_server.resources import alert_rules, runbooks
from tocsin_server.rules import Catalogue, load_catalogue
from tocsin_server.runbook.inputs import resolve
from tocsin_server.runbook.load import load_runbooks
from tocsin_server.runbook.model import Report, Runbook
from tocsin_server.runbook.run import Tools, execute
from tocsin_server.sql import Limits, lock
from tocsin_server.store import Store

START_US = 1_795_420_800 * SECOND_US  # 2026-11-23T08:00:00Z
OUTBREAK_US = START_US + LEAD_US
SEED = 7

#: The ordinary morning and nothing else.
HEALTHY = Fault("healthy", "", "", None)


@dataclass(frozen=True)
class Played:
    """The books of the load, what fired, and per runbook of the fault's alert its report at fire time."""

    books: Books
    episodes: tuple[Episode, ...]
    reports: dict[str, Report]


@functools.cache
def catalogue() -> Catalogue:
    return load_catalogue([alert_rules()])


@functools.cache
def shipped() -> dict[str, Runbook]:
    books, faults = load_runbooks(runbooks())
    assert faults == []
    return books


def linked(alert: str) -> list[str]:
    return next(rule.runbooks for rule in catalogue().rules if rule.alert == alert)


@functools.cache
def played(name: str) -> Played:
    fault = FAULTS.get(name, HEALTHY)
    until_us = START_US + fault.span_us
    with loaded(fault, until_us) as (store, books):
        with store.connect(threads=1) as connection:
            report = backtest(connection, catalogue().rules, to_us=until_us)
        assert report.errors == []
        at_fire = next((e for e in report.episodes if e.alert == fault.alert), None)
        asked = linked(fault.alert) if at_fire else list(shipped()) if fault is HEALTHY else []
        labels = dict(at_fire.labels) if at_fire else {}
        as_of_us = at_fire.fired_at if at_fire else until_us
        reports = {book: run(store, shipped()[book], labels, as_of_us) for book in asked}
    return Played(books, tuple(report.episodes), reports)


@contextmanager
def loaded(fault: Fault, until_us: int) -> Iterator[tuple[Store, Books]]:
    with tempfile.NamedTemporaryFile(suffix=".log") as file:
        file.writelines(fault.lines(START_US, until_us, SEED))
        file.flush()
        with temporary_store([Path(file.name)], frozen_clock(until_us)) as (store, books):
            yield store, books


def run(store: Store, runbook: Runbook, labels: dict[str, str], as_of_us: int) -> Report:
    """Every reading step, those of Verification too, as the live server runs them."""

    @contextmanager
    def connect(_as_of_us: int) -> Iterator[duckdb.DuckDBPyConnection]:
        with store.connect(threads=1) as connection:
            lock(connection, [str(store.events)], Limits().memory_bytes, 1)
            yield connection

    values = resolve(runbook.inputs, {}, labels, as_of_us)
    clock = frozen_clock(as_of_us)
    return execute(runbook, values, Tools(connect), clock, as_of_us=as_of_us, phase="resolve")
