"""The store: a data folder, its manifest and its Parquet files.

    DIR/manifest.db      what is loaded, refused and published (SQLite)
    DIR/events/day=…/    sealed events (Parquet)
    DIR/spool/           lines of streams that are not sealed yet
    DIR/quarantine/      damaged spool batches, kept for a human
    DIR/lock             held by the one process that writes

Readers need no lock: they see the manifest's last transaction.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from tocsin_server.errors import TocsinError
from tocsin_server.spool import segments, sync_directory
from tocsin_server.store import parquet
from tocsin_server.store.manifest import Manifest, SealedFile

_LOCK_TRIES, _LOCK_PAUSE_S = 4, 0.02


class Store:
    """One data folder. :meth:`create` makes it when it does not exist; :meth:`open` refuses to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events = folder / "events"
        self.spool = folder / "spool"
        self.quarantine = folder / "quarantine"
        self.manifest = Manifest(folder / "manifest.db")

    @classmethod
    def create(cls, folder: Path) -> Store:
        """Opens the folder, making it (mode 0700) if there is none."""
        try:
            for path in (folder, folder / "events", folder / "spool", folder / "quarantine"):
                _make_folder(path)
        except OSError as error:
            raise TocsinError(
                f"cannot make the data folder {folder}: {error.strerror}; choose one with --data"
            ) from None
        store = cls(folder)
        sync_directory(folder)
        return store

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Opens an existing folder for reading."""
        if not (folder / "manifest.db").exists():
            raise TocsinError(f"no data in {folder}: load some with `tocsin ingest FILE --data {folder}`")
        return cls(folder)

    def close(self) -> None:
        """Closes the manifest."""
        self.manifest.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Makes this process the folder's one writer, and first clears what a crashed writer left behind.

        Raises TocsinError naming the other writer's pid. The lock dies with its process.
        """
        fd = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            if not _lock(fd):
                pid = os.pread(fd, 32, 0).decode().strip() or "unknown"
                raise TocsinError(
                    f"{self.folder} is being written by process {pid}: wait for it, or choose another --data"
                )
            os.truncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
            self._remove_orphans()
            yield
        finally:
            os.close(fd)

    def _remove_orphans(self) -> None:
        """Deletes files that no published manifest row names: of a crashed load, or withdrawn by an earlier
        one. Not at the end of a load: a reader may just have been told of the withdrawn file.
        """
        published = {file.name for file in self.manifest.files()}
        for path in self.events.glob("day=*/*.parquet"):
            if str(path.relative_to(self.events)) not in published:
                path.unlink()

    def has_spooled_lines(self) -> bool:
        """Whether the spool holds segments: of a running writer, or of one that crashed."""
        return bool(segments(self.spool))

    def expire(self, now_us: int) -> None:
        """Deletes what is kept for a time only; use inside :meth:`writing`."""
        with self.manifest.transaction():
            self.manifest.expire_dead_letters(now_us)

    def day_folder(self, day: str) -> Path:
        """The folder of one UTC day (``2026-11-23``), made durable if new."""
        folder = self.events / f"day={day}"
        _make_folder(folder)
        return folder

    def paths(self, files: list[SealedFile] | None = None) -> list[Path]:
        """Where the given files (default: all published ones) lie."""
        return [self.events / file.name for file in (self.manifest.files() if files is None else files)]

    def connect(self, threads: int | None = None, since_us: int | None = None) -> duckdb.DuckDBPyConnection:
        """A new in-memory DuckDB connection whose ``events`` is this folder as of now, UTC; with
        ``since_us`` only the files with events after that time (µs).
        """
        connection = duckdb_connection(threads)
        parquet.create_view(connection, self.paths(self.files(since_us)))
        return connection

    def files(self, since_us: int | None = None) -> list[SealedFile]:
        """The published files, all or those with events after a time (µs)."""
        files = self.manifest.files()
        return files if since_us is None else [file for file in files if file.max_ts > since_us]


def writer(folder: Path) -> int | None:
    """The pid of the process that writes to a data folder now; None when none does. Raises OSError or
    ValueError when that cannot be found out.
    """
    fd = os.open(folder / "lock", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(fd, 32, 0))
    finally:
        os.close(fd)
    return None


def _lock(fd: int) -> bool:
    """Whether the lock is ours now; who asks for the :func:`writer` holds it for a moment."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_LOCK_PAUSE_S)
        else:
            return True
    return False


def _make_folder(folder: Path) -> None:
    """Makes the folder (mode 0700) and those above it, durably."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_directory(folder.parent)


def duckdb_connection(threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB in UTC that loads no extension and keeps the order of rows."""
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "async_threads": 1,  # for files on other machines, of which there are none; 8 by default
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET temp_directory = ''")  # lines that are not redacted yet must not spill to disk
    if threads:
        connection.execute(f"SET threads = {threads:d}")
    return connection


def day_of(ts_us: int) -> str:
    """The UTC day (``2026-11-23``) of a time in µs."""
    return datetime.fromtimestamp(ts_us // 1_000_000, UTC).date().isoformat()
