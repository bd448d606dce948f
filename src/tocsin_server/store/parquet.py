"""The shape of the events on disk: Parquet, zstd, one folder a day; and the view that makes them the events
table.

Two columns of the table are not stored as they are shown: a line without an ``event_id`` of its own stores
only its ``position`` (a delta-coded integer of two bytes instead of a text of thirty), and the view spells
the id.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import duckdb

from tocsin_server.columns import COLUMNS, CREATE_EVENTS

#: Column name -> DuckDB type of the sealed files.
STORED: dict[str, str] = {
    "position": "BIGINT",
    "own_id": "VARCHAR",
    **{name: kind for name, kind in COLUMNS.items() if name != "event_id"},
}

#: Written in place, into a file with the right mode: DuckDB's own temporary file would be readable by all.
_COPY_OPTIONS = (
    "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARQUET_VERSION v2, USE_TMP_FILE false"
)

#: Digits of a position in an event id, so that ids of one source sort as its lines do (up to 1 PB).
_POSITION_DIGITS = 15

EVENT_ID = f"coalesce(own_id, source || ':' || lpad(position::VARCHAR, {_POSITION_DIGITS}, '0'))"


def event_id(source: str, position: int) -> str:
    """The id of a line that has none of its own (``product.md``, Identity)."""
    return f"{source}:{position:0{_POSITION_DIGITS}d}"


def write(connection: duckdb.DuckDBPyConnection, select: str, path: Path) -> None:
    """Writes the rows of ``select`` (columns as :data:`STORED`) to ``path`` and makes the file durable.

    Raises duckdb.Error and leaves no file when that fails.
    """
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    try:
        connection.execute(f"COPY ({select}) TO '{_quote(path)}' ({_COPY_OPTIONS})")
    except duckdb.Error:
        path.unlink(missing_ok=True)  # a full disk must not be filled with halves of files
        raise
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def create_view(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path], *, temporary: bool = False
) -> None:
    """Makes ``events`` on ``connection``: a view over the sealed files, or an empty table.

    ``temporary``: for this connection alone, when others share its database.
    """
    kind = "CREATE TEMP" if temporary else "CREATE"
    if not files:
        connection.execute(CREATE_EVENTS.replace("CREATE", kind, 1))
        return
    columns = ", ".join(f"{EVENT_ID} AS event_id" if name == "event_id" else f'"{name}"' for name in COLUMNS)
    connection.execute(f"{kind} VIEW events AS SELECT {columns} FROM {scan(files)}")


def scan(files: Sequence[Path]) -> str:
    """The FROM item that reads the sealed files."""
    listed = ", ".join(f"'{_quote(path)}'" for path in files)
    return f"read_parquet([{listed}], hive_partitioning = false)"


def _quote(path: Path) -> str:
    return str(path).replace("'", "''")
