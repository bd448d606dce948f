"""``python -m tests.tocsin.bar_apps.exits KIND EVENTS`` emits and ends at once; without tocsin if told so."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import tocsin

if os.environ.get("WITHOUT_TOCSIN"):
    tocsin.emit = lambda name, **fields: None
    tocsin.configure = lambda **settings: None


def _emit(events: int) -> None:
    for i in range(events):
        tocsin.emit("event", i=i)
    tocsin.emit("last")
    _said("emitted")


def _said(text: str) -> None:
    os.write(2, f"{text}\n".encode())


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


def _host_handler(number: int, frame: FrameType | None) -> None:
    _said("host's handler")
    sys.exit(7)


def _normal(events: int) -> None:
    _emit(events)


def _exit(events: int) -> None:
    _emit(events)
    sys.exit(3)


def _exception(events: int) -> None:
    _emit(events)
    raise LookupError


def _thread_exits(events: int) -> None:
    """The main thread ends first; the thread ends by ``sys.exit``."""
    main = threading.main_thread()

    def work() -> None:
        while main.is_alive():
            main.join(0.01)
        _emit(events)
        sys.exit(5)

    threading.Thread(target=work).start()


def _daemon_thread(events: int) -> None:
    """A thread that nobody waits for emits until the interpreter is gone."""

    def work() -> None:
        while True:
            tocsin.emit("endless")

    started = threading.Thread(target=work, daemon=True)
    started.start()
    _emit(events)


def _sigterm(events: int) -> None:
    tocsin.configure(service="worker", flush_on_sigterm=True)
    _emit(events)
    _terminate()


def _sigterm_in_a_lock(events: int) -> None:
    """The signal finds the main thread inside ``emit``."""
    tocsin.configure(service="worker", flush_on_sigterm=True)
    _emit(events)
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    while True:
        tocsin.emit("endless")


def _own_handler(events: int) -> None:
    signal.signal(signal.SIGTERM, _host_handler)
    tocsin.configure(service="worker", flush_on_sigterm=True)
    assert signal.getsignal(signal.SIGTERM) is _host_handler
    _emit(events)
    _terminate()


def _later_handler(events: int) -> None:
    tocsin.configure(service="worker", flush_on_sigterm=True)
    before = signal.getsignal(signal.SIGTERM)

    def handler(number: int, frame: FrameType | None) -> None:
        if callable(before):
            before(number, frame)
        _host_handler(number, frame)

    signal.signal(signal.SIGTERM, handler)
    _emit(events)
    _terminate()


KINDS: dict[str, Callable[[int], None]] = {
    "normal": _normal,
    "sys.exit": _exit,
    "exception": _exception,
    "thread exits": _thread_exits,
    "daemon thread": _daemon_thread,
    "SIGTERM": _sigterm,
    "SIGTERM inside emit": _sigterm_in_a_lock,
    "own handler": _own_handler,
    "later handler": _later_handler,
}

if __name__ == "__main__":
    tocsin.configure(service="worker")
    KINDS[sys.argv[1]](int(sys.argv[2]))
