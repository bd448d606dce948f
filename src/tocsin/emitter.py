"""``configure``, ``emit`` and ``log``: the way of a record through the pipeline into the sink."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from tocsin.config import NAME_CHARACTERS, Settings, resolve
from tocsin.errors import ConfigurationError
from tocsin.guard import GUARD, complain
from tocsin.line import encode
from tocsin.processors import Clock, Record, pipeline
from tocsin.sinks import STDOUT, Sink
from tocsin.values import plain, text


class Emitter:
    """Settings, a pipeline and a sink; ``clock`` tells the time, ``monotonic`` measures it (nanoseconds)."""

    def __init__(
        self,
        settings: Settings,
        sink: Sink | None = None,
        *,
        clock: Clock = time.time_ns,
        monotonic: Clock = time.perf_counter_ns,
    ) -> None:
        """Without a ``sink``, lines go to standard output."""
        self.settings = settings
        self.sink: Sink = STDOUT if sink is None else sink
        self.monotonic = monotonic
        self.pipeline = pipeline(settings, clock)
        self._thread = threading.local()

    def send(self, record: Record) -> None:
        """Makes the line and hands it to the sink. Whatever goes wrong is counted, never raised."""
        if not self.settings.enabled:
            return
        if getattr(self._thread, "busy", False):
            # A value, the sink or a signal handler emits while this thread makes a line.
            GUARD.failed("reentrant")
            return
        self._thread.busy = True
        step = "line"
        try:
            for process in self.pipeline:
                record = process(record)
            line = encode(record)
            step = "sink"
            self.sink(line)
        except Exception as error:
            GUARD.failed(step, error)
        finally:
            self._thread.busy = False


_current: Emitter | None = None


def configure(
    *,
    service: str | None = None,
    environment: str | None = None,
    enabled: bool | None = None,
    pseudonym_key: str | None = None,
    sink: Sink | None = None,
) -> None:
    """Says who speaks and where lines go (standard output unless ``sink`` is given).

    What is not given comes from the environment (``TOCSIN_SERVICE``, …), else from the default. Opens nothing
    and starts nothing. Raises :class:`tocsin.errors.ConfigurationError` with all faults at once.
    """
    arguments = {
        "service": service,
        "environment": environment,
        "enabled": enabled,
        "pseudonym_key": pseudonym_key,
    }
    use(Emitter(resolve(arguments, os.environ), sink))


def emit(name: str, /, **fields: Any) -> None:
    """Prints one metric event, such as ``emit("job.queue", queue="default", depth=3)``.

    The catalogue in :mod:`tocsin.events` lists the known events; other names and fields are welcome. A field
    that is None is left out. Never raises.
    """
    try:
        current().send({"metric": _label(name), "fields": fields})
    except Exception:
        GUARD.unreported += 1  # perhaps the stack is exhausted: nothing can be called here


def log(level: str, message: str, /, **fields: Any) -> None:
    """Prints one log line, such as ``log("INFO", "sync started", run_id=run.id)``. Never raises.

    Put what varies into fields: the message is free text and is scrubbed as such.
    """
    try:
        current().send({"level": _label(level).upper(), "message": _message(message), "fields": fields})
    except Exception:
        GUARD.unreported += 1  # perhaps the stack is exhausted: nothing can be called here


def current() -> Emitter:
    """The emitter in use; without ``configure``, one that the environment sets up at the first line."""
    global _current
    if _current is None:
        _current = Emitter(_settings_without_configure(os.environ))
    return _current


def use(emitter: Emitter | None) -> Emitter | None:
    """Puts ``emitter`` in use and returns the one before it."""
    global _current
    before, _current = _current, emitter
    return before


def _settings_without_configure(environ: Mapping[str, str]) -> Settings:
    """A host that never called ``configure`` expects no error: a wrong environment is only told."""
    try:
        return resolve({}, environ)
    except ConfigurationError as error:
        complain(f"{error}; the defaults apply")
        return Settings()


def _label(value: object) -> str:
    return text(_message(value)[:NAME_CHARACTERS])


def _message(value: object) -> str:
    return value if type(value) is str else str(plain(value))
