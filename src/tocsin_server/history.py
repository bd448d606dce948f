"""History given as files: loaded into a store that lasts as long as the question."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tocsin_server.clock import Clock
from tocsin_server.load import Books, Options
from tocsin_server.sources import load_file, load_stream
from tocsin_server.store import Store


@contextmanager
def temporary_store(
    paths: Sequence[Path], clock: Clock, progress: Callable[[int], None] = lambda _bytes: None
) -> Iterator[tuple[Store, Books]]:
    """A store of the lines of ``paths`` (``-`` is standard input), and what was counted.

    Times are taken as they are: a history may lie in the future. Raises TocsinError when a path cannot be
    read.
    """
    with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
        store = Store.create(Path(folder))
        try:
            books = Books()
            options = Options(replay=True, progress=progress)
            with store.writing():
                for path in paths:
                    stdin = str(path) == "-"
                    books.add(
                        load_stream(store, 0, clock, options)
                        if stdin
                        else load_file(store, path, clock, options)
                    )
            yield store, books
        finally:
            store.close()
