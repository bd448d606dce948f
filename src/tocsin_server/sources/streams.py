"""A stream cannot be read a second time: its lines go through the spool, and from there into Parquet."""

from __future__ import annotations

import hashlib
import os
import secrets
import select
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import IO

from tocsin_server.chunks import CHUNK_BYTES, KEPT_BYTES, Chunk
from tocsin_server.clock import SECOND_US, Clock
from tocsin_server.load import Books, Loader, Options, Origin, Workers
from tocsin_server.sources.identity import Fingerprint, longest_known
from tocsin_server.spool import Batch, Recovery, Segment, read_segment, segments, sync_directory
from tocsin_server.store import Store
from tocsin_server.store.manifest import HEAD_BYTES, Content

SEGMENT_BYTES = 64 << 20
SEGMENT_US = 60 * SECOND_US
_READ_BYTES = 1 << 20
_COMMIT_BYTES = 4 << 20


def load_stream(store: Store, fd: int, clock: Clock, options: Options, stop: int | None = None) -> Books:
    """Loads a stream until its end, or until the file descriptor ``stop`` becomes readable; use inside
    ``store.writing()``.

    Lines are durable in the spool as soon as the writer pauses, at the latest after 4 MiB, and in the events
    table every 64 MiB or minute. Without ``options.source`` a stream has no identity and everything is new.
    With one, a stream that begins like one already loaded under this name is held back for as long as that
    one was, and what is known is skipped; a last line that had no newline is read again.
    """
    stream = _Stream(store, fd, clock, options, stop)
    stream.run()
    return stream.books


def recover_spool(store: Store, options: Options) -> Recovery:
    """Seals what a crashed process left in the spool; use inside ``store.writing()``."""
    recovery = Recovery()
    for path in segments(store.spool):
        recovery.add(seal(store, path, options)[1])
    return recovery


def seal(
    store: Store, path: Path, options: Options, workers: Workers | None = None
) -> tuple[Books, Recovery]:
    """Makes one segment's lines events, in one manifest transaction that also says so of the segment, and
    deletes it. What is damaged is kept in the quarantine folder first.

    Whoever seals often hands in the ``workers``. A segment that was sealed before is only deleted.
    """
    books, recovery = Books(), Recovery()
    if path.name in store.manifest.sealed_segments():
        _delete(store, path)
        return books, recovery
    places: dict[str, tuple[int, int | None]] = {}
    with nullcontext(workers) if workers else Workers(options.threads) as crew:
        runs = [_parsed(store, run, options, crew, places) for run in _runs(read_segment(path, recovery))]
    with store.manifest.transaction():
        for batches, base, loader in runs:
            _publish(store, batches, base, loader)
            books.add(loader.books)
        for source, (next_position, newest_ts) in places.items():
            store.manifest.set_source(source, next_position, newest_ts)
        _keep(store.quarantine, path.name, recovery.quarantined)
        store.manifest.add_sealed_segment(path.name)
    _delete(store, path)
    return books, recovery


