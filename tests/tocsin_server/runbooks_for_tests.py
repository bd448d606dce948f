"""Runbooks as data and the tools to run them, for the tests of execution and investigation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import duckdb
import histories

from tocsin_server import sql
from tocsin_server.config import Connection
from tocsin_server.runbook.model import Input, Runbook, Step

AS_OF = 1200 * histories.SECOND


def step(step_id: str, body: str, **fields: Any) -> Step:
    """A step; ``kind`` is ``http`` when the body begins with a method, else ``sql`` on events."""
    http = body.partition(" /")[0] in ("GET", "HEAD", "OPTIONS", "POST", "DELETE")
    given = {
        "kind": "http" if http else "sql",
        "connection": "core" if http else "events",
        "section": "Investigation",
        "title": step_id.capitalize(),
        "line": 1,
        "sha256": hashlib.sha256(body.encode()).hexdigest(),
        "run": "auto",
        "writes": False,
        **fields,
    }
    return Step(id=step_id, body=body, **given)


def runbook(*steps: Step, inputs: Iterable[Input] = (), **fields: Any) -> Runbook:
    """A runbook with these steps under Investigation, or where their ``section`` says."""
    given = {
        "id": "sync-failure",
        "file": "SYNC_FAILURE.md",
        "title": "Sync failure",
        "service": "k12-core",
        "owner": "platform-oncall",
        "alerts": ("SyncFailures",),
        "last_reviewed": "2026-02-16",
        "review_every_us": 90 * 86_400 * histories.SECOND,
        "connections": ("core", "core_ro", "events"),
        "escalation": "",
        "budget_s": 30.0,
        "source": "",
        "sha256": "f" * 64,
        "sections": {},
        "findings": (),
        "causes": (),
        "actions": (),
        **fields,
    }
    return Runbook(
        inputs=tuple(inputs),
        investigation=tuple(s for s in steps if s.section == "Investigation"),
        verification=tuple(s for s in steps if s.section == "Verification"),
        **given,
    )


def over(events: Iterable[histories.Event] = ()) -> Callable[[int], AbstractContextManager[Any]]:
    """A ``connect`` that opens a locked connection over these events."""
    listed = list(events)

    @contextmanager
    def connect(_as_of_us: int) -> Iterator[duckdb.DuckDBPyConnection]:
        with histories.connect(listed) as connection:
            sql.lock(connection, [], 1 << 28, 1)
            yield connection

    return connect


def http_connection(url: str, auto: bool = True) -> Connection:
    """A connection of the settings."""
    return Connection(http=url, auto=auto)
