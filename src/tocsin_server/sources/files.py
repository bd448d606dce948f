"""A regular file is its own log: it is parsed straight into Parquet and published by one manifest
transaction.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tocsin_server.chunks import CHUNK_BYTES, Chunk, cut
from tocsin_server.clock import Clock
from tocsin_server.errors import TocsinError
from tocsin_server.load import Books, Loader, Options, Origin, Workers
from tocsin_server.sources.checkpoint import Checkpoint
from tocsin_server.sources.identity import Fingerprint, longest_known
from tocsin_server.store import Store
from tocsin_server.store.manifest import Content

#: What is hashed at once: small enough that the allocator gives the same memory again.
_BLOCK_BYTES = 1 << 20
#: How far before the end of a chunk a newline is looked for.
_WINDOW_BYTES = 1 << 16

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "zcat"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstdcat"),
    b"\xfd7zXZ\x00": ("xz", "xzcat"),
    b"BZh": ("bzip2", "bzcat"),
}


def load_file(store: Store, path: Path, clock: Clock, options: Options) -> Books:
    """Loads what is new of ``path``, durably; use inside ``store.writing()``.

    The same bytes add nothing under any name. A file that grew continues where it ended; a last line that had
    no newline then is read again and replaces what was made of it.

    Raises TocsinError when the path cannot be read, is no regular file, is compressed, or is followed by a
    server that has not read it to its end.
    """
    fd = _open(path)
    try:
        length = os.fstat(fd).st_size
        if _is_followed(store, fd, path, length):
            return Books()
        contents = store.manifest.contents(up_to=length)
        known = longest_known(_blocks(fd, path, 0, length), contents) if contents else None
        if length == 0 or (known and known.length == length):
            return Books()
        return _load(store, fd, path, length, known, clock(), options)
    finally:
        os.close(fd)


def _is_followed(store: Store, fd: int, path: Path, length: int) -> bool:
    """Whether a server follows this very file and has loaded all of it."""
    status = os.fstat(fd)
    points = (Checkpoint.from_row(row) for row in store.manifest.checkpoints().values())
    mine = (point for point in points if point.identity == (status.st_dev, status.st_ino))
    offset = max((point.offset for point in mine if point.fits(fd)), default=0)
    if 0 < offset < length:
        raise TocsinError(
            f"{path} is followed by `tocsin up`, which has read {offset} of its {length} bytes:"
            " let that read the rest"
        )
    return offset > 0


def known_length(store: Store, fd: int, length: int) -> int:
    """How many first bytes of an open file are loaded already, as whole lines; 0 if none."""
    contents = store.manifest.contents(up_to=length)
    known = longest_known(_blocks(fd, Path("the file"), 0, length), contents) if contents else None
    return known.length - known.tail if known else 0


def check_readable(path: Path) -> None:
    """Raises TocsinError unless ``path`` is ``-`` or :func:`load_file` could read it."""
    if str(path) != "-":
        os.close(_open(path))


def _load(
    store: Store, fd: int, path: Path, length: int, known: Content | None, now: int, options: Options
) -> Books:
    manifest = store.manifest
    source = known.source if known else options.source or _name(path)
    next_position, newest_ts = manifest.source(source)
    start = known.length - known.tail if known else 0
    continues = known is not None and known.base + known.length == next_position
    base = known.base if known and continues else next_position - start
    tail = 0

    def chunks() -> Iterator[Chunk]:
        nonlocal tail
        for chunk in cut(_lines(fd, path, start, length), start):
            tail = chunk.length if chunk.is_tail else 0
            yield chunk

    with Workers(options.threads) as workers, ThreadPoolExecutor(1, "sha256") as pool:
        identity = pool.submit(_fingerprint, fd, path, length)
        loader = Loader(store, options, Origin(source, base, newest_ts, now, is_history=True), workers)
        loader.run(chunks())
        whole = identity.result()
    with manifest.transaction():
        if manifest.source(source)[0] != next_position:
            raise TocsinError(f"{source} was loaded by somebody else meanwhile: load {path} again")
        if known and known.tail:
            manifest.remove_tail(known.id)
        content = manifest.begin_content(source, base, now)
        loader.publish(content)
        manifest.finish_content(
            Content(content, source, base, length, whole.head, whole.sha256, tail), loader.books.as_json()
        )
        manifest.set_source(source, base + length, loader.newest_ts)
    return loader.books


def _name(path: Path) -> str:
    """The path as text, also when it is not valid Unicode."""
    return os.fsencode(os.path.normpath(path)).decode("utf-8", "backslashreplace")


def _open(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a named pipe must not make us wait
    except OSError as error:
        raise TocsinError(
            f"cannot read {path}: {error.strerror}; check the path and its permissions"
        ) from None
    refusal = _refusal(fd, path)
    if refusal:
        os.close(fd)
        raise TocsinError(f"{path} {refusal}")
    return fd


def _refusal(fd: int, path: Path) -> str | None:
    """Why no lines can be read from here, and what to do; None if they can."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        return "is a directory: name the files in it"
    if not stat.S_ISREG(mode):
        return "is no regular file: pipe it instead, `… | tocsin ingest - --source NAME`"
    start = os.pread(fd, 8, 0)
    for magic, (name, command) in _COMPRESSED.items():
        if start.startswith(magic):
            return f"is compressed ({name}): `{command} {path} | tocsin ingest - --source NAME`"
    return None


def _lines(fd: int, path: Path, start: int, length: int) -> Iterator[bytes]:
    """The file in large blocks that end with a newline where one is near: nobody needs to copy them."""
    while start < length:
        end = min(start + CHUNK_BYTES, length)
        if end < length:
            window = os.pread(fd, min(_WINDOW_BYTES, end - start), max(start, end - _WINDOW_BYTES))
            end -= len(window) - (window.rfind(b"\n") + 1 or len(window))
        yield from _blocks(fd, path, start, end, CHUNK_BYTES)
        start = end


def _blocks(fd: int, path: Path, start: int, length: int, size: int = _BLOCK_BYTES) -> Iterator[bytes]:
    while start < length:
        block = os.pread(fd, min(size, length - start), start)
        if not block:
            raise TocsinError(
                f"{path} became shorter while it was read: nothing of it was loaded; load it again"
            )
        yield block
        start += len(block)


def _fingerprint(fd: int, path: Path, length: int) -> Fingerprint:
    whole = Fingerprint()
    for block in _blocks(fd, path, 0, length):
        whole.update(block)
    return whole
