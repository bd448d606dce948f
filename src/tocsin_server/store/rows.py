"""Events as Arrow, so that DuckDB reads them without copying them row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nanoarrow as na
import orjson

from tocsin_server.columns import Event
from tocsin_server.store.parquet import STORED

#: The stored columns that differ from row to row: all but the two that a load has once.
BATCH: dict[str, str] = {name: kind for name, kind in STORED.items() if name not in ("source", "received_at")}

_ARROW = {
    "VARCHAR": na.string(),
    "JSON": na.string(),
    "BIGINT": na.int64(),
    "INTEGER": na.int32(),
    "DOUBLE": na.float64(),
    "BOOLEAN": na.bool_(),
    "TIMESTAMPTZ": na.int64(),
}


def attrs_json(attrs: dict[str, Any] | None) -> str | None:
    """The stored text of an event's other fields: compact JSON, keys sorted, NULL when there are none."""
    if not attrs:
        return None
    return orjson.dumps(attrs, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()


def arrow_rows(events: Sequence[Event], positions: Sequence[int]) -> Any:
    """An Arrow struct array, one field per column of a batch; times stay µs integers (see
    :data:`ROWS_SELECT`).
    """
    columns: dict[str, list[Any]] = {
        name: [getattr(event, name) for event in events]
        for name in BATCH
        if name not in ("position", "own_id", "attrs")
    }
    columns["position"] = list(positions)
    columns["own_id"] = [event.event_id for event in events]
    columns["attrs"] = [attrs_json(event.attrs) for event in events]
    types = {name: _ARROW[kind] for name, kind in BATCH.items()}
    children = [na.c_array(columns[name], kind) for name, kind in types.items()]
    return na.Array(na.c_array_from_buffers(na.struct(types), len(events), [None], children=children))


#: Select list that turns such an array into a batch.
ROWS_SELECT = ", ".join(
    f"make_timestamptz({name}) AS {name}" if kind == "TIMESTAMPTZ" else f'{name}::{kind} AS "{name}"'
    for name, kind in BATCH.items()
)