def _keep(folder: Path, segment: str, broken: list[bytes]) -> None:
    for number, data in enumerate(broken):
        fd = os.open(folder / f"{segment}.{number}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
    if broken:
        sync_directory(folder)


def _runs(batches: Iterator[Batch]) -> list[list[Batch]]:
    """Batches of one source that follow each other without a gap; other sources may stand between them."""
    runs: list[list[Batch]] = []
    open_runs: dict[tuple[str, str | None, str | None, bool], list[Batch]] = {}
    for batch in batches:
        kind = (batch.source, batch.service, batch.environment, bool(batch.stream_sha256))
        run = open_runs.get(kind)
        if run is None or batch.position != run[-1].position + run[-1].length:
            run = open_runs[kind] = []
            runs.append(run)
        run.append(batch)
    return runs


def _parsed(
    store: Store,
    batches: list[Batch],
    options: Options,
    workers: Workers,
    places: dict[str, tuple[int, int | None]],
) -> tuple[list[Batch], int, Loader]:
    """A run in files that nobody sees yet; moves ``places``: source -> (next position, newest time)."""
    first, last = batches[0], batches[-1]
    end = last.position + last.length
    next_position, newest_ts = places.get(first.source) or store.manifest.source(first.source)
    base = end - last.stream_length if last.stream_sha256 else 0
    origin = Origin(first.source, base, newest_ts, last.received_at, is_history=options.replay)
    said = replace(options, service=first.service, environment=first.environment)
    loader = Loader(store, said, origin, workers)
    loader.run(_chunks(batches, base))
    places[first.source] = (max(next_position, end), loader.newest_ts)
    return batches, base, loader


def _publish(store: Store, batches: list[Batch], base: int, loader: Loader) -> None:
    """Makes a run part of the events table, with all that its batches say besides; in a transaction."""
    manifest, first, last = store.manifest, batches[0], batches[-1]
    if first.supersedes is not None:
        manifest.remove_tail(first.supersedes)
    if last.stream_sha256:
        content = manifest.begin_content(first.source, base, last.received_at)
        loader.publish(content)
        head, sha256 = bytes.fromhex(last.stream_head), bytes.fromhex(last.stream_sha256)
        tail = last.length if last.is_tail else 0
        known = Content(content, first.source, base, last.stream_length, head, sha256, tail)
        manifest.finish_content(known, loader.books.as_json())
    else:
        content = manifest.live_content(first.source, last.received_at)
        loader.publish(content)
        manifest.add_books(content, loader.books.as_json())
    for batch in batches:
        if batch.checkpoint is not None:
            manifest.set_checkpoint(*batch.checkpoint)
        if batch.key is not None:
            manifest.set_batch_answer(batch.key, batch.received_at, batch.answer or {})


def _chunks(batches: list[Batch], base: int) -> Iterator[Chunk]:
    """The batches' lines in larger pieces; a batch whose data is not its bytes of the source stands alone.

    Positions are those of the stream, whose first byte is position ``base`` of the source.
    """
    run: list[Batch] = []
    for batch in batches:
        exact = batch.length == len(batch.data)
        if run and (not exact or sum(b.length for b in run) >= CHUNK_BYTES):
            yield _chunk(run, base)
            run = []
        run.append(batch)
        if not exact:
            yield _chunk(run, base)
            run = []
    if run:
        yield _chunk(run, base)


def _chunk(run: list[Batch], base: int) -> Chunk:
    data = b"".join(batch.data for batch in run)
    return Chunk(run[0].position - base, sum(batch.length for batch in run), data, run[-1].is_tail)


def _delete(store: Store, path: Path) -> None:
    path.unlink(missing_ok=True)
    sync_directory(store.spool)
    with store.manifest.transaction():
        store.manifest.forget_segment(path.name)


class _Stream:
    """One run of ``tocsin ingest -``."""

    def __init__(self, store: Store, fd: int, clock: Clock, options: Options, stop: int | None) -> None:
        self.books = Books()
        self._stop = stop
        self._watched = [fd] if stop is None else [fd, stop]
        self._store, self._fd, self._clock, self._options = store, fd, clock, options
        self._source = options.source or f"stdin-{secrets.token_hex(4)}"
        self._read = Fingerprint()
        self._emitted = 0
        self._base = 0
        self._carry = b""
        self._skipped = 0
        self._supersedes: int | None = None
        self._segment: Segment | None = None
        self._opened_at = 0
        self._uncommitted = 0

    def run(self) -> None:
        for block in self._unknown(self._blocks()):
            self._take(block)
        if self._carry:
            self._emit(self._carry + b"\n", is_tail=True)
        self._seal()

    def _blocks(self) -> Iterator[bytes]:
        """What the writer prints."""
        while self._ready() and (block := os.read(self._fd, _READ_BYTES)):
            yield block

    def _ready(self) -> bool:
        """Waits for the writer; while it pauses, what was read is made durable and, after a minute, sealed.
        False when told to stop.
        """
        ready = select.select(self._watched, [], [], 0)[0]
        if not ready:
            self._commit()
            ready = select.select(self._watched, [], [], SEGMENT_US / SECOND_US if self._segment else None)[0]
        if not ready:
            self._seal()
            select.select(self._watched, [], [])
        return not self._is_stopped()

    def _is_stopped(self) -> bool:
        return self._stop is not None and bool(select.select([self._stop], [], [], 0)[0])

    def _unknown(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The blocks without the bytes that are loaded already under this source's name."""
        known = self._store.manifest.contents(source=self._source) if self._options.source else []
        with tempfile.TemporaryFile(dir=self._store.spool) as held:
            if known:
                _hold(held, blocks, HEAD_BYTES)
                known = [content for content in known if _head(held, content.length) == content.head]
            if known:
                _hold(held, blocks, known[-1].length + 1)  # one more: does a last line without newline go on?
                if self._is_stopped():  # these bytes are probably loaded: nothing says that they differ
                    return
            start = self._start(longest_known(_replay(held), known), held.seek(0, os.SEEK_END))
            for block in _replay(held):
                skip = max(0, min(len(block), start - self._read.length))
                if skip:
                    self._read.update(block[:skip])
                    self._emitted = self._read.length
                yield block[skip:]
        yield from blocks

    def _start(self, content: Content | None, length: int) -> int:
        """Where in the stream, of which ``length`` bytes are held, the unknown begins; sets its place in the
        source.
        """
        next_position, _newest = self._store.manifest.source(self._source)
        start = content.length if content else 0
        if content and content.tail and length > start:
            start -= content.tail
            self._supersedes = content.id
        continues = content is not None and content.base + content.length == next_position
        self._base = content.base if content and continues else next_position - start
        return start

    def _take(self, block: bytes) -> None:
        if self._skipped:
            first = block.find(b"\n") + 1
            self._read.update(block[:first] if first else block)
            if not first:
                return
            self._emit(self._carry + b"\n")
            self._carry, self._skipped, block = b"", 0, block[first:]
        end = block.rfind(b"\n") + 1
        if end:
            self._read.update(block[:end])
            self._emit(self._carry + block[:end])
            self._carry = b""
        self._read.update(block[end:])
        self._carry += block[end:]
        if len(self._carry) > KEPT_BYTES:
            self._skipped = len(self._carry) - KEPT_BYTES
            self._carry = self._carry[:KEPT_BYTES]

    def _emit(self, data: bytes, *, is_tail: bool = False) -> None:
        """Appends lines that reach from the last one emitted to where the stream is read."""
        now = self._clock()
        if self._segment is None:
            self._segment, self._opened_at = Segment(self._store.spool, now), now
        self._segment.append(
            Batch(
                source=self._source,
                position=self._base + self._emitted,
                length=self._read.length - self._emitted,
                received_at=now,
                data=data,
                service=self._options.service,
                stream_length=self._read.length,
                stream_head=self._read.head.hex(),
                stream_sha256=self._read.sha256.hex(),
                is_tail=is_tail,
                supersedes=self._supersedes,
            )
        )
        self._emitted, self._supersedes = self._read.length, None
        self._uncommitted += len(data)
        if self._uncommitted >= _COMMIT_BYTES:
            self._commit()
        if self._segment.bytes >= SEGMENT_BYTES or now - self._opened_at >= SEGMENT_US:
            self._seal()

    def _commit(self) -> None:
        if self._segment and self._uncommitted:
            self._segment.commit()
            self._uncommitted = 0

    def _seal(self) -> None:
        if self._segment is None:
            return
        self._commit()
        self._segment.close()
        path, self._segment = self._segment.path, None
        self.books.add(seal(self._store, path, self._options)[0])


def _hold(held: IO[bytes], blocks: Iterator[bytes], length: int) -> None:
    while held.tell() < length and (block := next(blocks, b"")):
        held.write(block)


def _replay(held: IO[bytes]) -> Iterator[bytes]:
    held.seek(0)
    while block := held.read(_READ_BYTES):
        yield block


def _head(held: IO[bytes], length: int) -> bytes:
    """SHA-256 of the first bytes held, as a content of ``length`` bytes would have it; leaves the file at its
    end.
    """
    held.seek(0)
    head = held.read(min(HEAD_BYTES, length))
    held.seek(0, os.SEEK_END)
    return hashlib.sha256(head).digest()
