"""``sync.run``: one run of an integration sync, its records counted and its status decided from the counts.

with tocsin.sync.run(provider="oneroster", sync_type="oneroster_user_sync", direction="pull") as run:
    for record in records:
        run.succeeded() if save(record) else run.failed()
"""

from __future__ import annotations

from collections import Counter
from operator import index
from typing import Any, Literal, Self, SupportsIndex

from tocsin.emitter import emit, monotonic_ns
from tocsin.guard import GUARD, ForkSafeLock


class run:  # noqa: N801  # read as a verb: `with tocsin.sync.run(provider="oneroster"):`
    """Counts records, from any thread, and prints ``sync.run`` when the ``with`` block ends.

    ``status`` is error if an exception escapes (``error`` is its class; it goes on), or if records failed and
    none succeeded; partial if some of both; else success, also with no record at all. Never raises.
    """

    def __init__(
        self,
        *,
        provider: str,
        sync_type: str | None = None,
        direction: Literal["push", "pull", "bidirectional"] | None = None,
        run_id: object = None,
    ) -> None:
        """``run_id`` is the application's own id of the run."""
        known = {"provider": provider, "sync_type": sync_type, "direction": direction, "run_id": run_id}
        self._fields = {name: value for name, value in known.items() if value is not None}
        self._counts: Counter[str] = Counter()
        self._lock = ForkSafeLock()

    def succeeded(self, records: SupportsIndex = 1) -> None:
        """So many records were written, or needed no change."""
        self._count("succeeded", records)

    def failed(self, records: SupportsIndex = 1) -> None:
        """So many records could not be written."""
        self._count("failed", records)

    def skipped(self, records: SupportsIndex = 1) -> None:
        """So many records were seen and left out on purpose."""
        self._count("skipped", records)

    @property
    def processed(self) -> int:
        """Records seen so far."""
        with self._lock:
            return self._counts.total()

    def _count(self, outcome: str, records: SupportsIndex) -> None:
        try:
            number = max(0, index(records))
        except Exception as error:
            GUARD.failed("sync", error)
            return
        with self._lock:
            self._counts[outcome] += number

    def __enter__(self) -> Self:
        """Starts the clock."""
        self._started = monotonic_ns()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """Prints the event; an exception goes on."""
        elapsed_ms = round((monotonic_ns() - self._started) / 1e6, 3)
        with self._lock:
            counts = Counter(self._counts)
        fields: dict[str, Any] = {**self._fields, **_outcome(counts, kind), "duration_ms": elapsed_ms}
        emit("sync.run", **fields)

    async def __aenter__(self) -> Self:
        """Starts the clock."""
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """Prints the event; an exception goes on."""
        self.__exit__(kind, error, trace)


def _outcome(counts: Counter[str], failure: type[BaseException] | None) -> dict[str, Any]:
    outcome: dict[str, Any] = {
        "status": "error" if failure is not None else _status(counts),
        "records_processed": counts.total(),
        "records_succeeded": counts["succeeded"],
        "records_failed": counts["failed"],
    }
    if counts["skipped"]:
        outcome["records_skipped"] = counts["skipped"]
    if failure is not None:
        outcome["error"] = failure.__name__
    return outcome


def _status(counts: Counter[str]) -> str:
    """A run in which whatever was tried failed has not ended well, though it ended."""
    if not counts["failed"]:
        return "success"
    return "partial" if counts["succeeded"] else "error"
