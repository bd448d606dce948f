"""The emitter's own thread, and the bounded queue before it: whoever emits never waits for standard output.

Nothing that the host's code could hold is waited for here: the queue is CPython's own ``SimpleQueue``, whose
``put`` takes no Python lock and may be called from a signal handler, from ``__del__`` and from a value that
is being printed (rules 2 to 4 of the emitter).
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from _queue import Empty, SimpleQueue
from collections.abc import Callable
from typing import Any

from tocsin.guard import ForkSafeLock

#: Most items that wait, and most bytes of those that are large (their makers say so).
ITEMS = 8192
LARGE_BYTES = 8 * 1024 * 1024
#: From here on only important items are taken: a tenth is kept for warnings and errors.
ORDINARY_ITEMS = ITEMS - ITEMS // 10
#: From here on whoever emits gives way to the thread, so that a busy loop does not outrun it …
_CROWDED_ITEMS = ITEMS * 3 // 4
_CROWDED_BYTES = LARGE_BYTES // 2
#: … for so long, and not at all while the thread makes no progress.
_GIVE_WAY_S = 0.001

#: How long an exit may wait for what is still in the queue.
FLUSH_S = 2.0


class _Note:
    """What is in the queue beside items: large bytes that are free again, somebody who waits, the end."""

    __slots__ = ("done", "large_bytes", "stops")

    def __init__(
        self, large_bytes: int = 0, done: SimpleQueue[None] | None = None, *, stops: bool = False
    ) -> None:
        self.large_bytes = large_bytes
        self.done = done
        self.stops = stops


#: Modules whose child processes end without ``atexit``, and what they have in its place.
_FINALIZERS = ("multiprocessing.util", "billiard.util")


class Background:
    """Hands items to ``deliver`` in batches, in a daemon thread that starts with the first item.

    ``linger_s`` is waited after a batch so that more can gather, ``batch`` is the most items of one.
    ``tick`` is called between batches and says in how many seconds it wants to be called again, if at all.
    A forked child starts with an empty queue and, at its first item, with a thread of its own.
    """

    def __init__(
        self,
        deliver: Callable[[list[Any]], None],
        *,
        linger_s: float = 0.005,
        batch: int = 128,
        tick: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._deliver = deliver
        self._linger_s = linger_s
        self._batch = batch
        self._tick = tick
        self._lock = ForkSafeLock()
        self._registered = False
        self.closed = False
        self._reset()

    def _reset(self) -> None:
        """The state of a process that has emitted nothing yet; also of a forked child."""
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._native = 0
        self._large_bytes = 0
        self._delivered = 0
        self._stuck_at = self._gave_up_at = -1

    def put(self, item: Any, large_bytes: int = 0, *, important: bool = False) -> bool:
        """Takes ``item``; False if there is no room for it. Never waits for longer than a millisecond."""
        if self._queue.qsize() >= _CROWDED_ITEMS or self._large_bytes > _CROWDED_BYTES:
            self._give_way()
            if self._queue.qsize() >= (ITEMS if important else ORDINARY_ITEMS):
                return False
        if large_bytes:
            with self._lock:
                if self._large_bytes + large_bytes > LARGE_BYTES:
                    return False
                self._large_bytes += large_bytes
        self._queue.put(item)
        if large_bytes:
            self._queue.put(_Note(large_bytes))
        if self._thread is None:
            self._start()
        return True

    def flush(self, timeout_s: float = FLUSH_S) -> bool:
        """Waits until everything put so far is delivered; False if that took longer.

        Once is enough: while nothing moves since a flush has given up, the next one does not wait. So an exit
        that flushes in several places is not delayed by each.
        """
        if self._thread is None or self.closed or self.is_this_thread():
            return self._queue.empty()
        done: SimpleQueue[None] = SimpleQueue()
        self._queue.put(_Note(done=done))
        self._bell.put(None)
        try:
            done.get(timeout=0 if self._gave_up_at == self._delivered else timeout_s)
        except Empty:
            self._gave_up_at = self._delivered
            return False
        return True

    def close(self) -> None:
        """Delivers what is left, for at most ``FLUSH_S``, and ends the thread; nothing may be put then."""
        flushed = self.flush()
        self.closed = True
        if flushed:
            self._queue.put(_Note(stops=True))
            self._bell.put(None)

    def is_this_thread(self) -> bool:
        """Whether the caller is the thread itself: a sink that emits would never come to an end."""
        return threading.get_ident() == self._native

    # --- whoever emits ---

    def _give_way(self) -> None:
        """Lets the thread work, unless it is stuck in a sink: then waiting would be of no use."""
        if self._stuck_at == self._delivered:
            return
        before = self._delivered
        time.sleep(_GIVE_WAY_S)
        self._stuck_at = self._delivered if self._delivered == before else -1

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="tocsin", daemon=True)
        with self._lock:
            if self._thread is not None:
                return
            self._thread = thread
            if not self._registered:
                self._registered = True
                _register(self)
        for name in _FINALIZERS:
            if module := sys.modules.get(name):
                module.Finalize(None, self.flush, exitpriority=0)
        try:
            _start_natively(thread)
        except RuntimeError:  # no more threads, or the interpreter is ending
            self.closed = True
            self._drain()

    # --- the thread ---

    def _run(self) -> None:
        self._native = threading.get_ident()
        queue, pause_s = self._queue, self._tick()
        while True:
            try:
                entries = [queue.get(timeout=pause_s)]
            except Empty:
                pause_s = self._tick()
                continue
            while len(entries) < self._batch and queue.qsize():
                entries.append(queue.get())
            if self._work(entries):
                return
            pause_s = self._tick()
            if queue.qsize() < self._batch:
                self._linger()

    def _linger(self) -> None:
        try:
            self._bell.get(timeout=self._linger_s)
        except Empty:
            return
        while self._bell.qsize():
            self._bell.get()

    def _drain(self) -> None:
        entries = []
        while self._queue.qsize():
            entries.append(self._queue.get())
        self._work(entries)

    def _work(self, entries: list[Any]) -> bool:
        """Delivers the items and does what the notes say. Whether the end was among them."""
        notes = [entry for entry in entries if type(entry) is _Note]
        items = [entry for entry in entries if type(entry) is not _Note] if notes else entries
        if items:
            self._deliver(items)
            self._delivered += len(items)
        for note in notes:
            if note.large_bytes:
                with self._lock:
                    self._large_bytes -= note.large_bytes
            if note.done is not None:
                note.done.put(None)
        return any(note.stops for note in notes)


def _start_natively(thread: threading.Thread) -> None:
    """Starts a thread of the operating system, also where gevent has put greenlets in the place of threads.

    Raises RuntimeError where there can be none.
    """
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and not (uwsgi.opt.get("enable-threads") or uwsgi.opt.get("threads")):
        raise RuntimeError("uWSGI runs no threads without enable-threads")
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        gevent.get_original("_thread", "start_new_thread")(thread.run, ())
    else:
        thread.start()


def _register(background: Background) -> None:
    """What has to happen at a fork and at the end of the process, for as long as ``background`` is in use."""
    one = weakref.ref(background)

    def after_fork_in_child() -> None:
        if alive := one():
            alive._reset()

    def at_exit() -> None:
        if alive := one():
            alive.close()

    os.register_at_fork(after_in_child=after_fork_in_child)
    atexit.register(at_exit)
