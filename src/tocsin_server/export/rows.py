"""An answer as a table for people, JSON for programs or CSV for spreadsheets; hostile cells are made
harmless.

The rules are those of reliability section 3.4 (log injection, CSV injection; rows I11 and I14): what is
stored stays raw, what is shown has its control, direction and zero-width characters written as escapes, and
no CSV cell starts a formula. JSON is plain ASCII and loses nothing.
"""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tocsin_server.sql import Result
from tocsin_server.visible import visible

if TYPE_CHECKING:  # a server prints no tables and need not hold what does
    from rich.table import Table

#: Characters of a cell that a table shows before it cuts it.
MAX_CELL_CHARACTERS = 500

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def iso_time(moment: datetime) -> str:
    """ISO 8601 with ms, or µs if there are any; ``Z`` for UTC, nothing for a local time."""
    digits = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.isoformat(timespec=digits).replace("+00:00", "Z")


def as_table(result: Result) -> Table:
    """The answer as a Rich table; long cells are cut, and a last row says that there are more."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name, kind in zip(result.columns, result.types, strict=True):
        table.add_column(
            Text(visible(name)), justify="right" if _is_number(kind) else "left", overflow="fold"
        )
    for row in result.rows:
        table.add_row(*(Text(_cut(visible(_text(cell)))) for cell in row))
    if result.truncated:
        table.add_row("… more rows")
    return table


def as_json(result: Result) -> str:
    """The answer as a JSON array of objects; NaN is null, JSON columns are JSON again."""
    columns = list(zip(result.columns, result.types, strict=True))
    objects = [
        {name: _json_cell(cell, kind) for (name, kind), cell in zip(columns, row, strict=True)}
        for row in result.rows
    ]
    return json.dumps(objects, indent=2)


def as_message(result: Result) -> dict[str, Any]:
    """The answer as it goes over the wire; :func:`from_message` makes an answer of it that shows the same."""
    rows = [[_plain(cell) for cell in row] for row in result.rows]
    return {
        "columns": result.columns,
        "types": result.types,
        "rows": rows,
        "truncated": result.truncated,
    }


def from_message(message: dict[str, Any]) -> Result:
    """The answer that :func:`as_message` wrote."""
    rows = [tuple(row) for row in message["rows"]]
    return Result(message["columns"], message["types"], rows, message["truncated"])


def as_csv(result: Result) -> str:
    """The answer as CSV (RFC 4180) with a header, every cell quoted; NULL is an empty cell."""
    target = io.StringIO()
    writer = csv.writer(target, quoting=csv.QUOTE_ALL)
    writer.writerow([_csv_text(name) for name in result.columns])
    writer.writerows([_csv_cell(cell) for cell in row] for row in result.rows)
    return target.getvalue()


def _cut(text: str) -> str:
    more = len(text) - MAX_CELL_CHARACTERS
    return text if more <= 0 else f"{text[:MAX_CELL_CHARACTERS]}… ({more} more characters)"


def _is_number(kind: str) -> bool:
    return kind.startswith(("DECIMAL", "FLOAT", "DOUBLE")) or kind.endswith(("INT", "INTEGER"))


def _text(cell: Any) -> str:
    """One cell as text, as the table and CSV show it."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    plain = _plain(cell)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _csv_cell(cell: Any) -> str:
    if isinstance(cell, int | float | Decimal):
        return _text(cell)
    return _csv_text(_text(cell))


def _csv_text(text: str) -> str:
    return ("'" if text.startswith(_FORMULA) else "") + visible(text)


def _json_cell(cell: Any, kind: str) -> Any:
    if kind == "JSON" and isinstance(cell, str):
        try:
            return _plain(json.loads(cell))
        except (ValueError, RecursionError):
            return cell
    return _plain(cell)


def _plain(value: Any) -> Any:
    """A DuckDB value as JSON has it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime):
        return iso_time(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} s"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {_text(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else str(value)
