"""Events that were delivered before: the same ``event_id`` of the line's own, at most 24 h of event time
away.

``product.md``, Identity; row I6. Ids that Tocsin made of source and position cannot repeat.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence

import duckdb
import nanoarrow as na

from tocsin_server.store import Store, duckdb_connection, parquet
from tocsin_server.store.manifest import SealedFile

_DAY_US = 86_400_000_000

#: (own id, event time in µs, event name, position, number of the new file or -1 for a stored one)
_Row = tuple[str, int, str, int, int]


def drop_duplicates(store: Store, files: list[SealedFile]) -> tuple[list[SealedFile], Counter[str]]:
    """Withdraws from ``files``, which are not published yet, the events that came before: in the store, or
    earlier in these files.

    Files that lose events are written again. Answers the files and, by event name, how many events went.
    """
    new = [file for file in files if file.own_ids]
    with duckdb_connection() as connection:
        repeated = list(_repeated(connection, store, new))
        gone = list(_later(repeated))
        kept = [file for file in files if not file.own_ids]
        for number, file in enumerate(new):
            positions = [position for _, _, _, position, at_file in gone if at_file == number]
            kept += _without(connection, store, file, positions) if positions else [file]
    return kept, Counter(name for _, _, name, _, _ in gone)


def _repeated(connection: duckdb.DuckDBPyConnection, store: Store, new: list[SealedFile]) -> Sequence[_Row]:
    """Events whose id occurs more than once, by id, stored ones first, then as they came."""
    low, high = min(f.min_ts for f in new) - _DAY_US, max(f.max_ts for f in new) + _DAY_US
    old = [f for f in store.manifest.files() if f.own_ids and f.max_ts >= low and f.min_ts <= high]
    groups = [(number, [file]) for number, file in enumerate(new)] + ([(-1, old)] if old else [])
    parts = (
        f"SELECT own_id, epoch_us(ts) AS at_us, name, position, {number} AS file"
        f" FROM {parquet.scan(store.paths(group))} WHERE own_id IS NOT NULL"
        for number, group in groups
    )
    connection.execute(f"CREATE TEMP TABLE ids AS {' UNION ALL '.join(parts)}")
    return connection.execute(
        "SELECT * FROM ids WHERE own_id IN (SELECT own_id FROM ids GROUP BY own_id HAVING count(*) > 1)"
        " ORDER BY own_id, file >= 0, position"
    ).fetchall()


def _later(rows: Sequence[_Row]) -> Iterator[_Row]:
    """New events within 24 h of one with the same id that is kept."""
    own_id, kept = "", list[int]()
    for row in rows:
        if row[0] != own_id:
            own_id, kept = row[0], []
        if row[4] >= 0 and any(abs(row[1] - at_us) <= _DAY_US for at_us in kept):
            yield row
        else:
            kept.append(row[1])


def _without(
    connection: duckdb.DuckDBPyConnection, store: Store, file: SealedFile, positions: list[int]
) -> list[SealedFile]:
    """The file without the events at ``positions``: a new file, or none when nothing is left."""
    old = store.events / file.name
    left = file.rows - len(positions)
    if not left:
        old.unlink()
        return []
    path = old.with_name(f"{old.stem}-{secrets.token_hex(3)}.parquet")
    schema = na.struct({"position": na.int64()})
    gone = na.c_array_from_buffers(
        schema, len(positions), [None], children=[na.c_array(positions, na.int64())]
    )
    connection.register("gone", na.Array(gone))
    parquet.write(
        connection,
        f"SELECT * FROM {parquet.scan([old])} WHERE position NOT IN (SELECT position FROM gone)",
        path,
    )
    connection.unregister("gone")
    old.unlink()
    query = f"SELECT epoch_us(min(ts)), epoch_us(max(ts)), count(own_id) FROM {parquet.scan([path])}"
    min_ts, max_ts, own_ids = connection.execute(query).fetchall()[0]
    name = str(path.relative_to(store.events))
    return [SealedFile(name, left, path.stat().st_size, min_ts, max_ts, own_ids, file.is_tail)]
