"""Running guarded SQL: the locked connection, the limits, and the answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from tocsin_server.errors import TocsinError
from tocsin_server.sql.guard import MAX_DEPTH, guard

MAX_ROWS = 100_000
_MIB = 1 << 20
_LESS = "narrow the time range with ts, or group by fewer columns"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one statement: wall time, DuckDB's memory (give it to :func:`lock`), rows of the answer."""

    seconds: float = 10.0
    memory_bytes: int = 256 * _MIB
    rows: int = 5_000


@dataclass(frozen=True, slots=True)
class Result:
    """An answer: unique column names, DuckDB type names, rows of Python values, and if more rows exist.

    A ``TIMESTAMP WITH TIME ZONE`` is an aware ``datetime`` in UTC, beyond the year 9999 it is text; so is
    JSON.
    """

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    truncated: bool


def lock(
    connection: duckdb.DuckDBPyConnection, allowed_directories: Sequence[str], memory_bytes: int, threads: int
) -> None:
    """Close a connection to everything but files below ``allowed_directories``; cannot be undone.

    Views over Parquet files may be made before or after. Nothing spills to disk: a statement that needs more
    than ``memory_bytes`` fails. The time zone is UTC. What a locked connection still can do: see the
    package's text.
    """
    directories = ", ".join("'" + directory.replace("'", "''") + "'" for directory in allowed_directories)
    for setting in (
        "TimeZone = 'UTC'",
        f"threads = {threads:d}",
        f"memory_limit = '{memory_bytes:d}B'",
        "temp_directory = ''",
        "max_temp_directory_size = '0B'",
        f"max_expression_depth = {4 * MAX_DEPTH}",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "allow_community_extensions = false",
        "allow_persistent_secrets = false",
        "python_enable_replacements = false",
        f"allowed_directories = [{directories}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


def run(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    limits: Limits | None = None,
    parameters: Mapping[str, object] | None = None,
) -> Result:
    """Guard ``sql``, run it on a locked connection, and stop it after ``limits.seconds``.

    Raises RefusedSQL when it may not run; TocsinError when it fails, takes too long or needs too much memory.
    """
    limits = limits or Limits()
    if not 1 <= limits.rows <= MAX_ROWS:
        raise TocsinError(
            f"a query answers 1 to {MAX_ROWS} rows, not {limits.rows}; set a number between them"
        )
    statement = guard(sql)
    values = dict(parameters or {})
    with _explained(limits), _interrupted_after(connection, limits.seconds):
        connection.execute(f"SELECT * FROM ({statement}) LIMIT {limits.rows + 1:d}", values)
        columns = [(column[0], str(column[1])) for column in connection.description or ()]
        rows = connection.fetchall()
    return Result(
        columns=[name for name, _ in columns],
        types=[kind for _, kind in columns],
        rows=rows[: limits.rows],
        truncated=len(rows) > limits.rows,
    )


@contextmanager
def _interrupted_after(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


@contextmanager
def _explained(limits: Limits) -> Iterator[None]:
    """DuckDB's errors as one line that says what to do."""
    try:
        yield
    except duckdb.InterruptException:
        raise TocsinError(f"the query was stopped after {limits.seconds:g} s; {_LESS}") from None
    except duckdb.OutOfMemoryException:
        mebibytes = limits.memory_bytes // _MIB
        raise TocsinError(f"the query needs more than {mebibytes} MiB of memory; {_LESS}") from None
    except (duckdb.Error, ValueError, OverflowError) as error:
        message = " ".join(str(error).split("\nLINE")[0].split())
        raise TocsinError(f"the query failed: {message}; correct the statement") from None
