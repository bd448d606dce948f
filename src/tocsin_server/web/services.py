"""What the web pages and the API need of the rest, handed in by ``app.py``: they reach for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb

from tocsin_server.clock import Clock
from tocsin_server.config import Settings
from tocsin_server.errors import Fault, TocsinError
from tocsin_server.rules.load import Catalogue
from tocsin_server.runbook.model import Runbook
from tocsin_server.sql import Result
from tocsin_server.state import State


class Ingest(Protocol):
    """Takes a batch of lines; returns when they are durable (``POST /api/v1/ingest``)."""

    def __call__(
        self,
        data: bytes,
        *,
        source: str,
        service: str | None,
        environment: str | None,
        key: str | None,
        detail: bool = False,
    ) -> dict[str, Any]:
        """``{"received", "stored", "duplicates", "rejected": [{"line", "reason"}]}``, in ``detail`` also
        ``events``, ``logs`` and ``blank``.
        """


def _not_here(*_: object) -> dict[str, Any]:
    raise TocsinError("this server cannot do that; use the one that `tocsin up` starts")


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that a page may ask.

    ``connect``: a DuckDB connection whose ``events`` holds every event acknowledged so far, closed with the
    block; with a time (µs) only files with events since then are opened. ``query``: one guarded SELECT.
    ``catalogue``, ``runbooks``: as last loaded without faults; ``faults``: of the files as they are now.
    ``sources``: one row per source (see docs/server.md). ``status``: health of every part of the process.
    ``wake``: tells the steps of the flow that there is something to do. ``drill``: walks one alert through.
    ``run_runbook``: (id, inputs, dry run, who) -> the JSON of ``tocsin runbook run``. ``test_channel``: sends
    a test notification. ``load``: (paths, service, source) -> the JSON of ``tocsin ingest``.
    """

    settings: Settings
    clock: Clock
    state: State
    connect: Callable[[int | None], AbstractContextManager[duckdb.DuckDBPyConnection]]
    query: Callable[[str, int], Result]
    catalogue: Callable[[], Catalogue]
    runbooks: Callable[[], Mapping[str, Runbook]]
    faults: Callable[[], Sequence[Fault]]
    sources: Callable[[], list[dict[str, Any]]]
    status: Callable[[], dict[str, Any]]
    wake: Callable[[], None]
    ingest: Ingest
    drill: Callable[[str], dict[str, Any]]
    token: str | None
    operator_token: str
    run_runbook: Callable[[str, Mapping[str, str], bool, str], dict[str, Any]] = _not_here
    test_channel: Callable[[str], dict[str, Any]] = _not_here
    load: Callable[[Sequence[Path], str | None, str | None], dict[str, Any]] = _not_here
