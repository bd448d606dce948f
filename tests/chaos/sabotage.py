"""Faults that are put into a server on purpose: the harness must find every one of them (row V1).

    python -m tests.chaos.sabotage FAULT up …

is ``tocsin up …`` with one fault. What a kill must meet is held open for a moment, so that few kills are
enough; nothing of this is reachable from the product.
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tocsin_server import app, incident
from tocsin_server.collector import Collector, Lines
from tocsin_server.notify import outbox
from tocsin_server.sources import streams
from tocsin_server.sources.tail import Tail, TailBatch
from tocsin_server.state.tables import AlertTransition
from tocsin_server.store.manifest import Manifest

_MOMENT_S = 0.3


def ack_before_write() -> None:
    """Lines are acknowledged at once and written a moment later."""
    append = Collector.append

    def later(collector: Collector, batches: Sequence[Lines]) -> None:
        threading.Timer(_MOMENT_S, append, (collector, batches)).start()

    Collector.append = later  # type: ignore[method-assign]


def checkpoint_before_data() -> None:
    """The place in a followed file is durable before its lines are."""
    store = app.Installation._append_tail

    def twice(installation: app.Installation, batch: TailBatch) -> None:
        point = batch.checkpoint
        identity = f"{point.device}:{point.inode}"
        checkpoint = Lines(batch.source, b"", 0, checkpoint=(identity, point.as_row()))
        installation.collector.append([checkpoint])
        time.sleep(_MOMENT_S)
        store(installation, batch)

    app.Installation._append_tail = twice  # type: ignore[method-assign]


def tail_skips_a_piece() -> None:
    """Every other time the tailer goes on without having stored what it read."""
    store, count = Tail._store, 0

    def sometimes(tail: Tail, file: Any, piece: Any, append: Any, now: int) -> bool:
        nonlocal count
        count += 1
        return store(tail, file, piece, (lambda _batch: None) if count % 2 == 0 else append, now)

    Tail._store = sometimes  # type: ignore[method-assign]


def forget_idempotency_keys() -> None:
    """A batch that comes again is new."""
    Collector._answer = lambda _collector, _key: None  # type: ignore[method-assign]


def seal_without_saying_so() -> None:
    """The events of a segment are published, and nothing says that they are: it is sealed again."""
    Manifest.add_sealed_segment = lambda _manifest, _name: None  # type: ignore[method-assign]
    streams._delete = lambda _store, _path: None


def delete_before_publishing() -> None:
    """A segment goes before its events are in the table."""
    publish = streams._publish

    def late(store: Any, batches: Any, *rest: Any) -> None:
        for path in store.spool.iterdir():
            with open(path, "r+b") as file:
                file.truncate()
        time.sleep(_MOMENT_S)
        publish(store, batches, *rest)

    streams._publish = late


def change_a_byte() -> None:
    """One letter of one line in each piece of a log is another one."""
    batch = Collector._batch

    def changed(collector: Collector, lines: Lines, now: int) -> Any:
        data = lines.data.replace(b"zz", b"zy", 1) if lines.checkpoint else lines.data
        return batch(collector, replace(lines, data=data), now)

    Collector._batch = changed  # type: ignore[method-assign]


def refused_lines_are_not_counted() -> None:
    """The books do not say what was refused."""
    add = Manifest.add_books
    Manifest.add_books = lambda m, content, books: add(m, content, books | {"rejected": 0})  # type: ignore[method-assign]


def sent_before_sending() -> None:
    """A message is delivered in the ledger before it is."""
    attempt = outbox.attempt
    unsent: list[tuple[Any, ...]] = []

    def first_the_last_one(*arguments: Any) -> Any:
        unsent.append(arguments)
        if len(unsent) > 1:
            attempt(*unsent.pop(0))
        return outbox.Answer("accepted", "200"), 0.0

    outbox.attempt = first_the_last_one


def another_key_each_time() -> None:
    """The idempotency key does not follow from what is told."""
    take = outbox.ledger.take

    def renamed(*arguments: Any) -> Any:
        taken = take(*arguments)
        return taken and taken._replace(delivery=replace(taken.delivery, key=secrets.token_hex(8)))

    outbox.ledger.take = renamed


def handled_before_it_is_done() -> None:
    """Transitions are marked as handled in a transaction before the one that handles them."""
    consume = incident.step

    def handled(state: Any, *rest: Any) -> int:
        with state.reading() as session:
            waiting = session.query(AlertTransition.id).filter(AlertTransition.handled_at.is_(None)).all()
        ids = [one for (one,) in waiting]
        if not ids:
            return 0
        _mark(state, ids, 0)
        _mark(state, ids, None)  # what a process that lives on would do
        return consume(state, *rest)

    app.incident.step = handled


def _mark(state: Any, ids: list[int], at: int | None) -> None:
    with state.transaction() as session:
        rows = session.query(AlertTransition).filter(AlertTransition.id.in_(ids))
        rows.update({"handled_at": at})


def alert_states_are_not_kept() -> None:
    """What fires is forgotten when the process ends."""
    from tocsin_server import live

    states: dict[Any, Any] = {}
    live._states = lambda _session: dict(states)
    write = live._write_states

    def kept(session: Any, new: Any) -> None:
        write(session, new)
        states.clear()
        states.update(new)

    live._write_states = kept


_ALL: tuple[Callable[[], None], ...] = (
    ack_before_write,
    checkpoint_before_data,
    tail_skips_a_piece,
    forget_idempotency_keys,
    seal_without_saying_so,
    delete_before_publishing,
    change_a_byte,
    refused_lines_are_not_counted,
    sent_before_sending,
    another_key_each_time,
    handled_before_it_is_done,
    alert_states_are_not_kept,
)
FAULTS = {fault.__name__: fault for fault in _ALL}


def command(fault: str) -> list[str]:
    """What runs ``tocsin`` with a fault."""
    root = Path(__file__).parents[2]
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {_MAIN}", fault]


_MAIN = "from tests.chaos import sabotage; sabotage.main()"


def main() -> None:
    """Runs ``tocsin`` with the fault that the first argument names."""
    from tocsin_server import cli

    FAULTS[sys.argv.pop(1)]()
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
