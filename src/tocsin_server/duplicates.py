"""Events that were delivered before: the same ``event_id`` of the line's own, at most 24 h of event time
away.

``product.md``, Identity; row I6. Ids that Tocsin made of source and position cannot repeat.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import duckdb
import nanoarrow as na
import numpy as np
import numpy.typing as npt

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
    size = path.stat().st_size
    return [SealedFile(name, left, size, min_ts, max_ts, own_ids, file.is_tail, file.received_at)]


class RecentIds:
    """Which ids of lines' own came in the last 24 h, so that a sender can be told at once how many of its
    lines came before. What is stored is decided by :func:`drop_duplicates`; here an id is 8 bytes of its
    hash, and a collision (one in 10¹³ for a million ids) would only make the answer wrong by one.
    """

    #: So many new ids are kept aside before they are sorted in.
    _ASIDE = 50_000

    def __init__(self) -> None:
        self._known: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._times: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._aside: dict[int, int] = {}
        self._lock = threading.Lock()

    def load(self, connection: duckdb.DuckDBPyConnection, store: Store, now_us: int) -> None:
        """Reads the ids that are stored."""
        files = [file for file in store.files(now_us - _DAY_US) if file.own_ids]
        if files:
            ids = connection.execute(
                "SELECT own_id, epoch_us(ts) FROM "
                f"{parquet.scan(store.paths(files))} WHERE own_id IS NOT NULL"
            ).fetchall()
            self._aside.update((_hash(own_id), at_us) for own_id, at_us in ids)
            self._sort(now_us)

    def repeated(self, events: Sequence[tuple[str, int]]) -> list[bool]:
        """Which of (own id, event time in µs) came before, in this sequence or earlier."""
        with self._lock:
            seen: dict[int, int] = {}
            found = []
            for own_id, at_us in events:
                key = _hash(own_id)
                before = seen.get(key, self._time(key))
                found.append(before is not None and abs(before - at_us) <= _DAY_US)
                if not found[-1]:
                    seen[key] = at_us
            return found

    def remember(self, events: Sequence[tuple[str, int]], now_us: int) -> None:
        """These are durable now."""
        with self._lock:
            for own_id, at_us in events:
                self._aside.setdefault(_hash(own_id), at_us)
            if len(self._aside) > self._ASIDE:
                self._sort(now_us)

    def _time(self, key: int) -> int | None:
        if key in self._aside:
            return self._aside[key]
        at = int(np.searchsorted(self._known, np.uint64(key)))
        return int(self._times[at]) if at < len(self._known) and int(self._known[at]) == key else None

    def _sort(self, now_us: int) -> None:
        known = np.concatenate((self._known, np.fromiter(self._aside.keys(), np.uint64, len(self._aside))))
        times = np.concatenate((self._times, np.fromiter(self._aside.values(), np.int64, len(self._aside))))
        known, first = np.unique(known[::-1], return_index=True)
        times = times[::-1][first]
        fresh = times > now_us - _DAY_US
        self._known, self._times = known[fresh], times[fresh]
        self._aside.clear()


def _hash(own_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(own_id.encode(), digest_size=8).digest())
